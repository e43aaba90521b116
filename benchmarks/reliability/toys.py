"""The networks, recipe and run folders that the rows damage: seconds become milliseconds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.recipes.load import dump_recipe
from gancompress.recipes.schema import Recipe
from gancompress.training.log import Silent
from gancompress.training.loop import train
from gancompress.training.run_files import CONFIG, SUBJECT
from gancompress.training.run_folder import make_folder, write_summary
from gancompress.training.start import TrainResult
from tests.training.nets import images, networks, recipe, train_recipe

__all__ = ["RECORD", "Recipe", "digest_of", "go", "images", "networks", "recipe", "run_folder"]

RECORD = {"model": "embedded", "input": ["z=normal(6)", "y=labels(3)"], "max_steps": None}
"""A subject.json as the command line writes it."""

DISTILL = {
    "kind": "distill",
    "target": "params=2x",
    "student": {"init": "narrow"},
    "shrink": {"events": []},
    "finetune_steps": 0,
}


def recipe_of(kind: str, **changes: Any) -> Recipe:
    """Return a recipe of a few steps: prune (two live cuts), distill or train."""
    if kind == "train":
        return train_recipe(**changes)
    return recipe(**({**DISTILL, **changes} if kind == "distill" else changes))


def go(made: Recipe, out: Path | None, **options: Any) -> TrainResult:
    """Run ``made`` on fresh networks, the same each time."""
    generator, discriminator = networks()
    torch.manual_seed(0)
    return train(
        made,
        generator=generator,
        discriminator=discriminator,
        dataset=images(),
        out=out,
        screen=Silent(),
        **options,
    )


def run_folder(path: Path, made: Recipe, **options: Any) -> Path:
    """Make a finished run with everything that the command line leaves in its folder."""
    make_folder(path, {SUBJECT: json.dumps(RECORD, indent=2), CONFIG: dump_recipe(made)})
    result = go(made, path, **options)
    write_summary(path, {"recipe": made.name, "quality": {}, "run": path.name})
    assert result.exit_code == 0
    return path


def bytes_of(tensors: Mapping[str, Tensor]) -> bytes:
    """Return the numbers of a state dict, names and shapes included."""
    digest = hashlib.sha256()
    for name, t in sorted(tensors.items()):
        digest.update(f"{name} {t.dtype} {tuple(t.shape)}".encode())
        digest.update(t.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.digest()


def digest_of(network: nn.Module) -> str:
    """Return a digest of a network's numbers."""
    return bytes_of(network.state_dict()).hex()
