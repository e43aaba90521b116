"""Trace + cut + verify: time and peak memory as the generator grows from 1 M to 100 M parameters.

    python -m benchmarks.scaling            # one child process a size, then the JSON
    python -m benchmarks.scaling --width 96 # one size, one JSON line on stdout

Memory is the growth of the process's peak over what it held with the generator built, as a multiple
of the generator's own bytes, plus that one copy.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch

import gancompress as gc
from benchmarks import record
from benchmarks.table import DOCUMENT
from gancompress.masks import ChannelMask
from gancompress.masks.attach import attach
from gancompress.models import BigGANConfig, BigGANGenerator
from gancompress.surgery.verify import verify

WIDTHS = (8, 16, 32, 48, 64, 80, 96, 112)


def resident() -> float:
    """Return this process's resident memory now, in MiB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20


class Peak(threading.Thread):
    """Samples resident memory every 2 ms: the process-wide peak counter cannot be reset."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.value, self.going = resident(), True

    def run(self) -> None:
        """Sample until stopped."""
        while self.going:
            self.value = max(self.value, resident())
            time.sleep(0.002)


def one(width: int, seed: int) -> dict[str, object]:
    """Measure BigGAN-128 with ``ch=width``."""
    torch.manual_seed(seed)
    config = dataclasses.replace(BigGANConfig.imagenet128(), ch=width, init="N02")
    generator = BigGANGenerator(config).eval()
    example = generator.sample_inputs(1, torch.Generator().manual_seed(seed))
    small_one = BigGANGenerator(BigGANConfig.fashion32())
    gc.trace(small_one, small_one.sample_inputs(2, torch.Generator()))  # imports, caches
    size = sum(t.numel() * t.element_size() for t in generator.state_dict().values()) / 2**20
    before = resident()
    peak = Peak()
    peak.start()
    start = time.perf_counter()
    graph = gc.trace(generator, example)
    traced = time.perf_counter()
    plan = gc.random_plan(graph, keep=0.5, seed=seed)
    small = gc.cut(generator, plan, graph=graph)
    done = time.perf_counter()
    masks = {g.name: ChannelMask(g.name, g.size) for g in graph.groups}
    attach(generator, graph, masks)
    for name, mask in masks.items():
        alive = torch.zeros(mask.size, dtype=torch.bool)
        alive[plan.keep[name]] = True
        mask.settle(alive)
    found = verify(generator, small, example)
    end = time.perf_counter()
    peak.going = False
    return {
        "ch": width,
        "params": graph.cost().params,
        "trace_s": round(traced - start, 3),
        "cut_s": round(done - traced, 3),
        "verify_s": round(end - done, 3),
        "total_s": round(end - start, 3),
        "memory_of_own": round((peak.value - before + size) / size, 2),
        "max_error": found.max_error,
        "exact": found.passed,
    }


def main() -> None:
    """Measure one width, or all of them and write ``benchmarks/results/scaling.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.width:
        print(json.dumps(one(options.width, options.seed)))
        return
    rows = []
    for width in WIDTHS:
        command = [sys.executable, "-m", "benchmarks.scaling", "--width", str(width)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(rows[-1], flush=True)
    title = "trace + cut + verify, BigGAN-128 by width"
    data = {"benchmark": title, **record.protocol(options.seed), "rows": rows}
    record.write(record.RESULTS / "scaling.json", data)
    draw(rows, record.ROOT / "docs" / "images" / "scaling.png")
    cells = [
        [f"{r['params'] / 1e6:.1f} M", r["trace_s"], r["cut_s"], r["verify_s"], r["total_s"],
         r["memory_of_own"], f"{r['max_error']:.0e}"]
        for r in rows
    ]  # fmt: skip
    head = ["parameters", "trace s", "cut s", "verify s", "all s", "peak, of its own size", "error"]
    text = f"Torch {data['versions']['torch']}, threads: {data['threads']}.\n\n"
    record.place(DOCUMENT, "scaling", text + record.table(head, cells))


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Plot seconds against parameters, with a line through the origin and the largest network."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axes = figure.add_subplot()
    size = [r["params"] / 1e6 for r in rows]
    for key in ("total_s", "trace_s", "verify_s"):
        axes.plot(size, [r[key] for r in rows], "o-", markersize=4, label=key.removesuffix("_s"))
    steepest = rows[-1]["total_s"] / size[-1]
    axes.plot([0, size[-1]], [0, steepest * size[-1]], ":", color="grey", label="proportional")
    axes.set(xlabel="million parameters", ylabel="seconds", xlim=(0, None), ylim=(0, None))
    axes.legend()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
