"""Nodes that rearrange elements, and Col2Im."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from hypothesis import strategies as st

from ops.cases import Case, Node, axes_of, ints, some, tensor
from ops.harness import normal


def tile(data: st.DataObject, _: int) -> Node:
    x = tensor(data)
    return Node([x, ints([data.draw(st.integers(0, 3)) for _ in x.shape])], held=data.draw(st.booleans()))


def depth_to_space(data: st.DataObject, opset: int) -> Node:
    n, c, h, w = (data.draw(st.integers(1, 3)) for _ in "nchw")
    b = data.draw(st.integers(1, 3))
    mode = {"mode": data.draw(st.sampled_from(["DCR", "CRD"]))}
    return Node([normal(n, c * b * b, h, w)], {"blocksize": b, **(some(data, mode) if opset >= 11 else {})})


def space_to_depth(data: st.DataObject, _: int) -> Node:
    n, c, h, w = (data.draw(st.integers(1, 3)) for _ in "nchw")
    b = data.draw(st.integers(1, 3))
    return Node([normal(n, c, h * b, w * b)], {"blocksize": b})


def reverse_sequence(data: st.DataObject, _: int) -> Node:
    x = normal(*data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=4)))
    batch = data.draw(st.integers(0, 1))
    lengths = [data.draw(st.integers(0, x.shape[1 - batch])) for _ in range(x.shape[batch])]
    attributes = {} if batch else {"batch_axis": 0, "time_axis": 1}
    return Node([x, ints(lengths)], attributes, held=data.draw(st.booleans()))


def trilu(data: st.DataObject, _: int) -> Node:
    x = normal(*data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=4)))
    x = x.astype(data.draw(st.sampled_from([np.float32, np.float64, np.int64, np.bool_])))
    k = np.array(data.draw(st.integers(-5, 5) | st.sampled_from([2**62, -(2**62)])))
    return Node([x, k] if data.draw(st.booleans()) else [x], some(data, {"upper": data.draw(st.integers(0, 1))}))


def center_crop_pad(data: st.DataObject, _: int) -> Node:
    x = tensor(data)
    axes = axes_of(data, x.ndim, negative=True) if data.draw(st.booleans()) else None
    sizes = [data.draw(st.integers(1, 6)) for _ in (axes or x.shape)]
    return Node([x, ints(sizes)], {} if axes is None else {"axes": axes}, held=data.draw(st.booleans()))


def col2im(data: st.DataObject, _: int) -> Node:
    rank = 2  # see test_rearrange

    def each(low: int, high: int) -> list[int]:
        return [data.draw(st.integers(low, high)) for _ in range(rank)]

    block, strides, dilations, pads = each(1, 3), each(1, 2), each(1, 2), each(0, 2) + each(0, 2)
    reach = [(k - 1) * d + 1 for k, d in zip(block, dilations, strict=True)]
    image = [max(r - pads[i] - pads[rank + i], 1) + data.draw(st.integers(0, 3)) for i, r in enumerate(reach)]
    fits = zip(image, reach, strides, pads[:rank], pads[rank:], strict=True)
    columns = np.prod([(n + b + a - r) // s + 1 for n, r, s, b, a in fits])
    x = normal(data.draw(st.integers(1, 2)), int(np.prod(block)) * data.draw(st.integers(1, 2)), int(columns))
    attributes = {"strides": strides, "dilations": dilations, "pads": pads}
    return Node([x, ints(image), ints(block)], attributes, held=data.draw(st.booleans()))


CASES: Mapping[str, Case] = {
    "Tile": tile,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
    "ReverseSequence": reverse_sequence,
    "Trilu": trilu,
    "CenterCropPad": center_crop_pad,
    "Col2Im": col2im,
}
