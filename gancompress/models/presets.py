"""Builders of the published networks without arguments, as ``--model`` wants them."""

from __future__ import annotations

from gancompress.models.biggan import BigGANDiscriminator, BigGANGenerator
from gancompress.models.config import BigGANConfig

__all__ = [
    "cifar_discriminator",
    "cifar_generator",
    "imagenet128_discriminator",
    "imagenet128_generator",
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
