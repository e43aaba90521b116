from __future__ import annotations

import io
import pickle
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from gancompress.data.arrays import ArrayDataset, class_names_of, notes_of
from gancompress.data.folders import open_images
from gancompress.data.inputs import InputSampler
from gancompress.data.layouts import layout_of
from gancompress.errors import ConfigError, DataError

h5py = pytest.importorskip("h5py")


def numbers(*shape: int, top: int = 256, kind: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, top, shape).astype(kind)


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((4, 8, 9), "nhw"),
        ((4, 3, 50, 60), "nchw"),
        ((4, 50, 60, 3), "nhwc"),
        ((4, 12, 64, 64), "nchw"),
        ((4, 64, 48, 32), "nhwc"),
        ((4, 4, 28, 28), "nchw"),
        ((4, 28, 28, 2), "nhwc"),
        ((4, 1, 3, 3), "nchw"),
    ],
)
def test_channels_are_found(shape: tuple[int, ...], layout: str) -> None:
    assert layout_of(shape, None, "x") == layout


def test_unclear_layouts_are_asked_for() -> None:
    with pytest.raises(DataError, match="layout='nchw'"):
        layout_of((2, 5, 7, 9), None, "x")
    assert layout_of((2, 5, 7, 9), "nhwc", "x") == "nhwc"
    with pytest.raises(ConfigError, match="'chw' is none"):
        layout_of((2, 5, 7, 9), "chw", "x")


@pytest.mark.parametrize(
    ("names", "labelled"),
    [
        (("x", "y"), True),
        (("images", "labels"), True),
        (("arr_0", "arr_1"), True),
        (("imgs", "targets"), True),
        (("X", "Y"), True),
        (("data", "other"), False),
    ],
)
def test_npz_under_the_usual_names(tmp_path: Path, names: tuple[str, str], labelled: bool) -> None:
    np.savez(tmp_path / "d.npz", **{names[0]: numbers(3, 9, 9, 3), names[1]: np.arange(3)[:, None]})
    data = open_images(tmp_path / "d.npz")
    assert (data.channels, data.n_classes) == (3, 3 if labelled else None)
    assert any(names[0] in note for note in notes_of(data))


def test_parts_of_an_npz(tmp_path: Path) -> None:
    x = numbers(5, 8, 8)
    arrays = {"train_images": x, "train_labels": np.arange(5), "test_images": x[:2]}
    np.savez(tmp_path / "d.npz", **arrays)
    assert len(open_images(tmp_path / "d.npz", split="train")) == 5
    assert open_images(tmp_path / "d.npz", split="test").n_classes is None
    with pytest.raises(DataError, match="no images of the part 'val'"):
        open_images(tmp_path / "d.npz", split="val")


@pytest.mark.parametrize(
    ("array", "values"),
    [
        (numbers(4, 6, 8, 8, top=65536, kind=np.uint16), None),
        (numbers(4, 6, 8, 8, top=4096, kind=np.int32), (0, 4095)),
        ((numbers(4, 6, 8, 8) / 255).astype(np.float32), (0, 1)),
        ((numbers(4, 6, 8, 8) / 127.5 - 1).astype(np.float16), (-1, 1)),
        (numbers(4, 6, 8, 8, top=65536, kind=np.dtype(">u2")), None),
        (numbers(4, 6, 8, 8, top=2, kind=bool), None),
    ],
)
@pytest.mark.parametrize("suffix", ["npz", "npy", "h5"])
def test_any_numbers_land_in_the_range(
    tmp_path: Path, array: np.ndarray, values: tuple | None, suffix: str
) -> None:
    path = tmp_path / f"d.{suffix}"
    if suffix == "npz":
        np.savez(path, x=array)
    elif suffix == "npy":
        np.save(path, array)
    else:
        with h5py.File(path, "w") as file:
            file["x"] = array
    data = open_images(path, values=values)
    assert data.channels == 6
    images, _ = data.batch(torch.tensor([3, 0, 3]))
    full = {1: 255, 2: 65535}[array.dtype.itemsize] if array.dtype.kind == "u" else 1
    low, high = values or (0, full)
    wanted = 2 * (array[[3, 0, 3]].astype(np.float64) - low) / (high - low) - 1
    np.testing.assert_allclose(images.numpy(), wanted, atol=2e-3 if array.itemsize == 2 else 1e-6)
    again = pickle.loads(pickle.dumps(data))
    assert torch.equal(again.batch(torch.tensor([3, 0, 3]))[0], images)


@pytest.mark.parametrize("values", [(1, 0), (0, 0), "01", 5, (0, float("inf")), (0, 1, 2)])
def test_no_ranges(tmp_path: Path, values: object) -> None:
    np.save(tmp_path / "d.npy", numbers(2, 8, 8))
    if values == "01":
        values = "ab"
    with pytest.raises(ConfigError, match="two finite numbers"):
        open_images(tmp_path / "d.npy", values=values)


def test_floats_are_never_guessed(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", numbers(2, 8, 8) / 255)
    with pytest.raises(DataError, match=r"values=.*found float64 in \[0"):
        open_images(tmp_path / "d.npy")
    with pytest.raises(DataError, match="outside"):
        open_images(tmp_path / "d.npy", values=(0, 0.1)).batch(torch.tensor([0]))
    np.save(tmp_path / "n.npy", np.full((2, 8, 8), np.nan))
    with pytest.raises(DataError, match="NaN"):
        open_images(tmp_path / "n.npy", values=(0, 1)).batch(torch.tensor([0]))


def test_npy_is_mapped(tmp_path: Path) -> None:
    """A file of 4 GB, most of it a hole, of which one row is read."""
    path = tmp_path / "d.npy"
    row = numbers(1, 3, 64, 64)
    rows = 350_000
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(
            stream, {"descr": "|u1", "fortran_order": False, "shape": (rows, 3, 64, 64)}
        )
        begin = stream.tell()
        stream.seek(begin + (rows - 1) * row.nbytes)
        stream.write(row.tobytes())
    data = open_images(path)
    assert len(data) == rows
    images, labels = data.batch(torch.tensor([rows - 1, 0]))
    assert labels is None
    assert torch.equal(images[0], torch.from_numpy(row[0]).float().div(127.5).sub(1))
    assert (images[1] == -1).all()


def header(shape: tuple, descr: object = "|u1") -> bytes:
    stream = io.BytesIO()
    fields = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, fields)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (header((2**40, 64, 64)), "declares"),
        (header((2**32, 2**32, 1, 1)), "declares"),
        (header((9, 8, 8)) + b"0" * 9, "declares"),
        (header((-3, 8, 8)), "negative"),
        (header((2, 8, 8), "|O") + b"0" * 999, "Python objects"),
        (b"\x93NUMPY\x01\x00\xff\xff{'descr'", "cannot read"),
        (b"", "cannot read"),
        (b"nonsense", "cannot read"),
    ],
)
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_absurd_headers_take_no_memory(
    tmp_path: Path, content: bytes, word: str, suffix: str
) -> None:
    path = tmp_path / f"d.{suffix}"
    if suffix == "npy":
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", content)
    with pytest.raises(DataError, match=word) as caught:
        open_images(path)
    assert "d.np" in str(caught.value)


def test_more_than_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "d.npz", x=np.zeros((100, 64, 64), np.uint8))
    sizes = {"SC_PHYS_PAGES": 100, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr("gancompress.data.layouts.os.sysconf", sizes.__getitem__, raising=False)
    with pytest.raises(DataError, match=r"memory.*\.npy or \.h5"):
        open_images(tmp_path / "d.npz")


def biggan(path: Path, n: int = 20, **changed: object) -> Path:
    arrays = {"imgs": numbers(n, 3, 16, 16), "labels": np.arange(n) % 7, **changed}
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            if array is not None:
                file.create_dataset(name, data=array, chunks=(2, *np.shape(array)[1:]))
    return path


def test_hdf5_as_biggan_has_it(tmp_path: Path) -> None:
    data = open_images(biggan(tmp_path / "ILSVRC128.hdf5"))
    assert (len(data), data.channels, data.resolution, data.n_classes) == (20, 3, 16, 7)
    picked = torch.tensor([19, 3, 3, 0])
    images, labels = data.batch(picked)
    assert labels is not None
    assert labels.tolist() == [5, 3, 3, 0]
    wanted = torch.from_numpy(numbers(20, 3, 16, 16)[picked.numpy()] / 127.5 - 1).float()
    torch.testing.assert_close(images, wanted)
    named = open_images(tmp_path / "ILSVRC128.hdf5", classes=list("abcdefgh"))
    assert class_names_of(named) == tuple("abcdefgh")
    assert named.n_classes == 8


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"imgs": None}, r"no array 'x'.*it holds labels"),
        ({"labels": np.arange(3)}, "as many labels"),
        ({"labels": np.zeros(20)}, "integer labels"),
        ({"imgs": numbers(20, 2, 3, 3, 3)}, "shape"),
        ({"imgs": numbers(20, 3, 8, 8) / 255}, "values="),
    ],
)
def test_hdf5_that_does_not_fit(tmp_path: Path, changed: dict, word: str) -> None:
    with pytest.raises(DataError, match=word) as caught:
        open_images(biggan(tmp_path / "d.h5", **changed))
    assert caught.value.exit_code == 3


def test_hdf5_never_leads_elsewhere(tmp_path: Path) -> None:
    biggan(tmp_path / "secret.h5")
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["imgs"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/imgs")
    with pytest.raises(DataError, match="no array"):
        open_images(tmp_path / "link.h5")
    (tmp_path / "raw").write_bytes(bytes(768))
    with h5py.File(tmp_path / "external.h5", "w") as file:
        file.create_dataset(
            "imgs", (1, 3, 16, 16), "u1", external=[(str(tmp_path / "raw"), 0, 768)]
        )
    layout = h5py.VirtualLayout((20, 3, 16, 16), "u1")
    layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "imgs", (20, 3, 16, 16))
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file.create_virtual_dataset("imgs", layout)
    for name in ("external.h5", "virtual.h5"):
        with pytest.raises(DataError, match="other files"):
            open_images(tmp_path / name)


def test_damaged_hdf5(tmp_path: Path) -> None:
    whole = biggan(tmp_path / "d.h5").read_bytes()
    for size in (0, 100, len(whole) // 2):
        (tmp_path / "d.h5").write_bytes(whole[:size])
        with pytest.raises(DataError, match="cannot read"):
            open_images(tmp_path / "d.h5")


def test_an_absent_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    biggan(tmp_path / "d.h5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ConfigError, match=r"gancompress\[data\]"):
        open_images(tmp_path / "d.h5")


def test_arrays_say_what_they_need() -> None:
    with pytest.raises(DataError, match="1 to 32 channels"):
        ArrayDataset(torch.zeros(2, 33, 4, 4, dtype=torch.uint8))
    with pytest.raises(DataError, match="3 classes have 2 names"):
        ArrayDataset(
            torch.zeros(3, 1, 4, 4, dtype=torch.uint8), torch.arange(3), 3, class_names=("a", "b")
        )
    data = ArrayDataset(torch.full((2, 32, 4, 6), 0.25), values=(0, 1))
    assert data.size == (4, 6)
    assert (data.batch([1])[0] == -0.5).all()
    with pytest.raises(DataError, match=r"labels must lie in 0\.\.1; found 0\.\.2"):
        ArrayDataset(
            torch.zeros(3, 1, 4, 4, dtype=torch.uint8), torch.arange(3), class_names=("a", "b")
        )


def raw_header(text: bytes, version: int = 1) -> bytes:
    size = len(text).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + text + b"1234"


@pytest.mark.parametrize(
    "data",
    [
        raw_header(b"{'descr': '|u1', 'fortran_order': False, 'shape': (1L, 'x\n"),
        header(
            b"{'descr': '|u1', 'fortran_order': False, 'shape': (10000000000000000000000,), }\n"
        ),
        raw_header(b"{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 3), }\n"),
        raw_header(b"{'descr': '|u1', 'fortran_order': False, 'shape': (True, 4), }\n"),
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}",
    ],
    ids=["tokens", "beyond 64 bits", "negative", "a truth", "4 GB of header"],
)
def test_headers_that_are_none_are_told_at_every_door(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "d.npy").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", data)
    with pytest.raises(DataError):
        open_images(tmp_path / "d.npy")
    with pytest.raises(DataError):
        open_images(tmp_path / "d.npz")
    with pytest.raises(DataError):
        InputSampler.parse([f"x=npy({tmp_path / 'd.npy'})"])


def test_labels_and_rows_that_nobody_wrote_take_no_memory(tmp_path: Path) -> None:
    for name, write in (
        ("labels", lambda f: f.create_dataset("y", (10**9,), "i8", chunks=(1024,))),
        ("rows", lambda f: f.create_dataset("x", (16, 3, 60_000, 60_000), "u1")),
    ):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            write(file)
            if name == "labels":
                file.create_dataset("x", (10**9, 3, 8, 8), "u1", chunks=(1, 3, 8, 8))
        with pytest.raises(DataError, match=name):
            open_images(tmp_path / f"{name}.h5")
