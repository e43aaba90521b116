"""`gancompress inspect --form graph`: what the graph form would free, and why it may not exist."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gancompress.cli import main

NETS = """
import torch
from torch import nn

class Literal(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 12 * 4)
        self.last = nn.Conv2d(12, 1, 3, padding=1)

    def forward(self, z):
        return self.last(self.first(z).view(-1, 12, 2, 2).relu()).tanh()

class Branching(Literal):
    def forward(self, z):
        return super().forward(z if z.sum() > 0 else -z)
"""


def test_graph_form_frees_literal_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "literal_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)
    words = ["inspect", "literal_nets:Literal", "--input", "z=normal(8)", "--json"]
    for form, status in (("module", "kept"), ("graph", "prunable")):
        assert main([*words, "--form", form]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["form"] == form
        assert [r["status"] for r in found["layers"] if r["layer"] == "first"] == [status]
    words[1] = "literal_nets:Branching"
    assert main([*words, "--form", "graph"]) == 2
    shown = capsys.readouterr()
    assert "literal_nets.py:16 in forward" in shown.err
    assert "def forward" not in shown.err
    assert main([*words, "--form", "grap"]) == 2
    assert "not one of module, graph" in capsys.readouterr().err
