"""The published face generator, four times smaller, with a judge made afresh and no data.

    python benchmarks/tasks/judged_faces.py STUDENT_RUN

measures a finished run as ``benchmarks/pretrained.py`` does, whose student learnt from pixels
alone; how to make the run stands in ``docs/tasks.md``. Figures go to
``benchmarks/results/faces.json``, the table into ``docs/tasks.md``, pictures into
``docs/images/faces.jpg``.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

import gancompress as gc
from benchmarks.pretrained import PACKAGES, Done, measure_faces
from benchmarks.record import RESULTS, ROOT, place, protocol, table, write
from benchmarks.tasks.edges import about, interleaved
from examples import faces
from gancompress.metrics.cost import footprint
from gancompress.reporting.pictures import before_after_grid

SAMPLES = 2000
GOAL = 2.0  # times the floor: the teacher's other latents
KEPT = ("precision", "recall", "density", "coverage")


def shown(row: dict[str, Any]) -> str:
    """Return the table of the document."""
    header = [f"{row['n']:,} samples", "Frechet (Lite0)", *KEPT, "PSNR, dB"]
    student = ["student", f"{row['frechet_lite0']:.1f}", *(f"{row[k]:.3f}" for k in KEPT)]
    floor = ["*the teacher, other latents*", f"{row['frechet_floor']:.1f}"]
    floor += [f"{row['floor'][k]:.3f}" for k in KEPT]
    return table(header, [[*student, f"{row['psnr_to_teacher']:.1f}"], [*floor, ""]])


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("student", type=Path, help="run of prune")
    given = parser.parse_args()
    torch.set_num_threads(1)
    teacher = faces.build_generator()
    student = gc.load(faces.build_generator, given.student / "model").eval()
    student = student.to(memory_format=torch.contiguous_format)
    run = about(given.student)
    example = faces.LATENTS(1, torch.Generator().manual_seed(0))
    row: dict[str, Any] = {"network": "student", **run}
    row |= measure_faces(Done(teacher, student, {}), SAMPLES, 0)
    for name, network in (("teacher", teacher), ("student", student)):
        cost = footprint(network, example)
        row |= {f"params_{name}": cost.params, f"macs_{name}": cost.macs}
    row["params_times"] = round(row["params_teacher"] / row["params_student"], 3)
    row["best_ms"] = dict(
        zip(("teacher", "student"), interleaved([teacher, student], example[0]), strict=True)
    )
    row["floor_times"] = round(row["frechet_lite0"] / row["frechet_floor"], 3)
    row["goal_met"] = row["floor_times"] <= GOAL
    print(row, flush=True)
    result = {
        **protocol(run["seed"], PACKAGES),
        "network": "faces",
        "data": "none: latents from N(0, 1), the teacher's pictures are what the judge calls real",
        "goal": f"params_times about 4 and frechet_lite0 <= {GOAL} times frechet_floor",
        "earlier": "benchmarks/results/pretrained/faces--s0.json: pixels alone",
        "latency": "one thread, float32, one face, least of 20 taken in turns",
        "load": [round(x, 1) for x in os.getloadavg()],
        "rows": [row],
    }
    write(RESULTS / "faces.json", result)
    place(ROOT / "docs" / "tasks.md", "faces", shown(row))
    picture = before_after_grid(
        teacher, student, faces.LATENTS, n_classes=None, rows=3, columns=12, seed=0
    )
    picture.convert("RGB").save(
        ROOT / "docs/images/faces.jpg", quality=90, subsampling=0, optimize=True
    )


if __name__ == "__main__":
    main()
