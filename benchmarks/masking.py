"""What masks cost: a masked generator step against a plain one, time and peak memory, in one run.

    python -m benchmarks.masking --pairs 20

Plain and masked steps (forward, backward, Adam) alternate, so that both see the same machine; the time
ratio is the median over pairs. Peak memory is measured in one child process for each, as resident growth
over the process with everything built.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import subprocess
import sys
import time
from typing import Any

import torch
from torch import nn

import gancompress as gc
from benchmarks import record
from benchmarks.scaling import Peak, resident
from gancompress.commands.embedded import embedded_generator


def step(generator: nn.Module, optimizer: torch.optim.Optimizer, inputs: tuple[Any, ...]) -> None:
    """One generator step in bf16 autocast, the recipe's arithmetic."""
    with torch.autocast("cpu", torch.bfloat16):
        loss = generator(*inputs).float().square().mean()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def build(masked: bool, batch: int) -> tuple[nn.Module, torch.optim.Optimizer, tuple[Any, ...]]:
    """Return the embedded generator, plain or wrapped, its optimiser and a batch of inputs."""
    generator = copy.deepcopy(embedded_generator()).train()
    generator.to(memory_format=torch.channels_last)
    inputs = generator.sample_inputs(batch, torch.Generator().manual_seed(0))
    if masked:
        gc.wrap(generator, generator.sample_inputs(2, torch.Generator().manual_seed(0)))
    return generator, torch.optim.Adam(generator.parameters(), 1e-4), inputs


def peak_growth(masked: bool, batch: int) -> dict[str, float]:
    """Return resident memory before the steps and at their peak, in MiB."""
    parts = build(masked, batch)
    base = resident()
    peak = Peak()
    peak.start()
    for _ in range(5):
        step(*parts)
    peak.going = False
    return {"base_mb": base, "peak_mb": peak.value}


def main() -> None:
    """Measure and write ``benchmarks/results/masking.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", choices=("plain", "masked"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.memory:
        print(json.dumps(peak_growth(options.memory == "masked", options.batch)))
        return
    sides = {name: build(name == "masked", options.batch) for name in ("plain", "masked")}
    for parts in sides.values():
        step(*parts)
        step(*parts)
    rows = []
    for pair in range(options.pairs):
        seconds = {}
        for name in ("plain", "masked") if pair % 2 else ("masked", "plain"):
            start = time.perf_counter()
            step(*sides[name])
            seconds[name] = time.perf_counter() - start
        rows.append({k: round(v, 4) for k, v in seconds.items()})
    memory = {}
    for name in ("plain", "masked"):
        command = [sys.executable, "-m", "benchmarks.masking", "--memory", name]
        command += ["--batch", str(options.batch), "--threads", str(options.threads)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        memory[name] = json.loads(done.stdout.splitlines()[-1])
    data = {
        "benchmark": "masked generator step against plain: embedded BigGAN-32, bf16 autocast",
        "batch": options.batch,
        "time_ratio": round(statistics.median(r["masked"] / r["plain"] for r in rows), 4),
        "memory_ratio": round(memory["masked"]["peak_mb"] / memory["plain"]["peak_mb"], 4),
        "memory": memory,
        **record.protocol(0),
        "rows": rows,
    }
    record.write(record.RESULTS / "masking.json", data)
    print(data["time_ratio"], data["memory_ratio"])


if __name__ == "__main__":
    main()
