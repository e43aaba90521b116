"""The last blocks before the goal: a small search, so that rounded widths land on it as well."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

BEAM, DEPTH = 32, 14
SLACK = 0.01  # half of the 2 % that users are promised


def find_landing(
    widths: Mapping[str, int],
    *,
    cost: Callable[[Mapping[str, int]], float],
    step: Callable[[str, int], int],
    loss: Callable[[str, int, int], float],
    goal: float,
) -> list[str]:
    """Find blocks of channels whose removal ends at or just below ``goal`` (ours; beam search).

    Of the ends at most 1 % below it the one that loses least value; if there is none, the nearest.

    Args:
        widths: channels of each group that may lose some.
        cost: cost at given widths of these groups.
        step: size of the next block of a group at a width; 0 when it may lose no more.
        loss: value of the channels that a group loses from one width to another.
        goal: cost to reach.

    Returns:
        The groups to take a block from, cheapest first, at least in value; empty when no end is
        within reach of the search.
    """
    beam: list[tuple[float, float, dict[str, int], list[str]]] = [(0.0, 0.0, dict(widths), [])]
    start, best = cost(widths), (float("inf"), 0.0, list[str]())
    for _ in range(DEPTH):
        reached: dict[tuple[int, ...], tuple[float, float, dict[str, int], list[str]]] = {}
        for _, lost, state, path in beam:
            for name, width in state.items():
                block = step(name, width)
                if not block:
                    continue
                after = {**state, name: width - block}
                key = tuple(after.values())
                if key in reached:
                    continue
                end, total = cost(after), lost + loss(name, width, width - block)
                if end <= goal:
                    off = max((1 - SLACK) * goal - end, 0.0)
                    best = min(best, (off, total, [*path, name]))
                else:
                    rate = total / max(start - end, 1e-12)
                    reached[key] = (rate, total, after, [*path, name])
        beam = sorted(reached.values(), key=lambda s: (s[0], s[3]))[:BEAM]
        if not beam:
            break
    return _cheapest_first(best[2], widths, step, loss)


def _cheapest_first(
    path: Sequence[str],
    widths: Mapping[str, int],
    step: Callable[[str, int], int],
    loss: Callable[[str, int, int], float],
) -> list[str]:
    """Order blocks by value lost; the blocks of one group keep their order anyway."""
    now, found = dict(widths), []
    for name in path:
        block = step(name, now[name])
        found.append((loss(name, now[name], now[name] - block), name))
        now[name] -= block
    return [name for _, name in sorted(found)]
