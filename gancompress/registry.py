"""Names to plug-ins: recipes hold registry names, never Python paths."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from gancompress.errors import ConfigError, closest
from gancompress.plugins.loading import load_installed_plugins
from gancompress.plugins.options import Option, declared, read_options
from gancompress.plugins.sources import Registration, modules_in, registrations

T = TypeVar("T", bound=Callable[..., Any])
Spec = Any
"""A plug-in as it is asked for: a name, ``{"name": ..., option: value}``, an object with ``name``
and ``options`` (an entry of a recipe), or the callable itself."""


class Registry:
    """All plug-ins of one ``kind`` (say ``"penalty"``), found in the folder of that kind (ours).

    A plug-in is a function or class with ``@REGISTRY.register("name")`` over it, in a module of
    ``package``, in a module that the user loads (`load_plugin`), or in one that an installed
    package announces. No list is kept: the folder is read when a name is asked for, and only the
    module that holds it is imported.

    What follows the arguments ``given`` in its signature are its options, with annotations and
    defaults. `bind` checks and fixes them, and is what the run calls; `faults` is the same check
    without the run.

    Args:
        kind: in words, for messages.
        package: dotted name of the folder of this kind; all its modules belong to it.
        around: a wider package, of which the modules that register into ``symbol`` count too.
        symbol: the variable that holds this registry where plug-ins import it, so that names are
            read from the source; without it the folder is imported to know them.
        given: names of the arguments with which a plug-in is called.
        factory: a plug-in is called once, and returns what does the work; otherwise it does the
            work itself (a class is made with its options first).
        facts: what a registration may say beside the name, with the default.
        reserved: keys that stand beside the options in a recipe, and cannot be options.
    """

    def __init__(
        self,
        kind: str,
        package: str | None = None,
        *,
        around: str | None = None,
        symbol: str | None = None,
        given: Sequence[str] = (),
        factory: bool = False,
        facts: Mapping[str, Any] | None = None,
        reserved: Sequence[str] = (),
    ) -> None:
        self.kind = kind
        self.package, self.around, self.symbol = package, around, symbol
        self.given, self.factory = tuple(given), factory
        self.reserved = ("name", *reserved)
        self._defaults = dict(facts or {})
        self._facts: dict[str, dict[str, Any]] = {}
        self._entries: dict[str, Callable[..., Any]] = {}
        self._options: dict[str, dict[str, Option]] = {}
        self._checks: dict[str, Callable[..., Any] | None] = {}

    # -- filling ---------------------------------------------------------------------------------
    def register(
        self, name: str, *, check: Callable[..., Any] | None = None, **facts: Any
    ) -> Callable[[T], T]:
        """Return a decorator that files its function or class under ``name``.

        Args:
            name: as recipes write it.
            check: called with all options by name, defaults included, once each of them is of its
                type; raises ConfigError where they do not go together.
            facts: what this kind's registrations may say beside the name.

        Raises:
            ValueError: the name is taken, the signature cannot be called or checked, or a fact is
                not one of this kind.
        """
        unknown = set(facts) - set(self._defaults)
        if unknown:
            raise ValueError(f"a {self.kind} has no {', '.join(sorted(unknown))}")

        def add(entry: T) -> T:
            taken = self._entries.get(name)
            shipped = self._shipped().get(name)
            # The same place again is a reload, or a cell of a notebook that is run twice.
            if taken is not None and _place(taken) != _place(entry):
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            if shipped is not None and shipped.module != getattr(entry, "__module__", None):
                raise ValueError(
                    f"{self.kind} {name!r} is registered twice: {shipped.module} has one of that "
                    "name; choose another"
                )
            try:
                options = declared(entry, self._called_with(isinstance(entry, type)))
            except ValueError as error:
                raise ValueError(f"{self.kind} {name!r}: {error}") from error
            clash = [o for o in options if o in self.reserved]
            if clash:
                raise ValueError(f"{self.kind} {name!r}: no option can be called {clash[0]!r}")
            self._entries[name], self._options[name] = entry, options
            self._facts[name], self._checks[name] = {**self._defaults, **facts}, check
            return entry

        return add

    # -- finding ---------------------------------------------------------------------------------
    def get(self, name: str) -> Callable[..., Any]:
        """Return the entry called ``name``, importing the module that holds it.

        Raises:
            ConfigError: no such entry; the nearest name is in the message.
        """
        if name not in self._entries and name in self._shipped():
            importlib.import_module(self._shipped()[name].module)
        if name not in self._entries:
            self._load_all()
        if name not in self._entries:
            raise ConfigError(self.unknown(name))
        return self._entries[name]

    def unknown(self, name: str) -> str:
        """Return the message for a ``name`` that there is not."""
        return (
            f"no {self.kind} named {name!r}.{closest(name, self._entries)} "
            "(One of your own is loaded with --plugin MODULE.)"
        )

    def names(self) -> list[str]:
        """Return all names, sorted; imports the folder and installed plug-ins."""
        self._load_all()
        return sorted(self._entries)

    def known(self) -> list[str]:
        """Return the names that the source shows and those loaded by now; imports nothing."""
        return sorted({*self._entries, *self._shipped()})

    def __contains__(self, name: object) -> bool:
        if name in self._entries or name in self._shipped():
            return True
        self._load_all()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def _shipped(self) -> dict[str, Registration]:
        """Return what the source registers here, by name; nothing is imported."""
        rooms = [] if self.symbol is None else [r for r in (self.package, self.around) if r]
        return {
            one.name: one
            for room in rooms
            for found in registrations(room).values()
            for one in found
            if one.symbol == self.symbol
        }

    def _load_all(self) -> None:
        modules = set(modules_in(self.package)) if self.package else set[str]()
        modules |= {one.module for one in self._shipped().values()}
        for module in sorted(modules):
            importlib.import_module(module)
        load_installed_plugins()

    # -- options ---------------------------------------------------------------------------------
    def options(self, name: str) -> dict[str, Option]:
        """Return the options of ``name``, by name, as its signature declares them."""
        self.get(name)
        return self._options[name]

    def faults(self, spec: Spec) -> list[tuple[str, str]]:
        """Return everything wrong with ``spec`` as (key, message); empty where `bind` succeeds.

        A plug-in without options that needs none is not imported for that.
        """
        if _is_plugin(spec):
            return []
        name, values = _split(spec)
        if not values and name not in self._entries:
            shipped = self._shipped().get(name)
            if shipped is not None and shipped.needs == len(self._called_with(shipped.is_class)):
                return []
        if name not in self:
            return [("name", self.unknown(name))]
        read, faults = self._read(name, values)
        if not faults and isinstance(self.get(name), type) and not self.factory:
            try:
                self.get(name)(**read)
            except ConfigError as error:
                faults.append(("name", str(error)))
        return faults

    def bind(self, spec: Spec) -> Callable[..., Any]:
        """Return the plug-in that ``spec`` asks for, its options fixed: called with `given` only.

        Raises:
            ConfigError: unknown name, or every fault of its options at once.
        """
        if _is_plugin(spec):
            return spec  # the caller's own, as it is
        name, values = _split(spec)
        entry = self.get(name)
        read, faults = self._read(name, values)
        if faults:
            raise ConfigError(f"{self.kind} {name!r}: " + "; ".join(text for _, text in faults))
        if isinstance(entry, type) and not self.factory:
            return entry(**read)
        return functools.partial(entry, **read) if read else entry

    def label(self, spec: Spec) -> str:
        """Return the name of ``spec`` as text: of a function that was never registered, its own."""
        if _is_plugin(spec):
            return str(getattr(spec, "__name__", type(spec).__name__))
        return _split(spec)[0]

    def _read(
        self, name: str, values: Mapping[str, Any]
    ) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        """Return the options as the plug-in gets them, and everything that is wrong with them."""
        options, check = self.options(name), self._checks[name]
        read, faults = read_options(options, values, self.reserved[1:])
        if check is not None and not faults:
            try:
                check(**{o.name: o.default for o in options.values()} | read)
            except ConfigError as error:
                faults.append(("name", str(error)))
        return read, faults

    def _called_with(self, is_class: bool) -> tuple[str, ...]:
        return self.given if self.factory or not is_class else ()

    def fact(self, spec: Spec, fact: str) -> Any:
        """Return what the registration of ``spec`` says about ``fact``, else its default.

        A callable that was never registered may say it in an attribute of that name.
        """
        if _is_plugin(spec):
            return getattr(spec, fact, self._defaults[fact])
        name, _ = _split(spec)
        self.get(name)
        return self._facts[name][fact]


def _is_plugin(spec: Spec) -> bool:
    return callable(spec) and not isinstance(spec, str)


def _split(spec: Spec) -> tuple[str, dict[str, Any]]:
    if isinstance(spec, str):
        return spec, {}
    if isinstance(spec, Mapping):
        values = {str(key): value for key, value in spec.items()}
        if not isinstance(values.get("name"), str):
            raise ConfigError(f"{spec!r} does not name a plug-in: it needs a 'name'")
        return values.pop("name"), values
    if isinstance(getattr(spec, "name", None), str):
        return spec.name, dict(getattr(spec, "options", {}))
    raise ConfigError(
        f"{spec!r} is not a plug-in: give a name, {{'name': ..., option: value}} or a function"
    )


def _place(entry: Callable[..., Any]) -> tuple[object, object]:
    return getattr(entry, "__module__", None), getattr(entry, "__qualname__", None)
