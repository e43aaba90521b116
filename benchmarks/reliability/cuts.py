"""B12, B13: a live cut is exact, and optimisers and averages go on as if nothing had been cut."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import gancompress as gc
from benchmarks.reliability.row import BrokenPromiseError, Row, Trial
from gancompress.errors import GraphError
from gancompress.masks.attach import find_masks
from gancompress.training.ema import update_ema
from tests.tiny import KINDS, build, inputs

Make = Callable[[Any], torch.optim.Optimizer]
o = torch.optim
OPTIMIZERS: dict[str, Make] = {
    "SGD": lambda p: o.SGD(p, 1e-2),
    "SGD, momentum": lambda p: o.SGD(p, 1e-2, momentum=0.9),
    "SGD, Nesterov": lambda p: o.SGD(p, 1e-2, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "Adam": lambda p: o.Adam(p, 1e-2),
    "Adam, AMSGrad": lambda p: o.Adam(p, 1e-2, amsgrad=True),
    "Adam, decay": lambda p: o.Adam(p, 1e-2, weight_decay=1e-2, betas=(0.0, 0.9)),
    "Adam, one by one": lambda p: o.Adam(p, 1e-2, foreach=False),
    "AdamW": lambda p: o.AdamW(p, 1e-2),
    "AdamW, AMSGrad": lambda p: o.AdamW(p, 1e-2, amsgrad=True, maximize=True),
    "RAdam": lambda p: o.RAdam(p, 1e-2),
    "NAdam": lambda p: o.NAdam(p, 1e-2),
    "Adamax": lambda p: o.Adamax(p, 1e-2),
    "RMSprop": lambda p: o.RMSprop(p, 1e-3),
    "RMSprop, centred": lambda p: o.RMSprop(p, 1e-3, centered=True, momentum=0.5),
    "Adagrad": lambda p: o.Adagrad(p, 1e-2),
    "Adadelta": lambda p: o.Adadelta(p, 1.0),
    "Rprop": lambda p: o.Rprop(p, 1e-3),
    "ASGD": lambda p: o.ASGD(p, 1e-2),
    "LBFGS": lambda p: o.LBFGS(p, 1e-2, max_iter=2),
    "Adafactor": lambda p: o.Adafactor(p, 1e-2),
}
WHOLE_MATRIX = ("LBFGS", "Adafactor", "Muon")
"""State that is no number for each weight: refused, never guessed."""
AVERAGES = ("ours", "torch", "torch, buffers", "torch, buffers, equal weights")
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-5, torch.bfloat16: 0.0, torch.float16: 0.0}


class Course:
    """A masked generator that learns, with an optimiser and an average: the same each time."""

    def __init__(self, kind: str, make: Make, average: str, dtype: torch.dtype) -> None:
        self.kind, self.dtype, self.average_kind = kind, dtype, average
        self.net = build(kind).to(dtype)
        self.masked = gc.wrap(self.net, self.x(0))
        self.net.to(dtype).train()
        with torch.no_grad():
            self.net(self.x(0))  # the old weight norm leaves a weight that cannot be copied
        if average == "ours":
            self.average: nn.Module = copy.deepcopy(self.net)
        else:
            moving = None if "equal" in average else get_ema_multi_avg_fn(0.7)
            self.average = AveragedModel(
                self.net, multi_avg_fn=moving, use_buffers="buffers" in average
            )
        self.optimizer = make(self.net.parameters())

    def x(self, seed: int) -> Tensor:
        """Return inputs."""
        return inputs(self.kind, n=4, seed=seed).to(self.dtype)

    def step(self, seed: int) -> None:
        """Update the generator, then its average."""

        def closure() -> Tensor:
            self.optimizer.zero_grad()
            loss = self.net(self.x(seed)).float().square().mean()
            loss.backward()
            return loss

        self.optimizer.step(closure)
        if isinstance(self.average, AveragedModel):
            self.average.update_parameters(self.net)
        else:
            update_ema(self.average, self.net, decay=0.7)

    def kill(self, share: float, seed: int) -> None:
        """Let channels die, in the generator and in its average."""
        plan = gc.random_plan(self.masked.graph, keep=share, seed=seed)
        copies = find_masks(self.average)
        for name, mask in self.masked.masks.items():
            dead = sorted(set(range(mask.size)) - set(plan.keep.get(name, range(mask.size))))
            mask.kill(torch.tensor(dead, dtype=torch.int64))
            copies[name].load_state_dict(mask.state_dict())

    def outputs(self) -> list[Tensor]:
        """Return what generator and average make of the same inputs, in eval mode."""
        found = []
        for network in (self.net, self.average):
            network.eval()
            with torch.no_grad():
                found.append(network(self.x(99)).float())
            network.train()
        return found


def prepare(folder: Path) -> Trial:
    """Each trial compares a course with a cut to the same course without."""
    if (muon := getattr(torch.optim, "Muon", None)) is not None:
        OPTIMIZERS["Muon"] = lambda p: muon([q for q in p if q.ndim == 2], 1e-2)
    names = list(OPTIMIZERS)

    def trial(rng: random.Random, number: int) -> str:
        name = names[number % len(names)]
        kind = rng.choice([k for k in KINDS if not k.startswith("weight_old")])
        average = AVERAGES[number // len(names) % len(AVERAGES)]
        dtype = rng.choice(DTYPES if not kind.startswith("spectral") else DTYPES[:2])
        share, seed = rng.uniform(0.3, 0.8), rng.randrange(2**31)
        where = f"{name} on {kind}, average {average}, {str(dtype)[6:]}"
        ends = []
        for cut in (True, False):
            course = Course(kind, OPTIMIZERS[name], average, dtype)
            for step in range(2):
                course.step(step)
            course.kill(share, seed)
            if cut:
                try:
                    course.masked.shrink([course.optimizer], [course.average])
                except GraphError as error:
                    if name in WHOLE_MATRIX and name in str(error):
                        return f"{name}: refused"
                    raise BrokenPromiseError(f"{where}: {error}") from error
                _check_held(course, where)
            if dtype == torch.float64:
                # In others, gradients that are zero but for rounding move Adam by its whole rate.
                course.step(7)
            ends.append(course.outputs())
        for one, two, what in zip(*ends, ("generator", "average"), strict=True):
            gap = float((one - two).abs().max())
            limit = max(TOLERANCE[dtype], 0.0) or 0.05 * float(two.abs().max())
            if not gap <= limit:
                raise BrokenPromiseError(f"{where}: the {what} differs by {gap:.2g}")
        return f"{name}: exact"

    return trial


def _check_held(course: Course, where: str) -> None:
    held = [id(p) for g in course.optimizer.param_groups for p in g["params"]]
    live = [id(p) for p in course.net.parameters()]
    if len(set(held)) != len(held) or not set(held) <= set(live):
        raise BrokenPromiseError(f"{where}: the optimiser holds parameters that are gone")
    for p, state in course.optimizer.state.items():
        for key, value in state.items():
            if isinstance(value, Tensor) and value.ndim and value.shape != p.shape:
                raise BrokenPromiseError(f"{where}: {key} is {tuple(value.shape)}")


ROW = Row(
    "B12, B13",
    "After a random live cut, generator and average (in float64 the next step too) are those of "
    "the uncut network with dead channels, for 21 optimisers and four averages, fp16 and bf16 "
    "included; what cannot be sliced is refused",
    500,
    prepare,
    sample=4,
)
