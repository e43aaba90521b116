"""A plug-in is one file: one of each kind, added from a folder outside of the package."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import gancompress as gc
from gancompress.cli import main
from gancompress.errors import ConfigError
from gancompress.graph.rules.base import RULES
from gancompress.plugins import loading
from gancompress.plugins.kinds import KINDS
from gancompress.recipes.parts import Weighted
from gancompress.training.distillation import Distillation

from .foreign import FILES, NETS, RECIPE

MODULES = {kind: f"stranger_{kind.replace(' ', '_')}" for kind in FILES}


def write(room: Path) -> list[str]:
    """Write all plug-ins, a recipe of them and networks; return the flags that load them."""
    for kind, text in FILES.items():
        (room / f"{MODULES[kind]}.py").write_text(text)
    (room / "all_mine.yaml").write_text(RECIPE)
    (room / "stranger_nets.py").write_text(NETS)
    (room / "seen.txt").write_text("0.5")
    return [word for module in MODULES.values() for word in ("--plugin", module)]


def test_one_of_each_kind_from_a_folder_of_ones_own(
    room: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gc.trace(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), torch.randn(2, 4))
    flags = write(room)
    assert main(["validate", "all-mine", *flags]) == 0
    capsys.readouterr()
    assert main(["recipes", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["recipes"]
    assert "all-mine" in {row["name"] for row in rows}
    words = [
        "prune", "stranger_nets:net", "--recipe", "all-mine", "--input", "z=normal(8)",
        "--discriminator", "stranger_nets:critic", "precision=float32", *flags,
    ]  # fmt: skip
    assert main([*words, "--dry-run"]) == 0
    assert main([*words, "--out", "run"]) == 0
    given = {
        "relaxation": 2.0, "penalty": 0.5, "importance": True, "schedule": 2, "distiller": 1,
        "adversarial loss": 0.25, "augmentation": 0.75, "search score": 0.5,
    }  # fmt: skip
    for kind, option in given.items():
        calls = sys.modules[MODULES[kind]].CALLS
        assert option in calls, f"the {kind} was not called with its option: {set(calls)}"
    assert "an_operator_of_a_stranger" in RULES
    assert KINDS["task"].bind({"name": "sort", "keys": 5})(None) == ("sort", 5)


WRONG = {
    "relaxation.slope=60": "relaxation.slope: option 'slope': input should be less than or equal",
    "relaxation.slop=3": "no option 'slop'. Did you mean 'slope'?",
    "penalty.centre=left": "option 'centre': input should be a valid number",
    "importance={name: backwards}": "option 'last' (bool) is missing",
    "schedule.steps=1.5": "option 'steps': input should be a valid integer",
    "distill=[{name: own_eyes, weight: 1, weight_: 2}]": "no option 'weight_'. Did you mean 'wei",
    "adversarial.margn=1": "no option 'margn'. Did you mean 'margin'?",
    "augment=[{name: dim, factor: much}]": "augment.0.factor: option 'factor'",
}


def test_all_wrong_options_are_told_at_once_by_validate_dry_run_and_run(
    room: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = write(room)
    overrides = list(WRONG)
    overrides.remove("relaxation.slop=3")
    for verb in (["validate", "all-mine"], ["prune", "stranger_nets:net", "--recipe", "all-mine"]):
        for more in ([], ["--dry-run"]) if verb[0] == "prune" else ([],):
            assert main([*verb, *overrides, *flags, *more]) == 2
            said = " ".join(capsys.readouterr().err.split())
            for override in overrides:
                assert WRONG[override] in said
    assert main(["validate", "all-mine", "relaxation.slop=3", *flags]) == 2
    assert WRONG["relaxation.slop=3"] in capsys.readouterr().err
    recipe = gc.load_recipe("all-mine")
    bad = recipe.model_copy(update={"augment": (Weighted.model_validate({"name": "dim", "f": 1}),)})
    with pytest.raises(ConfigError, match="no option 'f'"):
        gc.train(bad, generator=nn.Linear(2, 2))


def test_a_text_is_the_same_number_in_a_recipe_in_python_and_in_an_option(room: Path) -> None:
    write(room)
    gc.load_plugin(MODULES["relaxation"])
    recipe = gc.load_recipe("ppcd", ["relaxation={name: steep, slope: '2'}", "batch='8'"])
    assert recipe.batch == 8
    scores = torch.tensor([0.3])
    for spec in (recipe.relaxation, {"name": "steep", "slope": "2"}, {"name": "steep", "slope": 2}):
        assert torch.equal(KINDS["relaxation"].bind(spec)(scores, 0.0), torch.sigmoid(2 * scores))
    assert KINDS["relaxation"].fact("steep", "hard_from") == 0.4


def test_a_network_that_a_distiller_brings_is_saved_and_learns_as_it_declares(room: Path) -> None:
    write(room)
    gc.load_plugin(MODULES["distiller"])
    net = nn.Sequential(nn.Conv2d(3, 3, 1))
    x = torch.randn(4, 3, 2, 2)

    def made(**options: object) -> Distillation:
        entry = Weighted.model_validate({"name": "own_eyes", "weights": "seen.txt", **options})
        return Distillation([entry], teacher=net, student=net, discriminator=None, example=(x,))

    both, frozen = made(), made(learn=False)
    assert [p.shape for _, p in both.parameters()] == [(2, 4, 1, 1), (2,)]
    assert list(frozen.parameters()) == []
    saved = {name: t.clone() for name, t in both.state_dict().items()}
    assert set(saved) == {
        "0.eyes.weight", "0.eyes.bias", "0.head.weight", "0.head.bias",
    }  # fmt: skip
    assert (saved["0.eyes.weight"] == 0.5).all()
    other = made()
    other.load_state_dict(saved)
    assert all(torch.equal(t, saved[n]) for n, t in other.state_dict().items())


def announce(site: Path, name: str, text: str) -> None:
    """Lay an installed package in ``site`` whose entry point is the module ``name``."""
    (site / f"{name}.py").write_text(text)
    info = site / f"{name}_package-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[gancompress.plugins]\nmine = {name}\n")


def test_an_installed_package_announces_its_plug_ins(
    room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = room / "site"
    site.mkdir()
    announce(site, "announced_penalty", FILES["penalty"].replace('"square"', '"announced"'))
    monkeypatch.syspath_prepend(site)
    monkeypatch.setattr(loading, "_installed_done", False)
    recipe = gc.load_recipe("ppcd", ["penalty={name: announced, centre: 2}"])
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    masked = gc.wrap(net, torch.randn(2, 4), penalty=recipe.penalty)
    assert masked.penalty().item() > 0
    assert sys.modules["announced_penalty"].CALLS == [2.0]
    assert "announced" in KINDS["penalty"].names()


def test_a_broken_installed_plug_in_is_told_with_its_package(
    room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = room / "site"
    site.mkdir()
    announce(site, "broken_penalty", "import nothing_of_that_name\n")
    monkeypatch.syspath_prepend(site)
    monkeypatch.setattr(loading, "_installed_done", False)
    assert KINDS["penalty"].get("cost") is not None, "what ships needs no installed plug-in"
    with pytest.raises(ConfigError, match="broken_penalty-package.*nothing_of_that_name"):
        KINDS["penalty"].get("announced")


@pytest.mark.parametrize(
    ("word", "text", "message"),
    [
        ("no_such_plugin_here", None, "no module for plug-in"),
        ("stranger_penalti", None, "Did you mean 'stranger_penalty'"),
        ("stranger_broken", "1 / 0", "ZeroDivisionError"),
        ("stranger_broken", "import torch.no_such_part", "no_such_part"),
        ("stranger.py", None, "my_plugin for my_plugin.py"),
        ("../evil", None, "not the name of a module"),
    ],
)
def test_a_plug_in_that_cannot_be_loaded_is_a_clear_error(
    room: Path, word: str, text: str | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(room)
    if text is not None:
        (room / f"{word}.py").write_text(text)
    assert main(["validate", "ppcd", "--plugin", word]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert main(["validate", "ppcd", "--plugin"]) == 2


def test_a_name_that_ships_cannot_be_taken(room: Path) -> None:
    (room / "stranger_l1.py").write_text(FILES["penalty"].replace('"square"', '"l1"'))
    with pytest.raises(ConfigError, match="'l1' is registered twice.*choose another"):
        gc.load_plugin("stranger_l1")
    assert KINDS["penalty"].get("l1").__module__ == "gancompress.masks.penalties.l1"


FOLDERS = {
    "relaxation": "masks/relaxations",
    "penalty": "masks/penalties",
    "importance": "masks/importances",
    "schedule": "masks/schedules",
    "distiller": "distill/strategies",
    "adversarial loss": "training/adversarial",
    "augmentation": "training/augmentations",
    "search score": "training/search_scores",
}
NEW = {
    "relaxation": "steep", "penalty": "square", "importance": "backwards", "schedule": "stairs",
    "distiller": "own_eyes", "adversarial loss": "linear", "augmentation": "dim",
    "search score": "flat",
}  # fmt: skip


def test_a_file_dropped_into_the_folder_of_its_kind_is_found(tmp_path: Path) -> None:
    package = tmp_path / "gancompress"
    source = Path(gc.__file__).parent
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
    for kind, folder in FOLDERS.items():
        assert (package / folder / "__init__.py").read_text().startswith('"""')
        (package / folder / "dropped.py").write_text(FILES[kind])
    (package / "recipes" / "all-mine.yaml").write_text(RECIPE)
    (tmp_path / "seen.txt").write_text("1")
    code = f"""
import sys
from gancompress.cli import main
from gancompress.plugins.kinds import KINDS
for kind, name in {NEW!r}.items():
    assert name in KINDS[kind].known(), kind
assert 'torch' not in sys.modules
assert main(['show', 'all-mine']) == 0
assert 'torch' not in sys.modules
assert main(['validate', 'all-mine']) == 0
for kind, name in {NEW!r}.items():
    assert KINDS[kind].get(name).__module__.startswith('gancompress.'), kind
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
