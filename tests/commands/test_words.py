from __future__ import annotations

import pytest

from gancompress.commands.words import split_words
from gancompress.errors import ConfigError

FLAGS = ["--device", "--seed", "--recipe"]


def test_model_and_overrides_in_any_order() -> None:
    assert split_words(["steps=5", "nets:build", "ema.decay=0.9"], FLAGS) == (
        "nets:build",
        ["steps=5", "ema.decay=0.9"],
    )


def test_three_spellings_of_one_override() -> None:
    for words in (["round_to=8"], ["--round-to", "8"], ["--round_to=8"]):
        assert split_words(words, FLAGS) == (None, ["round_to=8"])


def test_dotted_option() -> None:
    assert split_words(["--generator-optim.lr", "1e-4"], FLAGS)[1] == ["generator_optim.lr=1e-4"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--devce", "cpu"], "Did you mean '--device'"),
        (["--stepps", "5"], "Did you mean '--steps'"),
        (["--steps"], "needs a value"),
        (["--gpus", "8"], "torchrun --nproc-per-node N"),
        (["--num-gpus=8"], "--device cuda; several: torchrun"),
        (["--batch-size", "8"], "batch=N"),
        (["--epochs=3"], "--max-steps"),
        (["--xyzzy", "1"], "no option '--xyzzy'. All of them: --help"),
        (["--inptu", "z"], "All of them: --help"),
        (["-x"], "no option '-x'"),
        (["+steps=5"], "Write 'steps=5'"),
        (["~steps"], "Write 'steps'"),
        (["a:b", "c:d"], "one model at a time"),
    ],
)
def test_refusals_name_the_way_out(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match="(?s).*") as caught:
        split_words(words, FLAGS)
    assert message in str(caught.value)
