"""``python -m benchmarks.publish_teacher RUN``: make a finished teacher run the embedded teacher.

RUN is the folder of ``gancompress train --recipe fashion-teacher --data FASHION_MNIST_FOLDER``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from gancompress import assets
from gancompress.data.inputs import InputSampler
from gancompress.errors import CheckpointError
from gancompress.metrics.evaluate import evaluate
from gancompress.models import BigGANConfig, BigGANDiscriminator, BigGANGenerator
from gancompress.recipes.load import load_recipe
from gancompress.training.checkpoint import latest_checkpoint


def publish(run: Path, folder: Path, *, commit: str | None, samples: int) -> dict[str, Any]:
    """Write ``teacher_g.safetensors``, ``teacher_d.safetensors``, ``teacher.json`` to ``folder``.

    The generator is the moving average of the run's last checkpoint, the discriminator as it is
    there. ``teacher.json`` holds the networks' configuration, the recipe, step count, commit,
    SHA-256 of both files, and quality on ``samples`` samples (0: none). Returns its content.

    Raises:
        CheckpointError: the run has no good checkpoint, or it is of other networks.
    """
    found, _ = latest_checkpoint(run / "ckpt")
    if found is None:
        raise CheckpointError(f"{run} has no checkpoint")
    config = BigGANConfig.fashion32()
    generator, discriminator = BigGANGenerator(config), BigGANDiscriminator(config)
    try:
        generator.load_state_dict(found.parts["ema"])
        discriminator.load_state_dict(found.parts["discriminator"])
    except (RuntimeError, KeyError) as error:
        raise CheckpointError(f"{found.path} is not of the embedded networks: {error}") from error
    recipe = load_recipe(run / "config.yaml").model_dump(mode="json")
    digests = {
        "teacher_g.safetensors": _write(folder / "teacher_g.safetensors", generator.state_dict()),
        "teacher_d.safetensors": _write(
            folder / "teacher_d.safetensors", discriminator.state_dict()
        ),
    }
    record: dict[str, Any] = {
        "config": config.to_dict(),
        "recipe": recipe,
        "steps": found.step,
        "images_seen": found.step * recipe["batch"] * recipe["discriminator"]["steps"],
        "data": "Fashion-MNIST, all 60,000 training images",
        "git": commit,
        "sha256": digests,
        "parameters": {
            "generator": sum(p.numel() for p in generator.parameters()),
            "discriminator": sum(p.numel() for p in discriminator.parameters()),
        },
    }
    if samples:
        generator.eval()
        record["quality"] = evaluate(generator, InputSampler.of(generator), n=samples, seed=0)
    (folder / "teacher.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return record


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and publish."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of the finished run")
    parser.add_argument("--folder", type=Path, default=Path(assets.__file__).parent)
    parser.add_argument(
        "--commit", help="commit that the run was made with (default: its env.json)"
    )
    parser.add_argument("--samples", type=int, default=2000, help="samples of the quality figures")
    given = parser.parse_args(arguments)
    commit = given.commit
    if commit is None:
        commit = json.loads((given.run / "env.json").read_text(encoding="utf-8"))["git"]
    record = publish(given.run, given.folder, commit=commit, samples=given.samples)
    print(json.dumps(record.get("quality", {}), indent=1))


def _write(file: Path, tensors: Mapping[str, Tensor]) -> str:
    data = safetensors.torch.save({k: t.detach().contiguous() for k, t in tensors.items()})
    file.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    main()
