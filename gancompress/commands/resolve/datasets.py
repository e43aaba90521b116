"""From ``--data`` and the flags beside it to a data set: pictures, pairs or sound."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from gancompress.commands.console import note
from gancompress.data.arrays import Dataset, class_names_of, notes_of
from gancompress.data.folders import open_images
from gancompress.data.pairs import side_by_side
from gancompress.data.sound import SOUND_SUFFIXES, open_sound
from gancompress.errors import ConfigError


@dataclass(frozen=True)
class DataFlags:
    """The flags beside ``--data``, as they were typed (ours).

    Attributes:
        size: height and width of pictures: ``64`` or ``64x48``.
        crop: ``center``, or height and width of the central part to cut first.
        flip: mirrored pictures, too.
        classes: a file that fixes names and order of the classes.
        split: a part such as ``train``.
        values: the numbers that become -1 and 1, for floats: ``0,1``.
        ab: side of the input where input and wanted output lie side by side.
        layout: ``nchw`` or ``nhwc``, of arrays that could be read both ways.
        length: samples of a piece of sound.
        on_bad_sample: ``error`` or ``skip``.
    """

    size: str | None = None
    crop: str | None = None
    flip: bool = False
    classes: str | None = None
    split: str | None = None
    values: str | None = None
    ab: str | None = None
    layout: str | None = None
    length: int | None = None
    on_bad_sample: str = "error"

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> DataFlags:
        """Take from ``given`` what has these names; anything else is left."""
        names = [f.name for f in fields(cls)]
        return cls(**{name: given[name] for name in names if given.get(name) is not None})

    def record(self) -> dict[str, Any]:
        """Return what was typed, for the run's memory."""
        pairs = ((f.name, getattr(self, f.name), f.default) for f in fields(self))
        return {name: value for name, value, default in pairs if value != default}


def open_data(path: str, flags: DataFlags) -> Dataset | Any:
    """Return the data set at ``path``, and say how it was read.

    Raises:
        ConfigError: a flag does not go with data of this kind.
        DataError: the data cannot be read.
    """
    if _is_sound(path):
        _refuse(flags, ("size", "crop", "flip", "split", "values", "ab", "layout"), "sound", path)
        found: Any = open_sound(
            path,
            length=flags.length,
            classes=flags.classes,
            on_bad_sample=flags.on_bad_sample,
        )
    else:
        _refuse(flags, ("length",), "pictures", path)
        options: dict[str, Any] = {
            "size": flags.size,
            "crop": flags.crop,
            "flip": flags.flip,
            "classes": flags.classes,
            "values": _range(flags.values),
            "on_bad_sample": flags.on_bad_sample,
        }
        if flags.ab is not None:
            _refuse(flags, ("layout",), "pictures side by side", path)
            found = side_by_side(path, ab=flags.ab, split=flags.split, **options)
        else:
            found = open_images(path, split=flags.split, layout=flags.layout, **options)
    say_data(found)
    return found


def say_data(dataset: Any) -> None:
    """Say on stderr how the files were read, and which label each class has."""
    for line in notes_of(dataset):
        note(f"data: {line}")
    if names := class_names_of(dataset):
        shown = ", ".join(f"{i} {name}" for i, name in enumerate(names[:20]))
        more = f" and {len(names) - 20} more" if len(names) > 20 else ""
        note(f"data: {len(names)} classes: {shown}{more}")


def _is_sound(path: str) -> bool:
    folder = Path(path)
    if not folder.is_dir():
        return False
    return any(p.suffix.lower() in SOUND_SUFFIXES for p in _some_files(folder))


def _some_files(folder: Path) -> list[Path]:
    here = sorted(folder.iterdir())[:100]
    below = [q for p in here[:10] if p.is_dir() for q in sorted(p.iterdir())[:100]]
    return [p for p in (*here, *below) if p.is_file()]


def _refuse(flags: DataFlags, names: tuple[str, ...], kind: str, path: str) -> None:
    typed = [name for name in names if name in flags.record()]
    if typed:
        shown = ", ".join(f"--{name}" for name in typed)
        raise ConfigError(f"{path} holds {kind}, which {shown} does not go with: leave it out")


def _range(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        low, high = (float(word) for word in text.split(","))
    except ValueError:
        raise ConfigError(
            f"--values {text!r}: two numbers with a comma, black and white, for example 0,1"
        ) from None
    return low, high
