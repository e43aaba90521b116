"""Cut a copy for trial: groups that Python will not let go are found here, by name and source line.

Slicing parameters is not enough where a forward holds sizes (`view(-1, 512, 4, 4)`, asserted shapes). The trial
runs a copy with about half of every group removed and compares the shape of every operator's output
with what the plan says. The first difference names the line, and the groups it touches are kept whole.
"""

from __future__ import annotations

import os
import traceback
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils._python_dispatch import TorchDispatchMode

from gancompress.graph.atoms import Reason
from gancompress.graph.groups import ChannelGraph, count_alive
from gancompress.graph.repair import attribute_changes, set_attributes
from gancompress.graph.tracer import _OURS, _TORCH, OpRecord, tensors_in
from gancompress.graph.twin import named_tensors

if TYPE_CHECKING:
    from gancompress.graph.trace import Workbench


class Mismatch(Exception):
    """The trial run left the recorded path at operator ``index``."""

    def __init__(self, index: int, text: str) -> None:
        super().__init__(text)
        self.index, self.text = index, text


class CheckMode(TorchDispatchMode):
    """Follows the recorded operators and compares names, output shapes and group counts."""

    def __init__(self, ops: list[OpRecord], alive: np.ndarray) -> None:
        super().__init__()
        self.ops, self.alive, self.index = ops, alive, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        tensors = tensors_in(out)
        if not tensors:
            return out
        if self.index >= len(self.ops):
            raise Mismatch(len(self.ops) - 1, "the forward takes another path")
        op = self.ops[self.index]
        name = func._schema.name.split("::")[-1]
        if name != op.name:
            raise Mismatch(self.index, f"the forward takes another path ({name} for {op.name})")
        for position, dim in op.counts:
            want = count_alive(dim, self.alive)
            if position < len(args) and args[position] != want:
                raise Mismatch(self.index, f"{op.name} fixes the number of groups in Python")
        for tensor, dims, old in zip(tensors, op.outputs, op.shapes, strict=True):
            want_shape = tuple(count_alive(d, self.alive) for d in dims)
            if tuple(tensor.shape) != want_shape:
                text = f"{op.name} fixes a size in Python (shape {list(old)})"
                raise Mismatch(self.index, text)
        self.index += 1
        return out


def trial_plan(graph: ChannelGraph, seed: int) -> dict[str, list[int]]:
    """Keep about half of every group, by chance, at least one and never all."""
    rng = np.random.default_rng(seed)
    keep = {}
    for group in graph.groups:
        n = min(max(1, group.size // 2 + int(rng.integers(-1, 2))), group.size - 1)
        keep[group.name] = sorted(int(i) for i in rng.permutation(group.size)[:n])
    return keep


def kept_indices(
    graph: ChannelGraph, alive: np.ndarray
) -> dict[str, list[np.ndarray | None]]:
    """Return, for each parameter and buffer that changes, the indices kept in each dimension."""
    changes: dict[str, list[np.ndarray | None]] = {}
    for (name, d), factor in graph.slots.items():
        assert factor.atoms is not None
        mask = alive[factor.atoms]
        if not mask.all():
            row = changes.setdefault(name, [None] * len(graph.shapes[name]))
            row[d] = np.flatnonzero(mask)
    return changes


def probe(bench: Workbench, graph: ChannelGraph) -> list[tuple[np.ndarray, Reason]]:
    """Run one trial cut; return freezes for the groups that Python holds, or nothing."""
    if not graph.groups:
        return []
    for seed in (0, 1):
        found = _trial(bench, graph, seed)
        if found:
            return found
    return []


def _trial(bench: Workbench, graph: ChannelGraph, seed: int) -> list[tuple[np.ndarray, Reason]]:
    alive = graph.alive(trial_plan(graph, seed))
    tensors = dict(named_tensors(bench.generator))
    keep = {id(tensors[n]): k for n, k in kept_indices(graph, alive).items()}
    twin = bench.copy(keep)
    set_attributes(twin, attribute_changes(graph, alive))
    args, kwargs = bench.inputs()
    check = CheckMode(graph.ops, alive)
    try:
        with bench.running(), check:
            twin(*args, **kwargs)
    except Mismatch as stop:
        op = graph.ops[stop.index]
        return _blame(graph, stop.index, Reason(op.name, op.where, stop.text))
    except Exception as error:
        index = min(check.index, len(graph.ops) - 1)
        text = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        return _blame(
            graph, index, Reason(graph.ops[index].name, _line(error), f"fails when sliced: {text}")
        )
    return []


def _line(error: Exception) -> str:
    """Return the innermost line of the traceback that is the user's."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith((_TORCH, _OURS, "<")):
            return f"{os.path.basename(frame.filename)}:{frame.lineno} in {frame.name}"
    return ""


def _blame(
    graph: ChannelGraph, index: int, reason: Reason
) -> list[tuple[np.ndarray, Reason]]:
    """Freeze the groups that the failing operator touches; failing that, the ones just before it."""
    for back in range(index, -1, -1):
        op = graph.ops[back]
        found = []
        for dims in (*op.inputs, *op.outputs):
            for factor in (f for d in dims for f in d):
                if factor.atoms is None:
                    continue
                free = factor.atoms[graph.owners(factor.atoms) >= 0]
                if free.size:
                    found.append((free, reason))
        if found:
            return found
    return [(g.atoms, reason) for g in graph.groups]


