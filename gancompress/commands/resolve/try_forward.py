"""One forward pass before anything else, so that a generator that does not run is named at once."""

from __future__ import annotations

import torch
from torch import Tensor

from gancompress.commands.resolve.builders import where
from gancompress.commands.resolve.subject import Subject
from gancompress.errors import DataError


def probe(subject: Subject, n: int = 2) -> tuple[Tensor, ...]:
    """Run the generator once, in eval mode, and return the arguments that it was run on.

    Its output may be anything: images, audio, a dictionary.

    Raises:
        DataError: the forward pass fails on these inputs; the place in the user's code is named.
    """
    device = next((p.device for p in subject.generator.parameters()), torch.device("cpu"))
    example = tuple(part.to(device) for part in subject.example(n))
    try:
        with torch.no_grad():
            subject.generator(*example)
    except Exception as error:
        shown = ", ".join(f"{tuple(part.shape)} {str(part.dtype)[6:]}" for part in example)
        raise DataError(
            f"the generator's forward fails on inputs {shown}: {where(error)}. "
            f"The inputs were drawn as {', '.join(subject.sampler.specs)}; change them with --input"
            f"{_whole_numbers(subject, example)}"
        ) from error
    return example


def _whole_numbers(subject: Subject, example: tuple[Tensor, ...]) -> str:
    """Return what to do about pictures that were given as tokens are, if any were."""
    parts = (subject.typed or subject.sampler).parts
    for part, x in zip(parts, example, strict=False):
        if part.kind == "npy" and x.ndim == 4 and not x.is_floating_point():
            return (
                ". npy gives whole numbers as they are, int64, as tokens are wanted: pictures in "
                f"an array are '{part.name}=images(FILE)'"
            )
    return ""
