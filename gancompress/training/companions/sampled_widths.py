"""Networks of many widths that share their weights, and a search among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from gancompress.errors import ConfigError
from gancompress.graph.plan import Plan
from gancompress.masks.importance import channel_norm
from gancompress.modules.copying import duplicate
from gancompress.modules.undisturbed import undisturbed
from gancompress.saving.any_size import WHOLE, save_nested
from gancompress.surgery.raw_tensors import gates_off, raw_tensors
from gancompress.training.companion import COMPANIONS, Companion, Company, Moment
from gancompress.wrapping import Masked
from gancompress.wrapping.widths import scaled, uniform_widths

Share = Annotated[float, Field(gt=0.0, lt=1.0)]


@COMPANIONS.register("sampled_widths")
class SampledWidths(Companion):
    """Draw a width for each group at each step; then search, and cut to the best (once for all).

    Li et al. 2020 (GAN Compression): weights are shared by networks of all widths, of which each
    step trains one; afterwards many that meet the budget are measured without training, and the
    best is fine-tuned. The first channels of a group are those of the largest norm at the start.
    Until ``until`` of the masked steps, each group has a share of its channels, drawn evenly from
    ``least`` to 1. Then ``trials`` shares are scaled onto the target, half of them drawn anew and
    half near the best so far, and compared by mean absolute difference of the outputs to the
    teacher's on ``samples`` inputs. Theirs takes widths from a list and a Frechet distance.

    With ``together`` all groups have one share: networks of nested sizes, the smallest of which is
    the one at the target (Yu & Huang 2019, Lin et al. 2021); half of the steps train one of the two
    ends, by turns. ``keep`` writes the network of all widths, as its average is at the end of
    the drawing, to the folder ``nested`` of the run: any size can be taken out of it
    (`gancompress.saving.any_size.load_size`). With ``trials`` 0 nothing is searched for, and every
    group keeps the same share.

    Raises:
        ConfigError: no masks to close.
    """

    searched: Tensor

    def __init__(
        self,
        company: Company,
        *,
        least: Share = 0.25,
        until: Share = 0.66,
        trials: Annotated[int, Field(ge=0)] = 64,
        samples: Annotated[int, Field(ge=1)] = 32,
        together: bool = False,
        keep: bool = False,
    ) -> None:
        super().__init__()
        if not company.pruned or company.recipe.target is None:
            raise ConfigError("companion sampled_widths closes masks: it needs kind prune")
        if company.recipe.schedule.start < until:
            raise ConfigError(
                f"companion sampled_widths draws widths until {until} of the steps, and the "
                f"schedule starts at {company.recipe.schedule.start}: set schedule.start later"
            )
        self._company = (company,)
        self.least, self.until, self.trials, self.samples = least, until, trials, samples
        self.together, self.keep = together, keep
        self.register_buffer("searched", torch.zeros((), dtype=torch.bool))
        self._order: dict[str, np.ndarray] | None = None

    def before(self, moment: Moment) -> None:
        """Close the channels beyond this step's widths."""
        masked = moment.state.masked
        if masked is None or bool(self.searched):
            return
        widths = self._drawn(masked, moment.state.step)
        self._narrow(masked, widths)
        # Nor may a distiller look at what is closed.
        keep = {n: np.flatnonzero(r < widths[n]).tolist() for n, r in self._ranks(masked).items()}
        plan = Plan.of(masked.graph, keep)
        moment.state.distillation.mute(partial(masked.graph.kept, plan))

    def after(self, moment: Moment) -> None:
        """Open all again; when its time has come, search, and let the others die."""
        masked = moment.state.masked
        if masked is None or bool(self.searched):
            return
        for mask in masked.masks.values():
            mask.narrow(None)
        moment.state.mute()
        if moment.progress < self.until:
            return
        if self.keep:
            self._write(masked, moment)
        widths, loss = self._search(masked)
        order = self._ranks(masked)
        for name, mask in masked.masks.items():
            mask.kill(torch.from_numpy(np.flatnonzero(order[name] >= widths[name])))
        self.searched.fill_(True)
        moment.state.mute()
        step = moment.state.step
        if self.trials:
            text = f"step {step}: of {self.trials} networks the best differs by {loss:.4g}"
            moment.log.event("search", text, step=step, widths=widths, difference=loss)

    def _drawn(self, masked: Masked, step: int) -> dict[str, int]:
        """Return the widths of a step: a function of the seed and of it."""
        rng = np.random.default_rng([self._company[0].recipe.seed, step])
        sizes = {n: m.size for n, m in masked.masks.items()}
        if not self.together:
            shares = {n: rng.uniform(self.least, 1.0) for n in sizes}
            return {n: max(round(s * sizes[n]), 1) for n, s in shares.items()}
        smallest = self._smallest(masked)
        if step % 2 == 0:
            return smallest if step % 4 else sizes
        part = rng.uniform()
        return {n: max(round(s + part * (sizes[n] - s)), 1) for n, s in smallest.items()}

    def _smallest(self, masked: Masked) -> dict[str, int]:
        assert masked.budget is not None
        widths = uniform_widths(masked.graph, masked.budget)
        return {n: widths[n] for n in masked.masks}

    def _write(self, masked: Masked, moment: Moment) -> None:
        """Keep the average at full width, with the order in which its channels are nested."""
        smallest, step = self._smallest(masked), moment.state.step
        if (folder := moment.log.folder) is not None:
            whole = duplicate(moment.state.ema)
            gates_off(whole)
            order = {
                n: np.argsort(r, kind="stable").tolist() for n, r in self._ranks(masked).items()
            }
            save_nested(folder / WHOLE, whole, order, smallest)
        text = f"step {step}: the network of all sizes is in {WHOLE}/"
        widths = {n: m.size for n, m in masked.masks.items()}
        moment.log.event("nested", text, step=step, least=smallest, widths=widths)

    def _ranks(self, masked: Masked) -> dict[str, np.ndarray]:
        """Return the place of each channel in its group, the largest norm of the teacher first."""
        if self._order is None:
            # Of the teacher, not of what it has become: a resumed run must find the same.
            tensors = raw_tensors(self._company[0].teacher)
            self._order = {}
            for name in masked.masks:
                norms = channel_norm(masked.graph[name], tensors)
                place = np.empty(len(norms), np.int64)
                place[np.argsort(-norms, kind="stable")] = np.arange(len(norms))
                self._order[name] = place
        return self._order

    def _narrow(self, masked: Masked, widths: Mapping[str, int]) -> None:
        order = self._ranks(masked)
        for name, mask in masked.masks.items():
            kept = torch.from_numpy(order[name] < max(widths[name], 1))
            mask.narrow(kept.to(mask.alive.device))

    def _search(self, masked: Masked) -> tuple[dict[str, int], float]:
        (company,) = self._company
        recipe, budget = company.recipe, masked.budget
        assert budget is not None
        if not self.trials:
            return self._smallest(masked), 0.0
        draw = company.draw("search", 0)
        batch = company.batch(draw).first(self.samples)
        rng = np.random.default_rng([recipe.seed, 1])
        names, found = list(masked.masks), list[tuple[float, int, np.ndarray]]()
        with torch.no_grad():
            wanted = company.task.output(batch.run(company.teacher))
            for trial in range(self.trials):
                shares = rng.uniform(self.least, 1.0, len(names))
                if trial >= self.trials / 2 and found:
                    shares = best(found)[2] * np.exp(rng.normal(0, 0.2, len(names)))
                self._narrow(masked, scaled(masked, budget, dict(zip(names, shares, strict=True))))
                with undisturbed(masked.generator):
                    made = company.task.output(batch.run(masked.generator))
                found.append((float((made - wanted).abs().mean()), trial, shares))
        for mask in masked.masks.values():
            mask.narrow(None)
        loss, _, shares = best(found)
        return scaled(masked, budget, dict(zip(names, shares, strict=True))), loss


def best(found: Sequence[tuple[float, int, np.ndarray]]) -> tuple[float, int, np.ndarray]:
    """Return the trial of the smallest difference, the earlier of two that are alike."""
    return min(found, key=lambda one: one[:2])
