"""Which groups get a mask: include and exclude patterns."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence

from gancompress.errors import ConfigError, closest
from gancompress.graph.groups import ChannelGraph
from gancompress.graph.layers import layers_of


def choose_groups(
    graph: ChannelGraph, include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> set[str]:
    """Return the names of the groups to mask (ours).

    A pattern names a group, a layer (it stands for the channels that it writes or carries, not for
    those it reads), or a module (for all layers in it).

    Args:
        graph: the channel groups.
        include: glob patterns; empty means all.
        exclude: patterns of what is kept whole; wins over ``include``.

    Raises:
        ConfigError: a pattern matches nothing (the nearest name is in the message), or nothing is
            left to mask.
    """
    names = {g.name: {g.name, *layers_of(graph, g)} for g in graph.groups}
    known = {n for each in names.values() for n in each}
    # What cannot lose channels anyway may be excluded, but not included.
    ran = known | set(graph.outputs)
    for kind, patterns, among in (("include", include, known), ("exclude", exclude, ran)):
        for pattern in patterns:
            if not _any_match(among, (pattern,)):
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
    return any(
        fnmatch.fnmatchcase(n, p) or fnmatch.fnmatchcase(n, f"{p}.*")
        for n in names
        for p in patterns
    )
