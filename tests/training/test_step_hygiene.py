"""A step does arithmetic only: what it fetches from a device, and what it copies there."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from gancompress.data.arrays import ArrayDataset
from gancompress.masks.mask import kill_together
from gancompress.training.log import Silent
from gancompress.wrapping import handle
from tests.second_device import SecondDevice, on_host
from tests.training.nets import images, recipe
from tests.training.test_resume import go

PLAN = {
    "distill": [
        {"name": "pixel"},
        {"name": "feature"},
        {"name": "class_aware", "variant": "prototype"},
    ],
    "regularisers": [{"name": "r1", "weight": 0.1}],
    "checkpoint_every": 0,
    "finetune_steps": 0,
    "steps": 10,
}
BATCHES = {"protocol:<lambda>", "protocol:maybe", "protocol:change", "protocol:to"}
READERS = {"arrays", "order", "noise", "inputs"}


class OnHost:
    """The images; they lie on the host."""

    n_classes, channels, resolution = 3, 1, 8

    def __init__(self, inner: ArrayDataset) -> None:
        self.inner = inner

    def __len__(self) -> int:
        return len(self.inner)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        pictures, labels = self.inner.batch(indices)
        assert labels is not None
        return on_host(pictures), on_host(labels)


class Counting(Silent):
    """Tells the device when a step is over."""

    def __init__(self, device: SecondDevice) -> None:
        self.device = device

    def update(self, line: Any) -> None:
        self.device.step += 1


def events(**changes: Any) -> dict[int, list[tuple[str, str, str]]]:
    """What happened in each step that neither begins nor ends the run, its report left out."""
    with SecondDevice() as device, pytest.MonkeyPatch.context() as patch:

        def kill(masks: Any, killed: Any) -> None:
            kill_together(masks, killed)
            device.events += [(device.step, "death", "", "")] if killed else []

        patch.setattr(handle, "kill_together", kill)
        plan = recipe(**(PLAN | changes))
        go(plan, None, dataset=OnHost(images()), screen=Counting(device))
    found: dict[int, list[tuple[str, str, str]]] = {n: [] for n in range(1, plan.steps - 1)}
    for step, kind, name, place in device.events:
        # What reads files and draws indices works on the host.
        if step in found and place != "loop:report" and place.split(":")[0] not in READERS:
            found[step].append((kind, name, place))
    return found


@pytest.mark.parametrize("importance", ["scores", "learned_fisher"])
def test_two_waits_a_step_also_where_channels_die(importance: str) -> None:
    """They say whether the updates are finite; what the choice of channels needs comes along."""
    found = events(
        importance={"name": importance}, shrink={"events": []},
        schedule={"name": "linear", "start": 0.3, "end": 0.6},
    )  # fmt: skip
    deaths = 0
    for step, seen in found.items():
        waits = Counter(place for kind, _, place in seen if kind == "wait")
        copies = {place for kind, _, place in seen if kind == "copy" and place not in BATCHES}
        assert not [entry for entry in seen if entry[0] == "mix"], (step, seen)
        asked = sum(waits.pop(f"recovery:{name}", 0) for name in ("finite_step", "finite_and"))
        assert asked == 2, (step, waits)
        died = any(kind == "death" for kind, *_ in seen)
        deaths += died
        assert not waits, (step, waits)
        # Who died is told to the masks at once, and to the distillers.
        assert copies <= ({"mask:kill_together", "distillation:mute"} if died else set()), step
    assert 0 < deaths < len(found), "both kinds of steps were seen"


def test_nothing_is_counted_that_is_not_there() -> None:
    with SecondDevice() as device:
        here, there = torch.rand(3), torch.ones(3, device="cpu")
        float(here[0])
        assert device.events == []
        float(there[0])
        there + here
        here.to(there.device)
        there[here > 2]
        there[there > 2]
    kinds = [kind for _, kind, _, _ in device.events]
    assert kinds == ["wait", "mix", "copy", "wait", "wait"]
