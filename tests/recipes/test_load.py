from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gancompress.errors import ConfigError
from gancompress.recipes import load as module
from gancompress.recipes.load import dump_recipe, load_recipe
from gancompress.recipes.schema import Recipe

SHIPPED = sorted(p.stem for p in Path(module.__file__).parent.rglob("*.yaml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_recipe_is_valid_named_after_its_file_and_round_trips(
    name: str, tmp_path: Path
) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    file = tmp_path / "x.yaml"
    file.write_text(dump_recipe(recipe))
    assert load_recipe(file) == recipe


def test_the_reference_recipe() -> None:
    recipe = load_recipe("ppcd")
    assert recipe.kind == "prune"
    assert recipe.target == "params=5.2x"
    assert recipe.site == "reader"
    assert recipe.shrink.events
    assert any(entry.name == "class_aware" for entry in recipe.distill)


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("generator_optim.lr=1e-4", ("generator_optim", "lr"), 1e-4),
        ("target=macs=0.2", ("target",), "macs=0.2"),
        ("shrink.events=[0.1, 0.5]", ("shrink", "events"), (0.1, 0.5)),
        ("shrink.events=[]", ("shrink", "events"), ()),
        ("lr_decay=null", ("lr_decay",), None),
        ("channels_last=false", ("channels_last",), False),
        ("generator_optim.betas.1=0.5", ("generator_optim", "betas"), None),
        ("augment=[color]", ("augment",), ("color",)),
    ],
)
def test_overrides(override: str, path: tuple[str, ...], value: object) -> None:
    found: object = load_recipe("ppcd", [override])
    for part in path:
        found = getattr(found, part)
    assert found == (value if override != "generator_optim.betas.1=0.5" else (0.0, 0.5))


def test_plug_ins_by_bare_name_and_options_beside_them() -> None:
    recipe = load_recipe(
        "ppcd",
        ["relaxation=scurve", "penalty.weight=3", "distill.0.weight=2", "distill.0.variant=cam"],
    )
    assert recipe.relaxation.name == "scurve"
    assert recipe.relaxation.options == {}
    assert (recipe.penalty.name, recipe.penalty.weight) == ("cost", 3.0)
    assert recipe.distill[0].weight == 2.0
    assert recipe.distill[0].options["variant"] == "cam"
    assert load_recipe("fashion-teacher", ["penalty.weight=3"]).penalty.name == "cost"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["batchh=3"], ["unknown key 'batchh'", "'batch'"]),
        (["ema.decya=3"], ["unknown key 'ema.decya'", "'decay'"]),
        (["distill.0.weight=-1"], ["distill.0.weight", "-1"]),
        (["distill.9.weight=1"], ["nothing at '9'"]),
        (["seed.x=1"], ["seed", "integer"]),
        (["batch.x=1"], ["nothing at 'x'"]),
        (["+new=1"], ["no key can be added"]),
        (["~seed"], ["no key can be added"]),
        (["seed"], ["not key=value"]),
        (["seed=[1"], ["override seed"]),
        (["generator_optim.lr=.nan"], ["generator_optim.lr", "finite"]),
        (["relaxation=stee"], ["no relaxation named 'stee'", "'ste'"]),
        (["distill.0.name=classaware"], ["no distiller named", "'class_aware'"]),
        (["augment=[colour]"], ["no augmentation named", "'color'"]),
        (["adversarial.loss=hing"], ["no adversarial loss named", "'hinge'"]),
        (["relaxation=os.system"], ["relaxation.name"]),
        (["target=5x"], ["params=5.2x"]),
        (["target=params=0.5x"], ["at least 1x"]),
        (["target=macs=1.5"], ["at most 1"]),
        (["target=null"], ["needs a target"]),
        (["shrink.events=[0.5, 0.2]"], ["must rise"]),
        (["schedule.end=0"], ["must come after"]),
        (["site=middle"], ["'reader' or 'output'"]),
        (["adversarial.weight=0", "distill=[]"], ["nothing to learn from"]),
    ],
)  # fmt: skip
def test_every_fault_is_named(overrides: list[str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe("ppcd", overrides)
    for word in words:
        assert word in str(caught.value)
    assert "\n\n" not in str(caught.value)


def test_all_faults_at_once_with_their_lines(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(
        "name: bad\nkind: prune\nsummary: x\nsteps: ten\nbatchh: 3\nround_to: 0\n"
        "ema: {decay: 2.0, stat: 1}\nsite: middle\npenalty: {name: nothing_known}\n"
        "distill:\n- {name: pixel, weight: -1}\n- {weight: 1}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_recipe(file, ["seed=-1"])
    message = str(caught.value)
    for line, word in [
        (4, "steps"), (5, "batchh"), (6, "round_to"), (7, "ema.decay"), (7, "ema.stat"),
        (8, "site"), (9, "no penalty named 'nothing_known'"), (11, "distill.0.weight"),
        (12, "distill.1.name is missing"),
    ]:  # fmt: skip
        assert any(f"line {line}: " in row and word in row for row in message.splitlines()), word
    assert "seed" in message


@pytest.mark.parametrize(
    "name",
    ["ppcdd", "", "../ppcd", "/etc/passwd", "a\x00.yaml", "absent.yaml", ".", "~/x.yaml", "a/../b"],
)
def test_no_such_recipe(name: str) -> None:
    with pytest.raises(ConfigError):
        load_recipe(name)


def test_the_nearest_recipe_is_named() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'ppcd'"):
        load_recipe("ppdc")


def test_a_key_of_a_part_is_told_with_the_part() -> None:
    with pytest.raises(ConfigError, match=r"Did you mean .*'generator_optim\.lr'.*\?"):
        load_recipe("ppcd", ["lr=1e-4"])
    with pytest.raises(ConfigError, match=r"penalty\.lr: no option 'lr'\.(?!.*optim)"):
        load_recipe("ppcd", ["penalty.lr=1e-4"])


def test_one_letter_typos_are_understood() -> None:
    understood = asked = 0
    for key in Recipe.model_fields:
        for at in range(len(key)):
            typo = key[:at] + key[at + 1 :]
            if typo in Recipe.model_fields or len(typo) < 3:
                continue
            asked += 1
            with pytest.raises(ConfigError) as caught:
                load_recipe("ppcd", [f"{typo}=1"])
            understood += f"Did you mean {key!r}" in str(caught.value)
    assert asked > 200
    assert understood >= 0.95 * asked


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from([*Recipe.model_fields, "x"]), st.text(max_size=12)))
def test_any_override_is_taken_or_a_config_error(values: dict[str, str]) -> None:
    try:
        recipe = load_recipe("ppcd", [f"{k}={v}" for k, v in values.items()])
    except ConfigError:
        return
    assert isinstance(recipe, Recipe)


def test_checking_a_recipe_never_imports_torch() -> None:
    code = (
        "import sys; from gancompress.recipes.load import load_recipe\n"
        "load_recipe('ppcd', ['seed=1']); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("key", ["a[b", "x(y)", "[]", "steps[0]", "\x1b]0;x"])
def test_a_key_with_brackets_is_named(tmp_path: Path, key: str) -> None:
    text = f"name: a\nkind: train\nsummary: s\nsteps: 1\n{json.dumps(key)}: 1\n"
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(ConfigError, match="unknown key") as caught:
        load_recipe(tmp_path / "r.yaml")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("index", ["9" * 5000, "\u0663", "-1"])
def test_an_index_that_no_list_has(index: str) -> None:
    with pytest.raises(ConfigError, match="nothing at|not key=value"):
        load_recipe("ppcd", [f"distill.{index}.weight=1"])
    with pytest.raises(ConfigError, match="deeper than"):
        load_recipe("ppcd", [".".join("a" * 9000) + "=1"])
