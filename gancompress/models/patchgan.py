"""PatchGAN and pixel discriminators of image translation (Isola et al. 2017).

Names and shapes equal those of the public PyTorch code (junyanz/pytorch-CycleGAN-and-pix2pix),
whose ``.pth`` files are bare state dicts.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from gancompress.models.translation import check_pictures, check_sizes, initialise, norm_layer

__all__ = ["NLayerDiscriminator", "PixelDiscriminator"]


class NLayerDiscriminator(nn.Module):
    """PatchGAN: one logit for each patch; with the default 3 layers a patch is 70x70.

    Of pix2pix ``input_nc`` is 6: condition and picture, joined along the channels in this order.
    ``norm`` is that of the generator: ``instance`` for CycleGAN, ``batch`` for pix2pix.
    """

    checkpoint_keys: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self, input_nc: int = 3, ndf: int = 64, n_layers: int = 3, *, norm: str = "instance"
    ) -> None:
        super().__init__()
        make, bias = norm_layer(norm), norm == "instance"
        check_sizes("NLayerDiscriminator", input_nc=input_nc, ndf=ndf, n_layers=n_layers)
        self.input_nc, self.n_layers = input_nc, n_layers
        layers: list[nn.Module] = [nn.Conv2d(input_nc, ndf, 4, stride=2, padding=1)]
        layers.append(nn.LeakyReLU(0.2))
        width = ndf
        for index in range(1, n_layers + 1):
            before, width = width, ndf * min(2**index, 8)
            stride = 2 if index < n_layers else 1
            layers.append(nn.Conv2d(before, width, 4, stride=stride, padding=1, bias=bias))
            layers += [make(width), nn.LeakyReLU(0.2)]
        layers.append(nn.Conv2d(width, 1, 4, padding=1))
        self.model = nn.Sequential(*layers)
        initialise(self)

    def forward(self, input: Tensor) -> Tensor:
        """Map (n, input_nc, h, w) to logits (n, 1, h', w'), h' about h / 2 ** n_layers - 2.

        Raises:
            DataError: another number of channels, or pictures that leave no patch.
        """
        check_pictures(input, self.input_nc, smallest=3 * 2**self.n_layers)
        return self.model(input)


class PixelDiscriminator(nn.Module):
    """One logit for each pixel: 1x1 convolutions only."""

    checkpoint_keys: ClassVar[tuple[str, ...]] = ()

    def __init__(self, input_nc: int = 3, ndf: int = 64, *, norm: str = "instance") -> None:
        super().__init__()
        make, bias = norm_layer(norm), norm == "instance"
        check_sizes("PixelDiscriminator", input_nc=input_nc, ndf=ndf)
        self.input_nc = input_nc
        self.net = nn.Sequential(
            nn.Conv2d(input_nc, ndf, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(ndf, 2 * ndf, 1, bias=bias),
            make(2 * ndf),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * ndf, 1, 1, bias=bias),
        )
        initialise(self)

    def forward(self, input: Tensor) -> Tensor:
        """Map (n, input_nc, h, w) to logits (n, 1, h, w).

        Raises:
            DataError: another number of channels.
        """
        check_pictures(input, self.input_nc)
        return self.net(input)
