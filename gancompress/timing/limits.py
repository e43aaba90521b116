"""Where pruning cannot help: what the time of a network goes to that fewer channels do not save."""

from __future__ import annotations

from collections.abc import Mapping

from gancompress.graph.groups import ChannelGraph
from gancompress.target import Setting
from gancompress.timing.predicted import predicted
from gancompress.timing.table import measured_table

WORTH = 0.5  # of the cut in MACs that should be seen in time; below it a word is due
_SHARE = 0.3  # of the time that is left: what is called its cause


def slow_remark(
    graph: ChannelGraph,
    widths: Mapping[str, int],
    setting: Setting,
    *,
    before: float,
    after: float,
) -> str:
    """Return why time falls far less than MACs do; empty where it does not (ours).

    Args:
        graph: of the original network.
        widths: after the cut.
        setting: where time was measured.
        before: seconds of the original.
        after: seconds of the cut network.
    """
    whole, small = graph.cost().macs, graph.cost(widths).macs
    times, faster = whole / max(small, 1), before / after
    if times < 1.5 or faster - 1 >= WORTH * (times - 1):
        return ""
    _, moving, starting = predicted(graph, setting, measured_table((), setting)).parts(widths)
    said = f"MACs fall {times:.1f}x and time only {faster:.1f}x at {setting}: "
    if starting >= max(_SHARE * after, moving):
        return said + (
            f"starting operators is about {min(starting / after, 1):.0%} of what is left, however "
            "narrow they are. A larger batch, engine=onnxruntime or engine=compiled may help more"
        )
    if moving >= _SHARE * after:
        return said + (
            f"moving memory (norms, activations, resampling) is about {min(moving / after, 1):.0%} "
            "of what is left. An engine that merges operators may help more"
        )
    return said + (
        "narrow layers compute less efficiently than wide ones. round_to=auto (or 8, 16) keeps "
        "widths that this machine likes"
    )
