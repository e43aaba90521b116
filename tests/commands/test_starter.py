"""The first minutes: `gancompress` alone, and a starter for a network of one's own."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gancompress.cli import main
from gancompress.commands.resolve.guess_inputs import guess_inputs
from gancompress.data.inputs import InputSampler
from gancompress.errors import ConfigError

NETS = """
import torch
from torch import nn

class Conditional(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.embed = nn.Embedding(7, 12)
        self.first = nn.Linear(12 + 20, width * 16)
        self.last = nn.Conv2d(width, 3, 3, padding=1)
    def forward(self, noise, y):
        h = self.first(torch.cat([noise, self.embed(y)], 1)).view(len(noise), -1, 4, 4)
        return torch.tanh(self.last(h))

def sized(width):
    return Conditional(width)

class Odd(nn.Module):
    def forward(self, x):
        raise RuntimeError("never")
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "starter_nets.py").write_text(NETS)
    for name in ("starter_nets", "compress", "compress.nets"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def test_a_starter_asks_the_module_and_its_commands_run(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--input", "noise=normal(20)", "--input", "y=labels(7)"]
    assert main(["init", "starter_nets:Conditional", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["input"] == words[1::2]
    assert shown["output_shape"] == [2, 3, 4, 4]
    assert {p.name for p in (project / "compress").iterdir()} == {
        "nets.py", "recipe.yaml", "compress.sh",
    }  # fmt: skip
    script = (project / "compress" / "compress.sh").read_text()
    dry = next(line for line in script.splitlines() if "--dry-run" in line)
    dry = dry.replace('"${inputs[@]}"', " ".join(words))
    assert main(["validate", "compress/recipe.yaml"]) == 0
    assert main(["--quiet", *shlex.split(dry)[1:], "target=params=1.5x"]) == 0
    assert "reachable" in capsys.readouterr().out


def test_without_a_model_an_example_stands_in(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init"]) == 0
    assert "an example stands in nets.py" in capsys.readouterr().err
    assert "--input 'z=normal(100,1,1)'" in (project / "compress" / "compress.sh").read_text()
    assert main(["init"]) == 2
    assert "is not overwritten" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["starter_nets:sized"], "def build(): return sized(width=...)"),
        (["starter_nets:Odd"], "Odd.forward(x)"),
        (["starter_nets:None_"], "no 'None_'"),
        (["--out", "not-a-name"], "letters, digits and _"),
        (["--recipe", "ppdc"], "Did you mean 'ppcd'"),
        (["starter_nets:Conditional", "--input", "z=norml(3)"], "no kind 'norml'"),
    ],
)
def test_a_starter_that_cannot_be_written_says_why(
    words: list[str], message: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", *words]) == 2
    assert message in capsys.readouterr().err
    assert not (project / "compress").exists()


class Labelled(nn.Module):
    z_dim = 20

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 20)
        self.norm = nn.BatchNorm1d(20)
        self.last = nn.Linear(20, 9)

    def forward(self, z: Tensor, y: Tensor, scale: float = 1.0) -> Tensor:
        return self.last(self.norm(z + self.embed(y))) * scale


class Planar(nn.Module):
    """Latents that become a map of one pixel inside."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(6, 3, 4)

    def forward(self, z: Tensor) -> Tensor:
        return self.up(z[:, :, None, None])


@pytest.mark.parametrize(
    ("make", "specs", "shape"),
    [
        (Labelled, ("z=normal(20)", "y=labels(7)"), (2, 9)),
        (
            lambda: nn.Sequential(nn.ConvTranspose2d(5, 4, 4), nn.Conv2d(4, 3, 1)),
            ("input=normal(5,1,1)",),
            (2, 3, 4, 4),
        ),
        (lambda: nn.Conv2d(3, 2, 3), ("input=uniform(3,64,64)",), (2, 2, 62, 62)),
        (Planar, ("z=normal(6)",), (2, 3, 4, 4)),
        (lambda: nn.Conv1d(80, 1, 1), ("input=normal(80,64)",), (2, 1, 64)),
    ],
)
def test_what_is_guessed_runs_and_leaves_no_trace(
    make: object, specs: tuple[str, ...], shape: tuple[int, ...]
) -> None:
    network = make()  # type: ignore[operator]
    before = {name: t.clone() for name, t in network.state_dict().items()}
    random = torch.get_rng_state()
    found = guess_inputs(network)
    assert (found.specs, found.output) == (specs, shape)
    assert network.training
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    drawn = InputSampler.parse(found.specs, network)(3, torch.Generator())
    assert len(network(*drawn)) == 3


def test_nothing_that_runs_is_an_error_with_the_arguments() -> None:
    class Picky(nn.Module):
        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            raise ValueError(left.shape)

    with pytest.raises(ConfigError, match=r"Picky.forward\(left, right\)"):
        guess_inputs(Picky())


def test_alone_it_says_what_comes_next(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    first = capsys.readouterr().out
    assert "gancompress prune --max-steps" in first
    assert "gancompress init" in first
    run = project / "runs" / "0001-ppcd-x"
    run.mkdir(parents=True)
    assert main([]) == 0
    assert "before its first step" in capsys.readouterr().out
    (run / "metrics.jsonl").write_text("{}\n")
    assert main([]) == 0
    assert "--resume runs/0001-ppcd-x" in capsys.readouterr().out.replace("\\", "/")
    (run / "summary.json").write_text("{}")
    assert main([]) == 0
    assert "gancompress report" in capsys.readouterr().out
    (run / "report.html").write_text("")
    assert main([]) == 0
    assert "gancompress compare" in capsys.readouterr().out
