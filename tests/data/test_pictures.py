from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from gancompress.data.folders import open_images
from gancompress.data.pictures import FORMATS, MAX_PIXELS, header
from gancompress.errors import ConfigError, DataError


def read(folder: Path, **options: object) -> torch.Tensor:
    return open_images(folder, **options).batch([0])[0][0]  # type: ignore[arg-type]


def unit(value: float) -> float:
    return value / 127.5 - 1


def ramp(height: int, width: int, top: int = 65535) -> np.ndarray:
    return np.linspace(0, top, height * width).reshape(height, width)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_grey_of_16_bits_keeps_its_steps(tmp_path: Path, name: str) -> None:
    values = ramp(6, 9).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / name)
    data = open_images(tmp_path)
    assert data.raw([0])[0].dtype == torch.uint16
    torch.testing.assert_close(
        data.batch([0])[0][0, 0], torch.from_numpy(values / 32767.5 - 1).float()
    )
    assert any("16 bits" in note for note in data.notes)


def test_8_bits_among_16_become_16(tmp_path: Path) -> None:
    Image.new("L", (4, 4), 128).save(tmp_path / "a.png")
    Image.fromarray(np.full((4, 4), 65535, np.uint16)).save(tmp_path / "b.png")
    images, _ = open_images(tmp_path).batch([0, 1])
    assert images[0].unique().tolist() == pytest.approx([128 / 127.5 - 1])
    assert images[1].unique().tolist() == [1]
    with pytest.raises(DataError, match=r"b\.png has 16 bits.*a\.png 8"):
        open_images(tmp_path, values=(0, 4095))


def test_12_bits_in_16_by_their_range(tmp_path: Path) -> None:
    values = ramp(4, 4, 4095).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    image = read(tmp_path, values=(0, 4095))
    assert image.min() == -1
    assert image.max() == 1


def test_floats_need_their_range(tmp_path: Path) -> None:
    values = ramp(4, 4, 1).astype(np.float32)
    Image.fromarray(values).save(tmp_path / "a.tiff")
    with pytest.raises(DataError, match=r"values=\(0, 1\)"):
        open_images(tmp_path)
    torch.testing.assert_close(read(tmp_path, values=(0, 1))[0], torch.from_numpy(values * 2 - 1))
    with pytest.raises(DataError, match=r"\[0, 1\], outside values=\(0, 0\.5\)"):
        read(tmp_path, values=(0, 0.5))


def test_whole_numbers_of_32_bits_have_no_range(tmp_path: Path) -> None:
    Image.fromarray(ramp(4, 4).astype(np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"a\.tif is of kind 'I'"):
        open_images(tmp_path)


def test_a_palette_shows_its_colours(tmp_path: Path) -> None:
    picture = Image.new("P", (4, 4), 1)
    picture.putpalette([0, 0, 0, 200, 100, 50])
    picture.save(tmp_path / "a.png")
    found = read(tmp_path)[:, 0, 0].tolist()
    assert found == pytest.approx([unit(v) for v in (200, 100, 50)])


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(np.eye(8, dtype=bool)).save(tmp_path / "a.png")
    assert torch.equal(read(tmp_path)[0], torch.eye(8) * 2 - 1)


def test_inks_become_colours(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    data = open_images(tmp_path)
    red, green, blue = data.batch([0])[0][0, :, 4, 4].tolist()
    assert red > 0.8
    assert max(green, blue) < -0.5
    assert any("CMYK" in note for note in data.notes)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "tRNS"])
def test_what_is_transparent_shows_the_ground(tmp_path: Path, mode: str) -> None:
    """The colours under a transparent part are left over from the drawing, and nobody sees them."""
    colour = np.zeros((4, 4, 4), np.uint8)
    colour[..., 3] = [[0, 0, 255, 255]] * 4
    picture = Image.fromarray(colour)
    options: dict = {}
    if mode == "LA":
        picture = picture.convert("LA")
    elif mode == "P":
        picture = Image.fromarray(np.array([[0, 0, 1, 1]] * 4, np.uint8)).convert("P")
        picture.putpalette([0, 0, 0, 0, 0, 0])
        options = {"transparency": 0}
    elif mode == "tRNS":
        picture = Image.fromarray(np.array([[9, 9, 0, 0]] * 4, np.uint8))
        options = {"transparency": 9}
    picture.save(tmp_path / "a.png", **options)
    channels = 1 if mode in ("LA", "tRNS") else 3
    image = read(tmp_path)
    assert image.shape == (channels, 4, 4)
    assert (image[:, :, :2] == 1).all()
    assert (image[:, :, 2:] == -1).all()
    assert (read(tmp_path, alpha="black") < -0.9).all() or mode == "tRNS"
    kept = read(tmp_path, alpha="keep")
    assert kept.shape[0] == channels + 1
    assert kept[-1].tolist() == [[-1, -1, 1, 1]] * 4
    with pytest.raises(DataError, match=r"a\.png.*alpha"):
        open_images(tmp_path, alpha="refuse")
    assert any("transparency laid over white" in note for note in open_images(tmp_path).notes)


def test_half_transparent_is_mixed(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (0, 0, 0, 128)).save(tmp_path / "a.png")
    assert read(tmp_path).mean() == pytest.approx(unit(127), abs=0.01)
    with pytest.raises(ConfigError, match="'grey' is none of white"):
        open_images(tmp_path, alpha="grey")


def test_kept_alpha_is_full_where_there_is_none(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (1, 2, 3, 0)).save(tmp_path / "a.png")
    Image.new("RGB", (4, 4), (1, 2, 3)).save(tmp_path / "b.png")
    images, _ = open_images(tmp_path, alpha="keep").batch([0, 1])
    assert images[:, 3, 0, 0].tolist() == [-1, 1]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "tif", "webp", "png"])
def test_pictures_stand_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    """A picture as people see it, stored turned, with the note that undoes it."""
    seen = np.zeros((16, 32), np.uint8)
    seen[:8, :16] = 255  # white at the upper left
    stored = {
        1: seen,
        2: seen[:, ::-1],
        3: seen[::-1, ::-1],
        4: seen[::-1],
        5: seen.T,
        6: np.rot90(seen),
        7: seen[::-1, ::-1].T,
        8: np.rot90(seen, -1),
    }[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    picture = Image.fromarray(np.ascontiguousarray(np.stack([stored] * 3, -1)))
    picture.save(tmp_path / f"a.{suffix}", exif=exif, quality=95)
    data = open_images(tmp_path)
    assert data.size == (16, 32)
    image = data.batch([0])[0][0, 0]
    assert image[1:7, 1:15].min() > 0.8
    assert image[9:].max() < -0.8
    assert image[:, 17:].max() < -0.8


@pytest.mark.parametrize("height", [4, 8])
def test_an_orientation_behind_the_pixels_is_not_overlooked(tmp_path: Path, height: int) -> None:
    """PNG may say at its end how to turn it, after sizes were read from the header."""
    exif = Image.Exif()
    exif[274] = 6
    buffer = io.BytesIO()
    picture = Image.new("RGB", (8, height))
    picture.paste((255, 255, 255), (0, height // 2, 8, height))  # white below, to be seen left
    picture.save(buffer, "png", exif=exif)
    data = buffer.getvalue()
    at = data.index(b"eXIf") - 4
    length = struct.unpack(">I", data[at : at + 4])[0] + 12
    chunk, rest = data[at : at + length], data[:at] + data[at + length :]
    end = rest.index(b"IEND") - 4
    (tmp_path / "a.png").write_bytes(rest[:end] + chunk + rest[end:])
    if height == 8:
        assert read(tmp_path)[0, 0].tolist() == [1] * 4 + [-1] * 4
    else:
        with pytest.raises(DataError, match=r"a\.png is 4x8 in its pixels and 8x4"):
            read(tmp_path)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_films_in_a_picture_are_refused(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (8, 8), (i * 90, 0, 0)) for i in range(3)]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=rf"a\.{suffix} holds 3 frames"):
        open_images(tmp_path)


def test_a_still_gif_is_a_picture(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "a.gif")
    assert read(tmp_path)[:, 0, 0].tolist() == [1, -1, -1]


def png_of(width: int, height: int, bits: int = 8, colour: int = 2) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    size = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + body + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [13_000, 20_000, 60_000])
def test_a_huge_picture_is_refused_by_its_header(tmp_path: Path, side: int) -> None:
    (tmp_path / "a.png").write_bytes(png_of(side, side))
    with pytest.raises(DataError, match=r"a\.png is (too large|13000x13000).*tiles"):
        open_images(tmp_path)


def test_a_large_picture_is_allowed() -> None:
    assert header(png_of(8192, 8192), "a").height ** 2 == MAX_PIXELS


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS"),
        (b"<!DOCTYPE html><html></html>", "HTML"),
        (b"", "empty"),
        (b"\x89PNG\r\n\x1a\n", r"a\.png"),
        (b"GIF89a" + b"\xff" * 9, r"a\.png"),
    ],
)
def test_other_things_called_png(tmp_path: Path, content: bytes, word: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=word) as caught:
        read(tmp_path)
    assert "a.png" in str(caught.value)
    assert caught.value.exit_code == 3


def test_decoders_are_named(tmp_path: Path) -> None:
    """A format that is not in the list is not tried, whatever the file is called."""
    assert "EPS" not in FORMATS
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", format="TGA")
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png", format="ICO")
    for name in ("a.png", "b.png"):
        with pytest.raises(DataError, match=name):
            header(tmp_path / name, name)


def test_text_bombs_are_refused(tmp_path: Path) -> None:
    text = PngInfo()
    text.add_text("comment", "x" * 80_000_000, zip=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=text)
    with pytest.raises(DataError, match=r"a\.png"):
        read(tmp_path)


def test_a_link_to_nothing_is_a_bad_file(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(DataError, match=r"b\.png.*No such file"):
        open_images(tmp_path)


def test_colour_of_16_bits_is_said(tmp_path: Path) -> None:
    raw = np.zeros((4, 1 + 4 * 6), np.uint8)
    raw[:, 1::2] = 0x80

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    size = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size)
        + chunk(b"IDAT", zlib.compress(raw.tobytes()))
        + chunk(b"IEND", b"")
    )
    data = open_images(tmp_path)
    assert data.batch([0])[0].unique().tolist() == pytest.approx([unit(128)], abs=0.01)
    assert any("upper 8" in note for note in data.notes)


def test_damaged_metadata_turns_nothing(tmp_path: Path) -> None:
    Image.new("RGB", (8, 4), (255, 255, 255)).save(tmp_path / "a.jpg", exif=b"Exif\0\0nonsense")
    assert read(tmp_path).shape == (3, 4, 8)


def test_a_phone_picture_with_a_second_one_in_it(tmp_path: Path) -> None:
    first, second = (Image.new("RGB", (16, 8), (v, v, v)) for v in (255, 0))
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[second])
    assert (read(tmp_path) > 0.95).all()
