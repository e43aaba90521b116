"""Importing gancompress, or asking for help, costs nothing: no torch, no files, no settings."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ["torch", "torchvision", "torch_pruning", "numpy", "scipy", "matplotlib", "safetensors"]


def loaded_after(code: str) -> set[str]:
    """Names of heavy packages in sys.modules of a fresh interpreter after running ``code``."""
    tail = f"import json, sys\nprint(); print(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    script = f"{code}\n{tail}"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_import_loads_no_heavy_package() -> None:
    assert loaded_after("import gancompress, gancompress.cli") == set()


def test_import_changes_no_environment() -> None:
    code = "import os; a = dict(os.environ); import gancompress.cli; assert dict(os.environ) == a"
    assert loaded_after(code) == set()


@pytest.mark.parametrize("args", [["--help"], ["prune", "--help"], ["recipes"], ["show", "ppcd"]])
def test_light_verbs_load_no_heavy_package(args: list[str]) -> None:
    code = f"from gancompress.cli import main\nassert main({args}) == 0"
    assert loaded_after(code) == set()


def test_import_opens_no_socket_and_no_torch_optional() -> None:
    code = (
        "import sys\n"
        "def hook(event, args):\n"
        "    assert not event.startswith('socket.'), event\n"
        "sys.addaudithook(hook)\n"
        "import gancompress\n"
        "gancompress.trace; gancompress.wrap; gancompress.cut"
    )
    assert "matplotlib" not in loaded_after(code)
