"""Frechet distance, PRDC, FID and KID as rows of a table, and how they were measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

KEY = "on_features"
"""Where a run's ``quality`` keeps what `gancompress.tasks.feature_quality` found."""

_SHAPES = ("precision", "recall", "density", "coverage", "conditional_accuracy")


def feature_rows(quality: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str, str, str]]:
    """Yield rows (name, before, after, change) of what the chosen features saw."""
    now = quality["student"].get(KEY) or {}
    was = quality.get("teacher", {}).get(KEY) or {}
    if "frechet" not in now:
        return
    floor = now["frechet_floor"]
    title = "Frechet distance" if floor is None else f"Frechet distance (real: {floor:.3g})"
    for key, name in (("frechet", title), *((k, k.replace("_", " ")) for k in _standard(now))):
        yield name, _text(was.get(key)), _text(now[key]), _times(was.get(key), now[key])
    for key in _SHAPES:
        if now.get(key) is not None:
            before = was.get(key)
            change = "" if before is None else f"{now[key] - before:+.3f}"
            yield key.replace("_", " "), _text(before), _text(now[key]), change


def features_protocol(quality: Mapping[str, Mapping[str, Any]]) -> str:
    """Return how the figures of `feature_rows` were measured, or why there are none."""
    found = quality["student"].get(KEY)
    if not found:
        return ""
    if "frechet" not in found:
        return f" No Frechet distance: {found['too_few']}."
    fid = "" if _standard(found) else " (not an FID)"
    return (
        f" Frechet distance and PRDC: features {found['features']}{fid}, {found['n']} outputs "
        f"against {found['n_reference']} of {found['reference']}, k = {found['prdc_k']}."
    )


def _standard(found: Mapping[str, Any]) -> list[str]:
    return [k for k in found if k.startswith(("fid", "kid")) and not k.endswith("_std")]


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _times(was: float | None, now: float) -> str:
    return f"{now / was:.3f}x" if was and was > 0 and now > 0 else ""
