"""The scripts of docs/speed.md: networks run, rows become tables, a GPU may be absent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import gancompress as gc
from benchmarks import big, gpu, record
from benchmarks import latency as bench
from benchmarks.speed_networks import DCGAN, StyleGAN2


@pytest.mark.parametrize("name", ["dcgan", "stylegan2"])
def test_the_networks_written_down_here_can_be_cut_exactly(name: str) -> None:
    net = DCGAN(4).eval() if name == "dcgan" else StyleGAN2((8, 8, 8), 8).eval()
    z = torch.randn(2, 100, 1, 1) if name == "dcgan" else torch.randn(2, 8)
    masked = gc.wrap(net, z, target="macs=2x")
    masked.advance(1.0)
    small = masked.prune()
    assert masked.verification is not None
    assert masked.verification.passed
    assert small(z).shape == net(z).shape


def test_rows_become_a_table_with_failures_told() -> None:
    row = {
        "network": "a", "size": "s", "engine": "eager", "batch": 1, "ms": 2.0, "macs_1": 4.0,
        "speed_1": 2.0, "share_1": 0.5, "macs_auto": 4.1, "speed_auto": 3.0, "share_auto": 0.73,
        "macs_time": 4.0, "speed_time": 3.2, "share_time": 0.8,
        "units": [8],
    }  # fmt: skip
    bad = {
        "network": "b", "size": "s", "engine": "compiled", "batch": 1, "status": "failed",
        "detail": "x",
    }  # fmt: skip
    goal = {"network": "a", "engine": "eager", "batch": 4, "status": "refused", "detail": "y"}
    apart = {"products_ms": [6.0, 2.0, 1.5], "rest_ms": [1.0, 1.0, 0.5]}
    text = bench.tables([row | apart, bad], [goal])
    told = "| a (s) | eager | 1 | 2.00 | 2.00x of 4.00x (0.50) | 3.00x of 4.10x (0.73) | "
    told += "3.20x of 4.00x (0.80) | 8 |"
    assert f"{told} 4.00x | 2.00x |" in text
    assert "failed" in text
    assert "refused" in text


def test_rows_are_kept_one_by_one_and_speak_of_one_set_of_versions(tmp_path: Path) -> None:
    head = {"versions": {"torch": "2"}, "machine": "m", "threads": 1, "git": "a", "date": "d"}
    path, keys = tmp_path / "r.json", ["network", "batch"]
    record.keep(path, head, [{"network": "x", "batch": 1, "ms": 1}], keys)
    record.keep(path, head, [{"network": "x", "batch": 2, "ms": 2}], keys)
    record.keep(path, head | {"git": "b"}, [{"network": "x", "batch": 1, "ms": 3}], keys)
    rows = json.loads(path.read_text())["rows"]
    assert [(r["batch"], r["ms"], r["git"]) for r in rows] == [(1, 3, "b"), (2, 2, "a")]
    other = head | {"versions": {"torch": "3"}}
    assert len(record.keep(path, other, [{"network": "y", "batch": 1}], keys)["rows"]) == 1


def test_big_networks_tell_what_was_not_run() -> None:
    text = big.table([{"network": "vae", "status": "not run", "detail": "needs diffusers"}])
    assert "not run: needs diffusers" in text
    for name, one in big.NETWORKS.items():
        if not one.needs:
            with torch.device("meta"):
                assert sum(p.numel() for p in one.build().parameters()) > 5e6, name


def test_without_a_gpu_nothing_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main() == gpu.NO_GPU
    assert "No GPU here" in capsys.readouterr().err
