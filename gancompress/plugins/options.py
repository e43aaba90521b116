"""Options of a plug-in: its signature declares them, and this reads and checks what is given."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gancompress.errors import closest

MISSING = inspect.Parameter.empty


@dataclass(frozen=True)
class Option:
    """What a signature says about one option; ``default`` is `MISSING` where it must be given."""

    name: str
    annotation: Any
    default: Any

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is MISSING

    @functools.cached_property
    def adapter(self) -> Any:
        """What reads a value of it; made once, since an augmentation is bound at every step."""
        return _adapter(self.annotation)

    @property
    def kind(self) -> str:
        """Return its type and range as text, for tables and messages."""
        return _readable(self.annotation)


def declared(entry: Callable[..., Any], given: Sequence[str]) -> dict[str, Option]:
    """Return the options of ``entry`` by name: all its parameters but the first, ``given`` ones.

    An option's type is its annotation (``Annotated[float, pydantic.Field(gt=0)]`` adds a range),
    or the type of its default where there is none.

    Raises:
        ValueError: the signature does not begin with ``given``, takes ``*args`` or ``**kwargs``
            (such options cannot be checked), or has an annotation that cannot be resolved.
    """
    try:
        parameters = list(inspect.signature(entry).parameters.values())
    except (TypeError, ValueError):
        return {}  # written in C: it says nothing about its options, so it has none
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(positional) < len(given):
        raise ValueError(f"it is called with ({', '.join(given)}), and takes fewer")
    found: dict[str, Option] = {}
    for p in (*positional[len(given) :], *(p for p in parameters if p not in positional)):
        if p.kind not in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
            raise ValueError(f"{p} cannot be checked: declare each option by name")
        found[p.name] = Option(p.name, _annotation(entry, p), p.default)
    return found


MOST_FAULTS = 50
"""Faults of one plug-in that are told; nobody reads on, and each looks for the nearest name."""


def read_options(
    options: Mapping[str, Option], values: Mapping[str, Any], also: Sequence[str] = ()
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Return (what the plug-in gets, every fault as (option, message)).

    Values are converted as everywhere in a recipe: ``8`` and ``"8"`` are the same number. ``also``
    names the keys beside the options, for the nearest name.
    """
    read: dict[str, Any] = {}
    faults: list[tuple[str, str]] = []
    for name, value in values.items():
        if len(faults) >= MOST_FAULTS:
            faults.append((name, "there are more faults"))
            return read, faults
        if name not in options:
            near = closest(name, [*options, *also])
            if near.startswith(" Known"):  # what stands beside the options is no option
                near = closest(name, options) or " It has none."
            faults.append((name, f"no option {name!r}.{near}"))
            continue
        try:
            read[name] = options[name].adapter.validate_python(value)
        except ValueError as error:
            faults += [(name, text) for text in _messages(name, value, error)]
    for name, option in options.items():
        if option.required and name not in values:
            faults.append((name, f"option {name!r} ({option.kind}) is missing"))
    return read, faults


def _messages(name: str, value: Any, error: ValueError) -> list[str]:
    details = getattr(error, "errors", None)
    if details is None:
        return [f"option {name!r}: {error}"]
    texts: dict[str, None] = {}  # branches of a union repeat themselves
    for one in details():
        path = ".".join([name, *(str(p) for p in one["loc"] if isinstance(p, int))])
        text = str(one["msg"]).removeprefix("Value error, ")
        texts[f"option {path!r}: {text[:1].lower()}{text[1:]}, not {value!r}"] = None
    return list(texts)


def _adapter(annotation: Any) -> Any:
    from pydantic import ConfigDict, TypeAdapter
    from pydantic.errors import PydanticUserError

    config = ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False)
    try:
        return TypeAdapter(annotation, config=config)
    except PydanticUserError:  # a type with settings of its own
        return TypeAdapter(annotation)


def _annotation(entry: Callable[..., Any], p: inspect.Parameter) -> Any:
    if p.annotation is MISSING:
        plain = isinstance(p.default, bool | int | float | str)
        return type(p.default) if plain else Any
    if not isinstance(p.annotation, str):
        return p.annotation
    code = inspect.unwrap(entry.__init__ if isinstance(entry, type) else entry)
    scope = getattr(code, "__globals__", None) or getattr(type(entry).__call__, "__globals__", {})
    try:
        return eval(p.annotation, dict(scope))
    except Exception as error:
        raise ValueError(f"the type {p.annotation!r} of option {p.name!r}: {error}") from error


def _readable(annotation: Any) -> str:
    # Written out here: the text that Python gives differs from version to version.
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        inner, *notes = inside
        return " ".join([_readable(inner), *filter(None, map(_bound, notes))])
    if origin is typing.Literal:
        return ", ".join(map(str, inside))
    if origin in (typing.Union, types.UnionType):
        return " | ".join(map(_readable, inside))
    if isinstance(annotation, list):
        return f"[{', '.join(map(_readable, typing.cast('list[Any]', annotation)))}]"
    if annotation is None or annotation is type(None):
        return "none"
    if annotation is Any or annotation is ...:
        return "any" if annotation is Any else "..."
    name = str(getattr(origin or annotation, "__name__", annotation))
    return f"{name}[{', '.join(map(_readable, inside))}]" if inside else name


def _bound(note: Any) -> str:
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    parts = [note, *getattr(note, "metadata", ())]
    return ", ".join(
        f"{sign} {getattr(part, key):g}"
        for part in parts
        for key, sign in signs.items()
        if isinstance(getattr(part, key, None), int | float)
    )
