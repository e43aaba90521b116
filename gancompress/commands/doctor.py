"""One look at the machine and the installation, to paste in a bug report."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rich import box
from rich.table import Table
from rich.text import Text

from gancompress import __version__
from gancompress.commands.console import emit, stdout

EXTRAS = {
    "data": ["h5py", "soundfile"],
    "metrics": ["torch_fidelity"],
    "report": ["matplotlib", "jinja2"],
    "onnx": ["onnx", "onnxscript", "onnxruntime"],
    "int8": ["torchao"],
    "hub": ["huggingface_hub"],
    "log": ["tensorboard", "wandb", "mlflow", "sqlalchemy"],
    "docs": ["mkdocs", "material", "mkdocstrings"],
    "notebooks": ["nbclient", "nbformat", "ipykernel"],
}
_LOW_DISK = 2 * 2**30
_LOW_SHARED = 64 * 2**20
_MARKS = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "fail": "[bold red]FAIL[/]"}


@dataclass(frozen=True)
class Check:
    """One finding: ``fail`` stops gancompress from working here, ``warn`` only a part of it."""

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    fix: str = ""


def examine(*, json: bool) -> int:
    """Print every check; return 0, or 2 when one of them failed."""
    found = [check for probe in PROBES for check in _guarded(probe)]
    failed = any(check.status == "fail" for check in found)
    if json:
        emit("doctor", {"ok": not failed, "checks": [asdict(check) for check in found]})
        return 2 if failed else 0
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("check", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("found")
    for check in found:
        text = Text(check.detail)
        if check.fix:
            text.append(f"\n{check.fix}", style="italic")
        table.add_row(check.name, _MARKS[check.status], text)
    stdout().print(table)
    return 2 if failed else 0


def _guarded(probe: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    try:
        yield from probe()
    except Exception as error:  # a doctor that dies of the illness helps nobody
        yield Check(probe.__name__.strip("_"), "fail", f"{type(error).__name__}: {error}")


def _versions() -> Iterator[Check]:
    yield Check("gancompress", "ok", f"{__version__} at {Path(__file__).parent.parent}")
    old = sys.version_info < (3, 10)
    yield Check(
        "python",
        "fail" if old else "ok",
        f"{platform.python_version()} on {platform.platform()}",
        "needs 3.10 or newer" if old else "",
    )
    for name in ("safetensors", "numpy", "scipy", "pydantic", "typer", "rich", "torch-pruning"):
        try:
            yield Check(name, "ok", importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Check(name, "fail", "not installed", f"pip install {name}")


def _torch() -> Iterator[Check]:
    import torch

    release = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    yield Check(
        "torch",
        "ok" if release >= (2, 10) else "fail",
        f"{torch.__version__}, {torch.get_num_threads()} threads",
        "" if release >= (2, 10) else "pip install 'torch>=2.10': older ones load files unsafely",
    )
    try:
        torchvision = importlib.import_module("torchvision")
        yield Check("torchvision", "ok", torchvision.__version__)
    except Exception as error:
        yield Check(
            "torchvision",
            "warn",
            f"cannot be imported: {str(error).splitlines()[0]}",
            "install the pair together, from one index: pip install -U torch torchvision",
        )
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(index)
            memory = f"{about.total_memory / 2**30:.0f} GiB"
            yield Check(f"cuda:{index}", "ok", f"{about.name}, {memory}, CUDA {torch.version.cuda}")
    else:
        yield Check("devices", "ok", f"CPU only, {os.cpu_count()} cores")
    yield from _arithmetic(torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def _arithmetic(device: Any) -> Iterator[Check]:
    """What a run with ``precision: auto`` would do on ``device``, and why."""
    import torch

    from gancompress.training.arithmetic import choose_layout, choose_precision
    from gancompress.training.thread_watch import start_threads

    precision, why, _ = choose_precision("auto", device)
    yield Check("precision auto", "ok", f"{precision} on {device}: {why.removeprefix('auto: ')}")
    last, why = choose_layout("auto", device, precision)
    layout = "channels last, unless a network fails in it" if last else "contiguous"
    yield Check("memory format auto", "ok", f"{layout}: {why.removeprefix('auto: ')}")
    threads, why = start_threads()
    now = torch.get_num_threads()
    yield Check(
        "threads",
        "ok" if threads == now else "warn",
        f"{threads}: {why}",
        ""
        if threads == now
        else "runs of the command line take fewer by themselves; in a program "
        f"of your own: torch.set_num_threads({threads})",
    )


def _determinism() -> Iterator[Check]:
    """What a run on the GPU may not repeat bit for bit."""
    import torch

    from gancompress.modules.determinism import OPERATORS, without_deterministic_kernel

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = without_deterministic_kernel(device)
    yield Check(
        "deterministic",
        "ok",
        f"of {len(OPERATORS)} operators tried on {device}, without a deterministic kernel: "
        f"{', '.join(found) or 'none'}",
        "networks that use these may not repeat bit for bit on this device" if found else "",
    )


def _extras() -> Iterator[Check]:
    for extra, modules in EXTRAS.items():
        absent = [name for name in modules if importlib.util.find_spec(name) is None]
        yield Check(
            f"extra {extra}",
            "warn" if absent else "ok",
            f"missing {', '.join(absent)}" if absent else "installed",
            f"pip install 'gancompress[{extra}]'" if absent else "",
        )


def _disk() -> Iterator[Check]:
    here = Path.cwd()
    try:
        with tempfile.NamedTemporaryFile(dir=here, prefix=".gancompress-") as file:
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
        yield Check("write", "ok", f"{here} takes files")
    except OSError as error:
        yield Check(
            "write", "fail", f"{here}: {error.strerror}", "go to another folder, or give --out"
        )
    free = shutil.disk_usage(here).free
    yield Check(
        "disk",
        "ok" if free > _LOW_DISK else "warn",
        f"{free / 2**30:.1f} GiB free",
        "" if free > _LOW_DISK else "checkpoints of large networks need more",
    )
    shared = Path("/dev/shm")
    if shared.is_dir():
        free = shutil.disk_usage(shared).free
        low = free < _LOW_SHARED
        yield Check(
            "shared memory",
            "warn" if low else "ok",
            f"{free / 2**20:.0f} MiB free",
            "start the container with --shm-size=1g" if low else "",
        )


def _files() -> Iterator[Check]:
    from gancompress import assets

    folder = Path(assets.__file__).parent
    wanted = ["fashion2000.npz", "teacher_g.safetensors", "teacher_d.safetensors", "teacher.json"]
    absent = [name for name in [*wanted, "classifier.safetensors"] if not (folder / name).is_file()]
    size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    yield Check(
        "embedded files",
        "fail" if absent else "ok",
        f"missing {', '.join(absent)}" if absent else f"{size / 2**20:.1f} MiB",
        "install again: pip install --force-reinstall --no-deps gancompress" if absent else "",
    )


def _self_test() -> Iterator[Check]:
    import torch

    import gancompress as gc

    generator = torch.nn.Sequential(
        torch.nn.ConvTranspose2d(8, 16, 4), torch.nn.BatchNorm2d(16), torch.nn.ReLU(),
        torch.nn.ConvTranspose2d(16, 3, 4, 2, 1), torch.nn.Tanh(),
    ).double()  # fmt: skip
    rng = torch.Generator().manual_seed(0)
    example = (torch.randn(2, 8, 1, 1, generator=rng, dtype=torch.float64),)
    masked = gc.wrap(generator, example=example)
    plan = gc.random_plan(masked.graph, keep=0.5, seed=0)
    masked.apply(plan)
    result = gc.verify(generator, masked.prune(plan), example)
    yield Check(
        "self test",
        "ok" if result.passed else "fail",
        f"mask, cut, verify: largest difference {result.max_error:.1e} (relative, float64)",
        "" if result.passed else "please report this output",
    )


PROBES: list[Callable[[], Iterator[Check]]] = [
    _versions, _torch, _determinism, _extras, _disk, _files, _self_test,
]  # fmt: skip
"""What is looked at, in order."""
