"""Nodes of quantized operators, as their opsets define them: see `cases`."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from hypothesis import strategies as st

from ops.cases import Case, Node, some
from ops.harness import normal

WEIGHTS = 63  # of 7 bits: on a CPU without VNNI, ONNX Runtime's sums of products of 8 bits saturate at 16


def whole(dtype: type[np.integer], *shape: int, seed: int = 0, limit: int | None = None) -> np.ndarray:
    """Integers all over the range of a type, or from -limit to limit."""
    info = np.iinfo(dtype)
    low, high = (info.min, info.max) if limit is None else (max(info.min, -limit), min(info.max, limit))
    return np.random.default_rng([seed, *shape]).integers(low, high + 1, shape).astype(dtype)


def scale(data: st.DataObject, *shape: int) -> np.ndarray:
    """Positive scales."""
    factor = data.draw(st.sampled_from([0.01, 0.5, 3.0]))
    return np.abs(normal(*shape, seed=9)) * np.float32(factor) + np.float32(factor)


def zero(data: st.DataObject, dtype: type[np.integer], *shape: int) -> np.ndarray:
    """Zero points."""
    info = np.iinfo(dtype)
    return np.full(shape, data.draw(st.integers(max(info.min, -300), min(info.max, 300))), dtype)


def _granularity(data: st.DataObject, shape: tuple[int, ...], opset: int) -> tuple[dict[str, int], tuple[int, ...]]:
    """Attributes, and the shape of the scale that they ask for."""
    form = data.draw(st.integers(0, 1 if opset < 13 else 2 if opset < 21 else 3))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    if form < 2:
        return {}, data.draw(st.sampled_from([(), (1,)]))
    if form == 2:
        return {"axis": axis}, (shape[axis],)
    size = data.draw(st.integers(1, shape[axis] + 1))
    blocks = list(shape)
    blocks[axis] = math.ceil(shape[axis] / size)
    return ({"axis": axis, "block_size": size}, tuple(blocks)) if len(shape) > 1 else ({}, ())


def _types(opset: int) -> list[type[np.integer]]:
    return [np.uint8, np.int8, *([np.uint16, np.int16] if opset >= 21 else [])]


def _shape(data: st.DataObject) -> tuple[int, ...]:
    return tuple(data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))


def quantize(data: st.DataObject, opset: int) -> Node:
    x = normal(*_shape(data)) * np.float32(data.draw(st.sampled_from([1, 50, 3000])))
    dtype = data.draw(st.sampled_from(_types(opset)))
    attributes, shape = _granularity(data, x.shape, opset)
    arrays = [x, scale(data, *shape), zero(data, dtype, *shape)]
    if opset >= 19 and data.draw(st.booleans()):
        arrays = [(x / np.float32(30)).astype(np.float16), arrays[1].astype(np.float16), arrays[2]]
    if opset >= 21 and data.draw(st.booleans()):
        attributes["output_dtype"] = {np.uint8: 2, np.int8: 3, np.uint16: 4, np.int16: 5}[dtype]
        arrays = arrays[: data.draw(st.integers(2, 3))]
    elif dtype is np.uint8 and data.draw(st.booleans()):
        arrays.pop()
    return Node(arrays, attributes, held=data.draw(st.booleans()))


def dequantize(data: st.DataObject, opset: int) -> Node:
    shape = _shape(data)
    dtype = data.draw(st.sampled_from([*_types(opset), np.int32]))
    attributes, laid_out = _granularity(data, shape, opset)
    arrays = [whole(dtype, *shape), scale(data, *laid_out)]
    if opset >= 19 and data.draw(st.booleans()):
        arrays[1] = arrays[1].astype(np.float16)
    if dtype is not np.int32 and data.draw(st.booleans()):
        arrays.append(zero(data, dtype, *laid_out))
    if opset >= 23 and data.draw(st.booleans()):
        attributes["output_dtype"] = 1 if arrays[1].dtype == np.float32 else 10
    with np.errstate(over="ignore"):
        return Node(arrays, attributes, held=data.draw(st.booleans()))


def dynamic(data: st.DataObject, _: int) -> Node:
    x = normal(*_shape(data)) + np.float32(data.draw(st.sampled_from([-9, -1, 0, 1, 9])))
    return Node([x], results=3)


def _sliding(data: st.DataObject) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, object]]:
    """The shapes of an input and a weight of groups, and attributes."""
    axes = data.draw(st.integers(1, 3))
    group, per_group, filters = (data.draw(st.integers(1, 3)) for _ in range(3))
    kernel = [data.draw(st.integers(1, 3)) for _ in range(axes)]
    x = (data.draw(st.integers(1, 2)), group * per_group, *(data.draw(st.integers(5, 7)) for _ in range(axes)))
    drawn = some(
        data,
        {
            "strides": [data.draw(st.integers(1, 2)) for _ in range(axes)],
            "dilations": [data.draw(st.integers(1, 2)) for _ in range(axes)],
        },
    )
    if data.draw(st.booleans()):
        drawn["pads"] = [data.draw(st.integers(0, 2)) for _ in range(2 * axes)]
    elif "dilations" not in drawn:
        drawn["auto_pad"] = data.draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"]))
    return x, (group * filters, per_group, *kernel), {"group": group, **drawn}


def _pair(data: st.DataObject) -> tuple[type[np.integer], type[np.integer]]:
    """Element types of data and weight that ONNX Runtime has kernels for."""
    return data.draw(st.sampled_from([(np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8)]))


def qlinear_conv(data: st.DataObject, _: int) -> Node:
    shape, filters, attributes = _sliding(data)
    kind, held = _pair(data)
    each = (filters[0],) if data.draw(st.booleans()) else ()
    arrays = [
        whole(kind, *shape), scale(data), zero(data, kind),
        whole(held, *filters, limit=WEIGHTS), scale(data, *each), np.full(each, 3, held),
        scale(data), zero(data, kind), whole(np.int32, filters[0], limit=9000),
    ]  # fmt: skip
    return Node(arrays[: data.draw(st.integers(8, 9))], attributes)


def conv_integer(data: st.DataObject, _: int) -> Node:
    shape, filters, attributes = _sliding(data)
    arrays = [whole(np.uint8, *shape), whole(np.uint8, *filters, limit=WEIGHTS), zero(data, np.uint8)]
    return Node([*arrays, np.full((), 3, np.uint8)][: data.draw(st.integers(2, 4))], attributes)


def _matrices(data: st.DataObject) -> tuple[tuple[int, ...], tuple[int, ...]]:
    m, k, n = (data.draw(st.integers(1, 9)) for _ in range(3))
    lead = tuple(data.draw(st.lists(st.integers(1, 3), max_size=2)))
    return (*lead, m, k), ((*lead, k, n) if data.draw(st.booleans()) else (k, n))


def qlinear_matmul(data: st.DataObject, _: int) -> Node:
    left, right = _matrices(data)
    kind, held = _pair(data)
    each = (right[-1],) if len(right) == 2 and data.draw(st.booleans()) else ()
    arrays = [
        whole(kind, *left), scale(data), zero(data, kind),
        whole(held, *right, limit=WEIGHTS), scale(data, *each), np.full(each, 2, held),
        scale(data), zero(data, kind),
    ]  # fmt: skip
    return Node(arrays)


def matmul_integer(data: st.DataObject, _: int) -> Node:
    left, right = _matrices(data)
    kind, held = _pair(data)
    each = (right[-1],) if len(right) == 2 and data.draw(st.booleans()) else ()
    arrays = [whole(kind, *left), whole(held, *right, limit=WEIGHTS), zero(data, kind), np.full(each, 2, held)]
    return Node(arrays[: data.draw(st.integers(2, 4))], held=data.draw(st.booleans()))


CASES: Mapping[str, Case] = {
    "QuantizeLinear": quantize,
    "DequantizeLinear": dequantize,
    "DynamicQuantizeLinear": dynamic,
    "QLinearConv": qlinear_conv,
    "ConvInteger": conv_integer,
    "QLinearMatMul": qlinear_matmul,
    "MatMulInteger": matmul_integer,
}
