from __future__ import annotations

import pytest
import torch
from torch import nn

from gancompress.data.inputs import InputSampler
from gancompress.errors import ConfigError, DataError
from gancompress.models import BigGANConfig, BigGANGenerator


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_words_become_tensors_in_order() -> None:
    sampler = InputSampler.parse(["z=normal(16)", "y=labels(10)", "x=uniform(3, 4,5)"])
    z, y, x = sampler(64, rng())
    assert z.shape == (64, 16)
    assert y.shape == (64,)
    assert y.dtype == torch.int64
    assert sorted(set(y.tolist())) == list(range(10))
    assert x.shape == (64, 3, 4, 5)
    assert -1 <= x.min() < -0.9
    assert 0.9 < x.max() <= 1
    assert sampler.n_classes == 10
    assert sampler.labels((z, y, x)) is y
    assert torch.equal(z, sampler(64, rng())[0])
    assert not torch.equal(z, sampler(64, rng(1))[0])


def test_unconditional() -> None:
    sampler = InputSampler.parse(["z=normal(4)"])
    assert sampler.n_classes is None
    assert sampler.labels(sampler(2, rng())) is None
    with pytest.raises(DataError, match="no labels"):
        sampler.relabelled(sampler(2, rng()), torch.zeros(2))


@pytest.mark.parametrize(
    ("specs", "word"),
    [
        ([], "no input"),
        (["normal(3)"], "NAME=KIND"),
        (["z=normal"], "NAME=KIND"),
        (["z=normal(3"], "NAME=KIND"),
        (["z=norml(3)"], "Did you mean 'normal'"),
        (["z=normal(0)"], "at least 1"),
        (["z=normal()"], "at least 1"),
        (["z=normal(3,,4)"], "at least 1"),
        (["z=normal(99999,99999)"], "at most"),
        (["y=labels(3,4)"], "one number"),
        (["a=labels(3)", "b=labels(4)"], "at most one"),
        (["z=__import__('os')"], "NAME=KIND"),
    ],
)
def test_what_is_refused(specs: list[str], word: str) -> None:
    with pytest.raises(ConfigError, match=word.replace("(", r"\(")):
        InputSampler.parse(specs)


def test_all_faults_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        InputSampler.parse(["z=norml(3)", "y=labels(2,2)"])
    assert "norml" in str(caught.value)
    assert "labels(2,2)" in str(caught.value)


def test_the_generators_own() -> None:
    generator = BigGANGenerator(BigGANConfig.fashion32())
    sampler = InputSampler.of(generator)
    z, y = sampler(5, rng(3))
    theirs = generator.sample_inputs(5, rng(3))
    assert torch.equal(z, theirs[0])
    assert torch.equal(y, theirs[1])
    assert sampler.n_classes == 10
    changed = sampler.relabelled((z, y), torch.full((5,), 7))
    assert changed[0] is z
    assert changed[1].tolist() == [7] * 5


class One(nn.Module):
    def sample_inputs(self, n: int, rng: torch.Generator) -> torch.Tensor:
        return torch.randn(n, 3, generator=rng)


class Wrong(nn.Module):
    def sample_inputs(self, n: int, rng: torch.Generator) -> torch.Tensor:
        return torch.randn(n + 1, 3, generator=rng)


def test_a_single_tensor_a_wrong_count_and_no_method() -> None:
    assert len(InputSampler.of(One())(2, rng())) == 1
    with pytest.raises(ConfigError, match="2 rows"):
        InputSampler.of(Wrong())
    with pytest.raises(ConfigError, match="--input"):
        InputSampler.of(nn.Linear(2, 2))
