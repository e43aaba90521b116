"""A configuration says what is wrong with it, and survives JSON."""

from __future__ import annotations

import dataclasses
import json

import pytest

from gancompress.errors import ConfigError
from gancompress.models import BigGANConfig

PRESETS = [BigGANConfig.imagenet128(), BigGANConfig.cifar(), BigGANConfig.fashion32()]


@pytest.mark.parametrize("config", PRESETS, ids=["imagenet128", "cifar", "fashion32"])
def test_json_round_trip(config) -> None:
    assert BigGANConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resolution": 96}, r"resolution 96 is not one of \[32, 64, 128, 256\]"),
        ({"n_classes": 0}, "n_classes is 0"),
        ({"ch": -1}, "ch is -1"),
        ({"dim_z": 128}, "128 does not split into 6 equal slots at 128 px: use 126 or 132"),
        ({"dim_z": 4}, "use 6 or 6|use 6 or 12"),
        ({"shared_dim": 0}, "needs shared_dim >= 1"),
        ({"shared": False}, "shared=False with shared_dim=128"),
        ({"shared": False, "shared_dim": 0}, "hier=True needs shared=True"),
        ({"g_attn": (48,)}, r"g_attn 48 is no stage's resolution.*\[8, 16, 32, 64, 128\]"),
        ({"d_attn": (128,)}, "d_attn 128"),
        ({"ch": 2}, "g_attn 64 needs at least 8 channels there, has 4"),
        ({"init": "xavier"}, "init 'xavier'"),
    ],
)
def test_wrong_values_are_named(change, message) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(BigGANConfig.imagenet128(), **change)


def test_unknown_and_missing_options_are_named() -> None:
    values = BigGANConfig.cifar().to_dict()
    with pytest.raises(ConfigError, match="unknown BigGAN option 'dimz'. Did you mean 'dim_z'"):
        BigGANConfig.from_dict({**values, "dimz": 3})
    del values["ch"]
    with pytest.raises(ConfigError, match="'ch' is missing"):
        BigGANConfig.from_dict(values)


def test_stage_tables() -> None:
    config = BigGANConfig.imagenet128()
    sizes = [size for _, _, size in config.generator_stages()]
    assert sizes == [8, 16, 32, 64, 128]
    assert config.generator_stages()[3] == (384, 192, 64)
    assert config.discriminator_stages()[0] == (3, 96, 64)
    assert config.discriminator_stages()[-1] == (1536, 1536, 4)
    assert [s for _, _, s in BigGANConfig.cifar().discriminator_stages()] == [16, 8, 8, 8]
    assert config.condition_dim == 148
