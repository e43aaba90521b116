"""How many indices of a dimension survive, as linear functions of the group widths."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from gancompress.graph.atoms import Dim

if TYPE_CHECKING:
    from gancompress.graph.groups import ChannelGraph


class DimCounts:
    """Counts of factors: each is linear in the widths, each kind of factor is counted once (ours).

    Args:
        graph: groups and which of them own an atom.
    """

    def __init__(self, graph: ChannelGraph) -> None:
        self._graph = graph
        self._rows: list[np.ndarray] = []
        self._base: list[float] = []
        self._index: dict[bytes, int] = {}
        self._solved: tuple[np.ndarray, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def place(self, dims: Iterable[Dim]) -> tuple[int, list[int]]:
        """Return the product of the sizes of ``dims``: a constant, and the counts it goes with."""
        constant, rows = 1, []
        for factor in (f for dim in dims for f in dim):
            if factor.atoms is None:
                constant *= factor.size
            else:
                rows.append(self._row(factor.atoms))
        return constant, rows

    def _row(self, atoms: np.ndarray) -> int:
        key = atoms.tobytes()
        if key not in self._index:
            owner = self._graph.owners(atoms)
            row = np.zeros(len(self._graph.groups))
            for g, hits in zip(*np.unique(owner[owner >= 0], return_counts=True), strict=True):
                row[g] = hits / self._graph.groups[g].size
            self._index[key] = len(self._rows)
            self._rows.append(row)
            self._base.append(float((owner < 0).sum()))
            self._solved = None
        return self._index[key]

    @property
    def matrix(self) -> np.ndarray:
        """Share of each group in each count, shape (counts, groups)."""
        return self._linear()[0]

    def at(self, widths: np.ndarray) -> np.ndarray:
        """Return every count (counts,) at the group ``widths`` (groups,)."""
        matrix, offset = self._linear()
        return matrix @ widths + offset if len(self) else offset

    def _linear(self) -> tuple[np.ndarray, np.ndarray]:
        if self._solved is None:
            shape = len(self._rows), len(self._graph.groups)
            self._solved = np.array(self._rows).reshape(shape), np.array(self._base)
        return self._solved
