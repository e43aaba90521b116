"""When channels are really cut in a run, and what follows a cut."""

from __future__ import annotations

from gancompress.errors import DivergedError
from gancompress.recipes.schema import Recipe
from gancompress.training.cut_reconstruction import CutReconstruction
from gancompress.training.log import Log, describe_cut
from gancompress.training.train_state import TrainState, finite_parts


def shrink_if_due(
    recipe: Recipe,
    state: TrainState,
    steps: int,
    log: Log,
    after_cuts: CutReconstruction | None = None,
) -> bool:
    """Cut at the recipe's events, and take the masks off after ``steps``; return whether it did."""
    if state.masked is None:
        return False
    last = state.step >= steps
    if not last and not any(
        state.step - 1 < event * steps <= state.step for event in recipe.shrink.events
    ):
        return False
    changed = cut_now(state, log, after_cuts, last=last)
    if last:
        log.event("unmask", f"step {state.step}: the masks are gone", step=state.step)
    return changed or last


def cut_now(
    state: TrainState, log: Log, after_cuts: CutReconstruction | None, *, last: bool = False
) -> bool:
    """Cut the dead channels, solve the layers anew where that is asked; return whether any went.

    Raises:
        DivergedError: weights are not finite.
        TargetError: the cut is not exact.
    """
    if not finite_parts(state.parts()):
        raise DivergedError(f"weights are not finite at step {state.step}, where they are cut")
    reference = None if after_cuts is None else after_cuts.before(state)
    changed = state.cut(last=last)
    if changed:
        log.event("shrink", describe_cut(state.step, state.size), step=state.step, **state.size)
    if changed and after_cuts is not None and reference is not None:
        after_cuts.after(state, reference, log)
    return changed
