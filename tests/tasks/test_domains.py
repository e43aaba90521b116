"""Several domains, and classes that one side knows nothing of: nobody is shown half of a label."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gancompress.data.arrays import ArrayDataset
from gancompress.data.inputs import InputSampler
from gancompress.data.order import stream
from gancompress.errors import DataError
from gancompress.modules.discriminator import call_of
from gancompress.recipes.load import load_recipe
from gancompress.tasks.noise import noise
from gancompress.tasks.protocol import Draw, Sources
from gancompress.tasks.unpaired import unpaired
from gancompress.training.loop import say_start

DOMAINS = 3


class Star(nn.Module):
    """x + the number of the domain asked for, as a picture; noise first, as some have it."""

    def forward(self, z: Tensor, x: Tensor, c: Tensor) -> Tensor:
        number = c.argmax(1) if c.ndim == 2 else c
        return x + number.float().view(-1, 1, 1, 1) + 0 * z.sum()


class Optional(nn.Module):
    """A discriminator that uses labels where there are any."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.table = nn.Conv2d(1, 4, 3), nn.Embedding(DOMAINS, 4)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        h = self.conv(x).mean((2, 3))
        return h.sum(1) if y is None else (h * self.table(y)).sum(1)


def labelled(classes: int = DOMAINS, n: int = 12) -> ArrayDataset:
    pictures = torch.randint(0, 256, (n, 1, 8, 8), generator=stream(0)).byte()
    return ArrayDataset(pictures, torch.arange(n) % classes)


@pytest.fixture
def specs(tmp_path: Path) -> list[str]:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((10, 1, 8, 8), dtype=np.float32))
    return ["z=normal(2)", f"x=npy({tmp_path / 'x.npy'})"]


def draw(number: int = 0) -> Draw:
    return Draw(4, number, stream(0, "test", number))


@pytest.mark.parametrize("label", ["c=onehot(3)", "c=labels(3)"])
def test_identity_asks_for_the_domain_of_the_picture(specs: list[str], label: str) -> None:
    task = unpaired(Sources(InputSampler.parse([*specs, label]), labelled()), identity=1.0)
    batch, real = task.batch(draw()), task.real(draw())
    assert torch.equal(real.output, batch.extras["wanted domain"])
    assert real.labels is not None
    output = Star()(*batch.inputs)
    # The network adds the number of the domain that it is asked for.
    wanted = real.labels.float().mean()
    assert task.terms(batch, output, Star())["identity"].item() == pytest.approx(float(wanted))


def test_the_way_back_is_tried_before_step_0(specs: list[str]) -> None:
    sampler = InputSampler.parse([*specs, "c=labels(3)"])

    def checked(reverse: nn.Module) -> None:
        task = unpaired(Sources(sampler, labelled(), reverse=reverse), cycle=1.0)
        batch = task.check(Star(), None, ())
        output = Star()(*batch.inputs)
        found = task.terms(batch, output, Star())["cycle"]
        assert found.item() == pytest.approx(float((output - batch.inputs[1]).abs().mean()))

    checked(nn.Identity())
    with pytest.raises(DataError, match=r"way back makes \(1, 4, 4\) of outputs"):
        checked(nn.AvgPool2d(2))
    with pytest.raises(DataError, match=r"way back fails on outputs .*forward\(\) missing"):
        checked(Star())


@pytest.mark.parametrize(("classes", "found"), [(2, "has 2"), (None, "no folders of them")])
def test_other_domains_are_refused(specs: list[str], classes: int | None, found: str) -> None:
    data = labelled(2) if classes else ArrayDataset(torch.zeros(4, 1, 8, 8, dtype=torch.uint8))
    with pytest.raises(DataError, match=f"asked for 3 domains.*{found}"):
        unpaired(Sources(InputSampler.parse([*specs, "c=labels(3)"]), data))


def test_classes_of_the_data_alone_are_shown_to_nobody(specs: list[str]) -> None:
    class Plain(nn.Module):
        def forward(self, *given: Tensor) -> Tensor:
            return torch.zeros(len(given[0]), 1, 8, 8)

    tasks: list[Any] = [
        noise(Sources(InputSampler.parse(["z=normal(2)"]), labelled())),
        unpaired(Sources(InputSampler.parse(specs), labelled())),
    ]
    for task in tasks:
        judge = Optional()
        batch = task.check(Plain(), judge, ())
        made, real = task.shown(batch, Plain()(*batch.inputs)), task.real(draw())
        assert made.labels is None
        assert real.labels is None
        assert str(call_of(judge, real.output, real.labels)) == "image"


@pytest.mark.parametrize("joined", [False, True])
def test_a_run_keeps_the_size_of_rectangles(joined: bool) -> None:
    written: dict[str, Any] = {}
    quiet = SimpleNamespace(describe=lambda: "", record=dict)
    people: Any = SimpleNamespace(
        arithmetic=quiet, masked=None, report=None, remarks=(), discriminator=quiet
    )
    run: Any = SimpleNamespace(write_json=lambda name, value: written.update({name: value}))
    data = ArrayDataset(torch.zeros(2, 1, 8, 12, dtype=torch.uint8))
    task: Any = (
        SimpleNamespace(data=SimpleNamespace(data=data)) if joined else Sources(dataset=data)
    )
    log: Any = SimpleNamespace(event=lambda *told, **more: None)
    say_start(load_recipe("ppcd"), task, people, run, log)
    assert written["data.json"]["size"] == [8, 12]
