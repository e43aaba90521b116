"""VGG-16, the network of most perceptual losses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gancompress.errors import CheckpointError
from gancompress.losses.perceptual import FEATURE_NETWORKS
from gancompress.weights.reading import tensors_at

_ENDS = (3, 8, 15, 22)  # relu1_2, relu2_2, relu3_3, relu4_3


class VGG16Features(nn.Module):
    """Pictures (n, 1 or 3, h, w) in [-1, 1] to the maps after four activations."""

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import vgg

        made: Any = vgg.make_layers(vgg.cfgs["D"], batch_norm=False)
        self.features = made[: _ENDS[-1] + 1]
        # Those of ImageNet, which torchvision's weights expect.
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None])
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225])[:, None, None])

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Return relu1_2, relu2_2, relu3_3 and relu4_3."""
        hidden = (pictures.expand(-1, 3, -1, -1) / 2 + 0.5 - self.mean) / self.deviation
        found: list[Tensor] = []
        for index, layer in enumerate(self.features):
            hidden = layer(hidden)
            if index in _ENDS:
                found.append(hidden)
        return found


@FEATURE_NETWORKS.register("vgg16")
def vgg16(weights: str) -> nn.Module:
    """Return the first four stages of VGG-16 (Simonyan & Zisserman 2015), as torchvision has it.

    ``weights`` is torchvision's file ``vgg16-*.pth``, or any with the same names.

    Raises:
        CheckpointError: the file cannot be read, or holds another network.
    """
    network = VGG16Features()
    held = tensors_at(weights)
    wanted = [name for name in network.state_dict() if name.startswith("features.")]
    missing = [name for name in wanted if name not in held]
    if missing:
        raise CheckpointError(f"{weights} holds no VGG-16: {missing[0]} is not in it")
    try:
        network.load_state_dict({name: held[name] for name in wanted}, strict=False)
    except RuntimeError as error:
        raise CheckpointError(f"{weights} holds no VGG-16: {error}") from error
    return network
