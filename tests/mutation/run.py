"""Plant faults one at a time and see whether the tests nearest to them notice (ours).

    python tests/mutation/run.py                      # all of them; make mutation
    python tests/mutation/run.py --only masks budget  # areas, files or ids
    python tests/mutation/run.py --sample 20 --seed 3
    python tests/mutation/run.py --json mutation.json # goes on where it was stopped
    python tests/mutation/run.py --json all.json --known masks.json graph.json
    python tests/mutation/run.py --list

A fault is noticed when a test fails, when the tests cannot be collected, or when they no longer
end. Everything happens in copies in a temporary folder; the working tree is never written to.
Exit code: 0 when enough was noticed (--least), 1 when not, 2 when a fault or a test is rotten.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ["OMP_NUM_THREADS"] = "1"  # before torch is loaded: it is forked

from benchmarks import record
from tests.mutation.children import Job, Slot, make_copy, run_jobs, warm_up
from tests.mutation.faults import (
    PACKAGE,
    ROOT,
    Fault,
    RottenFault,
    check_all,
    chosen,
    read_faults,
    test_files,
)

PATIENCE = 5.0  # times what the tests take without a fault; then they count as never ending
SHORTEST = 60.0
FAILED, BROKEN = 1, 2  # exit codes of pytest: a test failed; tests could not be collected


class RottenTests(Exception):
    """The tests are not green without any fault, so that nothing can be told from them."""


def main(words: Sequence[str] | None = None) -> int:
    """Plant what is asked for, print the table, and return the exit code."""
    options = parsed(words)
    try:
        faults = chosen(read_faults(), options.only)
        check_all(faults)
        if options.sample is not None:
            count = min(options.sample, len(faults))
            faults = random.Random(options.seed).sample(faults, count)
        if options.list:
            print("\n".join(f"{f.id}  ({f.file}; {' '.join(f.tests)})" for f in faults))
            return 0
        known: dict[str, dict[str, Any]] = {}
        for file in (*options.known, *([] if options.json is None else [options.json])):
            known |= known_rows(file)
        rows = plant_all(faults, known, options)
    except (RottenFault, RottenTests) as error:
        print(error, file=sys.stderr)
        return 2
    print(table(rows))
    return 0 if share(rows) >= options.least else 1


def parsed(words: Sequence[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="*", default=[], metavar="AREA|FILE|ID")
    parser.add_argument("--jobs", type=int, default=1, help="how many at once (default 1)")
    parser.add_argument("--sample", type=int, metavar="N", help="a random part of them")
    parser.add_argument("--seed", type=int, default=0, help="of --sample")
    parser.add_argument(
        "--minutes", type=float, help="plant no more after so many; 0: tell only what is known"
    )
    parser.add_argument("--least", type=float, default=0.95, help="share that must be noticed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="results, read again next time")
    parser.add_argument("--known", type=Path, nargs="*", default=[], help="further results to read")
    parser.add_argument("--list", action="store_true", help="print the faults and stop")
    parser.add_argument("--verbose", action="store_true", help="print what the tests wrote")
    return parser.parse_args(words)


def known_rows(file: Path) -> dict[str, dict[str, Any]]:
    """Return the rows of an earlier run by id; none for a file that is not there."""
    if not file.exists():
        return {}
    return {row["id"]: row for row in json.loads(file.read_text())["rows"]}


def plant_all(
    faults: Sequence[Fault],
    known: dict[str, dict[str, Any]],
    options: argparse.Namespace,
) -> list[dict[str, Any]]:
    """Return one row a fault; what is known of the same fault, file and tests is not run again.

    Raises:
        RottenTests: tests fail without a fault, or none is chosen.
    """
    results = Results(known, options)
    left = [f for f in faults if f.id not in results.rows and options.minutes != 0]
    random.Random(options.seed).shuffle(left)  # a run that is stopped is a fair sample
    if left:
        warm_up()
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        count = min(options.jobs, len(left))
        slots = [Slot(make_copy(ROOT, Path(folder) / f"copy{i}")) for i in range(count)]
        lasted = times_without_fault(left, slots, options.json)
        jobs = [
            Job(
                f.id,
                f.tests,
                f"{PACKAGE}/{f.file}",
                f.planted((ROOT / PACKAGE / f.file).read_text()),
                max(SHORTEST, PATIENCE * lasted[f.tests]),
            )
            for f in left
        ]
        end = None if options.minutes is None else time.monotonic() + 60 * options.minutes
        run_jobs(jobs, slots, results.ended, end)
    if results.rotten:
        raise RottenTests("\n".join(results.rotten))
    return [results.rows[f.id] for f in faults if f.id in results.rows]


class Results:
    """Rows by id of a fault: those of earlier runs that still hold, and what ends now."""

    def __init__(self, known: dict[str, dict[str, Any]], options: argparse.Namespace) -> None:
        self.options, self.rotten = options, list[str]()
        self.prints = {f.id: f.fingerprint() for f in read_faults()}
        self.rows = {i: r for i, r in known.items() if self.prints.get(i) == r["print"]}
        self.conditions = record.protocol(options.seed, ("pytest",))
        self.write()

    def ended(self, job: Job) -> None:
        """Keep and tell what came of one fault."""
        if job.code is not None and job.code > BROKEN:
            self.rotten.append(f"{job.key}: pytest ended with {job.code}: {job.output[-300:]}")
            return
        noticed = job.code != 0
        how = {None: "never ended", 0: "passed", FAILED: "failed", BROKEN: "broken"}
        told = how.get(job.code, f"signal {-(job.code or 0)}")
        self.rows[job.key] = {
            "id": job.key,
            "area": job.key.partition("/")[0],
            "noticed": noticed,
            "tests": told,
            "seconds": round(job.seconds, 1),
            "print": self.prints[job.key],
        }
        mark = "noticed" if noticed else "NOT NOTICED"
        print(f"{mark:12}{job.key}  ({told}, {job.seconds:.1f} s)", flush=True)
        if self.options.verbose:
            print(job.output, flush=True)
        self.write()

    def write(self) -> None:
        """Write the result file: conditions, shares by area, one row a fault."""
        if self.options.json is None:
            return
        ordered = [self.rows[i] for i in sorted(self.rows)]
        data = {
            **self.conditions,
            "listed": len(self.prints),
            "planted": len(ordered),
            "noticed": sum(r["noticed"] for r in ordered),
            "share": round(share(ordered), 4),
            "areas": {a: [n, m] for a, n, m in by_area(ordered)},
            "rows": ordered,
        }
        draft = self.options.json.with_name(self.options.json.name + ".tmp")
        record.write(draft, data)
        draft.replace(self.options.json)


def times_without_fault(
    faults: Sequence[Fault], slots: Sequence[Slot], cache: Path | None
) -> dict[tuple[str, ...], float]:
    """Run the tests of ``faults`` as they are, and return how long each set takes.

    What was green before in the very same package and tests is not run again.

    Raises:
        RottenTests: one fails.
    """
    file = None if cache is None else cache.with_name(cache.name + ".green")
    known = json.loads(file.read_text()) if file is not None and file.exists() else {}
    sets = joined_tests([f.tests for f in faults])
    package = content_hash([PACKAGE])
    prints = {
        key: f"{package}-{content_hash(key.split())}-{shlex.join(t)}" for key, t in sets.items()
    }
    green = {key: known[key][1] for key in sets if known.get(key, [""])[0] == prints[key]}
    wrong: list[str] = []

    def ended(job: Job) -> None:
        if job.code != 0:
            wrong.append(f"{shlex.join(job.tests)} ended with {job.code}\n{job.output[-800:]}")
            return
        green[job.key] = round(job.seconds, 1)
        known[job.key] = [prints[job.key], green[job.key]]
        print(f"green       {job.key}  ({job.seconds:.1f} s)", flush=True)
        if file is not None:
            file.write_text(json.dumps(known))

    run_jobs([Job(key, t) for key, t in sets.items() if key not in green], slots, ended)
    if wrong:
        raise RottenTests("not green without any fault:\n" + "\n".join(wrong))
    return {f.tests: green[" ".join(test_files(f.tests))] for f in faults}


def joined_tests(sets: Sequence[tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Return one set of tests for each choice of files: what any of ``sets`` runs of them.

    Loading the files is most of the time that a few tests take.
    """
    found: dict[str, list[str]] = {}
    for tests in dict.fromkeys(sets):
        words = [tests[i + 1] for i, word in enumerate(tests) if word == "-k"]
        found.setdefault(" ".join(test_files(tests)), []).append(words[0] if words else "")
    return {
        key: (*key.split(), *([] if "" in some else ["-k", " or ".join(f"({w})" for w in some)]))
        for key, some in ((k, sorted(set(words))) for k, words in found.items())
    }


def content_hash(paths: Sequence[str]) -> str:
    """Return a hash of all Python files at or below ``paths``."""
    found = hashlib.sha256()
    for path in paths:
        whole = ROOT / path
        for file in sorted(whole.rglob("*.py")) if whole.is_dir() else [whole]:
            found.update(file.read_bytes())
    return found.hexdigest()[:16]


def by_area(rows: Sequence[dict[str, Any]]) -> list[tuple[str, int, int]]:
    """Return (area, planted, noticed) for each area."""
    areas = sorted({r["area"] for r in rows})
    return [
        (a, sum(r["area"] == a for r in rows), sum(r["area"] == a and r["noticed"] for r in rows))
        for a in areas
    ]


def share(rows: Sequence[dict[str, Any]]) -> float:
    """Return the share in [0, 1] that was noticed; 1 for no faults."""
    return sum(r["noticed"] for r in rows) / len(rows) if rows else 1.0


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table by area, and the ids that no test noticed."""
    lines = [f"{'area':14}{'planted':>8}{'noticed':>9}{'share':>8}"]
    total = ("all", len(rows), sum(r["noticed"] for r in rows))
    for area, planted, noticed in (*by_area(rows), total):
        lines.append(f"{area:14}{planted:8}{noticed:9}{noticed / max(planted, 1):8.1%}")
    missed = [r["id"] for r in rows if not r["noticed"]]
    return "\n".join([*lines, *(["not noticed:"] if missed else []), *(f"  {i}" for i in missed)])


if __name__ == "__main__":
    began = time.monotonic()
    code = main()
    print(f"{time.monotonic() - began:.0f} s", flush=True)
    raise SystemExit(code)
