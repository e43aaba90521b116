"""What reacts differently to different latent directions."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from gancompress.data.order import stream
from gancompress.errors import ConfigError
from gancompress.tasks.protocol import Batch
from gancompress.training.score import SCORES, Look


@SCORES.register("diversity")
def diversity(
    look: Look,
    *,
    samples: Annotated[int, Field(ge=1)] = 64,
    directions: Annotated[int, Field(ge=2)] = 10,
    strength: Annotated[float, Field(gt=0.0)] = 2.0,
) -> dict[str, np.ndarray]:
    """Spread over latent directions of the mean |gradient| of the L1 change of the image (DCP-GAN).

    Chung et al. 2024: latents are moved along each direction, the change of the image is followed
    back to the weights that read a channel, and a channel counts by the squared deviation of that
    from its mean over directions, summed over samples. Theirs are principal directions of a style
    space, moved by 5; here random orthogonal ones of the latent, moved by ``strength``, and a batch
    at a time instead of a sample.

    Raises:
        ConfigError: the generator takes no latent (n, z).
    """
    total: dict[str, np.ndarray] = {}
    for batch in look.batches(samples):
        place = _latent(batch)
        z = batch.inputs[place]
        rng = stream(look.seed, "directions")
        count = min(directions, z[0].numel())
        basis = torch.linalg.qr(torch.randn(z[0].numel(), count, generator=rng)).Q.T.to(z)
        seen: dict[str, list[np.ndarray]] = {}
        with torch.no_grad():
            still = look.images(batch)
        for direction in basis:
            moved = look.images(_with(batch, place, z + strength * direction.view_as(z[0])))
            for name, values in look.slopes((moved - still).abs().mean()).items():
                seen.setdefault(name, []).append(values)
        for name, rows in seen.items():
            spread = np.square(np.stack(rows) - np.mean(rows, axis=0)).sum(0)
            total[name] = total.get(name, 0.0) + spread * len(batch)
    return total


def _latent(batch: Batch) -> int:
    for index, value in enumerate(batch.inputs):
        if isinstance(value, Tensor) and value.is_floating_point() and value.dim() == 2:
            return index
    raise ConfigError(
        "score diversity moves latents, and the generator takes none (n, z). Choose "
        "score=content_aware, or leave it out: score=null"
    )


def _with(batch: Batch, place: int, value: Tensor) -> Batch:
    return replace(batch, inputs=(*batch.inputs[:place], value, *batch.inputs[place + 1 :]))
