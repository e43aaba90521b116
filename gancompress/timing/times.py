"""A latency target bound to a generator: the goal in the table's seconds, fitted to real runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from gancompress.graph.groups import ChannelGraph
from gancompress.target import Setting, Target
from gancompress.timing.predicted import Predicted, predicted
from gancompress.timing.table import Table


@dataclass(frozen=True)
class Times:
    """What a latency target needs to know at each kill (ours).

    Attributes:
        target: with the setting in full (no device auto).
        table: measured operators.
        full: seconds of the original network by the table.
        fraction: of ``full`` at which the real network meets the target; first the target's own.
        before: measured seconds of the original network.
        after: of the network cut to the goal by magnitude, None before it was measured.
    """

    target: Target
    table: Table
    full: float
    fraction: float
    before: float | None = None
    after: float | None = None
    _bound: list[tuple[ChannelGraph, Predicted]] = field(
        default_factory=list, repr=False, compare=False
    )

    @property
    def setting(self) -> Setting:
        """Where time is measured."""
        assert self.target.setting is not None
        return self.target.setting

    @property
    def goal(self) -> float:
        """Seconds by the table to reach."""
        return self.fraction * self.full

    def fitted(self, fraction: float, before: float, after: float) -> Times:
        """Return this with another goal, and the measurements that speak for it."""
        return replace(self, fraction=fraction, before=before, after=after)

    def seconds(self, graph: ChannelGraph, widths: Mapping[str, int]) -> float:
        """Return the table's seconds at these widths of ``graph``, cut before or not."""
        return self._of(graph).seconds(widths)

    def price(
        self, graph: ChannelGraph, widths: Mapping[str, int], blocks: Mapping[str, int]
    ) -> np.ndarray:
        """Return the seconds that a channel of each group saves, over a block at least a step."""
        steps = {n: max(blocks.get(n, 1), min(self.table.unit, w)) for n, w in widths.items()}
        return self._of(graph).saved(widths, steps)

    def _of(self, graph: ChannelGraph) -> Predicted:
        # A live cut brings a new graph; the last one is asked many times over.
        if not self._bound or self._bound[0][0] is not graph:
            self._bound[:] = [(graph, predicted(graph, self.setting, self.table))]
        return self._bound[0][1]

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values, for a checkpoint."""
        return {
            "fraction_asked": self.target.fraction,
            "setting": asdict(self.setting),
            "table": self.table.to_json(),
            "full": self.full,
            "fraction": self.fraction,
            "before": self.before,
            "after": self.after,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Times:
        """Read what `to_json` made."""
        target = Target("latency", data["fraction_asked"], Setting(**data["setting"]))
        table = Table.from_json(data["table"])
        return cls(target, table, data["full"], data["fraction"], data["before"], data["after"])
