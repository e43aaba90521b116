"""The sounds of a run inside its page: players with the wav files in them."""

from __future__ import annotations

import base64
from collections import defaultdict
from pathlib import Path

LIMIT = 1_500_000
"""Bytes of wav files that a page takes in; base64 makes a third more of them."""

_ORDER = ("input", "wanted", "teacher", "student")
_LAST = 10**6
"""Place of the worst examples: behind those that are numbered."""


def players(folder: Path) -> tuple[list[list[tuple[str, str]]], list[str]]:
    """Return rows of (name, data URI) of the files ``N_NAME.wav`` in ``folder``, a piece a row.

    Files beyond 1.5 MB in all stay beside the page: the second value says which, as sentences.
    """
    rows: dict[str, list[tuple[str, str]]] = defaultdict(list)
    beside: list[str] = []
    taken = 0
    found = [p for p in folder.glob("*_*.wav")] if folder.is_dir() else []
    for file in sorted(found, key=_place):
        size = file.stat().st_size
        if taken + size > LIMIT:
            beside.append(file.name)
            continue
        taken += size
        number, _, name = file.stem.partition("_")
        data = base64.b64encode(file.read_bytes()).decode()
        rows[number].append((f"{number} {name}", f"data:audio/wav;base64,{data}"))
    if not beside:
        return list(rows.values()), []
    shown = ", ".join(beside[:6]) + (", ..." if beside[6:] else "")
    return list(rows.values()), [f"Sounds too long for one page lie in {folder.name}/: {shown}."]


def _place(file: Path) -> tuple[int, str, int]:
    number, _, name = file.stem.partition("_")
    at = _ORDER.index(name) if name in _ORDER else len(_ORDER)
    return (int(number) if number.isdecimal() else _LAST, number, at)
