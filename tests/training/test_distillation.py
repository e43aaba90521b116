from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gancompress.distill import protocol
from gancompress.distill.protocol import Context, DistillBatch
from gancompress.distill.tap_pairs import pair_taps
from gancompress.errors import ConfigError
from gancompress.recipes.parts import Weighted
from gancompress.registry import Registry
from gancompress.training.distillation import Distillation
from gancompress.training.log import Silent
from gancompress.training.loop import train
from tests.distill.toys import Bench, bench
from tests.training.nets import images, networks, recipe

ENTRIES = [
    Weighted.model_validate({"name": name, "weight": weight, **options})
    for name, weight, options in (
        ("pixel", 2.0, {}),
        ("class_aware", 3.0, {"variant": "gain"}),
        ("discriminator_features", 0.5, {}),
        ("relational", 1.0, {"relation": "cosine"}),
    )
]


def distillation(of: Bench) -> Distillation:
    return Distillation(
        ENTRIES,
        teacher=of.teacher,
        student=of.student,
        discriminator=of.discriminator,
        example=of.example,
    )


def taught(of: Bench, own: Distillation, inputs: tuple[Tensor, ...], seen: int) -> list[Tensor]:
    """Return the loss on the first ``seen`` samples, and its gradients."""
    found = of.student(*inputs)
    with torch.no_grad():
        wanted = of.teacher(*(part[:seen] for part in inputs))
    loss = own.loss(inputs=inputs, labels=inputs[1], student_images=found, teacher_images=wanted)
    grads = torch.autograd.grad(loss, list(of.student.parameters()), allow_unused=True)
    return [loss, *(g for g in grads if g is not None)]


def test_a_share_of_the_batch_counts_from_its_start() -> None:
    networks = bench(same=False)
    own = distillation(networks)
    z, y = networks.example
    rng = torch.Generator().manual_seed(3)
    z = torch.randn(6, *z.shape[1:], generator=rng)
    y = torch.arange(6) % (int(y.max()) + 1)
    part = taught(networks, own, (z, y), 4)
    alone = taught(networks, own, (z[:4], y[:4]), 4)
    whole = taught(networks, own, (z, y), 6)
    assert len(part) == len(whole) > 5
    for a, b in zip(part, alone, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(part[0], whole[0], rtol=1e-3)


def test_a_tap_without_the_batch_first_cannot_be_shared() -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Conv1d(2, 3, 3, padding=1)
            self.turn = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return self.turn(self.body(x).transpose(0, 2)).transpose(0, 2)

    teacher, student = Turned(), Turned()
    x = torch.randn(4, 2, 8)
    entry = Weighted.model_validate({"name": "feature", "pairs": ["turn"]})
    own = Distillation([entry], teacher=teacher, student=student, discriminator=None, example=(x,))
    found, wanted = student(x), teacher(x)
    given = {"inputs": (x,), "labels": None, "student_images": found}
    assert own.loss(**given, teacher_images=wanted) > 0
    found, wanted = student(x), teacher(x[:2])
    given["student_images"] = found
    with pytest.raises(ConfigError, match=r"tap 'turn' has shape \(8, 3, 4\).*distill_share=1"):
        own.loss(**given, teacher_images=wanted)


@pytest.mark.parametrize(
    ("share", "alone", "rows"),
    [(1.0, False, 8), (0.5, False, 4), (0.3, False, 3), (0.001, False, 1), (0.5, True, 8)],
)
def test_the_teacher_runs_on_the_share_that_the_recipe_says(
    share: float, alone: bool, rows: int
) -> None:
    generator, discriminator = networks()
    teacher, _ = networks()
    seen: list[int] = []
    teacher.register_forward_hook(lambda module, args, output: seen.append(len(output)))
    plan = recipe(distill_share=share, steps=2, finetune_steps=1)
    done = train(
        plan, generator=generator, discriminator=None if alone else discriminator,
        teacher=teacher, dataset=None if alone else images(), screen=Silent(),
    )  # fmt: skip
    assert seen[-3:] == [rows] * 3
    assert all(row["distill"] > 0 for row in done.history)


class Listening(nn.Module):
    """Keeps what it was given; learns one number, and brings one that is frozen."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self.pairs = pair_taps(context.teacher, context.student, context.example)
        self.own = nn.Parameter(torch.rand(1))
        self.frozen = nn.Parameter(torch.rand(1), requires_grad=False)
        self.batches: list[DistillBatch] = []
        self.kept: list[dict[str, Tensor]] = []

    def forward(self, batch: DistillBatch) -> Tensor:
        self.batches.append(batch)
        return self.own.sum()

    def shrink(self, kept: dict[str, Tensor]) -> None:
        self.kept.append(kept)


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> tuple[Bench, Distillation]:
    """Two of them on one pair of networks."""
    marked = Registry("distiller", given=("context",), factory=True)
    marked.register("pixel")(Listening)
    monkeypatch.setattr(protocol, "DISTILLERS", marked)
    of = bench(same=False)
    entry = Weighted.model_validate({"name": "pixel"})
    own = Distillation(
        [entry, entry],
        teacher=of.teacher,
        student=of.student,
        discriminator=None,
        example=of.example,
    )
    return of, own


def step(of: Bench, own: Distillation, seen: int | None = None) -> DistillBatch:
    inputs = of.example
    found = of.student(*inputs)
    with torch.no_grad():
        wanted = of.teacher(*(part[:seen] for part in inputs))
    own.loss(inputs=inputs, labels=inputs[1], student_images=found, teacher_images=wanted)
    return own.distillers[0].batches[-1]  # type: ignore[attr-defined]


def test_inputs_of_a_share_are_those_of_its_samples(
    listening: tuple[Bench, Distillation],
) -> None:
    of, own = listening
    batch = step(of, own, 1)
    assert all(torch.equal(a, b[:1]) for a, b in zip(batch.inputs, of.example, strict=True))
    assert torch.equal(batch.labels, of.example[1][:1])


def test_dead_channels_are_zero_until_they_are_cut(listening: tuple[Bench, Distillation]) -> None:
    of, own = listening
    whole = step(of, own).student
    own.mute(lambda path: torch.tensor([1, 2]))
    for tap, x in step(of, own).student.items():
        assert torch.equal(x[:, [1, 2]], whole[tap][:, [1, 2]])
        assert x[:, 0].abs().sum() == x[:, 3:].abs().sum() == 0
    own.shrink(lambda path: torch.tensor([1, 2]))
    assert all(k.tolist() == [1, 2] for d in own.distillers for k in d.kept[0].values())  # type: ignore[attr-defined]
    after = step(of, own).student
    assert all(torch.equal(after[tap], whole[tap]) for tap in whole), "the next cut begins anew"


def test_each_distiller_has_a_state_of_its_own(listening: tuple[Bench, Distillation]) -> None:
    _, own = listening
    names = [name for name, _ in own.parameters()]
    assert len(names) == 2, "what is frozen does not learn"
    saved = {k: v.clone() for k, v in own.state_dict().items()}
    assert len({float(v.detach()) for v in saved.values()}) == 4
    for distiller in own.distillers:
        for p in distiller.parameters():
            p.data.zero_()
    own.load_state_dict(saved)
    assert all(torch.equal(v, saved[k]) for k, v in own.state_dict().items())
