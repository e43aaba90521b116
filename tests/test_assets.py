"""What ships in the wheel: complete, small, licensed."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from gancompress import assets
from gancompress.errors import ConfigError

FOLDER = Path(assets.__file__).parent


def test_the_embedded_images_are_balanced_bytes():
    with np.load(assets.path("fashion2000.npz"), allow_pickle=False) as file:
        assert file["x"].shape == (2000, 28, 28)
        assert file["x"].dtype == np.uint8
        assert np.bincount(file["y"]).tolist() == [200] * 10
        unique = {hashlib.sha256(image.tobytes()).digest() for image in file["x"]}
    assert len(unique) >= 1999
    assert assets.path("fashion2000.npz").stat().st_size <= 1_000_000


def test_the_held_out_slice_of_the_tests_is_held_out():
    with (
        np.load(assets.path("fashion2000.npz"), allow_pickle=False) as shipped,
        np.load(Path(__file__).parent / "metrics" / "t10k200.npz", allow_pickle=False) as held,
    ):
        seen = {image.tobytes() for image in shipped["x"]}
        assert not any(image.tobytes() in seen for image in held["x"])
    assert (Path(__file__).parent / "metrics" / "t10k200.npz").stat().st_size <= 100_000


def test_the_licence_lies_beside_the_images():
    text = assets.path("LICENSE-fashion-mnist.txt").read_text()
    assert "Copyright (c) 2017 Zalando SE" in text
    assert "The above copyright notice and this permission notice shall be included" in text
    for file in ("fashion2000.npz", "fashion_floor.npz", "classifier.safetensors"):
        assert file in text


def test_all_of_it_takes_at_most_six_megabytes():
    assert sum(p.stat().st_size for p in FOLDER.iterdir() if p.suffix != ".pyc") <= 6_000_000


def test_nothing_that_ships_needs_pickle():
    assert {p.suffix for p in FOLDER.iterdir() if p.is_file()} <= {
        ".py", ".npz", ".safetensors", ".json", ".txt",
    }  # fmt: skip


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match=r"Did you mean 'fashion2000\.npz'"):
        assets.path("fashion200.npz")
