"""A size behind a run, ``RUN@params=3x``: the network of that size, out of one of all sizes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from gancompress.commands.console import note
from gancompress.data.inputs import InputSampler
from gancompress.errors import ConfigError
from gancompress.saving.any_size import load_size
from gancompress.target import Target

_SIZE = re.compile(r"(.+)@((?:params|macs|latency)=.+)")
SAMPLES, BATCH = 512, 64


def size_in(what: str | None) -> tuple[str | None, str | None]:
    """Return what is meant, and the size that was written behind it, if any.

    Raises:
        ConfigError: the size cannot be read.
    """
    found = None if what is None else _SIZE.fullmatch(what)
    if what is None or found is None or Path(what).exists():
        return what, None
    Target.parse(found[2])
    return found[1], found[2]


def at_size(
    build: Callable[[], nn.Module], run: Path | None, sampler: InputSampler, size: str
) -> nn.Module:
    """Return the network of ``size`` out of the run, its norms measured again; say how it went.

    Raises:
        ConfigError: it is no run, or one of one size.
        TargetError: narrower than what was trained.
    """
    if run is None:
        raise ConfigError(f"@{size}: only a run of all sizes has one (recipe anytime)")
    rng = torch.Generator().manual_seed(0)
    calls = [(sampler(BATCH, rng), {}) for _ in range(SAMPLES // BATCH)]
    example = sampler(2, torch.Generator().manual_seed(0))
    found = load_size(build, run, size, example, inputs=calls)
    measured = (
        f"; statistics of {len(found.norms)} norms measured again on {SAMPLES} inputs"
        if found.norms
        else ""
    )
    times = found.before.params / found.after.params
    note(
        f"size {size}: {found.after.params:,} parameters ({times:.2f}x fewer), "
        f"{found.after.macs:,} MACs; {found.verification}{measured}"
    )
    return found.generator
