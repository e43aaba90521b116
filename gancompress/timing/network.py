"""A whole network in the engine that is asked for: what is timed before and after a cut."""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from gancompress.errors import ConfigError
from gancompress.extras import require
from gancompress.modules.copying import duplicate
from gancompress.modules.nested import map_tensors, tensors_of
from gancompress.modules.undisturbed import evaluating
from gancompress.target import Setting
from gancompress.timing.clock import Call, by_turns
from gancompress.timing.single import providers, session

Example = tuple[tuple[Any, ...], Mapping[str, Any]]


def settled(setting: Setting) -> Setting:
    """Return ``setting`` with its device in full, after a check that all of it is there.

    Raises:
        ConfigError: no such device, or an engine that is not installed; the message says which.
    """
    device = setting.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    asked = f"target latency@{setting}"
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda"):
        raise ConfigError(f"{asked}: time is measured on cpu and cuda, not on {device!r}")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"{asked}: there is no device {device} here ({torch.cuda.device_count()} GPUs). "
            "Measure on the machine that is meant, or write latency=2x@cpu"
        )
    if setting.engine == "onnxruntime":
        runtime = require("onnxruntime", "onnx")
        require("onnx", "onnx")
        require("onnxscript", "onnx")
        if providers(device)[0] not in runtime.get_available_providers():
            raise ConfigError(
                f"{asked}: this onnxruntime has no {providers(device)[0]}. Install onnxruntime-gpu"
            )
    if setting.engine == "compiled":
        _try_compiler(asked, device)
    return Setting(device, setting.batch, setting.engine)


def _try_compiler(asked: str, device: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compiled: Any = torch.compile(torch.relu_, fullgraph=True)
            compiled(torch.ones(2, device=device))
    except Exception as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ConfigError(
            f"{asked}: torch.compile does not work here ({first}). Install a C++ compiler, or "
            "take engine=eager or engine=onnxruntime"
        ) from error


def at_batch(example: Example, traced: int, batch: int, device: str) -> Example:
    """Return the inputs repeated or cut to ``batch`` samples: tensors whose first axis has them."""

    def change(t: torch.Tensor) -> torch.Tensor:
        if t.ndim == 0 or len(t) != traced:
            return t.detach().to(device)
        times = math.ceil(batch / traced)
        return torch.cat([t.detach()] * times)[:batch].to(device)

    return map_tensors(example, change)


@contextlib.contextmanager
def running(network: nn.Module, example: Example, setting: Setting) -> Iterator[Call]:
    """Hand out a call of ``network`` in eval() as ``setting`` says; afterwards it is as before.

    Raises:
        ConfigError: it does not run like that; the message has the cause.
    """
    args, kwargs = example
    own = duplicate(network).to(setting.device).eval()
    try:
        # No mode that watches operators: it would cost more than they do.
        with evaluating(own), _random_kept(setting.device), torch.no_grad():
            call = _call(own, args, kwargs, setting)
            call()
            yield call
    except ConfigError:
        raise
    except Exception as error:
        first = next(iter(str(error).strip().splitlines()), "")
        raise ConfigError(
            f"{type(network).__name__} does not run at latency@{setting}: "
            f"{type(error).__name__}: {first}"
        ) from error


def _random_kept(device: str) -> Any:
    return torch.random.fork_rng(devices=[torch.device(device)] if "cuda" in device else [])


def _call(own: nn.Module, args: Any, kwargs: Any, setting: Setting) -> Call:
    if setting.engine == "onnxruntime":
        return _exported(own, args, kwargs, setting)
    if setting.engine == "compiled":
        torch._dynamo.reset()
        compiled: Any = torch.compile(own, dynamic=False)
        return lambda: compiled(*args, **kwargs)
    return lambda: own(*args, **kwargs)


def _exported(own: nn.Module, args: Any, kwargs: Any, setting: Setting) -> Call:
    cpu = own.cpu()
    args, kwargs = map_tensors((args, kwargs), lambda t: t.cpu())
    buffer = io.BytesIO()
    # The exporter chats on stdout, which is ours for results, and warns about its own parts.
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(cpu, args, kwargs=kwargs, dynamo=True, verbose=False)
        assert program is not None
        program.save(buffer, external_data=False)  # type: ignore[arg-type]
    opened = session(buffer.getvalue(), setting)
    tensors = tensors_of((args, kwargs))
    names = [i.name for i in opened.get_inputs()]
    if len(names) != len(tensors):
        raise ConfigError(
            f"{type(own).__name__} has {len(tensors)} inputs and its ONNX file {len(names)}: some "
            "are not used in eval(). Take engine=eager"
        )
    feed = {n: t.numpy() for n, t in zip(names, tensors, strict=True)}
    return lambda: opened.run(None, feed)


def seconds_of(
    networks: Sequence[nn.Module],
    example: Example,
    traced: int,
    setting: Setting,
    *,
    seconds: float = 0.6,
) -> list[float]:
    """Return the seconds of one call of each network, taken by turns on this machine now.

    Args:
        networks: of equal inputs; none is changed.
        example: inputs of one call.
        traced: samples in it.
        setting: as `settled` returns it.
        seconds: of measuring, all together.

    Raises:
        ConfigError: one does not run at this batch or in this engine.
    """
    inputs = at_batch(example, traced, setting.batch, setting.device)
    with contextlib.ExitStack() as stack:
        calls = [stack.enter_context(running(n, inputs, setting)) for n in networks]
        return by_turns(calls, setting.device, seconds=seconds)
