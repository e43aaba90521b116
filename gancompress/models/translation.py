"""Generators of image translation: ResNet (CycleGAN) and U-Net (pix2pix).

Zhu et al. 2017, Isola et al. 2017. Names and shapes equal those of the public PyTorch code
(junyanz/pytorch-CycleGAN-and-pix2pix), whose ``.pth`` files are bare state dicts. Pictures are
(n, c, h, w) in [-1, 1]. The discriminators are in `patchgan`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from gancompress.errors import ConfigError, DataError, closest
from gancompress.models.built_with import remembered
from gancompress.models.normed_layers import Renamed

__all__ = ["InstanceNorm2d", "ResnetGenerator", "UnetGenerator", "norm_layer"]


class InstanceNorm2d(Renamed, nn.InstanceNorm2d):
    """Instance norm without parameters, which passes over stored statistics of old files.

    Files written by torch 0.3, or by the public code before it switched statistics off, hold
    ``running_mean``, ``running_var`` and ``num_batches_tracked``; the public code drops them too.
    """

    def translate_keys_(self, state: dict[str, Any], prefix: str) -> None:
        """Drop this layer's statistics from ``state``, in place."""
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            state.pop(prefix + name, None)


def norm_layer(norm: str) -> Callable[[int], nn.Module]:
    """Return the maker of the norm called ``norm``: ``batch``, ``instance`` or ``none``.

    Raises:
        ConfigError: for another name.
    """
    makers: dict[str, Callable[[int], nn.Module]] = {
        "batch": nn.BatchNorm2d,
        "instance": InstanceNorm2d,
        "none": lambda _: nn.Identity(),
    }
    if norm not in makers:
        raise ConfigError(f"norm {norm!r} is not one of {list(makers)}.{closest(norm, makers)}")
    return makers[norm]


class ResnetBlock(nn.Module):
    """Residual block of two reflection-padded 3x3 convolutions, each with a norm."""

    def __init__(self, c: int, *, norm: str, use_dropout: bool) -> None:
        super().__init__()
        make, bias = norm_layer(norm), norm == "instance"
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(c, c, 3, bias=bias),
            make(c),
            nn.ReLU(),
            *([nn.Dropout(0.5)] if use_dropout else []),
            nn.ReflectionPad2d(1),
            nn.Conv2d(c, c, 3, bias=bias),
            make(c),
        )

    def forward(self, input: Tensor) -> Tensor:
        """Map (n, c, h, w) to the same shape."""
        return input + self.conv_block(input)


@remembered
class ResnetGenerator(nn.Module):
    """Picture to picture of the same size by residual blocks at a quarter of it.

    Arguments as in the public code, ``norm`` by its name there. The published CycleGAN weights
    are ``norm="instance"`` without dropout, 9 blocks, ``ngf`` 64: 11,378,179 parameters.

    Raises:
        ConfigError: an unknown norm, or a size below 1.
    """

    checkpoint_keys: ClassVar[tuple[str, ...]] = ()
    reads: ClassVar[str] = "image"

    def __init__(
        self,
        input_nc: int = 3,
        output_nc: int = 3,
        ngf: int = 64,
        *,
        norm: str = "instance",
        use_dropout: bool = False,
        n_blocks: int = 9,
        sample_size: int = 256,
    ) -> None:
        super().__init__()
        make, bias = norm_layer(norm), norm == "instance"
        check_sizes("ResnetGenerator", input_nc=input_nc, output_nc=output_nc, ngf=ngf)
        self.input_nc = input_nc
        self.sample_size = sample_size  # of `sample_inputs` only
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(input_nc, ngf, 7, bias=bias)]
        layers += [make(ngf), nn.ReLU()]
        for width in (ngf, 2 * ngf):
            layers.append(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=bias))
            layers += [make(2 * width), nn.ReLU()]
        layers += [
            ResnetBlock(4 * ngf, norm=norm, use_dropout=use_dropout) for _ in range(n_blocks)
        ]
        for width in (4 * ngf, 2 * ngf):
            layers.append(
                nn.ConvTranspose2d(
                    width, width // 2, 3, stride=2, padding=1, output_padding=1, bias=bias
                )
            )
            layers += [make(width // 2), nn.ReLU()]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(ngf, output_nc, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)
        initialise(self)

    def forward(self, input: Tensor) -> Tensor:
        """Map (n, input_nc, h, w) to (n, output_nc, h, w) in [-1, 1]; h, w rounded up to fours.

        Raises:
            DataError: another number of channels, or h or w below 8.
        """
        check_pictures(input, self.input_nc, smallest=8)
        return self.model(input)

    def sample_inputs(self, n: int, rng: torch.Generator) -> tuple[Tensor]:
        """Draw (n, input_nc, sample_size, sample_size) in [-1, 1]: stand-ins, no pictures."""
        return (draw_pictures(n, self.input_nc, self.sample_size, rng, self),)


class UnetBlock(nn.Module):
    """One level of the U-Net: down, the level below, up; the input goes past it and is joined.

    ``outer`` and ``inner`` are the widths above and below; ``place`` is ``outermost``,
    ``middle`` or ``innermost``.
    """

    def __init__(
        self,
        outer: int,
        inner: int,
        *,
        place: str,
        below: nn.Module | None = None,
        input_nc: int | None = None,
        norm: str,
        use_dropout: bool = False,
    ) -> None:
        super().__init__()
        make, bias = norm_layer(norm), norm == "instance"
        down = nn.Conv2d(input_nc or outer, inner, 4, stride=2, padding=1, bias=bias)
        joined = inner if below is None else 2 * inner
        up = nn.ConvTranspose2d(
            joined, outer, 4, stride=2, padding=1, bias=bias or place == "outermost"
        )
        middle = [] if below is None else [below]
        if place == "outermost":
            layers: list[nn.Module] = [down, *middle, nn.ReLU(), up, nn.Tanh()]
        elif place == "innermost":
            layers = [nn.LeakyReLU(0.2), down, nn.ReLU(), up, make(outer)]
        else:
            layers = [nn.LeakyReLU(0.2), down, make(inner), *middle, nn.ReLU(), up, make(outer)]
            layers += [nn.Dropout(0.5)] if use_dropout else []
        self.outermost = place == "outermost"
        self.model = nn.Sequential(*layers)

    def forward(self, input: Tensor) -> Tensor:
        """Map (n, outer, h, w) to (n, 2 outer, h, w); the outermost to (n, output_nc, h, w)."""
        if self.outermost:
            return self.model(input)
        # The public code rectifies in place: what goes past is the rectified input as well.
        input = self.model[0](input)
        return torch.cat([input, self.model[1:](input)], dim=1)


@remembered
class UnetGenerator(nn.Module):
    """Picture to picture of the same size by ``num_downs`` halvings with skips.

    Arguments as in the public code, ``norm`` by its name there. The published pix2pix weights are
    ``norm="batch"`` with dropout, 8 halvings, ``ngf`` 64: 54,413,955 parameters.

    Raises:
        ConfigError: an unknown norm, a size below 1, or fewer than 5 halvings.
    """

    checkpoint_keys: ClassVar[tuple[str, ...]] = ()
    reads: ClassVar[str] = "image"

    def __init__(
        self,
        input_nc: int = 3,
        output_nc: int = 3,
        num_downs: int = 8,
        ngf: int = 64,
        *,
        norm: str = "batch",
        use_dropout: bool = True,
    ) -> None:
        super().__init__()
        check_sizes("UnetGenerator", input_nc=input_nc, output_nc=output_nc, ngf=ngf)
        if num_downs < 5:
            raise ConfigError(f"UnetGenerator num_downs is {num_downs}, must be at least 5")
        self.input_nc, self.num_downs = input_nc, num_downs
        block = UnetBlock(8 * ngf, 8 * ngf, place="innermost", norm=norm)
        for _ in range(num_downs - 5):
            block = UnetBlock(
                8 * ngf, 8 * ngf, place="middle", below=block, norm=norm, use_dropout=use_dropout
            )
        for width in (4 * ngf, 2 * ngf, ngf):
            block = UnetBlock(width, 2 * width, place="middle", below=block, norm=norm)
        self.model = UnetBlock(
            output_nc, ngf, place="outermost", below=block, input_nc=input_nc, norm=norm
        )
        initialise(self)

    def forward(self, input: Tensor) -> Tensor:
        """Map (n, input_nc, h, w) to (n, output_nc, h, w) in [-1, 1].

        Raises:
            DataError: another number of channels, or h or w no multiple of 2 ** num_downs.
        """
        check_pictures(input, self.input_nc, multiple=2**self.num_downs)
        return self.model(input)

    def sample_inputs(self, n: int, rng: torch.Generator) -> tuple[Tensor]:
        """Draw (n, input_nc, s, s) in [-1, 1], s = 2 ** num_downs: stand-ins, no pictures."""
        return (draw_pictures(n, self.input_nc, 2**self.num_downs, rng, self),)


def draw_pictures(
    n: int, channels: int, size: int, rng: torch.Generator, network: nn.Module
) -> Tensor:
    """Return uniform numbers in [-1, 1], (n, channels, size, size), where ``network`` lives."""
    drawn = torch.rand(n, channels, size, size, generator=rng, device=rng.device) * 2 - 1
    like = next(network.parameters())
    return drawn.to(like.device, like.dtype)


def check_sizes(who: str, **sizes: int) -> None:
    """Refuse sizes below 1.

    Raises:
        ConfigError: the argument and its value are in the message.
    """
    for name, value in sizes.items():
        if value < 1:
            raise ConfigError(f"{who} {name} is {value}, must be at least 1")


def check_pictures(
    pictures: Tensor, channels: int, *, smallest: int = 1, multiple: int = 1
) -> None:
    """Refuse what is not (n, channels, h, w) with h and w of the given sizes.

    Raises:
        DataError: the shape and what is expected are in the message.
    """
    if pictures.dim() != 4 or pictures.shape[1] != channels:
        raise DataError(
            f"pictures have shape {tuple(pictures.shape)}, expected (n, {channels}, h, w)"
        )
    h, w = pictures.shape[2:]
    if h < smallest or w < smallest:
        raise DataError(f"pictures are {h}x{w}, this network needs at least {smallest}x{smallest}")
    if multiple > 1 and (h % multiple or w % multiple):
        raise DataError(
            f"pictures are {h}x{w}: height and width must be multiples of {multiple}; crop or "
            "resize them"
        )


@torch.no_grad()
def initialise(network: nn.Module) -> None:
    """Set convolutions to N(0, 0.02) without bias, batch norms to N(1, 0.02) (Zhu et al. 2017)."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.weight.normal_(0.0, 0.02)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.weight.normal_(1.0, 0.02)
        bias = cast("Tensor | None", getattr(layer, "bias", None))
        if isinstance(bias, nn.Parameter):
            bias.zero_()
