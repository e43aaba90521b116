"""The table of operator rules, and what happens when there is none.

A rule is a plug-in: one file in this folder, found by itself, or one of the user's own that calls
`rule`, before or after anything was traced.
"""

from __future__ import annotations

import importlib
import pkgutil
import threading
from collections.abc import Callable

import torch

from gancompress.errors import GraphError
from gancompress.graph.atoms import Dims, dim_size
from gancompress.graph.tracer import Op

Rule = Callable[[Op], "list[Dims] | Dims"]

RULES: dict[str, Rule] = {}

_PACKAGE = __name__.rpartition(".")[0]
_OURS = f"{_PACKAGE}."
# Where names mean what they mean in torch; an `add` of another library may be anything.
_KNOWN_SPACES = {"aten", "prim", "prims", "torchvision", "mkldnn", "onednn"}
_lock = threading.RLock()
_loaded = False


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for the operators called ``names`` (ours).

    Args:
        names: of operators without the trailing underscore of those in place: ``"softmax"``, or
            with their library, ``"mylib::softmax"``. The rule is called with an `Op` and returns
            the dimensions (`Dims`) of its output, or a list of them.

    Raises:
        ValueError: no name, or one that has a rule already; nothing is registered then.
    """
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"rule{names!r} needs the names of the operators: @rule('my_operator')")

    def add(function: Rule) -> Rule:
        if not function.__module__.startswith(_OURS):
            load_rules()  # so that whoever comes second is refused, not whoever loads second
        for name in names:
            if name in RULES:
                raise ValueError(
                    f"operator {name!r} has a rule already, {_place(RULES[name])}; "
                    f"{_place(function)} cannot be a second one. For an operator of another "
                    f"library register 'library::{name.rpartition('::')[2]}'"
                )
        RULES.update(dict.fromkeys(names, function))
        return function

    return add


def load_rules() -> None:
    """Import every module of this folder, once: each registers its family of rules (ours)."""
    global _loaded
    if _loaded:
        return
    with _lock:
        package = importlib.import_module(_PACKAGE)
        for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
            importlib.import_module(f"{_PACKAGE}.{module}")
        _loaded = True


def apply_rule(op: Op) -> list[Dims]:
    """Return the dimensions of every output of ``op``, after its ties are recorded.

    An operator that no rule knows freezes everything it touches: unknown never means guess.

    Raises:
        GraphError: a rule from elsewhere fails, or does not describe the outputs.
    """
    load_rules()
    found = _find(op)
    if found is None:
        for tensor in op.ins:
            op.freeze(op.dims(tensor), f"operator {op.name} has no rule")
        return op.blank(f"the output of {op.name}, which has no rule")
    if found.__module__.startswith(_OURS):
        result = found(op)
        return result if isinstance(result, list) else [result]
    return _apply_foreign(op, found)


def _find(op: Op) -> Rule | None:
    """Return the rule of an operator: by library and name, by name alone, or by torch's tag."""
    plain = op.name.rstrip("_")
    space = op.func.namespace
    for name in (f"{space}::{op.name}", f"{space}::{plain}", op.name, plain):
        found = RULES.get(name)
        if found is None:
            continue
        if "::" in name or space in _KNOWN_SPACES or not found.__module__.startswith(_OURS):
            return found
    return RULES["pointwise"] if space in _KNOWN_SPACES and _is_pointwise(op) else None


def _apply_foreign(op: Op, found: Rule) -> list[Dims]:
    """Apply a rule that is not ours, and check what it says."""
    who = f"the rule {_place(found)} of operator {op.name!r}"
    try:
        result = found(op)
    except Exception as error:
        raise GraphError(f"{who} fails: {type(error).__name__}: {error}") from error
    made = result if isinstance(result, list) else [result]
    shapes = [tuple(t.shape) for t in op.outs]
    try:
        given = [tuple(dim_size(dim) for dim in dims) for dims in made]
    except (TypeError, AttributeError) as error:
        raise GraphError(
            f"{who} must return a tuple of dimensions for each output (shapes {shapes}), not "
            f"{str(result)[:80]}"
        ) from error
    if given != shapes:
        raise GraphError(f"{who} describes outputs of shapes {given}; they are {shapes}")
    return made


def _place(function: Rule) -> str:
    name = getattr(function, "__qualname__", type(function).__name__)
    return f"{function.__module__}.{name}"


def _is_pointwise(op: Op) -> bool:
    """Return whether torch says so, of the operator or of the one that it is the in-place form of.

    torch tags ``mish`` and not ``mish_``.
    """
    twin = getattr(torch.ops.aten, op.name.rstrip("_"), None)
    name = op.func._overloadname
    same = getattr(twin, name) if twin is not None and name in twin.overloads() else op.func
    return torch.Tag.pointwise in (*op.func.tags, *same.tags)
