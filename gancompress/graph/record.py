"""The recorded run: every operator goes through its rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from gancompress.graph.rules import apply_rule
from gancompress.graph.tracer import (
    VIEWS,
    Op,
    OpRecord,
    Tracer,
    scalars_of,
    steady_name,
    unsteady,
)
from gancompress.modules.dispatch import Watch
from gancompress.modules.user_line import user_frame


class DataMode(TorchFunctionMode):
    """Follows ``tensor.data = value``, which is no operator."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self.tracer = tracer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func == torch.Tensor.data.__set__:  # type: ignore[attr-defined]
            self.tracer.replace_data(args[0], args[1], user_frame())
        return out


class RecordMode(Watch):
    """Applies the operator rules to everything that runs under it."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self.tracer = tracer

    def see(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> None:
        """Apply the rule of one operator."""
        op = Op(self.tracer, func, args, kwargs, out)
        inputs = [self.tracer.dims(t) for t in op.ins]
        static = all(self.tracer.info(t).static for t in op.ins)
        self._refuse_rewrites(op)
        self.tracer.use(op.ins, op.outs if op.name in VIEWS else ())
        outputs = apply_rule(op)
        for tensor, dims in zip(op.outs, outputs, strict=True):
            self.tracer.remember(tensor, dims, static)
        if unsteady(op.name, op.args):
            return
        shapes = [tuple(t.shape) for t in op.outs]
        path = self.tracer.module
        counted = self.tracer.count_attribute.get(path, "")
        self.tracer.ops.append(
            OpRecord(
                steady_name(op.name),
                op.where,
                path,
                inputs,
                outputs,
                shapes,
                op.counts,
                counted,
                op.pins,
                scalars_of(func, args, kwargs),
                static,
                tuple(op.args[3:9]) if "convolution" in op.name and len(op.args) > 8 else (),
            )  # fmt: skip
        )

    def _refuse_rewrites(self, op: Op) -> None:
        """Keep the channels of a parameter that the forward writes into."""
        for argument, value in zip(op.func._schema.arguments, op.args, strict=True):
            writes = argument.alias_info is not None and argument.alias_info.is_write
            if writes and isinstance(value, torch.Tensor):
                original = self.tracer.parameter_of(value)
                if original is not None:
                    op.freeze(self.tracer.dims(original), "the forward rewrites this parameter")
                    op.freeze(self.tracer.dims(value), "the forward rewrites this parameter")
