"""State that a forward keeps in globals, closures and cached functions is the user's too."""

from __future__ import annotations

import argparse
import collections
import contextlib
import functools
import math
import sys
import threading
import types
import weakref
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gancompress as gc
from gancompress.errors import GraphError
from gancompress.modules.copying import duplicate
from gancompress.modules.outside import outside
from gancompress.modules.undisturbed import undisturbed

CALLS = 0
GRIDS: dict[str, Tensor] = {}
MEMORY: weakref.WeakKeyDictionary[nn.Module, int] = weakref.WeakKeyDictionary()
RANDOM = {"unused": 1}


class Registry:
    """What a helper of the file counts."""

    seen = 0

    @classmethod
    def note(cls) -> None:
        cls.seen += 1


def grid(h: Tensor) -> Tensor:
    """Return the sampling grid of a feature map, kept by shape as ports of optical flow keep it."""
    if (key := str(h.shape[2:])) not in GRIDS:
        x = torch.linspace(-1, 1, h.shape[3]).expand(h.shape[2], -1)
        GRIDS[key] = torch.stack([x, x.t()], -1)[None].to(h)
    return GRIDS[key]


@functools.lru_cache
def window(size: int) -> Tensor:
    return torch.hann_window(size, periodic=False) + 0.1


def counter() -> Any:
    count = 0

    def tick() -> int:
        nonlocal count
        count += 1
        return count

    return tick


class Reaching(nn.Module):
    """Keeps nothing in itself: all of its state lies beside it."""

    tick = staticmethod(counter())

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 3, 1)

    @functools.cache  # noqa: B019 - that is the point
    def scale(self, size: int) -> Tensor:
        return torch.full((1,), 1 / size)

    def forward(self, x: Tensor) -> Tensor:
        global CALLS
        CALLS += 1
        Registry.note()
        MEMORY[self] = MEMORY.get(self, 0) + 1
        sign = 0.5 if CALLS % 2 else -0.5
        h = self.a(x) + sign * self.tick()
        h = F.grid_sample(h, grid(h).expand(len(h), -1, -1, -1), align_corners=True)
        return self.b((h * window(h.shape[3]) * self.scale(8)).relu())


def state(net: nn.Module) -> tuple[Any, ...]:
    cached = (window.cache_info().currsize, Reaching.scale.cache_info().currsize)
    return CALLS, Registry.seen, MEMORY.get(net), {k: t.dtype for k, t in GRIDS.items()}, cached


def test_pruning_leaves_what_lies_beside_the_network_as_it_was() -> None:
    net, x = Reaching().eval(), torch.randn(2, 3, 8, 8)
    before = state(net)
    rows = {row.layer: row for row in gc.inspect(net, x).rows}
    assert rows["a"].prunable == 16, rows["a"].reason
    assert state(net) == before
    masked = gc.wrap(net, x, target="params=2x")
    masked.advance(1.0)
    masked.shrink()
    small = masked.prune()
    assert state(net) == before
    assert net.tick() == 1  # the closure has not counted any call of ours
    with undisturbed(net):
        one = net(x)
    with undisturbed(net):
        assert torch.equal(one, net(x))
    with undisturbed(small):
        assert (one - small(x)).abs().max() < 1e-5


def test_what_the_users_own_calls_left_stays() -> None:
    global CALLS
    net, x = Reaching().eval(), torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        net(x)
    held, kept, calls = dict(GRIDS), window(8), CALLS
    gc.trace(net, x)
    assert list(GRIDS.values())[0] is held[str(x.shape[2:])]
    assert window(8) is kept
    assert calls == CALLS


def test_a_name_that_no_forward_uses_is_not_touched() -> None:
    found = outside(Reaching)
    names = {name for _, name in found.names}
    assert {"CALLS", "GRIDS", "MEMORY"} <= names
    assert "RANDOM" not in names
    assert Registry in found.kinds
    assert {window, Reaching.scale} <= set(found.caches)


def test_a_module_that_the_forward_imported_stays_imported() -> None:
    space = types.ModuleType("kernels")
    space.__file__ = __file__
    body = ("global kernel, done", "import math", "kernel, done = math, True", "return x * 1")
    code = "\n    ".join(("def forward(self, x):", *body))
    exec(compile(code, __file__, "exec"), vars(space))
    vars(space).update(kernel=None, done=False)
    kind = type("Compiled", (nn.Module,), {"forward": space.forward, "__module__": "kernels"})
    net = kind()
    with undisturbed(net):
        net(torch.ones(1))
    assert space.kernel is math
    assert space.done is False


class Handles(nn.Module):
    """Holds what Python does not copy."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 12), nn.Linear(12, 3)
        self.lock, self.local, self.maths = threading.RLock(), threading.local(), math
        self.log = open(path, "a")  # noqa: SIM115 - kept open as long as the network

    def forward(self, z: Tensor) -> Tensor:
        with self.lock:
            return self.b(self.a(z).relu() * self.maths.sqrt(2))


def test_locks_files_and_python_modules_do_not_stop_a_copy(tmp_path: Any) -> None:
    net, z = Handles(str(tmp_path / "log")).eval(), torch.randn(2, 4)
    try:
        masked = gc.wrap(net, z, target="params=1.5x")
        masked.advance(1.0)
        small = masked.prune()
        assert small.lock is net.lock
        assert small.maths is math
        assert small.a.out_features < 12
        assert (net(z) - small(z)).abs().max() < 1e-5
    finally:
        net.log.close()


def test_what_holds_state_and_cannot_be_copied_is_still_refused() -> None:
    net = nn.Linear(2, 2)
    net.stream = (i for i in range(3))
    with pytest.raises(TypeError, match="generator"):
        duplicate(net)


def test_a_handle_is_shared_only_while_a_network_is_copied() -> None:
    net = nn.Linear(2, 2)
    net.maths = math
    duplicate(net)
    import copyreg

    assert types.ModuleType not in copyreg.dispatch_table
    assert sys.modules["math"] is math


class Cache:
    """What transformers keep of earlier calls."""

    def __init__(self) -> None:
        self.held: dict[str, Tensor] = {}


class Caching(nn.Module):
    """Keeps features, with their graph, in an object of its own, and counts in a lambda."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.cache, seen = nn.Linear(4, 12), nn.Linear(12, 3), Cache(), []
        self.note = lambda h: seen.append(h) or h
        self.seen = seen

    def forward(self, z: Tensor) -> Tensor:
        self.cache.held["h"] = h = self.note(self.a(z).relu())
        return self.b(h)


def test_features_that_hooks_and_helpers_collect_are_the_users() -> None:
    net, z = Caching().eval(), torch.randn(2, 4)
    features: dict[str, Tensor] = {}
    net.a.register_forward_hook(lambda module, args, out: features.update(a=out))
    net(z)
    held, seen, mine = net.cache.held["h"], list(net.seen), features["a"]
    assert held.grad_fn is not None  # which deepcopy refuses
    masked = gc.wrap(net, z, target="params=1.5x")
    masked.advance(1.0)
    small = masked.prune()
    assert net.cache.held["h"] is held
    assert len(net.seen) == len(seen) == 1
    assert features["a"] is mine
    assert small.a.out_features < 12


class Warped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        return self.b(F.grid_sample(h, grid(h).expand(len(h), -1, -1, -1), align_corners=True))


def test_the_graph_form_leaves_nothing_in_globals_either() -> None:
    net, x = Warped().eval(), torch.randn(2, 3, 8, 8)
    GRIDS.clear()
    with contextlib.suppress(GraphError):  # whether torch.export takes such a forward or not
        gc.to_graph(net, x)
    assert not GRIDS
    net(x)
    GRIDS.clear()


class Turning(Warped):
    def forward(self, x: Tensor) -> Tensor:
        global CALLS
        CALLS += 1
        return self.b(self.a(x) * (0.5 if CALLS % 2 else -0.5))


def test_the_graph_form_names_the_global_that_a_forward_changes() -> None:
    before = CALLS
    with pytest.raises(GraphError, match="the global CALLS"):
        gc.to_graph(Turning().eval(), torch.randn(2, 3, 8, 8))
    assert before == CALLS


class Kept(nn.Module):
    """Keeps its last features in one of Python's own holders."""

    def __init__(self, holder: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.holder = nn.Linear(4, 12), nn.Linear(12, 3), holder

    def forward(self, z: Tensor) -> Tensor:
        h = self.a(z).relu()
        if isinstance(self.holder, collections.UserDict | collections.ChainMap):
            self.holder["h"] = h
        elif isinstance(self.holder, collections.UserList):
            self.holder.append(h)
        else:
            self.holder.h = h
        return self.b(h)


@pytest.mark.parametrize(
    "holder",
    [
        types.SimpleNamespace(), argparse.Namespace(), collections.UserDict(),
        collections.UserList(), collections.ChainMap({}), threading.local(),
    ],
    ids=lambda holder: type(holder).__name__,
)  # fmt: skip
def test_state_in_pythons_own_holders(holder: Any) -> None:
    net, z = Kept(holder).eval(), torch.randn(2, 4)
    masked = gc.wrap(net, z, target="params=1.5x")
    masked.advance(1.0)
    masked.shrink()
    masked.prune()
    left = [v for v in vars(holder).values() if not isinstance(v, list | dict)]
    assert not left
    assert not any(bool(v) for v in vars(holder).values() if isinstance(v, dict))
    assert not [v for v in vars(holder).get("data", []) if isinstance(v, Tensor)]
    assert not any(vars(holder).get("maps", []))


class Rebuilt(nn.Module):
    """Copies itself by its arguments."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.width, self.a, self.b = width, nn.Linear(4, width), nn.Linear(width, 3)

    def __deepcopy__(self, memo: dict[int, Any]) -> Rebuilt:
        new = type(self)(self.width)
        new.load_state_dict(self.state_dict())
        return new

    def forward(self, z: Tensor) -> Tensor:
        return self.b(self.a(z).relu())


def test_a_network_that_copies_itself_its_own_way_is_cut() -> None:
    net, z = Rebuilt().eval(), torch.randn(2, 4)
    assert gc.inspect(net, z).rows[0].prunable == 12
    graph = gc.trace(net, z)
    small = gc.cut(net, gc.random_plan(graph, 0.5, 0), graph=graph)
    assert small.a.out_features == small.b.in_features == 6
    assert net.a.out_features == 12


class Fewer(Rebuilt):
    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return nn.Linear(4, 3)


def test_a_copy_of_another_network_is_named() -> None:
    with pytest.raises(GraphError, match="fewer parts .*__deepcopy__"):
        gc.trace(Fewer(), torch.randn(2, 4))


class Late(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.b = nn.Linear(12, 3)

    def forward(self, z: Tensor) -> Tensor:
        if not hasattr(self, "a"):
            self.a = nn.Linear(z.shape[1], 12)
        return self.b(self.a(z).relu())


def test_layers_that_are_not_there_yet_are_named() -> None:
    z = torch.randn(2, 4)
    with pytest.raises(GraphError, match=r"makes 'a.weight' in its first call: call the generator"):
        gc.trace(Late(), z)
    lazy = nn.Sequential(nn.LazyLinear(12), nn.ReLU(), nn.LazyLinear(3))
    with pytest.raises(GraphError, match=r"'0.weight' of Sequential has no shape yet"):
        gc.wrap(lazy, z)
    for net in (Late(), lazy):
        net(z)
        assert gc.trace(net.eval(), z).groups


class Asserting(nn.Module):
    """pytest rewrites the assert: its code leads to pytest's own functions then."""

    def forward(self, x: Tensor) -> Tensor:
        assert x.dim() == 4, pytest.__name__
        return x * 2


def test_other_packages_are_not_walked_through() -> None:
    found = outside(Asserting)
    assert not any(kind.__module__.startswith("_pytest") for kind in found.kinds)
    spaces = [space.get("__name__", "") for space, _ in found.names]
    assert not any(name.startswith("_pytest") for name in spaces)
