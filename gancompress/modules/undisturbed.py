"""Running a network without leaving a trace: one snapshot of its state, and thin ways to use it.

The state of a network is more than its buffers: attributes that a forward binds anew, lists, dicts
and helper objects behind attributes, counters of its classes, random number generators. Whatever
runs somebody else's forward goes through this file.

========================  ======  ====================  ==========================================
use                       mode    random states         for
========================  ======  ====================  ==========================================
`preserved`               as is   the module's own      any block that may change a network
`evaluating`              eval    the module's own      sampling, measuring
`undisturbed`             chosen  all of the process    tracing, comparing, trying
`look`, `traceless`       eval,   all, the module's     one forward; `traceless` keeps autograd
                          as is   own
`BufferGuard`             -       -                     undoing a training step that went wrong
========================  ======  ====================  ==========================================
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode

from gancompress.modules.snapshot import Snapshot, same_items


@contextmanager
def preserved(*modules: nn.Module, values: bool = True, beside: bool = False) -> Iterator[None]:
    """Run the body, and put the modules' state back afterwards; see `Snapshot` (ours)."""
    before = Snapshot(*modules, values=values, beside=beside)
    try:
        yield
    finally:
        before.restore()


@contextmanager
def evaluating(module: nn.Module) -> Iterator[nn.Module]:
    """Switch ``module`` to eval mode, and put its state back on leaving, each part's mode too.

    Restoring by ``module.train()`` alone would also thaw parts that the user keeps in eval mode.
    """
    with preserved(module):
        module.eval()
        yield module


class BufferGuard:
    """Remembers the state of some modules, to undo a forward pass that went wrong.

    A forward pass in training mode writes norm statistics and spectral vectors before any loss is
    known; skipping the optimiser step alone would leave NaN there. Kept from step to step and
    renewed, it copies all of them at once, into memory that it has (ours).
    """

    def __init__(self, *modules: nn.Module) -> None:
        self._modules = modules
        self._values: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.renew()

    @torch.no_grad()
    def renew(self) -> None:
        """Remember the state as it is now."""
        # In every training step, so lighter than a Snapshot: what attributes hold, not what lies
        # behind them.
        parts = list(dict.fromkeys(part for module in self._modules for part in module.modules()))
        self._attributes = [(vars(part), dict(vars(part))) for part in parts]
        self._buffers = [(part._buffers, dict(part._buffers)) for part in parts if part._buffers]
        found = {id(b): b for _, held in self._buffers for b in held.values() if b is not None}
        known, self._values = self._values, {}
        into: list[torch.Tensor] = []
        from_: list[torch.Tensor] = []
        for key, buffer in found.items():
            own, saved = known.get(key, (None, buffer))
            # Not by torch's count of writes: much code writes to ``.data``, which is not counted.
            if own is buffer and _alike(saved, buffer):
                into.append(saved)
                from_.append(buffer.detach())
            else:
                saved = buffer.detach().clone()
            self._values[key] = (buffer, saved)
        if into:
            torch._foreach_copy_(into, from_)

    @torch.no_grad()
    def restore(self) -> None:
        """Put the remembered state back."""
        for store, held in (*self._attributes, *self._buffers):
            if not same_items(list(store.values()), list(held.values())):
                store.clear()
                store.update(held)
        for buffer, saved in self._values.values():
            buffer.copy_(saved)


def _alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    return (a.shape, a.dtype, a.device) == (b.shape, b.dtype, b.device)


def traceless(
    module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None
) -> Any:
    """Call ``module(*args, **kwargs)`` on copies of its buffers and return the output (ours).

    Its state stays as it was; the mode (train or eval) and autograd are the caller's. Hooks run.
    """
    # Swapped, not restored in place: the backward of an earlier forward may still need the buffers.
    buffers = {name: value.clone() for name, value in module.named_buffers()}
    with preserved(module):
        return functional_call(module, buffers, args, dict(kwargs or {}))


def look(
    module: nn.Module, example: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None
) -> Any:
    """Return ``module(*example, **kwargs)`` in eval mode, without gradient or side effects (ours).

    The random state of the process is left as it was.
    """
    with undisturbed(module):
        return traceless(module, example, kwargs)


def generators(module: nn.Module) -> list[Any]:
    """Return the random number generators that a module and its parts keep as attributes."""
    kinds = (torch.Generator, random.Random, np.random.Generator, np.random.RandomState)
    return [v for part in module.modules() for v in vars(part).values() if isinstance(v, kinds)]


class _BeforeWrite(TorchDispatchMode):
    """Copies a parameter just before something writes into it: most are never written to."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._watched = {
            p.untyped_storage()._cdata: p.data for p in module.parameters()
            if not p.is_meta and p.layout == torch.strided
        }  # fmt: skip
        self._saved: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func._schema.is_mutable:
            for i, argument in enumerate(func._schema.arguments):
                if argument.alias_info is not None and argument.alias_info.is_write:
                    value = args[i] if i < len(args) else kwargs.get(argument.name)
                    for t in value if isinstance(value, list | tuple) else (value,):
                        self._save(t)
        return func(*args, **kwargs)

    def _save(self, t: Any) -> None:
        if isinstance(t, torch.Tensor) and t.layout == torch.strided:
            found = self._watched.pop(t.untyped_storage()._cdata, None)
            if found is not None:
                self._saved.append((found, found.clone()))

    def restore(self) -> None:
        for data, old in self._saved:
            data.copy_(old)


@contextmanager
def undisturbed(module: nn.Module, *, training: bool = False) -> Iterator[None]:
    """Run the body with ``module`` in eval mode (or in train mode) and no gradients (ours).

    Afterwards the module's state is what it was (see `Snapshot`), values of parameters included,
    with what its code keeps beside it: other numbers than the user's may go through it here. So are
    Python's, NumPy's and torch's random states, with those of accelerators in use.
    """
    states = random.getstate(), np.random.get_state()
    cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
    devices = list(range(torch.cuda.device_count())) if cuda else []
    writes = _BeforeWrite(module)
    try:
        fork = torch.random.fork_rng(devices=devices)
        with preserved(module, beside=True), fork, torch.no_grad():
            _ = module.train() if training else module.eval()
            with writes:
                yield
    finally:
        with torch.no_grad():
            writes.restore()
        random.setstate(states[0])
        np.random.set_state(states[1])
