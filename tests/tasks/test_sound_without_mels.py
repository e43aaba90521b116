"""Sound from latents or codes: from noise beside data, and from a teacher alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gancompress.data.inputs import InputSampler
from gancompress.errors import ConfigError, DataError
from gancompress.tasks import TASKS, Sources
from gancompress.tasks.infer import inferred_task
from gancompress.tasks.quality import task_quality
from tests.tasks.test_tasks import Sound


class Wave(nn.Module):
    def __init__(self, length: int = 512, channels: int = 1) -> None:
        super().__init__()
        self.line, self.channels = nn.Linear(8, channels * length), channels

    def forward(self, z: Tensor) -> Tensor:
        return self.line(z.float()).unflatten(1, (self.channels, -1)).tanh()


class Judge(nn.Conv1d):
    def __init__(self) -> None:
        super().__init__(1, 1, 9)


def bound(name: str, spec: str = "z=normal(8)", data: Any = None, **options: object) -> Any:
    sampler = InputSampler.parse([spec])
    return TASKS.bind({"name": name, **options})(Sources(sampler, data))


def test_latents_become_sound_like_that_of_the_data() -> None:
    sampler = InputSampler.parse(["z=normal(8)"])
    assert inferred_task(Sources(sampler, Sound())) == "noise"
    assert inferred_task(Sources(None, Sound())) == "vocoder"
    task = bound("noise", data=Sound())
    assert task.rate == 8000
    task.check(Wave(), Judge(), ())
    found = task_quality(task, Wave(), Wave(), n=3)
    assert set(found["to_teacher"]) == {"l1", "log_mel", "stft"}
    with pytest.raises(DataError, match=r"sound \(1, 256\) .*has \(1, 512\).*--length 256"):
        task.check(Wave(256), None, ())
    with pytest.raises(DataError, match=r"sound \(2, 512\)"):
        task.check(Wave(channels=2), None, ())


@pytest.mark.parametrize("name", ["teacher", "noise"])
def test_a_rate_makes_sound_of_a_teachers_outputs(name: str) -> None:
    spec = "codes=integers(0,32,8)"
    assert bound(name, spec).rate is None
    task = bound(name, spec, rate=16000)
    found = task_quality(task, Wave(), Wave(), n=3)
    assert "log_mel" in found["to_teacher"]
    assert torch.equal(task.preview(1).inputs[0], task.preview(1).inputs[0])


def test_what_contradicts() -> None:
    with pytest.raises(ConfigError, match=r"task\.rate=16000: sound of --data has 8000"):
        bound("noise", data=Sound(), rate=16000)
    with pytest.raises(ConfigError, match=r"inputs given are z=normal.*--task noise"):
        bound("vocoder", data=Sound())
    with pytest.raises(ConfigError, match="Leave --input out"):
        bound("restore", data=Sound(), scale=2)
