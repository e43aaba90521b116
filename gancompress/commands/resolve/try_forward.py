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
        ) from error
    return example
