"""Nodes of convolutions, pools, and products of matrices, of every opset."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from hypothesis import strategies as st

from ops.cases import Case, Node, some
from ops.harness import normal

SUMS = 1024  # ulps: products that nearly cancel


def _each(data: st.DataObject, count: int, low: int, high: int) -> list[int]:
    return [data.draw(st.integers(low, high)) for _ in range(count)]


def conv(data: st.DataObject, _: int) -> Node:
    axes, group = data.draw(st.integers(1, 2)), data.draw(st.sampled_from([1, 1, 2]))
    kernel, inside = _each(data, axes, 1, 3), data.draw(st.integers(1, 2))
    sliding = {"strides": _each(data, axes, 1, 2), "dilations": _each(data, axes, 1, 2), "kernel_shape": kernel}
    attributes = {**some(data, sliding), "group": group}
    if data.draw(st.booleans()):
        attributes["pads"] = _each(data, 2 * axes, 0, 2)
    elif "dilations" not in attributes:
        attributes |= some(data, {"auto_pad": data.draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"]))})
    x = normal(2, group * inside, *_each(data, axes, 5, 6))
    filters = normal(group * data.draw(st.integers(1, 2)), inside, *kernel, seed=1)
    bias = [normal(filters.shape[0], seed=2)][: data.draw(st.integers(0, 1))]
    return Node([x, filters, *bias], attributes, held=data.draw(st.booleans()), ulps=SUMS)


def conv_transpose(data: st.DataObject, _: int) -> Node:
    axes, group = data.draw(st.integers(1, 2)), data.draw(st.sampled_from([1, 2]))
    kernel, strides = _each(data, axes, 2, 3), _each(data, axes, 1, 2)
    attributes = {"group": group, "strides": strides, **some(data, {"pads": _each(data, 2 * axes, 0, 1)})}
    x = normal(2, 2, *_each(data, axes, 3, 4))
    filters = normal(2, data.draw(st.integers(1, 2)), *kernel, seed=1)
    bias = [normal(filters.shape[1] * group, seed=2)][: data.draw(st.integers(0, 1))]
    return Node([x, filters, *bias], attributes, held=data.draw(st.booleans()), ulps=SUMS)


def pool(*, mean: bool) -> Case:
    def case(data: st.DataObject, opset: int) -> Node:
        axes = data.draw(st.integers(1, 2))
        kernel = _each(data, axes, 1, 3)
        drawn = {"strides": _each(data, axes, 1, 2), "pads": [k - 1 for k in kernel] * 2}
        drawn |= {"count_include_pad": 1} if mean else {}
        drawn |= {"dilations": [1] * axes} if not mean and opset >= 10 else {}
        return Node([normal(2, 2, *_each(data, axes, 4, 6))], {"kernel_shape": kernel, **some(data, drawn)})

    return case


def whole_image(data: st.DataObject, _: int) -> Node:
    return Node([normal(2, 3, *_each(data, data.draw(st.integers(1, 2)), 1, 4))])


def batch_norm(data: st.DataObject, _: int) -> Node:
    x = normal(2, data.draw(st.integers(1, 3)), *_each(data, data.draw(st.integers(0, 2)), 2, 4))
    scale, shift, mean, variance = (normal(x.shape[1], seed=i) for i in range(1, 5))
    arrays = [x, scale, shift, mean, np.abs(variance) + np.float32(0.1)]
    return Node(arrays, some(data, {"epsilon": data.draw(st.sampled_from([1e-3, 0.125]))}), ulps=SUMS)


def neighbours(data: st.DataObject, _: int) -> Node:
    drawn = {"alpha": 0.5, "beta": 0.25, "bias": 2.0}
    return Node([normal(2, data.draw(st.integers(1, 4)), 3, 3)], {"size": data.draw(st.sampled_from([1, 3])),
                                                                  **some(data, drawn)})  # fmt: skip


def matmul(data: st.DataObject, _: int) -> Node:
    m, k, n = _each(data, 3, 1, 4)
    lead = _each(data, data.draw(st.integers(0, 2)), 1, 3)
    right = normal(k, n, seed=1) if data.draw(st.booleans()) else normal(*lead, k, n, seed=1)
    return Node([normal(*lead, m, k), right], held=data.draw(st.booleans()), ulps=SUMS)


def gemm(data: st.DataObject, opset: int) -> Node:
    m, k, n = _each(data, 3, 1, 4)
    attributes = some(data, {"alpha": 0.5, "beta": 2.0, "transA": 1, "transB": 1})
    a, b = normal(m, k), normal(k, n, seed=1)
    shape = data.draw(st.sampled_from([(n,), (1, n), (m, n), (m, 1), (1,)]))
    bias = [normal(*shape, seed=2)] if opset < 11 else [normal(*shape, seed=2)][: data.draw(st.integers(0, 1))]
    a, b = a.T.copy() if "transA" in attributes else a, b.T.copy() if "transB" in attributes else b
    return Node([a, b, *bias], attributes, held=data.draw(st.booleans()), ulps=SUMS)


CASES: Mapping[str, Case] = {
    "AveragePool": pool(mean=True),
    "BatchNormalization": batch_norm,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Gemm": gemm,
    "GlobalAveragePool": whole_image,
    "GlobalMaxPool": whole_image,
    "LRN": neighbours,
    "MatMul": matmul,
    "MaxPool": pool(mean=False),
}
