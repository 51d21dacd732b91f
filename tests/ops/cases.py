"""Nodes of every opset from 7 on, drawn as their opset defines them; what the cases of other families are made with.

A case draws operands and attributes; operands after the first are initializers where `held` says so.
`test_opsets` runs the `CASES` of every module `cases*` in this folder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

from graphopt.ir.attributes import Attribute, Kind
from graphopt.ir.constant import Constant
from ops.harness import ULPS, normal

eighths = st.integers(-24, 24).map(lambda n: n / 8)
shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4)


class Node(NamedTuple):
    """Operands, attributes, how many results, whether the operands after the first are initializers, and the
    units in the last place that ONNX Runtime may be off (see `harness.close`)."""

    arrays: Sequence[np.ndarray | None]
    attributes: Mapping[str, object] = {}
    results: int = 1
    held: bool = True
    ulps: float = ULPS


Case = Callable[[st.DataObject, int], Node]


def ints(values: Sequence[int]) -> np.ndarray:
    return np.array(values, np.int64)


def floats(values: float | Sequence[float]) -> np.ndarray:
    return np.array(values, np.float32)


def tensor(data: st.DataObject) -> np.ndarray:
    return normal(*data.draw(shapes))


def some(data: st.DataObject, drawn: Mapping[str, object]) -> dict[str, object]:
    """Some of these attributes; the others keep their defaults."""
    return {key: value for key, value in drawn.items() if data.draw(st.booleans())}


def axis_of(data: st.DataObject, rank: int, *, negative: bool) -> int:
    return data.draw(st.integers(-rank if negative else 0, rank - 1))


def axes_of(data: st.DataObject, rank: int, *, negative: bool, among: Sequence[int] | None = None) -> list[int]:
    """One axis or more of some, all different."""
    axes = data.draw(st.lists(st.sampled_from(list(among or range(rank))), min_size=1, unique=True))
    return [a - rank if negative and data.draw(st.booleans()) else a for a in axes]


def broadcastable(data: st.DataObject, count: int) -> list[np.ndarray]:
    found = data.draw(mutually_broadcastable_shapes(num_shapes=count, max_dims=4, max_side=4)).input_shapes
    return [normal(*shape, seed=i) for i, shape in enumerate(found)]


# ---- Activations and arithmetic


def plain(data: st.DataObject, _: int) -> Node:
    return Node([tensor(data)])


def with_numbers(*names: str) -> Case:
    return lambda data, _: Node([tensor(data)], some(data, {name: data.draw(eighths) for name in names}))


def prelu(data: st.DataObject, _: int) -> Node:
    x = tensor(data)
    kept = x.shape[data.draw(st.integers(0, x.ndim)) :]
    return Node([x, normal(*(data.draw(st.sampled_from([1, d])) for d in kept), seed=1)])


def clip(data: st.DataObject, opset: int) -> Node:
    bounds = some(data, {"min": data.draw(eighths), "max": data.draw(eighths)})
    if opset < 11:  # where ONNX Runtime loads no bounds that cross
        return Node([tensor(data)], dict(zip(bounds, sorted(bounds.values()), strict=True)))
    arrays = [None if key not in bounds else floats(bounds[key]) for key in ("min", "max")]
    return Node([tensor(data), *arrays], held=data.draw(st.booleans()))


def softmax(data: st.DataObject, opset: int) -> Node:
    x = tensor(data)
    if opset >= 13:
        return Node([x], some(data, {"axis": axis_of(data, x.ndim, negative=True)}))
    axis = axis_of(data, x.ndim, negative=opset >= 11)  # the axes from here on are one, so one may be long
    ones = x.reshape(x.shape[: axis % x.ndim] + (-1,) + (1,) * (x.ndim - 1 - axis % x.ndim))
    return Node([ones], {"axis": axis})


def sqrt(data: st.DataObject, _: int) -> Node:
    return Node([np.abs(tensor(data))])


def power(data: st.DataObject, opset: int) -> Node:
    a, b = broadcastable(data, 2)
    exponent = np.full(b.shape, data.draw(st.sampled_from([-1, 0, 0.5, 2, 3])), np.float32)
    if opset >= 12 and data.draw(st.booleans()):
        exponent = np.full(b.shape, data.draw(st.integers(0, 3)))
    return Node([np.abs(a) + np.float32(0.5), exponent], held=data.draw(st.booleans()))


def binary(data: st.DataObject, _: int) -> Node:
    arrays = broadcastable(data, 2)
    if data.draw(st.booleans()):
        arrays = [np.where(a < 0, -7, 3).astype(data.draw(st.sampled_from([np.int32, np.int64]))) for a in arrays]
        arrays[1] = arrays[1].astype(arrays[0].dtype)
    return Node(arrays, held=data.draw(st.booleans()))


def several(data: st.DataObject, opset: int) -> Node:
    count = data.draw(st.integers(1, 4))
    return Node(broadcastable(data, count) if opset >= 8 else [tensor(data)] * count, held=False)


def reduction(version: int) -> Case:
    def case(data: st.DataObject, opset: int) -> Node:
        x = tensor(data)
        axes = axes_of(data, x.ndim, negative=opset >= 11) if data.draw(st.booleans()) else None
        attributes = some(data, {"keepdims": data.draw(st.integers(0, 1))})
        if opset >= version:
            attributes |= some(data, {"noop_with_empty_axes": 1})
            return Node([x] if axes is None else [x, ints(axes)], attributes)
        return Node([x], attributes if axes is None else {**attributes, "axes": axes})

    return case


# ---- Shapes


def reshape(data: st.DataObject, opset: int) -> Node:
    x = tensor(data)
    targets = [[-1], [0, -1], [1, *x.shape], x.shape[::-1], [math.prod(x.shape), 1]]
    return Node([x, ints(data.draw(st.sampled_from(targets)))], some(data, {"allowzero": 0}) if opset >= 14 else {})


def flatten(data: st.DataObject, opset: int) -> Node:
    x = tensor(data)
    return Node([x], some(data, {"axis": data.draw(st.integers(-x.ndim if opset >= 11 else 0, x.ndim))}))


def transpose(data: st.DataObject, _: int) -> Node:
    x = tensor(data)
    return Node([x], some(data, {"perm": data.draw(st.permutations(range(x.ndim)))}))


def squeeze(data: st.DataObject, opset: int) -> Node:
    x = normal(*data.draw(st.lists(st.sampled_from([1, 1, 3]), min_size=1, max_size=4)))
    ones = [i for i, d in enumerate(x.shape) if d == 1]
    if not ones or data.draw(st.booleans()):
        return Node([x])
    axes = axes_of(data, x.ndim, negative=opset >= 11, among=ones)
    return Node([x, ints(axes)]) if opset >= 13 else Node([x], {"axes": axes})


def unsqueeze(data: st.DataObject, opset: int) -> Node:
    x = normal(*data.draw(st.lists(st.integers(1, 3), max_size=2)))
    count = data.draw(st.integers(1, 3))
    rank = x.ndim + count
    axes = data.draw(st.permutations(range(rank)))[:count]
    axes = [a - rank if opset >= 11 and data.draw(st.booleans()) else a for a in axes]
    return Node([x, ints(axes)]) if opset >= 13 else Node([x], {"axes": axes})


def expand(data: st.DataObject, _: int) -> Node:
    x, target = broadcastable(data, 2)
    return Node([x, ints(target.shape)])


def shape(data: st.DataObject, opset: int) -> Node:
    ends = {"start": data.draw(st.integers(-5, 5)), "end": data.draw(st.integers(-5, 5))}
    return Node([tensor(data)], some(data, ends) if opset >= 15 else {})


def cast(data: st.DataObject, _: int) -> Node:
    return Node([tensor(data)], {"to": data.draw(st.sampled_from([1, 6, 7, 9, 10, 11]))})


def cast_like(data: st.DataObject, _: int) -> Node:
    like = np.zeros(2, data.draw(st.sampled_from([np.float16, np.float64, np.int32, np.int64, np.bool_])))
    return Node([tensor(data), like], held=data.draw(st.booleans()))


def dropout(data: st.DataObject, opset: int) -> Node:
    ratio = data.draw(st.integers(0, 7)) / 8
    if opset < 12:
        return Node([tensor(data)], some(data, {"ratio": ratio}))
    more = [floats(ratio), np.array(False)][: data.draw(st.integers(0, 2))]
    return Node([tensor(data), *more], some(data, {"seed": 3}))


# ---- Movement


def concat(data: st.DataObject, opset: int) -> Node:
    x = tensor(data)
    axis = axis_of(data, x.ndim, negative=opset >= 11)
    parts = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))
    arrays = [np.repeat(x.take([0], axis), n, axis) + np.float32(n) for n in parts]
    return Node(arrays, {"axis": axis}, held=False)


def split(data: st.DataObject, opset: int) -> Node:
    x = tensor(data)
    axis = axis_of(data, x.ndim, negative=opset >= 11)
    parts = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    by_size = data.draw(st.booleans())
    parts = parts if by_size else [parts[0]] * len(parts)
    x, attributes = np.repeat(x.take([0], axis), sum(parts), axis), {"axis": axis}
    x = x * np.arange(1, x.size + 1, dtype=np.float32).reshape(x.shape)
    if by_size and opset >= 13:
        return Node([x, ints(parts)], attributes, len(parts))
    if opset >= 18:
        return Node([x], {**attributes, "num_outputs": len(parts)}, len(parts))
    return Node([x], {**attributes, "split": parts} if by_size else attributes, len(parts))


def slices(data: st.DataObject, opset: int) -> Node:
    x = tensor(data)
    axes = axes_of(data, x.ndim, negative=opset >= 11)
    far = st.integers(-6, 6) | st.sampled_from([2**31 - 1, 2**63 - 1, -(2**31), -(2**63)])
    starts, ends = ([data.draw(far) for _ in axes] for _ in "se")
    if opset < 10:
        return Node([x], {"starts": starts, "ends": ends, "axes": axes})
    steps = [data.draw(st.sampled_from([1, 2, -1, -2])) for _ in axes]
    ends = [-6 if s < 0 and e >= 2**31 - 1 else e for e, s in zip(ends, steps, strict=True)]  # see `is_open`
    return Node([x, ints(starts), ints(ends), ints(axes), ints(steps)])


def gather(data: st.DataObject, opset: int) -> Node:
    x = tensor(data)
    axis = axis_of(data, x.ndim, negative=True)
    low = -x.shape[axis] if opset >= 11 else 0
    indices = data.draw(st.lists(st.integers(low, x.shape[axis] - 1), min_size=1, max_size=6))
    return Node([x, ints(indices)], some(data, {"axis": axis}) if x.shape[0] >= x.shape[axis] else {"axis": axis})


def pad(data: st.DataObject, opset: int) -> Node:
    x = normal(*data.draw(st.lists(st.integers(2, 4), min_size=1, max_size=4)))
    modes = ["constant", "edge", "reflect", *(["wrap"] if opset >= 19 else [])]
    attributes = some(data, {"mode": data.draw(st.sampled_from(modes))})
    axes = axes_of(data, x.ndim, negative=True) if opset >= 18 else list(range(x.ndim))
    pads = [data.draw(st.integers(0, 1)) for _ in axes * 2]
    if opset < 11:
        return Node([x], {**attributes, **some(data, {"value": 1.5}), "pads": pads})
    value = data.draw(st.sampled_from([None, floats(1.5)]))
    return Node([x, ints(pads), value, ints(axes)] if opset >= 18 else [x, ints(pads), value], attributes)


def resize(data: st.DataObject, opset: int) -> Node:
    x = normal(1, 2, *data.draw(st.lists(st.integers(2, 4), min_size=2, max_size=2))) + np.float32(4)
    scales = floats([1, 1, *data.draw(st.sampled_from([(2, 2), (2, 3), (0.5, 0.5), (1.5, 2)]))])
    mode = data.draw(st.sampled_from(["nearest", "linear", "cubic"][: 2 if opset < 11 else 3]))
    if opset < 11:
        return Node([x, scales], {"mode": mode})
    positions = ["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"]
    positions += ["half_pixel_symmetric"] if opset >= 19 else []
    attributes = {"mode": mode, **some(data, {"coordinate_transformation_mode": data.draw(st.sampled_from(positions))})}
    if mode == "nearest":
        attributes |= some(data, {"nearest_mode": data.draw(st.sampled_from(["floor", "ceil", "round_prefer_ceil"]))})
    roi = floats([]) if opset < 13 else None
    sizes = ints([1, 2, *data.draw(st.lists(st.integers(5, 7), min_size=2, max_size=2))])
    by_sizes = [x, roi, floats([]) if opset < 13 else None, sizes]
    return Node(by_sizes if data.draw(st.booleans()) else [x, roi, scales], attributes)


# ---- Out of nothing


def constant_of_shape(data: st.DataObject, _: int) -> Node:
    value = data.draw(st.sampled_from([np.int64, np.float32, np.int32, np.bool_]))
    made = Attribute(Kind.TENSOR, Constant.of(np.ones(1, value)))
    return Node([ints(data.draw(shapes))], some(data, {"value": made}))


def range_(data: st.DataObject, _: int) -> Node:
    numbers = [data.draw(st.integers(-9, 9)), data.draw(st.integers(-9, 9)), data.draw(st.sampled_from([1, 2, -1, -3]))]
    dtype = data.draw(st.sampled_from([np.int64, np.int32, np.float32]))
    return Node([np.array(n, dtype) for n in numbers], held=data.draw(st.booleans()))


CASES: Mapping[str, Case] = {
    "Relu": plain,
    "LeakyRelu": with_numbers("alpha"),
    "PRelu": prelu,
    "Clip": clip,
    "Sigmoid": plain,
    "HardSigmoid": with_numbers("alpha", "beta"),
    "HardSwish": plain,
    "Tanh": plain,
    "Erf": plain,
    "Softmax": softmax,
    "Sqrt": sqrt,
    "Exp": plain,
    "Abs": plain,
    "Neg": plain,
    "Floor": plain,
    "Ceil": plain,
    "Reciprocal": plain,
    "Log": sqrt,
    "Pow": power,
    "Add": binary,
    "Sub": binary,
    "Mul": binary,
    "Div": binary,
    "Sum": several,
    "Min": several,
    "Max": several,
    "ReduceMean": reduction(18),
    "ReduceSum": reduction(13),
    "Reshape": reshape,
    "Flatten": flatten,
    "Transpose": transpose,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Expand": expand,
    "Concat": concat,
    "Split": split,
    "Slice": slices,
    "Gather": gather,
    "Pad": pad,
    "Resize": resize,
    "Shape": shape,
    "ConstantOfShape": constant_of_shape,
    "Range": range_,
    "Cast": cast,
    "CastLike": cast_like,
    "Dropout": dropout,
    "Identity": plain,
}
