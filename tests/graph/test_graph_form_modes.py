"""Graph form: what train() alone does, and numbers that are no weights."""

from __future__ import annotations

import torch
from torch import Tensor

import gancompress as gc

from .literal_nets import Motif, View, build, latents, train


class Constants(View):
    """Numbers made into tensors: verification must not draw others for them."""

    def body(self, x: Tensor) -> Tensor:
        return x + sum(torch.sqrt(torch.tensor(v)) for v in (1e-8, 2e-8, 3e-8, 4e-8, 5e-8))


def test_constants_are_no_weights() -> None:
    net = build(Constants).eval()
    masked = gc.wrap(net, latents(), form="graph")
    plan = gc.random_plan(masked.graph, 0.5, 1)
    masked.apply(plan)
    small = masked.prune(plan)
    found = gc.verify(masked.generator, small, latents(), plan=plan)
    assert found.passed
    assert found.max_error_randomised is not None


class DropPath(Motif):
    """Stochastic depth (timm) and noise that only training has; eval() goes around both."""

    def body(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        if self.training:
            kept = h.new_empty((x.shape[0], 1, 1, 1)).bernoulli_(0.7)
            kept.div_(0.7)
            h = h * kept
        x = x + h
        if not self.training:
            return x
        return x + 0.1 * torch.randn_like(x)


def test_detours_of_training() -> None:
    net = build(DropPath)
    made = gc.to_graph(net, latents())
    for n in (2, 4):
        outputs = []
        for module in (net.train(), made.train()):
            torch.manual_seed(n)
            outputs.append(module(*latents(n)))
        assert torch.equal(*outputs)
    state = torch.get_rng_state()
    assert torch.equal(made.eval()(*latents(3)), net.eval()(*latents(3)))
    assert torch.equal(torch.get_rng_state(), state), "eval() draws nothing"
    masked = gc.wrap(net, latents(), form="graph")
    train(masked)
    plan = gc.random_plan(masked.graph, 0.5, 1)
    masked.apply(plan)
    small = masked.prune(plan)
    assert gc.verify(masked.generator, small, latents()).max_error <= 1e-9
    assert small.conv.weight.shape[0] < 16  # type: ignore[union-attr]
    assert small.train()(*latents()).isfinite().all()


class Windows(Motif):
    """Window attention asks how many images there were in floating point (Swin)."""

    def body(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        windows = x.view(b, c, h // 3, 3, w // 3, 3).permute(0, 2, 4, 3, 5, 1).reshape(-1, 9, 16)
        assert isinstance(h, int)
        self.last.to(x.device)
        windows = windows * torch.softmax(windows.sum(2, keepdim=True), 1)
        images = int(windows.shape[0] / (h * w / 3 / 3))
        return (
            windows.view(images, h // 3, w // 3, 3, 3, -1)
            .permute(0, 5, 1, 3, 2, 4)
            .reshape(images, -1, h, w)
        )


def test_batch_sizes_survive_python_int() -> None:
    before = set(globals())
    net = build(Windows).eval()
    made = gc.to_graph(net, latents())
    assert set(globals()) == before
    graph = gc.trace(made, latents())
    assert sum(graph.widths.values()) == 32
    small = gc.cut(made, gc.random_plan(graph, 0.5, 0), graph=graph)
    for n in (1, 2, 5):
        assert torch.equal(made(*latents(n)), net(*latents(n)))
        assert small(*latents(n)).shape == (n, 3, 3, 3)
