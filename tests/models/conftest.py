"""A network whose every value is a fixed function of its name, and the golden numbers it gives."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gancompress.models import BigGANConfig, BigGANDiscriminator, BigGANGenerator

DATA = Path(__file__).parent / "data"


def stream(name: str, count: int) -> np.ndarray:
    """Float64 numbers in [-1, 1): splitmix64 seeded with the FNV-1a hash of ``name``."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    with np.errstate(over="ignore"):
        x = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x += np.uint64(seed)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return (x >> np.uint64(40)).astype(np.float64) / 2**23 - 1


def drawn(name: str, shape: tuple[int, ...], dtype: torch.dtype, scale: float = 1.0) -> Tensor:
    """An input tensor that depends on its name only; float32 values in any dtype."""
    values = (scale * stream(name, int(np.prod(shape)))).astype(np.float32)
    return torch.from_numpy(values.reshape(shape)).to(dtype)


def value_of(key: str, shape: tuple[int, ...]) -> np.ndarray:
    count = int(np.prod(shape))
    s = stream(key, count)
    last = key.rpartition(".")[2]
    if last == "sv0":
        return np.ones(count)
    if last == "gamma":
        return np.full(count, 0.5)
    if last == "stored_mean":
        return 0.25 * s
    if last == "stored_var":
        return 1 + 0.5 * s
    if last == "u0" or key == "shared.weight":
        return s
    if len(shape) <= 1:
        return 0.125 * s if last == "bias" else 1 + 0.25 * s
    return s * np.sqrt(3 * shape[0] / count)


def filled(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for key, tensor in module.state_dict().items():
            shape = tuple(tensor.shape)
            values = value_of(key, shape).astype(np.float32).reshape(shape)
            tensor.copy_(torch.from_numpy(values))
    return module


@dataclasses.dataclass
class Golden:
    """One recorded case: its inputs, and the numbers of the public code."""

    name: str
    eval_entry: dict[str, Any]
    train_entry: dict[str, Any]
    eval: dict[str, np.ndarray]
    train: dict[str, np.ndarray]

    def module(self, dtype: torch.dtype) -> nn.Module:
        full = BigGANConfig.imagenet128() if "128" in self.name else BigGANConfig.cifar()
        config = dataclasses.replace(full, ch=16, init="N02")
        network = BigGANGenerator if "z" in self.eval_entry["input"] else BigGANDiscriminator
        return filled(network(config).to(dtype))

    def inputs(self, entry: dict[str, Any], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        first = drawn(
            self.eval_entry["input"],
            tuple(entry["input_shape"]),
            dtype,
            self.eval_entry["input_scale"],
        )
        return first, torch.tensor(entry["y"])

    def stored(self, entry: dict[str, Any], key: str, output: Tensor) -> np.ndarray:
        """The part of an output that the recording kept."""
        stride = entry["stride"].get(key, 1)
        kept = output[:, :, ::stride, ::stride] if output.dim() == 4 else output
        return kept.detach().numpy()


@pytest.fixture(params=["g128_ch16", "d128_ch16", "cifar_g_ch16", "cifar_d_ch16"])
def golden(request: pytest.FixtureRequest) -> Golden:
    name = request.param
    index = json.loads((DATA / "golden_index.json").read_text())
    arrays = []
    for case in (name, f"{name}_train"):
        with np.load(DATA / f"{case}.npz") as stored:
            arrays.append(dict(stored))
    return Golden(name, index[name], index[f"{name}_train"], *arrays)


@pytest.fixture
def published_keys() -> Callable[[str], dict[str, list[Any]]]:
    return lambda name: json.loads((DATA / f"ajbrock_{name}.json").read_text())


@pytest.fixture
def draw() -> Callable[..., Tensor]:
    return drawn


@pytest.fixture
def number_stream() -> Callable[[str, int], np.ndarray]:
    return stream


@pytest.fixture
def fill() -> Callable[[nn.Module], nn.Module]:
    return filled
