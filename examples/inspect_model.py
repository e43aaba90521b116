"""Ask what can go in a generator, cut half of it at random, and see that the cut is exact.

python examples/inspect_model.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

import gancompress as gc

sys.path.insert(0, str(Path(__file__).parent))
from dcgan import build_generator


def main() -> float:
    """Return the largest relative difference between masked and cut generator."""
    generator = build_generator()
    example = (torch.randn(2, 64, 1, 1, generator=torch.Generator().manual_seed(0)),)
    print(gc.inspect(generator, example))

    graph = gc.trace(generator, example)
    for group in graph.groups:
        print(f"{group.name}: {group.size} channels")
    plan = gc.random_plan(graph, keep=0.5, seed=0)
    small = gc.cut(generator, plan, graph=graph)

    masked = gc.wrap(generator, example=example)
    masked.apply(plan)  # close the gates of what the plan drops
    checked = gc.verify(generator, small, example)

    after = sum(p.numel() for p in small.parameters())
    print(f"{graph.cost().params:,} -> {after:,} parameters, max error {checked.max_error:.1e}")
    return checked.max_error


if __name__ == "__main__":
    main()
