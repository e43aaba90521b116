"""What every benchmark writes beside its numbers, and how a table is made of them."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def version(package: str) -> str | None:
    """Return the installed version of a package, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def git_hash() -> str:
    """Return the commit the numbers belong to, with '+' when tracked files differ from it."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
        return done.stdout.strip()

    return git("rev-parse", "--short", "HEAD") + (
        "+" if git("status", "--porcelain", "--untracked-files=no", "gancompress") else ""
    )


def protocol(seed: int, packages: Sequence[str] = ()) -> dict[str, Any]:
    """Describe the conditions of a run; a number travels with them."""
    names = ("torch", "torchvision", "torch-pruning", *packages)
    return {
        "git": git_hash(),
        "seed": seed,
        "device": "cpu",
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {n: v for n in names if (v := version(n)) is not None},
        "date": time.strftime("%Y-%m-%d"),
    }


def write(path: Path, data: dict[str, Any]) -> None:
    """Write one JSON result, one row a line so that differences read well."""
    rows = data.pop("rows")
    head = json.dumps(data, indent=1)[:-2]
    body = ",\n".join("  " + json.dumps(row) for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{head},\n "rows": [\n{body}\n ]\n}}\n')
    data["rows"] = rows


def keep(
    path: Path, head: dict[str, Any], rows: Iterable[dict[str, Any]], keys: Sequence[str]
) -> dict[str, Any]:
    """Put ``rows`` in the place of those that agree in ``keys``, and return all that is written.

    So a benchmark can be run in pieces. Every row tells its commit and day; rows of other versions
    or threads than ``head`` tells are left out, since one head speaks for all.

    Args:
        path: of the JSON result; need not be there.
        head: what `protocol` returned, and more.
        rows: new ones.
        keys: names of the fields that tell rows apart.
    """
    old: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    same = all(old.get(k) == head.get(k) for k in ("versions", "machine", "threads"))
    earlier, now = ({k: h.get(k) for k in ("git", "date")} for h in (old, head))
    found = {_key(r, keys): {**earlier, **r} for r in (old["rows"] if same and old else ())}
    for row in rows:
        found[_key(row, keys)] = {**row, **now}
    data = {**head, "rows": list(found.values())}
    write(path, data)
    return data


def _key(row: dict[str, Any], keys: Sequence[str]) -> tuple[Any, ...]:
    return tuple(row.get(k) for k in keys)


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join("" if c is None else str(c) for c in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def place(document: Path, marker: str, text: str) -> None:
    """Replace what stands between `<!-- marker -->` and `<!-- /marker -->` in a document."""
    begin, end = f"<!-- {marker} -->", f"<!-- /{marker} -->"
    old = document.read_text() if document.exists() else f"{begin}\n{end}\n"
    if begin not in old:
        old = old.rstrip("\n") + f"\n\n{begin}\n{end}\n"
    head, _, rest = old.partition(begin)
    _, _, tail = rest.partition(end)
    document.write_text(f"{head}{begin}\n{text}{end}{tail}")
