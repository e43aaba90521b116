"""Our surgeon against torch-pruning on the motifs and the zoo, in one run.

    python benchmarks/surgery.py --site DIR        # into benchmarks/results/surgery.json
    python benchmarks/surgery.py --motifs          # motifs only
    python benchmarks/surgery.py --table           # Markdown of the last results
    python benchmarks/surgery.py --docs docs/surgery.md

Both engines get the same generators and cut half of the channels that they say can go. A result
is exact when the small network equals, in float64 and on fresh inputs, the original whose dead
channels are silenced (for torch-pruning at their readers, or at readers and writers).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.isolate import isolated
from benchmarks.pruners import CONVLIN, ENGINES
from benchmarks.record import RESULTS, place, protocol, table, write
from tests.motifs.checks import backward, error, randomise, size

TOLERANCE = 1e-9


def build(kind: str, name: str) -> tuple[nn.Module, tuple[Any, ...], dict[str, Any]]:
    """Build a motif or a zoo generator, in eval mode with random constants."""
    if kind == "zoo":
        from benchmarks.zoo_models import make

        return make(name)
    from tests.motifs.zoo import MOTIFS

    module, args, kwargs = MOTIFS[name].build()
    randomise(module)
    return module, args, kwargs


def widths(module: nn.Module) -> int:
    """Return the output channels of all convolutions and Linear layers, from their weights."""
    total = 0
    for layer in module.modules():
        if isinstance(layer, CONVLIN):
            # Some keep another name, and have a weight in the forward only.
            own = (p for p in layer.parameters(recurse=False) if p.dim() > 1)
            weight = layer.weight if hasattr(layer, "weight") else next(own)
            transposed = isinstance(layer, nn.modules.conv._ConvTransposeNd)
            total += weight.shape[1] * layer.groups if transposed else weight.shape[0]
    return total


def measure(kind: str, name: str, engine: str, seed: int) -> dict[str, Any]:
    """Cut one generator with one engine and say what came of it."""
    try:
        module, args, kwargs = build(kind, name)
    except ImportError as missing:
        return {"status": "absent", "detail": str(missing)}
    with torch.no_grad():
        params, channels = size(module), widths(module)
    row: dict[str, Any] = {"params": params, "channels": channels}
    start = time.perf_counter()
    try:
        outcome = ENGINES[engine](module, args, kwargs, seed)
    except Exception as problem:
        return {**row, "status": "error", "detail": f"{type(problem).__name__}: {problem}"[:200]}
    row["seconds"] = round(time.perf_counter() - start, 2)
    row["left"] = round(size(outcome.small) / params, 4)
    try:
        errors = [error(r, outcome.small, args, kwargs) for r in outcome.references]
        row["error"], row["follows"] = min(errors)
        if channels:  # a network of bare parameters has no layers to count
            row["removed"] = round(1 - widths(outcome.small) / channels, 4)
        backward(outcome.small, args, kwargs)
    except Exception as problem:
        return {**row, "status": "broken", "detail": f"{type(problem).__name__}: {problem}"[:200]}
    if row["left"] > 1:
        return {**row, "status": "grew"}
    if row["left"] == 1:
        return {**row, "status": "nothing"}
    return {**row, "status": "exact" if row["error"] <= TOLERANCE else "wrong"}


MEANING = {
    "exact": "smaller, runs forward and backward, equals the masked original",
    "nothing": "nothing was cut",
    "wrong": "runs and differs from the masked original",
    "broken": "the forward or backward of the result fails",
    "grew": "more parameters than before",
    "error": "the engine raises",
    "no result": "stopped at the time limit",
    "failed": "the benchmark itself does, before the engine runs",
}


def as_table(data: dict[str, Any]) -> str:
    """Return the summary and the detailed Markdown table of a result file."""
    engines = list(ENGINES)
    parts = []
    for kind, title in (("motif", "Motifs"), ("zoo", "Published generators")):
        rows = [r for r in data["rows"] if r["kind"] == kind and r["status"] != "absent"]
        if not rows:
            continue
        counts = {e: [r["status"] for r in rows if r["engine"] == e] for e in engines}
        total = len({r["name"] for r in rows})
        parts.append(f"\n**{title}** ({total} generators)\n\n")
        body = [
            [status, MEANING.get(status, ""), *(counts[e].count(status) for e in engines)]
            for status in [*MEANING, "failed"]
            if any(counts[e].count(status) for e in engines)
        ]
        parts.append(table(["result", "meaning", *engines], body))
        parts.append("\n" + table([kind, *_columns(engines)], _lines(rows, engines)))
    head = (
        f"Commit {data['git']}, seed {data['seed']}, {data['device']}, {data['threads']} thread, "
    )
    head += ", ".join(f"{k} {v}" for k, v in data["versions"].items())
    return f"{head}. Half of the channels that can go are cut; time includes tracing.\n" + "".join(
        parts
    )


def _columns(engines: list[str]) -> list[str]:
    return [f"{e}: {c}" for e in engines for c in ("result", "channels cut", "left", "s", "MiB")]


def _lines(rows: list[dict[str, Any]], engines: list[str]) -> list[list[Any]]:
    lines = []
    for name in dict.fromkeys(r["name"] for r in rows):
        line: list[Any] = [name]
        for engine in engines:
            r = next((r for r in rows if r["name"] == name and r["engine"] == engine), {})
            cut = f"{100 * r['removed']:.0f} %" if "removed" in r else ""
            left = f"{100 * r['left']:.0f} %" if "left" in r else ""
            line += [r.get("status"), cut, left, r.get("seconds"), r.get("peak_mb")]
        lines.append(line)
    return lines


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--site", action="append", default=[], help="folder with the zoo packages")
    parser.add_argument("--motifs", action="store_true", help="leave the zoo out")
    parser.add_argument("--only", action="append", default=[], help="names to run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=120.0, help="seconds for one engine on one")
    parser.add_argument("--out", type=Path, default=RESULTS / "surgery.json")
    parser.add_argument("--table", action="store_true", help="print the table of --out and stop")
    parser.add_argument("--docs", type=Path, help="write the table of --out into this document")
    options = parser.parse_args()
    sys.path.extend(options.site)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")

    if options.table or options.docs:
        text = as_table(json.loads(options.out.read_text()))
        if options.docs:
            place(options.docs, "surgery", text)
        else:
            print(text)
        return
    from tests.motifs.zoo import MOTIFS

    tasks = [("motif", name) for name in MOTIFS]
    if not options.motifs:
        from benchmarks.zoo_models import ZOO

        tasks += [("zoo", name) for name in ZOO]
    if options.only:
        tasks = [t for t in tasks if t[1] in options.only]
    rows = []
    for kind, name in tasks:
        for engine in ENGINES:
            row: dict[str, Any] = {"kind": kind, "name": name, "engine": engine}
            arguments = (kind, name, engine, options.seed)
            row |= isolated(measure, arguments, limit_s=options.limit, site=options.site)
            rows.append(row)
            print(name, engine, row["status"], row.get("detail", "")[:90], flush=True)
    data = {"benchmark": "surgery", **protocol(options.seed), "limit_s": options.limit}
    data |= {"tolerance": TOLERANCE, "rows": rows}
    if not options.only:
        write(options.out, data)
    else:
        print(as_table(data))


if __name__ == "__main__":
    main()
