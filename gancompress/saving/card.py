"""The README of a shared generator: what it is, its figures with their conditions, how to load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

FRONT = """---
library_name: gancompress
tags:
- gancompress
- generator
- compressed
---
"""
_COSTS = {"params": "parameters", "macs": "MACs a sample", "bytes": "bytes of weights"}
_CONDITIONS = ("batch", "dtype", "device", "threads")


def model_card(
    title: str, config: Mapping[str, Any], summary: Mapping[str, Any] | None, *, repo: str
) -> str:
    """Return the Markdown of a model card (ours, in the layout of Hugging Face).

    Args:
        title: heading.
        config: ``config.json`` of the saved generator.
        summary: ``summary.json`` of the run that made it, where there is one.
        repo: ``org/name`` that it is loaded by.
    """
    parts = [FRONT, f"# {title}\n", f"{_about(config, summary)}\n"]
    if summary is not None:
        parts += [_figures(summary), _verdict(summary)]
    parts.append(_loading(config, repo))
    return "\n".join(part for part in parts if part)


def _about(config: Mapping[str, Any], summary: Mapping[str, Any] | None) -> str:
    kind, count = config.get("class", "unknown class"), config.get("parameters", 0)
    text = f"A generator ({kind}, {count:,} parameters)"
    if summary is None:
        return f"{text}, saved by gancompress."
    return (
        f"{text}, compressed by gancompress: recipe {summary.get('recipe')} on "
        f"{summary.get('model')}, {summary.get('steps')} steps, seed {summary.get('seed')}."
    )


def _figures(summary: Mapping[str, Any]) -> str:
    size = summary.get("size") or {}
    old, new = size.get("teacher") or {}, size.get("small") or {}
    rows: list[tuple[str, str, str]] = []
    for key, name in _COSTS.items():
        if key in old and key in new:
            rows.append((name, f"{old[key]:,}", f"{new[key]:,}"))
    was, now = size.get("teacher_latency") or {}, size.get("small_latency") or {}
    if "median_ms" in was and "median_ms" in now:
        where = ", ".join(f"{k} {now[k]}" for k in _CONDITIONS if k in now)
        times = (f"{was['median_ms']:.2f}", f"{now['median_ms']:.2f}")
        rows.append((f"latency in ms ({where})", *times))
    quality = summary.get("quality") or {}
    teacher, student = quality.get("teacher") or {}, quality.get("student") or {}
    for key, value in student.items():
        if isinstance(value, float):
            before = teacher.get(key)
            shown = f"{before:.4g}" if isinstance(before, float) else ""
            rows.append((key.replace("_", " "), shown, f"{value:.4g}"))
    if not rows:
        return ""
    conditions = [f"{k} {student[k]}" for k in ("n", "seed", "features") if k in student]
    note = f"\nQuality: {', '.join(conditions)}.\n" if conditions else ""
    return _table(("", "teacher", "this generator"), rows) + note


def _verdict(summary: Mapping[str, Any]) -> str:
    checked = summary.get("verify") or {}
    if "max_error" not in checked:
        return ""
    word = "passed" if checked.get("passed") else "FAILED"
    return (
        f"The cut was verified ({word}): the small generator differs from the masked one by at "
        f"most {checked['max_error']:.1e} in float64.\n"
    )


def _loading(config: Mapping[str, Any], repo: str) -> str:
    build = "" if config.get("built") else f", build_fn={config.get('class', 'build')}"
    text = (
        "## Use\n\n```python\nimport gancompress as gc\n\n"
        f'generator = gc.from_pretrained("{repo}"{build})\n```\n'
    )
    if build:
        text += "\n`build_fn` makes the network at its original size: its code is not here.\n"
    return text


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
