"""Which folders are classes, in which order: decided by names, said, and never guessed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gancompress.errors import ConfigError, DataError

NOT_DATA = {"__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information"}
"""Folders that systems and tools put beside data; names that begin with a dot as well."""

_SPLIT = re.compile(
    r"(?P<part>training|train|trn|testing|test|tst|validation|valid|val|dev|eval|holdout)"
    r"[-_. ]?(?P<rest>[ab]|\d{1,4}|set|split|data|images?|imgs?|hq|lr|hr|x|y)?",
    re.IGNORECASE,
)
_KIND = {"tra": "train", "trn": "train", "tes": "test", "tst": "test", "val": "val", "dev": "val"}
_WORDS = {"training": "train", "train": "train", "trn": "train", "testing": "test", "test": "test",
          "tst": "test", "validation": "val", "valid": "val", "val": "val", "dev": "val",
          "eval": "val", "holdout": "val"}  # fmt: skip
_NUMBERED = re.compile(r"(?P<stem>.*?)(?P<number>\d+)", re.ASCII | re.DOTALL)
_PAIRS = (
    {"images", "image", "imgs", "img", "input", "inputs", "source", "lr", "sketch", "photo"},
    {"labels", "label", "masks", "mask", "target", "targets", "hr", "gt", "annotations"},
)
# What each may also be the name of a class: pairs only where every file has its counterpart.
_LIKELY_PAIRS = (
    {"low", "blur", "blurry", "noisy", "rain", "rainy", "hazy", "before", "degraded", "damaged"},
    {"high", "sharp", "clean", "clear", "after", "reference", "restored", "groundtruth"},
)
MAX_FILE = 2**24


@dataclass
class Listing:
    """What lies in a folder or an archive, by name (ours).

    Attributes:
        where: its path, for messages.
        loose: files of the kind asked for right in it.
        folders: the same for each folder, empty ones included; hidden ones are left out.
        deeper: for a folder, one deeper folder that holds such files.
        left_out: hidden and system folders or files that hold the kind asked for.
        others: number of files by suffix that are not of the kind asked for.
    """

    where: str
    loose: list[str] = field(default_factory=list)
    folders: dict[str, list[str]] = field(default_factory=dict)
    deeper: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    others: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Arrangement:
    """The files in order, and their classes (ours): ``counts[i]`` files belong to ``names[i]``."""

    files: list[str]
    names: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


def hidden(name: str) -> bool:
    """Return whether a file or folder of this name is no data of the user's."""
    return name.startswith(".") or name in NOT_DATA


def split_of(name: str) -> str | None:
    """Return ``train``, ``test`` or ``val`` when ``name`` is what splits are called, else None."""
    match = _SPLIT.fullmatch(name.strip())
    return None if match is None else _KIND.get(match["part"][:3].lower(), "val")


def splits_among(names: Iterable[str]) -> dict[str, str]:
    """Return which of ``names`` are called as splits are, and which split each is (ours).

    By themselves (`split_of`), or beside each other: the same words with another split among them,
    as in ``DIV2K_train_HR`` and ``DIV2K_valid_HR``.
    """
    found: dict[str, str] = {}
    alike: dict[tuple[str, ...], dict[str, str]] = {}
    for name in sorted(names):
        if (kind := split_of(name)) is not None:
            found[name] = kind
        words = re.split(r"[-_. ]+", name.lower())
        kinds = [_WORDS[word] for word in words if word in _WORDS]
        if len(kinds) == 1:
            rest = tuple(word for word in words if word not in _WORDS)
            alike.setdefault(rest, {})[name] = kinds[0]
    for same in alike.values():
        if len(set(same.values())) > 1:
            found |= same
    return dict(sorted(found.items()))


def arrange(listing: Listing, classes: Mapping[str, str] | None = None) -> Arrangement:
    """Return the files of ``listing`` in order, each folder a class.

    ``classes`` (folder to name) fixes which folders are classes, and their order. Without, all
    are, in order of their text, or of their numbers when all are called by a number.

    Raises:
        DataError: folders that are splits or pairs rather than classes, empty ones, files beside
            folders, folders in folders.
    """
    full = {name for name, files in listing.folders.items() if files}
    notes = [f"left out: {', '.join(listing.left_out[:5])} (hidden)"] if listing.left_out else []
    if classes is not None:
        return _chosen(listing, classes, notes)
    _refuse_splits(listing, full)
    if not full and not listing.deeper:
        return Arrangement(listing.loose, notes=(*notes, *_rest(listing, full)))
    _refuse_the_unclear(listing, full)
    names = ordered(full)
    if _are_portions(listing, names):
        files = [f"{folder}/{file}" for folder in names for file in listing.folders[folder]]
        text = f"{len(names)} folders are called by the first number of their files: no classes"
        return Arrangement(files, notes=(*notes, text, *_rest(listing, full)))
    if names != sorted(names):
        notes.append(
            f"class folders are numbers: labels in their order, {_few(names)} (not in text order)"
        )
    if len(names) == 1:
        notes.append(
            f"one folder, one class: {names[0]!r}. Open that folder itself to have no labels"
        )
    return _joined(listing, names, dict(zip(names, names)), [*notes, *_rest(listing, full)])


def _are_portions(listing: Listing, names: Sequence[str]) -> bool:
    """Return whether folders only divide one long list of files, as FFHQ's do.

    ``00000/00000.png`` to ``00000/00999.png``, ``01000/01000.png``, ...: equal portions of a
    hundred or more, and each file's number lies in that of its folder.
    """
    if len(names) < 2 or not all(re.fullmatch(r"\d{4,}", name, re.ASCII) for name in names):
        return False
    starts = [int(name) for name in names]
    portion = min(b - a for a, b in zip(starts, starts[1:]))
    if portion < 100 or any(start % portion for start in starts):
        return False
    return all(
        (stem := Path(file).stem).isdecimal() and 0 <= int(stem) - start < portion
        for name, start in zip(names, starts, strict=True) for file in listing.folders[name]
    )  # fmt: skip


def ordered(names: Iterable[str]) -> list[str]:
    """Return class names by number when all are the same word and a number, else by text."""
    found = {name: _NUMBERED.fullmatch(name) for name in names}
    stems = {None if match is None else match["stem"] for match in found.values()}
    if len(stems) == 1 and None not in stems:
        return sorted(found, key=lambda n: (int(found[n]["number"]), n))  # type: ignore[index]
    return sorted(found)


def read_classes(given: str | Path | Sequence[str] | None) -> dict[str, str] | None:
    """Return folder to shown name, in label order, of a classes file or of a sequence of names.

    A file has one class a line, ``folder`` or ``folder<TAB>name``; lines that are empty or begin
    with ``#`` do not count. A ``.json`` file holds a list of names, or ``{"folder": "name"}``.

    Raises:
        DataError: the file cannot be read or holds something else.
        ConfigError: no names, or one twice.
    """
    if given is None:
        return None
    pairs: list[tuple[str, str]]
    if isinstance(given, (str, Path)):
        pairs, where = _of_file(Path(given)), str(given)
    else:
        pairs, where = [(str(name), str(name)) for name in given], "classes"
    if not pairs:
        raise ConfigError(f"{where} names no class")
    found: dict[str, str] = {}
    for folder, name in pairs:
        if folder in found:
            raise ConfigError(f"{where} names the class {folder!r} twice")
        found[folder] = name
    return found


def _of_file(path: Path) -> list[tuple[str, str]]:
    try:
        if path.stat().st_size > MAX_FILE:
            raise DataError(f"{path} has {path.stat().st_size:,} bytes: no file of class names")
        text = path.read_text(encoding="utf-8-sig")
        data = json.loads(text) if path.suffix.lower() == ".json" else None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"cannot read the class names of {path}: {error}") from error
    if data is None:
        lines = (line.strip() for line in text.splitlines())
        parts = [line.split("\t", 1) for line in lines if line and not line.startswith("#")]
        return [(part[0].strip(), part[-1].strip()) for part in parts]
    items: Any = list(data.items()) if isinstance(data, dict) else data
    if isinstance(items, list) and all(isinstance(i, str) for i in items):
        items = [(i, i) for i in items]
    if not isinstance(items, list) or not all(
        isinstance(i, tuple) and all(isinstance(part, str) for part in i) for i in items
    ):
        raise DataError(f"{path} must hold a list of names, or an object of folder to name")
    return items


def _chosen(listing: Listing, classes: Mapping[str, str], notes: list[str]) -> Arrangement:
    missing = [name for name in classes if name not in listing.folders]
    if missing:
        raise DataError(
            f"{listing.where} has no folder for {len(missing)} of the {len(classes)} classes: "
            f"{_few(missing)}. It holds {_few(sorted(listing.folders)) or 'no folder'}"
        )
    others = sorted(set(listing.folders) - set(classes))
    if others:
        notes.append(f"{len(others)} folders are no classes and left out: {_few(others)}")
    if listing.loose:
        notes.append(f"{len(listing.loose)} files beside the class folders are left out")
    empty = [name for name in classes if not listing.folders[name]]
    if len(empty) == len(classes):
        raise DataError(f"{listing.where}: no class folder holds a picture")
    if empty:
        notes.append(f"{len(empty)} classes have no pictures and keep their labels: {_few(empty)}")
    deeper = [name for name in classes if name in listing.deeper]
    if deeper:
        raise DataError(_too_deep(listing, deeper[0]))
    return _joined(listing, list(classes), classes, notes)


def _joined(
    listing: Listing, folders: Sequence[str], names: Mapping[str, str], notes: Sequence[str]
) -> Arrangement:
    files = [f"{folder}/{file}" for folder in folders for file in listing.folders[folder]]
    counts = tuple(len(listing.folders[folder]) for folder in folders)
    return Arrangement(files, tuple(names[f] for f in folders), counts, tuple(notes))


def _refuse_splits(listing: Listing, full: set[str]) -> None:
    holding = full | set(listing.deeper)
    splits = splits_among(holding)
    rest = holding - set(splits)
    # "train" among other things is a class of its own (a locomotive); beside "test" it is not.
    if not splits or (rest and len(set(splits.values())) == 1 and len(splits) == 1):
        return
    names = list(splits)
    first = next((n for n in names if splits[n] == "train"), names[0])
    raise DataError(
        f"{listing.where} holds the parts {', '.join(names)} of a data set, which are no classes. "
        f"Open one of them: {listing.where}/{first} (or split={first!r}). If they are classes all "
        "the same, name them in a classes file"
    )


def _refuse_the_unclear(listing: Listing, full: set[str]) -> None:
    where, holding = listing.where, sorted(full | set(listing.deeper))
    if listing.loose:
        raise DataError(
            f"{where} holds pictures ({listing.loose[0]}) beside class folders ({holding[0]}/): "
            "move them into a class, or elsewhere"
        )
    if listing.deeper:
        raise DataError(_too_deep(listing, sorted(listing.deeper)[0]))
    empty = sorted(set(listing.folders) - full)
    if empty:
        raise DataError(
            f"{where}: the folder {empty[0]!r} holds no picture ({len(empty)} such folders beside "
            f"{len(full)} with pictures), so that the labels of the others would shift. Remove "
            "it, or name the classes in a classes file"
        )
    low = {name.lower(): name for name in full}
    if len(full) == 2:
        one, two = ({Path(f).stem for f in listing.folders[name]} for name in sorted(full))
        surely = all(low.keys() & kind for kind in _PAIRS)
        likely = all(low.keys() & kind for kind in _LIKELY_PAIRS)
        if (surely and one & two) or (likely and one == two):
            raise DataError(
                f"{where}: {' and '.join(sorted(full))} hold files of the same names: pairs, no "
                "classes. Open one of them, or both as pairs. If they are classes all the same, "
                "name them in a classes file"
            )


def _too_deep(listing: Listing, name: str) -> str:
    return (
        f"{listing.where}: pictures lie in folders of folders ({listing.deeper[name]}); classes "
        f"are one level deep. Open {listing.where}/{name}, or move the pictures up"
    )


def _rest(listing: Listing, full: set[str]) -> list[str]:
    notes: list[str] = []
    if not full and (empty := sorted(listing.folders)):
        notes.append(f"{len(empty)} folders without pictures are left out: {_few(empty)}")
    if listing.others:
        kinds = sorted(listing.others.items(), key=lambda kind: (-kind[1], kind[0]))
        notes.append(
            "files that are not read: "
            + ", ".join(f"{count:,} {suffix or 'without suffix'}" for suffix, count in kinds[:5])
        )
    return notes


def _few(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
