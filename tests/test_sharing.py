"""Generators shared as folders: built by themselves, pushed, fetched, with cards that are true."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import gancompress as gc
from gancompress.cli import main
from gancompress.errors import CheckpointError, ConfigError, StorageError
from gancompress.models.built_with import BuiltWith, build_again, built_with
from tests.deployment.reference_networks import SMALL
from tests.tiny import Tiny, inputs

SUMMARY = {
    "recipe": "ppcd", "model": "embedded", "steps": 4, "seed": 0,
    "size": {
        "teacher": {"params": 1000, "macs": 5000, "bytes": 4000},
        "small": {"params": 250, "macs": 1000, "bytes": 1000},
        "teacher_latency": {"median_ms": 4.0},
        "small_latency": {"median_ms": 1.5, "batch": 1, "dtype": "float32", "device": "cpu"},
    },
    "quality": {
        "teacher": {"n": 100, "seed": 0, "frechet_classifier": 1.25},
        "student": {"n": 100, "seed": 0, "frechet_classifier": 2.5},
    },
    "verify": {"passed": True, "max_error": 2e-12},
}  # fmt: skip


class Hub:
    """Stands in for huggingface_hub: repositories are folders."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.private: dict[str, bool] = {}
        self.fail = False

    def HfApi(self, token: str | None = None) -> Hub:  # noqa: N802
        return self

    def create_repo(self, *, repo_id: str, private: bool, exist_ok: bool) -> None:
        assert exist_ok
        self.private[repo_id] = private
        (self.root / repo_id).mkdir(parents=True, exist_ok=True)

    def upload_folder(self, *, repo_id: str, folder_path: str, **rest: Any) -> Any:
        if self.fail:
            raise RuntimeError("401 Client Error.\nInvalid token")
        for name in rest["allow_patterns"]:
            if (Path(folder_path) / name).exists():
                shutil.copy(Path(folder_path) / name, self.root / repo_id / name)
        return SimpleNamespace(repo_url=f"https://hub/{repo_id}")

    def snapshot_download(self, *, repo_id: str, **rest: Any) -> str:
        if not (self.root / repo_id).is_dir():
            raise FileNotFoundError(f"404: no {repo_id}")
        return str(self.root / repo_id)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub(tmp_path / "hub")
    monkeypatch.setitem(sys.modules, "huggingface_hub", made)
    return made


def cut_small(name: str) -> Any:
    net = SMALL[name]().eval()
    x = net.sample_inputs(1, torch.Generator().manual_seed(0))
    graph = gc.trace(net, x)
    return gc.cut(net, gc.random_plan(graph, keep=0.5, seed=0), graph=graph), x


def whole(name: str) -> Any:
    net = SMALL[name]().eval()
    return net, net.sample_inputs(1, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_reference_network_is_loaded_by_its_folder_alone(name: str, tmp_path: Path) -> None:
    small, x = cut_small(name) if name in ("srvgg", "hifigan") else whole(name)
    gc.save(tmp_path / "s", small)
    again = gc.load(tmp_path / "s")
    assert type(again) is type(small)
    with torch.no_grad():
        assert torch.equal(again(*x), small(*x))


def test_what_a_network_was_built_with_goes_with_it() -> None:
    import copy
    import pickle

    net = SMALL["hifigan"]()
    record = built_with(net)
    assert record is not None
    assert built_with(copy.deepcopy(net)) is record
    assert json.loads(json.dumps(record.arguments)) == record.arguments
    assert pickle.loads(pickle.dumps(record)) == ()
    assert build_again(record.name, record.arguments).config == net.config

    class Own(type(net)):
        pass

    assert built_with(Own(net.config)) is None


def test_a_folder_can_name_no_other_code(tmp_path: Path) -> None:
    gc.save(tmp_path / "own", Tiny())
    with pytest.raises(CheckpointError, match=r"holds a Tiny, whose code is yours: load\(build_fn"):
        gc.load(tmp_path / "own")
    with pytest.raises(CheckpointError, match="first of two arguments is a function"):
        gc.load(str(tmp_path / "own"), tmp_path / "own")
    with pytest.raises(CheckpointError, match="load.. needs a folder"):
        gc.load(Tiny)
    net = SMALL["srvgg"]()
    for name, arguments, text in (
        ("os.system", {}, "no generator 'os.system' comes with gancompress"),
        ("SRVGGNetCompact", {"command": "rm"}, "cannot be built with"),
        ("SRVGGNetCompact", {"num_feat": 10**6, "num_conv": 9}, "bytes of weights"),
    ):
        vars(net)["_gancompress_built"] = BuiltWith("SRVGGNetCompact", arguments)
        vars(net)["_gancompress_built"].name = name if "." not in name else "SRVGGNetCompact"
        folder = tmp_path / text.replace(" ", "_").replace("'", "")
        if "." in name:
            with pytest.raises(ConfigError, match=text):
                build_again(name, arguments)
            continue
        gc.save(folder, net)
        with pytest.raises(CheckpointError, match=text):
            gc.load(folder)


def test_push_and_from_pretrained(tmp_path: Path, hub: Hub) -> None:
    small, x = cut_small("srvgg")
    run = tmp_path / "0001-ppcd-net"
    gc.save(run / "model", small)
    (run / "summary.json").write_text(json.dumps(SUMMARY))
    assert gc.push(run, "me/small", private=True) == "https://hub/me/small"
    assert hub.private == {"me/small": True}
    again = gc.from_pretrained("me/small")
    with torch.no_grad():
        assert torch.equal(again(*x), small(*x))
        assert torch.equal(gc.from_pretrained(run)(*x), small(*x))
    card = (hub.root / "me" / "small" / "README.md").read_text()
    for part in (
        "| parameters | 1,000 | 250 |",
        "| latency in ms (batch 1, dtype float32, device cpu) | 4.00 | 1.50 |",
        "| frechet classifier | 1.25 | 2.5 |", "Quality: n 100, seed 0.", "(passed)", "2.0e-12",
        'gc.from_pretrained("me/small")', "recipe ppcd on embedded, 4 steps, seed 0",
    ):  # fmt: skip
        assert part in card
    assert card.startswith("---\nlibrary_name: gancompress")


def test_own_classes_need_their_builder(tmp_path: Path, hub: Hub) -> None:
    net = Tiny().eval()
    gc.push(net, "me/own")
    with pytest.raises(CheckpointError, match="whose code is yours"):
        gc.from_pretrained("me/own")
    z = inputs("plain", 2)
    with torch.no_grad():
        assert torch.equal(gc.from_pretrained("me/own", Tiny)(z), net(z))
    assert "build_fn=Tiny" in (hub.root / "me" / "own" / "README.md").read_text()


def test_what_can_go_wrong_is_said(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    gc.save(tmp_path / "own", Tiny())
    for source, repo, kind, text in (
        (tmp_path / "own", "no-owner", ConfigError, "write org/name"),
        (tmp_path, "me/x", CheckpointError, "holds no saved generator"),
    ):
        with pytest.raises(kind, match=text):
            gc.push(source, repo)
    with pytest.raises(StorageError, match="cannot download me/none: FileNotFoundError: 404"):
        gc.from_pretrained("me/none")
    with pytest.raises(ConfigError, match="neither a folder nor a repository"):
        gc.from_pretrained("nowhere")
    hub.fail = True
    with pytest.raises(StorageError, match="RuntimeError: 401 Client Error. Invalid token"):
        gc.push(tmp_path / "own", "me/own")
    (tmp_path / "own" / "model.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="is damaged"):
        gc.push(tmp_path / "own", "me/own")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match=r"pip install 'gancompress\[hub\]'"):
        gc.from_pretrained("me/own")


def test_the_verb(tmp_path: Path, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    gc.save(tmp_path / "own", SMALL["srvgg"]())
    source, out = str(tmp_path / "own"), str(tmp_path / "layout")
    assert main(["push", source]) == 2
    assert "org/name, or --out FOLDER" in capsys.readouterr().err
    assert main(["push", source, "--out", out, "--json"]) == 0
    names = json.loads(capsys.readouterr().out)["files"]
    assert names == ["README.md", "config.json", "manifest.json", "model.safetensors", "plan.json"]
    assert type(gc.load(out)).__name__ == "SRVGGNetCompact"
    assert not hub.private
    weights = str(tmp_path / "w.safetensors")
    assert main(["export", source, "--to", "safetensors", "--out", weights]) == 0  # no --model
    assert main(["push", source, "me/net"]) == 0
    assert "https://hub/me/net" in capsys.readouterr().out
    hub.fail = True
    assert main(["push", source, "me/net"]) == 6
