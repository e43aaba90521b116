"""What an installation consists of: ``python -m benchmarks.reliability.sbom [--extra data]``.

Prints a CycloneDX 1.6 document of the packages that gancompress and its extras lead to here, with
versions and licences. ``pip-audit -r <(pip freeze)`` asks whether any of them has a known fault.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import Any

from packaging.requirements import Requirement

PACKAGE = "gancompress"


def closure(package: str, extras: Sequence[str] = ()) -> dict[str, metadata.Distribution]:
    """Return every installed package that ``package`` needs with ``extras``, by its plain name."""
    found: dict[str, metadata.Distribution] = {}
    todo = [(package, tuple(extras))]
    seen = set(todo)
    while todo:
        name, wanted = todo.pop()
        try:
            home = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # of another platform
        found[plain(name)] = home
        for other in needs(home, wanted):
            if other not in seen:
                seen.add(other)
                todo.append(other)
    return found


def needs(
    home: metadata.Distribution, extras: Sequence[str]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield name and extras of what one package needs on this platform."""
    for text in home.requires or ():
        wanted = Requirement(text)
        contexts = [{"extra": extra} for extra in (*extras, "")]
        if wanted.marker is None or any(wanted.marker.evaluate(c) for c in contexts):
            yield plain(wanted.name), tuple(sorted(wanted.extras))


def plain(name: str) -> str:
    """Return a package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def of_our_choosing(extras: Sequence[str] = ()) -> list[str]:
    """Return what we bring besides torch and what torch itself needs."""
    torch_brings = set(closure("torch"))
    return sorted(set(closure(PACKAGE, extras)) - torch_brings - {PACKAGE})


def document(extras: Sequence[str] = ()) -> dict[str, Any]:
    """Return the bill of materials as CycloneDX 1.6."""
    found = closure(PACKAGE, extras)
    parts = []
    for name, home in sorted(found.items()):
        about = home.metadata
        part: dict[str, Any] = {
            "type": "application" if name == PACKAGE else "library",
            "bom-ref": f"pkg:pypi/{name}@{home.version}",
            "name": name,
            "version": home.version,
            "purl": f"pkg:pypi/{name}@{home.version}",
        }
        licence = about.get("License-Expression") or about.get("License")
        if licence and len(licence) < 80:
            part["licenses"] = [{"license": {"name": licence}}]
        parts.append(part)
    links = [
        {
            "ref": f"pkg:pypi/{name}@{home.version}",
            "dependsOn": sorted(
                f"pkg:pypi/{other}@{found[other].version}"
                for other in {o for o, _ in needs(home, extras if name == PACKAGE else ())}
                if other in found
            ),
        }
        for name, home in sorted(found.items())
    ]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "components": parts,
        "dependencies": links,
    }


def main(words: list[str] | None = None) -> int:
    """Print the document; say on stderr how many packages are of our choosing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--extra", action="append", default=[], help="an extra to include")
    options = parser.parse_args(words)
    print(json.dumps(document(options.extra), indent=1))
    ours = of_our_choosing(options.extra)
    print(f"{len(ours)} packages besides torch's: {', '.join(ours)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
