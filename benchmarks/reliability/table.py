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


def markdown(found: list[dict[str, Any]]) -> str:
    """Return the table, what did not hold, and what was tried by kind."""
    known = rows()
    lines = [
        (
            r["label"], r["promise"], f"{r['held']:,} of {r['tried']:,}", f"{r['goal']:,}",
            f"{r['wall_s']:,.0f} s", r["date"], r["git"],
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
    text += "\n<details><summary>What was tried, by kind</summary>\n\n"
    for r in found:
        kinds = "; ".join(f"{kind} {count:,}" for kind, count in r["kinds"].items())
        text += f"- **{r['label']}** (`{r['row']}`, seed {r['seed']}): {kinds}\n"
    return text + "\n</details>\n"


def main() -> None:
    """Bring docs/reliability.md up to date."""
    record.place(DOCUMENT, MARKER, markdown(results()))


if __name__ == "__main__":
    main()
