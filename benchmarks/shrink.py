"""What live shrink brings: a whole run with it against the same run without, time and quality.

    python benchmarks/shrink.py --pairs 2

The recipe `ppcd` as it comes, or shorter with `--max-steps`. Runs take turns, in either order, so
that a busy machine slows all alike. Two more kinds: the generator shrinks alone, and everything is
cut after the first step, which shows what there is to save. Writes
`benchmarks/results/shrink.json`.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.record import RESULTS, place, protocol, table, write
from benchmarks.table import DOCUMENT
from gancompress.commands.embedded import embedded_discriminator, embedded_generator
from gancompress.data.embedded import embedded
from gancompress.data.inputs import InputSampler
from gancompress.metrics.evaluate import evaluate
from gancompress.recipes.load import load_recipe
from gancompress.training.loop import train
from gancompress.training.setup import run_lengths

LIVE, ALONE, MASKS, AT_ONCE = KINDS = (
    "live shrink", "live shrink, generator alone", "masks only", "cut after one step"
)  # fmt: skip


def words(kind: str, total: int) -> list[str]:
    """Return what ``kind`` overrides in the recipe, for a run of ``total`` steps."""
    return {
        LIVE: [],
        ALONE: ["shrink.discriminator=false"],
        MASKS: ["shrink={events: []}"],
        AT_ONCE: ["shrink.events=[]", "steps=1", f"finetune_steps={total - 1}"],
    }[kind]


def run(kind: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train once, with the same kills at the same steps; measure time and quality.

    ``AT_ONCE`` is the fastest that any shrinking can be: small from the second step on.
    """
    total = sum(run_lengths(load_recipe("ppcd", options.override), options.max_steps))
    plain = [f"seed={options.seed}", "sample_every=0", "checkpoint_every=0", f"log_every={total}"]
    recipe = load_recipe("ppcd", [*plain, *options.override, *words(kind, total)])
    generator = embedded_generator()
    started, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    done = train(
        recipe,
        generator=generator,
        discriminator=embedded_discriminator(),
        dataset=embedded(),
        out=None,
        max_steps=None if kind == AT_ONCE else options.max_steps,
    )
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    small = done.generator
    metrics = evaluate(small, InputSampler.of(small), n=options.n, seed=options.seed)
    return {
        "kind": kind,
        "wall_s": round(wall, 1),
        "cpu_s": round(after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime, 1),
        "params": sum(p.numel() for p in small.parameters()),
        "frechet_classifier": round(metrics["frechet_classifier"], 4),
        "conditional_accuracy": round(metrics["conditional_accuracy"], 4),
        "recall": round(metrics["recall"], 4),
        "n": options.n,
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return median ratios to the run with masks only, of the other kinds, and mean qualities."""
    live, alone, still, fastest = ([r for r in rows if r["kind"] == k] for k in KINDS)
    found: dict[str, float] = {}
    for key in ("wall_s", "cpu_s"):
        for name, runs in (("ratio", live), ("ratio_alone", alone), ("floor", fastest)):
            pairs = zip(runs, still, strict=True)
            found[f"{key}_{name}"] = round(statistics.median(a[key] / b[key] for a, b in pairs), 3)
    for key in ("frechet_classifier", "conditional_accuracy", "recall"):
        found[f"{key}_live"] = round(statistics.fmean(r[key] for r in live), 4)
        found[f"{key}_still"] = round(statistics.fmean(r[key] for r in still), 4)
    return found


def publish(result: dict[str, Any]) -> None:
    """Write the table of a result into the document."""
    found, rows = result["summary"], result["rows"]
    lines = [
        [r["kind"], r["wall_s"], r["cpu_s"], r["params"],
         r["frechet_classifier"], r["conditional_accuracy"]]
        for r in rows
    ]  # fmt: skip
    text = table(
        ["run", "wall s", "CPU s", "parameters", f"Frechet (n = {rows[0]['n']})", "right class"],
        lines,
    )
    place(
        DOCUMENT,
        "shrink",
        f"`ppcd`, {result['setting']}, by turns on one thread. Time ratio, live to masks only: "
        f"{found['wall_s_ratio']} (CPU time {found['cpu_s_ratio']}); of the generator alone: "
        f"{found['wall_s_ratio_alone']} (CPU time {found['cpu_s_ratio_alone']}); the least "
        f"that any shrinking could reach: {found['wall_s_floor']} "
        f"(CPU time {found['cpu_s_floor']}).\n\n{text}",
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--max-steps", type=int, help="shorter, all phases in proportion")
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--override", action="append", default=[], help="key=value of the recipe")
    parser.add_argument("--out", type=Path, default=RESULTS / "shrink.json")
    parser.add_argument("--table", action="store_true", help="only the table of the result there")
    options = parser.parse_args()
    if options.table:
        publish(json.loads(options.out.read_text()))
        return
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for pair in range(options.pairs):
        for kind in KINDS if pair % 2 == 0 else reversed(KINDS):
            rows.append(run(kind, options))
            print(rows[-1], flush=True)
    found = summary(rows)
    recipe = load_recipe("ppcd", options.override)
    steps, finetune = run_lengths(recipe, options.max_steps)
    cuts = [round(event * steps) for event in recipe.shrink.events]
    setting = f"{steps} masked and {finetune} more steps of {recipe.batch}, cuts after {cuts}"
    result = {
        "benchmark": "shrink",
        **protocol(options.seed),
        "setting": setting,
        "summary": found,
        "rows": rows,
    }
    write(options.out, result)
    publish(result)
    print(found)


if __name__ == "__main__":
    main()
