"""After each live cut, the weights that reproduce the teacher best."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from gancompress.data.order import stream
from gancompress.errors import ConfigError
from gancompress.graph.plan import Plan
from gancompress.graph.trace import trace
from gancompress.modules.copying import duplicate
from gancompress.surgery.raw_tensors import gates_off, raw_tensors
from gancompress.surgery.reconstruction.options import Call, Options
from gancompress.surgery.reconstruction.reconstruct import reconstruct
from gancompress.tasks.protocol import Draw
from gancompress.training.companion import COMPANIONS, Companion, Company, Moment
from gancompress.training.reconstructed import BATCH, told


@COMPANIONS.register("least_squares")
class LeastSquares(Companion):
    """After each live cut, solve every layer for the weights that reproduce the teacher (ours).

    What `reconstruct` does for a narrow student before its first step, here for a student under
    masks, once for each cut, before the next step: student and average get the same weights, masks
    and moments stay as they are. With it a cut is no longer exact: what is verified at the cut is
    the network as it was cut. ``samples`` inputs are looked at; the last cut counts too.

    Raises:
        ConfigError: no masks. A student of kind distill has ``student.reconstruct``.
    """

    seen: Tensor

    def __init__(
        self, company: Company, *, samples: Annotated[int, Field(ge=1, le=65536)] = 256
    ) -> None:
        super().__init__()
        if not company.pruned:
            raise ConfigError(
                f"companion least_squares acts at live cuts, and kind {company.recipe.kind} has "
                "none: set student.reconstruct=true"
            )
        # In a tuple: the networks must not become part of our parameters or state.
        self._company, self.samples = (company,), samples
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def before(self, moment: Moment) -> None:
        """Reconstruct, where a cut has been made since the last step."""
        masked = moment.state.masked
        plan = moment.state.plan if masked is None else masked.history
        if plan is None:
            return
        kept = sum(plan.widths.values())
        if kept == int(self.seen):
            return
        self.seen.fill_(kept)
        self._solve(moment, plan)

    def _solve(self, moment: Moment, plan: Plan) -> None:
        (company,) = self._company
        calls = self._calls(moment.state.step)
        plain = duplicate(moment.state.ema)
        gates_off(plain)
        devices = [company.device] if company.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            made, report = reconstruct(
                company.teacher, plain, plan, graph=trace(company.teacher, *calls[0]),
                inputs=calls, options=Options(seed=company.recipe.seed),
            )  # fmt: skip
        found = raw_tensors(made)
        with torch.no_grad():
            for network in (moment.state.generator, moment.state.ema):
                for name, tensor in raw_tensors(network).items():
                    tensor.copy_(found[name])
        step = moment.state.step
        moment.log.event("reconstruct", f"step {step}: {told(report)}", step=step)

    def _calls(self, step: int) -> list[Call]:
        (company,) = self._company
        rng, left, calls = stream(company.recipe.seed, "cut", step), self.samples, list[Call]()
        while left > 0:
            batch = company.batch(Draw(min(left, BATCH), len(calls), rng))
            calls.append((batch.inputs, batch.kwargs))
            left -= len(batch)
        return calls
