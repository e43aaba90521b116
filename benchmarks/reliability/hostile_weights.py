"""Files of weights that somebody made to do harm, or that claim more than they hold."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gancompress.models.convert import load_biggan_folder
from gancompress.weights.reading import tensors_at

Make = Callable[[Path], object]
MARK = "ran"


class Calls:
    """Asks whoever unpickles it to call ``function``."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


class Named:
    """Refers to a global by name, whether it exists here or not."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


def raw(module: str, name: str, arguments: bytes = b"(S'touch ran'\ntR.") -> bytes:
    """Return a pickle of protocol 2 that calls ``module.name``."""
    return b"\x80\x02c" + module.encode() + b"\n" + name.encode() + b"\n" + arguments


GLOBALS = (
    ("os", "system"), ("posix", "system"), ("nt", "system"), ("subprocess", "Popen"),
    ("subprocess", "check_output"), ("builtins", "eval"), ("builtins", "exec"),
    ("__builtin__", "eval"), ("builtins", "getattr"), ("builtins", "__import__"),
    ("builtins", "open"), ("builtins", "bytearray"), ("builtins", "range"), ("builtins", "list"),
    ("importlib", "import_module"), ("runpy", "run_path"), ("shutil", "rmtree"), ("os", "popen"),
    ("os", "execv"), ("pty", "spawn"), ("webbrowser", "open"), ("ctypes", "CDLL"),
    ("torch", "load"), ("torch.hub", "load"), ("torch.jit", "load"), ("torch._C", "_jit_init"),
    ("torch.serialization", "load"), ("torch.utils.cpp_extension", "load_inline"),
    ("torch._utils", "_rebuild_device_tensor_from_numpy"), ("torch._dynamo", "disable"),
    ("torch.storage", "_load_from_bytes"), ("torch.nn.modules.linear", "Linear"),
    ("numpy", "load"), ("numpy", "fromfile"), ("numpy.f2py", "compile"),
    ("functools", "partial"), ("operator", "attrgetter"), ("types", "FunctionType"),
    ("types", "CodeType"), ("marshal", "loads"), ("pickle", "loads"), ("_pickle", "loads"),
    ("timeit", "timeit"), ("code", "interact"), ("pydoc", "pipepager"), ("cProfile", "run"),
    ("gancompress.cli", "main"), ("evil", "build"), ("collections", "namedtuple"),
    ("torch._utils", "_rebuild_wrapper_subclass"), ("torch._tensor", "_rebuild_from_type_v2"),
)  # fmt: skip


def in_archive(data: bytes, **members: bytes) -> Make:
    """Return what writes ``data`` as the pickle of an archive of torch.save."""

    def make(folder: Path) -> None:
        with zipfile.ZipFile(folder / "w.pth", "w") as archive:
            archive.writestr("w/data.pkl", data)
            archive.writestr("w/byteorder", b"little")
            archive.writestr("w/version", b"3\n")
            for name, content in members.items():
                archive.writestr("w/" + name, content)

    return make


def in_legacy(data: bytes) -> Make:
    """Return what writes ``data`` as the pickle of torch's old format."""
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    head = magic + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)
    return lambda folder: (folder / "w.pth").write_bytes(head + data + pickle.dumps([], 2))


def as_is(data: bytes, name: str = "w.pth") -> Make:
    """Return what writes ``data`` to a file."""

    def make(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)

    return make


def saved(value: Any, legacy: bool) -> Make:
    """Return what saves ``value`` with torch."""
    options = {"_use_new_zipfile_serialization": not legacy}
    return lambda folder: torch.save(value, folder / "w.pth", **options)


def doubled(times: int, key: bool) -> bytes:
    """Return a pickle of tuples of tuples, 2^times leaves in a few bytes, perhaps as a key."""
    data = b"\x80\x02" + b"}" + b"K\x01\x85q\x00"
    for i in range(times):
        data += b"0h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1])
    return data + (b"K\x00s." if key else b"0.")


def referring(times: int) -> bytes:
    """Return a pickle whose persistent id is a list of lists, 2^times long when it is printed."""
    data = b"\x80\x02]K\x01aq\x00"
    for i in range(times):
        data += b"0]h" + bytes([i]) + b"ah" + bytes([i]) + b"aq" + bytes([i + 1])
    return data + b"Q."


def safetensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """Return a safetensors file of any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def odd_safetensors() -> Iterator[tuple[str, bytes]]:
    """Yield files whose header claims what is not so."""

    def one(shape: Any, span: Any, kind: Any = "F32") -> dict[str, Any]:
        return {"w": {"dtype": kind, "shape": shape, "data_offsets": span}}

    yield "header of 2^62 bytes", safetensors({}, length=2**62)
    yield "header of 100 MB", safetensors(b"{" + b" " * 10**8 + b"}")
    yield "more than it holds", safetensors(one([2**40], [0, 2**42]), b"1234")
    yield "overflowing shape", safetensors(one([2**32, 2**32], [0, 0]))
    yield "negative shape", safetensors(one([-1], [0, 4]), b"1234")
    yield "backward span", safetensors(one([1], [4, 0]), b"1234")
    yield "hole", safetensors(one([1], [4, 8]), b"12345678")
    two = one([1], [0, 4]) | {"v": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    yield "overlap", safetensors(two, b"1234")
    yield "unknown type", safetensors(one([1], [0, 4], "PYOBJ"), b"1234")
    yield "no JSON", safetensors(b'{"w": ' + b"[" * 50_000)
    yield "deep JSON", safetensors(b'{"w": ' + b"[" * 50_000 + b"]" * 50_000 + b"}")
    yield "twice the name", safetensors(
        b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"w":{"dtype":"F32","shape":[1],'
        b'"data_offsets":[0,4]}}', b"1234")  # fmt: skip
    yield "text in a span", safetensors(one([1], ["0", "4"]), b"1234")
    yield "no UTF-8", safetensors(b'{"\xff\xfe": 1}')
    yield "escapes in a name", safetensors({"\x1b]0;x\x07": {"dtype": "?"}})
    yield "a list", safetensors([1, 2])


def archives() -> Iterator[tuple[str, Make]]:
    """Yield archives that are not as torch writes them."""
    good = io.BytesIO()
    torch.save({"w": torch.ones(4)}, good)

    def bomb(folder: Path) -> None:
        with zipfile.ZipFile(folder / "w.pth", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("w/data.pkl", b"\x80\x02}.")
            with archive.open("w/data/0", "w") as stream:
                for _ in range(300):
                    stream.write(bytes(2**20))

    def many(folder: Path) -> None:
        with zipfile.ZipFile(folder / "w.pth", "w") as archive:
            archive.writestr("w/data.pkl", b"\x80\x02}.")
            for i in range(20_000):
                archive.writestr(f"w/data/{i}", b"")

    def escaping(folder: Path) -> None:
        with zipfile.ZipFile(folder / "w.pth", "w") as archive:
            archive.writestr("../../w/data.pkl", b"\x80\x02}.")
            archive.writestr("/etc/passwd", b"root")

    def shadowed(folder: Path) -> None:
        with zipfile.ZipFile(folder / "w.pth", "w") as archive:
            archive.writestr("w/data.pkl", b"\x80\x02}.")
            archive.writestr("v/data.pkl", raw("os", "system"))

    def prefixed(folder: Path) -> None:
        (folder / "w.pth").write_bytes(raw("os", "system") + good.getvalue())

    def script(folder: Path) -> None:
        torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)).save(str(folder / "w.pth"))

    claims = b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00"
    claims += b"storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuJ"
    claims += b"\xff\xff\xff\x7ftQK\x00J\xff\xff\xff\x7f\x85K\x01\x85\x89}tRs."
    yield "deflate bomb", bomb
    yield "20,000 members", many
    yield "names outside", escaping
    yield "two pickles", shadowed
    yield "pickle before the archive", prefixed
    yield "TorchScript", script
    yield "storage that is not there", in_archive(claims)
    yield "storage cut short", in_archive(claims, **{"data/0": b"1234"})
    yield "the directory cut off", as_is(good.getvalue()[:-40])
    yield "the middle gone", as_is(good.getvalue()[:200] + good.getvalue()[260:])


def of_weights() -> Iterator[tuple[str, str, Make]]:
    """Yield (name, door, make) of every hostile file of weights."""
    for module, name in GLOBALS:
        yield f"{module}.{name}", "weights", in_archive(raw(module, name))
    for module, name in GLOBALS[:12]:
        yield f"{module}.{name}, old format", "weights", in_legacy(raw(module, name))
        yield f"{module}.{name}, bare", "weights", as_is(raw(module, name))
    for legacy in (False, True):
        kind = "old" if legacy else "zip"
        yield f"bytearray(2**32), {kind}", "weights", saved({"w": Calls(bytearray, 2**32)}, legacy)
        yield f"exec, {kind}", "weights", saved({"w": Calls(exec, "open('ran','w')")}, legacy)
        yield f"expanded, {kind}", "weights", saved({"w": torch.ones(1).expand(10**11)}, legacy)
        yield (
            f"Tensor(10**10), {kind}",
            "weights",
            saved({"w": Calls(torch.Tensor, 10**10)}, legacy),
        )
        yield f"a module, {kind}", "weights", saved(nn.Linear(2, 2), legacy)
        yield f"sparse, {kind}", "weights", saved({"w": torch.ones(2, 2).to_sparse()}, legacy)
        yield f"meta, {kind}", "weights", saved({"w": torch.empty(10**9, device="meta")}, legacy)
    odd = {
        "BINPUT far away": b"\x80\x02}r\xff\xff\xff\x7f.",
        "PUT far away": b"\x80\x02}p999999999\n.",
        "BYTEARRAY8 of 2^33": b"\x80\x05\x96" + (2**33).to_bytes(8, "little") + b".",
        "BINBYTES8 of 2^40": b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b".",
        "LONG4 of 2^31": b"\x80\x02\x8b\xff\xff\xff\x7f.",
        "FRAME of 2^62": b"\x80\x04\x95" + (2**62).to_bytes(8, "little") + b"}.",
        "EXT1": b"\x80\x02\x82\x01.",
        "INST": b"(S'touch ran'\nios\nsystem\n.",
        "OBJ": b"\x80\x02(cos\nsystem\nS'touch ran'\no.",
        "NEWOBJ": b"\x80\x02cos\nsystem\n)\x81.",
        "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x94\x8c\x01x\x94\x85\x94R.",
        "no STOP": b"\x80\x02}" * 9,
        "marks": b"\x80\x02" + b"(" * 10**6 + b".",
        "deep lists": b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b".",
        "deep tuples": b"\x80\x02)" + b"\x85" * 10**5 + b".",
        "tuples of tuples as a key": doubled(60, key=True),
        "tuples of tuples": doubled(60, key=False),
        "a persistent id of lists of lists": referring(60),
        "a persistent id of text": b"\x80\x02U\x04storQ.",
        "half an opcode": b"\x80\x02X\xff\xff",
        "wrong protocol": b"\x80\xff}.",
        "digits": b"\x80\x02L" + b"9" * 200_000 + b"L\n.",
        "self": b"\x80\x02]q\x00h\x00a.",
        "NaN as a size": b"\x80\x02}X\x01\x00\x00\x00wG\x7f\xf8\x00\x00\x00\x00\x00\x00s.",
    }
    for name, data in odd.items():
        yield name, "weights", in_archive(data)
        yield f"{name}, old format", "weights", in_legacy(data)
    for name, make in archives():
        yield name, "weights", make
    for name, data in odd_safetensors():
        yield name, "weights", as_is(data, "w.safetensors")
        yield f"{name} of BigGAN", "biggan", _converted(data)
    yield "BigGAN of pickles", "biggan", _published(raw("os", "system"))
    yield "BigGAN of 10**9 classes", "biggan", _converted(safetensors({}), n_classes=10**9)
    yield "BigGAN of ch 10**9", "biggan", _converted(safetensors({}), ch=10**9)
    yield "BigGAN of dim_z 10**30", "biggan", _converted(safetensors({}), dim_z=10**30)
    yield "BigGAN of words", "biggan", _converted(safetensors({}), ch="16")
    yield "BigGAN of NaN", "biggan", _converted(safetensors({}), ch=float("nan"))
    yield "a pipe", "weights", lambda folder: os.mkfifo(folder / "w.pth")
    yield "a device", "weights", lambda folder: (folder / "w.pth").symlink_to("/dev/zero")
    yield "a folder", "weights", lambda folder: (folder / "w.pth").mkdir()


def _published(data: bytes) -> Make:
    def make(folder: Path) -> None:
        for part in ("G_ema", "G", "D"):
            (folder / f"{part}.pth").write_bytes(data)

    return make


def _converted(data: bytes, **changes: Any) -> Make:
    def make(folder: Path) -> None:
        import hashlib

        from gancompress.models import BigGANConfig

        config = BigGANConfig.fashion32().to_dict() | changes
        sums = {}
        for part in ("G_ema", "G", "D"):
            (folder / f"{part}.safetensors").write_bytes(data)
            sums[part] = hashlib.sha256(data).hexdigest()
        index = {"schema": 1, "generator": config, "discriminator": config, "sha256": sums}
        (folder / "biggan.json").write_text(json.dumps(index))

    return make


def open_weights(folder: Path) -> object:
    """Read the hostile file as the command line does."""
    name = "w.safetensors" if (folder / "w.safetensors").exists() else "w.pth"
    return sorted(tensors_at(folder / name))


def open_biggan(folder: Path) -> object:
    """Load the hostile folder as a published generator."""
    return load_biggan_folder(folder)[0].config
