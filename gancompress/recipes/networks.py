"""Names of the networks that a training recipe may build; kept apart so that no torch is needed."""

from __future__ import annotations

from gancompress.errors import ConfigError, closest
from gancompress.recipes.schema import Recipe

NETWORKS = {
    "biggan-fashion32": "fashion32",
    "biggan-cifar": "cifar",
    "biggan-imagenet128": "imagenet128",
}
"""Recipe field ``network`` -> the constructor of ``BigGANConfig``."""

_PRESETS = "gancompress.models.presets:"

REFERENCES = {
    "cyclegan": (f"{_PRESETS}cyclegan_generator", f"{_PRESETS}cyclegan_discriminator"),
    "pix2pix": (f"{_PRESETS}pix2pix_generator", f"{_PRESETS}pix2pix_discriminator"),
    "resnet-edges32": (f"{_PRESETS}edges32_generator", f"{_PRESETS}edges32_discriminator"),
    "spade-coco": (f"{_PRESETS}spade_coco_generator", f"{_PRESETS}spade_coco_discriminator"),
    "spade-ade20k": (
        f"{_PRESETS}spade_ade20k_generator",
        f"{_PRESETS}spade_ade20k_discriminator",
    ),
    "spade-cityscapes": (
        f"{_PRESETS}spade_cityscapes_generator",
        f"{_PRESETS}spade_cityscapes_discriminator",
    ),
    "realesrgan-x4plus": (
        f"{_PRESETS}realesrgan_x4plus",
        f"{_PRESETS}realesrgan_discriminator",
    ),
    "realesrgan-x2plus": (
        f"{_PRESETS}realesrgan_x2plus",
        f"{_PRESETS}realesrgan_discriminator",
    ),
    "realesrgan-x4plus-anime": (
        f"{_PRESETS}realesrgan_x4plus_anime",
        f"{_PRESETS}realesrgan_discriminator",
    ),
    "realesr-animevideov3": (
        f"{_PRESETS}realesr_animevideov3",
        f"{_PRESETS}realesrgan_discriminator",
    ),
    "realesr-general-x4v3": (
        f"{_PRESETS}realesr_general_x4v3",
        f"{_PRESETS}realesrgan_discriminator",
    ),
    "hifigan-v1": (
        f"{_PRESETS}hifigan_v1_generator",
        f"{_PRESETS}hifigan_period_discriminator",
        f"{_PRESETS}hifigan_scale_discriminator",
    ),
    "hifigan-v2": (
        f"{_PRESETS}hifigan_v2_generator",
        f"{_PRESETS}hifigan_period_discriminator",
        f"{_PRESETS}hifigan_scale_discriminator",
    ),
    "hifigan-v3": (
        f"{_PRESETS}hifigan_v3_generator",
        f"{_PRESETS}hifigan_period_discriminator",
        f"{_PRESETS}hifigan_scale_discriminator",
    ),
}
"""Recipe field ``network`` -> builder of the generator, then of its discriminators."""


def discriminators_of(generator: str) -> tuple[str, ...]:
    """Return the builders of the discriminators that belong to a reference network's builder.

    Empty for any other text: what this names is ours, so that a file may name it.
    """
    known = {builders[0]: builders[1:] for builders in REFERENCES.values()}
    return known.get(generator, ())


def check_network(recipe: Recipe) -> None:
    """Refuse a network that does not ship.

    Raises:
        ConfigError: the nearest name is in the message.
    """
    if recipe.network is not None and recipe.network not in {**NETWORKS, **REFERENCES}:
        raise ConfigError(
            f"recipe {recipe.name}: no network {recipe.network!r}."
            f"{closest(recipe.network, (*NETWORKS, *REFERENCES))}"
        )
