"""A translator of avatars and its judge, small enough to train here: builders of no arguments."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from gancompress.models.patchgan import NLayerDiscriminator
from gancompress.models.translation import ResnetGenerator


def translator() -> ResnetGenerator:
    """Return CycleGAN's ResNet for 32 px, untrained: 3 blocks, ngf 24, instance norm (ours)."""
    return ResnetGenerator(3, 3, 24, norm="instance", n_blocks=3, sample_size=32)


def judge() -> NLayerDiscriminator:
    """Return its PatchGAN, untrained: 2 layers, ndf 32, instance norm (ours)."""
    return NLayerDiscriminator(3, 32, 2, norm="instance")
