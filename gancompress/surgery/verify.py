"""Verify: the masked and the cut network must be the same function, in float64."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from gancompress.errors import GraphError, TargetError
from gancompress.graph.plan import Plan
from gancompress.modules.copying import require_module
from gancompress.modules.nested import call_arguments, tensors_of
from gancompress.surgery.float64_run import (
    Calls,
    Example,
    calls,
    comparable,
    distance,
    fresh_run,
    later_distance,
    not_finite,
    run,
    state_distance,
)
from gancompress.surgery.fresh_inputs import is_float, nudged, redraw
from gancompress.surgery.raw_tensors import raw_tensors
from gancompress.surgery.slicing import slice_tensor

TOLERANCE = 1e-9
LOOSEST = 1e-6
"""No rounding excuses more than this; a wrong cut is off by far more."""
STATE_TOLERANCE = 1e-4
"""Of the statistics that train() leaves in buffers of the network's own, lower precision."""


@dataclass(frozen=True)
class Verification:
    """Result of `verify`.

    Attributes:
        max_error: max |a - b| / std(a) over all outputs, in float64; infinite for NaN.
        passed: whether the cut network may be used.
        max_error_randomised: the same with randomised parameters and statistics (None: not run).
        sensitivity: how far the output moves with the input, in the same unit; 0 means dead.
        max_error_repeated: of further calls, which go on from the state that the first left behind
            (None: it left none).
        max_error_training: of calls in train(), without dropout and other chance, with the
            statistics that they write (None: train() does not run on the example, or was left out).
        cause: what is wrong with the networks themselves: a tensor with NaN.
    """

    max_error: float
    passed: bool
    max_error_randomised: float | None = None
    sensitivity: float = 0.0
    max_error_repeated: float | None = None
    max_error_training: float | None = None
    cause: str = ""

    @property
    def untested(self) -> bool:
        """Whether nothing is wrong, but no input moves the output: any cut would have passed."""
        later = (self.max_error_randomised, self.max_error_repeated, self.max_error_training)
        errors = (self.max_error, *(e for e in later if e is not None))
        return self.sensitivity == 0 and not self.cause and max(errors) <= LOOSEST

    def __str__(self) -> str:
        worst = max(self.max_error, self.max_error_randomised or 0.0)
        text = f"max error {worst:.1e} of the output's standard deviation (float64)"
        if self.passed:
            dead = "" if self.sensitivity else "; the output does not follow the input"
            return f"exact: {text}{dead}"
        if self.cause:
            return f"NOT verified: {self.cause}"
        if self.sensitivity == 0:
            return f"NOT verified: the output does not follow the input; {text}"
        more = {
            "in a further call": self.max_error_repeated,
            "in train()": self.max_error_training,
        }
        for where, error in more.items():
            if error is not None and not error <= LOOSEST:
                text += f", {error:.1e} {where}"
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
    training: bool = True,
) -> Verification:
    """Compare a masked network with its cut version in float64, on fresh inputs (ours).

    In eval mode, over several calls where a call leaves state behind, and in train mode. Both
    networks are left as they were.

    Args:
        masked_generator: the network whose dropped channels are gated to zero.
        small: what `cut` returned.
        example: inputs of one call (their floating-point tensors are redrawn), as for `trace`.
        kwargs: keyword arguments beside a tuple.
        plan: when given, a second pair of runs uses randomised parameters and statistics: a fresh
            network hides errors behind beta = 0.
        tolerance: largest max |a - b| / std(a) that passes. The randomised pair may differ by as
            much as the masked network does when its inputs change by 1e-13 of themselves, and by
            1e-6 at most; so may further calls, and calls in train mode.
        seed: of the fresh inputs.
        training: compare in train mode too (skip where it does the same as eval mode).

    Returns:
        The verification; it also fails when the output does not follow the input, since a dead
        network would pass anything (see `Verification.untested`).

    Raises:
        GraphError: a forward does not run in float64.
    """
    require_module(masked_generator)
    require_module(small)
    example_inputs = call_arguments(example, kwargs)
    fresh, big = fresh_run(masked_generator, example_inputs, seed)
    little = calls(small, fresh, count=len(big.outputs))
    error = distance(big.outputs[0], little.outputs[0])
    floats = [t for t in tensors_of(example_inputs) if is_float(t)]
    moved = _moved(small, example_inputs, fresh, little.outputs[0], seed) if floats else 1.0
    worst, allowed, repeated = None, tolerance, later_distance(big, little)
    if plan is not None:
        worst, allowed = _randomised(masked_generator, small, plan, fresh, tolerance, seed)
    trained = in_training(masked_generator, small, fresh, plan) if training else None
    cause = not_finite(masked_generator) if error == float("inf") else ""
    passed = (
        error <= tolerance
        and (worst or 0.0) <= allowed
        and (repeated or 0.0) <= LOOSEST
        and (trained or 0.0) <= LOOSEST
        and moved > 0
    )
    return Verification(error, bool(passed), worst, moved, repeated, trained, cause)


def _moved(
    small: nn.Module, example: Example, fresh: Example, outputs: list[torch.Tensor], seed: int
) -> float:
    """Return how far other inputs move the output; nudged ones where it takes no others."""
    # Where values can only be permuted two draws may be equal: then the example is the other one.
    others = [] if fresh is example else [redraw(example, seed + 1), example]
    for inputs in (others, [nudged(example, seed, by=by) for by in (1e-2, 1e-4, 1e-6)]):
        gaps: list[float] = []
        for other in inputs:
            with contextlib.suppress(GraphError):
                gaps.append(distance(outputs, run(small, other)))
        if gaps:
            return max(gaps)
    return 1.0  # it checks its inputs to the last digit: nothing to say against it


def _randomised(
    masked: nn.Module, small: nn.Module, plan: Plan, inputs: Example, tolerance: float, seed: int
) -> tuple[float | None, float]:
    """Return the error with randomised tensors (None: it has no finite output), what is allowed."""
    constants = {
        f"{path}.{name}".lstrip(".")
        for path, sub in masked.named_modules()
        for name in sub._non_persistent_buffers_set
    }
    big_names = {n: t for n, t in raw_tensors(masked).items() if n not in constants}
    little_names = raw_tensors(small)
    for bold in (True, False):
        stand = stand_ins(big_names, big_names, None, seed, bold=bold)
        big = run(masked, inputs, stand)
        if not comparable(big):
            continue  # nothing is said about the cut by weights that no network runs with
        stood = stand_ins(big_names, little_names, plan, seed, bold=bold)
        worst = distance(big, run(small, inputs, stood))
        if worst <= tolerance:
            return worst, tolerance
        # Random weights can make a deep network amplify rounding: ask it by how much.
        return worst, rounding_allowed(masked, inputs, big, tolerance, seed, stand)
    return None, tolerance


def rounding_allowed(
    masked: nn.Module,
    inputs: Example,
    outputs: list[torch.Tensor],
    tolerance: float,
    seed: int,
    stand: Mapping[int, Callable[[], torch.Tensor]] | None = None,
) -> float:
    """Return the error that the network's own amplification of rounding explains."""
    moved = distance(outputs, run(masked, nudged(inputs, seed), stand))
    return max(tolerance, min(moved, LOOSEST))


def in_training(
    masked: nn.Module, small: nn.Module, inputs: Example, plan: Plan | None
) -> float | None:
    """Return how far the two differ in train(); None where the masked one does not run in it."""
    try:
        big = calls(masked, inputs, training=True)
    except GraphError:  # batch norm on a batch of one, a forward that wants targets to train on
        return None
    if not all(comparable(out) for out in big.outputs) or not big.outputs[0]:
        return None
    try:
        little = calls(small, inputs, training=True, count=len(big.outputs))
    except GraphError:
        return float("inf")
    return training_distance(big, little, plan)


def training_distance(big: Calls, little: Calls, plan: Plan | None) -> float:
    """Return how far outputs differ; infinity where the statistics that were written do."""
    error = distance([*big.outputs[0], *big.later], [*little.outputs[0], *little.later])
    off = state_distance(big, little, plan) > STATE_TOLERANCE
    return float("inf") if off else error


def stand_ins(
    originals: Mapping[str, torch.Tensor],
    tensors: Mapping[str, torch.Tensor],
    plan: Plan | None,
    seed: int,
    *,
    bold: bool = True,
) -> dict[int, Callable[[], torch.Tensor]]:
    """Make randomised parameters and statistics, generated anew at each use (no copy is kept).

    Values are multiplied by 1 + 0.3 n; a constant tensor (beta = 0, gamma = 1) gets 0.2 n added. A
    buffer without negative numbers keeps none: it may be a variance, a count, the epsilon under a
    root. Where not ``bold``, values are multiplied by 1 to 1.3, and stay zero where they are.
    """

    def maker(name: str) -> Callable[[], torch.Tensor]:
        def make() -> torch.Tensor:
            new = _randomised_values(name, originals[name], seed, bold)
            kept = plan.tensors.get(name) if plan is not None else None
            return slice_tensor(new, kept) if kept is not None else new

        return make

    return {id(t): maker(n) for n, t in tensors.items() if n in originals and is_float(t)}


def _randomised_values(name: str, own: torch.Tensor, seed: int, bold: bool) -> torch.Tensor:
    """Return the numbers that stand in for those of one tensor; see `stand_ins`."""
    t = own.detach()
    rng = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{name}".encode()))
    noise = torch.randn(t.shape, generator=rng).to(t)
    if not bold:
        return t * (1 + 0.3 * noise.abs().clamp(max=1))
    positive = not isinstance(own, nn.Parameter) and bool((t >= 0).all())
    constant = t.numel() < 2 or float(t.std()) == 0
    if constant and not (positive and t.numel() == 1 and float(t) > 0):
        new = t + 0.2 * noise
    else:
        new = t * (1 + 0.3 * noise)
    if "var" in name.rsplit(".", 1)[-1]:
        return new.abs() + 0.1
    return new.abs() if positive else new


class CutCheck:
    """Remembers what a wrapped generator puts out, to compare it with itself after a cut (ours).

    Args:
        generator: before the cut.
        example: inputs of one call, redrawn by ``seed``.
        seed: of the inputs.
        training: compare in train mode too.
    """

    def __init__(
        self, generator: nn.Module, example: Example, seed: int, *, training: bool = False
    ) -> None:
        self._generator = generator
        self._inputs, self._before = fresh_run(generator, example, seed)
        self._trained: Calls | None = None
        if not comparable(self._before.outputs[0]):
            cause = not_finite(generator) or "no weight is, so a sum or a quotient overflows"
            raise TargetError(f"the live cut is refused: the output is not finite; {cause}")
        if training:
            try:
                self._trained = calls(generator, self._inputs, training=True)
            except GraphError:  # it does not run in train() on the example, cut or not
                self._trained = None

    def error(self, plan: Plan | None = None) -> float:
        """Return max |before - after| / std(before).

        Raises:
            TargetError: it is more than what `verify` lets pass.
        """
        after = calls(self._generator, self._inputs, count=len(self._before.outputs))
        error = distance(self._before.outputs[0], after.outputs[0])
        allowed = TOLERANCE
        if TOLERANCE < error <= LOOSEST:
            before = self._before.outputs[0]
            allowed = rounding_allowed(self._generator, self._inputs, before, TOLERANCE, 0)
        repeated = later_distance(self._before, after) or 0.0
        trained = 0.0
        if self._trained is not None:
            count = len(self._trained.outputs)
            now = calls(self._generator, self._inputs, training=True, count=count)
            trained = training_distance(self._trained, now, plan)
        for where, value, most in (
            ("", error, allowed),
            (" in a further call", repeated, LOOSEST),
            (" in train()", trained, LOOSEST),
        ):
            if not value <= most:
                raise TargetError(
                    f"the live cut is refused: the output moves by {value:.1e} of its standard "
                    f"deviation (float64){where}. Exclude layers with exclude=(...) to find the "
                    "one at fault"
                )
        return error
