"""Processes for the tests of several ranks: each is started with what to do, and says how it ended.

    python -m tests.training.ranks FOLDER RANK WORLD

``FOLDER/jobs.json`` lists functions of this module by name, with options; what rank r returns from
job j is written to ``FOLDER/j.r.json``. Numbers are float64, so that the order of sums is all that
differs between one rank and several.
"""

from __future__ import annotations

import datetime
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

import gancompress as gc
from gancompress.data.arrays import ArrayDataset
from gancompress.errors import GancompressError, GraphError
from gancompress.modules.ranks import rank, world
from gancompress.training.log import Silent
from gancompress.training.loop import train
from gancompress.training.start import TrainResult
from tests.training.nets import TinyDiscriminator, TinyGenerator, images, recipe

ROOT = Path(__file__).parents[2]


class Doubles:
    """The images in float64."""

    n_classes, channels, resolution = 3, 1, 8

    def __init__(self, inner: ArrayDataset) -> None:
        self.inner = inner

    def __len__(self) -> int:
        return len(self.inner)

    def batch(self, indices: Any) -> Any:
        pictures, labels = self.inner.batch(indices)
        return pictures.double(), labels


def unnormed(seed: int = 0) -> nn.Module:
    """A generator whose output for a sample does not depend on the others."""
    torch.manual_seed(seed)
    net = TinyGenerator()
    net.norm, net.norm1 = nn.Identity(), nn.Identity()  # type: ignore[assignment]
    return net


def judge() -> nn.Module:
    torch.manual_seed(1)
    net = TinyDiscriminator()
    net.body[2] = nn.Identity()  # dropout draws once for all samples
    return net


PLAN: dict[str, Any] = {
    "importance": {"name": "fisher"}, "checkpoint_every": 4, "distill": [], "steps": 8,
    "finetune_steps": 2,
}  # fmt: skip
TAUGHT: dict[str, Any] = {
    # Distillers compute in float32: Adam would make whole steps of the rounding of small gradients.
    "generator_optim": {"name": "sgd", "lr": 0.02},
    "discriminator_optim": {"name": "sgd", "lr": 0.02},
    "distill": [{"name": "pixel"}],  # a mean over samples
    "distill_share": 0.5,
}


def run(
    *,
    normed: bool = False,
    out: str | None = None,
    stop: Sequence[int] | None = None,
    differs: str = "",
    **changes: Any,
) -> dict[str, Any]:
    """Train; rank 1 ``differs`` in its recipe, data or weights."""
    odd = rank() == 1
    given = images(40 if odd and differs == "data" else 48)
    data = Doubles(given) if stop is None else Stopping(given, *stop)
    plan = recipe(**(PLAN | changes | ({"mask_lr": 0.5} if odd and differs == "recipe" else {})))
    generator = TinyGenerator() if normed else unnormed()
    if normed:
        torch.manual_seed(0)
        generator = TinyGenerator()
    if odd and differs == "weights":
        torch.nn.init.ones_(generator.conv2.bias)  # type: ignore[union-attr, arg-type]
    torch.manual_seed(0)
    result = train(
        plan, generator=generator, discriminator=judge(), dataset=data, out=out, screen=Silent(),
        # Another teacher: where both are equal an L1 loss has the sign of rounding for a gradient.
        teacher=unnormed(5), resume="auto" if out else None,
    )  # fmt: skip
    return told(result)


class Stopping(Doubles):
    """The images; rank ``who`` gets signal ``number``, or exits, when a step reads batch ``at``."""

    def __init__(self, inner: ArrayDataset, who: int, at: int, number: int) -> None:
        super().__init__(inner)
        self.who, self.left, self.number = who, at, number

    def batch(self, indices: Tensor) -> Any:
        # Before the first step a signal would still kill.
        steps = signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        self.left -= steps and len(indices) == 8 // world()
        if self.left == 0 and rank() == self.who:
            if self.number == 0:
                os._exit(9)
            os.kill(os.getpid(), self.number)
        return super().batch(indices)


def users_loop(how: str = "") -> dict[str, Any]:
    """A loop as users write it, on this rank's share; two live cuts, each with a new wrapper."""
    net, steps = unnormed(), 8
    rows = slice(rank(), None, world())

    def drawn(step: int) -> tuple[Tensor, ...]:
        return net.sample_inputs(8, torch.Generator().manual_seed(step))  # type: ignore[operator]

    masked = gc.wrap(net, drawn(0), target="params=2x", importance="fisher")
    optimizer: Any = torch.optim.Adam(net.parameters(), 1e-2)
    accelerator = None
    if how == "accelerate":
        from accelerate import Accelerator, DistributedDataParallelKwargs

        kwargs = DistributedDataParallelKwargs(find_unused_parameters=True)
        accelerator = Accelerator(cpu=True, kwargs_handlers=[kwargs])
        optimizer = accelerator.prepare_optimizer(optimizer)

    def wrapped() -> nn.Module:
        if accelerator is not None:
            return accelerator.prepare_model(net)
        return DistributedDataParallel(net, find_unused_parameters=True) if world() > 1 else net

    shell, refused, cuts = wrapped(), [], 0
    for step in range(steps):
        inputs = tuple(part[rows] for part in drawn(step))
        loss = (shell(*inputs) - 0.5).square().mean() + 1e-2 * masked.penalty()
        optimizer.zero_grad()
        loss.backward() if accelerator is None else accelerator.backward(loss)
        optimizer.step()
        masked.advance((step + 1) / steps)
        if step in (3, 6):
            held = optimizer if accelerator is None else optimizer.optimizer
            cuts += masked.shrink([held]) is not None
            try:
                shell(*inputs)
            except GraphError as error:
                refused.append(str(error))
            shell = wrapped()
    state = masked.prune().state_dict()
    return {
        "tensors": {k: v.flatten().tolist() for k, v in state.items()},
        "refused": refused,
        "cuts": cuts,
    }


def sharded() -> dict[str, Any]:
    """FSDP2 around a generator, before and after its masks."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (world(),))
    said = []
    for early in (True, False):
        net = unnormed()
        example = net.sample_inputs(2, torch.Generator().manual_seed(0))  # type: ignore[operator]
        try:
            if early:
                gc.wrap(fully_shard(net, mesh=mesh), example)
            else:
                masked = gc.wrap(net, example, target="params=2x")
                fully_shard(net, mesh=mesh)
                masked.advance(1.0)
                masked.shrink()
        except GraphError as error:
            said.append(str(error))
    return {"said": said}


def told(result: TrainResult) -> dict[str, Any]:
    state = result.generator.state_dict()
    return {
        "tensors": {k: v.double().flatten().tolist() for k, v in state.items()},
        "history": result.history,
        "exit": result.exit_code,
        "plan": None if result.plan is None else result.plan.to_json(),
    }  # fmt: skip


def ranks(
    folder: Path, size: int, jobs: Mapping[str, tuple[str, Mapping[str, Any]]]
) -> tuple[dict[str, list[dict[str, Any]]], list[int | None], list[str]]:
    """Run ``jobs`` in order; return what each rank said of each, exit codes, what was printed."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "jobs.json").write_text(json.dumps(list(jobs.items())))
    command = [sys.executable, "-m", "tests.training.ranks", str(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment |= {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29513"}
    children = [
        subprocess.Popen(
            [*command, str(number), str(size)], cwd=ROOT,
            env=environment | {"RANK": str(number), "LOCAL_RANK": str(number)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for number in range(size)
    ]  # fmt: skip
    texts = [child.communicate(timeout=200)[0] for child in children]
    said: dict[str, list[dict[str, Any]]] = {}
    for name in jobs:
        files = [folder / f"{name}.{number}.json" for number in range(size)]
        said[name] = [json.loads(f.read_text()) if f.exists() else {} for f in files]
    return said, [child.returncode for child in children], texts


def furthest(one: dict[str, Any], other: dict[str, Any]) -> float:
    """The largest difference of any number of two generators of the same shapes."""
    assert one["tensors"].keys() == other["tensors"].keys()
    worst = 0.0
    for name, values in one["tensors"].items():
        assert len(values) == len(other["tensors"][name]), name
        pairs = zip(values, other["tensors"][name], strict=True)
        worst = max([worst, *(abs(a - b) for a, b in pairs)])
    return worst


def main(words: Sequence[str]) -> int:
    folder, number, size = Path(words[0]), int(words[1]), int(words[2])
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=number, world_size=size,
        timeout=datetime.timedelta(seconds=60),
    )  # fmt: skip
    for name, (job, options) in json.loads((folder / "jobs.json").read_text()):
        began = time.monotonic()
        try:
            said = globals()[job](**options)
        except GancompressError as error:
            said = {"error": str(error), "kind": type(error).__name__}
            said |= {"again": error.said_by_another}
        said["seconds"] = time.monotonic() - began
        (folder / f"{name}.{number}.json").write_text(json.dumps(said))
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)
