"""Distillers: losses that pass a teacher's knowledge to the student, one file a strategy."""

from gancompress.distill.protocol import (
    DISTILLERS,
    Context,
    DistillBatch,
    Distiller,
    build_distiller,
)
from gancompress.distill.strategies.attention import Attention, attention_transfer
from gancompress.distill.strategies.class_aware import ClassAware
from gancompress.distill.strategies.co_attention import CoAttention
from gancompress.distill.strategies.discriminator_features import DiscriminatorFeatures
from gancompress.distill.strategies.feature import Feature
from gancompress.distill.strategies.kernel_alignment import KernelAlignment, kernel_alignment
from gancompress.distill.strategies.latent_direction import LatentDirection
from gancompress.distill.strategies.output import Perceptual, Pixel
from gancompress.distill.strategies.relational import Relational
from gancompress.distill.tap_pairs import find_taps, pair_taps
from gancompress.distill.taps import Taps

__all__ = [
    "DISTILLERS",
    "Attention",
    "ClassAware",
    "CoAttention",
    "Context",
    "DiscriminatorFeatures",
    "DistillBatch",
    "Distiller",
    "Feature",
    "KernelAlignment",
    "LatentDirection",
    "Perceptual",
    "Pixel",
    "Relational",
    "Taps",
    "attention_transfer",
    "build_distiller",
    "find_taps",
    "kernel_alignment",
    "pair_taps",
]
