from __future__ import annotations

import ast
import os
import socket
import threading
from pathlib import Path

import pytest

from gancompress import __version__
from gancompress.errors import CheckpointError, ConfigError, StorageError
from gancompress.recipes.load import load_recipe
from gancompress.training import run_files
from gancompress.training.run_files import (
    CONFIG,
    LOCK,
    MANIFEST,
    SUBJECT,
    checkpoint_step,
    is_trained,
    is_unstarted,
    numbered_runs,
)
from gancompress.training.run_folder import RunFolder, environment, make_folder, write_summary
from tests.training.nets import recipe


def test_numbers_rise_and_no_folder_is_taken_twice(tmp_path: Path) -> None:
    (tmp_path / "0007-old-one").mkdir()
    made: list[Path] = []
    threads = [
        threading.Thread(target=lambda: made.append(RunFolder.create(tmp_path, "a-b").path))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(p.name for p in made) == [f"{n:04d}-a-b" for n in range(8, 16)]


def test_a_folder_in_use_is_refused_and_a_dead_lock_taken_over(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.begin(recipe(), resume=False)
    with pytest.raises(ConfigError, match=f"in use by process {os.getpid()}"):
        RunFolder(tmp_path / "run").begin(recipe(), resume=True)
    folder.release()
    # No process has this number: it is above the kernel's limit.
    (tmp_path / "run" / LOCK).write_text(f"{2**22 + 5} {socket.gethostname()}\n")
    RunFolder(tmp_path / "run").begin(recipe(), resume=True)
    # Killed between making the lock and writing it.
    (tmp_path / "run" / LOCK).write_text("")
    RunFolder(tmp_path / "run").begin(recipe(), resume=True)
    assert (tmp_path / "run" / LOCK).read_text().startswith(f"{os.getpid()} ")


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="Choose another"):
        RunFolder.create(tmp_path / "file" / "runs", "x")
    with pytest.raises(StorageError, match="Choose another"):
        RunFolder(tmp_path / "file" / "run").begin(recipe(), resume=False)


def test_rewinding_drops_later_and_broken_lines(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for step in (1, 2, 3):
        folder.append("metrics.jsonl", {"step": step})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write("[" * 100_000 + '\n{"step": 1, "cut sho')
    assert [line["step"] for line in folder.rewind("metrics.jsonl", 2)] == [1, 2]
    assert [line["step"] for line in folder.rewind("metrics.jsonl", 9)] == [1, 2]


def test_the_environment_names_versions() -> None:
    assert {"python", "torch", "git", "threads"} <= environment().keys()
    assert environment()["gancompress"] == __version__


def test_numbers_are_compared_as_numbers(tmp_path: Path) -> None:
    for name in ("0999-a", "9999-a", "10000-a", "0007-b", "notes", "x-1"):
        (tmp_path / name).mkdir()
    assert [p.name for p in numbered_runs(tmp_path)] == ["0007-b", "0999-a", "9999-a", "10000-a"]
    assert RunFolder.create(tmp_path, "new").path.name == "10001-new"
    assert numbered_runs(tmp_path / "absent") == []
    assert [checkpoint_step(Path(n)) for n in ("step_1000000", "step_x", "step_5.old")] == [
        1_000_000,
        None,
        None,
    ]


def test_a_made_folder_has_its_files_from_the_first_moment(tmp_path: Path) -> None:
    made = RunFolder.create(tmp_path, "a", {SUBJECT: "{}", CONFIG: "x"}).path
    assert {p.name for p in made.iterdir()} == {SUBJECT, CONFIG, MANIFEST}
    (tmp_path / "empty").mkdir()
    make_folder(tmp_path / "empty", {SUBJECT: "{}"})
    assert (tmp_path / "empty" / SUBJECT).is_file()
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "empty", {SUBJECT: "other"})
    assert (tmp_path / "empty" / SUBJECT).read_text() == "{}"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0001-a", "empty"]


@pytest.mark.parametrize(
    ("names", "unstarted"),
    [
        ([], True),
        ([SUBJECT], True),
        ([".subject.json.tmp"], True),
        ([SUBJECT, CONFIG, MANIFEST, LOCK, "command.txt", "env.json"], True),
        ([SUBJECT, CONFIG, "ckpt/", "samples/", "log.txt", "events.jsonl"], True),
        ([SUBJECT, CONFIG, "ckpt/.tmp-000001-5/"], True),
        ([SUBJECT, "ckpt/step_000002/"], False),
        ([SUBJECT, "model/"], False),
        ([SUBJECT, "thesis.tex"], False),
        ([CONFIG, "log.txt"], False),
        (["thesis.tex"], False),
    ],
)
def test_only_what_was_never_trained_is_used_again(
    tmp_path: Path, names: list[str], unstarted: bool
) -> None:
    for name in names:
        if name.endswith("/"):
            (tmp_path / name).mkdir(parents=True)
        else:
            (tmp_path / name).write_text("x")
    assert is_unstarted(tmp_path) is unstarted


def test_what_was_never_trained_begins_with_the_recipe_of_now(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.begin(recipe(), resume=False)
    folder.release()
    changed = recipe(seed=41)
    again = RunFolder(tmp_path)
    again.begin(changed, resume=False)
    again.release()
    assert load_recipe(tmp_path / CONFIG) == changed
    folder.append("metrics.jsonl", {"step": 1})
    assert is_trained(tmp_path)
    with pytest.raises(ConfigError, match="or resume"):
        again.begin(changed, resume=False)
    with pytest.raises(ConfigError, match="was started with seed"):
        again.begin(recipe(), resume=True)
    assert not (tmp_path / LOCK).exists(), "a refusal leaves no lock behind"


@pytest.mark.parametrize("name", [CONFIG, SUBJECT])
@pytest.mark.parametrize("gone", [False, True], ids=["edited", "deleted"])
def test_a_resume_reads_only_what_the_run_was_started_with(
    tmp_path: Path, name: str, gone: bool
) -> None:
    (tmp_path / SUBJECT).write_text('{"model": "a:b"}')
    folder = RunFolder(tmp_path)
    folder.begin(recipe(), resume=False)
    folder.release()
    if gone:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text((tmp_path / name).read_text() + "\n")
    with pytest.raises(CheckpointError, match=f"{name} is not what the run was started with"):
        folder.begin(recipe(), resume=True)


def test_the_manifest_keeps_what_the_run_was_started_with(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.begin(recipe(), resume=False)
    folder.release()
    text = (tmp_path / CONFIG).read_text()
    (tmp_path / CONFIG).write_text(text + "# edited\n")
    write_summary(tmp_path, {"a": 1})
    with pytest.raises(CheckpointError, match="is not what"):
        folder.begin(recipe(), resume=True)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("manifest.json", None),
        ("env.json", None),
        ("env.json", b'"threads": 99,\n "platform"'),
        ("manifest.json", b'"bytes": 7'),
        ("env.json", b"another record"),
        ("config.yaml", b"steps: 11"),
    ],
)
def test_a_run_that_has_learnt_loses_nothing_that_a_resume_reads(
    tmp_path: Path, name: str, damage: bytes | None
) -> None:
    run = RunFolder(tmp_path / "run")
    run.begin(recipe(), resume=False)
    run.append("metrics.jsonl", {"step": 1})
    run.release()
    run.begin(recipe(), resume=True)
    run.release()
    file = run.path / name
    if damage is None:
        file.unlink()
    elif damage == b"another record":
        file.write_bytes((run.path / "manifest.json").read_bytes())
    else:
        said = {"env.json": b'"platform"', "manifest.json": b'"bytes"', "config.yaml": b"steps: 12"}
        file.write_bytes(file.read_bytes().replace(said[name], damage))
    with pytest.raises(CheckpointError, match=name):
        run.begin(recipe(), resume=True)


def test_names_of_a_runs_files_stand_in_one_place() -> None:
    package = Path(run_files.__file__).resolve().parent.parent
    names = {v for k, v in vars(run_files).items() if k.isupper() and isinstance(v, str)}
    names = {n for n in names if "." in n} - {run_files.SAMPLE_GRID}  # `sample` has one of its own
    assert len(names) > 9
    found = {
        (str(file.relative_to(package)), node.value)
        for file in package.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in names
    }
    assert {place for place, _ in found} == {"training/run_files.py", "storage.py"}
    assert {name for place, name in found if place == "storage.py"} == {MANIFEST}
