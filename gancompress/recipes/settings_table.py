"""All methods with their settings as one page: ``python -m gancompress.recipes.settings_table``."""

from __future__ import annotations

from collections.abc import Iterator

from gancompress.recipes.load import load_recipe, recipe_names
from gancompress.recipes.schema import Recipe

_HEAD = """\
# Methods and their settings

One row a recipe of kind prune or distill. Written by
`python -m gancompress.recipes.settings_table > docs/methods.md`; a test keeps it current. A
method's card says what of it is as published and what is not. Every recipe is a YAML over
[plug-ins](plugins.md): copy one (`gancompress copy NAME`), or write your own and load plug-ins of
yours with `--plugin`. How they are compared: [protocol](protocol.md).
"""
_COLUMNS = (
    "method", "channels go by", "how many each group gives", "when", "teacher's help (weight)",
    "discriminator", "beside",
)  # fmt: skip


def settings_page() -> str:
    """Return the Markdown page."""
    found = ((name, load_recipe(name)) for name in recipe_names())
    rows = [tuple(_row(name, recipe)) for name, recipe in found if recipe.kind != "train"]
    lines = [_COLUMNS, tuple("---" for _ in _COLUMNS), *rows]
    return _HEAD + "\n" + "\n".join("| " + " | ".join(row) + " |" for row in lines) + "\n"


def _row(name: str, recipe: Recipe) -> Iterator[str]:
    card = "ppcd" if name.startswith("ppcd-") else name
    yield f"[{name}](methods/{card}.md)"
    if recipe.kind == "prune":
        scored = f", begun by `{recipe.score.name}`" if recipe.score else ""
        yield f"`{recipe.importance.name}`{scored}"
        drawn = [c.options.get("trials") for c in recipe.companions if c.name == "sampled_widths"]
        searched = recipe.search or any(trials != 0 for trials in drawn)
        given = f"`{recipe.allocation.name}`" if recipe.allocation else "value for cost"
        given = "the same share" if drawn else given
        yield "searched for" if searched else given
        window = recipe.schedule
        yield (
            f"one cut, at {window.end:g}" if window.end - window.start < 0.02
            else f"`{window.name}`, {window.start:g} to {window.end:g}"
        )  # fmt: skip
    else:
        student = recipe.student
        yield {"narrow": f"`{student.channels}`", "scratch": "fresh weights"}.get(
            student.init, f"`{student.init}`"
        )
        yield "the same share" if student.channels == "magnitude" else "residual for cost"
        yield "before training" if recipe.steps else "no training"
    helped = [f"`{e.name}` ({e.weight:g})" for e in recipe.distill]
    helped += [f"loss `{e.name}` ({e.weight:g})" for e in recipe.losses]
    if recipe.feature_matching.to == "teacher" and recipe.feature_matching.weight:
        helped.append(f"feature matching ({recipe.feature_matching.weight:g})")
    if recipe.student.reconstruct:
        helped.append("least squares")
    yield ", ".join(helped) or "none"
    D = recipe.discriminator
    real = ", the teacher's samples are real" if D.real == "teacher" else ""
    narrowed = ", narrowed along" if recipe.shrink.discriminator else ""
    yield f"{D.policy}{real}{narrowed}" if recipe.adversarial.weight else "none"
    beside = [f"`{c.name}`" for c in recipe.companions]
    beside += [f"penalty `{recipe.penalty.name}`"] if recipe.penalty.weight else []
    yield ", ".join(beside) or "-"


if __name__ == "__main__":
    print(settings_page(), end="")
