"""The networks and images that come with the package."""

from __future__ import annotations

import json

from safetensors.torch import load_file

from gancompress import assets
from gancompress.data.arrays import ArrayDataset, padded
from gancompress.data.embedded import embedded_images
from gancompress.models import BigGANConfig, BigGANDiscriminator, BigGANGenerator


def embedded_config() -> BigGANConfig:
    """Return the configuration of the embedded teacher."""
    return BigGANConfig.from_dict(json.loads(assets.path("teacher.json").read_text())["config"])


def embedded_generator() -> BigGANGenerator:
    """Return the embedded teacher, in eval mode."""
    generator = BigGANGenerator(embedded_config())
    generator.load_state_dict(_read("teacher_g.safetensors"))
    return generator.eval()


def embedded_discriminator() -> BigGANDiscriminator:
    """Return the teacher's discriminator."""
    discriminator = BigGANDiscriminator(embedded_config())
    discriminator.load_state_dict(_read("teacher_d.safetensors"))
    return discriminator


def embedded_dataset() -> ArrayDataset:
    """Return the 2,000 embedded images with their labels."""
    images, labels = embedded_images()
    return ArrayDataset(padded(images, 32), labels, 10)


def _read(name: str) -> dict:
    return {
        k: v.float() if v.is_floating_point() else v
        for k, v in load_file(assets.path(name)).items()
    }
