"""The head of a report: size, speed, quality and exactness of a run, each with its threshold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gancompress.reporting.html import Verdict
from gancompress.reporting.tables import fewer, si

OFF = 0.02
"""How far off its target a size may be: what the command line promises."""
EXACT = 1e-9
"""How far masked and cut network may differ in float64 (`gancompress.surgery.verify`)."""


def verdicts(summary: Mapping[str, Any]) -> list[Verdict]:
    """Return what the ``summary`` of a finished run says, the most asked first."""
    return [
        *_size(summary),
        *_speed(summary.get("size", {})),
        *_quality(summary.get("quality", {})),
        *_exactness(summary.get("verify")),
    ]


def _size(summary: Mapping[str, Any]) -> Iterator[Verdict]:
    size = summary.get("size")
    if not size:
        return
    old, new = size["teacher"], size["small"]
    value = f"{fewer(old['params'], new['params'], 'fewer')} parameters"
    detail = (
        f"{si(old['params'])} to {si(new['params'])}; "
        f"MACs {fewer(old['macs'], new['macs'], 'fewer')}"
    )
    if not summary.get("target"):
        yield Verdict("size", value, detail)
        return
    off = summary["off_target"]
    yield Verdict(
        "size", value,
        f"{detail}. Target {summary['target']}, {off:+.1%} off (allowed: {OFF:.0%})",
        "good" if abs(off) <= OFF else "bad",
    )  # fmt: skip


def _speed(size: Mapping[str, Any]) -> Iterator[Verdict]:
    was, now = size.get("teacher_latency"), size.get("small_latency")
    if not was or not now:
        return
    threads = f"{was['threads']} thread{'s' if was['threads'] > 1 else ''}"
    apart = now["median_ms"] + now["iqr_ms"] / 2 < was["median_ms"] - was["iqr_ms"] / 2
    spread = "apart" if apart else "overlapping: no difference is shown"
    yield Verdict(
        "speed", fewer(was["median_ms"], now["median_ms"], "faster"),
        f"{was['median_ms']:.2f} to {now['median_ms']:.2f} ms, batch {was['batch']}, "
        f"{was['device']}, {threads}; middle halves of the timings {spread}",
        "good" if apart else "plain",
    )  # fmt: skip


def _quality(quality: Mapping[str, Any]) -> Iterator[Verdict]:
    was, now = quality.get("teacher", {}), quality.get("student", {})
    key = "frechet_classifier"
    if now.get(key) is not None and was.get(key) is not None:
        floor = f", real images {now['frechet_floor']:.2g}" if "frechet_floor" in now else ""
        yield Verdict(
            "quality", f"Frechet {now[key]:.3g}",
            f"teacher {was[key]:.3g}{floor}; {now['n']} samples, features of the embedded "
            "classifier (not an FID). No threshold was set",
        )  # fmt: skip
    elif now.get("to_wanted"):
        key, name = ("log_mel", "log mel") if "log_mel" in now["to_wanted"] else ("l1", "L1")
        mine, teachers = now["to_wanted"][key], was.get("to_wanted", {}).get(key)
        beside = "" if teachers is None else f"; the teacher {teachers:.3g}"
        yield Verdict(
            "quality", f"{name} {mine:.3g} to what was wanted",
            f"{now['n']} held-out inputs, on the scale [-1, 1]{beside}. No threshold was set",
        )  # fmt: skip
    elif now.get("to_teacher"):
        found = now["to_teacher"]
        kinds = (("psnr", "PSNR", " dB"), ("log_mel", "log mel", ""))
        fallback = (next(iter(found)), next(iter(found)), "")
        key, name, unit = next((kind for kind in kinds if kind[0] in found), fallback)
        yield Verdict(
            "quality", f"{name} {found[key]:.3g}{unit} to the teacher",
            f"{now['n']} held-out inputs; how near the student is to its teacher, not how good "
            "either is. No threshold was set",
        )  # fmt: skip


def _exactness(found: Mapping[str, Any] | None) -> Iterator[Verdict]:
    if not found or "max_error" not in found:
        return
    yield Verdict(
        "exactness of the cut", f"{found['max_error']:.1e}" if found["max_error"] else "0",
        f"largest difference of masked and cut network, float64 (allowed: {EXACT:.0e})",
        "good" if found.get("passed") else "bad",
    )  # fmt: skip
