"""The head of a report: each answer with its threshold, and no answer without figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gancompress.data.inputs import InputSampler
from gancompress.errors import DataError
from gancompress.reporting.slider_pair import slider_pair
from gancompress.reporting.verdict import verdicts
from gancompress.tasks.noise import Noise
from tests.training.nets import TinyGenerator


def timed(median: float, iqr: float = 0.2) -> dict[str, Any]:
    return {"median_ms": median, "iqr_ms": iqr, "batch": 1, "device": "cpu", "threads": 2}


def summary(**changes: Any) -> dict[str, Any]:
    sizes = {"params": 100_000, "macs": 400_000}
    return {
        "size": {
            "teacher": sizes, "small": {"params": 20_000, "macs": 100_000},
            "teacher_latency": timed(4.0), "small_latency": timed(2.0),
        },
        "target": "params=5x", "off_target": 0.001,
        "quality": {"student": {"n": 8, "to_teacher": {"l1": 0.1, "psnr": 31.0}}},
        "verify": {"max_error": 1e-12, "passed": True},
    } | changes  # fmt: skip


def near(**found: float) -> dict[str, Any]:
    return {"student": {"n": 8, "to_teacher": found}}


def wanted(student: float, teacher: float | None) -> dict[str, Any]:
    beside = {} if teacher is None else {"teacher": {"to_wanted": {"l1": teacher}}}
    return {"student": {"n": 8, "to_wanted": {"l1": student}}} | beside


def frechet(student: float, teacher: float, floor: float | None = None) -> dict[str, Any]:
    found = {"n": 8, "frechet_classifier": student}
    found |= {} if floor is None else {"frechet_floor": floor}
    return {"student": found, "teacher": {"frechet_classifier": teacher}}


def states(found: dict[str, Any]) -> dict[str, str]:
    return {v.what: v.state for v in verdicts(found)}


def test_what_holds_and_what_does_not() -> None:
    assert states(summary()) == {
        "size": "good", "speed": "good", "quality": "bad", "exactness of the cut": "good",
    }  # fmt: skip
    assert states(summary(off_target=-0.03))["size"] == "bad"
    assert states(summary(verify={"max_error": 1e-3, "passed": False}))["exactness of the cut"] == (
        "bad"
    )
    assert states(summary(target=None))["size"] == "plain"


def test_a_speed_within_the_spread_is_no_gain() -> None:
    found = summary()
    found["size"]["small_latency"] = timed(3.9)
    (speed,) = (v for v in verdicts(found) if v.what == "speed")
    assert speed.state == "plain"
    assert "no difference is shown" in speed.detail


@pytest.mark.parametrize(
    ("quality", "words", "threshold", "state"),
    [
        (near(psnr=31.04), "PSNR 31 dB to the teacher", "Asked for: 40 dB", "bad"),
        (near(psnr=40.0), "PSNR 40 dB to the teacher", "Asked for: 40 dB", "good"),
        (near(log_mel=0.5), "log mel 0.5 to the teacher", "No threshold", "plain"),
        (wanted(0.1, 0.05), "L1 0.1 to what was wanted", "Allowed: 1.1 times the", "bad"),
        (wanted(0.055, 0.05), "L1 0.055 to what was wanted", "Allowed: 1.1 times the", "good"),
        (wanted(0.1, None), "L1 0.1 to what was wanted", "No threshold", "plain"),
        (frechet(0.17, 0.06), "Frechet 0.17", "Allowed: 0.066, 1.1 times the teacher's", "bad"),
        (frechet(0.066, 0.06), "Frechet 0.066", "Allowed: 0.066", "good"),
        (frechet(0.02, 0.01, 0.025), "Frechet 0.02", "or as far as real images are", "good"),
    ],
)
def test_each_task_has_its_measure_and_threshold(
    quality: dict[str, Any], words: str, threshold: str, state: str
) -> None:
    (found,) = (v for v in verdicts(summary(quality=quality)) if v.what == "quality")
    assert found.value == words
    assert threshold in found.detail
    assert found.state == state


def test_the_threshold_of_quality_is_the_users() -> None:
    found = summary(quality=frechet(0.17, 0.06))
    (quality,) = (v for v in verdicts(found, kept=3.0) if v.what == "quality")
    assert quality.state == "good"
    assert "Allowed: 0.18, 3 times the teacher's" in quality.detail


def test_nothing_measured_says_nothing() -> None:
    assert verdicts({"quality": {"student": {"skipped": "why"}}, "verify": None}) == []


def test_the_slider_shows_the_same_inputs_through_both() -> None:
    torch.manual_seed(0)
    teacher, student = TinyGenerator().eval(), TinyGenerator().eval()
    task = Noise(InputSampler.of(teacher))
    same = slider_pair(task, teacher, teacher)
    assert np.array_equal(*map(np.asarray, same))
    first, second = slider_pair(task, teacher, student)
    assert first.size == second.size
    assert first.width <= 700
    assert not np.array_equal(np.asarray(first), np.asarray(second))
    sound = nn.Sequential(nn.Linear(8, 4), nn.Unflatten(1, (1, 4)))
    with pytest.raises(DataError, match="sound"):
        slider_pair(Noise(InputSampler.parse(["z=normal(8)"])), sound, sound)
