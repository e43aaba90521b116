"""Coverage-guided fuzzing of what is read from files and typed: typed errors only.

    python -m benchmarks.reliability.fuzz --seconds 300
    python -m benchmarks.reliability.fuzz recipe overrides --seconds 60

Inputs are mutated by libFuzzer (atheris, extra fuzz) towards lines of gancompress, PyYAML, wave and
tarfile that none has reached, from the same seed each time. Each target has a process of its own,
which writes what it tried to ``benchmarks/results/reliability/fuzz.json``; what it has found of
interest is kept in ``build/fuzz``, and the next call begins there.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.reliability.campaign import package_at

RESULT = record.RESULTS / "reliability" / "fuzz.json"
CORPUS = record.ROOT / "build" / "fuzz"
INSTRUMENTED = ("gancompress", "yaml", "tarfile", "wave", "json")
NAMES = ("yaml", "recipe", "overrides", "inputs", "record", "wav", "tar")
SECONDS, MIB = 1.0, 200
SHOWN = 10
Target = Callable[[bytes, Path], object]


def targets() -> dict[str, tuple[list[bytes], Target]]:
    """Return what is fuzzed: inputs to begin with, and what opens one in a folder."""
    from benchmarks.reliability import hostile_data
    from benchmarks.reliability.strict import again, tar_of_pairs
    from benchmarks.reliability.toys import RECORD
    from gancompress.commands.resolve.subject import read_record
    from gancompress.data.inputs import InputSampler
    from gancompress.models import BigGANConfig
    from gancompress.recipes.load import load_recipe, recipe_names, recipe_text
    from gancompress.recipes.strict_yaml import parse_yaml

    def written(name: str, opened: Callable[[Path], object]) -> Target:
        def target(data: bytes, place: Path) -> object:
            (place / name).write_bytes(data)
            return opened(place / name)

        return target

    def overrides(data: bytes, place: Path) -> object:
        words = data.decode("utf-8", "replace").split("\n")
        return load_recipe("ppcd", [word for word in words if word])

    def typed(data: bytes, place: Path) -> object:
        words = data.decode("utf-8", "replace").split("\n")
        return InputSampler.parse([word for word in words if word])

    large = {**RECORD, "model": "biggan", "config": BigGANConfig.fashion32().to_dict()}
    words = (b"mask_lr=1e-4", b"penalty.weight=2", b"distill=[]", b"batch=8\nseed=1",
             b"target=macs=2x", b"shrink.events=[0.5]",
             b"distill=[{name: pixel, weight: 2}]")  # fmt: skip
    kinds = (b"z=normal(128)", b"y=labels(10)", b"x=uniform(3,64,64)\nt=integers(0,10,4)",
             b"psi=constant(0.7,1)", b"c=onehot(10)")  # fmt: skip
    shipped = [recipe_text(name).encode() for name in recipe_names()]
    odd = [b"a: &x [1, *x]", b"a: 1e-4\nb: 0o17\nc: 12:30:45", b"- {a: !!str 1}", b"? [a]\n: b"]
    return {
        "yaml": (
            [*shipped[:4], *odd],
            lambda data, place: parse_yaml(data.decode("utf-8", "replace"), source="fuzz"),
        ),
        "recipe": (
            shipped,
            written("r.yaml", lambda path: again(load_recipe(path), path.parent)),
        ),
        "overrides": ([*words], overrides),
        "inputs": ([*kinds], typed),
        "record": (
            [json.dumps(x).encode() for x in (RECORD, large)],
            written("subject.json", lambda path: read_record(path.parent)),
        ),
        "wav": (
            [hostile_data.wav(size=64)],
            written("a.wav", lambda path: hostile_data.input_of(f"x=wav({path.parent})")),
        ),
        "tar": ([tar_of_pairs()], written("d.tar", hostile_data.opened)),
    }


class Tried:
    """Counts inputs, and keeps the first that ended in anything but a result or a typed error."""

    def __init__(self, target: Target, place: Path, report: Path) -> None:
        self.target, self.place, self.report = target, place, report
        self.found: dict[str, Any] = {"tried": 0, "refused": 0, "failures": []}
        self._seen: set[str] = set()
        self._kept = time.monotonic()

    def __call__(self, data: bytes) -> None:
        """Try one input."""
        from benchmarks.reliability.confined import resident
        from gancompress.errors import GancompressError

        before, began, fault = resident(), time.process_time(), ""
        try:
            with (
                contextlib.redirect_stderr(io.StringIO()),
                contextlib.redirect_stdout(io.StringIO()),
                warnings.catch_warnings(),
            ):
                warnings.simplefilter("ignore")
                self.target(data, self.place)
        except GancompressError:
            self.found["refused"] += 1
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            fault = f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}: {error}"
        used, grown = time.process_time() - began, (resident() - before) >> 20
        if not fault and (used > SECONDS or grown > MIB):
            fault = f"took {used:.1f} s, {grown} MiB"
        self.found["tried"] += 1
        if fault and (key := fault.split(": ")[0]) not in self._seen:
            self._seen.add(key)
            if len(self._seen) <= SHOWN:
                failure = {"fault": fault[:400], "input": data[:2000].decode("latin-1")}
                self.found["failures"].append(failure)
        if fault or time.monotonic() - self._kept > 1.0:
            self._kept = time.monotonic()
            self.report.write_text(json.dumps(self.found))


def fuzz(name: str, seconds: int, report: Path) -> None:
    """Fuzz one target in this process, which libFuzzer ends."""
    import atheris

    with atheris.instrument_imports(include=list(INSTRUMENTED)):
        inputs, target = targets()[name]
    corpus = CORPUS / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(inputs):
        (corpus / f"seed-{number}").write_bytes(data)
    place = Path(tempfile.mkdtemp(prefix="fuzz-"))
    tried = Tried(target, place, report)
    for data in inputs:
        tried(data)  # what is loaded with the first of them is not theirs
    tried.found |= {"tried": 0, "refused": 0, "failures": []}
    flags = [f"-max_total_time={seconds}", "-seed=1", "-max_len=8192", "-rss_limit_mb=8192",
             "-timeout=60", "-verbosity=0"]  # fmt: skip
    atheris.Setup([sys.argv[0], *flags, str(corpus)], tried)
    try:
        atheris.Fuzz()
    finally:
        shutil.rmtree(place, ignore_errors=True)


def main(words: list[str] | None = None) -> int:
    """Fuzz the targets named, or all; return 1 when one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", help="default: all")
    parser.add_argument("--seconds", type=int, default=600, help="for each target")
    parser.add_argument("--alone", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.alone is not None:
        fuzz(options.targets[0], options.seconds, options.alone)
        return 0
    if importlib.util.find_spec("atheris") is None:
        raise SystemExit("needs atheris: pip install 'gancompress[fuzz]' (Linux)")
    if wrong := [name for name in options.targets if name not in NAMES]:
        parser.error(f"no target {wrong[0]!r}; known: {', '.join(NAMES)}")
    whole = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    broken = 0
    for name in options.targets or NAMES:
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.json"
            command = [sys.executable, "-m", "benchmarks.reliability.fuzz", name]
            command += ["--seconds", str(options.seconds), "--alone", str(report)]
            done = subprocess.run(command, cwd=record.ROOT, capture_output=True, text=True)
            found = json.loads(report.read_text()) if report.is_file() else {}
        if not found.get("tried"):
            raise SystemExit(f"{name}: nothing was tried: {done.stderr[-2000:]}")
        if done.returncode not in (0, 1) or "ERROR: libFuzzer" in done.stderr:
            found["failures"].append({"fault": done.stderr[-400:], "input": ""})
        whole = _added(whole, name, found, options.seconds)
        RESULT.write_text(json.dumps(whole, indent=1) + "\n")
        broken += len(found["failures"])
        print(f"{name}: {found['tried']:,} inputs, {len(found['failures'])} kinds of failure")
        for failure in found["failures"]:
            print(f"    {failure['fault']}")
    return int(broken > 0)


def _added(whole: dict[str, Any], name: str, found: dict[str, Any], seconds: int) -> dict[str, Any]:
    """Return the results with those of one target; of the same package they add up."""
    conditions = record.protocol(1, ("atheris",))
    if not whole or package_at(whole["git"]) != package_at("HEAD"):
        whole = {"targets": {}}
    whole |= conditions
    old = whole["targets"].get(name, {"tried": 0, "refused": 0, "seconds": 0, "failures": []})
    whole["targets"][name] = {
        "tried": old["tried"] + found["tried"],
        "refused": old["refused"] + found["refused"],
        "seconds": old["seconds"] + seconds,
        "failures": (old["failures"] + found["failures"])[:SHOWN],
    }
    return whole


if __name__ == "__main__":
    random.seed(1)
    sys.exit(main())
