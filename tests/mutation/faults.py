"""What a planted fault is, and where the list of them is read from."""

from __future__ import annotations

import ast
import hashlib
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
LISTS = Path(__file__).resolve().parent / "faults"
PACKAGE = "gancompress"


class RottenFault(Exception):
    """A fault that cannot be planted any more: mend its text, or take it out."""


@dataclass(frozen=True)
class Fault:
    """One change that a tired engineer could have made.

    Attributes:
        id: unique, ``area/words``; says what is wrong after the change.
        area: name of the list that it comes from.
        file: path below the package.
        old: text that occurs exactly once in the file.
        new: what stands there instead.
        tests: arguments of pytest: the nearest tests.
    """

    id: str
    area: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def planted(self, source: str) -> str:
        """Return ``source`` with the fault in it.

        Raises:
            RottenFault: the old text does not occur exactly once, or nothing would change.
        """
        found = source.count(self.old)
        if found != 1:
            raise RottenFault(
                f"{self.id}: its old text occurs {found} times in {self.file}, not once: "
                f"{self.old!r}"
            )
        if self.old == self.new:
            raise RottenFault(f"{self.id}: changes nothing")
        return source.replace(self.old, self.new)

    def fingerprint(self, root: Path = ROOT) -> str:
        """Return a hash of the fault, the file that it is planted in, and the tests it names."""
        paths = [root / PACKAGE / self.file, *(root / p for p in test_files(self.tests))]
        parts = [self.old, self.new, *self.tests, *(_content(path) for path in paths)]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def test_files(tests: Iterable[str]) -> list[str]:
    """Return the paths among arguments of pytest."""
    return [t.partition("::")[0] for t in tests if t.startswith("tests/")]


def _content(path: Path) -> str:
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    # As Python reads it: neither comments nor the way it is laid out matter.
    return "\0".join(ast.dump(ast.parse(file.read_text())) for file in files)


def read_faults(folder: Path = LISTS) -> list[Fault]:
    """Read all lists ``AREA.yaml``: entries of a file, its tests and the faults in it.

    Raises:
        RottenFault: an id stands twice, or an entry lacks something.
    """
    found: list[Fault] = []
    for path in sorted(folder.glob("*.yaml")):
        for entry in yaml.safe_load(path.read_text()):
            for row in entry["faults"]:
                found.append(_fault(path.stem, entry, row))
    ids = [fault.id for fault in found]
    twice = sorted({i for i in ids if ids.count(i) > 1})
    if twice:
        raise RottenFault(f"these ids stand twice: {', '.join(twice)}")
    return found


def _fault(area: str, entry: dict[str, Any], row: dict[str, Any]) -> Fault:
    try:
        tests = tuple(shlex.split(row.get("tests", entry.get("tests", ""))))
        fault = Fault(
            f"{area}/{row['id']}", area, entry["file"], str(row["old"]), str(row["new"]), tests
        )
    except KeyError as error:
        raise RottenFault(f"an entry of {area} lacks {error}: {row}") from error
    if not test_files(tests):
        raise RottenFault(f"{fault.id} names no tests")
    return fault


def check_all(faults: Sequence[Fault], root: Path = ROOT) -> None:
    """Refuse the list when any fault cannot be planted, or names tests that are gone.

    Raises:
        RottenFault: all of them are in the message.
    """
    wrong: list[str] = []
    for fault in faults:
        try:
            fault.planted((root / PACKAGE / fault.file).read_text())
        except (RottenFault, OSError) as error:
            wrong.append(str(error))
        gone = [p for p in test_files(fault.tests) if not (root / p).exists()]
        wrong += [f"{fault.id}: there is no {path}" for path in gone]
    if wrong:
        raise RottenFault("\n".join(wrong))


def chosen(faults: Sequence[Fault], only: Sequence[str]) -> list[Fault]:
    """Return the faults whose area, file or id is named; all of them for no name.

    Raises:
        RottenFault: a name matches none.
    """
    for name in only:
        if not any(_named(fault, name) for fault in faults):
            raise RottenFault(f"--only {name}: no area, file or id of that name")
    return [f for f in faults if not only or any(_named(f, name) for name in only)]


def _named(fault: Fault, name: str) -> bool:
    return name in (fault.area, fault.file, fault.id, fault.id.partition("/")[2])
