from __future__ import annotations

from pathlib import Path

from gancompress.plugins.kinds import KINDS
from gancompress.plugins.table import plugin_page

PAGE = Path(__file__).resolve().parents[2] / "docs" / "plugins.md"


def test_the_page_of_plug_ins_is_current() -> None:
    assert PAGE.read_text("utf-8") == plugin_page(), (
        "write it again: python -m gancompress.plugins.table > docs/plugins.md"
    )


def test_every_plug_in_that_ships_says_what_it_does() -> None:
    page = plugin_page()
    for registry in KINDS.values():
        for name in registry.names():
            entry = registry.get(name)
            if entry.__module__.startswith("gancompress."):
                assert (entry.__doc__ or "").strip(), f"{registry.kind} {name}"
                assert f"| `{name}` |" in page
