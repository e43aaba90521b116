"""Which groups get a mask: include and exclude patterns."""

from __future__ import annotations

import fnmatch
import glob
from collections.abc import Iterable, Mapping, Sequence

from torch import nn

from gancompress.errors import ConfigError, closest
from gancompress.graph.groups import ChannelGraph
from gancompress.graph.layers import layers_of


def patterns_of(
    generator: nn.Module, given: Sequence[str | nn.Module], name: str
) -> tuple[str, ...]:
    """Return ``given`` as patterns: a module of ``generator`` becomes its path.

    Raises:
        ConfigError: it is no sequence of patterns and modules, or a module is not in ``generator``.
    """
    if isinstance(given, str) or not isinstance(given, Iterable) or isinstance(given, nn.Module):
        shown = repr(given) if isinstance(given, str) else "module"
        raise ConfigError(f"{name}={shown} must be a tuple of patterns: ({shown},)")
    paths = {id(module): path for path, module in generator.named_modules()}
    found: list[str] = []
    for one in given:
        path = one if isinstance(one, str) else paths.get(id(one))
        if not path:
            what = type(one).__name__
            if path is None and isinstance(one, nn.Module):
                what += " that is not part of the generator"
            elif path == "":
                what = f"{what}, the generator itself" if not isinstance(one, str) else "empty text"
            raise ConfigError(
                f"{name} holds a {what}; give names of layers as in named_modules(), patterns such "
                "as 'to_rgb.*', or modules of the generator"
            )
        found.append(glob.escape(path) if not isinstance(one, str) else path)
    return tuple(found)


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


def counted(graph: ChannelGraph, counts: Mapping[str, int]) -> dict[str, int]:
    """Return by group how many channels stay, of patterns as in `choose_groups`; the first counts.

    Raises:
        ConfigError: a pattern matches nothing, or a group has not so many channels.
    """
    found: dict[str, int] = {}
    for pattern, count in counts.items():
        for name in choose_groups(graph, (pattern,)):
            size = graph[name].size
            if not 1 <= count <= size:
                raise ConfigError(f"{pattern!r} cannot keep {count} of {size} channels of {name}")
            found.setdefault(name, count)
    return found


def _any_match(names: Iterable[str], patterns: Sequence[str]) -> bool:
    return any(
        fnmatch.fnmatchcase(n, p) or fnmatch.fnmatchcase(n, f"{p}.*")
        for n in names
        for p in patterns
    )
