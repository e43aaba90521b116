"""A forward pass that stops wherever a fixed weight meets an activation, and before norms."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.graph.tracer import UNSTEADY, VIEWS
from gancompress.modules.dispatch import Watch, parts_of
from gancompress.modules.nested import map_tensors, tensors_of

CONTRACTIONS = {"convolution", "mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot", "vdot"}
"""Operators that read channels; those of a forward are counted in the order in which they run."""

_SILENT = VIEWS | UNSTEADY | {"_unsafe_view", "reshape", "_reshape_alias"}
_LOCAL = threading.local()


@dataclass
class Contraction:
    """A walk stands at an operator that multiplies an activation with a fixed weight.

    Attributes:
        number: of the operator among all `CONTRACTIONS` of the forward.
        func: the operator, and ``args`` what it is called with.
        path: of the module that runs.
        x: the activation; ``w`` the weight as it is used; ``bias`` that is added to the product.
        out: what it puts out; ``None`` before it ran.
        added: the tensor that ``out`` will be added to, if known, and ``factor`` of ``out`` there.
    """

    number: int
    func: Any
    args: list[Any]
    path: str
    x: Tensor
    w: Tensor
    bias: Tensor | None
    out: Tensor | None = None
    added: Tensor | None = None
    factor: float = 1.0


@dataclass
class NormInput:
    """A walk stands before a module that normalises by stored statistics."""

    path: str
    x: Tensor


@dataclass(frozen=True)
class Sum:
    """The output of a contraction, ``factor`` times, is added to the tensor born as ``other``."""

    other: int
    factor: float


@dataclass
class Note:
    """What a walk knows of one tensor: the step that made it, and the contraction behind it."""

    born: int
    source: int | None = None
    factor: float = 1.0


class Stopped(BaseException):
    """Ends a walk that nobody goes on with."""


class Walk:
    """One forward pass in a thread of its own; only one walk runs at a time (ours).

    A walk keeps a random state of its own, so that walks of equal seed draw the same numbers.

    Args:
        network: in eval mode.
        call: positional and keyword arguments.
        names: names of parameters and buffers by id.
        ask: stop before a contraction runs, and let `advance` give its arguments.
        norms: paths of modules to stop before.
        sums: what is known of sums, by number of the contraction.
        seed: of the random numbers.

    ``result`` is what the forward returned, in the end.
    """

    def __init__(
        self,
        network: nn.Module,
        call: tuple[tuple[Any, ...], Mapping[str, Any]],
        *,
        ask: bool,
        norms: Mapping[int, str],
        paths: Mapping[int, str],
        sums: Mapping[int, Sum],
        seed: int,
    ) -> None:
        self.network, self.call, self.ask = network, call, ask
        self.norms, self.paths, self.sums = norms, paths, sums
        self.mode = _Stops(self)
        self._state = torch.Generator().manual_seed(seed).get_state()
        self._go, self._came = threading.Semaphore(0), threading.Semaphore(0)
        self._event: Contraction | NormInput | None = None
        self._answer: Any = None
        self._error: BaseException | None = None
        self.result: Any = None
        self._closed = False
        self._thread: threading.Thread | None = None

    def advance(self, answer: Any = None) -> Contraction | NormInput | None:
        """Go on to the next stop and return it; ``None`` at the end.

        Raises:
            Exception: what the forward raised.
        """
        before = torch.random.get_rng_state()
        torch.random.set_rng_state(self._state)
        self._event, self._answer = None, answer
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        else:
            self._go.release()
        self._came.acquire()
        self._state = torch.random.get_rng_state()
        torch.random.set_rng_state(before)
        if self._error is not None:
            raise self._error
        return self._event

    def close(self) -> None:
        """End the forward wherever it stands."""
        if self._thread is None:
            return
        self._closed = True
        self._go.release()
        self._thread.join()
        self._thread = None

    def stop(self, event: Contraction | NormInput) -> Any:
        """Hand ``event`` to the caller of `advance`, wait, and return its next answer."""
        self._event = event
        self._came.release()
        self._go.acquire()
        if self._closed:
            raise Stopped
        answer, self._answer = self._answer, None
        return answer

    def _run(self) -> None:
        _LOCAL.walk = self
        try:
            # The notes are of this walk: not on the tensors that another one is given as well.
            args, kwargs = map_tensors((self.call[0], dict(self.call[1])), Tensor.detach)
            for t in tensors_of((args, kwargs)):
                self.mode.moving.add(t, Note(0))
            with torch.no_grad(), self.mode:
                self.result = self.network(*args, **kwargs)
        except Stopped:
            return
        except BaseException as error:
            self._error = error
        self._event = None
        self.mode.forget()
        self._came.release()


def enter_module(module: nn.Module, args: Any) -> None:
    """Forward pre-hook of every module: keep the path, and stop before a norm."""
    walk: Walk | None = getattr(_LOCAL, "walk", None)
    if walk is None or id(module) not in walk.paths:
        return
    walk.mode.stack.append(walk.paths[id(module)])
    if id(module) in walk.norms and args and isinstance(args[0], Tensor):
        walk.stop(NormInput(walk.norms[id(module)], args[0]))


def leave_module(module: nn.Module, args: Any, out: Any) -> None:
    """Forward hook of every module."""
    walk: Walk | None = getattr(_LOCAL, "walk", None)
    if walk is not None and id(module) in walk.paths and walk.mode.stack:
        walk.mode.stack.pop()


class _Notes:
    """Notes on tensors that live exactly as long as the tensors."""

    def add(self, t: Tensor, note: Note) -> None:
        vars(t)["_gancompress_note"] = note

    def get(self, t: Any) -> Note | None:
        return vars(t).get("_gancompress_note") if isinstance(t, Tensor) else None


@dataclass
class Made:
    """How a tensor that depends on parameters alone was made: enough to make it again."""

    func: Any
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    place: int


def made_by(t: Tensor) -> Made | None:
    """Return how ``t`` was made from parameters, ``None`` where it was not."""
    return vars(t).get("_gancompress_made")


@dataclass
class _Found:
    """Sums seen so far, and how often each contraction's output was used."""

    sums: dict[int, Sum] = field(default_factory=dict[int, Sum])
    born: dict[int, int] = field(default_factory=dict[int, int])
    uses: dict[int, int] = field(default_factory=dict[int, int])


class _Stops(Watch):
    """Follows which tensors depend on the inputs, and stops where one meets a weight."""

    def __init__(self, walk: Walk) -> None:
        super().__init__()
        self.walk = walk
        self.moving = _Notes()
        self.stack: list[str] = []
        self.number = -1
        self.born = 0
        self.found = _Found()
        self._wanted = {s.other for s in walk.sums.values()}
        self._kept: dict[int, tuple[Tensor, int]] = {}

    def forget(self) -> None:
        self._kept = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if (parts := parts_of(func)) is not None:
            with self:
                return parts(*args, **kwargs)
        name = func._schema.name.split("::")[-1]
        notes = [n for t in tensors_of((args, kwargs)) if (n := self.moving.get(t)) is not None]
        if name not in _SILENT:
            self.born += 1
        event = None
        if name in CONTRACTIONS:
            self.number += 1
            event = self._event(func, name, args)
            if event is not None and self.walk.ask:
                answer = self.walk.stop(event)
                args = event.args if answer is None else answer
        out = func(*args, **kwargs)
        self._remember(name, args, kwargs, out, notes, func)
        if event is not None:
            for t in tensors_of(out):
                self.moving.add(t, Note(self.born, event.number))
            self.found.born[event.number] = self.born
            if not self.walk.ask:
                event.out = out
                self.walk.stop(event)
        return out

    def _remember(
        self, name: str, args: Any, kwargs: Any, out: Any, notes: Sequence[Note], func: Any
    ) -> None:
        made = tensors_of(out)
        for note in notes:
            if note.source is not None:
                self.found.uses[note.source] = self.found.uses.get(note.source, 0) + 1
        if not notes:
            given = {id(t) for t in tensors_of((args, kwargs))}
            for place, t in enumerate(made):
                if id(t) not in given:
                    vars(t)["_gancompress_made"] = Made(func, args, kwargs, place)
            return
        note = self._scaled(name, args) or Note(self.born)
        self._see_sum(name, args, kwargs)
        silent = name in _SILENT
        for t in made:
            self.moving.add(t, Note(notes[0].born) if silent else note)
            if not silent and self.born in self._wanted:
                self._kept[self.born] = (t, t._version)

    def _scaled(self, name: str, args: Any) -> Note | None:
        """Follow a contraction's output through a multiplication by a number."""
        if name not in ("mul", "mul_") or len(args) != 2:
            return None
        note = self.moving.get(args[0])
        factor = args[1]
        if isinstance(factor, Tensor) and factor.numel() == 1 and self.moving.get(factor) is None:
            factor = float(factor)
        if note is None or note.source is None or not isinstance(factor, int | float):
            return None
        self.found.uses[note.source] -= 1
        return Note(self.born, note.source, note.factor * float(factor))

    def _see_sum(self, name: str, args: Any, kwargs: Any) -> None:
        if name not in ("add", "add_") or len(args) < 2 or kwargs.get("alpha", 1) != 1:
            return
        one, two = self.moving.get(args[0]), self.moving.get(args[1])
        if one is None or two is None or args[0].shape != args[1].shape:
            return
        for note, other in ((one, two), (two, one)):
            if note.source is not None and other.born < self.found.born[note.source]:
                self.found.sums[note.source] = Sum(other.born, note.factor)

    def _event(self, func: Any, name: str, args: Any) -> Contraction | None:
        """Return the stop at an operator with one fixed operand, None at any other."""
        if name == "convolution":
            x, w, bias = args[0], args[1], args[2]
        elif name == "mm":
            x, w, bias = args[0], args[1], None
        elif name == "addmm":
            x, w, bias = args[1], args[2], args[0]
        else:
            return None
        if self.moving.get(x) is None and name != "convolution":
            x, w = w, x
        if self.moving.get(x) is None or self.moving.get(w) is not None:
            return None
        path = self.stack[-1] if self.stack else ""
        event = Contraction(self.number, func, list(args), path, x, w, bias)
        known = self.walk.sums.get(self.number)
        if known is not None and known.other in self._kept:
            kept, version = self._kept.pop(known.other)
            if kept._version == version:
                event.added, event.factor = kept, known.factor
        return event


def sums_of(walk: Walk) -> dict[int, Sum]:
    """Return which contractions of a finished walk put out nothing but one summand of a sum."""
    found = walk.mode.found
    return {k: s for k, s in found.sums.items() if found.uses.get(k) == 1}


def run_through(walk: Walk, see: Callable[[Contraction | NormInput], None]) -> None:
    """Go through a walk to its end, showing every stop."""
    while (event := walk.advance()) is not None:
        see(event)
