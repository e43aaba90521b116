"""Images of the user's own: a folder of pictures, an archive, arrays in a file, or idx files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from gancompress.data.arrays import Dataset
from gancompress.data.classes import Arrangement, Listing, arrange, read_classes
from gancompress.data.fashion import fashion, is_fashion_folder
from gancompress.data.framing import Frame
from gancompress.data.hdf5 import HDF5_SUFFIXES, open_hdf5
from gancompress.data.layouts import reframed
from gancompress.data.npy_files import SUFFIX, open_npy_folder
from gancompress.data.npz import open_npy, open_npz
from gancompress.data.picture_set import PictureSet
from gancompress.data.pictures import SUFFIXES
from gancompress.data.ranges import checked_range
from gancompress.data.stores import FolderStore, Stamp, holds, list_folder
from gancompress.data.stylegan import NO_LABELS, Unpacked, label_arguments, of_folder
from gancompress.data.tars import open_tars, shards_of
from gancompress.data.zips import open_zip
from gancompress.errors import DataError

VIDEO = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv")
SOUND = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".aiff", ".m4a")


def open_images(
    path: str | Path,
    *,
    size: object = None,
    crop: object = None,
    flip: bool = False,
    alpha: str = "white",
    values: object = None,
    classes: str | Path | Sequence[str] | None = None,
    split: str | None = None,
    layout: str | None = None,
    on_bad_sample: str = "error",
) -> Dataset:
    """Return the data set at ``path``, which docs/data.md describes kind by kind (ours).

    A folder of pictures or of ``.npy`` arrays (each folder in it a class), a ``.zip`` or ``.tar``
    of pictures, the idx files of Fashion-MNIST, or arrays in ``.npz``, ``.npy``, ``.h5``. What was
    done to the files is told by the ``notes`` of the result.

    Args:
        path: a file, a folder, or tar shards such as ``shard-{0000..0012}.tar``.
        size: height and width of the result: ``64``, ``"64x48"`` or a pair.
        crop: ``"center"``, or height and width of the central part to cut; before ``size``.
        flip: add the mirrored pictures, as indices after all others.
        alpha: ``"white"`` or ``"black"`` to lay transparency over, ``"keep"`` for a channel of its
            own, ``"refuse"``.
        values: (black, white), the numbers that become -1 and 1; needed for floats.
        classes: a classes file, or names: fixes which folders are classes, and their order.
        split: a part such as ``"train"`` of a folder or of an array file.
        layout: ``"nchw"`` or ``"nhwc"`` where an array could be read both ways.
        on_bad_sample: ``"error"``, or ``"skip"`` for pictures that cannot be read.

    Raises:
        DataError: nothing of the kind is there, or the files do not fit together.
        ConfigError: an option is none, or a package that reads this kind is not installed.
    """
    frame, range_ = Frame.of(size, crop, flip), checked_range(values)
    names = read_classes(classes)
    pictures: dict[str, Any] = {
        "frame": frame,
        "alpha": alpha,
        "values": range_,
        "on_bad_sample": on_bad_sample,
    }
    arrays: dict[str, Any] = {"values": range_, "layout": layout, "classes": names}
    if shards := shards_of(path):
        return open_tars(shards, names, **pictures)
    path = Path(path)
    if not path.exists():
        raise DataError(f"no data at {str(path)!r}")
    if path.is_dir():
        path = path if split is None else _part(path, split)
        if is_fashion_folder(path):
            return reframed(fashion(path), frame)
        if not holds(path, SUFFIXES, depth=1) and holds(path, (SUFFIX,), depth=1):
            return reframed(open_npy_folder(path, **arrays), frame)
        return ImageFolder(path, classes=names, **pictures)
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return reframed(open_npz(path, split=split, **arrays), frame)
    if split is not None:
        raise DataError(f"{path} has no parts; split={split!r} is for folders and .npz files")
    if suffix == ".npy":
        return reframed(open_npy(path, **arrays), frame)
    if suffix in HDF5_SUFFIXES:
        return reframed(open_hdf5(path, **arrays), frame)
    if suffix == ".zip":
        return open_zip(path, names, **pictures)
    raise DataError(
        f"{str(path)!r} is neither a folder of images nor a file of them "
        "(.npz, .npy, .h5, .hdf5, .zip, .tar)" + _instead(suffix)
    )


class ImageFolder(PictureSet):
    """Pictures below a folder; each folder in it is a class, see `gancompress.data.classes`.

    Raises:
        DataError: no pictures, folders that are no classes, or files that do not fit together.
    """

    def __init__(
        self, folder: str | Path, *, classes: dict[str, str] | None = None, **options: Any
    ) -> None:
        self.folder = Path(folder)
        listing, stamps = list_folder(self.folder, SUFFIXES)
        unpacked = of_folder(self.folder, listing)
        if unpacked is not None and (unpacked[1] is not None or classes is None):
            super().__init__(**self._numbered(unpacked, stamps, classes), **options)
            return
        found = arrange(listing, classes)
        if not found.files:
            raise DataError(_nothing(self.folder, listing, found))
        store = FolderStore(self.folder, found.files, stamps)
        each = torch.arange(len(found.names))
        labels = each.repeat_interleave(torch.tensor(found.counts, dtype=torch.int64))
        super().__init__(
            store, labels if found.names else None, found.names, notes=found.notes, **options
        )

    def _numbered(
        self, unpacked: Unpacked, stamps: dict[str, Stamp], classes: Mapping[str, str] | None
    ) -> dict[str, Any]:
        """Return the arguments of a `PictureSet` of StyleGAN's numbered files."""
        names, labels = unpacked
        store = FolderStore(self.folder, names, stamps)
        if labels is None:
            return {"store": store, "notes": [NO_LABELS]}
        given, named, notes = label_arguments(
            str(self.folder), names, labels, stamps.__contains__, classes
        )
        return {"store": store, "labels": given, "class_names": named, "notes": notes}


def _part(folder: Path, split: str) -> Path:
    parts = sorted(p.name for p in folder.iterdir() if p.is_dir())
    if split not in parts:  # by comparing names: "../other" is no part
        raise DataError(
            f"{folder} has no part {split!r}; it holds {', '.join(parts[:9]) or 'none'}"
        )
    return folder / split


def _nothing(folder: Path, listing: Listing, found: Arrangement) -> str:
    films = sum(listing.others.get(s, 0) for s in VIDEO)
    sounds = sum(listing.others.get(s, 0) for s in SOUND)
    said = f" ({'; '.join(found.notes)})" if found.notes else ""
    if films:
        return (
            f"{folder} holds {films:,} films and no picture. Films are not read: write their "
            "frames as pictures, for example ffmpeg -i film.mp4 frames/%06d.png"
        )
    if sounds:
        return (
            f"{folder} holds {sounds:,} sound files and no picture. Sound is opened by "
            "gancompress.data.sound.open_sound"
        )
    return f"{folder} holds no picture ({', '.join(SUFFIXES)}){said}"


def _instead(suffix: str) -> str:
    if suffix in VIDEO:
        return ". Films are not read: write their frames as pictures into a folder"
    if suffix in SOUND:
        return ". Sound is opened by gancompress.data.sound.open_sound"
    if suffix in SUFFIXES:
        return ". One picture is no data set: give its folder"
    return ""
