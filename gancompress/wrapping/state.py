"""What a checkpoint must know of a wrapped generator beside its tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gancompress.errors import CheckpointError
from gancompress.graph.groups import Cost
from gancompress.graph.plan import Plan


@dataclass(frozen=True)
class State:
    """How far the annealing is, what the generator cost when it was wrapped, the cuts since."""

    progress: float
    original: Cost
    history: Plan | None
    cut_errors: Sequence[float] = ()

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "progress": self.progress,
            "original": [self.original.params, self.original.macs],
            "history": None if self.history is None else self.history.to_json(),
            "cut_errors": list(self.cut_errors),
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
        return cls(progress, Cost(params, macs), plan, errors)

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
