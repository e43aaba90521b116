"""Which samples make a batch: a function of (seed, rank, step), so nothing is saved at resume."""

from __future__ import annotations

import functools
import hashlib

import torch
from torch import Tensor


def derived_seed(*parts: object) -> int:
    """Return a 63-bit seed that depends on every part (ours; SHA-256, so streams never overlap)."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def stream(*parts: object) -> torch.Generator:
    """Return a CPU generator seeded by ``parts``, for example ``(seed, "latents", step)``."""
    return torch.Generator().manual_seed(derived_seed(*parts))


def batch_indices(
    length: int, *, batch: int, seed: int, step: int, rank: int = 0, world: int = 1
) -> Tensor:
    """Return the sample indices (batch / world,) of one rank at one step.

    The ranks of one step read one global sequence of ``batch`` samples, each epoch of which is a
    permutation: every sample is seen once before any is seen twice, whatever the world size (ours).

    Raises:
        ValueError: ``batch`` does not divide by ``world``, or ``rank`` is not below it.
    """
    if batch % world or not 0 <= rank < world:
        raise ValueError(f"batch {batch} cannot be shared: rank {rank} of {world}")
    share = batch // world
    first = step * batch + rank * share
    positions = range(first, first + share)
    return torch.stack([_epoch(length, seed, p // length)[p % length] for p in positions])


@functools.lru_cache(maxsize=4)
def _epoch(length: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(length, generator=stream(seed, "order", epoch))
