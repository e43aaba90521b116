"""The processes of a distributed run, and the few things that they tell each other (ours).

Everything works alone too: one rank talks to nobody. What goes between ranks beside tensors is
bytes, never a pickle.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, distributed

from gancompress.errors import RanksError

BUCKET = 2**23
"""Numbers that are averaged in one message (32 MiB in float32)."""


def world() -> int:
    """Return how many processes work together; 1 where `torch.distributed` does not run."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 1
    return distributed.get_world_size()


def rank() -> int:
    """Return the number of this process among them, from 0."""
    return distributed.get_rank() if world() > 1 else 0


@contextmanager
def talking(about: str) -> Iterator[None]:
    """Turn a broken or silent connection into an error that says what it means.

    Raises:
        RanksError: another rank is gone, or did not answer in time.
    """
    try:
        yield
    except RanksError:
        raise
    except RuntimeError as error:
        line = (str(error).strip().splitlines() or [""])[0][:200]
        raise RanksError(
            f"rank {rank()} lost the others while they exchanged {about}: a rank failed, or did "
            f"not answer in time ({line}). Its own error says why; the run goes on from its last "
            "checkpoint with --resume"
        ) from error


def sum_(tensor: Tensor, about: str = "numbers") -> Tensor:
    """Add up ``tensor`` over the ranks, in place, on its device; alone nothing happens."""
    if world() > 1:
        with talking(about):
            distributed.all_reduce(tensor, group=_group(tensor))
    return tensor


@torch.no_grad()
def mean_(tensors: Sequence[Tensor], about: str = "numbers") -> None:
    """Average ``tensors`` over the ranks, in place; each rank must give as many of the same sizes.

    They travel in buckets of `BUCKET` numbers, all of them under way at once. The result is the
    same on every rank, bit for bit.
    """
    size = world()
    if size == 1:
        return
    sent: list[tuple[Any, Tensor, list[Tensor]]] = []
    with talking(about):
        for bucket in _buckets(tensors):
            flat = torch.cat([t.reshape(-1) for t in bucket])
            work = distributed.all_reduce(flat, group=_group(flat), async_op=True)
            sent.append((work, flat, bucket))
        for work, flat, bucket in sent:
            work.wait()
            parts = (flat / size).split([t.numel() for t in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view(tensor.shape))


@torch.no_grad()
def take_first_(tensors: Iterable[Tensor], about: str = "tensors") -> None:
    """Give every rank the values that ``tensors`` have on rank 0, in place."""
    if world() == 1:
        return
    kinds = [t for t in tensors if t.numel()]
    with talking(about):
        # Bytes, so that bool and integers travel like floats.
        for tensor in kinds:
            flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8).clone()
            distributed.broadcast(flat, 0, group=_group(flat))
            tensor.copy_(flat.view(tensor.dtype).view(tensor.shape))


def all_bytes(data: bytes, about: str = "messages") -> list[bytes]:
    """Return what each rank gave, by rank."""
    if world() == 1:
        return [data]
    with talking(about):
        group = _control()
        length = torch.tensor([len(data)], dtype=torch.int64)
        lengths = [torch.zeros_like(length) for _ in range(world())]
        distributed.all_gather(lengths, length, group=group)
        longest = max(1, *(int(n) for n in lengths))
        own = torch.zeros(longest, dtype=torch.uint8)
        own[: len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else 0
        found = [torch.zeros_like(own) for _ in range(world())]
        distributed.all_gather(found, own, group=group)
    return [t[: int(n)].numpy().tobytes() for t, n in zip(found, lengths, strict=True)]


def bytes_of_first(data: bytes, about: str = "messages") -> bytes:
    """Return what rank 0 gave; what the others give is not looked at."""
    if world() == 1:
        return data
    with talking(about):
        group = _control()
        length = torch.tensor([len(data)], dtype=torch.int64)
        distributed.broadcast(length, 0, group=group)
        sent = torch.zeros(max(1, int(length)), dtype=torch.uint8)
        if rank() == 0 and data:
            sent = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        distributed.broadcast(sent, 0, group=group)
    return sent[: int(length)].numpy().tobytes()


def largest(number: int, about: str = "signals") -> int:
    """Return the largest of the ranks' numbers."""
    if world() == 1:
        return number
    with talking(about):
        found = torch.tensor([number], dtype=torch.int64)
        distributed.all_reduce(found, distributed.ReduceOp.MAX, group=_control())
    return int(found)


def check_alike(parts: Iterable[bytes], about: str) -> None:
    """Make sure that all ranks hold the same ``parts``; only a hash travels.

    Raises:
        RanksError: they do not: ranks that go on would drift apart.
    """
    if world() == 1:
        return
    mine = hashlib.sha256()
    for part in parts:
        mine.update(len(part).to_bytes(8, "little") + part)
    found = all_bytes(mine.digest(), about)
    others = [i for i, other in enumerate(found) if other != found[0]]
    if others:
        raise RanksError(
            f"rank 0 and rank {others[0]} hold different {about}: weights, scores or random draws "
            "differ between them. In a loop of your own, let the ranks begin with the same weights "
            "and average gradients before the step (DistributedDataParallel does both)"
        )


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Yield ``tensors`` in order, of one type and device each, at most `BUCKET` numbers."""
    kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for tensor in tensors:
        kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    for found in kinds.values():
        bucket: list[Tensor] = []
        size = 0
        for tensor in found:
            if bucket and size + tensor.numel() > BUCKET:
                yield bucket
                bucket, size = [], 0
            bucket.append(tensor)
            size += tensor.numel()
        yield bucket


def _group(tensor: Tensor) -> Any:
    return _control() if tensor.device.type == "cpu" else None


def _control() -> Any:
    """Return a group that takes tensors on the CPU: that of the run, or one made for it."""
    backend = str(distributed.get_backend_config())
    return None if "cpu:" in backend else _gloo(world(), backend)


@lru_cache(maxsize=1)
def _gloo(size: int, backend: str) -> Any:
    return distributed.new_group(backend="gloo")
