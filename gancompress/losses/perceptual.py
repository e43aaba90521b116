"""Perceptual loss: outputs that look alike to a network that the user has the weights of."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from gancompress.errors import ConfigError, DataError
from gancompress.losses.protocol import LOSSES, same_shape
from gancompress.plugins.kinds import FEATURE_NETWORKS as FEATURE_NETWORKS


def _at_hand(network: str, weights: str, norm: str) -> None:
    if network not in FEATURE_NETWORKS:
        raise ConfigError(f"loss perceptual: {FEATURE_NETWORKS.unknown(network)}")
    if not Path(weights).is_file():
        raise ConfigError(
            f"loss perceptual: there is no file of weights {weights!r}. Nothing is downloaded: "
            "give the path of one"
        )


@LOSSES.register("perceptual", check=_at_hand)
def perceptual(
    output: Tensor,
    wanted: Tensor,
    *,
    weights: str,
    network: str = "vgg16",
    norm: Literal["l1", "l2"] = "l1",
) -> Tensor:
    """Return the distance of features, summed over layers (Johnson et al. 2016, eq. 2).

    Args:
        output: pictures in [-1, 1], or what the network reads.
        wanted: likewise.
        weights: path of the network's weights.
        network: name in the registry of feature networks; one of your own is a plug-in.
        norm: mean absolute difference of a map (Wang et al. 2018, pix2pixHD), or mean square
            (Johnson et al. 2016).
    """
    a, b = same_shape(output, wanted, "perceptual")
    frozen = _network(network, weights, a.device)
    try:
        made = frozen(a)
        with torch.no_grad():
            goal = frozen(b.detach())
    except RuntimeError as error:
        raise DataError(
            f"loss perceptual: {network} cannot read outputs {tuple(a.shape)}: {error}"
        ) from error
    pairs = [(x - y).float() for x, y in zip(made, goal, strict=True)]
    terms = [d.abs().mean() if norm == "l1" else d.square().mean() for d in pairs]
    return torch.stack(terms).sum()


@functools.lru_cache(maxsize=4)
def _network(name: str, weights: str, device: torch.device) -> nn.Module:
    # A loss is bound anew in every step; the file is read once.
    made: nn.Module = FEATURE_NETWORKS.get(name)(weights)
    return made.to(device).eval().requires_grad_(False)
