"""Nodes of rare activations, LogSoftmax and Hardmax, of every opset (Swish has no kernel in ONNX Runtime)."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import strategies as st

from ops.cases import Case, Node, plain, softmax, some, tensor, with_numbers


def gelu(data: st.DataObject, _: int) -> Node:
    return Node(
        [tensor(data)], some(data, {"approximate": data.draw(st.sampled_from(["none", "tanh"]))}), ulps=1 << 14
    )  # 1 + erf(x) next to 0


CASES: Mapping[str, Case] = {
    "Celu": with_numbers("alpha"),
    "Elu": with_numbers("alpha"),
    "Gelu": gelu,
    "Hardmax": softmax,
    "LogSoftmax": softmax,
    "Mish": plain,
    "Selu": with_numbers("alpha", "gamma"),
    "Shrink": with_numbers("bias", "lambd"),
    "Softplus": plain,
    "Softsign": plain,
    "ThresholdedRelu": with_numbers("alpha"),
}
