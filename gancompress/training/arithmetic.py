"""How a run computes: precision, memory format and fused kernels, decided where it runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from gancompress.data.order import stream
from gancompress.modules.bf16_check import wrong_in_bf16
from gancompress.modules.copying import duplicate
from gancompress.modules.discriminator import call_of, same_call
from gancompress.modules.machine import Bf16, bf16_ratio, bf16_support
from gancompress.modules.ranks import bytes_of_first
from gancompress.recipes.schema import Recipe
from gancompress.tasks.protocol import Draw, Shown, Task
from gancompress.training.device_check import check_device as check_device
from gancompress.training.device_check import tensor_cores as tensor_cores
from gancompress.training.recompute import check_blocks
from gancompress.training.run_files import ENVIRONMENT

RECORD = "arithmetic"
"""Name of the entry in ``env.json``."""
SLOWER = 1.15  # times float32: less than that is noise
_PROBE = 2
Precision = Literal["float32", "bf16", "fp16"]
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Arithmetic:
    """What a run computes in, and why.

    Attributes:
        precision: float32, or bf16 and fp16: autocast to these where that is safe.
        precision_why: the reason, for people.
        channels_last: whether the weights of convolutions have the memory format channels last.
        channels_last_why: the reason.
        warning: what the user should know, for example that bf16 is emulated; else empty.
    """

    precision: Precision
    precision_why: str
    channels_last: bool
    channels_last_why: str
    warning: str = ""

    @property
    def layout(self) -> torch.memory_format:
        """The memory format of images and of the weights of convolutions."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def autocast(self, device: torch.device) -> torch.autocast:
        """Return the context of a forward pass in this precision."""
        return autocast(device, self.precision)

    def record(self) -> dict[str, Any]:
        """Return what ``env.json`` keeps, ready for JSON."""
        return asdict(self)

    def describe(self) -> str:
        """Return all of it in one line."""
        layout = "channels last" if self.channels_last else "contiguous"
        text = f"precision {self.precision} ({self.precision_why}); memory format {layout} "
        return f"{text}({self.channels_last_why})" + (f"; {self.warning}" if self.warning else "")


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the arithmetic of a forward pass: plain float32, or less where it is safe."""
    dtype = _AUTOCAST.get(precision, torch.bfloat16)
    return torch.autocast(device.type, dtype=dtype, enabled=precision in _AUTOCAST)


def choose_precision(
    asked: str,
    device: torch.device,
    *,
    earlier: str | None = None,
    support: Callable[[torch.device], Bf16] | None = None,
    ratio: Callable[[], float] | None = None,
) -> tuple[Precision, str, str]:
    """Return the precision of a run, the reason, and a warning or "" (ours).

    ``auto`` is bf16 where the hardware multiplies it natively, else float32. Where flags do not
    tell, convolutions are timed (``ratio``: bf16's time in float32's).

    Args:
        asked: ``auto``, or ``float32``, ``bf16`` or ``fp16``, which are obeyed.
        device: where the run computes.
        earlier: what ``auto`` chose at the start of the run that is resumed; it is kept.
        support: says what the hardware's flags tell; default: `bf16_support`.
        ratio: measures, where they do not; default: `bf16_ratio`.
    """
    support, ratio = support or bf16_support, ratio or bf16_ratio
    if asked in ("float32", "fp16"):
        return cast(Precision, asked), "asked for", ""
    found = support(device)
    if asked == "bf16":
        return "bf16", "asked for", _emulated(found, ratio)
    if found.native is None:
        # Clearly slower only: CPUs that have it were built to gain from it.
        slower = (measured := ratio()) > SLOWER
        why = f"{found.why}; measured: bf16 takes {measured:.2f} of float32's time"
        now: Literal["float32", "bf16"] = "float32" if slower else "bf16"
    else:
        now, why = ("bf16" if found.native else "float32"), found.why
    if earlier in (None, now):
        return now, f"auto: {why}", ""
    kept = cast(Literal["float32", "bf16"], earlier)
    warning = f"auto would choose {now} here ({why}); a run keeps the {kept} that it began with"
    return kept, "auto, at the start of the run", warning


def _emulated(found: Bf16, ratio: Callable[[], float]) -> str:
    if found.native is True or "sm_" in found.why:
        return "" if found.native else f"bf16 is emulated: {found.why}"
    measured = ratio()
    if measured <= SLOWER:
        return ""
    return (
        f"bf16 is slow here: {measured:.1f} times float32's time in a convolution ({found.why}). "
        "Set precision=auto"
    )


def trusted_bf16(
    asked: str, why: str, warning: str, networks: list[nn.Module], device: torch.device
) -> tuple[Precision, str, str]:
    """Return float32 in place of an automatic bf16 that gets a convolution wrong, with the reason.

    A bf16 that was asked for is obeyed, with a warning.
    """
    wrong = wrong_in_bf16(networks, device)
    if not wrong:
        return "bf16", why, warning
    if asked == "bf16":
        return "bf16", why, f"bf16 is wrong with this torch on this machine: {wrong}"
    return "float32", f"auto: bf16 is wrong with this torch on this machine: {wrong}", warning


def choose_layout(asked: bool | str, device: torch.device, precision: str) -> tuple[bool, str]:
    """Return whether channels last is tried, and the reason.

    oneDNN's and cuDNN's kernels for channels last are as fast or faster on CPUs of every kind and
    on tensor cores; elsewhere torch's usual format is safe.
    """
    if asked != "auto":
        return bool(asked), "asked for"
    if device.type == "cpu":
        if torch.backends.mkldnn.is_available():
            return True, "auto: oneDNN has kernels for it"
        return False, "auto: torch runs without oneDNN"
    if device.type == "cuda":
        major = torch.cuda.get_device_capability(device)[0]
        cores = precision in _AUTOCAST or major >= 8
        return cores, "auto: " + ("tensor cores read it" if cores else "no tensor cores in use")
    return False, f"auto: no gain is known on {device.type}"


def settle(
    recipe: Recipe,
    task: Task,
    device: torch.device,
    *,
    generator: nn.Module,
    discriminator: nn.Module | None = None,
    earlier: Mapping[str, Any] | None = None,
) -> Arithmetic:
    """Decide how a run computes, and move its networks to ``device`` accordingly, in place.

    Where a network does not run with its convolutions in channels last (a ``view`` of a weight or
    of an activation needs the usual order) and does without, all stay contiguous: the images of
    one are the input of the next.

    Args:
        recipe: its ``precision`` and ``channels_last`` are obeyed unless they are ``auto``.
        task: where the generator's inputs come from.
        device: where the run computes.
        generator: placed on ``device``.
        discriminator: placed on ``device`` as well.
        earlier: what `recorded` found in the run folder of a run that goes on.

    Raises:
        ConfigError: the device does not have what is asked for, or there are no blocks to compute
            again.
    """
    check_device(recipe, device)
    if recipe.activation_checkpointing:
        check_blocks(generator, discriminator)
    then = dict(earlier or {})
    kept = then.get("precision") if recipe.precision == "auto" else None
    if kept not in ("float32", "bf16"):
        kept = None
    precision, why, warning = choose_precision(recipe.precision, device, earlier=kept)
    if precision == "bf16" and kept is None:
        nets = [net for net in (generator, discriminator) if net is not None]
        precision, why, warning = trusted_bf16(recipe.precision, why, warning, nets, device)
    last, layout_why = choose_layout(recipe.channels_last, device, precision)
    if recipe.channels_last == "auto" and isinstance(then.get("channels_last"), bool):
        last, layout_why = then["channels_last"], "auto, at the start of the run"
    given = {"generator": generator, "discriminator": discriminator}
    networks = {name: net for name, net in given.items() if net is not None}

    def misfit(layout: torch.memory_format) -> str:
        for net in networks.values():
            place(net, device, layout)
        return _fails(generator, discriminator, task, device, layout)

    if last and (trouble := misfit(torch.channels_last)):
        last = False
        # What fails in any format is not the format's fault: the check of the fit names the cause.
        if not misfit(torch.contiguous_format):
            layout_why = f"channels last does not suit these networks: {trouble}"
    elif not last:
        for net in networks.values():
            place(net, device, torch.contiguous_format)
    # What flags and clocks tell one rank decides for all.
    own = asdict(Arithmetic(precision, why, last, layout_why, warning))
    told = Arithmetic(**json.loads(bytes_of_first(json.dumps(own).encode(), "the precision")))
    if told.channels_last != last:
        for net in networks.values():
            place(net, device, told.layout)
    return told


def _fails(
    generator: nn.Module,
    discriminator: nn.Module | None,
    task: Task,
    device: torch.device,
    layout: torch.memory_format,
) -> str:
    """Return "" if one training batch goes through copies, forward and backward; else how not."""
    who = "generator"
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.enable_grad():
        try:
            batch = task.batch(Draw(_PROBE, 0, stream(0, "probe"))).to(device)
            output = _forward_backward(generator, lambda net: task.output(batch.run(net)))
            if discriminator is not None:
                who = "discriminator"
                if output.dim() == 4:
                    output = output.contiguous(memory_format=layout)
                shown = task.shown(batch, output)
                _forward_backward(discriminator, lambda net: _logits(net, shown))
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            return f"the {who} fails with {type(error).__name__}: {lines[0]}"
    return ""


def _logits(discriminator: nn.Module, shown: Shown) -> Tensor:
    given = shown.output, shown.labels, shown.condition
    heads = call_of(discriminator, *given)(
        discriminator, image=given[0], label=given[1], condition=given[2]
    )
    return torch.cat([head.float().flatten() for head in heads])


def _forward_backward(module: nn.Module, run: Callable[[nn.Module], Tensor]) -> Tensor:
    # A copy: what a forward in training leaves behind is nobody's.
    copy = same_call(duplicate(module), module).train()
    out = run(copy)
    learning = [p for p in copy.parameters() if p.requires_grad]
    if learning and out.requires_grad:
        torch.autograd.grad(out.float().sum(), learning, allow_unused=True)
    return out.detach()


def place(module: nn.Module, device: torch.device, layout: torch.memory_format) -> nn.Module:
    """Move ``module`` to ``device``, in place, and return it.

    The weights of its convolutions get the memory format ``layout``; channels last means that of
    volumes in three dimensions. Nothing else is touched: what a tensor of four dimensions means
    to code of the user's own, only that code knows.
    """
    last = layout == torch.channels_last
    formats = {4: layout, 5: torch.channels_last_3d if last else torch.contiguous_format}
    module.to(device)
    for part in module.modules():
        if isinstance(part, nn.modules.conv._ConvNd):
            # Parametrizations (spectral norm) keep the weight one level down.
            for tensor in part.parameters():
                if tensor.dim() in formats and tensor.dim() == len(part.kernel_size) + 2:
                    tensor.data = tensor.data.contiguous(memory_format=formats[tensor.dim()])
    return module


def recorded(run: Path) -> dict[str, Any] | None:
    """Return how the run in the folder ``run`` computes; ``None`` where that is not recorded."""
    with suppress(OSError, ValueError, AttributeError):
        found = json.loads((run / ENVIRONMENT).read_text(encoding="utf-8")).get(RECORD)
        return cast(dict[str, Any], found) if isinstance(found, dict) else None
    return None
