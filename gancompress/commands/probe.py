"""One small batch through the networks before anything else, so that misfits are named at once."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from gancompress.commands.models import where
from gancompress.commands.subject import Subject
from gancompress.data.arrays import Dataset
from gancompress.errors import ConfigError, DataError
from gancompress.training.judge import judge

_PROBE = 4


def probe(subject: Subject) -> tuple[Tensor, ...]:
    """Run the generator once and return the arguments that it was run on (batch of 2).

    Raises:
        DataError: the forward pass fails on these inputs, or makes no image in [-1, 1].
    """
    example = subject.example()
    images_of(subject, example)
    return example


def images_of(subject: Subject, example: tuple[Tensor, ...]) -> Tensor:
    """Return the images (n, c, h, w) of ``example``, in eval mode.

    Raises:
        DataError: the forward pass fails, or its result is no finite batch of images.
    """
    shown = ", ".join(f"{tuple(part.shape)} {str(part.dtype)[6:]}" for part in example)
    device = next((p.device for p in subject.generator.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad():
            images = subject.generator(*(part.to(device) for part in example))
    except Exception as error:
        raise DataError(
            f"the generator's forward failed on inputs {shown}: {where(error)}. "
            f"The inputs were drawn as {', '.join(subject.sampler.specs)}; change them with --input"
        ) from error
    if not isinstance(images, Tensor) or images.ndim != 4:
        found = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise DataError(f"the generator must return images (n, c, h, w); it returned {found}")
    if not torch.isfinite(images).all():
        raise DataError(
            "the generator returns NaN or infinite pixels before any step: its weights are broken"
        )
    return images


def check_data(subject: Subject, dataset: Dataset, discriminator: nn.Module | None) -> None:
    """Compare images, labels and networks before step 0.

    Raises:
        DataError: channels, resolution, range or classes differ; expected and found are named.
        ConfigError: the discriminator cannot judge these images.
    """
    example = subject.example(_PROBE)
    images = images_of(subject, example)
    low, high = float(images.min()), float(images.max())
    if low < -1.01 or high > 1.01:
        raise DataError(
            f"the generator's pixels lie in [{low:.3g}, {high:.3g}]; expected [-1, 1]. "
            "End it in a tanh, or scale its output"
        )
    made, given = tuple(images.shape[1:]), (dataset.channels, *[dataset.resolution] * 2)
    if made != given:
        raise DataError(
            f"the generator makes images {made} (channels, height, width), the data has {given}. "
            "Use data of the generator's size"
        )
    if subject.n_classes is not None and dataset.n_classes != subject.n_classes:
        raise DataError(
            f"the generator draws labels of {subject.n_classes} classes, the data has "
            f"{dataset.n_classes or 'no labels'}. Change --input 'y=labels(...)' or the data"
        )
    if discriminator is not None:
        _check_discriminator(subject, discriminator, images, example)


def _check_discriminator(
    subject: Subject, discriminator: nn.Module, images: Tensor, example: tuple[Tensor, ...]
) -> None:
    labels = subject.sampler.labels(example)
    try:
        with torch.no_grad():
            # A copy: a forward pass may change spectral norm's or batch norm's state.
            logits = judge(copy.deepcopy(discriminator).cpu().eval(), images.cpu(), labels)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"the discriminator's forward failed on images {tuple(images.shape)}: {where(error)}. "
            "It gets the images, and the labels when it takes them"
        ) from error
    if not isinstance(logits, Tensor) or logits.shape[0] != len(images):
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ConfigError(f"the discriminator must return one logit an image; it returned {found}")
