"""save() and load(): bit for bit on the user's own class, and nothing damaged gets in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import gancompress as gc
from gancompress.errors import CheckpointError, StorageError
from gancompress.storage import MANIFEST, digest, read_folder, sealed
from tests.tiny import KINDS, Tiny, build, inputs


def small_one(kind: str) -> tuple[nn.Module, gc.Plan]:
    net = build(kind)
    graph = gc.trace(net, inputs(kind))
    plan = gc.random_plan(graph, keep=0.5, seed=0)
    return gc.cut(net, plan, graph=graph), plan


def fresh(kind: str) -> Callable[[], nn.Module]:
    """The user's build function: the same class and arguments, other weights."""

    def build_fn() -> nn.Module:
        net = build(kind)
        with torch.no_grad():
            for p in net.parameters():
                p.normal_()
        return net

    return build_fn


@pytest.fixture
def package(tmp_path: Path) -> Path:
    small, plan = small_one("plain")
    return gc.save(tmp_path / "model", small, plan=plan, info={"recipe": "ppcd"})


def rewrite(path: Path, name: str, data: bytes) -> None:
    """Replace a file and its hash, as someone who means harm would."""
    (path / name).write_bytes(data)
    manifest = json.loads((path / MANIFEST).read_text())
    manifest["files"][name] = digest(data)
    (path / MANIFEST).write_bytes(sealed(manifest))


@pytest.mark.parametrize("kind", KINDS)
def test_bit_for_bit(kind: str, tmp_path: Path) -> None:
    small, plan = small_one(kind)
    path = gc.save(tmp_path / "model", small, plan=plan)
    again = gc.load(fresh(kind), path).eval()
    a, b = small.state_dict(), again.state_dict()
    assert list(a) == list(b)
    assert all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)
    with torch.no_grad():
        assert torch.equal(small(inputs(kind)), again(inputs(kind)))
    assert type(again) is type(small)
    assert {p.suffix for p in path.iterdir()} == {".json", ".safetensors"}, "no pickle"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtype_comes_back(dtype: torch.dtype, tmp_path: Path) -> None:
    small, plan = small_one("plain")
    small = small.to(dtype)
    again = gc.load(fresh("plain"), gc.save(tmp_path / "m", small, plan=plan))
    a, b = small.state_dict(), again.state_dict()
    assert all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


def test_shared_weights_are_stored_once_and_shared_again(tmp_path: Path) -> None:
    small, plan = small_one("shared")
    path = gc.save(tmp_path / "m", small, plan=plan)
    stored = safetensors.torch.load_file(path / "model.safetensors")
    assert ("a.weight" in stored) != ("b.weight" in stored)
    again = gc.load(fresh("shared"), path)
    assert again.a.weight is again.b.weight


def test_uncut_module_and_channels_last(tmp_path: Path) -> None:
    net = build("plain").to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    again = gc.load(fresh("plain"), gc.save(tmp_path / "m", net)).eval()
    with torch.no_grad():
        torch.testing.assert_close(net(inputs("plain")), again(inputs("plain")))


def test_pruned_live_and_at_the_end(tmp_path: Path) -> None:
    """The plan to save is that of the whole way from the class: history, then the last cut."""
    net, x = build("plain"), inputs("plain")
    masked = gc.wrap(net, x, target="params=2x")
    masked.advance(0.5)
    masked.shrink()
    masked.advance(1.0)
    plan = masked.plan()
    small = masked.prune(plan)
    assert masked.history is not None
    path = gc.save(tmp_path / "m", small, plan=masked.history.then(plan))
    with torch.no_grad():
        assert torch.equal(gc.load(fresh("plain"), path).eval()(x), small.eval()(x))
    with pytest.raises(CheckpointError, match="Pass the plan of the whole cut"):
        gc.save(tmp_path / "n", small, plan=masked.history)
    assert not (tmp_path / "n").exists()


def test_wrapped_module_is_refused(tmp_path: Path) -> None:
    net = build("plain")
    gc.wrap(net, inputs("plain"))
    with pytest.raises(CheckpointError, match=r"still wrapped: save what Masked\.prune"):
        gc.save(tmp_path / "m", net)


def test_existing_folder_is_refused(package: Path) -> None:
    small, plan = small_one("plain")
    with pytest.raises(StorageError, match="exists already"):
        gc.save(package, small, plan=plan)
    gc.save(package, small, plan=plan, replace=True)


@pytest.mark.parametrize("info", [{"x": object()}, {"x": float("nan")}])
def test_info_that_is_no_json(info: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not JSON-ready"):
        gc.save(tmp_path / "m", build("plain"), info=info)


def test_state_that_is_no_tensor(tmp_path: Path) -> None:
    class Extra(Tiny):
        def get_extra_state(self) -> dict[str, int]:
            return {"n": 1}

    with pytest.raises(CheckpointError, match="only tensors are saved"):
        gc.save(tmp_path / "m", Extra())


# -- what load refuses -----------------------------------------------------------------------------


def test_other_class_or_arguments(package: Path) -> None:
    for wrong in (fresh("sequential"), fresh("spectral_new"), lambda: Tiny(4)):
        with pytest.raises(CheckpointError):
            gc.load(wrong, package)


def test_mismatch_names_the_tensor(tmp_path: Path) -> None:
    path = gc.save(tmp_path / "m", Tiny(8))
    with pytest.raises(
        CheckpointError, match=r"'linear.weight' is \(32, 6\) in the file and \(16, 6\)"
    ):
        gc.load(lambda: Tiny(4), path)
    with pytest.raises(CheckpointError, match=r"missing \['0.bias'"):
        gc.load(fresh("sequential"), path)


@pytest.mark.parametrize("name", ["model.safetensors", "plan.json", "config.json", MANIFEST])
def test_truncation_is_found(package: Path, name: str) -> None:
    data = (package / name).read_bytes()
    for end in (0, 1, len(data) // 2, len(data) - 1):
        (package / name).write_bytes(data[:end])
        with pytest.raises(CheckpointError):
            gc.load(fresh("plain"), package)


@pytest.mark.parametrize("name", ["model.safetensors", "plan.json", "config.json", MANIFEST])
def test_absent_file_is_found(package: Path, name: str) -> None:
    (package / name).unlink()
    with pytest.raises(CheckpointError):
        gc.load(fresh("plain"), package)
    with pytest.raises(CheckpointError):
        gc.load(fresh("plain"), package.parent / "elsewhere")


@pytest.mark.parametrize("name", ["model.safetensors", "plan.json", "config.json"])
@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b"3", b'"x"', b"\xff\xfe", b"[" * 50_000, b"\x00" * 64,
     b"PK\x03\x04", (2**63 - 1).to_bytes(8, "little") + b"{}",
     (1 << 20).to_bytes(8, "little") + b"{}"],
    ids=range(12),
)  # fmt: skip
def test_hostile_files_with_right_hashes(package: Path, name: str, data: bytes) -> None:
    rewrite(package, name, data)
    with pytest.raises(CheckpointError):
        gc.load(fresh("plain"), package)


def changed_plan(package: Path, change: Callable[[dict[str, Any]], None]) -> None:
    plan = json.loads((package / "plan.json").read_text())
    change(plan)
    rewrite(package, "plan.json", json.dumps(plan).encode())


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p.update(format=99),
        lambda p: p["tensors"].update({"no.such": [[0]]}),
        lambda p: p["tensors"].update({"out.bias": [[7]]}),
        lambda p: p["tensors"].update({"out.bias": [[0], [0]]}),
        lambda p: p["tensors"].update({"out.bias": [[-1]]}),
        lambda p: p["tensors"].update({"out.bias": [[0]]}),
        lambda p: p["tensors"].update({"out.bias": []}),
        lambda p: p["attributes"].append(["", "forward", 3]),
        lambda p: p["attributes"].append(["", "__class__", 3]),
        lambda p: p["attributes"].append(["", "training", 0]),
        lambda p: p["attributes"].append(["conv1", "_forward_hooks", [1]]),
        lambda p: p["attributes"].append(["conv1", "groups", "os.system"]),
        lambda p: p["attributes"].append([["x"], {}, None]),
        lambda p: p.pop("tensors"),
        lambda p: p["tensors"].clear(),
    ],
)
def test_hostile_plans(package: Path, change: Callable[[dict[str, Any]], None]) -> None:
    changed_plan(package, change)
    with pytest.raises(CheckpointError):
        gc.load(fresh("plain"), package)


@pytest.mark.parametrize(
    "config",
    [{}, {"shared": 3}, {"shared": {"a": "b"}}, {"shared": {"a": ["b"]}}, {"shared": None}],
)
def test_hostile_configs(package: Path, config: dict[str, Any]) -> None:
    rewrite(package, "config.json", json.dumps(config).encode())
    with pytest.raises(CheckpointError):
        gc.load(fresh("plain"), package)


@pytest.mark.parametrize("form", [99, "x", None, [1]])
def test_other_formats(package: Path, form: object) -> None:
    manifest = json.loads((package / MANIFEST).read_text())
    manifest["format"] = form
    (package / MANIFEST).write_bytes(sealed(manifest))
    with pytest.raises(CheckpointError, match="update gancompress" if form == 99 else None):
        gc.load(fresh("plain"), package)


def test_tensors_of_another_kind(package: Path) -> None:
    tensors = safetensors.torch.load_file(package / "model.safetensors")
    for name, wrong in {
        "out.bias": tensors["out.bias"].long(),
        "bn1.num_batches_tracked": tensors["bn1.num_batches_tracked"].float(),
        "linear.bias": tensors["linear.bias"][:3].clone(),
    }.items():
        changed: dict[str, Tensor] = {**tensors, name: wrong}
        rewrite(package, "model.safetensors", safetensors.torch.save(changed))
        with pytest.raises(CheckpointError, match=name):
            gc.load(fresh("plain"), package)


def test_facts_are_kept_beside(package: Path) -> None:
    config = json.loads(read_folder(package)[1]["config.json"])
    assert config["info"] == {"recipe": "ppcd"}
    assert config["class"] == "Tiny"
    assert config["parameters"] == sum(p.numel() for p in small_one("plain")[0].parameters())
