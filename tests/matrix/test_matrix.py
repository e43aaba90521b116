"""The matrix never passes over what it could not run."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import run as matrix
from .run import Cell, cells, lacking, oldest_torch, table, verdict


def test_every_kind_of_arithmetic_thread_count_and_version_has_a_cell() -> None:
    names = {cell.name for cell in cells(13)}
    assert {"ATEN_CPU_CAPABILITY=default", "ONEDNN_MAX_CPU_ISA=SSE41"} <= names
    assert {"OMP_NUM_THREADS=1", "OMP_NUM_THREADS=2"} <= names
    assert {"Python 3.10, oldest torch", "Python 3.13, newest torch"} <= names
    assert len(names) == 12
    assert len(cells(None)) == 10


def test_oldest_torch() -> None:
    assert oldest_torch('dependencies = ["torch>=2.11", "torchvision>=0.26"]') == "2.11"
    assert oldest_torch()


@pytest.mark.parametrize(
    ("code", "text", "status"),
    [
        (0, "...\n12 passed, 1 skipped in 3.2s", "passed"),
        (1, "12 passed, 2 failed in 3.2s", "failed"),
        (5, "no tests ran in 0.01s", "failed"),
        (0, "3 skipped in 0.1s", "failed"),
        (0, "0 passed", "failed"),
        (-9, "", "failed"),
    ],
)
def test_verdict(code: int, text: str, status: str) -> None:
    assert verdict(code, text)[0] == status


def test_an_absent_python_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix, "interpreter", lambda minor: None)
    cell = Cell("Python 3.10, oldest torch", {}, 10, "torch==2.10.*")
    matrix.run(cell, ["tests"])
    assert (cell.status, cell.detail) == ("not run", "no Python 3.10 on this machine")
    assert "not run" in table([cell])


def test_an_absent_instruction_set_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho AVX2\n")
    python.chmod(0o755)
    assert lacking(Cell("a", {"ATEN_CPU_CAPABILITY": "avx512"}), str(python)) == "this CPU has AVX2"
    assert lacking(Cell("b", {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}), str(python))
    assert lacking(Cell("c", {"ATEN_CPU_CAPABILITY": "avx2"}), str(python)) == ""
    assert lacking(Cell("d", {"OMP_NUM_THREADS": "1"}), str(python)) == ""


def test_failures_decide_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fake(cell: Cell, tests: object) -> None:
        cell.status = "failed" if "SSE41" in cell.name else "passed"

    monkeypatch.setattr(matrix, "run", fake)
    monkeypatch.setattr(matrix, "newest_python", lambda: 13)
    assert matrix.main(["--only", "avx2"]) == 0
    assert matrix.main(["--json", str(tmp_path / "m.json")]) == 1
    assert "11 passed, 1 failed, 0 not run" in capsys.readouterr().out
    assert '"failed"' in (tmp_path / "m.json").read_text()
