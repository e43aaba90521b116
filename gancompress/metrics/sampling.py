"""Draw the images that a metric looks at: fixed seed, same images for every batch size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from gancompress.errors import DataError
from gancompress.modules.nested import pick
from gancompress.modules.undisturbed import evaluating

DRAW = 500  # inputs drawn at once from the random stream, whatever the batch


class Sampler(Protocol):
    """Draws a generator's positional arguments and knows which of them is the label (ours)."""

    def __call__(self, n: int, rng: torch.Generator) -> tuple[Tensor, ...]:
        """Return the arguments of one forward pass of ``n`` images."""
        ...

    def labels(self, inputs: Sequence[Tensor]) -> Tensor | None:
        """Return the element of ``inputs`` that holds int64 labels (n,), ``None`` without any."""
        ...


def with_labels(sampler: Sampler, inputs: Sequence[Tensor], wanted: Tensor) -> tuple[Tensor, ...]:
    """Return ``inputs`` with the labels replaced by ``wanted`` (n,).

    Raises:
        DataError: the sampler draws no labels.
    """
    labels = sampler.labels(inputs)
    if labels is None:
        raise DataError("classes were asked for, but the sampler draws no labels")
    relabel: Any = getattr(sampler, "relabelled", None)
    if relabel is not None and not any(part is labels for part in inputs):
        return tuple(relabel(inputs, wanted))  # one-hot rows, for example
    assert any(part is labels for part in inputs), "Sampler.labels must return one of the inputs"
    return tuple(wanted.to(labels.dtype) if part is labels else part for part in inputs)


def image_of(sampler: object | None, output: Any) -> Tensor:
    """Return the image in ``output``, as ``sampler.image`` picks it where there is that method.

    Raises:
        DataError: it cannot be told which tensor is the image.
    """
    own: Any = getattr(sampler, "image", None)
    return pick(output) if own is None else own(output)


def check_images(images: Tensor) -> None:
    """Refuse what no metric can read.

    Raises:
        DataError: not a float batch (n, c, h, w), non-finite, or outside [-1, 1].
    """
    if not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point():
        found = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise DataError(f"the generator must return float images (n, c, h, w), got {found}")
    if not torch.isfinite(images).all():
        raise DataError("the generator returned NaN or infinite pixels: its weights have diverged")
    low, high = float(images.min()), float(images.max())
    if low < -1.01 or high > 1.01:
        raise DataError(
            f"the generator's pixels lie in [{low:.3g}, {high:.3g}], the metrics read [-1, 1]; "
            "scale its output, for example by a last tanh"
        )


@torch.no_grad()
def draw(
    generator: nn.Module,
    sampler: Sampler,
    n: int,
    *,
    seed: int,
    labels: Tensor | None = None,
    batch: int = 100,
    device: str | torch.device = "cpu",
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield ``n`` images in batches, float32 on the CPU (b, c, h, w) in [-1, 1], and labels (b,).

    The inputs depend on ``seed`` and ``n`` only, not on ``batch``; ``labels`` (n,), if given, take
    the place of the drawn ones. The generator runs in eval mode (restored at the end) and must
    already lie on ``device``.

    Raises:
        DataError: the generator is elsewhere, or its images cannot be read.
    """
    if n < 1 or batch < 1:
        raise DataError(f"n and batch must be at least 1, got n={n}, batch={batch}")
    device = torch.device(device)
    home = next((p.device for p in generator.parameters()), device)
    if home.type != device.type:
        raise DataError(f"the generator lies on {home}, device={str(device)!r} was asked; move it")
    rng = torch.Generator().manual_seed(seed)
    with evaluating(generator):
        for start in range(0, n, DRAW):
            inputs = sampler(min(DRAW, n - start), rng)
            if labels is not None:
                inputs = with_labels(sampler, inputs, labels[start : start + DRAW])
            asked = sampler.labels(inputs)
            for at in range(0, len(inputs[0]), batch):
                images = image_of(
                    sampler, generator(*(part[at : at + batch].to(device) for part in inputs))
                )
                check_images(images)
                yield (
                    images.float().cpu(),
                    None if asked is None else asked[at : at + batch].cpu(),
                )
