"""Every kind of input: what it gives, that a seed decides it, and how wrong words are refused."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from gancompress.data.inputs import InputSampler
from gancompress.errors import ConfigError, DataError
from gancompress.metrics.sampling import with_labels
from gancompress.modules.nested import pick


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures p/<i>.png of grey i, arrays m/<i>.npy full of i, and sounds w/<i>.wav."""
    for folder in ("p", "m", "w"):
        (tmp_path / folder).mkdir()
    for i in range(5):
        Image.new("L", (8, 8), 50 * i).save(tmp_path / f"p/{i}.png")
        np.save(tmp_path / f"m/{i}.npy", np.full((2, 3), i, np.float64))
        sound(tmp_path / f"w/{i}.wav", [i * 1000] * 40)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sound(
    file: Path, values: list[int], *, width: int = 2, channels: int = 1, rate: int = 8000
) -> None:
    with wave.open(str(file), "wb") as stream:
        stream.setnchannels(channels)
        stream.setsampwidth(width)
        stream.setframerate(rate)
        kind = "little"
        stream.writeframes(b"".join(v.to_bytes(width, kind, signed=width > 1) for v in values))


def one(spec: str, n: int = 64) -> Tensor:
    sampler = InputSampler.parse([spec])
    (first,) = sampler(n, rng())
    assert torch.equal(first, sampler(n, rng())[0])
    return first


def test_numbers() -> None:
    tokens = one("t=integers(3, 7, 4,2)")
    assert tokens.shape == (64, 4, 2)
    assert tokens.dtype == torch.int64
    assert sorted(set(tokens.flatten().tolist())) == [3, 4, 5, 6]
    assert one("t=integers(-2,0)").shape == (64,)
    psi = one("psi=constant(0.7)")
    assert psi.shape == (64,)
    assert psi.dtype == torch.float32
    assert torch.equal(psi, torch.full((64,), 0.7))
    assert one("k=constant(-3,1,1)").dtype == torch.int64
    assert one("k=constant(-3,1,1)").shape == (64, 1, 1)


def test_one_hot_rows_are_labels() -> None:
    sampler = InputSampler.parse(["z=normal(4)", "c=onehot(5)"])
    inputs = sampler(40, rng())
    assert inputs[1].shape == (40, 5)
    assert inputs[1].sum(1).tolist() == [1.0] * 40
    assert sampler.n_classes == 5
    labels = sampler.labels(inputs)
    assert labels is not None
    assert sorted(set(labels.tolist())) == [0, 1, 2, 3, 4]
    wanted = torch.arange(40) % 5
    for changed in (
        sampler.relabelled(inputs, wanted),
        with_labels(sampler, inputs, wanted),
    ):
        assert torch.equal(sampler.labels(changed), wanted)
        assert changed[1].dtype == torch.float32
        assert changed[0] is inputs[0]


def test_files_give_what_is_in_them(here: Path) -> None:
    pictures = one("x=images(p)")
    assert pictures.shape == (64, 1, 8, 8)
    assert len(set(pictures[:, 0, 0, 0].tolist())) == 5
    arrays = one("x=npy(m)")
    assert arrays.shape == (64, 2, 3)
    assert arrays.dtype == torch.float32
    assert set(arrays.flatten().tolist()) == {0, 1, 2, 3, 4}
    heard = one("x=wav(w)")
    assert heard.shape == (64, 1, 40)
    assert heard.max() == 4000 / 2**15
    assert one("x=wav(w, 16)").shape == (64, 1, 16)
    np.save("rows.npy", np.arange(12).reshape(4, 3))
    rows = one("x=npy(rows.npy)")
    assert rows.dtype == torch.int64
    assert {tuple(r) for r in rows.tolist()} == {(0, 1, 2), (3, 4, 5), (6, 7, 8), (9, 10, 11)}


def test_other_seeds_give_other_files(here: Path) -> None:
    sampler = InputSampler.parse(["x=npy(m)"])
    assert not torch.equal(sampler(20, rng(0))[0], sampler(20, rng(1))[0])


def test_several_inputs_are_joined_by_file_name(here: Path) -> None:
    sampler = InputSampler.parse(["a=npy(m)", "z=normal(2)", "b=images(p)", "s=wav(w)"])
    a, z, b, s = sampler(50, rng())
    assert z.shape == (50, 2)
    index = a[:, 0, 0]
    torch.testing.assert_close((b[:, 0, 0, 0] + 1) * 127.5, 50 * index)
    torch.testing.assert_close(s[:, 0, 0] * 2**15, 1000 * index)


def test_files_without_a_partner_are_named(here: Path) -> None:
    (here / "m/3.npy").unlink()
    with pytest.raises(DataError, match=r"1 of 'b' have no partner in 'a': 3$"):
        InputSampler.parse(["a=npy(m)", "b=images(p)"])


def test_pictures_in_subfolders_keep_their_folder(here: Path) -> None:
    for top in ("u", "v"):
        for name in ("cat", "dog"):
            (here / top / name).mkdir(parents=True)
            shade = 10 if name == "cat" else 200
            Image.new("L", (8, 8), shade).save(here / top / name / "1.png")
    a, b = InputSampler.parse(["a=images(u)", "b=images(v)"])(30, rng())
    assert torch.equal(a, b)
    assert len(set(a[:, 0, 0, 0].tolist())) == 2


@pytest.mark.parametrize(("width", "values"), [(1, [0, 128, 255]), (2, [-32768, 0, 32767]),
                                               (3, [-(2**23), 0, 2**23 - 1]),
                                               (4, [-(2**31), 0, 2**31 - 1])])  # fmt: skip
def test_sound_of_any_width(tmp_path: Path, width: int, values: list[int]) -> None:
    sound(tmp_path / "a.wav", values, width=width)
    heard = InputSampler.parse([f"x=wav({tmp_path})"])(1, rng())[0].flatten()
    torch.testing.assert_close(heard, torch.tensor([-1.0, 0.0, 1.0]), atol=0.01, rtol=0)


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        ("x=onehot(0)", ConfigError, "at least 1"),
        ("x=onehot(2,3)", ConfigError, "one number"),
        ("x=integers(5)", ConfigError, "least number"),
        ("x=integers(5,5)", ConfigError, "least number"),
        ("x=integers(0,9,0)", ConfigError, "at least 1"),
        ("x=integers(0,99999999999999999999)", ConfigError, "64 bits"),
        ("x=constant()", ConfigError, "takes a number"),
        ("x=constant(nan)", ConfigError, "finite"),
        ("x=constant(1,0)", ConfigError, "at least 1"),
        ("x=normal(2.5)", ConfigError, "whole numbers"),
        ("x=normal(16384,16384)", ConfigError, "268,435,456"),
        ("x=labels(99999999999)", ConfigError, "at most"),
        ("x=images()", ConfigError, "take a folder"),
        ("x=images(nowhere)", DataError, "no data at 'nowhere'"),
        ("x=npy()", ConfigError, "takes a folder"),
        ("x=npy(nowhere)", DataError, "no arrays"),
        ("x=npy(p)", DataError, "holds no .npy"),
        ("x=wav()", ConfigError, "takes a folder"),
        ("x=wav(m)", DataError, "holds no .wav"),
        ("x=wav(w,0)", ConfigError, "takes a folder"),
        ("x=wav(w,41)", DataError, "40 samples, 41 are asked for"),
        ("x=image(p)", ConfigError, "Did you mean 'images'"),
    ],
)
def test_what_is_refused(here: Path, spec: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        InputSampler.parse([spec])
    assert spec in str(caught.value)
    assert words in str(caught.value)


def test_files_that_do_not_fit_are_named(here: Path) -> None:
    np.save("m/5.npy", np.zeros((2, 4)))
    with pytest.raises(DataError, match=r"5\.npy is float64 \(2, 4\).*0\.npy.*\(2, 3\)"):
        InputSampler.parse(["x=npy(m)"])
    Path("m/5.npy").write_bytes(b"\x93NUMPY\x01")
    with pytest.raises(DataError, match=r"cannot read m/5\.npy"):
        InputSampler.parse(["x=npy(m)"])
    np.save("m/5.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"5\.npy"):
        InputSampler.parse(["x=npy(m)"])
    for extra, words in (
        ({"rate": 16000}, "16000 samples a second"),
        ({"channels": 2}, "2 channels"),
    ):
        sound(here / "w/9.wav", [0] * 40, **extra)
        with pytest.raises(DataError, match=f"9.wav has {words}"):
            InputSampler.parse(["x=wav(w)"])
    sound(here / "w/9.wav", [0] * 7)
    with pytest.raises(DataError, match=r"9\.wav has 7 samples.*wav\(w,7\)"):
        InputSampler.parse(["x=wav(w)"])


def test_memory_is_counted_before_it_is_taken() -> None:
    sampler = InputSampler.parse(["z=normal(8192,8192)"])
    with pytest.raises(DataError, match=r"64 samples of input 'z'.*smaller batch"):
        sampler(64, rng())


class Named(nn.Module):
    def forward(self, z, *, scale=None, shift):
        return z * (1.0 if scale is None else scale) + shift


class Gap(nn.Module):
    def forward(self, z, truncation=1.0, y=None):
        return z * truncation + (0 if y is None else y[:, None])


def test_names_of_arguments_decide_over_order() -> None:
    net = Named()
    specs = ["shift=constant(3.0,1)", "z=constant(2.0,1)", "scale=constant(5.0,1)"]
    inputs = InputSampler.parse(specs, net)(4, rng())
    assert net(*inputs).flatten().tolist() == [13.0] * 4
    assert net(torch.ones(1), shift=1.0).item() == 2.0  # the user's own calls are untouched
    gap = Gap()
    inputs = InputSampler.parse(["y=labels(3)", "z=normal(2)"], gap)(4, rng())
    assert torch.equal(gap(*inputs), gap(inputs[0], y=inputs[1]))
    other = InputSampler.parse(["a=normal(2)", "b=labels(3)"], Gap())
    assert [p.name for p in other.parts] == ["a", "b"]
    assert other.labels(other(4, rng())) is not None
    with pytest.raises(ConfigError, match="'z' is argument 1 of Gap.*no argument 'noise'"):
        InputSampler.parse(["noise=normal(2)", "z=normal(2)"], Gap())
    with pytest.raises(ConfigError, match="given twice"):
        InputSampler.parse(["z=normal(2)", "z=normal(2)"], Gap())


IMAGE, OTHER = torch.zeros(2, 3, 8, 8), torch.zeros(2, 9)


@pytest.mark.parametrize(
    ("output", "which"),
    [
        (IMAGE, None),
        ((IMAGE,), None),
        ({"sample": IMAGE}, None),
        ((IMAGE, OTHER), "0"),
        ([OTHER, IMAGE], "-1"),
        ({"image": IMAGE, "w": OTHER}, "image"),
        (([OTHER, IMAGE], OTHER), "0.1"),
        ({"out": [IMAGE], "w": OTHER}, "out.0"),
    ],
)
def test_the_image_is_picked(output: object, which: str | None) -> None:
    assert pick(output, which) is IMAGE


@pytest.mark.parametrize(
    ("output", "which", "words"),
    [
        ((IMAGE, OTHER), None, r"2 tensors \(0 \(2, 3, 8, 8\), 1 \(2, 9\)\).*--output 0"),
        ((IMAGE, OTHER), "2", r"no '2'. There is: 0 \(2, 3, 8, 8\)"),
        ({"image": IMAGE}, "imge", "There is: image"),
        (([IMAGE, OTHER], OTHER), "0", r"holds a list at '0'.*0\.1 \(2, 9\)"),
        (IMAGE, "0", "leave --output out"),
        (None, None, "returned NoneType"),
        ({"n": 3}, "n", "holds a int"),
    ],
)
def test_what_cannot_be_picked(output: object, which: str | None, words: str) -> None:
    with pytest.raises(DataError, match=words):
        pick(output, which)
