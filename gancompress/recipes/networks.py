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


def check_network(recipe: Recipe) -> None:
    """Refuse a network that does not ship.

    Raises:
        ConfigError: the nearest name is in the message.
    """
    if recipe.network is not None and recipe.network not in NETWORKS:
        raise ConfigError(
            f"recipe {recipe.name}: no network {recipe.network!r}."
            f"{closest(recipe.network, NETWORKS)}"
        )
