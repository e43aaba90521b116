"""B4: mutated recipes, overrides, records and indices end in a typed error, or in what they say."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import random
import shutil
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from benchmarks.reliability import hostile_data
from benchmarks.reliability.confined import resident
from benchmarks.reliability.row import BrokenPromiseError, Row, Trial
from benchmarks.reliability.toys import RECORD
from gancompress.commands.resolve.subject import read_record
from gancompress.errors import GancompressError
from gancompress.models import BigGANConfig
from gancompress.recipes.load import dump_recipe, load_recipe, recipe_names, recipe_text
from gancompress.recipes.strict_yaml import dump_yaml, parse_yaml

SECONDS, MIB = 1.0, 200
EACH = 25
"""Examples that hypothesis draws in one trial: its start costs more than an example."""

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
    st.sampled_from(["ppcd", "ste", "../x", "params=2x", "macs=1e400", "os.system", "-0", "1e-4"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=12,
)


def prepare(folder: Path) -> Trial:
    """Read every shipped recipe; each trial changes one of them, a record, or an index."""
    shipped = {name: recipe_text(name) for name in recipe_names()}
    parsed = {name: parse_yaml(text, source=name) for name, text in shipped.items()}
    keys = sorted({p for data in parsed.values() for p in _paths(data)})
    record = {**RECORD, "model": "biggan", "config": BigGANConfig.fashion32().to_dict()}
    tar = tar_of_pairs()
    wav = hostile_data.wav(size=64)
    place = folder / "place"
    for name in shipped:
        load_recipe(name, ["seed=1", "penalty.weight=2"])  # imports the plug-ins, once
    place.mkdir()
    with contextlib.suppress(GancompressError):
        _record(record, 3, random.Random(0), place)

    def trial(rng: random.Random, number: int) -> str:
        kind = ("tree", "text", "override", "record", "tar", "wav")[number % 6]
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        name = rng.choice(sorted(shipped))
        if kind == "text":
            (place / "r.yaml").write_bytes(_mutated(shipped[name].encode(), rng))
            held = _typed(lambda: again(load_recipe(place / "r.yaml"), place))
        elif kind == "tar":
            (place / "d.tar").write_bytes(_mutated(tar, rng))
            held = _typed(lambda: hostile_data.opened(place / "d.tar"))
        elif kind == "wav":
            (place / "a.wav").write_bytes(_mutated(wav, rng))
            held = _typed(lambda: hostile_data.input_of(f"x=wav({place})"))
            held = held and _typed(lambda: hostile_data.sounds(place.parent))
        else:
            made: dict[str, Callable[[Any, str], None]] = {
                "tree": lambda value, key: _tree(parsed[name], key, value, place),
                "override": lambda value, key: _override(name, key, value),
                "record": lambda value, key: _record(record, value, rng, place),
            }
            _drawn(made[kind], keys, rng.randrange(2**32))
            return f"{kind}, {EACH} examples"
        return f"{kind}, {'accepted' if held else 'refused'}"

    return trial


def _drawn(check: Callable[[Any, str], None], keys: list[str], number: int) -> None:
    """Let hypothesis draw values and keys for ``check``, the same for the same number."""

    @seeded(number)
    @settings(
        max_examples=EACH, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(VALUES, st.sampled_from(keys) | st.text(max_size=12))
    def examples(value: Any, key: str) -> None:
        _typed(lambda: check(value, key))

    examples()


def _typed(work: Callable[[], object]) -> bool:
    """Return whether ``work`` was accepted; a typed error in time is a refusal."""
    before, started = resident(), time.process_time()
    try:
        work()
        return True
    except GancompressError:
        return False
    finally:
        used = time.process_time() - started
        if used > SECONDS or resident() - before > MIB * 2**20:
            raise BrokenPromiseError(f"took {used:.1f} s, {(resident() - before) >> 20} MiB")


def _tree(data: Any, key: str, value: Any, place: Path) -> None:
    changed = copy.deepcopy(data)
    *parents, last = key.split(".")
    node = changed
    for parent in parents:
        node = node.get(parent) if isinstance(node, dict) else None
    (node if isinstance(node, dict) else changed)[last] = value
    (place / "r.yaml").write_text(dump_yaml(changed))
    again(load_recipe(place / "r.yaml"), place)


def _override(name: str, key: str, value: Any) -> None:
    load_recipe(name, [f"{key}={json.dumps(value)}"])
    load_recipe(name, [f"{key}={value}"])


def _record(record: dict[str, Any], value: Any, rng: random.Random, place: Path) -> None:
    changed = copy.deepcopy(record)
    home = rng.choice((changed, changed["config"]))
    home[rng.choice(sorted(home))] = value
    (place / "subject.json").write_text(json.dumps(changed))
    read_record(place)


def again(recipe: Any, place: Path) -> None:
    """A recipe that is accepted is written and read again as the same."""
    (place / "again.yaml").write_text(dump_recipe(recipe))
    if load_recipe(place / "again.yaml") != recipe:
        raise BrokenPromiseError(f"{recipe!r:.300} comes back as another recipe")


def _paths(data: Any, prefix: str = "") -> list[str]:
    found = []
    for key, value in data.items() if isinstance(data, dict) else ():
        found += [f"{prefix}{key}", *_paths(value, f"{prefix}{key}.")]
    return found


def _mutated(data: bytes, rng: random.Random) -> bytes:
    """Return ``data`` after one to six edits of bytes, repeats and swaps."""
    new = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at, span = rng.randrange(len(new) + 1), rng.choice((1, 2, 8, 64))
        kind = rng.randrange(6)
        if kind == 0:
            new[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            del new[at : at + span]
        elif kind == 2:
            new[at:at] = new[at : at + span] * rng.choice((1, 2, 50))
        elif kind == 3:
            new[at:at] = rng.choice(
                (b"&a ", b"*a", b"!!x ", b"[", b"{", b"\x00", b"\xff", b"9" * 40)
            )
        elif kind == 4:
            other = rng.randrange(len(new) + 1)
            new[at : at + span] = new[other : other + span]
        else:
            new[at : at + span] = bytes(len(new[at : at + span]))
    return bytes(new)


def tar_of_pairs() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for i in range(3):
            for name, data in ((f"{i}é.png", hostile_data.SMALL), (f"{i}é.cls", b"%d" % i)):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


ROW = Row(
    "B4",
    "A mutated recipe, override, record, tar or wav index ends in a typed error or in what it "
    "says, within 1 CPU second and 200 MiB (each trial of recipes, overrides and records: 25 "
    "examples drawn by hypothesis)",
    1_500,
    prepare,
    sample=6,
)
