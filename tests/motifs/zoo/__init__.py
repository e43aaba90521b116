"""All motifs, by name."""

from . import (  # noqa: F401  (each module registers its motifs)
    attention,
    configs,
    control,
    dense,
    foreign,
    io,
    modulated,
    norms,
    plain,
    recurrent,
    reparam,
    reshape,
    sizes,
    spectral,
)
from .registry import MOTIFS, Motif, locate, rows

__all__ = ["MOTIFS", "Motif", "locate", "rows"]
