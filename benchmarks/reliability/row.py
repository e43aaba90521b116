"""What a row of the campaign is."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Trial = Callable[[random.Random, int], str]
"""A trial with its random numbers and its number: returns what kind it was, once it has held."""


class BrokenPromiseError(Exception):
    """A trial did not hold; the text says what happened instead."""


@dataclass(frozen=True)
class Row:
    """One promise.

    Attributes:
        label: of the table in docs/reliability.md, such as B2.
        promise: what must hold, in one sentence.
        goal: trials that the promise names.
        prepare: makes the trial, given a folder to work in.
        sample: trials that are part of the tests.
        forks: its children compute gradients, so that this process must not have done so.
    """

    label: str
    promise: str
    goal: int
    prepare: Callable[[Path], Trial]
    sample: int = 12
    forks: bool = False
