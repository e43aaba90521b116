"""What the task ``restore`` does to pictures, and what ``paired`` shows beside an output."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from gancompress.errors import ConfigError, DataError
from gancompress.tasks import TASKS, Sources
from gancompress.tasks.restore import blurred
from tests.tasks.test_terms import Negatives, draw


class Flat:
    """One grey picture (3, 12, 12), as often as asked for; or ``picture``."""

    n_classes = None

    def __init__(self, picture: Tensor | None = None) -> None:
        self.picture = torch.zeros(3, 12, 12) if picture is None else picture

    def __len__(self) -> int:
        return 30

    def batch(self, indices: Tensor) -> tuple[Tensor, None]:
        return self.picture.expand(len(indices), -1, -1, -1), None


def test_noise_of_a_restoration_has_the_spread_asked_for() -> None:
    task = TASKS.bind({"name": "restore", "noise": 0.3})(Sources(dataset=Flat()))
    batch = task.batch(draw(0, 16))
    assert batch.wanted is not None
    assert batch.wanted.abs().max() == 0
    assert float(batch.inputs[0].std()) == pytest.approx(0.3, rel=0.05)


def test_a_blur_spreads_a_dot_by_its_sigma_both_ways() -> None:
    dot = torch.zeros(1, 1, 31, 31, dtype=torch.float64)
    dot[0, 0, 15, 15] = 1
    spread = blurred(dot, 1.5)[0, 0]
    places = torch.arange(31, dtype=torch.float64) - 15
    for axis in (0, 1):
        profile = spread.sum(axis)
        # Cut off at three sigma, so a little less than sigma squared.
        assert float((profile * places.square()).sum()) == pytest.approx(1.5**2, rel=0.05)


def test_patches_come_from_everywhere() -> None:
    rows, columns = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
    picture = torch.stack([rows, columns, rows * 0]) / 12
    task = TASKS.bind({"name": "restore", "noise": 0.1, "patch": 4})(Sources(dataset=Flat(picture)))
    wanted = task.batch(draw(0, 24)).wanted
    assert wanted is not None
    assert wanted.shape == (24, 3, 4, 4)
    for axis in (0, 1):
        assert len(wanted[:, axis, 0, 0].unique()) > 3


def test_only_the_input_is_spoilt() -> None:
    torch.manual_seed(0)
    picture = torch.rand(3, 12, 12) * 2 - 1
    task = TASKS.bind({"name": "restore", "blur": 1.0, "scale": 2})(Sources(dataset=Flat(picture)))
    batch = task.batch(draw(0, 2))
    assert batch.wanted is not None
    assert torch.equal(batch.wanted[0], picture)
    assert batch.inputs[0].shape == (2, 3, 6, 6)
    assert batch.inputs[0].std() < 0.6 * picture.std()


@pytest.mark.parametrize("condition", [True, False])
def test_the_input_is_shown_beside_the_output_where_the_task_says_so(condition: bool) -> None:
    task = TASKS.bind({"name": "paired", "condition": condition})(Sources(dataset=Negatives()))
    batch = task.batch(draw(0))
    shown = task.shown(batch, batch.wanted)
    if not condition:
        assert shown.condition is None
        return
    assert shown.condition is not None
    assert torch.equal(shown.condition, batch.inputs[0])


def test_patches_of_pairs_lie_on_each_other() -> None:
    large = torch.arange(16.0).view(1, 1, 4, 4).repeat_interleave(2, 2).repeat_interleave(2, 3)

    class Twofold(Flat):
        def pairs(self, indices: Tensor) -> tuple[Tensor, Tensor, None]:
            n = len(indices)
            small = torch.arange(16.0).view(1, 1, 4, 4)
            return small.expand(n, -1, -1, -1), large.expand(n, -1, -1, -1), None

    def bound(**options: object) -> Any:
        return TASKS.bind({"name": "restore", **options})(Sources(dataset=Twofold(large)))

    seen: set[float] = set()
    task = bound(scale=2, patch=4)
    for number in range(20):
        batch = task.batch(draw(number))
        x, wanted = batch.inputs[0], batch.wanted
        assert x.shape == (4, 1, 2, 2)
        assert torch.equal(x.repeat_interleave(2, 2).repeat_interleave(2, 3), wanted)
        seen |= set(x[:, 0, 0, 0].tolist())
    assert len(seen) == 9
    with pytest.raises(DataError, match=r"smaller than task\.patch=12"):
        bound(patch=12, scale=2).preview(1)
    with pytest.raises(ConfigError, match=r"leave task\.blur"):
        bound(blur=1.0)
