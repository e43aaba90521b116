"""Run a float32 network in float64 without a float64 copy of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

_LOW = (torch.float32, torch.float16, torch.bfloat16)
_METADATA = {
    "size", "dim", "numel", "stride", "is_contiguous", "is_floating_point", "is_complex", "__len__",
    "data_ptr", "requires_grad_", "register_hook", "element_size", "untyped_storage", "get_device",
    "nelement", "storage_offset", "_is_view", "has_names",
}  # fmt: skip
_PROPERTIES_WITH_DATA = ("data", "T", "mT", "H", "mH", "real", "imag", "dtype")


class Float64(TorchFunctionMode):
    """Upcasts every floating-point operand as it is used: memory stays that of one layer (ours).

    ``stand_in`` maps id(parameter) to a function that makes the tensor to use in its place.
    """

    def __init__(self, stand_in: Mapping[int, Callable[[], torch.Tensor]] | None = None) -> None:
        super().__init__()
        self._stand_in = stand_in or {}

    def _up(self, x: Any) -> Any:
        if isinstance(x, torch.dtype):
            return torch.float64 if x in _LOW else x
        if not isinstance(x, torch.Tensor):
            return x
        made = self._stand_in.get(id(x))
        if made is not None:
            return made().double()
        return x.double() if x.dtype in _LOW else x

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").split(".")[0]  # an operator's ends in its overload
        if name == "__get__":
            owner = getattr(getattr(func, "__self__", None), "__name__", "")
            if owner not in _PROPERTIES_WITH_DATA:
                return func(*args, **kwargs)
        elif name in _METADATA:
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
        else:
            args = tree_map(self._up, tuple(args))
        out = func(
            *args, **{k: v if k == "out" else tree_map(self._up, v) for k, v in kwargs.items()}
        )
        if writes:
            return out
        return tree_map(lambda t: self._up(t) if isinstance(t, torch.Tensor) else t, out)
