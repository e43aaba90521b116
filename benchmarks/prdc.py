"""Precision, recall, density and coverage: matrix products against exact differences.

    python -m benchmarks.prdc                                  # sizes that one thread does soon
    python -m benchmarks.prdc --n 20000 --ways products        # minutes
    python -m benchmarks.prdc --n 50000 --ways products        # a quarter of an hour on one thread

CPU seconds and growth of resident memory, each in a process of its own; both ways must give the
same figures. Each row is kept as soon as it is there, in `benchmarks/results/prdc.json` and in the
table of `docs/speed.md`; the others stay.
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
WAYS = ("differences", "products")
SIZES, WIDTH = (1000, 2000), 2048
MOST_DIFFERENCES = 5000
FIGURES = ("precision", "recall", "density", "coverage")
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
    """Measure both ways at each size; each row goes to the result and the table at once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, nargs="*", default=list(SIZES), help="features a set")
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=list(WAYS))
    options = parser.parse_args()
    for n in options.n:
        for way in options.ways:
            if way == "differences" and n > MOST_DIFFERENCES:
                print(f"{way} of {n}: left out, {MOST_DIFFERENCES} are the most", flush=True)
                continue
            job = (way, n, WIDTH)
            row = {"way": way, "n": n, "d": WIDTH, **isolated(measure, job, limit_s=LIMIT_S)}
            print(row, flush=True)
            write(row)


def write(row: dict[str, Any]) -> None:
    """Put the row into the result and the page; the others stay."""
    head = {"benchmark": "PRDC of n real and n made features", **record.protocol(0)}
    data = record.keep(record.RESULTS / "prdc.json", head, [row], ["way", "n", "d"])
    rows = sorted(data["rows"], key=lambda r: (r["n"], r["way"]))
    found = {(r["way"], r["n"]): [r.get(f) for f in FIGURES] for r in rows}
    cells = []
    for r in rows:
        old = found.get(("differences", r["n"]))
        same = "" if old is None or r["way"] != "products" else found["products", r["n"]] == old
        cells.append(
            [f"{r['n']:,} x {r['d']:,}", r["way"], r.get("cpu_s", r.get("status")),
             r.get("growth_mb"), {True: "yes", False: "no"}.get(same, "")]  # type: ignore[arg-type]
        )  # fmt: skip
    head_line = ["features", "way", "CPU s", "memory beside the features, MiB", "same figures"]
    text = f"Torch {data['versions']['torch']}, one thread.\n\n" + record.table(head_line, cells)
    record.place(DOCUMENT, "prdc", text)


if __name__ == "__main__":
    main()
