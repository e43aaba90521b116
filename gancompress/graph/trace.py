"""trace(): run a generator once, write down its channels, check that Python lets them go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
from torch import nn

from gancompress.errors import GraphError
from gancompress.graph.atoms import Reason, Solution
from gancompress.graph.attributes import number_at
from gancompress.graph.form.module import GraphForm
from gancompress.graph.form.to_graph import in_form
from gancompress.graph.groups import ChannelGraph
from gancompress.graph.recording import record_calls
from gancompress.graph.sizes import SizeUse
from gancompress.graph.traced_int import AttributeKey
from gancompress.graph.tracer import Tracer
from gancompress.graph.trial.arithmetic import by_arithmetic
from gancompress.graph.trial.search import probe
from gancompress.graph.trial.train_mode import in_train
from gancompress.graph.trial.workbench import Workbench
from gancompress.modules.copying import named_tensors, refuse_shells
from gancompress.modules.nested import call_arguments


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
            tracer, uses, attributes = record_calls(bench, follow, train)
        except GraphError:
            raise
        except Exception as error:
            # Control flow that depends on data cannot run on fake tensors: run it for real.
            problem = error
            continue
        graph = _settle(bench, tracer, uses, attributes, keep, trial, follow)
        if not train:
            graph.trains = in_train(bench, graph, trial)
            if graph.trains == "fails" and fake:
                # Its path may follow numbers that torch draws.
                graph.trains = in_train(Workbench(generator, args, kw, False, exact), graph, trial)
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
