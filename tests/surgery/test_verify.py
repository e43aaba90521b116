"""verify() refuses a wrong cut, a dead network and NaN, and leaves everything as it was."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gancompress as gc
from gancompress.errors import GraphError, TargetError
from gancompress.surgery import float64_run
from gancompress.surgery import verify as verify_file
from gancompress.surgery.fresh_inputs import redraw
from gancompress.surgery.verify import CutCheck, Verification
from tests.tiny import Tiny, Z, build, inputs


def pair(kind: str = "plain") -> tuple[nn.Module, nn.Module, Tensor, gc.Plan]:
    net, x = build(kind), inputs(kind)
    graph = gc.trace(net, x)
    plan = gc.random_plan(graph, keep=0.5, seed=0)
    small = gc.cut(net, plan, graph=graph)
    gc.wrap(net, x).apply(plan)
    return net, small, x, plan


def test_a_right_cut_passes() -> None:
    net, small, x, plan = pair()
    found = gc.verify(net, small, x, plan=plan)
    assert found.passed
    assert found.max_error <= 1e-12
    assert found.max_error_randomised is not None
    assert found.max_error_randomised <= 1e-9
    assert found.sensitivity > 0.1
    assert str(found).startswith("exact: max error ")


@pytest.mark.parametrize("where", ["conv2.weight", "bn1.running_mean", "out.bias"])
def test_one_changed_number_is_found(where: str) -> None:
    net, small, x, plan = pair()
    with torch.no_grad():
        small.state_dict()[where].flatten()[0] += 1e-4
    found = gc.verify(net, small, x, plan=plan)
    assert not found.passed
    assert "NOT exact" in str(found)


def test_a_wrong_channel_is_found() -> None:
    net, _, x, plan = pair()
    graph = gc.trace(build("plain"), x)
    other = {
        n: [c for c in range(graph[n].size) if c not in k][: len(k)] for n, k in plan.keep.items()
    }
    wrong = gc.cut(build("plain"), gc.Plan.of(graph, other))
    assert not gc.verify(net, wrong, x, plan=plan).passed


def test_zero_beta_cannot_hide_an_error() -> None:
    """A fresh bias is 0: only the randomised run sees that the cut network leaves it out."""

    class Forgetful(Tiny):
        def forward(self, z: Tensor) -> Tensor:
            self.conv2.bias = None
            return super().forward(z)

    net, x = Tiny(), torch.randn(3, Z)
    nn.init.zeros_(net.conv2.bias)
    wrong = Forgetful().eval()
    wrong.load_state_dict(net.state_dict())
    plan = gc.random_plan(gc.trace(net, x), keep=1.0)
    found = gc.verify(net.eval(), wrong, x, plan=plan)
    assert found.max_error <= 1e-9
    assert found.max_error_randomised is not None
    assert found.max_error_randomised > 1e-3
    assert not found.passed


def test_a_dead_network_is_refused() -> None:
    net, small, x, plan = pair()
    for module in (net, small):
        nn.init.zeros_(module.linear.weight)
    found = gc.verify(net, small, x, plan=plan)
    assert found.max_error <= 1e-12
    assert found.sensitivity == 0
    assert not found.passed
    assert "does not follow the input" in str(found)


def test_nan_is_refused() -> None:
    net, small, x, plan = pair()
    for module in (net, small):
        with torch.no_grad():
            module.out.bias[0] = float("nan")
    found = gc.verify(net, small, x, plan=plan)
    assert found.max_error == float("inf")
    assert not found.passed


def test_other_shapes_are_refused() -> None:
    net, _, x, _ = pair()

    class Cropped(Tiny):
        def forward(self, z: Tensor) -> Tensor:
            return super().forward(z)[..., :4]

    assert gc.verify(net, Cropped(), x).max_error == float("inf")


def test_everything_is_as_before() -> None:
    class Counting(Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, z: Tensor) -> Tensor:
            self.calls += 1
            return super().forward(z) + 0 * torch.rand(()) * random.random() * np.random.rand()

    net, x = Counting().train(), torch.randn(3, Z)
    net.bn1.eval()
    modes = [m.training for m in net.modules()]
    before = {k: v.clone() for k, v in net.state_dict().items()}
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    assert gc.verify(net, net, x).passed
    assert [m.training for m in net.modules()] == modes
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()


@pytest.mark.parametrize("example", [torch.zeros(2, Z), torch.ones(1, Z)])
def test_an_example_of_one_value_still_moves_the_network(example: Tensor) -> None:
    net = build("plain")
    masked = gc.wrap(net, example, target="params=1.5x")
    masked.prune()
    assert masked.verification is not None
    assert masked.verification.passed
    assert masked.verification.sensitivity > 0


def test_redrawn_inputs_are_of_the_same_kind() -> None:
    one_hot = torch.eye(4)
    z, labels, mask = torch.rand(4, 5) * 3, torch.tensor([1, 0, 2, 3]), torch.ones(4, 1)
    new_z, new_hot, new_labels, new_mask = redraw((z, one_hot, labels, mask), 3)
    assert new_z.min() >= z.min()
    assert new_z.max() <= z.max()
    assert not torch.equal(new_z, z)
    assert torch.equal(new_hot.sum(1), torch.ones(4))
    assert torch.equal(new_labels, labels)
    assert torch.equal(new_mask, mask), "a constant stays while something else varies"
    assert torch.equal(redraw(z, 3), redraw(z, 3))


def test_half_precision_networks_are_compared_in_float64() -> None:
    net, x = build("plain").half(), inputs("plain").half()
    graph = gc.trace(net, x)
    plan = gc.random_plan(graph, seed=2)
    small = gc.cut(net, plan, graph=graph)
    gc.wrap(net, x).apply(plan)
    found = gc.verify(net, small, x, plan=plan)
    assert found.passed
    assert {p.dtype for p in small.parameters()} == {torch.float16}


def test_verification_is_a_plain_record() -> None:
    assert Verification(0.0, True).max_error_randomised is None


class Chaotic(nn.Module):
    """A branch, off until its parameter is randomised, that doubles each rounding error often."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(16, 1000), nn.Linear(1000, 16)
        self.k, self.doublings = nn.Parameter(torch.zeros(16)), 26

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.b(torch.relu(self.a(x)))
        v = torch.sigmoid(out)
        for _ in range(self.doublings):
            v = 3.99 * v * (1 - v)
        return out + self.k * v


@pytest.fixture
def rounding(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Rounding of a chosen size at one layer of the cut network, the same on any processor."""

    def force(size: float) -> None:
        real = verify_file.run

        def run(module: nn.Module, example: Any, stand_in: Any = None, **rest: Any) -> Any:
            if getattr(module, "rounds", False) and stand_in is not None:
                hook = module.a.register_forward_hook(lambda m, i, out: out * (1 + size))
                try:
                    return real(module, example, stand_in, **rest)
                finally:
                    hook.remove()
            return real(module, example, stand_in, **rest)

        monkeypatch.setattr(verify_file, "run", run)

    return force


def chaotic_pair() -> tuple[nn.Module, nn.Module, Tensor, gc.Plan]:
    torch.manual_seed(0)
    net, x = Chaotic(), torch.randn(4, 16)
    graph = gc.trace(net, x)
    plan = gc.random_plan(graph, keep=0.5, seed=0)
    small = gc.cut(net, plan, graph=graph)
    gc.wrap(net, x).apply(plan)
    small.rounds = True
    return net, small, x, plan


def test_rounding_that_the_network_itself_amplifies_is_no_error(
    rounding: Callable[[float], None],
) -> None:
    net, small, x, plan = chaotic_pair()
    rounding(1e-14)
    found = gc.verify(net, small, x, plan=plan)
    assert found.max_error <= 1e-9 < (found.max_error_randomised or 0)
    assert found.passed
    with torch.no_grad():
        small.a.weight[0] *= 1 + 1e-5
    assert not gc.verify(net, small, x, plan=plan).passed


def test_what_amplified_rounding_excuses_has_an_end(rounding: Callable[[float], None]) -> None:
    net, small, x, plan = chaotic_pair()
    net.doublings = small.doublings = 40  # now a change of 1e-13 moves the output by its own size
    rounding(1e-13)
    found = gc.verify(net, small, x, plan=plan)
    assert found.max_error <= 1e-9
    assert (found.max_error_randomised or 0) > 1e-6
    assert not found.passed


class Merged(nn.Module):
    """Folds two convolutions into a third in eval mode, through ``.data``, as SPAN does."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv2d(3, 24, 1), nn.Conv2d(24, 3, 1)
        self.folded = nn.Conv2d(3, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            return self.b(self.a(x))
        a, b = self.a.weight.data.clone()[:, :, 0, 0], self.b.weight.data.clone()[:, :, 0, 0]
        self.folded.weight.data = (b @ a)[:, :, None, None]
        self.folded.bias.data = b @ self.a.bias.data.clone() + self.b.bias.data.clone()
        return self.folded(x)


def test_a_forward_that_folds_its_weights_is_verified() -> None:
    net, x = Merged(), torch.randn(2, 3, 6, 6)
    graph = gc.trace(net, x)
    plan = gc.random_plan(graph, keep=0.5, seed=0)
    small = gc.cut(net, plan, graph=graph)
    assert small.a.weight.shape[0] == 12
    gc.wrap(net, x).apply(plan)
    assert gc.verify(net, small, x, plan=plan).passed
    assert net.folded.weight.dtype == torch.float32


class Drawing(Tiny):
    """Draws its noise from a generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.dice = torch.Generator().manual_seed(3)

    def forward(self, z: Tensor) -> Tensor:
        return super().forward(z + torch.randn(z.shape, generator=self.dice))


def test_a_generator_of_random_numbers_in_the_module_is_seeded_and_put_back() -> None:
    torch.manual_seed(0)
    net, z = Drawing(), inputs("plain")
    masked = gc.wrap(net, z)
    plan = gc.random_plan(masked.graph, 0.5, 0)
    masked.apply(plan)
    small, before = gc.cut(net, plan), net.dice.get_state()
    assert gc.verify(net, small, z, plan=plan).passed
    assert torch.equal(net.dice.get_state(), before)


class Two(nn.Module):
    """Returns a picture and a map of features beside it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Linear(6, 12), nn.Linear(12, 3), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.a(x).relu()
        return self.b(h), self.c(h)


def test_every_output_is_compared() -> None:
    net, x = Two(), torch.randn(5, 6)
    graph = gc.trace(net, x)
    plan = gc.random_plan(graph, keep=0.5, seed=0)
    small = gc.cut(net, plan, graph=graph)
    gc.wrap(net, x).apply(plan)
    assert gc.verify(net, small, x).passed
    with torch.no_grad():
        small.c.bias[2] += 1e-3
    assert not gc.verify(net, small, x).passed


def test_distance_is_infinite_for_nan_on_either_side() -> None:
    sound, bad = torch.randn(4, 3), torch.randn(4, 3)
    bad[1, 2] = float("nan")
    for pair_of in ((sound, bad), (bad, sound), (bad, bad)):
        assert float64_run.distance([pair_of[0]], [pair_of[1]]) == float("inf")
    assert float64_run.distance([sound, sound], [sound]) == float("inf")


def test_a_live_cut_notices_nan_after_it_and_names_it_before_it() -> None:
    net, x = build("plain"), inputs("plain")
    check = CutCheck(net, ((x,), {}), 0)
    with torch.no_grad():
        net.out.bias[0] = float("nan")
    with pytest.raises(TargetError, match="refused"):
        check.error()
    with pytest.raises(TargetError, match=r"'out\.bias' is not finite: NaN in 1 of 3"):
        CutCheck(net, ((x,), {}), 0)


@pytest.mark.parametrize("form", ["module", "graph"])
@pytest.mark.parametrize("where", ["conv2.weight", "bn1.running_var"])
def test_weights_that_are_nan_are_named_before_anything_starts(where: str, form: str) -> None:
    net, x = build("plain"), inputs("plain")
    with torch.no_grad():
        net.state_dict()[where].flatten()[1] = float("nan")
    for verb in (gc.wrap, gc.inspect):
        with pytest.raises(GraphError, match=rf"'{where}' is not finite: NaN in 1 of"):
            verb(net, x, form=form)


@pytest.mark.parametrize(
    "example",
    [
        torch.eye(5)[[2]],
        torch.zeros(1, 5, 6, 6).index_fill_(1, torch.tensor([3]), 1.0),
        torch.zeros(1, 5, 6, 6).scatter_(1, torch.arange(36).view(1, 1, 6, 6) % 5, 1.0),
        (torch.arange(36) % 2).float().view(1, 1, 6, 6),
    ],
    ids=["a row", "a map of one class", "a map of classes", "a mask"],
)
def test_two_valued_inputs_of_one_row_vary_and_stay_of_their_kind(example: Tensor) -> None:
    new = redraw(example, 0)
    assert not torch.equal(new, example)
    assert torch.equal(new.sum(1).flatten().sort()[0], example.sum(1).flatten().sort()[0])
    assert set(new.unique().tolist()) <= {0.0, 1.0}


def test_inputs_that_the_forward_refuses_fall_back_on_the_example() -> None:
    class Picky(Tiny):
        def forward(self, z: Tensor) -> Tensor:
            assert abs(float(z.sum()) - 1) < 1e-3, "weights that sum to one"
            return super().forward(z)

    net, z = Picky().eval(), torch.full((2, Z), 1 / (2 * Z))
    z[0, 0], z[0, 1] = z[0, 0] + 0.05, z[0, 1] - 0.05
    assert gc.verify(net, net, z).max_error == 0


def test_a_network_that_ignores_its_input_is_told_of_at_the_start_and_not_refused() -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.start = nn.Parameter(torch.randn(1, 4))
            self.a, self.b = nn.Linear(4, 12), nn.Linear(12, 3)

        def forward(self, z: Tensor) -> Tensor:
            return self.b(self.a(self.start.expand(z.shape[0], -1)).relu())

    with pytest.warns(UserWarning, match="cannot be tested"):
        masked = gc.wrap(Constant(), torch.randn(3, 2), target="params=1.5x")
    masked.advance(1.0)
    with pytest.warns(UserWarning, match="could not be tested"):
        small = masked.prune()
    assert small.a.out_features < 12


def test_devices_without_float64_are_compared_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(float64_run, "WITHOUT_FLOAT64", {"cpu"})
    net, small, x, plan = pair()
    assert gc.verify(net, small, x, plan=plan).passed
    with torch.no_grad():
        small.out.bias[0] += 1e-3
    assert not gc.verify(net, small, x, plan=plan).passed


def test_two_flat_pictures_are_enough_to_test_by() -> None:
    # Of a batch of two such there is one other order, which every draw gives.
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1))
    x = torch.tensor([0.2, 0.7]).view(2, 1, 1, 1).expand(2, 1, 5, 5).contiguous()
    masked = gc.wrap(net, x, target="params=2x")
    masked.prune()
    assert masked.verification is not None
    assert masked.verification.passed
    assert masked.verification.sensitivity > 0


def test_two_rows_of_two_values_move_the_output() -> None:
    """Of two edge maps every redraw is the same swap: the example itself is the other input."""
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1)
    ).eval()
    edges = torch.where(
        torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)) > 0.8, 1.0, -1.0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        masked = gc.wrap(net, example=edges, target="params=2x")
        small = masked.prune(masked.plan())
    assert masked.verification is not None
    assert masked.verification.passed
    assert masked.verification.sensitivity > 0
    wrong = nn.Sequential(*small).eval()
    with torch.no_grad():
        wrong[0].weight.mul_(1.01)
    assert not gc.verify(net, wrong, edges).passed


class Bounded(nn.Module):
    """Keeps the epsilon under its root as a buffer, as converted networks do."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Linear(6, 16), nn.Linear(16, 12), nn.Linear(12, 3)
        self.register_buffer("eps", torch.tensor(1e-8))
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        h = self.b(self.a(x).relu())
        return self.c(h * (h.pow(2).sum(1, keepdim=True) + self.eps + self.count.sqrt()).rsqrt())


class Logs(Bounded):
    """Has weights that must be larger than a minus half: random ones have no logarithm."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.full((3,), -0.4999))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + torch.log(self.gain + 0.5)


class Masked(nn.Module):
    """Attention of one direction that hands out its scores: minus infinity beyond the diagonal."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.q, self.k = nn.Linear(6, 16), nn.Linear(16, 8), nn.Linear(16, 8)
        self.out = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.a(x[None]).relu()
        scores = self.q(h) @ self.k(h).transpose(1, 2)
        later = torch.ones_like(scores, dtype=torch.bool).triu(1)
        scores = scores.masked_fill(later, float("-inf"))
        return self.out(scores.softmax(-1) @ h), scores


@pytest.mark.parametrize("make", [Bounded, Logs, Masked])
def test_a_right_cut_of_odd_numbers_is_not_refused(make: Callable[[], nn.Module]) -> None:
    net, x = make().eval(), torch.randn(4, 6)
    masked = gc.wrap(net, x, target="params=1.5x")
    masked.advance(0.5)
    masked.shrink()
    masked.advance(1.0)
    masked.prune()
    found = masked.verification
    assert found is not None
    assert found.passed
    assert (found.max_error_randomised is None) == (make is Logs)


def test_infinities_must_stand_in_the_same_places() -> None:
    a = torch.tensor([1.0, -float("inf"), 3.0])
    assert float64_run.distance([a], [a.clone()]) == 0
    assert float64_run.distance([a], [torch.tensor([1.0, float("inf"), 3.0])]) == torch.inf
    assert float64_run.distance([a], [torch.tensor([1.0, 2.0, 3.0])]) == torch.inf
    assert float64_run.distance([a[1:2]], [a[1:2]]) == torch.inf
    assert float64_run.distance([a * torch.nan], [a * torch.nan]) == torch.inf
