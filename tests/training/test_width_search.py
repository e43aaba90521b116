"""Widths by a score: bounded, resumed without asking twice, the same by seed, faults by cause."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import gancompress as gc
from gancompress.errors import CheckpointError, ConfigError
from gancompress.plugins import loading
from gancompress.recipes.load import load_recipe
from gancompress.storage import read_sealed, sealed
from gancompress.training.log import Silent
from gancompress.training.loop import train
from tests.training.nets import images, networks, recipe
from tests.training.test_companions import events

OWN = '''
"""Scores of a user's own."""
CALLS = []
FAIL_AT = None

def near(asked):
    CALLS.append(1)
    if FAIL_AT is not None and len(CALLS) == FAIL_AT:
        raise RuntimeError("the judge went home")
    (batch,) = asked.batches(16)
    gap = asked.output(batch, asked.generator) - asked.output(batch, asked.teacher)
    return -gap.abs().mean()

def nan(asked):
    return float("nan")

def nothing(asked):
    pass

def many(asked):
    return asked.output(asked.batches(2)[0], asked.generator)

SIZE = 3
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    (tmp_path / "own_scores.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    gc.load_plugin("own_scores")
    yield sys.modules["own_scores"]
    del sys.modules["own_scores"]
    loading._typed.discard("own_scores")


def searched(out: Path | None = None, *, score: str = "own_scores:near", **more: Any) -> Any:
    generator, discriminator = networks()
    search = {"score": score, "budget": 14, "levels": 2} | more.pop("search", {})
    resume = more.pop("resume", None)
    made = recipe(search=search, steps=2, finetune_steps=1, shrink={"events": []}, **more)
    return train(
        made, generator=generator, discriminator=discriminator, dataset=images(), out=out,
        resume=resume, screen=Silent(),
    )  # fmt: skip


def test_the_score_is_asked_within_its_budget_and_the_size_is_met(own: Any, tmp_path: Path) -> None:
    result = searched(tmp_path / "run")
    (told,) = events(tmp_path / "run", "search")
    assert len(own.CALLS) == told["asked"] <= 14
    assert told["score"] >= told["by_groups"]
    assert told["uncut"] == 0.0
    assert result.plan is not None
    assert {n: w for n, w in result.plan.widths.items() if n in told["widths"]} == told["widths"]
    assert result.verified["passed"]
    whole = sum(p.numel() for p in networks()[0].parameters())
    assert 0.8 * whole / 2 <= sum(p.numel() for p in result.generator.parameters()) <= whole / 2
    # It is small from the first step on.
    assert result.history[0]["params"] <= whole / 2
    assert len(read_sealed(tmp_path / "run" / "search.json")["answers"]) == told["asked"]


def test_a_search_that_was_cut_off_asks_for_no_network_twice(own: Any, tmp_path: Path) -> None:
    whole = searched(tmp_path / "whole")
    asked, own.FAIL_AT = len(own.CALLS), 6
    own.CALLS.clear()
    with pytest.raises(
        ConfigError, match=r"RuntimeError: the judge went home at own_scores.py:9 in near"
    ):
        searched(tmp_path / "cut")
    own.FAIL_AT = None
    own.CALLS.clear()
    again = searched(tmp_path / "cut", resume="auto")
    assert len(own.CALLS) == asked - 5
    assert again.plan == whole.plan
    state = again.generator.state_dict()
    assert all(torch.equal(t, state[n]) for n, t in whole.generator.state_dict().items())
    own.CALLS.clear()
    searched(tmp_path / "cut", resume="auto")
    assert not own.CALLS, "of a finished run nothing is asked"


@pytest.mark.slow
def test_answers_of_other_weights_do_not_count_and_damage_is_found(
    own: Any, tmp_path: Path
) -> None:
    own.FAIL_AT = 4
    with pytest.raises(ConfigError):
        searched(tmp_path / "run")
    own.FAIL_AT = None
    own.CALLS.clear()
    searched(tmp_path / "other", seed=3)
    asked = len(own.CALLS)
    own.CALLS.clear()
    searched(tmp_path / "run", seed=3)  # nothing was learnt: other words count
    assert len(own.CALLS) == asked
    file = tmp_path / "broken" / "search.json"
    file.parent.mkdir()
    about = read_sealed(tmp_path / "run" / "search.json")["about"]
    for record in ({"about": about, "answers": {"uncut": "x"}}, {"about": about}):
        file.write_bytes(sealed(record))
        with pytest.raises(CheckpointError, match="Delete it"):
            searched(file.parent, seed=3)
    file.write_text(json.dumps({"about": about, "answers": {}, "sealed": True, "seal": "0"}))
    with pytest.raises(CheckpointError, match="damaged or was edited"):
        searched(file.parent, seed=3)


@pytest.mark.slow
def test_the_shipped_score_is_0_for_the_teacher_itself(own: Any, tmp_path: Path) -> None:
    searched(tmp_path / "run", score="output", search={"samples": 16})
    (told,) = events(tmp_path / "run", "search")
    assert told["uncut"] == 0.0
    assert told["by_groups"] <= told["score"] < 0


@pytest.mark.parametrize(
    ("score", "more", "said"),
    [
        ("own_scores:nan", {}, r"the generator \(uncut\) is nan; it must be a finite number"),
        ("own_scores:nothing", {}, "returned a NoneType; it must be one number"),
        pytest.param(
            "own_scores:many",
            {},
            "returned a Tensor; it must be one number",
            marks=pytest.mark.slow,
        ),
        ("own_scores:neer", {}, "own_scores has no 'neer'. Did you mean 'near'"),
        ("own_scores:SIZE", {}, "own_scores:SIZE is a int; it must be a function"),
        ("os:system", {}, "a recipe imports none: type --plugin os beside it"),
        ("outputs", {}, "no search score named 'outputs'. Did you mean 'output'"),
        ("output", {"sampels": 3}, "Did you mean 'samples'"),
        ("own_scores:near", {"samples": 3}, "takes no options"),
        ("own_scores:near", {"budget": 3}, "does not suffice: 3 groups need 5 networks"),
    ],
)
def test_faults_of_a_score_are_told_by_their_cause(
    own: Any, score: str, more: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        searched(tmp_path / "run", score=score, search=more)


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("narrow", ["search={score: output}"], "kind prune"),
        ("magnitude", ["search={score: output}", "allocation=uniform"], "leave one of them out"),
        ("magnitude", ["search={budget: 5}"], "score"),
        ("magnitude", ["search={score: 'a b'}"], "should match pattern"),
    ],
)
def test_words_that_do_not_go_together_are_refused(name: str, words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_recipe(name, words)
