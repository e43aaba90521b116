"""Copies of a generator to run: on fake tensors where the model allows, and cut for trial."""

from __future__ import annotations

import contextlib
import logging
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import _disable_current_modes

from gancompress.modules.calm import Calm
from gancompress.modules.copying import copy_with
from gancompress.modules.nested import map_tensors
from gancompress.modules.undisturbed import preserved

CHANCES = 6
"""Runs of train() where random numbers may decide which layers take part."""
_DRAWS = (0.375, 0.02, 0.98, 0.5, 0.7, 0.2)
"""What torch draws in them."""


class Workbench:
    """Makes copies of a generator to run, on fake tensors where the model allows."""

    def __init__(
        self,
        generator: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        fake: bool,
        exact: bool = True,
    ) -> None:
        self.generator, self.example, self.exact = generator, (args, kwargs), exact
        self.mode = FakeTensorMode(allow_non_fake_inputs=True) if fake else None
        self.passes = [False]
        self.drawn = False
        """Whether the last call drew random numbers that its path may follow."""

    def _convert(self, t: torch.Tensor) -> torch.Tensor:
        if self.mode is None:
            new = t.detach().clone()
        else:
            new = self.mode.from_tensor(t.detach(), static_shapes=True)
        return _as_kind(new, t)

    def inputs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the example inputs for a run."""
        args, kwargs = self.example
        return map_tensors(args, self._convert), map_tensors(kwargs, self._convert)

    def copy(self, keep: Mapping[int, list[np.ndarray | None]] | None = None) -> nn.Module:
        """Return an eval-mode copy; ``keep`` maps id(tensor) to the kept indices by dimension."""

        def replace(t: torch.Tensor) -> torch.Tensor:
            kept = (keep or {}).get(id(t))
            if kept is None or all(k is None for k in kept):
                return self._convert(t)
            if self.mode is None:
                new = t.detach()
                for d, k in enumerate(kept):
                    if k is not None:
                        new = new.index_select(d, torch.from_numpy(k).to(t.device))
            else:
                shape = [n if k is None else len(k) for n, k in zip(t.shape, kept, strict=True)]
                with self.mode:
                    new = torch.empty(shape, dtype=t.dtype, device=t.device)
            # A forward may ask how its weights lie in memory, and must get the same answer.
            with self.mode or contextlib.nullcontext():
                new = new.contiguous(memory_format=_layout(t))
            return _as_kind(new, t)

        twin = copy_with(self.generator, replace)
        twin.eval()  # not chained: some classes override it and return nothing
        return twin

    def call(
        self,
        twin: nn.Module,
        *modes: contextlib.AbstractContextManager[Any],
        begin: Callable[[int], None] = lambda number: None,
        seed: int = 0,
        calm: bool = True,
    ) -> None:
        """Call a copy once for each of ``passes`` (True: in train()), its state carried on.

        The random numbers of each pass are those of ``seed`` and its number; where ``calm``, those
        of train() are left out as by `drawing`.
        """
        examples = [self.inputs() for _ in self.passes]
        with self.running(), contextlib.ExitStack() as stack:
            for mode in modes:
                stack.enter_context(mode)
            for number, (args, kwargs) in enumerate(examples):
                switch(twin, self.passes[number])
                begin(number)
                with self.drawing(seed + number, calm and self.passes[number]):
                    twin(*args, **kwargs)

    @contextlib.contextmanager
    def drawing(self, seed: int, calmly: bool) -> Iterator[None]:
        """Let one pass draw the numbers of ``seed``, and note in ``drawn`` whether it did.

        ``calmly`` leaves out what torch draws, as where cuts are compared in train(): dropout and
        noise follow the channels, whatever they draw.
        """
        random.seed(seed)
        np.random.seed(seed)
        torch.default_generator.manual_seed(seed)  # of the CPU alone, which `running` puts back
        before = _random_states(self.mode is None)
        calm = Calm(_DRAWS[seed % len(_DRAWS)]) if calmly else None
        try:
            with calm or contextlib.nullcontext():
                yield
        finally:
            python, torchs = (
                a != b for a, b in zip(before, _random_states(self.mode is None), strict=True)
            )
            torchs = torchs or (calm is not None and calm.drew)
            # On fake tensors no path can follow what torch draws.
            self.drawn = python or (torchs and self.mode is None)

    @contextlib.contextmanager
    def running(self, *, restore: bool = True) -> Iterator[None]:
        """Run without gradients; random states and what copies share are put back afterwards.

        Without ``restore`` the caller puts back what copies share: after several runs in a row.
        """
        # Trial cuts fail by design; torch would log each failure with its traceback.
        log = logging.getLogger("torch._subclasses.fake_tensor")
        silent = log.disabled
        log.disabled = True
        states = random.getstate(), np.random.get_state()
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)  # one fused operator that no rule can open
        with (
            # First: outside of the fake tensors.
            preserved(self.generator, values=False, beside=True)
            if restore
            else contextlib.nullcontext(),
            torch.random.fork_rng(devices=[]),
            torch.no_grad(),
            self.mode or contextlib.nullcontext(),
            _einops_uncached(),
            moving_nothing(),
        ):
            try:
                yield
            finally:
                log.disabled = silent
                torch.backends.mha.set_fastpath_enabled(fast)
                random.setstate(states[0])
                np.random.set_state(states[1])


def _random_states(real: bool) -> tuple[object, bytes]:
    """Return the states of Python's and NumPy's random numbers, and of torch's where it is real."""
    numpys: Any = np.random.get_state()
    torchs = b""
    if real:
        # Looking is no operator of the forward.
        with _disable_current_modes(), torch._C.DisableTorchFunction():
            torchs = torch.default_generator.get_state().numpy().tobytes()
    return (random.getstate(), numpys[1].tobytes(), numpys[2]), torchs


def switch(twin: nn.Module, training: bool) -> None:
    """Put a copy into train() or eval()."""
    _ = twin.train() if training else twin.eval()  # some classes return nothing


@contextlib.contextmanager
def _einops_uncached() -> Iterator[None]:
    """Let einops work out each shape anew: its cache would mix up sizes that we follow."""
    module, name = sys.modules.get("einops.einops"), "_reconstruct_from_shape"
    cached = getattr(module, name, None)
    if cached is None or not hasattr(cached, "__wrapped__"):
        yield
        return
    setattr(module, name, cached.__wrapped__)
    try:
        yield
    finally:
        setattr(module, name, cached)


@contextlib.contextmanager
def moving_nothing() -> Iterator[None]:
    """Let ``part.to(x.device)`` inside of a forward do nothing where nothing moves.

    On fake tensors torch swaps the parameters for copies, or refuses, as garbage is collected.
    """
    own = nn.Module._apply

    def apply(self: nn.Module, fn: Callable[[torch.Tensor], torch.Tensor], *rest: Any) -> nn.Module:
        held = (*self.parameters(), *self.buffers())
        return self if all(fn(t) is t for t in held) else own(self, fn, *rest)

    nn.Module._apply = apply  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module._apply = own  # type: ignore[method-assign]


def _layout(t: torch.Tensor) -> torch.memory_format:
    for dim, layout in ((4, torch.channels_last), (5, torch.channels_last_3d)):
        if t.dim() == dim and not t.is_contiguous() and t.is_contiguous(memory_format=layout):
            return layout
    return torch.contiguous_format


def _as_kind(new: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
    if isinstance(old, nn.Parameter):
        return nn.Parameter(new, requires_grad=old.requires_grad)
    return new
