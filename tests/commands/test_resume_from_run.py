"""A run that starts from another run: its data and task come along, its teacher is held to."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gancompress.cli import main
from gancompress.modules.fingerprint import fingerprint, same_weights

NETS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 3, 3, padding=1)

    def forward(self, x):
        return self.b(nn.functional.interpolate(self.a(x).relu(), scale_factor=2)).tanh()

class Judge(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 1, 3, 2, 1))
"""
SHORT = ["batch=2", "shrink.events=[]", "augment=[]", "sample_every=0", "precision=float32"]
PRUNE = [*SHORT, "steps=2", "finetune_steps=1", "target=params=1.5x", "distill=[{name: pixel}]"]
NAMES = ["--model", "resume_nets:Net", "--discriminator", "resume_nets:Judge"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(6):
        x = rng.integers(0, 255, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(x).save(tmp_path / f"photos/{i}.png")
    (tmp_path / "resume_nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "resume_nets", raising=False)
    code = main(
        ["train", "--recipe", "edges-teacher", *NAMES, "--data", "photos", "--size", "16",
         "--task", "restore", "task.scale=2", *SHORT, "steps=2", "--out", "teacher"]
    )  # fmt: skip
    assert code == 0
    return tmp_path


def said(words: list[str], capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    capsys.readouterr()
    found = main(words)
    shown = capsys.readouterr()
    text = " ".join((shown.err + shown.out).split())
    assert found == code, text
    return text


def test_data_flags_and_task_come_along(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = ["prune", "teacher", *NAMES, *PRUNE]
    text = said([*start, "--out", "r"], capsys)
    assert "task restore, as in teacher" in text
    record = json.loads((here / "r/subject.json").read_text())
    assert (record["run"], record["data"]) == ("teacher", "photos")
    assert record["data_flags"] == {"size": "16"}
    first = (here / "r/model/model.safetensors").read_bytes()

    # The teacher is the trained one, known again; other verbs read the same data.
    text = said(["eval", "r", *NAMES[:2], "--json"], capsys)
    assert '"to_teacher"' in text
    assert '"to_wanted"' in text
    said(["sample", "r", *NAMES[:2], "--compare", "--out", "s.png"], capsys)

    (here / "r/summary.json").unlink()
    said(["prune", "--resume", "r", *NAMES], capsys)
    assert (here / "r/model/model.safetensors").read_bytes() == first

    # Another teacher in the same place, and none.
    (here / "r/summary.json").unlink()
    shutil.move("teacher", "old")
    text = said(["prune", "--resume", "r", *NAMES], capsys, code=4)
    assert "teacher, which is not there any more" in text
    shutil.copytree("old", "teacher")
    from resume_nets import Net

    import gancompress as gc

    shutil.rmtree("teacher/model")
    gc.save("teacher/model", Net())
    text = said(["prune", "--resume", "r", *NAMES], capsys, code=4)
    assert "began with other weights of the generator than teacher gives now" in text
    assert "the teacher is not known any more" in said(["eval", "r", *NAMES[:2]], capsys)


def test_a_builder_that_draws_weights_is_held_to_them(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--task", "restore", "task.scale=2", "--data", "photos", "--size", "16"]
    said(["prune", *NAMES, *words, *PRUNE, "--out", "r"], capsys)
    assert '"to_teacher"' in said(["eval", "r", *NAMES[:2], "--json"], capsys)
    (here / "r/summary.json").unlink()
    nets = (here / "resume_nets.py").read_text()
    shaken = nets.replace(
        "        self.a, self.b =", "        torch.rand(3)\n        self.a, self.b ="
    )
    (here / "resume_nets.py").write_text(shaken)
    del sys.modules["resume_nets"]
    text = said(["prune", "--resume", "r", *NAMES], capsys, code=4)
    assert "than resume_nets:Net gives now" in text


def test_fingerprints_tell_weights_from_rounding() -> None:
    import torch
    from torch import nn

    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 3, 3))
    mine = fingerprint(net)
    assert same_weights(mine, fingerprint(net.double()))
    with torch.no_grad():
        net[2].weight.mul_(1 + 1e-7)
        assert same_weights(mine, fingerprint(net))
        net[2].weight[0, 0, 0, 0] += 0.01
    assert not same_weights(mine, fingerprint(net))
    assert not same_weights([float("nan")] * 3, mine)
