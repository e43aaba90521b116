"""The embedded default from end to end: what ``make demo`` does, with fewer steps and samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from gancompress.cli import main
from gancompress.models import BigGANConfig, BigGANDiscriminator, BigGANGenerator


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("gancompress.commands.closing_quality.SAMPLES", 100)
        words = ["prune", "--recipe", "ppcd", "--max-steps", "4", "batch=4", "--quiet"]
        assert main([*words, "--out", "demo"]) == 0
    return folder / "demo"


@pytest.fixture
def summary(run: Path) -> dict[str, Any]:
    return json.loads((run / "summary.json").read_text())


def test_demo_lands_on_its_target_and_is_verified(summary: dict[str, Any]) -> None:
    assert summary["target"] == "params=5.2x"
    assert abs(summary["off_target"]) <= 0.02
    assert summary["compression"] >= 5.2 * 0.98
    assert summary["verify"]["passed"]
    assert summary["verify"]["max_error"] <= 1e-9


def test_every_figure_has_its_protocol(summary: dict[str, Any]) -> None:
    for who in ("teacher", "student"):
        quality = summary["quality"][who]
        assert quality["n"] == 100
        assert quality["seed"] == 0
        assert quality["features"]
        assert quality["frechet_floor"] > 0
    assert summary["size"]["teacher_latency"]["batch"] == 1
    assert (summary["seed"], summary["device"]) == (0, "cpu")


def test_what_auto_chose_is_recorded(run: Path, summary: dict[str, Any]) -> None:
    assert "precision: auto" in (run / "config.yaml").read_text()
    chosen = json.loads((run / "env.json").read_text())["arithmetic"]
    assert summary["precision"] == chosen["precision"] in ("float32", "bf16")
    assert chosen["precision_why"].startswith("auto: ")
    assert chosen["channels_last_why"].startswith("auto: ")
    assert f"precision {chosen['precision']}" in (run / "log.txt").read_text()


def test_the_student_serves_the_other_verbs(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", str(run), "--compare", "--out", str(tmp_path / "p.png")]) == 0
    assert main(["eval", str(run), "--n", "100", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out.split("\n", 1)[1])
    assert shown["n"] == 100
    assert shown["params"] < 60_000
    assert len(shown["taken"]["classes"]) > 5
    assert shown["taken"]["latents"]["n"] == 64
    assert main(["eval", str(run), "--n", "100"]) == 0
    assert "What compression took away" in capsys.readouterr().out
    assert main(["prune", str(run), "--dry-run"]) == 2
    assert "has been cut already" in capsys.readouterr().err


def test_embedded_generator_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["model"] == "embedded"
    assert found["cost"]["params"] > 250_000
    assert main(["sample", "--n", "10"]) == 0
    assert (tmp_path / "samples.png").is_file()


def test_a_trained_network_can_be_pruned_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gancompress.commands.closing_quality.SAMPLES", 100)
    few = ["--max-steps", "2", "batch=4", "--quiet"]
    assert main(["train", "--recipe", "fashion-teacher", *few, "--out", "t"]) == 0
    assert (tmp_path / "t" / "samples.png").is_file()
    assert main(["prune", "t", "--data", "../nothing"]) == 3
    capsys.readouterr()
    assert main(["prune", "t", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["reachable"]


@pytest.mark.slow
def test_published_biggan_folder_is_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    config = BigGANConfig(resolution=32, n_classes=4, ch=8, dim_z=32)
    state = BigGANGenerator(config).state_dict()
    (tmp_path / "published").mkdir()
    for name in ("G_ema", "G"):
        torch.save(state, tmp_path / "published" / f"{name}.pth")
    torch.save(BigGANDiscriminator(config).state_dict(), tmp_path / "published" / "D.pth")
    assert main(["prune", "published", "--max-steps", "2", "batch=4", "--out", "r", "-q"]) == 0
    shown = capsys.readouterr().out
    assert "gancompress sample r --out" in shown
    assert main(["sample", "r", "--n", "10", "--out", "s.png"]) == 0


def test_the_demo_shows_teacher_and_student(run: Path) -> None:
    from gancompress.commands.demo import side_by_side

    pair: Any = side_by_side(str(run), None, None, None, None, "cpu")
    about = pair.about()
    assert list(about["networks"]) == ["teacher", "student"]
    assert about["networks"]["student"] < about["networks"]["teacher"]
    assert about["classes"] == 10
    found = pair.run(pair.batch(3, 7, 2))
    assert [len(o["media"]) for o in found["outputs"].values()] == [2, 2]


def test_the_student_is_exported_as_onnx(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for extra in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(extra, reason="the extra gancompress[onnx] is not installed")
    file = tmp_path / "student.onnx"
    assert main(["export", str(run), "--out", str(file), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert 0 < shown["max_error"] <= 1e-4
    assert shown["bytes"] == file.stat().st_size > 4 * 55_000
    assert main(["export", str(run), "--out", str(file)]) == 2

    other = ["--to", "torch.export", "--out", str(tmp_path / "off.pt2")]
    assert main(["export", str(run), *other, "--tolerance=-1"]) == 8
    assert "No file was written" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["student.onnx"]
