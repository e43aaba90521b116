"""The lines that load the finished network of a run, for its report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gancompress.commands.resolve.subject import BIGGAN, EMBEDDED


def load_code(run: Path, summary: dict[str, Any]) -> str:
    """Return Python that loads the network in ``run``, as text; a shell line for checkpoints."""
    model, folder = str(summary["model"]), (run / "model").as_posix()
    if model == BIGGAN:
        return f"gancompress sample {run} --out more.png"
    if model == EMBEDDED:
        source = "from gancompress.models.embedded import embedded_generator as build"
    else:
        module, _, name = model.partition(":")
        outer, dot, _ = name.partition(".")
        source = f"from {module} import {outer}"
        source += f"\nbuild = {name}" if dot else " as build" if name != "build" else ""
    return (
        f"import gancompress as gc\n{source}\n\n"
        f'small = gc.load(build, "{folder}")  # a plain torch.nn.Module, in eval mode'
    )
