from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gancompress.graph.rules.base import RULES
from gancompress.plugins import loading
from gancompress.plugins.kinds import KINDS

TABLES = ("_entries", "_options", "_facts", "_checks")


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current folder of one's own; what is registered and imported in it is forgotten after."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loading, "_installed_done", True)
    rules, modules, path = dict(RULES), set(sys.modules), list(sys.path)
    yield tmp_path
    strange = {
        name for name in set(sys.modules) - modules
        if str(getattr(sys.modules[name], "__file__", "") or "").startswith(str(tmp_path))
    }  # fmt: skip
    for registry in KINDS.values():
        for name, entry in list(registry._entries.items()):
            if entry.__module__ in strange:
                for table in TABLES:
                    getattr(registry, table).pop(name)
    for name in set(RULES) - set(rules):
        if RULES[name].__module__ in strange:
            del RULES[name]
    for name in strange:
        del sys.modules[name]
    sys.path[:] = path
