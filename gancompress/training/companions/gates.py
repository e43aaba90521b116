"""A discriminator whose channels open and close, so that it is no stronger than it should be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from gancompress.errors import ConfigError
from gancompress.modules.copying import duplicate
from gancompress.modules.discriminator import same_call
from gancompress.modules.undisturbed import undisturbed
from gancompress.training.companion import COMPANIONS, Companion, Company, Moment
from gancompress.training.losses import ADVERSARIAL, AdversarialLoss
from gancompress.training.recovery import finite_step
from gancompress.training.regularisation import judge_of


class _Hard(torch.autograd.Function):
    """1 above the threshold, else 0; the gradient passes straight through."""

    @staticmethod
    def forward(ctx: Any, alpha: Tensor, threshold: float) -> Tensor:
        return (alpha > threshold).to(alpha.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        return grads[0], None


class _ChannelGate(nn.Module):
    def __init__(self, channels: int, threshold: float) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels))
        self.threshold = threshold

    def gate_output(self, module: nn.Module, args: Any, output: Tensor) -> Tensor:
        gate = _Hard.apply(self.alpha, self.threshold).to(output.dtype)  # type: ignore[union-attr]
        return output * gate.view(1, -1, *[1] * (output.dim() - 2))


@COMPANIONS.register("gates")
class Gates(Companion):
    """Gate the discriminator's channels so that its balance is the teacher's (GCC, Li et al. 2021).

    Each channel of each of its convolutions has a factor, 1 at first, held in [0, 1]: above
    ``threshold`` the channel acts, below it is zero, with a straight-through gradient. They have an
    Adam of their own and minimise the discriminator's loss plus the difference of two gaps, where a
    gap is |generator's loss - discriminator's loss|: that of the student's average and the
    gated discriminator, and the running mean (``memory``) of that of teacher and discriminator as
    they were given. GCC takes the discriminator's loss on made images alone, and trains the
    teacher's pair along; here it is frozen.

    Raises:
        ConfigError: no discriminator that learns, one without convolutions, or one that shrinks.
    """

    gap: Tensor

    def __init__(
        self,
        company: Company,
        *,
        threshold: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1,
        lr: Annotated[float, Field(gt=0.0, le=1.0)] = 1e-4,
        memory: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9,
    ) -> None:
        super().__init__()
        D = company.discriminator
        if D is None or company.judge is None or company.recipe.discriminator.policy == "frozen":
            raise ConfigError(
                "companion gates acts on a discriminator that learns, and there is none: give one, "
                "or leave the companion out"
            )
        if company.recipe.shrink.discriminator:
            raise ConfigError(
                "companion gates and shrink.discriminator both make the discriminator smaller: set "
                "shrink.discriminator=false"
            )
        layers = {p: m for p, m in D.named_modules() if isinstance(m, nn.modules.conv._ConvNd)}
        last = list(layers)[-1:]  # where it ends in a map of logits, there is nothing to choose
        layers = {p: m for p, m in layers.items() if m.out_channels > 1 or p not in last}
        if not layers:
            raise ConfigError(
                f"companion gates needs convolutions, and {type(D).__name__} has none: leave it out"
            )
        # In a tuple: the networks must not become part of our parameters or state.
        self._company, self.memory = (company,), memory
        given = same_call(duplicate(company.judge), company.judge)
        self._reference = (given.requires_grad_(False).eval(),)
        self.gates = nn.ModuleList(
            _ChannelGate(m.out_channels, threshold).to(m.weight) for m in layers.values()
        )
        self._hooks = [
            layer.register_forward_hook(gate.gate_output)  # type: ignore[arg-type]
            for layer, gate in zip(layers.values(), self.gates, strict=True)
        ]
        self.register_buffer("gap", torch.full((), float("nan")))
        self._adam = torch.optim.Adam(self.gates.parameters(), lr=lr)

    def after(self, moment: Moment) -> None:
        """Update the factors on a batch of their own."""
        (company,), D = self._company, moment.state.discriminator
        assert D is not None
        draw = company.draw("gates", moment.state.step)
        recipe, task, batch = company.recipe, company.task, company.batch(draw)
        loss: AdversarialLoss = ADVERSARIAL.bind(recipe.adversarial.plugin)()
        real = company.real(draw)
        with undisturbed(moment.state.ema):
            made = task.shown(batch, task.output(batch.run(moment.state.ema)).float())
        with torch.no_grad():
            taught = task.shown(batch, task.output(batch.run(company.teacher)).float())
            judge = judge_of(self._reference[0], recipe.augment, draw.rng)
            reals, fakes = judge(real), judge(taught)
            gap = _gap(loss, reals, fakes)
            old = gap if self.gap.isnan() else self.gap
            self.gap.copy_(self.memory * old + (1 - self.memory) * gap)
        D.requires_grad_(False)
        judge = judge_of(D, recipe.augment, draw.rng)
        reals, fakes = judge(real), judge(made)
        pairs = list(zip(reals, fakes, strict=True))
        total = torch.stack([loss.discriminator(r, f) for r, f in pairs]).mean()
        total = total + (_gap(loss, reals, fakes) - self.gap).abs()
        self._adam.zero_grad(set_to_none=True)
        total.backward()
        if finite_step(total, self.gates.parameters()):
            self._adam.step()
            with torch.no_grad():
                for alpha in self.gates.parameters():
                    alpha.clamp_(0, 1)
        self._adam.zero_grad(set_to_none=True)

    def optimizers(self) -> Iterator[tuple[torch.optim.Optimizer, nn.Module]]:
        """Yield the Adam of the factors."""
        yield self._adam, self.gates

    def release(self) -> None:
        """Take the gates off."""
        for hook in self._hooks:
            hook.remove()


def _gap(loss: AdversarialLoss, reals: list[Tensor], fakes: list[Tensor]) -> Tensor:
    """Return |generator's loss - discriminator's loss|, mean over heads."""
    pairs = zip(reals, fakes, strict=True)
    gaps = [(loss.generator(f) - loss.discriminator(r, f)).abs() for r, f in pairs]
    return torch.stack(gaps).mean()
