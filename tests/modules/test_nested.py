"""One walk over nested values: every container that a generator may take, hold or return."""

from __future__ import annotations

import dataclasses
from argparse import Namespace
from collections import OrderedDict, defaultdict, namedtuple
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gancompress as gc
from gancompress.modules.nested import map_tensors, pick, tensors_of

Pair = namedtuple("Pair", "left right")


@dataclasses.dataclass(frozen=True)
class Frozen:
    image: Tensor
    note: str = "n"
    later: Any = None


@dataclasses.dataclass
class Late:
    first: Tensor
    second: Any = dataclasses.field(default=None, init=False)


@dataclasses.dataclass
class Output(OrderedDict):  # type: ignore[type-arg]
    """As the outputs of language models: a mapping and a dataclass, kept in step."""

    sample: Any = None

    def __post_init__(self) -> None:
        super().__setitem__("sample", self.sample)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.keys():
            super().__setitem__(name, value)
        super().__setattr__(name, value)

    def __reduce__(self) -> Any:
        return type(self), (self.sample,)


def one() -> Tensor:
    return torch.ones(2)


def late() -> Late:
    made = Late(one())
    made.second = [one()]
    return made


class Camera:
    """An object of the user's own: neither a dataclass nor a mapping."""

    def __init__(self) -> None:
        self.rotation, self.name, self.lens = one(), "front", {"focus": one()}


class Picture:
    """What a generator returns."""

    def __init__(self, image: Tensor) -> None:
        self.image = image


CONTAINERS: dict[str, tuple[Any, int]] = {
    "own class": (Camera(), 2),
    "argparse": (Namespace(a=one(), b=[one()]), 2),
    "tensor": (one(), 1),
    "none": (None, 0),
    "text": ("no tensor", 0),
    "list": ([one(), (one(), None)], 2),
    "namedtuple": (Pair(one(), {"k": one()}), 2),
    "returned": (torch.ones(3, 2).max(0), 2),
    "ordered": (OrderedDict(b=one(), a=one()), 2),
    "defaults": (defaultdict(list, x=[one()]), 1),
    "read_only": (MappingProxyType({"x": one()}), 1),
    "frozen": (Frozen(one(), later=(one(),)), 2),
    "late": (late(), 2),
    "output": (Output(one()), 1),
    "namespace": (SimpleNamespace(x=one(), y=3), 1),
    "set": ({one()}, 1),
    "module": ([nn.Linear(2, 2)], 0),
    "type": ([Frozen], 0),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_walk_and_rebuild_agree(name: str) -> None:
    value, count = CONTAINERS[name]
    before = tensors_of(value)
    assert len(before) == count
    made = map_tensors(value, lambda t: t + 1)
    after = tensors_of(made)
    assert len(after) == count
    assert all(torch.equal(b, a + 1) for a, b in zip(before, after, strict=True))
    assert [id(t) for t in tensors_of(value)] == [id(t) for t in before], "the original stays"
    assert name == "read_only" or type(made) is type(value)


def test_order_keys_and_both_faces_stay() -> None:
    made = map_tensors(OrderedDict(b=one(), a=2), lambda t: t * 3)
    assert list(made) == ["b", "a"]
    assert made["a"] == 2
    out = map_tensors(Output(one()), lambda t: t * 3)
    assert torch.equal(out.sample, out["sample"])
    made = map_tensors(defaultdict(list, x=one()), lambda t: t)
    assert made["new"] == []


def test_what_contains_itself_is_walked_once() -> None:
    ring: list[Any] = [one()]
    ring.append(ring)
    assert len(tensors_of(ring)) == 1


class Seen(nn.Module):
    """Takes a camera, and returns a picture."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(3, 16), nn.Linear(16, 3)

    def forward(self, camera: Camera) -> Picture:
        return Picture(self.b(self.a(camera.rotation).relu()))


def test_objects_of_the_users_go_in_and_out() -> None:
    camera = Camera()
    camera.rotation, camera.world = torch.randn(4, 3), camera
    before, net = camera.rotation, Seen()
    masked = gc.wrap(net, (camera,), target="params=1.5x")
    masked.advance(1.0)
    small = masked.prune()
    assert camera.rotation is before
    assert (small(camera).image - net(camera).image).abs().max() < 1e-5
    assert pick(small(camera)).shape == pick(small(camera), "image").shape == (4, 3)
