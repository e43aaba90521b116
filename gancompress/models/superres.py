"""Super-resolution generators RRDB (ESRGAN, Real-ESRGAN) and compact VGG, and a discriminator.

Wang et al. 2018 and 2021. Names and shapes equal those of the public PyTorch code
(XPixelGroup/BasicSR and xinntao/Real-ESRGAN), whose files are ``{"params_ema": ...}`` or
``{"params": ...}``. Pictures are (n, c, h, w) in [0, 1]; outputs are not clipped.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from gancompress.errors import ConfigError, closest
from gancompress.models.built_with import remembered
from gancompress.models.normed_layers import SpectralNormConv2d
from gancompress.models.translation import check_pictures, check_sizes, draw_pictures

__all__ = ["RRDBNet", "SRVGGNetCompact", "UNetDiscriminatorSN"]

_SAMPLE = 32  # side of the pictures that `sample_inputs` draws


class DenseBlock(nn.Module):
    """Residual block of five convolutions; each reads the input and all before it (no norm)."""

    def __init__(self, c: int, growth: int) -> None:
        super().__init__()
        self.conv1 = _conv(c, growth)
        self.conv2 = _conv(c + growth, growth)
        self.conv3 = _conv(c + 2 * growth, growth)
        self.conv4 = _conv(c + 3 * growth, growth)
        self.conv5 = _conv(c + 4 * growth, c)
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4, self.conv5):
            nn.init.kaiming_normal_(conv.weight)
            with torch.no_grad():
                conv.weight.mul_(0.1)  # residuals start small (Wang et al. 2018, section 3.1)
            nn.init.zeros_(conv.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, input: Tensor) -> Tensor:
        """Map (n, c, h, w) to the same shape."""
        maps = [input]
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            maps.append(_leaky(conv(torch.cat(maps, dim=1))))
        return input + 0.2 * self.conv5(torch.cat(maps, dim=1))


class RRDB(nn.Module):
    """Residual in residual dense block: three dense blocks inside one more residual."""

    def __init__(self, c: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = DenseBlock(c, growth)
        self.rdb2 = DenseBlock(c, growth)
        self.rdb3 = DenseBlock(c, growth)

    def forward(self, input: Tensor) -> Tensor:
        """Map (n, c, h, w) to the same shape."""
        return input + 0.2 * self.rdb3(self.rdb2(self.rdb1(input)))


@remembered
class RRDBNet(nn.Module):
    """ESRGAN's generator: pictures in [0, 1] to pictures of ``scale`` times the size.

    Arguments as in the public code. Below 4, ``scale`` first folds 4 / scale pixels a side into
    channels. Published: x4plus has 23 blocks (16,697,987 parameters), x4plus-anime 6 (4,467,779),
    x2plus ``scale=2`` (16,703,171).

    Raises:
        ConfigError: another scale, or a size below 1.
    """

    checkpoint_keys: ClassVar[tuple[str, ...]] = ("params_ema", "params")
    reads: ClassVar[str] = "image"

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        scale: int = 4,
        num_feat: int = 64,
        num_block: int = 23,
        num_grow_ch: int = 32,
    ) -> None:
        super().__init__()
        if scale not in (1, 2, 4):
            raise ConfigError(f"RRDBNet scale {scale} is not 1, 2 or 4")
        check_sizes("RRDBNet", num_in_ch=num_in_ch, num_out_ch=num_out_ch, num_feat=num_feat)
        check_sizes("RRDBNet", num_block=num_block, num_grow_ch=num_grow_ch)
        self.num_in_ch, self.scale = num_in_ch, scale
        self.conv_first = _conv(num_in_ch * (4 // scale) ** 2, num_feat)
        self.body = nn.Sequential(*[RRDB(num_feat, num_grow_ch) for _ in range(num_block)])
        self.conv_body = _conv(num_feat, num_feat)
        self.conv_up1 = _conv(num_feat, num_feat)
        self.conv_up2 = _conv(num_feat, num_feat)
        self.conv_hr = _conv(num_feat, num_feat)
        self.conv_last = _conv(num_feat, num_out_ch)

    def forward(self, input: Tensor) -> Tensor:
        """Map (n, num_in_ch, h, w) to (n, num_out_ch, scale * h, scale * w), about in [0, 1].

        Raises:
            DataError: another number of channels, or h or w no multiple of 4 / scale.
        """
        fold = 4 // self.scale
        check_pictures(input, self.num_in_ch, multiple=fold)
        hidden = self.conv_first(functional.pixel_unshuffle(input, fold) if fold > 1 else input)
        hidden = hidden + self.conv_body(self.body(hidden))
        for conv in (self.conv_up1, self.conv_up2):
            hidden = _leaky(conv(functional.interpolate(hidden, scale_factor=2, mode="nearest")))
        return self.conv_last(_leaky(self.conv_hr(hidden)))

    def sample_inputs(self, n: int, rng: torch.Generator) -> tuple[Tensor]:
        """Draw (n, num_in_ch, 32, 32) in [0, 1]: stand-ins, no pictures."""
        return ((draw_pictures(n, self.num_in_ch, _SAMPLE, rng, self) + 1) / 2,)


@remembered
class SRVGGNetCompact(nn.Module):
    """A plain chain at the small size and one pixel shuffle; learns what nearest-neighbour lacks.

    Arguments as in the public code. Published: animevideov3 with 16 layers (621,424 parameters),
    general-x4v3 with 32 (1,213,296).

    Raises:
        ConfigError: an unknown activation, or a size below 1.
    """

    checkpoint_keys: ClassVar[tuple[str, ...]] = ("params_ema", "params")
    reads: ClassVar[str] = "image"

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        num_feat: int = 64,
        num_conv: int = 16,
        upscale: int = 4,
        act_type: str = "prelu",
    ) -> None:
        super().__init__()
        check_sizes("SRVGGNetCompact", num_in_ch=num_in_ch, num_feat=num_feat, upscale=upscale)
        if num_out_ch != num_in_ch:
            raise ConfigError(
                f"SRVGGNetCompact num_out_ch {num_out_ch} must equal num_in_ch {num_in_ch}: the "
                "enlarged input is added to the output"
            )
        self.num_in_ch, self.upscale = num_in_ch, upscale
        self.body = nn.ModuleList([_conv(num_in_ch, num_feat), _activation(act_type, num_feat)])
        for _ in range(num_conv):
            self.body.extend([_conv(num_feat, num_feat), _activation(act_type, num_feat)])
        self.body.append(_conv(num_feat, num_out_ch * upscale**2))

    def forward(self, input: Tensor) -> Tensor:
        """Map (n, num_in_ch, h, w) to the same, ``upscale`` times the size, about in [0, 1].

        Raises:
            DataError: another number of channels.
        """
        check_pictures(input, self.num_in_ch)
        hidden = input
        for layer in self.body:
            hidden = layer(hidden)
        base = functional.interpolate(input, scale_factor=self.upscale, mode="nearest")
        return functional.pixel_shuffle(hidden, self.upscale) + base

    def sample_inputs(self, n: int, rng: torch.Generator) -> tuple[Tensor]:
        """Draw (n, num_in_ch, 32, 32) in [0, 1]: stand-ins, no pictures."""
        return ((draw_pictures(n, self.num_in_ch, _SAMPLE, rng, self) + 1) / 2,)


class UNetDiscriminatorSN(nn.Module):
    """Real-ESRGAN's discriminator: a U-Net under spectral norm, one logit for each pixel."""

    checkpoint_keys: ClassVar[tuple[str, ...]] = ("params_ema", "params")

    def __init__(
        self, num_in_ch: int = 3, num_feat: int = 64, skip_connection: bool = True
    ) -> None:
        super().__init__()
        check_sizes("UNetDiscriminatorSN", num_in_ch=num_in_ch, num_feat=num_feat)
        self.num_in_ch, self.skip_connection = num_in_ch, skip_connection
        c = num_feat
        self.conv0 = _conv(num_in_ch, c)
        self.conv1 = SpectralNormConv2d(c, 2 * c, 4, 2, 1, bias=False)
        self.conv2 = SpectralNormConv2d(2 * c, 4 * c, 4, 2, 1, bias=False)
        self.conv3 = SpectralNormConv2d(4 * c, 8 * c, 4, 2, 1, bias=False)
        self.conv4 = SpectralNormConv2d(8 * c, 4 * c, 3, 1, 1, bias=False)
        self.conv5 = SpectralNormConv2d(4 * c, 2 * c, 3, 1, 1, bias=False)
        self.conv6 = SpectralNormConv2d(2 * c, c, 3, 1, 1, bias=False)
        self.conv7 = SpectralNormConv2d(c, c, 3, 1, 1, bias=False)
        self.conv8 = SpectralNormConv2d(c, c, 3, 1, 1, bias=False)
        self.conv9 = _conv(c, 1)

    def forward(self, input: Tensor) -> Tensor:
        """Map (n, num_in_ch, h, w) in [0, 1], h and w multiples of 8, to logits (n, 1, h, w).

        Raises:
            DataError: another number of channels or size.
        """
        check_pictures(input, self.num_in_ch, multiple=8)
        hidden = _leaky(self.conv0(input))
        skips: list[Tensor] = []
        for conv in (self.conv1, self.conv2, self.conv3):
            skips.append(hidden)
            hidden = _leaky(conv(hidden))
        for conv in (self.conv4, self.conv5, self.conv6):
            hidden = functional.interpolate(
                hidden, scale_factor=2, mode="bilinear", align_corners=False
            )
            hidden = _leaky(conv(hidden))
            if self.skip_connection:
                hidden = hidden + skips.pop()
        return self.conv9(_leaky(self.conv8(_leaky(self.conv7(hidden)))))


def _conv(i: int, o: int) -> nn.Conv2d:
    return nn.Conv2d(i, o, 3, padding=1)


def _leaky(input: Tensor) -> Tensor:
    return functional.leaky_relu(input, 0.2)


def _activation(kind: str, c: int) -> nn.Module:
    makers = {
        "prelu": lambda: nn.PReLU(c),
        "relu": nn.ReLU,
        "leakyrelu": lambda: nn.LeakyReLU(0.1),
    }
    if kind not in makers:
        raise ConfigError(
            f"SRVGGNetCompact act_type {kind!r} is not one of {list(makers)}."
            f"{closest(kind, makers)}"
        )
    return makers[kind]()
