"""What a recipe may say: registry names and numbers, never Python paths."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from gancompress.errors import ConfigError
from gancompress.recipes.parts import (
    Adversarial,
    Count,
    Discriminator,
    Ema,
    FeatureMatching,
    Fraction,
    Name,
    Named,
    NameOrOptions,
    Optim,
    Pruner,
    Regulariser,
    Schedule,
    Search,
    Shrink,
    Steps,
    Strict,
    Student,
    Weighted,
)
from gancompress.target import parse_targets, spelling


class Recipe(Strict):
    """One method with all its numbers; every field has a default except the first three."""

    name: Name = Field(description="name, as typed after --recipe")
    kind: Literal["train", "prune", "distill"] = Field(
        description="train: a network from nothing; prune: learn which channels go; "
        "distill: teach a network of fixed, smaller shape"
    )
    summary: Annotated[str, Field(max_length=200)] = Field(description="one line for the table")
    paper: str = Field(default="", description="where the method comes from")
    seed: Count = Field(default=0, description="seed of everything random")
    network: Name | None = Field(
        default=None, description="train only: which shipped network to build"
    )

    target: str | None = Field(
        default=None,
        description="params=5.2x, macs=0.2: compression, or the fraction that stays; "
        "latency=2x@cpu,batch=1,engine=eager: time; of a list all hold in the end",
    )
    round_to: Steps = Field(
        default="auto",
        description="every width becomes a multiple of this; auto: of what computes as fast on "
        "this machine (measured), and 1 where all targets are of parameters",
    )
    min_channels: Annotated[int, Field(ge=1)] = Field(
        default=1, description="no group goes below this"
    )
    include: tuple[str, ...] = Field(
        default=(),
        description="patterns of layers or groups that may lose channels, as `inspect` names them; "
        "empty: all",
    )
    exclude: tuple[str, ...] = Field(
        default=(), description="patterns of what keeps all its channels; wins over include"
    )
    site: Literal["reader", "output"] = Field(
        default="reader",
        description="gate the weights that read a channel, or each convolution's output",
    )
    relaxation: Named = Field(default=Named(name="ste"), description="gradient of the 0/1 choice")
    penalty: Weighted = Field(
        default=Weighted(name="cost", weight=0.0), description="pressure on masks"
    )
    least_squares: Literal["always", "auto"] = Field(
        default="always",
        description="of score residual and shrink.reconstruct; auto: they are left out, and the "
        "log says why, where the network does not suit them or they would cost more than a tenth "
        "of the training",
    )
    score: Named | None = Field(
        default=None,
        description="what the mask scores begin with (registry: score), computed before the first "
        "step; null: the norm of each channel's weights",
    )
    importance: Named = Field(default=Named(name="scores"), description="which channel goes first")
    allocation: Named | None = Field(
        default=None,
        description="how many channels each group gives (registry: allocation); null: by value for "
        "the cost saved",
    )
    search: Search | None = Field(
        default=None,
        description="find the widths that meet the target before the first step, by asking a score "
        "of narrower networks, and cut to them at once; null: training decides",
    )
    schedule: Schedule = Field(default=Schedule(), description="how fast the budget falls")
    shrink: Shrink = Field(default=Shrink(), description="live shrink")
    mask_lr: Annotated[float, Field(ge=0.0, le=10.0)] = Field(
        default=1e-2, description="learning rate of the mask scores; 0: they do not learn"
    )
    student: Student = Field(default=Student(), description="where the student starts")
    distill: tuple[Weighted, ...] = Field(default=(), description="distillers, added up")
    task: Named | None = Field(
        default=None,
        description="what the generator is asked (registry: task), with its options; null: what "
        "the inputs and data given make plain",
    )
    losses: tuple[Weighted, ...] = Field(
        default=(),
        description="losses between output and wanted output (registry: loss), added up; for "
        "tasks that know what they want",
    )
    distill_share: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        default=1.0,
        description="share of each batch, from its start, that the teacher runs on and the "
        "distillers look at; all of it where there is no adversarial loss",
    )

    adversarial: Adversarial = Field(default=Adversarial(), description="adversarial loss")
    discriminator: Discriminator = Field(
        default=Discriminator(), description="discriminator policy"
    )
    regularisers: tuple[Regulariser, ...] = Field(
        default=(),
        description="penalties on gradients (registry: regulariser), each in the loss of the "
        "network that it is for",
    )
    feature_matching: FeatureMatching = Field(
        default=FeatureMatching(), description="feature matching; for tasks that want an output"
    )
    companions: tuple[Named, ...] = Field(
        default=(),
        description="what acts before and after the two updates of each step (registry: companion)",
    )
    augment: tuple[NameOrOptions, ...] = Field(
        default=(), description="differentiable augmentation of real and fake images alike"
    )
    generator_optim: Optim = Field(default=Optim(), description="optimiser of the generator")
    discriminator_optim: Optim = Field(
        default=Optim(), description="optimiser of the discriminator"
    )
    lr_decay: Fraction | None = Field(
        default=None,
        description="progress from which learning rates fall linearly to 0; null: constant",
    )
    ema: Ema = Field(default=Ema(), description="moving average")

    batch: Annotated[int, Field(ge=1, le=65536)] = Field(
        default=64, description="images a step, over all ranks and accumulated parts"
    )
    accumulate: Annotated[int, Field(ge=1, le=4096)] = Field(
        default=1,
        description="parts that a batch goes through the networks in, so that a large one fits the "
        "memory; must divide it (and the ranks)",
    )
    activation_checkpointing: bool = Field(
        default=False,
        description="compute the activations inside of blocks again in the backward pass, instead "
        "of keeping them: less memory, about a third more time",
    )
    compile: bool = Field(
        default=False,
        description="run the student through torch.compile, again after each cut: minutes at the "
        "start, less time a step on GPUs",
    )
    batch_norm: Literal["local", "synced"] = Field(
        default="local",
        description="statistics of batch norm on several ranks: of each rank's own samples, or of "
        "all ranks' samples",
    )
    steps: Count = Field(
        description="steps (of pruning, where there is pruning); 0 leaves a reconstructed student "
        "as it is"
    )
    finetune_steps: Count = Field(default=0, description="steps after the masks are gone")
    precision: Literal["auto", "float32", "bf16", "fp16"] = Field(
        default="auto",
        description="bf16: autocast; fp16: autocast with scaled losses; auto: bf16 where the "
        "hardware has it natively, else float32",
    )
    tf32: bool | None = Field(
        default=None,
        description="float32 products on tensor cores of NVIDIA GPUs, with 10 bits of mantissa; "
        "null: as torch is set, convolutions yes and matrix products no",
    )
    channels_last: bool | Literal["auto"] = Field(
        default="auto",
        description="memory format of convolutions; auto: where it is faster and the networks run",
    )
    log_every: Annotated[int, Field(ge=1)] = Field(
        default=10, description="steps between log lines"
    )
    sample_every: Count = Field(default=250, description="steps between sample grids; 0: none")
    checkpoint_every: Count = Field(
        default=250, description="steps between checkpoints; 0: only the last"
    )

    log: tuple[NameOrOptions, ...] = Field(
        default=(),
        description="where else the run tells its figures (registry: logger), beside its folder",
    )

    @field_validator("log", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | dict) else value

    @model_validator(mode="before")
    @classmethod
    def _default_names(cls, data: Any) -> Any:
        # `penalty: {weight: 1}` keeps the default penalty and changes its weight.
        if not isinstance(data, dict):
            return data
        defaults = {"relaxation": "ste", "penalty": "cost", "importance": "scores"}
        for key, name in defaults.items():
            if isinstance(data.get(key), dict) and "name" not in data[key]:
                data = {**data, key: {"name": name, **data[key]}}
        return data

    @field_validator("target", mode="before")
    @classmethod
    def _readable_target(cls, target: Any) -> str | None:
        # One reader for the command line, recipes and wrap(); what it says is what the user sees.
        try:
            return None if target is None else spelling(target)
        except ConfigError as error:
            raise ValueError(str(error).removeprefix(f"target {target!r}: ")) from error

    @model_validator(mode="before")
    @classmethod
    def _whole_widths(cls, data: Any) -> Any:
        # Nothing is measured for a size in parameters: auto is 1 then, and the record says so.
        if not isinstance(data, dict) or data.get("round_to", "auto") != "auto":
            return data
        try:
            targets = () if data.get("target") is None else parse_targets(data["target"])
        except ConfigError:
            return data  # its own validator tells
        return {**data, "round_to": 1} if all(t.kind == "params" for t in targets) else data

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Recipe:
        if self.kind == "prune" and self.target is None:
            raise ValueError("kind prune needs a target, for example target: params=5.2x")
        if self.kind == "distill" and self.target is None and self.student.init != "teacher":
            raise ValueError(f"student.init {self.student.init} needs a target for its size")
        if self.kind == "distill" and self.target is not None and self.student.init == "teacher":
            raise ValueError(
                "kind distill with a target needs student.init narrow, scratch or torch-pruning"
            )
        if self.kind == "train" and (self.target is not None or self.distill):
            raise ValueError("kind train has no teacher: no target and no distill")
        if self.kind != "prune" and (self.finetune_steps or self.shrink != Shrink()):
            raise ValueError("finetune_steps and shrink belong to kind prune")
        if self.compile and self.activation_checkpointing:
            raise ValueError(
                "compile decides itself what is computed twice: leave activation_checkpointing out"
            )
        if self.compile and self.batch_norm == "synced":
            raise ValueError("compile does not see norms over ranks: leave batch_norm=synced out")
        if self.kind != "prune" and (self.score or self.allocation or self.search):
            raise ValueError("score, allocation and search choose channels of masks: kind prune")
        if self.kind != "prune" and (self.include or self.exclude):
            raise ValueError("include and exclude say which groups get masks: kind prune")
        if self.search is not None and self.allocation is not None:
            raise ValueError(
                "search decides how many channels each group gives, and so does allocation: leave "
                "one of them out"
            )
        if self.kind == "train" and self.feature_matching.to == "teacher":
            raise ValueError("feature_matching.to is teacher, and kind train has no teacher")
        self._check_student()
        if self.steps + self.finetune_steps < 1 and not self.student.reconstruct:
            raise ValueError("steps must be at least 1")
        if self.steps == 0 and self.student.reconstruct:
            return self
        if self.adversarial.weight == 0.0 and not self.distill and not self.losses:
            raise ValueError(
                "nothing to learn from: adversarial.weight is 0, distill and losses are empty"
            )
        return self

    def _check_student(self) -> None:
        """Refuse options of the student that would change nothing.

        Raises:
            ValueError: the option and the fix are in the message.
        """
        student = self.student
        if student.reconstruct and student.init not in ("narrow", "torch-pruning"):
            raise ValueError(
                f"student.reconstruct needs a student that was cut from the teacher: student.init "
                f"narrow or torch-pruning, not {student.init}"
            )
        if student.pruner != Pruner() and student.init != "torch-pruning":
            raise ValueError(
                f"student.pruner is for student.init torch-pruning, not for {student.init}"
            )
        if student.channels != "magnitude" and student.init not in ("narrow", "scratch"):
            raise ValueError(
                f"student.channels {student.channels} chooses for student.init narrow, not for "
                f"{student.init}"
            )
        if self.kind != "distill" and (student.reconstruct or student.channels != "magnitude"):
            raise ValueError("student.reconstruct and student.channels belong to kind distill")


def fields_that_count(recipe: Recipe) -> list[str]:
    """Return the fields that decide what a run does; what describes the recipe does not."""
    return [name for name in type(recipe).model_fields if name not in ("paper", "summary", "log")]
