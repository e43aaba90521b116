from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import gancompress as gc
from gancompress.cli import main
from gancompress.commands.compare import read_summary
from gancompress.commands.resolve.subject import read_record
from gancompress.commands.verify import check_folder, check_integrity
from gancompress.errors import CheckpointError, ConfigError
from gancompress.models import BigGANConfig
from gancompress.storage import sealed
from gancompress.training.checkpoint import save_checkpoint
from gancompress.training.run_folder import RunFolder, write_summary
from tests.training.nets import recipe

SMALL = BigGANConfig.fashion32().to_dict()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    parts = {"generator": {"w": torch.arange(600.0)}, "ema": {"w": torch.zeros(7)}}
    return save_checkpoint(tmp_path / "ckpt", 12, parts, {"seed": 1})


def test_whole_checkpoint_passes(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(saved.parent.parent), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["ok"]
    assert shown["folders"][0]["files"] == 3


def test_every_flipped_bit_is_found(saved: Path) -> None:
    files = [file for file in saved.iterdir() if file.name != "manifest.json"]
    rng = random.Random(0)
    for _ in range(60):
        file = rng.choice(files)
        good = file.read_bytes()
        bad = bytearray(good)
        bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        file.write_bytes(bytes(bad))
        assert f"{file.name} has changed (SHA-256)" in check_folder(saved).faults
        file.write_bytes(good)
    assert not check_folder(saved).faults


def test_faults_are_all_named(saved: Path) -> None:
    (saved / "ema.safetensors").unlink()
    (saved / "state.json").write_text("{}")
    (saved / "extra.pkl").write_text("")
    with pytest.raises(CheckpointError) as caught:
        check_integrity(saved, json=False)
    for fault in ("ema.safetensors is missing", "state.json has 2 bytes", "extra.pkl is not in"):
        assert fault in str(caught.value)


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "a/../state.json", "state\0.json"])
def test_manifest_cannot_point_outside(saved: Path, name: str) -> None:
    listed = json.loads((saved / "manifest.json").read_text())
    listed["files"][name] = {"sha256": "0" * 64, "bytes": 1}
    (saved / "manifest.json").write_bytes(sealed(listed))
    assert f"{name} points outside the folder" in check_folder(saved).faults


@pytest.mark.parametrize("text", ["", "{", "[]", '{"files": {"a": 3}}', '{"files": null}'])
def test_broken_manifest_is_a_fault(saved: Path, text: str) -> None:
    (saved / "manifest.json").write_text(text)
    assert "cannot be read" in check_folder(saved).faults[0]


def test_nothing_to_check(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no manifest.json"):
        check_integrity(tmp_path, json=False)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with a checkpoint, a model and a summary, as a run of ours leaves it."""
    folder = RunFolder(tmp_path / "run")
    folder.begin(recipe(), resume=False)
    folder.release()
    parts = {name: {"w": torch.ones(3)} for name in ("generator", "ema")}
    save_checkpoint(folder.checkpoints, 3, parts, {})
    gc.save(folder.model, nn.Linear(2, 2))
    folder.append("metrics.jsonl", {"step": 3})
    write_summary(folder.path, {"recipe": "x"})
    return folder.path


def test_a_whole_run_passes(run: Path) -> None:
    for path in (run, run.parent, run / "model", run / "ckpt"):
        check_integrity(path, json=True)
    assert check_folder(run).files == 3


@pytest.mark.parametrize(
    ("delete", "said"),
    [
        ("manifest.json", "run: manifest.json is missing"),
        ("model/manifest.json", "model: manifest.json is missing"),
        ("ckpt/step_000003/manifest.json", "step_000003: manifest.json is missing"),
        ("model/plan.json", "plan.json is missing"),
        ("config.yaml", "config.yaml is missing"),
        ("summary.json", "summary.json is missing"),
        ("model", "model/manifest.json is missing"),
    ],
)
def test_what_is_gone_is_named(run: Path, delete: str, said: str) -> None:
    file = run / delete
    shutil.rmtree(file) if file.is_dir() else file.unlink()
    with pytest.raises(CheckpointError, match=said):
        check_integrity(run, json=False)


@pytest.mark.parametrize("folder", ["model", "ckpt/step_000003"])
@pytest.mark.parametrize("files", [{}, None], ids=["empty", "without one"])
def test_an_edited_manifest_is_no_proof(run: Path, folder: str, files: Any) -> None:
    place = run / folder
    manifest = json.loads((place / "manifest.json").read_text())
    gone = next(n for n in manifest["files"] if n.endswith(".safetensors"))
    (place / gone).unlink()
    if files is None:
        files = {n: v for n, v in manifest["files"].items() if n != gone}
    (place / "manifest.json").write_bytes(sealed({**manifest, "files": files}))
    with pytest.raises(CheckpointError, match=f"{gone} is not in the manifest, which must list it"):
        check_integrity(run, json=False)


def test_a_model_put_in_place_of_another_is_found(run: Path) -> None:
    shutil.rmtree(run / "model")
    gc.save(run / "model", nn.Linear(2, 2))
    with pytest.raises(CheckpointError, match=r"run: model/manifest\.json has changed"):
        check_integrity(run, json=False)


def test_deep_records_are_damage(run: Path) -> None:
    for name in ("manifest.json", "summary.json", "subject.json"):
        (run / name).write_text("[" * 100_000)
    assert "cannot be read" in check_folder(run).faults[0]
    with pytest.raises(CheckpointError, match=r"summary\.json is damaged"):
        read_summary(run)
    with pytest.raises(CheckpointError, match=r"subject\.json is damaged"):
        read_record(run)


@pytest.mark.parametrize(
    "record",
    [
        {"model": "a:b", "input": ["z=normal(16384,16384)"]},
        {"model": "a:b", "input": ["y=labels(1000000000)"]},
        {"model": "a:b", "input": [3]},
        {"model": "a:b", "input": "z=normal(8)"},
        {"model": "biggan", "input": [], "config": {}},
        {"model": "biggan", "input": [], "config": {**SMALL, "n_classes": 10**9}},
        {"model": "biggan", "input": [], "config": {**SMALL, "ch": 10**6}},
        [],
        3,
    ],
)
def test_records_that_would_fill_the_memory(tmp_path: Path, record: Any) -> None:
    (tmp_path / "subject.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match=r"subject\.json is damaged"):
        read_record(tmp_path)
