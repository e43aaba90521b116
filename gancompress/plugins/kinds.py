"""Every kind of plug-in with the folder that it lives in; one line a kind, none a plug-in.

The folder's own docstring says what the room is for. Registries are made here, below the packages
that fill them, so that a recipe is checked without importing torch.
"""

from __future__ import annotations

from gancompress.registry import Registry

RELAXATIONS = Registry(
    "relaxation", "gancompress.masks.relaxations", around="gancompress.masks",
    symbol="RELAXATIONS", given=("scores", "progress"), facts={"hard_from": 1.0},
)  # fmt: skip
PENALTIES = Registry(
    "penalty", "gancompress.masks.penalties", around="gancompress.masks",
    symbol="PENALTIES", given=("masks", "price"), facts={"weights": False},
    reserved=("weight",),
)  # fmt: skip
IMPORTANCES = Registry(
    "importance", "gancompress.masks.importances", around="gancompress.masks",
    symbol="IMPORTANCES", given=("group", "mask", "tensors", "seed"),
)  # fmt: skip
ALLOCATIONS = Registry(
    "allocation", "gancompress.masks.allocations", around="gancompress.masks",
    symbol="ALLOCATIONS", given=("graph", "values", "alive"),
)  # fmt: skip
SCHEDULES = Registry(
    "schedule", "gancompress.masks.schedules", around="gancompress.masks",
    symbol="SCHEDULES", given=("u",), reserved=("start", "end"),
)  # fmt: skip
DISTILLERS = Registry(
    "distiller", "gancompress.distill.strategies", around="gancompress.distill",
    symbol="DISTILLERS", given=("context",), factory=True, reserved=("weight",),
)  # fmt: skip
SCORES = Registry(
    "score", "gancompress.training.scores", around="gancompress.training",
    symbol="SCORES", given=("look",), facts={"across": False},
)  # fmt: skip
SEARCH_SCORES = Registry(
    "search score", "gancompress.training.search_scores", around="gancompress.training",
    symbol="SEARCH_SCORES", given=("asked",), reserved=("score", "budget", "levels"),
)  # fmt: skip
COMPANIONS = Registry(
    "companion", "gancompress.training.companions", around="gancompress.training",
    symbol="COMPANIONS", given=("company",), factory=True,
)  # fmt: skip
ADVERSARIAL = Registry(
    "adversarial loss", "gancompress.training.adversarial", around="gancompress.training",
    symbol="ADVERSARIAL", factory=True, reserved=("loss", "weight"),
)  # fmt: skip
REGULARISERS = Registry(
    "regulariser", "gancompress.training.regularisers", around="gancompress.training",
    symbol="REGULARISERS", given=("seen",), facts={"side": "discriminator"},
    reserved=("weight", "every"),
)  # fmt: skip
AUGMENTATIONS = Registry(
    "augmentation", "gancompress.training.augmentations", around="gancompress.training",
    symbol="AUGMENTATIONS", given=("images", "rng"),
)  # fmt: skip
TASKS = Registry(
    "task", "gancompress.tasks", symbol="TASKS", given=("sources",), factory=True,
)  # fmt: skip
LOSSES = Registry(
    "loss", "gancompress.losses", symbol="LOSSES", given=("output", "wanted"),
    reserved=("weight",),
)  # fmt: skip
FEATURE_NETWORKS = Registry(
    "feature network", "gancompress.losses.networks", symbol="FEATURE_NETWORKS",
    given=("weights",), factory=True,
)  # fmt: skip
LOGGERS = Registry(
    "logger", "gancompress.training.loggers", symbol="LOGGERS", given=("place",), factory=True,
    facts={"package": ""},
)  # fmt: skip
RECIPES = Registry("recipe", factory=True)

KINDS: dict[str, Registry] = {
    found.kind: found for found in list(globals().values()) if isinstance(found, Registry)
}
"""All registries of this module by kind."""
