"""All plug-ins with their options as one page: ``python -m gancompress.plugins.table``."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from gancompress.plugins.kinds import KINDS
from gancompress.plugins.options import Option
from gancompress.registry import Registry

_HEAD = """\
# Plug-ins

What a recipe can name, with the options that may stand beside the name. Written by
`python -m gancompress.plugins.table > docs/plugins.md`; a test keeps it current.
[CONTRIBUTING](../CONTRIBUTING.md) says how to add one: it is one file.
"""


def plugin_page() -> str:
    """Return a Markdown page: each kind, each plug-in that ships, what it does, its options."""
    return "\n".join([_HEAD, *(line for kind in KINDS.values() for line in _section(kind))])


def _section(registry: Registry) -> Iterator[str]:
    shown = [n for n in registry.names() if registry.get(n).__module__.startswith("gancompress.")]
    if not shown:
        return
    heading = registry.kind.capitalize()
    call = ", ".join(registry.given)
    yield f"## {heading}"
    yield ""
    yield f"In `{registry.package}`; called with ({call}) and its options."
    yield ""
    yield "| name | what it does | options |"
    yield "| --- | --- | --- |"
    for name in shown:
        text = (inspect.getdoc(registry.get(name)) or "").partition("\n\n")[0]
        options = "<br>".join(map(_option, registry.options(name).values())) or "-"
        yield f"| `{name}` | {_cell(' '.join(text.split()))} | {options} |"
    yield ""


def _option(option: Option) -> str:
    default = "required" if option.required else f"default {option.default!r}"
    return f"`{option.name}`: {_cell(option.kind)}; {_cell(default)}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("``", "`")


if __name__ == "__main__":
    print(plugin_page(), end="")
