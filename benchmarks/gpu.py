"""What a cut brings on a GPU: BigGAN-128 before and after, in at most 8 minutes.

    python -m benchmarks.gpu

Samples a second in bf16 under autocast, eager and as a CUDA graph, batch 1 and 64; a training step
with masks against one without; the share of what a large bf16 product reaches; a user's loop under
DDP and NCCL on this one card, through a cut; ``latency=2x`` met or not; the float64 error of the
cut. Where there is no GPU it says so and ends with code 3. Writes `benchmarks/results/gpu.json`.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

import gancompress as gc
from benchmarks import record
from gancompress.errors import GancompressError
from gancompress.models import presets

LIMIT_S = 440.0
BATCHES = (1, 64)
NO_GPU = 3

Call = Callable[[], object]


def seconds(calls: list[Call], rounds: int = 30) -> list[float]:
    """Return the median seconds of each call, taken by turns, the device waited for."""
    for call in calls:
        for _ in range(3):
            call()
    torch.cuda.synchronize()
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for i, call in enumerate(calls):
            start = time.perf_counter()
            call()
            torch.cuda.synchronize()
            times[i].append(time.perf_counter() - start)
    return [statistics.median(t) for t in times]


def eager(net: nn.Module, inputs: tuple[Tensor, ...]) -> Call:
    """Return a call in bf16 under autocast."""

    def call() -> object:
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
            return net(*inputs)

    return call


def as_graph(net: nn.Module, inputs: tuple[Tensor, ...]) -> Call:
    """Return a replay of the same call, captured once."""
    call, side = eager(net, inputs), torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # type: ignore[arg-type]
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def inputs_of(net: Any, batch: int) -> tuple[Tensor, ...]:
    """Return inputs on the GPU."""
    drawn = net.sample_inputs(batch, torch.Generator().manual_seed(0))
    return tuple(t.cuda() for t in drawn)


def chip_limit(size: int = 8192) -> float:
    """Return the multiply-accumulates a second that a large bf16 product reaches on this chip."""
    a = torch.randn(size, size, device="cuda", dtype=torch.bfloat16)
    (took,) = seconds([lambda: a @ a], rounds=10)
    return size**3 / took


def sampling(
    whole: nn.Module, small: nn.Module, macs: tuple[float, float], limit: float
) -> list[dict[str, Any]]:
    """Return samples a second before and after, by batch and way to run.

    ``macs`` are multiply-accumulates of a sample before and after, ``limit`` those of the chip in a
    second.
    """
    rows = []
    for batch in BATCHES:
        for name, way in (("eager", eager), ("CUDA graph", as_graph)):
            row: dict[str, Any] = {"what": "samples a second, bf16", "way": name, "batch": batch}
            try:
                before, after = seconds([way(n, inputs_of(whole, batch)) for n in (whole, small)])
                row |= {
                    "before": round(batch / before, 1),
                    "after": round(batch / after, 1),
                    "times": round(before / after, 3),
                    "of_the_chip": [
                        round(m * batch / t / limit, 4)
                        for m, t in zip(macs, (before, after), strict=True)
                    ],
                }
            except RuntimeError as error:
                row |= {"status": "failed", "detail": str(error).splitlines()[0][:200]}
            rows.append(row)
            print(row, flush=True)
    return rows


def training(batch: int = 16) -> dict[str, Any]:
    """Return a masked step of the generator against a plain one, bf16 under autocast."""
    steps = []
    for masked in (False, True):
        net = presets.imagenet128_generator().cuda().train()
        handle = gc.wrap(net, inputs_of(net, 2), target="params=4x") if masked else None
        optimizer = torch.optim.Adam(net.parameters(), 1e-4, fused=True)
        inputs = inputs_of(net, batch)

        def step(
            net: nn.Module = net, handle: Any = handle, optimizer: Any = optimizer,
            inputs: Any = inputs,
        ) -> None:  # fmt: skip
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cuda", torch.bfloat16):
                loss = net(*inputs).float().square().mean()
            if handle is not None:
                loss = loss + 0.1 * handle.penalty()
            loss.backward()
            optimizer.step()

        steps.append(step)
    plain, masked_s = seconds(steps, rounds=15)
    return {
        "what": "training step, bf16",
        "batch": batch,
        "plain_ms": round(plain * 1e3, 2),
        "masked_ms": round(masked_s * 1e3, 2),
        "ratio": round(masked_s / plain, 3),
    }


def under_nccl(steps: int = 6) -> dict[str, Any]:
    """Return whether a user's loop under DDP and NCCL goes on through a cut, on this one card."""
    with tempfile.TemporaryDirectory() as folder:
        meet = f"file://{folder}/meet"
        distributed.init_process_group("nccl", init_method=meet, rank=0, world_size=1)
        try:
            net = presets.cifar_generator().cuda().train()
            inputs = inputs_of(net, 8)
            masked = gc.wrap(net, inputs, target="params=4x", importance="fisher")
            optimizer = torch.optim.Adam(net.parameters(), 1e-4)
            shell = DistributedDataParallel(net, find_unused_parameters=True)
            for step in range(steps):
                with torch.autocast("cuda", torch.bfloat16):
                    loss = shell(*inputs).float().square().mean()
                (loss + 0.1 * masked.penalty()).backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                masked.advance((step + 1) / steps)
                if step in (steps // 2, steps - 1):
                    masked.shrink([optimizer])
                    shell = DistributedDataParallel(net, find_unused_parameters=True)
            cost = masked.cost()
            return {
                "what": "DDP and NCCL, one card, two cuts",
                "params_times": round(masked.original.params / cost.params, 3),
                "cut_errors": masked.cut_errors,
                "finite": bool(torch.isfinite(shell(*inputs)).all()),
            }
        finally:
            distributed.destroy_process_group()


def on_target(net: nn.Module) -> dict[str, Any]:
    """Return how near ``latency=2x`` at batch 16 comes on this GPU."""
    row: dict[str, Any] = {"what": "latency=2x@cuda,batch=16"}
    begin = time.perf_counter()
    try:
        masked = gc.wrap(net, inputs_of(net, 2), target="latency=2x@cuda,batch=16", round_to="auto")
    except GancompressError as error:
        return {**row, "status": "refused", "detail": str(error)[:300]}
    row["wrap_s"] = round(time.perf_counter() - begin, 1)
    masked.advance(1.0)
    small = masked.prune(check=False)
    masked.unwrap()
    inputs = inputs_of(net, 16)

    def plain(network: nn.Module) -> Call:
        def call() -> object:
            with torch.no_grad():
                return network(*inputs)

        return call

    whole, took = seconds([plain(net), plain(small)])
    return {**row, "speed": round(whole / took, 3)}


def main() -> int:
    """Measure, print and write; return the exit code."""
    if not torch.cuda.is_available():
        print("No GPU here: nothing was measured and nothing was written.", file=sys.stderr)
        return NO_GPU
    begin = time.perf_counter()
    torch.manual_seed(0)
    net = presets.imagenet128_generator().cuda().eval()
    masked = gc.wrap(net, inputs_of(net, 2), target="macs=4x", round_to="auto")
    masked.advance(1.0)
    small = masked.prune()
    cost = {"macs_times": masked.original.macs / masked.cost().macs}
    rows: list[dict[str, Any]] = [
        {"what": "cut", **cost, "verified": str(masked.verification),
         "seconds": round(time.perf_counter() - begin, 1)}
    ]  # fmt: skip
    macs = float(masked.original.macs), float(masked.cost().macs)
    masked.unwrap()
    limit = chip_limit()
    rows.append({"what": "bf16 product of 8192", "macs_a_second": limit})
    rows += sampling(net, small, macs, limit)
    for name, part in (
        ("training step", training), ("NCCL", under_nccl), ("target", lambda: on_target(net)),
    ):  # fmt: skip
        if time.perf_counter() - begin > LIMIT_S / 2:
            rows.append({"what": name, "status": "not run", "detail": "out of time"})
            continue
        try:
            rows.append(part())
        except RuntimeError as error:
            first = next(iter(str(error).splitlines()), "")[:200]
            rows.append({"what": name, "status": "failed", "detail": first})
        print(rows[-1], flush=True)
    data = {
        "benchmark": "BigGAN-128 on one GPU",
        **record.protocol(0),
        "device": torch.cuda.get_device_name(),
        "seconds": round(time.perf_counter() - begin),
        "rows": rows,
    }
    record.write(record.RESULTS / "gpu.json", data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
