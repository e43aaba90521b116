"""Small configurations of the reference networks, filled by name as the golden numbers were."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gancompress.models.hifigan import HiFiGANConfig, HiFiGANGenerator
from gancompress.models.patchgan import NLayerDiscriminator, PixelDiscriminator
from gancompress.models.spade import SPADEConfig, SPADEDiscriminator, SPADEGenerator
from gancompress.models.superres import RRDBNet, SRVGGNetCompact, UNetDiscriminatorSN
from gancompress.models.translation import ResnetGenerator, UnetGenerator

SPADE_SMALL = {"label_nc": 5, "ngf": 4, "ndf": 4, "nhidden": 8}
SQUARE = SPADEConfig(crop_size=64, **SPADE_SMALL)
VOCODER = HiFiGANConfig(16, (4, 2), (8, 4), "1", (3, 5), ((1, 3, 5), (1, 3, 5)))
VOCODER_2 = HiFiGANConfig(16, (4, 2), (8, 4), "2", (3, 5), ((1, 2), (2, 6)))

GENERATORS: dict[str, Callable[[], nn.Module]] = {
    "resnet-instance": lambda: ResnetGenerator(3, 3, 4, n_blocks=2, sample_size=32),
    "resnet-batch-dropout": lambda: ResnetGenerator(
        3, 3, 4, norm="batch", use_dropout=True, n_blocks=2, sample_size=32
    ),
    "unet-batch": lambda: UnetGenerator(3, 3, 5, 4),
    "unet-instance": lambda: UnetGenerator(3, 3, 6, 4, norm="instance", use_dropout=False),
    "spade": lambda: SPADEGenerator(SQUARE),
    "spade-more-instance": lambda: SPADEGenerator(
        SPADEConfig(
            crop_size=128,
            aspect_ratio=2.0,
            num_upsampling_layers="more",
            norm_G="instance",
            **SPADE_SMALL,
        )
    ),
    "spade-most": lambda: SPADEGenerator(
        SPADEConfig(crop_size=128, num_upsampling_layers="most", **SPADE_SMALL)
    ),
    "spade-vae": lambda: SPADEGenerator(
        SPADEConfig(crop_size=64, use_vae=True, z_dim=8, **SPADE_SMALL)
    ),
    "rrdb-x4": lambda: RRDBNet(3, 3, 4, 8, 2, 4),
    "rrdb-x2": lambda: RRDBNet(3, 3, 2, 8, 2, 4),
    "rrdb-x1": lambda: RRDBNet(3, 3, 1, 8, 2, 4),
    "srvgg": lambda: SRVGGNetCompact(3, 3, 8, 3),
    "srvgg-leaky": lambda: SRVGGNetCompact(3, 3, 8, 3, 2, "leakyrelu"),
    "hifigan": lambda: HiFiGANGenerator(VOCODER),
    "hifigan-2": lambda: HiFiGANGenerator(VOCODER_2),
}
"""Those that the golden numbers of the public code are of."""

PICTURE = (2, 3, 64, 64)
DISCRIMINATORS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "patch-instance": (lambda: NLayerDiscriminator(3, 4), PICTURE),
    "patch-batch": (lambda: NLayerDiscriminator(3, 4, 2, norm="batch"), PICTURE),
    "pixel": (lambda: PixelDiscriminator(3, 4, norm="batch"), PICTURE),
    "spade-d": (lambda: SPADEDiscriminator(SQUARE), (2, 10, 64, 64)),
    "unet-sn": (lambda: UNetDiscriminatorSN(3, 4), PICTURE),
    "unet-sn-plain": (lambda: UNetDiscriminatorSN(3, 4, skip_connection=False), PICTURE),
}
"""Builders of small discriminators, and what they read."""


def rng(seed: int = 0) -> torch.Generator:
    """Return a generator of numbers."""
    return torch.Generator().manual_seed(seed)


def fill_by_name(module: nn.Module, drawn: Callable[..., Tensor]) -> nn.Module:
    """Set every tensor to a function of its name, in float64; spectral vectors one step on."""
    module = module.double()
    with torch.no_grad():
        for key, tensor in module.state_dict().items():
            last = key.rpartition(".")[2]
            values = drawn(key, tuple(tensor.shape), torch.float64)
            if last in ("running_var", "weight_g"):
                tensor.copy_(1 + 0.5 * values)
            elif last == "num_batches_tracked" or key.endswith(("weight_u", "weight_v")):
                continue
            elif tensor.dim() <= 1:
                tensor.copy_(0.25 * values)
            else:
                tensor.copy_(values * (3 * tensor.shape[0] / tensor.numel()) ** 0.5)
        state = module.state_dict()
        for key, tensor in state.items():
            if key.endswith("weight_v") and tensor.dim() > 1:  # weight norm's direction
                tensor.copy_(drawn(key, tuple(tensor.shape), torch.float64))
            if key.endswith("weight_u"):
                rows = state[key.replace("weight_u", "weight_orig")].flatten(1)
                tensor.copy_(
                    torch.nn.functional.normalize(drawn(key, (len(rows),), rows.dtype), dim=0)
                )
                right = rows.T @ tensor
                state[key.replace("weight_u", "weight_v")].copy_(right / right.norm())
    return module


def tensors(output: object) -> list[Tensor]:
    """Return all tensors of a nested output, in order."""
    if isinstance(output, Tensor):
        return [output]
    assert isinstance(output, list | tuple)
    return [tensor for part in output for tensor in tensors(part)]


def summary(output: object) -> list[float]:
    """Mean, deviation and twelve values of the last tensor of ``output``."""
    last = tensors(output)[-1].detach().flatten()
    picked = last[torch.linspace(0, len(last) - 1, 12).long()]
    return [float(last.mean()), float(last.std()), *picked.tolist()]
