"""Teacher and student on the same input, timed: what a demo page shows, and its bad requests."""

from __future__ import annotations

import base64
import io
import itertools
import statistics
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from gancompress.data.inputs import InputSampler
from gancompress.errors import DataError
from gancompress.modules.undisturbed import evaluating
from gancompress.reporting.pictures import UNIT, Range, png, to_pixels, value_range
from gancompress.tasks.protocol import Batch, Task

KEPT = 64
"""Held-out samples that can be looked at."""
MOST = 16
"""Samples of one request."""
TURNS, SECONDS = 5, 1.0
"""Timed calls of each network, fewer where they take longer than that in all."""
LARGEST_PICTURE = 64 * 10**6  # pixels of an uploaded picture
_ENLARGE = 128  # pixels: smaller pictures are enlarged, so that they can be seen


@dataclass
class SideBySide:
    """Two generators behind a demo page (ours).

    Attributes:
        networks: by name, the student last; they are run one at a time.
        sampler: draws inputs where the task brings none.
        task: of the run, where its data brings the inputs.
        title: of the page.
    """

    networks: Mapping[str, nn.Module]
    sampler: InputSampler
    task: Task | None = None
    title: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _held: list[Batch] = field(default_factory=list[Batch])
    _shown: Range | None = None

    def about(self) -> dict[str, Any]:
        """Return what the page must know: inputs, classes, sizes."""
        batch = self.batch(0, None, 1)
        place = _picture_place(batch, self.sampler)
        return {
            "title": self.title,
            "classes": self.sampler.n_classes,
            "held_out": len(self._held) if self.task is not None else None,
            "picture": None if place is None else list(batch.inputs[place].shape[1:]),
            "networks": {
                name: sum(p.numel() for p in net.parameters())
                for name, net in self.networks.items()
            },
            "threads": torch.get_num_threads(),
        }

    def batch(self, seed: int, label: int | None, n: int) -> Batch:
        """Return ``n`` inputs: drawn by ``seed`` and of the class ``label``, or held-out ones.

        Raises:
            DataError: a class or a number that is not there.
        """
        if not 1 <= n <= MOST:
            raise DataError(f"n is {n}, it must be 1 to {MOST}")
        if not 0 <= seed < 2**31:
            raise DataError(f"seed is {seed}, it must be 0 to {2**31 - 1}")
        if self.task is not None:
            return self._held_out(seed)
        inputs = self.sampler(n, torch.Generator().manual_seed(seed))
        if label is not None:
            classes = self.sampler.n_classes
            if classes is None or not 0 <= label < classes:
                raise DataError(f"class {label}: there are {classes or 'none'}")
            inputs = self.sampler.relabelled(inputs, torch.full((n,), label))
        return Batch(tuple(inputs))

    def _held_out(self, number: int) -> Batch:
        assert self.task is not None
        if not self._held:
            self._held = list(itertools.islice(self.task.held_out(KEPT, 1), KEPT))
        return self._held[number % len(self._held)]

    def with_picture(self, data: bytes) -> Batch:
        """Return the first input with the picture in ``data`` in its place, resized to fit.

        Raises:
            DataError: it is no picture, or the generator takes none.
        """
        batch = self.batch(0, None, 1)
        place = _picture_place(batch, self.sampler)
        if place is None:
            raise DataError("this generator takes no picture")
        _, channels, height, width = batch.inputs[place].shape
        try:
            with Image.open(io.BytesIO(data)) as image:
                if image.width * image.height > LARGEST_PICTURE:
                    raise DataError(f"a picture of {image.width} x {image.height} is too large")
                small = image.convert("L" if channels == 1 else "RGB").resize((width, height))
        except DataError:
            raise
        except Exception as error:
            raise DataError(f"no picture that can be read: {type(error).__name__}") from error
        pixels = np.array(small, dtype=np.float32).reshape(height, width, -1)
        low, high = UNIT if self.task is None else self.task.values
        picture = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255 * (high - low) + low
        inputs = list(batch.inputs)
        inputs[place] = picture
        return Batch(tuple(inputs), batch.kwargs)

    def run(self, batch: Batch) -> dict[str, Any]:
        """Return media and milliseconds of each network, and how far they are apart.

        Raises:
            DataError: an output is neither pictures nor sound.
        """
        pick = self.sampler.image if self.task is None else self.task.output
        with self._lock:
            raw, times = _timed(self.networks, batch)
        outputs = {name: pick(out).float().cpu() for name, out in raw.items()}
        shown = self._range_of_outputs()
        found: dict[str, Any] = {
            name: {"ms": round(times[name], 3), "media": self._media(out, shown)}
            for name, out in outputs.items()
        }
        result: dict[str, Any] = {"outputs": found, "samples": len(batch)}
        first, *others = outputs.values()
        if others and first.shape == others[0].shape:
            result["mean_difference"] = float((first - others[0]).abs().mean())
        beside = {"input": _shown_input(batch), "wanted": batch.wanted}
        result["beside"] = {
            name: self._media(x, value_range(x) if self.task is None and x.ndim == 4 else shown)
            for name, x in beside.items()
            if x is not None
        }
        return result

    def _range_of_outputs(self) -> Range:
        """Return black and white: of the task, or of eight outputs, once for all requests."""
        if self.task is not None:
            return self.task.values
        if self._shown is None:
            net = next(iter(self.networks.values()))
            device = next((p.device for p in net.parameters()), torch.device("cpu"))
            with self._lock, torch.no_grad(), evaluating(net):
                out = self.sampler.image(self.batch(0, None, 8).to(device).run(net))
            self._shown = value_range(out) if out.ndim == 4 else UNIT
        return self._shown

    def _media(self, x: Tensor, shown: Range) -> list[dict[str, str]]:
        if x.ndim == 4:
            return [{"kind": "picture", "data": _picture(p)} for p in to_pixels(x, shown)]
        if x.ndim in (2, 3):
            rate = (self.task.rate if self.task is not None else None) or 22050
            return [{"kind": "sound", "data": _sound(s, rate)} for s in x]
        raise DataError(f"an output {tuple(x.shape)} is neither pictures nor sound")


@torch.no_grad()
def _timed(
    networks: Mapping[str, nn.Module], batch: Batch
) -> tuple[dict[str, Any], dict[str, float]]:
    """Return the outputs of each network, and its median time in milliseconds.

    All are called once to warm up, then in turns, so that what else the machine does hits all.
    """
    outputs: dict[str, Any] = {}
    times: dict[str, list[float]] = {name: [] for name in networks}
    end = time.perf_counter() + SECONDS
    for turn in range(1 + TURNS):
        for name, net in networks.items():
            device = next((p.device for p in net.parameters()), torch.device("cpu"))
            there = batch.to(device)
            with evaluating(net):
                start = time.perf_counter()
                outputs[name] = there.run(net)
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
            if turn:
                times[name].append(1e3 * (time.perf_counter() - start))
        if turn and time.perf_counter() > end:
            break
    return outputs, {name: statistics.median(found) for name, found in times.items()}


def _picture_place(batch: Batch, sampler: InputSampler) -> int | None:
    """Return which input is a picture: of 4 dimensions, one or three channels, and no noise."""
    for i, x in enumerate(batch.inputs):
        noise = i < len(sampler.parts) and sampler.parts[i].kind == "normal"
        picture = isinstance(x, Tensor) and x.ndim == 4 and x.shape[1] in (1, 3)
        if picture and not noise and x.is_floating_point() and min(x.shape[2:]) > 1:
            return i
    return None


def _shown_input(batch: Batch) -> Tensor | None:
    first = batch.inputs[0] if batch.inputs else None
    if not isinstance(first, Tensor) or first.ndim != 4 or first.shape[1] not in (1, 3):
        return None
    return first if min(first.shape[2:]) > 1 else None


def _picture(pixels: np.ndarray) -> str:
    image = Image.fromarray(pixels)
    if (side := max(image.size)) < _ENLARGE:
        times = -(-_ENLARGE // side)
        image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    return "data:image/png;base64," + base64.b64encode(png(image)).decode()


def _sound(x: Tensor, rate: int) -> str:
    from scipy.io import wavfile

    mono = x if x.ndim == 1 else x.mean(0)
    samples = mono.nan_to_num().clamp(-1, 1).mul(32767).round().to(torch.int16)
    out = io.BytesIO()
    wavfile.write(out, rate, samples.numpy())
    return "data:audio/wav;base64," + base64.b64encode(out.getvalue()).decode()
