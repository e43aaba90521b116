"""Norms over all channels: what the graph form frees, and what it costs.

    python benchmarks/norms.py --pairs 12

Three generators in which such a norm holds the trunk of the module. For each: the channels that can
go in both forms, the error of a random cut, and the time of a training step of the graph form
against the module's, whole and with half of every group cut. Writes
`benchmarks/results/norms.json`.
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
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import gancompress as gc
from benchmarks.record import RESULTS, place, protocol, table, write
from benchmarks.shares import channels

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "surgery.md"


class Progressive(nn.Module):
    """ProGAN's blocks: convolution, leaky ReLU, pixel norm."""

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        self.start = nn.ConvTranspose2d(64, width, 4)
        self.blocks = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(6))
        self.out = nn.Conv2d(width, 3, 1)

    def forward(self, z: Tensor) -> Tensor:
        """Return images (n, 3, 32, 32) of latents (n, 64)."""
        h = self.start(z[:, :, None, None])
        for n, block in enumerate(self.blocks):
            h = F.interpolate(h, scale_factor=2) if n % 2 else h
            h = F.leaky_relu(block(h), 0.2)
            h = h * torch.rsqrt(h.square().mean(1, keepdim=True) + 1e-8)
        return self.out(h)


class Restoring(nn.Module):
    """NAFNet's blocks: a layer norm over channels by hand, a gate, two residual branches."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.start, self.out = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 3, 3, padding=1)
        self.wide = nn.ModuleList(nn.Conv2d(width, 2 * width, 1) for _ in range(6))
        self.depth = nn.ModuleList(
            nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width) for _ in range(6)
        )
        self.narrow = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(6))

    def forward(self, x: Tensor) -> Tensor:
        """Return restored images, of the size of ``x`` (n, 3, h, w)."""
        h = self.start(x)
        for wide, depth, narrow in zip(self.wide, self.depth, self.narrow, strict=True):
            mean = h.mean(1, keepdim=True)
            spread = (h - mean).pow(2).mean(1, keepdim=True)
            a, b = depth(wide((h - mean) / (spread + 1e-6).sqrt())).chunk(2, 1)
            h = h + narrow(a * b)
        return x + self.out(h)


class Tokens(nn.Module):
    """Transformer blocks with layer norm, attention and a wide middle, over 8x8 tokens."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.start, self.place = nn.Linear(64, width), nn.Parameter(torch.randn(64, width) * 0.1)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(8))
        self.qkv = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(4))
        self.back = nn.ModuleList(nn.Linear(width, width) for _ in range(4))
        self.up = nn.ModuleList(nn.Linear(width, 4 * width) for _ in range(4))
        self.down = nn.ModuleList(nn.Linear(4 * width, width) for _ in range(4))
        self.out = nn.Linear(width, 48)

    def forward(self, z: Tensor) -> Tensor:
        """Return images (n, 3, 32, 32) of latents (n, 64)."""
        h = self.start(z)[:, None] + self.place
        for n in range(4):
            q, k, v = self.qkv[n](self.norms[2 * n](h)).chunk(3, -1)
            h = h + self.back[n](F.scaled_dot_product_attention(q, k, v))
            h = h + self.down[n](F.gelu(self.up[n](self.norms[2 * n + 1](h))))
        return F.pixel_shuffle(self.out(h).mT.unflatten(2, (8, 8)), 4)


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "pixel norm (ProGAN's blocks)": (Progressive, (16, 64)),
    "layer norm by hand (NAFNet's blocks)": (Restoring, (4, 3, 32, 32)),
    "layer norm (transformer blocks)": (Tokens, (16, 64)),
}


def stepper(network: nn.Module, x: Tensor) -> Callable[[], None]:
    """Return one training step: forward, backward, Adam."""
    optimizer = torch.optim.Adam(network.train().parameters(), 1e-4)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        network(x).square().mean().backward()
        optimizer.step()

    return step


def measure(name: str, pairs: int) -> dict[str, Any]:
    """Cut one generator, and time all three forms of it by turns."""
    build, shape = CASES[name]
    torch.manual_seed(0)
    module, x = build().eval(), torch.randn(shape)
    graph = gc.to_graph(module, x)
    traced = gc.trace(graph, x)
    plan = gc.random_plan(traced, keep=0.5, seed=0)
    small = gc.cut(graph, plan, graph=traced)
    handle = gc.wrap(graph, x)
    handle.apply(plan)
    error = gc.verify(graph, small, x, plan=plan).max_error
    handle.unwrap()
    shares = {
        "module": channels(module, gc.trace(module, x)),
        "graph": channels(graph, traced),
    }
    steps = [stepper(n, x) for n in (module, graph, small)]
    for step in steps * 2:
        step()
    ratios: list[list[float]] = [[], []]
    for _ in range(pairs):
        seconds = []
        for step in steps:
            start = time.process_time()
            step()
            seconds.append(time.process_time() - start)
        for n in (0, 1):
            ratios[n].append(seconds[n + 1] / seconds[0])
    return {
        "generator": name,
        "channels": shares["module"]["channels"],
        "free_module": shares["module"]["free"],
        "free_graph": shares["graph"]["free"],
        "error": error,
        "params_left": round(
            sum(p.numel() for p in small.parameters())
            / sum(p.numel() for p in module.parameters()),
            3,
        ),
        "whole_ratio": round(statistics.median(ratios[0]), 3),
        "half_ratio": round(statistics.median(ratios[1]), 3),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--out", type=Path, default=RESULTS / "norms.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name in CASES:
        rows.append(measure(name, options.pairs))
        print(rows[-1], flush=True)
    write(options.out, {"benchmark": "norms", **protocol(0), "pairs": options.pairs, "rows": rows})
    lines = [
        [r["generator"], f"{r['free_module']} of {r['channels']}",
         f"{r['free_graph']} of {r['channels']}", f"{r['error']:.0e}", f"{r['params_left']:.0%}",
         r["whole_ratio"], r["half_ratio"]]
        for r in rows
    ]  # fmt: skip
    head = ["norm", "can go, module", "can go, graph form", "error", "params left"]
    place(
        DOCUMENT,
        "norms",
        "Half of every group cut by a random plan. Steps (forward, backward, Adam; float32, one "
        f"thread, processor time of {options.pairs} turns) against the module's.\n\n"
        + table([*head, "step, whole graph", "step, cut graph"], lines),
    )


if __name__ == "__main__":
    main()
