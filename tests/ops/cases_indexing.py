"""Nodes that pick and write elements by index, and that make ones and zeros."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from hypothesis import strategies as st

from ops.cases import Case, Node, axis_of, ints, some, tensor
from ops.harness import normal


def indices_into(data: st.DataObject, size: int, count: int, *, different: bool = False) -> list[int]:
    """Indices of an axis, some counted from the end; different ones name different elements."""
    index = st.integers(0, size - 1)
    found = data.draw(st.lists(index, min_size=count, max_size=count, unique=different))
    return [i - size if data.draw(st.booleans()) else i for i in found]


def part_of(data: st.DataObject, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of indices into a tensor."""
    return tuple(data.draw(st.integers(1, d)) for d in shape)


def gather_elements(data: st.DataObject, _: int) -> Node:
    x = tensor(data)
    axis = axis_of(data, x.ndim, negative=True)
    shape = part_of(data, x.shape)
    made = np.reshape(indices_into(data, x.shape[axis], int(np.prod(shape))), shape)
    return Node([x, made.astype(data.draw(st.sampled_from([np.int32, np.int64])))], {"axis": axis}, held=False)


def gather_nd(data: st.DataObject, opset: int) -> Node:
    x = tensor(data)
    batch = data.draw(st.integers(0, x.ndim - 1)) if opset >= 12 else 0
    length = data.draw(st.integers(1, x.ndim - batch))
    shape = (*x.shape[:batch], *data.draw(st.lists(st.integers(1, 3), max_size=2)))
    columns = [indices_into(data, x.shape[batch + i], int(np.prod(shape))) for i in range(length)]
    made = np.array(columns, np.int64).T.reshape(*shape, length)
    return Node([x, made], {"batch_dims": batch} if batch else {}, held=data.draw(st.booleans()))


def reduction(data: st.DataObject, opset: int) -> dict[str, object]:
    known = ["none", "add", "mul", "max", "min"][: 1 if opset < 16 else 3 if opset < 18 else 5]
    return {"reduction": data.draw(st.sampled_from(known))} if opset >= 16 else {}


def scatter_elements(data: st.DataObject, opset: int) -> Node:
    x = tensor(data)
    axis = axis_of(data, x.ndim, negative=True)
    attributes = {"axis": axis, **reduction(data, opset)}
    shape = part_of(data, x.shape)
    lines = int(np.prod(shape)) // shape[axis]
    different = attributes.get("reduction", "none") == "none"
    made = [indices_into(data, x.shape[axis], shape[axis], different=different) for _ in range(lines)]
    index = np.moveaxis(np.reshape(made, (*np.delete(shape, axis), shape[axis])), -1, axis)
    return Node([x, index.astype(np.int64), normal(*shape, seed=1)], attributes, held=False)


def scatter_nd(data: st.DataObject, opset: int) -> Node:
    x = tensor(data)
    length = data.draw(st.integers(1, x.ndim))
    attributes = reduction(data, opset)
    place = st.tuples(*(st.integers(-d, d - 1) for d in x.shape[:length]))
    once = attributes.get("reduction", "none") == "none"
    key = (lambda t: tuple(i % d for i, d in zip(t, x.shape, strict=False))) if once else None
    found = data.draw(st.lists(place, min_size=1, max_size=4, unique_by=key))
    updates = normal(len(found), *x.shape[length:], seed=1)
    return Node([x, np.array(found, np.int64).reshape(len(found), length), updates], attributes, held=False)


def tensor_scatter(data: st.DataObject, _: int) -> Node:
    x = normal(*data.draw(st.lists(st.integers(1, 4), min_size=3, max_size=4)))
    axis = data.draw(st.integers(1, x.ndim - 1))
    length = data.draw(st.integers(1, x.shape[axis]))
    mode = data.draw(st.sampled_from(["linear", "circular"]))
    last = x.shape[axis] - (length if mode == "linear" else 1)
    update = normal(*x.shape[:axis], length, *x.shape[axis + 1 :], seed=1)
    start = ints([data.draw(st.integers(0, last)) for _ in range(x.shape[0])])
    arrays = [x, update, start] if data.draw(st.booleans()) else [x, update]
    return Node(arrays, {"axis": axis - x.ndim if data.draw(st.booleans()) else axis, "mode": mode}, held=False)


def one_hot(data: st.DataObject, _: int) -> Node:
    dtype = data.draw(st.sampled_from([np.int64, np.int32, np.float32]))
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    count = int(np.prod(shape))
    indices = np.reshape(data.draw(st.lists(st.integers(-6, 6), min_size=count, max_size=count)), shape).astype(dtype)
    depth = np.array(data.draw(st.integers(1, 5)), dtype)
    axis = data.draw(st.sampled_from([-1, *range(len(shape) + 1)]))
    return Node([indices, depth, np.array([-1.5, 2], np.float32)], some(data, {"axis": axis}))


def nonzero(data: st.DataObject, _: int) -> Node:
    kind = data.draw(st.sampled_from([np.float32, np.int64, np.bool_]))
    return Node([np.maximum(tensor(data), 0).astype(kind)])


def compress(data: st.DataObject, opset: int) -> Node:
    x = tensor(data)
    axis = data.draw(st.none() | st.integers(-x.ndim if opset >= 11 else 0, x.ndim - 1))
    condition = data.draw(st.lists(st.booleans(), min_size=1, max_size=x.size if axis is None else x.shape[axis]))
    return Node([x, np.array(condition)], {} if axis is None else {"axis": axis}, held=data.draw(st.booleans()))


def unique(data: st.DataObject, _: int) -> Node:
    x = np.round(tensor(data)).astype(data.draw(st.sampled_from([np.float32, np.float64, np.int64, np.int8])))
    axis = data.draw(st.none() | st.integers(-x.ndim, x.ndim - 1))
    return Node([x], {**some(data, {"sorted": 0}), **({} if axis is None else {"axis": axis})}, 4)


def eye_like(data: st.DataObject, _: int) -> Node:
    x = normal(data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4)))
    return Node(
        [x], some(data, {"k": data.draw(st.integers(-5, 5)), "dtype": data.draw(st.sampled_from([1, 7, 6, 11]))})
    )


def plain(data: st.DataObject, _: int) -> Node:
    return Node([tensor(data)])


CASES: Mapping[str, Case] = {
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
    "TensorScatter": tensor_scatter,
    "OneHot": one_hot,
    "NonZero": nonzero,
    "Compress": compress,
    "Unique": unique,
    "EyeLike": eye_like,
    "Size": plain,
}
