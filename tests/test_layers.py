"""Imports point one way: low layers never import higher ones, siblings never import each other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent / "gancompress"

BASE = {
    "errors",
    "registry",
    "plugins",
    "assets",
    "storage",
    "modules",
    "target",
    "weights",
    "extras",
}
# Package or module of gancompress -> what it may import besides BASE and itself.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "registry": set(),
    "plugins": set(),
    "assets": set(),
    "storage": set(),
    "modules": set(),
    "target": set(),
    "weights": set(),
    "extras": set(),
    "graph": set(),
    "masks": {"graph"},
    "surgery": {"graph"},
    "timing": {"graph"},
    "wrapping": {"graph", "masks", "surgery", "timing"},
    "inspection": {"graph", "surgery"},
    "models": set(),
    "data": set(),
    "metrics": {"data"},
    "distill": set(),
    "recipes": set(),
    "losses": set(),
    "tasks": {"data", "losses", "metrics"},
}
ABOVE = {"training", "reporting", "saving", "deployment"}
LOW = set(ALLOWED)
ALLOWED |= {name: LOW | ABOVE for name in ABOVE}
TOP = {"cli", "commands", "__main__"}
ALLOWED |= {name: LOW | ABOVE | TOP for name in TOP}


def home(path: Path) -> str:
    """The package or module right under gancompress that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path, root: Path = ROOT) -> Iterator[tuple[int, str]]:
    """Yield (line, first name under gancompress) of every import, type-checking ones included."""
    package = ["gancompress", *path.relative_to(root).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{stem}.{a.name}" for a in node.names] if stem == "gancompress" else [stem]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "gancompress" and len(parts) > 1:
                yield node.lineno, parts[1]


FILES = sorted(p for p in ROOT.rglob("*.py") if p != ROOT / "__init__.py")


def test_every_package_has_a_layer() -> None:
    assert {home(p) for p in FILES} <= set(ALLOWED)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    me = home(path)
    allowed = ALLOWED[me] | BASE | {me, "__version__"}
    wrong = [
        f"{path.name}:{line} imports {name}" for line, name in imported(path) if name not in allowed
    ]
    assert not wrong


def test_the_rule_can_fail(tmp_path: Path) -> None:
    bad = tmp_path / "graph" / "bad.py"
    bad.parent.mkdir()
    bad.write_text("from gancompress.training.loop import train\nfrom ..surgery import cut\n")
    assert [name for _, name in imported(bad, tmp_path)] == ["training", "surgery"]
