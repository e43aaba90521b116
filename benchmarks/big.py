"""Networks of the published size: trace, wrap, cut to 4x fewer MACs, verify, save, load.

    python -m benchmarks.big                  # one process after the other
    python -m benchmarks.big --only hifigan_v1

CPU seconds of each part, and peak memory as a multiple of what a float32 forward at the published
size takes, weights included. Convolutional networks are wrapped and verified on a smaller input
than they are used on (see ``wrapped on``): channels do not depend on space. Networks of other
authors run where their package is installed, else the row says so. Writes
`benchmarks/results/big.json` and the table of `docs/speed.md`.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import gancompress as gc
from benchmarks import record
from benchmarks.isolate import isolated
from benchmarks.scaling import Peak, resident
from gancompress.models import presets

DOCUMENT = record.ROOT / "docs" / "speed.md"
LIMIT_S = 400.0
TARGET = "macs=4x"

Inputs = tuple[Tensor, ...]


@dataclass(frozen=True)
class Big:
    """A network, the input that it is published for, and the one that it is wrapped on."""

    build: Callable[[], nn.Module]
    full: Callable[[nn.Module], Inputs]
    small: Callable[[nn.Module], Inputs]
    said: str
    needs: str = ""


def _biggan(net: nn.Module) -> Inputs:
    return net.sample_inputs(1, torch.Generator().manual_seed(0))  # type: ignore[operator]


def _picture(size: int) -> Callable[[nn.Module], Inputs]:
    return lambda net: (torch.rand(1, 3, size, size) * 2 - 1,)


def _mels(frames: int) -> Callable[[nn.Module], Inputs]:
    return lambda net: (torch.randn(1, 80, frames),)


def _spade(net: nn.Module) -> Inputs:
    return net.sample_inputs(1, torch.Generator().manual_seed(0))  # type: ignore[operator]


def _vae() -> nn.Module:
    diffusers = importlib.import_module("diffusers")
    blocks = ("UpDecoderBlock2D",) * 4
    down = ("DownEncoderBlock2D",) * 4
    return diffusers.AutoencoderKL(
        in_channels=3, out_channels=3, down_block_types=down, up_block_types=blocks,
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4,
    ).decoder  # fmt: skip


def _latents(size: int) -> Callable[[nn.Module], Inputs]:
    return lambda net: (torch.randn(1, 4, size, size),)


NETWORKS = {
    "biggan128": Big(presets.imagenet128_generator, _biggan, _biggan, "its own input"),
    "cyclegan256": Big(presets.cyclegan_generator, _picture(256), _picture(64), "64 px"),
    "spade256": Big(presets.spade_coco_generator, _spade, _spade, "its own input"),
    "rrdb_x4plus": Big(presets.realesrgan_x4plus, _picture(64), _picture(16), "16 px"),
    "hifigan_v1": Big(presets.hifigan_v1_generator, _mels(64), _mels(16), "16 frames"),
    "sd_vae_decoder": Big(_vae, _latents(64), _latents(8), "8x8 latents", needs="diffusers"),
}


class _Clock:
    """CPU seconds of one part after the other."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}
        self._last = time.process_time()

    def lap(self, name: str) -> None:
        now = time.process_time()
        self.parts[f"{name}_s"] = round(now - self._last, 2)
        self._last = now


def _peak_of(do: Callable[[], Any]) -> tuple[Any, float]:
    """Return what ``do`` returns, and the largest resident memory meanwhile in MiB."""
    peak = Peak()
    peak.start()
    try:
        made = do()
    finally:
        peak.going = False
        peak.join()
    return made, peak.value


def measure(name: str) -> dict[str, Any]:
    """Measure one network of `NETWORKS`."""
    big, empty = NETWORKS[name], resident()
    torch.manual_seed(0)
    net = big.build().eval()
    clock = _Clock()
    with torch.no_grad():
        full = big.full(net)
        _, forward = _peak_of(lambda: net(*full))
    clock.lap("forward")

    def pipeline() -> tuple[gc.Masked, bool, Any]:
        masked = gc.wrap(net, big.small(net), target=TARGET)
        clock.lap("wrap")
        masked.advance(1.0)
        small = masked.prune(check=False)
        clock.lap("cut")
        args, kwargs = masked.graph.example
        found = gc.verify(
            net, small, args, kwargs, plan=masked.whole_plan(),
            training=masked.graph.trains != "same",
        )  # fmt: skip
        clock.lap("verify")
        with tempfile.TemporaryDirectory() as folder:
            gc.save(Path(folder) / "small", small, plan=masked.whole_plan())
            clock.lap("save")
            again = gc.load(big.build, Path(folder) / "small")
            clock.lap("load")
        with torch.no_grad():
            same = all(torch.equal(a, b) for a, b in zip(
                small.state_dict().values(), again.state_dict().values(), strict=True))  # fmt: skip
        return masked, same, found

    (masked, same, found), peak = _peak_of(pipeline)
    cost, first = masked.cost(), masked.original
    parts = clock.parts
    return {
        "params": first.params,
        "macs_times": round(first.macs / cost.macs, 2),
        "params_times": round(first.params / cost.params, 2),
        **parts,
        "total_s": round(sum(v for k, v in parts.items() if k != "forward_s"), 2),
        "forward_mb": round(forward - empty),
        "memory_of_forward": round((peak - empty) / max(forward - empty, 1e-9), 2),
        "max_error": found.max_error,
        "exact": found.passed,
        "loaded_equal": same,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return the table of the page."""
    parts = ("wrap_s", "cut_s", "verify_s", "save_s", "load_s", "total_s")
    cells = []
    for r in rows:
        if "status" in r:
            cells.append([r["network"], f"{r['status']}: {r.get('detail', '')}"])
            continue
        cells.append(
            [r["network"], f"{r['params'] / 1e6:.1f} M", r["wrapped_on"],
             *(r[p] for p in parts), r["forward_mb"], f"{r['memory_of_forward']:.2f}x",
             f"{r['max_error']:.0e}", "yes" if r["exact"] and r["loaded_equal"] else "no"]
        )  # fmt: skip
    head = ["network", "parameters", "wrapped on", "wrap", "cut", "verify", "save", "load",
            "all", "forward, MiB", "peak, of the forward", "error", "exact"]  # fmt: skip
    return record.table(head, [[*c, *[""] * (len(head) - len(c))] for c in cells])


def main() -> None:
    """Measure the networks, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=list(NETWORKS))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for name in options.only:
        big = NETWORKS[name]
        row: dict[str, Any] = {"network": name, "wrapped_on": big.said}
        if big.needs and record.version(big.needs) is None:
            row |= {"status": "not run", "detail": f"needs {big.needs}"}
        else:
            row |= isolated(measure, (name,), limit_s=LIMIT_S)
        rows.append(row)
        print(row, flush=True)
        if set(options.only) == set(NETWORKS):
            left = list(NETWORKS)[len(rows) :]
            write([*rows, *({"network": n, "status": "not run"} for n in left)])


def write(rows: list[dict[str, Any]]) -> None:
    """Write the result and the page, after each network."""
    data = {"benchmark": f"published sizes cut to {TARGET}", **record.protocol(0), "rows": rows}
    record.write(record.RESULTS / "big.json", data)
    text = f"CPU seconds. Torch {data['versions']['torch']}, one thread.\n\n" + table(rows)
    record.place(DOCUMENT, "big", text)


if __name__ == "__main__":
    main()
