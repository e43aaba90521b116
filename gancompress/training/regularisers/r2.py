"""R2: the discriminator is flat at made samples."""

from __future__ import annotations

import torch
from torch import Tensor

from gancompress.training.regularisation import REGULARISERS, Judging


@REGULARISERS.register("r2")
def r2(seen: Judging) -> Tensor:
    """Return E[|grad D(made)|^2] / 2 (Mescheder et al. 2018, eq. 10); the weight is its gamma.

    The gradient is that of the mean logit of a sample; several heads are averaged.
    """
    return torch.stack([s.mean() for s in seen.squared_slopes(seen.fake)]).mean() / 2
