"""How two networks are compared: distances by hand, and pairs that differ in one respect only."""

from __future__ import annotations

import queue
import random
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gancompress as gc
from gancompress.errors import TargetError
from gancompress.graph.plan import Plan
from gancompress.surgery import verify as verifying
from gancompress.surgery.float64_run import Calls, calls, distance, state_distance
from gancompress.surgery.fresh_inputs import redraw
from gancompress.surgery.verify import CutCheck, Verification, rounding_allowed, verify

A = torch.tensor([0.0, 1.0, 2.0, 3.0], dtype=torch.float64)
NAN = float("nan")
INF = float("inf")


def test_the_distance_is_the_largest_difference_in_standard_deviations() -> None:
    off = torch.tensor([0.0, 0.0, 0.0, 0.6], dtype=torch.float64)
    std = float(A.std())
    assert distance([A], [A + off]) == pytest.approx(0.6 / std)
    assert distance([A, A, 10 * A], [A, A + off, 10 * A]) == pytest.approx(0.6 / std), (
        "of any output"
    )
    assert distance([A, A], [A + off, A]) == pytest.approx(0.6 / std)
    assert distance([A], [A]) == 0


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ([A, A], [A]),
        ([], []),
        ([A.view(4, 1)], [A.view(1, 4)]),
        ([A.view(4, 1)], [A[:1].view(1, 1)]),
        ([A], [A + torch.tensor([0.0, 0.0, NAN, 0.0])]),
        ([A + torch.tensor([0.0, 0.0, NAN, 0.0])], [A]),
        ([A + torch.tensor([0.0, 0.0, INF, 0.0])], [A + torch.tensor([0.0, 0.0, -INF, 0.0])]),
        ([A + torch.tensor([0.0, 0.0, INF, 0.0])], [A]),
        ([A + INF], [A + INF]),
        ([torch.ones(3)], [torch.ones(3) + 1e-12]),
        ([torch.ones(3)], [torch.zeros(3)]),
    ],
)
def test_what_cannot_be_compared_is_infinitely_far(one: list[Tensor], two: list[Tensor]) -> None:
    if one and two and one[0].dtype == torch.float32:
        one, two = [one[0].double()], [two[0].double() - 0.1]
    assert distance(one, two) == INF


def test_statistics_are_compared_as_cut_and_caches_of_another_size_are_not() -> None:
    plan = Plan({}, {"mean": [[0, 2]]})
    big = {"mean": torch.tensor([1.0, 9.0, 4.0]), "cache": torch.ones(5)}
    small = {"mean": torch.tensor([1.0, 4.0]), "cache": torch.zeros(2)}
    assert state_distance(Calls([], big), Calls([], small), plan) == 0
    small["mean"] = torch.tensor([1.0, 4.4])
    assert state_distance(Calls([], big), Calls([], small), plan) == pytest.approx(0.1)


class Chance(nn.Module):
    """Draws from both Python's and torch's random numbers."""

    def forward(self, x: Tensor) -> Tensor:
        return x + random.random() + torch.rand(())


class Keeping(nn.Module):
    """Puts out its own state, which it changes in each call."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        self.seen += x
        return self.seen


def test_calls_in_a_row_have_equal_chance_and_go_on_from_the_state_that_is_left() -> None:
    x = torch.ones(2)
    one, two = (calls(Chance(), ((x,), {})) for _ in range(2))
    assert torch.equal(one.outputs[0][0], two.outputs[0][0])
    net = Keeping()
    found = calls(net, ((x,), {}))
    assert [out[0].tolist() for out in found.outputs] == [[1, 1], [2, 2], [3, 3]]
    assert net.seen.tolist() == [0, 0]
    assert len(calls(nn.Linear(2, 2), ((x,), {})).outputs) == 1


def test_the_default_dtype_is_put_back() -> None:
    class Writing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.ones(2))

        def forward(self, x: Tensor) -> Tensor:
            self.w.data = self.w.data * 1.0  # nothing can stand in for it: a copy is run
            return x * self.w + torch.zeros(2)

    calls(Writing(), ((torch.ones(2),), {}))
    assert torch.get_default_dtype() == torch.float32


def test_redrawn_inputs_keep_range_spread_and_kind() -> None:
    x = torch.rand(8, 50) * 0.25 + 3
    new = redraw(x, 0)
    assert not torch.equal(new, x)
    assert x.min() <= new.min() <= new.max() <= x.max()
    assert float(new.std()) == pytest.approx(float(x.std()), rel=0.3)
    hot = torch.eye(2)
    for seed in range(8):
        assert redraw(hot, seed).tolist() == [[0, 1], [1, 0]], "one-hot, and never the old order"
    assert redraw(torch.zeros(3, 2), 0).std() > 0.1, "nothing else could vary"
    assert not torch.equal(redraw(x, 0), redraw(x, 1))


class Net(nn.Module):
    """4 to 6 to 3; ``change`` is applied to the output, ``later`` from the second call on."""

    def __init__(self, change: float = 0.0, later: float = 0.0, training: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.a, self.norm, self.b = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)
        self.change, self.later, self.trained, self.count = change, later, training, 0

    def forward(self, x: Tensor) -> Tensor:
        out = self.b(torch.relu(self.norm(self.a(x))))
        self.count += 1
        factor = 1 + self.change + (self.later if self.count > 1 else 0)
        return out * (factor + (self.trained if self.training else 0))


X = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))


def test_equal_networks_pass_in_all_respects() -> None:
    found = verify(Net().eval(), Net().eval(), X, plan=Plan({}))
    assert found.passed
    assert found.max_error == found.max_error_randomised == found.max_error_repeated == 0
    assert found.max_error_training == 0
    assert found.sensitivity > 0


@pytest.mark.parametrize("off", [1e-4, 3e-8])
@pytest.mark.parametrize("where", ["change", "later", "training"])
def test_a_difference_in_one_respect_is_enough(where: str, off: float) -> None:
    off = off if where == "change" else max(off, 1e-5)
    found = verify(Net().eval(), Net(**{where: off}).eval(), X)
    assert not found.passed
    errors = {
        "change": found.max_error,
        "later": found.max_error_repeated,
        "training": found.max_error_training,
    }
    assert errors[where] == pytest.approx(off, rel=3)
    assert not found.untested


def test_statistics_that_train_writes_are_compared() -> None:
    class Other(Net):
        def forward(self, x: Tensor) -> Tensor:
            out = super().forward(x)
            if self.training:
                self.norm.running_mean.add_(0.5)
            return out

    found = verify(Net().eval(), Other().eval(), X)
    assert not found.passed
    assert found.max_error_training == INF


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.InstanceNorm1d])
@pytest.mark.parametrize("momentum", [0.1, 0.11])
def test_statistics_that_a_norm_itself_writes_are_compared(
    kind: type[nn.Module], momentum: float
) -> None:
    def normed(momentum: float) -> nn.Module:
        torch.manual_seed(0)
        norm = kind(4, momentum=momentum, track_running_stats=True)
        return nn.Sequential(nn.Conv1d(3, 4, 3), norm).eval()

    one, two = normed(0.1), normed(momentum)
    x = torch.randn(4, 3, 9)
    found = verify(one, two, x)
    assert found.passed == (momentum == 0.1)
    assert found.max_error_training == (0 if momentum == 0.1 else INF)
    assert not one[1].running_mean.any(), "the network itself is left as it was"


def test_a_cut_that_does_not_run_in_train_is_refused() -> None:
    class Broken(Net):
        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                raise ValueError("no")
            return super().forward(x)

    assert not verify(Net().eval(), Broken().eval(), X).passed
    assert verify(Broken().eval(), Net().eval(), X).passed, "that of the original may fail"


def test_further_calls_in_train_are_compared() -> None:
    one, two = (Calls([[A], [A + k]], {}) for k in (0.0, 1.0))
    assert verifying.training_distance(one, one, None) == 0
    assert verifying.training_distance(one, two, None) > 0.1


def test_randomised_tensors_show_what_zeros_hide() -> None:
    class Hidden(nn.Module):
        def __init__(self, swap: bool) -> None:
            super().__init__()
            torch.manual_seed(2)
            self.a = nn.Linear(4, 3)
            self.shift = nn.Parameter(torch.zeros(3))
            self.swap = swap

        def forward(self, x: Tensor) -> Tensor:
            shift = self.shift.flip(0) if self.swap else self.shift
            return self.a(x) + shift

    found = verify(Hidden(False), Hidden(True), X, plan=Plan({}))
    assert found.max_error == 0
    assert found.max_error_randomised is not None
    assert found.max_error_randomised > 1e-3
    assert not found.passed


def test_dead_outputs_are_untested_unless_they_are_wrong() -> None:
    class Dead(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * 0 + torch.tensor([0.0, 1.0, 2.0]) * (1 + self.change)

    found = verify(Dead().eval(), Dead().eval(), X)
    assert not found.passed
    assert found.untested
    wrong = verify(Dead().eval(), Dead(0.1).eval(), X)
    assert not wrong.passed
    assert not wrong.untested
    assert not Verification(0.0, False, 1e-3, 0.0).untested


def test_fresh_inputs_follow_the_seed() -> None:
    heard: queue.SimpleQueue[Tensor] = queue.SimpleQueue()  # a list would be put back

    class Listening(Net):
        def forward(self, x: Tensor) -> Tensor:
            heard.put(x.clone())
            return super().forward(x)

    for seed in (0, 1):
        verify(Listening().eval(), Net().eval(), X, seed=seed, training=False)
    seen = [heard.get() for _ in range(heard.qsize())]
    first, second = seen[0], seen[len(seen) // 2]
    assert not torch.equal(first, second)


def test_nan_weights_are_named() -> None:
    bad = Net().eval()
    with torch.no_grad():
        bad.b.weight[0, 0] = NAN
    found = verify(bad, Net().eval(), X)
    assert not found.passed
    assert "'b.weight' is not finite: NaN in 1 of 18" in str(found)


class Steep(nn.Module):
    """Amplifies what its input is off by."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x * self.factor)


def test_rounding_that_is_amplified_excuses_a_millionth_at_most() -> None:
    example = ((X.double(),), {})

    def allowed(factor: float) -> float:
        net = Steep(factor)
        return rounding_allowed(net, example, calls(net, example).outputs[0], 1e-9, 0)

    assert allowed(1.0) == 1e-9
    assert 1e-9 < allowed(1e5) < 1e-6
    assert allowed(1e12) == 1e-6


def checked(change: Any, **options: Any) -> float:
    net = Net().eval()
    check = CutCheck(net, ((X,), {}), 0, **options)
    change(net)
    return check.error()


def test_a_live_cut_that_moves_nothing_passes() -> None:
    assert checked(lambda net: None, training=True) == 0


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda net: net.b.weight.data.mul_(1.001), r"deviation \(float64\)\."),
        (lambda net: net.b.weight.data.fill_(NAN), r"by (nan|inf)"),
        (lambda net: setattr(net, "later", 1e-3), "in a further call"),
        (lambda net: setattr(net, "trained", 1e-3), r"in train\(\)"),
    ],
)
def test_a_live_cut_that_moves_the_output_is_refused(change: Any, where: str) -> None:
    with pytest.raises(TargetError, match=where):
        checked(change, training=True)


def test_a_live_cut_does_not_begin_from_nan() -> None:
    net = Net().eval()
    net.b.bias.data[1] = NAN
    with pytest.raises(TargetError, match=r"not finite.*'b.bias'"):
        CutCheck(net, ((X,), {}), 0)


def test_chance_in_train_is_left_out() -> None:
    class Noisy(Net):
        def forward(self, x: Tensor) -> Tensor:
            if not self.training:
                return super().forward(x)
            h = torch.relu(self.norm(self.a(torch.nn.functional.dropout(x, 0.5, True))))
            return self.b(h + torch.randn_like(h))

    torch.manual_seed(0)
    net = Noisy().eval()
    masked = gc.wrap(net, X, target="params=1.5x")
    masked.prune()
    assert masked.verification is not None
    assert masked.verification.max_error_training is not None
    assert masked.verification.max_error_training < 1e-9
