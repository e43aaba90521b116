"""One reader for every file of weights: what it is, read safely; what it is not, by name."""

from __future__ import annotations

import argparse
import ast
import gzip
import pickle
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from gancompress.errors import CheckpointError
from gancompress.weights.reading import descend, read_weight_file, tensors_at

PACKAGE = Path(__file__).resolve().parent.parent.parent / "gancompress"


def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7)).state_dict()


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors", "w.bin", "weights"])
def test_a_file_of_torch_is_read_whatever_its_name(tmp_path: Path, name: str, legacy: bool) -> None:
    saved = {**state(), "half": torch.ones(3).half(), "view": torch.arange(6.0).view(2, 3).t()}
    torch.save(saved, tmp_path / name, _use_new_zipfile_serialization=not legacy)
    found = tensors_at(tmp_path / name)
    assert list(found) == list(saved)
    assert all(torch.equal(found[n], saved[n]) and found[n].dtype == saved[n].dtype for n in saved)


def test_safetensors_are_known_by_their_bytes(tmp_path: Path) -> None:
    save_file(state(), str(tmp_path / "w.pth"))
    read = read_weight_file(tmp_path / "w.pth")
    assert torch.equal(read.value["0.weight"], state()["0.weight"])
    assert any("safetensors" in text for text in read.notes)


def test_settings_beside_the_weights_are_left_unread(tmp_path: Path) -> None:
    settings = {"args": argparse.Namespace(lr=0.1, sizes=[1, 2]), "best": np.float64(7.5)}
    settings |= {"mean": np.ones(3), "where": Path("a/b")}
    torch.save({"g_ema": state(), **settings}, tmp_path / "w.pt")
    read = read_weight_file(tmp_path / "w.pt")
    assert torch.equal(read.value["g_ema"]["0.bias"], state()["0.bias"])
    assert not isinstance(read.value["args"], argparse.Namespace)
    assert "argparse.Namespace" in read.notes[0]


def lfs(file: Path) -> None:
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n")


def html(file: Path) -> None:
    file.write_text("\n<!DOCTYPE html>\n<title>Sign in</title>" + " " * 9000)


def numbers(file: Path) -> None:
    with file.open("wb") as stream:
        np.savez(stream, a=np.ones(3))


def packed(file: Path) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"0" * 10**6)


def script(file: Path) -> None:
    class Twice(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * x

    torch.jit.trace(Twice(), torch.ones(2)).save(str(file))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("write", "cause"),
    [
        (lfs, "Git LFS pointer"),
        (html, "HTML page"),
        (lambda f: f.write_bytes(b""), "is empty"),
        (lambda f: f.write_text('{"weight_map": {}}'), "JSON text"),
        (lambda f: f.write_text("dim: 3\nwidth: 4\n"), "a text, not weights"),
        (lambda f: f.write_bytes(gzip.compress(b"abc")), "gzip"),
        (lambda f: f.write_bytes(bytes(range(256)) * 4), "neither safetensors nor"),
        (lambda f: f.mkdir(), "is a folder"),
        (lambda f: None, "there is no file"),
        (numbers, "NumPy archive"),
        (packed, "compressed archive"),
        (script, "TorchScript"),
        (lambda f: torch.save(nn.Linear(2, 2), f), "torch.nn.modules.linear.Linear"),
        (lambda f: f.write_bytes(pickle.dumps({"a": 1})), "bare pickle"),
        (lambda f: f.write_bytes(pickle.dumps(state())), "refused, nothing was run"),
    ],
)
def test_what_is_no_file_of_weights_is_named(
    tmp_path: Path, write: Callable[[Path], Any], cause: str
) -> None:
    write(tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=cause):
        read_weight_file(tmp_path / "w.pth")


class Takes:
    """Asks a reader to call ``function`` with ``args``."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


def long_jump(file: Path) -> None:
    file.write_bytes(b"\x80\x02}r\xff\xff\xff\x7f.")


def buffer(file: Path) -> None:
    file.write_bytes(b"\x80\x05\x96" + (2**33).to_bytes(8, "little") + b".")


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    "value",
    [
        Takes(bytearray, 2**33),
        Takes(torch.Tensor, 10**10),
        Takes(torch.FloatTensor, 10**10),
        torch.ones(1).expand(10**11),
        Takes(exec, "raise SystemExit(3)"),
    ],
    ids=["bytearray", "Tensor", "FloatTensor", "expanded", "code"],
)
def test_no_memory_is_taken_for_what_a_file_claims(
    tmp_path: Path, value: Any, legacy: bool
) -> None:
    torch.save({"w": value}, tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
    tracemalloc.start()
    with pytest.raises(CheckpointError, match="refused"):
        read_weight_file(tmp_path / "w.pth")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**25


def tuples(file: Path, key: bytes = b"K\x00s.", double: bytes = b"") -> None:
    """A key of 2^60 parts: hashing it would not end."""
    data = b"\x80\x02}K\x01\x85"
    data += (
        b"".join(b"q%c0h%ch%c\x86" % (i, i, i) for i in range(60)) if not double else double * 60
    )
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("w/data.pkl", data + key)


def twins(file: Path) -> None:
    tuples(file, double=b"2\x86")


def operations(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("w/data.pkl", b"\x80\x02" + b"}0" * 2**20 + b"}.")


def old_buffer(file: Path) -> None:
    torch.save({}, file, _use_new_zipfile_serialization=False)
    head = file.read_bytes()
    file.write_bytes(
        head[: head.index(b"little_endian") - 8] + b"\x80\x05\x8e" + b"\xff" * 6 + b"\0\0"
    )


@pytest.mark.parametrize("write", [long_jump, buffer, tuples, twins, operations, old_buffer])
def test_operations_of_pickle_that_take_memory(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    write(tmp_path / "w.pth")
    tracemalloc.start()
    with pytest.raises(CheckpointError, match="refused|damaged"):
        read_weight_file(tmp_path / "w.pth")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**25


def test_a_storage_that_is_shorter_than_claimed(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(1000)}, tmp_path / "w.pth")
    with (
        zipfile.ZipFile(tmp_path / "w.pth") as old,
        zipfile.ZipFile(tmp_path / "v.pth", "w") as new,
    ):
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, data[:40] if name.endswith("data/0") else data)
    with pytest.raises(CheckpointError, match="the storage 0 has 40 bytes, 4000 are claimed"):
        read_weight_file(tmp_path / "v.pth")


def test_a_prefix_chooses_like_a_table() -> None:
    value = {"G.a": 1, "G.b": 2, "E.a": 3, "deep": {"a": 4}}
    assert descend(value, "G", "f") == {"a": 1, "b": 2}
    assert descend(value, "deep", "f") == {"a": 4}
    with pytest.raises(CheckpointError, match="Did you mean 'deep'"):
        descend(value, "deeq", "f")


def test_only_one_module_opens_pickles() -> None:
    """torch.load, and Python's own pickle readers, stand in the reader and nowhere else."""
    calls: dict[str, set[str]] = {}
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
                continue
            word = f"{node.value.id}.{node.attr}"
            if word in ("torch.load", "pickle.load", "pickle.loads", "pickle.Unpickler"):
                calls.setdefault(word, set()).add(str(file.relative_to(PACKAGE)))
    assert calls == {
        "torch.load": {"weights/reading.py"},
        "pickle.Unpickler": {"weights/pickles.py"},
    }
    source = (PACKAGE / "weights" / "reading.py").read_text(encoding="utf-8")
    loads = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Call)]
    safe = [k.value for n in loads for k in n.keywords if k.arg == "weights_only"]
    assert [ast.literal_eval(value) for value in safe] == [True]
