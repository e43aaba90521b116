"""Live shrink: training goes on as if the dead channels were held at zero; all or nothing."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import gancompress as gc
from gancompress.errors import CheckpointError, GraphError, TargetError
from gancompress.masks.attach import find_masks
from gancompress.surgery.live_cut import operate
from gancompress.wrapping import Masked
from tests.tiny import KINDS, Tiny, build, inputs

from .test_cut import OPTIMIZERS, loss


class Run:
    """A masked generator in training, with its optimiser and its moving average."""

    def __init__(self, kind: str, optimizer: str, dtype: torch.dtype, **options: Any) -> None:
        self.kind, self.dtype = kind, dtype
        self.net = build(kind).to(dtype)
        self.masked = gc.wrap(self.net, self.x(0), target="params=2.5x", **options)
        self.net.to(dtype)  # the scores too, else the penalty in the loss rounds in float32
        with torch.no_grad():
            self.net(self.x(0))  # the old weight norm leaves a weight that cannot be copied
        self.net.train()
        self.ema = copy.deepcopy(self.net)
        self.optimizer = OPTIMIZERS[optimizer](self.net.parameters())

    def x(self, seed: int) -> Tensor:
        return inputs(self.kind, seed=seed).to(self.dtype)

    def step(self, seed: int) -> float:
        self.optimizer.zero_grad()
        value = loss(self.net, self.x(seed)) + 0.05 * self.masked.penalty()
        value.backward()
        self.optimizer.step()
        with torch.no_grad():
            for a, b in zip(self.ema.parameters(), self.net.parameters(), strict=True):
                a.lerp_(b, 0.3)
        return float(value.detach())


def held_once(optimizers: Iterable[torch.optim.Optimizer], net: nn.Module) -> None:
    held = [id(p) for o in optimizers for g in o.param_groups for p in g["params"]]
    assert sorted(held) == sorted(id(p) for p in net.parameters())


def go_on(run: Run, shrink: bool) -> tuple[list[float], Tensor, Tensor]:
    """Train, kill, maybe cut, train on; return losses and outputs of generator and average."""
    values = [run.step(s) for s in range(3)]
    run.masked.advance(0.6)
    for mask_set in (run.ema,):
        live = run.masked.masks
        for m in mask_set.modules():
            if getattr(m, "is_gancompress_mask", False):
                m.alive.copy_(live[m.name].alive)
    if shrink:
        before = sum(p.numel() for p in run.net.parameters())
        assert run.masked.shrink([run.optimizer], [run.ema]) is not None
        assert sum(p.numel() for p in run.net.parameters()) < before
        held_once([run.optimizer], run.net)
    values += [run.step(10 + s) for s in range(3)]
    run.net.eval()
    run.ema.eval()
    with torch.no_grad():
        return values, run.net(run.x(99)), run.ema(run.x(99))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_next_steps_are_those_of_zeroed_channels(optimizer: str, dtype: torch.dtype) -> None:
    compare("plain", optimizer, dtype)


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "plain"])
def test_every_kind_of_weight(kind: str) -> None:
    compare(kind, "adam", torch.float64)


@pytest.mark.parametrize("relaxation", ["sigmoid", "scurve", "polynomial"])
@pytest.mark.parametrize("penalty", ["l1", "band", "cost"])
def test_soft_masks_and_penalties_too(relaxation: str, penalty: str) -> None:
    compare("plain", "adam", torch.float64, relaxation=relaxation, penalty=penalty)


def test_output_site_too() -> None:
    compare("plain", "sgd", torch.float64, site="output")


def compare(kind: str, optimizer: str, dtype: torch.dtype, **options: Any) -> None:
    cut = go_on(Run(kind, optimizer, dtype, **options), shrink=True)
    whole = go_on(Run(kind, optimizer, dtype, **options), shrink=False)
    tolerance = 1e-9
    if dtype == torch.float32:
        # All but SGD divide by the gradient's size: where that is rounding, a weight may move a
        # whole step in another direction on another CPU. What is exact shows in float64.
        tolerance = 1e-5 if "sgd" in optimizer else 5e-3
    assert cut[0] == pytest.approx(whole[0], abs=tolerance, rel=tolerance)
    for a, b in zip(cut[1:], whole[1:], strict=True):
        assert (a - b).abs().max() <= tolerance


def test_scores_in_an_optimizer_of_their_own() -> None:
    run = Run("plain", "adam", torch.float32)
    scores = {id(p) for p in run.masked.parameters()}
    weights = torch.optim.Adam([p for p in run.net.parameters() if id(p) not in scores], 1e-2)
    masks = torch.optim.SGD(run.masked.parameters(), 0.1, momentum=0.9)
    loss(run.net, run.x(0)).backward()
    weights.step()
    masks.step()
    run.masked.advance(1.0)
    run.masked.shrink([weights, masks])
    held_once([weights, masks], run.net)
    mine = {id(p) for p in run.masked.parameters()}
    assert {id(p) for p in masks.param_groups[0]["params"]} == mine
    assert all(masks.state[p]["momentum_buffer"].shape == p.shape for p in run.masked.parameters())


def test_gradients_between_backward_and_step_are_kept() -> None:
    values = []
    for shrink in (True, False):
        run = Run("plain", "adam", torch.float64)
        run.step(0)
        run.masked.advance(0.6)
        loss(run.net, run.x(1)).backward()
        if shrink:
            run.masked.shrink([run.optimizer])
        run.optimizer.step()
        values.append(float(loss(run.net, run.x(2)).detach()))
    assert values[0] == pytest.approx(values[1], abs=1e-9)


def test_repeated_cuts_compose_and_land(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.surgery.test_live.build", lambda kind: Tiny(40, 24).eval())
    run = Run("plain", "adam", torch.float32)
    original = run.masked.original
    for event in (0.3, 0.6, 1.0):
        run.step(0)
        run.masked.advance(event)
        run.masked.shrink([run.optimizer], [run.ema])
        assert run.masked.shrink([run.optimizer], [run.ema]) is None, "nothing was dead any more"
        assert run.masked.graph.cost() == run.masked.cost()
        held_once([run.optimizer], run.net)
    assert run.masked.original == original
    history = run.masked.history
    assert history is not None
    plan = run.masked.plan()
    small = run.masked.prune(plan)
    again = gc.cut(Tiny(40, 24), history.then(plan))
    assert [p.shape for p in small.parameters()] == [p.shape for p in again.parameters()]
    cost = gc.trace(small, run.x(0)).cost()
    assert original.params / cost.params == pytest.approx(2.5, rel=0.02)


def test_identity_and_extras_survive() -> None:
    run = Run("plain", "adam", torch.float32)
    net = run.net
    calls: list[nn.Module] = []
    net.conv2.register_forward_hook(lambda m, a, y: calls.append(m))
    modules = dict(net.named_modules())
    net.bn2.eval()
    net.conv1.bias.requires_grad_(False)
    run.masked.advance(1.0)
    run.masked.shrink()
    for path in ("linear", "bn1", "conv1", "bn2", "conv2", "out"):
        assert net.get_submodule(path) is modules[path]
    assert (net.bn1.training, net.bn2.training) == (True, False)
    assert not net.conv1.bias.requires_grad
    calls.clear()
    net(run.x(0))
    assert calls == [net.conv2]


def test_a_group_that_must_not_vanish_keeps_its_mask() -> None:
    """Down to one channel, a soft gate still counts: its mask stays until the masks are settled."""
    outputs = []
    for shrink in (True, False):
        run = Run("plain", "adam", torch.float64, relaxation="sigmoid")
        mask = run.masked.masks["conv2"]
        with torch.no_grad():
            mask.alive[1:] = False
            mask.scores[0] = 0.1
        if shrink:
            run.masked.shrink()
            assert run.masked.masks["conv2"].size == 2
            assert int(run.masked.masks["conv2"].alive.sum()) == 1
        outputs.append(run.net.eval()(run.x(0)))
    assert torch.allclose(*outputs, atol=1e-12)
    run.masked.prune()
    run.masked.shrink()
    assert "conv2" not in run.masked.graph.widths
    assert run.masked.unwrap().conv2.weight.shape[0] == 1


def test_what_was_held_by_python_stays_held_after_a_cut() -> None:
    class Literal(Tiny):
        def forward(self, z: Tensor) -> Tensor:
            h = self.linear(z).view(-1, 8, 2, 2)
            h = torch.relu(self.conv2(h + self.conv1(h)))
            return self.out(h)

    net = Literal()
    masked = gc.wrap(net, torch.randn(2, 6), target="params=1.1x")
    assert set(masked.graph.widths) == {"conv2"}
    masked.advance(1.0)
    masked.shrink()
    assert set(masked.graph.widths) == {"conv2"}
    assert "view" in str(masked.graph.reason(("linear.weight", 0)))
    net(torch.randn(2, 6))


def test_attributes_follow_cut_after_cut() -> None:
    class Checked(Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.ch = 8

        def forward(self, z: Tensor) -> Tensor:
            h = self.linear(z).unflatten(1, (-1, 2, 2))
            assert h.shape[1] == self.ch
            return self.out(torch.relu(self.conv2(h + self.conv1(h))))

    net = Checked()
    masked = gc.wrap(net, torch.randn(2, 6))
    assert set(masked.graph.widths) == {"linear", "conv2"}
    for left in (5, 3):
        with torch.no_grad():
            masked.masks["linear"].alive[left:] = False
        masked.shrink()
        assert net.ch == left
        net(torch.randn(2, 6))


# -- all or nothing ------------------------------------------------------------------------------


def digest(run: Run) -> str:
    """Hash everything that a failed cut must leave alone: tensors, identities, classes, hooks."""
    h = hashlib.sha256()
    for module in (run.net, run.ema):
        for path, sub in module.named_modules():
            h.update(f"{path} {id(sub)} {type(sub)} {sub.training}".encode())
            h.update(f"{[id(x) for x in sub._forward_hooks.values()]}".encode())
            h.update(f"{sorted(k for k in vars(sub))} {getattr(sub, 'out_channels', 0)}".encode())
        for key, t in module.state_dict(keep_vars=True).items():
            h.update(f"{key} {id(t)} {tuple(t.shape)}".encode())
            h.update(t.detach().double().numpy().tobytes())
    for group in run.optimizer.param_groups:
        h.update(f"{[id(p) for p in group['params']]}".encode())
    for p, state in run.optimizer.state.items():
        h.update(f"{id(p)} {sorted(state)}".encode())
        for v in state.values():
            h.update(v.double().numpy().tobytes() if isinstance(v, Tensor) else repr(v).encode())
    masked = run.masked
    h.update(f"{masked.graph.widths} {sorted(masked.masks)} {masked.history is None}".encode())
    h.update(f"{[id(m) for m in masked.masks.values()]}".encode())
    return h.hexdigest()


@pytest.mark.parametrize("site", ["reader", "output"])
@pytest.mark.parametrize(
    "where",
    [
        "gancompress.surgery.slicing.sliced_copy",
        "gancompress.surgery.live_cut.plan_optimizer",
        "gancompress.surgery.slicing.install",
        "gancompress.surgery.live_cut.set_attributes",
        "gancompress.wrapping.cutting.carried_channels",
        "gancompress.wrapping.cutting.carry_masks",
        "gancompress.wrapping.cutting.carry_scores",
        "gancompress.wrapping.cutting.attach",
        "gancompress.masks.attach._register",
    ],
)
@pytest.mark.parametrize("call", [1, 2])
def test_failure_midway_changes_nothing(
    where: str, site: str, call: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run("plain", "adam", torch.float32, site=site)
    run.step(0)
    run.masked.advance(0.6)
    before, loss_before = digest(run), float(loss(run.net.eval(), run.x(7)).detach())
    run.net.train()
    module, _, name = where.rpartition(".")
    real, count = getattr(__import__(module, fromlist=[name]), name), 0

    def fails(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count == call:
            raise MemoryError("no room")
        return real(*args, **kwargs)

    monkeypatch.setattr(where, fails)
    reached = True
    try:
        run.masked.shrink([run.optimizer], [run.ema])
        reached = False
    except MemoryError:
        assert digest(run) == before
    monkeypatch.setattr(where, real)
    if reached:
        run.net.eval()
        assert float(loss(run.net, run.x(7)).detach()) == loss_before
        run.net.train()
        assert run.masked.shrink([run.optimizer], [run.ema]) is not None
    run.step(1)
    held_once([run.optimizer], run.net)


def test_copy_without_masks_stops_the_cut() -> None:
    run = Run("plain", "adam", torch.float32)
    run.masked.advance(1.0)
    before = digest(run)
    with pytest.raises(GraphError, match="deep copies of the wrapped generator"):
        run.masked.shrink([run.optimizer], [build("plain")])
    assert digest(run) == before


# -- saving and going on -------------------------------------------------------------------------


def test_state_goes_into_a_fresh_process() -> None:
    run = Run("plain", "adam", torch.float32)
    for event in (0.3, 0.7):
        run.step(0)
        run.masked.advance(event)
        run.masked.shrink([run.optimizer], [run.ema])
    state, weights = run.masked.state_dict(), run.net.state_dict()
    fresh = Run("plain", "adam", torch.float32)
    fresh.masked.load_state_dict(state, copies=[fresh.ema])
    fresh.net.load_state_dict(weights)
    fresh.ema.load_state_dict(run.ema.state_dict())
    assert list(fresh.net.state_dict()) == list(weights)
    assert fresh.masked.progress == run.masked.progress
    assert fresh.masked.original == run.masked.original
    assert fresh.masked.cost() == run.masked.cost()
    assert torch.equal(fresh.net(run.x(0)), run.net(run.x(0)))
    for each in (run, fresh):
        each.masked.advance(1.0)
    a, b = run.masked.plan(), fresh.masked.plan()
    assert a == b


def test_state_of_another_generator_is_refused() -> None:
    run = Run("plain", "adam", torch.float32)
    run.masked.advance(1.0)
    run.masked.shrink()
    state = run.masked.state_dict()
    other: Masked = gc.wrap(Tiny(4), torch.randn(2, 6))
    with pytest.raises(CheckpointError, match="Wrap the original, uncut generator"):
        other.load_state_dict(state)
    with pytest.raises(CheckpointError):
        run.masked.load_state_dict(state)
    for damaged in (
        {},
        {**state, "original": [1]},
        {**state, "progress": "x"},
        {**state, "history": "{"},
    ):
        with pytest.raises(CheckpointError):
            Run("plain", "adam", torch.float32).masked.load_state_dict(damaged)


def test_a_live_cut_is_compared_with_what_was_there_before(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = build("plain"), inputs("plain")
    masked = gc.wrap(net, x, target="params=0.5")
    masked.advance(1.0)
    before = {k: v.clone() for k, v in net.state_dict().items()}

    def spoilt(module: nn.Module, *args: object, **kwargs: object) -> object:
        graph = operate(module, *args, **kwargs)  # type: ignore[arg-type]
        with torch.no_grad():
            next(p for n, p in module.named_parameters() if n.endswith("bias")).add_(1e-3)
        return graph

    monkeypatch.setattr("gancompress.wrapping.cutting.operate", spoilt)
    with pytest.raises(TargetError, match="the live cut is refused"):
        masked.shrink()
    monkeypatch.undo()
    assert masked.cut_errors == []
    assert masked.history is None
    assert list(net.state_dict()) == list(before)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    masked.shrink()
    assert len(masked.cut_errors) == 1
    assert 0 <= masked.cut_errors[0] <= 1e-9


def test_the_fisher_estimate_follows_its_channels() -> None:
    net, x = build("plain"), inputs("plain")
    masked = gc.wrap(net, x, target="params=2x", importance="fisher")
    loss(net, x).backward()
    masked.advance(1.0)
    before = {n: (m.sensitivity.clone(), m.alive.clone()) for n, m in masked.masks.items()}
    assert all(bool((s > 0).any()) for s, _ in before.values())
    masked.shrink()
    found = sorted(m.sensitivity.tolist() for m in masked.masks.values())
    assert found == sorted(s[a].tolist() for s, a in before.values() if len(s[a]) > 1)


def test_parameters_stay_in_their_order_within_a_group_of_the_optimiser() -> None:
    net, x = build("plain"), inputs("plain")
    masked = gc.wrap(net, x, target="params=2x")
    names = {id(p): n for n, p in net.named_parameters()}
    chosen = list(net.parameters())[::-1]
    optimizer = torch.optim.SGD([{"params": chosen[:4]}, {"params": chosen[4:]}], 0.1)
    order = [[names[id(p)] for p in g["params"]] for g in optimizer.param_groups]
    masked.advance(1.0)
    masked.shrink([optimizer])
    names = {id(p): n for n, p in net.named_parameters()}
    now = [[names[id(p)] for p in g["params"]] for g in optimizer.param_groups]
    assert now == [[n for n in group if n in names.values()] for group in order]


def test_an_optimiser_that_was_not_given_is_said() -> None:
    net, x = build("plain"), inputs("plain")
    masked = gc.wrap(net, x, target="params=2x")
    mine, other = torch.optim.Adam(net.parameters()), torch.optim.Adam(nn.Linear(2, 2).parameters())
    loss(net, x).backward()
    mine.step()
    masked.advance(1.0)
    with pytest.warns(UserWarning, match=r"not given the optimizer \(Adam\)") as caught:
        masked.shrink([other])
    assert len(caught) == 1
    del mine


@pytest.mark.parametrize("use_buffers", [False])
def test_a_moving_average_around_the_generator_is_cut_along(use_buffers: bool) -> None:
    net, x = build("plain"), inputs("plain")
    masked = gc.wrap(net, x, target="params=2x")
    average = torch.optim.swa_utils.AveragedModel(net, use_buffers=use_buffers)
    average.update_parameters(net)
    masked.advance(1.0)
    masked.shrink(copies=[average])
    assert [p.shape for p in average.module.parameters()] == [p.shape for p in net.parameters()]
    average.update_parameters(net)
    for bad in (nn.Linear(2, 2), "average"):
        masked = gc.wrap(build("plain"), x, target="params=2x")
        masked.advance(1.0)
        with pytest.raises(GraphError, match=r"copies must be .*\.module"):
            masked.shrink(copies=[bad])


def test_a_plan_since_the_last_cut_is_saved_as_the_whole_one(tmp_path: Any) -> None:
    net, x = build("plain"), inputs("plain")
    masked = gc.wrap(net, x)
    masked.apply(gc.random_plan(masked.graph, 0.7, 1))
    masked.shrink()
    plan = masked.plan()
    small = masked.prune(plan)
    plans = [plan, gc.Plan.from_json(plan.to_json()), masked.whole_plan(), None]
    for i, given in enumerate(plans):
        gc.save(tmp_path / str(i), small, plan=given)
        loaded = gc.load(lambda: build("plain"), tmp_path / str(i)).eval()
        assert torch.equal(loaded(x), small.eval()(x))
    # Of a copy that forgot how it was cut, such a plan cannot be told from the whole one.
    forgetful = build("plain")
    forgetful.load_state_dict(build("plain").state_dict())
    with pytest.raises(CheckpointError, match="plan"):
        gc.save(tmp_path / "b", forgetful, plan=plan)


def test_sensitivity_is_of_the_unscaled_loss() -> None:
    def learned(scale: float) -> list[list[float]]:
        net, x = build("plain"), inputs("plain")
        masked = gc.wrap(net, x, target="params=2x", importance="fisher")
        for step in range(3):
            net.zero_grad()
            factor = scale * 2.0**step if scale != 1 else 1.0
            (loss(net, x) * factor).backward()
            for p in net.parameters():
                p.grad.div_(factor)
            masked.advance(0.1 * step)
        return [m.sensitivity.tolist() for m in masked.masks.values()]

    assert learned(256.0) == learned(1.0)


@pytest.mark.parametrize("moving", [None, get_ema_multi_avg_fn(0.7)], ids=["equal", "moving"])
def test_an_average_of_buffers_too_takes_the_choice_of_the_generator(moving: Any) -> None:
    run = Run("plain", "adam", torch.float32)
    average = AveragedModel(run.net, multi_avg_fn=moving, use_buffers=True)
    for seed in range(2):
        run.step(seed)
        average.update_parameters(run.net)
    run.masked.advance(1.0)
    average.update_parameters(run.net)
    run.masked.shrink([run.optimizer], [average])
    own = find_masks(average)
    for name, mask in run.masked.masks.items():
        assert torch.equal(own[name].alive, mask.alive)
        assert own[name].alive.dtype == torch.bool
    average.update_parameters(run.net)
    assert torch.isfinite(average(run.x(5))).all()
