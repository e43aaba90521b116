from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import shutil
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch

from gancompress import assets
from gancompress.cli import main
from gancompress.commands import doctor
from gancompress.modules.machine import Bf16

Usage = namedtuple("Usage", "total used free")


def status(name: str) -> tuple[str, str]:
    """Status and fix of the check called ``name``."""
    found = [c for probe in doctor.PROBES for c in doctor._guarded(probe) if c.name == name]
    assert len(found) == 1
    return found[0].status, found[0].fix


def raising(error: Exception) -> Any:
    def fail(*args: object, **options: object) -> None:
        raise error

    return fail


def test_a_sound_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["ok"]
    names = {check["name"] for check in shown["checks"]}
    assert {"python", "torch", "torchvision", "write", "disk", "self test"} <= names
    assert {"precision auto", "memory format auto", "threads"} <= names
    assert all(check["fix"] for check in shown["checks"] if check["status"] != "ok")


def test_no_write_right(monkeypatch: pytest.MonkeyPatch) -> None:
    error = PermissionError(13, "Permission denied")
    monkeypatch.setattr(doctor.tempfile, "NamedTemporaryFile", raising(error))
    assert status("write") == ("fail", "go to another folder, or give --out")


def test_full_disk_and_low_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10, 10, 1000))
    assert status("disk")[0] == "warn"
    assert status("shared memory")[0] == "warn"


def test_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert status("extra report") == ("warn", "pip install 'gancompress[report]'")


def test_torchvision_of_another_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module
    error = RuntimeError("operator torchvision::nms does not exist")

    def fake(name: str) -> Any:
        return raising(error)() if name == "torchvision" else real(name)

    monkeypatch.setattr(doctor.importlib, "import_module", fake)
    state, fix = status("torchvision")
    assert state == "warn"
    assert "torch torchvision" in fix


def test_old_torch_and_old_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    assert status("torch")[0] == "fail"
    monkeypatch.setattr(sys, "version_info", (3, 9, 0))
    assert status("python")[0] == "fail"


def detail(name: str) -> str:
    """Detail of the check called ``name``."""
    return next(c for c in doctor._torch() if c.name == name).detail


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16"), (False, "float32")])
def test_what_auto_takes_here_and_why(
    monkeypatch: pytest.MonkeyPatch, native: bool, precision: str
) -> None:
    def support(device: torch.device) -> Bf16:
        return Bf16(native, "a CPU of the test")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("gancompress.training.arithmetic.bf16_support", support)
    assert detail("precision auto") == f"{precision} on cpu: a CPU of the test"


def test_threads_beyond_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr("gancompress.training.thread_watch.usable_cores", lambda: 3)
    state, fix = status("threads")
    assert state == "warn"
    assert "set_num_threads(3)" in fix
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    assert status("threads")[0] == "ok"
    assert "OMP_NUM_THREADS" in detail("threads")


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    error = importlib.metadata.PackageNotFoundError("scipy")
    monkeypatch.setattr(importlib.metadata, "version", raising(error))
    assert status("scipy") == ("fail", "pip install scipy")


def test_missing_assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "__file__", str(tmp_path / "__init__.py"))
    assert status("embedded files")[0] == "fail"


def test_broken_core_fails_and_does_not_crash(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("gancompress.surgery.verify.verify", raising(ValueError("no")))
    monkeypatch.setattr("gancompress.verify", raising(ValueError("no")), raising=False)
    assert main(["doctor"]) == 2
    assert "ValueError: no" in capsys.readouterr().out
