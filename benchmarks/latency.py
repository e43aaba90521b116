"""What a cut in MACs brings in time: six networks, batch 1 and 16, two engines, two roundings.

    python -m benchmarks.latency               # about 10 minutes on one thread
    python -m benchmarks.latency --only dcgan64 --engines onnxruntime --batches 16
    python -m benchmarks.latency --only dcgan64 --targets    # latency=2x
    python -m benchmarks.latency --engines compiled          # torch.compile: many minutes more

Every network is cut to 4x fewer MACs: channel by channel, with ``round_to: auto``, and so with a
target of time beside it (1.5x at that batch in that engine), so that channels go where time falls.
The whole and the cut networks are timed by turns in one process, so that a ratio is of one machine
at one time. Each row is kept as soon as it is measured, in `benchmarks/results/latency.json` and
`latency_targets.json`, and in the tables of `docs/speed.md`; the others stay.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

import gancompress as gc
from benchmarks import record
from benchmarks.speed_networks import DCGAN, StyleGAN2
from gancompress.errors import GancompressError
from gancompress.models import BigGANConfig, BigGANGenerator, HiFiGANConfig, HiFiGANGenerator
from gancompress.models.superres import RRDBNet
from gancompress.models.translation import ResnetGenerator
from gancompress.target import Setting
from gancompress.timing.network import at_batch, running, seconds_of, settled

DOCUMENT = record.ROOT / "docs" / "speed.md"
TIMES = 4  # fewer MACs
BATCHES = (1, 16)
TARGET_BATCH = 4
WAYS = ("1", "auto", "time")
EASY = 1.5
ENGINES = ("eager", "onnxruntime", "compiled")
PROFILED = 5
PRODUCTS = ("convolution", "conv_", "mm", "gemm", "::conv")  # in the names of torch's operators
MET = 0.1  # a latency target is met within


@dataclass(frozen=True)
class Subject:
    """A network and its inputs; sizes are those that one thread can do, and in the table."""

    name: str
    size: str
    build: Callable[[], tuple[nn.Module, tuple[Tensor, ...]]]


def biggan() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Return BigGAN of 32 px and two inputs."""
    net = BigGANGenerator(BigGANConfig.fashion32())
    return net, net.sample_inputs(2, torch.Generator().manual_seed(0))


def pictures(size: int) -> tuple[Tensor]:
    """Return two pictures of noise."""
    return (torch.rand(2, 3, size, size) * 2 - 1,)


SUBJECTS = (
    Subject("biggan32", "fashion32, 32 px", biggan),
    Subject("dcgan64", "ngf 64, 64 px", lambda: (DCGAN(), (torch.randn(2, 100, 1, 1),))),
    Subject(
        "cyclegan128",
        "ngf 32, 9 blocks, 128 px",
        lambda: (ResnetGenerator(ngf=32, norm="instance", use_dropout=False), pictures(128)),
    ),
    Subject("rrdb", "3 blocks, 24 -> 96 px", lambda: (RRDBNet(num_block=3), pictures(24))),
    Subject("stylegan2", "64 channels, 64 px", lambda: (StyleGAN2(), (torch.randn(2, 64),))),
    Subject(
        "hifigan",
        "V2, 16 frames",
        lambda: (HiFiGANGenerator(HiFiGANConfig.v2()), (torch.randn(2, 80, 16),)),
    ),
)


def cut_networks(
    net: nn.Module, example: tuple[Tensor, ...], setting: Setting, ways: Sequence[str]
) -> dict[str, Any]:
    """Return the network cut to the target in several ways, and their ratios of MACs."""
    found: dict[str, Any] = {}
    for name in ways:
        # With an easy goal in time beside it the cut goes where time falls.
        time_too = [f"latency={EASY}x@{setting}"] if name == "time" else []
        masked = gc.wrap(
            net, example, target=[f"macs={TIMES}x", *time_too],
            round_to=1 if name == "1" else "auto",
        )  # fmt: skip
        masked.advance(1.0)
        units = sorted(set(masked.budget.units.values())) if masked.budget is not None else []
        whole, small = masked.original, masked.cost()
        found[name] = {
            "network": masked.prune(check=False),
            "macs": whole.macs / small.macs,
            "params": whole.params / small.params,
            "units": units,
        }
        masked.unwrap()
    return found


def measured(
    subject: Subject, engine: str, batches: Sequence[int], seconds: float
) -> Iterator[dict[str, Any]]:
    """Yield a row for each batch."""
    torch.manual_seed(0)
    net, example = subject.build()
    net.eval()
    ready: dict[str, Any] = {}
    for batch in batches:
        row: dict[str, Any] = {
            "network": subject.name, "size": subject.size, "engine": engine, "batch": batch,
        }  # fmt: skip
        begin = time.process_time()
        try:
            setting = settled(Setting("cpu", batch, engine))
            ready = ready or cut_networks(net, example, setting, ("1", "auto"))
            cut = {**ready, **cut_networks(net, example, setting, ("time",))}
            networks = [net, *(c["network"] for c in cut.values())]
            whole, *small = seconds_of(networks, (example, {}), 2, setting, seconds=seconds)
        except GancompressError as error:
            yield {**row, "status": "failed", "detail": str(error)[:300]}
            continue
        row["ms"] = round(whole * 1e3, 3)
        for (name, how), took in zip(cut.items(), small, strict=True):
            speed = whole / took
            row[f"macs_{name}"] = round(how["macs"], 3)
            row[f"speed_{name}"] = round(speed, 3)
            row[f"share_{name}"] = round(speed / how["macs"], 3)
        row["units"] = cut["auto"]["units"]
        if engine == "eager":
            row["products_ms"], row["rest_ms"] = apart(networks, example, setting)
        yield {**row, "cpu_s": round(time.process_time() - begin, 1)}


def apart(
    networks: Sequence[nn.Module], example: tuple[Tensor, ...], setting: Setting
) -> tuple[list[float], list[float]]:
    """Return ms of convolutions and products, and of all else, of one eager call of each.

    The shortest of several calls; other programs count, so that these are rougher than the rest.
    """
    products, rest = [], []
    inputs = at_batch((example, {}), 2, setting.batch, setting.device)
    for network in networks:
        with running(network, inputs, setting) as call:
            both = [_apart_once(call) for _ in range(PROFILED)]
        products.append(round(min(own for own, _ in both) / 1e3, 3))
        rest.append(round(min(other for _, other in both) / 1e3, 3))
    return products, rest


def _apart_once(call: Callable[[], object]) -> tuple[float, float]:
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as prof:
        call()
    took = {e.key: e.self_cpu_time_total for e in prof.key_averages()}
    own = sum(t for name, t in took.items() if any(word in name for word in PRODUCTS))
    return own, sum(took.values()) - own


def on_target(subject: Subject, engine: str, batch: int) -> dict[str, Any]:
    """Return how near ``latency=2x`` comes: predicted at wrap, measured after the cut."""
    torch.manual_seed(0)
    net, example = subject.build()
    net.eval()
    row: dict[str, Any] = {"network": subject.name, "engine": engine, "batch": batch}
    begin = time.process_time()
    try:
        masked = gc.wrap(
            net, example, target=f"latency=2x@cpu,batch={batch},engine={engine}", round_to="auto"
        )
    except GancompressError as error:
        return {**row, "status": "refused", "detail": str(error)[:300]}
    row["wrap_s"] = round(time.process_time() - begin, 1)
    masked.advance(1.0)
    row["macs"] = round(masked.original.macs / masked.cost().macs, 2)
    small = masked.prune(check=False)
    masked.unwrap()
    setting = settled(Setting("cpu", batch, engine))
    whole, took = seconds_of([net, small], (example, {}), 2, setting, seconds=1.0)
    return {**row, "speed": round(whole / took, 3), "met": abs(whole / took / 2 - 1) <= MET}


def tables(rows: Sequence[dict[str, Any]], goals: Sequence[dict[str, Any]]) -> str:
    """Return the two tables of the page."""
    lines = []
    for r in rows:
        start = [f"{r['network']} ({r['size']})", r["engine"], r["batch"]]
        if "status" in r:
            lines.append([*start, r["status"], *[""] * 6])
            continue
        units = ", ".join(map(str, r["units"])) or "1"
        own = [
            f"{r[k][0] / max(r[k][-1], 1e-9):.2f}x" if k in r else ""
            for k in ("products_ms", "rest_ms")
        ]
        said = [
            f"{r[f'speed_{n}']:.2f}x of {r[f'macs_{n}']:.2f}x ({r[f'share_{n}']:.2f})" for n in WAYS
        ]
        lines.append([*start, f"{r['ms']:.2f}", *said, units, *own])
    head = ["network", "engine", "batch", "ms, whole", "round_to 1", "round_to auto",
            "auto, and told the time", "steps", "convolutions alone", "all else"]  # fmt: skip
    text = record.table(head, lines)
    if goals:
        said = [
            [g["network"], g["engine"], g["batch"], g.get("wrap_s"),
             f"{g['macs']:.2f}x" if "macs" in g else None,
             f"{g['speed']:.2f}x" if "speed" in g else g.get("status")]
            for g in goals
        ]  # fmt: skip
        head = ["network", "engine", "batch", "wrap, s", "MACs", "measured (asked: 2x)"]
        text += "\n" + record.table(head, said)
    return text


def main() -> None:
    """Measure row by row; each goes to the result and the page at once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[s.name for s in SUBJECTS])
    parser.add_argument("--engines", nargs="*", choices=ENGINES, default=ENGINES[:2])
    parser.add_argument("--batches", nargs="*", type=int, default=list(BATCHES))
    parser.add_argument("--targets", action="store_true", help="latency=2x, instead")
    parser.add_argument("--seconds", type=float, default=2.0, help="of timing, a row")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for subject in SUBJECTS:
        if subject.name not in options.only:
            continue
        for engine in options.engines:
            if options.targets:
                keep("latency_targets", [on_target(subject, engine, TARGET_BATCH)])
                continue
            for row in measured(subject, engine, options.batches, options.seconds):
                keep("latency", [row])


def keep(name: str, rows: list[dict[str, Any]]) -> None:
    """Write rows to the result of that name, and the page from both results."""
    print(*rows, flush=True)
    head = {
        "benchmark": f"time against MACs, cut to macs={TIMES}x by magnitude"
        if name == "latency"
        else "latency=2x, asked and measured",
        **record.protocol(0, ("onnxruntime",)),
    }
    data = record.keep(record.RESULTS / f"{name}.json", head, rows, ["network", "engine", "batch"])
    found = {"latency": [], "latency_targets": [], name: data["rows"]}
    for other in found.keys() - {name}:
        path = record.RESULTS / f"{other}.json"
        found[other] = json.loads(path.read_text())["rows"] if path.exists() else []
    order = [s.name for s in SUBJECTS]
    lists = [
        sorted(found[n], key=lambda r: (order.index(r["network"]), r["engine"], r["batch"]))
        for n in ("latency", "latency_targets")
    ]
    text = (
        f"Torch {data['versions']['torch']}, onnxruntime {data['versions'].get('onnxruntime')}, "
        f"{data['machine']}, threads: {data['threads']}. Shortest of several calls, by turns; on "
        "one thread in processor time.\n\n" + tables(*lists)
    )
    record.place(DOCUMENT, "latency", text)


if __name__ == "__main__":
    main()
