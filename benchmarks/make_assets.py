"""Make the embedded images and the tests' held-out slice from the Fashion-MNIST idx files.

python benchmarks/make_assets.py IDX_FOLDER

The folder is that of the Debian package dataset-fashion-mnist (usr/share/datasets/fashion-mnist).
The classifier is made by ``python -m gancompress.metrics.train_classifier IDX_FOLDER``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gancompress import assets
from gancompress.metrics.idx import read_split

ROOT = Path(__file__).parent.parent
NOTICE = """\
fashion2000.npz holds 2,000 images (the first 200 of each class of the training set) of
Fashion-MNIST, https://github.com/zalandoresearch/fashion-mnist
classifier.safetensors, teacher_g.safetensors and teacher_d.safetensors were trained by this
project on the 60,000 images of its training set.

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


def first_of_each(
    images: NDArray[np.uint8], labels: NDArray[np.int64], count: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the first ``count`` images (10 count, 28, 28) of each class in turn, and labels."""
    keep = np.concatenate([np.flatnonzero(labels == c)[:count] for c in range(10)])
    return images[keep], labels[keep].astype(np.uint8)


def main() -> None:
    """Write fashion2000.npz and its licence to the assets, the slice of t10k to the tests."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder with the four idx gz files")
    options = parser.parse_args()
    out = Path(assets.__file__).parent
    for split, count, file in (
        ("train", 200, out / "fashion2000.npz"),
        ("t10k", 20, ROOT / "tests" / "metrics" / "t10k200.npz"),
    ):
        x, y = first_of_each(*read_split(options.folder, split), count)
        np.savez_compressed(file, x=x, y=y)
        print(f"{file}: {len(x)} images, {file.stat().st_size} bytes")
    (out / "LICENSE-fashion-mnist.txt").write_text(NOTICE)


if __name__ == "__main__":
    main()
