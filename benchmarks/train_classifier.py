"""Make the embedded classifier: ``python benchmarks/train_classifier.py IDX_FOLDER``."""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from gancompress import assets
from gancompress.data.fashion import fashion
from gancompress.metrics.classifier import FEATURES, FashionClassifier


def load(folder: Path, *, train: bool) -> tuple[Tensor, Tensor]:
    """Return images (n, 1, 32, 32) in [-1, 1] and labels (n,) of the idx files in ``folder``.

    Raises:
        DataError: a file is missing or damaged.
    """
    data = fashion(folder, train=train)
    assert data.labels is not None  # idx files always carry labels
    return data.images.float() / 127.5 - 1, data.labels


def train(
    images: Tensor, labels: Tensor, *, epochs: int, batch: int, lr: float, seed: int
) -> tuple[FashionClassifier, int]:
    """Return a classifier trained by one-cycle SGD on flipped and shifted images, and the steps.

    ``images`` (n, 1, 32, 32) in [-1, 1], ``labels`` (n,).
    """
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    net = FashionClassifier().to(memory_format=torch.channels_last)
    steps = epochs * (len(images) // batch)
    optimizer = torch.optim.SGD(
        net.parameters(), lr=lr, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.25)
    for epoch in range(epochs):
        start, total = time.monotonic(), 0.0
        order = torch.randperm(len(images), generator=rng)
        for i in range(len(images) // batch):
            pick = order[i * batch : (i + 1) * batch]
            x = images[pick]
            flip = torch.rand(batch, 1, 1, 1, generator=rng) < 0.5
            x = torch.where(flip, x.flip(3), x)
            # One shift a batch: cheap, and over hundreds of batches as good as one an image.
            shift = torch.randint(-2, 3, (2,), generator=rng).tolist()
            x = x.roll(shift, (2, 3)).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                logits = net(x)
            loss = F.cross_entropy(logits.float(), labels[pick], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        took = time.monotonic() - start
        print(f"epoch {epoch + 1}/{epochs} loss {total / (i + 1):.4f} {took:.0f} s", flush=True)
    return net.eval(), steps


@torch.no_grad()
def accuracy(net: FashionClassifier, images: Tensor, labels: Tensor) -> float:
    """Return the share in [0, 1] of ``images`` whose largest logit is the label."""
    hits = [
        (net(x).argmax(1) == y).sum()
        for x, y in zip(images.split(500), labels.split(500), strict=True)
    ]
    return float(torch.stack(hits).sum()) / len(labels)


def git_hash() -> str:
    """Return the commit of the working folder, or ``"unknown"`` outside a repository."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def main() -> None:
    """Train on the 60,000 training images, test on the 10,000 others, write the two asset files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with the four idx gz files")
    parser.add_argument("--out", type=Path, default=Path(assets.__file__).parent)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch", type=int, default=250)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    train_x, train_y = load(options.folder, train=True)
    test_x, test_y = load(options.folder, train=False)
    start = time.monotonic()
    net, steps = train(
        train_x,
        train_y,
        epochs=options.epochs,
        batch=options.batch,
        lr=options.lr,
        seed=options.seed,
    )
    # Stored in half precision: the accuracy below is that of the rounded weights, as they ship.
    state = {
        name: value.half().contiguous() if value.is_floating_point() else value
        for name, value in net.state_dict().items()
    }
    net.load_state_dict({name: value.float() for name, value in state.items()})
    record = {
        "features": FEATURES,
        "test_accuracy": accuracy(net, test_x, test_y),
        "test_images": len(test_y),
        "train_images": len(train_y),
        "parameters": sum(p.numel() for p in net.parameters()),
        "seed": options.seed,
        "epochs": options.epochs,
        "steps": steps,
        "batch": options.batch,
        "lr": options.lr,
        "wall_s": round(time.monotonic() - start, 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "git": git_hash(),
    }
    save_file(state, str(options.out / "classifier.safetensors"))
    (options.out / "classifier.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
