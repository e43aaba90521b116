"""Experiments hold, results are shared by what decides them, tables say what is so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from benchmarks.experiment import (
    CHOSEN,
    FOLDER,
    Experiment,
    Job,
    entries,
    jobs,
    read_experiment,
)
from benchmarks.masking import compare
from benchmarks.record import RESULTS
from benchmarks.run import adopt, main, measure, result_path, state_of, write_json
from benchmarks.shrink import ALONE, AT_ONCE, LIVE, MASKS, summary
from benchmarks.table import Row, as_table, cell, picture, place_in_readme, read_rows, verdict
from gancompress.errors import ConfigError
from gancompress.training.start import TrainResult

EXPERIMENTS = sorted(p.stem for p in FOLDER.glob("*.yaml"))


def experiment(**changes: Any) -> Experiment:
    base = {
        "name": "small",
        "summary": "for tests",
        "seeds": [0, 1],
        "n": 100,
        "steps": 8,
        "overrides": ["batch=4"],
        "runs": {"a": {"recipe": "ppcd"}, "b": {"recipe": "narrow"}},
    }
    return Experiment.model_validate(base | changes)


def result(job: Job, frechet: float = 1.0, **changes: Any) -> dict[str, Any]:
    quality = {k: 0.5 for k in ("precision", "recall", "density", "coverage")}
    metrics = quality | {
        "frechet_classifier": frechet,
        "frechet_floor": 0.03,
        "conditional_accuracy": 0.9,
        "features": "test features",
        "real": {**quality, "conditional_accuracy": 0.94},
    }
    size = {"params": 100, "macs": 3_000_000, "latency": [{"median_ms": 1.0}], "metrics": metrics}
    return {
        "experiment": job.experiment.name, "label": job.label, "key": job.key, "wall_s": 3.0,
        "seed": job.seed, "git": "abc", "device": "cpu", "machine": "x86_64", "threads": 1,
        "versions": {"torch": "2.0"}, "side_by_side": 2, "images_seen": 32, **size,
        "teacher": {**size, "params": 520, "macs": 9_000_000},
    } | changes  # fmt: skip


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_resolves_and_may_be_compared(name: str) -> None:
    found = read_experiment(name)
    assert found.name == name
    waits = [e.chosen for e in found.runs.values() if e.chosen]
    if any(not (RESULTS / chosen / CHOSEN).is_file() for chosen in waits):
        with pytest.raises(ConfigError, match="nothing was chosen for it yet"):
            jobs(found)
        words = {label: e.model_copy(update={"chosen": None}) for label, e in found.runs.items()}
        found = found.model_copy(update={"runs": words})
    made, labels = jobs(found), entries(found)
    assert len(made) == len(labels) * len(found.seeds)
    equal = [job for job in made if not labels[job.label].as_shipped]
    assert len({job.images for job in equal or made}) == 1
    assert len({job.recipe.target for job in made} - {None}) == 1
    assert len({job.recipe.seed for job in made}) == len(found.seeds) >= 3


def test_the_comparison_has_all_recipes_on_seeds_that_nothing_was_chosen_by() -> None:
    compared = {(j.label, j.seed) for j in jobs(read_experiment("compare"))}
    assert {label for label, _ in compared} == {
        "ppcd", "dmad", "magnitude", "random", "narrow", "scratch", "torch-pruning",
    }  # fmt: skip
    ablated = {(j.label, j.seed): j.key for j in jobs(read_experiment("ablation"))}
    assert {seed for _, seed in ablated}.isdisjoint(seed for _, seed in compared)
    assert len(set(ablated.values())) == len(ablated)


def test_pruning_and_other_recipes_get_the_same_steps() -> None:
    by_label = {job.label: job.recipe for job in jobs(experiment())}
    assert (by_label["a"].steps, by_label["a"].finetune_steps) == (6, 2)
    assert (by_label["b"].steps, by_label["b"].finetune_steps) == (8, 0)


@pytest.mark.parametrize("override", ["batch=8", "steps=9", "discriminator.steps=2"])
def test_runs_that_see_more_images_are_refused(override: str) -> None:
    unfair = {"a": {"recipe": "narrow"}, "b": {"recipe": "narrow", "overrides": [override]}}
    with pytest.raises(ConfigError, match="cannot be compared"):
        jobs(experiment(runs=unfair))


def test_errors_name_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no experiment 'comparee'.*compare"):
        read_experiment("comparee")
    file = tmp_path / "x.yaml"
    file.write_text("name: x\nsummary: y\nseeds: []\nn: 100\nsteps: 1\nruns: {a: {recip: ppcd}}\n")
    with pytest.raises(ConfigError) as error:
        read_experiment(str(file))
    assert "seeds" in str(error.value)
    assert "runs.a.recip" in str(error.value)
    with pytest.raises(ConfigError, match="no recipe 'pcpd'.*ppcd"):
        jobs(experiment(runs={"a": {"recipe": "pcpd"}}))


def test_a_result_is_done_until_what_decides_it_changes(tmp_path: Path) -> None:
    job = jobs(experiment())[0]
    assert state_of(job, tmp_path) == "missing"
    write_json(result_path(job, tmp_path), result(job))
    assert state_of(job, tmp_path) == "done"
    assert not list(tmp_path.rglob("*.part"))
    for change in ({"n": 200}, {"overrides": ["batch=4", "augment=[]"]}, {"steps": 12}):
        assert state_of(jobs(experiment(**change))[0], tmp_path) == "changed"
    # A summary is only words.
    assert state_of(jobs(experiment(summary="other"))[0], tmp_path) == "done"


def test_the_same_run_in_another_experiment_is_taken_over(tmp_path: Path) -> None:
    job = jobs(experiment())[0]
    other = jobs(experiment(name="other", runs={"c": {"recipe": "ppcd"}}))
    assert not adopt(other[0], tmp_path)
    write_json(result_path(job, tmp_path), result(job))
    assert adopt(other[0], tmp_path)
    assert not adopt(other[1], tmp_path)  # another seed
    taken = json.loads(result_path(other[0], tmp_path).read_text())
    assert (taken["experiment"], taken["label"]) == ("other", "c")
    assert taken["adopted_from"] == "small/a--s0.json"
    assert state_of(other[0], tmp_path) == "done"


def test_other_files_among_the_results_do_no_harm(tmp_path: Path) -> None:
    write_json(tmp_path / "zoo" / "zoo.json", {"benchmark": "zoo", "rows": []})
    assert not adopt(jobs(experiment())[0], tmp_path)


def test_a_run_that_was_stopped_leaves_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    job = jobs(experiment())[0]
    stopped = TrainResult(nn.Identity(), None, [{"step": 3}], None, exit_code=75)
    monkeypatch.setattr("benchmarks.run.train", lambda *_, **__: stopped)
    monkeypatch.setattr("benchmarks.run.figures", lambda *_: pytest.fail("it was measured"))
    with pytest.raises(SystemExit) as stop:
        measure(job, 1, 1)
    assert stop.value.code == 75


def test_pending_computes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.run._child", lambda *_: pytest.fail("it ran"))
    file = tmp_path / "x.yaml"
    file.write_text(experiment(name="never-run").model_dump_json())
    main([str(file), "--pending"])
    shown = capsys.readouterr().out
    assert "0 done, 4 pending" in shown
    assert "never-run/b--s1: missing" in shown
    with pytest.raises(SystemExit, match="no run 'z'; it has: a, b"):
        main([str(file), "--only", "z"])


def test_the_table_has_mean_and_spread_the_teacher_and_real_images(tmp_path: Path) -> None:
    small = experiment()
    for job, frechet in zip(jobs(small), (1.0, 0.4, 2.0, 0.6), strict=True):
        write_json(result_path(job, tmp_path), result(job, frechet))
    rows = read_rows(small, tmp_path)
    assert [row.label for row in rows] == ["b", "a"]  # the best first
    lines = as_table(rows).splitlines()
    assert lines[0].count("|") == lines[2].count("|") == lines[5].count("|")
    assert "0.500 ± 0.141" in lines[2]
    assert "1.500 ± 0.707" in lines[3]
    assert "`b` †" in lines[2], "no result of these says which code it is of"
    assert "teacher" in lines[4]
    assert "520" in lines[4]
    assert "0.03" in lines[5]
    assert "0.940" in lines[5]
    assert "older than the code" in lines[-1]
    # Two seeds tell nothing apart, however far the means.
    said = verdict(rows, "a")
    assert (
        "| `b` | 2 | -1.000 | -1.400 to -0.600 | 0.5 | 1.00 | 1.00 | **not told apart** |" in said
    )
    picture(small, rows, tmp_path / "images" / "p.png")
    assert (tmp_path / "images" / "p.png").read_bytes().startswith(b"\x89PNG")


def test_cells() -> None:
    assert cell([1.0, 2.0, 3.0], 2) == "2.00 ± 1.00"
    assert cell([5.0], 1) == "5.0"
    assert cell([55_076.0, 55_076.0], 0) == "55,076"
    assert Row("x", ()).results == ()


def test_the_readme_keeps_everything_but_the_table(tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    file.write_text("above\n<!-- results:begin -->\nold\n<!-- results:end -->\nbelow\n")
    place_in_readme("new\n", file)
    place_in_readme("newer\n", file)
    assert file.read_text() == (
        "above\n<!-- results:begin -->\nnewer\n<!-- results:end -->\nbelow\n"
    )
    file.write_text("no markers")
    with pytest.raises(SystemExit, match="no markers"):
        place_in_readme("new\n", file)


def test_committed_results_carry_their_protocol() -> None:
    for name in EXPERIMENTS:
        for path in (RESULTS / name).glob("*.json"):
            found = json.loads(path.read_text())
            assert path.name == f"{found['label']}--s{found['seed']}.json"
            assert found["experiment"] == name
            assert found["last"]["step"] * found["resolved"]["batch"] == found["images_seen"]
            assert found["metrics"]["n"] == found["teacher"]["metrics"]["n"]
            assert {"git", "device", "versions", "images_seen", "wall_s", "macs"} <= found.keys()
            assert all({"batch", "threads", "iqr_ms"} <= row.keys() for row in found["latency"])
            assert 5.2 <= found["teacher"]["params"] / found["params"] <= 5.2 * 1.02


@pytest.mark.slow
def test_masking_measures_both_steps() -> None:
    found = compare("fashion32", pairs=2)
    assert found["plain_ms"] > 0
    assert 0.5 < found["time_ratio"] < 3
    # Scores and gates are vectors: they must not show in the memory.
    assert 1.0 <= found["memory_ratio"] < 1.05


def test_live_shrink_is_summed_up_pair_by_pair() -> None:
    def row(kind: str, wall: float, frechet: float) -> dict[str, Any]:
        quality = {"frechet_classifier": frechet, "conditional_accuracy": 0.5, "recall": 0.5}
        return {"kind": kind, "wall_s": wall, "cpu_s": 2 * wall, **quality}

    first = [row(LIVE, 6, 1.0), row(ALONE, 9, 9.0), row(MASKS, 10, 2.0), row(AT_ONCE, 4, 9.0)]
    second = [row(AT_ONCE, 12, 9.0), row(MASKS, 20, 4.0), row(ALONE, 16, 9.0), row(LIVE, 14, 3.0)]
    found = summary([*first, *second])
    assert found["wall_s_ratio"] == found["cpu_s_ratio"] == 0.65
    assert found["wall_s_ratio_alone"] == found["cpu_s_ratio_alone"] == 0.85
    assert found["wall_s_floor"] == found["cpu_s_floor"] == 0.5
    assert found["frechet_classifier_live"] == 2.0
    assert found["frechet_classifier_still"] == 3.0
