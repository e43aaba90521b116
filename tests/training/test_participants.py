"""What a run leaves on the networks that it was given."""

from __future__ import annotations

from gancompress.training.log import Silent
from gancompress.training.loop import train
from tests.training.nets import images, networks, recipe


def test_hooks_and_frozen_parameters_do_not_outlive_a_run() -> None:
    generator, discriminator = networks()
    teacher, _ = networks(1)
    plan = recipe(
        kind="distill", target=None, student={"init": "teacher"}, shrink={"events": []},
        finetune_steps=0, steps=2, distill=[{"name": "feature"}, {"name": "pixel"}],
    )  # fmt: skip
    result = train(
        plan, generator=generator, discriminator=discriminator, teacher=teacher,
        dataset=images(), screen=Silent(),
    )  # fmt: skip
    for network in (generator, discriminator, teacher, result.generator):
        for module in network.modules():
            assert not module._forward_hooks
            assert not module._forward_pre_hooks
    for network in (generator, discriminator, result.generator):
        assert all(p.requires_grad for p in network.parameters())
