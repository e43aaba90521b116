from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch

from gancompress.cli import main
from gancompress.commands.verify import check_folder, check_integrity
from gancompress.errors import CheckpointError, ConfigError
from gancompress.training.checkpoint import save_checkpoint


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


def test_manifest_cannot_point_outside(saved: Path) -> None:
    listed = json.loads((saved / "manifest.json").read_text())
    listed["files"]["../../secret"] = {"sha256": "0" * 64, "bytes": 1}
    (saved / "manifest.json").write_text(json.dumps(listed))
    assert "../../secret points outside the folder" in check_folder(saved).faults


@pytest.mark.parametrize("text", ["", "{", "[]", '{"files": {"a": 3}}', '{"files": null}'])
def test_broken_manifest_is_a_fault(saved: Path, text: str) -> None:
    (saved / "manifest.json").write_text(text)
    assert "cannot be read" in check_folder(saved).faults[0]


def test_nothing_to_check(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no manifest.json"):
        check_integrity(tmp_path, json=False)
