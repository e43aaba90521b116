"""The edge maps of the paired run: where they are, how thick, and that they repeat themselves."""

from __future__ import annotations

import numpy as np

from benchmarks.tasks.edge_pairs import THRESHOLD, edges


def square(value: int) -> np.ndarray:
    picture = np.zeros((1, 16, 16), np.uint8)
    picture[:, 4:12, 4:12] = value
    return picture


def test_a_square_has_four_lines_of_one_pixel_and_nothing_inside() -> None:
    found = edges(square(200))[0]
    assert set(np.unique(found)) == {0, 255}
    # A step between two pixels is as steep at both: one of the two is taken.
    assert (found[8] > 0).sum() == 2
    assert (found[:, 8] > 0).sum() == 2
    assert not found[6:10, 6:10].any()
    assert not found[:3].any()
    assert not found[13:].any()


def test_what_is_faint_is_no_edge() -> None:
    # Along a straight step of height v Sobel's gradient, divided by 8, is v / 2.
    assert not edges(square(round(2 * THRESHOLD) - 2)).any()
    assert edges(square(round(2 * THRESHOLD) + 2)).any()


def test_edges_do_not_care_which_side_is_bright() -> None:
    dark = 255 - square(200)
    assert (edges(dark) > 0).sum() == (edges(square(200)) > 0).sum()


def test_a_picture_does_not_depend_on_its_neighbours() -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (5, 12, 14)).astype(np.uint8)
    alone = np.concatenate([edges(p[None]) for p in pictures])
    assert np.array_equal(alone, edges(pictures))
