"""What a run tells: callbacks hear everything in order, loggers write what readers open."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gancompress.errors import ConfigError
from gancompress.plugins.kinds import LOGGERS
from gancompress.training.callbacks import Happening, Place, check_loggers
from gancompress.training.log import Silent
from gancompress.training.loop import train
from gancompress.training.samples import write_wav
from tests.training.nets import images, networks, recipe


def go(out: Path | None, **options: Any) -> Any:
    plan = options.pop("plan", None) or recipe(log=["csv", "jsonl"], sample_every=8)
    generator, discriminator = networks()
    return train(
        plan, generator=generator, discriminator=discriminator, dataset=images(),
        screen=Silent(), out=out, **options,
    )  # fmt: skip


def figures(run: Path) -> list[tuple[str, ...]]:
    with open(run / "logs" / "csv" / "figures.csv", newline="") as stream:
        rows = [tuple(row) for row in csv.reader(stream)]
    # Clock readings differ between two runs.
    return [row for row in rows if not row[1].endswith(("_seconds", "_per_second"))]


def test_a_run_tells_figures_widths_pictures_and_its_end(tmp_path: Path) -> None:
    heard: list[Happening] = []
    result = go(tmp_path / "run", callbacks=[heard.append])
    told = [h for h in heard if h.kind == "figures"]
    assert [h.step for h in told] == [line["step"] for line in result.history]
    for happening, line in zip(told, result.history, strict=True):
        assert {k: happening.values[k] for k in line if k != "step"} == {
            k: v for k, v in line.items() if k != "step"
        }
    assert all(h.widths for h in told)
    assert told[-1].widths == result.plan.widths
    pictures = [h for h in heard if h.kind == "picture"]
    assert [h.step for h in pictures] == [8, 16]
    assert all(h.file is not None and h.file.is_file() for h in pictures)
    assert {h.name for h in heard if h.kind == "event"} >= {"shrink", "unmask"}
    assert [h.kind for h in heard].count("end") == 1
    assert heard[-1].kind == "end"
    # The same things, in the files of two loggers at once.
    rows = figures(tmp_path / "run")
    assert rows[0] == ("step", "name", "value")
    losses = [float(v) for _, name, v in rows[1:] if name == "g_loss"]
    assert losses == [line["g_loss"] for line in result.history]
    lines = (tmp_path / "run" / "logs" / "jsonl" / "happenings.jsonl").read_text().splitlines()
    kinds = [json.loads(line)["kind"] for line in lines]
    assert kinds.count("figures") == len(told)
    assert kinds[-1] == "end"


def test_a_run_that_went_on_has_told_the_same(tmp_path: Path) -> None:
    go(tmp_path / "whole")

    def interrupt(happening: Happening) -> None:
        if happening.kind == "figures" and happening.step >= 6:
            os.kill(os.getpid(), signal.SIGTERM)

    stopped = go(tmp_path / "broken", callbacks=[interrupt])
    assert stopped.exit_code == 75
    file = tmp_path / "broken" / "logs" / "csv" / "figures.csv"
    file.write_text(file.read_text() + "12,g_loss,99\n13,g_lo")  # later, and cut short by a kill
    # Other loggers are another matter than another run.
    go(tmp_path / "broken", resume="auto", plan=recipe(log=["csv"], sample_every=8))
    last = {}
    for step, name, value in figures(tmp_path / "broken")[1:]:
        last[int(step), name] = value
    wanted = {(int(s), n): v for s, n, v in figures(tmp_path / "whole")[1:]}
    assert {key: last[key] for key in wanted} == wanted


def test_what_a_callback_raises_ends_the_run_and_a_logger_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(happening: Happening) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        go(None, plan=recipe(), callbacks=[stop])

    def broken(place: Place) -> Any:
        def tell(happening: Happening) -> None:
            if happening.kind == "figures":
                raise OSError("no route to host")

        return tell

    LOGGERS.options("jsonl")  # loads it
    monkeypatch.setitem(LOGGERS._entries, "jsonl", broken)
    heard: list[Happening] = []
    assert go(tmp_path / "run", callbacks=[heard.append]).exit_code == 0
    said = [h.text for h in heard if h.name == "log_failed"]
    assert len(said) == 1
    assert "log jsonl failed and is left out from now on: no route to host" in said[0]
    assert len(figures(tmp_path / "run")) > 10


def test_bad_loggers_are_refused_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"log\.0.*no logger named 'cvs'. Did you mean 'csv'"):
        go(tmp_path / "a", plan=recipe(log=["cvs"]))
    with pytest.raises(ConfigError, match="give out="):
        go(None, plan=recipe(log="csv"))
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"pip install 'gancompress\[log\]'"):
        check_loggers(recipe(log=["wandb"]).log)
    assert not (tmp_path / "a").exists()


@pytest.fixture
def told(tmp_path: Path) -> list[Happening]:
    """One of each kind; the sound is a ramp, the picture has one red corner."""
    pixels = np.zeros((6, 9, 3), np.uint8)
    pixels[0, 0, 0] = 255
    Image.fromarray(pixels).save(tmp_path / "p.png")
    write_wav(tmp_path / "made on the way" / "s.wav", torch.linspace(-1, 2, 400)[None], 8000)
    return [
        Happening("figures", 2, {"g_loss": 0.5, "d_loss": math.nan}, {"main.0": 7}),
        Happening("event", 2, name="shrink", text="step 2: cut"),
        Happening("picture", 2, name="samples", file=tmp_path / "p.png"),
        Happening("sound", 2, name="samples", file=tmp_path / "made on the way" / "s.wav"),
        Happening("figures", 4, {"g_loss": 0.25}, {"main.0": 5}),
        Happening("end", 4),
    ]


def written(name: str, folder: Path, told: list[Happening], **options: Any) -> None:
    folder.mkdir(exist_ok=True)
    place = Place(folder, "0001-x", {"steps": 4}, 0)
    logger = LOGGERS.bind({"name": name, **options})(place)
    for happening in told:
        logger(happening)


def test_a_sound_is_clipped_not_wrapped(told: list[Happening], tmp_path: Path) -> None:
    with wave.open(str(told[3].file)) as sound:
        assert (sound.getframerate(), sound.getnchannels(), sound.getnframes()) == (8000, 1, 400)
        samples = np.frombuffer(sound.readframes(400), np.int16)
    assert samples[0] == -32767
    assert samples.max() == samples[-1] == 32767


def test_json_of_what_is_not_finite_is_null(told: list[Happening], tmp_path: Path) -> None:
    written("jsonl", tmp_path / "log", told)
    lines = (tmp_path / "log" / "happenings.jsonl").read_text().splitlines()
    first = json.loads(lines[0], parse_constant=pytest.fail)
    assert first["values"] == {"g_loss": 0.5, "d_loss": None}
    assert [json.loads(line)["kind"] for line in lines] == [h.kind for h in told]


@pytest.mark.slow
def test_tensorboard_reads_its_files(told: list[Happening], tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    written("tensorboard", tmp_path / "log", told)
    found = EventAccumulator(str(tmp_path / "log"), size_guidance={"images": 0, "audio": 0})
    found.Reload()
    assert [(s.step, s.value) for s in found.Scalars("g_loss")] == [(2, 0.5), (4, 0.25)]
    assert [(s.step, s.value) for s in found.Scalars("width/main.0")] == [(2, 7), (4, 5)]
    (image,) = found.Images("samples")
    assert (image.width, image.height) == (9, 6)
    (sound,) = found.Audio("samples")
    assert sound.sample_rate == 8000


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of its own packages among each other
def test_mlflow_reads_its_store(told: list[Happening], tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    written("mlflow", tmp_path / "log", told)
    known = json.loads((tmp_path / "log" / "run.json").read_text())
    client = mlflow.MlflowClient(tracking_uri=known["uri"])
    history = client.get_metric_history(known["run"], "g_loss")
    assert [(m.step, m.value) for m in history] == [(2, 0.5), (4, 0.25)]
    run = client.get_run(known["run"])
    assert run.info.status == "FINISHED"
    assert run.data.params["steps"] == "4"
    assert [a.path for a in client.list_artifacts(known["run"], "pictures")] == ["pictures/p.png"]
    written("mlflow", tmp_path / "log", told[4:])  # goes on in the same run
    assert len(client.get_metric_history(known["run"], "g_loss")) == 3


@pytest.mark.slow
def test_wandb_offline_reads_its_file(
    told: list[Happening], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_API_KEY", "")
    written("wandb", tmp_path / "log", told)
    (file,) = (tmp_path / "log").rglob("*.wandb")
    # Records are JSON inside; picture and sound lie beside the file.
    content = file.read_bytes()
    for part in (b"g_loss", b"width/main.0", b"0.25", b"shrink"):
        assert part in content
    kinds = {p.suffix for p in (tmp_path / "log").rglob("media/*/*")}
    assert {".png", ".wav"} <= kinds
