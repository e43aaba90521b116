"""`torchrun -m gancompress`: two processes, one run folder, and a rank that dies on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from torch import distributed

from gancompress.errors import ConfigError, RanksError
from gancompress.training.distributed import launched, meeting
from tests.training.nets import recipe

ROOT = Path(__file__).parents[2]
DYING = """
import os, torch
from tests.training.nets import TinyGenerator

class Dying(TinyGenerator):
    '''On rank 1 the first process dies in its seventh training step.'''
    calls = 0
    def forward(self, z, y):
        first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and os.environ["RANK"] == "1"
        type(self).calls += self.training and len(z) == 4 and torch.is_grad_enabled()
        if first and self.calls == 7:
            os._exit(9)
        return super().forward(z, y)
"""


@pytest.mark.slow
def test_two_ranks_prune_and_go_on_after_one_has_died(tmp_path: Path) -> None:
    (tmp_path / "dying.py").write_text(DYING)
    plan = recipe(adversarial={"weight": 0.0}, distill=[{"name": "pixel"}], augment=[])
    plan_file = tmp_path / "plan.yaml"
    plan_file.write_text(yaml.safe_dump(plan.model_dump(mode="json", exclude_defaults=True)))
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts",
        "1", "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "-m", "gancompress",
        "prune", "dying:Dying", "--recipe", str(plan_file), "--out", "run", "--device", "cpu",
        "--json",
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # The first attempt told its error.
    summary = json.loads(done.stdout[done.stdout.rindex('{\n  "schema"') :])
    assert summary["verify"]["passed"]
    run = tmp_path / "run"
    assert "resuming at step 6" in (run / "log.txt").read_text()
    assert json.loads((run / "env.json").read_text())["ranks"] == 2
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 17)), "each step once, by one writer"
    assert done.stderr.count("resuming at step 6") == 1, "one rank talks"


def test_ranks_meet_anew_in_a_store_that_remembers_an_earlier_attempt() -> None:
    store, seconds = distributed.HashStore(), 20.0
    # Of the first attempt rank 0 never came.
    with pytest.raises(RanksError, match="rank 1 has waited"):
        meeting(store, 1, 3, 0.2)
    names = []
    for _ in range(2):
        with ThreadPoolExecutor(3) as pool:
            found = {pool.submit(meeting, store, number, 3, seconds) for number in range(3)}
        agreed = {future.result() for future in found}
        assert len(agreed) == 1
        names += agreed
    assert names[0] != names[1]


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"WORLD_SIZE": "two"}, "'two'"),
        ({"WORLD_SIZE": "2", "RANK": "2", "MASTER_ADDR": "here"}, "RANK 2"),
        ({"WORLD_SIZE": "2", "RANK": "1"}, "MASTER_ADDR None"),
    ],
)
def test_variables_that_make_no_sense(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], named: str
) -> None:
    for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    assert launched() == 1
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=named):
        launched()
