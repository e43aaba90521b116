"""What the rest of a group cannot make up for."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from gancompress.modules.copying import duplicate
from gancompress.surgery.raw_tensors import gates_off
from gancompress.surgery.reconstruction.choose import channel_losses
from gancompress.surgery.reconstruction.options import Options
from gancompress.training.allocation import order_of_going
from gancompress.training.score import SCORES, Look


@SCORES.register("residual", across=True)
def residual(look: Look, *, samples: Annotated[int, Field(ge=1)] = 512) -> dict[str, np.ndarray]:
    """When each channel would go if the one whose loss costs least for what it saves always went.

    `channel_losses` says what is lost with a channel after least squares made up for it (ours,
    after Frantar & Alistarh 2022); the saving is in the unit of the target. The order is one over
    all groups: with ``importance: {name: scores, ranks: false}`` and ``allocation: global`` the
    masks begin from it, and learn where it should be another. A group that only layers read which
    least squares cannot treat (grouped convolutions) gives the share that all others give, in the
    order of the scores that it has. It looks at ``samples`` inputs, and needs no data.
    """
    network = duplicate(look.masked.generator)
    gates_off(network)
    calls = [(b.inputs, b.kwargs) for b in look.batches(samples)]
    graph, budget = look.masked.graph, look.masked.budget
    worth = channel_losses(network.eval(), graph, calls, Options(seed=look.seed))
    kept = {name: worth[name] for name in look.masked.masks if name in worth}
    found = order_of_going(graph, kept, budget)
    last = max(sum(map(len, kept.values())), 1)
    for name, mask in look.masked.masks.items():
        if name not in found:
            scores = mask.scores.detach().double().cpu().numpy()
            found[name] = (scores.argsort(kind="stable").argsort() + 0.5) / mask.size * last
    return found
