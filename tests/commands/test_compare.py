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


def test_figures_that_no_run_has_are_left_out_and_the_table_fits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    runs = [finished(tmp_path / f"r{i}", "ppcd", None, 50_000 + i) for i in range(2)]
    for i, run in enumerate(runs):
        summary = json.loads((run / "summary.json").read_text())
        summary["quality"]["student"] = {"n": 256, "to_teacher": {"l1": 0.5 - i / 4, "psnr": 31.0}}
        (run / "summary.json").write_text(json.dumps(summary))
    assert main(["compare", *map(str, runs)]) == 0
    table = capsys.readouterr().out
    assert "Frechet" not in table
    assert "L1 teacher" in table
    head = next(line for line in table.splitlines() if "smaller" in line)
    assert "┃ run" in head
    assert max(map(len, table.splitlines())) <= 80
    assert table.index("│ r1") < table.index("│ r0"), "the nearest to its teacher comes first"
    assert "to the teacher's outputs" in " ".join(table.split())


def test_a_page_of_runs_has_a_pareto_plot_where_a_measure_is_common(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    runs = [
        finished(tmp_path / "a", "random", 9.0), finished(tmp_path / "b", "ppcd", 4.0),
        finished(tmp_path / "c", "ppcd", 5.0),
    ]  # fmt: skip
    file = tmp_path / "page.html"
    assert main(["compare", *map(str, runs), "--html", str(file)]) == 0
    page = file.read_text("utf-8")
    assert page.count("<svg") == 1
    assert "Frechet distance over parameters" in page
    assert "mean, bars of one deviation" in page
    assert main(["compare", str(runs[0]), "--html", str(file)]) == 2
    assert "exists" in capsys.readouterr().err
    other = finished(tmp_path / "d", "other", None)
    assert main(["compare", str(runs[0]), str(other), "--html", str(tmp_path / "e.html")]) == 0
    assert "no measure of quality in common" in (tmp_path / "e.html").read_text("utf-8")


def test_a_report_says_its_verdict_with_thresholds_and_how_to_load(tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    run = finished(tmp_path / "0001-ppcd", "ppcd", 4.0)
    summary = json.loads((run / "summary.json").read_text())
    timed = {"iqr_ms": 0.1, "batch": 1, "dtype": "float32", "device": "cpu", "threads": 1}
    summary["size"] |= {
        "teacher_latency": {**timed, "median_ms": 4.0, "layout": "contiguous"},
        "small_latency": {**timed, "median_ms": 2.0, "layout": "contiguous"},
        "max_difference": 0.5, "mean_difference": 0.1,
    }  # fmt: skip
    summary |= {
        "target": "params=4x", "off_target": 0.03, "model": "nets:Maker.build",
        "verify": {"max_error": 2e-12, "passed": True, "cuts": 1},
    }  # fmt: skip
    summary["quality"]["student"]["frechet_floor"] = 0.5
    (run / "summary.json").write_text(json.dumps(summary))
    for name in ("teacher.png", "student.png"):
        Image.new("RGB", (64, 64)).save(run / name)
    (run / "model").mkdir()
    lines = [{"step": i, "g_loss": 1 / i, "widths": {"main.0": 9 - i}} for i in range(1, 5)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    event = {"event": "groups", "text": "9 channels can go", "widths": {"main.0": 9}}
    (run / "events.jsonl").write_text(json.dumps(event) + "\n")
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text("utf-8")
    for words in (
        "does not hold", "target params=4x, +3.0% off (allowed: 2%)", "2.00x faster",
        "4.00 to 2.00 ms, batch 1, cpu, 1 thread", "teacher 4", "Allowed: ", "2.0e-12",
        "(allowed: 1e-09)", 'type="range"', "5 of 9", "Channels by group",
        "from nets import Maker\nbuild = Maker.build",
    ):  # fmt: skip
        assert words.lower() in page.lower(), words
    assert page.index("does not hold") < page.index("<table>")


def test_unfinished_and_damaged_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "none")]) == 2
    (tmp_path / "open").mkdir()
    assert main(["report", str(tmp_path / "open")]) == 2
    assert "--resume" in capsys.readouterr().err
    (tmp_path / "open" / "summary.json").write_text('{"recipe": ')
    assert main(["compare", str(tmp_path / "open")]) == 4
    assert "damaged" in capsys.readouterr().err
