"""Reference generators and discriminators, and the loader of their published checkpoints."""

from gancompress.models.biggan import BigGANDiscriminator, BigGANGenerator
from gancompress.models.config import BigGANConfig
from gancompress.models.convert import (
    convert_biggan_folder,
    load_biggan_discriminator,
    load_biggan_folder,
    load_biggan_generator,
)
from gancompress.models.presets import (
    cifar_discriminator,
    cifar_generator,
    imagenet128_discriminator,
    imagenet128_generator,
)

__all__ = [
    "BigGANConfig",
    "BigGANDiscriminator",
    "BigGANGenerator",
    "cifar_discriminator",
    "cifar_generator",
    "convert_biggan_folder",
    "imagenet128_discriminator",
    "imagenet128_generator",
    "load_biggan_discriminator",
    "load_biggan_folder",
    "load_biggan_generator",
]
