from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from gancompress.commands.resolve.builders import build, load_builder, load_weights, read_weights
from gancompress.errors import CheckpointError, ConfigError

NETS = """
from torch import nn
def generator():
    return nn.Linear(3, 4)
def broken():
    raise RuntimeError("no such width")
def number():
    return 5
def parallel():
    return nn.DataParallel(nn.Sequential(nn.Linear(3, 4)))
def compiled():
    import torch
    return torch.compile(nn.DataParallel(nn.Linear(3, 4)))
size = 7
class Family:
    @staticmethod
    def small():
        return nn.Linear(1, 1)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    name = f"nets_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(NETS)
    (tmp_path / f"{name}_bad.py").write_text("import not_installed_anywhere\n")
    (tmp_path / f"{name}_typo.py").write_text("x = 1\ny = x.z\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    return tmp_path / f"{name}.py"


def test_builder_of_the_current_folder(here: Path) -> None:
    assert isinstance(build(f"{here.stem}:generator"), nn.Linear)
    assert build(f"{here.stem}:Family.small").weight.shape == (1, 1)


@pytest.mark.parametrize(
    ("name", "kind", "shells"),
    [
        ("parallel", nn.Sequential, ["DataParallel"]),
        ("compiled", nn.Linear, ["OptimizedModule", "DataParallel"]),
    ],
)
def test_shells_are_taken_off_and_said(
    here: Path, name: str, kind: type, shells: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert type(build(f"{here.stem}:{name}")) is kind
    said = capsys.readouterr().err
    assert all(shell in said for shell in shells)


def test_what_was_done_to_load_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = nn.Linear(3, 4)
    torch.save({"g_ema": {f"module.{n}": t for n, t in net.state_dict().items()}}, tmp_path / "w")
    fresh = nn.Linear(3, 4)
    load_weights(fresh, str(tmp_path / "w"))
    assert torch.equal(fresh.weight, net.weight)
    said = capsys.readouterr().err
    assert "g_ema" in said
    assert "module" in said


@pytest.mark.parametrize(
    ("suffix", "message"),
    [
        (":generater", "Did you mean 'generator'?"),
        ("_:generator", "no module"),
        (":size", "is a int; it must be a function or a class"),
        (":broken", "no such width at "),
        (":number", "returned a int, not a torch.nn.Module"),
        ("_bad:generator", "No module named 'not_installed_anywhere'"),
        ("_typo:generator", "_typo.py:2"),
        ("", "Write package.module:build_fn"),
    ],
)
def test_wrong_builder_is_named(here: Path, suffix: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(here.stem + suffix)
    assert message in str(caught.value)


def test_near_module_is_named(here: Path) -> None:
    with pytest.raises(ConfigError, match=f"Did you mean '{here.stem}'"):
        load_builder(f"{here.stem}s:generator")


def test_weights_of_both_formats(tmp_path: Path) -> None:
    net = nn.Linear(3, 4)
    save_file(net.state_dict(), str(tmp_path / "w.safetensors"))
    torch.save(net.state_dict(), tmp_path / "w.pt")
    torch.save({"step": 3, "g_ema": net.state_dict()}, tmp_path / "nested.pt")
    for name in ("w.safetensors", "w.pt", "nested.pt:g_ema"):
        fresh = nn.Linear(3, 4)
        load_weights(fresh, str(tmp_path / name))
        assert torch.equal(fresh.weight, net.weight)


def test_nested_weights_list_their_keys(tmp_path: Path) -> None:
    torch.save({"step": 3, "g_ema": nn.Linear(3, 4).state_dict()}, tmp_path / "n.pt")
    with pytest.raises(CheckpointError, match=r"n\.pt:g_ema"):
        read_weights(str(tmp_path / "n.pt"))
    with pytest.raises(CheckpointError, match="Did you mean 'g_ema'"):
        read_weights(str(tmp_path / "n.pt:g_emma"))


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
@pytest.mark.parametrize("kept", [0, 9, 200])
def test_truncated_weights_are_refused(tmp_path: Path, name: str, kept: int) -> None:
    file = tmp_path / name
    state = nn.Linear(30, 40).state_dict()
    save_file(state, str(file)) if name.endswith("safetensors") else torch.save(state, file)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="damaged, truncated") as caught:
        read_weights(str(file))
    assert caught.value.exit_code == 4


def test_pickle_is_not_executed(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (exec, (f"open({str(tmp_path / 'hit')!r}, 'w')",))

    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Evil()))
    torch.save({"w": Evil()}, tmp_path / "evil2.pt")
    for name in ("evil.pt", "evil2.pt"):
        with pytest.raises(CheckpointError):
            read_weights(str(tmp_path / name))
    assert not (tmp_path / "hit").exists()


def test_misfits_are_counted_and_named(tmp_path: Path) -> None:
    state = {"weight": torch.zeros(5, 3), "other": torch.zeros(1)}
    save_file(state, str(tmp_path / "w.safetensors"))
    with pytest.raises(CheckpointError) as caught:
        load_weights(nn.Linear(3, 4), str(tmp_path / "w.safetensors"))
    text = str(caught.value)
    assert "1 missing (bias)" in text
    assert "1 unknown (other)" in text
    assert "weight: file (5, 3), network (4, 3)" in text


def test_nan_weights_are_refused(tmp_path: Path) -> None:
    state = {"weight": torch.full((4, 3), torch.nan), "bias": torch.zeros(4)}
    save_file(state, str(tmp_path / "w.safetensors"))
    with pytest.raises(CheckpointError, match="not finite in weight"):
        load_weights(nn.Linear(3, 4), str(tmp_path / "w.safetensors"))


def test_missing_file() -> None:
    with pytest.raises(CheckpointError, match="cannot read nowhere.pt"):
        read_weights("nowhere.pt")
