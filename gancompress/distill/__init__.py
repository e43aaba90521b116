"""Distillers: losses that pass a teacher's knowledge to the student, one file a strategy."""

from gancompress.distill.attention import Attention, attention_transfer
from gancompress.distill.pairing import find_taps, pair_taps
from gancompress.distill.protocol import (
    DISTILLERS,
    Context,
    DistillBatch,
    Distiller,
    build_distiller,
)
from gancompress.distill.taps import Taps

__all__ = [
    "DISTILLERS",
    "Attention",
    "Context",
    "DistillBatch",
    "Distiller",
    "Taps",
    "attention_transfer",
    "build_distiller",
    "find_taps",
    "pair_taps",
]
