"""The examples run, and do what they say."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "examples"


def example(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr("sys.path", [*sys.path])
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_own_loop_lands_on_its_target(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compression = example("own_loop", monkeypatch).main(steps=8, batch=4)
    assert compression == pytest.approx(3.0, rel=0.02)
    assert "parameters" in capsys.readouterr().out


def test_inspect_model_cuts_exactly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert example("inspect_model", monkeypatch).main() <= 1e-9
    assert "main.0" in capsys.readouterr().out


def test_own_dcgan_from_the_shell(tmp_path: Path) -> None:
    few = ["--max-steps", "3", "batch=4", "--out", str(tmp_path / "run"), "--quiet"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", str(FOLDER / "own_dcgan.sh"), *few],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": path},
    )
    assert done.returncode == 0, done.stderr
    assert "3.0" in done.stdout
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()


NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def test_notebooks_carry_no_outputs() -> None:
    """They would be stale, and large: the tests run them."""
    assert len(NOTEBOOKS) >= 4
    for file in NOTEBOOKS:
        cells = json.loads(file.read_text("utf-8"))["cells"]
        assert not any(cell.get("outputs") for cell in cells), file.name


@pytest.mark.slow
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_runs(file: Path, tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    book = nbformat.read(file, as_version=4)
    nbclient.NotebookClient(book, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
    shown = [
        kind for cell in book.cells for o in cell.get("outputs", ()) for kind in o.get("data", ())
    ]
    assert "image/png" in shown or "text/html" in shown or "text/plain" in shown
