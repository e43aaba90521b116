"""Learnable masks on a living generator: `wrap` and its handle."""

from __future__ import annotations

from gancompress.wrapping.entry import wrap
from gancompress.wrapping.handle import Event, Masked

__all__ = ["Event", "Masked", "wrap"]
