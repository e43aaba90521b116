"""Edges and garments: pairs made of all of Fashion-MNIST.

    python benchmarks/tasks/edge_pairs.py IDX_FOLDER pairs

writes ``train-edges.npz``, ``train-garments.npz`` (60,000 rows) and ``test-*.npz`` (10,000) below
``pairs``: uint8 pictures (n, 1, 32, 32) that belong together row by row. The same files come out
every time.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from gancompress.data.fashion import fashion

THRESHOLD = 12.0  # grey values a pixel
PARTS = {"train": True, "test": False}


def edges(pictures: np.ndarray) -> np.ndarray:
    """Return the edges of uint8 ``pictures`` (n, h, w) as 0 and 255.

    Canny without hysteresis: the gradient by Sobel's kernels (divided by 8, the border repeated);
    a pixel is an edge where its length is above `THRESHOLD`, and no smaller than at both
    neighbours along the gradient, which is rounded to one of four directions.
    """
    grey = np.pad(pictures.astype(np.float32), ((0, 0), (1, 1), (1, 1)), mode="edge")
    across = grey[:, :, 2:] - grey[:, :, :-2]
    down = grey[:, 2:] - grey[:, :-2]
    gx = (across[:, :-2] + 2 * across[:, 1:-1] + across[:, 2:]) / 8
    gy = (down[:, :, :-2] + 2 * down[:, :, 1:-1] + down[:, :, 2:]) / 8
    length = np.hypot(gx, gy)
    # 0: along x, 1: down right, 2: along y, 3: down left.
    turn = np.rint(np.arctan2(gy, gx) / (np.pi / 4)).astype(int) % 4
    around = np.pad(length, ((0, 0), (1, 1), (1, 1)))
    high, wide = length.shape[1:]
    found = length > THRESHOLD
    for direction, (dy, dx) in enumerate([(0, 1), (1, 1), (1, 0), (1, -1)]):
        ahead = around[:, 1 + dy : 1 + dy + high, 1 + dx : 1 + dx + wide]
        behind = around[:, 1 - dy : 1 - dy + high, 1 - dx : 1 - dx + wide]
        # One of two equal neighbours stays.
        largest = (length >= ahead) & (length > behind)
        found &= largest | (turn != direction)
    return np.where(found, 255, 0).astype(np.uint8)


def make(source: Path, folder: Path) -> None:
    """Write the four files of pairs below ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, train in PARTS.items():
        garments = fashion(source, train=train).images.numpy()
        lines = edges(garments[:, 0])[:, None]
        for name, pictures in (("edges", lines), ("garments", garments)):
            np.savez_compressed(folder / f"{part}-{name}.npz", x=pictures)
        print(f"{part}: {len(lines):,} pairs, {(lines > 0).mean():.1%} of the pixels are edges")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="folder with the four idx files")
    parser.add_argument("folder", type=Path, help="where the pairs go")
    given = parser.parse_args()
    make(given.source, given.folder)


if __name__ == "__main__":
    main()
