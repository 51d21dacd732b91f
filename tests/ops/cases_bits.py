"""Nodes of Mod, Mean and the operators on bits, of every opset."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from hypothesis import strategies as st

from ops.cases import Case, Node, broadcastable, several, tensor


def mod(data: st.DataObject, opset: int) -> Node:
    a, b = broadcastable(data, 2)
    if data.draw(st.booleans()):
        return Node([a, b], {"fmod": 1}, held=data.draw(st.booleans()))
    a, b = (np.round(v * 8).astype(np.int64) for v in (a, b))
    return Node([a, np.where(b == 0, 3, b)], {"fmod": 0}, held=data.draw(st.booleans()))


def shift(data: st.DataObject, _: int) -> Node:
    a, b = (np.abs(np.round(v * 8)).astype(np.uint32) for v in broadcastable(data, 2))
    return Node([a, b], {"direction": data.draw(st.sampled_from(["LEFT", "RIGHT"]))}, held=data.draw(st.booleans()))


def bitwise(data: st.DataObject, _: int) -> Node:
    return Node([np.round(v * 8).astype(np.int32) for v in broadcastable(data, 2)], held=data.draw(st.booleans()))


def inverted(data: st.DataObject, _: int) -> Node:
    return Node([np.round(tensor(data) * 8).astype(np.int64)])


def bit_cast(data: st.DataObject, _: int) -> Node:
    whole = np.round(tensor(data) * 8).astype(np.int32)  # floats are computed in more bits here
    return Node([whole], {"to": data.draw(st.sampled_from([1, 12]))})


CASES: Mapping[str, Case] = {
    "Mod": mod,
    "Mean": several,
    "BitShift": shift,
    "BitwiseAnd": bitwise,
    "BitwiseOr": bitwise,
    "BitwiseXor": bitwise,
    "BitwiseNot": inverted,
    "BitCast": bit_cast,
}
