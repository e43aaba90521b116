from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gancompress.data.folders import open_images
from gancompress.data.sound import open_sound
from gancompress.errors import ConfigError, DataError

soundfile = pytest.importorskip("soundfile")


def tone(path: Path, samples: int = 1000, rate: int = 8000, channels: int = 1, **more: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(samples)[:, None] + 100 * np.arange(channels)
    soundfile.write(path, 0.5 * np.sin(0.01 * time), rate, **more)


def test_pieces_of_wav_and_flac(tmp_path: Path) -> None:
    tone(tmp_path / "a.wav", 1000, subtype="FLOAT")
    tone(tmp_path / "b.flac", 650, subtype="PCM_24")
    data = open_sound(tmp_path, length=300)
    assert (len(data), data.channels, data.length, data.rate) == (5, 1, 300, 8000)
    sound, labels = data.batch(torch.tensor([2, 4, 0]))
    assert labels is None
    assert sound.shape == (3, 1, 300)
    wave = 0.5 * torch.sin(0.01 * torch.arange(1000, dtype=torch.float64))
    torch.testing.assert_close(sound[0, 0].double(), wave[600:900], atol=1e-6, rtol=0)
    torch.testing.assert_close(sound[1, 0].double(), wave[300:600], atol=1e-6, rtol=0)
    with pytest.raises(IndexError):
        data.batch([5])


def test_speakers_are_classes(tmp_path: Path) -> None:
    for i, name in enumerate(["p10", "p9"]):
        tone(tmp_path / name / "1.wav", 200 * (i + 1))
    data = open_sound(tmp_path, length=200)
    assert data.class_names == ("p9", "p10")
    assert data.batch(torch.arange(3))[1].tolist() == [0, 0, 1]


def test_whole_files_of_one_length(tmp_path: Path) -> None:
    tone(tmp_path / "a.wav", 500, channels=2)
    assert open_sound(tmp_path, channels=2).batch([0])[0].shape == (1, 2, 500)
    tone(tmp_path / "b.wav", 400, channels=2)
    with pytest.raises(DataError, match=r"b\.wav has 400 samples; expected 500.*length="):
        open_sound(tmp_path, channels=2)


@pytest.mark.parametrize(
    ("other", "word"),
    [
        ({"channels": 2}, r"b\.wav has 2 channels; expected 1.*channels=2"),
        ({"rate": 22050}, r"b\.wav has 22,050 samples a second; expected 8,000.*Resample"),
        ({"samples": 90}, r"b\.wav has 90 samples, fewer than length=100"),
        ({"format": "OGG"}, r"b\.wav holds OGG"),
    ],
)
def test_files_that_do_not_fit_together(tmp_path: Path, other: dict, word: str) -> None:
    tone(tmp_path / "a.wav")
    tone(tmp_path / "b.wav", **other)
    with pytest.raises(DataError, match=word) as caught:
        open_sound(tmp_path, length=100)
    assert caught.value.exit_code == 3


def test_a_rate_that_is_asked_for(tmp_path: Path) -> None:
    tone(tmp_path / "a.wav")
    with pytest.raises(DataError, match=r"a\.wav has 8,000 samples a second; expected 16,000"):
        open_sound(tmp_path, rate=16000)
    for name in ("length", "rate", "channels"):
        with pytest.raises(ConfigError, match=name):
            open_sound(tmp_path, **{name: 0})


def test_damaged_files(tmp_path: Path) -> None:
    tone(tmp_path / "a.wav")
    tone(tmp_path / "b.wav")
    (tmp_path / "c.wav").write_bytes(b"RIFF0000")
    with pytest.raises(DataError, match=r"c\.wav is no readable sound"):
        open_sound(tmp_path, length=100)
    data = open_sound(tmp_path, length=100, on_bad_sample="skip")
    assert len(data) == 20
    assert list(data.bad) == [2]
    (tmp_path / "c.wav").unlink()
    data = open_sound(tmp_path, length=100)
    (tmp_path / "b.wav").write_bytes((tmp_path / "b.wav").read_bytes()[:500])
    with pytest.raises(DataError, match=r"b\.wav is (cut off|damaged)"):
        data.batch([19])


@pytest.mark.parametrize("value", [1.5, float("nan")])
def test_samples_outside_the_range(tmp_path: Path, value: float) -> None:
    soundfile.write(tmp_path / "a.wav", np.array([0, value, 0]), 8000, subtype="FLOAT")
    with pytest.raises(DataError, match=r"a\.wav has samples outside"):
        open_sound(tmp_path).batch([0])


def test_folders_without_sound(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder of sound"):
        open_sound(tmp_path / "absent")
    (tmp_path / "1.mp3").write_bytes(b"x")
    with pytest.raises(DataError, match=r"holds no sound.*1 \.mp3"):
        open_sound(tmp_path)
    tone(tmp_path / "train" / "1.wav")
    tone(tmp_path / "test" / "1.wav")
    with pytest.raises(DataError, match="no classes"):
        open_sound(tmp_path)
    tone(tmp_path / "w" / "1.wav")
    with pytest.raises(DataError, match="open_sound"):
        open_images(tmp_path / "w")
