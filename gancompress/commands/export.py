"""``gancompress export``: files for other programs, compared with the generator before kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.text import Text
from torch import Tensor

from gancompress.commands.console import emit, note, stdout
from gancompress.commands.resolve.subject import Subject, resolve
from gancompress.commands.resolve.try_forward import probe
from gancompress.deployment.export import Exported, file_names
from gancompress.deployment.export import export as write_files
from gancompress.deployment.formats import Format, read_formats, require_engines
from gancompress.errors import ConfigError
from gancompress.tasks.protocol import Draw

TOLERANCE = 1e-4
CALIBRATION_BATCH = 8


def export(
    *,
    what: str | None,
    model: str | None,
    weights: str | None,
    inputs: Sequence[str] | None,
    to: str,
    out: Path | None,
    dynamic: Sequence[str] | None,
    noise: str | None,
    fold: bool,
    int8: bool,
    calibrate: int,
    tolerance: float | None,
    json: bool,
) -> None:
    """Write the generator in the formats ``to``; leave no file when one differs too much.

    Raises:
        ConfigError: an unknown format, an existing file, or a missing engine.
        GraphError: a format cannot express the generator.
        TargetError: an exported network differs from the generator.
    """
    formats = read_formats(to)
    if not fold and int8:
        raise ConfigError("--int8 needs plain weights: leave --no-fold out")
    require_engines(formats, int8=int8)
    subject = resolve(what, model, weights=weights, inputs=inputs)
    place = out or _place(subject, formats)
    file_names(place, formats)  # an existing file is told of before any work
    probe(subject)
    note(f"exporting to {', '.join(f.name for f in formats)}")
    if int8:
        _int8(subject, place, to, dynamic, noise, calibrate, tolerance, json)
        return
    files = write_files(
        subject.generator,
        subject.example(2),
        place,
        to=to,
        dynamic=dynamic,
        noise=noise,
        folding=fold,
        tolerance=TOLERANCE if tolerance is None else tolerance,
    )
    if json:
        rows = [_row(f) for f in files]
        first = {key: rows[0][key] for key in ("file", "max_error", "bytes")}
        emit("export", {**first, "files": rows})
        return
    for one in files:
        stdout().print(Text(_told(one)), soft_wrap=True)


def _place(subject: Subject, formats: Sequence[Format]) -> Path:
    one = formats[0].suffix if len(formats) == 1 else ""
    module = any(f.name == "standalone" for f in formats)
    return Path(f"{subject.label.replace('-', '_') if module else subject.label}{one}")


def _row(one: Exported) -> dict[str, Any]:
    return {**asdict(one), "file": str(one.file)}


def _told(one: Exported) -> str:
    if not one.checked:
        return f"wrote {one.file}: {one.format}, read back bit for bit"
    inputs, outputs = ", ".join(one.inputs), ", ".join(one.outputs)
    text = (
        f"wrote {one.file}: {one.format}, {inputs} -> {outputs}; largest difference "
        f"{one.max_error:.1e} ({', '.join(one.checked)}; float32)"
    )
    refused = f"; the generator itself does not take: {', '.join(one.refused)}"
    return text + (refused if one.refused else "")


def _int8(
    subject: Subject,
    place: Path,
    to: str,
    dynamic: Sequence[str] | None,
    noise: str | None,
    calibrate: int,
    tolerance: float | None,
    json: bool,
) -> None:
    from gancompress.deployment.int8 import export_int8

    rows = export_int8(
        subject.generator,
        subject.example(2),
        place,
        calibration=_batches(subject, calibrate, seed=1),
        held_out=_batches(subject, 4 * CALIBRATION_BATCH, seed=2, fresh=True),
        to=to,
        dynamic=dynamic,
        noise=noise,
        tolerance=tolerance,
    )
    if json:
        emit("export", {"int8": [{**asdict(row), "file": str(row.file)} for row in rows]})
        return
    for row in rows:
        text = (
            f"wrote {row.file}: {row.format}, {row.layers} layers in int8, {row.left} in float32\n"
            f"  error against float32: at most {row.max_error:.3g}, signal to noise "
            f"{row.snr_db:.1f} dB\n"
            f"  batch {row.batch}: {row.ms:.2f} ms, float32 {row.float_ms:.2f} ms; "
            f"{row.bytes:,} bytes, float32 {row.float_bytes:,} ({torch.get_num_threads()} threads)"
        )
        stdout().print(Text(text), soft_wrap=True)


def _batches(subject: Subject, n: int, seed: int, fresh: bool = False) -> list[tuple[Tensor, ...]]:
    """Return ``n`` samples in batches: a task's own inputs to calibrate on, others to measure on.

    What is measured on was not calibrated on: inputs that the task holds out, or other draws.
    """
    rng = torch.Generator().manual_seed(seed)
    sizes = [min(CALIBRATION_BATCH, n - i) for i in range(0, n, CALIBRATION_BATCH)]
    if subject.task is None:
        return [subject.sampler(size, rng) for size in sizes]
    if fresh:
        return [b.arguments for b in subject.task.held_out(n, CALIBRATION_BATCH)]
    draws = (Draw(size, number, rng) for number, size in enumerate(sizes))
    return [subject.task.batch(draw).arguments for draw in draws]
