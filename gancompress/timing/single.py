"""One operator alone, in the engine that is asked for: what the cost table is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional

from gancompress.extras import require
from gancompress.target import Setting
from gancompress.timing.clock import Call
from gancompress.timing.work import Kind

_OPSET, _IR = 17, 8


def single(kind: Kind, reads: int, writes: int, setting: Setting) -> Call:
    """Return a call that does one operator of ``kind`` on random numbers.

    A compiled network calls the same convolutions and products as an eager one.

    Args:
        kind: of the operator.
        reads: channels in; of a pass, the numbers it puts out.
        writes: channels out.
        setting: device and engine.
    """
    if setting.engine == "onnxruntime":
        return _in_onnxruntime(kind, reads, writes, setting)
    x, weight = _operands(kind, reads, writes, setting.device)
    if kind.name == "pass":
        return _quiet(lambda: functional.relu(x))
    if kind.name == "product":
        return _quiet(lambda: functional.linear(x, weight))
    groups = kind.groups or reads
    if kind.transposed:
        back: Any = getattr(functional, f"conv_transpose{len(kind.kernel)}d")
        return _quiet(
            lambda: back(
                x, weight, None, kind.stride, kind.padding, kind.output_padding, groups,
                kind.dilation,
            )
        )  # fmt: skip
    conv: Any = getattr(functional, f"conv{len(kind.kernel)}d")
    return _quiet(lambda: conv(x, weight, None, kind.stride, kind.padding, kind.dilation, groups))


def _quiet(call: Call) -> Call:
    def run() -> object:
        with torch.inference_mode():
            return call()

    return run


def _operands(
    kind: Kind, reads: int, writes: int, device: str
) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=rng).to(device)

    if kind.name == "pass":
        return draw(max(reads, 1)), draw(1)
    if kind.name == "product":
        return draw(kind.n, reads), draw(writes, reads)
    groups = kind.groups or reads
    shape = (reads, writes // groups) if kind.transposed else (writes, reads // groups)
    return draw(kind.n, reads, *kind.space), draw(*shape, *kind.kernel)


def providers(device: str) -> list[str]:
    """Return onnxruntime's name of what computes on ``device``."""
    return ["CUDAExecutionProvider" if device.startswith("cuda") else "CPUExecutionProvider"]


def session(model: bytes, setting: Setting) -> Any:
    """Open an ONNX model on as many threads as torch uses."""
    runtime = require("onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return runtime.InferenceSession(model, options, providers=providers(setting.device))


def _in_onnxruntime(kind: Kind, reads: int, writes: int, setting: Setting) -> Call:
    onnx = require("onnx", "onnx")
    x, weight = _operands(kind, reads, writes, "cpu")
    names, attributes = _node(kind, reads)
    if names == "MatMul":
        weight = weight.t().contiguous()
    inputs = ["x"] if names == "Relu" else ["x", "w"]
    make = onnx.helper
    node = make.make_node(names, inputs, ["y"], **attributes)
    given = make.make_tensor_value_info("x", onnx.TensorProto.FLOAT, list(x.shape))
    out = make.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    held = [] if names == "Relu" else [onnx.numpy_helper.from_array(weight.numpy(), "w")]
    graph = make.make_graph([node], "one", [given], [out], held)
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", _OPSET)], ir_version=_IR)
    opened, feed = session(model.SerializeToString(), setting), {"x": x.numpy()}
    return lambda: opened.run(None, feed)


def _node(kind: Kind, reads: int) -> tuple[str, Mapping[str, Any]]:
    if kind.name != "conv":
        return ("Relu" if kind.name == "pass" else "MatMul"), {}
    common = {
        "kernel_shape": list(kind.kernel),
        "strides": list(kind.stride),
        "pads": [*kind.padding, *kind.padding],
        "dilations": list(kind.dilation),
        "group": kind.groups or reads,
    }
    if kind.transposed:
        return "ConvTranspose", {**common, "output_padding": list(kind.output_padding)}
    return "Conv", common
