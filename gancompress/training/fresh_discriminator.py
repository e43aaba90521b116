"""A discriminator for runs that have none: small, of the outputs' shape, about the student's size.

Pictures get a PatchGAN (Isola et al. 2017), sound and volumes the same in one and three dimensions.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu
from torch.nn.utils.parametrizations import spectral_norm

from gancompress.data.order import derived_seed, stream
from gancompress.errors import ConfigError
from gancompress.modules.discriminator import DiscriminatorCall, use_call
from gancompress.recipes.schema import Recipe
from gancompress.target import parse_targets
from gancompress.tasks.protocol import Draw, Shown, Task

SMALLEST = 8
"""Samples along each side of an output, at least."""
_SLOPE = 0.2
_WIDTHS = range(4, 129, 4)
_DEEPEST = {1: 5, 2: 5, 3: 4}
_CONVOLUTIONS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_STRIDES = {1: 4, 2: 2, 3: 2}


class FreshDiscriminator(nn.Module):
    """Strided convolutions with spectral norm, a logit for each patch (ours).

    Spectral norm: Miyato et al. 2018; classes by projection: Miyato & Koyama 2018, eq. 4.
    """

    def __init__(
        self, channels: int, space: tuple[int, ...], *, width: int, n_classes: int | None = None
    ) -> None:
        """Make one.

        Args:
            channels: of what it is shown, a condition included.
            space: sides of that, one to three of them.
            width: channels of its first layer; doubled at each step down, at most eightfold.
            n_classes: adds a projection on labels.
        """
        super().__init__()
        conv = _CONVOLUTIONS[len(space)]
        widths = _widths(space, width)
        stride = _STRIDES[len(space)]
        self.stem = spectral_norm(conv(channels, width, 3, padding=1))
        self.down = nn.ModuleList(
            spectral_norm(conv(i, o, 2 * stride, stride, padding=stride // 2))
            for i, o in zip(widths, widths[1:], strict=False)
        )
        self.last = spectral_norm(conv(widths[-1], widths[-1], 3, padding=1))
        self.head = spectral_norm(conv(widths[-1], 1, 1))
        self.classes = None if n_classes is None else nn.Embedding(n_classes, widths[-1])
        if self.classes is not None:
            self.classes = spectral_norm(self.classes)

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        """Map outputs (n, c, *space), and labels (n,) to its classes, to (n, 1, *patches)."""
        hidden = leaky_relu(self.stem(image), _SLOPE)
        for layer in self.down:
            hidden = leaky_relu(layer(hidden), _SLOPE)
        hidden = leaky_relu(self.last(hidden), _SLOPE)
        logits = self.head(hidden)
        if self.classes is None:
            return logits
        weight = self.classes(label).view(len(image), -1, *[1] * (hidden.ndim - 2))
        return logits + (weight * hidden).sum(1, keepdim=True)


def _widths(space: tuple[int, ...], width: int) -> list[int]:
    return [width * min(2**i, 8) for i in range(_depth(space) + 1)]


def _size(channels: int, space: tuple[int, ...], width: int, n_classes: int | None) -> int:
    """Return how many parameters a `FreshDiscriminator` has."""
    dims, widths = len(space), _widths(space, width)
    small, large, end = 3**dims, (2 * _STRIDES[dims]) ** dims, widths[-1]
    down = sum(i * o * large + o for i, o in zip(widths, widths[1:], strict=False))
    stem, last = channels * width * small + width, end * end * small + end
    return stem + down + last + end + 1 + (n_classes or 0) * end


def _depth(space: tuple[int, ...]) -> int:
    """Return how often the smallest side is divided: down to 4 patches of it, or deep enough."""
    stride, side, depth = _STRIDES[len(space)], min(space), 0
    while side // stride >= 4 and depth < _DEEPEST[len(space)]:
        side, depth = side // stride, depth + 1
    return max(depth, 1)


def fresh_discriminator(
    recipe: Recipe, task: Task, shown: Shown, params: int
) -> FreshDiscriminator:
    """Return a discriminator of outputs like ``shown``, seeded by the recipe; see `use_call`.

    Its width is the one whose parameters come nearest to ``params``, within bounds.

    Raises:
        ConfigError: outputs of other dimensions, or smaller than `SMALLEST`.
    """
    space = tuple(shown.output.shape[2:])
    if len(space) not in _CONVOLUTIONS or min(space) < SMALLEST:
        raise ConfigError(
            f"discriminator.policy fresh makes one for sound, pictures and volumes of at least "
            f"{SMALLEST} samples a side; the generator makes {tuple(shown.output.shape[1:])}. Give "
            "a discriminator of your own"
        )
    channels, arguments = shown.output.shape[1], ["image"]
    beside = shown.condition
    if beside is not None and tuple(beside.shape[2:]) == space:
        channels, arguments = channels + beside.shape[1], ["cat(condition, image)"]
    n_classes = (
        None if shown.labels is None or not _real_has_labels(recipe, task) else classes_of(task)
    )
    if n_classes is not None:
        arguments.append("label")

    width = min(_WIDTHS, key=lambda w: abs(_size(channels, space, w, n_classes) - params))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(recipe.seed, "fresh discriminator"))
        made = FreshDiscriminator(channels, space, width=width, n_classes=n_classes)
    use_call(made, DiscriminatorCall(tuple(arguments)))
    return made


def student_params(recipe: Recipe, generator: nn.Module) -> int:
    """Return about how many parameters the student of ``generator`` has in the end."""
    whole = sum(p.numel() for p in generator.parameters())
    if recipe.target is None:
        return whole
    return round(whole * min(t.fraction for t in parse_targets(recipe.target)))


def classes_of(task: Task) -> int | None:
    """Return how many classes the labels of ``task`` have; ``None`` where that is not known."""
    for name in ("sampler", "dataset", "data"):
        found = getattr(getattr(task, name, None), "n_classes", None)
        if isinstance(found, int):
            return found
    return None


def _real_has_labels(recipe: Recipe, task: Task) -> bool:
    if not task.has_real or recipe.discriminator.real == "teacher":
        return True  # the teacher's outputs have those of its inputs
    return task.real(Draw(2, 0, stream(recipe.seed, "probe"))).labels is not None


def describe(made: nn.Module) -> str:
    """Return in one line what was made."""
    fresh = cast(FreshDiscriminator, made)
    how = " with a projection on labels" if fresh.classes is not None else ""
    return (
        f"discriminator.policy fresh: one of our own{how}, {len(fresh.down) + 3} layers, "
        f"{sum(p.numel() for p in made.parameters()):,} parameters"
    )
