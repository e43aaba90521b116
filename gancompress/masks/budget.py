"""Landing on the budget: which channels must go so that the cost is what the user asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from gancompress.errors import TargetError
from gancompress.graph.groups import ChannelGraph, Cost
from gancompress.masks.in_order import kill_in_order
from gancompress.masks.landing import SLACK, find_landing
from gancompress.target import Target

_OF_MACS = 0.02  # of the dearest channel's time, for that of most MACs
_SEARCH = 1.5  # from this multiple of the goal on, what goes must leave a way to land on it


class Timed(Protocol):
    """What a latency target brings along: seconds at any widths, and those to reach."""

    @property
    def goal(self) -> float:
        """Seconds to reach."""
        ...

    @property
    def full(self) -> float:
        """Seconds of the original network."""
        ...

    def seconds(self, graph: ChannelGraph, widths: Mapping[str, int]) -> float:
        """Return the time at these widths."""
        ...

    def price(
        self, graph: ChannelGraph, widths: Mapping[str, int], blocks: Mapping[str, int]
    ) -> np.ndarray:
        """Return what one channel of each group saves now."""
        ...


@dataclass(frozen=True)
class Budget:
    """Targets with their rounding rules, bound to the cost of the original network.

    One target of parameters or MACs is counted in its own unit. Of several, or of time, what counts
    is the `load`: how many times its goal the farthest of them is at, so that the goal is 1.

    Attributes:
        target: the first, or the only one.
        original: cost before any cut.
        round_to: widths become multiples of this; ``units`` may say others by group.
        min_channels: each group keeps at least so many.
        others: further targets that must hold as well.
        times: of each latency target, how its time is known.
    """

    target: Target
    original: Cost
    round_to: int = 1
    min_channels: int = 1
    others: tuple[Target, ...] = ()
    times: Mapping[Target, Timed] = field(default_factory=dict)
    units: Mapping[str, int] = field(default_factory=dict)

    @property
    def targets(self) -> tuple[Target, ...]:
        """All of them."""
        return (self.target, *self.others)

    @property
    def kind(self) -> str:
        """Which cost the penalty and a discriminator go by: params, or macs for time as well."""
        return "params" if all(t.kind == "params" for t in self.targets) else "macs"

    @property
    def _plain(self) -> bool:
        return not self.others and self.target.kind != "latency"

    @property
    def goal(self) -> float:
        """Load to reach."""
        if not self._plain:
            return 1.0
        return self.target.fraction * self.target.of(self.original)

    def load(self, graph: ChannelGraph, widths: Mapping[str, int]) -> float:
        """Return what is to fall to `goal`, at these widths of ``graph``."""
        if self._plain:
            return self.target.of(graph.cost(widths))
        return max(self.loads(graph, widths).values())

    def loads(self, graph: ChannelGraph, widths: Mapping[str, int]) -> dict[Target, float]:
        """Return, for each target, how many times its goal the network is at."""
        cost = graph.cost(widths)
        return {
            t: self.times[t].seconds(graph, widths) / self.times[t].goal
            if t.kind == "latency"
            else t.of(cost) / (t.fraction * t.of(self.original))
            for t in self.targets
        }

    def price(self, graph: ChannelGraph, widths: Mapping[str, int]) -> np.ndarray:
        """Return what one channel of each group costs now, of the target that is farthest.

        Where MACs are and time is a target as well, it is mostly the time that the channel takes:
        of the ways to as few MACs that is the fastest (ours).
        """
        if self._plain:
            return graph.marginal(widths, self.target.kind)
        loads = self.loads(graph, widths)
        worst = max(loads, key=lambda t: loads[t])
        timed = [t for t in loads if t.kind == "latency"]
        if worst.kind == "params" or not timed:
            return graph.marginal(widths, worst.kind)
        near = worst if worst.kind == "latency" else max(timed, key=lambda t: loads[t])
        taken = self.times[near].price(graph, widths, {n: self.unit(n) for n in widths})
        if worst.kind == "latency":
            return taken
        # What saves no time by itself still counts a little: the MACs must fall.
        own = graph.marginal(widths, "macs")
        most = float(taken.max()) or 1.0
        return taken + _OF_MACS * most * own / max(float(own.max()), 1e-12)

    def _full(self) -> float:
        if self._plain:
            return self.target.of(self.original)
        times = [t.full / t.goal for t in self.times.values()]
        return max([*times, *(1 / t.fraction for t in self.targets if t.kind != "latency")])

    def allowed(self, share: float) -> float:
        """Load allowed after ``share`` of the way, in [0, 1], from the original to the goal."""
        full = self._full()
        # Not by the formula at the end: rounding would leave it a hair above the goal.
        return full - (full - self.goal) * share if share < 1 else self.goal

    def unit(self, name: str) -> int:
        """Steps in which the width of a group is chosen."""
        return self.units.get(name, self.round_to)

    def floor(self, size: int, unit: int | None = None) -> int:
        """Smallest width of a group of ``size`` channels under the rules."""
        unit = self.round_to if unit is None else unit
        least = -(-self.min_channels // unit) * unit
        return min(size, max(least, unit if unit <= size else 1))

    def least(self, graph: ChannelGraph, sizes: Mapping[str, int] | None = None) -> dict[str, int]:
        """Return the smallest width of every group; those in ``sizes`` stay whole."""
        free = {g.name: self.floor(g.size, self.unit(g.name)) for g in graph.groups}
        free.update({n: graph[n].size for n in sizes or {}})
        return free

    def check(self, graph: ChannelGraph, sizes: Mapping[str, int] | None = None) -> None:
        """Refuse an infeasible target before any work starts.

        Raises:
            TargetError: states the smallest reachable size and what holds it up.
        """
        free = self.least(graph, sizes)
        if not self._plain:
            self._check_all(graph, free)
            return
        least = graph.cost(free)
        if self.target.of(least) <= self.goal:
            return
        reach = self.target.of(self.original) / max(self.target.of(least), 1)
        held = largest_kept(graph, free)
        raise TargetError(
            f"target {self.target} is out of reach: the smallest network has "
            f"{self.target.of(least):,.0f} {self.target.kind} ({reach:.2f}x), the target allows "
            f"{self.goal:,.0f}. Held up by: {held}. {self._ways()}"
        )

    def _ways(self) -> str:
        # What is at its least already is no advice.
        ways = ["ask for less"]
        ways += [f"lower min_channels={self.min_channels}"] if self.min_channels > 1 else []
        unit = max([self.round_to, *self.units.values()])
        ways += [f"lower round_to={unit}"] if unit > 1 else []
        ways += ["let more layers take part"]
        return f"What helps: {', '.join(ways[:-1])} or {ways[-1]}."

    def _check_all(self, graph: ChannelGraph, least: Mapping[str, int]) -> None:
        """Refuse targets of which one is out of reach, and say what each could be."""
        reach = self.reach(graph, least)
        wrong = [t for t in self.targets if reach[t] * t.fraction < 1 - 1e-9]
        if not wrong:
            return
        one = f"target {wrong[0]} is" if len(wrong) == 1 else f"targets {_listed(wrong)} are"
        can = ", ".join(f"{t.kind} {reach[t]:.2f}x" for t in self.targets)
        # Where time is at fault, the heaviest tensors are not what holds it.
        held = f" Held up by: {largest_kept(graph, least)}." if wrong[0].kind != "latency" else ""
        raise TargetError(
            f"{one} out of reach. The smallest network reaches: {can}.{held} {self._ways()}"
        )

    def reach(self, graph: ChannelGraph, widths: Mapping[str, int]) -> dict[Target, float]:
        """Return, for each target, how many times smaller or faster these widths are."""
        loads = self.loads(graph, widths)
        return {t: 1 / (t.fraction * max(load, 1e-12)) for t, load in loads.items()}

    def kill(
        self,
        graph: ChannelGraph,
        alive: Mapping[str, np.ndarray],
        value: Mapping[str, np.ndarray],
        allowed: float,
        frozen: frozenset[str] = frozenset(),
        keys: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, np.ndarray]:
        """Choose channels to remove until the cost is at most ``allowed`` (ours).

        Greedy by value per cost saved, where the value of a channel is divided by the width of its
        group (so that none is emptied), and its cost depends on the other widths.
        Near the end, choices that overshoot are avoided.

        Args:
            graph: groups and cost.
            alive: group name to bool (c,).
            value: group name to importance (c,), larger is better.
            allowed: load allowed now.
            frozen: groups that may not lose channels.
            keys: group name to float64 (c,) from an allocation: the lowest goes first, whatever its
                value and cost.

        Returns:
            Group name to the channels to kill (int64).
        """
        if keys is not None:
            return kill_in_order(self, graph, alive, keys, allowed, frozen)
        order = {
            n: [int(i) for i in np.argsort(v, kind="stable") if alive[n][i]]
            for n, v in value.items()
        }
        widths = {n: len(o) for n, o in order.items()}
        killed: dict[str, list[list[int]]] = {}  # group to blocks of channels, first killed first
        open_ = [n for n in graph.widths if n not in frozen]
        position = {n: i for i, n in enumerate(graph.widths)}

        def step(name: str, width: int) -> int:
            unit = self.unit(name)
            block = width % unit or unit
            return block if width - block >= self.floor(graph[name].size, unit) else 0

        def after(name: str, change: int) -> float:
            return self.load(graph, {**widths, name: widths[name] + change})

        def worth(name: str, channels: list[int], price: np.ndarray) -> float:
            # Valued by the share of the group: else the dearest group would go down to one channel,
            # through which everything must pass.
            saved = max(float(price[position[name]]) * len(channels), 1e-12)
            return float(value[name][channels].sum()) / widths[name] / saved

        cost = self.load(graph, widths)
        path: list[str] | None = None
        while cost > allowed:
            price = self.price(graph, widths)
            choices = sorted(
                (worth(n, order[n][:block], price), n)
                for n in open_ if (block := step(n, widths[n]))
            )  # fmt: skip
            if not choices:
                break
            name = choices[0][1]
            if cost <= _SEARCH * self.goal:
                ends = [(after(n, -step(n, widths[n])), n) for _, n in choices]
                if path is None and cost - max(ends)[0] > SLACK * self.goal / 2:
                    path = self._landing(graph, widths, open_, step, order, value)
                if allowed > self.goal and max(ends)[0] < (1 - SLACK) * self.goal:
                    break  # too coarse for this step of the schedule: the last one decides
                if path:
                    name = path.pop(0)
                elif cost <= 1.25 * allowed:
                    # The cheapest that does not overshoot, else the one that does least.
                    near = (n for end, n in ends if end >= (1 - SLACK) * allowed)
                    name = next(near, max(ends)[1])
            block = step(name, widths[name])
            killed.setdefault(name, []).append(order[name][:block])
            order[name] = order[name][block:]
            widths[name] -= block
            cost = self.load(graph, widths)
        # An overshoot may leave room for some that went earlier: the most valuable come back.
        while cost <= allowed:
            price = self.price(graph, widths)
            back = [
                (worth(n, blocks[-1], price), n) for n, blocks in killed.items()
                if blocks and after(n, len(blocks[-1])) <= allowed
            ]  # fmt: skip
            if not back:
                break
            name = max(back)[1]
            widths[name] += len(killed[name].pop())
        return {n: np.array(sum(b, []), np.int64) for n, b in killed.items() if b}

    def _landing(
        self,
        graph: ChannelGraph,
        widths: Mapping[str, int],
        names: Sequence[str],
        step: Callable[[str, int], int],
        order: Mapping[str, list[int]],
        value: Mapping[str, np.ndarray],
    ) -> list[str]:
        """Blocks are coarse: search for some that end at the goal."""
        return find_landing(
            {n: widths[n] for n in names},
            cost=lambda w: self.load(graph, {**widths, **w}),
            step=step,
            loss=lambda n, high, low: float(
                value[n][order[n][widths[n] - high : widths[n] - low]].sum() / high
            ),
            goal=self.goal,
        )


def _listed(targets: Sequence[Target]) -> str:
    return " and ".join(map(str, targets))


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
                atoms = None if factor is None else factor.atoms
                count *= n if atoms is None else int(alive[atoms].sum())
            sizes[name] = count
    worst = sorted(sizes, key=lambda n: -sizes[n])[:top]
    return ", ".join(f"{n} ({sizes[n]:,})" for n in worst)
