"""Factor lists: aligning, splitting, merging, and what settles a product of sub-dimensions."""

from __future__ import annotations

import numpy as np
import pytest

from gancompress.graph.atoms import AtomSpace, Factor, Reason, join_zero, opaque

WHY = Reason("view", "model.py:8 in forward", "because")


def factor(space: AtomSpace, size: int, slot: str = "") -> Factor:
    return Factor(size, space.new(size), frozenset([(slot, 0)]) if slot else None)


def same(space: AtomSpace, a: np.ndarray, b: np.ndarray) -> bool:
    label = space.solve().label
    return bool((label[a] == label[b]).all())


def test_new_atoms_are_fresh_and_never_zero() -> None:
    space = AtomSpace()
    a, b = space.new(3), space.new(2)
    assert 0 not in (*a, *b)
    assert not set(a) & set(b)


def test_size_one_has_no_factor_and_opaque_holds_no_atoms() -> None:
    assert opaque(1, "space") == ()
    (only,) = opaque(4, "space")
    assert (only.size, only.atoms, only.why) == (4, None, "space")


def test_the_same_split_gives_the_same_parts() -> None:
    space = AtomSpace()
    whole = factor(space, 12, "w")
    first, again = space.split(whole, (3, 4), WHY), space.split(whole, (3, 1, 4), WHY)
    assert [f.size for f in first] == [3, 4]
    assert [f.atoms is g.atoms for f, g in zip(first, again, strict=True)] == [True, True]
    assert all(f.zero == whole.zero for f in first), "a part of a zero is zero"
    assert len(space.products) == 1
    assert space.split(whole, (1, 12), WHY) == (whole,)
    assert space.split(whole, (1, 1), WHY) == ()


def test_what_holds_no_channels_splits_without_a_product() -> None:
    space = AtomSpace()
    parts = space.split(Factor(6, why="an input"), (2, 3), WHY)
    assert [(f.size, f.why) for f in parts] == [(2, "an input"), (3, "an input")]
    assert not space.products


def test_flat_of_several_factors_is_made_once() -> None:
    space = AtomSpace()
    a, b = factor(space, 2, "a"), factor(space, 3, "b")
    flat = space.flat((a, b), WHY)
    assert flat.size == 6
    assert flat.atoms is space.flat((a, b), WHY).atoms
    assert flat.zero == {("a", 0), ("b", 0)}, "both must be zeroed for the product to be sure"
    assert space.flat((a,), WHY) is a
    assert space.flat((Factor(2, why="x"), Factor(3)), WHY).atoms is None


def test_align_splits_the_coarser_side() -> None:
    space = AtomSpace()
    whole, a, b = factor(space, 12), factor(space, 3), factor(space, 4)
    pairs = space.align((whole,), (a, b), WHY)
    assert pairs is not None
    assert [(x.size, y is z) for (x, y), z in zip(pairs, (a, b), strict=True)] == [
        (3, True),
        (4, True),
    ]
    assert space.align((a, b), (a, b), WHY) == [(a, a), (b, b)]


def test_boundaries_that_cross_freeze_both_sides() -> None:
    space = AtomSpace()
    a, b = (factor(space, 2), factor(space, 3)), (factor(space, 3), factor(space, 2))
    assert space.align(a, b, WHY) is None
    solution = space.solve()
    for f in (*a, *b):
        assert f.atoms is not None
        assert solution.all_frozen(f.atoms)
        assert solution.reason_of(f.atoms) is WHY


def test_ties_join_index_by_index_only() -> None:
    space = AtomSpace()
    a, b = space.new(4), space.new(4)
    space.tie(a, b[::-1], WHY)
    assert same(space, a, b[::-1])
    label = space.solve().label
    assert label[a[0]] != label[a[1]]
    assert not space.solve().all_frozen(a)


def test_a_partner_that_is_no_channel_freezes_and_is_named() -> None:
    space = AtomSpace()
    a, b, c = space.new(3), factor(space, 3), space.new(2)
    space.tie(np.array([0, *c]), a, WHY)
    space.tie_factors(b, Factor(3, why="an input"), WHY)
    solution = space.solve()
    assert solution.frozen[solution.label[a]].tolist() == [True, False, False]
    assert str(solution.reason_of(a)) == "because (view at model.py:8 in forward)"
    assert b.atoms is not None
    assert "because with an input" in str(solution.reason_of(b.atoms))


@pytest.mark.parametrize("frozen", [0, 1])
def test_product_follows_the_part_that_can_go(frozen: int) -> None:
    space = AtomSpace()
    whole = factor(space, 6)
    parts = space.split(whole, (2, 3), WHY)
    space.freeze(parts[frozen].atoms, WHY)
    free = parts[1 - frozen].atoms
    assert whole.atoms is not None
    assert free is not None
    solution = space.solve()
    grid = whole.atoms.reshape(2, 3)
    rows = grid if frozen == 1 else grid.T  # rows[c] are the indices of channel c
    for c, atom in enumerate(free):
        assert (solution.label[rows[c]] == solution.label[atom]).all()
    assert not solution.frozen[solution.label[free]].any()
    assert len(np.unique(solution.label[whole.atoms])) == len(free)


def test_product_with_two_open_parts_takes_the_first_and_says_so() -> None:
    space = AtomSpace()
    whole = factor(space, 6)
    heads, width = space.split(whole, (2, 3), WHY)
    solution = space.solve()
    assert heads.atoms is not None
    assert width.atoms is not None
    assert not solution.all_frozen(heads.atoms)
    assert solution.all_frozen(width.atoms)
    assert "shares one dimension" in str(solution.reason_of(width.atoms))


def test_a_frozen_whole_freezes_its_parts_with_its_reason() -> None:
    space = AtomSpace()
    whole = factor(space, 6)
    parts = space.split(whole, (2, 3), Reason("", "", "other"))
    space.freeze(whole.atoms, WHY)
    solution = space.solve()
    for part in parts:
        assert part.atoms is not None
        assert solution.all_frozen(part.atoms)
        assert solution.reason_of(part.atoms) is WHY


def test_nested_products_settle_from_the_inside() -> None:
    space = AtomSpace()
    whole = factor(space, 24)
    a, rest = space.split(whole, (2, 12), WHY)
    b, c = space.split(rest, (3, 4), WHY)
    for part in (a, b):
        space.freeze(part.atoms, WHY)
    solution = space.solve()
    assert whole.atoms is not None
    assert c.atoms is not None
    assert len(np.unique(solution.label[whole.atoms])) == 4
    assert not solution.frozen[solution.label[c.atoms]].any()


def test_later_checks_can_freeze_more() -> None:
    space = AtomSpace()
    a, b = space.new(2), space.new(2)
    space.tie(a, b, WHY)
    assert not space.solve().all_frozen(a)
    solution = space.solve([(b[:1], WHY)])
    assert solution.frozen[solution.label[a]].tolist() == [True, False]


def test_join_zero_needs_all() -> None:
    a, b = frozenset([("a", 0)]), frozenset([("b", 1)])
    assert join_zero([a, b]) == a | b
    assert join_zero([a, None]) is None
    assert join_zero([]) is None
