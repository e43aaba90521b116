"""A second device that is not there: tells where a program would copy to one, or wait for it.

Every tensor counts as lying on it but those that are born on the host: made by a factory without a
device, from NumPy, with a generator of the CPU's, or fetched by ``cpu()``; and what is made of
those alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

WAITS = {
    "item", "tolist", "numpy", "__bool__", "__int__", "__float__", "__index__", "__array__",
    "nonzero", "masked_select", "unique", "bincount", "is_nonzero", "equal", "allclose",
}  # fmt: skip
BORN = {
    "rand", "randn", "randint", "randperm", "tensor", "from_numpy", "zeros", "ones", "empty",
    "arange", "as_tensor", "frombuffer", "eye", "linspace", "full",
}  # fmt: skip
PACKAGE = "/gancompress/"


def on_host(tensor: Tensor) -> Tensor:
    """Return ``tensor`` as one of the host's."""
    found = tensor.view_as(tensor)
    found._host = True  # type: ignore[attr-defined]
    return found


class SecondDevice(TorchFunctionMode):
    """While entered, ``events`` gets (step, ``wait`` | ``copy`` | ``mix``, function, place)."""

    def __init__(self) -> None:
        super().__init__()
        self.step = 0
        self.events: list[tuple[int, str, str, str]] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        given = list(_tensors((args, kwargs)))
        host = [t for t in given if getattr(t, "_host", False)]
        out = func(*args, **kwargs)
        if name in ("__get__", "size", "dim", "stride", "numel"):
            return _born(out) if given and len(host) == len(given) else out
        if name in BORN and not given:
            return out if kwargs.get("device") is not None else _born(out)
        if len(host) == len(given) and given:
            if name == "to" and _moves(args, kwargs):
                self._note("copy", name)
                return out.view_as(out)
            return _born(out)
        if name in WAITS or (name in ("__getitem__", "__setitem__") and _selects(args)):
            self._note("wait", name)
        elif name == "cpu":
            self._note("wait", name)
            return on_host(out)
        elif any(t.ndim for t in host):
            copies = name in ("copy_", "__getitem__", "__setitem__", "index_select")
            self._note("copy" if copies else "mix", name)
        return out

    def _note(self, kind: str, name: str) -> None:
        self.events.append((self.step, kind, name, _place()))


def _place() -> str:
    frame: Any = sys._getframe(2)
    while frame is not None and PACKAGE not in frame.f_code.co_filename:
        frame = frame.f_back
    if frame is None:
        return "outside"
    return f"{Path(frame.f_code.co_filename).stem}:{frame.f_code.co_name}"


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _born(out: Any) -> Any:
    for tensor in _tensors(out):
        tensor._host = True  # type: ignore[attr-defined]
    return out


def _moves(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    named = [*args[1:], kwargs.get("device"), kwargs.get("other")]
    return any(isinstance(a, torch.device | str | Tensor) for a in named)


def _selects(args: tuple[Any, ...]) -> bool:
    """Whether an index is a table of truth values, whose size the host must know."""
    return any(t.dtype == torch.bool for t in _tensors(args[1:2]))
