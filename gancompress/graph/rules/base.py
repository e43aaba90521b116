"""The table of operator rules, and what happens when there is none."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import torch

from gancompress.graph.atoms import Dims
from gancompress.graph.tracer import Op

Rule = Callable[[Op], "list[Dims] | Dims"]

RULES: dict[str, Rule] = {}

_FAMILIES = ("pointwise", "contract", "shape", "slicing", "norm", "reduce", "spatial", "create")


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for the aten operators called ``names``."""

    def add(function: Rule) -> Rule:
        for name in names:
            if name in RULES:
                raise ValueError(f"two rules for operator {name!r}")
            RULES[name] = function
        return function

    return add


def apply_rule(op: Op) -> list[Dims]:
    """Return the dimensions of every output of ``op``, after its ties are recorded.

    An operator that no rule knows freezes everything it touches: unknown never means guess.
    """
    if not RULES:
        for family in _FAMILIES:
            importlib.import_module(f"gancompress.graph.rules.{family}")
    found = RULES.get(op.name) or RULES.get(op.name.rstrip("_"))
    if found is None and _is_pointwise(op):
        found = RULES["pointwise"]
    if found is None:
        for tensor in op.ins:
            op.freeze(op.dims(tensor), f"operator {op.name} has no rule")
        return op.blank(f"the output of {op.name}, which has no rule")
    result = found(op)
    return result if isinstance(result, list) else [result]


def _is_pointwise(op: Op) -> bool:
    """Return whether torch says so, of the operator or of the one that it is the in-place form of.

    torch tags ``mish`` and not ``mish_``.
    """
    twin = getattr(torch.ops.aten, op.name.rstrip("_"), None)
    name = op.func._overloadname
    same = getattr(twin, name) if twin is not None and name in twin.overloads() else op.func
    return torch.Tag.pointwise in (*op.func.tags, *same.tags)
