"""What people get wrong about data of tasks: each is named before any work, with its exit code."""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import wavfile

from gancompress.cli import main
from tests.commands.test_tasks import NETS, SHORT

MORE = """
class Patch(nn.Module):
    def __init__(self, c=6):
        super().__init__()
        self.a, self.b = nn.Conv2d(c, 8, 4, 2, 1), nn.Conv2d(8, 1, 4, 2, 1)

    def forward(self, x):
        return self.b(self.a(x).relu())

class Two(Patch):
    def forward(self, condition, image):
        return super().forward(torch.cat([condition, image], 1))

class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 8, 4)

    def forward(self, x):
        return {"text": "good", "n": 3}

class Skips(nn.Module):
    def __init__(self):
        super().__init__()
        self.d, self.u = nn.Conv2d(3, 8, 4, 2, 1), nn.ConvTranspose2d(8, 3, 4, 2, 1)

    def forward(self, x):
        return (self.u(self.d(x).relu()) + x).tanh()

class Planes(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(5, 12, 3, padding=1), nn.Conv2d(12, 3, 3, padding=1)

    def forward(self, m):
        return self.b(self.a(m).relu()).tanh()
"""
VOICE = "task={name: vocoder, hop: 64, n_fft: 256, n_mels: 20, high: 4000}"
RESTORE = ["--task", "restore", "task.noise=0.1"]


def pictures(folder: Path, size: int = 16, n: int = 6, prefix: str = "") -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(n):
        pixels = rng.integers(0, 255, (size, size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{prefix}{i}.png")


def sounds(folder: Path, rates: tuple[int, ...] = (8000,), channels: int = 1) -> None:
    folder.mkdir()
    wave = (np.sin(0.1 * np.arange(1024)) * 20000).astype(np.int16)
    for i in range(6):
        samples = wave if channels == 1 else np.stack([wave] * channels, 1)
        wavfile.write(folder / f"{i}.wav", rates[i % len(rates)], samples)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("bad")
    pictures(here / "a")
    pictures(here / "fewer", n=5)
    pictures(here / "others", prefix="o")
    pictures(here / "odd", size=15)
    pictures(here / "large", size=32)
    (here / "empty").mkdir()
    sounds(here / "wav")
    sounds(here / "stereo", channels=2)
    sounds(here / "rates", (8000, 16000))
    sounds(here / "fast", (16000,))
    for name in ("mels", "masks", "colours"):
        (here / name).mkdir()
    for i in range(6):
        np.save(here / f"mels/{i}.npy", np.zeros((20, 10), np.float32))
        labels = np.full((16, 16), i % 5, np.uint8)
        labels[0, 0] = 9 if i == 3 else 0
        Image.fromarray(labels).save(here / f"masks/{i}.png")
        Image.new("RGB", (16, 16)).save(here / f"colours/{i}.png")
    with tarfile.open(here / "whole.tar", "w") as archive:
        for i in range(6):
            archive.add(here / f"a/{i}.png", arcname=f"{i}.png")
    whole = (here / "whole.tar").read_bytes()
    (here / "cut.tar").write_bytes(whole[: len(whole) // 3])
    (here / "noise.tar").write_bytes(np.random.default_rng(0).bytes(4096))
    second = whole.index(b"1.png")
    (here / "flipped.tar").write_bytes(whole[:second] + b"?" * 300 + whole[second + 300 :])
    (here / "broken.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"x" * 500)
    (here / "bad_nets.py").write_text(NETS + MORE)
    return here


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.path", [str(folder), *sys.path])
    monkeypatch.setitem(sys.modules, "bad_nets", None)
    monkeypatch.delitem(sys.modules, "bad_nets")
    return folder


def data(inputs: str, wanted: str) -> list[str]:
    return ["--input", f"x=images({inputs})", "--data", wanted]


CASES: dict[str, tuple[str, list[str], int, tuple[str, ...]]] = {
    "pairs without partner": ("net", [*data("a", "others"), "--task", "paired"], 3,
                              ("joined by file name", "o0")),
    "a partner is missing": ("net", [*data("a", "fewer"), "--task", "paired"], 3, ("(5)",)),
    "pairs or domains": ("net", data("a", "fewer"), 2, ("1 of the inputs", "--task unpaired")),
    "a size that the network cannot take": ("Skips", data("odd", "odd"), 3,
                                            ("forward fails", "(2, 3, 15, 15)", "15")),
    "wanted pictures of another size": ("net", data("a", "large"), 3, ("16, 16", "32, 32")),
    "condition of another size": (
        "twice", [*data("a", "large"), "--discriminator", "bad_nets:Patch"], 3,
        ("no condition", "(3, 16, 16)", "(3, 32, 32)"),
    ),
    "condition of another size, apart": (
        "twice", [*data("a", "large"), "--discriminator", "bad_nets:Two"], 3,
        ("no condition", "(3, 16, 16)", "(3, 32, 32)"),
    ),
    "logits that cannot be read": (
        "net", [*data("a", "a"), "--discriminator", "bad_nets:Odd"], 3,
        ("which of it are logits", "text"),
    ),
    "mels of another hop, from files": (
        "voice", ["--input", "mel=npy(mels)", "--data", "wav", "--task", "vocoder"], 3,
        ("640", "task.hop=64", "102.4"),
    ),
    "mels of another hop": ("voice", ["--data", "wav", VOICE.replace("64", "32")], 3,
                            ("2048", "1024", "task.hop=64")),
    "mels of other bands": ("voice", ["--data", "wav", VOICE.replace("n_mels: 20", "n_mels: 30")],
                            3, ("forward fails", "30")),
    "stereo": ("voice", ["--data", "stereo", VOICE], 3, ("2 channels; expected 1", "Mix it")),
    "rates that differ": ("voice", ["--data", "rates", VOICE], 3, ("1.wav", "Resample")),
    "a loss of another rate": ("voice", ["--data", "wav", VOICE, "losses=[mel]"], 2,
                               ("22,050", "8,000", "losses.0.rate=8000")),
    "inputs of another rate": (
        "voice", ["--input", "x=wav(fast)", "--data", "wav", "--task", "vocoder"], 3,
        ("16,000", "8,000"),
    ),
    "an empty wanted domain": ("net", [*data("a", "empty"), "--task", "unpaired"], 3,
                               ("empty", "no picture")),
    "an empty input domain": ("net", [*data("empty", "a"), "--task", "unpaired"], 3,
                              ("empty", "no picture")),
    "no such domain": ("net", [*data("absent", "a"), "--task", "unpaired"], 3, ("absent",)),
    "unknown labels": ("Planes", ["--input", "m=masks(masks,5)", "--data", "a"], 3,
                       ("3.png has the label 9", "masks(DIR,5,9)")),
    "colours for labels": ("Planes", ["--input", "m=masks(colours,5)", "--data", "a"], 3,
                           ("0.png has colours",)),
    "a tar that is cut off": ("net", ["--data", "cut.tar", *RESTORE], 3, ("cut.tar",)),
    "a tar that is none": ("net", ["--data", "noise.tar", *RESTORE], 3, ("noise.tar",)),
    "a damaged tar": ("net", ["--data", "flipped.tar", *RESTORE], 3, ("flipped.tar",)),
    "a damaged h5": ("net", ["--data", "broken.h5", *RESTORE], 3, ("broken.h5",)),
    "an h5 of other keys": ("net", ["--data", "strange.h5", *RESTORE], 3, ("stuff", "images")),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_it_is_named_before_any_work(
    here: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    network, words, code, said = CASES[name]
    if "h5" in name:
        h5py = pytest.importorskip("h5py")
        with h5py.File(here / "strange.h5", "w") as file:
            file["stuff"] = np.zeros((6, 3, 16, 16), np.uint8)
    if "--data" in words and words[words.index("--data") + 1] in ("wav", "stereo", "rates"):
        pytest.importorskip("soundfile")
    found = main(["prune", f"bad_nets:{network}", *words, *SHORT, "--out", "run"])
    told = " ".join(capsys.readouterr().err.split()).rpartition("error:")[2]
    assert found == code, told
    assert [part for part in said if part not in told] == [], told
    assert not (here / "run").exists()


def test_label_maps_become_planes(here: Path, tmp_path: Path) -> None:
    import torch

    from gancompress.data.inputs import InputSampler

    for i in range(3):
        labels = np.full((4, 6), i, np.uint8)
        labels[0, 0] = 255
        Image.fromarray(labels).save(tmp_path / f"{i}.png")
    (x,) = InputSampler.parse([f"m=masks({tmp_path},3,255)"]).at(
        torch.tensor([2, 0]), torch.Generator()
    )
    assert x.shape == (2, 4, 4, 6)
    assert torch.equal(x.sum(1), torch.ones(2, 4, 6))
    assert x[:, :, 1, 1].argmax(1).tolist() == [2, 0]
    assert x[:, 3].sum((1, 2)).tolist() == [1, 1]
    # Colours of a palette do not count, its indices do.
    picture = Image.fromarray(np.full((4, 6), 2, np.uint8), mode="L").convert("P")
    picture.putpalette([9, 9, 9] * 256)
    picture.putdata([1] * 24)
    (tmp_path / "p").mkdir()
    picture.save(tmp_path / "p/0.png")
    (x,) = InputSampler.parse([f"m=masks({tmp_path / 'p'},3)"])(1, torch.Generator())
    assert x.argmax(1).unique().tolist() == [1]
