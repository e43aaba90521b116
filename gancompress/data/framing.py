"""The frame that every picture is brought to: cropped, resized, and mirrored by index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gancompress.errors import ConfigError, DataError

CENTER = "center"
LARGEST = 2**14
Size = tuple[int, int]


@dataclass(frozen=True)
class Frame:
    """How pictures are framed (ours).

    Attributes:
        size: height and width of the result; ``None`` keeps those of the files.
        crop: ``"center"`` cuts the largest central part that has the shape of ``size`` (without
            ``size``: the central square); (height, width) cuts that part at its own scale.
        flip: mirrored pictures follow as indices ``n`` to ``2 n - 1`` (StyleGAN's ``--mirror``),
            so that a picture stays a function of its index.
    """

    size: Size | None = None
    crop: str | Size | None = None
    flip: bool = False

    @classmethod
    def of(cls, size: object = None, crop: object = None, flip: object = False) -> Frame:
        """Check the options as people type them: ``64``, ``"64x48"`` (height x width), a pair.

        Raises:
            ConfigError: an option has another form.
        """
        if not isinstance(flip, bool):
            raise ConfigError(f"flip must be true or false; found {flip!r}")
        if isinstance(crop, str) and crop.strip().lower() in (CENTER, "centre"):
            return cls(_size(size, "size"), CENTER, flip)
        return cls(_size(size, "size"), _size(crop, "crop", "'center', "), flip)

    def cut(self, height: int, width: int) -> Size | None:
        """Return the height and width of the central part that is cut, or ``None``."""
        if self.crop is None:
            return None
        if not isinstance(self.crop, str):
            return self.crop
        rows, columns = self.size or (1, 1)
        factor = min(height / rows, width / columns)
        return max(1, round(rows * factor)), max(1, round(columns * factor))

    def size_of(self, height: int, width: int, name: str) -> Size:
        """Return the height and width that a picture of (height, width) gets.

        Raises:
            DataError: it is smaller than the crop, or would be stretched.
        """
        part = self.cut(height, width)
        if part is not None and (part[0] > height or part[1] > width):
            raise DataError(
                f"{name} is {width}x{height} (width x height), smaller than "
                f"crop={part[1]}x{part[0]}"
            )
        rows, columns = part or (height, width)
        if self.size is None:
            return rows, columns
        # One pixel of rounding is no other shape: 1000 x 667 is 3:2.
        high, wide = self.size
        gap = abs(rows * wide - columns * high)
        if part is None and gap > max(high, wide):
            raise DataError(
                f"{name} is {width}x{height} (width x height); size={wide}x{high} would stretch "
                "it. Add crop='center'"
            )
        return self.size

    def apply(self, picture: np.ndarray) -> Tensor:
        """Return (c, h, w) of a picture (h, w, c), cut and resized, in the same type.

        Resized by bicubic interpolation that filters when it makes smaller (antialias).
        """
        part = self.cut(*picture.shape[:2])
        if part is not None:
            top, left = ((have - want) // 2 for have, want in zip(picture.shape[:2], part))
            picture = picture[top : top + part[0], left : left + part[1]]
        tensor = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
        if self.size is None or tuple(tensor.shape[1:]) == self.size:
            return tensor
        wide = tensor.to(torch.float32)  # torch has no arithmetic for uint16
        resized = torch.nn.functional.interpolate(
            wide[None], self.size, mode="bicubic", antialias=True
        )[0]
        resized = resized.clamp_(wide.min(), wide.max())
        return resized if tensor.is_floating_point() else resized.round_().to(tensor.dtype)


def _size(given: object, what: str, also: str = "") -> Size | None:
    if given is None:
        return None
    parts: Sequence[object] = ()
    if isinstance(given, str):
        parts = given.lower().replace("×", "x").split("x")
    elif isinstance(given, (tuple, list, torch.Size)):
        parts = given
    elif isinstance(given, (int, np.integer)) and not isinstance(given, bool):
        parts = (given,)
    try:
        sides = [int(p) for p in parts if str(p).strip().isdigit()]  # type: ignore[call-overload]
    except ValueError:
        sides = []
    if (
        len(sides) != len(parts)
        or len(sides) not in (1, 2)
        or not all(1 <= s <= LARGEST for s in sides)
    ):
        raise ConfigError(
            f"{what}={given!r} is not {also}a number of pixels, or height x width such as 64x48 "
            f"(1 to {LARGEST:,})"
        )
    return sides[0], sides[-1]


def mirror(image: Tensor) -> Tensor:
    """Swap left and right; not every torch does that with uint16, but with the same bits (ours)."""
    if image.dtype == torch.uint16:
        return image.view(torch.int16).flip(-1).view(torch.uint16)
    return image.flip(-1)
