"""Edges to garments: what a translator loses when it becomes eight times cheaper.

    python benchmarks/tasks/edges.py pairs TEACHER_RUN STUDENT_RUN [STUDENT_RUN ...]

measures finished runs of ``edges-teacher`` and ``ppcd-translation`` on the 10,000 test pairs that
`edge_pairs` made and no training read; how to make them stands in ``docs/tasks.md``. Figures go to
``benchmarks/results/edges.json``, the table into ``docs/tasks.md``, pictures into
``docs/images/edges.png``.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

import gancompress as gc
from benchmarks.record import RESULTS, ROOT, place, protocol, table, write
from gancompress.data.folders import open_images
from gancompress.data.pairs import Paired, paired
from gancompress.metrics.cost import footprint
from gancompress.metrics.distances import distances
from gancompress.metrics.latency import latency
from gancompress.models.presets import edges32_generator
from gancompress.storage import read_json

SHOWN = 16
BATCH = 250
GOAL = 1.05  # times the teacher's L1


def pictures_of(network: nn.Module, x: Tensor) -> Tensor:
    """Return what ``network`` makes of edges (n, 1, 32, 32) in eval mode."""
    network.eval()
    with torch.no_grad():
        return torch.cat([network(part) for part in x.split(BATCH)])


def about(run: Path) -> dict[str, Any]:
    """Return what a run says of itself."""
    summary = read_json(run / "summary.json")
    keys = ("recipe", "seed", "steps", "images_seen", "seconds", "precision")
    return {name: summary.get(name) for name in keys}


def rounded(figures: dict[str, float], prefix: str) -> dict[str, float]:
    """Return ``figures`` under longer names, to five places."""
    return {f"{prefix}_{name}": round(value, 5) for name, value in figures.items()}


def measured(
    network: nn.Module, made: Tensor, wanted: Tensor, teacher: Tensor, x: Tensor
) -> dict[str, Any]:
    """Return size, speed and distances of one network."""
    size = footprint(network, (x[:1],))
    row: dict[str, Any] = {"params": size.params, "macs": size.macs}
    row |= rounded(distances(made, wanted), "wanted")
    if made is not teacher:
        row |= rounded(distances(made, teacher), "teacher")
    for n in (1, 32):
        found = latency(network, (x[:n],), seconds=2.0)
        row |= {f"ms_{n}": round(found.median_ms, 3), f"ms_{n}_iqr": round(found.iqr_ms, 3)}
    return row


def interleaved(networks: list[nn.Module], x: Tensor, *, rounds: int = 20) -> list[float]:
    """Return each network's best time for ``x`` in ms, taken in turns: load is the same for all."""
    best = [float("inf")] * len(networks)
    with torch.no_grad():
        for _ in range(rounds):
            for i, network in enumerate(networks):
                start = time.perf_counter()
                network(x)
                best[i] = min(best[i], time.perf_counter() - start)
    return [round(1e3 * seconds, 3) for seconds in best]


def grid(rows: list[Tensor], file: Path, *, scale: int = 2) -> None:
    """Write pictures (n, 1, h, w) in [-1, 1] as one grey PNG, one line a row."""
    lines = [torch.cat(list(row[:, 0]), dim=1) for row in rows]
    sheet = (torch.cat(lines).clamp(-1, 1) + 1) * 127.5
    picture = Image.fromarray(sheet.round().byte().numpy())
    file.parent.mkdir(parents=True, exist_ok=True)
    size = (picture.width * scale, picture.height * scale)
    picture.resize(size, Image.Resampling.NEAREST).save(file, optimize=True)


def control(pairs: Paired, train: Path, wanted: Tensor) -> dict[str, Any]:
    """Return the distances of the median training picture, which reads no edges at all."""
    data = open_images(train / "train-garments.npz")
    some = data.batch(torch.arange(0, len(data), 12))[0]
    middle = some.median(0, keepdim=True).values.expand(len(pairs), -1, -1, -1)
    return {"network": "median picture", **rounded(distances(middle, wanted), "wanted")}


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", type=Path, help="folder that edge_pairs.py made")
    parser.add_argument("teacher", type=Path, help="run of edges-teacher")
    parser.add_argument("students", type=Path, nargs="+", help="runs of ppcd-translation")
    given = parser.parse_args()
    torch.set_num_threads(1)
    pairs = paired(given.pairs / "test-edges.npz", given.pairs / "test-garments.npz")
    x, wanted, _ = pairs.pairs(torch.arange(len(pairs)))
    teacher = gc.load(edges32_generator, given.teacher / "model")
    theirs = pictures_of(teacher, x)
    rows: list[dict[str, Any]] = [control(pairs, given.pairs, wanted)]
    row = measured(teacher, theirs, wanted, theirs, x)
    rows.append({"network": "teacher", **about(given.teacher), **row})
    networks, outputs = [teacher], [theirs]
    for run in given.students:
        student = gc.load(edges32_generator, run / "model")
        made = pictures_of(student, x)
        row = {"network": "student", **about(run), **measured(student, made, wanted, theirs, x)}
        row["macs_times"] = round(rows[1]["macs"] / row["macs"], 3)
        row["params_times"] = round(rows[1]["params"] / row["params"], 3)
        row["l1_ratio"] = round(row["wanted_l1"] / rows[1]["wanted_l1"], 4)
        row["goal_met"] = row["l1_ratio"] <= GOAL and row["macs_times"] >= 8
        rows.append(row)
        networks.append(student)
        outputs.append(made)
    for n in (1, 32):
        for i, best in enumerate(interleaved(networks, x[:n])):
            rows[i + 1][f"best_ms_{n}"] = best
    for row in rows:
        print(row, flush=True)
    result = {
        **protocol(rows[-1]["seed"], ("numpy", "pillow")),
        "data": "Fashion-MNIST, edges by benchmarks/tasks/edge_pairs.py; 60,000 pairs to train",
        "measured_on": f"{len(pairs):,} test pairs that no training read; values in [-1, 1]",
        "goal": f"macs_times >= 8 and l1_ratio <= {GOAL}",
        "macs": "convolutions, FLOPs / 2, one picture",
        "latency": "one thread, float32; ms: median; best_ms: least of 20 taken in turns",
        "load": [round(x, 1) for x in os.getloadavg()],
        "rows": rows,
    }
    write(RESULTS / "edges.json", result)
    place(ROOT / "docs" / "tasks.md", "edges", shown(rows))
    grid([part[:SHOWN] for part in (x, wanted, *outputs)], ROOT / "docs/images/edges.png")


def shown(rows: list[dict[str, Any]]) -> str:
    """Return the table of the document."""
    header = (
        "network", "seed", "parameters", "MACs", "L1 to wanted", "times teacher's", "PSNR", "SSIM",
        "L1 to teacher", "PSNR to teacher", "SSIM to teacher", "ms, 1 picture", "ms, 32 pictures",
    )  # fmt: skip
    keys = (
        "network", "seed", "params", "macs", "wanted_l1", "l1_ratio", "wanted_psnr", "wanted_ssim",
        "teacher_l1", "teacher_psnr", "teacher_ssim", "best_ms_1", "best_ms_32",
    )  # fmt: skip
    return table(header, [[number(row.get(key), key) for key in keys] for row in rows])


def number(value: Any, key: str) -> Any:
    """Return ``value`` as the table shows it."""
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.2f}" if "psnr" in key or "ms" in key else f"{value:.4f}"
    return value


if __name__ == "__main__":
    main()
