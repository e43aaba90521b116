from __future__ import annotations

import pytest
import torch

from gancompress.data.order import batch_indices, derived_seed, stream


def test_a_batch_is_a_function_of_seed_rank_and_step() -> None:
    first = batch_indices(100, batch=8, seed=1, step=5)
    for step in (0, 40, 5):
        again = batch_indices(100, batch=8, seed=1, step=step)
    assert torch.equal(first, again)
    assert not torch.equal(first, batch_indices(100, batch=8, seed=2, step=5))
    assert not torch.equal(first, batch_indices(100, batch=8, seed=1, step=6))


@pytest.mark.parametrize(("length", "batch"), [(10, 4), (7, 16), (64, 64), (1, 3)])
def test_every_sample_is_seen_once_an_epoch(length: int, batch: int) -> None:
    epochs = 3
    steps = -(-length * epochs // batch)
    seen = torch.cat([batch_indices(length, batch=batch, seed=0, step=s) for s in range(steps)])
    for epoch in seen[: length * epochs].view(epochs, length):
        assert sorted(epoch.tolist()) == list(range(length))


@pytest.mark.parametrize("world", [1, 2, 4])
def test_ranks_share_one_order_whatever_their_number(world: int) -> None:
    whole = batch_indices(50, batch=8, seed=3, step=4)
    shares = [
        batch_indices(50, batch=8, seed=3, step=4, rank=rank, world=world) for rank in range(world)
    ]
    assert torch.equal(torch.cat(shares), whole)


def test_uneven_shares_are_refused() -> None:
    with pytest.raises(ValueError, match="rank 0 of 3"):
        batch_indices(50, batch=8, seed=0, step=0, world=3)


def test_streams_of_other_names_differ() -> None:
    draws = {
        tuple(torch.randn(3, generator=stream(*parts)).tolist())
        for parts in [(0, "a", 1), (0, "a", 2), (0, "b", 1), (1, "a", 1), (0, "a1")]
    }
    assert len(draws) == 5
    assert 0 <= derived_seed(0) < 2**63
