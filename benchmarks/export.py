"""Which generators become files, how far these are off, and how long a call takes.

    python -m benchmarks.export            # all, into benchmarks/results/export.json and the docs
    python -m benchmarks.export --only hifigan
    python -m benchmarks.export --aoti     # AOTInductor too: minutes, and a C++ compiler

Networks are the ones that ship (the embedded BigGAN with its weights), at sizes that a processor
runs in a second, with random weights; and small DCGAN and StyleGAN2 generators, written here.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import record
from gancompress.deployment.export import export
from gancompress.deployment.int8 import export_int8, timed_in_turns
from gancompress.errors import GancompressError
from gancompress.models import (
    HiFiGANConfig,
    HiFiGANGenerator,
    ResnetGenerator,
    RRDBNet,
    SPADEConfig,
    SPADEGenerator,
    SRVGGNetCompact,
)
from gancompress.models.embedded import embedded_generator

DOCUMENT = record.ROOT / "docs" / "deploy.md"
HEAD = ["generator", "inputs; free", "format", "largest difference", "sizes", "ms in torch",
        "ms of the file", "int8 ms", "int8 signal to noise"]  # fmt: skip


class DCGAN(nn.Module):
    """Radford et al. 2016 at 32 px: transposed convolutions and batch norm."""

    def __init__(self, ch: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        widths = [100, 4 * ch, 2 * ch, ch]
        for i, (a, b) in enumerate(zip(widths, widths[1:], strict=False)):
            grow = (1, 0) if i == 0 else (2, 1)
            layers += [nn.ConvTranspose2d(a, b, 4, *grow, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.ConvTranspose2d(ch, 3, 4, 2, 1), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        """Map latents (n, 100, 1, 1) to pictures (n, 3, 32, 32)."""
        return self.body(z)


class StyledConv(nn.Module):
    """A convolution whose weight each sample modulates and demodulates (Karras et al. 2020).

    ``grouped``: one grouped convolution for the whole batch; otherwise input and output are scaled,
    which is the same function.
    """

    def __init__(self, i: int, o: int, style: int, grouped: bool) -> None:
        super().__init__()
        self.grouped = grouped
        self.weight = nn.Parameter(torch.randn(o, i, 3, 3))
        self.style = nn.Linear(style, i)
        self.strength = nn.Parameter(torch.full((1,), 0.1))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map (n, i, h, w) to (n, o, h, w); noise is drawn a pixel."""
        n, i, height, width = x.shape
        style = self.style(w) + 1
        weight = self.weight[None] * style[:, None, :, None, None]
        scale = weight.square().sum((2, 3, 4), keepdim=True).add(1e-8).rsqrt()
        if self.grouped:
            weight = (weight * scale).flatten(0, 1)
            y = F.conv2d(x.reshape(1, n * i, height, width), weight, padding=1, groups=n)
            y = y.reshape(n, -1, height, width)
        else:
            y = F.conv2d(x * style[:, :, None, None], self.weight, padding=1) * scale[..., 0]
        return F.leaky_relu(y + self.strength * torch.randn(n, 1, height, width), 0.2)


class StyleGAN2(nn.Module):
    """A small generator with mapping, modulated convolutions, noise and skipped pictures."""

    def __init__(self, ch: int = 32, style: int = 32, grouped: bool = False) -> None:
        super().__init__()
        self.mapping = nn.Sequential(nn.Linear(style, style), nn.LeakyReLU(0.2))
        self.start = nn.Parameter(torch.randn(1, ch, 4, 4))
        self.convs = nn.ModuleList(StyledConv(ch, ch, style, grouped) for _ in range(4))
        self.pictures = nn.ModuleList(nn.Conv2d(ch, 3, 1) for _ in range(4))

    def forward(self, z: Tensor) -> Tensor:
        """Map latents (n, 32) to pictures (n, 3, 32, 32)."""
        w = self.mapping(z)
        x = self.start.expand(len(z), -1, -1, -1)
        picture = self.pictures[0](x)
        for i, (conv, to_picture) in enumerate(zip(self.convs, self.pictures, strict=True)):
            if i:
                x, picture = (
                    F.interpolate(x, scale_factor=2),
                    F.interpolate(picture, scale_factor=2),
                )
            x = conv(x, w)
            picture = picture + to_picture(x)
        return picture


@dataclass(frozen=True)
class Case:
    """A generator, one call of n samples, and what stays free."""

    build: Callable[[], nn.Module]
    inputs: Callable[[int], tuple[Tensor, ...]]
    free: str = ""  # dimensions of the first input; the batch if empty
    noise: str | None = None


def _spade() -> SPADEGenerator:
    sizes = SPADEConfig.coco()
    return SPADEGenerator(dataclasses.replace(sizes, ngf=8, nhidden=32, label_nc=20, crop_size=64))


def _own(build: Callable[[], Any]) -> Callable[[int], tuple[Tensor, ...]]:
    return lambda n: tuple(build().sample_inputs(n, torch.Generator().manual_seed(0)))


def _hifigan() -> HiFiGANGenerator:
    return HiFiGANGenerator(HiFiGANConfig.v3())


CASES = {
    "biggan-embedded": Case(embedded_generator, _own(embedded_generator)),
    "dcgan": Case(DCGAN, lambda n: (torch.randn(n, 100, 1, 1),)),
    "stylegan2": Case(StyleGAN2, lambda n: (torch.randn(n, 32),), noise="input"),
    "stylegan2-grouped": Case(
        lambda: StyleGAN2(grouped=True), lambda n: (torch.randn(n, 32),), "none", "fixed"
    ),
    "hifigan-v3": Case(_hifigan, lambda n: (torch.randn(n, 80, 16),), "0,2"),
    "srvgg-x4": Case(
        lambda: SRVGGNetCompact(num_feat=32, num_conv=8),
        lambda n: (torch.rand(n, 3, 32, 32),), "0,2,3",
    ),
    "rrdb-x4": Case(
        lambda: RRDBNet(num_feat=16, num_block=2, num_grow_ch=8),
        lambda n: (torch.rand(n, 3, 24, 24),), "0,2,3",
    ),
    "cyclegan-resnet9": Case(
        lambda: ResnetGenerator(ngf=16), lambda n: (torch.randn(n, 3, 64, 64),), "0,2,3"
    ),
    "spade": Case(_spade, _own(_spade)),
}  # fmt: skip


@torch.no_grad()
def settled(name: str) -> nn.Module:
    """Return a generator with statistics and zeros that are no constants, in eval mode."""
    torch.manual_seed(0)
    net = CASES[name].build()
    if name != "biggan-embedded":
        for module in net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
                nn.init.normal_(module.running_mean, 0, 0.2)
                nn.init.uniform_(module.running_var, 0.6, 1.4)
            for _ in range(20 if hasattr(module, "iterate_") else 0):
                module.iterate_()  # a fresh spectral norm divides by a random number
    return net.eval()


def one(name: str, formats: tuple[str, ...], threads: int) -> list[dict[str, Any]]:
    """Export one generator; a row for each format, errors in words."""
    torch.set_num_threads(threads)
    case, net, rows = CASES[name], settled(name), []
    example = case.inputs(2)
    first = next(iter(inspect.signature(net.forward).parameters))
    dynamic = [f"{first}={case.free}"] if case.free else []
    if case.free == "none":
        dynamic = ["none"]
    shapes = ", ".join("x".join(map(str, t.shape[1:])) or "1" for t in example)
    for kind in formats:
        row: dict[str, Any] = {"name": name, "format": kind, "inputs": shapes,
                               "free": " ".join(dynamic) or "batch"}  # fmt: skip
        start = time.perf_counter()
        try:
            with tempfile.TemporaryDirectory() as folder:
                _measure(row, net, example, case, dynamic, kind, Path(folder))
        except GancompressError as error:
            row["error"] = str(error)[:300]
        row["seconds"] = round(time.perf_counter() - start, 1)
        rows.append(row)
        print(row, flush=True)
    return rows


def _measure(
    row: dict[str, Any], net: nn.Module, example: tuple[Tensor, ...], case: Case,
    dynamic: list[str], kind: str, folder: Path,
) -> None:  # fmt: skip
    suffix = {"onnx": ".onnx", "torch.export": ".pt2", "aoti": ".aoti.pt2"}[kind]
    (made,) = export(net, example, folder / f"a{suffix}", to=kind, dynamic=dynamic or None,
                     noise=case.noise)  # fmt: skip
    row |= {"max_error": float(f"{made.max_error:.2e}"), "sizes": len(made.checked),
            "checked": list(made.checked), "bytes": made.bytes}  # fmt: skip
    fixed = case.free == "none"
    one = example if fixed else tuple(t[:1] for t in example)
    if kind == "onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(str(made.file), options)
        feed = {n: t.numpy() for n, t in zip(made.inputs, one, strict=False)}
        for extra in session.get_inputs()[len(one) :]:
            shape = [1 if isinstance(d, str) else d for d in extra.shape]
            feed[extra.name] = torch.randn(shape).numpy()

        def run() -> object:
            return session.run(None, feed)

        with torch.no_grad():
            times = timed_in_turns([lambda: net(*one), run])
        row |= {"torch_ms": round(times[0], 2), "ms": round(times[1], 2)}
        calls = [tuple(case.inputs(2 if fixed else 4)) for _ in range(6)]
        try:
            (small,) = export_int8(net, example, folder / "b.onnx", calibration=calls[:4],
                                   held_out=calls[4:], dynamic=dynamic or None,
                                   noise=case.noise)  # fmt: skip
            row["int8"] = {
                "layers": small.layers, "left": small.left, "bytes": small.bytes,
                "snr_db": round(small.snr_db, 1), "ms": round(small.ms, 2),
                "float_ms": round(small.float_ms, 2), "batch": small.batch,
            }  # fmt: skip
        except GancompressError as error:
            row["int8"] = {"error": str(error)[:300]}


def as_table(rows: list[dict[str, Any]]) -> str:
    """Return the Markdown table of the results."""
    cells = []
    for r in rows:
        small = r.get("int8") or {}
        speed, signal = "none: no such layer" if "error" in small else "", ""
        if "ms" in small:
            speed = f"{small['ms']} (float32 {small['float_ms']}, batch {small['batch']})"
            both = small["layers"] + small["left"]
            signal = f"{small['snr_db']} dB, {small['layers']} of {both} layers"
        off = f"{r['max_error']:.0e}" if "max_error" in r else r["error"][:80]
        cells.append([
            r["name"], f"{r['inputs']}; {r['free']}", r["format"],
            off, r.get("sizes"),
            r.get("torch_ms"), r.get("ms"), speed,
            signal,
        ])  # fmt: skip
    return record.table(HEAD, cells)


def main() -> None:
    """Export all, write ``benchmarks/results/export.json`` and the table in ``docs/deploy.md``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=sorted(CASES), help="measure these again"
    )
    parser.add_argument("--aoti", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    formats = ("onnx", "torch.export", *(("aoti",) if options.aoti else ()))
    for name in options.only or CASES:
        keep(one(name, formats, options.threads))


def keep(rows: list[dict[str, Any]]) -> None:
    """Put the rows of one generator in the place of its old ones, in the results and the docs."""
    head = {
        "benchmark": "export",
        **record.protocol(0, ("onnx", "onnxruntime", "onnxscript", "torchao")),
    }
    data = record.keep(record.RESULTS / "export.json", head, rows, ["name", "format"])
    rows = sorted(data["rows"], key=lambda r: list(CASES).index(r["name"]))
    versions = data["versions"]
    text = (
        f"Torch {versions['torch']}, onnxruntime {versions.get('onnxruntime')}, "
        f"{data['threads']} thread(s), batch 1 where none is said.\n\n"
    )
    record.place(DOCUMENT, "export", text + as_table(rows))


if __name__ == "__main__":
    main()
