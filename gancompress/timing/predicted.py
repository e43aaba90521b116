"""Seconds of a whole generator at any widths, out of the cost table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from gancompress.graph.atoms import Dim
from gancompress.graph.dim_counts import DimCounts
from gancompress.graph.groups import ChannelGraph
from gancompress.target import Setting
from gancompress.timing.table import Needed, Table, grids, measured_table
from gancompress.timing.work import Work, work_of


class Predicted:
    """Time of one generator in one setting as a function of its widths (ours).

    The sum over operators of what the table says, between its widths in steps of its unit, linear
    from step to step; passes over memory by how much they write.
    """

    def __init__(self, graph: ChannelGraph, work: Sequence[Work], table: Table) -> None:
        """Bind ``table`` to the operators ``work`` of ``graph``; a kind it lacks is a pass."""
        self._names = [g.name for g in graph.groups]
        self._full = np.array([g.size for g in graph.groups], float)
        timed = [w for w in work if w.kind in table.rows]
        moved = [w for w in work if w.kind not in table.rows]
        counts = DimCounts(graph)
        self._counts = counts
        self._reads = _Products(counts, [w.reads for w in timed])
        self._writes = _Products(counts, [w.writes for w in timed])
        self._moved = _Products(counts, [w.writes for w in moved])
        self._times = np.array([w.times for w in moved])
        self._table = table
        self._x, self._y, self._z = grids(table, [w.kind for w in timed])
        plain = np.array([w.kind.groups == 1 for w in timed], bool)
        self._stairs = plain if table.unit > 1 else np.zeros(len(timed), bool)

    def seconds(self, widths: Mapping[str, int]) -> float:
        """Return the time at these widths (group name to channels; others as traced)."""
        w = np.array([widths.get(n, s) for n, s in zip(self._names, self._full, strict=True)])
        return float(self._at(w[None].astype(float))[0])

    def saved(self, widths: Mapping[str, int], blocks: Mapping[str, int]) -> np.ndarray:
        """Return, for each group, the seconds that one channel less saves, over its next block."""
        w = np.array([float(widths[n]) for n in self._names])
        step = np.array([min(float(blocks.get(n, 1)), max(w[i] - 1, 0.5))
                         for i, n in enumerate(self._names)])  # fmt: skip
        less = w[None] - np.diag(step)
        times = self._at(np.concatenate([w[None], less]))
        return np.maximum(times[0] - times[1:], 0) / step

    def parts(self, widths: Mapping[str, int]) -> tuple[float, float, float]:
        """Return seconds of convolutions and products, of moving memory, and of starting calls."""
        w = np.array([[float(widths[n]) for n in self._names]])
        n = self._counts.at(w[0])[None]
        start = self._table.passes[0]
        moving = self._passes(n)[0] - start * len(self._times)
        return float(self._timed(n)[0]), float(moving), start * len(self._times)

    def _at(self, w: np.ndarray) -> np.ndarray:
        n = np.stack([self._counts.at(row) for row in w])
        return self._timed(n) + self._passes(n)

    def _passes(self, n: np.ndarray) -> np.ndarray:
        if not len(self._times):
            return np.zeros(len(n))
        size = self._moved(n) * self._times
        at, took = np.array(self._table.numbers, float), np.array(self._table.passes)
        slope = (took[-1] - took[-2]) / (at[-1] - at[-2])
        beyond = np.maximum(size - at[-1], 0) * max(slope, 0.0)
        return (np.interp(size, at, took) + beyond).sum(1)

    def _timed(self, n: np.ndarray) -> np.ndarray:
        if not len(self._x):
            return np.zeros(len(n))
        reads, ragged_in = self._stepped(self._reads(n), self._x[:, -1])
        writes, ragged_out = self._stepped(self._writes(n), self._y[:, -1])
        i, fx = _between(reads, self._x)
        j, fy = _between(writes, self._y)
        k = np.arange(len(self._x))[None]
        z = self._z
        low = z[k, i, j] * (1 - fy) + z[k, i, j + 1] * fy
        high = z[k, i + 1, j] * (1 - fy) + z[k, i + 1, j + 1] * fy
        # Below the smallest width measured the line goes on, but no operator is free.
        least = z.min((1, 2))[None] * 0.1
        took = np.maximum(low * (1 - fx) + high * fx, least)
        return np.where(ragged_in | ragged_out, took * self._table.ragged, took).sum(1)

    def _stepped(self, widths: np.ndarray, most: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return widths at the end of their step, and which are not there by themselves."""
        unit = self._table.unit
        stepped = np.minimum(np.ceil(widths / unit - 1e-9) * unit, np.maximum(most, widths))
        off = self._stairs & (widths > unit) & (stepped > widths + 1e-6)
        return np.where(self._stairs, stepped, widths), off


class _Products:
    """Products of dimension counts, all at once: constant times counts, a row an operator."""

    def __init__(self, counts: DimCounts, dims: Sequence[Iterable[Dim]]) -> None:
        placed = [counts.place(d) for d in dims]
        self._constant = np.array([c for c, _ in placed], float)
        most = max((len(rows) for _, rows in placed), default=0)
        # What is not there points to the 1 behind the last count.
        self._index = np.array([[*rows, *[-1] * (most - len(rows))] for _, rows in placed], int)
        self._index = self._index.reshape(len(placed), most)

    def __call__(self, n: np.ndarray) -> np.ndarray:
        """Return (m, operators) from counts (m, counts)."""
        more = np.concatenate([n, np.ones((len(n), 1))], 1)
        return self._constant[None] * more[:, self._index].prod(2)


def _between(values: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the interval of (m, k) ``values`` in ``grid`` (k, points), and how far in."""
    values = np.minimum(values, grid[None, :, -1])
    at = np.clip((grid[None] <= values[..., None]).sum(2) - 1, 0, grid.shape[1] - 2)
    k = np.arange(len(grid))[None]
    low, high = grid[k, at], grid[k, at + 1]
    return at, (values - low) / (high - low)


def needed_of(graph: ChannelGraph, work: Sequence[Work]) -> list[Needed]:
    """Return the operators to measure, each at its full widths."""
    counts = DimCounts(graph)
    full = np.array([float(g.size) for g in graph.groups])
    timed = [w for w in work if w.kind.name != "pass"]
    reads = _Products(counts, [w.reads for w in timed])
    writes = _Products(counts, [w.writes for w in timed])
    wide, narrow = counts.at(full)[None], counts.at(np.ones(len(full)))[None]
    found = []
    for i, each in enumerate(timed):
        r, w = (int(p(wide)[0, i]) for p in (reads, writes))
        varies = [bool(p(narrow)[0, i] < p(wide)[0, i]) for p in (reads, writes)]
        found.append(Needed(each.kind, r, w, varies[0], varies[1]))
    return found


def table_of(graph: ChannelGraph, setting: Setting, unit: int, ragged: float) -> Table:
    """Return the cost table of a generator, measured where it is not known yet."""
    work = work_of(graph, setting.batch)
    return measured_table(needed_of(graph, work), setting, unit, ragged)


def predicted(graph: ChannelGraph, setting: Setting, table: Table) -> Predicted:
    """Bind a cost table to a traced generator."""
    return Predicted(graph, work_of(graph, setting.batch), table)
