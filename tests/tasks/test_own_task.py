"""A task of one's own, in one file: what it gives by name is handed over by name everywhere."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gancompress.cli import main
from gancompress.plugins.kinds import TASKS

OWN = '''
import torch
from torch import nn
from gancompress.tasks import TASKS, Batch, Draw, Shown, Sources
from gancompress.tasks.check_networks import check_networks
from gancompress.tasks.split import Split

class Fill(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 12, 3, padding=1), nn.Conv2d(12, 3, 3, padding=1)

    def forward(self, x, *, mask):
        return self.b(self.a(torch.cat([x, mask], 1)).relu()).tanh()

class Judge(nn.Conv2d):
    def __init__(self):
        super().__init__(4, 1, 3)

@TASKS.register("inpaint")
class Inpaint:
    """Fill a hole in the middle of each picture."""

    name, rate, values, has_real = "inpaint", None, (-1.0, 1.0), True

    def __init__(self, sources: Sources, *, hole: int = 6) -> None:
        self.data, self.hole = sources.needs_dataset("inpaint", "pictures"), hole
        self.split = Split(len(self.data), sources.seed, 0.25)

    def at(self, indices):
        wanted = self.data.batch(indices)[0]
        mask = torch.zeros_like(wanted[:, :1])
        mask[..., 4 : 4 + self.hole, 4 : 4 + self.hole] = 1
        return Batch((wanted * (1 - mask),), {"mask": mask}, wanted=wanted, condition=mask)

    def check(self, generator, discriminator, augment):
        found = self.at(self.split.held_out(2))
        return check_networks(self, found, generator, discriminator, augment)

    def batch(self, draw):
        return self.at(self.split.training(draw))

    def real(self, draw):
        found = self.batch(draw)
        return Shown(found.wanted, condition=found.condition)

    def shown(self, batch, output):
        return Shown(output, condition=batch.condition)

    def output(self, raw):
        return raw

    def terms(self, batch, output, network):
        return {"hole": ((output - batch.wanted).abs() * batch.condition).mean()}

    def preview(self, columns):
        return self.at(self.split.held_out(4 * columns))

    def held_out(self, n, batch):
        for indices in self.split.held_out(n).split(batch):
            yield self.at(indices)
'''
SHORT = [
    "target=params=1.5x", "batch=2", "steps=3", "finetune_steps=1", "shrink.events=[]",
    "sample_every=2", "augment=[]", "precision=float32", "losses=[l1]",
]  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "b").mkdir()
    for i in range(8):
        Image.fromarray(rng.integers(0, 255, (16, 24, 3), dtype=np.uint8)).save(
            tmp_path / f"b/{i}.png"
        )
    (tmp_path / "own_task.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "own_task", raising=False)
    monkeypatch.setattr(TASKS, "_entries", dict(getattr(TASKS, "_entries", {})))
    return tmp_path


def test_a_task_in_one_file_runs_to_its_figures(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plug = ["--plugin", "own_task"]
    judge = ["--discriminator", "own_task:Judge"]
    words = ["prune", "own_task:Fill", *judge, "--task", "inpaint", "task.hole=8", "--data", "b"]
    code = main([*words, *SHORT, "--out", "run", "--json", *plug])
    said = capsys.readouterr()
    assert code == 0, said.err
    quality = json.loads(said.out)["quality"]
    assert quality["student"]["to_wanted"]["l1"] > 0
    assert quality["student"]["to_teacher"]["psnr"] > 0
    with Image.open("run/before_after.png") as picture:  # two inputs, wanted, teacher, student
        assert picture.width > 5 * 48

    model = ["--model", "own_task:Fill", *plug]
    for verb in (["eval", "run"], ["bench", "run"], ["sample", "run", "--out", "s.png"]):
        assert main([*verb, *model, "--json"]) == 0, capsys.readouterr().err
    found = capsys.readouterr().out
    assert '"to_teacher"' in found
