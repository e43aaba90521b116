"""One probe batch through all networks before step 0: what does not fit is named at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.data.arrays import Dataset
from gancompress.data.inputs import InputSampler
from gancompress.errors import DataError, GancompressError
from gancompress.modules.discriminator import logits_of
from gancompress.modules.undisturbed import BufferGuard, evaluating
from gancompress.modules.user_line import failing_line
from gancompress.training.order import stream

PROBE = 2
TOLERANCE = 1.01


def check_fit(
    generator: nn.Module,
    sampler: InputSampler,
    *,
    discriminator: nn.Module | None = None,
    dataset: Dataset | None = None,
    augment: Sequence[str] = (),
) -> tuple[Tensor, ...]:
    """Run a batch of 2 through the networks and return the generator's arguments (ours).

    Nothing is changed: eval mode, no gradient, buffers put back. Beside real images the
    generator's must be images (n, channels, h, w) in [-1, 1]; without, sound (n, channels, time)
    and volumes do as well, in any range, since only the teacher's are compared with.

    Raises:
        DataError: a forward pass fails, or channels, size, range or classes differ; expected and
            found values are in the message.
    """
    device = next((p.device for p in generator.parameters()), torch.device("cpu"))
    inputs = tuple(part.to(device) for part in sampler(PROBE, stream(0, "probe")))
    shown = ", ".join(f"{tuple(p.shape)} {str(p.dtype).removeprefix('torch.')}" for p in inputs)
    with _untouched(generator):
        images = _run(generator, inputs, f"the generator's forward fails on inputs {shown}")
    _check_images(images, "the generator's images", beside_data=dataset is not None)
    if discriminator is not None and augment and images.ndim != 4:
        raise DataError(
            f"augment ({', '.join(augment)}) is for images (n, channels, h, w); the generator "
            f"makes {tuple(images.shape)}. Set augment=[]"
        )
    labels = sampler.labels(inputs)
    if dataset is not None:
        _check_data(images, dataset, sampler)
    if discriminator is not None:
        with _untouched(discriminator):
            judged: list[tuple[str, Tensor, Tensor | None]] = [("generated", images, labels)]
            if dataset is not None:
                real, y = dataset.batch(torch.arange(min(PROBE, len(dataset))))
                judged.append(("real", real.to(device), None if y is None else y.to(device)))
            for kind, pictures, y in judged:
                what = f"the discriminator's forward fails on {kind} images {tuple(pictures.shape)}"
                logits = _run(_Judge(discriminator), (pictures, y), what)
                if logits.shape[:1] != pictures.shape[:1] or not torch.isfinite(logits).all():
                    raise DataError(
                        f"the discriminator returned {tuple(logits.shape)} for {len(pictures)} "
                        f"{kind} images; expected one finite logit an image"
                    )
    return inputs


def _check_data(images: Tensor, dataset: Dataset, sampler: InputSampler) -> None:
    made = tuple(images.shape[1:])
    given = (dataset.channels, dataset.resolution, dataset.resolution)
    if made != given:
        raise DataError(
            f"the generator makes images {made} (channels, height, width); the data has {given}. "
            "Use data of the generator's size"
        )
    if sampler.n_classes is not None and dataset.n_classes != sampler.n_classes:
        raise DataError(
            f"the generator draws labels of {sampler.n_classes} classes; the data has "
            f"{dataset.n_classes or 'no labels'}. Use matching data, or another y=labels(...)"
        )
    real, _ = dataset.batch(torch.arange(min(PROBE, len(dataset))))
    _check_images(real, "the data's images", beside_data=True)


def _check_images(images: object, what: str, *, beside_data: bool) -> None:
    shape, ranks = ("h, w", (4,)) if beside_data else ("*space", (3, 4, 5))
    if not isinstance(images, Tensor) or images.ndim not in ranks or not images.is_floating_point():
        found = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise DataError(f"{what} must be floats (n, channels, {shape}); found {found}")
    if not torch.isfinite(images).all():
        raise DataError(f"{what} hold NaN or infinite pixels before any step")
    low, high = float(images.min()), float(images.max())
    if beside_data and (low < -TOLERANCE or high > TOLERANCE):
        raise DataError(
            f"{what} lie in [{low:.3g}, {high:.3g}]; expected [-1, 1]. Scale them, for a generator "
            "for example by a last tanh"
        )


class _Judge(nn.Module):
    def __init__(self, discriminator: nn.Module) -> None:
        super().__init__()
        self.discriminator = discriminator

    def forward(self, images: Tensor, labels: Tensor | None) -> Tensor:
        return logits_of(self.discriminator, images, labels)


def _run(module: nn.Module, arguments: tuple[Any, ...], what: str) -> Any:
    try:
        return module(*arguments)
    except GancompressError as error:
        raise type(error)(f"{what}: {error}") from error
    except Exception as error:
        line = failing_line(error)
        place = f" at {line}" if line else ""
        raise DataError(f"{what}: {type(error).__name__}: {error}{place}") from error


@contextmanager
def _untouched(module: nn.Module) -> Iterator[None]:
    guard = BufferGuard(module)
    try:
        with evaluating(module), torch.no_grad(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        guard.restore()
