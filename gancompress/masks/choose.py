"""Which groups get a mask: include and exclude patterns."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence

from gancompress.errors import ConfigError, closest
from gancompress.graph.groups import ChannelGraph


def choose_groups(
    graph: ChannelGraph, include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> set[str]:
    """Return the names of the groups to mask (ours).

    Args:
        graph: the channel groups.
        include: glob patterns of groups, or of layers that hold their channels; empty means all.
        exclude: patterns of what is kept whole; wins over ``include``.

    Raises:
        ConfigError: a pattern matches nothing (the nearest name is in the message), or nothing is
            left to mask.
    """
    # A root that owns parameters has no path: its parameters are named themselves.
    names = {
        g.name: {g.name, *(n.rpartition(".")[0] or n for n, _ in g.slots)} for g in graph.groups
    }
    known = {n for each in names.values() for n in each}
    for kind, patterns in (("include", include), ("exclude", exclude)):
        for pattern in patterns:
            if not _any_match(known, (pattern,)):
                raise ConfigError(
                    f"{kind}={pattern!r} matches no prunable layer.{closest(pattern, known)}"
                )
    chosen = {
        group for group, each in names.items()
        if (not include or _any_match(each, include)) and not _any_match(each, exclude)
    }  # fmt: skip
    if not chosen:
        raise ConfigError(
            f"include={list(include)} and exclude={list(exclude)} leave no group to mask"
        )
    return chosen


def _any_match(names: Iterable[str], patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(n, p) for n in names for p in patterns)
