"""What a regulariser is, how those of a recipe act, and whether they can work at all."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.data.order import stream
from gancompress.distill.taps import deafened
from gancompress.errors import ConfigError
from gancompress.modules.copying import duplicate
from gancompress.modules.discriminator import call_of, same_call
from gancompress.plugins.kinds import REGULARISERS as REGULARISERS
from gancompress.recipes.parts import Regulariser
from gancompress.recipes.schema import Recipe
from gancompress.tasks.protocol import Batch, Shown, Task
from gancompress.training.augment import augment


@dataclass(frozen=True)
class Judging:
    """What a regulariser of the discriminator sees (ours).

    Attributes:
        judge: to logits in float32, a tensor (n, ...) for each head; augments as the loss does.
        real: real samples with labels and condition.
        fake: made ones, as many.
        rng: CPU generator of all draws.
    """

    judge: Callable[[Shown], list[Tensor]]
    real: Shown
    fake: Shown
    rng: torch.Generator

    def squared_slopes(self, at: Shown) -> list[Tensor]:
        """Return, for each head, |d mean logit / d output|^2 of each sample: (n,), with graph."""
        x = at.output.detach().float().requires_grad_()
        found: list[Tensor] = []
        for head in self.judge(replace(at, output=x)):
            score = head.reshape(len(x), -1).mean(1).sum()
            (slope,) = torch.autograd.grad(score, x, create_graph=True)
            found.append(slope.reshape(len(x), -1).square().sum(1))
        return found


@dataclass(frozen=True)
class Making:
    """What a regulariser of the generator sees (ours).

    Attributes:
        make: to the output (n, ...) in float32.
        batch: the inputs of this step.
        rng: CPU generator of all draws.
    """

    make: Callable[[Batch], Tensor]
    batch: Batch
    rng: torch.Generator

    def along_latent(self, n: int) -> tuple[Tensor, Tensor]:
        """Return the latent of the first ``n`` samples, a leaf, and the output made of it.

        Raises:
            ConfigError: the generator takes none.
        """
        batch = self.batch.first(n)
        named = {**{str(i): x for i, x in enumerate(batch.inputs)}, **batch.kwargs}
        place = next((k for k, x in named.items() if _is_latent(x)), None)
        if place is None:
            raise ConfigError("the generator takes no latent: no input (n, z) of floats")
        leaf = named[place].detach().float().requires_grad_()
        inputs = tuple(leaf if str(i) == place else x for i, x in enumerate(batch.inputs))
        kwargs = {k: leaf if k == place else x for k, x in batch.kwargs.items()}
        return leaf, self.make(replace(batch, inputs=inputs, kwargs=kwargs))


def _is_latent(x: Any) -> bool:
    floats = isinstance(x, Tensor) and x.is_floating_point()
    return floats and x.ndim >= 2 and all(side == 1 for side in x.shape[2:])


class Regularisers(nn.Module):
    """The regularisers of a recipe, with what they remember from step to step (ours).

    A module, so that a checkpoint holds it and a step that went wrong is undone in it.

    Attributes:
        last: what each was worth when it acted last, for the log; (number of them,).
    """

    last: Tensor

    def __init__(self, entries: Sequence[Regulariser]) -> None:
        super().__init__()
        self._entries = tuple(entries)
        self._terms = [REGULARISERS.bind(entry) for entry in entries]
        self._sides = [REGULARISERS.fact(entry, "side") for entry in entries]
        self.register_buffer("last", torch.zeros(len(entries)))
        for index, term in enumerate(self._terms):
            if isinstance(term, nn.Module):
                self.add_module(str(index), term)

    def loss(self, side: str, number: int, seen: Callable[[], Judging | Making]) -> Tensor | float:
        """Return the weighted sum of those of ``side`` that are due at update ``number``.

        One that acts at every k-th update counts k times then (Karras et al. 2020, section 3.1).
        ``seen`` is asked only where one is due. 0.0 where none is.
        """
        total: Tensor | float = 0.0
        given: Judging | Making | None = None
        for index, entry in enumerate(self._entries):
            if self._sides[index] != side or number % entry.every:
                continue
            given = seen() if given is None else given
            value = self._value(self._terms[index], given)
            with torch.no_grad():
                self.last[index] = value.detach()
            total = total + entry.weight * entry.every * value
        return total

    def figures(self, side: str) -> dict[str, Tensor]:
        """Return what those of ``side`` were worth when they acted last, unweighted, by name."""
        names = [entry.name for entry in self._entries]
        return {
            name if names.count(name) == 1 else f"{name}.{index}": self.last[index].clone()
            for index, name in enumerate(names)
            if self._sides[index] == side
        }

    def try_out(self, index: int, seen: Judging | Making) -> Tensor:
        """Return what number ``index`` says to ``seen``; it remembers nothing of it."""
        return self._value(copy.deepcopy(self._terms[index]), seen)

    def _value(self, term: Callable[[Any], Tensor], seen: Judging | Making) -> Tensor:
        # In float32 whatever the run's: squares of gradients lose too much in bfloat16.
        with torch.autocast(self.last.device.type, enabled=False):
            return term(seen)

    def of(self, side: str) -> list[tuple[int, str]]:
        """Return numbers and names of those of ``side``."""
        found = enumerate(self._entries)
        return [(i, entry.name) for i, entry in found if self._sides[i] == side]


def judge_of(
    discriminator: nn.Module, augmentations: Sequence[Any], rng: torch.Generator
) -> Callable[[Shown], list[Tensor]]:
    """Return what takes augmented outputs to the logits of ``discriminator``."""

    def judge(shown: Shown) -> list[Tensor]:
        condition = None if shown.condition is None else shown.condition.float()
        call = call_of(discriminator, shown.output, shown.labels, condition)
        seen = augment(shown.output.float(), augmentations, rng)
        return call(discriminator, image=seen, label=shown.labels, condition=condition)

    return judge


def make_of(generator: nn.Module, task: Task) -> Callable[[Batch], Tensor]:
    """Return what takes a batch to the output of ``generator``; the distillers notice nothing."""

    def make(batch: Batch) -> Tensor:
        with deafened(generator):
            return task.output(batch.run(generator)).float()

    return make


def gather_regularisers(
    recipe: Recipe,
    task: Task,
    *,
    generator: nn.Module,
    discriminator: nn.Module | None,
    example: Batch,
    device: torch.device,
) -> Regularisers | None:
    """Return the recipe's regularisers, each tried on copies of the networks; ``None``: no entry.

    Raises:
        ConfigError: one cannot work: no discriminator, a frozen one, no latent, a network that
            cannot be differentiated twice; which and why is in the message.
    """
    if not recipe.regularisers:
        return None
    found = Regularisers(recipe.regularisers).to(device)
    judged = found.of("discriminator")
    if judged and (discriminator is None or recipe.discriminator.policy == "frozen"):
        index, name = judged[0]
        why = "there is none" if discriminator is None else "discriminator.policy is frozen"
        raise ConfigError(
            f"regularisers.{index}: {name} is for a discriminator that learns, and {why}. Set "
            "regularisers=[], or discriminator.policy=fresh"
        )
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.enable_grad():
        maker = duplicate(generator).train().requires_grad_(True)
        rng = stream(recipe.seed, "probe")
        making = Making(make_of(maker, task), example, rng)
        seen: dict[str, Judging | Making] = {"generator": making}
        learners: dict[str, nn.Module] = {"generator": maker}
        if judged and discriminator is not None:
            critic = same_call(duplicate(discriminator), discriminator).train()
            made = task.shown(example, making.make(example).detach())
            judge = judge_of(critic.requires_grad_(True), recipe.augment, rng)
            seen["discriminator"] = Judging(judge, made, made, rng)
            learners["discriminator"] = critic
        for side, network in learners.items():
            for index, name in found.of(side):
                _try(found, index, name, seen[side], network)
    return found


def _try(
    found: Regularisers, index: int, name: str, seen: Judging | Making, network: nn.Module
) -> None:
    what = f"regularisers.{index}: {name} cannot work on {type(network).__name__}"
    try:
        value = found.try_out(index, seen)
        value.backward()  # as in the run: to all leaves, and the network is a copy
    except ConfigError as error:
        raise ConfigError(f"{what}: {error}. Leave it out") from error
    except (RuntimeError, NotImplementedError) as error:
        line = (str(error).strip().splitlines() or [""])[0]
        raise ConfigError(
            f"{what}, which must be differentiated twice: {type(error).__name__}: {line}. "
            "Leave it out"
        ) from error
    if value.numel() != 1:
        raise ConfigError(f"{what}: it returned {tuple(value.shape)}, expected a scalar")
