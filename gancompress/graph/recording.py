"""record_calls(): run a copy and write down what each operator does to the channels."""

from __future__ import annotations

import math
from collections.abc import Set
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gancompress.errors import GraphError
from gancompress.graph.atoms import Factor, Reason, opaque
from gancompress.graph.attributes import numbers_in, tensor_numbers
from gancompress.graph.record import DataMode, RecordMode
from gancompress.graph.sizes import SizeUse, SizeWatch, plant
from gancompress.graph.traced_int import AttributeKey, TracedInt, leaf
from gancompress.graph.tracer import Tracer
from gancompress.graph.trial.workbench import CHANCES, Workbench, switch
from gancompress.modules.copying import named_tensors
from gancompress.modules.nested import tensors_of
from gancompress.modules.snapshot import Snapshot
from gancompress.modules.undisturbed import preserved

_CALLS = 4
"""Calls in a row at most; state that goes round in more of them is not followed further."""


def record_calls(
    bench: Workbench, follow: Set[AttributeKey], train: bool
) -> tuple[Tracer, list[SizeUse], dict[AttributeKey, int]]:
    """Record a run; more of them where state is carried on, or for ``train``.

    Returns:
        What was seen; where Python held sizes; the numbers in attributes that may count channels.

    Raises:
        GraphError: the forward returns no tensor, or replaces a parameter of its own.
    """
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
    state = Snapshot(twin, values=bench.mode is None, beside=True)
    with preserved(bench.generator, values=False, beside=True):
        tensors = _pass(bench, twin, tracer, watch)
        if tensors and tensors[0].dim() > 1:
            tracer.batch = tensors[0].shape[0]
        if not tensors:
            raise GraphError(f"the forward of {type(twin).__name__} returns no tensor")
        _state_norms(twin, tracer, uses, attributes)
        _further_passes(bench, twin, tracer, watch, state, train)
    for name, p in twin.named_parameters():
        if name not in before:
            raise GraphError(
                f"the forward of {type(twin).__name__} makes {name!r} in its first call: call the "
                "generator once, so that its layers are there, before it is wrapped or traced"
            )
        if before[name] != id(p):
            raise GraphError(
                f"forward replaces its own parameter {name!r}: its channels cannot be followed. "
                "Compute the weight into a local variable instead."
            )
    return tracer, uses, attributes


def _pass(
    bench: Workbench,
    twin: nn.Module,
    tracer: Tracer,
    watch: SizeWatch,
    number: int = 0,
    *,
    training: bool = False,
) -> list[Tensor]:
    """Record the ``number``-th call; return the tensors in its output, whose channels are kept."""
    args, kwargs = bench.inputs()
    for t in tensors_of((args, kwargs)):
        tracer.remember(t, tuple(opaque(n, "an input") for n in t.shape), static=False)
    # What classes and globals hold is carried on to the next call, as in a trial cut.
    modes = RecordMode(tracer), DataMode(tracer)
    with (
        bench.running(restore=False), modes[0], modes[1], watch, bench.drawing(number, training),
    ):  # fmt: skip
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
        chance = False
        for number in range(CHANCES if training else _CALLS):
            go_on = state.rebound() or (bench.mode is None and state.rewritten())
            if not (go_on or (training and (number == 0 or chance))):
                break
            start = len(tracer.ops)
            try:
                _pass(bench, twin, tracer, watch, len(bench.passes), training=training)
            except GraphError:
                raise
            except Exception:
                if training and bench.mode is not None and number == 0:
                    raise  # a path that follows what torch draws: run it for real
                del tracer.ops[start:]  # it cannot be called again like this, cut or not
                break
            bench.passes.append(training)
            tracer.starts.append(start)
            chance = training and bench.drawn
            if not chance and _shown(tracer, start) == _shown(tracer, tracer.starts[-2]):
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
