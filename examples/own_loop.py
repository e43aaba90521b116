"""Compress a generator inside a training loop of one's own.

    python examples/own_loop.py

The loop below is an ordinary GAN loop; the four lines marked (*) are all that compression adds.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import torch
from torch.nn.functional import softplus

import gancompress as gc

sys.path.insert(0, str(Path(__file__).parent))
from dcgan import build_discriminator, build_generator


def main(steps: int = 60, batch: int = 16) -> float:
    """Train for ``steps`` while pruning to a third of the parameters; return the compression."""
    rng = torch.Generator().manual_seed(0)
    generator, discriminator = build_generator(), build_discriminator()
    teacher = copy.deepcopy(generator).eval()
    example = (torch.randn(2, 64, 1, 1, generator=rng),)

    masked = gc.wrap(generator, example=example, target="params=3x")  # (*)
    g_optim = torch.optim.Adam(generator.parameters(), 2e-4, betas=(0.0, 0.99))
    d_optim = torch.optim.Adam(discriminator.parameters(), 2e-4, betas=(0.0, 0.99))

    for step in range(steps):
        z = torch.randn(batch, 64, 1, 1, generator=rng)
        with torch.no_grad():
            real = teacher(z)  # no data here: the teacher's images stand in

        fake = generator(z)
        d_loss = softplus(discriminator(fake.detach())).mean()
        d_loss = d_loss + softplus(-discriminator(real)).mean()
        d_optim.zero_grad()
        d_loss.backward()
        d_optim.step()

        g_loss = softplus(-discriminator(fake)).mean() + (fake - real).abs().mean()
        g_loss = g_loss + 1e-3 * masked.penalty()  # (*)
        g_optim.zero_grad()
        g_loss.backward()
        g_optim.step()
        masked.advance((step + 1) / steps)  # (*)

    small = masked.prune()  # (*) a plain module, verified against the masked one
    result = gc.report(teacher, small, example=example)
    print(result)
    return result.compression


if __name__ == "__main__":
    main()
