"""From targets to a budget: steps of widths, the cost table, and time fitted to real runs."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Container, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from gancompress.errors import ConfigError, TargetError
from gancompress.graph.groups import ChannelGraph, Cost
from gancompress.graph.plan import Plan
from gancompress.masks.budget import Budget
from gancompress.masks.importance import channel_norm
from gancompress.surgery.cut import cut
from gancompress.surgery.raw_tensors import raw_tensors
from gancompress.target import Given, Setting, Target, parse_targets
from gancompress.timing.kept import kept
from gancompress.timing.network import seconds_of, settled
from gancompress.timing.predicted import predicted, table_of
from gancompress.timing.stairs import stair_unit, units
from gancompress.timing.times import Times
from gancompress.timing.work import work_of

_ROUNDS = 6
_SHORT, _OVER = 0.99, 1.05  # of the speed-up asked for: what is near enough
_AIM = 1.02
_LANDED = 0.98
_NEAR = 1.1  # of the smallest network's seconds: as far as trials go


def budget_for(
    target: Given,
    original: Cost,
    graph: ChannelGraph,
    masked: Container[str],
    options: Mapping[str, Any],
    generator: nn.Module | None = None,
) -> Budget:
    """Return the budget of ``target``, checked against what the ``masked`` groups can give (ours).

    A latency target measures operators, and networks that are cut for trial, on this machine.

    Args:
        target: one target or several.
        original: cost before any cut.
        graph: of the network as it is now.
        masked: names of the groups that may lose channels.
        options: ``round_to`` (auto: measured, unless all targets are of parameters) and
            ``min_channels`` of `wrap`.
        generator: the plain original; needed for time.

    Raises:
        ConfigError: time without the original, or a device or engine that is not there.
        TargetError: a target is out of reach.
    """
    targets = parse_targets(target)
    timed = [t for t in targets if t.kind == "latency"]
    if timed and generator is None:
        raise ConfigError(
            f"target {timed[0]}: time is measured on the original network: give it to wrap()"
        )
    resolved = {t: replace(t, setting=settled(t.setting or Setting())) for t in timed}
    # Once more: two that were told apart by ``auto`` may be of one device.
    targets = parse_targets([resolved.get(t, t) for t in targets])
    steps, ragged = _steps(graph, targets, options["round_to"], generator)
    automatic = options["round_to"] == "auto"
    budget = Budget(
        targets[0],
        original,
        1 if automatic else options["round_to"],
        options["min_channels"],
        others=targets[1:],
        units=units(graph, steps) if automatic and steps > 1 else {},
    )
    whole = {n: s for n, s in graph.widths.items() if n not in masked}
    if sizes := [t for t in targets if t.kind != "latency"]:
        # Coarse steps may be out of reach where single channels are not.
        counted = replace(budget, target=sizes[0], others=tuple(sizes[1:]))
        replace(counted, units={}).check(graph, whole)
        if budget.units:
            steps_that_land = _landing_budget(generator, graph, counted, whole).units
            budget = replace(budget, units=steps_that_land)
    if not timed:
        return budget
    assert generator is not None
    times = {t: _times(graph, t, steps, ragged) for t in resolved.values()}
    return _fit(generator, graph, replace(budget, times=times), whole)


def _steps(
    graph: ChannelGraph, targets: tuple[Target, ...], round_to: int | str, generator: Any
) -> tuple[int, float]:
    settings = [t.setting for t in targets if t.setting is not None]
    if not settings:
        if round_to != "auto" or all(t.kind == "params" for t in targets) or generator is None:
            return 1, 1.0
        weight = next(generator.parameters(), None)
        device = "cpu" if weight is None else str(weight.device)
        settings = [Setting(device if device.startswith("cuda") else "cpu")]
    return stair_unit(graph, settings[0])


def _landing_budget(
    generator: nn.Module | None, graph: ChannelGraph, budget: Budget, whole: Mapping[str, int]
) -> Budget:
    """Return the budget with the coarsest steps that still land within 2 % of the target (ours)."""
    assert generator is not None
    while budget.units:
        with contextlib.suppress(TargetError):
            budget.check(graph, whole)
            keep = landed(generator, graph, budget, whole)
            if budget.load(graph, {n: len(k) for n, k in keep.items()}) >= _LANDED * budget.goal:
                return budget
        finer = {n: max(1, u // 2) for n, u in budget.units.items()}
        budget = replace(budget, units=finer if max(finer.values()) > 1 else {})
    return budget


def _times(graph: ChannelGraph, target: Target, unit: int, ragged: float) -> Times:
    assert target.setting is not None
    table = table_of(graph, target.setting, unit, ragged)
    full = predicted(graph, target.setting, table).seconds(graph.widths)
    return Times(target, table, full, target.fraction)


def _fit(
    generator: nn.Module, graph: ChannelGraph, budget: Budget, whole: Mapping[str, int]
) -> Budget:
    """Return the budget whose goals in the table's seconds meet the targets in real ones."""
    asked = f"{_signature(graph, budget)} {sorted(whole.items())} {list(map(str, budget.targets))}"
    first = next(iter(budget.times)).setting
    assert first is not None

    def measure() -> list[list[float]]:
        found = _measured(generator, graph, budget, whole)
        return [[t.fraction, t.before or 0.0, t.after or 0.0] for t in found]

    rows = kept(first, f"fit {hashlib.sha256(asked.encode()).hexdigest()}", measure)
    times = {
        target: own.fitted(*row)
        for (target, own), row in zip(_own(budget).items(), rows, strict=True)
    }
    return replace(budget, times=times)


def _own(budget: Budget) -> dict[Target, Times]:
    return {t: own for t, own in budget.times.items() if isinstance(own, Times)}


def _signature(graph: ChannelGraph, budget: Budget) -> str:
    """Return what decides how long a network takes: its operators and widths, not its weights."""
    return repr(
        (
            [
                (str(w.kind), len(w.reads), w.times)
                for t in budget.times
                if t.setting is not None
                for w in work_of(graph, t.setting.batch)
            ],
            graph.widths,
            graph.cost(),
            budget.round_to,
            budget.min_channels,
            dict(budget.units),
        )
    )


def landed(
    generator: nn.Module, graph: ChannelGraph, budget: Budget, whole: Container[str] = ()
) -> dict[str, list[int]]:
    """Return what each group keeps when the budget is met at once, by magnitude (ours)."""
    tensors = raw_tensors(generator)
    value = {g.name: channel_norm(g, tensors) for g in graph.groups}
    alive = {g.name: np.ones(g.size, bool) for g in graph.groups}
    fixed = frozenset(g.name for g in graph.groups if g.name in whole)
    gone = budget.kill(graph, alive, value, budget.goal, fixed)
    return {
        g.name: sorted({*range(g.size)} - {int(c) for c in gone.get(g.name, ())})
        for g in graph.groups
    }


def _measured(
    generator: nn.Module, graph: ChannelGraph, budget: Budget, whole: Mapping[str, int]
) -> list[Times]:
    """Cut for trial, time it against the original, move the goals; until all targets are met.

    Raises:
        TargetError: the smallest network is not fast enough, or none of the trials was.
    """
    known: dict[Target, list[tuple[float, float]]] = {t: [(1.0, 1.0)] for t in budget.times}
    fastest = dict.fromkeys(budget.times, 1.0)
    smallest = budget.least(graph, whole)
    least = {t: _NEAR * o.seconds(graph, smallest) / o.full for t, o in _own(budget).items()}
    budget = _moved(budget, {t: max(o.fraction, least[t]) for t, o in _own(budget).items()})
    for _ in range(_ROUNDS):
        keep = landed(generator, graph, budget, whole)
        widths = {n: len(k) for n, k in keep.items()}
        small = cut(generator, Plan.of(graph, keep))
        goals, times = {}, {}
        for target, own in _own(budget).items():
            before, after = _pair(generator, small, graph, own)
            share = own.seconds(graph, widths) / own.full
            known[target].append((share, after / before))
            times[target] = own.fitted(own.fraction, before, after)
            speed, wanted = before / after, 1 / target.fraction
            fastest[target] = max(fastest[target], speed)
            binding = share > 0.97 * own.fraction
            if speed < _SHORT * wanted and own.fraction <= least[target]:
                raise TargetError(_too_slow(budget, target, fastest))
            if speed < _SHORT * wanted or (binding and speed > _OVER * wanted):
                goals[target] = max(_goal(known[target], target.fraction / _AIM), least[target])
        budget = replace(budget, times=times)
        if not goals:
            return list(times.values())
        budget = _moved(budget, goals)
    # The last trials went back and forth around the goal: what was fast enough stays.
    for target in budget.times:
        if fastest[target] < 0.95 / target.fraction:
            raise TargetError(_too_slow(budget, target, fastest))
    return list(_own(_safest(budget, known)).values())


def _moved(budget: Budget, goals: Mapping[Target, float]) -> Budget:
    """Return ``budget`` with other shares of the table's seconds to reach."""
    times = {
        t: replace(own, fraction=goals.get(t, own.fraction)) for t, own in _own(budget).items()
    }
    return replace(budget, times=times)


def _pair(
    generator: nn.Module, small: nn.Module, graph: ChannelGraph, own: Times
) -> tuple[float, float]:
    before, after = seconds_of([generator, small], graph.example, graph.batch, own.setting)
    return before, after


def _goal(known: list[tuple[float, float]], wanted: float) -> float:
    """Return the share of the table's seconds at which ``wanted`` of the real ones are left.

    Between the nearest trials on both sides of it, else on the line from the whole network through
    the nearest; never far beyond what was tried.
    """
    slower = min((p for p in known if p[1] > wanted), key=lambda p: p[1], default=(1.0, 1.0))
    faster = max((p for p in known if p[1] <= wanted), key=lambda p: p[1], default=None)
    if faster is None:
        whole = (1.0, 1.0)
        (x, y), (u, v) = slower, whole if slower != whole else (0.0, 0.0)
    else:
        (x, y), (u, v) = slower, faster
    slope = (y - v) / (x - u) if abs(x - u) > 1e-9 else 1.0
    goal = x + (wanted - y) / slope if slope > 1e-3 else (x + u) / 2
    return min(max(goal, 0.4 * min(p[0] for p in known)), 1.0)


def _too_slow(budget: Budget, target: Target, fastest: Mapping[Target, float]) -> str:
    speed = fastest[target]
    others = [
        str(t)
        for t in budget.targets
        if t is not target and fastest.get(t, math.inf) >= _SHORT / t.fraction
    ]
    rest = f" The others can hold: {', '.join(others)}." if others else ""
    return (
        f"target {target} is out of reach: of the networks cut for trial the fastest took "
        f"1/{speed:.2f} of the time of the original.{rest} What is left is not arithmetic: "
        "starting operators, or moving memory. Ask for less, take a larger batch or another "
        "engine, or let more layers take part"
    )


def _safest(budget: Budget, known: Mapping[Target, list[tuple[float, float]]]) -> Budget:
    """Return the budget with, for each target, the slowest trial that was fast enough."""
    times = {}
    for target, own in _own(budget).items():
        enough = [p for p in known[target] if p[1] <= target.fraction / 0.95]
        share, left = max(enough)
        times[target] = own.fitted(share, own.before or 1.0, left * (own.before or 1.0))
    return replace(budget, times=times)
