"""Names to plug-ins: recipes hold registry names, never Python paths."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from gancompress.errors import ConfigError, closest

T = TypeVar("T", bound=Callable[..., Any])


class Registry:
    """A table of callables of one ``kind`` (say ``"penalty"``), filled by a decorator (ours)."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Callable[..., Any]] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that files its function or class under ``name``.

        Raises:
            ValueError: the name is taken.
        """

        def add(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._entries[name] = entry
            return entry

        return add

    def get(self, name: str) -> Callable[..., Any]:
        """Return the entry called ``name``.

        Raises:
            ConfigError: no such entry; the nearest name is in the message.
        """
        if name not in self._entries:
            raise ConfigError(f"no {self.kind} named {name!r}.{closest(name, self._entries)}")
        return self._entries[name]

    def names(self) -> list[str]:
        """Return all names, sorted."""
        return sorted(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())
