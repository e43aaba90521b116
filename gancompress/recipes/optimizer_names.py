"""Which of torch's optimisers a recipe may name, and with which options; torch is not imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gancompress.errors import closest

FLOAT, FLAG = "a number", "true or false"
_MOMENTS = {"weight_decay": FLOAT}

OPTIMIZERS: dict[str, tuple[str, frozenset[str], dict[str, str]]] = {
    "adam": ("Adam", frozenset({"betas", "eps"}), _MOMENTS | {"amsgrad": FLAG}),
    "adamw": ("AdamW", frozenset({"betas", "eps"}), _MOMENTS | {"amsgrad": FLAG}),
    "nadam": (
        "NAdam", frozenset({"betas", "eps"}),
        _MOMENTS | {"momentum_decay": FLOAT, "decoupled_weight_decay": FLAG},
    ),
    "radam": ("RAdam", frozenset({"betas", "eps"}), _MOMENTS | {"decoupled_weight_decay": FLAG}),
    "adamax": ("Adamax", frozenset({"betas", "eps"}), _MOMENTS),
    "sgd": (
        "SGD", frozenset(),
        _MOMENTS | {"momentum": FLOAT, "dampening": FLOAT, "nesterov": FLAG},
    ),
    "rmsprop": (
        "RMSprop", frozenset({"eps"}),
        _MOMENTS | {"alpha": FLOAT, "momentum": FLOAT, "centered": FLAG},
    ),
    "adagrad": (
        "Adagrad", frozenset({"eps"}),
        _MOMENTS | {"lr_decay": FLOAT, "initial_accumulator_value": FLOAT},
    ),
    "adadelta": ("Adadelta", frozenset({"eps"}), _MOMENTS | {"rho": FLOAT}),
}  # fmt: skip
"""Name -> class in torch.optim, which of betas and eps it has, and its other options."""


def check_optimizer(name: str, given: set[str], options: Mapping[str, Any]) -> None:
    """Refuse a name or an option that the optimiser of a recipe does not have.

    Args:
        name: of the optimiser.
        given: which of betas and eps the recipe sets to something else than their default.
        options: the others, with their values.

    Raises:
        ValueError: what is wrong and what there is.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"no optimiser {name!r}.{closest(name, OPTIMIZERS)}")
    _, numbers, known = OPTIMIZERS[name]
    if useless := sorted(given - numbers):
        raise ValueError(f"{name} has no {useless[0]}: leave it out")
    for key, value in options.items():
        if key not in known:
            raise ValueError(f"{name} has no option {key!r}.{closest(key, known)}")
        fits = isinstance(value, bool) if known[key] == FLAG else _is_number(value)
        if not fits:
            raise ValueError(f"option {key} of {name} is {value!r}; it must be {known[key]}")
        if known[key] == FLOAT and value < 0:
            raise ValueError(f"option {key} of {name} is {value!r}; it must not be negative")
    if options.get("nesterov") and not (
        options.get("momentum", 0) > 0 and options.get("dampening", 0) == 0
    ):
        raise ValueError("nesterov needs momentum above 0 and dampening 0")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
