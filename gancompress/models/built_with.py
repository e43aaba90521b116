"""What a reference network was built with, kept on it, so that a file can build it again."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import nn

from gancompress.errors import ConfigError

_ATTRIBUTE = "_gancompress_built"

HOMES = {
    "BigGANGenerator": "gancompress.models.biggan",
    "HiFiGANGenerator": "gancompress.models.hifigan",
    "RRDBNet": "gancompress.models.superres",
    "ResnetGenerator": "gancompress.models.translation",
    "SPADEGenerator": "gancompress.models.spade",
    "SRVGGNetCompact": "gancompress.models.superres",
    "UnetGenerator": "gancompress.models.translation",
}
"""Generators that a file may name: no other code is ever imported because of a file."""

CONFIGS = {
    "BigGANGenerator": "BigGANConfig",
    "HiFiGANGenerator": "HiFiGANConfig",
    "SPADEGenerator": "SPADEConfig",
}
Network = TypeVar("Network", bound=type[nn.Module])


class BuiltWith:
    """Class name and JSON-ready arguments of a network (ours).

    It never changes, so copies of a module share it; a pickle of the module leaves it out.
    """

    def __init__(self, name: str, arguments: Mapping[str, Any]) -> None:
        self.name = name
        self.arguments = dict(arguments)

    def __copy__(self) -> BuiltWith:
        return self  # what copies to itself is no config whose numbers a cut may follow

    def __deepcopy__(self, memo: dict[int, Any]) -> BuiltWith:
        return self

    def __reduce__(self) -> Any:
        return (tuple, ())


def remembered(kind: Network) -> Network:
    """Let each object of the class ``kind`` remember what it was built with."""
    original: Callable[..., None] = kind.__init__
    names = inspect.signature(original)

    @functools.wraps(original)
    def __init__(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if type(self) is kind:
            given = names.bind(self, *args, **kwargs).arguments
            values = {k: _plain(v) for k, v in given.items() if k != "self"}
            vars(self)[_ATTRIBUTE] = BuiltWith(kind.__name__, values)

    kind.__init__ = __init__  # type: ignore[method-assign]
    return kind


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def built_with(module: nn.Module) -> BuiltWith | None:
    """Return what a reference network was built with; ``None`` for any other module."""
    found = vars(module).get(_ATTRIBUTE)
    return found if isinstance(found, BuiltWith) and found.name == type(module).__name__ else None


def build_again(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Return a network of the class ``name`` in `HOMES`, at its original size.

    Raises:
        ConfigError: there is no such class, or these are no arguments of it.
    """
    if name not in HOMES:
        raise ConfigError(f"no generator {name!r} comes with gancompress: {', '.join(HOMES)}")
    home = importlib.import_module(HOMES[name])
    values = dict(arguments)
    try:
        if name in CONFIGS and isinstance(values.get("config"), Mapping):
            config = getattr(home, CONFIGS[name])
            values["config"] = config(**{k: _frozen(v) for k, v in values["config"].items()})
        return getattr(home, name)(**values)
    except TypeError as error:
        raise ConfigError(f"{name} cannot be built with {values}: {error}") from error


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, list) else value
