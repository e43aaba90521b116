"""ChannelMask holds the learnable choice over a group; Gate applies it to a raw weight."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gancompress.masks.relax import RELAXATIONS, Relaxation

OPEN = 0.05
"""The score that a gate sees at the least while it is held open."""


class ChannelMask(nn.Module):
    """The learnable choice over one channel group ("learnable mask layer" in PPCD).

    Args:
        name: of the group.
        size: channels c.
        relaxation: a registry name, a name with options, or a function; turns scores into gate
            values.
        held_open: the gate of a living channel never closes. Under a budget the schedule alone
            kills; a channel that its score had closed in training would be open again after the
            cut, in a network that has learned without it.

    Attributes:
        scores: parameter (c,), open while > 0 (or always, see ``held_open``).
        sensitivity: buffer (c,) in [0, 1], running mean over steps of the squared gradient of the
            loss by the gate, the penalty left out, as a share of that by all gates (a Fisher
            estimate of what removing the channel costs; see `observe`).
        progress: buffer (), fraction of the run in [0, 1], for annealed relaxations.
    """

    is_gancompress_mask = True
    held_open: bool
    sensitivity: Tensor
    progress: Tensor

    def __init__(
        self, name: str, size: int, relaxation: Any = "ste", *, held_open: bool = False
    ) -> None:
        super().__init__()
        self.name, self.size, self.held_open = name, size, held_open
        self.relaxation = relaxation
        self._relax: Relaxation = RELAXATIONS.bind(relaxation)
        self._hard_from = float(RELAXATIONS.fact(relaxation, "hard_from"))
        self.scores = nn.Parameter(torch.ones(size))
        self._buffers["alive"] = torch.ones(size, dtype=torch.int8)
        self.register_buffer("sensitivity", torch.zeros(size))
        self.register_buffer("progress", torch.zeros(()))
        self._buffers["settled"] = torch.zeros((), dtype=torch.int8)
        # Python mirrors: reading a tensor in each forward would stall an accelerator.
        self._progress, self._settled, self._whole = 0.0, False, False
        self._living = np.ones(size, bool)
        self._written = version_of(self.alive)  # of ``alive``, when the mirrors were taken
        self._gradient: Tensor | None = None  # summed over the uses of the gate in this step
        self._watch: Tensor | None = None  # zeros that a compiled forward adds, for their gradient
        self._open: Tensor | None = None  # see `narrow`
        self.lent: tuple[Any, ...] = ()  # see `gancompress.masks.lent_weights`

    # Kept as int8: torch's AveragedModel(use_buffers=True) subtracts buffers, which bool cannot.

    @property
    def alive(self) -> Tensor:
        """Which channels live, bool (c,), to be written in place; a dead one never comes back."""
        return _as_bool(self._buffers["alive"])

    @property
    def settled(self) -> Tensor:
        """Whether the gates are exactly ``alive`` (after `Masked.apply`), bool ()."""
        return _as_bool(self._buffers["settled"])

    def extra_repr(self) -> str:
        """Show name, living channels and relaxation."""
        relaxation = RELAXATIONS.label(self.relaxation)
        return f"{self.name}, {self.width}/{self.size} alive, {relaxation}"

    @property
    def living(self) -> np.ndarray:
        """``alive`` as an array of its own (c,); the device is asked only if others wrote to it."""
        if version_of(self.alive) != self._written:
            self.sync()
        return self._living.copy()

    @property
    def width(self) -> int:
        """How many channels live."""
        return int(self.living.sum())

    def set_progress(self, progress: float) -> None:
        """Move the annealing of the relaxation to ``progress`` in [0, 1]."""
        self._progress = progress
        self.progress.fill_(progress)

    def settle(self, alive: Tensor) -> None:
        """Fix the gates at exactly ``alive`` (c,) bool."""
        self.alive.copy_(alive)
        self._mirror(alive.detach().cpu().numpy().astype(bool), settled=True)

    def rest(self) -> None:
        """Settle, where the gates are 0 or 1 anyway: there is nothing left to choose.

        From now on the mask costs nothing once its dead channels are cut, and scores stay.
        """
        if not self._settled and self.held_open and self._progress >= self._hard_from:
            self._mirror(self.living, settled=True)

    def kill(self, channels: Tensor) -> None:
        """Let the channels with these numbers (int64) die."""
        living = self.living
        living[channels.cpu().numpy()] = False
        self.alive[channels.to(self.alive.device)] = False
        self._mirror(living, settled=self._settled)

    def _mirror(self, living: np.ndarray, *, settled: bool) -> None:
        """Take up what the buffers hold from now on, without reading them."""
        if settled and not self._settled:
            self.settled.fill_(True)
        self._living, self._settled = living.copy(), settled
        self._written = version_of(self.alive)
        # As the buffer keeps it, so that a run that is resumed has the same number.
        self._progress = float(torch.tensor(self._progress, dtype=self.progress.dtype))
        self._whole = settled and bool(living.all())

    @property
    def decides(self) -> bool:
        """Whether scores still shape the gates."""
        return not self._settled

    @property
    def whole(self) -> bool:
        """Whether the gates are 1 for good, so that nothing need be multiplied."""
        return self._whole and self._open is None

    def narrow(self, kept: Tensor | None) -> None:
        """Let only the channels ``kept`` (c,) bool act for now; ``None``: all living ones again.

        Nobody dies of it: it is for networks of several widths that share their weights.
        """
        self._open = kept

    def hold_open(self, kept: Sequence[int]) -> None:
        """Let all but the channels ``kept`` die, and hold these open from now on."""
        living = np.zeros(self.size, bool)
        living[list(kept)] = True
        living &= self.living
        self.alive.copy_(torch.from_numpy(living))
        self.held_open = True
        self._mirror(living, settled=self._settled)

    def follow(self, other: ChannelMask) -> None:
        """Hold what ``other``, a mask of the same group on the same device, holds now."""
        with torch.no_grad():
            self.scores.copy_(other.scores)
            for name in ("alive", "sensitivity", "progress", "settled"):
                self.get_buffer(name).copy_(other.get_buffer(name))
        self._gradient, self._progress = None, other._progress
        self._settled = other._settled
        self._mirror(other.living, settled=other._settled)

    def sync(self) -> None:
        """Take the Python mirrors from the buffers (after these have changed)."""
        self._progress, self._settled = float(self.progress), bool(self.settled)
        self._living = self.alive.detach().cpu().numpy().copy()
        self._written = version_of(self.alive)
        self._whole = self._settled and bool(self._living.all())

    def gate(self, *, watched: bool = True) -> Tensor:
        """Return the gate values (c,) in [0, 1], differentiable by ``scores``.

        Args:
            watched: count the gradient of this use in ``sensitivity``.
        """
        alive = self.alive if self._open is None else self.alive & self._open
        alive = alive.to(self.scores.dtype)
        if self._settled:
            return alive
        scores = self.scores
        if self.held_open:
            scores = scores + (scores.clamp_min(OPEN) - scores).detach()
        values = self._relax(scores, self._progress) * alive
        if watched and values.requires_grad:
            if not torch.compiler.is_compiling():
                values.register_hook(self._note)
            elif self._watch is not None:
                # A hook would break the graph at every gate; the gradient of added zeros is the
                # same number.
                values = values + self._watch
        return values

    def watch(self) -> None:
        """Let a forward that is compiled from now on tell the gradient by the gate, too."""
        self._watch = torch.zeros_like(self.scores, requires_grad=True)

    def felt(self) -> Tensor | None:
        """Return the gradient by the gate since it was last asked for, if any, and forget it."""
        found, self._gradient = self._gradient, None
        if self._watch is not None and self._watch.grad is not None:
            new = self._watch.grad.to(self.sensitivity)
            found = new if found is None else found + new
            self._watch.grad = None
        return found

    def hard(self) -> Tensor:
        """Return the 0/1 decision (c,) without gradient: what a cut now would keep."""
        with torch.no_grad():
            alive = self.alive if self._open is None else self.alive & self._open
            if self._settled or self.held_open:
                return alive.to(self.scores.dtype)
            return ((self.scores > 0) & alive).to(self.scores.dtype)

    def _note(self, grad: Tensor) -> None:
        # A mask is used at several readers: the gradient by the gate is the sum over them.
        new = grad.detach().to(self.sensitivity)
        self._gradient = new if self._gradient is None else self._gradient + new

    def _load_from_state_dict(self, *args: object, **kwargs: object) -> None:
        super()._load_from_state_dict(*args, **kwargs)  # type: ignore[arg-type]
        self._gradient = None
        self.sync()


def kill_together(masks: Mapping[str, ChannelMask], killed: Mapping[str, np.ndarray]) -> None:
    """Let channels of several masks die, by name; one copy to the device serves all of them."""
    if not killed:
        return
    left = {name: masks[name].living for name in killed}
    for name, channels in killed.items():
        left[name][channels] = False
    device = masks[next(iter(killed))].alive.device
    living = torch.from_numpy(np.concatenate(list(left.values()))).to(device)
    for (name, row), part in zip(
        left.items(), living.split([*map(len, left.values())]), strict=True
    ):
        masks[name].alive.copy_(part)
        masks[name]._mirror(row, settled=masks[name]._settled)


def version_of(tensor: Tensor) -> int:
    """Return how often ``tensor`` has been written to, as torch counts; -1: it does not count."""
    return -1 if tensor.is_inference() else tensor._version


def _as_bool(held: Tensor | None) -> Tensor:
    assert held is not None
    # The same memory: 0 and 1 are what False and True are. Earlier versions held bool.
    return held if held.dtype == torch.bool else held.view(torch.bool)


@dataclass(frozen=True)
class GatePart:
    """One dimension of a gated tensor: which mask, and which channel owns each index (-1: none)."""

    mask: ChannelMask
    dim: int
    owner: np.ndarray
    learned: bool


class Gate(nn.Module):
    """Parametrization ``raw -> raw * gate`` along one or more dimensions.

    Gating the raw weight (before spectral or weight norm) is the same function as gating the
    reader's input, costs nothing per pixel, and lets norms of the weight see true zeros. A mask is
    registered at the first gate that uses it, so that its scores appear once in the generator.
    """

    is_gancompress_gate = True

    def __init__(
        self,
        parts: Sequence[GatePart],
        owned: Sequence[ChannelMask],
        strip: Callable[[nn.Module], None],
    ) -> None:
        super().__init__()
        # For layers below that meet a wrapped network and must not know how gates are attached:
        # takes every gate off the generator that this one is in, or off a copy of it.
        self.strip = strip
        self.owned = nn.ModuleList(owned)
        rows = []
        for i, part in enumerate(parts):
            straight = np.array_equal(part.owner, np.arange(part.mask.size))
            if not straight:
                index = np.where(part.owner < 0, part.mask.size, part.owner)
                self.register_buffer(f"index{i}", torch.from_numpy(index), persistent=False)
            rows.append((part.mask, part.dim, part.learned, straight))
        self.order: list[str] = []  # the owner's parameters before wrapping
        # A plain attribute: a mask is registered once, with its owner.
        self._rows = tuple(rows)

    def forward(self, raw: Tensor) -> Tensor:
        """Return the gated tensor, same shape as ``raw``."""
        # The gates are multiplied with each other first: one product of the weight's size is kept
        # for the backward pass, however many dimensions are gated.
        gates: Tensor | None = None
        for i, (mask, dim, learned, straight) in enumerate(self._rows):
            if mask.whole:
                continue
            values = (mask.gate() if learned else mask.hard()).to(raw.dtype)
            if not straight:
                values = torch.cat([values, values.new_ones(1)])[getattr(self, f"index{i}")]
            values = values.view([-1 if d == dim else 1 for d in range(raw.dim())])
            gates = values if gates is None else gates * values
        return raw if gates is None else raw * gates

    @property
    def masks(self) -> list[ChannelMask]:
        """The masks that this gate applies."""
        return [row[0] for row in self._rows]


class OutputGate(nn.Module):
    """The paper's literal placement: multiply what a layer writes, after the layer (PPCD).

    A forward hook (bound method, so that copies carry masks of their own).
    """

    is_gancompress_gate = True

    def __init__(self, mask: ChannelMask, dim: int) -> None:
        super().__init__()
        self._mask, self._dim = (mask,), dim

    def gate_output(self, module: nn.Module, args: object, out: Tensor) -> Tensor:
        """Forward hook: return ``out`` times the gate along its channel dimension."""
        if self._mask[0].whole:
            return out
        values = self._mask[0].gate().to(out.dtype)
        dim = self._dim % out.dim()
        return out * values.view([-1 if d == dim else 1 for d in range(out.dim())])
