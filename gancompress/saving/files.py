"""Names and forms of what a saved generator consists of."""

from __future__ import annotations

import torch

WEIGHTS = "model.safetensors"
EXTRAS = "extras.safetensors"
CONFIG = "config.json"
PLAN = "plan.json"

FORMAT = 2
"""Newest form that is read. Form 2 is written only where something needs it (``COMPLEX``)."""

COMPLEX = {torch.complex128: "complex128", torch.complex32: "complex32"}
"""Types that safetensors lacks: stored as pairs of real numbers, and named in the config."""
