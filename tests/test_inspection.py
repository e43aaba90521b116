"""inspect(): a row for every layer, the truth about each, and what the whole can come down to."""

from __future__ import annotations

import io
import json
from collections import OrderedDict

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

import gancompress as gc
from gancompress.errors import GraphError
from gancompress.graph.groups import Cost
from gancompress.models import BigGANConfig, BigGANGenerator
from tests.tiny import KINDS, Tiny, Z, build, inputs


@pytest.mark.parametrize("kind", KINDS)
def test_every_layer_has_a_row(kind: str) -> None:
    net = build(kind)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    found = gc.inspect(net, inputs(kind))
    layers = {r.layer for r in found.rows}
    kinds = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)
    assert {n for n, m in net.named_modules() if isinstance(m, kinds)} <= layers
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    for row in found.rows:
        assert 0 <= row.prunable <= row.channels
        assert row.status in ("prunable", "partly", "kept")
        assert bool(row.reason) == (row.status != "prunable"), row
        assert (row.status == "kept") == (row.prunable == 0)
        assert "Parametrized" not in row.kind
    json.dumps(found.to_dict())


def test_rows_of_a_small_network() -> None:
    found = gc.inspect(build("plain"), inputs("plain"))
    rows = {r.layer: r for r in found.rows}
    assert rows["linear"].groups == ("linear",)
    assert (rows["linear"].channels, rows["linear"].prunable) == (32, 32)
    assert rows["bn1"].groups == ("linear",)
    assert (rows["conv2"].channels, rows["conv2"].status) == (6, "prunable")
    assert rows["out"].status == "kept"
    assert rows["out"].reason == "is an output of the network (output)" or (
        "is an output of the network" in rows["out"].reason
    )
    # One channel of conv2: its row of the weight and bias, and a column of `out`.
    assert rows["conv2"].params_per_channel == 8 * 9 + 1 + 3 * 9
    assert rows["conv2"].macs_per_channel == (8 * 9 + 3 * 9) * 64


def test_predictions_are_those_of_real_cuts() -> None:
    net, x = build("plain"), inputs("plain")
    found = gc.inspect(net, x)
    graph = gc.trace(net, x)
    for share, cost in zip((0.75, 0.5, 0.25), found.predictions.values(), strict=True):
        small = gc.cut(net, gc.random_plan(graph, keep=share, seed=0), graph=graph)
        assert cost.params == sum(p.numel() for p in small.parameters())
        assert cost == gc.trace(small, x).cost()
    assert found.cost == graph.cost()
    assert found.smallest == graph.cost({"linear": 1, "conv2": 1})
    assert isinstance(found.smallest, Cost)


def test_reasons_name_operator_and_line() -> None:
    class Mixed(Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(8)
            self.spare = nn.Linear(4, 4)

        def forward(self, z: Tensor) -> Tensor:
            h = self.linear(z).view(-1, 8, 2, 2)
            h = self.norm(h.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            return self.out(torch.relu(self.conv2(h)))

    rows = {r.layer: r for r in gc.inspect(Mixed().eval(), torch.randn(2, Z)).rows}
    assert "normalised over all channels together" in rows["norm"].reason
    assert "test_inspection.py:" in rows["norm"].reason
    assert rows["spare"].reason == "is not used by this forward"
    assert rows["conv2"].status == "prunable"
    assert rows["linear"].status == "kept"


def test_a_scale_from_a_channel_count_is_caught_in_numbers() -> None:
    """Shapes cannot show it: only the numbers of a trial cut do."""

    class Scaled(Tiny):
        def forward(self, z: Tensor) -> Tensor:
            h = self.linear(z).unflatten(1, (-1, 2, 2))
            h = torch.relu(self.conv2(h))
            return self.out(h) * torch.tensor(float(h.shape[1]))

    rows = {r.layer: r for r in gc.inspect(Scaled().eval(), torch.randn(2, Z)).rows}
    assert rows["conv2"].status == "kept"
    assert rows["linear"].status == "prunable"


def test_biggan_table_prints() -> None:
    net = BigGANGenerator(BigGANConfig.fashion32())
    found = gc.inspect(net, net.sample_inputs(2, torch.Generator().manual_seed(0)))
    text = str(found)
    assert "smallest reachable" in text
    assert "blocks.0.0.conv1" in text
    kept = [r.layer for r in found.rows if r.status == "kept"]
    assert kept == ["output_layer.2"]
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(found)
    rich = console.export_text()
    assert "why kept" in rich
    assert f"{found.cost.params:,}" in rich


def test_forward_that_fails() -> None:
    with pytest.raises(GraphError, match="fails on the example"):
        gc.inspect(Tiny(), torch.randn(2, Z + 1))


class Response(nn.Module):
    """A layer of a user's own, channels last (ConvNeXt V2's)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1, 1, 1, channels))

    def forward(self, x: Tensor) -> Tensor:
        size = x.norm(dim=(1, 2), keepdim=True)
        return x + self.gain * x * size / size.mean(-1, keepdim=True)


class ChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.wide = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 12)
        self.respond, self.out = Response(12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.respond(self.wide(self.first(x).movedim(1, -1))))


def test_a_users_layer_may_have_its_channels_last() -> None:
    rows = {r.layer: r for r in gc.inspect(ChannelsLast(), torch.randn(2, 3, 5, 5)).rows}
    assert rows["first"].prunable == 8
    assert (rows["respond"].channels, rows["respond"].prunable) == (12, 0)
    assert "mean runs over the channels" in rows["respond"].reason


def test_long_names_are_folded_between_their_parts() -> None:
    net: nn.Module = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    names = ("synthesis_network", "resolution_0064", "upsampling_block")
    for name in names:
        net = nn.Sequential(OrderedDict({name: net}))
    out = io.StringIO()
    Console(file=out, width=80, color_system=None).print(gc.inspect(net, torch.randn(2, 6)))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    for name in names:
        assert name in text
