"""Nodes of ArgMax, ArgMin, TopK, CumSum and CumProd of every opset."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from hypothesis import strategies as st

from ops.cases import Case, Node, axis_of, ints, some, tensor


def arg(data: st.DataObject, opset: int) -> Node:
    x = np.round(tensor(data))
    drawn = {"axis": axis_of(data, x.ndim, negative=opset >= 11), "keepdims": data.draw(st.integers(0, 1))}
    last = {"select_last_index": data.draw(st.integers(0, 1))} if opset >= 12 else {}
    return Node([x], some(data, {**drawn, **last}))


def top_k(data: st.DataObject, opset: int) -> Node:
    x = np.round(tensor(data) * 4)
    axis = axis_of(data, x.ndim, negative=True)
    attributes = {"axis": axis} if axis != -1 or data.draw(st.booleans()) else {}
    k = data.draw(st.integers(1, x.shape[axis]))
    if opset < 10:
        return Node([x], {**attributes, "k": k}, 2)
    more = some(data, {"largest": data.draw(st.integers(0, 1)), "sorted": 1}) if opset >= 11 else {}
    return Node([x, ints([k])], {**attributes, **more}, 2, held=data.draw(st.booleans()) and opset > 10)


def cumulative(data: st.DataObject, _: int) -> Node:
    x = tensor(data)
    axis = np.array(axis_of(data, x.ndim, negative=True), data.draw(st.sampled_from([np.int32, np.int64])))
    drawn = {"exclusive": data.draw(st.integers(0, 1)), "reverse": data.draw(st.integers(0, 1))}
    return Node([x, axis], some(data, drawn), held=data.draw(st.booleans()))


CASES: Mapping[str, Case] = {
    "ArgMax": arg,
    "ArgMin": arg,
    "TopK": top_k,
    "CumSum": cumulative,
    "CumProd": cumulative,
}
