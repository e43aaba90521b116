"""Run an experiment: one JSON result for each recipe and seed, what is done is skipped.

    python benchmarks/run.py compare                  # everything that has no result yet
    python benchmarks/run.py compare --pending        # only say what that is
    python benchmarks/run.py compare ablation --jobs 2 --threads 1
    python benchmarks/run.py compare --only ppcd --seed 0
    python benchmarks/run.py full --data FOLDER       # with the four files of Fashion-MNIST

Results go to `benchmarks/results/<experiment>/<label>--s<seed>.json` and are only ever written by
this command. A result whose recipe, teacher or evaluation has changed since counts as pending.
Make tables and pictures of them with `benchmarks/table.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.experiment import Job, entries, inputs_hash, jobs, read_experiment
from benchmarks.frozen import check_frozen, code_hash, protocol_hash, same_recipe
from benchmarks.held_out import held_out_figures
from benchmarks.record import RESULTS, protocol
from gancompress.data.arrays import Dataset
from gancompress.data.embedded import embedded
from gancompress.data.fashion import fashion
from gancompress.data.inputs import InputSampler
from gancompress.metrics.cost import footprint
from gancompress.metrics.evaluate import evaluate
from gancompress.metrics.latency import latency
from gancompress.models.embedded import embedded_discriminator, embedded_generator
from gancompress.training.loop import train

LATENCY_BATCHES = (1, 32)
# Results that do not say which teacher and classifier they are of are of these.
INPUTS_OF_EARLIER = "831e128281968dff"


def result_path(job: Job, results: Path = RESULTS) -> Path:
    """Return where the result of ``job`` lies."""
    return results / job.experiment.name / f"{job.name}.json"


def state_of(job: Job, results: Path = RESULTS) -> str:
    """Return ``done``, ``missing``, or ``changed`` for a result of another recipe or teacher."""
    path = result_path(job, results)
    if not path.is_file():
        return "missing"
    return "done" if holds(json.loads(path.read_text()), job) else "changed"


def holds(known: dict[str, Any], job: Job) -> bool:
    """Return whether a result is of ``job``: its key, or all that goes into the key, is the same.

    A recipe that has gained a field with its neutral default has another key and is the same.
    """
    if known.get("key") == job.key:
        return True
    metrics = known.get("metrics", {})
    inputs = known.get("inputs", INPUTS_OF_EARLIER)
    asked = known.get("held_out", {}).get("samples", 0)
    return (
        inputs == inputs_hash()
        and metrics.get("n") == job.experiment.n
        and known.get("seed") == job.seed
        and asked == job.experiment.samples
        and ("fashion" if known.get("real_images", 2000) > 2000 else "embedded")
        == job.experiment.data
        and same_recipe(known.get("resolved"), job.recipe.model_dump(mode="json"))
    )


def figures(generator: nn.Module, n: int, seed: int, threads: int) -> dict[str, Any]:
    """Return everything that is measured on a generator: size, latency, quality."""
    sampler = InputSampler.of(generator)
    rng = torch.Generator().manual_seed(seed)
    cost = footprint(generator, sampler(2, rng))
    return {
        "params": cost.params,
        "macs": cost.macs,
        "bytes": cost.bytes,
        "latency": [
            _rounded(asdict(latency(generator, sampler(batch, rng), seconds=0.5, threads=threads)))
            for batch in LATENCY_BATCHES
        ],
        "metrics": _rounded(evaluate(generator, sampler, n=n, seed=seed)),
    }


def teacher_figures(n: int, seed: int, threads: int, results: Path = RESULTS) -> dict[str, Any]:
    """Return the teacher's figures, measured once for each count, seed and teacher."""
    path = results / "teacher" / f"n{n}--s{seed}.json"
    key = [inputs_hash(), threads]
    if path.is_file():
        known = json.loads(path.read_text())
        if known["key"] == key:
            return known["figures"]
    torch.set_num_threads(threads)
    found = figures(embedded_generator(), n, seed, threads)
    write_json(path, {"key": key, **protocol(seed), "figures": found})
    return found


def images_of(job: Job, folder: Path | None) -> Dataset:
    """Return the real images that ``job`` trains on."""
    if job.experiment.data == "embedded":
        return embedded()
    if folder is None:
        raise SystemExit(f"{job.experiment.name} needs the images of Fashion-MNIST: --data FOLDER")
    return fashion(folder)


def held_out(generator: nn.Module, job: Job, folder: Path | None) -> dict[str, Any]:
    """Return quality against images that no student trained on; empty where none is asked for."""
    if not job.experiment.samples:
        return {}
    found = held_out_figures(
        generator, InputSampler.of(generator), samples=job.experiment.samples, seed=job.seed,
        folder=folder,
    )  # fmt: skip
    return {"held_out": _rounded(found)}


def measure(job: Job, threads: int, side_by_side: int, data: Path | None = None) -> dict[str, Any]:
    """Train and measure one job; return its result."""
    torch.set_num_threads(threads)
    conditions, dataset = protocol(job.seed), images_of(job, data)
    generator = embedded_generator()
    start = time.perf_counter()
    done = train(
        job.recipe,
        generator=generator,
        discriminator=embedded_discriminator(),
        dataset=dataset,
        out=None,
    )
    trained_s = time.perf_counter() - start
    if done.exit_code:
        # A run stopped by a signal hands over what it has; that is no result.
        raise SystemExit(done.exit_code)
    start = time.perf_counter()
    student = done.generator.to(memory_format=torch.contiguous_format)
    found = figures(student, job.experiment.n, job.seed, threads)
    return {
        "experiment": job.experiment.name,
        "label": job.label,
        "recipe": job.recipe.name,
        "key": job.key,
        "inputs": inputs_hash(),
        "code": code_hash(),
        "protocol": protocol_hash() if job.experiment.stage == "reporting" else None,
        "overrides": [*job.experiment.overrides, *job.experiment.runs[job.label].overrides],
        "resolved": job.recipe.model_dump(mode="json"),
        **conditions,
        "side_by_side": side_by_side,
        "real_images": len(dataset),
        "images_seen": job.images,
        "wall_s": round(trained_s, 1),
        "evaluation_s": round(time.perf_counter() - start, 1),
        "verified": done.verified,
        **found,
        **held_out(student, job, data),
        "last": _rounded(done.history[-1]),
        "teacher": teacher_figures(job.experiment.n, job.seed, threads),
    }


def adopt(job: Job, results: Path = RESULTS) -> bool:
    """Take over the result of the same job in another experiment; return whether there is one."""
    for path in sorted(results.glob("*/*.json")):
        known = json.loads(path.read_text())
        # Other benchmarks keep their results here too, without a key; the teacher's has no label.
        if known.get("key") == job.key and "label" in known:
            own = {"experiment": job.experiment.name, "label": job.label}
            source = str(path.relative_to(results))
            write_json(result_path(job, results), {**known, **own, "adopted_from": source})
            return True
    return False


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write ``data``, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps(data, indent=1) + "\n")
    part.replace(path)


def _rounded(value: Any) -> Any:
    """Six digits are more than any of these figures means, and keep the files readable."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return [_rounded(v) for v in value] if isinstance(value, list) else value


def _child(job: Job, source: str, options: argparse.Namespace) -> bool:
    """Run one job in a process of its own; return whether it left a result."""
    command = [sys.executable, __file__, source, "--one", job.label, "--seed", str(job.seed)]
    command += ["--threads", str(options.threads), "--jobs", str(options.jobs)]
    if options.data is not None:
        command += ["--data", str(options.data)]
    threads = {"OMP_NUM_THREADS": str(options.threads), "MKL_NUM_THREADS": str(options.threads)}
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **threads})
    good = done.returncode == 0 and state_of(job) == "done"
    if good:
        result = json.loads(result_path(job).read_text())
        m = result["metrics"]
        note = (
            f"Frechet {m['frechet_classifier']:.3f} (teacher "
            f"{result['teacher']['metrics']['frechet_classifier']:.3f}), accuracy "
            f"{m['conditional_accuracy']:.3f}, {result['params']:,} parameters"
        )
    else:
        note = "FAILED\n" + done.stderr[-1500:]
    wall = time.perf_counter() - start
    print(f"{job.experiment.name}/{job.name}: {note} [{wall:.0f} s]", flush=True)
    return good


def main(words: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiments", nargs="+", help="names in benchmarks/experiments, or files")
    parser.add_argument("--pending", action="store_true", help="list what has no result, and stop")
    parser.add_argument("--only", action="append", default=[], help="labels to run")
    parser.add_argument("--seed", action="append", type=int, default=[], help="seeds to run")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    parser.add_argument("--threads", type=int, default=1, help="threads of each run")
    parser.add_argument("--data", type=Path, help="folder of the four files of Fashion-MNIST")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args(words)

    asked: list[tuple[Job, str]] = []
    for source in options.experiments:
        experiment = read_experiment(source)
        labels = entries(experiment)
        unknown = [label for label in options.only if label not in labels]
        if unknown:
            known = ", ".join(labels)
            raise SystemExit(f"{experiment.name} has no run {unknown[0]!r}; it has: {known}")
        asked += [(job, source) for job in jobs(experiment)]
    if options.one:
        job = next(j for j, _ in asked if j.label == options.one and j.seed == options.seed[0])
        write_json(result_path(job), measure(job, options.threads, options.jobs, options.data))
        return
    chosen = [
        (job, source)
        for job, source in asked
        if (not options.only or job.label in options.only)
        and (not options.seed or job.seed in options.seed)
    ]
    pending = [(job, source) for job, source in chosen if state_of(job) != "done"]
    print(f"{len(chosen) - len(pending)} done, {len(pending)} pending", flush=True)
    if options.pending:
        for job, _ in pending:
            print(f"{job.experiment.name}/{job.name}: {state_of(job)}")
        return
    if any(job.experiment.stage == "reporting" for job, _ in pending):
        check_frozen()
    for n, seed in sorted({(job.experiment.n, job.seed) for job, _ in pending}):
        teacher_figures(n, seed, options.threads)
    # Two experiments may ask for the very same run: it is computed once.
    first: dict[str, tuple[Job, str]] = {}
    for job, source in pending:
        if not adopt(job):
            first.setdefault(job.key, (job, source))
    with ThreadPoolExecutor(options.jobs) as pool:
        good = list(pool.map(lambda pair: _child(*pair, options), first.values()))
    for job, _ in pending:
        if state_of(job) != "done":
            adopt(job)
    if not all(good):
        raise SystemExit(f"{good.count(False)} of {len(good)} runs failed")


if __name__ == "__main__":
    main()
