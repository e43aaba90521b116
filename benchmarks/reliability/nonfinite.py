"""B6: a NaN or an infinity, wherever it arises, reaches no checkpoint, average or mask."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import gancompress as gc
from benchmarks.reliability import forked
from benchmarks.reliability.row import BrokenPromiseError, Row, Trial
from benchmarks.reliability.toys import recipe_of
from gancompress.training import steps as loop_steps
from gancompress.training.checkpoint import checkpoints, load_checkpoint
from gancompress.training.recovery import finite_tensors
from gancompress.training.steps import Steps
from tests.training.nets import TinyGenerator, images

PLACES = ("loss", "gradient", "activation", "teacher", "score", "weight", "buffer", "batch")
VALUES = (float("nan"), float("inf"), float("-inf"))


def poison(step: int, place: str, network: str, value: float, times: int) -> Callable[[], None]:
    """Return what puts ``value`` at ``place`` in ``times`` updates, the first at ``step``."""

    def install() -> None:
        left = times
        active = False
        update, mean, backward = Steps.discriminator, loop_steps._mean, Tensor.backward
        dataset = type(images())
        batch = dataset.batch

        def entered(self: Steps, state: Any, figures: Any) -> Any:
            nonlocal left, active
            active = state.step >= step and left > 0
            if not active:
                return update(self, state, figures)
            left -= 1
            owner = state.generator if network == "G" else state.discriminator
            hooks = []
            if place in ("activation", "teacher"):
                home = self.teacher if place == "teacher" else owner
                layer = next(m for m in home.modules() if isinstance(m, nn.Conv2d))
                hooks.append(layer.register_forward_hook(lambda m, a, y: y * value))
            elif place == "weight":
                with torch.no_grad():
                    next(owner.parameters()).view(-1)[0] = value
            elif place == "score" and state.masked is not None:
                with torch.no_grad():
                    next(state.masked.parameters()).view(-1)[0] = value
            elif place == "buffer":
                for name, buffer in state.generator.named_buffers():
                    if "running" in name:
                        buffer.view(-1)[0] = value
            try:
                return update(self, state, figures)
            finally:
                # Of the generator's own update the fault is in its forward, which has been made.
                for hook in hooks:
                    hook.remove()

        def poisoned(terms: Any) -> Tensor:
            return mean(terms) * value if active and place == "loss" else mean(terms)

        def spoilt(self: Tensor, *args: Any, **kwargs: Any) -> Any:
            if active and place == "gradient":
                self = self * value
            return backward(self, *args, **kwargs)

        def read(self: Any, indices: Any) -> Any:
            found, labels = batch(self, indices)
            return (found * value if active and place == "batch" else found), labels

        Steps.discriminator = entered  # type: ignore[method-assign]
        loop_steps._mean = poisoned  # type: ignore[assignment]
        Tensor.backward = spoilt  # type: ignore[method-assign]
        dataset.batch = read  # type: ignore[method-assign]

    return install


def prepare(folder: Path) -> Trial:
    """Each trial is a run with one place poisoned, for one step, a few, or from then on."""
    recipe = recipe_of("prune", checkpoint_every=2)
    out = folder / "out"
    reference = folder / "reference"
    forked.whole(recipe, reference)

    def trial(rng: random.Random, number: int) -> str:
        shutil.rmtree(out, ignore_errors=True)
        place = PLACES[number % len(PLACES)]
        step, network = rng.randrange(16), rng.choice("GD")
        value, times = rng.choice(VALUES), rng.choice((1, 2, 4, 10**6))
        code = forked.ended(forked.start(recipe, out, poison(step, place, network, value, times)))
        said = Path(f"{out}.said").read_text()
        where = f"{value} in {place} of {network} at step {step}, {times} times"
        if code not in (0, 7):
            raise BrokenPromiseError(f"{where}: exit code {code}, {said}")
        for path in checkpoints(out / "ckpt"):
            for name, part in load_checkpoint(path).parts.items():
                if not finite_tensors(part.values()):
                    raise BrokenPromiseError(f"{where}: {path.name} has a poisoned {name}")
        if code == 0 and not finite_tensors(
            gc.load(TinyGenerator, out / "model").state_dict().values()
        ):
            raise BrokenPromiseError(f"{where}: the model is poisoned")
        lines = (out / "events.jsonl").read_text().splitlines()
        told = {json.loads(line)["event"] for line in lines} & {"skip", "rollback"}
        if code == 7 and "finite" not in said:
            raise BrokenPromiseError(f"{where}: ended by {said}")
        word = (
            "gave up"
            if code
            else "rolled back"
            if "rollback" in told
            else "skipped"
            if told
            else "no effect"
        )
        return f"{place}, {word}"

    return trial


ROW = Row(
    "B6",
    "NaN or infinity in a loss, gradient, activation, teacher, score, weight, buffer or batch: the "
    "run goes on, rolls back or ends with exit code 7, and nothing non-finite is saved",
    100,
    prepare,
    sample=3,
    forks=True,
)
