"""One picture file: what its header says, and its pixels as people see them.

Pillow decodes; which of its formats may be tried is fixed here, so that a file's content never
starts another program (Pillow hands PostScript to Ghostscript) and rare decoders stay unused.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gancompress.errors import ConfigError, DataError

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "PPM", "TIFF", "GIF")
SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".ppm", ".pgm", ".pbm", ".pnm",
    ".tif", ".tiff", ".gif",
)  # fmt: skip
MAX_PIXELS = 2**26
"""8,192 x 8,192: a larger picture is refused by its header, before memory is taken."""

ALPHA = ("white", "black", "keep", "refuse")
Source = Path | bytes

_GREY = {"1", "L", "LA", "La"}
_COLOUR = {"RGB", "RGBA", "RGBa", "RGBX", "P", "PA", "CMYK", "YCbCr"}
_DEEP = {"I;16", "I;16L", "I;16B", "I;16N"}
_ORIENTATION = 0x0112
_METADATA = {"exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"}
_FIRST_BYTES = (
    (b"%!PS", "PostScript"),
    (b"%PDF", "a PDF"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file (git lfs pull fetches it)"),
    (b"<", "a page or a drawing in XML (HTML, SVG)"),
    (b"PK\x03\x04", "a zip file"),
    (b"\x00\x00\x00", "a film or a HEIC/AVIF picture"),
)


@dataclass(frozen=True)
class Header:
    """What a picture is before its pixels are read (ours).

    Attributes:
        height: rows as seen, after the EXIF orientation.
        width: columns as seen.
        colour: three colours rather than grey.
        bits: 8, 16, or 32 for floats.
        alpha: it has transparency.
        turned: its EXIF orientation is not the upright one.
        reduced: 16 bits a channel of which Pillow reads the upper 8.
        cmyk: printing inks, turned into colours without a profile.
    """

    height: int
    width: int
    colour: bool = False
    bits: int = 8
    alpha: bool = False
    turned: bool = False
    reduced: bool = False
    cmyk: bool = False


def check_alpha(alpha: str) -> None:
    """Refuse another word than ``white``, ``black``, ``keep`` or ``refuse`` (ConfigError)."""
    if alpha not in ALPHA:
        raise ConfigError(f"alpha={alpha!r} is none of {', '.join(ALPHA)}")


def header(source: Source, name: str) -> Header:
    """Return what the header of ``source`` says; no pixel is decoded.

    Raises:
        DataError: no picture of the kinds that are read, too large, animated, or of a kind whose
            range is unknown. ``name`` is in the message.
    """
    with opened(source, name) as picture:
        return _header(picture, name)


def decode(
    source: Source, name: str, *, colour: bool, bits: int, alpha: str = "white"
) -> np.ndarray:
    """Return pixels (h, w, c) upright: uint8 for 8 bits, uint16 for 16, float32 for 32.

    ``colour`` gives 3 channels, else 1; ``alpha="keep"`` adds one with the opacity, full where the
    file has none. Otherwise transparent parts are laid over white or black, as viewers show
    them. 8 bits become 16 by the factor 257.

    Raises:
        DataError: damaged, or another kind than ``bits`` can hold; ``name`` is in the message.
    """
    with opened(source, name) as picture:
        found = _header(picture, name)
        if found.alpha and alpha == "refuse":
            raise DataError(f"{name} has an alpha channel, which alpha='refuse' forbids")
        if (found.bits == 32) != (bits == 32) or found.bits > bits:
            raise DataError(f"{name} has {found.bits} bits a channel; the others have {bits}")
        try:
            array = _pixels(picture, found, colour=colour, alpha=alpha)
        except (MemoryError, DataError):
            raise
        except Exception as error:  # a decoder raises whatever a damaged byte leads it to
            raise DataError(f"{name} is damaged: {_short(error)}. Repair or remove it") from error
    if array.shape[:2] != (found.height, found.width):
        raise DataError(
            f"{name} is {array.shape[1]}x{array.shape[0]} in its pixels and "
            f"{found.width}x{found.height} in its header (an orientation after the pixels?)"
        )
    if bits == 16 and array.dtype == np.uint8:
        array = array.astype(np.uint16) * 257
    return array


def pixels_of(picture: Image, name: str, alpha: str = "white") -> np.ndarray:
    """Return (h, w, c) of a picture that is already open, by the same rules as a file.

    Raises:
        DataError: too large, animated, or of a kind that is not read.
    """
    found = _header(picture, name)
    if found.alpha and alpha == "refuse":
        raise DataError(f"{name} has an alpha channel, which alpha='refuse' forbids")
    if alpha == "keep" and not found.alpha:
        alpha = "white"
    return _pixels(picture, found, colour=found.colour, alpha=alpha)


@contextmanager
def opened(source: Source, name: str) -> Iterator[Image]:
    """Yield the picture of ``source``, its pixels not decoded yet.

    Raises:
        DataError: no picture of the kinds that are read, or too large; ``name`` is in the message.
    """
    from PIL import Image

    stream: Any = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with warnings.catch_warnings():
            # Pillow only warns up to twice its own limit; the check of the size below is ours.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(stream, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise DataError(f"{name} is too large: {error}. Cut it into tiles") from error
    except MemoryError:
        raise
    except Exception as error:  # headers too: Pillow's readers raise a dozen types
        raise DataError(f"{name} is no readable picture: {_cause(source, error)}") from error
    with picture:
        yield picture


def _header(picture: Image, name: str) -> Header:
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{name} is {width}x{height}, more than {MAX_PIXELS:,} pixels; cut it into tiles"
        )
    try:
        # A second picture in a JPEG is a thumbnail or a depth map that viewers do not show.
        frames = 1 if picture.format == "MPO" else int(getattr(picture, "n_frames", 1))
        orientation = _orientation(picture)
    except Exception as error:
        raise DataError(f"{name} is damaged: {_short(error)}. Repair or remove it") from error
    if frames > 1:
        raise DataError(
            f"{name} holds {frames} frames or pages; only single pictures are read. "
            "Write each frame to a file of its own, or remove it"
        )
    mode, alpha = picture.mode, _has_alpha(picture)
    raw = _raw_mode(picture)
    deep = mode in _DEEP or (mode == "I" and picture.format in ("PNG", "PPM"))
    if deep and alpha:
        raise DataError(f"{name} has 16 bits and a transparent grey, which is not read; remove it")
    if not deep and mode not in _GREY | _COLOUR | {"F"}:
        raise DataError(
            f"{name} is of kind {mode!r} ({picture.format}), whose range or colours are not "
            "defined; save it as PNG of 8 or 16 bits"
        )
    if picture.format == "TIFF":  # Pillow turns its size in some versions
        tags: Any = getattr(picture, "tag_v2", {})
        width, height = tags.get(256, width), tags.get(257, height)
    if orientation >= 5:
        width, height = height, width
    return Header(
        height=height,
        width=width,
        colour=mode in _COLOUR,
        bits=16 if deep else 32 if mode == "F" else 8,
        alpha=alpha,
        turned=orientation > 1,
        reduced=not deep and ";16" in raw and mode != "F" and not raw.startswith("BGR"),
        cmyk=mode == "CMYK",
    )


def _orientation(picture: Image) -> int:
    from PIL import Image

    if picture.format == "PNG" and not _METADATA & picture.info.keys():
        # It may come behind the pixels, and asking for it here would decode them all.
        return 1
    try:
        found = Image.Image.getexif(picture).get(_ORIENTATION, 1)
    except Exception:  # a damaged block of metadata turns no picture: viewers show it as it is
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _has_alpha(picture: Image) -> bool:
    return picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info


def _raw_mode(picture: Image) -> str:
    tile: Any = getattr(picture, "tile", None)
    parameters = tile[0][3] if tile else ""
    first = parameters[0] if isinstance(parameters, tuple) and parameters else parameters
    return first if isinstance(first, str) else ""


def _pixels(picture: Image, found: Header, *, colour: bool, alpha: str) -> np.ndarray:
    from PIL import Image as pillow
    from PIL import ImageOps

    picture.load()
    if _orientation(picture) > 1:
        picture = ImageOps.exif_transpose(picture)
    keep = alpha == "keep"
    if found.bits > 8:
        plane = np.asarray(picture).astype(np.float32 if found.bits == 32 else np.uint16)
        array = np.stack([plane] * (3 if colour else 1), axis=-1)
        return _with_opacity(array) if keep else array
    mode = "RGB" if colour else "L"
    if found.alpha:
        picture = picture.convert("RGBA")
        if keep:
            return np.array(picture.convert("RGBA" if colour else "LA"))
        ground = pillow.new("RGBA", picture.size, alpha)
        picture = pillow.alpha_composite(ground, picture)
    array = np.array(picture.convert(mode))
    array = array.reshape(*array.shape[:2], -1)
    return _with_opacity(array) if keep else array


def _with_opacity(array: np.ndarray) -> np.ndarray:
    full = np.iinfo(array.dtype).max if array.dtype.kind == "u" else 1
    return np.concatenate([array, np.full_like(array[..., :1], full)], axis=-1)


def _cause(source: Source, error: Exception) -> str:
    try:
        if isinstance(source, bytes):
            start = source[:32]
        else:
            with source.open("rb") as stream:
                start = stream.read(32)
    except OSError as problem:
        return f"{problem.strerror or problem}"
    if not start:
        return "the file is empty"
    for begin, kind in _FIRST_BYTES:
        if start.lstrip().startswith(begin):
            return f"it begins like {kind}. Remove it"
    return f"{_short(error)}. Remove it"


def _short(error: Exception) -> str:
    return f"{error or type(error).__name__}"[:200]
