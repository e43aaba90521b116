"""Cut half of every group of forty generators that we did not write, and check the result.

    python benchmarks/zoo.py --site DIR            # all, into benchmarks/results/zoo.json
    python benchmarks/zoo.py --site DIR --only torchgan_dcgan
    python benchmarks/zoo.py --table               # Markdown of the last results
    python benchmarks/zoo.py --docs docs/surgery.md

Install the packages named in `benchmarks/zoo_models` without their dependencies into a folder and
pass it as `--site`. Whatever is absent is skipped by name.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import gancompress as gc
from benchmarks.isolate import isolated
from benchmarks.record import RESULTS, place, protocol, table, write
from benchmarks.shares import channels, refusals
from tests.motifs.checks import backward, difference, error, run, size

TOLERANCE = 1e-9


def evaluate(name: str, seed: int, keep: float) -> dict[str, Any]:
    """Run every check on one generator; never raises for what the generator or the cut does."""
    from benchmarks.zoo_models import ZOO, make

    row: dict[str, Any] = {"name": name, "package": ZOO[name].package, "kind": ZOO[name].kind}
    try:
        module, args, kwargs = make(name)
    except ImportError as missing:
        return {**row, "status": "absent", "detail": str(missing)}
    row.update(params=size(module), stage="trace")
    try:
        _check(row, module, args, kwargs, lambda: make(name)[0], seed, keep)
    except Exception as problem:
        where = traceback.extract_tb(problem.__traceback__)[-1]
        row["status"] = "failed"
        row["detail"] = f"{type(problem).__name__}: {problem}"[:400]
        row["at"] = f"{Path(where.filename).name}:{where.lineno}"
    return row


def _check(
    row: dict[str, Any],
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    build: Any,
    seed: int,
    keep: float,
) -> None:
    start = time.perf_counter()
    graph = gc.trace(module, args, kwargs)
    row["trace_s"] = round(time.perf_counter() - start, 2)
    row.update(channels(module, graph), groups=len(graph.groups))
    row["kept"] = refusals(module, graph)
    if not graph.groups:
        row["status"] = "refused"
        return

    row["stage"] = "cut"
    plan = gc.random_plan(graph, keep=keep, seed=seed)
    start = time.perf_counter()
    small = gc.cut(module, plan, graph=graph)
    row["cut_s"] = round(time.perf_counter() - start, 2)
    row["left"] = round(size(small) / row["params"], 4)

    row["stage"] = "verify"
    plain = build()
    masked = gc.wrap(module, args, kwargs)
    masked.apply(plan)
    start = time.perf_counter()
    checked = gc.verify(module, small, args, kwargs, plan=plan)
    row["verify_s"] = round(time.perf_counter() - start, 2)
    row["verified"] = checked.passed
    row["error"], row["follows"] = (float(f"{x:.2e}") for x in error(module, small, args, kwargs))
    changed, _ = error(plain, small, args, kwargs)
    row["changed"] = float(f"{changed:.2e}")

    row["stage"] = "backward"
    row["gradients"] = backward(small, args, kwargs)

    row["stage"] = "reload"
    row["reloads"] = reloads(small, plan, build, args, kwargs)

    row["stage"] = "train"
    row["trains"] = trains(module, masked, args, kwargs)
    exact = row["error"] <= TOLERANCE and checked.passed
    passed = exact and row["reloads"] and row["trains"] and row["left"] < 1 and row["changed"] > 0
    row["status"] = "exact" if passed else "wrong"
    del row["stage"]


def reloads(small: nn.Module, plan: gc.Plan, build: Any, args: Any, kwargs: Any) -> bool:
    """Save without pickle, replay the plan onto the original class, compare bit for bit."""
    with tempfile.TemporaryDirectory() as folder:
        gc.save(Path(folder) / "small", small, plan=plan)
        again = gc.load(build, Path(folder) / "small")
    _ = again.train() if small.training else again.eval()  # some classes ignore train(False)
    with torch.no_grad():
        wanted, got = run(small, args, kwargs), run(again, args, kwargs)
    old, new = small.state_dict(), again.state_dict()
    same = list(old) == list(new) and all(torch.equal(old[k], new[k]) for k in old)
    return same and type(again) is type(small) and difference(wanted, got) == 0.0


def trains(module: nn.Module, masked: Any, args: Any, kwargs: Any, steps: int = 3) -> bool:
    """Three Adam steps while masked: finite, something moves, dead channels stay dead."""
    dead = {n: m.hard().bool().clone() for n, m in masked.masks.items()}
    learnable = [p for p in module.parameters() if p.requires_grad]
    before = [p.detach().clone() for p in learnable]
    optimizer = torch.optim.Adam(learnable, lr=1e-4)
    module.train()
    for _ in range(steps):
        optimizer.zero_grad()
        loss = sum(out.abs().square().mean() for out in run(module, args, kwargs))
        loss.backward()
        optimizer.step()
    module.eval()
    finite = bool(torch.isfinite(loss))
    moved = any(not torch.equal(a, b) for a, b in zip(before, learnable, strict=True))
    held = all(torch.equal(m.hard().bool(), dead[n]) for n, m in masked.masks.items())
    return finite and moved and held


def as_table(data: dict[str, Any]) -> str:
    """Return the Markdown table of a result file."""
    rows = []
    for r in data["rows"]:
        if r["status"] == "absent":
            rows.append([r["name"], r["package"], "absent", "", "", "", "", ""])
            continue
        share = f"{r['free']} of {r['channels']}" if "free" in r else ""
        left = f"{100 * r['left']:.0f} %" if "left" in r else ""
        err = f"{r['error']:.0e}" if "error" in r else r.get("detail", "")[:60]
        rows.append(
            [
                r["name"],
                r.get("package"),
                r["status"],
                share,
                left,
                err,
                r.get("trace_s"),
                r.get("peak_mb"),
            ]
        )
    head = ["generator", "package", "result", "channels that can go", "params left"]
    return table([*head, "error", "trace s", "peak MiB"], rows)


def summary(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Count the results by status."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["status"]] = counts.get(row["status"], 0) + 1
    return counts


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--site", action="append", default=[], help="folder with the packages")
    parser.add_argument("--only", action="append", default=[], help="names to run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=float, default=0.5)
    parser.add_argument("--limit", type=float, default=900.0, help="seconds for one generator")
    parser.add_argument("--out", type=Path, default=RESULTS / "zoo.json")
    parser.add_argument("--table", action="store_true", help="print the table of --out and stop")
    parser.add_argument("--docs", type=Path, help="write the table of --out into this document")
    options = parser.parse_args()
    sys.path.extend(options.site)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")

    if options.table or options.docs:
        data = json.loads(options.out.read_text())
        text = as_table(data)
        if options.docs:
            counts = ", ".join(f"{n} {status}" for status, n in data["summary"].items())
            place(options.docs, "zoo", f"{len(data['rows'])} generators: {counts}.\n\n{text}")
        else:
            print(text)
        return
    from benchmarks.zoo_models import ZOO

    unknown = [name for name in options.only if name not in ZOO]
    if unknown:
        raise SystemExit(f"no generator {unknown[0]!r}; there are: {', '.join(ZOO)}")
    rows = []
    for name in options.only or ZOO:
        arguments = (name, options.seed, options.keep)
        row = {"name": name, "package": ZOO[name].package}
        row |= isolated(evaluate, arguments, limit_s=options.limit, site=options.site)
        rows.append(row)
        brief = {k: row[k] for k in ("left", "error", "detail", "at") if k in row}
        print(name, row["status"], brief, flush=True)
    data = {
        "benchmark": "zoo",
        **protocol(options.seed),
        "keep": options.keep,
        "tolerance": TOLERANCE,
        "summary": summary(rows),
        "rows": rows,
    }
    if not options.only:
        write(options.out, copy.deepcopy(data))
    print(data["summary"])


if __name__ == "__main__":
    main()
