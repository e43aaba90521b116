"""A folder of 200,000 pictures: time to open it, memory, images a second, by number of workers.

    python benchmarks/data.py                 # about ten minutes; the files are made and deleted
    python benchmarks/data.py --files 20000   # a smaller folder

Each measurement runs in a process of its own. Results go to `benchmarks/results/data.json`, the
table into `docs/data.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.record import RESULTS, ROOT, place, protocol, table, write
from gancompress.data.folders import open_images
from gancompress.data.workers import Ahead

CLASSES, SIDE, BATCH, SEED = 100, 32, 64, 0


def make(folder: Path, files: int) -> None:
    """Write ``files`` colour PNG of noise and slopes in class folders."""
    rng = np.random.default_rng(SEED)
    slope = np.linspace(0, 200, SIDE)[None, :, None]
    for k in range(CLASSES):
        (folder / f"{k:03d}").mkdir(parents=True)
    for i in range(files):
        noise = rng.integers(0, 56, (SIDE, SIDE, 3))
        picture = Image.fromarray((slope + noise).astype(np.uint8))
        picture.save(folder / f"{i % CLASSES:03d}" / f"{i:06d}.png", compress_level=1)


def resident_mb() -> float:
    """Return the resident memory of this process and its children in MiB, shared pages once."""
    total = 0
    me = os.getpid()
    children = Path(f"/proc/{me}/task/{me}/children").read_text().split()
    for pid in [str(me), *children]:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def measure(folder: Path, workers: int, batches: int) -> dict[str, Any]:
    """Open the folder and read ``batches`` random batches; return times and memory."""
    torch.set_num_threads(1)
    idle = resident_mb()
    start = time.perf_counter()
    data = open_images(folder)
    opened = time.perf_counter() - start
    after = resident_mb()

    def picks(step: int) -> torch.Tensor:
        return torch.randint(
            len(data), (BATCH,), generator=torch.Generator().manual_seed(SEED + step)
        )

    memory: list[float] = []
    with Ahead(data, picks, workers=workers) as ahead:
        ahead.batch(0)
        start = time.perf_counter()
        for step in range(1, batches + 1):
            ahead.batch(step)
            if step in (batches // 4, batches):
                memory.append(resident_mb() - idle)
        seconds = time.perf_counter() - start
    return {
        "open_s": round(opened, 2),
        "opened_mb": round(after - idle, 1),
        "images": batches * BATCH,
        "images_per_s": round(batches * BATCH / seconds),
        "quarter_mb": round(memory[0], 1),
        "end_mb": round(memory[-1], 1),
    }


def fresh(folder: Path, cache: Path, workers: int, batches: int) -> dict[str, Any]:
    """Measure in a new process."""
    words = [sys.executable, __file__, "--measure", str(folder), str(workers), str(batches)]
    done = subprocess.run(
        words,
        env={**os.environ, "GANCOMPRESS_CACHE": str(cache)},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--batches", type=int, default=1_000)
    parser.add_argument("--measure", nargs=3)
    args = parser.parse_args()
    if args.measure:
        folder, workers, batches = args.measure
        print(json.dumps(measure(Path(folder), int(workers), int(batches))))
        return
    home = Path(tempfile.mkdtemp(prefix="gancompress-data-"))
    try:
        make(home / "pictures", args.files)
        rows: list[dict[str, Any]] = []
        for name, workers in (("first", 0), ("second", 0), ("second", 2)):
            found = fresh(home / "pictures", home / "cache", workers, args.batches)
            rows.append({"opened": name, "workers": workers, **found})
            print(rows[-1], flush=True)
        index = sum(f.stat().st_size for f in (home / "cache").rglob("*.npz"))
    finally:
        shutil.rmtree(home)
    result = {
        **protocol(SEED, ("pillow", "numpy")),
        "files": args.files,
        "picture": f"{SIDE}x{SIDE} RGB PNG, {CLASSES} class folders",
        "batch": BATCH,
        "memory": "proportional set size over that before opening, MiB, children included",
        "index_bytes": index,
        "rows": rows,
    }
    write(RESULTS / "data.json", result)
    header = ("opened", "workers", "open, s", "images/s", "MiB opened", "MiB at 1/4", "MiB at end")
    keys = ("opened", "workers", "open_s", "images_per_s", "opened_mb", "quarter_mb", "end_mb")
    place(
        ROOT / "docs" / "data.md", "measured", table(header, [[r[k] for k in keys] for r in rows])
    )


if __name__ == "__main__":
    main()
