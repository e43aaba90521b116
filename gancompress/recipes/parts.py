"""The parts of a recipe: plug-ins by name with their numbers, and what belongs together."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Tag, field_validator, model_validator
from pydantic import Discriminator as ByKind

from gancompress.recipes.optimizer_names import check_optimizer

Name = Annotated[str, Field(pattern=r"^[a-z0-9_-]+$", max_length=64)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Weight = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class Strict(BaseModel):
    """A part of a recipe: what it does not know is an error, and it never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Named(Strict):
    """A plug-in by its registry name, with its options beside it; a bare name has none."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    name: Name = Field(description="registry name of the plug-in")

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def options(self) -> dict[str, Any]:
        """The options, without the name."""
        return dict(self.__pydantic_extra__ or {})


# A bare name stays one, so that a recipe reads as it was written; tags in brackets are not shown.
NameOrOptions = Annotated[
    Annotated[Name, Tag("(name)")] | Annotated[Named, Tag("(options)")],
    ByKind(lambda entry: "(name)" if isinstance(entry, str) else "(options)"),
]

Steps = Annotated[
    Annotated[Literal["auto"], Tag("(auto)")]
    | Annotated[Annotated[int, Field(ge=1, le=256)], Tag("(number)")],
    ByKind(lambda steps: "(auto)" if isinstance(steps, str) else "(number)"),
]


class Weighted(Named):
    """A plug-in whose result is added to the generator's loss."""

    weight: Weight = Field(default=1.0, description="factor of this term in the generator's loss")


class Regulariser(Named):
    """A penalty on how an output changes with an input, of the discriminator or the generator."""

    weight: Weight = Field(default=1.0, description="factor in the loss of the network it is for")
    every: Annotated[int, Field(ge=1, le=1024)] = Field(
        default=1,
        description="updates from one use to the next; its weight counts so many times then (lazy)",
    )


class FeatureMatching(Strict):
    """L1 between what the discriminator's layers make of wanted and of made outputs."""

    weight: Weight = Field(
        default=0.0, description="factor of this term in the generator's loss; 0: off"
    )
    to: Literal["wanted", "teacher"] = Field(
        default="wanted",
        description="wanted: the output that the task wants; teacher: the teacher's for the same "
        "input",
    )
    taps: tuple[str, ...] | None = Field(
        default=None,
        description="layers of the discriminator, by path; null: the features that it returns "
        "beside its logits, else one layer a size",
    )


class Schedule(Named):
    """How the allowed budget moves from full size to the target."""

    name: Name = Field(default="cubic", description="shape of the curve (registry: schedule)")
    start: Fraction = Field(default=0.0, description="progress at which channels begin to go")
    end: Fraction = Field(default=0.75, description="progress at which the target is reached")

    @model_validator(mode="after")
    def _in_order(self) -> Schedule:
        if self.end <= self.start:
            raise ValueError(f"end {self.end} must come after start {self.start}")
        return self


class Shrink(Strict):
    """Live shrink: cut the dead channels while training goes on."""

    events: tuple[Fraction, ...] = Field(default=(), description="progress of each cut, rising")
    discriminator: bool = Field(
        default=False,
        description="at each cut, the last included, narrow the discriminator too, evenly and by "
        "magnitude: it keeps the share of its cost that the generator keeps, rounded up to widths "
        "that compute as fast; a frozen one stays whole",
    )
    hold: bool = Field(
        default=False,
        description="channels die at the cuts alone, as many as the schedule allows there, and "
        "not between them; with reconstruct: reference itself, all that go were alive until then",
    )
    reconstruct: bool = Field(
        default=False,
        description="after each cut, the last included, give generator and average the weights "
        "that reproduce the reference best, layer by layer in least squares; norm statistics are "
        "measured again. The cut itself stays exact and is verified before",
    )
    reference: Literal["teacher", "itself"] = Field(
        default="teacher",
        description="of reconstruct: the teacher, or the average as it was before the cut, with "
        "the channels that go",
    )
    samples: Annotated[int, Field(ge=1, le=65536)] = Field(
        default=512, description="inputs that reconstruct looks at, all at once; needs no data"
    )

    @model_validator(mode="after")
    def _does_something(self) -> Shrink:
        fields = type(self).model_fields
        idle = [n for n in ("reference", "samples") if getattr(self, n) != fields[n].default]
        if idle and not self.reconstruct:
            raise ValueError(f"{idle[0]} changes nothing without reconstruct: true")
        return self

    @field_validator("events")
    @classmethod
    def _rising(cls, events: tuple[float, ...]) -> tuple[float, ...]:
        if any(a >= b for a, b in zip(events, events[1:], strict=False)):
            raise ValueError("events must rise")
        return events


class Search(Strict):
    """Widths found before the first step by a score; options of the score stand beside it."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    score: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9_.-]+(:[A-Za-z_][A-Za-z0-9_.]*)?$", max_length=128)
    ] = Field(
        description="what is to stay large (registry: search score), or module:function of a "
        "module that is loaded with --plugin"
    )
    budget: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=100, description="networks that the score is asked of at most"
    )
    levels: Annotated[int, Field(ge=1, le=64)] = Field(
        default=4, description="widths tried of each group alone; fewer where budget is short"
    )

    @property
    def plugin(self) -> dict[str, Any]:
        """The score with its options, as its registry takes it."""
        return {"name": self.score, **(self.__pydantic_extra__ or {})}


class Adversarial(Strict):
    """The adversarial part of both losses; options of the loss stand beside it."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    loss: Name = Field(default="hinge", description="adversarial loss (registry: adversarial loss)")
    weight: Weight = Field(
        default=1.0, description="factor in the generator's loss; 0 trains without it"
    )

    @property
    def plugin(self) -> dict[str, Any]:
        """The loss with its options, as its registry takes it."""
        return {"name": self.loss, **(self.__pydantic_extra__ or {})}


class Discriminator(Strict):
    """Where the discriminator comes from, and how often it learns."""

    policy: Literal["teacher", "frozen", "scratch", "fresh"] = Field(
        default="teacher",
        description="teacher: go on from the teacher's discriminator; frozen: never update it; "
        "scratch: same network, fresh weights; fresh: a small one of our own that fits the "
        "outputs, about as large as the student",
    )
    real: Literal["auto", "data", "teacher"] = Field(
        default="auto",
        description="what counts as real: the data, or the teacher's samples (data-free); "
        "auto: the data when there is any",
    )
    steps: Annotated[int, Field(ge=1, le=16)] = Field(
        default=1, description="discriminator steps for each generator step"
    )


class Optim(Strict):
    """An optimiser and its numbers; options of the optimiser stand beside them."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    name: Name = Field(
        default="adam",
        description="adam, adamw, nadam, radam, adamax, sgd, rmsprop, adagrad or adadelta; "
        "torch's options of it stand beside the name, for example weight_decay",
    )
    lr: Annotated[float, Field(gt=0.0, le=1.0)] = Field(default=2e-4, description="learning rate")
    betas: tuple[Fraction, Fraction] = Field(
        default=(0.0, 0.999), description="two decay rates, of Adam and its kin"
    )
    eps: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        default=1e-8, description="epsilon, of all that have one"
    )

    @property
    def options(self) -> dict[str, Any]:
        """What stands beside name, lr, betas and eps."""
        return dict(self.__pydantic_extra__ or {})

    @model_validator(mode="after")
    def _exists(self) -> Optim:
        # By value: the recipe in a run folder sets everything.
        fields = type(self).model_fields
        given = {k for k in ("betas", "eps") if getattr(self, k) != fields[k].default}
        check_optimizer(self.name, given, self.options)
        return self


class Ema(Strict):
    """Moving average of the generator, which is what is delivered."""

    decay: Fraction = Field(
        default=0.999, description="weight of the old average at each step; 0 = off"
    )
    start: Count = Field(
        default=0, description="step up to which the average simply copies the weights"
    )


class Pruner(Strict):
    """What torch-pruning's own pruner is asked for."""

    importance: Literal["magnitude", "taylor"] = Field(
        default="magnitude",
        description="its group magnitude (L2), or its group Taylor, by the gradient of the mean "
        "squared output",
    )


class Student(Strict):
    """The network that learns, before any mask."""

    init: Literal["teacher", "narrow", "scratch", "torch-pruning"] = Field(
        default="teacher",
        description="teacher: the teacher's weights; narrow: uniformly cut to the target size, "
        "teacher's weights; scratch: the same narrow shape, fresh weights; torch-pruning: the "
        "teacher's weights, in the channels that this library's own pruner keeps",
    )
    channels: Literal["magnitude", "residual"] = Field(
        default="magnitude",
        description="of a narrow student: magnitude keeps the largest, the same share in every "
        "group; residual those whose loss the others can make up for least, where it costs most",
    )
    pruner: Pruner = Field(
        default=Pruner(), description="how torch-pruning chooses, for student.init torch-pruning"
    )
    reconstruct: bool = Field(
        default=False,
        description="give the student, layer by layer, the weights that reproduce the teacher's "
        "outputs best in least squares; needs no data",
    )
    samples: Annotated[int, Field(ge=1, le=65536)] = Field(
        default=512, description="inputs that reconstruct and residual look at, all at once"
    )
