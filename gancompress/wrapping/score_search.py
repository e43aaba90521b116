"""Widths by a score of the user's own: what each group's channels are worth to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from gancompress.errors import ConfigError
from gancompress.graph.plan import Plan
from gancompress.masks.mask import ChannelMask
from gancompress.target import Target
from gancompress.wrapping.handle import Masked


@dataclass(frozen=True)
class Found:
    """What `search` found (ours).

    Attributes:
        plan: to give to `Masked.prune`.
        score: of the uncut generator.
        curves: by group, widths with the score of the generator that is narrow there alone, the
            widest first.
        calls: how often the score was asked.
    """

    plan: Plan
    score: float
    curves: Mapping[str, tuple[tuple[int, float], ...]]
    calls: int


def search(
    masked: Masked,
    score: Callable[[nn.Module], float],
    target: str | Target,
    *,
    levels: int = 6,
) -> Found:
    """Return the plan at ``target`` that should cost ``score`` least (after FastNAS of ModelOpt).

    Each group is narrowed alone to ``levels`` widths, without a cut, and the score asked. What one
    channel costs is the slope of that curve, which is taken not to fall as the group gets narrower;
    channels go by the least loss for the cost they save, until the target is met. That losses of
    several groups add up is an assumption. Within a group the importance that ``masked`` was made
    with says who goes.

    Args:
        masked: handle of a wrapped generator; its masks are as before afterwards.
        score: takes the generator, returns a number; larger is better. It must not train it.
        target: as for `wrap`.
        levels: widths tried for each group, so that the score is asked once more than groups times
            levels.

    Raises:
        ConfigError: ``levels`` is below 1, or the score is no finite number.
        TargetError: the target is out of reach.
    """
    if levels < 1:
        raise ConfigError(f"levels={levels} must be at least 1")
    graph = masked.graph
    budget = masked.budget_of(target)
    values, calls = masked.importance(), 1
    base = _asked(score, masked.generator, "uncut")
    price = dict(zip(graph.widths, graph.marginal(graph.widths, budget.target.kind), strict=True))
    curves: dict[str, tuple[tuple[int, float], ...]] = {}
    keys: dict[str, np.ndarray] = {}
    for name, mask in masked.masks.items():
        order = np.argsort(np.where(mask.alive.cpu().numpy(), values[name], -np.inf))[::-1]
        curve = [(mask.size, base)]
        for level in range(1, levels + 1):
            width = max(round(mask.size * (1 - level / levels)), budget.floor(mask.size))
            if width == curve[-1][0]:
                continue
            curve.append((width, _narrowed(score, masked.generator, mask, order[:width])))
            calls += 1
        curves[name] = tuple(curve)
        keys[name] = _keys(order, curve, max(float(price[name]), 1e-12))
    alive = {g.name: np.ones(g.size, bool) for g in graph.groups}
    alive |= {n: m.alive.cpu().numpy() for n, m in masked.masks.items()}
    killed = budget.kill(graph, alive, values, budget.goal, keys=keys)
    keep = {
        n: sorted({*np.flatnonzero(alive[n]).tolist()} - {*killed.get(n, np.array([])).tolist()})
        for n in masked.masks
    }
    plan = Plan.of(graph, keep, relative=masked.history is not None)
    return Found(plan, base, curves, calls)


def _asked(score: Callable[[nn.Module], float], generator: nn.Module, where: str) -> float:
    found = float(score(generator))
    if not np.isfinite(found):
        raise ConfigError(
            f"search: the score of the generator ({where}) is {found}; it must be a finite number"
        )
    return found


def _narrowed(
    score: Callable[[nn.Module], float], generator: nn.Module, mask: ChannelMask, kept: np.ndarray
) -> float:
    open_ = torch.zeros_like(mask.alive)
    open_[torch.from_numpy(kept.copy())] = True
    mask.narrow(open_)
    try:
        return _asked(score, generator, f"{mask.name} at {len(kept)} channels")
    finally:
        mask.narrow(None)


def _keys(order: np.ndarray, curve: list[tuple[int, float]], price: float) -> np.ndarray:
    """Return for each channel the loss for the cost that it saves, rising towards the last ones."""
    keys = np.full(len(order), np.inf)  # what was never closed goes last
    slope = 0.0
    for (wide, before), (narrow, after) in zip(curve, curve[1:], strict=False):
        slope = max(slope, (before - after) / (wide - narrow))
        # Among equals the less important first, by a hair.
        place = (len(order) - np.arange(narrow, wide)) * 1e-9
        keys[order[narrow:wide]] = slope / price + place
    return keys
