"""What a file of weights is, by its bytes and not by its name; what it is instead, in words."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

from gancompress.errors import CheckpointError

AGAIN = "Save it again as torch.save(module.state_dict(), file), or with safetensors"
_HEADER = 100 * 2**20  # what safetensors itself allows
_FOREIGN: tuple[tuple[bytes, str, str], ...] = (
    (
        b"version https://git-lfs",
        "a Git LFS pointer, not the file that it stands for",
        "Fetch it: git lfs pull, or download the file itself",
    ),
    (b"\x89HDF\r\n", "an HDF5 file (Keras)", "Convert it to PyTorch first"),
    (b"\x93NUMPY", "a NumPy array", AGAIN),
    (b"GGUF", "a GGUF file", AGAIN),
    (b"\x1f\x8b", "compressed by gzip", "Unpack it first"),
    (b"\xfd7zXZ", "compressed by xz", "Unpack it first"),
    (b"BZh", "compressed by bzip2", "Unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive", "Unpack it first"),
    (b"Rar!", "a RAR archive", "Unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", "Unpack it first"),
    (b"\x89PNG", "a picture", "Name the file of weights"),
    (b"\xff\xd8\xff", "a picture", "Name the file of weights"),
    (b"%PDF", "a PDF document", "Name the file of weights"),
)


def kind_of(path: Path) -> str:
    """Return ``"safetensors"``, ``"zip"`` (torch.save), ``"legacy"`` (its old form), ``"pickle"``.

    Raises:
        CheckpointError: there is no such file, it is empty, or it is something else; the message
            says what.
    """
    if path.is_dir():
        raise CheckpointError(f"cannot read {path}: it is a folder, name a file of weights in it")
    if not path.is_file():
        near = sorted(
            p.name
            for suffix in ("*.pth", "*.pt", "*.safetensors", "*.ckpt")
            for p in (path.parent.glob(suffix) if path.parent.is_dir() else ())
        )
        found = f"; the folder holds {', '.join(near[:12])}" if near else ""
        raise CheckpointError(f"cannot read {path}: there is no file {path}{found}")
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    if not size:
        raise CheckpointError(f"{path} is damaged, truncated: it is empty. Copy it again")
    for start, what, advice in _FOREIGN:
        if head.startswith(start):
            raise CheckpointError(f"{path} is {what}. {advice}")
    length = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and length <= _HEADER:
        if length + 8 > size:
            raise CheckpointError(
                f"{path} is damaged, truncated: its safetensors header has {length} bytes, the "
                f"file {size}. Copy it again"
            )
        return "safetensors"
    if head.startswith(b"PK"):
        return "zip"
    if head[:1] == b"\x80" and head[1:2] and head[1] <= 5:
        return "legacy" if b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19" in head[:40] else "pickle"
    _refuse_text(path, head)
    if size > 1024 and tarfile.is_tarfile(path):
        raise CheckpointError(
            f"{path} is a tar archive (a file of torch before 0.1.10, or packed files). Unpack it, "
            f"or open it with an old torch. {AGAIN}"
        )
    raise CheckpointError(
        f"{path} is damaged, truncated or no file of weights: it is neither safetensors nor of "
        f"torch.save (it begins with {head[:8]!r}). {AGAIN}"
    )


def _refuse_text(path: Path, head: bytes) -> None:
    """Refuse a page, a configuration or a message that was saved in place of weights."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--")):
        raise CheckpointError(
            f"{path} is an HTML page: the download gave a page in place of the file (a login, a "
            "licence or an error). Fetch the file itself"
        )
    sample = head[:512]
    if len(sample) < 4:
        return
    try:
        words = sample.decode("utf-8", errors="strict" if len(head) < 512 else "ignore")
    except UnicodeDecodeError:
        return
    if any(ord(c) < 32 and c not in "\t\r\n\f" for c in words) or "\ufffd" in words:
        return
    kind = "a JSON text" if text.startswith((b"{", b"[")) else "a text"
    shown = " ".join(words.split())[:40]
    raise CheckpointError(f"{path} is {kind}, not weights: it begins with {shown!r}. {AGAIN}")


def torch_archive(path: Path) -> tuple[str, dict[str, int]]:
    """Return the name of the pickle in an archive of ``torch.save``, and the size of each member.

    Every checksum is compared, and nothing is unpacked: torch stores its members as they are.

    Raises:
        CheckpointError: it is damaged, packed (it could unpack to any size), or another archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            names = {m.filename: m.file_size for m in members}
            pickles = [n for n in names if n == "data.pkl" or n.endswith("/data.pkl")]
            if len(names) != len(members) or len(pickles) > 1:
                raise CheckpointError(f"{path} is damaged: two members have one name. {AGAIN}")
            stem = pickles[0].removesuffix("data.pkl") if pickles else "?"
            if stem + "constants.pkl" in names or any(n.startswith(stem + "code/") for n in names):
                raise CheckpointError(
                    f"{path} is a TorchScript archive: a program with its weights, and programs "
                    "are not read. Load it with torch.jit.load where you trust it, and save its "
                    "state_dict()"
                )
            packed = any(m.compress_type != zipfile.ZIP_STORED for m in members)
            if packed or sum(names.values()) > path.stat().st_size:
                raise CheckpointError(
                    f"{path} is a compressed archive; torch.save writes none, so it is refused"
                )
            if not pickles:
                raise CheckpointError(f"{path} is {_other_archive(names)}")
            damaged = archive.testzip()
    except CheckpointError:
        raise
    except Exception as error:  # many types for one fact: the bytes are not what they should be
        raise CheckpointError(
            f"{path} is damaged, truncated or no archive of torch.save ({error}). Copy it again"
        ) from error
    if damaged is not None:
        raise CheckpointError(f"{path} is damaged: {damaged} does not match its checksum")
    return pickles[0], names


def _other_archive(names: dict[str, int]) -> str:
    if any(n.endswith(".npy") for n in names):
        return f"a NumPy archive (.npz). {AGAIN}"
    if any(n.endswith((".keras", "config.json", "model.weights.h5")) for n in names):
        return "a Keras or other archive without weights of torch. Convert it to PyTorch first"
    return f"a zip archive of {len(names)} files, not of torch.save. Unpack it first"
