"""Widths by a score, before the first step of a run: bounded, resumable, the same by seed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gancompress.data.order import derived_seed, stream
from gancompress.errors import CheckpointError, ConfigError, GancompressError
from gancompress.masks.mask import kill_together
from gancompress.modules.undisturbed import undisturbed
from gancompress.modules.user_line import failing_line
from gancompress.plugins.kinds import SEARCH_SCORES as SEARCH_SCORES
from gancompress.plugins.loading import loaded_function
from gancompress.recipes.parts import Search
from gancompress.recipes.schema import Recipe
from gancompress.storage import read_sealed, replace_file, sealed
from gancompress.surgery.raw_tensors import raw_tensors
from gancompress.tasks.protocol import Batch, Task, drawn
from gancompress.training.distributed import by_first
from gancompress.training.log import Log
from gancompress.training.run_files import SEARCH
from gancompress.training.run_folder import RunFolder
from gancompress.training.train_state import TrainState
from gancompress.wrapping import Masked
from gancompress.wrapping.score_search import Found, search

BATCH = 32


@dataclass(frozen=True)
class Asked:
    """What a search score is asked of (ours).

    Attributes:
        generator: in eval mode, some of its channels closed; not to be trained.
        teacher: frozen original.
        task: gives inputs and reads outputs.
        seed: of the recipe.
        device: where the networks lie.
    """

    generator: nn.Module
    teacher: nn.Module
    task: Task
    seed: int
    device: torch.device

    def batches(self, samples: int) -> list[Batch]:
        """Return inputs for ``samples`` outputs, the same ones at each call."""
        return drawn(self.task, samples, BATCH, stream(self.seed, "search"), self.device)

    def output(self, batch: Batch, network: nn.Module) -> Tensor:
        """Return what ``network`` makes of ``batch``, in float32; the teacher is left as it was."""
        return self.task.output(batch.run(network)).float()


SearchScore = Callable[[Asked], float]
"""What is registered: looks at a narrower generator, and returns a number; larger is better."""


def search_score(entry: Search) -> SearchScore:
    """Return the score that a recipe asks for: a plug-in, or a function of a loaded module.

    Raises:
        ConfigError: there is none of that name, or its options are wrong.
    """
    return loaded_function(entry.score) if ":" in entry.score else SEARCH_SCORES.bind(entry.plugin)


def search_widths(
    recipe: Recipe,
    task: Task,
    teacher: nn.Module,
    state: TrainState,
    run: RunFolder | None,
    log: Log,
) -> bool:
    """Find widths that meet the target, as the recipe says, and let all other channels die.

    Each answer of the score is written to ``search.json`` in the run folder: a run that was stopped
    meanwhile asks for no network twice. Of several ranks the first one asks. Returns whether there
    was a search.

    Raises:
        ConfigError: the score raises, returns no finite number, or the budget does not suffice.
        TargetError: the target is out of reach.
    """
    masked = state.masked
    if recipe.search is None or masked is None:
        return False
    device = next(masked.generator.parameters()).device
    asked = Asked(masked.generator, teacher, task, recipe.seed, device)
    score = _Score(recipe.search, asked)
    known = _Answers(run, _fingerprint(recipe, masked, teacher), log)
    most = recipe.search.budget
    log.event("search_begins", f"search: score {score.name} is asked of at most {most} networks")
    with undisturbed(masked.generator), undisturbed(teacher):
        found = search(
            masked, score, None, levels=recipe.search.levels, budget=most,
            seed=recipe.seed, known=known,
        )  # fmt: skip
    keep = found.plan.keep
    killed = {n: np.setdiff1d(np.flatnonzero(m.living), keep[n]) for n, m in masked.masks.items()}
    kill_together(masked.masks, {n: gone for n, gone in killed.items() if len(gone)})
    state.mute()
    _say(recipe, found, state, known, log)
    return True


class _Score:
    """A score with its faults told by their cause; the same random numbers for each network."""

    def __init__(self, entry: Search, asked: Asked) -> None:
        self.name, self.asked, self._score = entry.score, asked, search_score(entry)

    def __call__(self, generator: nn.Module) -> float:
        return float(by_first(self._ask, "the score of a search"))

    def _ask(self) -> float:
        torch.manual_seed(derived_seed(self.asked.seed, "search score"))
        try:
            found: Any = self._score(self.asked)
        except GancompressError:
            raise
        except Exception as error:
            line = failing_line(error)
            place = f" at {line}" if line else ""
            raise ConfigError(
                f"search.score {self.name} failed: {type(error).__name__}: {error}{place}"
            ) from error
        try:
            if isinstance(found, str | bytes):
                raise TypeError(found)
            return float(found)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(
                f"search.score {self.name} returned a {type(found).__name__}; it must be one "
                "number, larger is better"
            ) from error


class _Answers(MutableMapping[str, float]):
    """What the score said of each network, kept in the run folder as it is learnt.

    Of several ranks the first one reads and writes; all of them know the same.
    """

    def __init__(self, run: RunFolder | None, about: str, log: Log) -> None:
        self._file = None if run is None else run.path / SEARCH
        self._about, self._log = about, log
        self._found: dict[str, float] = by_first(self._read, "what a search knows")
        self.before = len(self._found)

    def _read(self) -> dict[str, float]:
        if self._file is None or not self._file.exists():
            return {}
        record = read_sealed(self._file)
        if record.get("about") != self._about:
            self._log.event("search", f"{SEARCH} is of other weights or words: it is begun anew")
            return {}
        answers = record.get("answers")
        if not isinstance(answers, dict):
            raise CheckpointError(f"{self._file} is damaged: it holds no answers. Delete it")
        for name, value in answers.items():
            if not isinstance(value, int | float) or not math.isfinite(value):
                raise CheckpointError(f"{self._file} is damaged: {name!r} is {value!r}. Delete it")
        return {name: float(value) for name, value in answers.items()}

    def __getitem__(self, name: str) -> float:
        return self._found[name]

    def __setitem__(self, name: str, value: float) -> None:
        self._found[name] = value
        if self._file is not None:
            replace_file(self._file, sealed({"about": self._about, "answers": self._found}))

    def __delitem__(self, name: str) -> None:
        del self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


def _fingerprint(recipe: Recipe, masked: Masked, teacher: nn.Module) -> str:
    """Return a hash of what decides the answers: words, seed and weights."""
    assert recipe.search is not None
    words = recipe.model_dump(mode="json", include={"importance", "score", "seed"})
    found = hashlib.sha256(
        json.dumps([recipe.search.plugin, words, sorted(masked.masks)], default=str).encode()
    )
    for network in (masked.generator, teacher):
        for name, tensor in raw_tensors(network).items():
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            found.update(name.encode() + flat.view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _say(recipe: Recipe, found: Found, state: TrainState, known: _Answers, log: Log) -> None:
    again = f", {known.before} of them before" if known.before else ""
    text = (
        f"search: of {found.calls} networks asked{again} the best has score {found.plan_score:.6g} "
        f"at {recipe.target} (uncut {found.score:.6g}, by single groups {found.first_score:.6g})"
    )
    log.event(
        "search", text, step=state.step, asked=found.calls, score=found.plan_score,
        uncut=found.score, by_groups=found.first_score, widths=found.plan.widths,
    )  # fmt: skip
