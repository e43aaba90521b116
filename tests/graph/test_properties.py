"""Any combination of blocks is cut exactly, and every hidden channel of it can go."""

from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import nn

import gancompress as gc
from tests.motifs.checks import error, randomise, run, size

from .nets import BLOCKS, WIDTHS, RandomNet, Spec, draw_spec, example

SPECS = st.lists(
    st.tuples(st.sampled_from(sorted(BLOCKS)), st.sampled_from(WIDTHS), st.integers(0, 29)),
    min_size=1,
    max_size=6,
)


def build(spec: Spec) -> RandomNet:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        net = RandomNet(spec)
    randomise(net)
    with torch.no_grad():
        for _ in range(6):  # power iterations must have converged
            run(net, example(), {})
    return net.eval()


def check(spec: Spec, seed: int) -> bool:
    """Cut one random network; return whether it was alive, for a dead one proves nothing."""
    net, args = build(spec), example()
    graph = gc.trace(net, args)
    before = size(net)
    plan = gc.random_plan(graph, keep=0.5, seed=seed)
    small = gc.cut(net, plan, graph=graph)
    masked = gc.wrap(net, args)
    masked.apply(plan)
    worst, follows = error(net, small, args, {})
    assert worst <= 1e-9, spec
    assert size(small) < before, spec
    return follows > 0


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(spec=SPECS, seed=st.integers(0, 9))
def test_random_networks_are_cut_exactly(spec: Spec, seed: int) -> None:
    assume(check(spec, seed))


@pytest.mark.parametrize("kind", sorted(BLOCKS))
@pytest.mark.parametrize("option", range(3))
def test_each_block_alone_loses_all_its_channels(kind: str, option: int) -> None:
    """Between plain convolutions, no block pins a channel that it writes."""
    net = build([("plain", 8, 0), (kind, 8, option), ("plain", 6, 0)])
    graph = gc.trace(net, example())
    owned: dict[str, set[int]] = {}
    for group in graph.groups:
        for (name, dim), index in group.slots.items():
            if dim == 0:
                owned.setdefault(name, set()).update(int(i) for i in index.ravel())
    used = {n for n, m in net.named_modules() if n in graph.outputs}
    for path, module in net.named_modules():
        plain = type(module) in (nn.Conv2d, nn.Linear) and "weight" in module._parameters
        if plain and path in used and path != "head" and module.weight.shape[0] > 1:
            mine = len(owned.get(f"{path}.weight", ()))
            assert mine == module.weight.shape[0], f"{path}: {graph.reason((f'{path}.weight', 0))}"


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, 1000, 100))
def test_a_thousand_random_networks(start: int) -> None:
    alive = [check(draw_spec(number), seed=number % 10) for number in range(start, start + 100)]
    assert sum(alive) >= 97
