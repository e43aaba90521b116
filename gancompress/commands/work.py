"""``gancompress prune``, ``train`` and ``distill``: from words to a run, and its closing table."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from gancompress.commands.closing import close
from gancompress.commands.console import note
from gancompress.commands.models import build, load_weights
from gancompress.commands.planning import dry_run
from gancompress.commands.probe import check_data, probe
from gancompress.commands.subject import Subject, resolve
from gancompress.data.arrays import Dataset
from gancompress.errors import ConfigError
from gancompress.recipes.load import load_recipe
from gancompress.recipes.schema import Recipe


def work(
    *,
    kind: str,
    what: str | None,
    overrides: Sequence[str],
    recipe: str,
    model: str | None,
    weights: str | None,
    discriminator: str | None,
    discriminator_weights: str | None,
    data: str | None,
    inputs: Sequence[str] | None,
    out: Path | None,
    resume: str | None,
    init_from: str | None,
    device: str,
    max_steps: int | None,
    dry_run: bool,
    json: bool,
) -> int:
    """Run ``recipe`` and return the exit code.

    Raises:
        GancompressError: anything the user can put right.
    """
    raise NotImplementedError
