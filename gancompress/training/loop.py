"""The training loop, read top to bottom."""

from __future__ import annotations

import contextlib
import copy
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.data.arrays import Dataset
from gancompress.errors import DivergedError
from gancompress.recipes.schema import Recipe
from gancompress.training.checkpoint import latest_checkpoint, save_checkpoint
from gancompress.training.ema import update_ema
from gancompress.training.losses import ADVERSARIAL
from gancompress.training.order import batch_indices, stream
from gancompress.training.run_folder import RunFolder, environment
from gancompress.training.samples import save_grid
from gancompress.training.signals import Stop
from gancompress.training.state import load_optimizer_state, optimizer_state


@dataclass(frozen=True)
class TrainResult:
    """What a run leaves: the averaged generator, the plan, the metrics lines, the folder."""

    generator: nn.Module
    plan: Any
    history: list[dict[str, float]]
    run_dir: Path | None
    exit_code: int = 0


def train(
    recipe: Recipe,
    *,
    generator: nn.Module,
    discriminator: nn.Module | None = None,
    dataset: Dataset,
    out: str | Path | None = None,
    resume: str | None = None,
    device: str = "cpu",
    max_steps: int | None = None,
) -> TrainResult:
    """Train ``generator`` by ``recipe`` and return its moving average."""
    assert discriminator is not None
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    G = generator.to(device, memory_format=layout).train()
    D = discriminator.to(device, memory_format=layout).train()
    ema = copy.deepcopy(G)
    g_optim = _adam(G, recipe.generator_optim)
    d_optim = _adam(D, recipe.discriminator_optim)
    loss = ADVERSARIAL.get(recipe.adversarial.loss)()
    steps = recipe.steps if max_steps is None else min(recipe.steps, max_steps)
    history: list[dict[str, float]] = []
    step = 0

    run = RunFolder(Path(out)) if out else None
    if run is not None:
        run.path.mkdir(parents=True, exist_ok=True)
        run.write_json("config.json", recipe.model_dump(mode="json"))
        run.write_json("env.json", environment())
        if resume is not None:
            found, _ = latest_checkpoint(run.checkpoints)
            if found is not None:
                G.load_state_dict(found.parts["generator"])
                D.load_state_dict(found.parts["discriminator"])
                ema.load_state_dict(found.parts["ema"])
                load_optimizer_state(g_optim, found.parts["g_optim"], found.state["g_optim"])
                load_optimizer_state(d_optim, found.parts["d_optim"], found.state["d_optim"])
                step = found.step

    def autocast() -> contextlib.AbstractContextManager[Any]:
        if recipe.precision == "bf16":
            return torch.autocast(torch.device(device).type, dtype=torch.bfloat16)
        return contextlib.nullcontext()

    shown, since = 0, time.monotonic()
    with Stop() as stop:
        while step < steps and stop.requested is None:
            # Learning rates.
            factor = _lr_factor(step / steps, recipe.lr_decay)
            for optim, numbers in (
                (g_optim, recipe.generator_optim),
                (d_optim, recipe.discriminator_optim),
            ):
                for group in optim.param_groups:
                    group["lr"] = numbers.lr * factor

            # Discriminator steps. The last one keeps the graph of its fake images: one generator
            # forward then serves the generator step too.
            D.requires_grad_(True)
            rounds = recipe.discriminator.steps
            for turn in range(rounds):
                number = step * rounds + turn
                indices = batch_indices(
                    len(dataset), batch=recipe.batch, seed=recipe.seed, step=number
                )
                real, y_real = dataset.batch(indices)
                real = real.to(device, memory_format=layout)
                z, y = G.sample_inputs(recipe.batch, stream(recipe.seed, "latents", number))
                with autocast():
                    with torch.set_grad_enabled(turn == rounds - 1):
                        fake = G(z, y)
                    real_logits = D(real, y_real).float()
                    fake_logits = D(fake.detach(), y).float()
                d_loss = loss.discriminator(real_logits, fake_logits)
                d_optim.zero_grad(set_to_none=True)
                d_loss.backward()
                d_optim.step()

            # Generator step, on the same images: one generator forward serves both.
            D.requires_grad_(False)
            with autocast():
                logits = D(fake, y).float()
            g_loss = loss.generator(logits)
            g_optim.zero_grad(set_to_none=True)
            g_loss.backward()
            g_optim.step()

            # Moving average.
            step += 1
            update_ema(ema, G, decay=recipe.ema.decay if step > recipe.ema.start else 0.0)

            # Log.
            shown += recipe.batch
            if step % recipe.log_every == 0 or step == steps:
                line = {
                    "step": step,
                    "d_loss": d_loss.item(),
                    "g_loss": g_loss.item(),
                    "real": real_logits.mean().item(),
                    "fake": fake_logits.mean().item(),
                    "images_per_second": shown / (time.monotonic() - since),
                }
                shown, since = 0, time.monotonic()
                history.append(line)
                if run is not None:
                    run.metric(**line)
                left = (steps - step) * recipe.batch / line["images_per_second"]
                print(
                    f"step {step}/{steps}  G {line['g_loss']:.3f}  D {line['d_loss']:.3f}  "
                    f"real {line['real']:+.2f} fake {line['fake']:+.2f}  "
                    f"{line['images_per_second']:.0f} img/s  ETA {left / 60:.1f} min",
                    file=sys.stderr, flush=True,
                )  # fmt: skip
                if not all(v == v and abs(v) != float("inf") for v in line.values()):
                    raise DivergedError(f"a loss is not finite at step {step}: {line}")

            # Samples and checkpoint.
            last = step == steps or stop.requested is not None
            if (
                run is not None
                and recipe.sample_every
                and (last or step % recipe.sample_every == 0)
            ):
                save_grid(
                    _samples(ema, recipe.seed), run.samples / f"step_{step:06d}.png", columns=10
                )
            if run is not None and (
                last or (recipe.checkpoint_every and step % recipe.checkpoint_every == 0)
            ):
                g_tensors, g_plain = optimizer_state(g_optim)
                d_tensors, d_plain = optimizer_state(d_optim)
                save_checkpoint(
                    run.checkpoints,
                    step,
                    {
                        "generator": G.state_dict(),
                        "discriminator": D.state_dict(),
                        "ema": ema.state_dict(),
                        "g_optim": g_tensors,
                        "d_optim": d_tensors,
                    },
                    {"g_optim": g_plain, "d_optim": d_plain},
                )
    D.requires_grad_(True)
    return TrainResult(
        ema.eval(), None, history, run.path if run else None,
        exit_code=0 if stop.requested is None else stop.exit_code,
    )  # fmt: skip


def _adam(module: nn.Module, numbers: Any) -> torch.optim.Adam:
    return torch.optim.Adam(
        module.parameters(), lr=numbers.lr, betas=numbers.betas, eps=numbers.eps
    )


def _lr_factor(progress: float, decay_from: float | None) -> float:
    if decay_from is None or progress <= decay_from:
        return 1.0
    return (1.0 - progress) / (1.0 - decay_from)


@torch.no_grad()
def _samples(ema: nn.Module, seed: int, n: int = 100) -> Tensor:
    rng = stream(seed, "samples")
    ema.eval()
    z, _ = ema.sample_inputs(n, rng)
    images = ema(z, torch.arange(n) % 10)
    ema.train()
    return images
