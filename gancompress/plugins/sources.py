"""Which plug-ins a folder holds, read from its source: nothing is imported, so nothing is slow."""

from __future__ import annotations

import ast
import functools
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gancompress.errors import ConfigError


@dataclass(frozen=True)
class Registration:
    """One ``@SYMBOL.register("name")`` at the top level of a module.

    ``needs`` is how many arguments have no default, as far as the source shows; None where it does
    not: one of them can only be given by name, or the signature is written somewhere else.
    """

    symbol: str
    name: str
    module: str
    needs: int | None
    is_class: bool


def modules_in(package: str) -> dict[str, Path]:
    """Return every module of ``package``, by its dotted name, without importing any (ours)."""
    top, _, rest = package.partition(".")
    spec = importlib.util.find_spec(top)
    found: dict[str, Path] = {}
    for root in (spec.submodule_search_locations if spec is not None else None) or ():
        folder = Path(root, *rest.split(".")) if rest else Path(root)
        for file in sorted(folder.rglob("*.py")):
            parts = file.relative_to(folder).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            if all(part.isidentifier() for part in parts):
                found[".".join([package, *parts])] = file
    return found


def registrations(package: str) -> dict[str, tuple[Registration, ...]]:
    """Return what each module of ``package`` registers under a literal name.

    Raises:
        ConfigError: a file is no Python; its name and line are in the message.
    """
    return {name: _registered(file, name) for name, file in modules_in(package).items()}


@functools.cache
def _registered(file: Path, module: str) -> tuple[Registration, ...]:
    try:
        text = file.read_text("utf-8")
        if ".register(" not in text:
            return ()
        tree = ast.parse(text)
    except (SyntaxError, UnicodeDecodeError) as error:
        raise ConfigError(f"plug-in file {file} cannot be read: {error}") from error
    return tuple(_in_tree(tree, module))


def _in_tree(tree: ast.Module, module: str) -> Iterator[Registration]:
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        for call in node.decorator_list:
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
                continue
            owner, first = call.func.value, call.args[0] if call.args else None
            if (
                call.func.attr == "register"
                and isinstance(owner, ast.Name)
                and isinstance(first, ast.Constant)
                and isinstance(first.value, str)
            ):
                is_class = isinstance(node, ast.ClassDef)
                yield Registration(owner.id, first.value, module, _needs(node), is_class)


def _needs(node: ast.FunctionDef | ast.ClassDef) -> int | None:
    if isinstance(node, ast.ClassDef):
        made = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
        found = _needs(made[0]) if made else None
        return None if found is None else found - 1  # self
    if any(default is None for default in node.args.kw_defaults):
        return None
    return len([*node.args.posonlyargs, *node.args.args]) - len(node.args.defaults)
