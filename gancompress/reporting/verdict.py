"""The head of a report: size, speed, quality and exactness of a run, each with its threshold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gancompress.reporting.html import Verdict
from gancompress.reporting.tables import fewer, si

OFF = 0.02
"""How far off its target a size may be: what the command line promises."""
UNKNOWN = "No threshold: nothing to compare it with"
EXACT = 1e-9
"""How far masked and cut network may differ in float64 (`gancompress.surgery.verify`)."""
KEPT = 1.1
"""How many times the teacher's distance still counts as its quality, unless the user says."""
NEAR = 40.0
"""PSNR to the teacher, in dB, from which on the student counts as equal: 1 % of the range (rms)."""


def verdicts(summary: Mapping[str, Any], *, kept: float = KEPT) -> list[Verdict]:
    """Return what the ``summary`` of a finished run says, the most asked first.

    Quality is kept where a distance is at most ``kept`` times the teacher's, or no larger than that
    between two sets of real images; to the teacher alone, from `NEAR` dB on.
    """
    return [
        *_size(summary),
        *_speed(summary.get("size", {})),
        *_quality(summary.get("quality", {}), kept),
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


def _quality(quality: Mapping[str, Any], kept: float) -> Iterator[Verdict]:
    was, now = quality.get("teacher", {}), quality.get("student", {})
    key = "frechet_classifier"
    if now.get(key) is not None and was.get(key) is not None:
        least = now.get("frechet_floor") or 0.0
        floor = f", real images {least:.2g}" if "frechet_floor" in now else ""
        allowed = max(kept * was[key], least)
        yield Verdict(
            "quality", f"Frechet {now[key]:.3g}",
            f"teacher {was[key]:.3g}{floor}; {now['n']} samples, features of the embedded "
            f"classifier (not an FID). Allowed: {allowed:.3g}, {kept:g} times the teacher's"
            + (" or as far as real images are apart" if floor else ""),
            "good" if now[key] <= allowed else "bad",
        )  # fmt: skip
    elif now.get("to_wanted"):
        key, name = ("log_mel", "log mel") if "log_mel" in now["to_wanted"] else ("l1", "L1")
        mine, teachers = now["to_wanted"][key], was.get("to_wanted", {}).get(key)
        beside = "" if teachers is None else f"; the teacher {teachers:.3g}"
        yield Verdict(
            "quality", f"{name} {mine:.3g} to what was wanted",
            f"{now['n']} held-out inputs, on the scale [-1, 1]{beside}. "
            + (f"Allowed: {kept:g} times the teacher's" if teachers is not None else UNKNOWN),
            "plain" if teachers is None else "good" if mine <= kept * teachers else "bad",
        )  # fmt: skip
    elif now.get("to_teacher"):
        found = now["to_teacher"]
        kinds = (("psnr", "PSNR", " dB"), ("log_mel", "log mel", ""))
        fallback = (next(iter(found)), next(iter(found)), "")
        key, name, unit = next((kind for kind in kinds if kind[0] in found), fallback)
        yield Verdict(
            "quality", f"{name} {found[key]:.3g}{unit} to the teacher",
            f"{now['n']} held-out inputs; how near the student is to its teacher, not how good "
            f"either is. {f'Asked for: {NEAR:g} dB' if unit else UNKNOWN}",
            "plain" if not unit else "good" if found["psnr"] >= NEAR else "bad",
        )  # fmt: skip


def _exactness(found: Mapping[str, Any] | None) -> Iterator[Verdict]:
    if not found or "max_error" not in found:
        return
    yield Verdict(
        "exactness of the cut", f"{found['max_error']:.1e}" if found["max_error"] else "0",
        f"largest difference of masked and cut network, float64 (allowed: {EXACT:.0e})",
        "good" if found.get("passed") else "bad",
    )  # fmt: skip
