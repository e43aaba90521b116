"""Inputs reach ``forward`` by place, by name, or packed as it takes them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gancompress as gc
from gancompress.data.inputs import InputSampler
from gancompress.errors import ConfigError


class Packed(nn.Module):
    """Takes a dictionary of a picture and a list of two maps, and a number by name."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(5, 8, 3, padding=1), nn.Conv2d(8, 3, 1)

    def forward(self, batch: dict[str, Any], scale: float = 1.0, *, bias: Tensor) -> Tensor:
        x = torch.cat([batch["image"], *batch["maps"]], 1)
        return self.b(self.a(x).relu()) * scale + bias[:, None, None, None]


SPECS = [
    "batch.maps.1=uniform(1,8,8)", "bias=constant(0.5)", "batch.image=uniform(3,8,8)",
    "batch.maps.0=normal(1,8,8)",
]  # fmt: skip


def test_a_dictionary_and_a_list_are_packed_and_the_network_is_cut() -> None:
    net = Packed()
    sampler = InputSampler.parse(SPECS, net)
    InputSampler.parse(SPECS, net)  # a second time changes nothing
    given = sampler(2, torch.Generator().manual_seed(0))
    names = [part.name for part in sampler.parts]
    by_name = dict(zip(names, given, strict=True))
    batch = {
        "image": by_name["batch.image"],
        "maps": [by_name["batch.maps.0"], by_name["batch.maps.1"]],
    }
    wanted = net(batch, bias=by_name["bias"])  # as its author calls it
    assert torch.equal(net(*given), wanted)
    assert torch.equal(copy.deepcopy(net)(*given), wanted)

    masked = gc.wrap(net.double(), example=tuple(x.double() for x in given), target="params=2x")
    masked.advance(1.0)
    small = masked.prune()
    assert sum(p.numel() for p in small.parameters()) < 300
    assert small(*(x.double() for x in given)).shape == wanted.shape


@pytest.mark.parametrize(
    ("specs", "word"),
    [
        (["x=normal(3)", "y=normal(3)", "m=normal(1)", "z=normal(2)"], r"4 inputs .*batch\.x="),
        (["batch=normal(3)", "batch.x=normal(3)"], "as a whole"),
        (["batch.0=normal(3)", "batch.2=normal(3)"], r"no batch\.1"),
        (["other.x=normal(3)", "bias=normal(3)"], "no argument 'other'"),
        (["batch.x=normal(3)", "batch.x=normal(3)"], "given twice"),
        (["batch..x=normal(3)"], "is not NAME=KIND"),
    ],
)
def test_what_cannot_be_packed(specs: list[str], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        InputSampler.parse(specs, Packed())
