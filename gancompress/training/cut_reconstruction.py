"""After a live cut: the weights that reproduce the network as it was, or the teacher."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from gancompress.data.order import stream
from gancompress.errors import ConfigError, GraphError
from gancompress.graph.groups import ChannelGraph
from gancompress.graph.plan import Plan
from gancompress.masks.relax import RELAXATIONS
from gancompress.modules.copying import duplicate
from gancompress.modules.ranks import take_first_
from gancompress.modules.undisturbed import look
from gancompress.recipes.schema import Recipe
from gancompress.surgery.raw_tensors import gates_off, raw_tensors
from gancompress.surgery.reconstruction.options import Call, Options
from gancompress.surgery.reconstruction.reconstruct import Report, reconstruct
from gancompress.tasks.protocol import Task
from gancompress.training.log import Log
from gancompress.training.optimizer_state import forget_directions
from gancompress.training.reconstructed import drawn_calls, told
from gancompress.training.train_state import TrainState
from gancompress.wrapping import Masked


@dataclass(frozen=True)
class Reference:
    """A network without gates whose outputs are to come out again, and its groups."""

    network: nn.Module
    graph: ChannelGraph


class CutReconstruction:
    """Solves the layers of generator and average anew, after each live cut (ours).

    The average is solved for, since it is what is delivered, and the generator goes on from the
    same weights; scores stay as they are, and so does what optimisers know of the size of
    gradients, while momentum along weights that were moved is forgotten. Where the outputs do not
    come nearer to the reference, both networks stay as the cut left them. Every rank solves the
    same, and takes what rank 0 found. Everything random is a function of (seed, step).

    Args:
        recipe: its ``shrink`` says what is reproduced, and on how many inputs.
        task: gives the inputs.
        teacher: the frozen original, with the graph of the uncut student.
        device: where the networks lie.

    Raises:
        ConfigError: the teacher is not what the student was made of.
        GraphError: the networks cannot be followed.
    """

    def __init__(
        self, recipe: Recipe, task: Task, teacher: Reference, device: torch.device
    ) -> None:
        self.recipe, self.task, self.teacher, self.device = recipe, task, teacher, device
        self._rehearse()

    def _rehearse(self) -> None:
        """Follow the network over several batches now, while no work can be lost by it."""
        whole = duplicate(self.teacher.network)
        graph = self.teacher.graph
        calls = [call for i in range(4) for call in self._calls("rehearsal", i, samples=2)]
        with torch.random.fork_rng(self._devices()):
            reconstruct(whole, whole, Plan.of(graph, {}), graph=graph, inputs=calls)

    def before(self, state: TrainState) -> Reference:
        """Return what is to be reproduced, before a cut."""
        if self.recipe.shrink.reference == "teacher" or state.masked is None:
            return self.teacher
        return Reference(_plain(state.ema), state.masked.graph)

    def after(self, state: TrainState, reference: Reference, log: Log) -> None:
        """Solve generator and average anew, if that brings them nearer, and log what it brought."""
        history = state.plan if state.masked is None else state.masked.history
        plan = history if reference is self.teacher else state.last_cut
        assert plan is not None
        calls = self._calls("cut", state.step)
        cut = _plain(state.ema)
        with torch.random.fork_rng(self._devices()):
            made, report = reconstruct(
                reference.network, cut, plan, graph=reference.graph, inputs=calls,
                options=Options(seed=self.recipe.seed),
            )  # fmt: skip
            lost = [self.distance(reference.network, one, calls) for one in (cut, made)]
        better = lost[1] < lost[0]
        if better:
            self._take_up(state, made)
        take_first_(state.tensors(), "reconstructed weights")
        text = _line(state.step, self.recipe.shrink.reference, lost, report)
        log.event(
            "reconstruct", text, step=state.step, before=lost[0], after=lost[1], taken=better,
            left={layer.path: layer.left for layer in report.left},
        )  # fmt: skip

    def distance(self, reference: nn.Module, network: nn.Module, calls: Sequence[Call]) -> float:
        """Return the mean squared difference of their outputs, over the variance of the first's."""
        off = total = squares = count = 0.0
        for number, (inputs, kwargs) in enumerate(calls):
            outs = []
            for one in (reference, network):
                torch.manual_seed(number)  # networks that draw noise draw the same
                outs.append(self.task.output(look(one, inputs, kwargs)).double())
            off += float((outs[0] - outs[1]).square().sum())
            total, squares = total + float(outs[0].sum()), squares + float(outs[0].square().sum())
            count += outs[0].numel()
        spread = squares / count - (total / count) ** 2
        return off / count / max(spread, 1e-300)

    def _take_up(self, state: TrainState, made: nn.Module) -> None:
        found = raw_tensors(made)
        moved: list[nn.Parameter] = []
        with torch.no_grad():
            for network in (state.generator, state.ema):
                for name, tensor in raw_tensors(network).items():
                    if not torch.equal(tensor, found[name]):
                        tensor.copy_(found[name])
                        moved += [tensor] if isinstance(tensor, nn.Parameter) else []
        forget_directions(state.generator_optimizers(), moved)

    def _calls(self, about: str, step: int, samples: int | None = None) -> list[Call]:
        rng = stream(self.recipe.seed, "reconstruct", about, step)
        return drawn_calls(self.task, samples or self.recipe.shrink.samples, rng, self.device)

    def _devices(self) -> list[torch.device]:
        return [self.device] if self.device.type == "cuda" else []


def gather_cut_reconstruction(
    recipe: Recipe, task: Task, masked: Masked | None, teacher: nn.Module, device: torch.device
) -> CutReconstruction | None:
    """Return what solves after cuts, ``None`` where the recipe has nothing of it.

    Args:
        recipe: of the run.
        task: gives inputs.
        masked: handle of the student, not cut yet; ``None`` without masks.
        teacher: frozen original, without hooks of distillers.
        device: where they lie.

    Raises:
        ConfigError: gates are not 0 or 1 at a cut, or the teacher is another network.
        GraphError: the networks cannot be followed.
    """
    if not recipe.shrink.reconstruct or masked is None:
        return None
    wrong = soft_at_a_cut(recipe) or other_network(masked.generator, teacher)
    if wrong is not None:
        raise ConfigError(f"shrink.reconstruct: {wrong}. Set shrink.reconstruct=false otherwise")
    try:
        return CutReconstruction(recipe, task, Reference(teacher, masked.graph), device)
    except GraphError as error:
        raise GraphError(
            f"shrink.reconstruct cannot follow this network: {error}. Set shrink.reconstruct=false"
        ) from error


def soft_at_a_cut(recipe: Recipe) -> str | None:
    """Return why gates are not all 0 or 1 at the live cuts; ``None``: they are."""
    hard = float(RELAXATIONS.fact(recipe.relaxation, "hard_from"))
    early = [event for event in recipe.shrink.events if event < hard]
    if not early:
        return None
    return (
        f"gates of relaxation {recipe.relaxation.name} are between 0 and 1 until progress "
        f"{hard:g}, and there is a cut at {early[0]:g}: what is solved for is a network of open "
        "gates. Use relaxation=ste, or shrink.events that come later"
    )


def other_network(student: nn.Module, teacher: nn.Module) -> str | None:
    """Return where the tensors of the two differ in name or shape; ``None``: nowhere."""
    ours, theirs = ({n: t.shape for n, t in raw_tensors(one).items()} for one in (student, teacher))
    if ours == theirs:
        return None
    name = next(n for n in {**ours, **theirs} if ours.get(n) != theirs.get(n))
    return (
        f"the teacher must be the network that the student was made of: {name!r} is "
        f"{_size(theirs.get(name))} in the teacher and {_size(ours.get(name))} in the student"
    )


def held_progress(recipe: Recipe, progress: float, steps: int) -> float:
    """Return how far the schedule may be: with ``shrink.hold``, as far as at the last cut."""
    if not recipe.shrink.hold or progress >= 1:
        return progress
    cuts = (math.ceil(event * steps) / steps for event in recipe.shrink.events)
    return max((cut for cut in cuts if cut <= progress), default=0.0)


def _plain(average: nn.Module) -> nn.Module:
    network = duplicate(average)
    gates_off(network)
    return network.eval()


def _size(shape: torch.Size | None) -> str:
    return "missing" if shape is None else str(tuple(shape))


def _line(step: int, reference: str, lost: Sequence[float], report: Report) -> str:
    to = "the teacher" if reference == "teacher" else "what it was before the cut"
    what = f"distance to {to} {lost[0]:.4g} -> {lost[1]:.4g} of its variance"
    if not lost[1] < lost[0]:
        what += ": no nearer, the weights stay as the cut left them"
    return f"step {step}: {what}; {told(report)}"
