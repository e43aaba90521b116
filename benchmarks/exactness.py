"""Random plans on BigGAN: is the cut network the masked one, in float64?

    python -m benchmarks.exactness --config imagenet128 --plans 50

Random weights; for each plan a random half of every group goes, gates silence it, the network is
cut and both are compared on fresh inputs. One row a plan; tolerance as in `gancompress.verify`.
"""

from __future__ import annotations

import argparse
import dataclasses
import time

import torch

import gancompress as gc
from benchmarks import record
from gancompress.graph.trial.silenced import silenced
from gancompress.models import BigGANConfig, BigGANGenerator
from gancompress.surgery.verify import distance, redraw, run

CONFIGS = {
    "imagenet128": BigGANConfig.imagenet128,
    "cifar": BigGANConfig.cifar,
    "fashion32": BigGANConfig.fashion32,
}


def main() -> None:
    """Measure one configuration and write ``benchmarks/results/exactness/<config>.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", choices=sorted(CONFIGS), required=True)
    parser.add_argument("--plans", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=2)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    generator = BigGANGenerator(dataclasses.replace(CONFIGS[options.config](), init="N02")).eval()
    rng = torch.Generator().manual_seed(options.seed)
    example = generator.sample_inputs(options.batch, rng)
    generator.train()
    with torch.no_grad():  # settle spectral norm and statistics: a fresh network is degenerate
        for _ in range(2):
            generator(*example)
    generator.eval()
    graph = gc.trace(generator, example)
    rows = []
    for seed in range(options.seed, options.seed + options.plans):
        start = time.perf_counter()
        plan = gc.random_plan(graph, keep=0.5, seed=seed)
        small = gc.cut(generator, plan, graph=graph)
        fresh = redraw(graph.example, seed)
        error = distance(run(silenced(generator, graph, plan.keep), fresh), run(small, fresh))
        rows.append(
            {
                "plan": seed,
                "max_error": error,
                "exact": error <= 1e-9,
                "params": sum(p.numel() for p in small.parameters()),
                "seconds": round(time.perf_counter() - start, 2),
            }
        )
        print(rows[-1], flush=True)
    data = {
        "benchmark": "random plans, silenced against cut, float64",
        "config": options.config,
        "params": graph.cost().params,
        "batch": options.batch,
        "exact": sum(r["exact"] for r in rows),
        "of": len(rows),
        "worst": max(r["max_error"] for r in rows),
        **record.protocol(options.seed),
        "rows": rows,
    }
    record.write(record.RESULTS / "exactness" / f"{options.config}.json", data)


if __name__ == "__main__":
    main()
