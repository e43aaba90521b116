"""What each number of a recipe does to a step, seen from outside: weights, gradients, calls.

With ``betas: [0, 0]`` Adam moves every weight by exactly its learning rate, so that weights kept
after each step tell the rates that were used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gancompress.data.arrays import ArrayDataset
from gancompress.data.inputs import InputSampler
from gancompress.masks import IMPORTANCES
from gancompress.recipes.schema import Recipe
from gancompress.registry import Registry
from gancompress.training import augment as augmenting
from gancompress.training.log import Silent
from gancompress.training.loop import train
from tests.training.nets import CLASSES, TinyDiscriminator, TinyGenerator, images, networks, recipe

SIGN = {"betas": [0.0, 0.0], "eps": 1e-30}
PLAIN: dict[str, Any] = {
    "kind": "train",
    "target": None,
    "finetune_steps": 0,
    "shrink": {"events": []},
    "distill": [],
    "augment": [],
    "lr_decay": None,
    "log_every": 1,
    "sample_every": 0,
    "checkpoint_every": 0,
    "steps": 6,
}


class After(Silent):
    """Calls ``look`` after each step and keeps what it returns."""

    def __init__(self, look: Callable[[], Any]) -> None:
        self.look, self.seen = look, [look()]

    def update(self, line: object) -> None:
        self.seen.append(self.look())


class Recording(TinyDiscriminator):
    """Keeps, for each call while it trains, what it was shown and whether it could learn."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Tensor, Tensor, bool]] = []

    def forward(self, images: Tensor, y: Tensor) -> Tensor:
        if self.training:
            learns = any(p.requires_grad for p in self.parameters())
            self.calls.append((images.detach().clone(), y.clone(), learns))
        return super().forward(images, y)


def weights(module: nn.Module) -> Callable[[], Tensor]:
    return lambda: nn.utils.parameters_to_vector(module.parameters()).detach().double().clone()


def moved(seen: list[Tensor]) -> list[float]:
    """The largest move of any weight in each step: its learning rate."""
    return [float((b - a).abs().max()) for a, b in zip(seen, seen[1:], strict=False)]


def run(plan: Recipe, look: Callable[[nn.Module, nn.Module], Any], **given: Any) -> list[Any]:
    generator, discriminator = networks()
    discriminator = given.pop("discriminator", discriminator)
    screen = After(lambda: look(generator, discriminator))
    options = {"dataset": images(), **given}
    train(plan, generator=generator, discriminator=discriminator, screen=screen, **options)
    return screen.seen


def test_learning_rates_are_those_of_the_recipe_and_fall_to_zero() -> None:
    plan = recipe(
        **PLAIN | {"lr_decay": 0.5},
        generator_optim={"lr": 1e-3, **SIGN},
        discriminator_optim={"lr": 5e-3, **SIGN},
    )
    seen = run(plan, lambda g, d: (weights(g)(), weights(d)()))
    assert moved([g for g, _ in seen]) == pytest.approx(
        [1e-3, 1e-3, 1e-3, 1e-3, 1e-3 * 2 / 3, 1e-3 / 3], rel=1e-3
    )
    assert moved([d for _, d in seen]) == pytest.approx(
        [5e-3, 5e-3, 5e-3, 5e-3, 5e-3 * 2 / 3, 5e-3 / 3], rel=1e-3
    )


def test_masks_have_a_learning_rate_of_their_own() -> None:
    plan = recipe(
        mask_lr=0.03, generator_optim={"lr": 1e-3, **SIGN}, lr_decay=None, shrink={"events": []}
    )

    def scores(g: nn.Module, d: nn.Module) -> Tensor:
        found = [p.detach().double().flatten() for n, p in g.named_parameters() if "scores" in n]
        return torch.cat(found) if found else torch.empty(0)

    seen = run(plan, scores)
    first = [s for s in seen if len(s)][:2]
    assert float((first[1] - first[0]).abs().max()) == pytest.approx(0.03, rel=1e-3)


def test_average_copies_up_to_its_start_and_follows_by_its_decay_from_there() -> None:
    plan = recipe(**PLAIN | {"ema": {"decay": 0.8, "start": 3}}, generator_optim={"lr": 1e-2})
    generator, discriminator = networks()
    screen = After(weights(generator))
    result = train(
        plan, generator=generator, discriminator=discriminator, dataset=images(), screen=screen
    )
    expected = screen.seen[3]
    for now in screen.seen[4:]:
        expected = 0.8 * expected + 0.2 * now
    got = weights(result.generator)()
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
    assert (got - screen.seen[-1]).abs().max() > 1e-4


def gradient(network: nn.Module) -> Tensor | None:
    found = [p.grad.flatten().double() for p in network.parameters() if p.grad is not None]
    return torch.cat(found).clone() if found else None


def assert_times(factor: float, found: list[Tensor]) -> None:
    most = float(found[0].abs().max())
    assert most > 0
    torch.testing.assert_close(found[1], factor * found[0], rtol=1e-4, atol=1e-5 * most)


@pytest.mark.parametrize(
    ("low", "high"),
    [
        ({"adversarial": {"weight": 1.0}}, {"adversarial": {"weight": 3.0}}),
        (
            {"adversarial": {"weight": 0.0}, "distill": [{"name": "pixel", "weight": 1.0}]},
            {"adversarial": {"weight": 0.0}, "distill": [{"name": "pixel", "weight": 3.0}]},
        ),
    ],
    ids=["adversarial", "distiller"],
)
def test_weight_of_a_term_scales_its_gradient(low: dict, high: dict) -> None:
    teacher, _ = networks(seed=5)
    kind = {**PLAIN, "kind": "distill" if "distill" in low else "train", "steps": 1}
    found = []
    for change in (low, high):
        plan = recipe(**kind | change, student={"init": "teacher"})
        given = {"teacher": teacher} if "distill" in low else {}
        found.append(run(plan, lambda g, d: gradient(g), **given)[-1])
    assert_times(3, found)


def test_weight_of_the_penalty_scales_what_the_masks_learn_from() -> None:
    found = []
    for weight in (0.1, 0.4):
        plan = recipe(
            adversarial={"weight": 0.0},
            distill=[{"name": "pixel", "weight": 0.0}],
            penalty={"name": "cost", "weight": weight},
            shrink={"events": []},
        )

        def scores(g: nn.Module, d: nn.Module) -> Tensor | None:
            grads = [p.grad for n, p in g.named_parameters() if n.endswith("scores")]
            known = [x.flatten() for x in grads if x is not None]
            return torch.cat(known).clone() if known else None

        found.append(next(s for s in run(plan, scores) if s is not None))
    assert_times(4, found)


def test_discriminator_learns_in_its_own_update_only() -> None:
    seeing = Recording()
    run(recipe(**PLAIN), lambda g, d: None, discriminator=seeing)
    assert [learns for _, _, learns in seeing.calls] == [True, True, False] * 6


def test_real_images_come_with_their_labels_and_fakes_with_theirs() -> None:
    data = ArrayDataset(
        torch.full((16, 1, 8, 8), 255, dtype=torch.uint8), torch.full((16,), 2), CLASSES
    )
    sampler = InputSampler(
        lambda n, rng: (torch.randn(n, 6, generator=rng), torch.zeros(n, dtype=torch.int64)),
        ["test"],
        label_index=1,
        n_classes=CLASSES,
    )
    seeing = Recording()
    run(recipe(**PLAIN), lambda g, d: None, discriminator=seeing, dataset=data, sampler=sampler)
    for at, (pictures, labels, _) in enumerate(seeing.calls):
        real = at % 3 == 0
        assert bool((pictures == 1.0).all()) is real
        assert labels.tolist() == [2 if real else 0] * len(labels)


def test_everything_that_the_discriminator_sees_is_augmented(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    marked = Registry("augmentation", given=("images", "rng"))
    marked.register("color")(lambda images, rng: images + 10)
    monkeypatch.setattr(augmenting, "AUGMENTATIONS", marked)
    seeing = Recording()
    run(recipe(**PLAIN | {"augment": ["color"]}), lambda g, d: None, discriminator=seeing)
    assert len(seeing.calls) == 18
    assert all(pictures.min() > 8 for pictures, _, _ in seeing.calls)


def test_latents_differ_from_step_to_step_and_images_come_in_another_order_each_epoch() -> None:
    drawn: list[Tensor] = []
    picked: list[Tensor] = []
    data = images(16)

    class Watched(TinyGenerator):
        def forward(self, z: Tensor, y: Tensor) -> Tensor:
            if self.training:
                drawn.append(z.clone())
            return super().forward(z, y)

    class Listing:
        n_classes, channels, resolution = CLASSES, 1, 8

        def __len__(self) -> int:
            return len(data)

        def batch(self, indices: Tensor) -> tuple[Tensor, Tensor | None]:
            picked.append(indices.clone())
            return data.batch(indices)

    plan = recipe(**PLAIN | {"steps": 8})
    torch.manual_seed(0)
    _, discriminator = networks()
    train(
        plan,
        generator=Watched(),
        discriminator=discriminator,
        dataset=Listing(),  # type: ignore[arg-type]
        screen=Silent(),
    )
    assert len(drawn) == 8
    assert all(not torch.equal(a, b) for a, b in zip(drawn, drawn[1:], strict=False))
    order = torch.cat([p for p in picked if len(p) == plan.batch])
    epochs = [order[i : i + 16].tolist() for i in range(0, 64, 16)]
    assert all(sorted(e) == list(range(16)) for e in epochs)
    assert len({tuple(e) for e in epochs}) == 4


def test_the_teacher_answers_the_first_share_of_the_batch() -> None:
    asked: list[int] = []

    class Teacher(TinyGenerator):
        def forward(self, z: Tensor, y: Tensor) -> Tensor:
            asked.append(len(z))
            return super().forward(z, y)

    plan = recipe(
        **PLAIN | {"kind": "distill", "distill": [{"name": "pixel"}], "distill_share": 0.5},
        student={"init": "teacher"},
    )
    run(plan, lambda g, d: None, teacher=Teacher())
    assert asked[-6:] == [plan.batch // 2] * 6


def test_one_bad_step_while_masks_learn_leaves_no_trace_in_their_choice() -> None:
    calls: list[int] = []  # not of the network: what a bad step leaves in it is put back

    class Once(TinyGenerator):
        def forward(self, z: Tensor, y: Tensor) -> Tensor:
            out = super().forward(z, y)
            if self.training and torch.is_grad_enabled():
                calls.append(1)
                return out * float("nan") if len(calls) == 4 else out
            return out

    torch.manual_seed(0)
    _, discriminator = networks()
    plan = recipe(importance="sensitivity" if "sensitivity" in IMPORTANCES else "scores")
    result = train(
        plan,
        generator=Once(),
        discriminator=discriminator,
        dataset=images(),
        screen=Silent(),
    )
    assert len(calls) > 6
    assert result.exit_code == 0
    assert all(bool(t.isfinite().all()) for t in result.generator.state_dict().values())
    assert result.verified is not None
    assert result.verified["passed"]


def test_a_teacher_that_is_not_given_is_a_copy_in_eval_mode_of_what_is_compressed() -> None:
    modes: list[tuple[bool, bool]] = []

    class Watched(TinyGenerator):
        def forward(self, z: Tensor, y: Tensor) -> Tensor:
            modes.append((self.training, self.conv1.weight.requires_grad))
            return super().forward(z, y)

    torch.manual_seed(0)
    generator = Watched()
    plan = recipe(
        **PLAIN | {"kind": "distill", "distill": [{"name": "pixel"}], "steps": 4},
        student={"init": "teacher"},
        generator_optim={"lr": 0.05},
    )
    result = train(
        plan, generator=generator, discriminator=networks()[1], dataset=images(), screen=Silent()
    )
    assert modes[-2:] == [(True, True), (False, False)], "the student learns, the teacher answers"
    assert result.history[-1]["distill"] > 0
    assert not result.generator.training
    assert not any(part._forward_hooks for part in generator.modules()), "no hook is left behind"
    assert all(p.requires_grad for p in result.generator.parameters())


def test_noise_that_the_networks_draw_differs_from_step_to_step_and_by_the_seed() -> None:
    drawn: list[float] = []

    class Noisy(TinyDiscriminator):
        def forward(self, images: Tensor, y: Tensor) -> Tensor:
            if self.training:
                drawn.append(float(torch.rand(())))
            return super().forward(images, y)

    for seed in (0, 0, 1):
        torch.manual_seed(3)
        run(recipe(**PLAIN | {"seed": seed}), lambda g, d: None, discriminator=Noisy())
    first, again, other = drawn[:18], drawn[18:36], drawn[36:]
    assert first == again
    assert len(set(first) | set(other)) == 36


def test_each_turn_of_the_discriminator_has_a_batch_of_its_own() -> None:
    seeing = Recording()
    plan = recipe(**PLAIN | {"steps": 3}, discriminator={"steps": 2})
    run(plan, lambda g, d: None, discriminator=seeing, dataset=images(48))
    assert len(seeing.calls) == 3 * 5
    real = [pictures for at, (pictures, _, _) in enumerate(seeing.calls) if at % 5 in (0, 2)]
    # Six batches of eight: every one of the 48 images once.
    assert len(torch.cat(real).unique(dim=0)) == 48


@pytest.mark.parametrize("real", ["teacher", "data"])
def test_what_counts_as_real_is_what_the_recipe_says(real: str) -> None:
    class White(TinyGenerator):
        def forward(self, z: Tensor, y: Tensor) -> Tensor:
            return super().forward(z, y) * 0 + 1

    seeing = Recording()
    plan = recipe(
        **PLAIN | {"kind": "distill", "distill": [{"name": "pixel"}], "steps": 2},
        student={"init": "teacher"},
        discriminator={"real": real},
    )
    run(plan, lambda g, d: None, discriminator=seeing, teacher=White())
    assert [bool((p == 1).all()) for p, _, _ in seeing.calls[::3]] == [real == "teacher"] * 2


def test_the_discriminator_tells_real_images_from_fakes() -> None:
    white = ArrayDataset(
        torch.full((16, 1, 8, 8), 255, dtype=torch.uint8), torch.arange(16) % CLASSES, CLASSES
    )
    plan = recipe(
        **PLAIN | {"steps": 20}, generator_optim={"lr": 1e-9}, discriminator_optim={"lr": 1e-2}
    )
    generator, discriminator = networks()
    result = train(
        plan, generator=generator, discriminator=discriminator, dataset=white, screen=Silent()
    )
    assert result.history[-1]["real"] > result.history[-1]["fake"] + 1


def test_gradients_of_one_step_do_not_reach_the_next() -> None:
    still = {"lr": 1e-12}
    plan = recipe(**PLAIN | {"steps": 12, "generator_optim": still, "discriminator_optim": still})
    seen = run(plan, lambda g, d: (gradient(g), gradient(d)))[1:]
    for rows in zip(*seen, strict=True):
        sizes = [float(g.norm()) for g in rows if g is not None]
        assert len(sizes) == 12
        assert sizes[-1] < 4 * sizes[0], "they add up"


class Told(Silent):
    def __init__(self) -> None:
        self.told: list[str] = []

    def event(self, text: str) -> None:
        self.told.append(text)


def test_channels_go_by_the_schedule_and_cuts_come_at_their_events() -> None:
    generator, discriminator = networks()
    screen = Told()
    plan = recipe(schedule={"name": "linear", "start": 0.0, "end": 0.75}, distill=[])
    result = train(
        plan, generator=generator, discriminator=discriminator, dataset=images(), screen=screen
    )
    cuts = [text.partition(":")[0] for text in screen.told if ": cut to" in text]
    assert cuts == ["step 5", "step 9"], "0.4 and 0.7 of the 12 steps under masks"
    sizes = {int(row["step"]): row["params"] for row in result.history}
    full = sum(p.numel() for p in networks()[0].parameters())
    for step in range(1, 10):
        assert sizes[step] <= full * (1 - 0.5 * step / 9) + 1, "half is gone at step 9"
    assert sizes[3] > full * 0.6
    assert "step 12: the masks are gone" in screen.told
    assert result.verified is not None
    assert result.verified["cuts"] == 2
