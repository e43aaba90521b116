"""Watches whether the shrinking generator still stands up to its discriminator."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from gancompress.errors import ConfigError
from gancompress.masks.attach import find_masks
from gancompress.masks.mask import ChannelMask
from gancompress.training.companion import COMPANIONS, Companion, Company, Moment

Policy = Literal["watch", "slow", "gate", "back"]
Share = Annotated[float, Field(gt=0.0, lt=1.0)]


@COMPANIONS.register("balance")
class Balance(Companion):
    """Where the generator loses, slow the schedule, gate the discriminator, or go back (ours).

    Two figures are watched, both as running means with weight ``memory`` on the past. *Won*: how
    often the logit of a real sample is above that of a made one, over all pairs of a batch (0.5: it
    cannot tell; 1: it always can). *Ratio*: norm of the generator's gradient over the
    discriminator's, relative to what it was over the first steps. The generator loses while won is
    above ``limit``, or the ratio above ``growth``; each turn is logged with its cause.

    ``watch`` only logs. ``slow`` lets the schedule stand still meanwhile, by at most ``most`` of
    the masked steps in all, so that the target is reached in time. ``gate`` lets the discriminator
    skip its updates. ``back`` revives the channels that died since the generator last held its own,
    as far as they are not cut yet, at most three times, and goes on as ``slow``.

    Raises:
        ConfigError: no discriminator that learns; no masks, for ``slow`` and ``back``.
    """

    won: Tensor
    ratio: Tensor
    first: Tensor
    seen: Tensor
    losing: Tensor
    lag: Tensor
    paced: Tensor
    returns: Tensor
    good_progress: Tensor
    good_alive: Tensor
    good_total: Tensor

    def __init__(
        self,
        company: Company,
        *,
        policy: Policy = "slow",
        limit: Annotated[float, Field(gt=0.5, le=1.0)] = 0.95,
        growth: Annotated[float, Field(gt=1.0)] = 10.0,
        memory: Share = 0.9,
        most: Share = 0.3,
    ) -> None:
        super().__init__()
        if company.discriminator is None or company.recipe.discriminator.policy == "frozen":
            raise ConfigError(
                "companion balance watches a discriminator that learns, and there is none: leave "
                "it out, or set discriminator.policy=fresh"
            )
        if policy in ("slow", "back") and not company.pruned:
            raise ConfigError(
                f"companion balance: policy {policy} acts on masks, and kind "
                f"{company.recipe.kind} has none: set policy gate or watch"
            )
        self.policy, self.limit, self.growth = policy, limit, growth
        self.memory, self.most = memory, most
        for name in ("won", "ratio", "first", "seen", "losing", "lag", "paced", "returns"):
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))
        # What `back` returns to: progress, and who lived in all masks side by side (the rest of the
        # buffer is left over from cuts). Buffers, so that a resumed run returns to the same.
        total = sum(mask.size for mask in find_masks(company.student).values())
        self.register_buffer("good_progress", torch.full((), -1.0, dtype=torch.float64))
        self.register_buffer("good_alive", torch.zeros(total, dtype=torch.bool))
        self.register_buffer("good_total", torch.zeros((), dtype=torch.int64))

    @property
    def loses(self) -> bool:
        """Whether the generator loses now."""
        return bool(self.losing)

    def before(self, moment: Moment) -> None:
        """Skip the discriminator's update, if it is gated: its learning rate is 0 for a step."""
        if self.policy == "gate" and self.loses:
            for group in moment.state.optimizers["discriminator"].param_groups:
                group["lr"] = 0.0

    def after(self, moment: Moment) -> None:
        """Look at the step; act where the generator has begun to lose."""
        if not moment.sound or "real" not in moment.figures:
            return
        self._observe(moment)
        young = float(self.seen) * (1 - self.memory) < 1  # the means still remember their start
        cause = None if young else self._cause()
        if (cause is not None) != self.loses:
            self.losing.fill_(cause is not None)
            self._tell(moment, cause)
            if cause is not None and self.policy == "back":
                self._return(moment)
        if not self.loses:
            self._remember(moment)

    def pace(self, progress: float) -> float:
        """Return ``progress`` less the time lost, though never so late that 1 is not reached."""
        if self.policy not in ("slow", "back"):
            return progress
        held = float(self.paced) if self.loses else progress - float(self.lag)
        latest = (progress - self.most) / (1 - self.most)
        found = min(max(held, latest, float(self.paced)), progress)
        self.lag.fill_(progress - found)
        self.paced.fill_(found)
        return found

    def _observe(self, moment: Moment) -> None:
        real, fake = (moment.figures[k].detach().double().flatten().cpu() for k in ("real", "fake"))
        won = won_pairs(real, fake)
        made = _gradient_norm(moment.state.generator)
        judged = _gradient_norm(moment.state.discriminator)
        ratio = made / max(judged, 1e-30)
        keep = min(self.memory, float(self.seen) / (float(self.seen) + 1))
        self.won.mul_(keep).add_((1 - keep) * won)
        self.ratio.mul_(keep).add_((1 - keep) * ratio)
        self.seen += 1
        if float(self.seen) * (1 - self.memory) <= 1:
            self.first.copy_(self.ratio)

    def _cause(self) -> str | None:
        if float(self.won) > self.limit:
            return f"the discriminator tells {float(self.won):.1%} of all pairs apart"
        rise = float(self.ratio) / max(float(self.first), 1e-30)
        if rise > self.growth:
            return f"its gradient is {rise:.1f} times as large against the discriminator's as first"
        return None

    def _tell(self, moment: Moment, cause: str | None) -> None:
        does = {
            "watch": "nothing is done", "slow": "the schedule waits",
            "gate": "the discriminator skips its updates", "back": "the last channels come back",
        }[self.policy]  # fmt: skip
        step = moment.state.step
        text = (
            f"step {step}: the generator holds its own again"
            if cause is None
            else f"step {step}: the generator loses: {cause}; {does}"
        )
        moment.log.event(
            "balance", text, step=step, policy=self.policy, loses=cause is not None, cause=cause,
            won=float(self.won), ratio=float(self.ratio), widths=moment.state.measure_size(),
        )  # fmt: skip

    def _masks(self, moment: Moment) -> dict[str, ChannelMask]:
        return {} if moment.state.masked is None else dict(moment.state.masked.masks)

    def _remember(self, moment: Moment) -> None:
        if self.policy == "back" and moment.state.masked is not None:
            alive = torch.cat([m.alive for m in self._masks(moment).values()])
            self.good_alive[: len(alive)] = alive
            self.good_total.fill_(len(alive))
            self.good_progress.fill_(moment.state.masked.progress)

    def _return(self, moment: Moment) -> None:
        masked, progress = moment.state.masked, float(self.good_progress)
        if masked is None or progress < 0 or float(self.returns) >= 3:
            return
        masks = self._masks(moment)
        sizes = [mask.size for mask in masks.values()]
        # Cut since then: what is gone is gone, and all that is there already lives.
        if sum(sizes) != int(self.good_total) or any(m.settled for m in masks.values()):
            return
        alive = self.good_alive[: sum(sizes)].split(sizes)
        for mask, living in zip(masks.values(), alive, strict=True):
            mask.alive.copy_(living)
            mask.sync()
        self.returns += 1
        masked.progress = min(masked.progress, progress)
        self.paced.fill_(masked.progress)
        moment.state.mute()


def won_pairs(real: Tensor, fake: Tensor) -> float:
    """Return the share of all pairs in which the real logit is larger, ties by half, in [0, 1].

    Mann and Whitney 1947, their U over the number of pairs.
    """
    order = real.sort().values
    at_most = torch.searchsorted(order, fake, right=True)
    below = torch.searchsorted(order, fake)
    return float((1 - (at_most + below).double() / (2 * len(real))).mean())


def _gradient_norm(module: nn.Module | None) -> float:
    found = [] if module is None else [p.grad for p in module.parameters() if p.grad is not None]
    return float(torch.stack([g.float().norm() for g in found]).norm()) if found else 0.0
