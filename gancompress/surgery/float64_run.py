"""Calls of a network in float64 that leave it as it was, and how far two outcomes differ."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from gancompress.errors import GraphError
from gancompress.graph.plan import Plan
from gancompress.modules.calm import Calm
from gancompress.modules.copying import all_tensors, copy_with
from gancompress.modules.finite import first_not_finite
from gancompress.modules.nested import map_tensors, tensors_of
from gancompress.modules.snapshot import Snapshot
from gancompress.modules.undisturbed import generators, undisturbed
from gancompress.modules.user_line import failing_line
from gancompress.surgery.float64 import Float64, widened
from gancompress.surgery.fresh_inputs import is_float, redraw
from gancompress.surgery.raw_tensors import raw_tensors
from gancompress.surgery.slicing import slice_tensor

WITHOUT_FLOAT64 = {"mps"}
"""Kinds of devices that have no float64: networks there are compared on the CPU."""

_CALLS = 3
_FAILURES = (RuntimeError, TypeError, AssertionError, ValueError)

StandIn = Mapping[int, Callable[[], torch.Tensor]]
Example = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Calls:
    """What calls in a row put out (complex tensors as real ones), and the buffers they left."""

    outputs: list[list[torch.Tensor]]
    buffers: dict[str, torch.Tensor]

    @property
    def later(self) -> list[torch.Tensor]:
        """The outputs of all calls but the first."""
        return [t for out in self.outputs[1:] for t in out]


def run(
    module: nn.Module, example: Example, stand_in: StandIn | None = None, *, calm: bool = False
) -> list[torch.Tensor]:
    """Return the outputs of one call in eval mode; see `calls`."""
    return calls(module, example, stand_in, count=1, calm=calm).outputs[0]


def calls(
    module: nn.Module,
    example: Example,
    stand_in: StandIn | None = None,
    *,
    training: bool = False,
    calm: bool = False,
    count: int | None = None,
) -> Calls:
    """Return the float64 outputs of calls in a row that leave everything as it was (ours).

    Args:
        module: the network.
        example: arguments and keyword arguments of each call.
        stand_in: by id of a parameter, what makes the tensor to use in its place.
        training: in train mode, without chance (see `Calm`).
        calm: without chance in eval mode too.
        count: of calls; by default three where the first leaves state behind, else one.

    Raises:
        GraphError: the forward does not run in float64.
    """
    tensors = list(all_tensors(module))
    lower = {t.dtype for t in tensors if is_float(t) and t.dtype != torch.float64}
    seen_as = next(iter(lower)) if len(lower) == 1 else None
    elsewhere = any(t.device.type in WITHOUT_FLOAT64 for t in tensors)

    def up(t: torch.Tensor) -> torch.Tensor:
        t = t.cpu() if t.device.type in WITHOUT_FLOAT64 else t
        return widened(t)

    example = map_tensors(example, up)
    calming = Calm() if training or calm else contextlib.nullcontext()
    if not elsewhere:
        try:
            with undisturbed(module, training=training), calming:
                return _series(module, example, Float64(stand_in, seen_as), training, count)
        except _FAILURES:
            # Compiled code sees the float32 parameters behind the mode (or traces into it and
            # stumbles), and a forward that writes to `parameter.data` would write to what stands in
            # for it: use a real copy.
            pass
    try:
        with undisturbed(module, training=training):
            copy = double_copy(module, stand_in)
            with undisturbed(copy, training=training), calming:
                return _series(copy, example, _double_by_default(), training, count)
    except _FAILURES as error:
        raise GraphError(
            f"the forward of {type(module).__name__} does not run in float64, in which "
            f"networks are compared: {failing_line(error) or type(error).__name__}: "
            f"{error}. Let it take its dtype from its inputs"
        ) from error


def _series(
    module: nn.Module,
    example: Example,
    mode: contextlib.AbstractContextManager[Any],
    training: bool,
    count: int | None,
) -> Calls:
    outputs: list[list[torch.Tensor]] = []
    seed_all(module)
    before = Snapshot(module, beside=True) if count is None else None
    with mode:
        while len(outputs) < (count or _CALLS):
            out = module(*example[0], **example[1])
            # Cloned: an output may be state of the network, which is about to be put back.
            outputs.append([_real(t).clone() for t in tensors_of(out) if _counts(t)])
            # Norms rewrite their statistics in every call of train(), and read none of them.
            if before is not None and not (
                before.rebound() or (not training and before.rewritten())
            ):
                break
    buffers = {
        n: t.detach().clone() for n, t in raw_tensors(module).items()
        if is_float(t) and not isinstance(t, nn.Parameter)
    }  # fmt: skip
    return Calls(outputs, buffers)


def _counts(t: torch.Tensor) -> bool:
    return t.is_floating_point() or t.is_complex()


def _real(t: torch.Tensor) -> torch.Tensor:
    t = t.detach()
    return torch.view_as_real(t.resolve_conj()) if t.is_complex() else t


def seed_all(module: nn.Module) -> None:
    """Seed every source of random numbers that a forward may draw from."""
    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)
    for generator in generators(module):
        if isinstance(generator, torch.Generator):
            generator.manual_seed(7)
        elif isinstance(generator, np.random.Generator):
            generator.bit_generator.state = type(generator.bit_generator)(7).state
        else:
            generator.seed(7)


@contextlib.contextmanager
def _double_by_default() -> Iterator[None]:
    """Make the tensors of a forward float64 too, where it does not say."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def double_copy(module: nn.Module, stand_in: StandIn | None) -> nn.Module:
    """Return a float64 copy, with the stand-ins in place; on the CPU where a device has none."""

    def replace(t: torch.Tensor) -> torch.Tensor:
        new = (stand_in or {}).get(id(t), lambda: t.detach().clone())()
        new = new.cpu() if new.device.type in WITHOUT_FLOAT64 else new
        new = widened(new)
        return nn.Parameter(new, requires_grad=False) if isinstance(t, nn.Parameter) else new

    return copy_with(module, replace)


def fresh_run(module: nn.Module, example: Example, seed: int) -> tuple[Example, Calls]:
    """Return redrawn inputs and what calls make of them; the example's where those do not do.

    Some networks take inputs of one kind only: a camera, a mask that leaves something to look at.
    """
    inputs = redraw(example, seed)
    try:
        found = calls(module, inputs)
        if all(comparable(out) for out in found.outputs):
            return inputs, found
    except GraphError:
        pass  # if the example does not run either, that is told
    return example, calls(module, example)


def comparable(outputs: Sequence[torch.Tensor]) -> bool:
    """Whether numbers can be compared: none is NaN, and not all of a tensor are infinite.

    Some may be: scores of attention that are handed out have minus infinity where none may look.
    """
    return all(not t.isnan().any() and (not t.numel() or bool(t.isfinite().any())) for t in outputs)


def distance(a: Sequence[torch.Tensor], b: Sequence[torch.Tensor]) -> float:
    """Return max |a - b| / std(a) over pairs of outputs; infinite for other shapes or NaN.

    Infinities must stand in the same places; the rest is compared.
    """
    worst = 0.0
    if len(a) != len(b) or not a:
        return float("inf")
    for x, y in zip(a, b, strict=True):
        if x.shape != y.shape or not (comparable([x]) and comparable([y])):
            return float("inf")
        finite = x.isfinite() & y.isfinite()
        if not finite.all():
            if not torch.equal(x[~finite], y[~finite]):
                return float("inf")
            x, y = x[finite], y[finite]
        scale = float(x.std()) if x.numel() > 1 else float(x.abs().max())
        gap = float((x - y).abs().max()) if x.numel() else 0.0
        worst = max(worst, gap / scale if scale > 0 else (float("inf") if gap else 0.0))
    return worst


def later_distance(a: Calls, b: Calls) -> float | None:
    """Return `distance` of all calls but the first; None where there was one call."""
    if len(a.outputs) == len(b.outputs) == 1:
        return None
    return distance(a.later, b.later)


def state_distance(a: Calls, b: Calls, plan: Plan | None) -> float:
    """Return the `distance` of the buffers that calls left behind, as cut by ``plan``."""
    worst = 0.0
    for name, old in a.buffers.items():
        kept = plan.tensors.get(name) if plan is not None else None
        left = old if kept is None else slice_tensor(old, kept)
        new = b.buffers.get(name)
        # What no plan names may be of any size (a cache), and is read if it matters.
        if new is None or (kept is None and new.shape != left.shape):
            continue
        if left.numel() and left.isfinite().all():
            # What one network leaves at zero the other must leave there too, near enough.
            scale = float(left.abs().max()) or 1.0
            worst = max(worst, float((left - new).abs().max()) / scale)
    return worst


def not_finite(module: nn.Module) -> str:
    """Say which parameter or buffer first holds NaN, or else infinity; empty if none does."""
    return first_not_finite(raw_tensors(module).items())
