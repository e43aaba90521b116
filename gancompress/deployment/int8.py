"""int8 files: calibrated on real inputs; error and speed measured beside the float file."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from gancompress.deployment.export import Exported, file_names, keep_all, prepare
from gancompress.deployment.formats import Format, read_formats, require_engines
from gancompress.deployment.program import Program, cause, export_again, trace_program
from gancompress.deployment.writers import Opened, open_file, write
from gancompress.errors import GraphError, TargetError
from gancompress.graph.form.export_mode import exporting_quietly

Batches = Sequence[tuple[Tensor, ...]]
ROUNDS = 5
"""Interleaved rounds in which float and int8 are timed."""


@dataclass(frozen=True)
class Int8:
    """One int8 file, and what it costs and brings (ours).

    Attributes:
        format: its name.
        file: where it lies.
        bytes: how large it is.
        float_bytes: how large the same file in float32 is.
        max_error: largest difference from the generator, on inputs that calibration did not see.
        snr_db: signal to noise of its outputs there, in decibels.
        ms: median time of a call in this engine.
        float_ms: that of the float32 file, timed in turns.
        batch: samples in that call.
        layers: layers that multiply in int8.
        left: layers that stay in float32: transposed convolutions, and products of activations.
    """

    format: str
    file: Path
    bytes: int
    float_bytes: int
    max_error: float
    snr_db: float
    ms: float
    float_ms: float
    batch: int
    layers: int
    left: int


def export_int8(
    generator: nn.Module,
    example: tuple[Tensor, ...],
    out: str | Path,
    *,
    calibration: Batches,
    held_out: Batches,
    to: str = "onnx",
    dynamic: Sequence[str] | None = None,
    noise: str | None = None,
    tolerance: float | None = None,
) -> list[Int8]:
    """Write ``generator`` with int8 layers by torchao's PT2E, static and post training (ours).

    Args:
        generator: any module; it is not touched.
        example: positional inputs of one call.
        out: as in `export`.
        calibration: inputs of calls, from which the ranges of activations are taken.
        held_out: inputs of calls on which the error is measured.
        to: program formats, with commas.
        dynamic: as in `export`.
        noise: as in `export`.
        tolerance: largest difference from the generator; ``None``: it is only told.

    Raises:
        ConfigError: a format that is no program, a missing engine, an existing file.
        GraphError: no layer can be int8, or a format cannot express one.
        TargetError: the error is not finite, or larger than ``tolerance``.
    """
    formats = read_formats(to)
    require_engines(formats, int8=True)
    files = file_names(Path(out), formats)
    call = prepare(generator, example, None, dynamic, noise)
    program = trace_program(
            call.flat, call.names, call.example, call.dims, folding=True,
            source=call.plain.generator,
        )  # fmt: skip
    small, layers, left = quantised(program, [call.fed(b)[0] for b in calibration])
    tests = [call.fed(b) for b in held_out]
    measured: list[Int8] = []

    def make(kind: Format, draft: Path) -> Exported:
        row = _measured(kind, draft, files[kind], (program, small), tests, (layers, left))
        if not math.isfinite(row.max_error) or row.max_error > (tolerance or math.inf):
            raise TargetError(
                f"int8 ({kind.name}) differs by {row.max_error:.2g} from the generator, allowed is "
                f"{tolerance or math.inf:g}. No file was written; --tolerance allows more"
            )
        measured.append(row)
        return Exported(kind.name, draft, row.bytes, row.max_error)

    keep_all(files, make)
    return measured


def quantised(program: Program, calls: Batches) -> tuple[Program, int, int]:
    """Return ``program`` with int8 layers, how many there are, and how many stay in float32.

    Raises:
        GraphError: there is no layer to quantise, or torchao fails on one.
    """
    from torchao.quantization.pt2e.quantize_pt2e import (  # pyright: ignore[reportMissingImports]
        convert_pt2e,
        prepare_pt2e,
    )

    from gancompress.deployment.int8_layers import LayerQuantizer, count_layers

    graph = program.graph()
    layers, left = count_layers(graph)
    if not layers:
        raise GraphError(
            f"no layer can be int8: {left} layers with weights, none of them a convolution that is "
            "not transposed, or a linear one. Leave --int8 out"
        )
    try:
        with exporting_quietly(), torch.no_grad():
            watched = prepare_pt2e(graph, LayerQuantizer())
            for tensors in calls:
                watched(*tensors)
            small = export_again(program, convert_pt2e(watched))
    except GraphError:
        raise
    except Exception as error:
        raise GraphError(f"torchao cannot quantise the program: {cause(error)}") from error
    return small, layers, left


def _measured(
    kind: Format,
    draft: Path,
    file: Path,
    programs: tuple[Program, Program],
    tests: Sequence[tuple[tuple[Tensor, ...], list[Tensor]]],
    counts: tuple[int, int],
) -> Int8:
    """Write the int8 file and, to compare, a float one; measure both."""
    beside = draft.parent.with_name(f"{kind.name}-float")
    beside.mkdir()
    full = beside / draft.name
    for program, path in zip(programs, (full, draft), strict=True):
        write(kind.name, program, path)
    runs = [open_file(kind.name, p, g) for p, g in zip((full, draft), programs, strict=True)]
    error, snr = _error(runs[1], tests)
    one = tests[0][0]
    slow, fast = timed_in_turns([lambda r=r: r(one) for r in runs])
    return Int8(
        kind.name, file, draft.stat().st_size, full.stat().st_size, error, snr, fast, slow,
        len(one[0]), *counts,
    )  # fmt: skip


def _error(
    run: Opened, tests: Sequence[tuple[tuple[Tensor, ...], list[Tensor]]]
) -> tuple[float, float]:
    """Return the largest difference, and the signal to noise ratio in decibels."""
    worst, signal, noise = 0.0, 0.0, 0.0
    for tensors, wanted in tests:
        with torch.no_grad():
            found = run(tensors)
        for got, want in zip(found, wanted, strict=True):
            gap = got.cpu().double() - want.double()
            worst = max(worst, float(gap.abs().max().nan_to_num(math.inf)))
            signal += float(want.double().square().sum())
            noise += float(gap.square().sum())
    return worst, math.inf if noise == 0 else 10 * math.log10(max(signal, 1e-300) / noise)


def timed_in_turns(runs: Sequence[Callable[[], object]], seconds: float = 0.3) -> list[float]:
    """Return the median time in milliseconds of each of ``runs``, taken in turns."""
    times: list[list[float]] = [[] for _ in runs]
    for run in runs:
        run()  # the first call allocates, and compiles where an engine does
    end = time.perf_counter() + seconds * len(runs)
    while min(map(len, times)) < ROUNDS or time.perf_counter() < end:
        for run, found in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            found.append(1e3 * (time.perf_counter() - start))
    return [float(torch.tensor(found).median()) for found in times]
