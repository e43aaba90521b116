"""``gancompress bench``: size and speed, with the conditions of the measurement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import torch
from torch import Tensor, nn

from gancompress.commands.console import emit, note, stdout
from gancompress.commands.resolve.subject import resolve
from gancompress.commands.resolve.try_forward import probe
from gancompress.errors import ConfigError


def bench(
    *,
    what: str | None,
    model: str | None,
    weights: str | None,
    inputs: Sequence[str] | None,
    batch: str,
    device: str,
    json: bool,
) -> None:
    """Print parameters, MACs, bytes and latency per batch size of ``batch`` ("1,8").

    Raises:
        ConfigError: ``batch`` is not a list of positive whole numbers.
    """
    from gancompress.metrics.cost import footprint
    from gancompress.metrics.latency import latency
    from gancompress.reporting.tables import Table, si

    if not all(part.strip().isdigit() and int(part) for part in batch.split(",")):
        raise ConfigError(f"--batch {batch!r} is not a list of sizes like 1,8")
    subject = resolve(what, model, weights=weights, inputs=inputs, device=device)
    size = footprint(subject.generator, on_device(probe(subject), subject.generator))
    timed = []
    for n in map(int, batch.split(",")):
        note(f"timing batch {n}")
        example = on_device(subject.example(n), subject.generator)
        timed.append(latency(subject.generator, example, threads=torch.get_num_threads()))
    if json:
        times = [asdict(item) for item in timed]
        emit("bench", {"model": subject.spec, **asdict(size), "latency": times})
        return
    rows = [
        ("parameters", si(size.params)),
        ("MACs an image", si(size.macs)),
        ("weights", f"{si(size.bytes)}B"),
        *[(f"latency, batch {item.batch}", str(item)) for item in timed],
    ]
    first = timed[0]
    conditions = (
        f"MACs = FLOPs / 2. Latency: median (IQR) of one pass, {first.dtype}, {first.layout}, "
        f"{first.device}, {first.threads} thread{'s' if first.threads > 1 else ''}."
    )
    stdout().print(Table(what or subject.spec, ("", "value"), tuple(rows), conditions))


def on_device(example: tuple[Tensor, ...], generator: nn.Module) -> tuple[Tensor, ...]:
    """Return ``example`` where the weights of ``generator`` are."""
    device = next(generator.parameters()).device
    return tuple(part.to(device) for part in example)
