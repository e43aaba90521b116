"""Who takes part in a run, and whether they fit: checked before step 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.errors import ConfigError
from gancompress.graph.groups import ChannelGraph
from gancompress.graph.plan import Plan
from gancompress.losses.protocol import LOSSES
from gancompress.modules.copying import duplicate
from gancompress.modules.discriminator import same_call
from gancompress.modules.undisturbed import look
from gancompress.recipes.schema import Recipe
from gancompress.surgery.reconstruction.reconstruct import Report
from gancompress.tasks.protocol import Batch, Shown, Task
from gancompress.training.arithmetic import Arithmetic, place, settle
from gancompress.training.check_loss import check_rates, loss_remark
from gancompress.training.companion import Companions, gather_companions
from gancompress.training.cut_reconstruction import CutReconstruction, gather_cut_reconstruction
from gancompress.training.distillation import Distillation
from gancompress.training.feature_matching import FeatureMatching, gather_feature_matching
from gancompress.training.fresh_discriminator import describe, fresh_discriminator, student_params
from gancompress.training.reconstructed import Inputs, reconstructed
from gancompress.training.regularisation import Regularisers, gather_regularisers
from gancompress.training.samples import Range, shown_range
from gancompress.training.score import score_channels
from gancompress.training.start import check_recipe, makes_discriminator
from gancompress.training.student import fresh, masked_student, narrow_student
from gancompress.wrapping import Masked


@dataclass(frozen=True)
class Participants:
    """The networks of a run as they are before its first step (ours).

    Attributes:
        student: the network that is delivered in the end, under masks where it is pruned.
        ema: its moving average.
        teacher: whose outputs stand in for real ones and whom the distillers listen to; the
            student itself where there is no teacher.
        discriminator: the one that judges in this run; ``None`` without an adversarial loss.
        distillation: the distillers, hooked onto student and teacher.
        masked: handle on the student's masks; ``None`` where it is not pruned.
        first_graph: the groups of the uncut student.
        example: two samples that ran through all of them.
        arithmetic: precision and memory format of the run.
        plan: what was cut before the first step (a narrow student), and ``verified`` how exactly.
        shown: the values that sample grids show black and white.
        regularisers: those of the recipe; ``None`` without any.
        matching: how features are matched; ``None`` where they are not.
        remarks: what is to be said about losses and discriminator before the first step.
        report: of the student's reconstruction, where there was one.
        companions: what acts beside the updates.
        after_cuts: solves the layers anew after each cut; ``None`` where cuts are left as they are.
    """

    student: nn.Module
    ema: nn.Module
    teacher: nn.Module
    discriminator: nn.Module | None
    distillation: Distillation
    masked: Masked | None
    first_graph: ChannelGraph | None
    example: Batch
    arithmetic: Arithmetic
    plan: Plan | None
    verified: dict[str, Any] | None
    shown: Range
    regularisers: Regularisers | None
    matching: FeatureMatching | None
    remarks: tuple[str, ...]
    report: Report | None = None
    companions: Companions = field(default_factory=lambda: Companions({}))
    after_cuts: CutReconstruction | None = None

    def release(self) -> None:
        """Take the distillers' hooks off, and let every parameter learn again."""
        self.companions.release()
        self.distillation.remove()
        for network in (self.discriminator, self.ema):
            if network is not None:
                network.requires_grad_(True)


def gather(
    recipe: Recipe,
    task: Task,
    *,
    generator: nn.Module,
    discriminator: nn.Module | None,
    teacher: nn.Module | None,
    device: torch.device,
    earlier: Mapping[str, Any] | None = None,
) -> Participants:
    """Place the networks on ``device``, try them on a batch, and make student and distillers.

    ``earlier`` is how the run that goes on computes, see `arithmetic.recorded`.

    Raises:
        ConfigError: the recipe and what is given do not go together.
        DataError: networks, inputs and data do not fit.
        TargetError: the target is out of reach.
    """
    check_recipe(recipe, discriminator, has_real=task.has_real)
    arithmetic = settle(
        recipe, task, device, generator=generator, discriminator=discriminator, earlier=earlier
    )
    layout = arithmetic.layout
    example = task.check(generator, discriminator, recipe.augment).to(device)
    made = task.output(look(generator, example.inputs, example.kwargs))
    _try_losses(recipe, task, example, made)
    own = discriminator
    if makes_discriminator(recipe):
        own = _fresh_judge(recipe, task, generator, task.shown(example, made))
    remarks = _placed_judge(own, discriminator, arithmetic, device)
    remarks.append(loss_remark(recipe, own, generator, task, example))
    if recipe.kind != "train":
        teacher = _placed_teacher(task, generator, teacher, arithmetic, device)
    source = generator if teacher is None else teacher
    inputs = Inputs(task, recipe, device)
    student, plan, verified, report = _student_of(recipe, generator, source, example, inputs)
    place(student, device, layout).requires_grad_(True).train()
    masked = masked_student(student, example.inputs, recipe) if recipe.kind == "prune" else None
    after_cuts = gather_cut_reconstruction(recipe, task, masked, source, device)
    score_channels(recipe, task, masked, device)
    ema = duplicate(student)  # before the distillers' hooks are on it

    distillation = Distillation(
        recipe.distill,
        teacher=source,
        student=student,
        discriminator=discriminator,
        example=example.inputs,
        condition=example.condition,
        image=made,
    ).to(device)
    own = _as_it_begins(recipe, own)
    matching = gather_feature_matching(recipe, task, discriminator=own, example=example, made=made)
    remarks.append("" if matching is None else matching.describe())
    regularisers = gather_regularisers(
        recipe, task, generator=student, discriminator=own, example=example, device=device
    )
    networks = student, source, discriminator, own
    return Participants(
        student=student,
        ema=ema,
        teacher=source,
        discriminator=own,
        distillation=distillation,
        masked=masked,
        first_graph=None if masked is None else masked.graph,
        example=example,
        arithmetic=arithmetic,
        plan=plan,
        verified=verified,
        shown=shown_range(source, task, device),
        regularisers=regularisers,
        matching=matching,
        remarks=tuple(filter(None, remarks)),
        report=report,
        companions=gather_companions(recipe, task, networks, masked is not None, device),
        after_cuts=after_cuts,
    )


def _fresh_judge(recipe: Recipe, task: Task, generator: nn.Module, shown: Shown) -> nn.Module:
    return fresh_discriminator(recipe, task, shown, student_params(recipe, generator))


def _placed_judge(
    own: nn.Module | None, given: nn.Module | None, arithmetic: Arithmetic, device: torch.device
) -> list[str]:
    """Move a discriminator that the run made to ``device``, and return what is said of it."""
    if own is None or own is given:
        return []
    return [describe(place(own, device, arithmetic.layout))]


def _placed_teacher(
    task: Task,
    generator: nn.Module,
    teacher: nn.Module | None,
    arithmetic: Arithmetic,
    device: torch.device,
) -> nn.Module:
    """Return the teacher, a copy of ``generator`` where there is no other, frozen and tried."""
    if teacher is None or teacher is generator:
        teacher = duplicate(generator)
    place(teacher, device, arithmetic.layout).requires_grad_(False).eval()
    task.check(teacher, None, ())
    return teacher


def _try_losses(recipe: Recipe, task: Task, example: Batch, made: Tensor) -> None:
    """Compute the recipe's losses once: what cannot compare these outputs says so now.

    Raises:
        ConfigError: the task wants no output to compare with, or sound of another rate.
        DataError: outputs that a loss cannot compare.
    """
    if recipe.losses and example.wanted is None:
        raise ConfigError(
            f"recipe {recipe.name} has losses ({', '.join(e.name for e in recipe.losses)}), and "
            f"task {task.name} wants no particular output. Set losses=[], or give pairs: --task "
            "paired"
        )
    check_rates(recipe, task)
    with torch.no_grad():
        for entry in recipe.losses:
            LOSSES.bind(entry)(made, example.wanted)


def _as_it_begins(recipe: Recipe, discriminator: nn.Module | None) -> nn.Module | None:
    """Return the discriminator that learns in this run, in the mode and with the weights it needs.

    The distillers have a copy of the teacher's; ``None`` where there is no adversarial loss.
    """
    if discriminator is None or recipe.adversarial.weight == 0:
        return None
    if recipe.discriminator.policy == "scratch":
        discriminator = same_call(fresh(discriminator, recipe.seed), discriminator)
    return discriminator.train(recipe.discriminator.policy != "frozen")


def _student_of(
    recipe: Recipe, generator: nn.Module, teacher: nn.Module, example: Batch, inputs: Inputs
) -> tuple[nn.Module, Plan | None, dict[str, Any] | None, Report | None]:
    """Return the generator itself, or a narrower one of fixed shape with its plan."""
    if recipe.kind != "distill" or recipe.target is None:
        return generator, None, None, None
    student, plan, verified = narrow_student(teacher, example.inputs, recipe, inputs)
    report = None
    if recipe.student.init == "scratch":
        student = fresh(student, recipe.seed)
    elif recipe.student.reconstruct:
        student, report = reconstructed(teacher, student, plan, inputs)
    return student, plan, verified, report
