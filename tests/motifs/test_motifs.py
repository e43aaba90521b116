"""Every motif builds, is alive, and states its free share truthfully."""

from __future__ import annotations

import copy
import inspect

import pytest
import torch
from torch import nn

from .checks import backward, doubled, error, randomise, size
from .zoo import MOTIFS, Motif, locate, rows

ALL = [pytest.param(m, id=name) for name, m in MOTIFS.items()]


@pytest.mark.parametrize("motif", ALL)
def test_motif_is_alive_and_trains(motif: Motif) -> None:
    module, args, kwargs = motif.build()
    randomise(module)
    doubled(module, args, kwargs)
    twin = copy.deepcopy(module)
    worst, follows = error(module, twin, args, kwargs)
    assert worst == 0.0
    assert follows > 0.05, "a network that ignores its input passes any test"
    assert backward(module, args, kwargs) > 0
    assert 20 <= size(module) <= 12_000


@pytest.mark.parametrize("motif", ALL)
def test_stated_share_agrees_with_a_narrower_build(motif: Motif) -> None:
    """The class is its own oracle: the rows that follow the width argument are the free ones."""
    width = inspect.signature(motif.cls).parameters["c"].default
    wide, narrow = motif.build()[0], motif.build(width // 2)[0]
    stated = {**motif.free, **motif.graph_free}
    for key, free in stated.items():
        assert 0 < free <= rows(wide, key), key
    for key in motif.free:
        assert rows(narrow, key) < rows(wide, key), f"{key} does not follow the width"
    for key in motif.kept:
        assert key in motif.graph_free or rows(narrow, key) == rows(wide, key), key
    named = {locate(wide, key)[0] for key in stated}
    for key in writers(wide):
        name, dim = locate(wide, key)
        if rows(narrow, key) < rows(wide, key):
            assert name in named, f"{key} follows the width but is not stated"


def writers(module: nn.Module) -> list[str]:
    """Name every convolution and Linear whose output rows sit in its weight."""
    kinds = (nn.modules.conv._ConvNd, nn.Linear)
    plain = [n for n, m in module.named_modules() if isinstance(m, kinds)]
    grouped = [n for n in plain if getattr(module.get_submodule(n), "transposed", False)]
    grouped = [n for n in grouped if module.get_submodule(n).groups > 1]
    return [n for n in plain if n not in grouped]


def test_the_published_21_are_all_here() -> None:
    assert sum(m.field for m in MOTIFS.values()) == 21


def test_seeds_do_not_leak() -> None:
    module, args, kwargs = MOTIFS["stylegan2"].build()
    with torch.no_grad():
        first = module(*args, **kwargs)
        again, args2, kwargs2 = MOTIFS["stylegan2"].build()
    assert first.shape == again(*args2, **kwargs2).shape
