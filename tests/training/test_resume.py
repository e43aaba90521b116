"""A run that was stopped, killed or damaged goes on to the very same end."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from gancompress.errors import CheckpointError, ConfigError
from gancompress.recipes.schema import Recipe
from gancompress.storage import sealed
from gancompress.surgery.cut_record import record_of
from gancompress.training.log import Silent
from gancompress.training.loop import train
from gancompress.training.start import TrainResult
from tests.training.nets import images, networks, recipe, train_recipe

PLANS = {
    "prune": recipe(),
    "narrow": recipe(shrink={"events": [0.4, 0.7], "discriminator": True}),
    "train": train_recipe(),
    "distill": recipe(
        kind="distill", student={"init": "narrow"}, finetune_steps=0, shrink={"events": []}
    ),
}


def go(plan: Recipe, out: Path | None, **options: object) -> TrainResult:
    generator, discriminator = networks()
    given: dict = {
        "generator": generator, "discriminator": discriminator, "dataset": images(),
        "screen": Silent(), "out": out,
    }  # fmt: skip
    return train(plan, **(given | options))


def digest(result: TrainResult) -> str:
    """Return hashes of the tensors of the delivered generator, of its cuts, and of the history."""
    tensors = hashlib.sha256()
    for name, tensor in sorted(result.generator.state_dict().items()):
        tensors.update(name.encode() + str(tuple(tensor.shape)).encode())
        tensors.update(tensor.contiguous().numpy().tobytes())
    history = hashlib.sha256(repr(result.history).encode())
    record = record_of(result.generator)
    stages = () if record is None else range(len(record.stages))
    cuts = [(sorted(record.shapes_at(k).items()), record.plan_from(k).to_json()) for k in stages]
    cut = hashlib.sha256(repr(cuts).encode())
    return f"tensors {tensors.hexdigest()} cuts {cut.hexdigest()} history {history.hexdigest()}"


class Interrupting:
    """The images, and a signal to our own process when batch number ``at`` is asked for."""

    def __init__(self, at: int, number: int) -> None:
        self.inner, self.left, self.number = images(), at, number
        self.n_classes, self.channels, self.resolution = 3, 1, 8

    def __len__(self) -> int:
        return len(self.inner)

    def batch(self, indices: torch.Tensor):
        if len(indices) == 8:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), self.number)
        return self.inner.batch(indices)


@pytest.fixture(scope="module")
def whole() -> dict[str, str]:
    return {name: digest(go(plan, None)) for name, plan in PLANS.items()}


@pytest.mark.parametrize("name", sorted(PLANS))
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_at_a_random_step_is_resumed_bit_for_bit(
    tmp_path: Path, whole: dict[str, str], name: str, number: int
) -> None:
    plan = PLANS[name]
    rng = random.Random(f"{name}{number}")
    total = plan.steps + plan.finetune_steps
    out = tmp_path / "run"
    at = rng.randrange(1, total)
    result = go(plan, out, dataset=Interrupting(at, number))
    assert result.exit_code == (130 if number == signal.SIGINT else 75)
    assert not (out / "model").exists()
    assert result.history[-1]["step"] == at
    end = go(plan, out, resume="auto")
    assert end.exit_code == 0
    assert digest(end) == whole[name]


@pytest.mark.parametrize("name", ["prune", "narrow"])
@pytest.mark.parametrize("at", [4, 5, 8, 9, 11, 12, 13])
def test_stops_around_the_cuts(tmp_path: Path, whole: dict[str, str], at: int, name: str) -> None:
    out = tmp_path / "run"
    go(PLANS[name], out, dataset=Interrupting(at, signal.SIGTERM))
    assert digest(go(PLANS[name], out, resume="auto")) == whole[name]


def test_many_interruptions_and_a_damaged_checkpoint(tmp_path: Path, whole: dict[str, str]) -> None:
    out = tmp_path / "run"
    go(PLANS["prune"], out, dataset=Interrupting(4, signal.SIGTERM))
    go(PLANS["prune"], out, dataset=Interrupting(3, signal.SIGINT), resume="auto")
    newest = max((out / "ckpt").iterdir())
    data = bytearray((newest / "ema.safetensors").read_bytes())
    data[-3] ^= 64
    (newest / "ema.safetensors").write_bytes(data)
    end = go(PLANS["prune"], out, resume="auto")
    assert digest(end) == whole["prune"]
    assert "passed over" in (out / "events.jsonl").read_text()


CHILD = """
import sys, torch
torch.set_num_threads(int(sys.argv[2]))
from pathlib import Path
from tests.training.test_resume import PLANS, digest, go
print(digest(go(PLANS["prune"], Path(sys.argv[1]), resume="auto")))
"""


def test_killed_without_warning_and_resumed(tmp_path: Path, whole: dict[str, str]) -> None:
    """Two processes are killed at random instants (in the import, in a step, in a save)."""
    rng = random.Random(0)
    out = tmp_path / "run"
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", CHILD, str(out), str(torch.get_num_threads())]
    environment = os.environ | {"PYTHONPATH": str(root)}
    for _ in range(2):
        child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, cwd=root)
        wanted = rng.randrange(1, 5)
        while child.poll() is None and len(list(out.glob("ckpt/step_*"))) < min(wanted, 2):
            time.sleep(0.005)
        child.kill()
        child.wait()
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, cwd=root, check=True
    )
    assert done.stdout.strip() == whole["prune"]


def test_resume_without_a_checkpoint_starts(tmp_path: Path, whole: dict[str, str]) -> None:
    assert digest(go(PLANS["train"], tmp_path / "run", resume="auto")) == whole["train"]


def test_killed_before_the_first_checkpoint(tmp_path: Path, whole: dict[str, str]) -> None:
    out = tmp_path / "run"
    go(PLANS["train"], out, dataset=Interrupting(2, signal.SIGTERM))
    shutil.rmtree(out / "ckpt")
    (out / "metrics.jsonl").write_text('{"step": 2, "g_loss": 0.5}\n{"step": 3, "g_l')
    assert digest(go(PLANS["train"], out, resume="auto")) == whole["train"]
    steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))


def test_a_run_that_goes_on_elsewhere_says_so(tmp_path: Path) -> None:
    out = tmp_path / "run"
    go(PLANS["train"], out, dataset=Interrupting(4, signal.SIGTERM))
    env = json.loads((out / "env.json").read_text())
    (out / "env.json").write_bytes(sealed(env | {"threads": 64, "pid": 1}))
    go(PLANS["train"], out, resume="auto")
    text = (out / "log.txt").read_text()
    assert f"resumed elsewhere (threads 64 -> {env['threads']}): equal to rounding" in text


def test_a_run_is_never_overwritten_nor_mixed(tmp_path: Path) -> None:
    out = tmp_path / "run"
    plan = train_recipe(steps=3)
    go(plan, out)
    with pytest.raises(ConfigError, match="not overwritten"):
        go(plan, out)
    with pytest.raises(ConfigError, match="started with seed = 0, not 1"):
        go(train_recipe(steps=3, seed=1), out, resume="auto")
    with pytest.raises(ConfigError, match="same max_steps"):
        go(plan, out, resume="auto", max_steps=2)


def test_all_checkpoints_damaged_is_an_error(tmp_path: Path) -> None:
    out = tmp_path / "run"
    go(train_recipe(steps=3), out)
    for path in (out / "ckpt").iterdir():
        (path / "manifest.json").write_text("{}")
    with pytest.raises(CheckpointError, match="no good checkpoint left") as caught:
        go(train_recipe(steps=3), out, resume="auto")
    assert caught.value.exit_code == 4


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "run"
    go(train_recipe(steps=3), out)
    other = networks()[0]
    other.conv1 = torch.nn.Conv2d(8, 12, 5, padding=2)
    with pytest.raises(CheckpointError, match="conv1"):
        go(train_recipe(steps=3), out, resume="auto", generator=other)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PLANS))
def test_killed_25_times_at_random_instants(name: str) -> None:
    """Children are killed in steps, in saves and in cuts; each chain ends bit-identical."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.kills", name, "25"],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all end like the whole run" in done.stdout
