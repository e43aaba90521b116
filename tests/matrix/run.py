"""Run the tests under each kind of CPU arithmetic, number of threads, Python and torch (ours).

    python tests/matrix/run.py                  # everything; make matrix
    python tests/matrix/run.py --only avx2 --tests tests/graph tests/surgery
    python tests/matrix/run.py --list
    python tests/matrix/run.py --json matrix.json

What cannot be had on this machine is reported as "not run" with the reason, never passed over.
Exit code: 0 when nothing that ran has failed, else 1.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".venv-matrix"
OLDEST_PYTHON, NEWEST_PYTHON = 10, 16  # minor versions that are looked at
VARIABLES = {
    "ATEN_CPU_CAPABILITY": ("default", "avx2", "avx512"),
    "ONEDNN_MAX_CPU_ISA": ("SSE41", "AVX2", "AVX512_CORE"),
    "OMP_NUM_THREADS": ("1", "2"),
}


@dataclass
class Cell:
    """One way to run the tests, and what came of it.

    Attributes:
        name: for people, and for --only.
        env: variables that are set.
        python: minor version of Python 3 that is wanted; ``None``: the one that runs this.
        torch: what is installed with it, for example ``torch==2.10.*``; ``None``: as it is.
        status: ``passed``, ``failed`` or ``not run``.
        detail: the closing line of the tests, or why they were not run.
        seconds: how long it took.
    """

    name: str
    env: dict[str, str] = field(default_factory=dict)
    python: int | None = None
    torch: str | None = None
    status: str = "not run"
    detail: str = ""
    seconds: float = 0.0


def cells(newest: int | None) -> list[Cell]:
    """Return all cells; ``newest`` is the minor version of the newest Python with torch wheels."""
    found = [Cell(f"{k}={v}", {k: v}) for k, values in VARIABLES.items() for v in values]
    low = oldest_torch()
    pythons = sorted({OLDEST_PYTHON, newest or OLDEST_PYTHON})
    for minor in pythons:
        for name, torch in (("oldest torch", f"torch=={low}.*"), ("newest torch", "torch")):
            found.append(Cell(f"Python 3.{minor}, {name}", {}, minor, torch))
    return found


def oldest_torch(project: str | None = None) -> str:
    """Return the oldest torch that pyproject.toml allows, for example 2.10."""
    text = (ROOT / "pyproject.toml").read_text() if project is None else project
    match = re.search(r'"torch>=([\d.]+)', text)
    assert match is not None, "pyproject.toml names no oldest torch"
    return match[1]


def newest_python() -> int | None:
    """Return the minor version of the newest Python 3 for which the registry has a torch wheel."""
    for minor in range(NEWEST_PYTHON, OLDEST_PYTHON - 1, -1):
        command = [sys.executable, "-m", "pip", "index", "versions", "torch"]
        command += ["--python-version", f"3.{minor}", "--only-binary", ":all:"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0 and "torch (" in done.stdout:
            return minor
    return None


def interpreter(minor: int) -> str | None:
    """Return a Python 3 of this minor version on this machine: running, on PATH, pyenv or uv."""
    if sys.version_info[:2] == (3, minor):
        return sys.executable
    roots = [Path(os.environ.get("PYENV_ROOT", "")), Path.home() / ".pyenv"]
    places = [str(p) for r in roots for p in sorted(r.glob(f"versions/3.{minor}.*/bin/python"))]
    places += [p for p in (shutil.which(f"python3.{minor}"),) if p]
    if shutil.which("uv"):
        command = ["uv", "python", "find", "--no-python-downloads", f"3.{minor}"]
        done = subprocess.run(command, capture_output=True, text=True)
        places += done.stdout.split() if done.returncode == 0 else []
    for place in places:
        # A shim of pyenv is on PATH even where its version is not chosen.
        ask = [place, "-c", "import sys; print(sys.version_info[1])"]
        done = subprocess.run(ask, capture_output=True, text=True)
        if done.returncode == 0 and done.stdout.strip() == str(minor):
            return place
    return None


def environment(cell: Cell) -> tuple[str | None, str]:
    """Return the Python to run ``cell`` with, made if need be; or ``None`` and the reason."""
    if cell.python is None:
        return sys.executable, ""
    base = interpreter(cell.python)
    if base is None:
        return None, f"no Python 3.{cell.python} on this machine"
    folder = HOME / re.sub(r"\W+", "-", cell.name.lower()).strip("-")
    python = folder / "bin" / "python"
    steps = [
        [base, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "-q", "-U", str(cell.torch), "-e", f"{ROOT}[dev]"],
    ]
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
            return None, f"cannot be installed: {last}"
    return str(python), ""


def lacking(cell: Cell, python: str) -> str:
    """Return what this CPU lacks for ``cell``, or ""."""
    code = "import torch; print(torch.backends.cpu.get_cpu_capability())"
    wanted = cell.env.get("ATEN_CPU_CAPABILITY")
    if wanted is None and cell.env.get("ONEDNN_MAX_CPU_ISA") == "AVX512_CORE":
        wanted = "avx512"
    if wanted is None:
        return ""
    env = {**os.environ, "ATEN_CPU_CAPABILITY": wanted}
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, env=env)
    found = done.stdout.strip()
    return "" if found.lower() == wanted else f"this CPU has {found or 'no such capability'}"


def run(cell: Cell, tests: Sequence[str]) -> None:
    """Run the tests in ``cell`` and write down what came of it."""
    start = time.monotonic()
    python, why = environment(cell)
    why = why or ("" if python is None else lacking(cell, python))
    if python is None or why:
        cell.status, cell.detail = "not run", why
        return
    clean = {k: v for k, v in os.environ.items() if k not in VARIABLES}
    workers = [] if os.environ.get("WORKERS") == "1" else ["-n", os.environ.get("WORKERS", "2")]
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *workers]
    command += (["--dist", "loadfile"] if workers else []) + list(tests)
    path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH", "")) if p)
    env = {**clean, **cell.env, "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env)
    cell.status, cell.detail = verdict(done.returncode, done.stdout + done.stderr)
    cell.seconds = round(time.monotonic() - start, 1)
    if cell.status == "failed":
        print(*done.stdout.splitlines()[-30:], sep="\n", file=sys.stderr)


def verdict(code: int, text: str) -> tuple[str, str]:
    """Return status and closing line; a run without a single passed test is no pass."""
    lines = [line for line in text.splitlines() if re.search(r"\d+ (passed|failed|error)", line)]
    detail = lines[-1].strip("= ") if lines else (text.strip().splitlines() or ["no output"])[-1]
    good = code == 0 and re.search(r"[1-9]\d* passed", detail) is not None
    return ("passed" if good else "failed"), detail


def table(done: Sequence[Cell]) -> str:
    """Return the cells as a table for people."""
    width = max(len(c.name) for c in done)
    return "\n".join(f"{c.name:{width}s}  {c.status:8s} {c.detail}" for c in done)


def main(words: Sequence[str] | None = None) -> int:
    """Command line; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="cells with this word in their name")
    parser.add_argument("--tests", nargs="+", default=["tests"], help="what pytest runs")
    parser.add_argument("--list", action="store_true", help="print the cells, and stop")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args(words)
    chosen = [c for c in cells(newest_python()) if options.only.lower() in c.name.lower()]
    if not chosen:
        parser.error(f"no cell has {options.only!r} in its name")
    if options.list:
        print(*(c.name for c in chosen), sep="\n")
        return 0
    for number, cell in enumerate(chosen, 1):
        print(f"[{number}/{len(chosen)}] {cell.name}", file=sys.stderr, flush=True)
        run(cell, options.tests)
        print(f"    {cell.status}: {cell.detail}", file=sys.stderr, flush=True)
        if options.json is not None:  # after each: hours may be lost otherwise
            options.json.write_text(json.dumps([asdict(c) for c in chosen], indent=1) + "\n")
    print(table(chosen))
    counts = {s: sum(c.status == s for c in chosen) for s in ("passed", "failed", "not run")}
    print(", ".join(f"{n} {status}" for status, n in counts.items()))
    return int(counts["failed"] > 0)


if __name__ == "__main__":
    sys.exit(main())
