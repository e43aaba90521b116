"""Make GAN generators small and fast: trace, mask, distil, cut, verify."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gancompress.data.inputs import InputSampler as InputSampler
    from gancompress.deployment.export import export as export
    from gancompress.graph.form.to_graph import to_graph as to_graph
    from gancompress.graph.plan import Plan as Plan
    from gancompress.graph.plan import random_plan as random_plan
    from gancompress.graph.second_opinion import second_opinion as second_opinion
    from gancompress.graph.trace import trace as trace
    from gancompress.inspection import inspect as inspect
    from gancompress.plugins.loading import load_plugin as load_plugin
    from gancompress.recipes.load import load_recipe as load_recipe
    from gancompress.reporting.summary import report as report
    from gancompress.saving import load as load
    from gancompress.saving import save as save
    from gancompress.saving.hub import from_pretrained as from_pretrained
    from gancompress.saving.hub import push as push
    from gancompress.surgery.cut import cut as cut
    from gancompress.surgery.verify import verify as verify
    from gancompress.training.loop import train as train
    from gancompress.wrapping import wrap as wrap
    from gancompress.wrapping.ratio_plan import ratio_plan as ratio_plan
    from gancompress.wrapping.score_search import search as search

__version__ = "0.1.0"

# Loaded on first use, so that `gancompress --help` never waits for torch.
_HOMES = {
    "trace": "gancompress.graph.trace",
    "wrap": "gancompress.wrapping",
    "to_graph": "gancompress.graph.form.to_graph",
    "Plan": "gancompress.graph.plan",
    "random_plan": "gancompress.graph.plan",
    "ratio_plan": "gancompress.wrapping.ratio_plan",
    "search": "gancompress.wrapping.score_search",
    "second_opinion": "gancompress.graph.second_opinion",
    "cut": "gancompress.surgery.cut",
    "verify": "gancompress.surgery.verify",
    "inspect": "gancompress.inspection",
    "export": "gancompress.deployment.export",
    "report": "gancompress.reporting.summary",
    "save": "gancompress.saving",
    "load": "gancompress.saving",
    "push": "gancompress.saving.hub",
    "from_pretrained": "gancompress.saving.hub",
    "train": "gancompress.training.loop",
    "load_plugin": "gancompress.plugins.loading",
    "load_recipe": "gancompress.recipes.load",
    "InputSampler": "gancompress.data.inputs",
}

__all__ = [
    "InputSampler",
    "Plan",
    "cut",
    "export",
    "from_pretrained",
    "inspect",
    "load",
    "load_plugin",
    "load_recipe",
    "push",
    "random_plan",
    "ratio_plan",
    "report",
    "save",
    "search",
    "second_opinion",
    "to_graph",
    "trace",
    "train",
    "verify",
    "wrap",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gancompress' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
