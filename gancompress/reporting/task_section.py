"""Which pictures of a run its page shows, with the words of its task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gancompress.training.run_files import BEFORE_AFTER, SAMPLE_GRID, SOUND_SHEET, SOUNDS, WORST


def task_pictures(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return (file in the run folder, title, caption) of pictures that a run of this task may have.

    Args:
        summary: of a finished run; one from before this was kept shows the teacher above.
    """
    beside = bool(summary.get("beside"))
    pair = "Held-out inputs, side by side" if beside else "Teacher above student"
    words = f"Task {summary.get('task')}: input, wanted output if any, teacher, student."
    waves = "Each piece: its waveform, and its mel spectrogram below, low notes at the bottom."
    return [
        (BEFORE_AFTER, pair, words if beside else ""),
        (SAMPLE_GRID, "Samples", ""),
        (f"{SOUNDS}/{SOUND_SHEET}", "Held-out sounds", waves),
        (WORST, "Farthest from the teacher", _worst_caption(summary)),
    ]


def _worst_caption(summary: Mapping[str, Any]) -> str:
    found = summary.get("quality", {}).get("student", {}).get("worst")
    if not found or not found["distances"]:
        return ""
    shown = ", ".join(
        f"no. {number}: {distance:.3g}"
        for number, distance in zip(found["numbers"], found["distances"])
    )
    return (
        f"Of the held-out samples, by {found['measure']} to the teacher, the worst first: {shown}."
    )
