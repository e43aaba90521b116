"""Builders of the published networks without arguments, as ``--model`` wants them."""

from __future__ import annotations

from gancompress.models.biggan import BigGANDiscriminator, BigGANGenerator
from gancompress.models.config import BigGANConfig
from gancompress.models.hifigan import (
    HiFiGANConfig,
    HiFiGANGenerator,
    MultiPeriodDiscriminator,
    MultiScaleDiscriminator,
)
from gancompress.models.patchgan import NLayerDiscriminator, PixelDiscriminator
from gancompress.models.spade import SPADEConfig, SPADEDiscriminator, SPADEGenerator
from gancompress.models.superres import RRDBNet, SRVGGNetCompact, UNetDiscriminatorSN
from gancompress.models.translation import ResnetGenerator, UnetGenerator

__all__ = [
    "cifar_discriminator",
    "cifar_generator",
    "cyclegan_discriminator",
    "cyclegan_generator",
    "edges32_discriminator",
    "edges32_generator",
    "hifigan_period_discriminator",
    "hifigan_scale_discriminator",
    "hifigan_v1_generator",
    "hifigan_v2_generator",
    "hifigan_v3_generator",
    "imagenet128_discriminator",
    "imagenet128_generator",
    "pix2pix_discriminator",
    "pix2pix_generator",
    "pixel_discriminator",
    "realesr_animevideov3",
    "realesr_general_x4v3",
    "realesrgan_discriminator",
    "realesrgan_x2plus",
    "realesrgan_x4plus",
    "realesrgan_x4plus_anime",
    "spade_ade20k_discriminator",
    "spade_ade20k_generator",
    "spade_cityscapes_discriminator",
    "spade_cityscapes_generator",
    "spade_coco_discriminator",
    "spade_coco_generator",
]


def imagenet128_generator() -> BigGANGenerator:
    """Return an untrained ImageNet 128 px generator (70.4 M parameters)."""
    return BigGANGenerator(BigGANConfig.imagenet128())


def imagenet128_discriminator() -> BigGANDiscriminator:
    """Return an untrained ImageNet 128 px discriminator (88.0 M parameters)."""
    return BigGANDiscriminator(BigGANConfig.imagenet128())


def cifar_generator() -> BigGANGenerator:
    """Return an untrained CIFAR-10 generator (4.3 M parameters)."""
    return BigGANGenerator(BigGANConfig.cifar())


def cifar_discriminator() -> BigGANDiscriminator:
    """Return an untrained CIFAR-10 discriminator (4.2 M parameters)."""
    return BigGANDiscriminator(BigGANConfig.cifar())


def cyclegan_generator() -> ResnetGenerator:
    """Return an untrained CycleGAN generator: 9 blocks, instance norm (11.4 M parameters)."""
    return ResnetGenerator(norm="instance", use_dropout=False)


def cyclegan_discriminator() -> NLayerDiscriminator:
    """Return an untrained PatchGAN of pictures, instance norm (2.8 M parameters)."""
    return NLayerDiscriminator(3, norm="instance")


def pix2pix_generator() -> UnetGenerator:
    """Return an untrained U-Net of 256 px, batch norm and dropout (54.4 M parameters)."""
    return UnetGenerator(norm="batch", use_dropout=True)


def pix2pix_discriminator() -> NLayerDiscriminator:
    """Return an untrained PatchGAN of condition and picture joined, batch norm (2.8 M)."""
    return NLayerDiscriminator(6, norm="batch")


def pixel_discriminator() -> PixelDiscriminator:
    """Return an untrained 1x1 discriminator of condition and picture joined, batch norm."""
    return PixelDiscriminator(6, norm="batch")


def edges32_generator() -> ResnetGenerator:
    """Return an untrained grey ResNet of 32 px: 3 blocks, ngf 32, batch norm (1.1 M; ours)."""
    return ResnetGenerator(1, 1, 32, norm="batch", n_blocks=3, sample_size=32)


def edges32_discriminator() -> NLayerDiscriminator:
    """Return its untrained PatchGAN of condition and picture joined: 2 layers, 0.2 M (ours)."""
    return NLayerDiscriminator(2, 32, 2, norm="batch")


def spade_coco_generator() -> SPADEGenerator:
    """Return an untrained SPADE generator for COCO-Stuff, 256 px (97.5 M parameters)."""
    return SPADEGenerator(SPADEConfig.coco())


def spade_coco_discriminator() -> SPADEDiscriminator:
    """Return its untrained discriminator (5.9 M parameters)."""
    return SPADEDiscriminator(SPADEConfig.coco())


def spade_ade20k_generator() -> SPADEGenerator:
    """Return an untrained SPADE generator for ADE20K, 256 px (96.5 M parameters)."""
    return SPADEGenerator(SPADEConfig.ade20k())


def spade_ade20k_discriminator() -> SPADEDiscriminator:
    """Return its untrained discriminator (5.8 M parameters)."""
    return SPADEDiscriminator(SPADEConfig.ade20k())


def spade_cityscapes_generator() -> SPADEGenerator:
    """Return an untrained SPADE generator for Cityscapes, 512x256 (93.0 M parameters)."""
    return SPADEGenerator(SPADEConfig.cityscapes())


def spade_cityscapes_discriminator() -> SPADEDiscriminator:
    """Return its untrained discriminator (5.6 M parameters)."""
    return SPADEDiscriminator(SPADEConfig.cityscapes())


def realesrgan_x4plus() -> RRDBNet:
    """Return an untrained RRDB network of 23 blocks, fourfold (16.7 M parameters)."""
    return RRDBNet()


def realesrgan_x2plus() -> RRDBNet:
    """Return an untrained RRDB network of 23 blocks, twofold (16.7 M parameters)."""
    return RRDBNet(scale=2)


def realesrgan_x4plus_anime() -> RRDBNet:
    """Return an untrained RRDB network of 6 blocks, fourfold (4.5 M parameters)."""
    return RRDBNet(num_block=6)


def realesr_animevideov3() -> SRVGGNetCompact:
    """Return an untrained compact network of 16 layers, fourfold (0.6 M parameters)."""
    return SRVGGNetCompact(num_conv=16)


def realesr_general_x4v3() -> SRVGGNetCompact:
    """Return an untrained compact network of 32 layers, fourfold (1.2 M parameters)."""
    return SRVGGNetCompact(num_conv=32)


def realesrgan_discriminator() -> UNetDiscriminatorSN:
    """Return an untrained U-Net discriminator under spectral norm (4.4 M parameters)."""
    return UNetDiscriminatorSN()


def hifigan_v1_generator() -> HiFiGANGenerator:
    """Return an untrained HiFi-GAN V1 vocoder (13.9 M parameters)."""
    return HiFiGANGenerator(HiFiGANConfig.v1())


def hifigan_v2_generator() -> HiFiGANGenerator:
    """Return an untrained HiFi-GAN V2 vocoder (0.9 M parameters)."""
    return HiFiGANGenerator(HiFiGANConfig.v2())


def hifigan_v3_generator() -> HiFiGANGenerator:
    """Return an untrained HiFi-GAN V3 vocoder (1.5 M parameters)."""
    return HiFiGANGenerator(HiFiGANConfig.v3())


def hifigan_period_discriminator() -> MultiPeriodDiscriminator:
    """Return the untrained multi-period discriminator (41.1 M parameters)."""
    return MultiPeriodDiscriminator()


def hifigan_scale_discriminator() -> MultiScaleDiscriminator:
    """Return the untrained multi-scale discriminator (29.6 M parameters)."""
    return MultiScaleDiscriminator()
