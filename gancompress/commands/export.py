"""``gancompress export``: the generator as ONNX, compared by onnxruntime before it is kept."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.text import Text
from torch import Tensor

from gancompress.commands.console import emit, note, stdout
from gancompress.commands.resolve.subject import Subject, resolve
from gancompress.commands.resolve.try_forward import probe
from gancompress.errors import ConfigError, GraphError, TargetError
from gancompress.extras import require

BATCHES = (1, 3, 8)
"""Batch sizes on which an exported file must agree with the generator."""


def export(
    *,
    what: str | None,
    model: str | None,
    weights: str | None,
    inputs: Sequence[str] | None,
    to: str,
    out: Path | None,
    tolerance: float,
    json: bool,
) -> None:
    """Write the generator to ``out`` and leave no file when it differs by more than ``tolerance``.

    Raises:
        ConfigError: an unknown format, an existing file, or a missing extra.
        GraphError: torch cannot export the generator.
        TargetError: the exported network differs from the generator.
    """
    if to != "onnx":
        raise ConfigError(f"no format {to!r}: onnx")
    runtime = require("onnxruntime", "onnx")
    require("onnxscript", "onnx")
    subject = resolve(what, model, weights=weights, inputs=inputs)
    out = Path(f"{subject.label}.onnx") if out is None else out
    if out.exists():
        raise ConfigError(f"{out} exists. Choose another name with --out")
    probe(subject)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".gancompress-") as folder:
        draft = Path(folder) / out.name
        _write(subject, draft)
        session = runtime.InferenceSession(str(draft), providers=["CPUExecutionProvider"])
        worst = max(_difference(subject, session, n) for n in BATCHES)
        # Written this way round so that NaN fails.
        if not worst <= tolerance:
            raise TargetError(
                f"the exported network differs by {worst:.2g} from the generator, allowed is "
                f"{tolerance:g}. No file was written; --tolerance allows more"
            )
        os.replace(draft, out)
    if json:
        emit("export", {"file": str(out), "max_error": worst, "bytes": out.stat().st_size})
        return
    text = f"wrote {out}: largest difference {worst:.1e} on batches of {BATCHES} (float32)"
    stdout().print(Text(text), soft_wrap=True)


def _write(subject: Subject, file: Path) -> None:
    example = subject.example(2)
    note(f"exporting to {file.suffix[1:]}")
    batch = torch.export.Dim("batch", min=1, max=4096)
    try:
        # The exporter chats on stdout, which is ours for results, and warns about its own parts.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                subject.generator, example, str(file), dynamo=True, external_data=False,
                input_names=[f"input_{i}" for i in range(len(example))], output_names=["images"],
                dynamic_shapes=tuple({0: batch} for _ in example),
            )  # fmt: skip
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise GraphError(f"torch cannot export {subject.spec}: {first}") from error


@torch.no_grad()
def _difference(subject: Subject, session: object, n: int) -> float:
    example = subject.example(n, seed=n)
    feed = {f"input_{i}": part.numpy() for i, part in enumerate(example)}
    found = torch.from_numpy(session.run(None, feed)[0])  # type: ignore[attr-defined]
    wanted: Tensor = subject.generator(*example)
    return float((found - wanted).abs().max())
