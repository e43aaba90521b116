"""HiFi-GAN generator and discriminators (Kong et al. 2020), for the published checkpoints.

Names and shapes equal those of the public PyTorch code (jik876/hifi-gan), whose training files are
``{"generator": ...}`` and ``{"mpd": ..., "msd": ..., ...}``. Sound is (n, 1, t) in [-1, 1].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from math import prod
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from gancompress.errors import ConfigError, DataError
from gancompress.models.built_with import remembered
from gancompress.models.normed_layers import (
    SpectralNormConv1d,
    WeightNormConv1d,
    WeightNormConv2d,
    WeightNormConvTranspose1d,
    remove_weight_norm_,
)

__all__ = [
    "HiFiGANConfig",
    "HiFiGANGenerator",
    "MultiPeriodDiscriminator",
    "MultiScaleDiscriminator",
]

_SLOPE = 0.1
Judgement = tuple[Tensor, list[Tensor]]
"""Logits (n, k) of one discriminator, and the maps of its layers (logits last)."""


@dataclasses.dataclass(frozen=True)
class HiFiGANConfig:
    """Sizes of a HiFi-GAN generator, named after the public configuration files.

    Raises:
        ConfigError: for values that make no network.
    """

    upsample_initial_channel: int = 512
    upsample_rates: tuple[int, ...] = (8, 8, 2, 2)  # their product is the hop of the mels
    upsample_kernel_sizes: tuple[int, ...] = (16, 16, 4, 4)
    resblock: str = "1"  # "1": pairs of convolutions; "2": single ones
    resblock_kernel_sizes: tuple[int, ...] = (3, 7, 11)
    resblock_dilation_sizes: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    num_mels: int = 80

    def __post_init__(self) -> None:
        if self.resblock not in ("1", "2"):
            raise ConfigError(f"HiFi-GAN resblock {self.resblock!r} is not '1' or '2'")
        for one, other in (
            ("upsample_rates", "upsample_kernel_sizes"),
            ("resblock_kernel_sizes", "resblock_dilation_sizes"),
        ):
            lengths = len(getattr(self, one)), len(getattr(self, other))
            if lengths[0] != lengths[1] or not lengths[0]:
                raise ConfigError(
                    f"HiFi-GAN {one} has {lengths[0]} entries and {other} {lengths[1]}: they pair "
                    "up, one or more"
                )
        for rate, kernel in zip(self.upsample_rates, self.upsample_kernel_sizes, strict=True):
            if kernel < rate or (kernel - rate) % 2:
                raise ConfigError(
                    f"HiFi-GAN kernel {kernel} of upsampling rate {rate} must be at least the rate "
                    "and differ from it by an even number"
                )
        if any(kernel % 2 == 0 for kernel in self.resblock_kernel_sizes):
            raise ConfigError(
                f"HiFi-GAN resblock_kernel_sizes {self.resblock_kernel_sizes} must be odd"
            )
        halvings = 2 ** len(self.upsample_rates)
        if self.upsample_initial_channel < halvings or self.num_mels < 1:
            raise ConfigError(
                f"HiFi-GAN upsample_initial_channel {self.upsample_initial_channel} is halved "
                f"{len(self.upsample_rates)} times, so at least {halvings}; num_mels at least 1"
            )

    @property
    def hop(self) -> int:
        """Samples of sound for each frame of mels."""
        return prod(self.upsample_rates)

    @classmethod
    def v1(cls) -> HiFiGANConfig:
        """Return the published V1: 13.94 M parameters, 13.93 M once folded."""
        return cls()

    @classmethod
    def v2(cls) -> HiFiGANConfig:
        """Return the published V2: V1 with a quarter of the channels, 0.93 M."""
        return cls(upsample_initial_channel=128)

    @classmethod
    def v3(cls) -> HiFiGANConfig:
        """Return the published V3: fewer and simpler blocks, 1.46 M."""
        return cls(
            upsample_initial_channel=256,
            upsample_rates=(8, 8, 4),
            upsample_kernel_sizes=(16, 16, 8),
            resblock="2",
            resblock_kernel_sizes=(3, 5, 7),
            resblock_dilation_sizes=((1, 2), (2, 6), (3, 12)),
        )


class PairedBlock(nn.Module):
    """Residual block "1": a dilated and a plain convolution, once per dilation."""

    def __init__(self, c: int, kernel: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(_same_conv(c, kernel, d) for d in dilations)
        self.convs2 = nn.ModuleList(_same_conv(c, kernel, 1) for _ in dilations)

    def forward(self, input: Tensor) -> Tensor:
        """Map (n, c, t) to the same shape."""
        for dilated, plain in zip(self.convs1, self.convs2, strict=True):
            hidden = dilated(functional.leaky_relu(input, _SLOPE))
            input = plain(functional.leaky_relu(hidden, _SLOPE)) + input
        return input


class SingleBlock(nn.Module):
    """Residual block "2": one dilated convolution per dilation."""

    def __init__(self, c: int, kernel: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(_same_conv(c, kernel, d) for d in dilations)

    def forward(self, input: Tensor) -> Tensor:
        """Map (n, c, t) to the same shape."""
        for conv in self.convs:
            input = conv(functional.leaky_relu(input, _SLOPE)) + input
        return input


@remembered
class HiFiGANGenerator(nn.Module):
    """Vocoder: log-mel spectrograms (n, num_mels, frames) to sound (n, 1, frames * hop)."""

    checkpoint_keys: ClassVar[tuple[str, ...]] = ("generator",)
    reads: ClassVar[str] = "mel"

    def __init__(self, config: HiFiGANConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or HiFiGANConfig.v1()
        width = config.upsample_initial_channel
        self.conv_pre = WeightNormConv1d(config.num_mels, width, 7, padding=3)
        block = PairedBlock if config.resblock == "1" else SingleBlock
        self.ups = nn.ModuleList()
        self.resblocks = nn.ModuleList()  # those of a stage in a row, averaged
        for rate, kernel in zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True):
            self.ups.append(
                WeightNormConvTranspose1d(
                    width, width // 2, kernel, rate, padding=(kernel - rate) // 2
                )
            )
            width //= 2
            for size, dilations in zip(
                config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True
            ):
                self.resblocks.append(block(width, size, dilations))
        self.conv_post = WeightNormConv1d(width, 1, 7, padding=3)

    def forward(self, mel: Tensor) -> Tensor:
        """Map log-mels (n, num_mels, frames) to sound (n, 1, frames * hop) in [-1, 1].

        Raises:
            DataError: the mels have another shape.
        """
        if mel.dim() != 3 or mel.shape[1] != self.config.num_mels:
            raise DataError(
                f"mel has shape {tuple(mel.shape)}, expected (n, {self.config.num_mels}, frames)"
            )
        hidden = self.conv_pre(mel)
        count = len(self.config.resblock_kernel_sizes)
        for stage, up in enumerate(self.ups):
            hidden = up(functional.leaky_relu(hidden, _SLOPE))
            blocks = [self.resblocks[stage * count + index] for index in range(count)]
            total = blocks[0](hidden)
            for block in blocks[1:]:
                total = total + block(hidden)
            hidden = total / count
        # The public code leaves the slope at torch's default here.
        return torch.tanh(self.conv_post(functional.leaky_relu(hidden, 0.01)))

    def remove_weight_norm(self) -> None:
        """Fold the weight norm into plain weights, as published for inference."""
        remove_weight_norm_(self)

    def sample_inputs(self, n: int, rng: torch.Generator) -> tuple[Tensor]:
        """Draw (n, num_mels, 32) stand-ins for log-mels, N(-5, 2): shapes and tests, not speech."""
        like = cast(Tensor, self.conv_pre.bias)
        mel = torch.randn(n, self.config.num_mels, 32, generator=rng, device=rng.device)
        return ((mel * 2 - 5).to(like.device, like.dtype),)


class PeriodDiscriminator(nn.Module):
    """Looks at every ``period``-th sample: sound folded to (n, 1, t / period, period)."""

    def __init__(self, period: int) -> None:
        super().__init__()
        self.period = period
        widths = (1, 32, 128, 512, 1024)
        self.convs = nn.ModuleList(
            WeightNormConv2d(i, o, (5, 1), (3, 1), padding=(2, 0))
            for i, o in zip(widths, widths[1:], strict=False)
        )
        self.convs.append(WeightNormConv2d(1024, 1024, (5, 1), padding=(2, 0)))
        self.conv_post = WeightNormConv2d(1024, 1, (3, 1), padding=(1, 0))

    def forward(self, sound: Tensor) -> Judgement:
        """Map (n, 1, t) to logits (n, k) and the maps of all layers."""
        missing = -sound.shape[-1] % self.period
        if missing:
            sound = functional.pad(sound, (0, missing), "reflect")
        return _judge(sound.unflatten(-1, (-1, self.period)), self.convs, self.conv_post)


class MultiPeriodDiscriminator(nn.Module):
    """Five discriminators of periods 2, 3, 5, 7 and 11 (Kong et al. 2020, section 2.3)."""

    checkpoint_keys: ClassVar[tuple[str, ...]] = ("mpd",)

    def __init__(self) -> None:
        super().__init__()
        self.discriminators = nn.ModuleList(PeriodDiscriminator(p) for p in (2, 3, 5, 7, 11))

    def forward(self, sound: Tensor) -> list[Judgement]:
        """Map sound (n, 1, t), t > 10, to one pair (logits, feature maps) per period.

        The public code calls each with real and made sound at once and returns four lists: logits
        of both, maps of both.

        Raises:
            DataError: the sound has another shape.
        """
        _check_sound(sound)
        return [discriminator(sound) for discriminator in self.discriminators]


class ScaleDiscriminator(nn.Module):
    """Grouped strided convolutions over the waveform (as in MelGAN)."""

    def __init__(self, *, spectral: bool = False) -> None:
        super().__init__()
        conv = SpectralNormConv1d if spectral else WeightNormConv1d
        self.convs = nn.ModuleList(
            conv(i, o, kernel, stride, groups=groups, padding=kernel // 2)
            for i, o, kernel, stride, groups in (
                (1, 128, 15, 1, 1),
                (128, 128, 41, 2, 4),
                (128, 256, 41, 2, 16),
                (256, 512, 41, 4, 16),
                (512, 1024, 41, 4, 16),
                (1024, 1024, 41, 1, 16),
                (1024, 1024, 5, 1, 1),
            )
        )
        self.conv_post = conv(1024, 1, 3, 1, padding=1)

    def forward(self, sound: Tensor) -> Judgement:
        """Map (n, 1, t) to logits (n, k) and the maps of all layers."""
        return _judge(sound, self.convs, self.conv_post)


class MultiScaleDiscriminator(nn.Module):
    """Three discriminators: of the sound, and of its two- and fourfold averages."""

    checkpoint_keys: ClassVar[tuple[str, ...]] = ("msd",)

    def __init__(self) -> None:
        super().__init__()
        # Spectral norm on the raw sound only (Kong et al. 2020, section 2.3).
        self.discriminators = nn.ModuleList(
            ScaleDiscriminator(spectral=index == 0) for index in range(3)
        )

    def forward(self, sound: Tensor) -> list[Judgement]:
        """Map sound (n, 1, t) to one pair (logits, feature maps) per scale.

        Raises:
            DataError: the sound has another shape.
        """
        _check_sound(sound)
        found: list[Judgement] = []
        for index, discriminator in enumerate(self.discriminators):
            if index:
                sound = functional.avg_pool1d(sound, 4, 2, padding=2)
            found.append(discriminator(sound))
        return found


def _judge(hidden: Tensor, convs: nn.ModuleList, last: nn.Module) -> Judgement:
    maps: list[Tensor] = []
    for conv in convs:
        hidden = functional.leaky_relu(conv(hidden), _SLOPE)
        maps.append(hidden)
    maps.append(last(hidden))
    return maps[-1].flatten(1), maps


def _same_conv(c: int, kernel: int, dilation: int) -> WeightNormConv1d:
    padding = (kernel - 1) * dilation // 2
    return WeightNormConv1d(c, c, kernel, dilation=dilation, padding=padding)


def _check_sound(sound: Tensor) -> None:
    if sound.dim() != 3 or sound.shape[1] != 1 or sound.shape[2] < 11:
        raise DataError(f"sound has shape {tuple(sound.shape)}, expected (n, 1, t) with t > 10")
