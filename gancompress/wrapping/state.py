"""What a checkpoint must know of a wrapped generator beside its tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gancompress.errors import CheckpointError
from gancompress.graph.groups import Cost
from gancompress.graph.plan import Plan
from gancompress.masks.budget import Budget
from gancompress.modules.ranks import bytes_of_first, world
from gancompress.timing.times import Times


@dataclass(frozen=True)
class State:
    """How far the annealing is, what the generator cost when it was wrapped, the cuts since.

    ``measured``: what was measured for its targets, so that a resumed run goes by the same figures.
    """

    progress: float
    original: Cost
    history: Plan | None
    cut_errors: Sequence[float] = ()
    measured: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "progress": self.progress,
            "original": [self.original.params, self.original.macs],
            "history": None if self.history is None else self.history.to_json(),
            "cut_errors": list(self.cut_errors),
            **({"measured": dict(self.measured)} if self.measured is not None else {}),
        }

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> State:
        """Read what `to_json` made.

        Raises:
            CheckpointError: the state is damaged.
        """
        try:
            history, progress = state["history"], float(state["progress"])
            params, macs = (int(n) for n in state["original"])
            plan = None if history is None else Plan.from_json(history)
            errors = [float(e) for e in state["cut_errors"]]
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"not the state of a wrapped generator: {error!r}") from error
        return cls(progress, Cost(params, macs), plan, errors, state.get("measured"))

    def check_fits(self, original: Cost, history: Plan | None) -> None:
        """Refuse a generator of another size, or one that was cut already.

        Raises:
            CheckpointError: it is not the one that was saved.
        """
        if self.original != original or history is not None:
            raise CheckpointError(
                f"the state is of a generator of {self.original.params:,} parameters and "
                f"{self.original.macs:,} MACs; this one has {original.params:,} and "
                f"{original.macs:,}. Wrap the original, uncut generator first"
            )


def budget_to(budget: Budget | None) -> dict[str, Any] | None:
    """Return what was measured for ``budget``, as JSON-ready values; None where nothing was."""
    if budget is None or not (budget.units or budget.times):
        return None
    times = [t.to_json() for t in budget.times.values() if isinstance(t, Times)]
    return {"units": dict(budget.units), "times": times}


def budget_from(budget: Budget | None, measured: Mapping[str, Any] | None) -> Budget | None:
    """Return ``budget`` with what `budget_to` kept in place of what was measured just now.

    Raises:
        CheckpointError: it is of other targets, or damaged.
    """
    if budget is None or measured is None:
        return budget
    try:
        units = {str(n): int(u) for n, u in measured["units"].items()}
        times = [Times.from_json(t) for t in measured["times"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"not the measurements of a wrapped generator: {error!r}") from error
    found = {t.target: t for t in times}
    now = [t for t in budget.targets if t.kind == "latency"]
    # On another machine "auto" may be another device by now: the saved one stays.
    if [t.fraction for t in now] != [t.fraction for t in found]:
        raise CheckpointError(
            f"the state was saved with targets {', '.join(map(str, found)) or 'without time'}"
        )
    swap = dict(zip(now, found, strict=True))
    targets = [swap.get(t, t) for t in budget.targets]
    return replace(budget, target=targets[0], others=tuple(targets[1:]), times=found, units=units)


def shared(budget: Budget, round_to: int | str) -> Budget:
    """Return ``budget`` with what rank 0 has measured for it: times differ from rank to rank.

    Every rank calls it, as every rank wraps. Whether anything is sent depends on what was asked
    for, never on what one rank has found: the others would wait for it.
    """
    kinds = {t.kind for t in budget.targets}
    if world() == 1 or not ("latency" in kinds or (round_to == "auto" and kinds != {"params"})):
        return budget
    own = budget_to(budget) or {"units": {}, "times": []}
    found = budget_from(budget, json.loads(bytes_of_first(json.dumps(own).encode(), "times")))
    assert found is not None
    return found
