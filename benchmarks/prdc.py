"""Precision, recall, density and coverage: matrix products against exact differences.

    python -m benchmarks.prdc              # sizes that one thread does in a minute or two
    python -m benchmarks.prdc --full       # 50,000 x 2048: minutes on a few cores

CPU seconds and the growth of resident memory, each in a process of its own; both ways must give the
same figures. Writes `benchmarks/results/prdc.json` and the table of `docs/speed.md`.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from benchmarks import record
from benchmarks.isolate import isolated
from benchmarks.scaling import Peak, resident
from gancompress.metrics.prdc import PRDC, prdc

DOCUMENT = record.ROOT / "docs" / "speed.md"
SIZES = ((1000, 2048), (2000, 2048))
LIMIT_S = 3000.0
BLOCK = 1000  # of the old way


def features(n: int, d: int) -> tuple[Tensor, Tensor]:
    """Return two sets that lie near each other, of a few strong directions as features have."""
    rng = torch.Generator().manual_seed(0)
    mix = torch.randn(32, d, generator=rng)
    made = [torch.randn(n, 32, generator=rng) @ mix for _ in range(2)]
    noise = [0.1 * torch.randn(n, d, generator=rng) for _ in range(2)]
    return (made[0] + noise[0]).relu(), (1.05 * made[1] + noise[1]).relu()


def by_differences(real: Tensor, fake: Tensor, k: int = 5) -> PRDC:
    """Return the figures from exact float64 differences of all pairs, block by block."""

    def far(a: Tensor, b: Tensor) -> Tensor:
        return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")

    real, fake = real.double(), fake.double()
    one, two = (
        torch.cat([far(part, s).kthvalue(k + 1, dim=1).values for part in s.split(BLOCK)])
        for s in (real, fake)
    )
    inside, recalled, covered = torch.zeros(len(fake)), [], []
    for part, radii in zip(real.split(BLOCK), one.split(BLOCK), strict=True):
        distances = far(part, fake)
        balls = distances < radii[:, None]
        inside += balls.sum(0)
        covered.append(balls.any(1))
        recalled.append((distances < two[None]).any(1))
    return PRDC(
        precision=float((inside > 0).double().mean()),
        recall=float(torch.cat(recalled).double().mean()),
        density=int(inside.sum()) / (k * len(fake)),
        coverage=float(torch.cat(covered).double().mean()),
    )


def measure(way: str, n: int, d: int) -> dict[str, Any]:
    """Measure one way at one size."""
    real, fake = features(n, d)
    before, peak = resident(), Peak()
    peak.start()
    start = time.process_time()
    found = (prdc if way == "products" else by_differences)(real, fake)
    took = time.process_time() - start
    peak.going = False
    peak.join()
    return {"cpu_s": round(took, 2), "growth_mb": round(peak.value - before), **asdict(found)}


def main() -> None:
    """Measure both ways at each size, and write the result and the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="50,000 x 2048, products only")
    options = parser.parse_args()
    jobs = [(way, n, d) for n, d in SIZES for way in ("differences", "products")]
    jobs += [("products", 50_000, 2048)] if options.full else []
    rows = []
    for job in jobs:
        row = {"way": job[0], "n": job[1], "d": job[2], **isolated(measure, job, limit_s=LIMIT_S)}
        rows.append(row)
        print(row, flush=True)
    figures = ("precision", "recall", "density", "coverage")
    for old, new in zip(rows[::2], rows[1::2], strict=False):
        if old["n"] == new["n"]:
            new["same"] = all(old.get(f) == new.get(f) for f in figures)
    data = {"benchmark": "PRDC of n real and n made features", **record.protocol(0), "rows": rows}
    record.write(record.RESULTS / "prdc.json", data)
    cells = [
        [f"{r['n']:,} x {r['d']:,}", r["way"], r.get("cpu_s"), r.get("growth_mb"),
         {True: "yes", False: "no"}.get(r.get("same"), "")]  # type: ignore[arg-type]
        for r in rows
    ]  # fmt: skip
    head = ["features", "way", "CPU s", "memory, MiB", "same figures"]
    text = f"Torch {data['versions']['torch']}, one thread.\n\n" + record.table(head, cells)
    record.place(DOCUMENT, "prdc", text)


if __name__ == "__main__":
    main()
