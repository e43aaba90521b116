"""What a machine can do, from flags, limits and files of machines that this one is not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gancompress.modules import machine
from gancompress.modules.machine import bf16_support, cpu_bf16, cpu_quota, usable_cores

XEON4 = frozenset({"avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile"})
ZEN4 = frozenset({"avx2", "avx512f", "avx512_bf16"})
OLD = frozenset({"avx2", "avx512f"})


@pytest.mark.parametrize(
    ("flags", "kind", "env", "native"),
    [
        (XEON4, "x86_64", {}, True),
        (XEON4, "amd64", {"ONEDNN_MAX_CPU_ISA": "DEFAULT"}, True),
        (XEON4, "x86_64", {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX"}, True),
        (XEON4, "x86_64", {"ONEDNN_MAX_CPU_ISA": "AVX2"}, False),
        (XEON4, "x86_64", {"ONEDNN_MAX_CPU_ISA": "avx512_core"}, False),
        (XEON4, "x86_64", {"DNNL_MAX_CPU_ISA": "SSE41"}, False),
        (XEON4, "x86_64", {"ONEDNN_MAX_CPU_ISA": "ALL", "DNNL_MAX_CPU_ISA": "AVX2"}, True),
        (XEON4, "x86_64", {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}, None),
        (ZEN4, "x86_64", {}, None),
        (ZEN4, "x86_64", {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}, False),
        (OLD, "x86_64", {}, False),
        (frozenset({"asimd", "bf16"}), "aarch64", {}, None),
        (frozenset({"asimd"}), "arm64", {}, False),
        (frozenset({"bf16"}), "riscv64", {}, False),
        (frozenset(), "", {}, False),
    ],
)
def test_native_bf16_by_flags_and_limits(
    flags: frozenset[str], kind: str, env: dict[str, str], native: bool | None
) -> None:
    found = cpu_bf16(flags, env, kind)
    assert found.native is native
    assert found.why


def test_a_limit_is_named() -> None:
    assert "AVX2" in cpu_bf16(XEON4, {"ONEDNN_MAX_CPU_ISA": "AVX2"}, "x86_64").why


def test_no_bf16_without_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    found = bf16_support(torch.device("cpu"))
    assert found.native is False
    assert "oneDNN" in found.why


@pytest.mark.parametrize(("sm", "native"), [((7, 5), False), ((8, 0), True), ((12, 0), True)])
def test_cuda_by_compute_capability(
    monkeypatch: pytest.MonkeyPatch, sm: tuple[int, int], native: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: sm)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card")
    found = bf16_support(torch.device("cuda"))
    assert (found.native, f"sm_{sm[0]}{sm[1]}" in found.why) == (native, True)


def test_other_devices_have_none() -> None:
    assert bf16_support(torch.device("mps")).native is False


def test_the_measurement_is_a_ratio_and_leaves_randomness_alone() -> None:
    before = torch.random.get_rng_state()
    machine.bf16_ratio.cache_clear()
    try:
        assert machine.bf16_ratio(0.01) > 0
    finally:
        machine.bf16_ratio.cache_clear()
    assert torch.equal(before, torch.random.get_rng_state())


def group(root: Path, where: str, **files: str) -> None:
    folder = root / where
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(text)


def process(root: Path, text: str) -> Path:
    (root / "self").mkdir(parents=True)
    (root / "self" / "cgroup").write_text(text)
    return root


def test_quota_of_version_2(tmp_path: Path) -> None:
    proc, root = process(tmp_path / "proc", "0::/box/app\n"), tmp_path / "cg"
    group(root, "box/app", cpu_max="max 100000\n")
    group(root, "box", cpu_max="250000 100000\n")
    assert cpu_quota(root, proc) == 2.5
    group(root, "box/app", cpu_max="150000 100000\n")
    assert cpu_quota(root, proc) == 1.5


def test_quota_of_version_1(tmp_path: Path) -> None:
    proc, root = process(tmp_path / "proc", "4:cpu,cpuacct:/app\n1:memory:/x\n"), tmp_path / "cg"
    group(root, "cpu/app", cpu_cfs_quota_us="300000", cpu_cfs_period_us="100000")
    assert cpu_quota(root, proc) == 3.0
    group(root, "cpu/app", cpu_cfs_quota_us="-1")
    assert cpu_quota(root, proc) is None


@pytest.mark.parametrize("text", ["", "max 100000", "nonsense", "100000 0"])
def test_no_quota(tmp_path: Path, text: str) -> None:
    proc, root = process(tmp_path / "proc", "0::/\n"), tmp_path / "cg"
    group(root, ".", cpu_max=text)
    assert cpu_quota(root, proc) is None


def test_no_cgroups_at_all(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path / "a", tmp_path / "b") is None


@pytest.mark.parametrize(
    ("affinity", "quota", "cores"), [(8, None, 8), (8, 2.5, 2), (2, 16.0, 2), (4, 0.5, 1)]
)
def test_usable_cores(
    monkeypatch: pytest.MonkeyPatch, affinity: int, quota: float | None, cores: int
) -> None:
    monkeypatch.setattr(
        machine.os, "sched_getaffinity", lambda pid: set(range(affinity)), raising=False
    )
    monkeypatch.setattr(machine, "cpu_quota", lambda root, proc: quota)
    assert usable_cores() == cores
