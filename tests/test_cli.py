"""The surface: frozen verbs and flags, exit codes, streams, and what an error looks like."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from gancompress import errors
from gancompress.cli import app, main

# A flag is a promise: change this table only together with CHANGELOG.md.
WORK = (
    "--ab --classes --crop --data --device --discriminator --discriminator-call "
    "--discriminator-weights --dry-run --features --flip --init-from --input --json --layout "
    "--length --log --max-steps --model --on-bad-sample --out --output --precision --recipe "
    "--resume --reverse --reverse-weights --seed --size --split --target --task --values --weights "
    "--workers"
)
FLAGS = {
    "prune": f"{WORK} --form",
    "distill": f"{WORK} --form",
    "train": WORK.replace(" --target", ""),
    "init": "--input --json --out --recipe --weights",
    "eval": "--ab --classes --crop --data --device --features --flip --input --json --layout "
    "--length --model --n --on-bad-sample --output --seed --size --split --task --teacher --values "
    "--weights --worst",
    "inspect": "--form --input --json --model --second-opinion --weights",
    "sample": "--compare --device --input --json --model --n --out --output --seed --weights",
    "bench": "--batch --device --input --json --model --weights",
    "compare": "--html --json",
    "watch": "--every --json --once",
    "export": "--calibrate --dynamic --fold --input --int8 --json --model --no-fold --noise --out "
    "--to --tolerance --weights",
    "push": "--json --out --private",
    "demo": "--device --host --input --json --model --output --port --weights",
    "report": "--json --kept",
    "verify": "--json",
    "recipes": "--json --kind",
    "show": "--json --schema",
    "copy": "--force --json",
    "validate": "--json",
    "doctor": "--json",
}
ALIASES = {"ls": "recipes", "cat": "show", "cp": "copy", "env": "doctor"}


def long_flags(command: Any) -> set[str]:
    return {o for p in command.params for o in (*p.opts, *p.secondary_opts) if o[:2] == "--"}


def test_verbs_and_flags_are_frozen() -> None:
    root: Any = typer.main.get_command(app)
    found = {name: long_flags(verb) - {"--help"} for name, verb in root.commands.items()}
    wanted = {name: set(flags.split()) for name, flags in FLAGS.items()}
    wanted |= {alias: wanted[name] for alias, name in ALIASES.items()}
    assert found == wanted
    completion = {"--install-completion", "--show-completion"}
    assert long_flags(root) - completion - {"--help"} == {
        "--version",
        "--debug",
        "--quiet",
        "--plugin",
    }


def test_exit_codes_are_frozen() -> None:
    assert {
        name: kind.exit_code
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.GancompressError)
    } == {
        "GancompressError": 2,
        "ConfigError": 2,
        "GraphError": 2,
        "DataError": 3,
        "CheckpointError": 4,
        "OutOfMemoryError": 5,
        "StorageError": 6,
        "DivergedError": 7,
        "TargetError": 8,
        "RanksError": 75,
    }


@pytest.mark.parametrize("verb", sorted(FLAGS))
def test_help_of_every_verb(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    shown = capsys.readouterr()
    assert "Usage: gancompress" in shown.out
    assert shown.err == ""


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.count(".") == 2


def test_documentation_names_every_verb_and_code() -> None:
    page = (Path(__file__).parent.parent / "docs" / "cli.md").read_text()
    for verb in [*FLAGS, *ALIASES]:
        assert f"`{verb}`" in page
    for code in (0, 1, 2, 3, 4, 5, 6, 7, 8, 75, 130):
        assert f"\n| {code} | " in page


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["prnue"], 2, "prnue"),
        (["prune", "--recipe"], 2, "--recipe"),
        (["prune", "--recipe", "ppdc"], 2, "Did you mean 'ppcd'"),
        (["prune", "stepss=5"], 2, "Did you mean 'steps'"),
        (["prune", "steps=many"], 2, "steps"),
        (["prune", "--devce", "cpu"], 2, "Did you mean '--device'"),
        (["prune", "--recipe", "fashion-teacher"], 2, "gancompress train"),
        (["prune", "nonet:build"], 2, "no module 'nonet'"),
        (["prune", "runs/none"], 2, "neither a run folder"),
        (["prune", "--device", "warp"], 2, "no device 'warp'"),
        (["prune", "target=tiny"], 2, "tiny"),
        (["show", "nothing-like-it"], 2, "Known"),
        (["recipes", "--kind", "fish"], 2, "no kind 'fish'"),
        (["verify", "nowhere"], 2, "does not exist"),
        (["bench", "--batch", "1,x"], 2, "not a list of sizes"),
    ],
)
def test_errors_say_what_and_what_to_do(
    words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert message in " ".join(shown.err.split())
    assert "Traceback" not in shown.err


def test_error_as_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "ppdc", "--json"]) == 2
    shown = json.loads(capsys.readouterr().out)
    assert shown["exit_code"] == 2
    assert shown["schema"] == 1
    assert "ppdc" in shown["error"]


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "ppdc", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OSError(28, "No space left on device"), 6, "choose another folder"),
        (PermissionError(13, "Permission denied"), 6, "--out"),
        (MemoryError("too much"), 5, "batch=8"),
        (RuntimeError("CUDA out of memory"), 5, "batch=8"),
        (KeyError("x"), 1, "a bug of gancompress"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (errors.DivergedError("NaN at step 3"), 7, "NaN at step 3"),
        (errors.TargetError("too small"), 8, "too small"),
    ],
)
def test_failures_inside_a_verb_become_exit_codes(
    error: BaseException,
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("gancompress.commands.recipes.recipes", fail)
    assert main(["recipes"]) == code
    assert message in " ".join(capsys.readouterr().err.split())


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gancompress", *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_pipe_has_no_colour_and_json_is_alone_on_stdout() -> None:
    done = run("recipes", "--json", FORCE_COLOR="")
    assert done.returncode == 0
    assert json.loads(done.stdout)["recipes"]
    assert "\x1b[" not in run("recipes").stdout


def test_no_color_wins_over_a_terminal() -> None:
    shown = run("recipes", FORCE_COLOR="1", NO_COLOR="1").stdout
    assert "\x1b[3" not in shown


def test_closed_pipe_is_no_error() -> None:
    line = f"{sys.executable} -m gancompress show ppcd | head -1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("name: ppcd")
    assert done.stderr == ""
