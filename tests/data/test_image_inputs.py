"""Pictures as inputs: framed as is said inside, joined by name with mirrored ones too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gancompress.data.folders import open_images
from gancompress.data.inputs import InputSampler
from gancompress.errors import ConfigError, DataError, GancompressError
from gancompress.tasks.infer import inferred_task
from gancompress.tasks.paired import Joined, Paired, paired
from gancompress.tasks.protocol import Sources


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(3):
            x = rng.integers(0, 255, (12, 18, 3), dtype=np.uint8)
            Image.fromarray(x).save(tmp_path / name / f"{i}.png")
    np.save(tmp_path / "f.npy", rng.random((3, 8, 8, 3), dtype=np.float32))
    np.save(tmp_path / "u.npy", rng.integers(0, 255, (3, 8, 8, 3), dtype=np.uint8))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(spec: str) -> InputSampler:
    return InputSampler.parse([f"x={spec}"])


def test_what_stands_behind_the_folder(here: Path) -> None:
    sampler = read("images(a, size=6x9 ,crop=center,flip)")
    assert sampler.files == ("0", "1", "2", "0 (mirrored)", "1 (mirrored)", "2 (mirrored)")
    x = sampler.at(torch.tensor([1, 4]), torch.Generator())[0]
    assert x.shape == (2, 3, 6, 9)
    assert torch.equal(x[0], x[1].flip(-1))
    y = read("images(f.npy,values=0:1)").at(torch.arange(3), torch.Generator())[0]
    wanted = torch.from_numpy(np.load("f.npy")).permute(0, 3, 1, 2) * 2 - 1
    assert torch.allclose(y, wanted, atol=1e-6)
    (here / "odd,size=3 name").mkdir()
    Image.new("RGB", (4, 4)).save(here / "odd,size=3 name/0.png")
    assert read("images(odd,size=3 name)").files == ("0",)


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ("images(a,sise=6)", "'sise=6' is not understood.*size=64x48"),
        ("images(a,flip=1)", "'flip=1' is not understood"),
        ("images(a,size=6,size=7)", "not understood"),
        ("images(f.npy,values=0-1)", "a colon between"),
        ("images(a,size=none)", "size"),
        ("images(,size=6)", "take a folder"),
    ],
)
def test_what_is_not_understood(here: Path, spec: str, word: str) -> None:
    with pytest.raises(GancompressError, match=word):
        read(spec)


def test_mirrored_pairs_belong_together(here: Path) -> None:
    joined = Joined(read("images(a,flip)"), open_images("b", flip=True))
    plain = Joined(read("images(a)"), open_images("b"))
    (x,), y = joined.rows(torch.arange(6), torch.Generator())
    (u,), v = plain.rows(torch.arange(3), torch.Generator())
    assert torch.equal(x, torch.cat([u, u.flip(-1)]))
    assert torch.equal(y, torch.cat([v, v.flip(-1)]))
    for mine, other, word in (
        ("images(a)", True, "x=images\\(FOLDER,flip\\)"),
        ("images(a,flip)", False, "too: --flip"),
    ):
        with pytest.raises(DataError, match=word):
            Joined(read(mine), open_images("b", flip=other))


def test_as_many_rows_without_names_are_asked_about(here: Path) -> None:
    data = open_images("u.npy")
    for spec in ("images(u.npy)", "images(a)"):
        with pytest.raises(ConfigError, match="--task paired or --task unpaired"):
            inferred_task(Sources(read(spec), data))
    assert inferred_task(Sources(read("images(a,flip)"), data)) == "unpaired"
    assert inferred_task(Sources(read("images(a,flip)"), open_images("b", flip=True))) == "paired"


def test_the_condition_is_all_that_lies_beside_or_what_is_named(here: Path) -> None:
    specs = ["z=normal(5)", "x=images(a)", "small=images(a,size=6x9)", "m=images(b)"]
    sources = Sources(InputSampler.parse(specs), open_images("b"))

    def shown(condition: bool | list[str]) -> Paired:
        return paired(sources, condition=condition)

    for condition, names, channels in ((True, ["x", "m"], 6), (["m"], ["m"], 3)):
        task = shown(condition)
        assert task.condition_names() == names
        seen = task.preview(1).condition
        assert seen is not None
        assert seen.shape[1] == channels
    assert shown(False).preview(1).condition is None
    with pytest.raises(ConfigError, match=r"no input 'y'"):
        shown(["y"])
    with pytest.raises(DataError, match="'small' .* does not lie beside"):
        shown(["small"]).preview(1)
