"""wrap() in a user's own hands: any loop, any precision, any kind of module, and back."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gancompress as gc
from gancompress.errors import ConfigError, GraphError, TargetError
from gancompress.masks import IMPORTANCES, PENALTIES, RELAXATIONS, SCHEDULES
from gancompress.masks.attach import find_masks
from tests.tiny import KINDS, Tiny, Z, build, inputs


def train(net: nn.Module, masked: Any, kind: str, steps: int = 3) -> list[float]:
    """The user's own loop: one optimiser over everything, a penalty, advance."""
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    losses = []
    for step in range(steps):
        optimizer.zero_grad()
        loss = (net(inputs(kind, seed=step)) - 0.2).square().mean()
        (loss + 1e-3 * masked.penalty()).backward()
        optimizer.step()
        masked.advance((step + 1) / steps)
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("relaxation", RELAXATIONS.names())
@pytest.mark.parametrize("penalty", PENALTIES.names())
def test_every_relaxation_and_penalty_trains(relaxation: str, penalty: str) -> None:
    net = build("plain").train()
    masked = gc.wrap(
        net, inputs("plain"), target="params=2x", relaxation=relaxation, penalty=penalty
    )
    before = {n: m.scores.detach().clone() for n, m in masked.masks.items()}
    losses = train(net, masked, "plain")
    assert all(torch.tensor(losses).isfinite())
    assert all(p.isfinite().all() for p in net.parameters())
    moved = [not torch.equal(m.scores, before[n]) for n, m in masked.masks.items()]
    assert any(moved), "the scores learn"
    small = masked.prune()
    assert masked.verification is not None
    assert masked.verification.passed
    assert sum(p.numel() for p in small.parameters()) <= masked.original.params / 2


@pytest.mark.parametrize("importance", IMPORTANCES.names())
@pytest.mark.parametrize("schedule", SCHEDULES.names())
def test_every_importance_and_schedule_prunes(importance: str, schedule: str) -> None:
    net = build("plain").train()
    masked = gc.wrap(
        net, inputs("plain"), target="macs=0.6", importance=importance, schedule=schedule,
        window=(0.1, 0.9), seed=3,
    )  # fmt: skip
    train(net, masked, "plain")
    assert masked.cost().macs <= 0.6 * masked.original.macs
    masked.prune()


@pytest.mark.parametrize("kind", KINDS)
def test_pruned_module_is_plain_verified_and_its_own(kind: str) -> None:
    net, x = build(kind), inputs(kind)
    cls, keys = type(net), list(net.state_dict())
    masked = gc.wrap(net, x, target="params=1.6x")
    masked.advance(1.0)
    small = masked.prune()
    assert masked.verification is not None
    assert masked.verification.max_error <= 1e-9
    assert type(small) is cls
    assert list(small.state_dict()) == keys
    for module in small.modules():
        assert not type(module).__module__.startswith("gancompress")
        assert "Gate" not in repr(type(module))
        hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
        assert not any("gancompress" in type(getattr(h, "__self__", h)).__module__ for h in hooks)
    if "new" not in kind:
        assert not any(hasattr(m, "parametrizations") for m in small.modules())
    # Fine-tuning it must not move the generator it came from.
    with torch.no_grad():
        expected = net(x)
        for p in small.parameters():
            p.add_(1.0)
        assert torch.equal(net(x), expected)
    assert find_masks(net), "the generator stays wrapped"
    masked.unwrap()
    assert type(net) is cls


def test_training_goes_on_after_prune() -> None:
    net = build("spectral_new").train()
    masked = gc.wrap(net, inputs("spectral_new"), target="params=2x")
    train(net, masked, "spectral_new")
    small = masked.prune().train()
    optimizer = torch.optim.Adam(small.parameters(), 1e-3)
    for seed in range(3):
        optimizer.zero_grad()
        small(inputs("spectral_new", seed=seed)).square().mean().backward()
        optimizer.step()
    assert all(p.isfinite().all() for p in small.parameters())


# -- where the example comes from ----------------------------------------------------------------


def test_example_from_the_first_forward() -> None:
    net, x = build("plain").train(), inputs("plain")
    twin = copy.deepcopy(net)
    masked = gc.wrap(net, target="params=2x")
    with pytest.raises(GraphError, match="no example yet: call the generator,"):
        masked.penalty()
    assert torch.equal(net(x), twin(x)), "the call itself is as before, statistics included"
    assert torch.equal(net.bn1.running_mean, twin.bn1.running_mean)
    assert masked.graph.widths == {"linear": 8, "conv2": 6}
    assert not net._forward_pre_hooks
    masked.advance(1.0)
    masked.prune()


def test_first_forward_with_keywords_or_in_inference_mode() -> None:
    net, x = build("plain"), inputs("plain")
    masked = gc.wrap(net)
    with torch.inference_mode():
        net(z=x)
    assert masked.graph.example[1].keys() == {"z"}
    net.train()
    loss = net(x).square().mean() + masked.penalty()
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in masked.parameters())
    assert not any(p.is_inference() for p in masked.parameters())


def test_first_forward_that_fails_can_be_repeated() -> None:
    net, x = build("plain"), inputs("plain")
    masked = gc.wrap(net)
    with pytest.raises(GraphError, match="fails on the example"):
        net(x[:, :2])
    net(x)
    assert masked.masks


def test_unwrap_before_any_forward() -> None:
    net = build("plain")
    masked = gc.wrap(net)
    assert masked.unwrap() is net
    net(inputs("plain"))
    assert not find_masks(net)
    with pytest.raises(GraphError, match="this handle is spent"):
        masked.penalty()


def test_the_example_is_kept_apart() -> None:
    net, x = build("plain"), inputs("plain")
    masked = gc.wrap(net)
    net(x)
    x.fill_(float("nan"))
    masked.plan("params=2x")
    masked.prune()


# -- what is masked -------------------------------------------------------------------------------


def test_include_and_exclude() -> None:
    def chosen(**options: Any) -> set[str]:
        net = build("plain")
        return set(gc.wrap(net, inputs("plain"), **options).masks)

    assert chosen() == {"linear", "conv2"}
    assert chosen(include=("conv2",)) == {"conv2"}
    assert chosen(exclude=("conv2",)) == {"linear"}
    assert chosen(include=("bn*",)) == {"linear"}, "a layer stands for the groups it takes part in"
    assert chosen(include=("*",), exclude=("linear",)) == {"conv2"}


def test_a_module_stands_for_its_layers() -> None:
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Conv2d(3, 5, 1)
            self.body = nn.Sequential(nn.Conv2d(5, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1))
            self.tail = nn.Conv2d(4, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.tail(self.body(torch.relu(self.head(x))))

    x = torch.randn(2, 3, 4, 4)
    assert set(gc.wrap(Nested(), x, exclude=("body",)).masks) == {"head"}
    assert set(gc.wrap(Nested(), x, include=("body.*",)).masks) == {"body.0", "body.2"}
    # The tail writes the output: it is whole anyway, so it can be excluded but not included.
    assert set(gc.wrap(Nested(), x, exclude=("tail",)).masks) == {"head", "body.0", "body.2"}
    with pytest.raises(ConfigError, match="matches no prunable layer"):
        gc.wrap(Nested(), x, include=("tail",))


@pytest.mark.parametrize("option", ["include", "exclude"])
def test_pattern_that_matches_nothing(option: str) -> None:
    net = build("plain")
    with pytest.raises(ConfigError, match=f"{option}='conv3' matches no .*Did you mean 'conv"):
        gc.wrap(net, inputs("plain"), **{option: ("conv3",)})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="must be a tuple of patterns"):
        gc.wrap(net, inputs("plain"), **{option: "conv2"})  # type: ignore[arg-type]
    assert not find_masks(net)


def test_nothing_left_to_mask() -> None:
    with pytest.raises(ConfigError, match="leave no group to mask"):
        gc.wrap(build("plain"), inputs("plain"), exclude=("*",))


def test_excluded_groups_stay_whole() -> None:
    net, x = build("plain"), inputs("plain")
    masked = gc.wrap(net, x, exclude=("conv2",), target="params=1.5x")
    masked.advance(1.0)
    plan = masked.plan()
    assert len(plan.keep["conv2"]) == 6
    other = gc.random_plan(masked.graph, keep=0.5)
    before = {n: m.alive.clone() for n, m in masked.masks.items()}
    with pytest.raises(GraphError, match="'conv2', which was excluded"):
        masked.apply(other)
    assert all(torch.equal(m.alive, before[n]) for n, m in masked.masks.items()), "all or nothing"
    assert masked.prune().conv2.weight.shape[0] == 6


def test_channels_that_nobody_reads_need_no_mask() -> None:
    class Wasteful(Tiny):
        def forward(self, z: Tensor) -> Tensor:
            h = self.linear(z).unflatten(1, (-1, 2, 2))
            return self.out(torch.relu(self.conv2(h + self.conv1(h)[:, :8])[:, :6])) + 0 * h.mean()

    net = Wasteful(8, 6)
    masked = gc.wrap(net, torch.randn(2, Z))
    assert masked.masks


@pytest.mark.parametrize("site", ["reader", "output"])
def test_apply_closes_exactly_what_the_plan_drops(site: str) -> None:
    net, x = build("plain"), inputs("plain")
    masked = gc.wrap(net, x, site=site)
    plan = gc.random_plan(masked.graph, keep=0.5, seed=8)
    masked.apply(plan)
    for name, mask in masked.masks.items():
        assert torch.nonzero(mask.alive).flatten().tolist() == plan.keep[name]
        assert torch.equal(mask.gate(), mask.alive.float())
    small = masked.prune(plan)
    assert gc.verify(net, small, x, plan=plan).passed
    with pytest.raises(GraphError, match="made for another network"):
        masked.apply(gc.Plan({"conv2": [0, 17]}))
    with pytest.raises(GraphError, match="Did you mean"):
        masked.apply(gc.Plan({"conv9": [0]}))


def test_output_site_gates_the_writer_and_dead_channels_their_readers() -> None:
    net, x = build("plain"), inputs("plain")
    masked = gc.wrap(net, x, site="output")
    seen: dict[str, Tensor] = {}
    net.conv2.register_forward_hook(lambda m, a, y: seen.update(y=y))
    with torch.no_grad():
        masked.masks["conv2"].scores[1] = -1.0
    net(x)
    assert (seen["y"][:, 1] == 0).all()
    assert (net.out.weight[:, 1] == 0).all()
    assert (seen["y"][:, 0] != 0).any()


# -- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"site": "input"}, "site='input' is not one of reader, output"),
        ({"round_to": 0}, "must be at least 1"),
        ({"min_channels": 0}, "must be at least 1"),
        ({"target": "params"}, "write params="),
        ({"window": (0.5, 0.5)}, "0 <= start < end <= 1"),
    ],
)
def test_wrong_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        gc.wrap(build("plain"), inputs("plain"), **options)


def test_progress_only_rises() -> None:
    masked = gc.wrap(build("plain"), inputs("plain"))
    masked.advance(0.5)
    for wrong in (0.4, -0.1, 1.1, float("nan")):
        with pytest.raises(ConfigError, match="must rise from 0.5"):
            masked.advance(wrong)


def test_a_cut_that_differs_is_refused_and_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cut is compared with the masked network before anyone gets it."""
    import gancompress.wrapping.cutting as cutting

    net, x = build("plain"), inputs("plain")
    masked = gc.wrap(net, x)
    real = cutting.sliced_copy

    def wrong(*args: Any, **kwargs: Any) -> Any:
        small, twins = real(*args, **kwargs)
        with torch.no_grad():
            small.out.weight[0, 0] += 1e-3
        return small, twins

    monkeypatch.setattr(cutting, "sliced_copy", wrong)
    with torch.no_grad():
        before = net(x)
    with pytest.raises(TargetError, match="refused.*NOT exact"):
        masked.prune(gc.random_plan(masked.graph, seed=1))
    with torch.no_grad():
        assert torch.equal(net(x), before), "the masked generator is as it was"


def test_a_dead_generator_is_refused() -> None:
    net, x = build("plain"), inputs("plain")
    nn.init.zeros_(net.linear.weight)
    masked = gc.wrap(net, x)
    with pytest.raises(TargetError, match="does not follow the input"):
        masked.prune(gc.random_plan(masked.graph, seed=1))


# -- precisions and compilers ---------------------------------------------------------------------


@pytest.mark.parametrize("first", [True, False])
def test_bf16_autocast(first: bool) -> None:
    net, x = build("spectral_new").train(), inputs("spectral_new")
    masked = gc.wrap(net, None if first else x, target="params=2x")
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for step in range(3):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = (net(x) - 0.2).square().mean()
            if step == 0 and first:  # the masks came with that call
                optimizer.add_param_group({"params": list(masked.parameters())})
            loss = loss + 1e-3 * masked.penalty()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in masked.parameters())
        optimizer.step()
        masked.advance((step + 1) / 3)
    small = masked.prune()
    assert masked.verification is not None
    assert masked.verification.passed
    assert {p.dtype for p in small.parameters()} == {torch.float32}


def test_channels_last_stays() -> None:
    net = build("plain").to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    masked = gc.wrap(net, inputs("plain"), target="params=2x")
    masked.advance(0.5)
    masked.shrink()
    masked.advance(1.0)
    small = masked.prune()
    assert small.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert masked.unwrap().conv1.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_compiled_generator() -> None:
    """A compiled shell is refused by name; a generator compiled in place works."""
    net, x = build("plain"), inputs("plain")
    with pytest.raises(GraphError, match=r"OptimizedModule: pass generator\._orig_mod"):
        gc.wrap(torch.compile(net, backend="eager"), x)  # type: ignore[arg-type]
    with torch.no_grad():
        expected = net(x)
    net.compile(backend="eager")
    masked = gc.wrap(net, x, target="params=2x")
    assert torch.allclose(net(x), expected, atol=1e-6)
    net(x).square().mean().backward()
    assert all(p.grad is not None for p in masked.parameters())
    masked.advance(1.0)
    small = masked.prune()
    with torch.no_grad():
        assert torch.allclose(net(x), small(x), atol=1e-5)
    torch._dynamo.reset()


def test_data_parallel_shell_is_refused() -> None:
    with pytest.raises(GraphError, match=r"pass generator\.module"):
        gc.wrap(nn.DataParallel(build("plain")), inputs("plain"))


# -- cost -----------------------------------------------------------------------------------------


def test_cost_follows_the_kills() -> None:
    net, x = build("plain"), inputs("plain")
    masked = gc.wrap(net, x, target="params=2x")
    assert masked.cost() == masked.original == masked.graph.cost()
    (event,) = masked.advance(1.0)
    assert event.cost == masked.cost()
    assert event.channels == sum(int((~m.alive).sum()) for m in masked.masks.values())
    small = masked.prune()
    assert gc.trace(small, x).cost() == masked.cost()
    assert masked.advance(1.0) == [], "nothing more to kill"


def test_frozen_parameters_can_be_masked() -> None:
    net, x = build("plain").train().requires_grad_(False), inputs("plain")
    masked = gc.wrap(net, x)
    net(x).square().mean().backward()
    assert all(p.grad is not None for p in masked.parameters())
    assert all(p.grad is None for n, p in net.named_parameters() if not n.endswith("scores"))


@pytest.mark.parametrize("relaxation", sorted(RELAXATIONS.names()))
def test_under_a_budget_what_was_trained_is_what_is_cut(relaxation: str) -> None:
    """Scores that sink below 0 must not close a living channel that the cut would open again."""
    net, x = build("spectral_old"), inputs("spectral_old")
    masked = gc.wrap(net, x, target="params=0.5", relaxation=relaxation)
    masked.advance(1.0)
    with torch.no_grad():
        for mask in masked.masks.values():
            mask.scores[::2] -= 5.0
        trained = net.eval()(x)
    small = masked.prune()
    assert torch.allclose(small.eval()(x), trained, atol=1e-6)


def test_without_a_budget_closed_gates_go_first_when_one_is_given() -> None:
    net, x = build("plain"), inputs("plain")
    masked = gc.wrap(net, x)
    with torch.no_grad():
        for mask in masked.masks.values():
            mask.scores[0] = -1.0
    plan = masked.plan("params=0.9")
    assert all(0 not in kept for kept in plan.keep.values())


def test_masks_come_to_rest_when_the_budget_is_reached() -> None:
    net = build("plain").train()
    masked = gc.wrap(net, inputs("plain"), target="params=2x", window=(0.0, 0.5))
    masked.advance(0.4)
    assert masked.penalty().requires_grad
    twin = copy.deepcopy(net)
    masked.advance(0.5)
    assert float(masked.penalty().detach()) == 0
    # Dead channels are still gated, living ones as before; the scores have nothing left to say.
    assert not torch.equal(net(inputs("plain")), twin(inputs("plain")))
    net(inputs("plain")).square().mean().backward()
    assert all(m.scores.grad is None for m in masked.masks.values())
    masked.shrink()
    assert all(m.whole for m in masked.masks.values())
    out = net(inputs("plain"))
    assert torch.equal(out, copy.deepcopy(net)(inputs("plain")))
    # At rest a masked network computes the very numbers of the plain one.
    small = masked.prune()
    assert torch.equal(net.eval()(inputs("plain")), small.eval()(inputs("plain")))
    assert torch.equal(out, small.train()(inputs("plain")))


def test_the_end_of_the_schedule_is_the_goal_itself() -> None:
    """full - (full - goal) is a hair above the goal for 3.7x of this network."""
    net = build("plain").train()
    masked = gc.wrap(net, inputs("plain"), target="params=3.7x", window=(0.0, 0.5))
    masked.advance(0.5)
    assert masked.cost().params * 3.7 <= masked.original.params
    assert float(masked.penalty().detach()) == 0


def test_masks_at_rest_can_be_pruned_further() -> None:
    net = build("plain").train()
    masked = gc.wrap(net, inputs("plain"), target="params=2x")
    masked.advance(1.0)
    masked.shrink()
    whole = net(inputs("plain")).detach()
    plan = masked.plan("params=4x")
    small = masked.prune(plan)
    assert masked.verification is not None
    assert masked.verification.passed
    assert sum(p.numel() for p in small.parameters()) <= masked.original.params / 4
    assert not torch.equal(net(inputs("plain")).detach(), whole), "the gates follow the new plan"


@pytest.mark.parametrize("relaxation", ["sigmoid", "hard_concrete", "scurve"])
def test_soft_gates_do_not_rest_before_they_are_hard(relaxation: str) -> None:
    net = build("plain").train()
    masked = gc.wrap(
        net, inputs("plain"), target="params=2x", window=(0.0, 0.5), relaxation=relaxation
    )
    masked.advance(0.6)
    assert masked.penalty().requires_grad
    masked.advance(1.0)
    assert not masked.penalty().requires_grad
