"""The networks that come with the package."""

from __future__ import annotations

import json

from safetensors.torch import load_file
from torch import Tensor

from gancompress import assets
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


def _read(name: str) -> dict[str, Tensor]:
    # Weights ship in half precision to keep the package small.
    state = load_file(str(assets.path(name)))
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
