"""One writer and one reader a program format; what was written is opened by its own engine."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gancompress.deployment.flat_call import flat_outputs
from gancompress.deployment.program import Program, cause, chain, line_of_operator
from gancompress.deployment.standalone import load_standalone, write_standalone
from gancompress.errors import GraphError
from gancompress.extras import require
from gancompress.modules.nested import tensors_of

Opened = Callable[[Sequence[Tensor]], list[Tensor]]
"""An opened file: tensors of a call, where the generator was, to the tensors of its output."""


def write(name: str, program: Program, file: Path) -> None:
    """Write ``program`` to ``file`` in the program format ``name``.

    Raises:
        GraphError: the format has no such operator; it and the user's line are named.
    """
    with _quietly():
        _WRITERS[name](program, file)


def open_file(name: str, file: Path, program: Program) -> Opened:
    """Return what runs ``file`` in the engine of its format."""
    with _quietly():
        return _READERS[name](file, program)


def _write_onnx(program: Program, file: Path) -> None:
    try:
        made = torch.onnx.export(
            program.exported,
            dynamo=True,
            verbose=False,
            input_names=list(program.inputs),
            output_names=list(program.outputs),
        )
        assert made is not None
        _name_sizes(made.model, program)
        made.save(str(file), external_data=False)
    except Exception as error:
        raise GraphError(_onnx_cause(program, error)) from error


def _name_sizes(model: Any, program: Program) -> None:
    """Call the free sizes ``batch`` and ``x_2`` instead of symbols; equal ones have one name."""
    import onnx_ir

    names: dict[str, str] = {}
    for value, free in zip(model.graph.inputs, program.dims, strict=True):
        for d in sorted(free):
            symbol = str(value.shape[d])
            if symbol and not symbol.isdecimal():
                own = f"{value.name}_{d}".replace(".", "_")
                names.setdefault(symbol, "batch" if d == 0 else own)
    for value in (*model.graph.inputs, *model.graph.outputs):
        for d, size in enumerate(value.shape or ()):
            if (new := names.get(str(size))) is not None:
                value.shape[d] = onnx_ir.SymbolicDim(new)


def _onnx_cause(program: Program, error: Exception) -> str:
    found = list(chain(error))
    for one in found:
        match = re.search(r"op='([\w.:]+)'", str(one))
        if match:
            line = line_of_operator(program.exported, match[1])
            place = f" at {line}" if line else ""
            name = match[1].replace("::", ".")
            return f"ONNX has no operator for {name}{place}. Another format may: --to torch.export"
        match = re.search(r"target=torch\.ops\.([\w.]+)\]", str(one))
        if match and "SymbolicTensor" in str(found[-1]):
            line = line_of_operator(program.exported, match[1])
            return (
                f"ONNX takes a number, and the forward gives {match[1]} the size of an input"
                f"{f' at {line}' if line else ''} (as groups, for one). Fix the batch: "
                "--dynamic none"
            )
    return f"ONNX cannot hold the program: {cause(found[-1])}"


def _open_onnx(file: Path, program: Program) -> Opened:
    runtime = require("onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    # An input that nothing reads is left out of the file.
    wanted = {i.name for i in session.get_inputs()}

    def run(tensors: Sequence[Tensor]) -> list[Tensor]:
        feed = {
            name: t.detach().cpu().numpy()
            for name, t in zip(program.inputs, tensors, strict=True)
            if name in wanted
        }
        return [torch.from_numpy(a) for a in session.run(None, feed)]

    return run


def _write_exported(program: Program, file: Path) -> None:
    torch.export.save(program.exported, str(file))


def _open_exported(file: Path, program: Program) -> Opened:
    module = torch.export.load(str(file)).module(check_guards=False)
    return lambda tensors: flat_outputs(module(*tensors))


def _write_compiled(program: Program, file: Path) -> None:
    try:
        with torch.no_grad():
            torch._inductor.aoti_compile_and_package(program.exported, package_path=str(file))
    except Exception as error:
        raise GraphError(f"AOTInductor cannot compile the program: {cause(error)}") from error


def _open_compiled(file: Path, program: Program) -> Opened:
    module = torch._inductor.aoti_load_package(str(file))
    return lambda tensors: flat_outputs(module(*tensors))


def _write_standalone(program: Program, file: Path) -> None:
    write_standalone(file, program.source, program)


def _open_standalone(file: Path, program: Program) -> Opened:
    module = load_standalone(file)
    return lambda tensors: tensors_of(module(*(t.cpu() for t in tensors)))


_WRITERS = {
    "onnx": _write_onnx,
    "torch.export": _write_exported,
    "aoti": _write_compiled,
    "standalone": _write_standalone,
}
_READERS = {
    "onnx": _open_onnx,
    "torch.export": _open_exported,
    "aoti": _open_compiled,
    "standalone": _open_standalone,
}


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Let exporters neither chat on stdout, which is ours for results, nor warn or log."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
