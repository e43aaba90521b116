"""What a module was cut by, kept on the module itself: a plan cannot be lost, nor mistaken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from gancompress.graph.plan import Plan

_ATTRIBUTE = "_gancompress_cuts"


@dataclass(frozen=True)
class Stage:
    """One cut: the plan, and the shape before it of each tensor that it slices."""

    plan: Plan
    shapes: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class CutRecord:
    """The cuts that led from the network that the user built to this one, first one first (ours).

    It never changes, so copies of a module share it. A pickle of the module, which is the user's
    own, leaves it out: it must open where gancompress is not installed.
    """

    stages: tuple[Stage, ...]

    def __deepcopy__(self, memo: dict[int, Any]) -> CutRecord:
        return self

    def __reduce__(self) -> Any:
        return (tuple, ())

    def plan_from(self, stage: int) -> Plan:
        """Return the one plan that does all the cuts from ``stage`` on."""
        plan = self.stages[stage].plan
        for later in self.stages[stage + 1 :]:
            plan = chained(plan, later.plan)
        return plan

    def shapes_at(self, stage: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes, before ``stage``, of the tensors that are sliced from there on."""
        found: dict[str, tuple[int, ...]] = {}
        for later in reversed(self.stages[stage:]):
            found |= later.shapes
        return found


def remember_cut(module: nn.Module, plan: Plan, before: Mapping[str, torch.Tensor]) -> None:
    """Add ``plan`` to the record of ``module``, in place; it was made on tensors ``before``."""
    if not plan.tensors:
        return
    shapes = {n: tuple(before[n].shape) for n in plan.tensors}
    old = vars(module).get(_ATTRIBUTE)
    stages = old.stages if isinstance(old, CutRecord) else ()
    vars(module)[_ATTRIBUTE] = CutRecord((*stages, Stage(plan, shapes)))


def count_cuts(module: nn.Module) -> int:
    """Return how many cuts ``module`` itself remembers."""
    found = vars(module).get(_ATTRIBUTE)
    return len(found.stages) if isinstance(found, CutRecord) else 0


def merge_cuts(module: nn.Module, since: int) -> None:
    """Make one cut of all that ``module`` remembers after its first ``since`` cuts, in place.

    A run that was resumed replays its cuts as one: what it leaves must not tell them apart.
    """
    found = vars(module).get(_ATTRIBUTE)
    if isinstance(found, CutRecord) and len(found.stages) > since:
        late = CutRecord(found.stages[since:])
        # Sorted: in what order the cuts came to the tensors is not to be told either.
        one = Stage(late.plan_from(0), dict(sorted(late.shapes_at(0).items())))
        vars(module)[_ATTRIBUTE] = CutRecord((*found.stages[:since], one))


def record_of(module: nn.Module) -> CutRecord | None:
    """Return what ``module`` was cut by: its own record, or those of its parts put together."""
    own = vars(module).get(_ATTRIBUTE)
    if isinstance(own, CutRecord):
        return own
    parts: list[tuple[str, CutRecord]] = []
    for path, sub in module.named_modules():
        found = vars(sub).get(_ATTRIBUTE)
        inside = any(path.startswith(known + ".") for known, _ in parts)
        if isinstance(found, CutRecord) and not inside:
            parts.append((path, found))
    if not parts:
        return None
    plan = Plan({})
    shapes: dict[str, tuple[int, ...]] = {}
    for path, record in parts:
        whole = record.plan_from(0)
        plan.tensors.update({f"{path}.{n}": row for n, row in whole.tensors.items()})
        plan.attributes.extend(
            (f"{path}.{p}".removesuffix("."), a, v) for p, a, v in whole.attributes
        )
        shapes |= {f"{path}.{n}": shape for n, shape in record.shapes_at(0).items()}
    return CutRecord((Stage(plan, shapes),))


def chained(first: Plan, later: Plan) -> Plan:
    """Return the plan that does ``first`` and then ``later``; groups keep their names or go."""
    try:
        return first.then(later)
    except IndexError:  # a group of the same name is another one: names are only for people
        return Plan({}, first.tensors, first.attributes).then(
            Plan({}, later.tensors, later.attributes)
        )


def same_cut(one: Plan, two: Plan) -> str:
    """Return the name of the first tensor that the plans slice differently, or nothing."""
    rows = [
        {n: row for n, row in p.tensors.items() if any(k is not None for k in row)}
        for p in (one, two)
    ]
    for name in {**rows[0], **rows[1]}:
        if rows[0].get(name) != rows[1].get(name):
            return name
    return ""
