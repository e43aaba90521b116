"""Cut a copy for trial: groups that Python will not let go are found here, by name and source line.

Slicing parameters is not enough where a forward holds sizes (`view(-1, 512, 4, 4)`, asserted
shapes). The trial runs a copy with about half of every group removed and compares the shape of
every operator's output with what the plan says. The first difference names the line, and what it
touches is kept whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from gancompress.graph.atoms import UNREPEATABLE, Dim, Factor, Reason
from gancompress.graph.attribute_changes import Change, attribute_changes, set_attributes
from gancompress.graph.groups import ChannelGraph, Group, count_alive
from gancompress.graph.plan import kept_indices
from gancompress.graph.sizes import SizeUse
from gancompress.graph.traced_int import AttributeKey, leaf
from gancompress.graph.tracer import scalars_of, steady_name, unsteady
from gancompress.graph.trial.arithmetic import Findings, by_arithmetic, free_atoms, trial_plan
from gancompress.graph.trial.silenced import Step, StepsMode, silenced
from gancompress.modules.copying import named_tensors
from gancompress.modules.dispatch import Watch
from gancompress.modules.nested import tensors_of
from gancompress.modules.user_line import failing_line, failing_stack

if TYPE_CHECKING:
    from gancompress.graph.trial.workbench import Workbench


class Mismatch(Exception):
    """The trial run left the recorded path at operator ``index``; ``dims`` are at fault."""

    def __init__(self, index: int, text: str, dims: Sequence[Dim] = ()) -> None:
        super().__init__(text)
        self.index, self.text, self.dims = index, text, dims


class CheckMode(Watch):
    """Follows the recorded operators and compares names, output shapes and group counts."""

    def __init__(
        self, graph: ChannelGraph, alive: np.ndarray, steps: Sequence[Step] | None = None
    ) -> None:
        super().__init__()
        self.ops, self.exact, self.alive, self.index = graph.ops, graph.exact, alive, 0
        self.starts = graph.starts
        whole = [Step(o.name, o.shapes, o.scalars) for o in graph.ops]
        self.steps = whole if steps is None else steps

    def begin(self, number: int) -> None:
        """Go to where the recorded operators of one pass begin."""
        self.index = self.starts[number]

    def see(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> None:
        """Compare one operator with the recorded one.

        Raises:
            Mismatch: it is another, or fixes a size or a number.
        """
        name = func._schema.name.split("::")[-1]
        if unsteady(name, args):
            return
        if self.index >= len(self.ops):
            raise Mismatch(len(self.ops) - 1, "the forward takes another path")
        op = self.ops[self.index]
        if steady_name(name) != op.name:
            raise Mismatch(self.index, f"the forward takes another path ({name} for {op.name})")
        for position, dim in op.counts:
            if position < len(args) and args[position] != count_alive(dim, self.alive):
                text = f"{op.name} fixes the number of groups in Python"
                raise Mismatch(self.index, text, (dim,))
        step = self.steps[self.index]
        tensors = tensors_of(out)
        for tensor, dims, old, now in zip(tensors, op.outputs, op.shapes, step.shapes, strict=True):
            off = list(dims)
            if len(dims) == tensor.dim() == len(now):
                # Sizes that follow values (a predicted length) are those of the same values.
                off = [
                    d for d, n, a, b in zip(dims, tensor.shape, old, now, strict=True)
                    if count_alive(d, self.alive) * b != n * a
                ]  # fmt: skip
            if off:
                text = f"{op.name} fixes a size in Python (shape {list(old)})"
                raise Mismatch(self.index, text, off)
        if self.exact and scalars_of(func, args, kwargs) != step.scalars:
            text = f"{op.name} computes with a number taken from a channel count"
            raise Mismatch(self.index, text)
        self.index += 1


def probe(bench: Workbench, graph: ChannelGraph) -> Findings:
    """Run trial cuts; say what Python holds, or nothing when all groups can go."""
    if not graph.groups:
        return Findings()
    found = by_arithmetic(graph)
    if found:
        return found
    for seed in (0, 1):
        keep = trial_plan(graph, seed)
        stop = _trial(bench, graph, keep)
        if stop is None:
            continue
        if (found := _unrepeatable(bench, graph)) is not None:
            return found
        if isinstance(stop, Mismatch) and stop.dims:
            return Findings(_blame(graph, stop))
        return _search(bench, graph, seed, stop)
    return Findings()


def _trial(
    bench: Workbench,
    graph: ChannelGraph,
    keep: dict[str, list[int]],
    changes: Sequence[Change] = (),
) -> Exception | None:
    """Run one sliced copy; return what stopped it."""
    stop = _run(bench, graph, keep, changes)
    if bench.mode is None and isinstance(stop, Mismatch):
        # The sizes of a forward on real numbers may follow values, which every cut changes.
        steps = _silent_steps(bench, graph, keep)
        if steps is not None:
            return _run(bench, graph, keep, changes, steps)
    return stop


def _unrepeatable(bench: Workbench, graph: ChannelGraph) -> Findings | None:
    """Keep everything where the uncut generator does not repeat what was recorded of it either."""
    stop = _trial(bench, graph, {})
    if stop is None:
        return None
    op = graph.ops[int(_tag(stop, "index") or 0)]
    text = (
        f"{UNREPEATABLE} at {op.name}, cut or not: the forward depends on what is neither in the "
        "module nor in its code (an iterator, a clock, a file)"
    )
    reason = Reason(op.name, op.where, text)
    return Findings([(group.atoms, reason) for group in graph.groups])


def _silent_steps(
    bench: Workbench, graph: ChannelGraph, keep: dict[str, list[int]]
) -> list[Step] | None:
    """Return the steps of the whole generator, zeroed instead of cut, where they are others."""
    twin = silenced(bench.generator, graph, keep)
    log = StepsMode()
    try:
        bench.call(twin, log)
    except Exception:  # with these values it does not run (a length of 0): nothing to compare with
        return None
    pairs = list(zip(log.steps, graph.ops, strict=False))
    same_path = len(log.steps) == len(graph.ops) and all(
        s.name == o.name and len(s.shapes) == len(o.shapes) for s, o in pairs
    )
    others = any(s.shapes != o.shapes or s.scalars != o.scalars for s, o in pairs)
    return log.steps if same_path and others else None


def _run(
    bench: Workbench,
    graph: ChannelGraph,
    keep: dict[str, list[int]],
    changes: Sequence[Change],
    steps: Sequence[Step] | None = None,
) -> Exception | None:
    alive = graph.alive(keep)
    tensors = dict(named_tensors(bench.generator))
    sliced = {id(tensors[n]): k for n, k in kept_indices(graph, alive).items()}
    twin = bench.copy(sliced)
    set_attributes(twin, [*attribute_changes(graph, alive), *changes])
    check, calls = CheckMode(graph, alive, steps), _Calls(twin)
    try:
        bench.call(twin, check, begin=check.begin)
    except Exception as error:
        # The traceback holds the frames, and they the copy: keep the words only.
        error.__dict__["index"] = getattr(error, "index", min(check.index, len(graph.ops) - 1))
        error.__dict__["line"] = failing_line(error)
        error.__dict__["calls"] = calls.count
        error.__dict__["stack"] = failing_stack(error)
        return error.with_traceback(None)
    return None


def _blame(graph: ChannelGraph, stop: Mismatch) -> list[tuple[np.ndarray, Reason]]:
    """Keep what the differing dimensions (or a literal position) touch; else all around."""
    op = graph.ops[stop.index]
    reason = Reason(op.name, op.where, stop.text, graph_frees=True)
    pinned = [(p[graph.owners(p) >= 0], reason) for p in op.pins]
    pinned = [(p, r) for p, r in pinned if p.size]
    if stop.dims and pinned:
        return pinned
    found = free_atoms(graph, stop.dims, reason)
    for back in range(stop.index, -1, -1):
        if found:
            return found
        near = graph.ops[back]
        found = free_atoms(
            graph, [d for dims in (*near.inputs, *near.outputs) for d in dims], reason
        )
    return found or [(g.atoms, reason) for g in graph.groups]


def _search(bench: Workbench, graph: ChannelGraph, seed: int, stop: Exception) -> Findings:
    """Bisect for the groups that make the forward raise; mend by attributes or keep them whole."""
    full = trial_plan(graph, seed)

    def culprits(names: list[str]) -> list[tuple[str, Exception]]:
        error = _trial(bench, graph, {n: full[n] for n in names})
        if error is None:
            return []
        if len(names) == 1:
            return [(names[0], error)]
        half = len(names) // 2
        return culprits(names[:half]) + culprits(names[half:])

    findings = Findings()
    found = culprits(list(full)) or [(n, stop) for n in full]
    for name, error in found:
        if isinstance(error, Mismatch):
            op = graph.ops[error.index]
            own = [(graph[name].atoms, Reason(op.name, op.where, error.text, graph_frees=True))]
            findings.freezes += _blame(graph, error) if error.dims else own
            continue
        use = _attributes(bench, graph, graph[name], full[name], error)
        if use:
            findings.uses += use
            continue
        op_name = graph.ops[int(_tag(error, "index") or 0)].name
        words: dict[type, str] = {AssertionError: "assert", RuntimeError: op_name}
        word = words.get(type(error), type(error).__name__)
        text = f"fails when sliced: {str(error).splitlines()[0][:200] if str(error) else word}"
        reason = Reason(word, _tag(error, "line"), text, graph_frees=True)
        findings.freezes.append((graph[name].atoms, reason))
    return findings


def _tag(error: Exception, name: str) -> Any:
    return error.__dict__.get(name, "")


def _attributes(
    bench: Workbench, graph: ChannelGraph, group: Group, kept: list[int], error: Exception
) -> list[SizeUse]:
    """Find integer attributes, of the size of the group, that the forward compares with it.

    Each module on a stream may check the stream's width against a number of its own: where one is
    mended, the forward goes on to the next.
    """
    used = {k for u in graph.uses for k in u.value.attributes}
    sizes = {group.size, *(i.size for i in group.slots.values())}
    chosen: list[AttributeKey] = []
    stop: Exception | None = error
    while stop is not None:
        path = graph.ops[int(_tag(stop, "index") or 0)].module
        near = {path, *(path.rsplit(".", i)[0] for i in range(1, path.count(".") + 1)), ""}
        keys = [k for k, v in graph.attributes.items() if k[0] in near and v in sizes]
        keys = [k for k in keys if k not in used and k not in chosen]
        before, stop = stop, None
        for some in [[k] for k in keys] + ([keys] if len(keys) > 1 else []):
            changes = _changes(graph, [*chosen, *some], group, kept)
            after = _trial(bench, graph, {group.name: kept}, changes)
            if after is None:
                return [_asserted(graph, group, k, error) for k in (*chosen, *some)]
            if not isinstance(after, Mismatch) and _further(after, before):
                chosen, stop = [*chosen, *some], after
                break
    return []


class _Calls:
    """Counts the modules that were entered."""

    def __init__(self, module: nn.Module) -> None:
        self.count = 0
        for sub in module.modules():
            if not isinstance(sub, torch.jit.ScriptModule):
                sub.register_forward_pre_hook(self._enter)

    def _enter(self, module: nn.Module, args: Any) -> None:
        self.count += 1


def _further(after: Exception, before: Exception) -> bool:
    """Whether a run came further: by operators, by modules entered, by lines from the outside in.

    Modules that check a width one after another may do so by the same line of one helper.
    """
    one, two = ((int(_tag(e, "index") or 0), int(_tag(e, "calls") or 0)) for e in (after, before))
    if one != two:
        return one > two
    pairs = zip(_tag(after, "stack"), _tag(before, "stack"), strict=False)
    return next((a > b for a, b in pairs if a != b), False)


def _asserted(graph: ChannelGraph, group: Group, key: AttributeKey, error: Exception) -> SizeUse:
    value, dim = graph.attributes[key], (Factor(group.size, group.atoms),)
    times = max(value // group.size, 1)
    return SizeUse(leaf(key, value), dim, "assert", str(_tag(error, "line")), times)


def _changes(
    graph: ChannelGraph, keys: Sequence[AttributeKey], group: Group, kept: Sequence[int]
) -> list[Change]:
    changes: dict[tuple[str, str], Any] = {}
    for key in keys:
        path, name, index = key
        value: Any = graph.attributes[key] // group.size * len(kept)
        if index is not None:
            old = changes.get((path, name), graph.sequences[(path, name)])
            value = type(old)(value if i == index else v for i, v in enumerate(old))
        changes[(path, name)] = value
    return [(p, a, v) for (p, a), v in changes.items()]
