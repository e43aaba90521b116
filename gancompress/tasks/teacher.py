"""Task ``teacher``: inputs and a teacher's outputs, nothing else (black box)."""

from __future__ import annotations

from dataclasses import replace

from gancompress.tasks.noise import Noise, rate_of
from gancompress.tasks.paired import Paired, paired
from gancompress.tasks.protocol import TASKS, Sources


@TASKS.register("teacher")
def teacher(sources: Sources, *, held_out: float = 0.05, rate: int = 0) -> Noise | Paired:
    """Imitate a teacher: its stored outputs, or those that it makes while the student learns.

    Args:
        sources: with ``dataset``, that holds the outputs that belong to the files of ``sampler``;
            without, the teacher that runs along answers, and its outputs count as real.
        held_out: share of stored pairs that is only measured on.
        rate: samples a second, where the teacher makes sound and nothing is stored; 0: it is none.

    Raises:
        ConfigError: nothing says what the inputs are.
        DataError: names without a partner.
    """
    if sources.dataset is None:
        sampler = sources.needs_sampler("teacher")
        sound = rate_of(rate, None)
        return Noise(sampler, None, sources.seed, name="teacher", sound=sound)
    stored = paired(sources, condition=False, held_out=held_out)
    return replace(stored, name="teacher", rate=rate_of(rate, sources.dataset))
