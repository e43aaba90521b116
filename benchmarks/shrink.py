"""Live shrink against none: the same ppcd run with and without really cutting as it goes.

    python -m benchmarks.shrink --steps 600

Both runs see the same images, seeds and schedule and land on the same budget; only ``shrink.events``
differs. Reported: seconds of training, their ratio, and the quality of both results.
"""

from __future__ import annotations

import argparse
import time

import torch

from benchmarks import record
from gancompress.commands.embedded import embedded_discriminator, embedded_generator
from gancompress.data.embedded import embedded
from gancompress.data.inputs import InputSampler
from gancompress.metrics.evaluate import evaluate
from gancompress.recipes.load import load_recipe
from gancompress.training.loop import train

QUIET = ["sample_every=0", "checkpoint_every=0", "log_every=100"]


def main() -> None:
    """Run both and write ``benchmarks/results/shrink.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--samples", type=int, default=2000)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for name, extra in (("live shrink", []), ("no shrink", ["shrink={events: []}"])):
        recipe = load_recipe("ppcd", [*QUIET, f"seed={options.seed}", *extra])
        start = time.perf_counter()
        done = train(
            recipe,
            generator=embedded_generator(),
            discriminator=embedded_discriminator(),
            dataset=embedded(),
            max_steps=options.steps,
        )
        seconds = time.perf_counter() - start
        sampler = InputSampler.of(done.generator)
        metrics = evaluate(done.generator, sampler, n=options.samples, seed=options.seed)
        rows.append(
            {
                "run": name,
                "seconds": round(seconds, 1),
                "images": options.steps * recipe.batch,
                "params": sum(p.numel() for p in done.generator.parameters()),
                "frechet_classifier": metrics["frechet_classifier"],
                "conditional_accuracy": metrics["conditional_accuracy"],
                "precision": metrics["precision"],
                "recall": metrics["recall"],
            }
        )
        print(rows[-1], flush=True)
    data = {
        "benchmark": "ppcd with and without live shrink",
        "steps": options.steps,
        "n": options.samples,
        "time_ratio": round(rows[0]["seconds"] / rows[1]["seconds"], 3),
        **record.protocol(options.seed),
        "rows": rows,
    }
    record.write(record.RESULTS / "shrink.json", data)


if __name__ == "__main__":
    main()
