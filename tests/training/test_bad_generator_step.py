"""A generator's update that is not finite, where no discriminator would stop it first."""

from __future__ import annotations

import torch

from tests.training.test_recovery import run


def test_it_is_not_made() -> None:
    _, _, screen = run(
        {3}, kind="distill", adversarial={"weight": 0.0}, distill=[{"name": "pixel"}],
        student={"init": "teacher"}, steps=4,
    )  # fmt: skip
    assert torch.equal(screen.seen[2], screen.seen[3])
    assert not torch.equal(screen.seen[3], screen.seen[4]), "and the run goes on"
    assert bool(screen.seen[4].isfinite().all())
