"""The perceptual loss against the network worked through by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from gancompress.errors import CheckpointError, ConfigError
from gancompress.losses.networks.vgg16 import VGG16Features
from gancompress.losses.perceptual import FEATURE_NETWORKS
from gancompress.losses.protocol import LOSSES


class Halves(nn.Module):
    """Two maps: the picture, and three times its square."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> list[Tensor]:
        return [x, self.factor * x.square()]


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    known = dict(FEATURE_NETWORKS._entries)
    FEATURE_NETWORKS.register("halves")(lambda weights: Halves(3.0))
    file = tmp_path / "w.safetensors"
    safetensors.torch.save_file({"x": torch.ones(1)}, file)
    yield str(file)
    FEATURE_NETWORKS._entries.clear()
    FEATURE_NETWORKS._entries.update(known)


def test_maps_are_summed_and_only_the_output_gets_a_gradient(own: str) -> None:
    a = torch.full((2, 1, 2, 2), 2.0, requires_grad=True)
    b = torch.full((2, 1, 2, 2), 1.0, requires_grad=True)
    loss = LOSSES.bind({"name": "perceptual", "network": "halves", "weights": own})
    value = loss(a, b)
    assert value.item() == pytest.approx(1 + 3 * (4 - 1))
    value.backward()
    assert a.grad is not None
    assert b.grad is None
    square = LOSSES.bind({"name": "perceptual", "network": "halves", "weights": own, "norm": "l2"})
    assert square(a, b).item() == pytest.approx(1 + 81)


def test_vgg16_reads_its_file_and_pictures_of_one_or_three_channels(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = VGG16Features().eval()
    file = tmp_path / "vgg16.pth"
    torch.save(network.state_dict() | {"classifier.0.weight": torch.ones(2)}, file)
    loss = LOSSES.bind({"name": "perceptual", "weights": str(file)})
    a, b = torch.rand(2, 1, 16, 16) * 2 - 1, torch.rand(2, 1, 16, 16) * 2 - 1
    value = loss(a, b).item()
    with torch.no_grad():
        three = [network(x.expand(-1, 3, -1, -1)) for x in (a, b)]
    assert [m.shape[1] for m in three[0]] == [64, 128, 256, 512]
    expected = sum(float((x - y).abs().mean()) for x, y in zip(*three, strict=True))
    assert value == pytest.approx(expected, rel=1e-5)
    assert loss(a, a).item() == 0


def test_what_is_not_at_hand_is_named(own: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no feature network named 'vgg61'"):
        LOSSES.bind({"name": "perceptual", "network": "vgg61", "weights": own})
    with pytest.raises(ConfigError, match="no file of weights 'nowhere.pth'"):
        LOSSES.bind({"name": "perceptual", "weights": "nowhere.pth"})
    with pytest.raises(ConfigError, match=r"'weights'.* is missing"):
        LOSSES.bind("perceptual")
    with pytest.raises(CheckpointError, match="holds no VGG-16"):
        LOSSES.bind({"name": "perceptual", "weights": own})(
            torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16)
        )
