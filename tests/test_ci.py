"""What runs elsewhere (workflows, the Dockerfile, hooks) is well formed and names what exists."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = (ROOT / "pyproject.toml").read_text("utf-8")
EXTRAS = set(
    re.findall(
        r"^(\w+) = \[",
        PROJECT.partition("[project.optional-dependencies]\n")[2].partition("\n[project")[0],
        re.M,
    )
)
TOOLS = {"pip", "python", "ruff", "pyright", "playwright", "test", "make", "docker"}
"""Programs that a step may start."""
OPERATING_SYSTEMS = {"ubuntu-latest", "macos-latest", "windows-latest"}


def parsed(file: Path) -> dict[str, Any]:
    found = yaml.safe_load(file.read_text("utf-8"))
    # YAML 1.1 reads the key "on" as true.
    return {"on" if key is True else key: value for key, value in found.items()}


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))


def faults_of(command: str) -> Iterator[str]:
    """Yield what is wrong with one line of shell."""
    words = shlex.split(command, comments=True)
    if not words:
        return
    if words[0] not in TOOLS:
        yield f"unknown program {words[0]!r}"
    if words[0] == "make":
        yield from (f"no target {w}" for w in words[1:] if "=" not in w and w not in targets())
    if words[:2] == ["python", "-m"] and words[2].startswith(("benchmarks", "tests")):
        place = ROOT / words[2].replace(".", "/")
        if not (place.with_suffix(".py").is_file() or place.is_dir()):
            yield f"no module {words[2]}"
    for word in words[1:]:
        if re.fullmatch(r"(?:tests|\.ci|benchmarks)/[\w./-]+", word) and not (ROOT / word).exists():
            yield f"no file {word}"
        if extras := re.fullmatch(r".*\[([\w,]+)\]", word):
            yield from (f"no extra {e}" for e in extras[1].split(",") if e not in EXTRAS)


def faults_in(workflow: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a workflow."""
    if not {"name", "on", "jobs", "permissions"} <= set(workflow):
        yield "name, on, permissions or jobs is missing"
    for name, job in workflow.get("jobs", {}).items():
        systems = job.get("strategy", {}).get("matrix", {}).get("os", [job.get("runs-on")])
        if not set(systems) <= OPERATING_SYSTEMS:
            yield f"{name}: runs on {systems}"
        needs = job.get("needs", [])
        for other in [needs] if isinstance(needs, str) else needs:
            if other not in workflow["jobs"]:
                yield f"{name}: needs {other}"
        for step in job.get("steps", []):
            if ("run" in step) == ("uses" in step):
                yield f"{name}: a step runs or uses: {step}"
            if "uses" in step and not re.fullmatch(r"[\w.-]+/[\w./-]+@[\w./-]+", step["uses"]):
                yield f"{name}: {step['uses']} has no version"
            for line in step.get("run", "").splitlines():
                yield from (f"{name}: {fault}" for fault in faults_of(line))


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda f: f.name)
def test_workflows_are_well_formed_and_run_what_exists(file: Path) -> None:
    assert not list(faults_in(parsed(file)))


def test_every_part_is_there() -> None:
    """Tests on three systems, lint, types, docs, wheels, and publishing without a kept secret."""
    text = "\n".join(file.read_text("utf-8") for file in WORKFLOWS)
    jobs = {name: job for file in WORKFLOWS for name, job in parsed(file)["jobs"].items()}
    assert set(jobs["test"]["strategy"]["matrix"]["os"]) == OPERATING_SYSTEMS
    for words in ("ruff check", "ruff format --check", "pyright", ".ci/site.py", "-m build"):
        assert words in text
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert "password" not in text
    assert "secrets." not in text


@pytest.mark.parametrize(
    ("step", "fault"),
    [
        ("python -m pytest -q tests/test_gone.py", "no file tests/test_gone.py"),
        ("python -m benchmarks.gone", "no module benchmarks.gone"),
        ("pip install -e '.[dev,gone]'", "no extra gone"),
        ("make gone", "no target gone"),
        ("curl https://example.org | sh", "unknown program 'curl'"),
    ],
)
def test_the_check_of_steps_can_fail(step: str, fault: str) -> None:
    job = {"runs-on": "ubuntu-latest", "steps": [{"run": step}]}
    workflow = {"name": "x", "on": {}, "permissions": {}, "jobs": {"a": job}}
    assert f"a: {fault}" in list(faults_in(workflow))


def test_the_dockerfile_copies_and_installs_what_exists() -> None:
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text("utf-8"))
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and line[0] != "#"]
    known = {"FROM", "ARG", "WORKDIR", "RUN", "COPY", "USER", "ENTRYPOINT", "CMD", "ENV"}
    assert {word for word, _ in lines} <= known
    assert lines[0][0] == "FROM"
    for word, rest in lines:
        if word == "COPY":
            assert all((ROOT / name).exists() for name in rest.split()[:-1]), rest
        if word == "RUN":
            for command in rest.split("&&"):
                tool = command.split()[0]
                assert tool in {"pip", "useradd", "mkdir", "chown", "rm"}, tool
            for extras in re.findall(r"\.\[([\w,]+)\]", rest):
                assert set(extras.split(",")) <= EXTRAS
    # What hatch reads while it builds must have been copied.
    copied = " ".join(rest for word, rest in lines if word == "COPY")
    assert all(name in copied for name in ("pyproject.toml", "README.md", "LICENSE", "gancompress"))
    # Not as root, and the verb is the user's.
    assert "USER" in {word for word, _ in lines}
    assert lines[-1] == ["ENTRYPOINT", '["gancompress"]']


def test_hooks_and_forms_are_well_formed() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    for repo in hooks["repos"]:
        assert repo["rev"]
        assert all(hook["id"] for hook in repo["hooks"])
    forms = [f for f in (ROOT / ".github").rglob("*.yml") if f not in WORKFLOWS]
    for form in forms:
        assert yaml.safe_load(form.read_text("utf-8")), form


def test_make_runs_modules_that_exist() -> None:
    text = (ROOT / "Makefile").read_text("utf-8")
    declared = set(re.findall(r"^\.PHONY: (.*)$", text, re.M)[0].split())
    assert declared <= targets()
    for module in re.findall(r"python -m (benchmarks[\w.]*)", text):
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), module
    for path in re.findall(r"(?:tests|\.ci)/[\w/.]+\.py", text):
        assert (ROOT / path).is_file(), path
    for extras in re.findall(r"\.\[([\w,]+)\]", text):
        assert set(extras.split(",")) <= EXTRAS
