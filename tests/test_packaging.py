"""What is published: metadata, files of wheel and sdist, and an install of its own."""

from __future__ import annotations

import email
import importlib.util
import json
import re
import runpy
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Below Python 3.11 there is no tomllib, so this file reads pyproject.toml as text.
PROJECT = (ROOT / "pyproject.toml").read_text("utf-8")


def test_every_extra_is_known_to_the_doctor() -> None:
    from gancompress.commands.doctor import EXTRAS

    table = PROJECT.partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
    named = set(re.findall(r"^(\w+) = \[", table, re.M))
    assert named - {"dev", "bench", "browser", "fuzz"} == set(EXTRAS)


def test_versions_agree() -> None:
    import gancompress

    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"\nversion: {gancompress.__version__}\n" in citation
    assert 'requires-python = ">=3.10"' in PROJECT
    assert "Python :: 3.10" in PROJECT


def test_addresses_are_written_by_the_release_alone() -> None:
    write = runpy.run_path(str(ROOT / ".ci" / "addresses.py"))["with_addresses"]
    assert "[project.urls]" not in PROJECT.replace("# [project.urls]", "")
    text = PROJECT.replace("# [project.urls] is", "# Addresses are")
    made = write(text, "https://example.org/someone/gancompress")
    assert 'Issues = "https://example.org/someone/gancompress/issues"\n' in made
    with pytest.raises(SystemExit, match="is not https"):
        write(text, "example.org")


def test_a_workflow_runs_only_what_is_there() -> None:
    for file in (ROOT / ".github" / "workflows").glob("*.yml"):
        text = file.read_text("utf-8")
        for path in re.findall(r"(?:tests|\.ci)/[\w./]+\.py", text):
            assert (ROOT / path).is_file(), f"{file.name} runs {path}"
        for extras in re.findall(r"\.\[([\w,]+)\]", text):
            for extra in extras.split(","):
                assert f"\n{extra} = [" in PROJECT


PRUNE = """
import torch
from torch import nn
import gancompress as gc
from gancompress.models.embedded import embedded_generator

net = nn.Sequential(nn.ConvTranspose2d(6, 8, 4), nn.ReLU(), nn.Conv2d(8, 3, 3))
small = gc.wrap(net, example=(torch.randn(2, 6, 1, 1),), target="params=2x").prune()
print(small[0].out_channels < 8, embedded_generator() is not None)
"""


OWN = """
from torch import nn


def build():
    return nn.Sequential(nn.ConvTranspose2d(6, 8, 4), nn.ReLU(), nn.Conv2d(8, 3, 3), nn.Tanh())
"""


@pytest.mark.slow
def test_wheel_and_sdist_install_and_prune(tmp_path: Path) -> None:
    """Dependencies are those of this interpreter; the package is the wheel's and nothing else."""
    if importlib.util.find_spec("build") is None or importlib.util.find_spec("hatchling") is None:
        pytest.skip("needs build and hatchling")
    dist = tmp_path / "dist"
    words = ["-m", "build", "--no-isolation", "--outdir", str(dist), str(ROOT)]
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        about = email.message_from_bytes(
            archive.read(next(n for n in names if n[-9:] == "/METADATA"))
        )
    assert about["Requires-Python"] == ">=3.10"
    assert about["License-Expression"] == "MIT"
    (torch,) = (r for r in about.get_all("Requires-Dist", []) if re.match(r"torch[<>=]", r))
    assert ">=2.10" in torch
    wanted = ("py.typed", "recipes/ppcd.yaml", "assets/teacher_g.safetensors")
    assert all(f"gancompress/{name}" in names for name in wanted)
    assert {n.partition("/")[0] for n in names} == {
        "gancompress", f"gancompress-{about['Version']}.dist-info"
    }  # fmt: skip
    with tarfile.open(sdist) as archive:
        inside = {n.partition("/")[2] for n in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "tests/test_packaging.py"} <= inside

    home = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    bin_ = home / ("Scripts" if sys.platform == "win32" else "bin")
    pip = [str(bin_ / "python"), "-m", "pip", "install", "--no-index", "--no-deps", "--quiet"]
    subprocess.run([*pip, str(wheel)], check=True)
    (site,) = home.rglob("site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    code = "import gancompress; print(gancompress.__file__)"
    run = {"check": True, "capture_output": True, "text": True, "cwd": tmp_path}
    told = subprocess.run([str(bin_ / "python"), "-P", "-c", code], env={}, **run).stdout  # type: ignore[call-overload]
    assert Path(told.strip()).is_relative_to(home)
    told = subprocess.run([str(bin_ / "python"), "-P", "-c", PRUNE], env={}, **run).stdout  # type: ignore[call-overload]
    assert told.split() == ["True", "True"]
    shown = subprocess.run([str(bin_ / "gancompress"), "recipes"], env={}, **run).stdout  # type: ignore[call-overload]
    assert "ppcd" in shown
    (tmp_path / "own.py").write_text(OWN)
    words = ["prune", "own:build", "--input", "z=normal(6,1,1)", "--target", "params=2x", "batch=4"]
    words += ["--max-steps", "2", "--device", "cpu", "--out", "run", "--json"]
    env = {"GANCOMPRESS_CACHE": str(tmp_path / "cache")}
    told = subprocess.run([str(bin_ / "gancompress"), *words], env=env, **run).stdout  # type: ignore[call-overload]
    assert json.loads(told)["verify"]["passed"]
    assert (tmp_path / "run" / "before_after.png").is_file()


def test_the_sentence_on_the_first_picture_says_what_was_measured() -> None:
    from benchmarks.first_picture import markdown

    found = {
        "install": 61.0, "prune": 39.0, "installed MiB": 4608.0, "python": "3.11.7", "cores": 2,
        "date": "2026-01-02", "git": "abc",
    }  # fmt: skip
    text = markdown(found)
    assert text.startswith("From `pip install` to a first picture: 100 s, of which 61 s")
    assert "(4.5 GiB, most of it PyTorch) and 39 s" in text
