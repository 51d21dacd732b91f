"""Comparisons and truth values of every opset."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from hypothesis import strategies as st

from ops.cases import Case, Node, broadcastable, some, tensor


def comparison(floats_only_below: int, floats_from: int = 7) -> Case:
    """Two operands that are equal in places: floats from an opset on, integers from another on."""

    def case(data: st.DataObject, opset: int) -> Node:
        a, b = broadcastable(data, 2)
        whole = [np.round(v) for v in (a, b)]
        dtypes = [*([np.float32] if opset >= floats_from else []), *([np.int64] if opset >= floats_only_below else [])]
        dtype = data.draw(st.sampled_from(dtypes))
        return Node([v.astype(dtype) for v in whole], held=data.draw(st.booleans()))

    return case


def connective(data: st.DataObject, _: int) -> Node:
    return Node([v > 0 for v in broadcastable(data, 2)], held=data.draw(st.booleans()))


def negation(data: st.DataObject, _: int) -> Node:
    return Node([tensor(data) > 0])


def where(data: st.DataObject, _: int) -> Node:
    condition, x, y = broadcastable(data, 3)
    return Node([condition > 0, x, y], held=data.draw(st.booleans()))


def not_finite(data: st.DataObject, _: int) -> Node:
    x = tensor(data)
    x.ravel()[0] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    return Node([x])


def infinite(data: st.DataObject, opset: int) -> Node:
    signs = {"detect_negative": data.draw(st.integers(0, 1)), "detect_positive": data.draw(st.integers(0, 1))}
    return not_finite(data, opset)._replace(attributes=some(data, signs))


CASES: Mapping[str, Case] = {
    "Equal": comparison(7, floats_from=11),
    "Less": comparison(9),
    "Greater": comparison(9),
    "LessOrEqual": comparison(9),
    "GreaterOrEqual": comparison(9),
    "And": connective,
    "Or": connective,
    "Xor": connective,
    "Not": negation,
    "Where": where,
    "IsNaN": not_finite,
    "IsInf": infinite,
}
