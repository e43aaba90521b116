"""Make the embedded images, their floor and the tests' held-out slice from the Fashion-MNIST files.

python benchmarks/make_assets.py IDX_FOLDER

The folder is that of the Debian package dataset-fashion-mnist (usr/share/datasets/fashion-mnist).
Make the classifier first, with ``python benchmarks/train_classifier.py IDX_FOLDER``: it
describes 2,000 more training images (the next 200 of each class), the metrics' real-vs-real floor.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gancompress import assets
from gancompress.data.arrays import ArrayDataset
from gancompress.data.fashion import fashion
from gancompress.metrics.classifier import describe

ROOT = Path(__file__).parent.parent
NOTICE = """\
fashion2000.npz holds 2,000 images (the first 200 of each class of the training set) of
Fashion-MNIST, https://github.com/zalandoresearch/fashion-mnist
fashion_floor.npz describes 2,000 others; classifier.safetensors, teacher_g.safetensors and
teacher_d.safetensors were trained by this project on the 60,000 images of the training set.

The MIT License (MIT)

Copyright (c) 2017 Zalando SE, https://tech.zalando.com

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction,
including without limitation the rights to use, copy, modify, merge, publish, distribute,
sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or
substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM,
DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT
OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def of_each(data: ArrayDataset, start: int, stop: int) -> tuple[Tensor, Tensor]:
    """Return images ``start`` to ``stop`` (n, 1, 28, 28) of each class in turn, and labels (n,)."""
    assert data.labels is not None  # idx files always carry labels
    keep = torch.cat([(data.labels == c).nonzero().flatten()[start:stop] for c in range(10)])
    return data.images[keep], data.labels[keep]


def main() -> None:
    """Write the assets and the tests' slice of t10k."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder with the four idx gz files")
    options = parser.parse_args()
    out = Path(assets.__file__).parent
    made = [out / "fashion2000.npz", ROOT / "tests" / "metrics" / "t10k200.npz"]
    for file, train, count in zip(made, (True, False), (200, 20), strict=True):
        x, y = of_each(fashion(options.folder, train=train, resolution=28), 0, count)
        np.savez_compressed(file, x=x[:, 0].numpy(), y=y.to(torch.uint8).numpy())
    (out / "LICENSE-fashion-mnist.txt").write_text(NOTICE)
    # The floor's images themselves are never shown: their features are all that is needed.
    x, _ = of_each(fashion(options.folder, train=True), 200, 400)
    features, _ = describe(x.float() / 127.5 - 1)
    made.append(out / "fashion_floor.npz")
    np.savez_compressed(made[-1], features=features.half().numpy())
    for file in made:
        print(f"{file.relative_to(ROOT)}: {file.stat().st_size} bytes")


if __name__ == "__main__":
    main()
