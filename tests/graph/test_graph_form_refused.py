"""Graph form: what has none, and what does not fit one, is refused by name."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import gancompress as gc
from gancompress.errors import CheckpointError, ConfigError, GraphError

from .literal_nets import (
    Doubled,
    Motif,
    View,
    build,
    latents,
)


class Branching(Motif):
    def body(self, x: Tensor) -> Tensor:
        return x if x.mean() > 0 else -x


class OnlyInTraining(Motif):
    def body(self, x: Tensor) -> Tensor:
        return x.roll(1, 1) if self.training else x


class Looping(Motif):
    def body(self, x: Tensor) -> Tensor:
        return torch.stack([row * (i + 1) for i, row in enumerate(x)])


class Drawing(Motif):
    def body(self, x: Tensor) -> Tensor:
        return x * (1 + random.random())


class Counting(Motif):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def body(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x + self.calls


class NormAtTheRoot(Motif):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, 1, 1))
        parametrizations.weight_norm(self, "weight")

    def body(self, x: Tensor) -> Tensor:
        return x * self.weight


@pytest.mark.parametrize(
    ("kind", "match"),
    [
        (Branching, r"test_graph_form_refused\.py:\d+ in body.*does not depend on the values"),
        (OnlyInTraining, r"train\(\) than in eval\(\) at literal_nets\.py:\d+ in forward"),
        (Looping, "fixes the batch size of Looping at 3"),
        (Drawing, "forward of Drawing changes Python's random state"),
        (Counting, "forward of Counting changes self.calls"),
        (NormAtTheRoot, "a parameter of NormAtTheRoot itself is parametrized"),
    ],
)
def test_what_has_no_graph_form_is_refused_by_name(kind: type[nn.Module], match: str) -> None:
    net = build(kind)
    with pytest.raises(GraphError, match=match):
        gc.wrap(net, latents(), form="graph")
    gc.trace(net, latents())


def test_wrong_words_are_refused() -> None:
    with pytest.raises(ConfigError, match="form='grpah' is not one of module, graph"):
        gc.trace(build(View), latents(), form="grpah")
    with pytest.raises(ConfigError, match="needs example inputs"):
        gc.wrap(build(View), form="graph")


def test_saved_graphs_load_onto_the_same_graph_only(tmp_path: Path) -> None:
    graph = gc.trace(build(View), latents(), form="graph")
    plan = gc.random_plan(graph)
    small = gc.cut(build(View), plan, graph=graph)
    gc.save(tmp_path / "small", small, plan=plan)
    back = gc.load(View, tmp_path / "small")
    assert torch.equal(back.eval()(*latents(5)), small.eval()(*latents(5)))
    with pytest.raises(CheckpointError, match="makes another one of the Doubled"):
        gc.load(Doubled, tmp_path / "small")
    with pytest.raises(CheckpointError, match="no graph form of what was built"):
        gc.load(Branching, tmp_path / "small")
