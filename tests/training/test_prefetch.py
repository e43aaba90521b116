"""Batches made ahead equal those made in place, for any task; foreign data is read by itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from gancompress.data.inputs import InputSampler
from gancompress.data.order import stream
from gancompress.errors import ConfigError, DataError
from gancompress.tasks import TASKS, Draw, Sources
from gancompress.training import prefetch
from gancompress.training.log import Silent
from gancompress.training.loop import train
from gancompress.training.prefetch import AheadBatches, workers_for
from tests.tasks.test_tasks import Pairs, Patch, Upscaler, pictures, plan
from tests.training.nets import networks, recipe


def spoilt() -> Any:
    spec = {"name": "restore", "scale": 2, "noise": 0.1, "patch": 8}
    return TASKS.bind(spec)(Sources(dataset=pictures(), seed=4))


def drawn(number: int, rollbacks: int = 0) -> Draw:
    rng = stream(0, "step", number, rollbacks)
    return Draw(4, number, rng, rollbacks=rollbacks)


@pytest.mark.parametrize("task", [spoilt, lambda: TASKS.bind("paired")(Sources(dataset=Pairs()))])
def test_what_is_made_ahead_is_what_the_task_makes(task: Any) -> None:
    own = task()
    ahead = AheadBatches(own, plan(), workers=1)
    try:
        # In order, then with other noise as after a rollback, then elsewhere as after a resume.
        for number, rollbacks in ((0, 0), (1, 0), (2, 1), (3, 1), (9, 1)):
            here, there = drawn(number, rollbacks), drawn(number, rollbacks)
            batch, wanted = ahead.batch(here), own.batch(there)
            assert torch.equal(batch.inputs[0], wanted.inputs[0])
            assert batch.wanted is not None
            assert wanted.wanted is not None
            assert torch.equal(batch.wanted, wanted.wanted)
            assert torch.equal(here.rng.get_state(), there.rng.get_state())
            real, again = ahead.real(here), own.real(there)
            assert torch.equal(real.output, again.output)
            assert torch.equal(here.rng.get_state(), there.rng.get_state())
    finally:
        ahead.close()


def test_a_run_with_workers_is_the_run_without() -> None:
    def weights(workers: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        made = train(
            plan(losses=["l1"], steps=3, finetune_steps=1), generator=Upscaler(),
            discriminator=Patch(), task=spoilt(), screen=Silent(), workers=workers,
        )  # fmt: skip
        return made.generator.state_dict()

    alone, helped = weights(0), weights(1)
    for name, value in alone.items():
        assert torch.equal(value, helped[name]), name


def drawing() -> InputSampler:
    return InputSampler.parse(["z=normal(4)"])


def test_who_prepares(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert workers_for(spoilt(), cpu, None) == 0
    assert workers_for(spoilt(), cpu, 3) == 3
    assert workers_for(spoilt(), gpu, 0) == 0
    assert workers_for(TASKS.bind("noise")(Sources(drawing(), pictures())), gpu, None) == 0
    monkeypatch.setattr(prefetch.os, "cpu_count", lambda: 3)
    monkeypatch.setattr(prefetch, "ROOM", 0)
    assert workers_for(spoilt(), gpu, None) == 2
    monkeypatch.setattr(prefetch, "ROOM", 2**60)
    assert workers_for(spoilt(), gpu, None) == 0
    with pytest.raises(ConfigError, match="workers is -1"):
        workers_for(spoilt(), gpu, -1)


def learnt(dataset: Any) -> nn.Module:
    generator, discriminator = networks()
    found = train(
        recipe(steps=2, finetune_steps=1, shrink={"events": []}), generator=generator,
        discriminator=discriminator, dataset=dataset, screen=Silent(),
    )  # fmt: skip
    return found.generator


def samples() -> TensorDataset:
    from tests.training.nets import images

    x, y = images().batch(torch.arange(24))
    y = torch.zeros(24, dtype=torch.int64) if y is None else y
    return TensorDataset(((x + 1) * 127.5).round().byte(), y)


class Stream(IterableDataset):
    """Samples one after the other, fewer than it says."""

    def __init__(self, source: TensorDataset, missing: int = 0) -> None:
        self.source, self.missing = source, missing

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[Any]:
        return (self.source[i] for i in range(len(self.source) - self.missing))


class Short:
    """Says that it has more samples than it gives."""

    def __init__(self, source: TensorDataset) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source) + 3

    def __getitem__(self, index: int) -> Any:
        return self.source[index]


class Turning(Short):
    """Yields something else from its middle on."""

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Any:
        return self.source[index] if index < len(self) // 2 else {"text": "a"}


@pytest.mark.parametrize("kind", [lambda s: s, lambda s: DataLoader(s, 8, shuffle=True), Stream])
def test_train_reads_data_of_other_libraries(kind: Any) -> None:
    wanted, found = learnt(samples()), learnt(kind(samples()))
    for name, value in wanted.state_dict().items():
        torch.testing.assert_close(value, found.state_dict()[name])


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (lambda s: DataLoader(Stream(s, 5), 8), "ended after"),
        (lambda s: Stream(s, 5), "holds 24 items and ended after 19"),
        (Short, r"holds 27 samples and ends early: there is no sample 2[46]"),
        (lambda s: DataLoader(Short(s), 8), "ends early"),
        (Turning, "no image; found the keys text"),
        (lambda s: DataLoader(s, 8, collate_fn=lambda rows: "text"), "found str"),
        (lambda s: [], "no sample"),
    ],
)
def test_what_ends_early_or_is_no_image_is_named_before_step_0(kind: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        learnt(kind(samples()))


def test_tasks_read_them_as_well() -> None:
    task = TASKS.bind({"name": "restore", "noise": 0.1})(
        Sources(dataset=DataLoader(samples(), batch_size=4))
    )
    batch = task.batch(drawn(0))
    assert batch.wanted.shape[0] == 4
