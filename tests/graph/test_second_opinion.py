"""torch-pruning as a second opinion: where it can build a graph, every difference is explained."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gancompress.graph.second_opinion import EXPLAINED, second_opinion
from tests.motifs.zoo import MOTIFS

from .nets import WIDTHS, Spec, example
from .test_properties import build

# Blocks that torch-pruning's table knows, in the variants whose index maps it has: no constant in
# a concatenation, no flip or shuffle, no flattening.
SHARED = {
    "concat": (0, 1, 3, 4),
    "grouped": range(8),
    "last": (0, 2),
    "norm": range(30),
    "plain": range(12),
    "residual": (0, 1),
    "twice": (0, 6),
}
BLOCK = st.sampled_from([(kind, option) for kind, options in SHARED.items() for option in options])
SPECS = st.lists(st.tuples(BLOCK, st.sampled_from(WIDTHS)), min_size=1, max_size=5)


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(drawn=SPECS)
def test_groups_of_random_networks_agree(drawn: list[tuple[tuple[str, int], int]]) -> None:
    """They may differ in purpose (outputs, whole groups), never in which index goes with which."""
    spec: Spec = [(kind, width, option) for (kind, option), width in drawn]
    checked = second_opinion(build(spec), example())
    if checked.built:
        assert not {"index", "linked"} & set(checked.kinds), checked.disagreements
        assert set(checked.kinds) <= set(EXPLAINED)


def test_plain_layers_agree_channel_by_channel() -> None:
    for name in ("dcgan", "residual", "unet", "dense_esrgan", "volume", "spade"):
        module, args, kwargs = MOTIFS[name].build()
        checked = second_opinion(module, args, kwargs)
        assert checked.built, checked.problem
        assert set(checked.kinds) <= {"boundary"}, (name, checked.disagreements[:3])
        assert checked.agreed > 0


def test_each_class_shows_on_the_motif_that_has_it() -> None:
    for name, kind in {
        "glu": "whole",
        "layer_norm": "kept",
        "mask_times_features": "linked",
        "split_attribute": "index",
        "returns_features": "boundary",
        "shared_parameter": "rider",
    }.items():
        module, args, kwargs = MOTIFS[name].build()
        assert kind in second_opinion(module, args, kwargs).kinds, name


def test_a_graph_that_torch_pruning_cannot_build_is_a_result() -> None:
    module, args, kwargs = MOTIFS["dict_io"].build()
    checked = second_opinion(module, args, kwargs)
    assert not checked.built
    assert checked.problem


class _Wrong(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.relu(self.a(x)))


def test_a_wrong_graph_of_ours_would_be_seen() -> None:
    """Swap two indices in our group: the second opinion has to disagree."""
    from gancompress import trace

    net, x = _Wrong().eval(), torch.randn(1, 3, 5, 5)
    graph = trace(net, x)
    slots = graph.groups[0].slots
    assert second_opinion(net, x, graph=graph).kinds == {"boundary": 3}
    slots[("b.weight", 1)] = slots[("b.weight", 1)][::-1]
    assert second_opinion(net, x, graph=graph).kinds["index"] == 6


def test_inspect_tells_the_second_opinion_when_asked() -> None:
    from gancompress import inspect

    net, x = _Wrong().eval(), torch.randn(1, 3, 5, 5)
    assert inspect(net, x).second_opinion is None
    found = inspect(net, x, second_opinion=True)
    told = found.to_dict()["second_opinion"]
    assert (told["built"], told["channels"], told["agreed"]) == (True, 9, 6)
    assert told["differences"][0]["layer"] == "b.weight"
    assert set(told["why"]) == {"boundary"}
    assert "6 of 9 channels" in str(found)
    module, args, kwargs = MOTIFS["dict_io"].build()
    found = inspect(module, args, kwargs, second_opinion=True)
    assert "torch-pruning cannot build its graph" in str(found)
