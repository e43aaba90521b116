"""Distillers: losses that pass a teacher's knowledge to the student, one file a strategy."""

from gancompress.distill.attention import Attention, attention_transfer
from gancompress.distill.class_aware import ClassAware
from gancompress.distill.co_attention import CoAttention
from gancompress.distill.discriminator_features import DiscriminatorFeatures
from gancompress.distill.feature import Feature
from gancompress.distill.kernel_alignment import KernelAlignment, kernel_alignment
from gancompress.distill.latent_direction import LatentDirection
from gancompress.distill.output import Perceptual, Pixel
from gancompress.distill.pairing import find_taps, pair_taps
from gancompress.distill.protocol import (
    DISTILLERS,
    Context,
    DistillBatch,
    Distiller,
    build_distiller,
)
from gancompress.distill.relational import Relational
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
