"""Give every layer of a cut network the weights that reproduce the whole one: no training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.errors import DataError, GraphError
from gancompress.graph.groups import ChannelGraph
from gancompress.graph.plan import Plan
from gancompress.modules.copying import duplicate
from gancompress.surgery.raw_tensors import raw_tensors
from gancompress.surgery.reconstruction.express import CannotExpress, express, made_again
from gancompress.surgery.reconstruction.moments import Moments
from gancompress.surgery.reconstruction.options import Call, Options
from gancompress.surgery.reconstruction.pairs import Pairs, Step
from gancompress.surgery.reconstruction.patches import (
    Geometry,
    chosen_places,
    targets,
    windows,
)
from gancompress.surgery.reconstruction.places import kept_outputs
from gancompress.surgery.reconstruction.statistics import (
    Spread,
    move_statistics,
    stored_norms,
)
from gancompress.surgery.reconstruction.walk import Contraction, NormInput


@dataclass(frozen=True)
class Layer:
    """What became of one layer.

    Attributes:
        path: of the module that ran the operator.
        before: error before, as a share of the variance of the teacher's output; ``after`` it.
        left: why nothing was changed; empty where something was.
    """

    path: str
    before: float
    after: float
    left: str = ""


@dataclass
class Report:
    """What `reconstruct` did, layer by layer in forward order.

    Attributes:
        layers: contractions whose input or output lost channels, or whose input changed.
        norms: paths of norms whose statistics were measured again.
        samples: how many inputs were used.
    """

    layers: list[Layer] = field(default_factory=list[Layer])
    norms: list[str] = field(default_factory=list[str])
    samples: int = 0

    @property
    def left(self) -> list[Layer]:
        """Layers that could not be treated, with the reason."""
        return [layer for layer in self.layers if layer.left]


@torch.no_grad()
def reconstruct(
    teacher: nn.Module,
    student: nn.Module,
    plan: Plan,
    *,
    graph: ChannelGraph,
    inputs: Iterable[Call],
    options: Options | None = None,
) -> tuple[nn.Module, Report]:
    """Return a copy of ``student`` whose layers reproduce ``teacher``, and a report (ours).

    In forward order, each weight that reads an activation is solved for by least squares: with the
    student's actual input, the teacher's output on the same sample is to come out, so that a layer
    also makes good what earlier ones lost (asymmetric reconstruction, He et al. 2017, section 3.3).
    Found by operators, not by kinds of layers. Networks run in eval mode; neither given network is
    changed. All inputs are under way at once, so memory is that of one layer for all of them, plus
    (channels x kernel)^2 float64 numbers.

    Args:
        teacher: the network that was traced.
        student: cut from it by ``plan``, with tensors of the same names.
        plan: what was cut.
        graph: of the teacher.
        inputs: batches, as positional and keyword arguments of one call.
        options: see `Options`.

    Raises:
        DataError: there are no inputs.
        GraphError: the networks run other operators than were traced, or do not belong together.
    """
    options = options or Options()
    calls = list(inputs)
    if not calls:
        raise DataError("reconstruct needs inputs: the iterator gave none")
    made = duplicate(student).eval()
    kept = kept_outputs(graph, plan)
    with Pairs(duplicate(teacher).eval(), made, calls, seed=options.seed, sums=options.sums) as two:
        work = _Work(two, kept, graph, plan, options)
        report = Report(samples=two.samples)
        answer: Answer | None = None
        while (steps := two.advance(answer)) is not None:
            answer = work.at_norm(steps, report) if isinstance(
                steps[0].theirs, NormInput
            ) else work.at_contraction(steps, report)  # fmt: skip
    made.train(student.training)
    for ours, given in zip(made.modules(), student.modules(), strict=True):
        ours.training = given.training
    return made, report


Answer = Callable[[Step], list[Any] | None]
"""Gives, for each sample batch, the arguments that the student's operator goes on with."""


class _Work:
    """Solves one layer after another; holds what is the same for all of them."""

    def __init__(
        self, two: Pairs, kept: list[Tensor], graph: ChannelGraph, plan: Plan, options: Options
    ) -> None:
        self.two, self.kept, self.options = two, kept, options
        self.raw = raw_tensors(two.student)
        self.known = {id(t): n for n, t in self.raw.items()}
        self.theirs = dict(stored_norms(two.teacher))
        self.ours = dict(stored_norms(two.student))
        self.rng = torch.Generator().manual_seed(options.seed)
        self.rows_of = {n: plan.tensors.get(n) for n in self.raw}

    # -- norms -----------------------------------------------------------------------------------
    def at_norm(self, steps: Sequence[Step], report: Report) -> None:
        """Measure the statistics of a norm again, if what comes in has changed."""
        path = steps[0].theirs.path
        if not self.options.statistics or path not in self.ours:
            return
        student, teacher = self.ours[path], self.theirs[path]
        name = next((n for n, t in self.raw.items() if t is student.mean), "")
        row = (self.rows_of.get(name) or [None])[0]
        kept = torch.arange(len(teacher.mean)) if row is None else torch.tensor(row)
        ours, theirs, changed = Spread(), Spread(), False
        for step in steps:
            changed |= not torch.equal(step.ours.x, step.theirs.x)
            ours.add(step.ours.x)
            theirs.add(step.theirs.x)
        if changed and len(kept) == len(student.mean):
            move_statistics(student, teacher, kept, ours, theirs)
            report.norms.append(path)

    # -- contractions ----------------------------------------------------------------------------
    def at_contraction(self, steps: Sequence[Step], report: Report) -> Answer | None:
        """Solve one layer, write its raw tensors, and let the walks go on with it."""
        ours, theirs = steps[0].ours, steps[0].theirs
        if theirs.number >= len(self.kept):
            raise GraphError(
                f"{type(self.two.teacher).__name__} runs more operators than when it was traced"
            )
        if all(torch.equal(s.ours.x, s.theirs.x) for s in steps) and not self._lacks(steps):
            return None  # its input is the teacher's: its weights are right as they are
        kept = self.kept[theirs.number]
        geometry = Geometry.of(ours)
        reason = self._refusal(ours, geometry, kept, theirs)
        if reason:
            report.layers.append(Layer(ours.path, float("nan"), float("nan"), reason))
            return None
        moments = self._moments(steps, geometry, kept)
        spread = max(moments.spread(), 1e-300)
        before = moments.error()
        change, _ = moments.solve(self.options.ridge)
        found = self._tried(ours, geometry, moments, change)
        if found.reason and moments.weight.shape[:2] == (1, 1):
            held = self._tried(ours, geometry, moments, moments.solve_at_length())
            found = min(found, held, key=lambda trial: trial.error)
        if not found.error <= before:
            text = found.reason or "nothing better than what it has was found"
            report.layers.append(Layer(ours.path, before / spread, before / spread, text))
            return None
        self._write(found.values, ours, found.shift)
        report.layers.append(Layer(ours.path, before / spread, found.error / spread))
        return _Going(found.used, ours.w)

    def _tried(
        self, ours: Contraction, geometry: Geometry, moments: Moments, change: Tensor
    ) -> _Trial:
        """Express a change in raw tensors, and measure what comes of it really."""
        w = geometry.weight(moments.weight + change, ours.w).to(ours.w)
        values, reason = self._values(ours, w)
        if not values:
            return _Trial(values, ours.w, moments.shift(0 * change), float("inf"), reason)
        used = values[id(ours.w)] if id(ours.w) in values else made_again(ours.w, values)
        actual = geometry.matrix(used.double()) - moments.weight
        shift = moments.shift(actual)
        return _Trial(values, used, shift, moments.error(actual, shift), reason)

    def _lacks(self, steps: Sequence[Step]) -> bool:
        """Whether the sum that a layer adds to lacks something that it can make good."""
        return any(
            s.theirs.added is not None
            and s.ours.added is not None
            and not torch.equal(s.theirs.added, s.ours.added)
            for s in steps
        )

    def _refusal(
        self, ours: Contraction, geometry: Geometry, kept: Tensor, theirs: Contraction
    ) -> str:
        matrix = geometry.matrix(ours.w)
        if geometry.features(ours.w) > self.options.features:
            return f"reads {geometry.features(ours.w)} numbers, more than {self.options.features}"
        if matrix.shape[0] * matrix.shape[1] != len(kept):
            return "its output has other channels than when it was traced"
        if self.two.uses_of(ours.w) > 1:
            return "its weight is used by several operators"
        if ours.x.dtype not in (torch.float32, torch.float64):
            return f"computes in {ours.x.dtype}"
        return ""

    def _moments(self, steps: Sequence[Step], geometry: Geometry, kept: Tensor) -> Moments:
        first = steps[0].ours
        matrix = geometry.matrix(first.w).double()
        bias = matrix.new_zeros(matrix.shape[:2])
        if first.bias is not None:
            bias += first.bias.double().reshape(-1)[: bias.numel()].reshape(bias.shape)
        moments = Moments(matrix, bias, intercept=self._bias_of(first) is not None)
        most = max(self.options.rows, 4 * matrix.shape[2])
        for step in steps:
            out = step.theirs.out
            assert out is not None
            dim = 0 if geometry.kind == "columns" else 1
            out = out.index_select(dim, kept.to(out.device))
            if step.theirs.added is not None and step.ours.added is not None:
                lost = step.theirs.added.index_select(dim, kept.to(out.device)) - step.ours.added
                out = out + lost / step.theirs.factor
            shape = geometry.positions(out)
            places = chosen_places(shape, -(-most // len(steps)), self.rng)
            moments.add(windows(geometry, step.ours.x, places), targets(geometry, out, places))
        return moments

    def _bias_of(self, stop: Contraction) -> Tensor | None:
        """Return the parameter that is the operator's bias, None where nothing can be written."""
        bias = stop.bias
        if bias is None or bias.dim() != 1 or self.two.uses_of(bias) > 1:
            return None
        return bias if id(bias) in self.known else None

    def _values(self, stop: Contraction, w: Tensor) -> tuple[dict[int, Tensor], str]:
        try:
            return express(stop.w, w, self.known), ""
        except CannotExpress as error:
            return error.nearest or {}, str(error)

    def _write(self, values: Mapping[int, Tensor], stop: Contraction, shift: Tensor) -> None:
        for name, tensor in self.raw.items():
            if id(tensor) in values:
                self.raw[name].copy_(values[id(tensor)])
        bias = self._bias_of(stop)
        if bias is not None:
            bias += shift.reshape(-1).to(bias)


@dataclass(frozen=True)
class _Trial:
    """New raw tensors, the weight and the shift of the bias that they make, and the error left."""

    values: Mapping[int, Tensor]
    used: Tensor
    shift: Tensor
    error: float
    reason: str


@dataclass(frozen=True)
class _Going:
    """The new arguments of an operator: its weight, written already, in the place of the old."""

    used: Tensor
    old: Tensor

    def __call__(self, step: Step) -> list[Any]:
        ours = step.ours
        return [self.used if a is ours.w else a for a in ours.args]
