"""Try a promise many times and record how often it held.

    python -m benchmarks.reliability.campaign damage --count 10000 --seconds 300
    python -m benchmarks.reliability.campaign --list

Trial ``i`` of a row is a function of (row, seed, i). What was tried is kept in
``benchmarks/results/reliability/<row>.json``, and the next call goes on behind it; ``--fresh``
begins again. Results of another version of the package are begun again as well, unless ``--add``
keeps them: then each trial that failed is tried again first, and all versions are named.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import importlib
import io
import json
import pkgutil
import random
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import record, reliability
from benchmarks.reliability.row import BrokenPromiseError, Row, Trial

RESULTS = record.RESULTS / "reliability"
SHOWN = 20
"""Failures whose text is kept."""
KEEP_EVERY = 15.0
"""Seconds after which results are written: a campaign may be stopped."""


def rows() -> dict[str, Row]:
    """Return every row by the name of its file."""
    found: dict[str, Row] = {}
    for info in pkgutil.iter_modules(reliability.__path__):
        module = importlib.import_module(f"{reliability.__name__}.{info.name}")
        if isinstance(row := getattr(module, "ROW", None), Row):
            found[info.name] = row
    return dict(sorted(found.items(), key=lambda item: _order(item[1].label)))


def _order(label: str) -> tuple[bool, int, str]:
    number = "".join(c for c in label.split(",")[0] if c.isdigit())
    return not label.startswith("B"), int(number or 0), label


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Keep what is printed and warned off the screen."""
    with (
        contextlib.redirect_stderr(io.StringIO()),
        contextlib.redirect_stdout(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


def attempt(row: Row, name: str, trial: Trial, seed: int, number: int) -> tuple[str, str]:
    """Return the kind of one trial and what broke; an empty text: it held."""
    try:
        with silent():
            return trial(random.Random(f"{name}/{seed}/{number}"), number), ""
    except BrokenPromiseError as error:
        return "broken", str(error)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}:{last.lineno}"
        return "broken", f"{type(error).__name__} at {place}: {error}"


def campaign(
    name: str,
    *,
    count: int | None,
    seconds: float,
    seed: int = 0,
    fresh: bool = False,
    add: bool = False,
    results: Path | None = None,
) -> dict[str, Any]:
    """Try row ``name`` up to ``count`` times in all, or for ``seconds``; return its results."""
    row = rows()[name]
    file = (results or RESULTS) / f"{name}.json"
    found = json.loads(file.read_text()) if file.is_file() and not fresh else None
    conditions = record.protocol(seed)
    other = found is not None and package_at(found["git"]) != package_at("HEAD")
    if found is None or found["seed"] != seed or (other and not add):
        found, other = {"tried": 0, "held": 0, "wall_s": 0.0, "kinds": {}, "failures": []}, False
    if other:
        # Earlier versions stay, by commit and count; what they broke is tried again below.
        found["earlier"] = [
            *found.get("earlier", []),
            {"git": found["git"], "tried": found["tried"] - _tried(found.get("earlier", []))},
        ]
    found = {
        "row": name, "label": row.label, "promise": row.promise, "goal": row.goal,
    } | found | {"promise": row.promise, "goal": row.goal} | conditions  # fmt: skip
    kinds = collections.Counter(found["kinds"])
    started = kept = time.monotonic()
    before = found["wall_s"]

    def keep() -> None:
        found["wall_s"] = round(before + time.monotonic() - started, 1)
        found["kinds"] = dict(sorted(kinds.items()))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(found, indent=1) + "\n")

    with tempfile.TemporaryDirectory(prefix="reliability-") as folder:
        with silent():
            trial = row.prepare(Path(folder))
        if other:
            _mend(found, kinds, lambda n: attempt(row, name, trial, seed, n))
        while found["tried"] < (row.goal if count is None else count):
            if time.monotonic() - started > seconds:
                break
            number = found["tried"]
            kind, fault = attempt(row, name, trial, seed, number)
            kinds[kind] += 1
            found["tried"] += 1
            found["held"] += not fault
            if fault and len(found["failures"]) < SHOWN:
                text = fault.replace(folder, "<folder>")[:600]
                found["failures"].append({"trial": number, "fault": text})
            if time.monotonic() - kept > KEEP_EVERY:
                kept = time.monotonic()
                keep()
    keep()
    return found


def _tried(earlier: list[dict[str, Any]]) -> int:
    return sum(part["tried"] for part in earlier)


def _mend(
    found: dict[str, Any], kinds: collections.Counter[str], tried: Callable[[int], tuple[str, str]]
) -> None:
    """Try the failures of an earlier version again; those that hold now are counted as held."""
    left = []
    for failure in found["failures"]:
        kind, fault = tried(failure["trial"])
        if fault:
            left.append({"trial": failure["trial"], "fault": fault[:600]})
            continue
        kinds["broken"] -= 1
        kinds[kind] += 1
        found["held"] += 1
        found.setdefault("mended", []).append(failure)
    found["failures"] = left
    kinds += collections.Counter()  # without those of zero


def _again(name: str, seed: int, number: int) -> int:
    """Try one trial again and say how it went; return 1 when it does not hold."""
    row = rows()[name]
    with tempfile.TemporaryDirectory(prefix="reliability-") as folder:
        with silent():
            trial = row.prepare(Path(folder))
        kind, fault = attempt(row, name, trial, seed, number)
    print(f"{row.label} {name}, trial {number}: {fault or f'held ({kind})'}")
    return int(bool(fault))


def package_at(commit: str) -> str:
    """Return what the package was at ``commit``; unknown, or edited since: equal to nothing."""
    done = subprocess.run(
        ["git", "rev-parse", f"{commit}:gancompress"],
        cwd=record.ROOT, capture_output=True, text=True,
    )  # fmt: skip
    edited = subprocess.run(
        ["git", "diff", "--quiet", "HEAD", "--", "gancompress"], cwd=record.ROOT
    ).returncode
    return f"unknown {time.time_ns()}" if done.returncode or edited else done.stdout.strip()


def main(words: list[str] | None = None) -> int:
    """Run the rows named, or all; return 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", help="names of rows; default: all")
    parser.add_argument("--count", type=int, help="trials in all; default: what is promised")
    parser.add_argument("--seconds", type=float, default=1e9, help="at most so long a row")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fresh", action="store_true", help="forget earlier results")
    parser.add_argument("--add", action="store_true", help="keep those of earlier versions")
    parser.add_argument("--results", type=Path, help=f"folder of results; default: {RESULTS}")
    parser.add_argument("--trial", type=int, help="this one alone, of one row; keeps nothing")
    parser.add_argument("--list", action="store_true", help="name the rows and stop")
    options = parser.parse_args(words)
    known = rows()
    if wrong := [name for name in options.rows if name not in known]:
        parser.error(f"no row {wrong[0]!r}; known: {', '.join(known)}")
    if options.trial is not None:
        if len(options.rows) != 1:
            parser.error("--trial is of one row: name it")
        return _again(options.rows[0], options.seed, options.trial)
    broken = 0
    # Those that fork runs go first: torch computes no gradient in a child once its parent has.
    for name in sorted(options.rows or known, key=lambda name: not known[name].forks):
        if options.list:
            print(f"{known[name].label:8} {name:12} {known[name].goal:>6}  {known[name].promise}")
            continue
        found = campaign(
            name,
            count=options.count,
            seconds=options.seconds,
            seed=options.seed,
            fresh=options.fresh,
            add=options.add,
            results=options.results,
        )
        broken += found["tried"] - found["held"]
        print(f"{found['label']:8} {name}: {found['held']} of {found['tried']} held", flush=True)
        for failure in found["failures"][:5]:
            print(f"    trial {failure['trial']}: {failure['fault']}", flush=True)
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
