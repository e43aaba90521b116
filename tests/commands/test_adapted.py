"""A shipped recipe on other tasks and outputs: what is replaced, what it says, that it runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from gancompress.cli import main
from gancompress.distill import DistillBatch, build_distiller
from gancompress.errors import DataError

NETS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 12, 3, padding=1)
        self.c = nn.Conv2d(12, 3, 3, padding=1)

    def forward(self, x):
        return self.c(self.b(self.a(x).relu()).relu()).tanh()

class Several(Net):
    def forward(self, x):
        h = self.b(self.a(x).relu()).relu()
        return {"code": h.mean((2, 3)), "picture": self.c(h).tanh()}

class D(nn.Module):
    def __init__(self, c=3):
        super().__init__()
        self.a, self.b = nn.Conv2d(c, 8, 4, 2, 1), nn.Conv2d(8, 1, 4, 2, 1)

    def forward(self, x):
        return self.b(self.a(x).relu())

def beside():
    return D(6)
"""
SHORT = ["target=params=1.5x", "batch=2", "steps=3", "finetune_steps=1", "precision=float32"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "ab").mkdir()
    for i in range(6):
        x = rng.integers(0, 255, (16, 32, 3), dtype=np.uint8)
        Image.fromarray(x).save(tmp_path / f"ab/{i}.png")
    (tmp_path / "adapted_nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    monkeypatch.setitem(sys.modules, "adapted_nets", None)
    monkeypatch.delitem(sys.modules, "adapted_nets")
    return tmp_path


@pytest.mark.parametrize(
    ("discriminator", "said", "names"),
    [
        ("beside", "condition-aware instead", ["class_aware", "discriminator_features", "pixel"]),
        ("D", "distiller attention instead", ["attention", "discriminator_features", "pixel"]),
    ],
)
def test_ppcd_on_pairs_with_several_outputs(
    here: Path, capsys: pytest.CaptureFixture[str], discriminator: str, said: str, names: list[str]
) -> None:
    words = ["adapted_nets:Several", "--output", "picture", "--data", "ab", "--ab", "left"]
    judge = ["--discriminator", f"adapted_nets:{discriminator}"]
    # A moved picture would not fit its condition.
    code = main(["prune", *words, *judge, "augment=[]", *SHORT, "--out", "run", "--json"])
    told = capsys.readouterr()
    assert code == 0, told.err
    assert said in " ".join(told.err.split())
    import yaml

    kept = yaml.safe_load(Path("run/config.yaml").read_text())["distill"]
    assert [entry["name"] for entry in kept] == names
    assert kept[0].get("variant") == ("cam" if names[0] == "class_aware" else None)
    assert json.loads(told.out)["quality"]["student"]["to_teacher"]["l1"] > 0


class Both(nn.Module):
    """Returns a code beside the image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.conv(x).relu()
        return h.mean((2, 3)), self.last(h)


class Judge(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(channels, 4, 4, 2, 1), nn.Conv2d(4, 1, 4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).relu())


def batch(x: Tensor, student: Tensor, teacher: Tensor, condition: Tensor | None) -> DistillBatch:
    return DistillBatch((x,), None, student, teacher, {}, {}, condition)


def test_distillers_look_at_the_output_that_counts() -> None:
    net, judge, x = Both(), Judge(1), torch.randn(2, 1, 16, 16)
    given = {"teacher": net, "student": net, "discriminator": judge, "example": (x,)}
    with pytest.raises(DataError, match="--output 0"):
        build_distiller("discriminator_features", **given)
    image = net(x)[1].detach()
    distiller = build_distiller("discriminator_features", **given, image=image)
    assert float(distiller(batch(x, image, image, None)).detach()) == pytest.approx(0, abs=1e-6)
    assert float(distiller(batch(x, -image, image, None)).detach()) > 0.01


def test_cam_beside_a_condition_needs_no_class() -> None:
    net, judge, x = Both(), Judge(2), torch.randn(2, 1, 16, 16)
    image = net(x)[1].detach()
    distiller = build_distiller(
        "class_aware", teacher=net, student=net, discriminator=judge, example=(x,), condition=x,
        image=image, variant="cam",
    )  # fmt: skip
    other = torch.randn_like(image).requires_grad_()
    loss = distiller(batch(x, other, image, x))
    loss.backward()
    assert float(loss.detach()) > 0
    assert other.grad is not None
    # The condition counts: beside another one the same two pictures are another distance apart.
    again = distiller(batch(x, other, image, torch.randn_like(x)))
    assert float(again.detach()) != float(loss.detach())
    with pytest.raises(DataError, match="class labels"):
        distiller(batch(x, other, image, None))
