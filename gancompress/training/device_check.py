"""What the arithmetic of a recipe needs of the device that it runs on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from shutil import which
from typing import Any

import torch

from gancompress.errors import ConfigError
from gancompress.recipes.schema import Recipe


def check_device(recipe: Recipe, device: torch.device) -> None:
    """Refuse a recipe whose arithmetic ``device`` does not have.

    Raises:
        ConfigError: which, and what to set.
    """
    if recipe.precision == "fp16" and (lack := fp16_lack(device)):
        raise ConfigError(f"precision=fp16 on {device}: {lack}. Set precision=auto")
    if recipe.compile and (lack := compile_lack(device)):
        raise ConfigError(f"compile=true on {device}: {lack}. Leave it out")
    if recipe.tf32:
        capable = device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8
        if not capable:
            raise ConfigError(
                f"tf32=true on {device}: TF32 needs an NVIDIA GPU of compute capability 8.0. "
                "Leave it out"
            )


def compile_lack(device: torch.device) -> str:
    """Return what torch.compile needs on ``device`` and is not installed; "" where nothing."""
    if device.type == "cuda":
        return "" if find_spec("triton") else "triton is not installed"
    if device.type != "cpu":
        return f"torch.compile is not known to work on {device.type}"
    compilers = [os.environ.get("CXX", ""), "c++", "g++", "clang++", "cl"]
    found = any(which(name) for name in compilers if name)
    return "" if found else "there is no C++ compiler (set CXX)"


def fp16_lack(device: torch.device) -> str:
    """Return why training in float16 makes no sense on ``device``; "" where it does."""
    if device.type == "cuda":
        return ""
    if device.type != "cpu":
        return f"scaled losses are not known to work on {device.type}"
    asked = getattr(torch.ops.mkldnn, "_is_mkldnn_fp16_supported", None)
    return "" if asked is not None and asked() else "this CPU does not multiply float16"


@contextmanager
def tensor_cores(tf32: bool | None) -> Iterator[None]:
    """Let float32 products use TF32, or not, as long as this is entered; ``None``: as torch is."""
    flags: tuple[Any, ...] = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [flag.allow_tf32 for flag in flags]
    if tf32 is not None:
        for flag in flags:
            flag.allow_tf32 = tf32
    try:
        yield
    finally:
        for flag, was in zip(flags, before, strict=True):
            if tf32 is not None:
                flag.allow_tf32 = was
