"""How long a run is, how its learning rate falls, and which run it may go on with."""

from __future__ import annotations

from pathlib import Path

import pytest

from gancompress.errors import ConfigError
from gancompress.training.checkpoint import Checkpoint
from gancompress.training.start import check_same_length, lr_factor, run_lengths
from tests.training.nets import recipe


def test_learning_rates_fall_in_a_straight_line_from_where_the_recipe_says() -> None:
    assert [lr_factor(p, 0.6) for p in (0.0, 0.6, 0.7, 0.9, 1.0)] == pytest.approx(
        [1.0, 1.0, 0.75, 0.25, 0.0]
    )
    assert lr_factor(0.99, None) == 1.0


@pytest.mark.parametrize(
    ("most", "lengths"),
    [(None, (12, 4)), (16, (12, 4)), (40, (12, 4)), (8, (6, 2)), (1, (1, 0)), (15, (11, 4))],
)
def test_both_phases_are_shortened_in_proportion(most: int | None, lengths: tuple) -> None:
    assert run_lengths(recipe(), most) == lengths


@pytest.mark.parametrize(("saved", "total", "fits"), [(16, 16, True), (8, 16, False),
                                                      (16, 8, False)])  # fmt: skip
def test_a_run_goes_on_at_its_own_length_only(saved: int, total: int, fits: bool) -> None:
    found = Checkpoint(3, {}, {"total": saved}, Path("step_000003"))
    if fits:
        return check_same_length(found, total)
    with pytest.raises(ConfigError, match=f"a run of {saved} steps, this one has {total}"):
        check_same_length(found, total)
