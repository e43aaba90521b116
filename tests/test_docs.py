"""What the pages show can be typed: commands parse, blocks run, links lead somewhere."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from gancompress.cli import app, main
from gancompress.commands.words import root_flags_first, split_words
from gancompress.recipes.load import load_recipe, recipe_names

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "Dockerfile"])
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
FENCE = re.compile(
    r"(?:<!-- not run: (?P<why>[^\n]+?) -->\n)?"
    r"^```(?P<lang>\w*)(?P<info>[^\n]*)\n(?P<text>.*?)^```$",
    re.M | re.S,
)


@dataclass(frozen=True)
class Block:
    page: Path
    lang: str
    info: str
    text: str
    why: str | None  # it is not run


def blocks(page: Path) -> list[Block]:
    return [
        Block(page, m["lang"], m["info"].strip(), m["text"], m["why"])
        for m in FENCE.finditer(page.read_text("utf-8"))
    ]


def commands(page: Path) -> Iterator[str]:
    """Yield the command lines of ``page``: in shell fences, indented, continued ones in one."""
    text = re.sub(r"\\\n *", "", page.read_text("utf-8"))
    inside = False
    for line in text.splitlines():
        if line.startswith("```"):
            inside = not inside and line[3:5] in ("sh", "ba")
        shown = line.strip()
        if (inside or line.startswith("    ")) and shown.startswith("gancompress "):
            yield re.split(r" {3,}", shown)[0]  # a column of explanations beside it


ALL_COMMANDS = [(p, c) for p in PAGES for c in commands(p) if "VERB" not in c]


@pytest.mark.parametrize(
    ("page", "line"), ALL_COMMANDS, ids=[f"{p.name}-{i}" for i, (p, _) in enumerate(ALL_COMMANDS)]
)
def test_a_command_that_a_page_shows_parses(page: Path, line: str) -> None:
    """Verbs, flags, recipe names and overrides are those that there are."""
    words = shlex.split(line.partition("  #")[0].replace("...", "").replace("|", " "))[1:]
    words = [w for w in root_flags_first(words) if w not in ("--quiet", "-q", "--debug")]
    group: Any = typer.main.get_command(app)
    assert words[0] in group.commands, line
    verb = group.commands[words[0]]
    with verb.make_context(words[0], words[1:]) as context:
        given = context.params
    if words[0] in ("prune", "distill", "train"):
        flags = [o for p in verb.params for o in p.opts if o.startswith("-")]
        _, overrides = split_words(given["words"] or [], flags)
        overrides = [f"task={given['task']}"] * (given["task"] is not None) + overrides
        if given["recipe"] in recipe_names():
            load_recipe(given["recipe"], overrides)


def test_blocks_are_run_or_say_why_not() -> None:
    """Python runs in the tutorials and in `PRELUDE`'s pages; anything else gives its reason."""
    silent = []
    for page in PAGES:
        ran = page in TUTORIALS or page.name in PRELUDE
        for block in blocks(page):
            if block.lang == "python" and not ran and not block.why:
                silent.append(f"{page.relative_to(ROOT)}: {block.text[:60]!r}")
    assert not silent, "\n".join(silent)


PRELUDE = {
    "README.md": """
import torch
from torch import nn
torch.manual_seed(0)
generator = nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 48), nn.Linear(48, 12))
steps = 4
adversarial_loss = lambda fake: fake.mean()
""",
    "from-torch-pruning.md": "",
}
"""What a reader has before the first block of a page, by name of the page."""


@pytest.mark.parametrize("name", sorted(PRELUDE))
def test_python_of_a_page_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (page,) = (p for p in PAGES if p.name == name)
    names: dict[str, Any] = {"__name__": "page"}
    exec(PRELUDE[name], names)
    ran = 0
    for block in blocks(page):
        if block.lang == "python" and not block.why:
            exec(compile(block.text, f"{name} (block)", "exec"), names)
            ran += 1
    assert ran


def launch(words: list[str], folder: Path) -> None:
    """Run what a page gives to torchrun, in ``folder``, with this gancompress."""
    if not importlib.import_module("torch.distributed").is_available():
        pytest.skip("torch without distributed")
    env = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", *words]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda p: p.stem)
def test_a_tutorial_does_what_it_says(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All blocks in their order, in one folder; ``file=NAME`` is written, not run."""
    pytest.importorskip("jinja2")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    before = set(sys.modules)
    names: dict[str, Any] = {"__name__": "page"}
    try:
        for block in blocks(page):
            if block.info.startswith("file="):
                (tmp_path / block.info.removeprefix("file=")).write_text(block.text)
            elif block.lang == "python":
                exec(compile(block.text, f"{page.name} (block)", "exec"), names)
            elif block.lang == "sh":
                for line in block.text.replace("\\\n", " ").splitlines():
                    words = shlex.split(line)
                    if words[0] == "torchrun":
                        launch(words[1:], tmp_path)
                        continue
                    assert words[0] == "gancompress"
                    code = main(words[1:])
                    assert code == 0, f"{line}\n{capsys.readouterr().err}"
    finally:
        for name in set(sys.modules) - before:
            if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(
                sys.modules[name].__file__
            ):
                del sys.modules[name]


SITE = runpy.run_path(str(ROOT / ".ci" / "site.py"))


def test_pages_out_of_the_code_name_everything() -> None:
    text = SITE["commands"]()
    for name, verb in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        if not verb.hidden:
            assert f"\n## {name}\n" in text
    assert "`--target params=5.2x\\|macs=0.2\\|latency=2x`" in text
    listed = SITE["recipes"]()
    assert all(f"\n## {name}\n" in listed for name in recipe_names())


def test_links_of_pages_lead_to_files() -> None:
    wrong = []
    for page in PAGES:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
            path = link.partition("#")[0]
            inside = path and not path.startswith(("http", "mailto:"))
            if inside and not (page.parent / path).exists():
                wrong.append(f"{page.relative_to(ROOT)}: {link}")
    assert not wrong, "\n".join(wrong)


def test_links_are_moved_to_where_pages_are_on_the_site() -> None:
    relinked = SITE["relinked"]
    assert relinked("[a](docs/cli.md#x) [b](LICENSE)", Path("index.md")) == (
        "[a](cli.md#x) [b](LICENSE.txt)"
    )
    assert relinked("[a](../CONTRIBUTING.md)", Path("cli.md")) == "[a](contributing.md)"
    assert relinked("[a](../../CONTRIBUTING.md#y)", Path("methods/a.md")) == (
        "[a](../contributing.md#y)"
    )
    assert relinked("[a](../examples/faces.py)", Path("cli.md")) == "[a](examples/faces.py)"


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_loads_nothing(tmp_path: Path) -> None:
    for package in ("mkdocs", "material", "mkdocstrings"):
        if importlib.util.find_spec(package) is None:
            pytest.skip("needs the extra docs")
    assert SITE["build"](tmp_path / "site") == 0
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        text = page.read_text("utf-8")
        loads = re.findall(
            r"<(?:script|img|link|iframe)[^>]*(?:src|href)=\"?(https?://[^\s\">]+)", text
        )
        outside = [link for link in loads if "canonical" not in link]
        assert not outside, f"{page.name}: {outside[:3]}"
