"""Every motif is cut exactly, loses what is free to go, and says why the rest stays."""

from __future__ import annotations

import copy
import functools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import gancompress as gc
from gancompress.errors import GraphError
from gancompress.graph.groups import ChannelGraph

from .checks import backward, error, randomise, run, size
from .zoo import MOTIFS, Motif, locate

ALL = [pytest.param(m, id=name) for name, m in MOTIFS.items()]
CUT = [
    pytest.param(m, seed, id=f"{name}-{seed}")
    for name, m in MOTIFS.items()
    if m.free
    for seed in m.seeds
]

Traced = tuple[nn.Module, tuple[Any, ...], dict[str, Any], ChannelGraph]


def traced(motif: Motif) -> Traced:
    module, args, kwargs = motif.build()
    randomise(module)
    return module, args, kwargs, gc.trace(module, args, kwargs)


@functools.cache
def untouched(name: str) -> Traced:
    """Trace once for the tests that only look."""
    return traced(MOTIFS[name])


def uneven_plan(graph: ChannelGraph, seed: int) -> gc.Plan:
    """Keep another number of channels in every group, as a learned choice would."""
    rng = np.random.default_rng(seed)
    keep = {}
    for group in graph.groups:
        count = int(rng.integers(1, group.size))
        keep[group.name] = sorted(int(i) for i in rng.permutation(group.size)[:count])
    return gc.Plan.of(graph, keep)


def prunable(graph: ChannelGraph, slot: tuple[str, int]) -> int:
    """Count the rows of one weight that some group owns."""
    return len({int(i) for g in graph.groups for i in g.slots.get(slot, [[]]) for i in i})


@pytest.mark.parametrize("motif", ALL)
def test_share_that_could_go(motif: Motif) -> None:
    module, _, _, graph = untouched(motif.name)
    for key, free in motif.free.items():
        slot = locate(module, key)
        assert prunable(graph, slot) >= free, f"{key}: {graph.reason(slot)}"


@pytest.mark.parametrize("motif", [p for p in ALL if p.values[0].kept])
def test_what_stays_is_named(motif: Motif) -> None:
    module, _, _, graph = untouched(motif.name)
    for key, words in motif.kept.items():
        reason = str(graph.reason(locate(module, key)))
        assert any(word in reason for word in words), f"{key}: {reason}"
        boundary = any(word in ("output", "input", "size 1") for word in words)
        assert boundary or re.search(r"\w+\.py:\d+|packs", reason), f"{key}: {reason}"


@pytest.mark.parametrize(("motif", "seed"), CUT)
def test_cut_is_exact(motif: Motif, seed: int) -> None:
    module, args, kwargs, graph = traced(motif)
    plan = uneven_plan(graph, seed) if seed else gc.random_plan(graph, keep=0.5, seed=0)
    small = gc.cut(module, plan, graph=graph)
    masked = gc.wrap(module, args, kwargs)
    masked.apply(plan)

    worst, follows = error(module, small, args, kwargs)
    assert worst <= 1e-9
    assert follows > 1e-3, "a network that ignores its input passes any test"
    assert gc.verify(module, small, args, kwargs, plan=plan).passed
    assert size(small) < size(motif.build()[0])
    for key in motif.free:
        name, dim = locate(small, key)
        whole = dict(motif.build()[0].named_parameters(remove_duplicate=False))[name]
        left = dict(small.named_parameters(remove_duplicate=False))[name]
        assert left.shape[dim] < whole.shape[dim], f"{key} was not cut"
    assert backward(small, args, kwargs) > 0
    assert backward(copy.deepcopy(module), args, kwargs) > 0


RELOADED = ("hifigan", "shared_parameter", "linear_view_tuple", "group_norm", "parameter_list")


@pytest.mark.parametrize("name", [*RELOADED, "attention_heads", "spectral_norm_hook"])
def test_plan_replays_onto_the_original_class(name: str, tmp_path: Path) -> None:
    motif = MOTIFS[name]
    module, args, kwargs, graph = traced(motif)
    plan = uneven_plan(graph, seed=3)
    small = gc.cut(module, plan, graph=graph)
    gc.save(tmp_path / "small", small, plan=plan)
    again = gc.load(lambda: motif.build()[0], tmp_path / "small")
    assert type(again) is type(small)
    with torch.no_grad():
        wanted, got = run(small.eval(), args, kwargs), run(again.eval(), args, kwargs)
    assert all(torch.equal(a, b) for a, b in zip(wanted, got, strict=True))


@pytest.mark.parametrize("motif", [p for p in ALL if not p.values[0].free])
def test_nothing_to_cut_is_an_error_with_a_reason(motif: Motif) -> None:
    module, args, kwargs, graph = traced(motif)
    assert not graph.groups
    with pytest.raises(GraphError, match="inspect"):
        gc.wrap(module, args, kwargs)
