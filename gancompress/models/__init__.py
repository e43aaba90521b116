"""Reference generators and discriminators, and the loaders of their published checkpoints."""

from gancompress.models.biggan import BigGANDiscriminator, BigGANGenerator
from gancompress.models.config import BigGANConfig
from gancompress.models.convert import (
    convert_biggan_folder,
    load_biggan_discriminator,
    load_biggan_folder,
    load_biggan_generator,
)
from gancompress.models.hifigan import (
    HiFiGANConfig,
    HiFiGANGenerator,
    MultiPeriodDiscriminator,
    MultiScaleDiscriminator,
)
from gancompress.models.patchgan import NLayerDiscriminator, PixelDiscriminator
from gancompress.models.presets import (
    cifar_discriminator,
    cifar_generator,
    imagenet128_discriminator,
    imagenet128_generator,
)
from gancompress.models.published import published_state
from gancompress.models.spade import SPADEConfig, SPADEDiscriminator, SPADEGenerator
from gancompress.models.superres import RRDBNet, SRVGGNetCompact, UNetDiscriminatorSN
from gancompress.models.translation import ResnetGenerator, UnetGenerator

__all__ = [
    "BigGANConfig",
    "BigGANDiscriminator",
    "BigGANGenerator",
    "HiFiGANConfig",
    "HiFiGANGenerator",
    "MultiPeriodDiscriminator",
    "MultiScaleDiscriminator",
    "NLayerDiscriminator",
    "PixelDiscriminator",
    "RRDBNet",
    "ResnetGenerator",
    "SPADEConfig",
    "SPADEDiscriminator",
    "SPADEGenerator",
    "SRVGGNetCompact",
    "UNetDiscriminatorSN",
    "UnetGenerator",
    "cifar_discriminator",
    "cifar_generator",
    "convert_biggan_folder",
    "imagenet128_discriminator",
    "imagenet128_generator",
    "load_biggan_discriminator",
    "load_biggan_folder",
    "load_biggan_generator",
    "published_state",
]
