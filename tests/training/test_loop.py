from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import nn

import gancompress as gc
from gancompress.errors import ConfigError, DataError, DivergedError, TargetError
from gancompress.masks.mask import ChannelMask
from gancompress.training.log import Silent
from gancompress.training.loop import train
from gancompress.training.start import TrainResult
from tests.training.nets import TinyGenerator, images, networks, recipe, train_recipe


def run(plan: object = None, **options: object) -> TrainResult:
    generator, discriminator = networks()
    given: dict = {
        "generator": generator, "discriminator": discriminator, "dataset": images(),
        "screen": Silent(),
    }  # fmt: skip
    return train(recipe() if plan is None else plan, **(given | options))


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_a_teacher_learns_something() -> None:
    result = run(train_recipe(steps=30, log_every=1, lr_decay=None))
    assert [line["step"] for line in result.history] == list(range(1, 31))
    assert result.history[-1]["d_loss"] < result.history[0]["d_loss"]
    assert result.plan is None
    assert result.exit_code == 0


def test_a_pruned_generator_is_plain_small_and_verified() -> None:
    generator, discriminator = networks()
    full = count(generator)
    result = run(generator=generator, discriminator=discriminator)
    assert count(result.generator) <= full / 2
    assert result.verified is not None
    assert result.verified["passed"]
    assert result.verified["max_error"] <= 1e-9
    assert type(result.generator) is TinyGenerator
    assert not any(isinstance(m, ChannelMask) for m in result.generator.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in result.generator.modules())
    assert not result.generator.training
    # The plan rebuilds the shape from the original class.
    assert result.plan is not None
    rebuilt = gc.cut(networks()[0], result.plan)
    rebuilt.load_state_dict(result.generator.state_dict())


def test_the_folder_of_a_run(tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = run(recipe(sample_every=8), out=out)
    assert result.run_dir == out
    assert {p.name for p in out.iterdir()} >= {
        "config.yaml", "command.txt", "env.json", "metrics.jsonl", "events.jsonl", "samples",
        "ckpt", "model",
    }  # fmt: skip
    assert not (out / "lock").exists()
    assert (out / "samples" / "step_000016.png").is_file()
    assert gc.load_recipe(out / "config.yaml") == recipe(sample_every=8)
    events = [line["event"] for line in lines(out / "events.jsonl")]
    assert "shrink" in events
    loaded = gc.load(lambda: networks()[0], out / "model")
    z, y = loaded.sample_inputs(4, torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(loaded.eval()(z, y), result.generator(z, y))


def test_live_shrink_changes_the_speed_and_not_the_result() -> None:
    # float64: the order of sums over more or fewer channels is all that differs.
    results = []
    for events in ([], [0.4, 0.7]):
        generator, discriminator = networks()
        plan = recipe(shrink={"events": events}, augment=[], penalty={"weight": 0.0})
        data = images()
        data.batch = lambda i, b=data.batch: (b(i)[0].double(), b(i)[1])  # type: ignore[method-assign]
        sampler = _doubled(generator)
        results.append(
            run(
                plan, generator=generator.double(), discriminator=discriminator.double(),
                dataset=data, sampler=sampler,
            )
        )  # fmt: skip
    uncut, cut = results
    for a, b in zip(uncut.history, cut.history, strict=True):
        for key in ("d_loss", "g_loss", "distill"):
            assert a[key] == pytest.approx(b[key], rel=1e-6, abs=1e-9), (a["step"], key)
    for name, tensor in uncut.generator.state_dict().items():
        torch.testing.assert_close(tensor, cut.generator.state_dict()[name], rtol=1e-6, atol=1e-9)


def _doubled(generator: nn.Module):
    from gancompress.data.inputs import InputSampler

    def draw(n: int, rng: torch.Generator):
        z, y = TinyGenerator.sample_inputs(generator, n, rng)  # type: ignore[arg-type]
        return z.double(), y

    return InputSampler(draw, ["double"], label_index=1, n_classes=3)


def test_data_free_and_without_a_discriminator(tmp_path: Path) -> None:
    free = run(dataset=None)
    assert free.verified is not None
    assert free.history[-1]["real"] == pytest.approx(free.history[-1]["real"])
    lonely = run(dataset=None, discriminator=None, out=tmp_path / "new")
    assert "no_discriminator" in (tmp_path / "new" / "events.jsonl").read_text()
    assert "d_loss" not in lonely.history[-1]
    assert lonely.history[-1]["distill"] > 0


@pytest.mark.parametrize("policy", ["teacher", "frozen", "scratch"])
def test_discriminator_policies(policy: str) -> None:
    generator, discriminator = networks()
    before = copy.deepcopy(discriminator.state_dict())
    run(
        recipe(discriminator={"policy": policy}, steps=3, finetune_steps=1),
        generator=generator,
        discriminator=discriminator,
    )
    same = all(torch.equal(before[k], v) for k, v in discriminator.state_dict().items())
    # `scratch` trains a fresh copy and leaves the one given alone.
    assert same == (policy != "teacher")


@pytest.mark.parametrize("init", ["narrow", "scratch"])
def test_a_narrow_student_lands_on_the_target(init: str) -> None:
    generator, discriminator = networks()
    plan = recipe(
        kind="distill", student={"init": init}, finetune_steps=0, shrink={"events": []}, steps=4
    )
    full = count(generator)
    result = run(plan, generator=generator, discriminator=discriminator)
    assert 0.9 * full / 2 <= count(result.generator) <= full / 2
    assert result.plan is not None


def test_more_discriminator_steps_and_bf16_run() -> None:
    plan = recipe(
        discriminator={"steps": 2}, precision="bf16", channels_last=True, steps=4, finetune_steps=2
    )
    result = run(plan)
    assert all(p.dtype == torch.float32 for p in result.generator.parameters())
    assert all(torch.isfinite(p).all() for p in result.generator.parameters())


def test_the_callers_random_state_is_left_alone() -> None:
    networks()
    generator, discriminator = networks()
    before = torch.get_rng_state()
    run(recipe(steps=2, finetune_steps=1), generator=generator, discriminator=discriminator)
    assert torch.equal(before, torch.get_rng_state())


def test_the_same_seed_gives_the_same_run_and_another_does_not() -> None:
    first, again, other = run(), run(), run(recipe(seed=1))
    assert first.history == again.history
    for a, b in zip(first.generator.parameters(), again.generator.parameters(), strict=True):
        assert torch.equal(a, b)
    assert first.history != other.history


def test_max_steps_shortens_both_phases() -> None:
    result = run(max_steps=8)
    assert result.history[-1]["step"] == 8
    assert result.verified is not None


class Poisoned:
    """A data set that returns NaN in chosen batches."""

    def __init__(self, bad: set[int]) -> None:
        self.inner, self.bad, self.calls = images(), bad, 0
        self.n_classes, self.channels, self.resolution = 3, 1, 8

    def __len__(self) -> int:
        return len(self.inner)

    def batch(self, indices: torch.Tensor):
        x, y = self.inner.batch(indices)
        if len(indices) == 8:  # a training batch, not the probe
            if self.calls in self.bad:
                x[0, 0, 0, 0] = float("nan")
            self.calls += 1
        return x, y


def test_a_single_bad_batch_is_skipped() -> None:
    result = run(dataset=Poisoned({4}))
    assert all(torch.isfinite(t).all() for t in result.generator.state_dict().values())
    assert result.verified is not None


def test_three_bad_batches_roll_back_and_go_on(tmp_path: Path) -> None:
    result = run(dataset=Poisoned({7, 8, 9}), out=tmp_path / "run")
    events = lines(tmp_path / "run" / "events.jsonl")
    kinds = [event["event"] for event in events]
    assert kinds.count("skip") == 3
    assert kinds.count("rollback") == 1
    assert result.exit_code == 0
    assert [line["step"] for line in result.history] == list(range(1, 17))
    assert all(torch.isfinite(t).all() for t in result.generator.state_dict().values())


def test_lasting_nan_diverges_and_poisons_no_checkpoint(tmp_path: Path) -> None:
    from gancompress.training.checkpoint import latest_checkpoint

    with pytest.raises(DivergedError, match="learning rate") as caught:
        run(dataset=Poisoned(set(range(6, 1000))), out=tmp_path / "run")
    assert caught.value.exit_code == 7
    found, _ = latest_checkpoint(tmp_path / "run" / "ckpt")
    assert found is not None
    for part in found.parts.values():
        assert all(torch.isfinite(t).all() for t in part.values() if t.is_floating_point())
    assert not (tmp_path / "run" / "lock").exists()
    told = (tmp_path / "run" / "log.txt").read_text().splitlines()
    assert "rolled back to step" in "".join(told)
    assert "DivergedError: losses are not finite" in told[-1]


@pytest.mark.parametrize("steps", [1, 2])
def test_a_run_too_short_to_roll_back_still_diverges(steps: int) -> None:
    with pytest.raises(DivergedError, match="not finite"):
        run(dataset=Poisoned(set(range(1000))), max_steps=steps)


class Exploding(TinyGenerator):
    """NaN in the forward pass of one training call, after the statistics were written."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.calls += 1
            if self.calls == 5:
                z = z * float("nan")
        return super().forward(z, y)


def test_nan_in_norm_statistics_is_undone() -> None:
    torch.manual_seed(0)
    result = run(train_recipe(steps=8), generator=Exploding())
    assert all(torch.isfinite(t).all() for t in result.generator.state_dict().values())


def test_what_does_not_go_together_is_said_before_step_0(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="out of reach"):
        run(recipe(target="params=500x"), out=tmp_path / "a")
    with pytest.raises(ConfigError, match="needs a discriminator"):
        run(train_recipe(), discriminator=None)
    with pytest.raises(ConfigError, match=r"discriminator\.real is data"):
        run(recipe(discriminator={"real": "data"}), dataset=None)
    with pytest.raises(ConfigError, match="nothing to learn from"):
        run(recipe(distill=[]), discriminator=None)
    with pytest.raises(ConfigError, match="no option 'beta'"):
        run(recipe(relaxation={"name": "ste", "beta": 2}))
    with pytest.raises(ConfigError, match="out="):
        run(resume="auto")
    with pytest.raises(ConfigError, match="no distiller named"):
        run(recipe(distill=[{"name": "feature1"}]))
    assert not (tmp_path / "a").exists()


def test_a_data_set_of_another_kind_is_said_before_step_0(tmp_path: Path) -> None:
    bad = images()
    bad._n_classes = 4
    with pytest.raises(DataError, match="3 classes; the data has 4"):
        run(dataset=bad, out=tmp_path / "a")
    assert not (tmp_path / "a").exists()
