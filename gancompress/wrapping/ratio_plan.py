"""A plan by ratios or by count: of every group, of single layers, of attention heads."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gancompress.errors import ConfigError
from gancompress.graph.plan import Plan
from gancompress.masks.choose import choose_groups, counted
from gancompress.wrapping.handle import Masked


def ratio_plan(
    masked: Masked,
    ratios: float | Mapping[str, float],
    *,
    counts: Mapping[str, int] | None = None,
    other: float = 0.0,
    round_to: int = 1,
) -> Plan:
    """Return the plan that takes the given share of channels out of each group, without a target.

    What torch-pruning does by ``pruning_ratio`` and ``pruning_ratio_dict``. The importance that
    ``masked`` was made with says which channels go; one at least stays. Give it to `Masked.prune`.

    ``counts`` says how many stay instead. Where whole heads of an attention go together, its
    queries, keys and values are a group with one channel a head, so that
    ``counts={"attn.q": 4}`` leaves 4 heads (see `ChannelGraph.group_of`).

    Args:
        masked: handle of a wrapped generator.
        ratios: removed share of every group, in [0, 1); or pattern (as in `wrap`) to share, the
            first that matches counts.
        counts: pattern to the channels that stay, at least 1; wins over a ratio.
        other: share of the groups that no pattern matches.
        round_to: widths become multiples of this, rounded up; groups smaller than it stay whole.

    Raises:
        ConfigError: a ratio outside [0, 1), a count that a group has not, or a pattern that matches
            nothing.
    """
    given = {"*": ratios} if isinstance(ratios, int | float) else dict(ratios)
    for ratio in (*given.values(), other):
        if not 0 <= ratio < 1:
            raise ConfigError(f"pruning ratio {ratio} must be at least 0 and below 1")
    if round_to < 1:
        raise ConfigError(f"round_to={round_to} must be at least 1")
    matched = {p: choose_groups(masked.graph, () if p == "*" else (p,)) for p in given}
    stay = counted(masked.graph, counts or {})
    keep: dict[str, list[int]] = {}
    for name, values in masked.importance().items():
        ratio = next((given[p] for p, names in matched.items() if name in names), other)
        # Counted from what goes, with a hair: 0.3 of 10 channels are 3, not 2.
        width = len(values) - int(len(values) * ratio + 1e-9)
        width = min(len(values), max(1, -(-width // round_to) * round_to))
        width = stay.get(name, width)
        alive = masked.masks[name].alive.cpu().numpy()
        order = np.argsort(np.where(alive, values, -np.inf), kind="stable")[::-1]
        keep[name] = sorted(order[: min(width, int(alive.sum()))].tolist())
    return Plan.of(masked.graph, keep, relative=masked.history is not None)
