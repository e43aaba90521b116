"""YAML without its surprises: 1.2 numbers and booleans, no repeated keys, no bombs."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node

from gancompress.errors import ConfigError

MAX_BYTES = 1_000_000
MAX_DEPTH = 32
MAX_ALIASES = 64


def parse_yaml(text: str, *, source: str) -> Any:
    """Return plain Python data of one YAML document.

    ``1e-4`` is a float, ``no`` and ``12:30`` are strings (YAML 1.2), a repeated key is an error,
    tags are refused, and size, nesting and aliases are limited. ``source`` is for messages.

    Raises:
        ConfigError: the text is not such a document; line and column are in the message.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise ConfigError(f"{source} is larger than {MAX_BYTES:,} bytes: not a recipe")
    try:
        _check_limits(text, source)
        return yaml.load(text, Loader=_StrictLoader)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        raise ConfigError(f"{source}: {_one_line(error)}") from error


def _check_limits(text: str, source: str) -> None:
    # Events are counted before any node exists, so nesting and aliases cost no memory.
    anchored: list[bool] = []  # for each open collection: is it, or one around it, anchored?
    aliases = 0
    for event in yaml.parse(text, Loader=_StrictLoader):
        problem = None
        if isinstance(event, yaml.CollectionStartEvent):
            anchored.append(event.anchor is not None or (bool(anchored) and anchored[-1]))
            if len(anchored) > MAX_DEPTH:
                problem = f"nesting deeper than {MAX_DEPTH}"
        elif isinstance(event, yaml.CollectionEndEvent):
            anchored.pop()
        elif isinstance(event, yaml.AliasEvent):
            aliases += 1
            if aliases > MAX_ALIASES:
                problem = f"more than {MAX_ALIASES} aliases"
            elif anchored and anchored[-1]:
                # Aliases of aliases grow exponentially, or hold themselves.
                problem = f"alias {event.anchor!r} inside an anchored value"
        if problem is not None:
            line = event.start_mark.line + 1 if event.start_mark is not None else "?"
            raise ConfigError(f"{source}, line {line}: {problem}")


def _one_line(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return " ".join(str(error).split()) or type(error).__name__


class _StrictLoader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:str":
                raise _marked(f"a key must be a word, not {_shown(key)}", key)
            if key.value in seen:
                raise _marked(f"key {key.value!r} appears twice", key)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)

    def refuse(self, node: Node) -> Any:
        raise _marked(f"the tag {node.tag!r} is not allowed", node)


def _shown(node: Node) -> str:
    return repr(node.value) if isinstance(node.value, str) else "a collection"


def _marked(problem: str, node: Node) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _resolve(tag: str, pattern: str, first: str) -> None:
    regex = re.compile(rf"^(?:{pattern})$")
    _StrictLoader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", regex, list(first))


_resolve("bool", r"true|True|TRUE|false|False|FALSE", "tTfF")
_resolve("null", r"~|null|Null|NULL|", "~nN")
_StrictLoader.yaml_implicit_resolvers.setdefault("", []).append(
    ("tag:yaml.org,2002:null", re.compile(r"^$"))
)
_resolve("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789")
_resolve("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789")
_resolve("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+.")

# Only plain data: no dates, sets, binaries, merges or Python objects.
_PLAIN = ("bool", "int", "float", "null", "str", "seq", "map")
_StrictLoader.yaml_constructors = {
    tag: make
    for tag, make in yaml.SafeLoader.yaml_constructors.items()
    if tag is not None and tag.rpartition(":")[2] in _PLAIN
}
_StrictLoader.yaml_constructors[None] = _StrictLoader.refuse


def key_lines(text: str) -> dict[tuple[str | int, ...], int]:
    """Return the line (from 1) of every key and list item of a document that parses."""
    found: dict[tuple[str | int, ...], int] = {}
    root = yaml.compose(text, Loader=_StrictLoader)

    def walk(node: Node | None, path: tuple[str | int, ...]) -> None:
        if isinstance(node, MappingNode):
            for key, value in node.value:
                found[(*path, key.value)] = key.start_mark.line + 1
                walk(value, (*path, key.value))
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                found[(*path, index)] = value.start_mark.line + 1
                walk(value, (*path, index))

    walk(root, ())
    return found


def dump_yaml(data: Any) -> str:
    """Return plain data as YAML that ``parse_yaml`` reads back to the same data."""
    # Other characters than ASCII are escaped: some, such as NEL, would come back as line breaks.
    return yaml.dump(data, Dumper=_StrictDumper, sort_keys=False, width=100)


class _StrictDumper(yaml.SafeDumper):
    # The loader's own rules: what it would read as a number gets quotes when it is text.
    yaml_implicit_resolvers = _StrictLoader.yaml_implicit_resolvers

    def ignore_aliases(self, data: Any) -> bool:
        return True
