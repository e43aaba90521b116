"""Time at any widths out of a table: exact where it was measured, in stairs between."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import gancompress as gc
from gancompress.graph.groups import ChannelGraph
from gancompress.models import BigGANConfig, BigGANGenerator
from gancompress.target import Setting
from gancompress.timing.predicted import Predicted, needed_of, predicted
from gancompress.timing.stairs import unit_of, units
from gancompress.timing.table import Row, Table, measured_table
from gancompress.timing.work import Kind, main_kind, smaller, work_of


def chain(width: int = 32) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, width, 3, 1, 1), nn.ReLU(), nn.Conv2d(width, width, 3, 2, 1), nn.ReLU(),
        nn.ConvTranspose2d(width, 8, 4, 2, 1), nn.Tanh(), nn.Conv2d(8, 3, 1),
    ).eval()  # fmt: skip


def graph_of(width: int = 32, batch: int = 2) -> ChannelGraph:
    return gc.trace(chain(width), torch.randn(batch, 3, 16, 16))


def made_up(graph: ChannelGraph, batch: int = 2, unit: int = 1, ragged: float = 1.0) -> Table:
    """Seconds that are exactly multiply-accumulates, and passes that are free."""
    rows = {}
    for one in needed_of(graph, work_of(graph, batch)):
        reads = sorted({max(1, one.reads // 4), max(1, one.reads // 2), one.reads})
        writes = sorted({max(1, one.writes // 4), max(1, one.writes // 2), one.writes})
        rows[one.kind] = Row(reads, writes, [[float(r * w) for w in writes] for r in reads])
    return Table(rows, [1, 10], [0.0, 0.0], unit, ragged)


def test_the_work_of_a_network_is_its_convolutions_and_passes() -> None:
    work = work_of(graph_of(), batch=6)
    convs = [w.kind for w in work if w.kind.name == "conv"]
    assert [(k.kernel, k.stride, k.transposed, k.space, k.n) for k in convs] == [
        ((3, 3), (1, 1), False, (16, 16), 6),
        ((3, 3), (2, 2), False, (16, 16), 6),
        ((4, 4), (2, 2), True, (8, 8), 6),
        ((1, 1), (1, 1), False, (16, 16), 6),
    ]
    assert sum(w.kind.name == "pass" for w in work) == 3
    assert all(w.times == 3.0 for w in work if w.kind.name == "pass")


def test_work_on_weights_alone_does_not_grow_with_the_batch() -> None:
    net = BigGANGenerator(BigGANConfig.fashion32()).eval()
    graph = gc.trace(net, net.sample_inputs(2, torch.Generator().manual_seed(0)))
    static = [(a.times, b.times) for a, b in zip(work_of(graph, 2), work_of(graph, 8), strict=True)]
    assert (1.0, 1.0) in static
    assert (1.0, 4.0) in static


def test_prediction_equals_the_table_where_it_was_measured() -> None:
    graph = graph_of()
    found = predicted(graph, Setting(batch=2), made_up(graph))
    assert found.seconds({}) == pytest.approx(3 * 32 + 32 * 32 + 32 * 8 + 8 * 3)
    half = {g.name: g.size // 2 for g in graph.groups}
    assert found.seconds(half) == pytest.approx(3 * 16 + 16 * 16 + 16 * 4 + 4 * 3)
    between = {n: w // 2 + w // 4 for n, w in graph.widths.items()}
    # A product of two linear functions is exactly what bilinear interpolation gives back.
    assert found.seconds(between) == pytest.approx(3 * 24 + 24 * 24 + 24 * 6 + 6 * 3)


def test_widths_between_two_steps_take_as_long_as_the_wider() -> None:
    graph = graph_of()
    names = [g.name for g in graph.groups if g.size == 32]
    at = predicted(graph, Setting(batch=2), made_up(graph, unit=8)).seconds
    assert at({names[0]: 17}) == pytest.approx(at({names[0]: 24}))
    assert at({names[0]: 24}) > at({names[0]: 16})
    dear = predicted(graph, Setting(batch=2), made_up(graph, unit=8, ragged=1.5)).seconds
    assert dear({names[0]: 24}) == pytest.approx(at({names[0]: 24}))
    assert dear({names[0]: 17}) > at({names[0]: 24})


def test_what_a_channel_saves_is_the_difference_over_its_block() -> None:
    graph = graph_of()
    found = predicted(graph, Setting(batch=2), made_up(graph))
    saved = found.saved(graph.widths, dict.fromkeys(graph.widths, 4))
    for i, group in enumerate(graph.groups):
        fewer = found.seconds({group.name: group.size - 4})
        assert saved[i] == pytest.approx((found.seconds({}) - fewer) / 4)


def test_a_network_that_was_cut_is_predicted_by_the_same_table() -> None:
    net, x = chain(), torch.randn(2, 3, 16, 16)
    graph = gc.trace(net, x)
    table = made_up(graph)
    keep = {g.name: list(range(g.size // 2)) for g in graph.groups}
    small = gc.cut(net, gc.Plan.of(graph, keep), graph=graph)
    now = predicted(gc.trace(small, x), Setting(batch=2), table).seconds({})
    assert now == pytest.approx(predicted(graph, Setting(batch=2), table).seconds(
        {g.name: g.size // 2 for g in graph.groups}))  # fmt: skip


def test_measured_tables_survive_json_and_rise_with_widths() -> None:
    graph = graph_of(16)
    setting = Setting("cpu", 2)
    work = work_of(graph, 2)
    table = measured_table(needed_of(graph, work), setting)
    again = Table.from_json(table.to_json())
    assert again == table
    assert all(t > 0 for row in table.rows.values() for line in row.seconds for t in line)
    one = Predicted(graph, work, again)
    assert one.seconds({}) > 0
    assert np.isfinite(one.saved(graph.widths, {})).all()


STAIRS = {
    1: {w: float(w**2) for w in range(33, 65)},
    8: {w: float((w + -w % 8) ** 2) for w in range(33, 65)},
    16: {w: float((w + -w % 16) ** 2) * (1.4 if w % 16 else 1.0) for w in range(33, 65)},
}


@pytest.mark.parametrize("unit", STAIRS)
def test_the_unit_is_where_the_stairs_are(unit: int) -> None:
    found, ragged = unit_of(STAIRS[unit])
    assert found == unit
    assert ragged == pytest.approx(1.4 if unit == 16 else 1.0, rel=0.15)


def test_small_groups_have_finer_steps() -> None:
    found = units(graph_of(64), 16)
    sizes = graph_of(64).widths
    assert {sizes[n]: u for n, u in found.items()} == {64: 16, 8: 2}


def test_the_operator_that_shows_the_stairs_is_the_dearest_plain_one_on_less_space() -> None:
    found = main_kind(work_of(graph_of(64), 2))
    assert found is not None
    kind, reads, writes = found
    assert (kind.kernel, reads, writes) == ((3, 3), 64, 64)
    less = smaller(Kind("conv", 16, (64, 64), 1, (3, 3), (1, 1), (1, 1), (1, 1)), 4e6, 48)
    assert less.n == 1
    assert 3 <= less.space[0] < 32
