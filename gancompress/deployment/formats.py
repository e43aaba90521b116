"""The formats that a generator is exported to, and what each needs on this machine."""

from __future__ import annotations

from dataclasses import dataclass

from gancompress.errors import ConfigError, closest
from gancompress.extras import require


@dataclass(frozen=True)
class Format:
    """One format: its name, how its files end, and what writing and checking it needs (ours).

    Attributes:
        name: as typed after ``--to``.
        suffix: of its file.
        packages: modules that must import, each with the extra that brings it.
        compiler: whether a C++ compiler must be there.
        program: whether it is made of a traced call; others hold weights alone.
        int8: whether it can hold int8 layers.
    """

    name: str
    suffix: str
    packages: tuple[tuple[str, str], ...] = ()
    compiler: bool = False
    program: bool = True
    int8: bool = True


FORMATS = {
    f.name: f
    for f in (
        Format("onnx", ".onnx", (("onnxruntime", "onnx"), ("onnxscript", "onnx"))),
        Format("torch.export", ".pt2"),
        Format("aoti", ".aoti.pt2", compiler=True),
        Format("standalone", ".py", int8=False),
        Format("safetensors", ".safetensors", program=False, int8=False),
    )
}
INT8 = (("torchao", "int8"),)
"""What ``--int8`` needs besides."""


def read_formats(text: str) -> tuple[Format, ...]:
    """Return the formats in ``onnx,aoti``, each once, in their order.

    Raises:
        ConfigError: an unknown name, or none.
    """
    names = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise ConfigError(f"--to {text!r} names no format: {', '.join(FORMATS)}")
    for name in names:
        if name not in FORMATS:
            raise ConfigError(f"no format {name!r}.{closest(name, FORMATS)}")
    return tuple(FORMATS[name] for name in names)


def require_engines(formats: tuple[Format, ...], *, int8: bool = False) -> None:
    """Check that everything that ``formats`` need is here, before any work.

    Raises:
        ConfigError: something is missing, or int8 has no file of that format; all of it is named.
    """
    faults: list[str] = []
    packages = [p for f in formats for p in f.packages]
    for module, extra in (*packages, *(INT8 if int8 else ())):
        try:
            require(module, extra)
        except ConfigError as error:
            faults.append(str(error))
    if any(f.compiler for f in formats) and (fault := _no_compiler()):
        faults.append(f"aoti needs a C++ compiler: {fault}. Install g++ or clang, or set CXX")
    if int8:
        plain = [f.name for f in formats if not f.int8]
        faults += [f"--int8: {name} holds no int8 layers, leave it out" for name in plain]
    if faults:
        raise ConfigError("; ".join(dict.fromkeys(faults)))


def _no_compiler() -> str:
    """Return why torch finds no C++ compiler; empty where it finds one."""
    try:
        from torch._inductor.cpp_builder import get_cpp_compiler

        get_cpp_compiler()
    except Exception as error:
        first = next((s for s in str(error).splitlines() if s.strip()), "")
        return first or type(error).__name__
    return ""
