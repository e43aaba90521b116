"""Build the documentation: ``python .ci/site.py [FOLDER]``; warnings are errors.

Pages are those of docs/ and the root, and what comes out of the code: commands, recipes, the public
functions. Nothing is downloaded, and the site loads nothing from elsewhere.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
STAGE = ROOT / "build" / "site-source"
ROOT_PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "CODE_OF_CONDUCT.md": "conduct.md",
}
SHIM = Path("iframe-worker.js")
SHIM_ADDRESS = "https://unpkg.com/iframe-worker/shim"
"""What lets the search work from a folder; the theme would load it from elsewhere."""
FOLDERS = {"methods": "Method cards", "decisions": "Decisions"}
CSS = """\
.md-typeset table:not([class]) { font-size: .68rem; }
.md-typeset img { max-width: 100%; }
.md-typeset code { word-break: break-word; }
.md-typeset pre > code, .md-typeset table code { word-break: normal; }
/* The theme's own colours are a little too faint on the ground of code (WCAG 2.2, AA: 4.5). */
:root, [data-md-color-scheme=default] {
  --md-default-fg-color--light: #0000009e; --md-code-hl-number-color: #c62828;
  --md-code-hl-constant-color: #5a45c8;
}
[data-md-color-scheme=slate] {
  --md-default-fg-color--light: hsla(var(--md-hue), 15%, 90%, 0.66);
  --md-code-hl-number-color: #f07f72; --md-code-hl-constant-color: #a99bea;
}
[data-md-color-scheme=slate][data-md-color-primary=indigo] { --md-typeset-a-color: #7ba3ea; }
"""


def stage() -> dict[str, Any]:
    """Write all pages below build/site-source and return the configuration with its whole nav."""
    shutil.rmtree(STAGE, ignore_errors=True)
    shutil.copytree(ROOT / "docs", STAGE)
    shutil.copytree(ROOT / "examples", STAGE / "examples", ignore=shutil.ignore_patterns("__*"))
    shutil.copytree(ROOT / "benchmarks" / "results", STAGE / "results")
    (STAGE / "LICENSE.txt").write_bytes((ROOT / "LICENSE").read_bytes())
    for name, page in ROOT_PAGES.items():
        (STAGE / page).write_text((ROOT / name).read_text("utf-8"), encoding="utf-8")
    for folder, title in FOLDERS.items():
        (STAGE / folder / "index.md").write_text(index_of(STAGE / folder, title), encoding="utf-8")
    (STAGE / "site.css").write_text(CSS, encoding="utf-8")
    for name, text in generated().items():
        (STAGE / "reference").mkdir(exist_ok=True)
        (STAGE / "reference" / name).write_text(text, encoding="utf-8")
    for page in STAGE.rglob("*.md"):
        text = page.read_text("utf-8")
        page.write_text(relinked(text, page.relative_to(STAGE)), encoding="utf-8")
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))
    named = set(pages_of(config["nav"]))
    rest = sorted(p.name for p in STAGE.glob("*.md") if p.name not in named)
    if rest:
        config["nav"].append({"More": rest})
    return config


def pages_of(nav: Any) -> Iterator[str]:
    """Yield the files that ``nav`` names."""
    for entry in nav if isinstance(nav, list) else nav.values():
        if isinstance(entry, str):
            yield entry
        else:
            yield from pages_of(entry)


def relinked(text: str, page: Path) -> str:
    """Return ``text`` with its links as they are on the site; ``page`` is where it lies there."""
    up = "../" * (len(page.parts) - 1)
    here = page.as_posix()
    for name, target in ROOT_PAGES.items():
        text = re.sub(rf"\]\((\.\./)*{re.escape(name)}(#[^)]*)?\)", rf"]({up}{target}\2)", text)
    if here in ROOT_PAGES.values():
        text = text.replace("](docs/", "](").replace('src="docs/', 'src="')
    text = re.sub(r"\]\((\.\./)+(examples/[^)]*)\)", rf"]({up}\2)", text)
    text = re.sub(r"\]\((\.\./)*benchmarks/results/", rf"]({up}results/", text)
    text = re.sub(r"\]\(((?:\.\./)*)(methods|decisions)/\)", r"](\1\2/index.md)", text)
    return text.replace("](LICENSE)", f"]({up}LICENSE.txt)")


def index_of(folder: Path, title: str) -> str:
    """Return a page that lists the pages of ``folder`` with their first heading."""
    lines = [f"# {title}", ""]
    for page in sorted(folder.glob("*.md")):
        heading = page.read_text("utf-8").partition("\n")[0].lstrip("# ").strip()
        lines.append(f"- [{heading}]({page.name})")
    return "\n".join([*lines, ""])


def generated() -> dict[str, str]:
    """Return the pages that come out of the code, by name."""
    return {"commands.md": commands(), "recipes.md": recipes(), "api.md": api()}


def commands() -> str:
    """Return the page of all verbs and their flags."""
    import typer

    from gancompress.cli import app

    command: Any = typer.main.get_command(app)
    lines = [
        "# Commands and flags", "",
        "Written from the command line itself. For all of them: [Command line](../cli.md).",
        "",
    ]  # fmt: skip
    for name, verb in command.commands.items():
        if verb.hidden:
            continue
        lines += [
            f"## {name}",
            "",
            (verb.help or "").strip(),
            "",
            "| flag | meaning |",
            "| --- | --- |",
        ]
        for p in verb.params:
            if "--help" in p.opts:
                continue
            flag = ", ".join(p.opts) if p.opts[0].startswith("-") else str(p.metavar or p.name)
            metavar = f" {p.metavar}" if p.metavar and p.opts[0].startswith("-") else ""
            text = " ".join((getattr(p, "help", "") or "").split())
            lines.append(f"| `{_cell(flag + metavar)}` | {_cell(text)} |")
        lines.append("")
    return "\n".join(lines)


def recipes() -> str:
    """Return the page of all recipes, each as it is written."""
    from gancompress.recipes.load import load_recipe, recipe_names, recipe_text

    lines = [
        "# Recipes", "",
        "`gancompress show NAME` explains every field, `gancompress copy NAME mine.yaml` makes "
        "one of your own.", "",
    ]  # fmt: skip
    for name in recipe_names():
        recipe = load_recipe(name)
        lines += [f"## {name}", "", f"{recipe.summary[:1].upper()}{recipe.summary[1:]}.", ""]
        lines += [f"Source: {recipe.paper}.", ""] if recipe.paper else []
        lines += ["```yaml", recipe_text(name).rstrip(), "```", ""]
    return "\n".join(lines)


MORE = {
    "Callbacks": ("training.callbacks", ["Happening", "Place"]),
    "Errors": ("errors", [
        "GancompressError", "ConfigError", "GraphError", "DataError", "CheckpointError",
        "OutOfMemoryError", "StorageError", "DivergedError", "TargetError",
    ]),
}  # fmt: skip
"""What a program meets beside the public names: module and classes, by heading."""


def api() -> str:
    """Return the page of all public names."""
    import gancompress

    lines = ["# Python", "", "`import gancompress as gc`; every name is loaded on first use.", ""]
    for name in gancompress.__all__:
        home = gancompress._HOMES[name]
        at = getattr(gancompress, name).__module__  # where it is written, if it passes through
        lines += [f"## gc.{name}", "", f"::: {at or home}.{name}", ""]
    masked = "gancompress.wrapping.handle.Masked"
    lines += ["## What wrap returns", "", f"::: {masked}", ""]
    for title, (module, names) in MORE.items():
        lines += [f"## {title}", ""]
        lines += [line for name in names for line in (f"::: gancompress.{module}.{name}", "")]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def build(folder: Path) -> int:
    """Build the site into ``folder``; return mkdocs' exit code."""
    config = stage()
    config["docs_dir"] = str(STAGE)
    file = ROOT / "build" / "mkdocs.yml"
    config["plugins"][2]["mkdocstrings"]["handlers"]["python"]["paths"] = [str(ROOT)]
    file.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    shutil.copy(ROOT / ".ci" / SHIM.name, STAGE / SHIM.name)
    words = ["-m", "mkdocs", "build", "--strict", "--quiet", "-f", str(file), "-d", str(folder)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    code = subprocess.run([sys.executable, *words], cwd=ROOT, env=env, check=False).returncode
    for page in folder.rglob("*.html"):
        up = "../" * (len(page.relative_to(folder).parts) - 1)
        text = page.read_text("utf-8").replace(SHIM_ADDRESS, f"{up}{SHIM.name}")
        page.write_text(text, encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(build(Path(sys.argv[1] if len(sys.argv) > 1 else "build/site").absolute()))
