"""The cost table: seconds of each kind of operator at a few widths, measured on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gancompress.target import Setting
from gancompress.timing.clock import shortest
from gancompress.timing.kept import kept
from gancompress.timing.single import single
from gancompress.timing.work import PASS, Kind

_SHARES = (0.25, 0.5, 1.0)  # of the full width at which an operator is measured
_PASSES = (2**6, 2**12, 2**15, 2**18, 2**21)  # numbers
_SECONDS = 0.015  # of one point of the table
POINTS = len(_SHARES)


@dataclass(frozen=True)
class Row:
    """Seconds (reads, writes) of one kind of operator at these channels in and out."""

    reads: list[int]
    writes: list[int]
    seconds: list[list[float]]


@dataclass(frozen=True)
class Table:
    """Seconds by kind of operator and widths.

    Attributes:
        rows: convolutions and products.
        numbers: sizes at which a pass over memory was timed, rising.
        passes: its seconds.
        unit: widths between two multiples of it take as long as the wider one,
        ragged: or so many times longer.
    """

    rows: Mapping[Kind, Row]
    numbers: list[int]
    passes: list[float]
    unit: int = 1
    ragged: float = 1.0

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        rows = {str(k): [r.reads, r.writes, r.seconds] for k, r in self.rows.items()}
        own = {"numbers": self.numbers, "passes": self.passes}
        return {"rows": rows, **own, "unit": self.unit, "ragged": self.ragged}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Table:
        """Read what `to_json` made."""
        rows = {_kind(k): Row(*v) for k, v in data["rows"].items()}
        return cls(rows, data["numbers"], data["passes"], data["unit"], data["ragged"])


def _kind(text: str) -> Kind:
    told = json.loads(text).items()
    found: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in told}
    return Kind(**found)


@dataclass(frozen=True)
class Needed:
    """An operator to measure: its widest use, and which of its widths change."""

    kind: Kind
    reads: int
    writes: int
    reads_vary: bool
    writes_vary: bool


def measured_table(
    needed: Iterable[Needed], setting: Setting, unit: int = 1, ragged: float = 1.0
) -> Table:
    """Measure every kind at up to three widths in and out, or look up what is known (ours).

    onnxruntime's time of a call of its own is taken off: a whole network pays it once.
    """
    numbers, passes = _measured_passes(setting)
    entry = passes[0] if setting.engine == "onnxruntime" else 0.0
    rows = {}
    for one in _widest(needed):
        row = kept(setting, f"operator {one} {unit}", lambda one=one: _measured(one, setting, unit))
        seconds = [[max(t - 0.9 * entry, 1e-7) for t in line] for line in row[2]]
        rows[one.kind] = Row(row[0], row[1], seconds)
    return Table(rows, numbers, [max(t - 0.9 * entry, 1e-7) for t in passes], unit, ragged)


def _widest(needed: Iterable[Needed]) -> list[Needed]:
    found: dict[Kind, Needed] = {}
    for one in needed:
        old = found.get(one.kind, one)
        found[one.kind] = Needed(
            one.kind,
            max(one.reads, old.reads),
            max(one.writes, old.writes),
            one.reads_vary or old.reads_vary or one.reads != old.reads,
            one.writes_vary or old.writes_vary or one.writes != old.writes,
        )
    return list(found.values())


def _measured_passes(setting: Setting) -> tuple[list[int], list[float]]:
    def measure() -> list[float]:
        calls = [single(PASS, n, n, setting) for n in _PASSES]
        return [shortest(c, setting.device, seconds=_SECONDS) for c in calls]

    return list(_PASSES), kept(setting, "passes", measure)


def _measured(one: Needed, setting: Setting, unit: int) -> list[Any]:
    step = max(unit, one.kind.groups)
    reads = _points(one.reads, step, one.reads_vary)
    if one.kind.groups == 0:  # each channel by itself: one width
        calls = [single(one.kind, r, r, setting) for r in reads]
        times = [[shortest(c, setting.device, seconds=_SECONDS)] for c in calls]
        return [reads, [reads[-1]], times]
    writes = _points(one.writes, step, one.writes_vary)

    def took(r: int, w: int) -> float:
        return shortest(single(one.kind, r, w, setting), setting.device, seconds=_SECONDS)

    times = [[took(r, w) for w in writes] for r in reads]
    return [reads, writes, times]


def _points(width: int, step: int, varies: bool) -> list[int]:
    if not varies:
        return [width]
    return sorted({min(width, max(step, round(s * width / step) * step)) for s in _SHARES})


def grids(table: Table, kinds: Iterable[Kind]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows of ``kinds`` as arrays: widths in (k, 3), out (k, 3), seconds (k, 3, 3).

    Where fewer widths were measured the last one is repeated a channel further on.
    """
    reads, writes, seconds = [], [], []
    for kind in kinds:
        row = table.rows[kind]
        reads.append(_padded(row.reads))
        writes.append(_padded(row.writes))
        grid = np.array(row.seconds)
        missing = POINTS - np.array(grid.shape)
        seconds.append(np.pad(grid, [(0, missing[0]), (0, missing[1])], mode="edge"))
    shape = (-1, POINTS)
    return (
        np.array(reads, float).reshape(shape),
        np.array(writes, float).reshape(shape),
        np.array(seconds, float).reshape(-1, POINTS, POINTS),
    )


def _padded(values: list[int]) -> list[int]:
    return [*values, *(values[-1] + i + 1 for i in range(POINTS - len(values)))]
