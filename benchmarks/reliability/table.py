"""Write the table of docs/reliability.md: ``python -m benchmarks.reliability.table``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.reliability.campaign import RESULTS, rows

DOCUMENT = record.ROOT / "docs" / "reliability.md"
MARKER = "reliability"


def results(folder: Path = RESULTS) -> list[dict[str, Any]]:
    """Return the results of every row that was run, in the order of their labels."""
    return [
        json.loads((folder / f"{name}.json").read_text())
        for name in rows()
        if (folder / f"{name}.json").is_file()
    ]


def commits(found: dict[str, Any]) -> str:
    """Return the versions that were tried, the newest last, each with its count if several."""
    earlier = found.get("earlier", [])
    if not earlier:
        return found["git"]
    newest = found["tried"] - sum(part["tried"] for part in earlier)
    parts = [*earlier, {"git": found["git"], "tried": newest}]
    counts = [f"{part['tried']:,}" if part["tried"] else "what had failed" for part in parts]
    return ", ".join(f"{part['git']} ({n})" for part, n in zip(parts, counts, strict=True))


def fuzzed(folder: Path = RESULTS) -> dict[str, Any]:
    """Return the results of fuzzing; empty: there are none."""
    file = folder / "fuzz.json"
    return json.loads(file.read_text()) if file.is_file() else {}


def of_fuzzing(found: dict[str, Any]) -> str:
    """Return what coverage-guided fuzzing has tried and found."""
    if not found:
        return "\nCoverage-guided fuzzing: not run yet.\n"
    targets = found["targets"]
    seconds = sum(t["seconds"] for t in targets.values())
    parts = [
        f"{name} {t['tried']:,}"
        + (f" ({len(t['failures'])} kinds failed)" if t["failures"] else "")
        for name, t in targets.items()
    ]
    text = (
        f"\nCoverage-guided fuzzing (atheris {found['versions'].get('atheris', '')}, "
        f"`python -m benchmarks.reliability.fuzz`), {seconds / 60:.0f} minutes, {found['date']}, "
        f"commit {found['git']}; inputs by target, each to end in a result or a typed error within "
        f"1 CPU second and 200 MiB: {', '.join(parts)}.\n"
    )
    for name, t in targets.items():
        text += "".join(f"\n- {name}: `{f['fault'][:300]}`" for f in t["failures"])
    return text.rstrip("\n") + "\n"


def markdown(found: list[dict[str, Any]], fuzz: dict[str, Any]) -> str:
    """Return the table, what did not hold, what was fuzzed, and what was tried by kind."""
    known = rows()
    lines = [
        (
            r["label"], r["promise"], f"{r['held']:,} of {r['tried']:,}", f"{r['goal']:,}",
            f"{r['wall_s']:,.0f} s", r["date"], commits(r),
        )
        for r in found
    ]  # fmt: skip
    text = record.table(("", "promise", "held", "promised", "time", "date", "commit"), lines)
    missing = sorted(set(known) - {r["row"] for r in found})
    if missing:
        text += f"\nNot run yet: {', '.join(known[name].label for name in missing)}.\n"
    if broken := [r for r in found if r["held"] < r["tried"]]:
        text += "\nWhat did not hold (the first of each):\n\n"
        for r in broken:
            text += f"- {r['label']}: {r['tried'] - r['held']} of {r['tried']:,}. "
            text += f"`{r['failures'][0]['fault'][:300]}`\n"
    if mended := [(r, m) for r in found for m in r.get("mended", [])]:
        text += "\nMended since, and held when tried again:\n\n"
        text += "".join(
            f"- {r['label']}, trial {m['trial']}: `{m['fault'][:200]}`\n" for r, m in mended
        )
    text += of_fuzzing(fuzz)
    text += "\n<details><summary>What was tried, by kind</summary>\n\n"
    for r in found:
        kinds = "; ".join(f"{kind} {count:,}" for kind, count in r["kinds"].items())
        text += f"- **{r['label']}** (`{r['row']}`, seed {r['seed']}): {kinds}\n"
    return text + "\n</details>\n"


def main() -> None:
    """Bring docs/reliability.md up to date."""
    record.place(DOCUMENT, MARKER, markdown(results(), fuzzed()))


if __name__ == "__main__":
    main()
