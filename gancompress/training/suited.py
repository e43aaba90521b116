"""Whether least squares can treat a network, and is worth its time in this run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from gancompress.data.order import stream
from gancompress.errors import GraphError
from gancompress.modules.copying import duplicate
from gancompress.recipes.parts import Named
from gancompress.recipes.schema import Recipe
from gancompress.surgery.reconstruction.options import Call, Options
from gancompress.surgery.reconstruction.pairs import Walks
from gancompress.surgery.reconstruction.patches import Geometry
from gancompress.surgery.reconstruction.walk import NormInput
from gancompress.tasks.protocol import Task
from gancompress.training.cut_reconstruction import other_network, soft_at_a_cut
from gancompress.training.reconstructed import drawn_calls

SHARE = 0.1
"""Least squares may cost at most so much of the arithmetic of the training that follows."""

BATCHES = 4
"""Of two samples, on which a network is followed."""

HELD = 4 * 2**30
"""Bytes of activations that may be alive at once: all samples stand at one layer together."""


@dataclass
class Price:
    """What least squares would cost on a network, in multiply-adds (ours).

    Attributes:
        solving: moments of the inputs, the order in which channels go, and the solutions.
        sample: the network's own forward for one sample.
        held: bytes that one sample holds at the layer that holds most.
        layers: how many are solved.
    """

    solving: float = 0.0
    sample: float = 0.0
    held: float = 0.0
    layers: int = 0

    def whole(self, samples: int) -> float:
        """Return the cost with so many samples: forwards of both networks, noise, solving."""
        return self.solving + self.sample * (4 * samples + 8 * self.layers)


def suited(
    recipe: Recipe, task: Task, generator: nn.Module, teacher: nn.Module | None, steps: int
) -> tuple[Recipe, str | None]:
    """Return ``recipe`` as it can be run, and why something of it is left out (ours).

    With ``least_squares: auto`` the score `residual` and ``shrink.reconstruct`` are left out where
    the network does not suit them, or where they would take long beside ``steps`` of training. It
    depends on networks and recipe alone, so that a run goes on as it began, on any machine.
    """
    residual = recipe.score is not None and recipe.score.name == "residual"
    if recipe.least_squares == "always" or not (residual or recipe.shrink.reconstruct):
        return recipe, None
    why = _unsuited(recipe, generator, teacher) or _too_dear(recipe, task, generator, steps)
    return (recipe, None) if why is None else (without_least_squares(recipe), why)


def without_least_squares(recipe: Recipe) -> Recipe:
    """Return ``recipe`` with masks that begin alike, and cuts as they are."""
    shrink = recipe.shrink.model_copy(
        update={"reconstruct": False, "reference": "teacher", "samples": 512}
    )
    changed: dict[str, object] = {"shrink": shrink, "least_squares": "always"}
    if recipe.score is not None and recipe.score.name == "residual":
        changed["score"] = None
        # Scores compare groups only where they began in one order.
        if recipe.importance == Named.model_validate({"name": "scores", "ranks": False}):
            changed |= {"importance": Named(name="scores"), "allocation": None}
    return recipe.model_copy(update=changed)


def _unsuited(recipe: Recipe, generator: nn.Module, teacher: nn.Module | None) -> str | None:
    soft = soft_at_a_cut(recipe) if recipe.shrink.reconstruct else None
    return soft or (None if teacher is None else other_network(generator, teacher))


def _too_dear(recipe: Recipe, task: Task, generator: nn.Module, steps: int) -> str | None:
    home = next((p.device for p in generator.parameters()), torch.device("cpu"))
    rng = stream(recipe.seed, "suited")
    # Several, of which one may run other operators than the others.
    calls = [call for _ in range(BATCHES) for call in drawn_calls(task, 2, rng, home)]
    try:
        price = priced(generator, calls)
    except GraphError as error:
        return f"this network cannot be followed: {error}"
    score = {} if recipe.score is None else recipe.score.options
    samples = max(int(score.get("samples", 512)), recipe.shrink.samples)
    held = price.held * samples
    if held > HELD:
        return (
            f"{samples} samples would hold about {held / 2**30:,.1f} GiB at once, more than "
            f"{HELD / 2**30:.0f}"
        )
    # Forward and backward of generator and discriminator are about six forwards of the generator.
    share = price.whole(samples) / max(6 * price.sample * recipe.batch * steps, 1.0)
    if share > SHARE:
        return f"it would cost {share:.0%} of what {steps} steps do, more than {SHARE:.0%}"
    return None


@torch.no_grad()
def priced(network: nn.Module, calls: Sequence[Call]) -> Price:
    """Return what least squares would cost on ``network``, seen on a few small calls.

    Raises:
        GraphError: it cannot be followed.
    """
    options, price = Options(), Price()
    with Walks(duplicate(network).eval(), calls, seed=options.seed) as walks:
        while (stops := walks.advance()) is not None:
            stop = stops[0]
            if isinstance(stop, NormInput) or stop.out is None:
                continue
            geometry = Geometry.of(stop)
            groups, outputs, features = geometry.matrix(stop.w).shape
            places = math.prod(geometry.positions(stop.out))
            n = max(stop.out.shape[0] if geometry.kind == "convolution" else len(stop.x), 1)
            price.sample += places * groups * outputs * features / n
            # Both networks, and what is made on the way, in float32.
            price.held = max(price.held, 3 * 4 * (stop.x.numel() + stop.out.numel()) / n)
            if features <= options.features:
                rows = max(options.rows, 4 * features)
                price.solving += groups * (2 * rows * features**2 + 5 * features**3)
                price.layers += 1
    return price
