"""1x1 convolution from the student's channels to the teacher's, which follows live cuts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gancompress.errors import ConfigError


class Connector(nn.Module):
    """Linear map of channels, (n, i, *space) to (n, o, *space), without bias.

    The identity when i == o, else a random semi-orthogonal map (from ``seed``, not the global
    random state). ``shrink`` selects columns and leaves the parameter whole: an optimiser that
    holds it needs no surgery, and the columns of dead channels get no gradient.
    """

    alive: Tensor

    def __init__(self, i: int, o: int, *, like: Tensor, seed: int = 0) -> None:
        super().__init__()
        if i == o:
            weight = torch.eye(o)
        else:
            rng = torch.Generator().manual_seed(seed)
            q, _ = torch.linalg.qr(torch.randn(max(i, o), min(i, o), generator=rng))
            weight = q if o > i else q.T.contiguous()
        self.weight = nn.Parameter(weight.to(like.device))
        self.register_buffer("alive", torch.arange(i, device=like.device))

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, len(alive), *space) to (n, o, *space).

        Raises:
            ConfigError: x has another number of channels.
        """
        if x.shape[1] != self.alive.numel():
            raise ConfigError(
                f"connector reads {self.alive.numel()} channels and got {x.shape[1]}: "
                "call distiller.shrink(kept) after each live cut"
            )
        weight = self.weight
        if self.alive.numel() != weight.shape[1]:
            weight = weight.index_select(1, self.alive)
        convolve = (F.conv1d, F.conv2d, F.conv3d)[x.dim() - 3]
        return convolve(x, weight.to(x.dtype).view(*weight.shape, *[1] * (x.dim() - 2)))

    def shrink(self, kept: Tensor) -> None:
        """Keep the channels ``kept`` (indices into the current ones)."""
        self.alive = self.alive[kept.to(self.alive.device)]

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        state_dict, prefix = args[:2]
        # A checkpoint from after a live cut, or for a connector built before one, has other sizes.
        for name, own in (("weight", self.weight), ("alive", self.alive)):
            saved = state_dict.get(prefix + name)
            if isinstance(saved, Tensor) and saved.shape != own.shape:
                own.data = torch.empty(saved.shape, dtype=own.dtype, device=own.device)
        super()._load_from_state_dict(*args, **kwargs)
