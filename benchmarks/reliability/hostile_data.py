"""Pictures, arrays, archives and sound that claim more than they hold, or hold something else."""

from __future__ import annotations

import io
import json
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks.reliability.hostile_weights import Make, as_is
from gancompress.data.folders import open_images
from gancompress.data.inputs import InputSampler
from gancompress.data.sound import open_sound

NPY = b"\x93NUMPY\x01\x00"


def npy(header: str | bytes, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    """Return a .npy file with any header."""
    text = header.encode() if isinstance(header, str) else header
    size = struct.pack("<H", len(text)) if version == b"\x01\x00" else struct.pack("<I", len(text))
    return b"\x93NUMPY" + version + size + text + data


def shaped(shape: str, kind: str = "'|u1'", order: str = "False") -> bytes:
    """Return a .npy file that claims a shape."""
    return npy(f"{{'descr': {kind}, 'fortran_order': {order}, 'shape': {shape}, }}\n", b"1234")


ARRAYS = {
    "10^15 numbers": shaped("(1000000, 3, 100000, 100000)"),
    "2^64 numbers": shaped("(4294967296, 4294967296)"),
    "10^100 numbers": shaped(f"({10**100}, 3, 8, 8)"),
    "a negative size": shaped("(-1, 3, 8, 8)"),
    "a size of nothing": shaped("(4, 3, 0, 8)"),
    "True as a size": shaped("(True, 3, 8, 8)"),
    "objects": shaped("(1,)", "'|O'"),
    "objects in fields": shaped("(1,)", "[('a', '|O')]"),
    "a type of 2^31 bytes": shaped("(1,)", "'|V2147483647'"),
    "text": shaped("(1, 3, 8, 8)", "'<U4'"),
    "times": shaped("(1, 3, 8, 8)", "'<M8[s]'"),
    "complex": shaped("(1, 3, 8, 8)", "'<c16'"),
    "code as a header": npy("__import__('os').system('touch ran')"),
    "a call in a header": npy("{'descr': exec('1'), 'fortran_order': False, 'shape': ()}"),
    "a header of 60,000 brackets": npy("(" * 60_000),
    "a long header": npy(b"{'descr': '|u1', 'fortran_order': False, 'shape': (" + b"1," * 5000),
    "a header of 4 GB": b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}",
    "version 9": b"\x93NUMPY\x09\x00\x00\x00",
    "a header cut off": NPY + b"\xff\x00{'descr'",
    "NUL bytes": npy(b"\x00" * 100),
    "Fortran's order, unsaid": shaped("(4, 3, 2, 2)", order="7"),
    "other keys": npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1,), 'x': 1}"),
    "empty": b"",
    "a pickle": b"\x80\x02cos\nsystem\n(S'touch ran'\ntR.",
}


def png(width: int, height: int, *chunks: tuple[bytes, bytes], colour: int = 2) -> bytes:
    """Return a PNG of any size whose pixels are zeros, in few bytes."""
    channels = {0: 1, 2: 3, 6: 4}[colour]

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + channels * width)) for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    body = b"".join(chunk(*c) for c in chunks)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body
        + chunk(b"IDAT", rows + packer.flush()) + chunk(b"IEND", b"")
    )  # fmt: skip


def encoded(kind: str, **options: Any) -> bytes:
    """Return a small picture in a format of Pillow's."""
    out = io.BytesIO()
    Image.new(options.pop("mode", "RGB"), (8, 8)).save(out, kind, **options)
    return out.getvalue()


def pictures() -> Iterator[tuple[str, str, bytes]]:
    """Yield (name, ending, bytes) of pictures that are none, or too large."""
    bomb = zlib.compress(bytes(2**28), 9)
    yield "13,000 x 13,000", "png", png(13_000, 13_000, colour=0)
    yield "8,192 x 8,192 with alpha", "png", png(8192, 8192, colour=6)
    yield "2^31 x 2^31", "png", png(1, 1).replace(struct.pack(">II", 1, 1), b"\x7f\xff\xff\xff" * 2)
    yield "256 MB of text", "png", png(8, 8, (b"zTXt", b"a\0\0" + bomb))
    yield "a profile of 256 MB", "png", png(8, 8, (b"iCCP", b"a\0\0" + bomb))
    yield "text of a language", "png", png(8, 8, (b"iTXt", b"a\0\1\0\0\0" + bomb))
    yield "a wrong sum", "png", png(8, 8)[:-20] + b"\0" * 20
    yield "PostScript", "png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n"
    yield "PostScript as a JPEG", "jpg", b"%!PS-Adobe-3.0\n(touch ran) system\n"
    yield "a drawing that loads a file", "png", b'<svg><image href="file:///etc/passwd"/></svg>'
    yield "a page", "jpg", b"<html><script>1</script></html>"
    yield "a PDF", "png", encoded("PDF")
    for kind in (
        "ICO",
        "PCX",
        "TGA",
        "SGI",
        "JPEG2000",
        "DDS",
        "IM",
        "SPIDER",
        "MSP",
        "XBM",
        "EPS",
    ):
        mode = {"MSP": "1", "XBM": "1", "SPIDER": "F"}.get(kind, "RGB")
        yield f"a decoder that is not used: {kind}", "png", encoded(kind, mode=mode)
    yield "frames", "gif", _frames("GIF")
    yield "pages", "tif", _frames("TIFF")
    yield (
        "GIF of 65,535 x 65,535",
        "gif",
        b"GIF89a\xff\xff\xff\xff\x00\x00\x00,\x00\x00\x00\x00" + b"\xff" * 5,
    )
    yield "BMP of 2^31 rows", "bmp", _bmp(2**30, 2**30)
    yield "BMP of minus 2^31 rows", "bmp", _bmp(8, -(2**31))
    yield "PPM of 10^9 x 10^9", "ppm", b"P6 1000000000 1000000000 255\n"
    yield "PPM of 10^5000", "ppm", b"P6 " + b"9" * 5000 + b" 1 255\n"
    yield "PPM without an end", "ppm", b"P3 4 4 255\n" + b"1 " * 3
    yield "TIFF of itself", "tif", b"II*\0\x08\0\0\0" + b"\0\0" + struct.pack("<I", 8)
    yield (
        "TIFF of 65,535 tags",
        "tif",
        b"II*\0\x08\0\0\0\xff\xff" + b"\x00\x01\x04\x00\xff\xff\xff\xff" * 99,
    )
    yield "WEBP of 2^32 bytes", "webp", b"RIFF\xff\xff\xff\xffWEBPVP8X" + b"\xff" * 20
    yield "JPEG of 65,535 x 65,535", "jpg", _jpeg(b"\xff\xff\xff\xff")
    yield "JPEG cut off", "jpg", encoded("JPEG")[:200]
    yield (
        "EXIF that turns in circles",
        "jpg",
        encoded("JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" * 9),
    )
    yield "empty", "png", b""
    yield "zeros", "png", bytes(4096)


def _frames(kind: str) -> bytes:
    out = io.BytesIO()
    frames = [Image.new("L", (8, 8), i) for i in range(50)]
    frames[0].save(out, kind, save_all=True, append_images=frames[1:])
    return out.getvalue()


def _bmp(width: int, height: int) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + head


def _jpeg(size: bytes) -> bytes:
    data = encoded("JPEG")
    place = data.index(b"\xff\xc0") + 5
    return data[:place] + size + data[place + 4 :]


def in_zip(members: dict[str, bytes], name: str = "d.zip") -> Make:
    """Return what writes a zip file, packed."""

    def make(folder: Path) -> None:
        with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, data in members.items():
                archive.writestr(member, data)

    return make


def in_tar(*members: tuple[str, bytes, dict[str, Any]], end: bool = True) -> Make:
    """Return what writes a tar file whose members have the fields given."""

    def make(folder: Path) -> None:
        with tarfile.open(folder / "d.tar", "w", format=tarfile.GNU_FORMAT) as archive:
            for name, data, fields in members:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                for key, value in fields.items():
                    setattr(info, key, value)
                archive.addfile(info, io.BytesIO(data) if info.size == len(data) else None)
        if not end:
            data = (folder / "d.tar").read_bytes()
            (folder / "d.tar").write_bytes(data.rstrip(b"\0"))

    return make


SMALL = png(8, 8)


def archives() -> Iterator[tuple[str, Make]]:
    """Yield archives of pictures."""
    yield "zip: names outside", in_zip({"../../x.png": SMALL, "/etc/y.png": SMALL})
    yield "zip: a bomb of a picture", in_zip({"a.png": bytes(2**29)})
    yield "zip: deep dataset.json", in_zip({"dataset.json": b"[" * 10**6, "a.png": SMALL})
    yield "zip: dataset.json of 512 MB", in_zip({"dataset.json": b" " * 2**29, "a.png": SMALL})
    for label in (10**30, -1, 1e400, "x", [1] * 10, {}, True, float("nan")):
        text = json.dumps({"labels": [["a.png", label]]}).encode()
        yield f"zip: the label {str(label)[:12]}", in_zip({"dataset.json": text, "a.png": SMALL})
    yield (
        "zip: labels of other files",
        in_zip({"dataset.json": b'{"labels": [["../../etc/passwd", 1]]}', "a.png": SMALL}),
    )
    yield "zip: cut off", as_is(b"PK\x03\x04" + bytes(100), "d.zip")
    yield "zip: empty", in_zip({})
    yield "zip: locked", _locked
    yield "tar: a link out", in_tar(("a.png", b"", {"type": tarfile.SYMTYPE, "linkname": "/etc/x"}))
    yield (
        "tar: a hard link",
        in_tar(("a.png", b"", {"type": tarfile.LNKTYPE, "linkname": "/etc/x"})),
    )
    yield "tar: a device", in_tar(("a.png", b"", {"type": tarfile.CHRTYPE}))
    yield "tar: a pipe", in_tar(("a.png", b"", {"type": tarfile.FIFOTYPE}))
    yield "tar: names outside", in_tar(("../../a.png", b"not a picture", {}))
    yield "tar: a size of 2^60", in_tar(("a.png", b"", {"size": 2**60}))
    yield "tar: a class of 10^30", in_tar(("a.png", SMALL, {}), ("a.cls", b"9" * 30, {}))
    yield "tar: a class of 10^18", in_tar(("a.png", SMALL, {}), ("a.cls", b"9" * 18, {}))
    yield "tar: a class of words", in_tar(("a.png", SMALL, {}), ("a.cls", b"import os", {}))
    yield (
        "tar: a class that links",
        in_tar(
            ("a.png", SMALL, {}),
            ("a.cls", b"", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}),
        ),
    )
    yield "tar: no end", in_tar(("a.png", SMALL, {}), end=False)
    yield "tar: zeros", as_is(bytes(10**6), "d.tar")
    yield "tar: a header of 9s", as_is(b"9" * 2048, "d.tar")
    yield "tar: a long name of 2^40", _long_name


def _locked(folder: Path) -> None:
    in_zip({"a.png": SMALL})(folder)
    data = bytearray((folder / "d.zip").read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (folder / "d.zip").write_bytes(data)


def _long_name(folder: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**33
    (folder / "d.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))


def hdf5() -> Iterator[tuple[str, Make]]:
    """Yield HDF5 files that lead elsewhere or claim what is not stored."""
    import h5py

    def make(write: Any) -> Make:
        def made(folder: Path) -> None:
            with h5py.File(folder / "d.h5", "w") as file:
                write(file)

        return made

    def external(file: Any) -> None:
        file["x"] = h5py.ExternalLink("/etc/other.h5", "/x")

    def soft(file: Any) -> None:
        file["x"] = h5py.SoftLink("/x")

    def elsewhere(file: Any) -> None:
        file.create_dataset("x", (4, 3, 8, 8), "u1", external=[("/etc/passwd", 0, 768)])

    def labels(file: Any) -> None:
        file.create_dataset("x", (10**9, 3, 8, 8), "u1", chunks=(1, 3, 8, 8))
        file.create_dataset("y", (10**9,), "i8", chunks=(1024,))

    yield "a link to another file", make(external)
    yield "a link to itself", make(soft)
    yield "numbers in another file", make(elsewhere)
    yield "10^9 labels that nobody wrote", make(labels)
    for name, shape, chunks in (
        ("rows of 10^10", (16, 3, 60_000, 60_000), None),
        ("chunks of 10^9", (16, 3, 30_000, 30_000), (1, 1, 30_000, 30_000)),
        ("rows of 10^8 in chunks", (64, 3, 8000, 8000), (1, 1, 64, 64)),
        ("no axes", (), None),
    ):
        yield name, make(lambda f, s=shape, c=chunks: f.create_dataset("x", s, "u1", chunks=c))
    yield "objects", make(lambda f: f.create_dataset("x", (4,), h5py.string_dtype()))
    yield "cut off", as_is(b"\x89HDF\r\n\x1a\n" + bytes(40), "d.h5")


def wav(
    rate: int = 8000, channels: int = 1, bits: int = 16, size: int = 64, kind: int = 1
) -> bytes:
    """Return a wav file whose header says anything."""
    block = channels * bits // 8
    form = struct.pack("<HHIIHH", kind, channels & 0xFFFF, rate, rate, block & 0xFFFF, bits)
    return (
        b"RIFF" + struct.pack("<I", 36 + 64) + b"WAVEfmt " + struct.pack("<I", 16) + form
        + b"data" + struct.pack("<I", size) + bytes(64)
    )  # fmt: skip


SOUNDS = {
    "4 GB claimed": wav(size=2**32 - 2),
    "0 bits": wav(bits=0),
    "7 bits": wav(bits=7),
    "40 bits": wav(bits=40),
    "64 bits": wav(bits=64),
    "65,535 channels": wav(channels=65_535),
    "no channel": wav(channels=0),
    "a rate of 2^32": wav(rate=2**32 - 1),
    "a rate of 0": wav(rate=0),
    "MP3 inside": wav(kind=0x55),
    "a form of its own": wav(kind=0xFFFE),
    "no data": wav(size=0)[:-72],
    "cut off": wav()[:30],
    "an odd size": wav(size=63),
    "empty": b"",
    "ogg": b"OggS" + bytes(100),
    "a chunk of 4 GB": b"RIFF\xff\xff\xff\xffWAVEjunk\xff\xff\xff\xff" + bytes(64),
    "a chunk of nothing, often": b"RIFF\xff\xff\xff\xffWAVE" + b"junk\0\0\0\0" * 10_000,
}


def of_data() -> Iterator[tuple[str, str, Make]]:
    """Yield (name, door, make) of every hostile file of data."""
    for name, data in ARRAYS.items():
        yield name, "npy", as_is(data, "d.npy")
        yield name, "npz", in_zip({"x.npy": data}, "d.npz")
        yield name, "input npy", as_is(data, "d.npy")
    yield "a bomb of zeros", "npz", in_zip(
        {"x.npy": npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1024, 1024, 1024), }\n")
         + bytes(2**30)}, "d.npz")  # fmt: skip
    for name, ending, data in pictures():
        yield name, "pictures", as_is(data, f"pictures/a.{ending}")
        if ending in ("png", "jpg"):
            yield f"zip: {name}", "zip", in_zip({f"a.{ending}": data})
            yield f"input: {name}", "input images", as_is(data, f"pictures/a.{ending}")
    yield "a pipe", "pictures", lambda folder: _pipe(folder / "pictures" / "a.png")
    for name, make in archives():
        yield name, "tar" if name.startswith("tar") else "zip", make
    for name, make in hdf5():
        yield name, "h5", make
    for name, data in SOUNDS.items():
        yield name, "sound", as_is(data, "pictures/a.wav")
        yield name, "input wav", as_is(data, "pictures/a.wav")


def _pipe(file: Path) -> None:
    file.parent.mkdir(exist_ok=True)
    os.mkfifo(file)


def opened(path: Path) -> object:
    """Open data as the command line does, and read two samples."""
    found = open_images(path)
    return found.batch(torch.arange(min(2, len(found))))[0].shape


def input_of(spec: str) -> object:
    """Draw two samples of an input."""
    return InputSampler.parse([spec])(2, torch.Generator().manual_seed(0))[0].shape


def sounds(folder: Path) -> object:
    """Open a folder of sound, and read a piece."""
    found = open_sound(folder, length=8)
    return found.batch(torch.arange(1))[0].shape
