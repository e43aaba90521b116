"""What masks cost: a masked training step against the same step unmasked, time and peak memory.

    python benchmarks/masking.py --pairs 12                  # both networks, a few minutes
    python benchmarks/masking.py --network cifar --pairs 6   # one of them; the others' rows stay

One generator step (forward, hinge loss through the discriminator, backward, Adam), with masks on
all channel groups and without, in interleaved pairs in one process. Writes
`benchmarks/results/masking.json`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import gancompress as gc
from benchmarks.record import RESULTS, keep, place, protocol, table
from benchmarks.table import DOCUMENT
from gancompress.models import BigGANConfig, BigGANDiscriminator, BigGANGenerator

CONFIGS = {
    "fashion32": (BigGANConfig.fashion32, 32),
    "cifar": (BigGANConfig.cifar, 50),  # the batch of its published recipe
    "imagenet128": (BigGANConfig.imagenet128, 8),
}


def stepper(config: BigGANConfig, batch: int, masked: bool) -> Callable[[], None]:
    """Return one training step of a generator, with masks or without."""
    torch.manual_seed(0)
    generator, discriminator = BigGANGenerator(config), BigGANDiscriminator(config)
    discriminator.requires_grad_(False)
    z, y = generator.sample_inputs(batch, torch.Generator().manual_seed(0))
    handle: gc.Masked | None = None
    if masked:
        handle = gc.wrap(generator, (z[:2], y[:2]), target="params=5.2x")
    generator.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(generator.parameters(), 1e-4, betas=(0.0, 0.999))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss = -discriminator(generator(z, y), y).mean()
        if handle is not None:
            loss = loss + 0.1 * handle.penalty()
        loss.backward()
        optimizer.step()

    return step


def peak_bytes(step: Callable[[], None]) -> int:
    """Return the most bytes of tensors that were alive at once during ``step``, above the start.

    Counted from the allocator's own events: resident memory would not show a few percent.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as prof:
        step()
    alive = peak = 0
    for event in prof.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            alive += event.nbytes()
            peak = max(peak, alive)
    return peak


def persistent(config: BigGANConfig, masked: bool) -> int:
    """Return the bytes held between steps: parameters, buffers, gradients, Adam's two moments."""
    generator: nn.Module = BigGANGenerator(config)
    if masked:
        gc.wrap(generator, generator.sample_inputs(2, torch.Generator().manual_seed(0)))  # type: ignore[operator]
    learned = sum(p.numel() * p.element_size() for p in generator.parameters())
    return 4 * learned + sum(b.numel() * b.element_size() for b in generator.buffers())


def compare(name: str, pairs: int) -> dict[str, Any]:
    """Time masked and plain steps by turns; return medians, ratio of each pair, and memory."""
    build, batch = CONFIGS[name]
    config = build()
    plain, masked = stepper(config, batch, False), stepper(config, batch, True)
    for step in (plain, masked, plain, masked):
        step()
    times: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(pairs):
        for which in (False, True) if turn % 2 == 0 else (True, False):
            # Processor time: other programs on the machine do not count.
            start = time.process_time()
            (masked if which else plain)()
            times[which].append(time.process_time() - start)
    ratios = sorted(m / p for p, m in zip(times[False], times[True], strict=True))
    memory = {
        which: peak_bytes(masked if which else plain) + persistent(config, which)
        for which in (False, True)
    }
    return {
        "network": name,
        "batch": batch,
        "pairs": pairs,
        "plain_ms": round(1e3 * statistics.median(times[False]), 1),
        "masked_ms": round(1e3 * statistics.median(times[True]), 1),
        "time_ratio": round(statistics.median(ratios), 3),
        "time_ratio_quartiles": [round(q, 3) for q in statistics.quantiles(ratios, n=4)[::2]],
        "plain_peak_mb": round(memory[False] / 2**20, 2),
        "masked_peak_mb": round(memory[True] / 2**20, 2),
        "memory_ratio": round(memory[True] / memory[False], 4),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", action="append", choices=list(CONFIGS), default=[])
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--out", type=Path, default=RESULTS / "masking.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.network or ["fashion32", "cifar"]:
        row = compare(name, options.pairs)
        print(row, flush=True)
        head = {"benchmark": "masking", **protocol(0)}
        rows = keep(options.out, head, [row], ["network", "batch"])["rows"]
        place(
            DOCUMENT, "masking", page(sorted(rows, key=lambda r: list(CONFIGS).index(r["network"])))
        )


def page(rows: list[dict[str, Any]]) -> str:
    """Return what stands in the document."""
    lines = [
        [r["network"], r["batch"], r["pairs"], r["plain_ms"], r["masked_ms"],
         f"{r['time_ratio']} ({r['time_ratio_quartiles'][0]} to {r['time_ratio_quartiles'][1]})",
         r["plain_peak_mb"], r["masked_peak_mb"], r["memory_ratio"]]
        for r in rows
    ]  # fmt: skip
    head = ["network", "batch", "pairs", "plain ms", "masked ms", "time ratio (quartiles)"]
    return (
        "A generator step (forward, discriminator, backward, Adam) with masks on every channel "
        "group against the same step without, float32, one thread, processor time of interleaved "
        "pairs. Peak: tensors alive at once, weights, gradients and Adam's moments included.\n\n"
        + table([*head, "plain peak MiB", "masked peak MiB", "memory ratio"], lines)
    )


if __name__ == "__main__":
    main()
