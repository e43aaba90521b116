"""What a generator costs at any widths, in all and by layer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gancompress.graph.atoms import Dim
from gancompress.graph.dim_counts import DimCounts

if TYPE_CHECKING:
    from gancompress.graph.groups import ChannelGraph
    from gancompress.graph.tracer import MacTerm


@dataclass(frozen=True)
class Cost:
    """Size of a generator: trainable parameters, and multiply-accumulates for one sample.

    MACs = FLOPs / 2 (Ours; convolutions, linears, matrix products and attention are counted). The
    example's MACs are divided by its batch, the first dimension of the first output.
    """

    params: int
    macs: int


def _layer_of(parameter: str) -> str:
    """Return the path of the module that a parameter belongs to, whatever makes its weight."""
    path = f".{parameter}"
    plain = path.partition(".parametrizations.")[0]
    return (plain if plain != path else path.rpartition(".")[0]).lstrip(".")


class CostModel:
    """Cost as a sum of products of dimension counts, each count linear in the group widths."""

    def __init__(self, graph: ChannelGraph, macs: Sequence[MacTerm]) -> None:
        self._graph, self._counts = graph, DimCounts(graph)
        names = [n for n in graph.shapes if n in graph.trainable]
        self._layers = [_layer_of(n) for n in names], [t.module for t in macs]
        self.params = self._terms(
            (1, tuple(
                (graph.slots[(n, d)],) for d in range(len(graph.shapes[n])) if (n, d) in graph.slots
            ))
            for n in names
        )  # fmt: skip
        self.macs = self._terms((t.constant, t.dims) for t in macs)

    def _terms(self, terms: Iterable[tuple[int, Sequence[Dim]]]) -> list[tuple[float, list[int]]]:
        made = []
        for constant, dims in terms:
            factor, rows = self._counts.place(dims)
            made.append((float(constant * factor), rows))
        return made

    def at(self, w: np.ndarray) -> Cost:
        """Return params and MACs of the whole at widths ``w``."""
        n = self._counts.at(w).tolist()
        total = [
            sum(c * math.prod([n[r] for r in rows]) for c, rows in terms)
            for terms in (self.params, self.macs)
        ]
        return Cost(round(total[0]), round(total[1] / self._graph.batch))

    def by_layer(self, w: np.ndarray) -> dict[str, Cost]:
        """Return params and MACs of each layer at widths ``w``."""
        n = self._counts.at(w).tolist()
        found: dict[str, list[float]] = {}
        for kind, (layers, terms) in enumerate(
            zip(self._layers, (self.params, self.macs), strict=True)
        ):
            for layer, (c, rows) in zip(layers, terms, strict=True):
                found.setdefault(layer, [0.0, 0.0])[kind] += c * math.prod([n[r] for r in rows])
        return {k: Cost(round(p), round(m / self._graph.batch)) for k, (p, m) in found.items()}

    def marginal(self, w: np.ndarray, kind: str) -> np.ndarray:
        """Derivative of the cost by each width (the cost is multilinear but for squares)."""
        n = self._counts.at(w).tolist()
        grad = np.zeros(len(self._counts))
        for c, rows in self.params if kind == "params" else self.macs:
            for i, r in enumerate(rows):
                grad[r] += c * math.prod([n[q] for j, q in enumerate(rows) if j != i])
        return grad @ self._counts.matrix if len(grad) else np.zeros(len(w))
