"""What compression took away, for the end of a run and for ``eval``."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from gancompress.commands.console import note
from gancompress.commands.resolve.subject import Subject
from gancompress.errors import DataError
from gancompress.metrics.features import Described, Features
from gancompress.metrics.taken import Toll, what_was_taken
from gancompress.tasks.noise import Noise
from gancompress.tasks.protocol import Task


def taken_of(
    task: Task,
    student: Subject,
    teacher: nn.Module,
    features: Features | None,
    *,
    embedded: bool,
    n: int,
    seed: int = 0,
    seen: Sequence[Described] | None = None,
) -> Toll | None:
    """Return what ``student`` lost against ``teacher``; ``None``, and a word, where none can tell.

    Of generators of noise only: others are compared input by input. ``embedded``: through the
    embedded classifier, which knows the classes of garments. ``seen``: see `what_was_taken`.
    """
    if not isinstance(task, Noise) or (features is None and not embedded):
        return None
    home = next((p.device for p in student.generator.parameters()), "cpu")
    try:
        return what_was_taken(
            teacher, student.generator, student.sampler, n=n, seed=seed,
            features=None if embedded else features, device=home, seen=seen,
        )  # fmt: skip
    except DataError as error:
        note(f"classes were not compared: {error}")
        return None


def class_names(task: Task, *, embedded: bool) -> Sequence[str] | None:
    """Return the names of the classes in label order, where they are known."""
    if embedded:
        from gancompress.data.fashion import CLASSES

        return CLASSES
    names = getattr(getattr(task, "dataset", None), "class_names", None)
    return list(map(str, names)) if names else None
