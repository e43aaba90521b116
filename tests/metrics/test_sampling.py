"""Draws depend on the seed and nothing else."""

import pytest
import torch

from gancompress.errors import DataError
from gancompress.metrics import sampling
from gancompress.metrics.sampling import draw
from tests.metrics.fakes import Replay, ReplaySampler


def images(n: int, **options: int) -> torch.Tensor:
    return torch.cat([x for x, _ in draw(Replay(), ReplaySampler(), n, **options)])


def test_batches_do_not_change_the_draw(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sampling, "DRAW", 40)  # several draws of the random stream
    whole = images(95, seed=5, batch=95)
    assert whole.shape == (95, 1, 32, 32)
    for batch in (1, 7, 40):
        torch.testing.assert_close(images(95, seed=5, batch=batch), whole, rtol=0, atol=0)
    assert not torch.equal(images(95, seed=6), whole)


def test_the_global_random_state_is_neither_read_nor_moved():
    state = torch.random.get_rng_state()
    first = images(20, seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(99)
    torch.testing.assert_close(images(20, seed=1), first, rtol=0, atol=0)


def test_given_labels_replace_the_drawn_ones_and_only_those():
    wanted = torch.arange(10).repeat(3)
    parts = list(draw(Replay(), ReplaySampler(), 30, seed=0, labels=wanted, batch=7))
    assert torch.equal(torch.cat([y for _, y in parts]), wanted)
    index, _ = ReplaySampler()(30, torch.Generator().manual_seed(0))
    expected = Replay()(index, wanted)
    torch.testing.assert_close(torch.cat([x for x, _ in parts]), expected, rtol=0, atol=0)


def test_a_generator_elsewhere_is_named():
    net = torch.nn.Linear(1, 1, device="meta")
    with pytest.raises(DataError, match="lies on meta, device='cpu'"):
        next(draw(net, ReplaySampler(), 1, seed=0))


def test_given_labels_go_on_over_several_draws(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sampling, "DRAW", 4)
    wanted = torch.arange(10)
    parts = list(draw(Replay(), ReplaySampler(), 10, seed=0, labels=wanted, batch=3))
    assert torch.cat([y for _, y in parts]).tolist() == list(range(10))
