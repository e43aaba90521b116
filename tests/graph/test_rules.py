"""Each operator family between two convolutions: what may go, what stays and why; all exact."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gancompress as gc
from gancompress.errors import GraphError
from gancompress.graph.rules import RULES, apply_rule
from gancompress.graph.rules.base import rule

WIDE = 8
Step = Callable[[Tensor], Tensor]


class Between(nn.Module):
    """conv, one step, conv: only the step decides which of the eight channels may go."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a = nn.Conv2d(3, WIDE, 3, padding=1)
        self.step = step
        channels = step(self.a(torch.randn(2, 3, 4, 4))).shape[1]
        self.b = nn.Conv2d(channels, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.step(self.a(x)))


def upper(h: Tensor) -> Tensor:
    return torch.where(h > 0, h, 0.1 * h)


def buffered(h: Tensor) -> Tensor:
    new = torch.empty_like(h)
    new.copy_(h)
    return new.mul_(2)


def attended(h: Tensor) -> Tensor:
    flat = h.flatten(2)
    weights = torch.softmax(torch.bmm(flat.transpose(1, 2), flat) * 0.3, -1)
    return torch.einsum("ncp,nqp->ncq", flat, weights).unflatten(2, h.shape[2:])


def sampled(h: Tensor) -> Tensor:
    rows = torch.linspace(-0.9, 0.9, 4)
    grid = torch.stack(torch.meshgrid(rows, rows, indexing="xy"), -1).expand(h.shape[0], 4, 4, 2)
    return F.grid_sample(h, grid, align_corners=False)


# step: how many of the eight channels may go, and words of the reason where some stay.
STEPS: dict[str, tuple[Step, int, str]] = {
    # pointwise
    "relu": (F.relu, 8, ""),
    "sigmoid": (torch.sigmoid, 8, ""),
    "scalars": (lambda h: 2 * h / 3 - 1, 8, ""),
    "clamp": (lambda h: h.clamp(-1, 2), 8, ""),
    "pow": (lambda h: h.pow(2) + h.abs().pow(0.5), 8, ""),
    "where": (upper, 8, ""),
    "addcmul": (lambda h: torch.addcmul(h, h, h, value=0.5), 8, ""),
    "maximum": (lambda h: torch.maximum(h, 0.5 * h), 8, ""),
    "hardswish": (F.hardswish, 8, ""),
    "log_sigmoid": (F.logsigmoid, 8, ""),
    "in_place": (lambda h: F.mish(h.abs_(), inplace=True), 8, ""),
    "lerp": (lambda h: torch.lerp(h, h * h, 0.3), 8, ""),
    "spatial_gate": (lambda h: h * torch.linspace(0, 1, 4), 8, ""),
    "position_weight": (lambda h: h * torch.linspace(0, 1, 8)[:, None, None], 0, "constant"),
    # shape
    "permute": (lambda h: h.permute(0, 2, 3, 1).tanh().permute(0, 3, 1, 2), 8, ""),
    "flatten": (lambda h: h.flatten(1).unflatten(1, (-1, 4, 4)), 8, ""),
    "pixel_shuffle": (lambda h: F.pixel_shuffle(h, 2), 8, ""),
    "pixel_unshuffle": (lambda h: F.pixel_unshuffle(h, 2), 8, ""),
    "channel_shuffle": (lambda h: F.channel_shuffle(h, 2), 8, ""),
    "squeeze": (lambda h: h.unsqueeze(2).squeeze(2), 8, ""),
    "repeat": (lambda h: h.repeat(1, 2, 1, 1), 8, ""),
    "expand": (lambda h: h[:, :, None].expand(-1, -1, 2, -1, -1).flatten(1, 2), 8, ""),
    "view_across": (lambda h: h.reshape(h.shape[0], -1, 8, 2), 8, ""),
    "unfold": (lambda h: F.unfold(h, 2, stride=2).unflatten(2, (2, 2)), 8, ""),
    "fold": (lambda h: F.fold(F.unfold(h, 2, stride=2), (4, 4), 2, stride=2), 8, ""),
    # slicing
    "chunk": (lambda h: h.chunk(2, 1)[0] * h.chunk(2, 1)[1], 8, ""),
    "split_unequal": (lambda h: torch.cat(h.split([3, 5], 1)[::-1], 1), 0, "split_sizes"),
    "glu": (lambda h: F.glu(h, 1), 8, ""),
    "cat": (lambda h: torch.cat([h, F.relu(h)], 1), 8, ""),
    "cat_empty": (lambda h: F.normalize(torch.cat([h, h.new_zeros(2, 0, 4, 4)], 1)), 8, ""),
    "cat_constant": (lambda h: torch.cat([h, torch.ones_like(h[:, :1])], 1), 7, "position"),
    "flip": (lambda h: h.flip(1), 8, ""),
    "prefix": (lambda h: h[:, :4], 4, "size"),
    "select": (lambda h: h + h[:, 0:1], 7, "position"),
    "unbind": (lambda h: torch.stack(h.unbind(1), 1), 0, "unbound"),
    "index": (lambda h: h[:, torch.tensor([1, 0, 2, 3, 4, 5, 6, 7])], 0, "index tensor"),
    "roll_space": (lambda h: h.roll(1, 3), 8, ""),
    "roll_channels": (lambda h: h.roll(1, 1), 7, "rolled"),
    "pad_space": (lambda h: F.pad(h, (1, 1, 0, 2)), 8, ""),
    "pad_channels": (lambda h: F.pad(h, (0, 0, 0, 0, 1, 2)), 8, ""),
    "scatter": (lambda h: h.slice_scatter(h * 2, 1, 0, 8), 0, "by position"),
    # norms
    "instance_norm": (F.instance_norm, 8, ""),
    "layer_norm": (lambda h: F.layer_norm(h, h.shape[1:]), 0, "normalised over all channels"),
    "group_norm_1": (lambda h: F.group_norm(h, 1), 0, "one group"),
    "group_norm_literal": (lambda h: F.group_norm(h, 4), 0, "num_groups=4"),
    "local_response": (lambda h: F.local_response_norm(h, 2), 0, ""),
    "normalize": (lambda h: F.normalize(h, dim=1), 8, ""),
    # reductions
    "mean_space": (lambda h: h - h.mean((2, 3), keepdim=True), 8, ""),
    "mean_channels": (lambda h: h - h.mean(1, keepdim=True), 0, "mean runs over the channels"),
    "sum_channels": (lambda h: h + h.sum(1, keepdim=True), 8, ""),
    "norm_channels": (lambda h: h / (1 + h.norm(dim=1, keepdim=True)), 8, ""),
    "sum_after_sigmoid": (lambda h: h + h.sigmoid().sum(1, keepdim=True), 0, "silence"),
    "max_channels": (lambda h: h + h.amax(1, keepdim=True), 0, "amax runs over the channels"),
    "softmax_channels": (lambda h: h.softmax(1), 0, "runs along it"),
    "softmax_space": (lambda h: h.flatten(2).softmax(-1).unflatten(2, (4, 4)), 8, ""),
    "cumsum_channels": (lambda h: h.cumsum(1), 0, "runs along it"),
    "sort_channels": (lambda h: h.sort(1)[0], 0, "runs along it"),
    "fft_space": (lambda h: torch.fft.fft2(h).abs(), 8, ""),
    # space
    "interpolate": (lambda h: F.interpolate(h, scale_factor=2, mode="bicubic"), 8, ""),
    "pool": (
        lambda h: F.avg_pool2d(h, 2) + F.max_pool2d(h, 2) + F.adaptive_avg_pool2d(h, 2),
        8,
        "",
    ),
    "reflect": (lambda h: F.pad(h, (1, 1, 1, 1), mode="reflect"), 8, ""),
    "grid_sample": (sampled, 8, ""),
    # contractions
    "attention": (attended, 8, ""),
    "gram": (lambda h: h + torch.einsum("nchw,ncvw->nhv", h, h)[:, None], 8, ""),
    # new tensors
    "zeros_like": (lambda h: h + torch.zeros_like(h), 8, ""),
    "buffer": (buffered, 8, ""),
    "noise": (lambda h: h + torch.randn_like(h), 0, "random draw"),
    "noise_map": (lambda h: h + torch.randn(h.shape[0], 1, 4, 4), 8, ""),
    "triangle": (lambda h: h.transpose(1, 2).tril().transpose(1, 2), 0, "position"),
    # no rule at all
    "unknown": (lambda h: torch.renorm(h, 2, 1, 9.0), 0, "no rule"),
}


@pytest.mark.parametrize("name", STEPS)
def test_step(name: str) -> None:
    step, free, words = STEPS[name]
    net = Between(step).eval()
    x = torch.randn(2, 3, 4, 4)
    graph = gc.trace(net, x)
    slot = ("a.weight", 0)
    mine = [i for g in graph.groups for i in g.slots.get(slot, torch.empty(0)).ravel()]
    assert len(set(mine)) == len(mine) == free
    if free < WIDE:
        assert words in str(graph.solution.reason_of(graph.slots[slot].atoms))
    if not free:
        assert words in str(graph.reason(slot))
        return
    plan = gc.random_plan(graph, keep=0.5, seed=1)
    small = gc.cut(net, plan, graph=graph)
    masked = gc.wrap(net, x)
    masked.apply(plan)
    found = gc.verify(net, small, x, plan=plan)
    assert found.passed, found
    assert small.a.weight.shape[0] < WIDE


def test_unknown_operator_is_named_with_the_line() -> None:
    def odd(h: Tensor) -> Tensor:
        return torch.renorm(h, 2, 1, 9.0)

    graph = gc.trace(Between(odd), torch.randn(2, 3, 4, 4))
    text = str(graph.reason(("a.weight", 0)))
    assert "renorm" in text
    assert "test_rules.py" in text
    with pytest.raises(GraphError, match="inspect"):
        gc.wrap(Between(odd), torch.randn(2, 3, 4, 4))


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("depthwise", lambda: nn.Conv2d(WIDE, WIDE, 3, padding=1, groups=WIDE)),
        ("grouped", lambda: nn.Conv2d(WIDE, 6, 3, padding=1, groups=2)),
        ("transposed", lambda: nn.ConvTranspose2d(WIDE, 5, 4, 2, 1)),
        ("transposed_grouped", lambda: nn.ConvTranspose2d(WIDE, 6, 4, 2, 1, groups=2)),
        ("group_norm", lambda: nn.GroupNorm(4, WIDE)),
        ("prelu", lambda: nn.PReLU(WIDE)),
        ("instance_affine", lambda: nn.InstanceNorm2d(WIDE, affine=True, track_running_stats=True)),
    ],
)
def test_layer_with_weights(name: str, make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    layer = make()
    net = Between(layer).eval()
    for p in layer.parameters():
        nn.init.normal_(p, 0.0, 0.5)
    x = torch.randn(2, 3, 4, 4)
    graph = gc.trace(net, x)
    assert (
        sum(
            len(i.ravel()) for g in graph.groups for s, i in g.slots.items() if s == ("a.weight", 0)
        )
        == 8
    )
    plan = gc.random_plan(graph, keep=0.5, seed=1)
    small = gc.cut(net, plan, graph=graph)
    masked = gc.wrap(net, x)
    masked.apply(plan)
    assert gc.verify(net, small, x, plan=plan).passed
    assert "step" in dict(small.named_modules())


def test_every_rule_is_for_one_operator_only() -> None:
    gc.trace(Between(F.relu), torch.randn(2, 3, 4, 4))
    assert len(RULES) > 150
    assert apply_rule.__doc__


def _registered(name: str) -> Callable[[Callable[[], None]], None]:
    """Run a body with one rule that is taken away afterwards."""

    def run(body: Callable[[], None]) -> None:
        try:
            body()
        finally:
            RULES.pop(name, None)

    return run


def test_a_foreign_rule_first_leaves_all_of_ours(tmp_path: Path) -> None:
    code = (
        "from gancompress.graph.rules.base import rule\n"
        "@rule('an_operator_elsewhere')\n"
        "def mine(op):\n    return op.dims(op.args[0])\n"
        "import torch, gancompress as gc\n"
        "from torch import nn\n"
        "net = nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 3, 1)).eval()\n"
        "print(gc.trace(net, torch.randn(1, 3, 4, 4)).widths)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], text=True, capture_output=True, check=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(gc.__file__).parent.parent)}, timeout=300,
    )  # fmt: skip
    assert done.stdout.strip() == "{'0': 6}"


def test_a_second_rule_is_refused_and_says_which_is_the_first() -> None:
    def body() -> None:
        rule("once_only")(lambda op: op.dims(op.args[0]))
        with pytest.raises(ValueError, match=r"'once_only' has a rule already.*test_rules"):
            rule("another_of_mine", "once_only")(lambda op: op.dims(op.args[0]))
        assert "another_of_mine" not in RULES
        with pytest.raises(ValueError, match=r"'relu|'convolution"):
            rule("convolution")(lambda op: op.dims(op.args[0]))

    _registered("once_only")(body)


@torch.library.custom_op("gancompress_tests::roll", mutates_args=())
def rolled(x: Tensor) -> Tensor:
    """Named like an operator of torch, and another one."""
    return x * 2


@rolled.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def test_operators_of_others_have_their_own_rules() -> None:
    net, x = Between(lambda h: rolled(h)).eval(), torch.randn(2, 3, 4, 4)
    row = gc.inspect(net, x).rows[0]
    assert row.prunable == 0
    assert "roll has no rule" in row.reason

    def body() -> None:
        rule("gancompress_tests::roll")(lambda op: op.dims(op.args[0]))
        assert gc.inspect(net, x).rows[0].prunable == WIDE
        RULES["gancompress_tests::roll"] = lambda op: op.dims(op.args[0])[1:]
        with pytest.raises(GraphError, match=r"rule .*test_rules.* describes outputs of shapes"):
            gc.trace(net, x)

    _registered("gancompress_tests::roll")(body)


def test_one_tensor_over_and_over_is_free() -> None:
    h = torch.randn(1, 1, 3, 3)
    for joined in (lambda c: torch.cat([h] * c), lambda c: torch.stack([h[0]] * c)):

        def step(x: Tensor, joined: Callable[[int], Tensor] = joined) -> Tensor:
            return F.conv2d(x, joined(x.shape[1]), padding=1, groups=x.shape[1])

        net, x = Between(step).eval(), torch.randn(2, 3, 4, 4)
        graph = gc.trace(net, x)
        assert graph.widths == {"a": WIDE}
        small = gc.cut(net, gc.random_plan(graph, 0.5, 0), graph=graph)
        assert small(x).shape == net(x).shape


def test_of_one_tensor_twice_its_channels_can_go() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 8, 1), nn.Conv2d(16, 8, 1), nn.Conv2d(8, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            h = self.a(x).relu()
            return self.c(self.b(torch.cat([h, h], 1)) + h)

    net, x = Twice().eval(), torch.randn(2, 3, 4, 4)
    graph = gc.trace(net, x)
    assert graph.widths == {"a": 8}
    small = gc.cut(net, gc.random_plan(graph, 0.5, 0), graph=graph)
    assert small.b.in_channels == 2 * small.a.out_channels
    assert small(x).shape == net(x).shape
