"""A student that starts where least squares leaves it, on inputs that the task draws."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from gancompress.data.order import stream
from gancompress.graph.plan import Plan
from gancompress.graph.trace import trace
from gancompress.recipes.schema import Recipe
from gancompress.surgery.reconstruction.options import Call, Options
from gancompress.surgery.reconstruction.reconstruct import Report, reconstruct
from gancompress.tasks.protocol import Task, drawn

BATCH = 64  # samples of one call


@dataclass(frozen=True)
class Inputs:
    """Draws the inputs that students are reconstructed on: the same ones at every call (ours).

    Attributes:
        task: gives the inputs.
        recipe: says how many, and the seed.
        device: where the networks lie.
    """

    task: Task
    recipe: Recipe
    device: torch.device

    def __call__(self) -> list[Call]:
        """Return the calls."""
        rng = stream(self.recipe.seed, "reconstruct")
        return drawn_calls(self.task, self.recipe.student.samples, rng, self.device)


def drawn_calls(task: Task, samples: int, rng: torch.Generator, device: torch.device) -> list[Call]:
    """Return so many inputs of ``task``, in calls of at most `BATCH`, on ``device``."""
    return [(b.inputs, b.kwargs) for b in drawn(task, samples, BATCH, rng, device)]


def reconstructed(
    teacher: nn.Module, student: nn.Module, plan: Plan, inputs: Inputs
) -> tuple[nn.Module, Report]:
    """Return ``student`` with the weights that reproduce ``teacher``, from which ``plan`` cut it.

    Raises:
        GraphError: the networks cannot be followed.
    """
    calls = inputs()
    graph = trace(teacher, *calls[0])
    options = Options(seed=inputs.recipe.seed)
    return reconstruct(teacher, student, plan, graph=graph, inputs=calls, options=options)


def told(report: Report) -> str:
    """Return in one line what a reconstruction did, and what it left, with the reasons."""
    done = [layer for layer in report.layers if not layer.left]
    text = f"{len(done)} layers solved for on {report.samples} samples"
    if report.norms:
        text += f", statistics of {len(report.norms)} norms measured again"
    for layer in report.left:
        text += f"; {layer.path or 'the network'} is left as it was: {layer.left}"
    return text
