"""``eval`` and the end of a run of every task: features, the original, the worst, pages."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import wavfile

from gancompress.cli import main
from gancompress.commands.resolve import feature_choice
from gancompress.metrics.features import OwnFeatures
from tests.commands.test_tasks import NETS, SHORT

MORE = '''
class Small(nn.Module):
    """Pictures (3, 8, 8) of noise."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 64), nn.Linear(64, 3 * 64)

    def forward(self, z):
        return self.b(self.a(z).relu()).view(-1, 3, 8, 8).tanh()

def small():
    torch.manual_seed(0)
    return Small()

def view():
    return lambda x: x.flatten(2).mean(2)

def bad_view():
    return lambda x: x.nothing

def no_view():
    return 3
'''


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rng = np.random.default_rng(0)
    for name in ("ab", "a", "b", "wav", "icons"):
        (tmp_path / name).mkdir()
    for i in range(16):
        x = rng.integers(0, 255, (4, 4, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
        Image.fromarray(np.concatenate([x, 255 - x], 1)).save(tmp_path / f"ab/{i}.png")
        Image.fromarray(x).save(tmp_path / f"a/{i}.png")
        Image.fromarray(255 - x).save(tmp_path / f"b/other{i}.png")
        Image.fromarray(x[::2, ::2]).save(tmp_path / f"icons/{i}.png")
        tone = np.sin(2 * np.pi * (200 + 50 * i) * np.arange(1024) / 8000) * 20000
        wavfile.write(tmp_path / f"wav/{i}.wav", 8000, tone.astype(np.int16))
    (tmp_path / "task_nets.py").write_text(NETS + MORE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    monkeypatch.setitem(sys.modules, "task_nets", None)
    monkeypatch.delitem(sys.modules, "task_nets")
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    code = main([*words, "--json"])
    said = capsys.readouterr()
    assert code == 0, said.err
    return json.loads(said.out)


def prune(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    return told(capsys, "prune", *words, *SHORT, "--out", "run")


def test_pairs_with_features_of_ones_own(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--data", "ab", "--ab", "left", "task.held_out=0.5", "losses=[l1]"]
    found = prune(
        capsys, "task_nets:net", *data, "--task", "paired", "--features", "task_nets:view"
    )
    student = found["quality"]["student"]
    seen = student["on_features"]
    assert (seen["features"], seen["n"]) == ("task_nets:view", 8)
    assert seen["frechet"] > 0
    assert seen["precision"] is not None
    assert "on_features" in found["quality"]["teacher"]
    assert student["worst"]["distances"] == sorted(student["worst"]["distances"], reverse=True)
    assert len(student["worst"]["numbers"]) == 6
    with Image.open("run/worst.png") as picture:
        assert picture.width > 4 * 16

    # The same held-out pairs again, other pairs, and pairs of an untouched network.
    own = ["--model", "task_nets:net", "--features", "task_nets:view"]
    again = told(capsys, "eval", "run", *own, "--teacher", "task_nets:net")
    assert again["on_features"]["frechet"] == pytest.approx(seen["frechet"], rel=1e-4)
    assert again["to_teacher"]["l1"] == pytest.approx(student["to_teacher"]["l1"], rel=1e-4)
    assert again["worst"]["numbers"] == student["worst"]["numbers"]
    Path("ab").rename("elsewhere")  # other data does not ask for the run's own
    other = told(capsys, "eval", "run", *own, "--data", "elsewhere")
    Path("elsewhere").rename("ab")
    assert (other["n"], other["on_features"]["n"], other["on_features"]["n_reference"]) == (
        16,
        8,
        8,
    )
    alone = told(capsys, "eval", "task_nets:net", "--data", "ab", "--ab", "left")
    assert alone["task"] == "paired"
    assert alone["to_wanted"]["l1"] > 0

    plain = ["eval", "task_nets:net", "--data", "ab", "--ab", "left", "--worst", "w.png"]
    assert main(plain) == 2
    assert "--teacher" in capsys.readouterr().err
    code = main(["eval", "run", *own, "--teacher", "task_nets:net", "--worst", "w.png"])
    table = capsys.readouterr()
    assert code == 0, table.err
    assert "Frechet distance" in table.out
    assert Path("w.png").is_file()

    assert main(["report", "run"]) == 0
    page = Path("run/report.html").read_text()
    for words in ("Held-out inputs, side by side", "Farthest from the teacher", "task_nets:view"):
        assert words in page


def test_two_domains_are_compared_as_sets_without_being_asked(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--input", "x=images(a)", "--data", "b", "task={name: unpaired, held_out: 0.5}"]
    found = prune(capsys, "task_nets:net", *words)
    seen = found["quality"]["student"]["on_features"]
    assert "grey 32x32" in seen["features"]
    assert (seen["n"], seen["reference"]) == (8, "real outputs of unpaired")
    again = told(capsys, "eval", "run", "--model", "task_nets:net")
    assert again["on_features"]["frechet"] == pytest.approx(seen["frechet"], rel=1e-4)
    # Another wanted domain: the network made of a is nearer to what it was than to b.
    other = told(capsys, "eval", "run", "--model", "task_nets:net", "--data", "a")
    assert other["on_features"]["frechet"] != again["on_features"]["frechet"]


def test_a_network_that_no_run_made(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = ["eval", "task_nets:net", "--input", "x=images(a)", "--data", "b"]
    found = told(capsys, *own, "--task", "unpaired", "--teacher", "task_nets:net")
    assert found["to_teacher"]["l1"] == 0
    assert found["on_features"]["frechet"] > 0


def test_noise_against_its_data(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = prune(capsys, "task_nets:small", "--input", "z=normal(4)", "--data", "icons")
    seen = found["quality"]["student"]["on_features"]
    assert (seen["n"], seen["n_reference"]) == (8, 8)
    (lost,) = found["taken"]["classes"]
    assert lost["label"] is None
    assert lost["agreement"] > 0
    page = told(capsys, "report", "run")["file"]
    assert "Around one latent" in Path(page).read_text("utf-8")
    again = told(capsys, "eval", "run", "--model", "task_nets:small", "--n", "8")
    assert again["on_features"]["frechet"] == pytest.approx(seen["frechet"], rel=1e-4)
    fresh = ["eval", "task_nets:small", "--input", "z=normal(4)"]
    assert told(capsys, *fresh, "--data", "a", "--size", "8")["on_features"]["n"] == 8
    assert main(fresh) == 2
    assert "nothing to compare" in capsys.readouterr().err


@pytest.mark.slow
def test_inputs_alone_are_compared_with_the_original(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = prune(capsys, "task_nets:net", "--input", "x=images(a)", "--task", "teacher")
    assert found["quality"]["student"]["to_teacher"]["l1"] > 0
    own = ["eval", "run", "--model", "task_nets:net"]
    assert told(capsys, *own, "--teacher", "task_nets:net")["to_teacher"]["psnr"] > 0
    assert told(capsys, *own, "--data", "b")["on_features"]["n"] == 8


def test_sound_is_played_and_drawn(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = "task={name: vocoder, hop: 64, n_fft: 256, n_mels: 20, high: 4000}"
    own = ["task_nets:voice", "--data", "wav", spec, "losses=[l1]"]
    found = prune(capsys, *own, "--features", "task_nets:view")
    assert found["quality"]["student"]["worst"]["measure"] == "log mel"
    for name in ("sounds/sounds.png", "worst.png"):
        assert np.asarray(Image.open(here / "run" / name)).std() > 10
    found = told(
        capsys, "eval", "run", "--model", "task_nets:voice", "--data", "wav",
        "--teacher", "task_nets:voice", "--features", "task_nets:view",
    )  # fmt: skip
    assert set(found["to_teacher"]) == {"l1", "log_mel", "stft"}
    assert found["on_features"]["n"] == 8
    assert main(["report", "run"]) == 0
    page = Path("run/report.html").read_text()
    assert page.count("<audio") == 6  # one held-out piece, which is the worst, too
    assert page.count("data:audio/wav;base64,") == 6
    assert "Held-out sounds" in page


@pytest.mark.parametrize(
    ("spec", "code", "message"),
    [
        ("nothing", 2, "package.module:fn"),
        ("inception:", 2, "names no file"),
        ("inception:absent.pth", 3, "no Inception weights at absent.pth"),
        ("task_nets:absent", 2, "has no 'absent'"),
        ("task_nets:no_view", 2, "returned a int"),
        ("task_nets:bad_view", 3, "AttributeError"),
    ],
)
def test_features_that_cannot_look_are_refused_before_any_work(
    here: Path, capsys: pytest.CaptureFixture[str], spec: str, code: int, message: str
) -> None:
    if spec.startswith("inception"):
        pytest.importorskip("torch_fidelity")
    data = ["--data", "ab", "--ab", "left"]
    got = main(["prune", "task_nets:net", *data, *SHORT, "--out", "run", "--features", spec])
    said = capsys.readouterr().err
    assert (got, message in said) == (code, True), said
    assert not (here / "run").exists()


def test_embedded_features_refuse_sound(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = "task={name: vocoder, hop: 64, n_fft: 256, n_mels: 20, high: 4000}"
    own = ["task_nets:voice", "--data", "wav", spec, *SHORT]
    assert main(["prune", *own, "--features", "embedded"]) == 3
    assert "look at pictures" in capsys.readouterr().err


def test_fid_and_kid_of_pairs(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch_fidelity")
    from gancompress.metrics.fidelity import fid_and_kid

    class Standing(OwnFeatures):
        """The maths of torch-fidelity on the pixels themselves: no weights to be had here."""

        def __init__(self, weights: str | None, device: object) -> None:
            super().__init__(lambda x: x[:, :, ::4, ::4].flatten(1), f"inception of {weights}")

        def standard(self, fake: torch.Tensor, real: torch.Tensor) -> dict[str, float]:
            return fid_and_kid(fake, real)

    monkeypatch.setattr(feature_choice, "InceptionFeatures", Standing)
    data = ["--data", "ab", "--ab", "left", "--task", "paired", "--features", "inception:w.pth"]
    seen = told(capsys, "eval", "task_nets:net", *data)["on_features"]
    assert seen["fid8"] == pytest.approx(seen["frechet"], rel=1e-4)
    assert {"kid8_mean", "kid8_std"} <= set(seen)
    assert seen["features"] == "inception of w.pth"
    assert main(["eval", "task_nets:net", *data]) == 0
    table = capsys.readouterr().out
    assert "kid8 mean" in table
    assert "not an FID" not in table
