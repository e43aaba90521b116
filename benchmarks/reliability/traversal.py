"""B5: no name in a file leads out of the folder or archive that it stands in."""

from __future__ import annotations

import io
import json
import random
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import gancompress as gc
from benchmarks.reliability import hostile_data
from benchmarks.reliability.row import BrokenPromiseError, Row, Trial
from benchmarks.reliability.toys import recipe, run_folder
from gancompress.commands.verify import check_folder
from gancompress.data.folders import open_images
from gancompress.errors import GancompressError
from gancompress.recipes.load import load_recipe
from gancompress.storage import digest, read_json, sealed
from gancompress.training.checkpoint import checkpoints, load_checkpoint
from tests.training.nets import TinyGenerator

NAMES = (
    "../secret/x.png", "../../secret/x.png", "./../secret/x.png", "a/../../secret/x.png",
    "{secret}/x.png", "//{secret}/x.png", "..\\secret\\x.png", "\\\\host\\share\\x.png",
    "C:\\secret\\x.png", "file://{secret}/x.png", "%2e%2e/secret/x.png", "..%2fsecret/x.png",
    "~/secret/x.png", "$HOME/secret/x.png", "${{HOME}}/../secret/x.png", "..\0/secret/x.png",
    "../secret/x.png\0.png", "....//secret/x.png", "..;/secret/x.png", "link/x.png",
    "\u2024\u2024/secret/x.png", "..\u2215secret/x.png", "/proc/self/cwd/../secret/x.png", "..",
)  # fmt: skip

opened: list[str] = []


def _watch(event: str, args: tuple[Any, ...]) -> None:
    if event == "open" and isinstance(args[0], str | bytes | Path):
        opened.append(str(args[0]))


def prepare(folder: Path) -> Trial:
    """Plant a secret beside the place where names are read; nobody may open it."""
    secret = folder / "secret"
    secret.mkdir()
    (secret / "x.png").write_bytes(hostile_data.SMALL)
    whole = run_folder(folder / "whole", recipe())
    sys.addaudithook(_watch)
    place = folder / "place"
    doors = sorted(DOORS)

    def trial(rng: random.Random, number: int) -> str:
        name = NAMES[number // len(doors) % len(NAMES)].format(secret=secret)
        door = doors[number % len(doors)]
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        before = {p for p in folder.rglob("*") if place not in p.parents}
        opened.clear()
        try:
            DOORS[door](place, whole, name)
            word = "inside"
        except GancompressError:
            word = "refused"
        if leak := [o for o in opened if str(secret) in str(Path(o.split("\0")[0]).resolve())]:
            raise BrokenPromiseError(f"{door}: {name!r} opened {leak[0]}")
        if new := {p for p in folder.rglob("*") if place not in p.parents} - before:
            raise BrokenPromiseError(f"{door}: {name!r} wrote {new}")
        return f"{door}, {word}"

    return trial


def _zip(place: Path, whole: Path, name: str) -> None:
    with zipfile.ZipFile(place / "d.zip", "w") as archive:
        archive.writestr(name, hostile_data.SMALL)
        archive.writestr("a.png", hostile_data.SMALL)
    hostile_data.opened(place / "d.zip")


def _labels(place: Path, whole: Path, name: str) -> None:
    with zipfile.ZipFile(place / "d.zip", "w") as archive:
        archive.writestr("dataset.json", json.dumps({"labels": [[name, 0], ["a.png", 1]]}))
        archive.writestr("a.png", hostile_data.SMALL)
    hostile_data.opened(place / "d.zip")


def _tar(place: Path, whole: Path, name: str, kind: bytes = tarfile.REGTYPE) -> None:
    with tarfile.open(place / "d.tar", "w") as archive:
        info = tarfile.TarInfo("a.png" if kind != tarfile.REGTYPE else name)
        info.type, info.linkname = kind, name if kind != tarfile.REGTYPE else ""
        info.size = len(hostile_data.SMALL) if kind == tarfile.REGTYPE else 0
        archive.addfile(info, io.BytesIO(hostile_data.SMALL))
    hostile_data.opened(place / "d.tar")


def _split(place: Path, whole: Path, name: str) -> None:
    (place / "data" / "train").mkdir(parents=True)
    (place / "data" / "train" / "a.png").write_bytes(hostile_data.SMALL)
    open_images(place / "data", split=name.removesuffix("/x.png"))


def _manifest(place: Path, whole: Path, name: str, what: str) -> None:
    source = whole / "model" if what == "model" else checkpoints(whole / "ckpt")[-1]
    home = place / source.name
    shutil.copytree(source, home)
    manifest = read_json(home / "manifest.json")
    manifest["files"][name] = digest(hostile_data.SMALL)
    (home / "manifest.json").write_bytes(sealed(manifest))
    if not check_folder(home).faults:
        raise BrokenPromiseError(f"verify finds nothing wrong with {name!r}")
    gc.load(TinyGenerator, home) if what == "model" else load_checkpoint(home)


def _recipe(place: Path, whole: Path, name: str) -> None:
    load_recipe(name.removesuffix(".png"))


def _override(place: Path, whole: Path, name: str) -> None:
    load_recipe("fashion-teacher", [f"network={json.dumps(name)}"])


def _plugin(place: Path, whole: Path, name: str) -> None:
    load_recipe("ppcd", [f"importance={json.dumps(name)}"])


DOORS = {
    "member of a zip": _zip,
    "label of a zip": _labels,
    "member of a tar": _tar,
    "link in a tar": lambda p, w, n: _tar(p, w, n, tarfile.SYMTYPE),
    "hard link in a tar": lambda p, w, n: _tar(p, w, n, tarfile.LNKTYPE),
    "split": _split,
    "manifest of a model": lambda p, w, n: _manifest(p, w, n, "model"),
    "manifest of a checkpoint": lambda p, w, n: _manifest(p, w, n, "checkpoint"),
    "name of a recipe": _recipe,
    "name of a network": _override,
    "name of a plug-in": _plugin,
}

ROW = Row(
    "B5",
    "A name in a file, an archive or an override never leads out of its folder: refused, or taken "
    "as a name within",
    len(NAMES) * len(DOORS),
    prepare,
    sample=len(DOORS),
)
