"""Networks of the published size: trace, wrap, cut to 4x fewer MACs, verify, save, load.

    python -m benchmarks.big                  # one process after the other
    python -m benchmarks.big --only hifigan_v1

CPU seconds of each part, and peak memory as a multiple of what a float32 forward at the published
size takes, weights included. Convolutional networks are wrapped and verified on a smaller input
than they are used on (see ``wrapped on``): channels do not depend on space. Networks of other
authors run where their package is installed, else the row says so. Each row is kept as soon as it
is there, in `benchmarks/results/big.json` and in the table of `docs/speed.md`; the others stay.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import gancompress as gc
from benchmarks import record
from benchmarks.isolate import isolated
from benchmarks.scaling import Peak, resident
from benchmarks.speed_networks import stylegan2_1024
from benchmarks.zoo_models.registry import mocked
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


def _own(net: nn.Module) -> Inputs:
    return net.sample_inputs(1, torch.Generator().manual_seed(0))  # type: ignore[operator]


def _random(*shape: int) -> Callable[[nn.Module], Inputs]:
    return lambda net: (torch.rand(1, *shape) * 2 - 1,)


def _class(net: nn.Module) -> Inputs:
    return torch.randn(1, 128), torch.eye(1000)[7:8], torch.tensor(0.7)


def _biggan_deep() -> nn.Module:
    """Return the generator of 256 px in its published sizes (Brock et al. 2019, Table 8)."""
    package = importlib.import_module("pytorch_pretrained_biggan.model")
    config = importlib.import_module("pytorch_pretrained_biggan.config").BigGANConfig
    widths = [16, 16, 16, 16, 8, 8, 8, 8, 4, 4, 2, 2, 1]
    layers = [(i % 2 == 1, a, b) for i, (a, b) in enumerate(pairwise(widths))]
    net = package.BigGAN(config(output_dim=256, layers=layers))
    # The class leaves these as they lay in memory; checkpoints fill them.
    nn.init.ones_(net.generator.bn.weight)
    nn.init.zeros_(net.generator.bn.bias)
    return net


def _swinir() -> nn.Module:
    """Return SwinIR-M of x4 (Liang et al. 2021, classical super-resolution)."""
    return importlib.import_module("spandrel.architectures.SwinIR").SwinIR(
        img_size=64, embed_dim=180, depths=[6] * 6, num_heads=[6] * 6, window_size=8,
        mlp_ratio=2, upscale=4, upsampler="pixelshuffle",
    )  # fmt: skip


def _bigvgan() -> nn.Module:
    """Return BigVGAN of 24 kHz, 100 bands (Lee et al. 2023), without its file readers."""
    mocked("librosa")
    mocked("librosa.filters")
    mocked("librosa.util")
    module = importlib.import_module("bigvgan.bigvgan")
    return module.BigVGAN(
        module.AttrDict(
            resblock="1", upsample_rates=[4, 4, 2, 2, 2, 2],
            upsample_kernel_sizes=[8, 8, 4, 4, 4, 4], upsample_initial_channel=1536,
            resblock_kernel_sizes=[3, 7, 11], resblock_dilation_sizes=[[1, 3, 5]] * 3,
            activation="snakebeta", snake_logscale=True, num_mels=100,
        )
    )  # fmt: skip


def _vae() -> nn.Module:
    diffusers = importlib.import_module("diffusers")
    blocks = ("UpDecoderBlock2D",) * 4
    down = ("DownEncoderBlock2D",) * 4
    return diffusers.AutoencoderKL(
        in_channels=3, out_channels=3, down_block_types=down, up_block_types=blocks,
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4,
    ).decoder  # fmt: skip


NETWORKS = {
    "hifigan_v1": Big(
        presets.hifigan_v1_generator, _random(80, 64), _random(80, 16), "16 of 64 frames"
    ),
    "cyclegan256": Big(
        presets.cyclegan_generator, _random(3, 256, 256), _random(3, 64, 64), "64 of 256 px"
    ),
    "rrdb_x4plus": Big(
        presets.realesrgan_x4plus, _random(3, 64, 64), _random(3, 16, 16), "16 of 64 px"
    ),
    "swinir_m": Big(_swinir, _random(3, 64, 64), _random(3, 16, 16), "16 of 64 px", "spandrel"),
    "sd_vae_decoder": Big(
        _vae, _random(4, 64, 64), _random(4, 8, 8), "8 of 64 latents", "diffusers"
    ),
    "biggan128": Big(presets.imagenet128_generator, _own, _own, "its own input"),
    "biggan_deep256": Big(
        _biggan_deep, _class, _class, "its own input", "pytorch-pretrained-biggan"
    ),
    "bigvgan_24khz": Big(_bigvgan, _random(100, 32), _random(100, 4), "4 of 32 frames", "bigvgan"),
    "spade256": Big(presets.spade_coco_generator, _own, _own, "its own input"),
    "stylegan2_1024": Big(stylegan2_1024, _random(512), _random(512), "its own input"),
}


class _Clock:
    """CPU seconds and largest resident memory in MiB of one part after the other."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}
        self.peaks: dict[str, float] = {}
        self._watch = Peak()
        self._watch.start()
        self._last = time.process_time()

    def lap(self, name: str) -> None:
        now = time.process_time()
        self.parts[f"{name}_s"] = round(now - self._last, 2)
        self.peaks[name], self._watch.value = self._watch.value, resident()
        self._last = now

    def stop(self) -> None:
        self._watch.going = False
        self._watch.join()


def measure(name: str) -> dict[str, Any]:
    """Measure one network of `NETWORKS`."""
    big, empty = NETWORKS[name], resident()
    torch.manual_seed(0)
    net = big.build().eval()
    clock = _Clock()
    with torch.no_grad():
        net(*big.full(net))
    clock.lap("forward")
    masked = gc.wrap(net, big.small(net), target=TARGET)
    clock.lap("wrap")
    masked.advance(1.0)
    small = masked.prune(check=False)
    clock.lap("cut")
    args, kwargs = masked.graph.example
    found = gc.verify(
        net, small, args, kwargs, plan=masked.whole_plan(), training=masked.graph.trains != "same"
    )
    clock.lap("verify")
    with tempfile.TemporaryDirectory() as folder:
        gc.save(Path(folder) / "small", small, plan=masked.whole_plan())
        clock.lap("save")
        again = gc.load(big.build, Path(folder) / "small")
        clock.lap("load")
    clock.stop()
    pairs = zip(small.state_dict().values(), again.state_dict().values(), strict=True)
    same = all(torch.equal(a, b) for a, b in pairs)
    cost, first, parts = masked.cost(), masked.original, clock.parts
    forward = max(clock.peaks["forward"] - empty, 1e-9)
    return {
        "params": first.params,
        "macs_times": round(first.macs / cost.macs, 2),
        "params_times": round(first.params / cost.params, 2),
        **parts,
        "total_s": round(sum(v for k, v in parts.items() if k != "forward_s"), 2),
        "forward_mb": round(forward),
        **{f"{k}_of_forward": round((v - empty) / forward, 2) for k, v in clock.peaks.items()
           if k != "forward"},
        "max_error": found.max_error,
        "said": str(found),
        "exact": found.passed,
        "loaded_equal": same,
    }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    """Return the table of the page."""
    parts = ("wrap_s", "cut_s", "verify_s", "save_s", "load_s", "total_s")
    cells = []
    for r in rows:
        if "status" in r:
            cells.append([r["network"], ": ".join(filter(None, (r["status"], r.get("detail"))))])
            continue
        cells.append(
            [r["network"], f"{r['params'] / 1e6:.1f} M", r["wrapped_on"],
             f"{r['macs_times']:.2f}x", *(r[p] for p in parts), r["forward_s"], r["forward_mb"],
             f"{r['verify_of_forward']:.2f}x",
             f"{max(v for k, v in r.items() if k.endswith('_of_forward')):.2f}x",
             f"{r['max_error']:.0e}", "yes" if r["exact"] and r["loaded_equal"] else "no"]
        )  # fmt: skip
    head = ["network", "parameters", "wrapped on", "MACs", "wrap", "cut", "verify", "save", "load",
            "all", "forward", "forward, MiB", "verify, of that", "peak, of that", "error",
            "exact"]  # fmt: skip
    return record.table(head, [[*c, *[""] * (len(head) - len(c))] for c in cells])


def main() -> None:
    """Measure the networks, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=list(NETWORKS))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in options.only:
        big = NETWORKS[name]
        row: dict[str, Any] = {"network": name, "wrapped_on": big.said}
        if big.needs and record.version(big.needs) is None:
            row |= {"status": "not run", "detail": f"needs {big.needs}"}
        else:
            row |= isolated(measure, (name,), limit_s=LIMIT_S, site=sys.path)
        print(row, flush=True)
        write(row)


def write(row: dict[str, Any]) -> None:
    """Put the row into the result and the page; networks without one are there as not run."""
    head = {"benchmark": f"published sizes cut to {TARGET}", **record.protocol(0)}
    data = record.keep(record.RESULTS / "big.json", head, [row], ["network"])
    known = {r["network"]: r for r in data["rows"]}
    rows = [known.get(n, {"network": n, "status": "not run"}) for n in NETWORKS]
    text = f"CPU seconds. Torch {data['versions']['torch']}, one thread.\n\n" + table(rows)
    record.place(DOCUMENT, "big", text)


if __name__ == "__main__":
    main()
