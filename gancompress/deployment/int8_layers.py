"""Which layers become int8, for torchao's PT2E: imported only where torchao is installed."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx
from torchao.quantization.pt2e import (  # pyright: ignore[reportMissingImports]
    HistogramObserver,
    PerChannelMinMaxObserver,
)
from torchao.quantization.pt2e.quantizer import (  # pyright: ignore[reportMissingImports]
    QuantizationAnnotation,
    QuantizationSpec,
    Quantizer,
)

aten = torch.ops.aten
LAYERS = {
    aten.conv1d.default, aten.conv1d.padding, aten.conv2d.default, aten.conv2d.padding,
    aten.linear.default,
}  # fmt: skip
"""What engines multiply in int8; transposed convolutions they do not."""
_RELU = {aten.relu.default, aten.relu_.default}

ACTIVATION = QuantizationSpec(
    dtype=torch.uint8,
    quant_min=0,
    quant_max=255,
    qscheme=torch.per_tensor_affine,
    observer_or_fake_quant_ctr=HistogramObserver.with_args(eps=2**-12),
)
WEIGHT = QuantizationSpec(
    dtype=torch.int8,
    quant_min=-127,
    quant_max=127,
    qscheme=torch.per_channel_symmetric,
    ch_axis=0,
    observer_or_fake_quant_ctr=PerChannelMinMaxObserver.with_args(eps=2**-16),
)


class LayerQuantizer(Quantizer):
    """Input, weight and output of every layer in `LAYERS` in 8 bits (ours).

    Weights are symmetric, a scale a channel; activations affine, a scale a tensor. Engines multiply
    in int8 only where the output is in 8 bits, too: that behind a ReLU where one follows.
    """

    def annotate(self, model: fx.GraphModule) -> fx.GraphModule:
        """Mark the layers of ``model`` whose weight is a constant."""
        for node in model.graph.nodes:
            if node.target not in LAYERS or not _constant(node.args[1]):
                continue
            users = list(node.users)
            behind = users[0] if len(users) == 1 and users[0].target in _RELU else node
            node.meta["quantization_annotation"] = QuantizationAnnotation(
                input_qspec_map={node.args[0]: ACTIVATION, node.args[1]: WEIGHT},
                output_qspec=ACTIVATION if behind is node else None,
                _annotated=True,
            )
            if behind is not node:
                behind.meta["quantization_annotation"] = QuantizationAnnotation(
                    output_qspec=ACTIVATION, _annotated=True
                )
        return model

    def validate(self, model: fx.GraphModule) -> None:
        """Accept any annotation of ours."""


def _constant(node: Any) -> bool:
    return isinstance(node, fx.Node) and node.op == "get_attr"


def count_layers(model: fx.GraphModule) -> tuple[int, int]:
    """Return how many layers with constant weights become int8, and how many stay in float."""
    weighty = [n for n in model.graph.nodes if _is_layer(n)]
    ours = sum(n.target in LAYERS for n in weighty)
    return ours, len(weighty) - ours


def _is_layer(node: fx.Node) -> bool:
    name = str(node.target)
    multiplies = name.startswith(("aten.conv", "aten.linear", "aten.matmul", "aten.addmm"))
    return node.op == "call_function" and multiplies and any(map(_constant, node.args[:2]))
