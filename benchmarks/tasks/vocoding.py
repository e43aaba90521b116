"""Mels to speech: what a vocoder loses when it becomes four times cheaper.

    python benchmarks/tasks/vocoding.py speech TEACHER_RUN STUDENT_RUN

measures finished runs of ``vocoder-teacher.yaml`` and ``ppcd-vocoder`` on sentences that no
training heard (`speech`); how to make them stands in ``docs/tasks.md``. Figures go to
``benchmarks/results/vocoder.json``, the table into ``docs/tasks.md``, spectrograms into
``docs/images/vocoder.png`` and one sentence of each into ``docs/sounds``.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

import gancompress as gc
from benchmarks.record import RESULTS, ROOT, place, protocol, table, write
from benchmarks.tasks.edges import about, interleaved
from benchmarks.tasks.vocoders import small_v3
from gancompress.data.sound import SoundFolder, open_sound
from gancompress.metrics.cost import footprint
from gancompress.metrics.distances import distances
from gancompress.modules.spectra import log_mel

RATE, HOP = 22050, 256
PIECE = 64 * HOP
SECOND = 86  # frames in about a second
GOAL = 1.1  # times the teacher's log-mel distance
LOUD, SILENT = 2.0, -11.5  # of log mels: white and black


@torch.no_grad()
def spoken(network: nn.Module, sound: Tensor) -> Tensor:
    """Return what ``network`` makes of the mels of sound (n, 1, time)."""
    mels = log_mel(sound, rate=RATE, hop=HOP)
    return torch.cat([network(part) for part in mels.split(16)])


def sheet(sounds: list[Tensor], scale: int = 3) -> Image.Image:
    """Return the mels of sounds (1, 1, time), one below the other, low tones at the bottom."""
    lines = []
    for sound in sounds:
        mels = log_mel(sound, rate=RATE, hop=HOP)[0].flip(0)
        lines.append(((mels - SILENT) / (LOUD - SILENT)).clamp(0, 1) * 255)
    pixels = torch.cat(lines).round().byte().numpy()
    picture = Image.fromarray(pixels)
    size = (picture.width * scale, picture.height * scale)
    return picture.resize(size, Image.Resampling.NEAREST)


def write_sentence(folder: Path, file: Path, networks: dict[str, nn.Module]) -> None:
    """Write one sentence as it was spoken and as each network makes it, and their mels."""
    import soundfile

    data, _ = soundfile.read(str(file), dtype="float32")
    sound = torch.from_numpy(data[: len(data) // HOP * HOP]).view(1, 1, -1)
    every = {"wanted": sound, **{name: spoken(g, sound) for name, g in networks.items()}}
    folder.mkdir(parents=True, exist_ok=True)
    for name, made in every.items():
        samples = made[0, 0].clamp(-1, 1).numpy()
        soundfile.write(str(folder / f"vocoder-{name}.wav"), samples, RATE, subtype="PCM_16")
    sheet(list(every.values())).save(ROOT / "docs/images/vocoder.png", optimize=True)


def measured(network: nn.Module, sound: Tensor, teachers: Tensor | None) -> dict[str, Any]:
    """Return size and distances of one network."""
    made = spoken(network, sound)
    example = (log_mel(sound[:1], rate=RATE, hop=HOP),)
    size = footprint(network, example)
    row: dict[str, Any] = {
        "params": size.params,
        "macs_a_second": round(size.macs / 64 * RATE / HOP),
    }
    others = {"wanted": sound} if teachers is None else {"wanted": sound, "teacher": teachers}
    for name, other in others.items():
        found = distances(made, other, rate=RATE)
        row |= {f"{name}_{key}": round(value, 5) for key, value in found.items()}
    return row


def pieces(data: SoundFolder) -> Tensor:
    """Return all pieces of a folder of sound (n, 1, `PIECE`)."""
    return data.batch(torch.arange(len(data)))[0]


def shown(rows: list[dict[str, Any]]) -> str:
    """Return the table of the document."""
    header = ("network", "parameters", "M MACs a second", "log-mel distance", "times teacher's",
              "log STFT distance", "log-mel to teacher", "real-time factor")  # fmt: skip
    lines: list[list[Any]] = []
    for row in rows:
        lines.append([
            row["network"],
            f"{row['params']:,}" if "params" in row else "",
            f"{row['macs_a_second'] / 1e6:,.0f}" if "params" in row else "",
            f"{row['wanted_log_mel']:.4f}",
            f"{row['log_mel_ratio']:.4f}" if "log_mel_ratio" in row else "",
            f"{row['wanted_stft']:.4f}",
            f"{row['teacher_log_mel']:.4f}" if "teacher_log_mel" in row else "",
            f"{row['real_time_factor']:.4f}" if "real_time_factor" in row else "",
        ])  # fmt: skip
    return table(header, lines)


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("speech", type=Path, help="folder that speech.py made")
    parser.add_argument("teacher", type=Path, help="run of vocoder-teacher.yaml")
    parser.add_argument("student", type=Path, help="run of ppcd-vocoder")
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = open_sound(given.speech / "test", length=PIECE)
    sound = pieces(data)
    runs = {"teacher": given.teacher, "student": given.student}
    networks: dict[str, nn.Module] = {
        name: gc.load(small_v3, run / "model").eval() for name, run in runs.items()
    }
    silence = distances(torch.zeros_like(sound), sound, rate=RATE)
    rows: list[dict[str, Any]] = [
        {"network": "silence", **{f"wanted_{k}": round(v, 5) for k, v in silence.items()}}
    ]
    theirs = spoken(networks["teacher"], sound)
    for name, network in networks.items():
        row = measured(network, sound, None if name == "teacher" else theirs)
        rows.append({"network": name, **about(runs[name]), **row})
    second = torch.randn(1, 80, SECOND, generator=torch.Generator().manual_seed(0)) * 2 - 5
    for row, best in zip(rows[1:], interleaved(list(networks.values()), second), strict=True):
        row["best_ms_a_second"] = best
        row["real_time_factor"] = round(best / 1e3 / (SECOND * HOP / RATE), 5)
    teacher, student = rows[1], rows[2]
    student["macs_times"] = round(teacher["macs_a_second"] / student["macs_a_second"], 3)
    student["log_mel_ratio"] = round(student["wanted_log_mel"] / teacher["wanted_log_mel"], 4)
    student["goal_met"] = student["log_mel_ratio"] <= GOAL and student["macs_times"] >= 3.99
    for row in rows:
        print(row, flush=True)
    result = {
        **protocol(student["seed"], ("soundfile",)),
        "data": "espeak-ng by benchmarks/tasks/speech.py: 320 sentences to train on, 4 voices",
        "measured_on": f"{len(sound)} pieces of 40 sentences that no training heard",
        "goal": f"macs_times >= 4 and log_mel_ratio <= {GOAL}",
        "latency": "one thread, float32, about a second of sound, least of 20 taken in turns",
        "load": [round(x, 1) for x in os.getloadavg()],
        "rows": rows,
    }
    write(RESULTS / "vocoder.json", result)
    place(ROOT / "docs" / "tasks.md", "vocoder", shown(rows))
    first = sorted((given.speech / "test").glob("*.wav"))[0]
    write_sentence(ROOT / "docs" / "sounds", first, networks)


if __name__ == "__main__":
    main()
