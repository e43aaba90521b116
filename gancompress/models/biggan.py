"""BigGAN generator and discriminator (Brock et al. 2019), written for state-dict compatibility.

Names, shapes and numbers equal those of the public PyTorch code
(ajbrock/BigGAN-PyTorch, "BigGAN", not "BigGAN-deep"), so its checkpoints load; see `convert`.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from gancompress.errors import DataError
from gancompress.models.built_with import remembered
from gancompress.models.config import BigGANConfig
from gancompress.models.layers import (
    BatchNorm2d,
    ConditionalBatchNorm2d,
    SelfAttention2d,
    SpectralConv2d,
    SpectralEmbedding,
    SpectralLinear,
)

__all__ = ["BigGANConfig", "BigGANDiscriminator", "BigGANGenerator"]


class GeneratorBlock(nn.Module):
    """Residual block that doubles h and w, with a condition in both norms."""

    def __init__(self, i: int, o: int, config: BigGANConfig) -> None:
        super().__init__()
        self.conv1 = SpectralConv2d(i, o, 3, eps=config.sn_eps)
        self.conv2 = SpectralConv2d(o, o, 3, eps=config.sn_eps)
        self.conv_sc = SpectralConv2d(i, o, 1, eps=config.sn_eps)
        self.bn1 = _conditional_norm(i, config)
        self.bn2 = _conditional_norm(o, config)

    def forward(self, input: Tensor, condition: Tensor) -> Tensor:
        """Map (n, i, h, w) to (n, o, 2h, 2w)."""
        hidden = functional.relu(self.bn1(input, condition))
        hidden = self.conv1(_upsample(hidden))
        hidden = self.conv2(functional.relu(self.bn2(hidden, condition)))
        return hidden + self.conv_sc(_upsample(input))


class DiscriminatorBlock(nn.Module):
    """Residual block that may halve h and w; the first of a network reads an image: no ReLU."""

    def __init__(self, i: int, o: int, *, first: bool, halve: bool, eps: float) -> None:
        super().__init__()
        self.first = first
        self.halve = halve
        self.conv1 = SpectralConv2d(i, o, 3, eps=eps)
        self.conv2 = SpectralConv2d(o, o, 3, eps=eps)
        self.conv_sc = SpectralConv2d(i, o, 1, eps=eps) if i != o or halve else None

    def forward(self, input: Tensor) -> Tensor:
        """Map (n, i, h, w) to (n, o, h/2, w/2), or (n, o, h, w) when not halving."""
        hidden = self.conv1(input if self.first else functional.relu(input))
        hidden = self.conv2(functional.relu(hidden))
        # Pooling commutes with a 1x1 convolution: pool first, a quarter of the work.
        shortcut = functional.avg_pool2d(input, 2) if self.halve else input
        if self.conv_sc is not None:
            shortcut = self.conv_sc(shortcut)
        if self.halve:
            hidden = functional.avg_pool2d(hidden, 2)
        return hidden + shortcut


@remembered
class BigGANGenerator(nn.Module):
    """Class-conditional generator: latents and labels to images in [-1, 1]."""

    def __init__(self, config: BigGANConfig) -> None:
        super().__init__()
        self.config = config
        stages = config.generator_stages()
        self.shared = (
            nn.Embedding(config.n_classes, config.shared_dim) if config.shared else nn.Identity()
        )
        self.linear = SpectralLinear(config.z_chunk, stages[0][0] * 16, eps=config.sn_eps)
        self.blocks = nn.ModuleList()
        for i, o, resolution in stages:
            stage = nn.ModuleList([GeneratorBlock(i, o, config)])
            if resolution in config.g_attn:
                stage.append(SelfAttention2d(o, eps=config.sn_eps))
            self.blocks.append(stage)
        width = stages[-1][1]
        self.output_layer = nn.Sequential(
            BatchNorm2d(width, eps=1e-5),
            nn.ReLU(),
            SpectralConv2d(width, config.image_channels, 3, eps=config.sn_eps),
        )
        _initialise(self, config)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Map z (n, dim_z) and y to images (n, image_channels, resolution, resolution).

        ``y`` holds int64 labels (n,), or floats (n, shared_dim): embeddings made by ``shared``.

        Raises:
            DataError: when z or y has another shape or type than the configuration says.
        """
        config = self.config
        if z.dim() != 2 or z.shape[1] != config.dim_z:
            raise DataError(f"z has shape {tuple(z.shape)}, expected (n, {config.dim_z})")
        if y.is_floating_point():
            if not isinstance(self.shared, nn.Embedding):
                raise DataError(
                    f"y is {y.dtype}, but this generator has no shared embedding: "
                    f"pass int64 labels in [0, {config.n_classes})"
                )
            if y.dim() != 2 or y.shape[1] != self.shared.weight.shape[1]:
                raise DataError(
                    f"embedded y has shape {tuple(y.shape)}, expected "
                    f"(n, {self.shared.weight.shape[1]}); labels must be int64"
                )
        elif y.dim() != 1:
            raise DataError(f"labels have shape {tuple(y.shape)}, expected (n,)")
        else:
            y = self.shared(y)
        if z.shape[0] != y.shape[0]:
            raise DataError(f"z has {z.shape[0]} rows, y has {y.shape[0]}: they must pair up")

        slots = z.split(config.z_chunk, dim=1)
        hidden = self.linear(slots[0]).unflatten(1, (-1, 4, 4))
        for index, stage in enumerate(self.blocks):
            condition = torch.cat([y, slots[index + 1]], dim=1) if config.hier else y
            block, *attention = cast(nn.ModuleList, stage)
            hidden = block(hidden, condition)
            for layer in attention:
                hidden = layer(hidden)
        return torch.tanh(self.output_layer(hidden))

    def sample_inputs(self, n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw ``(z, y)`` for ``n`` images: z ~ N(0, 1), y uniform over the classes.

        The numbers depend on ``rng`` only: they are drawn as float32 on its device, then moved to
        the device and dtype of the generator.
        """
        config = self.config
        like = cast(BatchNorm2d, self.output_layer[0]).stored_mean
        z = torch.randn(n, config.dim_z, generator=rng, device=rng.device, dtype=torch.float32)
        y = torch.randint(config.n_classes, (n,), generator=rng, device=rng.device)
        return z.to(like.device, like.dtype), y.to(like.device)


class BigGANDiscriminator(nn.Module):
    """Projection discriminator (Miyato & Koyama 2018): images and labels to one logit each."""

    def __init__(self, config: BigGANConfig) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList()
        before = config.resolution
        for index, (i, o, resolution) in enumerate(config.discriminator_stages()):
            stage = nn.ModuleList(
                [
                    DiscriminatorBlock(
                        i, o, first=index == 0, halve=resolution < before, eps=config.sn_eps
                    )
                ]
            )
            if resolution in config.d_attn:
                stage.append(SelfAttention2d(o, eps=config.sn_eps))
            self.blocks.append(stage)
            before = resolution
        width = config.discriminator_stages()[-1][1]
        self.linear = SpectralLinear(width, 1, eps=config.sn_eps)
        self.embed = SpectralEmbedding(config.n_classes, width, eps=config.sn_eps)
        _initialise(self, config)

    def forward(self, images: Tensor, y: Tensor) -> Tensor:
        """Map images (n, image_channels, resolution, resolution) and int64 labels to (n, 1) logits.

        Raises:
            DataError: when an argument has another shape or type than the configuration says.
        """
        config = self.config
        shape = (config.image_channels, config.resolution, config.resolution)
        if tuple(images.shape[1:]) != shape:
            raise DataError(f"images have shape {tuple(images.shape)}, expected (n, *{shape})")
        if y.is_floating_point() or tuple(y.shape) != tuple(images.shape[:1]):
            raise DataError(
                f"labels are {y.dtype} of shape {tuple(y.shape)}, expected int64 of shape "
                f"({images.shape[0]},)"
            )
        hidden = images
        if config.image_channels == 1 and _is_channels_last(self):
            hidden = _grey_channels_last(images)
        for stage in self.blocks:
            for layer in cast(nn.ModuleList, stage):
                hidden = layer(hidden)
        hidden = functional.relu(hidden).sum((2, 3))
        return self.linear(hidden) + (self.embed(y) * hidden).sum(1, keepdim=True)


def _is_channels_last(module: nn.Module) -> bool:
    found = (p for p in module.parameters() if p.dim() == 4 and min(p.shape[1:]) > 1)
    weight = next(found, None)
    return weight is not None and weight.is_contiguous(memory_format=torch.channels_last)


def _grey_channels_last(images: Tensor) -> Tensor:
    """View grey images (n, 1, h, w) with the strides of channels last.

    With one channel both memory formats fit, and torch takes the other one: the first convolution
    would put out what the second has to copy: a fifth to a third of each pass on a CPU.
    """
    return images.squeeze(1).unsqueeze(-1).permute(0, 3, 1, 2)


def _upsample(input: Tensor) -> Tensor:
    return functional.interpolate(input, scale_factor=2)


def _conditional_norm(c: int, config: BigGANConfig) -> ConditionalBatchNorm2d:
    def reader() -> nn.Module:
        if config.shared:
            return SpectralLinear(config.condition_dim, c, bias=False, eps=config.sn_eps)
        return nn.Embedding(config.n_classes, c)

    return ConditionalBatchNorm2d(c, reader(), reader(), eps=config.bn_eps)


def _initialise(module: nn.Module, config: BigGANConfig) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear | nn.Embedding):
            if config.init == "ortho":
                nn.init.orthogonal_(layer.weight)
            else:
                nn.init.normal_(layer.weight, 0.0, 0.02)
