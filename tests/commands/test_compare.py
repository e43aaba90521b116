from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gancompress.cli import main


def finished(folder: Path, recipe: str, distance: float | None, params: int = 50_000) -> Path:
    folder.mkdir()
    student: dict[str, Any] = {"skipped": "no features"}
    if distance is not None:
        student = {
            "frechet_classifier": distance, "recall": 0.5, "precision": 0.75,
            "conditional_accuracy": 0.9, "n": 2000, "seed": 0, "features": "f",
        }  # fmt: skip
    sizes = {"params": params, "macs": 2 * params, "bytes": 4 * params}
    summary = {
        "schema": 1, "kind": "prune", "recipe": recipe, "model": "embedded", "seed": 3, "steps": 9,
        "images_seen": 576, "run": str(folder), "compression": 200_000 / params,
        "size": {"teacher": {k: v * 4 for k, v in sizes.items()}, "small": sizes},
        "quality": {"student": student, "teacher": student},
    }  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def test_compare_ranks_by_distance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [
        finished(tmp_path / "a", "random", 9.0),
        finished(tmp_path / "b", "ppcd", 4.0),
        finished(tmp_path / "c", "other", None),
    ]
    assert main(["compare", *map(str, runs), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [run["recipe"] for run in shown["runs"]] == ["ppcd", "random", "other"]
    assert main(["compare", *map(str, runs)]) == 0
    table = capsys.readouterr().out
    assert table.index("ppcd") < table.index("random") < table.index("other")
    assert "not an FID" in " ".join(table.split())


def test_report_is_one_file_with_the_picture_inside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    run = finished(tmp_path / "0001-ppcd", "ppcd", 4.0)
    Image.new("RGB", (64, 64)).save(run / "before_after.png")
    (run / "config.yaml").write_text("name: ppcd # <b>\n")
    lines = [{"step": i, "g_loss": 1 / i, "params": 10} for i in range(1, 5)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert "data:image/png;base64," in page
    assert page.count("<svg") == 2
    assert "&lt;b&gt;" in page
    assert "report.html" in capsys.readouterr().out


def test_unfinished_and_damaged_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "none")]) == 2
    (tmp_path / "open").mkdir()
    assert main(["report", str(tmp_path / "open")]) == 2
    assert "--resume" in capsys.readouterr().err
    (tmp_path / "open" / "summary.json").write_text('{"recipe": ')
    assert main(["compare", str(tmp_path / "open")]) == 4
    assert "damaged" in capsys.readouterr().err
