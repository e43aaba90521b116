"""One mask by itself, its gates on a weight, and what of it a live cut carries on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import gancompress as gc
from gancompress.masks import IMPORTANCES, RELAXATIONS, ChannelMask
from gancompress.masks.carry import carry_masks, carry_scores, cuttable
from gancompress.masks.importance import channel_norm, ranked
from gancompress.masks.mask import Gate, GatePart, OutputGate
from gancompress.masks.penalty import PENALTIES
from gancompress.surgery.raw_tensors import raw_tensors


def mask(scores: list[float], dead: tuple[int, ...] = (), **options: object) -> ChannelMask:
    made = ChannelMask("g", len(scores), **options)  # type: ignore[arg-type]
    with torch.no_grad():
        made.scores.copy_(torch.tensor(scores))
    made.kill(torch.tensor(dead, dtype=torch.int64))
    return made


def test_the_dead_are_closed_whatever_their_score() -> None:
    one = mask([3.0, 3.0, -1.0], dead=(1,))
    assert one.gate().tolist() == [1, 0, 0]
    assert one.hard().tolist() == [1, 0, 0]
    one.hold_open([1, 2])
    assert one.alive.tolist() == [False, False, True], "none comes back"
    assert one.gate().tolist() == [0, 0, 1], "and what lives is held open"


def test_a_score_below_zero_that_is_held_open_still_learns() -> None:
    one = mask([-2.0, 1.0], held_open=True)
    one.gate().sum().backward()
    assert one.scores.grad is not None
    assert one.scores.grad.tolist() == [1, 1]


def test_every_use_of_a_gate_counts_but_those_that_are_not_watched() -> None:
    one = mask([1.0, 1.0])
    (one.gate() * torch.tensor([1.0, 2.0])).sum().backward()
    (one.gate() * torch.tensor([10.0, 0.0])).sum().backward()
    (one.gate(watched=False) * 100).sum().backward()
    PENALTIES.bind("cost")([one], [5.0]).backward()
    assert one._gradient is not None
    assert one._gradient.tolist() == [11, 2]


def test_a_loaded_state_is_that_of_the_forward_too() -> None:
    before = mask([1.0, -1.0, 2.0], relaxation="sigmoid")
    before.set_progress(0.5)
    after = mask([0.0, 0.0, 0.0], relaxation="sigmoid")
    after.load_state_dict(before.state_dict())
    assert torch.equal(after.gate(), before.gate())
    before.settle(torch.tensor([True, False, True]))
    after.load_state_dict(before.state_dict())
    assert after.gate().tolist() == [1, 0, 1]


def test_a_settled_mask_is_whole_only_when_nothing_is_dead() -> None:
    one = mask([1.0, 1.0])
    one.settle(torch.tensor([True, False]))
    assert not one.whole
    one.settle(torch.tensor([True, True]))
    assert one.whole


def test_gates_of_both_dimensions_are_multiplied() -> None:
    rows, columns = mask([1.0, -1.0]), mask([1.0, 1.0, -1.0])
    parts = [
        GatePart(rows, 0, np.array([0, 1]), True),
        GatePart(columns, 1, np.array([2, -1, 0, 1]), True),
    ]
    gated = Gate(parts, [rows, columns], lambda module: None)(torch.ones(2, 4))
    assert gated.tolist() == [[0, 1, 1, 1], [0, 0, 0, 0]]


@pytest.mark.parametrize(("dim", "shape"), [(1, (2, 2, 3, 3)), (-1, (2, 5, 2))])
def test_an_output_gate_is_on_the_channels(dim: int, shape: tuple[int, ...]) -> None:
    out = OutputGate(mask([-1.0, 1.0]), dim).gate_output(nn.Identity(), (), torch.ones(shape))
    assert out.movedim(dim, 0)[0].abs().sum() == 0
    assert bool((out.movedim(dim, 0)[1] == 1).all())


def test_the_slope_of_the_sigmoid_grows_by_factors() -> None:
    x = torch.tensor([-0.02, 0.01, 0.1])
    for progress, slope in ((0.0, 2.0), (0.5, 20.0), (0.75, 2 * 10**1.5)):
        torch.testing.assert_close(
            RELAXATIONS.bind("sigmoid")(x, progress), torch.sigmoid(slope * x)
        )


class Net(nn.Module):
    """Two hidden widths, 6 and 4."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.a, self.b, self.c = nn.Linear(3, 6), nn.Linear(6, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c(torch.relu(self.b(torch.relu(self.a(x)))))


def test_progress_reaches_the_masks_and_prices_are_of_the_target() -> None:
    net = Net()
    masked = gc.wrap(net, torch.randn(2, 3), target="macs=2x", exclude=("b",))
    assert list(masked.masks) == ["a"], "what is excluded has none"
    # A channel of `a` has 3 + 4 of the 18 + 24 + 8 multiplications.
    assert masked.penalty().item() == pytest.approx(6 * 7 / 50)
    masked.advance(0.25)
    assert masked.masks["a"]._progress == 0.25
    left = int(masked.masks["a"].alive.sum())
    assert masked.penalty().item() == pytest.approx(left * 7 / 50)
    masked.unwrap()
    both = gc.wrap(net, torch.randn(2, 3), include=("a", "b"), exclude=("a",))
    assert list(both.masks) == ["b"]


def test_magnitude_of_a_channel_counts_each_tensor_by_its_own_mean() -> None:
    net = Net()
    graph = gc.trace(net, torch.randn(2, 3))
    with torch.no_grad():
        for p in net.parameters():
            p.fill_(1.0)
        net.b.weight.mul_(100)
        net.a.weight[2] *= 3
    found = channel_norm(graph["a"], raw_tensors(net))
    # Rows of a: (5 + 9) / 6 is the mean square; its bias and the columns of b count one each.
    mean = 14 / 6
    expected = np.sqrt([1 / mean + 2] * 6)
    expected[2] = np.sqrt(9 / mean + 2)
    np.testing.assert_allclose(found, expected / expected.mean(), rtol=1e-6)
    with torch.no_grad():
        net.a.weight.fill_(1.0)
        net.b.weight[:, 4] = 900
    # Largest by its columns now, which are dimension 1 of b.
    assert channel_norm(graph["a"], raw_tensors(net)).argmax() == 4


def test_ranks_are_of_the_living() -> None:
    one = mask([1.0] * 4, dead=(3,))
    assert ranked(np.array([5.0, 1.0, 2.0, 9.0]), one) == pytest.approx(
        [0.5 + 3 / 3, 0.5 + 1 / 3, 0.5 + 2 / 3, 0.5]
    )


def test_random_orders_differ_by_the_seed() -> None:
    net = Net()
    group = gc.trace(net, torch.randn(2, 3))["a"]
    order = IMPORTANCES.bind("random")
    one, again, other = (order(group, mask([1.0] * 6), {}, seed) for seed in (1, 1, 2))
    assert one.tolist() == again.tolist()
    assert one.tolist() != other.tolist()


def test_a_cut_carries_all_that_a_mask_holds() -> None:
    old = mask([0.5, -1.0, 2.0, 3.0], dead=(1,), relaxation="sigmoid", held_open=True)
    old.set_progress(0.4)
    old.sensitivity.copy_(torch.tensor([0.1, 0.2, 0.3, 0.4]))
    old.scores.grad = torch.tensor([1.0, 2.0, 3.0, 4.0])
    old._gradient = torch.tensor([5.0, 6.0, 7.0, 8.0])
    carried = {"new": ("g", np.array([3, 0]))}
    new = carry_masks({"g": old}, carried, {"g": old})["new"]
    assert new.scores.tolist() == [3.0, 0.5]
    assert new.sensitivity.tolist() == pytest.approx([0.4, 0.1])
    assert new.scores.grad.tolist() == [4, 1]
    assert new._gradient.tolist() == [8, 5]
    assert new.held_open
    assert (float(new.progress), new._progress) == (pytest.approx(0.4), pytest.approx(0.4))
    torch.testing.assert_close(new.gate(), old.gate()[[3, 0]])

    rest = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([old.scores, rest], lr=0.1)
    rest.grad = torch.ones(2)
    optimizer.step()
    moments = optimizer.state[old.scores]["exp_avg"].clone()
    carry_scores(optimizer, {"g": old}, {"new": new}, carried)
    assert [p is q for p, q in zip(optimizer.param_groups[0]["params"], [new.scores, rest],
                                   strict=True)] == [True, True]  # fmt: skip
    assert torch.equal(optimizer.state[new.scores]["exp_avg"], moments[[3, 0]])
    assert old.scores not in optimizer.state


def test_two_channels_at_least_stay_while_a_mask_learns() -> None:
    one = mask([1.0] * 4, dead=(0, 1, 3))
    assert cuttable(one) == [0, 2]
    one.settle(one.alive.clone())
    assert cuttable(one) == [2]
