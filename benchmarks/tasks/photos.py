"""Tiles of photographs that Debian ships as wallpapers, for networks that make pictures good again.

    mkdir debs; cd debs
    apt-get download mate-backgrounds plasma-workspace-wallpapers lomiri-wallpapers-16.04 \
        lomiri-wallpapers-20.04
    for file in *.deb; do dpkg-deb -x $file ../unpacked; done; cd ..
    python benchmarks/tasks/photos.py unpacked photos

writes ``photos/train.npy`` and ``photos/test.npy``: uint8 (n, 3, 256, 256), cut out of different
photographs. The same files come out every time. Licences stand in each package's ``copyright``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

TILE = 256
WIDTHS = (1920, 1200, 800)  # a photograph is looked at from near and from far
PIECES = 32  # of a photograph at a width

BACKGROUNDS = (
    "Dragonfly_by_Bolly", "Kleiber_by_Lukas_Baubkus", "Picture_0B_by_freespace",
    "Picture_1A_by_freespace", "Wine_by_Jakkub_Mede", "aitzgorri_by_Aitzol_Berasategi",
    "free_by_Peter_Nerlich", "friends_by_Aitzol_Berasategi", "greentock_by_Peter_Nerlich",
    "life_by_Aitzol_Berasategi", "picosdeeuropa_by_Aitzol_Berasategi",
    "seeding_by_Clements_Engelhardt", "sunset_by_Aitzol_Berasategi",
)  # fmt: skip
NATURE = (
    "Aqua", "Blinds", "Dune", "Garden", "GreenMeadow", "LadyBird", "RainDrops", "Storm",
    "TwoWings", "Wood", "YellowFlower",
)  # fmt: skip
PLASMA = (
    "BytheWater", "ColdRipple", "ColorfulCups", "EveningGlow", "FallenLeaf", "Grey", "Kite",
    "OneStandsOut", "Path",
)  # fmt: skip
HELD_OUT = (
    "BytheWater", "ColorfulCups", "Dragonfly_by_Bolly", "EveningGlow", "LadyBird", "Path",
    "life_by_Aitzol_Berasategi", "picosdeeuropa_by_Aitzol_Berasategi",
)  # fmt: skip


def photographs(unpacked: Path) -> dict[str, Path]:
    """Return the photographs below a folder of unpacked packages, by name; drawings are left out.

    Raises:
        SystemExit: one is missing; the package is named.
    """
    share = unpacked / "usr" / "share"
    found = {name: share / "backgrounds" / f"{name}.jpg" for name in BACKGROUNDS}
    found |= {name: share / "backgrounds" / "mate" / "nature" / f"{name}.jpg" for name in NATURE}
    inside = Path("contents") / "images" / "2560x1600.jpg"
    found |= {name: share / "wallpapers" / name / inside for name in PLASMA}
    missing = [str(path) for path in found.values() if not path.is_file()]
    if missing:
        raise SystemExit(
            f"{len(missing)} photographs are missing, the first is {missing[0]}: unpack "
            "mate-backgrounds, plasma-workspace-wallpapers and lomiri-wallpapers-16.04/-20.04 there"
        )
    return found


def tiles(picture: Image.Image, rng: np.random.Generator, *, pieces: int = PIECES) -> np.ndarray:
    """Return uint8 squares (n, 3, `TILE`, `TILE`): ``pieces`` at random places of each width.

    Widths above the picture's own are left out, so that nothing is enlarged.
    """
    found: list[np.ndarray] = []
    for width in WIDTHS:
        height = round(picture.height * width / picture.width)
        if width > picture.width or height < TILE:
            continue
        pixels = np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS))
        for _ in range(pieces):
            top = int(rng.integers(height - TILE + 1))
            left = int(rng.integers(width - TILE + 1))
            found.append(pixels[top : top + TILE, left : left + TILE].transpose(2, 0, 1))
    return np.stack(found)


def make(unpacked: Path, folder: Path) -> None:
    """Write both files below ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    parts: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    for i, (name, file) in enumerate(sorted(photographs(unpacked).items())):
        with Image.open(file, formats=["JPEG"]) as picture:
            part = "test" if name in HELD_OUT else "train"
            parts[part].append(tiles(picture.convert("RGB"), np.random.default_rng(i)))
    for part, found in parts.items():
        together = np.concatenate(found)
        # Neighbours in the file are of different photographs.
        np.save(folder / f"{part}.npy", np.random.default_rng(0).permutation(together))
        print(f"{part}: {len(together):,} tiles of {len(found)} photographs")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("unpacked", type=Path, help="folder of unpacked Debian packages")
    parser.add_argument("folder", type=Path, help="where the tiles go")
    given = parser.parse_args()
    make(given.unpacked, given.folder)


if __name__ == "__main__":
    main()
