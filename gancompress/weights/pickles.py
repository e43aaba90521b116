"""Look through a pickle of torch.save before it is loaded: names, sizes, storages; nothing is run.

Every name that a pickle refers to is answered with an inert stand-in, so this reads what a hostile
file wants without giving it anything (ours). torch's own ``weights_only`` reader comes after it.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gancompress.storage import BoundedFile

LIMIT = 64 * 2**20  # bytes of the pickle itself: names and sizes, no weights
OPERATIONS = 2**20  # of a pickle; each is looked at in Python
EXPANDED = 2**20  # bytes that a tensor with strides of 0 may have beyond what lies behind it
_LAST_BYTES = {
    "Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1,
    "Byte": 1, "Bool": 1, "ComplexDouble": 16, "ComplexFloat": 8, "Untyped": 1, "QInt8": 1,
    "QUInt8": 1, "QInt32": 4,
}  # fmt: skip
_TORCH = re.compile(
    r"torch\.(\w+Storage|Size|device|(?:float|bfloat|complex|u?int|bool|half|double|long|short|"
    r"float8_)\w*|Tensor|strided|sparse_\w+)|torch\.storage\.\w+Storage|torch\._utils\._rebuild_\w+"
    r"|torch\.nn\.parameter\.(Parameter|Buffer)|torch\._tensor\._rebuild_from_type_v2"
    r"|torch\.serialization\._get_layout|_codecs\.encode"
    r"|collections\.(OrderedDict|Counter)|(builtins|__builtin__)\.(set|complex)"
)
_INERT = re.compile(
    r"argparse\.Namespace|types\.SimpleNamespace|pathlib\w*\.\w*Path|datetime\.\w+"
    r"|numpy(\._?core\.multiarray)?\.(scalar|_reconstruct|ndarray|dtype|bool_?|u?int\d+|float\d+)|numpy\.dtypes\.\w+"
)
"""Names that stand for settings beside the weights: they are read as nothing at all."""


class RefusedPickleError(Exception):
    """A pickle names code, or claims what its file cannot hold; the text says which."""


def _code(name: str) -> str:
    return (
        f"refers to Python code ({name}); refused, nothing was run. It holds a whole module, an "
        "object or settings, not weights alone"
    )


@dataclass(eq=False)
class Storage:
    """A block of numbers that the pickle refers to."""

    key: str
    itemsize: int
    numel: int


@dataclass(eq=False)
class Declared:
    """A tensor as the pickle describes it."""

    storage: Storage | None
    offset: int = 0
    size: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    itemsize: int = 1

    def fault(self) -> str:
        """Return what is wrong with its numbers, or nothing."""
        if self.storage is None:
            return ""
        numbers = (self.offset, *self.size, *self.stride)
        if not all(type(n) is int and n >= 0 for n in numbers) or len(self.size) != len(
            self.stride
        ):
            return f"claims {self.size} with strides {self.stride}"
        behind = self.storage.numel * self.storage.itemsize
        count = 1
        for n in self.size:
            count *= n
        if not count:
            return ""
        last = self.offset + sum((n - 1) * s for n, s in zip(self.size, self.stride, strict=True))
        if (last + 1) * self.itemsize > behind or count * self.itemsize > behind + EXPANDED:
            return f"claims {self.size} with {behind} bytes behind it"
        return ""


@dataclass
class Contents:
    """What one pickle holds: its value with stand-ins, the storages, settings left out."""

    value: Any = None
    storages: dict[str, Storage] = field(default_factory=dict)
    tensors: list[Declared] = field(default_factory=list)
    inert: set[str] = field(default_factory=set)


def look_through(data: bytes) -> Contents:
    """Return what the one pickle in ``data`` holds.

    Raises:
        RefusedPickleError: it names code, claims impossible sizes, or would fill the memory.
        ValueError: it is no pickle, or cut short.
    """
    if len(data) > LIMIT:
        raise RefusedPickleError(
            f"is refused: its pickle has {len(data)} bytes, no table of weights has"
        )
    _check_opcodes(data)
    _check_tuples(data)
    found = Contents()
    try:
        found.value = _Dry(data, found).load()
    except RefusedPickleError:
        raise
    except Exception as error:  # any type: stand-ins do not behave as what they stand for
        raise ValueError(f"{type(error).__name__}: {error}") from error
    for tensor in found.tensors:
        if fault := tensor.fault():
            raise RefusedPickleError(f"is refused: {_name_of(tensor, found.value)} {fault}")
    return found


def pickles_in(file: io.BufferedIOBase, count: int) -> Iterator[bytes]:
    """Yield the bytes of the next ``count`` pickles of ``file``.

    Raises:
        ValueError: one is cut short, or is none.
    """
    operations, bounded = 0, BoundedFile(file)
    for _ in range(count):
        start = file.tell()
        for op, _, at in pickletools.genops(bounded):  # type: ignore[arg-type]
            operations += 1
            if (at is not None and at - start > LIMIT) or operations > OPERATIONS:
                raise ValueError("a pickle of its head is too long")
            if op.name == "STOP":
                break
        end = file.tell()
        file.seek(start)
        yield file.read(end - start)


def _check_opcodes(data: bytes) -> None:
    """Refuse operations that make Python's reader take memory that the file does not hold."""
    for steps, (op, value, _) in enumerate(pickletools.genops(data)):
        if op.name in ("BYTEARRAY8", "NEXT_BUFFER", "READONLY_BUFFER", "EXT1", "EXT2", "EXT4"):
            raise RefusedPickleError(
                f"is refused: its pickle uses {op.name}, which torch.save never writes"
            )
        if steps > OPERATIONS:
            raise RefusedPickleError(
                f"is refused: its pickle has more than {OPERATIONS:,} operations; a tensor takes 30"
            )
        place = value if op.name in ("PUT", "BINPUT", "LONG_BINPUT") else 0
        if isinstance(place, int) and place > 2 * steps + 1024:
            raise RefusedPickleError(f"is refused: its pickle reserves {value} places")


def _check_tuples(data: bytes) -> None:
    """Refuse tuples that share their parts so often that hashing or showing one would not end.

    Python counts a tuple's parts again each time it hashes it, and ``x = (x, x)`` doubles them. The
    stack of the pickle is followed with the number of leaves of each item in place of the item.
    """
    stack: list[int | None] = []  # None: a mark
    memo: dict[int, int] = {}

    def cut() -> list[int]:
        items: list[int] = []
        while stack and (item := stack.pop()) is not None:
            items.append(item)
        return items

    for op, value, _ in pickletools.genops(data):
        name = op.name
        if name == "MARK":
            stack.append(None)
        elif name in ("TUPLE", "FROZENSET", "LIST", "DICT"):
            stack.append(1 + sum(cut()) if name in ("TUPLE", "FROZENSET") else 1)
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            parts = [item or 1 for item in stack[-count:]]
            del stack[-count:]
            stack.append(1 + sum(parts))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if name == "MEMOIZE" else int(value or 0)] = (stack or [1])[-1] or 1
        elif name == "DUP":
            stack += stack[-1:]
        elif name in ("REDUCE", "NEWOBJ"):  # what is called may hand its argument on
            parts = [item or 1 for item in stack[-2:]]
            del stack[-2:]
            stack.append(sum(parts))
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo.get(int(value or 0), 1))
        elif pickletools.markobject in op.stack_before:
            cut()
            if name in ("OBJ", "INST"):
                stack.append(1)
        else:
            del stack[len(stack) - len(op.stack_before) :]
            stack += [1] * len(op.stack_after)
        if stack and (stack[-1] or 0) > LEAVES:
            raise RefusedPickleError(
                f"is refused: it holds a tuple of more than {LEAVES:,} parts, many times the same"
            )


LEAVES = 2**20
"""Parts of one tuple, and of the tuples in it: the shapes and names of torch.save have a few."""


def _shown(value: Any) -> str:
    """Return ``value`` for a message where it is short by its type; else only the type."""
    short = isinstance(value, str | bytes | int | float)
    return repr(value)[:60] if short else type(value).__name__


class _Inert:
    """Stands for an object that is not made."""

    path = ""
    callable = True

    def __new__(cls, *args: Any, **kwargs: Any) -> _Inert:
        if not cls.callable:
            raise RefusedPickleError(_code(cls.path))
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        pass

    def extend(self, values: Any) -> None:
        pass


class _Dry(pickle.Unpickler):
    def __init__(self, data: bytes, found: Contents) -> None:
        super().__init__(io.BytesIO(data))
        self._found = found

    def find_class(self, module_name: str, global_name: str) -> Any:
        path = f"{module_name}.{global_name}"
        if path == "collections.OrderedDict":
            return OrderedDict
        if path == "collections.Counter":
            return Counter
        if path == "torch._utils._rebuild_parameter":
            return lambda data, *rest: data
        if path == "torch._utils._rebuild_parameter_with_state":
            return lambda data, *rest: data
        if path in ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor"):
            return self._tensor
        if path == "torch._utils._rebuild_tensor_v3":
            return lambda s, o, size, stride, grad, hooks, dtype, *rest: self._tensor(
                s, o, size, stride, dtype=dtype
            )
        if _TORCH.fullmatch(path):
            loose = not path.startswith("torch.") or path in ("torch.Size", "torch.device")
            loose = loose or path.startswith(("torch._utils", "torch.serialization"))
            if path.startswith("torch._utils._rebuild"):
                return self._other
            return type(global_name, (_Inert,), {"path": path, "callable": loose})
        if _INERT.fullmatch(path):
            self._found.inert.add(path)
            return type(global_name, (_Inert,), {"path": path})
        raise RefusedPickleError(_code(path))

    def persistent_load(self, pid: Any) -> Any:
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] not in ("storage", b"storage"):
            raise RefusedPickleError(
                f"is refused: it refers to something outside of it ({_shown(pid)})"
            )
        if not isinstance(pid[2], str | bytes | int):
            raise RefusedPickleError(f"is refused: it names a storage by a {_shown(pid[2])}")
        kind, key, numel = str(getattr(pid[1], "path", "")), str(pid[2]), pid[4]
        itemsize = _LAST_BYTES.get(kind.rpartition(".")[2].removesuffix("Storage"), 1)
        if type(numel) is not int or numel < 0:
            raise RefusedPickleError(f"is refused: it claims a storage of {_shown(numel)} numbers")
        storage = self._found.storages.setdefault(key, Storage(key, itemsize, numel))
        if storage.numel * storage.itemsize != numel * itemsize:
            raise RefusedPickleError(f"is refused: it claims two sizes for the storage {key}")
        return storage

    def _tensor(
        self, storage: Any, offset: Any, size: Any, stride: Any, *rest: Any, dtype: Any = None
    ) -> Declared:
        if not isinstance(storage, Storage):
            raise RefusedPickleError("is refused: it claims a tensor without numbers behind it")
        width = storage.itemsize if dtype is None else _width(dtype)
        made = Declared(storage, offset, tuple(size), tuple(stride), width)
        self._found.tensors.append(made)
        return made

    def _other(self, *args: Any) -> Declared:
        """A sparse, quantised or meta tensor: refused later, by torch or by whoever reads."""
        return Declared(None)


def _width(dtype: Any) -> int:
    bits = re.search(r"(\d+)", str(getattr(dtype, "path", "")))
    return max(1, int(bits[1]) // 8) if bits else 1


def _name_of(tensor: Declared, value: Any) -> str:
    """Return the name under which ``tensor`` lies in ``value``, as far as two levels show it."""
    if isinstance(value, dict):
        for name, item in value.items():
            if item is tensor:
                return f"{name}:"
            if isinstance(item, dict):
                for inner, deep in item.items():
                    if deep is tensor:
                        return f"{name}.{inner}:"
    return "a tensor"
