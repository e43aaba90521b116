"""What third-party forwards do to a comparison: asserted dtypes, parameters written to, configs."""

from __future__ import annotations

import copy
import gc as collector
from collections import defaultdict
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gancompress as gc
from gancompress.errors import GraphError
from gancompress.modules.copying import duplicate
from gancompress.surgery.verify import redraw, run


class Checked(nn.Module):
    """Casts and asserts its dtype, as StyleGAN3 does."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        dtype = torch.float32
        h = F.relu(self.a(x.to(dtype)))
        assert h.dtype == dtype
        return self.b(h).to(torch.float32)


class Replacing(nn.Module):
    """A power iteration in eval mode that replaces the data of a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 1)
        self.u = nn.Parameter(torch.randn(8), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        flat = self.a.weight.flatten(1)
        v = F.normalize(flat.t() @ self.u.data, dim=0)
        self.u.data = F.normalize(flat @ v, dim=0)
        return self.b(F.relu(F.conv2d(x, self.a.weight / (self.u.data @ flat @ v), padding=1)))


X = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", [Checked, Replacing])
def test_cut_and_verified(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    net = kind().eval()
    graph = gc.trace(net, X)
    assert graph.widths == {"a": 8}
    plan = gc.random_plan(graph, 0.5, 0)
    before = copy.deepcopy(net.state_dict())
    small = gc.cut(net, plan, graph=graph)
    gc.wrap(net, X).apply(plan)
    assert gc.verify(net, small, X, plan=plan).passed
    assert all(torch.equal(before["u"], v) for k, v in net.state_dict().items() if k == "u")


def test_a_forward_that_needs_float32_is_refused_in_words() -> None:
    class Strict(Checked):
        def forward(self, x: Tensor) -> Tensor:
            h = self.a(x)
            if h.element_size() != 4:
                raise TypeError("single precision only")
            return self.b(h)

    with pytest.raises(GraphError, match=r"Strict does not run in float64.*test_foreign.py"):
        run(Strict(), ((X,), {}))


def test_parts_moved_in_the_forward_give_the_same_graph_every_time() -> None:
    class Moving(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList(nn.Conv1d(8, 8, 3, padding=1) for _ in range(8))
            self.out = nn.Conv1d(8, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            for part in self.parts:
                x = x + F.relu(part.to(x.device)(x))
            return self.out(x)

    class Led(nn.Sequential):
        pass

    net, x = Led(nn.Conv1d(3, 8, 1), Moving()).eval(), torch.randn(2, 3, 9)
    own = nn.Module._apply
    collector.disable()
    try:
        found = {tuple(gc.trace(net, x).widths.values()) for _ in range(6)}
    finally:
        collector.enable()
    assert found == {(8,) * 1}
    assert nn.Module._apply is own


def test_image_and_mask_in_one_tensor_stay_image_and_mask() -> None:
    mask = torch.zeros(2, 1, 6, 6)
    mask[1, 0, 2:4] = 1
    (new,) = redraw((torch.cat([X, torch.ones(2, 1, 6, 6), mask], 1),), 1)
    assert set(new[:, 4].unique().tolist()) == {0.0, 1.0}
    assert (new[:, 3] == 1).all()
    assert not torch.equal(new[:, :3], X)


def test_a_scale_made_into_a_tensor_is_named() -> None:
    class Scaled(Checked):
        def forward(self, x: Tensor) -> Tensor:
            h = self.a(x)
            return self.b(h * torch.sqrt(torch.tensor(2.0 / h.shape[1])))

    rows = {r.layer: r for r in gc.inspect(Scaled().eval(), X).rows}
    assert rows["a"].status == "kept"
    assert "a number taken from a channel count" in rows["a"].reason
    assert "test_foreign.py" in rows["a"].reason


class AttrDict(dict[str, Any]):
    """The config of vocoders: attributes are keys."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.__dict__ = self


class KeyDict(dict[str, Any]):
    """Its other spelling, which `copy.deepcopy` fails on."""

    __getattr__ = dict.__getitem__


class Configured(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.h = config
        self.a, self.b = nn.Conv1d(4, 12, 3, padding=1), nn.Conv1d(12, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.a(x), self.h.slope) * self.h.inner.gain
        # 6 frames become 12, as many as there are channels.
        return self.b(F.interpolate(h, size=x.shape[-1] * self.h.up))


@pytest.mark.parametrize("kind", [AttrDict, KeyDict])
def test_configs_whose_attributes_are_their_keys(kind: type[dict[str, Any]]) -> None:
    net = Configured(kind(slope=0.1, up=2, inner=kind(gain=2.0))).eval()
    net.seen = defaultdict(int, a=1)  # type: ignore[assignment]  # a dict without attributes
    x = torch.randn(2, 4, 6)
    graph = gc.trace(net, x)
    assert graph.widths == {"a": 12}
    small = gc.cut(net, gc.random_plan(graph, 0.5, 0), graph=graph)
    assert small(x).shape == (2, 1, 12)
    twin = duplicate(net)
    assert torch.equal(twin(x), net(x))
    twin.h["inner"]["gain"] = 3.0  # type: ignore[operator,index]
    assert net.h.inner.gain == 2.0
    assert type(twin.h) is kind
