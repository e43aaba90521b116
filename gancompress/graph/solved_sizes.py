"""After a cut: the numbers in Python that make every size right again."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from fractions import Fraction
from typing import Any

from gancompress.graph.sizes import SizeUse, by_width
from gancompress.graph.traced_int import AttributeKey, Env


def solve_attributes(
    uses: Sequence[SizeUse],
    old: Env,
    count: Callable[[Any], int],
    follow: Set[AttributeKey] = frozenset(),
) -> dict[AttributeKey, int]:
    """Return new attribute values that make every expression equal its dimension's new size.

    Those that alone fix an expression come first. An attribute whose uses contradict each other
    keeps its value; the probe then names the groups.
    """
    env: dict[AttributeKey, int] = dict(old)
    left = by_width({k for u in uses for k in u.value.attributes}, old, follow)
    while left:
        # Of ``self.half`` and ``self.c - self.half`` the first says what the second leaves over.
        open_keys = [u.value.attributes & set(left) for u in uses]
        ready = [k for k in left if frozenset({k}) in open_keys]
        key = (ready or left)[0]
        mine = [
            u for u, open_in in zip(uses, open_keys, strict=True)
            if key in open_in and (not ready or len(open_in) == 1)
        ]  # fmt: skip
        left.remove(key)
        env[key] = _solved(key, mine, env, old, count)
    return {k: v for k, v in env.items() if v != old[k]}


def _solved(
    key: AttributeKey,
    uses: Sequence[SizeUse],
    env: Env,
    old: Env,
    count: Callable[[Any], int],
) -> int:
    """Return the value of one attribute that makes all of ``uses`` right; its own if none does."""
    demands = [u.demand(count) for u in uses]
    # What is in proportion stays so: the next cut can follow it again. Most are the size itself;
    # the rest are searched for.
    shares = (Fraction(old[key] * u.expected(count), u.value.at(old) or 1) for u in uses)
    likely = [int(s) for s in shares if s.denominator == 1 and 0 < s <= old[key]]
    for candidate in (env[key], *likely, *range(old[key], 0, -1)):
        trial = {**env, key: candidate}
        if all(met(trial) for met in demands):
            return candidate
    return env[key]
