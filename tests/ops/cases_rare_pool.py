"""Nodes of rare pools and losses, of every opset (GlobalLpPool and MaxRoiPool have kernels up to 21 only)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from hypothesis import strategies as st

from ops.cases import Case, Node, ints, normal, some


def lp_pool(data: st.DataObject, opset: int) -> Node:
    axes = data.draw(st.integers(1, 2))
    kernel = [data.draw(st.integers(1, 3)) for _ in range(axes)]
    attributes = {"p": data.draw(st.integers(1, 3)), "strides": [data.draw(st.integers(1, 2)) for _ in kernel]}
    attributes |= {"pads": [k - 1 for k in kernel] * 2}
    newer = {"ceil_mode": 1, "dilations": [data.draw(st.integers(1, 2)) for _ in kernel]}
    chosen = some(data, attributes | newer if opset >= 18 else attributes)
    return Node([normal(1, 2, *(data.draw(st.integers(5, 7)) for _ in kernel))], {"kernel_shape": kernel, **chosen})


def max_unpool(data: st.DataObject, _: int) -> Node:
    x = normal(1, 2, data.draw(st.integers(1, 4)))
    size = 2 * x.shape[2]
    index = np.arange(x.size).reshape(x.shape) * 2 + data.draw(st.integers(0, 1))
    shape = [ints([1, 2, size + data.draw(st.integers(0, 2))])] if data.draw(st.booleans()) else []
    return Node([x, index, *shape], {"kernel_shape": [2], "strides": [2]})


def loss(data: st.DataObject, _: int) -> Node:
    n, c = data.draw(st.integers(1, 3)), data.draw(st.integers(2, 4))
    labels = ints([data.draw(st.integers(0, c - 1)) for _ in range(n)])
    weights = [np.abs(normal(c, seed=1)) + np.float32(0.1)] if data.draw(st.booleans()) else []
    reduction = data.draw(st.sampled_from(["none", "sum", "mean"]))
    return Node([normal(n, c), labels, *weights], some(data, {"reduction": reduction, "ignore_index": c}), ulps=1024)


CASES: Mapping[str, Case] = {
    "LpPool": lp_pool,
    "MaxUnpool": max_unpool,
    "NegativeLogLikelihoodLoss": loss,
    "SoftmaxCrossEntropyLoss": loss,
}
