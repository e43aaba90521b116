"""What this machine can do: native bf16, cores, and what limits both."""

from __future__ import annotations

import contextlib
import math
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import nn

# oneDNN's names of instruction sets (ONEDNN_MAX_CPU_ISA) below those that multiply bf16.
_WITHOUT_BF16 = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI"}
_WITHOUT_AMX = {*_WITHOUT_BF16, "AVX2_VNNI_2", "AVX512_CORE_BF16", "AVX512_CORE_FP16"} | {
    "AVX10_1_512"
}
_ARM = ("aarch64", "arm64")


@dataclass(frozen=True)
class Bf16:
    """Whether bf16 is native; ``None``: flags do not tell, a measurement must; ``why`` in words."""

    native: bool | None
    why: str


def bf16_support(device: torch.device) -> Bf16:
    """Return whether ``device`` multiplies bf16 itself, as far as its flags tell (ours).

    The limits of this process count as well: oneDNN told to keep to AVX2 emulates bf16.
    """
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return Bf16(major >= 8, f"{torch.cuda.get_device_name(device)} is sm_{major}{minor}")
    if device.type != "cpu":
        return Bf16(False, f"bf16 is not known to be native on {device.type}")
    if not torch.backends.mkldnn.is_available() or not torch.backends.mkldnn.enabled:  # type: ignore[truthy-function]
        return Bf16(False, "torch runs without oneDNN, which has the bf16 kernels")
    return cpu_bf16(cpu_flags(), os.environ, platform.machine().lower())


def cpu_bf16(flags: frozenset[str], env: Mapping[str, str], machine: str) -> Bf16:
    """Return what the ``flags`` of a CPU of kind ``machine`` say under the limits in ``env``.

    AMX is several times faster than float32. AVX512_BF16 alone and bf16 on ARM are faster on
    some CPUs and slower on others: only a measurement tells.
    """
    if machine in _ARM:
        known = sorted(flags & {"bf16", "svebf16", "sve_bf16", "arm_bf16"})
        return Bf16(None, f"CPU with {known[0]}") if known else Bf16(False, "CPU without bf16")
    if machine not in ("x86_64", "amd64"):
        return Bf16(False, f"bf16 is not known to be native on {machine or 'this CPU'}")
    limit = next((env[k] for k in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA") if env.get(k)), "")
    isa = limit.upper()
    amx, avx = "amx_bf16" in flags, "avx512_bf16" in flags
    if not (amx or avx):
        return Bf16(False, "CPU without AMX-BF16 or AVX512_BF16")
    if isa in _WITHOUT_BF16:
        return Bf16(False, f"oneDNN is limited to {limit}, which emulates bf16")
    if amx and isa not in _WITHOUT_AMX:
        return Bf16(True, "CPU with AMX-BF16")
    return Bf16(None, "CPU with AVX512_BF16" + (f" (oneDNN limited to {limit})" if limit else ""))


@lru_cache(maxsize=1)
def cpu_flags() -> frozenset[str]:
    """Return the CPU's flags in Linux's spelling; elsewhere those that torch can ask for."""
    flags: set[str] = set()
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        for line in text.splitlines():
            key, _, values = line.partition(":")
            if key.strip().lower() in ("flags", "features"):
                flags |= set(values.split())
                break
    asked: dict[str, Callable[[], bool] | None] = {
        "amx_bf16": getattr(torch.cpu, "_is_amx_tile_supported", None),
        "avx512_bf16": getattr(torch.cpu, "_is_avx512_bf16_supported", None),
    }
    if not flags:
        flags = {name for name, ask in asked.items() if ask is not None and ask()}
    # The tiles need the leave of the kernel, which an old one or a sandbox does not give.
    ask = getattr(torch.cpu, "_init_amx", None)
    if "amx_bf16" in flags and ask is not None and not ask():
        flags.discard("amx_bf16")
    return frozenset(flags)


@lru_cache(maxsize=1)
def bf16_ratio(seconds: float = 1.0) -> float:
    """Return how long two convolutions take in bf16, forward and backward; 1: as in float32.

    About ``seconds`` on the CPU, by turns. The shortest of each kind counts: noise only adds.
    """
    rng = torch.Generator().manual_seed(0)
    state = torch.random.get_rng_state()
    net = nn.Sequential(nn.Conv2d(48, 48, 3, 1, 1), nn.LeakyReLU(0.2), nn.Conv2d(48, 48, 3, 1, 1))
    torch.random.set_rng_state(state)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(16, 48, 16, 16, generator=rng).contiguous(memory_format=torch.channels_last)

    def once(narrow: bool) -> float:
        start = time.perf_counter()
        with torch.enable_grad(), torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            net(x).float().square().mean().backward()
        return time.perf_counter() - start

    best = {False: math.inf, True: math.inf}
    for narrow in best:
        once(narrow)  # makes the kernels
    end = time.perf_counter() + seconds
    for turn in range(200):
        for narrow in best:
            best[narrow] = min(best[narrow], once(narrow))
        if turn >= 2 and time.perf_counter() > end:
            break
    return best[True] / best[False]


def usable_cores(root: Path = Path("/sys/fs/cgroup"), proc: Path = Path("/proc")) -> int:
    """Return how many threads of this process can run at once: affinity and container quota.

    Half a core of a quota is none: threads that are throttled while others wait for them cost
    more than they bring. At least 1.
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        cores = os.cpu_count() or 1
    quota = cpu_quota(root, proc)
    return max(1, cores if quota is None else min(cores, math.floor(quota)))


def cpu_quota(root: Path = Path("/sys/fs/cgroup"), proc: Path = Path("/proc")) -> float | None:
    """Return the CPUs that the container may use, of cgroup version 2 or 1; ``None``: no limit."""
    own = ""
    with contextlib.suppress(OSError):
        for line in (proc / "self/cgroup").read_text().splitlines():
            _, kinds, path = line.split(":", 2)
            if not kinds or "cpu" in kinds.split(","):
                own = path.strip().lstrip("/")
    found: list[float] = []
    # A limit on any level above counts too.
    for base in (root, root / "cpu", root / "cpu,cpuacct"):
        place = base / own
        for folder in (place, *place.parents):
            with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
                most, period = (folder / "cpu.max").read_text().split()
                if most != "max":
                    found.append(int(most) / int(period))
            with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
                most = int((folder / "cpu.cfs_quota_us").read_text())
                if most > 0:
                    found.append(most / int((folder / "cpu.cfs_period_us").read_text()))
            if folder == root:
                break
    return min(found, default=None)
