"""Read a recipe: strict YAML, ``key=value`` overrides, the schema, and every error at once."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from gancompress.errors import ConfigError, closest
from gancompress.plugins.kinds import RECIPES
from gancompress.recipes.plugin_entries import wrong_plugins
from gancompress.recipes.schema import Recipe
from gancompress.recipes.strict_yaml import MAX_BYTES, MAX_DEPTH, dump_yaml, key_lines, parse_yaml
from gancompress.storage import read_plain

MOST_FAULTS = 100
_NAME = re.compile(r"^[A-Za-z0-9_-]+$")
_KEY = re.compile(r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$")


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Return a shipped recipe by name, or the one in a ``.yaml`` file, with ``overrides`` applied.

    An override is ``key=value`` with a dotted key (``ema.decay=0.99``, ``distill.0.weight=2``) and
    a YAML value.

    Raises:
        ConfigError: no such recipe, or anything in it is wrong; every fault is in the message,
            with its line and, for an unknown key or name, the nearest one.
    """
    text, source = _text(name_or_path)
    data = parse_yaml(text, source=source)
    if not isinstance(data, dict):
        raise ConfigError(f"{source} is not a table of keys and values")
    # What we ship is checked by our tests: asking for it again would import torch.
    proven = copy.deepcopy(data) if str(name_or_path) in _shipped() else {}
    faults: list[str] = []
    for override in overrides:
        _apply(data, override, faults)
    lines = key_lines(text)
    recipe: Recipe | None = None
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        found = error.errors()
        faults += [_explain(fault, data, lines) for fault in found[:MOST_FAULTS]]
        if more := len(found) - MOST_FAULTS:
            faults += [f"and {more} more"] if more > 0 else []
    faults += [
        f"{_at(lines, path)}{_dotted(path)}: {text}" for path, text in wrong_plugins(data, proven)
    ]
    if faults or recipe is None:
        raise ConfigError(f"{source}: " + "\n  ".join(["", *faults] if faults[1:] else faults))
    return recipe


def dump_recipe(recipe: Recipe) -> str:
    """Return ``recipe`` as YAML with every field; ``load_recipe`` of it gives the same recipe."""
    return dump_yaml(recipe.model_dump(mode="json"))


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with the package and with plug-ins."""
    return sorted({*_shipped(), *RECIPES.names()})


def recipe_text(name_or_path: str | Path) -> str:
    """Return the text of a recipe as it was written.

    Raises:
        ConfigError: there is none of that name, or the file cannot be read.
    """
    return _text(name_or_path)[0]


def _shipped() -> dict[str, Path]:
    return {file.stem: file for file in sorted(Path(__file__).parent.rglob("*.yaml"))}


def _text(name_or_path: str | Path) -> tuple[str, str]:
    name = str(name_or_path)
    if _NAME.match(name):
        shipped = _shipped()
        if name in shipped:
            return shipped[name].read_text("utf-8"), f"recipe {name}"
        if name in RECIPES:
            return _of_plugin(name)
        hint = " A recipe of your own needs its path, with .yaml." if Path(name).exists() else ""
        raise ConfigError(f"no recipe {name!r}.{closest(name, [*shipped, *RECIPES.known()])}{hint}")
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"{name!r} is neither the name of a recipe nor a .yaml file")
    try:
        return read_plain(path, MAX_BYTES).decode("utf-8"), name
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(f"cannot read recipe {name!r}: {error}") from error


def _of_plugin(name: str) -> tuple[str, str]:
    """Return the text of a recipe that a plug-in brings: it gives the text, or the file's path."""
    given = RECIPES.bind(name)()
    if isinstance(given, Path):
        try:
            return given.read_text("utf-8"), f"recipe {name}"
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read recipe {name!r} at {given}: {error}") from error
    if not isinstance(given, str):
        raise ConfigError(f"recipe {name!r}: its plug-in gives a {type(given).__name__}, not text")
    return given, f"recipe {name}"


def _apply(data: dict[str, Any], override: str, faults: list[str]) -> None:
    key, equals, value = override.partition("=")
    if key.count(".") > MAX_DEPTH:
        faults.append(f"override {override[:40]!r} ...: nesting deeper than {MAX_DEPTH}")
        return
    if key[:1] in ("+", "~"):
        faults.append(f"override {override!r}: no key can be added or dropped; write key=value")
        return
    if not equals or not _KEY.match(key):
        faults.append(f"override {override!r} is not key=value, for example ema.decay=0.99")
        return
    try:
        parsed = parse_yaml(value, source=f"override {key}")
    except ConfigError as error:
        faults.append(str(error))
        return
    *parents, last = key.split(".")
    # Shared aliases in the file must not change together.
    node: Any = data
    for parent in parents:
        if isinstance(node, list) and _within(parent, node):
            child = copy.deepcopy(node[int(parent)])
            node[int(parent)] = child
        elif isinstance(node, dict):
            child = copy.deepcopy(node.get(parent))
            # `penalty: cost` in the file and penalty.weight=1 typed: both hold.
            child = {"name": child} if isinstance(child, str) else {} if child is None else child
            node[parent] = child
        else:
            faults.append(f"override {override!r}: there is nothing at {parent!r} to set")
            return
        node = child
    if isinstance(node, dict):
        node[last] = parsed
    elif isinstance(node, list) and _within(last, node):
        node[int(last)] = parsed
    else:
        faults.append(f"override {override!r}: there is nothing at {last!r} to set")


def _within(word: str, items: Sequence[Any]) -> bool:
    # More digits than any list has, and Python refuses to read thousands of them.
    return word.isdecimal() and len(word) < 10 and int(word) < len(items)


def _explain(fault: Mapping[str, Any], data: Any, lines: Mapping[tuple, int]) -> str:
    path = tuple(part for part in fault["loc"] if _present(part))
    if fault["type"] == "extra_forbidden":
        # The key as it was written, brackets and all.
        path = (*(part for part in fault["loc"][:-1] if _present(part)), fault["loc"][-1])
    where = _at(lines, path)
    if fault["type"] == "extra_forbidden":
        known = _siblings(path)
        word = str(path[-1])
        near = (_below(word) if len(path) == 1 else []) or difflib.get_close_matches(
            word, known, n=1, cutoff=0.5
        )
        meant = " or ".join(map(repr, near))
        hint = f" Did you mean {meant}?" if near else f" Known: {', '.join(sorted(known))}."
        return f"{where}unknown key {_dotted(path)!r}.{hint}"
    if fault["type"] == "missing":
        flag = " (--task NAME, before its options)" if _dotted(path) == "task.name" else ""
        return f"{where}{_dotted(path)} is missing{flag}"
    message = str(fault["msg"]).removeprefix("Value error, ")
    given = fault.get("input")
    shown = "" if isinstance(given, dict | list) else f", not {given!r}"
    return f"{where}{_dotted(path)}: {message[0].lower()}{message[1:]}{shown}"


def _present(part: object) -> bool:
    # Pydantic adds the names of validators and union members to the path of a fault.
    return isinstance(part, int) or (isinstance(part, str) and "[" not in part and "(" not in part)


def _siblings(path: tuple[str | int, ...]) -> list[str]:
    model: Any = Recipe
    for part in path[:-1]:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part) if isinstance(model, type) else None
        if field is None:
            return []
        model = next(iter(_models_in(field.annotation)), None)
    return list(model.model_fields) if model is not None else []


def _below(word: str) -> list[str]:
    """Return the keys of the recipe's parts that are called so: ``lr`` is an optimiser's."""
    return [
        f"{name}.{word}"
        for name, field in Recipe.model_fields.items()
        if get_origin(field.annotation) not in (list, tuple)
        and any(word in model.model_fields for model in _models_in(field.annotation))
    ]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def _at(lines: Mapping[tuple, int], path: tuple[str | int, ...]) -> str:
    while path and path not in lines:
        path = path[:-1]
    return f"line {lines[path]}: " if path else ""


def _dotted(path: tuple[str | int, ...]) -> str:
    return ".".join(map(str, path)) or "the recipe"
