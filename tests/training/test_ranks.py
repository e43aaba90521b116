"""Two processes train one network: as one would, through cuts, stops and changes of their number.

All that two ranks do is done in one launch (`rehearsed`); one rank is this process.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed

from gancompress.training.checkpoint import checkpoints
from tests.training.ranks import ROOT, TAUGHT, furthest, ranks, run, users_loop

pytestmark = pytest.mark.skipif(not distributed.is_available(), reason="torch without distributed")

SYNCED = {"normed": True, "batch_norm": "synced"}
SOLVED: dict[str, Any] = {"events": [0.4, 0.7], "reconstruct": True, "samples": 16}
SEARCHED: dict[str, Any] = {
    "search": {"score": "output", "budget": 8, "levels": 1, "samples": 8}, "steps": 2,
    "shrink": {"events": []},
}  # fmt: skip
STOP = int(signal.SIGTERM)
ACCELERATE = find_spec("accelerate") is not None


@pytest.fixture(scope="module", autouse=True)
def doubles() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="module")
def alone(doubles: None) -> dict[str, Any]:
    return run()


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory, doubles: None) -> Any:
    folder = tmp_path_factory.mktemp("ranks")
    begun = str(folder / "begun")
    assert run(out=begun, stop=(0, 4, STOP))["exit"] == 75
    jobs: dict[str, tuple[str, dict[str, Any]]] = {
        "plain": ("run", {}),
        "synced": ("run", SYNCED),
        "in parts": ("run", TAUGHT | {"accumulate": 2}),
        "solved": ("run", {"shrink": SOLVED}),
        "searched": ("run", SEARCHED),
        "other recipe": ("run", {"differs": "recipe"}),
        "other data": ("run", {"differs": "data"}),
        "other weights": ("run", {"differs": "weights"}),
        "uneven": ("run", {"batch": 9}),
        "another run": ("run", {"out": begun, "seed": 7}),
        "users loop": ("users_loop", {}),
        "sharded": ("sharded", {}),
        "goes on": ("run", {"out": begun, "stop": (1, 5, STOP)}),
        "one dies": ("run", {"stop": (1, 3, 0), "out": str(folder / "died")}),
    }
    said, codes, texts = ranks(folder, 2, jobs)
    assert codes == [0, 9], "\n".join(texts)
    return said, codes, texts, folder


def test_two_ranks_equal_one_through_the_cuts(rehearsed: Any, alone: dict[str, Any]) -> None:
    first, second = rehearsed[0]["plain"]
    assert first["tensors"] == second["tensors"], "bit for bit among themselves"
    assert first["plan"] == alone["plan"]
    assert first["plan"] is not None
    assert furthest(first, alone) < 1e-5
    for mine, theirs in zip(first["history"], alone["history"], strict=True):
        assert mine == pytest.approx(theirs, abs=1e-5), "logged is the mean over the ranks"


def test_parts_equal_the_whole_on_one_rank_and_on_two(rehearsed: Any) -> None:
    """With distillers, which look at the first half of the batch."""
    whole = run(**TAUGHT)
    assert furthest(rehearsed[0]["in parts"][0], whole) < 1e-5
    assert furthest(run(**TAUGHT, accumulate=4), whole) < 1e-5


def test_two_ranks_solve_the_same_after_a_cut(rehearsed: Any) -> None:
    first, second = rehearsed[0]["solved"]
    assert first["tensors"] == second["tensors"], "bit for bit among themselves"
    assert furthest(first, run(shrink=SOLVED)) < 1e-5


def test_two_ranks_search_for_the_same_widths(rehearsed: Any) -> None:
    first, second = rehearsed[0]["searched"]
    alone = run(**SEARCHED)
    assert first["tensors"] == second["tensors"]
    assert first["plan"] == alone["plan"]
    assert furthest(first, alone) < 1e-5


def test_synced_norms_are_those_of_the_whole_batch(rehearsed: Any) -> None:
    whole = run(**SYNCED)
    first, second = rehearsed[0]["synced"]
    assert first["tensors"] == second["tensors"]
    assert furthest(first, whole) < 1e-5
    assert any("running_var" in name for name in first["tensors"])


@pytest.mark.parametrize("what", ["recipe", "data", "weights"])
def test_ranks_that_differ_are_found_before_the_first_step(rehearsed: Any, what: str) -> None:
    first, second = rehearsed[0][f"other {what}"]
    assert first["kind"] == second["kind"] == "ConfigError"
    assert f"rank 1: {what}" in first["error"]
    assert (first["again"], second["again"]) == (False, True), "it is printed once"


def test_a_batch_that_cannot_be_shared(rehearsed: Any) -> None:
    first, _ = rehearsed[0]["uneven"]
    assert "batch=9 cannot be shared by 2 ranks" in first["error"]
    assert "batch=8" in first["error"]


def test_what_rank_0_refuses_all_refuse(rehearsed: Any) -> None:
    for number, said in enumerate(rehearsed[0]["another run"]):
        assert said["kind"] == "ConfigError"
        assert "was started with seed = 0, not 7" in said["error"]
        assert said["again"] is (number == 1)


def test_one_then_two_then_one(rehearsed: Any, alone: dict[str, Any]) -> None:
    """Rank 1 alone had the signal; both stopped at one step, and one process ends the run."""
    first, second = rehearsed[0]["goes on"]
    assert (first["exit"], second["exit"]) == (75, 75)
    assert first["history"][-1]["step"] == 9
    end = run(out=str(rehearsed[3] / "begun"))
    assert end["exit"] == 0
    assert end["plan"] == alone["plan"]
    assert furthest(end, alone) < 1e-5


def test_one_dead_rank_stops_the_others_in_seconds(rehearsed: Any, alone: dict[str, Any]) -> None:
    said, codes, _, folder = rehearsed
    first, second = said["one dies"]
    assert second == {}
    assert codes[1] == 9
    assert first["kind"] == "RanksError"
    assert "rank 0 lost the others" in first["error"]
    assert first["seconds"] < 30
    assert len(checkpoints(folder / "died" / "ckpt")) == 0
    assert furthest(run(out=str(folder / "died")), alone) < 1e-5, "and the run can go on"


def test_a_loop_of_the_users_own_under_ddp(rehearsed: Any) -> None:
    first, second = rehearsed[0]["users loop"]
    assert first["tensors"] == second["tensors"]
    assert furthest(first, users_loop()) < 1e-5
    assert len(first["refused"]) == first["cuts"] > 0, "the wrapper of before each cut"
    assert "older than the cut of the generator" in first["refused"][0]


@pytest.mark.slow
@pytest.mark.skipif(not ACCELERATE, reason="accelerate is not installed")
def test_a_loop_under_accelerate(tmp_path: Path) -> None:
    said, codes, texts = ranks(tmp_path, 2, {"loop": ("users_loop", {"how": "accelerate"})})
    assert codes == [0, 0], "\n".join(texts)
    first, second = said["loop"]
    assert first["tensors"] == second["tensors"]
    assert furthest(first, users_loop()) < 1e-5
    assert len(first["refused"]) == first["cuts"] > 0


def test_shards_are_refused_by_name(rehearsed: Any) -> None:
    early, late = rehearsed[0]["sharded"][0]["said"]
    assert "FSDP2" in early
    assert "FSDP2" in late


@pytest.mark.slow
def test_a_random_rank_killed_at_random_instants() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.rank_kills", "12"],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all end like the whole run" in done.stdout
