"""int8 files: layers that multiply in 8 bits, an error that is small, honest and told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from gancompress.errors import GraphError, TargetError
from tests.tiny import inputs, sequential

for package in ("torchao", "onnxruntime", "onnxscript"):
    pytest.importorskip(package, reason="the extra gancompress[int8] is not installed")

from gancompress.deployment.int8 import export_int8  # noqa: E402

pytestmark = pytest.mark.slow  # torchao alone takes seconds to load


def batches(count: int) -> list[tuple[torch.Tensor, ...]]:
    return [(inputs("sequential", 4, seed=i),) for i in range(count)]


def test_int8_is_near_and_its_file_holds_bytes(tmp_path: Path) -> None:
    net = sequential(16).eval()
    (row,) = export_int8(net, (inputs("sequential", 2),), tmp_path / "s.onnx",
                         calibration=batches(4), held_out=batches(6)[4:])  # fmt: skip
    assert row.layers == 3
    assert row.left == 0
    assert row.snr_db > 25
    assert row.max_error > 0
    assert row.bytes == row.file.stat().st_size
    assert min(row.ms, row.float_ms) > 0
    import onnx
    import onnxruntime

    file = onnx.load(str(row.file))
    kinds = {t.data_type for t in file.graph.initializer if len(t.dims) == 4}
    assert kinds == {onnx.TensorProto.INT8}
    x = inputs("sequential", 3, seed=9)
    (found,) = onnxruntime.InferenceSession(str(row.file)).run(None, {"input": x.numpy()})
    with torch.no_grad():
        wanted = net(x)
    assert float((torch.from_numpy(found) - wanted).norm() / wanted.norm()) < 0.06


def test_a_limit_is_kept_and_a_network_without_layers_refused(tmp_path: Path) -> None:
    options = {"calibration": batches(1), "held_out": batches(1), "to": "torch.export"}
    with pytest.raises(TargetError, match="int8 .* differs by .* allowed is 1e-06"):
        export_int8(sequential(), (inputs("sequential", 2),), tmp_path / "s.pt2",
                    tolerance=1e-6, **options)  # fmt: skip
    with pytest.raises(GraphError, match="no layer can be int8: 1 layers with weights"):
        export_int8(nn.ConvTranspose2d(3, 3, 2).eval(), (inputs("sequential", 2),),
                    tmp_path / "t.pt2", **options)  # fmt: skip
    assert not list(tmp_path.iterdir())
