"""A run on several processes: how torchrun's ranks meet, and what one of them does for all."""

from __future__ import annotations

import datetime
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import distributed

from gancompress import errors
from gancompress.errors import ConfigError, GancompressError, RanksError
from gancompress.modules.ranks import bytes_of_first, rank, world
from gancompress.training.checkpoint import Checkpoint

TIMEOUT = 600.0
"""Seconds after which a rank that does not answer stops the others."""


def launched() -> int:
    """Return how many processes torchrun started; 1 without it.

    Raises:
        ConfigError: its variables make no sense.
    """
    try:
        size, number = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    except ValueError as error:
        raise ConfigError(
            f"WORLD_SIZE={os.environ.get('WORLD_SIZE')!r} and RANK={os.environ.get('RANK')!r} are "
            "no numbers: start with torchrun, or unset both"
        ) from error
    if size > 1 and not (0 <= number < size and os.environ.get("MASTER_ADDR")):
        raise ConfigError(
            f"WORLD_SIZE is {size}, RANK {number} and MASTER_ADDR "
            f"{os.environ.get('MASTER_ADDR')!r}: start with torchrun, or unset them"
        )
    return size


def restarted() -> bool:
    """Return whether torchrun has started these processes again after a failure."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") not in ("", "0")


@contextmanager
def joined_ranks(
    device: str, resolve: Callable[[str], torch.device], *, timeout: float = TIMEOUT
) -> Iterator[torch.device]:
    """Let torchrun's processes meet, and yield the device of this one (ours).

    Each process of a machine has a GPU of its own, or all of them compute on CPUs; numbers go
    through NCCL or gloo. Without torchrun this is ``resolve(device)``.

    Raises:
        ConfigError: there are fewer devices than processes, or these cannot be shared out.
        RanksError: the others do not come.
    """
    size = launched()
    if size == 1:
        yield resolve(device)
        return
    found = _device_of_rank(device, resolve)
    backend = "cpu:gloo,cuda:nccl" if found.type == "cuda" else "gloo"
    within = datetime.timedelta(seconds=timeout)
    try:
        store, number, size = next(iter(distributed.rendezvous("env://", timeout=within)))
        store = distributed.PrefixStore(meeting(store, number, size, timeout), store)
        distributed.init_process_group(
            backend, store=store, rank=number, world_size=size, timeout=within
        )
    except RuntimeError as error:
        line = (str(error).strip().splitlines() or [""])[0]
        raise RanksError(f"the {size} ranks did not meet: {line}") from error
    yield found
    # Not after an error: whoever waits for this rank learns from the closed connection at once.
    distributed.destroy_process_group()


def meeting(store: distributed.Store, number: int, size: int, timeout: float) -> str:
    """Return a name that the ranks of this attempt agree on through ``store``, a new one each time.

    torchrun's store outlives its restarts, with all that an earlier attempt has written: ranks that
    believed that would wait for the dead. So a rank says who it is by a word never used before, and
    rank 0 answers to that word (ours).

    Raises:
        RanksError: some rank has not come in ``timeout`` seconds.
    """
    own, end = secrets.token_hex(8), time.monotonic() + timeout

    def wait() -> None:
        if time.monotonic() > end:
            raise RanksError(f"rank {number} has waited {timeout:.0f} s for the {size} ranks")
        time.sleep(0.05)

    if number > 0:
        while not store.check([f"answer/{own}"]):
            store.set(f"rank/{number}", own)
            wait()
        name = store.get(f"answer/{own}").decode()
        store.set(f"{name}/heard/{number}", "1")
        return name
    while not all(store.check([f"{own}/heard/{other}"]) for other in range(1, size)):
        for other in range(1, size):
            if store.check([f"rank/{other}"]):
                store.set(f"answer/{store.get(f'rank/{other}').decode()}", own)
        wait()
    return own


def _device_of_rank(device: str, resolve: Callable[[str], torch.device]) -> torch.device:
    found = resolve(device)
    if found.type == "cpu":
        return found
    if found.type != "cuda":
        raise ConfigError(f"several ranks cannot share a device of type {found.type}: --device cpu")
    if ":" in device:
        raise ConfigError(
            f"--device {device} is one device, and there are {launched()} ranks: --device cuda "
            "gives each its own"
        )
    local, here = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local >= here:
        raise ConfigError(
            f"rank {os.environ.get('RANK')} has no GPU of its own: {here} on this machine, and it "
            f"is process number {local} (from 0). Use --nproc-per-node {here}, or --device cpu"
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


def by_first(do: Callable[[], Any], about: str) -> Any:
    """Let rank 0 do something for all, and return what it returned, a value of JSON, everywhere.

    What it refuses, every rank refuses: none waits for one that is gone.

    Raises:
        GancompressError: what ``do`` raised, on every rank.
    """
    if world() == 1:
        return do()
    said: dict[str, Any] = {}
    problem: Exception | None = None
    if rank() == 0:
        try:
            said = {"value": do()}
        except Exception as error:
            problem = error
            known = type(error).__name__ if isinstance(error, GancompressError) else "RanksError"
            text = str(error) if isinstance(error, GancompressError) else f"rank 0: {error!r}"
            said = {"error": known, "text": text}
    told = json.loads(bytes_of_first(json.dumps(said).encode(), about))
    if problem is not None:
        raise problem
    if "error" in told:
        raise heard(getattr(errors, told["error"])(told["text"]))
    return told["value"]


def heard(error: GancompressError) -> GancompressError:
    """Mark an error that every rank has, so that only rank 0 prints it."""
    error.said_by_another = rank() > 0
    return error


def same_checkpoint(found: Checkpoint | None) -> Checkpoint | None:
    """Return rank 0's checkpoint on every rank: a disk that all of them see is not needed."""
    if world() == 1:
        return found
    facts: Mapping[str, Any] | None = None
    if found is not None:
        facts = {
            "step": found.step, "state": found.state, "path": str(found.path),
            "parts": list(found.parts),
        }  # fmt: skip
    facts = json.loads(bytes_of_first(json.dumps(facts).encode(), "a checkpoint"))
    if facts is None:
        return None
    parts = {}
    for name in facts["parts"]:
        own = {} if found is None else found.parts[name]
        data = safetensors.torch.save({k: t.contiguous() for k, t in own.items()})
        parts[name] = safetensors.torch.load(bytes_of_first(data, "a checkpoint"))
    return Checkpoint(facts["step"], parts, facts["state"], Path(facts["path"]))
