"""SPADE generator and multi-scale discriminator (Park et al. 2019, "GauGAN").

Names and shapes equal those of the public PyTorch code (NVlabs/SPADE), whose ``.pth`` files are
bare state dicts. A semantic map is (n, semantic_nc, h, w): one channel per label, ones and zeros,
then, where the data set has instances, one of their edges. Pictures are in [-1, 1].
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from gancompress.errors import ConfigError, DataError
from gancompress.models.built_with import remembered
from gancompress.models.normed_layers import SpectralNormConv2d
from gancompress.models.translation import InstanceNorm2d, check_pictures, check_sizes

__all__ = ["SPADEConfig", "SPADEDiscriminator", "SPADEGenerator"]

_HALVINGS = {"normal": 5, "more": 6, "most": 7}  # from the picture to the first map


@dataclasses.dataclass(frozen=True)
class SPADEConfig:
    """Sizes of a SPADE pair, named after the public options.

    Raises:
        ConfigError: for values that make no network.
    """

    label_nc: int = 182
    contain_dontcare_label: bool = True  # one more label: unknown
    no_instance: bool = False  # without the channel of instance edges
    output_nc: int = 3
    ngf: int = 64
    ndf: int = 64
    crop_size: int = 256  # picture width
    aspect_ratio: float = 1.0  # width / height
    num_upsampling_layers: str = "normal"
    norm_G: str = "syncbatch"  # noqa: N815 - of the public options; or "batch", "instance"
    use_vae: bool = False  # starts from a latent vector, not from the map
    z_dim: int = 256
    nhidden: int = 128  # width of the map that every norm reads from; 128 in the public code
    num_D: int = 2  # noqa: N815
    n_layers_D: int = 4  # noqa: N815

    def __post_init__(self) -> None:
        check_sizes(
            "SPADE",
            label_nc=self.label_nc,
            output_nc=self.output_nc,
            ngf=self.ngf,
            ndf=self.ndf,
            z_dim=self.z_dim,
            nhidden=self.nhidden,
            num_D=self.num_D,
            n_layers_D=self.n_layers_D,
        )
        if self.num_upsampling_layers not in _HALVINGS:
            raise ConfigError(
                f"SPADE num_upsampling_layers {self.num_upsampling_layers!r} is not one of "
                f"{list(_HALVINGS)}"
            )
        if self.norm_G not in ("syncbatch", "batch", "instance"):
            raise ConfigError(
                f"SPADE norm_G {self.norm_G!r} is not 'syncbatch', 'batch' or 'instance'"
            )
        if min(self.first_map) < 1:
            raise ConfigError(
                f"SPADE crop_size {self.crop_size} at aspect ratio {self.aspect_ratio} leaves no "
                f"first map after {_HALVINGS[self.num_upsampling_layers]} halvings"
            )

    @property
    def semantic_nc(self) -> int:
        """Channels of the semantic map."""
        return self.label_nc + self.contain_dontcare_label + (not self.no_instance)

    @property
    def first_map(self) -> tuple[int, int]:
        """Height and width of the first map."""
        width = self.crop_size // 2 ** _HALVINGS[self.num_upsampling_layers]
        return round(width / self.aspect_ratio), width

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures."""
        factor = 2 ** _HALVINGS[self.num_upsampling_layers]
        return self.first_map[0] * factor, self.first_map[1] * factor

    @classmethod
    def coco(cls) -> SPADEConfig:
        """Return the published COCO-Stuff configuration (97.5 M generator parameters)."""
        return cls()

    @classmethod
    def ade20k(cls) -> SPADEConfig:
        """Return the published ADE20K configuration (96.5 M generator parameters)."""
        return cls(label_nc=150, no_instance=True)

    @classmethod
    def cityscapes(cls) -> SPADEConfig:
        """Return the published Cityscapes configuration, 512x256 (93.0 M generator parameters)."""
        return cls(
            label_nc=35,
            contain_dontcare_label=False,
            crop_size=512,
            aspect_ratio=2.0,
            num_upsampling_layers="more",
        )


class SPADE(nn.Module):
    """Plain norm, then gain and bias read from the semantic map (Park et al. 2019, Eq. 1)."""

    def __init__(self, c: int, config: SPADEConfig) -> None:
        super().__init__()
        # Across several devices the public code synchronises statistics: `nn.SyncBatchNorm` has
        # the same names, see `nn.SyncBatchNorm.convert_sync_batchnorm`.
        self.param_free_norm = (
            InstanceNorm2d(c) if config.norm_G == "instance" else nn.BatchNorm2d(c, affine=False)
        )
        hidden = config.nhidden
        self.mlp_shared = nn.Sequential(
            nn.Conv2d(config.semantic_nc, hidden, 3, padding=1), nn.ReLU()
        )
        self.mlp_gamma = nn.Conv2d(hidden, c, 3, padding=1)
        self.mlp_beta = nn.Conv2d(hidden, c, 3, padding=1)

    def forward(self, input: Tensor, semantic: Tensor) -> Tensor:
        """Normalise (n, c, h, w) under a semantic map (n, semantic_nc, any, any)."""
        semantic = functional.interpolate(semantic, size=input.shape[2:], mode="nearest")
        hidden = self.mlp_shared(semantic)
        return self.param_free_norm(input) * (1 + self.mlp_gamma(hidden)) + self.mlp_beta(hidden)


class SPADEBlock(nn.Module):
    """Residual block: twice norm, leaky ReLU, convolution; a learned shortcut if widths differ."""

    def __init__(self, i: int, o: int, config: SPADEConfig) -> None:
        super().__init__()
        middle = min(i, o)
        self.conv_0 = SpectralNormConv2d(i, middle, 3, padding=1)
        self.conv_1 = SpectralNormConv2d(middle, o, 3, padding=1)
        self.conv_s = SpectralNormConv2d(i, o, 1, bias=False) if i != o else None
        self.norm_0 = SPADE(i, config)
        self.norm_1 = SPADE(middle, config)
        self.norm_s = SPADE(i, config) if i != o else None

    def forward(self, input: Tensor, semantic: Tensor) -> Tensor:
        """Map (n, i, h, w) to (n, o, h, w)."""
        hidden = self.conv_0(_leaky(self.norm_0(input, semantic)))
        hidden = self.conv_1(_leaky(self.norm_1(hidden, semantic)))
        if self.conv_s is not None and self.norm_s is not None:
            input = self.conv_s(self.norm_s(input, semantic))
        return input + hidden


@remembered
class SPADEGenerator(nn.Module):
    """Semantic maps to pictures in [-1, 1]; with ``use_vae`` a latent vector (n, z_dim) as well."""

    checkpoint_keys: ClassVar[tuple[str, ...]] = ()
    reads: ClassVar[str] = "semantic map"

    def __init__(self, config: SPADEConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or SPADEConfig.coco()
        c = config.ngf
        h, w = config.first_map
        self.fc = (
            nn.Linear(config.z_dim, 16 * c * h * w)
            if config.use_vae
            else nn.Conv2d(config.semantic_nc, 16 * c, 3, padding=1)
        )
        self.head_0 = SPADEBlock(16 * c, 16 * c, config)
        self.G_middle_0 = SPADEBlock(16 * c, 16 * c, config)
        self.G_middle_1 = SPADEBlock(16 * c, 16 * c, config)
        self.up_0 = SPADEBlock(16 * c, 8 * c, config)
        self.up_1 = SPADEBlock(8 * c, 4 * c, config)
        self.up_2 = SPADEBlock(4 * c, 2 * c, config)
        self.up_3 = SPADEBlock(2 * c, c, config)
        most = config.num_upsampling_layers == "most"
        self.up_4 = SPADEBlock(c, c // 2, config) if most else None
        self.conv_img = nn.Conv2d(c // 2 if most else c, config.output_nc, 3, padding=1)
        _initialise(self)

    def forward(self, semantic: Tensor, z: Tensor | None = None) -> Tensor:
        """Map semantic maps (n, semantic_nc, h, w) to pictures (n, output_nc, *config.size).

        ``z`` (n, z_dim) is read by networks with ``use_vae``, and only by them.

        Raises:
            DataError: another number of channels, or ``z`` missing, of another shape or unwanted.
        """
        config = self.config
        check_pictures(semantic, config.semantic_nc)
        if config.use_vae:
            if z is None or tuple(z.shape) != (semantic.shape[0], config.z_dim):
                given = "missing" if z is None else f"of shape {tuple(z.shape)}"
                raise DataError(f"z is {given}, expected ({semantic.shape[0]}, {config.z_dim})")
            hidden = self.fc(z).unflatten(1, (-1, *config.first_map))
        elif z is not None:
            raise DataError("this SPADE generator reads no z: it was made without use_vae")
        else:
            hidden = self.fc(functional.interpolate(semantic, size=config.first_map))
        hidden = self.G_middle_0(_double(self.head_0(hidden, semantic)), semantic)
        if config.num_upsampling_layers != "normal":
            hidden = _double(hidden)
        hidden = self.G_middle_1(hidden, semantic)
        for block in (self.up_0, self.up_1, self.up_2, self.up_3, self.up_4):
            if block is not None:
                hidden = block(_double(hidden), semantic)
        return torch.tanh(self.conv_img(_leaky(hidden)))

    def sample_inputs(self, n: int, rng: torch.Generator) -> tuple[Tensor, ...]:
        """Draw maps of 8x8 random labels (and edges), and ``z`` ~ N(0, 1) if it is read."""
        config = self.config
        labels = config.label_nc + config.contain_dontcare_label
        drawn = torch.randint(labels, (n, 8, 8), generator=rng, device=rng.device)
        semantic = functional.one_hot(drawn, labels).permute(0, 3, 1, 2).float()
        semantic = functional.interpolate(semantic, size=config.size)
        if not config.no_instance:
            edges = torch.rand(n, 1, *config.size, generator=rng, device=rng.device) < 0.1
            semantic = torch.cat([semantic, edges.float()], dim=1)
        like = self.conv_img.weight
        inputs = [semantic]
        if config.use_vae:
            inputs.append(torch.randn(n, config.z_dim, generator=rng, device=rng.device))
        return tuple(tensor.to(like.device, like.dtype) for tensor in inputs)


class SPADEPatchDiscriminator(nn.Module):
    """PatchGAN under spectral norm and instance norm; ``model0`` to ``modelN`` give its maps."""

    def __init__(self, config: SPADEConfig) -> None:
        super().__init__()
        width = config.ndf
        first = nn.Conv2d(config.semantic_nc + config.output_nc, width, 4, stride=2, padding=2)
        self.add_module("model0", nn.Sequential(first, nn.LeakyReLU(0.2)))
        for index in range(1, config.n_layers_D):
            before, width = width, min(2 * width, 512)
            stride = 1 if index == config.n_layers_D - 1 else 2
            conv = SpectralNormConv2d(before, width, 4, stride, padding=2, bias=False)
            normed = nn.Sequential(conv, InstanceNorm2d(width))
            self.add_module(f"model{index}", nn.Sequential(normed, nn.LeakyReLU(0.2)))
        last = nn.Sequential(nn.Conv2d(width, 1, 4, padding=2))
        self.add_module(f"model{config.n_layers_D}", last)

    def forward(self, input: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Map (n, semantic_nc + output_nc, h, w) to logits (n, 1, h', w') and all maps."""
        maps: list[Tensor] = []
        for layer in self.children():
            input = layer(input)
            maps.append(input)
        return input, maps


class SPADEDiscriminator(nn.Module):
    """Several PatchGANs, each on half the size of the one before (Wang et al. 2018, pix2pixHD)."""

    checkpoint_keys: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: SPADEConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or SPADEConfig.coco()
        for index in range(config.num_D):
            self.add_module(f"discriminator_{index}", SPADEPatchDiscriminator(config))
        _initialise(self)

    def forward(self, input: Tensor) -> list[tuple[Tensor, list[Tensor]]]:
        """Map semantic map and picture, joined along the channels, to (logits, maps) per scale.

        ``input`` is (n, semantic_nc + output_nc, h, w), the map first. The public code returns the
        maps alone; the logits are their last.

        Raises:
            DataError: another number of channels.
        """
        check_pictures(input, self.config.semantic_nc + self.config.output_nc, smallest=16)
        found: list[tuple[Tensor, list[Tensor]]] = []
        for discriminator in self.children():
            found.append(discriminator(input))
            input = functional.avg_pool2d(input, 3, 2, padding=1, count_include_pad=False)
        return found


def _leaky(input: Tensor) -> Tensor:
    return functional.leaky_relu(input, 0.2)


def _double(input: Tensor) -> Tensor:
    return functional.interpolate(input, scale_factor=2)


@torch.no_grad()
def _initialise(network: nn.Module) -> None:
    """Set weights to Xavier's with gain 0.02 and biases to zero, as the public options do."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            spectral = isinstance(layer, SpectralNormConv2d)
            nn.init.xavier_normal_(layer.weight_orig if spectral else layer.weight, gain=0.02)
            if layer.bias is not None:  # pyright: ignore[reportUnnecessaryComparison]
                cast(Tensor, layer.bias).zero_()
