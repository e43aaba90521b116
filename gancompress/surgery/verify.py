"""Verify: the masked and the cut network must be the same function, in float64."""

from __future__ import annotations

import contextlib
import random
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from gancompress.errors import GraphError, TargetError
from gancompress.graph.plan import Plan
from gancompress.modules.copying import all_tensors, copy_with, require_module
from gancompress.modules.nested import call_arguments, map_tensors, tensors_of
from gancompress.modules.undisturbed import generators, undisturbed
from gancompress.modules.user_line import failing_line
from gancompress.surgery.float64 import Float64
from gancompress.surgery.raw_tensors import raw_tensors
from gancompress.surgery.slicing import slice_tensor

TOLERANCE = 1e-9
LOOSEST = 1e-6
"""No rounding excuses more than this in the randomised run; a wrong cut is off by far more."""


@dataclass(frozen=True)
class Verification:
    """Result of `verify`.

    Attributes:
        max_error: max |a - b| / std(a) over all outputs, in float64; infinite for NaN.
        passed: whether the cut network may be used.
        max_error_randomised: the same with randomised parameters and statistics (None: not run).
        sensitivity: how far the output moves with the input, in the same unit; 0 means dead.
    """

    max_error: float
    passed: bool
    max_error_randomised: float | None = None
    sensitivity: float = 0.0

    def __str__(self) -> str:
        worst = max(self.max_error, self.max_error_randomised or 0.0)
        text = f"max error {worst:.1e} of the output's standard deviation (float64)"
        if self.passed:
            return f"exact: {text}"
        if self.sensitivity == 0:
            return f"NOT verified: the output does not follow the input; {text}"
        return f"NOT exact: {text}"


def verify(
    masked_generator: nn.Module,
    small: nn.Module,
    example: Any,
    kwargs: Mapping[str, Any] | None = None,
    *,
    plan: Plan | None = None,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> Verification:
    """Compare a masked network with its cut version in float64, on fresh inputs (ours; eval mode).

    Args:
        masked_generator: the network whose dropped channels are gated to zero.
        small: what `cut` returned.
        example: inputs of one call (their floating-point tensors are redrawn), as for `trace`.
        kwargs: keyword arguments beside a tuple.
        plan: when given, a second pair of runs uses randomised parameters and statistics: a fresh
            network hides errors behind beta = 0.
        tolerance: largest max |a - b| / std(a) that passes. The randomised pair may differ by as
            much as the masked network does when its inputs change by 1e-13 of themselves.
        seed: of the fresh inputs.

    Returns:
        The verification; it also fails when the output does not follow the input, since a dead
        network would pass anything.
    """
    require_module(masked_generator)
    require_module(small)
    args, kw = call_arguments(example, kwargs)
    example_inputs = (args, kw)
    fresh, big = fresh_run(masked_generator, example_inputs, seed)
    other = redraw(example_inputs, seed + 1)
    if fresh is example_inputs:
        other = nudged(example_inputs, seed, by=1e-2)
    little = run(small, fresh)
    error = distance(big, little)
    floats = [t for t in tensors_of((args, kw)) if is_float(t)]
    sensitivity = distance(little, run(small, other)) if floats else 1.0
    worst, allowed = None, tolerance
    if plan is not None:
        constants = {
            f"{path}.{name}".lstrip(".")
            for path, sub in masked_generator.named_modules()
            for name in sub._non_persistent_buffers_set
        }
        big_names = {n: t for n, t in raw_tensors(masked_generator).items() if n not in constants}
        stand = stand_ins(big_names, big_names, None, seed)
        small_stand = stand_ins(big_names, raw_tensors(small), plan, seed)
        big = run(masked_generator, fresh, stand)
        worst = distance(big, run(small, fresh, small_stand))
        if worst > tolerance:
            # Random weights can make a deep network amplify rounding: ask it by how much.
            moved = distance(big, run(masked_generator, nudged(fresh, seed), stand))
            allowed = max(tolerance, min(moved, LOOSEST))
    passed = error <= tolerance and (worst or 0.0) <= allowed and sensitivity > 0
    return Verification(error, bool(passed), worst, sensitivity)


def is_float(t: Any) -> bool:
    """Whether ``t`` is a real floating-point tensor."""
    return isinstance(t, torch.Tensor) and t.is_floating_point()


def fresh_run(module: nn.Module, example: Any, seed: int) -> tuple[Any, list[torch.Tensor]]:
    """Return redrawn inputs and their outputs; the example itself where those are not finite.

    Some networks take inputs of one kind only: a camera, a mask that leaves something to look at.
    """
    for inputs in (redraw(example, seed), example):
        out = run(module, inputs)
        if all(bool(t.isfinite().all()) for t in out):
            break
    return inputs, out


def nudged(example: Any, seed: int, by: float = 1e-13) -> Any:
    """Return the inputs with every floating-point number changed by about ``by`` of itself."""
    rng = torch.Generator().manual_seed(seed)

    def nudge(t: Any) -> Any:
        if not is_float(t):
            return t
        return t.double() * (1 + by * torch.randn(t.shape, generator=rng).to(t.device).double())

    return map_tensors(example, nudge)


def redraw(example: Any, seed: int) -> Any:
    """Return inputs of the same kind, with new values in floating-point tensors (ours).

    Values keep their mean, spread, minimum and maximum. Tensors of two values (one-hot rows, masks)
    have their rows permuted, channel by channel where only some are such (an image and its mask).
    When nothing can vary that way (an example of zeros), constant tensors become normal noise
    around their value.
    """
    changed, changing = _redraw(example, seed, bold=False)
    return changed if changing else _redraw(example, seed, bold=True)[0]


def _redraw(example: Any, seed: int, *, bold: bool) -> tuple[Any, bool]:
    """Return the new inputs, and whether any tensor could vary."""
    rng = torch.Generator().manual_seed(seed)
    varied = []

    def change(t: Any) -> Any:
        if not is_float(t) or not t.numel():
            return t
        values = t.unique().numel()
        if values == 1:
            return t + torch.randn(t.shape, generator=rng).to(t) if bold else t
        varied.append(True)
        if values == 2:
            return t[torch.randperm(t.shape[0], generator=rng).to(t.device)]
        if t.dim() > 2 and t.shape[1] > 1 and t[:, 0].numel() > 2:
            # An image and its mask may lie in one tensor: each channel stays of its kind.
            columns = t.unbind(1)
            if any(c.unique().numel() <= 2 for c in columns):
                return torch.stack([change(c) for c in columns], 1)
        low, high = t.min(), t.max()
        noise = torch.randn(t.shape, generator=rng).to(t)
        return (noise * t.std() + t.mean()).clamp(low, high).to(t.dtype)

    return map_tensors(example, change), bool(varied)


def run(
    module: nn.Module,
    example: tuple[tuple[Any, ...], dict[str, Any]],
    stand_in: Mapping[int, Callable[[], torch.Tensor]] | None = None,
) -> list[torch.Tensor]:
    """Return the float64 outputs of one eval-mode call that leaves everything as it was (ours).

    Raises:
        GraphError: the forward does not run in float64.
    """
    lower = {t.dtype for t in all_tensors(module) if is_float(t) and t.dtype != torch.float64}
    seen_as = next(iter(lower)) if len(lower) == 1 else None
    example = map_tensors(example, lambda t: t.double() if is_float(t) else t)
    with undisturbed(module):
        try:
            out = _seeded(module, example, Float64(stand_in, seen_as))
        except (RuntimeError, TypeError, AssertionError):
            # Compiled code sees the float32 parameters behind the mode (or traces into it and
            # stumbles), and a forward that writes to `parameter.data` would write to what stands in
            # for it: use a real copy.
            try:
                out = _seeded(double_copy(module, stand_in), example, _double_by_default())
            except (RuntimeError, TypeError, AssertionError) as error:
                raise GraphError(
                    f"the forward of {type(module).__name__} does not run in float64, in which "
                    f"networks are compared: {failing_line(error) or type(error).__name__}: "
                    f"{error}. Let it take its dtype from its inputs"
                ) from error
    return [t for t in tensors_of(out) if is_float(t)]


def _seeded(module: nn.Module, example: Any, mode: contextlib.AbstractContextManager[Any]) -> Any:
    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)
    for generator in generators(module):
        generator.manual_seed(7)
    with mode:
        return module(*example[0], **example[1])


@contextlib.contextmanager
def _double_by_default() -> Iterator[None]:
    """Make the tensors of a forward float64 too, where it does not say."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def double_copy(
    module: nn.Module, stand_in: Mapping[int, Callable[[], torch.Tensor]] | None
) -> nn.Module:
    """Return a float64 copy, with the stand-ins in place."""

    def replace(t: torch.Tensor) -> torch.Tensor:
        new = (stand_in or {}).get(id(t), lambda: t.detach().clone())()
        new = new.double() if is_float(new) else new
        return nn.Parameter(new, requires_grad=False) if isinstance(t, nn.Parameter) else new

    return copy_with(module, replace)


def distance(a: list[torch.Tensor], b: list[torch.Tensor]) -> float:
    """Return max |a - b| / std(a) over pairs of outputs; infinite for other shapes or NaN."""
    worst = 0.0
    if len(a) != len(b) or not a:
        return float("inf")
    for x, y in zip(a, b, strict=True):
        if x.shape != y.shape or not (x.isfinite().all() and y.isfinite().all()):
            return float("inf")
        scale = float(x.std()) if x.numel() > 1 else float(x.abs().max())
        gap = float((x - y).abs().max()) if x.numel() else 0.0
        worst = max(worst, gap / scale if scale > 0 else (float("inf") if gap else 0.0))
    return worst


def stand_ins(
    originals: Mapping[str, torch.Tensor],
    tensors: Mapping[str, torch.Tensor],
    plan: Plan | None,
    seed: int,
) -> dict[int, Callable[[], torch.Tensor]]:
    """Make randomised parameters and statistics, generated anew at each use (no copy is kept).

    Values are multiplied by 1 + 0.3 n; a constant tensor (beta = 0, gamma = 1) gets 0.2 n added.
    """

    def maker(name: str) -> Callable[[], torch.Tensor]:
        def make() -> torch.Tensor:
            t = originals[name].detach()
            rng = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{name}".encode()))
            noise = torch.randn(t.shape, generator=rng).to(t)
            constant = t.numel() < 2 or float(t.std()) == 0
            new = t + 0.2 * noise if constant else t * (1 + 0.3 * noise)
            if "var" in name.rsplit(".", 1)[-1]:
                new = new.abs() + 0.1
            kept = plan.tensors.get(name) if plan is not None else None
            return slice_tensor(new, kept) if kept is not None else new

        return make

    return {id(t): maker(n) for n, t in tensors.items() if n in originals and is_float(t)}


class CutCheck:
    """Remembers what a wrapped generator puts out, to compare it with itself after a cut (ours)."""

    def __init__(self, generator: nn.Module, example: Any, seed: int) -> None:
        self._generator, self._inputs = generator, redraw(example, seed)
        self._before = run(generator, self._inputs)

    def error(self) -> float:
        """Return max |before - after| / std(before).

        Raises:
            TargetError: it is more than what `verify` lets pass.
        """
        error = distance(self._before, run(self._generator, self._inputs))
        if not error <= TOLERANCE:
            raise TargetError(
                f"the live cut is refused: the output moves by {error:.1e} of its standard "
                "deviation (float64). Exclude layers with exclude=(...) to find the one at fault"
            )
        return error
