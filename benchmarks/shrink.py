"""What live shrink brings: a whole run with it against the same run without, time and quality.

    python benchmarks/shrink.py --seeds 0 1

The recipe `ppcd` as it came when it cut three times (`benchmarks/earlier`), or shorter with
`--max-steps`. Two more kinds: the generator shrinks alone, and everything is cut after the first
step, which shows what there is to save. The runs of a seed go on in turns of 20 steps, each in a
process of its own and only one at a time, so that a machine whose speed drifts slows all alike.
Writes `benchmarks/results/shrink.json`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.record import RESULTS, ROOT, place, protocol, table, write
from benchmarks.table import DOCUMENT
from gancompress.data.embedded import embedded
from gancompress.data.inputs import InputSampler
from gancompress.metrics.evaluate import evaluate
from gancompress.models.embedded import embedded_discriminator, embedded_generator
from gancompress.recipes.load import load_recipe
from gancompress.training.log import Silent
from gancompress.training.loop import train
from gancompress.training.start import run_lengths

EARLIER = str(ROOT / "benchmarks" / "earlier" / "ppcd.yaml")
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


TURN = 20  # steps


class Turn(Silent):
    """Lets the other runs go on at each line of figures, and counts the seconds until its turn."""

    def __init__(self, others: Connection) -> None:
        self.others = others
        self.waited = 0.0

    def update(self, line: Mapping[str, Any]) -> None:
        """Hand over and wait."""
        stopped = time.perf_counter()
        self.others.send(None)
        self.others.recv()
        self.waited += time.perf_counter() - stopped


def run(kind: str, seed: int, options: argparse.Namespace, others: Connection) -> None:
    """Train once, with the same kills at the same steps; send time and quality.

    ``AT_ONCE`` is the fastest that any shrinking can be: small from the second step on.
    """
    torch.set_num_threads(1)
    total = sum(run_lengths(load_recipe(EARLIER, options.override), options.max_steps))
    plain = [
        "precision=bf16",
        "channels_last=true",
        f"seed={seed}",
        "sample_every=0",
        "checkpoint_every=0",
        f"log_every={TURN}",
    ]
    recipe = load_recipe(EARLIER, [*plain, *options.override, *words(kind, total)])
    generator, turn = embedded_generator(), Turn(others)
    others.send(None)  # ready
    others.recv()
    started, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    done = train(
        recipe,
        generator=generator,
        discriminator=embedded_discriminator(),
        dataset=embedded(),
        out=None,
        max_steps=None if kind == AT_ONCE else options.max_steps,
        screen=turn,
    )
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    if done.exit_code:
        raise SystemExit(done.exit_code)  # stopped by a signal: not a whole run
    small = done.generator
    metrics = evaluate(small, InputSampler.of(small), n=options.n, seed=seed)
    row = {
        "kind": kind,
        "seed": seed,
        "wall_s": round(wall - turn.waited, 1),
        "cpu_s": round(after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime, 1),
        "params": sum(p.numel() for p in small.parameters()),
        "frechet_classifier": round(metrics["frechet_classifier"], 4),
        "conditional_accuracy": round(metrics["conditional_accuracy"], 4),
        "recall": round(metrics["recall"], 4),
        "n": options.n,
    }
    others.send(row)


def by_turns(seed: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the rows of one seed, of runs that stop after every few steps for the others."""
    context = multiprocessing.get_context("spawn")
    runs: dict[str, Connection] = {}
    for kind in KINDS:
        runs[kind], theirs = context.Pipe()
        context.Process(target=run, args=(kind, seed, options, theirs), daemon=True).start()
        theirs.close()  # else a run that fails is waited for
    for pipe in runs.values():
        pipe.recv()  # ready
    found: dict[str, dict[str, Any]] = {}
    while runs:
        for kind, pipe in list(runs.items()):
            pipe.send(None)
            row = pipe.recv()
            if row is not None:
                found[kind] = row
                del runs[kind]
                print(row, flush=True)
    return [found[kind] for kind in KINDS]


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
        [r["kind"], r["seed"], r["wall_s"], r["cpu_s"], r["params"],
         r["frechet_classifier"], r["conditional_accuracy"]]
        for r in rows
    ]  # fmt: skip
    frechet = f"Frechet (n = {rows[0]['n']})"
    header = ["run", "seed", "wall s", "CPU s", "parameters", frechet, "right class"]
    place(
        DOCUMENT,
        "shrink",
        f"`ppcd`, {result['setting']}, in turns of {TURN} steps on one thread. Time ratio, live to "
        f"masks only: {found['wall_s_ratio']} (CPU time {found['cpu_s_ratio']}); of the generator "
        f"alone: {found['wall_s_ratio_alone']} (CPU time {found['cpu_s_ratio_alone']}); the least "
        f"that any shrinking could reach: {found['wall_s_floor']} "
        f"(CPU time {found['cpu_s_floor']}).\n\n{table(header, lines)}",
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--max-steps", type=int, help="shorter, all phases in proportion")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--override", action="append", default=[], help="key=value of the recipe")
    parser.add_argument("--out", type=Path, default=RESULTS / "shrink.json")
    parser.add_argument("--table", action="store_true", help="only the table of the result there")
    options = parser.parse_args()
    if options.table:
        publish(json.loads(options.out.read_text()))
        return
    torch.set_num_threads(1)
    rows = [row for seed in options.seeds for row in by_turns(seed, options)]
    found = summary(rows)
    recipe = load_recipe(EARLIER, options.override)
    steps, finetune = run_lengths(recipe, options.max_steps)
    cuts = [round(event * steps) for event in recipe.shrink.events]
    setting = f"{steps} masked and {finetune} more steps of {recipe.batch}, cuts after {cuts}"
    result = {
        "benchmark": "shrink",
        **protocol(options.seeds[0]),
        "setting": setting,
        "summary": found,
        "rows": rows,
    }
    write(options.out, result)
    publish(result)
    print(found)


if __name__ == "__main__":
    main()
