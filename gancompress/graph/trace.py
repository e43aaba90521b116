"""trace(): run a generator once, write down its channels, check that Python lets them go."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gancompress.errors import GraphError
from gancompress.graph.atoms import Factor, Reason, Solution, opaque
from gancompress.graph.attributes import number_at, numbers_in, tensor_numbers
from gancompress.graph.form.module import GraphForm
from gancompress.graph.form.to_graph import in_form
from gancompress.graph.groups import ChannelGraph
from gancompress.graph.record import DataMode, RecordMode
from gancompress.graph.sizes import SizeUse, SizeWatch, plant
from gancompress.graph.traced_int import AttributeKey, TracedInt, leaf
from gancompress.graph.tracer import Tracer
from gancompress.graph.trial.arithmetic import by_arithmetic
from gancompress.graph.trial.search import probe
from gancompress.graph.trial.train_mode import in_train
from gancompress.graph.trial.workbench import Workbench, switch
from gancompress.modules.copying import named_tensors, refuse_shells
from gancompress.modules.nested import call_arguments, tensors_of
from gancompress.modules.snapshot import Snapshot

_CALLS = 4
"""Calls in a row at most; state that goes round in more of them is not followed further."""


def trace(
    generator: nn.Module,
    example: Any,
    kwargs: Mapping[str, Any] | None = None,
    *,
    form: str = "module",
    keep: Sequence[tuple[np.ndarray, Reason]] = (),
    trial: bool = True,
    exact: bool = True,
    train: bool = False,
    follow: Set[AttributeKey] = frozenset(),
) -> ChannelGraph:
    """Run ``generator`` once (on a copy, in eval mode) and return its channel groups (ours).

    Where a call leaves state behind that the next one may read, it is run again. Where a cut that
    is right for eval() breaks train() (a head that only trains, a running mean), the calls of both
    modes are traced as one.

    Args:
        generator: any module; it is not touched.
        example: the inputs of one call: a tensor, a tuple of positional arguments, or a mapping
            of keyword arguments. A batch of 2 is enough.
        kwargs: keyword arguments beside a tuple.
        form: ``"graph"`` traces the graph form of the generator (see `to_graph`), in which sizes
            written in Python can change too; `cut` with this graph then returns a graph form.
        keep: atoms of an earlier trace of the same network to keep whole, each with its reason.
        trial: cut copies for trial to find sizes that Python holds (skip only for a network that
            has just been cut itself).
        exact: a cut must not change the output. Without, numbers and norms over all channels may
            change with the widths, and channels that nothing silences may go: for a network that
            learns on after the cut, such as a discriminator. Only the shapes must fit.
        train: trace train() with eval() in any case.
        follow: attributes that an earlier cut of the same network changed: they count channels.

    Raises:
        GraphError: the forward fails on the example, or the module cannot be copied, is wrapped,
            compiled or distributed; or it has no graph form.
    """
    refuse_shells(generator)
    if form != "module":
        generator = in_form(generator, example, kwargs, form)
    args, kw = call_arguments(example, kwargs)
    problem: Exception | None = None
    for fake in (True, False):
        bench = Workbench(generator, args, kw, fake, exact)
        try:
            tracer, uses, attributes = _record(bench, follow, train)
        except GraphError:
            raise
        except Exception as error:
            # Control flow that depends on data cannot run on fake tensors: run it for real.
            problem = error
            continue
        graph = _settle(bench, tracer, uses, attributes, keep, trial, follow)
        if not train:
            graph.trains = in_train(bench, graph, trial)
        if graph.trains == "breaks":
            return trace(
                generator,
                args,
                kw,
                keep=keep,
                trial=trial,
                exact=exact,
                train=True,
                follow=follow,
            )
        return graph
    raise GraphError(
        f"the forward of {type(generator).__name__} fails on the example: "
        f"{type(problem).__name__}: {problem}. Check the example inputs by calling the generator."
    ) from problem


def _record(
    bench: Workbench, follow: Set[AttributeKey], train: bool
) -> tuple[Tracer, list[SizeUse], dict[AttributeKey, int]]:
    """Record a run; more of them where state is carried on, or for ``train``."""
    tracer, uses = Tracer(bench.exact), []
    twin = bench.copy()
    tracer.add_parameters(twin, dict(named_tensors(twin)))
    _keep_packed(twin, tracer)
    plant(twin, follow)
    attributes = _planted(twin)
    for path, name, value in tensor_numbers(bench.generator):
        attributes[(path, name, None)] = value
    tracer.watch_modules(twin)

    def prefix(dim: tuple[Factor, ...], n: int) -> tuple[Factor, ...]:
        inner = math.prod(f.size for f in dim[1:])
        if len(dim) > 1 and dim[0].atoms is not None and n % inner == 0:
            return (Factor(n // inner, dim[0].atoms[: n // inner]), *dim[1:])
        flat = tracer.space.flat(dim, Reason("slice", "", "sliced"))
        return () if flat.atoms is None else (Factor(n, flat.atoms[:n]),)

    def counted() -> Any:
        recent = next((op for op in reversed(tracer.ops[-4:]) if op.counts), None)
        return recent.counts[0][1] if recent is not None else None

    watch = SizeWatch(tracer.dims, prefix, counted, uses)
    before = {n: id(p) for n, p in twin.named_parameters()}
    state = Snapshot(twin, values=bench.mode is None)
    tensors = _pass(bench, twin, tracer, watch)
    if tensors and tensors[0].dim() > 1:
        tracer.batch = tensors[0].shape[0]
    if not tensors:
        raise GraphError(f"the forward of {type(twin).__name__} returns no tensor")
    _state_norms(twin, tracer, uses, attributes)
    _further_passes(bench, twin, tracer, watch, state, train)
    for name, p in twin.named_parameters():
        if before.get(name) != id(p):
            raise GraphError(
                f"forward replaces its own parameter {name!r}: its channels cannot be followed. "
                "Compute the weight into a local variable instead."
            )
    return tracer, uses, attributes


def _pass(bench: Workbench, twin: nn.Module, tracer: Tracer, watch: SizeWatch) -> list[Tensor]:
    """Record one call; return the tensors in its output, whose channels are kept."""
    args, kwargs = bench.inputs()
    for t in tensors_of((args, kwargs)):
        tracer.remember(t, tuple(opaque(n, "an input") for n in t.shape), static=False)
    with bench.running(), RecordMode(tracer), DataMode(tracer), watch:
        out = twin(*args, **kwargs)
    found = tensors_of(out)
    tracer.use(found)
    for t in found:
        for dim in tracer.dims(t):
            tracer.space.freeze_dim(dim, Reason("output", "", "is an output of the network"))
    return found


def _further_passes(
    bench: Workbench,
    twin: nn.Module,
    tracer: Tracer,
    watch: SizeWatch,
    state: Snapshot,
    train: bool,
) -> None:
    """Record calls that go on from the state that the first left behind, and those in train()."""
    bench.passes, tracer.starts = [False], [0]
    macs, outputs = list(tracer.macs), dict(tracer.outputs)
    for training in (False, True) if train else (False,):
        switch(twin, training)
        for number in range(_CALLS):
            go_on = state.rebound() or (bench.mode is None and state.rewritten())
            if not (go_on or (training and number == 0)):
                break
            start = len(tracer.ops)
            try:
                _pass(bench, twin, tracer, watch)
            except GraphError:
                raise
            except Exception:  # it cannot be called again like this, cut or not
                del tracer.ops[start:]
                break
            bench.passes.append(training)
            tracer.starts.append(start)
            if _shown(tracer, start) == _shown(tracer, tracer.starts[-2]):
                break
    # Cost is that of one call in eval().
    tracer.macs, tracer.outputs = macs, tracer.outputs | outputs


def _shown(tracer: Tracer, start: int) -> list[tuple[str, list[tuple[int, ...]]]]:
    later = [s for s in tracer.starts if s > start]
    ops = tracer.ops[start : later[0] if later else None]
    return [(op.name, op.shapes) for op in ops]


def _keep_packed(twin: nn.Module, tracer: Tracer) -> None:
    """Keep the weights that only their own module can read: flat ones, and compiled ones."""
    for path, sub in twin.named_modules():
        if isinstance(sub, nn.RNNBase):
            reason = Reason(type(sub).__name__, "", "packs its gates into flat weights")
        elif isinstance(sub, torch.jit.ScriptModule):
            text = f"{path} is a TorchScript module, whose weights cannot be cut: pass its original"
            reason = Reason("torch.jit", "", text)
        else:
            continue
        for tensor in (*sub.parameters(), *sub.buffers()):
            for dim in tracer.dims(tensor):
                tracer.space.freeze_dim(dim, reason)


def _state_norms(
    twin: nn.Module, tracer: Tracer, uses: list[SizeUse], attributes: dict[AttributeKey, int]
) -> None:
    """Note the stated size of norms without tensors: instance norm compares it with its input.

    And the shape that a layer norm states, where its channels may go.
    """
    for path, sub in twin.named_modules():
        dims = tracer.outputs.get(path)
        if isinstance(sub, nn.LayerNorm | nn.RMSNorm) and dims and not tracer.exact:
            for i, n in enumerate(map(int, sub.normalized_shape)):
                key = (path, "normalized_shape", i)
                attributes[key] = n
                dim = dims[i - len(sub.normalized_shape)]
                uses.append(SizeUse(leaf(key, n), dim, "norm", ""))
        if not isinstance(sub, nn.modules.batchnorm._NormBase) or not dims:
            continue
        if sub.affine or sub.running_mean is not None:
            continue
        unbatched = isinstance(sub, nn.modules.instancenorm._InstanceNorm) and (
            len(dims) == sub._get_no_batch_dim()
        )
        key = (path, "num_features", None)
        if len(dims) > 1 and isinstance(sub.num_features, int) and sub.num_features > 1:
            attributes[key] = sub.num_features
            uses.append(
                SizeUse(leaf(key, sub.num_features), dims[0 if unbatched else 1], "norm", "")
            )


def _planted(twin: nn.Module) -> dict[AttributeKey, int]:
    found: dict[AttributeKey, int] = {}
    for sub in twin.modules():
        for _, value in numbers_in(sub):
            for v in value if isinstance(value, (tuple, list, np.ndarray)) else (value,):
                if isinstance(v, TracedInt):
                    found.update(dict.fromkeys(v.attributes, int(v)))
    return found


def _settle(
    bench: Workbench,
    tracer: Tracer,
    uses: list[SizeUse],
    attributes: dict[AttributeKey, int],
    keep: Sequence[tuple[np.ndarray, Reason]],
    trial: bool,
    follow: Set[AttributeKey],
) -> ChannelGraph:
    """Solve, freeze what cannot be silenced or is unused, and let the probe veto the rest."""
    _tie_tiles(tracer)
    extra: list[tuple[np.ndarray, Reason]] = list(keep)
    for name in _unused(tracer):
        reason = Reason("", "", "is not used by this forward")
        for (n, _), factor in tracer.slots.items():
            if n == name and factor.atoms is not None:
                extra.append((factor.atoms, reason))
    while True:
        solution = tracer.space.solve(extra)
        unheard = [
            (read.atoms, read.reason)
            for read in tracer.reads
            if bench.exact and read.silence is None and not solution.all_frozen(read.atoms)
        ]
        if unheard:
            extra += unheard
            continue
        graph = _graph(bench, tracer, solution, uses, attributes, keep, follow)
        # What Python computes out of sizes must be followed after a cut as before it.
        found = probe(bench, graph) if trial else by_arithmetic(graph)
        if not found:
            return graph
        for rows, reason in found.ties:
            for row in rows[1:]:
                tracer.space.tie(rows[0], row, reason)
        extra += found.freezes
        uses += found.uses


def _graph(
    bench: Workbench,
    tracer: Tracer,
    solution: Solution,
    uses: list[SizeUse],
    attributes: dict[AttributeKey, int],
    keep: Sequence[tuple[np.ndarray, Reason]],
    follow: Set[AttributeKey],
) -> ChannelGraph:
    return ChannelGraph(
        slots=tracer.slots,
        shapes={n: tuple(t.shape) for n, t in named_tensors(bench.generator)},
        trainable=(n for n, _ in bench.generator.named_parameters()),
        solution=solution,
        ops=tracer.ops,
        macs=tracer.macs,
        reads=[read for read in tracer.reads if bench.exact or read.silence is not None],
        outputs=tracer.outputs,
        uses=uses,
        attributes=attributes,
        fake=bench.mode is not None,
        batch=tracer.batch,
        sequences=_sequences(bench.generator, attributes),
        example=bench.example,
        keep=keep,
        exact=bench.exact,
        follow=follow,
        form="graph" if isinstance(bench.generator, GraphForm) else "module",
        passes=bench.passes,
        starts=tracer.starts,
        trains="traced" if True in bench.passes else "fails",
    )


def _sequences(
    generator: nn.Module, attributes: Mapping[AttributeKey, int]
) -> dict[tuple[str, str], Sequence[int]]:
    """Return the tuple and list attributes of which an item may change."""
    pairs = {(path, name) for path, name, index in attributes if index is not None}
    return {(p, n): number_at(generator.get_submodule(p), n) for p, n in pairs}


def _unused(tracer: Tracer) -> set[str]:
    """Names of parameters and buffers that no operator touched."""
    read = [dims for op in tracer.ops for dims in op.inputs]
    touched = [
        f.atoms for dims in (*read, *tracer.replaced) for d in dims for f in d
        if f.atoms is not None
    ]  # fmt: skip
    seen = np.zeros(tracer.space.count, bool)
    for atoms in touched:
        seen[atoms] = True
    names: dict[str, bool] = {}
    for (name, _), factor in tracer.slots.items():
        assert factor.atoms is not None
        names[name] = names.get(name, False) or bool(seen[factor.atoms].any())
    return {n for n, used in names.items() if not used}


def _tie_tiles(tracer: Tracer) -> None:
    """Slices that tile a dimension in equal parts (x[:, :c//2], x[:, c//2:]) must stay equal."""
    by_whole: dict[bytes, tuple[np.ndarray, set[tuple[int, int]]]] = {}
    for atoms, start, stop in tracer.slices:
        by_whole.setdefault(atoms.tobytes(), (atoms, set()))[1].add((start, stop))
    for atoms, cuts in by_whole.values():
        ordered = sorted(cuts)
        sizes = {stop - start for start, stop in ordered}
        tiles = [s for s, _ in ordered] + [len(atoms)] == [0] + [e for _, e in ordered]
        if len(sizes) == 1 and tiles and len(ordered) > 1:
            first = atoms[ordered[0][0] : ordered[0][1]]
            for start, stop in ordered[1:]:
                reason = Reason("slice", "", "equal slices of one dimension")
                tracer.space.tie(first, atoms[start:stop], reason)
