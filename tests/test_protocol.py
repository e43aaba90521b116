"""The protocol of comparisons, as programs hold it: seeds, words, tuning, what still counts."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.choose import choose
from benchmarks.experiment import CHOSEN, Experiment, chosen_words, entries, jobs
from benchmarks.frozen import DOCUMENT, check_frozen, check_seeds, code_hash, same_recipe
from benchmarks.held_out import RandomFeatures, held_out_figures
from benchmarks.paired import bootstrap_interval, compare, holm, signed_rank
from benchmarks.run import holds, result_path, state_of, write_json
from benchmarks.table import HELD_OUT, Row, primary, verdict
from gancompress.data.inputs import InputSampler
from gancompress.errors import ConfigError
from gancompress.models.embedded import embedded_generator
from tests.test_benchmarks import experiment, result


# -- words -----------------------------------------------------------------------------------------
def seeds(values: list[float]) -> dict[int, float]:
    return dict(enumerate(values, start=100))


def test_better_needs_enough_seeds_a_small_p_and_an_interval_without_nought() -> None:
    other = seeds([1.0 + 0.01 * i for i in range(12)])
    below = {s: v - 0.1 - 0.001 * (s % 7) for s, v in other.items()}
    noise = {s: v + (0.1 if s % 2 else -0.1) for s, v in other.items()}
    found = compare({"below": below, "noise": noise}, other)
    assert found["below"].word == "better"
    assert found["noise"].word == "not told apart"
    assert compare({"b": below}, other, lower_is_better=False)["b"].word == "worse"
    few = {s: other[s] for s in list(other)[:5]}
    assert compare({"below": below}, few)["below"].word == "not told apart"
    assert compare({"same": dict(other)}, other)["same"].p == 1.0
    assert compare({"none": {7: 1.0}}, other) == {}


def test_every_comparison_of_a_table_counts_for_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    other = seeds([0.0] * 7)
    one = {s: -1.0 - 0.1 * i for i, s in enumerate(other)}  # p = 2 / 128 alone
    assert compare({"a": one}, other)["a"].word == "better"
    crowd = {f"m{i}": {s: v + i * 1e-3 for s, v in one.items()} for i in range(6)}
    assert {c.word for c in compare(crowd, other).values()} == {"not told apart"}


def test_the_interval_is_the_bootstrap_of_the_mean() -> None:
    values = [1.0, 2.0, 4.0]
    means = sorted(float(np.mean(pick)) for pick in itertools.product(values, repeat=3))
    low, high = bootstrap_interval(values)
    assert min(means) <= low <= np.quantile(means, 0.06)
    assert np.quantile(means, 0.94) <= high <= max(means)
    assert bootstrap_interval([3.0]) == (-np.inf, np.inf)
    assert signed_rank([0.0, 0.0]) == 1.0


def held(job: Any, frechet: float, **more: Any) -> dict[str, Any]:
    return result(job, 9.0, held_out={"classifier": {"frechet": frechet}, "samples": 50}, **more)


def test_a_table_says_only_the_three_words_and_by_the_held_out_figure() -> None:
    made = jobs(experiment(stage="reporting", seeds=list(range(100, 112)), samples=50))
    rng = np.random.default_rng(0)
    rows = []
    for label, worse in (("a", 0.0), ("b", 0.5)):
        own = [j for j in made if j.label == label]
        rows.append(Row(label, tuple(held(j, 1 + worse + 0.01 * rng.normal()) for j in own)))
    assert primary([r for row in rows for r in row.results]) == HELD_OUT
    assert "**better** |" in verdict(rows, "a")
    assert "**worse** |" in verdict(rows, "b")
    assert verdict(rows, "c") == ""
    assert verdict(rows[:1], "a") == ""


# -- seeds and stages ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("stage", "used", "told"),
    [
        ("tuning", [0, 3], "uses seed 3"),
        ("reporting", [0, *range(100, 112)], "reporting seeds begin at 100"),
        ("reporting", [100, 101], "it needs 12"),
        ("earlier", [0, 100], "set stage: reporting"),
    ],
)
def test_seeds_of_another_stage_are_refused(stage: str, used: list[int], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        jobs(experiment(stage=stage, seeds=used))
    check_seeds("tuning", [0, 1, 2], "x")
    check_seeds("reporting", range(100, 112), "x")


def test_nothing_is_reported_before_the_protocol_is_committed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("benchmarks.frozen.DOCUMENT", DOCUMENT.parent / "never-committed.md")
    with pytest.raises(ConfigError, match="not committed as it stands"):
        check_frozen()


# -- tuning ----------------------------------------------------------------------------------------
def tuned(tmp_path: Path) -> Experiment:
    found = experiment(
        name="tuned", stage="tuning", seeds=[0, 1, 2],
        grid={"lr": [1e-3, 2e-3], "distill": [0.5, 2.0]},
    )  # fmt: skip
    labels = list(entries(found))
    for job in jobs(found):
        if job.label == "b@0.002,2" and job.seed == 2:
            continue  # one run of b is missing
        write_json(result_path(job, tmp_path), result(job, 1.0 + labels.index(job.label) % 3))
    return found


def test_every_method_is_tried_with_the_same_settings() -> None:
    found = experiment(grid={"lr": [1e-3, 2e-3], "distill": [0.5, 2.0]})
    assert list(entries(found))[:4] == ["a@0.001,0.5", "a@0.001,2", "a@0.002,0.5", "a@0.002,2"]
    plain = {job.label: job.recipe for job in jobs(experiment())}
    for job in jobs(found):
        method, _, setting = job.label.partition("@")
        lr, factor = map(float, setting.split(","))
        assert job.recipe.generator_optim.lr == lr
        assert job.recipe.generator_optim.betas == plain[method].generator_optim.betas
        for own, first in zip(job.recipe.distill, plain[method].distill, strict=True):
            assert own.weight == pytest.approx(factor * first.weight)


def test_the_best_setting_is_taken_and_an_incomplete_method_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, missing = choose(tuned(tmp_path), tmp_path)
    assert missing == ["b"]
    assert found["a"]["setting"] == "a@0.001,0.5"
    assert found["a"]["of"] == 4
    write_json(tmp_path / "tuned" / CHOSEN, found)
    monkeypatch.setattr("benchmarks.experiment.RESULTS", tmp_path)
    entry = experiment(runs={"a": {"recipe": "ppcd", "chosen": "tuned"}}).runs["a"]
    assert "generator_optim.lr=0.001" in chosen_words(entry, "a")
    with pytest.raises(ConfigError, match="nothing was chosen for it yet"):
        chosen_words(entry, "b")
    with pytest.raises(SystemExit, match="no tuning experiment"):
        choose(experiment(), tmp_path)


# -- what still counts -----------------------------------------------------------------------------
def test_a_new_field_with_its_default_does_not_make_a_result_older(tmp_path: Path) -> None:
    job = jobs(experiment())[0]
    stored = json.loads(json.dumps(job.recipe.model_dump(mode="json")))
    known = result(job) | {"key": "of fewer fields", "resolved": stored, "seed": job.seed}
    known["metrics"] = known["metrics"] | {"n": 100}
    for gone in ("search", "companions", "compile"):
        del stored[gone]
    del stored["feature_matching"]["to"]
    stored["summary"] = "in other words"
    assert holds(known, job)
    write_json(result_path(job, tmp_path), known)
    assert state_of(job, tmp_path) == "done"
    words = ["batch=4", "allocation=uniform"]
    set_now = jobs(experiment(overrides=words, runs={"a": {"recipe": "ppcd"}}))[0]
    assert not holds(known, set_now), "the field is set now"
    for change in (
        {"resolved": stored | {"mask_lr": 0.5}}, {"resolved": stored | {"of_old": 3}},
        {"seed": 1}, {"inputs": "other"}, {"real_images": 60_000},
        {"held_out": {"samples": 10_000}}, {"resolved": None},
    ):  # fmt: skip
        assert not holds(known | change, job), change
    assert holds(known | {"resolved": stored | {"of_old": None}}, job)
    assert not same_recipe([], stored)


def test_the_code_of_a_result_is_told_by_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("masks", "reporting"):
        (tmp_path / "gancompress" / package).mkdir(parents=True)
        (tmp_path / "gancompress" / package / "a.py").write_text("x = 1\n")
    monkeypatch.setattr("benchmarks.frozen.ROOT", tmp_path)
    before = code_hash()
    (tmp_path / "gancompress" / "reporting" / "a.py").write_text("x = 2\n")
    assert code_hash() == before, "a report decides no figure"
    (tmp_path / "gancompress" / "masks" / "a.py").write_text("x = 2\n")
    assert code_hash() != before


# -- held-out images -------------------------------------------------------------------------------
def test_the_teacher_is_near_images_that_no_student_trained_on() -> None:
    teacher = embedded_generator()
    sampler = InputSampler.of(teacher)
    found = held_out_figures(teacher, sampler, samples=200, seed=100)
    assert 0 < found["classifier"]["frechet"] < 1
    assert found["classifier"]["precision"] > 0.8
    assert "not embedded" in found["reference"]
    with torch.no_grad():
        weight = next(p for p in teacher.parameters() if p.dim() == 4)
        weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    broken = held_out_figures(teacher, sampler, samples=200, seed=100)
    assert broken["classifier"]["frechet"] > 3 * found["classifier"]["frechet"]


def test_random_features_are_the_same_everywhere_and_tell_images_apart() -> None:
    x = torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    random = torch.random.get_rng_state()
    first, _ = RandomFeatures()(x)
    again, _ = RandomFeatures()(x.expand(-1, 3, -1, -1))
    assert torch.equal(torch.random.get_rng_state(), random)
    assert first.shape == (4, 96)
    torch.testing.assert_close(first, again)
    assert float((first[0] - first[1]).abs().max()) > 1e-3
