"""Run a float32 network in float64 without a float64 copy of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

_LOW = (torch.float32, torch.float16, torch.bfloat16)
_WIDE = {**dict.fromkeys(_LOW, torch.float64), torch.complex64: torch.complex128,
         torch.complex32: torch.complex128}  # fmt: skip
_METADATA = {
    "size", "dim", "numel", "stride", "is_contiguous", "is_floating_point", "is_complex", "__len__",
    "data_ptr", "requires_grad_", "register_hook", "element_size", "untyped_storage", "get_device",
    "nelement", "storage_offset", "_is_view", "has_names",
}  # fmt: skip
_PROPERTIES_WITH_DATA = ("data", "T", "mT", "H", "mH", "real", "imag", "dtype")

_UNFOLDED = 2**25  # bytes
# These only look at the same numbers in another way: what they return is upcast where it is used.
_VIEWS = {
    "flatten", "view", "reshape", "permute", "transpose", "t", "squeeze", "unsqueeze",
    "expand", "unflatten", "movedim", "view_as", "expand_as",
}  # fmt: skip
# These write statistics to tensors that they are handed, which must not end in an upcast copy.
_TRACKING = ("batch_norm", "instance_norm")
_SCALES = {
    "mul": "mul_", "__mul__": "mul_", "multiply": "mul_",
    "div": "div_", "__truediv__": "div_", "true_divide": "div_", "divide": "div_",
}  # fmt: skip


class Float64(TorchFunctionMode):
    """Upcasts every floating-point operand as it is used: memory stays that of one layer (ours).

    ``stand_in`` maps id(parameter) to a function that makes the tensor to use in its place. A
    forward that asks for a dtype is told ``seen_as`` for float64: it may assert its own.
    """

    def __init__(
        self,
        stand_in: Mapping[int, Callable[[], torch.Tensor]] | None = None,
        seen_as: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self._stand_in = stand_in or {}
        self._seen_as = seen_as

    def _up(self, x: Any) -> Any:
        if isinstance(x, torch.dtype):
            return _WIDE.get(x, x)
        if not isinstance(x, torch.Tensor):
            return x
        made = self._stand_in.get(id(x))
        if made is not None:
            return made().double()
        return widened(x)

    def _scaled(self, how: str, x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        """Multiply or divide a large low-precision tensor, with as few copies of it as can be."""
        made = self._stand_in.get(id(x))
        if how == "mul_" and id(factor) not in self._stand_in and _is_gate(factor):
            # Zeros and ones are exact in any precision: the product is upcast where it is used.
            raw = x if made is None else made()
            return raw * factor.to(raw.dtype)
        # The operand made here is nobody else's, so it is scaled in place.
        return getattr(self._up(x), how)(self._up(factor))

    def _hand_back(self, given: Any, used: Any) -> None:
        """Write what a norm did to upcast copies of its statistics to the statistics themselves."""
        for x, y in zip(tree_leaves(given), tree_leaves(used), strict=True):
            if not isinstance(x, torch.Tensor) or isinstance(x, nn.Parameter) or x.dim() != 1:
                continue
            if y is not x and id(x) not in self._stand_in and not torch.equal(x.double(), y):
                x.copy_(y)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = (args, kwargs)
        name = getattr(func, "__name__", "").split(".")[0]  # an operator's ends in its overload
        if name == "__get__":
            owner = getattr(getattr(func, "__self__", None), "__name__", "")
            if owner == "dtype" and self._seen_as is not None:
                own = func(*args, **kwargs)
                return self._seen_as if own == torch.float64 else own
            if owner not in _PROPERTIES_WITH_DATA:
                return func(*args, **kwargs)
        elif name in _METADATA or (name in _VIEWS and args and id(args[0]) not in self._stand_in):
            return func(*args, **kwargs)
        elif name == "__set__" and getattr(func.__self__, "__name__", "") == "data":
            # What a forward writes to `parameter.data` must be read again, so nothing can stand in.
            raise RuntimeError("the forward rewrites a parameter: run a float64 copy")
        writes = (name.endswith("_") and not name.endswith("__")) or name in (
            "__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__",
        )  # fmt: skip
        if writes and args and isinstance(args[0], torch.Tensor):
            # What is written to keeps its own storage.
            args = (args[0], *tree_map(self._up, tuple(args[1:])))
        elif name in _SCALES and len(args) == 2 and not kwargs and _fits(*args):
            return self._scaled(_SCALES[name], *args)
        else:
            args = tree_map(self._up, tuple(args))
        if name == "conv2d":
            func = _conv2d
        kwargs = {k: v if k == "out" else tree_map(self._up, v) for k, v in kwargs.items()}
        out = func(*args, **kwargs)
        if any(norm in name for norm in _TRACKING):
            self._hand_back(given, (args, kwargs))
        if writes:
            return out
        return tree_map(lambda t: self._up(t) if isinstance(t, torch.Tensor) else t, out)


def widened(t: torch.Tensor) -> torch.Tensor:
    """Return ``t`` in float64 or complex128; whole numbers as they are."""
    if t.dtype in _WIDE:
        return t.to(_WIDE[t.dtype])
    return t.double() if t.is_floating_point() else t  # eight bits


def _fits(x: Any, factor: Any) -> bool:
    """Whether ``x`` is to be upcast, and scaling it by ``factor`` keeps its shape."""
    return (
        isinstance(x, torch.Tensor)
        and isinstance(factor, torch.Tensor)
        and x.dtype in _LOW
        and not factor.is_complex()
        and factor.numel() <= x.numel()
        and torch.broadcast_shapes(x.shape, factor.shape) == x.shape
    )


def _is_gate(factor: torch.Tensor) -> bool:
    return factor.is_floating_point() and bool(((factor == 0) | (factor == 1)).all())


def _conv2d(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *args: Any,
    **kw: Any,
) -> torch.Tensor:
    """Convolve a few input channels at a time where the float64 kernel would unfold a huge copy."""
    groups = kw.get("groups", args[3] if len(args) > 3 else 1)
    unfolded = input.numel() * weight.shape[2:].numel() * input.element_size()
    parts = min(-(-unfolded // _UNFOLDED), input.shape[-3])
    if parts < 2 or groups != 1 or input.device.type != "cpu":
        return torch.conv2d(input, weight, bias, *args, **kw)
    pieces = zip(input.chunk(parts, -3), weight.chunk(parts, 1), strict=True)
    out = torch.conv2d(*next(pieces), bias, *args, **kw)
    for some, reading in pieces:
        out += torch.conv2d(some, reading, None, *args, **kw)
    return out
