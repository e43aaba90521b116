"""Write [project.urls] into pyproject.toml: ``python .ci/addresses.py https://host/owner/name``.

The release does it, with the address that it runs at: none is guessed here, and a fork that
releases names itself.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

FILE = Path(__file__).resolve().parent.parent / "pyproject.toml"
PLACES = {
    "Repository": "",
    "Documentation": "/tree/main/docs",
    "Changelog": "/blob/main/CHANGELOG.md",
    "Issues": "/issues",
}


def with_addresses(text: str, address: str) -> str:
    """Return the text of a pyproject.toml with the project's addresses in it."""
    if not re.fullmatch(r"https://[\w.-]+/[\w.-]+/[\w.-]+", address):
        raise SystemExit(f"{address!r} is not https://host/owner/name")
    if "[project.urls]" in text:
        raise SystemExit("pyproject.toml has [project.urls] already")
    lines = [f'{name} = "{address}{place}"' for name, place in PLACES.items()]
    table = "\n".join(["[project.urls]", *lines])
    return text.replace("[project.scripts]", f"{table}\n\n[project.scripts]")


if __name__ == "__main__":
    FILE.write_text(with_addresses(FILE.read_text("utf-8"), sys.argv[1]), encoding="utf-8")
