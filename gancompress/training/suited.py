"""Whether least squares can treat a network, and is worth its time in this run."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gancompress.data.order import stream
from gancompress.errors import GraphError
from gancompress.masks.relax import RELAXATIONS
from gancompress.modules.copying import duplicate
from gancompress.recipes.parts import Named
from gancompress.recipes.schema import Recipe
from gancompress.surgery.raw_tensors import raw_tensors
from gancompress.surgery.reconstruction.options import Call, Options
from gancompress.surgery.reconstruction.pairs import Walks
from gancompress.surgery.reconstruction.patches import Geometry
from gancompress.surgery.reconstruction.walk import Contraction, NormInput
from gancompress.tasks.protocol import Task
from gancompress.training.reconstructed import drawn_calls

SHARE = 0.1
"""Least squares may cost at most so much of the arithmetic of the training that follows."""

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
    hard = float(RELAXATIONS.fact(recipe.relaxation, "hard_from"))
    if recipe.shrink.reconstruct and any(event < hard for event in recipe.shrink.events):
        return f"gates of relaxation {recipe.relaxation.name} are not 0 or 1 at each cut"
    if teacher is not None and _shapes(teacher) != _shapes(generator):
        return "the teacher is another network than the student was made of"
    return None


def _too_dear(recipe: Recipe, task: Task, generator: nn.Module, steps: int) -> str | None:
    home = next((p.device for p in generator.parameters()), torch.device("cpu"))
    call = drawn_calls(task, 2, stream(recipe.seed, "suited"), home)[0]
    try:
        price = priced(generator, call)
    except GraphError as error:
        return f"it cannot follow this network: {error}"
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
def priced(network: nn.Module, call: Call, options: Options | None = None) -> Price:
    """Return what least squares would cost on ``network``, seen on one call of at least 1 sample.

    Raises:
        GraphError: it cannot be followed.
    """
    options, price = options or Options(), Price()

    def see(stop: Contraction | NormInput) -> None:
        if isinstance(stop, NormInput) or stop.out is None:
            return
        geometry = Geometry.of(stop)
        groups, outputs, features = geometry.matrix(stop.w).shape
        places = math.prod(geometry.positions(stop.out))
        n = geometry.positions(stop.out)[0] if geometry.kind == "convolution" else len(stop.x)
        price.sample += places * groups * outputs * features / max(n, 1)
        # Both networks, and what is made on the way, in float32.
        price.held = max(price.held, 3 * 4 * (stop.x.numel() + stop.out.numel()) / max(n, 1))
        if features <= options.features:
            rows = max(options.rows, 4 * features)
            price.solving += groups * (2 * rows * features**2 + 5 * features**3)
            price.layers += 1

    with Walks(duplicate(network).eval(), [call], seed=options.seed) as walks:
        walks.rehearse(see)
    return price


def _shapes(network: nn.Module) -> dict[str, torch.Size]:
    tensors: dict[str, Tensor] = dict(raw_tensors(network))
    return {name: tensor.shape for name, tensor in tensors.items()}
