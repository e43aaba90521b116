"""The 2,000 Fashion-MNIST images that ship with the package."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gancompress import assets
from gancompress.data.arrays import ArrayDataset, padded
from gancompress.data.fashion import CLASSES

RESOLUTION = 32
N_CLASSES = 10


def embedded_images() -> tuple[Tensor, Tensor]:
    """Return the images (2000, 1, 32, 32) uint8, padded from 28 with background 0, and labels."""
    with np.load(assets.path("fashion2000.npz"), allow_pickle=False) as file:
        images, labels = file["x"], file["y"]
    return padded(images[:, None], RESOLUTION), torch.from_numpy(labels.astype(np.int64))


def embedded() -> ArrayDataset:
    """Return the embedded images as a data set of 10 classes."""
    images, labels = embedded_images()
    return ArrayDataset(images, labels, N_CLASSES, class_names=CLASSES)
