"""Watching a run: every operator that puts out tensors, one after another."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gancompress.modules.nested import tensors_of


class Watch(TorchDispatchMode):
    """Shows every operator to ``see`` after it ran (ours).

    Operators made of others are shown as those, in inference mode too.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if (parts := parts_of(func)) is not None:
            with self:
                return parts(*args, **kwargs)
        out = func(*args, **kwargs)
        if tensors_of(out):
            self.see(func, args, kwargs, out)
        return out

    def see(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> None:
        """Take note of one operator; ``out`` holds at least one tensor."""
        raise NotImplementedError


@functools.cache
def parts_of(func: Any) -> Callable[..., Any] | None:
    """Return what runs an operator as those it is made of, None where it is made of none.

    In inference mode such operators arrive at a dispatch mode whole.
    """
    key = torch._C.DispatchKey.CompositeImplicitAutograd
    known = func.namespace != "prim"  # these stand outside of the dispatcher
    if not known or not torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), key.name):
        return None
    # Not func.decompose: that prefers decompositions in Python, which no forward runs.
    return functools.partial(func._op_dk, key)
