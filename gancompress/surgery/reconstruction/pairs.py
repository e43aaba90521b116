"""Teacher and student side by side: both stand at the same operator, on every batch of inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from gancompress.errors import GraphError
from gancompress.modules.nested import tensors_of
from gancompress.modules.undisturbed import undisturbed
from gancompress.surgery.raw_tensors import raw_tensors
from gancompress.surgery.reconstruction.express import sources_of
from gancompress.surgery.reconstruction.options import Call
from gancompress.surgery.reconstruction.statistics import stored_norms
from gancompress.surgery.reconstruction.walk import (
    Contraction,
    NormInput,
    Sum,
    Walk,
    enter_module,
    leave_module,
    run_through,
    sums_of,
)


@dataclass
class Step:
    """One batch: where the student stands, and where the teacher does."""

    ours: Any
    theirs: Any


class Walks:
    """Walks of one network over all batches, kept in step; it has our hooks meanwhile (ours).

    Args:
        network: in eval mode.
        calls: positional and keyword arguments of each batch.
        seed: of the random numbers that a forward draws.
        ask: stop before contractions, not after them.
    """

    def __init__(
        self, network: nn.Module, calls: Sequence[Call], *, seed: int, ask: bool = False
    ) -> None:
        self.network, self.calls = network, calls
        self._seed, self._ask = seed, ask
        self._walks: list[Walk] = []
        self._hooks: list[Any] = []
        self.sums: Mapping[int, Sum] = {}
        self.found: Mapping[int, Sum] = {}

    def __enter__(self) -> Walks:
        for module in self.network.modules():
            self._hooks.append(module.register_forward_pre_hook(enter_module))
            self._hooks.append(module.register_forward_hook(leave_module))
        return self

    def __exit__(self, *error: object) -> None:
        for walk in self._walks:
            walk.close()
        for hook in self._hooks:
            hook.remove()

    def _walk(self, number: int) -> Walk:
        norms = dict(stored_norms(self.network))
        paths = {id(m): p for p, m in self.network.named_modules(remove_duplicate=False)}
        return Walk(
            self.network,
            self.calls[number],
            ask=self._ask,
            norms={i: p for i, p in paths.items() if p in norms},
            paths=paths,
            sums=self.sums,
            seed=self._seed + number,
        )

    def rehearse(self, see: Callable[[Contraction | NormInput], None]) -> Any:
        """Run through the first batch, showing every stop, and return what the network returns.

        The sums that were seen are in ``found`` afterwards.
        """
        with undisturbed(self.network):
            walk = self._walk(0)
            try:
                run_through(walk, see)
            finally:
                walk.close()
        self.found = sums_of(walk)
        return walk.result

    def advance(self, answers: Sequence[Any] = ()) -> list[Any] | None:
        """Let all walks go on to their next stop, and return where they stand; None at the end."""
        if not self._walks:
            self._walks = [self._walk(i) for i in range(len(self.calls))]
        stops = [
            walk.advance(answers[i] if answers else None) for i, walk in enumerate(self._walks)
        ]
        if any(_kind(stop) != _kind(stops[0]) for stop in stops):
            raise GraphError(
                f"{type(self.network).__name__} runs other operators on other inputs: it cannot "
                "be followed over several batches at once"
            )
        return None if stops[0] is None else stops


class Pairs:
    """Walks of both networks over all batches, kept in step (ours).

    Args:
        teacher: in eval mode; ``student`` too.
        calls: positional and keyword arguments of each batch.
        seed: of the random numbers that a forward draws: the same ones in both networks.
        sums: whether sums are looked for.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        calls: Sequence[Call],
        *,
        seed: int,
        sums: bool,
    ) -> None:
        self.teacher, self.student = teacher, student
        self.samples = sum(_samples(call) for call in calls)
        self._theirs = Walks(teacher, calls, seed=seed)
        self._ours = Walks(student, calls, seed=seed, ask=True)
        self._sums = sums
        self._uses: Counter[int] = Counter()
        self._last: list[Step] = []
        self._open = ExitStack()

    def __enter__(self) -> Pairs:
        with ExitStack() as stack:
            stack.enter_context(self._theirs)
            stack.enter_context(self._ours)
            self._learn()
            self._open = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._last = []
        self._open.close()

    def _learn(self) -> None:
        """Find which raw tensors are used more than once, and what is added to what."""
        names = {id(t) for t in raw_tensors(self.student).values()}

        def see(stop: Contraction | NormInput) -> None:
            if isinstance(stop, Contraction):
                made_of = [sources_of(x) for x in (stop.w, stop.bias) if x is not None]
                for i in {id(t) for found in made_of for t in found}:
                    self._uses[i] += i in names

        self._ours.rehearse(see)
        if self._sums:
            self._theirs.rehearse(lambda stop: None)
            self._theirs.sums = self._ours.sums = self._theirs.found

    def uses_of(self, t: Tensor) -> int:
        """Return how many operators use a raw tensor that ``t`` is made of, at most."""
        return max((self._uses[id(s)] for s in sources_of(t)), default=0)

    def advance(self, answer: Callable[[Step], list[Any] | None] | None) -> list[Step] | None:
        """Let all walks go on to their next stop; ``answer`` gives new arguments for the last one.

        Raises:
            GraphError: the two networks do not run the same operators.
        """
        answers = [] if answer is None else [answer(step) for step in self._last]
        self._last = []
        theirs = self._theirs.advance() or [None]
        ours = self._ours.advance(answers) or [None]
        if _kind(ours[0]) != _kind(theirs[0]):
            raise GraphError(
                f"teacher and student run other operators: {_kind(theirs[0])} against "
                f"{_kind(ours[0])}. The student must be cut from this teacher"
            )
        if ours[0] is None:
            return None
        self._last = [Step(a, b) for a, b in zip(ours, theirs, strict=True)]
        return list(self._last)


def _kind(stop: Contraction | NormInput | None) -> str:
    if stop is None:
        return "the end"
    if isinstance(stop, NormInput):
        return f"norm {stop.path!r}"
    return f"operator {stop.number} in {stop.path!r}"


def _samples(call: Call) -> int:
    found = [t for t in tensors_of((call[0], dict(call[1]))) if t.dim() > 0]
    return len(found[0]) if found else 1
