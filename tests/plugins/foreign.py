"""One plug-in of each kind, as a stranger would write it: the text of one file each."""

from __future__ import annotations

FILES = {
    "relaxation": '''
from typing import Annotated
import torch
from pydantic import Field
from gancompress.masks.relax import RELAXATIONS

@RELAXATIONS.register("steep", hard_from=0.4)
def steep(scores, progress, *, slope: Annotated[float, Field(gt=0, le=50)] = 3.0):
    """A sigmoid of fixed slope."""
    CALLS.append(slope)
    return torch.sigmoid(slope * scores)

CALLS = []
''',
    "penalty": """
from __future__ import annotations
from gancompress.masks.penalty import PENALTIES

@PENALTIES.register("square")
def square(masks, price, *, centre: float = 0.0):
    CALLS.append(centre)
    return sum(((m.scores - centre) ** 2).mean() for m in masks)

CALLS = []
""",
    "importance": '''
import numpy as np
from gancompress.masks.importance import IMPORTANCES

@IMPORTANCES.register("backwards")
class Backwards:
    """The first channels go first, or the last ones."""

    def __init__(self, *, last: bool):
        self.last = last

    def __call__(self, group, mask, tensors, seed):
        CALLS.append(self.last)
        order = np.arange(1.0, group.size + 1)
        return order[::-1] if self.last else order

CALLS = []
''',
    "schedule": """
from gancompress.masks.schedule import SCHEDULES

@SCHEDULES.register("stairs")
def stairs(u, *, steps: int = 4):
    CALLS.append(steps)
    return int(u * steps) / steps

CALLS = []
""",
    "distiller": '''
from pathlib import Path
import torch
from torch import nn
from gancompress.distill import DISTILLERS

@DISTILLERS.register("own_eyes")
class OwnEyes(nn.Module):
    """Match what a frozen network of its own sees, behind a head that learns."""

    pairs = ()

    def __init__(self, context, *, weights: Path, learn: bool = True):
        super().__init__()
        self.eyes = nn.Conv2d(3, 4, 1)
        nn.init.constant_(self.eyes.weight, float(Path(weights).read_text()))
        self.eyes.requires_grad_(False)
        self.head = nn.Conv2d(4, 2, 1).requires_grad_(learn)
        self.to(context.device)

    def forward(self, batch):
        CALLS.append(1)
        student, teacher = (self.head(self.eyes(x)) for x in batch.images())
        return (student - teacher).square().mean()

    def shrink(self, kept):
        pass

CALLS = []
''',
    "adversarial loss": """
from gancompress.training.losses import ADVERSARIAL, AdversarialLoss

@ADVERSARIAL.register("linear")
def linear(*, margin: float = 1.0):
    CALLS.append(margin)
    return AdversarialLoss(
        discriminator=lambda real, fake: (fake - real + margin).relu().mean(),
        generator=lambda fake: -fake.mean(),
    )

CALLS = []
""",
    "augmentation": """
from gancompress.training.augment import AUGMENTATIONS

@AUGMENTATIONS.register("dim")
def dim(images, rng, *, factor: float = 0.5):
    CALLS.append(factor)
    return images * factor

CALLS = []
""",
    "search score": """
from gancompress.plugins.kinds import SEARCH_SCORES

@SEARCH_SCORES.register("flat")
def flat(asked, *, level: float = 1.0):
    CALLS.append(level)
    return level

CALLS = []
""",
    "operator rule": """
from gancompress.graph.rules.base import rule

@rule("an_operator_of_a_stranger")
def mine(op):
    return op.dims(op.args[0])
""",
    "task": """
from gancompress.plugins.kinds import TASKS

@TASKS.register("sort")
def sort(sources, *, keys: int = 3):
    return ("sort", keys)
""",
    "recipe": """
from pathlib import Path
from gancompress.plugins.kinds import RECIPES

@RECIPES.register("all-mine")
def all_mine():
    return Path(__file__).with_name("all_mine.yaml")
""",
}

RECIPE = """
name: all-mine
kind: prune
summary: everything of a stranger
target: params=1.5x
relaxation: {name: steep, slope: 2}
penalty: {name: square, weight: 0.1, centre: 0.5}
importance: {name: backwards, last: true}
search: {score: flat, level: 0.5, budget: 4}
schedule: {name: stairs, steps: 2, end: 0.5}
distill: [{name: own_eyes, weight: 1.0, weights: seen.txt}]
adversarial: {loss: linear, margin: 0.25}
augment: [{name: dim, factor: 0.75}]
batch: 4
steps: 3
finetune_steps: 1
sample_every: 0
"""

NETS = """
from torch import nn

def net():
    return nn.Sequential(
        nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 12), nn.Unflatten(1, (3, 2, 2)), nn.Tanh()
    )

def critic():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
"""
