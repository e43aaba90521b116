from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

import pytest
import torch

from gancompress.commands.verify import check_integrity
from gancompress.errors import CheckpointError, StorageError
from gancompress.storage import digest, sealed
from gancompress.training import checkpoint as module
from gancompress.training.checkpoint import (
    checkpoints,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)


def parts(value: float = 1.0) -> dict[str, dict[str, torch.Tensor]]:
    weight = torch.full((3, 4), value)
    return {
        "generator": {"a": weight, "shared": weight, "n": torch.tensor(3)},
        "optim-generator": {"a:exp_avg": torch.arange(5.0), "empty": torch.empty(0)},
    }


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    state = {"total": 9, "masks": None, "rate": 1e-300}
    path = save_checkpoint(tmp_path, 7, parts(), state)
    found = load_checkpoint(path)
    assert found.step == 7
    assert found.state == state
    for name, tensors in parts().items():
        assert found.parts[name].keys() == tensors.keys()
        for key, tensor in tensors.items():
            assert torch.equal(found.parts[name][key], tensor)


def test_two_are_kept_and_the_newest_wins(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, step, parts(step), {})
    assert [p.name for p in checkpoints(tmp_path)] == ["step_000002", "step_000003"]
    found, complaints = latest_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 3
    assert complaints == []


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, parts(1.0), {})
    save_checkpoint(tmp_path, 1, parts(2.0), {})
    found, _ = latest_checkpoint(tmp_path)
    assert found is not None
    assert found.parts["generator"]["a"].unique().item() == 2.0


def test_every_damage_is_noticed(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 1, parts(), {"x": 1})
    rng = random.Random(0)
    files = sorted(path.iterdir())
    for _ in range(300):
        file = rng.choice(files)
        whole = file.read_bytes()
        broken = bytearray(whole)
        kind = rng.choice(["flip", "cut", "zero", "swap", "gone"])
        if kind == "flip":
            broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
        elif kind == "cut":
            del broken[rng.randrange(len(broken)) :]
        elif kind == "zero":
            start = rng.randrange(len(broken))
            broken[start : start + 16] = bytes(len(broken[start : start + 16]))
        elif kind == "swap":
            broken = bytearray(rng.choice([f for f in files if f != file]).read_bytes())
        if bytes(broken) == whole and kind != "gone":
            continue
        if kind == "gone":
            file.unlink()
        else:
            file.write_bytes(broken)
        if file.name == "manifest.json" and kind == "flip":
            # White space of the manifest itself may change and still say the same.
            try:
                same = json.loads(bytes(broken)) == json.loads(whole)
            except ValueError:
                same = False
            if same:
                file.write_bytes(whole)
                continue
        with pytest.raises(CheckpointError):
            load_checkpoint(path)
        file.write_bytes(whole)
    load_checkpoint(path)


def test_a_bad_one_is_passed_over_with_a_word(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, parts(1.0), {})
    newest = save_checkpoint(tmp_path, 2, parts(2.0), {})
    data = bytearray((newest / "generator.safetensors").read_bytes())
    data[-1] ^= 1
    (newest / "generator.safetensors").write_bytes(data)
    found, complaints = latest_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 1
    assert len(complaints) == 1
    assert "generator.safetensors" in complaints[0]


def test_none_good_is_an_error_and_none_at_all_is_not(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path / "absent") == (None, [])
    path = save_checkpoint(tmp_path, 1, parts(), {"n": 1})
    (path / "state.json").write_text("{}")
    with pytest.raises(CheckpointError, match="no good checkpoint"):
        latest_checkpoint(tmp_path)


def test_a_renamed_folder_is_not_believed(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 1, parts(), {})
    path.rename(tmp_path / "step_000009")
    with pytest.raises(CheckpointError, match="renamed"):
        load_checkpoint(tmp_path / "step_000009")


class Killed(BaseException):
    pass


@pytest.mark.parametrize("call", range(40))
def test_a_kill_before_any_system_call_leaves_a_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    save_checkpoint(tmp_path, 1, parts(1.0), {"n": 1})
    count = 0

    def failing(function):
        def wrapper(*args, **kwargs):
            nonlocal count
            count += 1
            if count > call:
                raise Killed
            return function(*args, **kwargs)

        return wrapper

    with monkeypatch.context() as patch:
        for name in ("fsync", "rename", "open", "close", "mkdir", "rmdir", "unlink"):
            patch.setattr(os, name, failing(getattr(os, name)))
        patch.setattr(module.shutil, "rmtree", failing(module.shutil.rmtree))
        try:
            save_checkpoint(tmp_path, 2, parts(2.0), {"n": 2})
            survived = True
        except Killed:
            survived = False
    found, _ = latest_checkpoint(tmp_path)
    assert found is not None
    assert found.state["n"] == found.step
    assert found.parts["generator"]["a"].unique().item() == float(found.step)
    if survived:
        assert found.step == 2
    # And the next save is not in the way of what was left behind.
    save_checkpoint(tmp_path, 3, parts(3.0), {"n": 3})
    assert latest_checkpoint(tmp_path)[0].step == 3
    assert not list(tmp_path.glob(".tmp-*"))


def test_a_full_disk_keeps_the_old_one_and_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, 1, parts(), {})

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="No space left"):
            save_checkpoint(tmp_path, 2, parts(), {})
    assert [p.name for p in checkpoints(tmp_path)] == ["step_000001"]
    assert not list(tmp_path.glob(".tmp-*"))


def test_newest_is_by_number_and_the_same_step_may_be_saved_twice(tmp_path: Path) -> None:
    for step in (9, 999_999, 1_000_000, 10_000_000, 10_000_000):
        made = save_checkpoint(tmp_path, step, parts(), {"at": step}, keep=2)
        found, complaints = latest_checkpoint(tmp_path)
        assert found is not None
        assert (made.is_dir(), found.step, found.state["at"], complaints) == (True, step, step, [])
    assert [p.name for p in checkpoints(tmp_path)] == ["step_1000000", "step_10000000"]
    (tmp_path / "step_latest").mkdir()
    (tmp_path / "step_5.bak").mkdir()
    assert len(checkpoints(tmp_path)) == 2


def test_a_course_that_was_left_behind_goes(tmp_path: Path) -> None:
    """Resumed from step 2, the run makes other checkpoints than those of steps 3 and 4."""
    for step in (1, 2, 3, 4):
        save_checkpoint(tmp_path, step, parts(), {}, keep=9)
    made = save_checkpoint(tmp_path, 3, parts(), {"again": True}, keep=2)
    assert made.is_dir()
    found, _ = latest_checkpoint(tmp_path)
    assert found is not None
    assert found.state == {"again": True}
    assert [p.name for p in checkpoints(tmp_path)] == ["step_000002", "step_000003"]


def test_of_one_that_is_half_removed_nobody_says_that_it_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill while an old checkpoint is removed, after its manifest has gone."""
    folder = tmp_path / "ckpt"
    saved = parts() | {"ema": parts()["generator"]}
    save_checkpoint(folder, 1, saved, {}, keep=1)

    def killed(path: Path, **options: object) -> None:
        if (path / "manifest.json").exists():
            (path / "manifest.json").unlink()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(folder, 2, saved, {}, keep=1)
    assert [p.name for p in checkpoints(folder)] == ["step_000002"]
    check_integrity(folder, json=True)
    save_checkpoint(folder, 3, saved, {}, keep=1)
    assert [p.name for p in folder.iterdir()] == ["step_000003"]


def test_a_kill_while_a_step_is_saved_again_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, 7, parts(), {"first": True})
    rename, calls = os.rename, []

    def killed(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(tmp_path, 7, parts(), {"first": False})
    assert not checkpoints(tmp_path)
    found, complaints = latest_checkpoint(tmp_path)
    assert found is not None
    assert (found.state, complaints) == ({"first": True}, [])


@pytest.mark.parametrize("text", ["[" * 100_000, "3", "null", '{"step": 1e400}', "\x00", "{}"])
@pytest.mark.parametrize("name", ["manifest.json", "state.json"])
def test_odd_records_are_damage(tmp_path: Path, name: str, text: str) -> None:
    made = save_checkpoint(tmp_path, 1, parts(), {})
    (made / name).write_text(text)
    if name == "state.json":
        manifest = json.loads((made / "manifest.json").read_text())
        manifest["files"][name] = digest(text.encode())
        (made / "manifest.json").write_bytes(sealed(manifest))
        if text == "{}":
            return
    if text == '{"step": 1e400}' and name == "state.json":
        assert load_checkpoint(made).state == {"step": float("inf")}
        return
    with pytest.raises(CheckpointError):
        load_checkpoint(made)


def test_a_state_that_no_hash_covers_is_refused(tmp_path: Path) -> None:
    made = save_checkpoint(tmp_path, 1, parts(), {"a": 1})
    manifest = json.loads((made / "manifest.json").read_text())
    del manifest["files"]["state.json"]
    (made / "manifest.json").write_bytes(sealed(manifest))
    (made / "state.json").write_text('{"a": 2}')
    with pytest.raises(CheckpointError, match=r"does not list state\.json"):
        load_checkpoint(made)


def test_a_link_and_what_was_not_saved_with_it_are_refused(tmp_path: Path) -> None:
    made = save_checkpoint(tmp_path, 1, parts(), {})
    (made / ".of-the-system").write_text("")
    load_checkpoint(made)
    (made / "optim-masks.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="was not saved with this checkpoint"):
        load_checkpoint(made)
    (made / "optim-masks.safetensors").unlink()
    (made / "state.json").rename(tmp_path / "state.json")
    (made / "state.json").symlink_to(tmp_path / "state.json")
    with pytest.raises(CheckpointError, match="is a link"):
        load_checkpoint(made)
