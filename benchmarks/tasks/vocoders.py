"""A vocoder small enough to train here, by a builder without arguments."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from gancompress.models.hifigan import HiFiGANConfig, HiFiGANGenerator


def small_v3() -> HiFiGANGenerator:
    """Return HiFi-GAN V3 with 96 channels at its start instead of 256, untrained (ours)."""
    return HiFiGANGenerator(
        HiFiGANConfig(
            upsample_initial_channel=96,
            upsample_rates=(8, 8, 4),
            upsample_kernel_sizes=(16, 16, 8),
            resblock="2",
            resblock_kernel_sizes=(3, 5, 7),
            resblock_dilation_sizes=((1, 2), (2, 6), (3, 12)),
        )
    )
