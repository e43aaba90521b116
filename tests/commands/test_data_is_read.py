"""What a run says of its data: read where they are made into inputs, whoever judges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gancompress.commands.resolve.participants import Participants
from gancompress.data.arrays import ArrayDataset
from gancompress.data.inputs import InputSampler
from gancompress.recipes.load import load_recipe
from gancompress.tasks import TASKS, Sources


def pictures() -> ArrayDataset:
    return ArrayDataset(torch.zeros(8, 3, 16, 16, dtype=torch.uint8))


def participants(task: Any) -> Participants:
    others: Any = dict.fromkeys(("request", "recipe", "subject", "discriminator"))
    return Participants(**others, dataset=pictures(), task=task)


def test_good_pictures_that_are_spoilt_are_read_without_a_judge_and_without_losses() -> None:
    task = TASKS.bind({"name": "restore", "scale": 2})(Sources(dataset=pictures()))
    who = participants(task)
    assert who.data_is_read(load_recipe("reconstruct", ["losses=[]"]))


@pytest.mark.parametrize(("losses", "read"), [("[]", False), ("[l1]", True)])
def test_wanted_pictures_are_read_where_a_loss_asks_for_them(
    tmp_path: Path, losses: str, read: bool
) -> None:
    np.save(tmp_path / "x.npy", np.zeros((8, 3, 16, 16), np.uint8))
    sampler = InputSampler.parse([f"x=images({tmp_path / 'x.npy'})"])
    task = TASKS.bind("paired")(Sources(sampler, pictures()))
    recipe = load_recipe("reconstruct", [f"losses={losses}"])
    assert participants(task).data_is_read(recipe) is read
