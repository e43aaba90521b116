"""Widths by a score of the user's own: what each group's channels are worth to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from gancompress.errors import ConfigError
from gancompress.graph.plan import Plan
from gancompress.masks.budget import Budget
from gancompress.target import Target
from gancompress.wrapping.handle import Masked
from gancompress.wrapping.widths import scaled

UNCUT = "uncut"
SPREAD = 0.2  # of the logarithm of a width, from the best networks to what is tried beside them


@dataclass(frozen=True)
class Found:
    """What `search` found (ours).

    Attributes:
        plan: to give to `Masked.prune`.
        score: of the uncut generator.
        curves: by group, widths with the score of the generator that is narrow there alone, the
            widest first.
        calls: of how many networks the score was asked.
        plan_score: of the plan; ``None`` where no network at the target was asked (no ``budget``).
        first_score: likewise of the plan that the curves alone lead to.
    """

    plan: Plan
    score: float
    curves: Mapping[str, tuple[tuple[int, float], ...]]
    calls: int
    plan_score: float | None = None
    first_score: float | None = None


def search(
    masked: Masked,
    score: Callable[[nn.Module], float],
    target: str | Target | None = None,
    *,
    levels: int = 6,
    budget: int | None = None,
    seed: int = 0,
    known: MutableMapping[str, float] | None = None,
) -> Found:
    """Return the plan at ``target`` that should cost ``score`` least (after FastNAS of ModelOpt).

    Each group is narrowed alone to ``levels`` widths, without a cut, and the score asked. What one
    channel costs is the slope of that curve, which is taken not to fall as the group gets narrower;
    channels go by the least loss for the cost they save, until the target is met. That losses of
    several groups add up is an assumption. Within a group the importance that ``masked`` was made
    with says who goes.

    With a ``budget`` the assumption is put to the test: what is left of it goes to networks at the
    target, first the one that the curves lead to, then others whose widths are near the best so
    far; the best of them is returned (ours).

    Args:
        masked: handle of a wrapped generator; its masks are as before afterwards.
        score: takes the generator, returns a number; larger is better. It must not train it.
        target: as for `wrap`; ``None``: the one given to `wrap`.
        levels: widths tried for each group; fewer where ``budget`` does not suffice.
        budget: networks that the score is asked of at most.
        seed: of the widths that are tried near the best.
        known: scores of networks by name, looked up before asking and written to after it: a
            search that goes on asks for nothing twice.

    Raises:
        ConfigError: ``levels`` is below 1, the budget does not suffice for one width of each group,
            there is no target, or the score is no finite number.
        TargetError: the target is out of reach.
    """
    groups, levels = len(masked.masks), _checked_levels(len(masked.masks), levels, budget)
    load = masked.budget if target is None else masked.budget_of(target)
    if load is None:
        raise ConfigError("search needs a target: give it here or to wrap()")
    asker = _Asker(masked, score, {} if known is None else known)
    base = asker({})
    curves = {name: _curve(asker, load, name, levels) for name in masked.masks}
    widths = _by_curves(asker, load, curves)
    best: float | None = None
    first: float | None = None
    if budget is not None:
        first = best = asker(widths)
        for trial in range(max(0, budget - asker.calls)):
            rng = np.random.default_rng([seed, trial])
            noise = np.exp(rng.normal(0, SPREAD, groups))
            shares = {n: w / masked.masks[n].size for n, w in widths.items()}
            shares = {n: s * float(f) for (n, s), f in zip(shares.items(), noise, strict=True)}
            other = scaled(masked, load, shares)
            if load.load(masked.graph, {**masked.graph.widths, **other}) > load.goal:
                continue
            value = asker(other)
            if value > best:
                best, widths = value, other
    keep = {n: asker.kept(n, w) for n, w in widths.items()}
    plan = Plan.of(masked.graph, keep, relative=masked.history is not None)
    return Found(plan, base, curves, asker.calls, best, first)


@dataclass
class _Asker:
    """Asks for the score at given widths, each network once; the masks are as before afterwards."""

    masked: Masked
    score: Callable[[nn.Module], float]
    known: MutableMapping[str, float]
    names: set[str] = field(default_factory=set[str])

    def __post_init__(self) -> None:
        values = self.masked.importance()
        self.alive = {n: m.alive.cpu().numpy() for n, m in self.masked.masks.items()}
        self.order = {
            n: np.argsort(np.where(self.alive[n], v, -np.inf))[::-1] for n, v in values.items()
        }
        self.values = values

    @property
    def calls(self) -> int:
        """How many networks were asked for."""
        return len(self.names)

    def kept(self, name: str, width: int) -> list[int]:
        """Return the channels that a group of this width keeps."""
        return sorted(i for i in self.order[name][:width].tolist() if self.alive[name][i])

    def __call__(self, widths: Mapping[str, int]) -> float:
        masks = self.masked.masks
        narrow = {n: w for n, w in widths.items() if w < masks[n].size}
        name = " ".join(f"{n}={w}" for n, w in sorted(narrow.items())) or UNCUT
        self.names.add(name)
        if name not in self.known:
            try:
                for group, width in narrow.items():
                    open_ = torch.zeros_like(masks[group].alive)
                    open_[torch.from_numpy(self.order[group][:width].copy())] = True
                    masks[group].narrow(open_)
                found = float(self.score(self.masked.generator))
            finally:
                for mask in masks.values():
                    mask.narrow(None)
            if not np.isfinite(found):
                raise ConfigError(
                    f"search: the score of the generator ({_where(narrow)}) is {found}; it must be "
                    "a finite number"
                )
            self.known[name] = found
        return self.known[name]


def _where(narrow: Mapping[str, int]) -> str:
    if not narrow:
        return UNCUT
    if len(narrow) > 1:
        return f"{len(narrow)} groups narrowed"
    ((name, width),) = narrow.items()
    return f"{name} at {width} channels"


def _checked_levels(groups: int, levels: int, budget: int | None) -> int:
    if levels < 1:
        raise ConfigError(f"levels={levels} must be at least 1")
    if budget is None:
        return levels
    if budget < groups + 2:
        raise ConfigError(
            f"search: budget={budget} does not suffice: {groups} groups need {groups + 2} networks "
            "at least, the uncut one, one a group, and the one that is found"
        )
    return min(levels, (budget - 2) // groups)


def _curve(asker: _Asker, budget: Budget, name: str, levels: int) -> tuple[tuple[int, float], ...]:
    """Return widths of one group with the score of the generator that is narrow there alone."""
    size = asker.masked.masks[name].size
    curve = [(size, asker({}))]
    for level in range(1, levels + 1):
        width = max(round(size * (1 - level / levels)), budget.floor(size, budget.unit(name)))
        if width != curve[-1][0]:
            curve.append((width, asker({name: width})))
    return tuple(curve)


def _by_curves(
    asker: _Asker, budget: Budget, curves: Mapping[str, Sequence[tuple[int, float]]]
) -> dict[str, int]:
    """Return the widths at the target that lose least if losses add up."""
    graph, masks = asker.masked.graph, asker.masked.masks
    price = dict(zip(graph.widths, budget.price(graph, graph.widths), strict=True))
    keys = {n: _keys(asker.order[n], c, max(float(price[n]), 1e-12)) for n, c in curves.items()}
    alive = {g.name: np.ones(g.size, bool) for g in graph.groups} | asker.alive
    killed = budget.kill(graph, alive, asker.values, budget.goal, keys=keys)
    return {n: int(asker.alive[n].sum()) - len(killed.get(n, ())) for n in masks}


def _keys(order: np.ndarray, curve: Sequence[tuple[int, float]], price: float) -> np.ndarray:
    """Return for each channel the loss for the cost that it saves, rising towards the last ones."""
    keys = np.full(len(order), np.inf)  # what was never closed goes last
    slope = 0.0
    for (wide, before), (narrow, after) in zip(curve, curve[1:], strict=False):
        slope = max(slope, (before - after) / (wide - narrow))
        # Among equals the less important first, by a hair.
        place = (len(order) - np.arange(narrow, wide)) * 1e-9
        keys[order[narrow:wide]] = slope / price + place
    return keys
