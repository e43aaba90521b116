"""Whose code a line is: the user's, whatever the package is called or however it was typed."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import gancompress
from gancompress.modules.user_line import (
    failing_line,
    is_machinery,
    is_users_file,
    line_in,
    user_frame,
)

SITE = os.path.dirname(os.path.dirname(torch.__file__))
OURS = os.path.dirname(gancompress.__file__)


@pytest.mark.parametrize(
    ("file", "users"),
    [
        (f"{SITE}/torchvision_like/models/resnet.py", True),
        (f"{SITE}/torch_fidelity_like.py", True),
        (f"{SITE}/torchnets/blocks.py", True),
        (f"{SITE}/torch/nn/functional.py", False),
        (f"{SITE}/einops/einops.py", False),
        (f"{OURS}/models/biggan.py", True),
        (f"{OURS}/modules/dispatch.py", False),
        (f"{OURS}/masks/mask.py", False),
        (f"{OURS}_of_mine/net.py", True),
        (os.__file__, False),
        ("<string>", True),
        ("<stdin>", True),
        ("<ipython-input-3-abc>", True),
        ("<frozen importlib._bootstrap>", False),
        ("<eval_with_key>.7", False),
        ("<attrs generated init net.Net>", False),
        ("/tmp/ipykernel_17/8.py", True),
    ],
)
def test_whose_file(file: str, users: bool) -> None:
    assert is_users_file(file) is users


def test_the_running_the_failing_and_the_printed_line_are_one() -> None:
    assert user_frame().startswith("test_user_line.py:")
    with pytest.raises(RuntimeError) as caught:
        torch.ones(2).view(3)
    assert failing_line(caught.value).startswith("test_user_line.py:")
    stack = f'  File "/home/me/net.py", line 7, in forward\n  File "{torch.__file__}", line 2, in f'
    assert line_in(stack) == "net.py:7 in forward"
    cell = '  File "/tmp/ipykernel_17/8.py", line 3, in forward'
    assert line_in(cell) == "<notebook cell>:3 in forward"


TYPED = """import torch
from torch import nn
import gancompress as gc
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 96), nn.Conv2d(6, 3, 1)
    def forward(self, z):
        return self.b(self.a(z).view(2, 6, 4, 4))
print(gc.inspect(Net().eval(), torch.randn(2, 8)).rows[0].reason)
"""


@pytest.mark.parametrize("way", ["text", "stdin"])
def test_code_without_a_file_is_named(way: str, tmp_path: Path) -> None:
    words = ["-c", TYPED] if way == "text" else ["-"]
    done = subprocess.run(
        [sys.executable, *words], input=None if way == "text" else TYPED, text=True,
        capture_output=True, cwd=tmp_path, timeout=300, check=True,
        env={**os.environ, "PYTHONPATH": os.path.dirname(OURS)},
    )  # fmt: skip
    assert f"<{'string' if way == 'text' else 'stdin'}>:9 in forward" in done.stdout


def test_a_script_with_the_name_of_a_module_of_python_is_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "code.py").write_text("class Net:\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "code", raising=False)
    theirs = importlib.import_module("code")
    monkeypatch.setitem(sys.modules, "code", theirs)
    assert not is_machinery(theirs.Net)
    assert is_machinery(dict)
    assert is_machinery(nn.Linear)
    assert is_machinery(gancompress.Plan)
