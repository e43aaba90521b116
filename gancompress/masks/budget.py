"""Landing on the budget: which channels must go so that the cost is what the user asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gancompress.errors import ConfigError, TargetError
from gancompress.graph.groups import ChannelGraph, Cost

KINDS = ("params", "macs")


@dataclass(frozen=True)
class Target:
    """How small: ``kind`` is params or macs, ``fraction`` of the original cost in (0, 1]."""

    kind: str
    fraction: float

    @classmethod
    def parse(cls, text: str | Target) -> Target:
        """Read ``"params=5.2x"`` (compression) or ``"macs=0.2"`` (fraction of the original).

        Raises:
            ConfigError: another form, an unknown kind, or a value out of range.
        """
        if isinstance(text, Target):
            return text
        match = re.fullmatch(r"\s*(\w+)\s*[=:]\s*([0-9.eE+-]+)(x?)\s*", str(text))
        if not match:
            raise ConfigError(f"target {text!r}: write params=5.2x (times smaller) or macs=0.2")
        kind, number, times = match.groups()
        if kind not in KINDS:
            raise ConfigError(f"target {text!r}: {kind!r} is not one of {', '.join(KINDS)}")
        try:
            value = float(number)
        except ValueError:
            raise ConfigError(f"target {text!r}: {number!r} is not a number") from None
        if times and value < 1:
            raise ConfigError(f"target {text!r}: a compression must be at least 1x")
        fraction = 1 / value if times else value
        if not 0 < fraction <= 1:
            raise ConfigError(
                f"target {text!r}: a fraction must be in (0, 1]; write {kind}={value:g}x for "
                f"{value:g} times smaller"
            )
        return cls(kind, fraction)

    def of(self, cost: Cost) -> float:
        """Return this kind's number of a cost."""
        return float(getattr(cost, self.kind))

    def __str__(self) -> str:
        return f"{self.kind}={1 / self.fraction:g}x"


@dataclass(frozen=True)
class Budget:
    """A target with its rounding rules, bound to the cost of the original network."""

    target: Target
    original: Cost
    round_to: int = 1
    min_channels: int = 1

    @property
    def goal(self) -> float:
        """Cost to reach."""
        return self.target.fraction * self.target.of(self.original)

    def floor(self, size: int) -> int:
        """Smallest width of a group of ``size`` channels under the rules."""
        least = -(-self.min_channels // self.round_to) * self.round_to
        return min(size, max(least, self.round_to if self.round_to <= size else 1))

    def check(self, graph: ChannelGraph, sizes: Mapping[str, int] | None = None) -> None:
        """Refuse an infeasible target before any work starts.

        Raises:
            TargetError: states the smallest reachable size and what holds it up.
        """
        free = {g.name: self.floor(g.size) for g in graph.groups}
        free.update({n: graph[n].size for n in sizes or {}})
        least = graph.cost(free)
        if self.target.of(least) <= self.goal:
            return
        reach = self.target.of(self.original) / max(self.target.of(least), 1)
        held = largest_kept(graph, free)
        raise TargetError(
            f"target {self.target} is out of reach: the smallest network has "
            f"{self.target.of(least):,.0f} {self.target.kind} ({reach:.2f}x), the target allows "
            f"{self.goal:,.0f}. Held up by: {held}. Ask for less, lower min_channels="
            f"{self.min_channels} or round_to={self.round_to}, or include more layers."
        )

    def kill(
        self,
        graph: ChannelGraph,
        alive: Mapping[str, np.ndarray],
        value: Mapping[str, np.ndarray],
        allowed: float,
        frozen: frozenset[str] = frozenset(),
    ) -> dict[str, np.ndarray]:
        """Choose channels to remove until the cost is at most ``allowed`` (ours).

        Greedy by value per cost saved, where the cost of a channel depends on the other widths.
        The last choice prefers one that lands within 2 % of the goal.

        Args:
            graph: groups and cost.
            alive: group name to bool (c,).
            value: group name to importance (c,), larger is better.
            allowed: cost allowed now.
            frozen: groups that may not lose channels.

        Returns:
            Group name to the channels to kill (int64).
        """
        left = {n: a.copy() for n, a in alive.items()}
        order = {
            g.name: np.array([i for i in np.argsort(value[g.name], kind="stable") if left[g.name][i]])
            for g in graph.groups
        }
        taken = {n: 0 for n in order}
        widths = {n: len(o) for n, o in order.items()}
        killed: dict[str, list[int]] = {}
        open_ = [g.name for g in graph.groups if g.name not in frozen]
        position = {g.name: i for i, g in enumerate(graph.groups)}
        cost = self.target.of(graph.cost(widths))
        while cost > allowed:
            price = graph.marginal(widths, self.target.kind)
            choices = []
            for n in open_:
                step = widths[n] % self.round_to or self.round_to
                if widths[n] - step < self.floor(graph[n].size):
                    continue
                block = order[n][taken[n] : taken[n] + step]
                worth = float(value[n][block].sum()) / max(float(price[position[n]]) * step, 1e-12)
                choices.append((worth, n, step))
            if not choices:
                return {n: np.array(k, np.int64) for n, k in killed.items()}
            choices.sort()
            worth, n, step = self._landing(graph, widths, choices, cost, allowed)
            killed.setdefault(n, []).extend(int(i) for i in order[n][taken[n] : taken[n] + step])
            taken[n] += step
            widths[n] -= step
            cost = self.target.of(graph.cost(widths))
        return {n: np.array(k, np.int64) for n, k in killed.items()}

    def _landing(
        self,
        graph: ChannelGraph,
        widths: Mapping[str, int],
        choices: list[tuple[float, str, int]],
        cost: float,
        allowed: float,
    ) -> tuple[float, str, int]:
        """Take the cheapest choice, unless it overshoots and another lands inside 2 %."""
        if cost > 1.25 * allowed:
            return choices[0]
        for choice in choices:
            _, n, step = choice
            after = self.target.of(graph.cost({**widths, n: widths[n] - step}))
            if after >= 0.985 * allowed:
                return choice
        return choices[0]


def largest_kept(graph: ChannelGraph, widths: Mapping[str, int], top: int = 3) -> str:
    """Name the tensors that weigh most when every group is at its floor."""
    keep = {g.name: range(widths[g.name]) for g in graph.groups}
    alive = graph.alive(keep)
    sizes = {}
    for name, shape in graph.shapes.items():
        if name in graph.trainable:
            count = 1
            for d, n in enumerate(shape):
                factor = graph.slots.get((name, d))
                count *= n if factor is None or factor.atoms is None else int(alive[factor.atoms].sum())
            sizes[name] = count
    worst = sorted(sizes, key=lambda n: -sizes[n])[:top]
    return ", ".join(f"{n} ({sizes[n]:,})" for n in worst)
