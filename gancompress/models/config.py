"""The configuration that a BigGAN generator and its discriminator share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from gancompress.errors import ConfigError, closest

__all__ = ["BigGANConfig"]

# Widths in multiples of `ch`. Generator: first map, then each stage's output.
_GENERATOR = {
    32: (4, 4, 4, 4),
    64: (16, 16, 8, 4, 2),
    128: (16, 16, 8, 4, 2, 1),
    256: (16, 16, 8, 8, 4, 2, 1),
}
# Discriminator: each stage's output, and how many stages halve the image.
_DISCRIMINATOR = {
    32: ((4, 4, 4, 4), 2),
    64: ((1, 2, 4, 8, 16), 4),
    128: ((1, 2, 4, 8, 16, 16), 5),
    256: ((1, 2, 4, 8, 8, 16, 16), 6),
}


@dataclasses.dataclass(frozen=True)
class BigGANConfig:
    """Sizes and options of a BigGAN pair, named after the public PyTorch code (not BigGAN-deep).

    Raises:
        ConfigError: for a value or a combination with no network.
    """

    resolution: int  # image height and width: 32, 64, 128 or 256
    n_classes: int
    ch: int  # width unit; layers have small multiples of it
    dim_z: int
    shared: bool = False  # one class embedding for all norms; False = a table in each norm
    shared_dim: int = 0  # width of that embedding; 0 when not shared
    hier: bool = False  # z in equal slots: one to the first layer, one to each stage's norms
    g_attn: tuple[int, ...] = ()  # resolutions whose stage ends in self-attention
    d_attn: tuple[int, ...] = ()
    image_channels: int = 3
    sn_eps: float = 1e-8
    bn_eps: float = 1e-5  # of the conditional norms; the last norm has 1e-5 always
    init: Literal["ortho", "N02"] = "ortho"  # orthogonal, or normal with deviation 0.02

    def __post_init__(self) -> None:
        object.__setattr__(self, "g_attn", tuple(self.g_attn))
        object.__setattr__(self, "d_attn", tuple(self.d_attn))
        if self.resolution not in _GENERATOR:
            raise ConfigError(
                f"BigGAN resolution {self.resolution} is not one of {sorted(_GENERATOR)}"
            )
        for name in ("n_classes", "ch", "dim_z", "image_channels"):
            if getattr(self, name) < 1:
                raise ConfigError(f"BigGAN {name} is {getattr(self, name)}, must be at least 1")
        if self.shared != (self.shared_dim > 0):
            raise ConfigError(
                f"BigGAN shared={self.shared} with shared_dim={self.shared_dim}: a shared "
                "embedding needs shared_dim >= 1, and shared_dim 0 means none"
            )
        if self.hier and not self.shared:
            raise ConfigError("BigGAN hier=True needs shared=True: z slots join the embedding")
        if self.hier and self.dim_z % self.z_slots:
            down = self.dim_z // self.z_slots * self.z_slots
            raise ConfigError(
                f"BigGAN dim_z {self.dim_z} does not split into {self.z_slots} equal slots at "
                f"{self.resolution} px: use {down or self.z_slots} or {down + self.z_slots}"
            )
        for name, stages in (
            ("g_attn", self.generator_stages()),
            ("d_attn", self.discriminator_stages()),
        ):
            widths = {size: out for _, out, size in stages}
            for size in getattr(self, name):
                if size not in widths:
                    raise ConfigError(
                        f"BigGAN {name} {size} is no stage's resolution; stages of this network "
                        f"end at {sorted(widths)}"
                    )
                if widths[size] < 8:
                    raise ConfigError(
                        f"BigGAN {name} {size} needs at least 8 channels there, has "
                        f"{widths[size]}: raise ch"
                    )
        if self.init not in ("ortho", "N02"):
            raise ConfigError(f"BigGAN init {self.init!r} is not 'ortho' or 'N02'")

    @property
    def z_slots(self) -> int:
        """Number of equal parts of z: 1, or 1 + stages when hierarchical."""
        return len(_GENERATOR[self.resolution]) if self.hier else 1

    @property
    def z_chunk(self) -> int:
        """Width of one part of z; the first layer reads one part."""
        return self.dim_z // self.z_slots

    @property
    def condition_dim(self) -> int:
        """Width of what a norm with shared embedding reads: embedding, then z slot if any."""
        return self.shared_dim + (self.z_chunk if self.hier else 0)

    def generator_stages(self) -> list[tuple[int, int, int]]:
        """Return (input width, output width, output resolution) of each generator stage."""
        widths = [multiple * self.ch for multiple in _GENERATOR[self.resolution]]
        return [
            (before, after, 8 << stage)
            for stage, (before, after) in enumerate(zip(widths, widths[1:], strict=False))
        ]

    def discriminator_stages(self) -> list[tuple[int, int, int]]:
        """Return (input width, output width, output resolution) of each discriminator stage."""
        multiples, halvings = _DISCRIMINATOR[self.resolution]
        widths = [self.image_channels, *(multiple * self.ch for multiple in multiples)]
        return [
            (before, after, self.resolution >> min(stage + 1, halvings))
            for stage, (before, after) in enumerate(zip(widths, widths[1:], strict=False))
        ]

    @classmethod
    def imagenet128(cls) -> BigGANConfig:
        """Return the published ImageNet configuration at 128 px (70.4 M generator parameters)."""
        return cls(
            resolution=128,
            n_classes=1000,
            ch=96,
            dim_z=120,
            shared=True,
            shared_dim=128,
            hier=True,
            g_attn=(64,),
            d_attn=(64,),
            sn_eps=1e-6,
        )

    @classmethod
    def cifar(cls) -> BigGANConfig:
        """Return the published CIFAR-10 configuration (4.3 M generator parameters)."""
        return cls(resolution=32, n_classes=10, ch=64, dim_z=128, init="N02")

    @classmethod
    def fashion32(cls) -> BigGANConfig:
        """Return the small grey 32 px configuration of the embedded teacher (ours, 0.3 M)."""
        return cls(
            resolution=32,
            n_classes=10,
            ch=16,
            dim_z=64,
            shared=True,
            shared_dim=32,
            hier=True,
            image_channels=1,
            sn_eps=1e-6,
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BigGANConfig:
        """Rebuild a configuration from the mapping that ``to_dict`` wrote (say, through JSON).

        Raises:
            ConfigError: for an unknown or missing key.
        """
        fields = dataclasses.fields(cls)
        known = [field.name for field in fields]
        for name in values:
            if name not in known:
                raise ConfigError(f"unknown BigGAN option {name!r}.{closest(name, known)}")
        for field in fields:
            if field.default is dataclasses.MISSING and field.name not in values:
                raise ConfigError(f"BigGAN option {field.name!r} is missing")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return the options as plain JSON values."""
        values = dataclasses.asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
