"""Gradient penalty of WGAN-GP."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from gancompress.training.regularisation import REGULARISERS, Judging

_TINY = 1e-12  # inside of the root, whose slope at 0 is infinite


@REGULARISERS.register("gradient_penalty")
def gradient_penalty(
    seen: Judging, *, norm: Annotated[float, Field(gt=0)] = 1.0, one_sided: bool = False
) -> Tensor:
    """Return E[(|grad D(x)| - norm)^2] between real and made (Gulrajani et al. 2017, eq. 3).

    x lies on the line from a real to a made sample, at a place drawn for each; labels and condition
    are those of the real one. ``one_sided`` leaves norms below ``norm`` alone (Petzka et al. 2018,
    eq. 8). The gradient is that of the mean logit of a sample; several heads are averaged. The
    paper's weight is 10.
    """
    real, fake = seen.real.output, seen.fake.output
    share = torch.rand(len(real), generator=seen.rng).to(real)
    share = share.view(-1, *[1] * (real.ndim - 1))
    between = replace(seen.real, output=share * real + (1 - share) * fake)
    found: list[Tensor] = []
    for squared in seen.squared_slopes(between):
        excess = (squared + _TINY).sqrt() - norm
        found.append((excess.clamp(min=0) if one_sided else excess).square().mean())
    return torch.stack(found).mean()
