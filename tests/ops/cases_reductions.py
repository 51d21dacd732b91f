"""Reductions of every opset, axes as attribute and as operand."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from hypothesis import strategies as st

from ops.cases import Case, Node, reduction

_drawn = reduction(18)


def of_positive(data: st.DataObject, opset: int) -> Node:
    node = _drawn(data, opset)
    x, *axes = node.arrays
    assert x is not None
    return node._replace(arrays=[np.abs(x) + np.float32(0.1), *axes])


CASES: Mapping[str, Case] = {
    "ReduceMax": _drawn,
    "ReduceMin": _drawn,
    "ReduceProd": _drawn,
    "ReduceL1": _drawn,
    "ReduceL2": _drawn,
    "ReduceLogSum": of_positive,
    "ReduceLogSumExp": _drawn,
    "ReduceSumSquare": _drawn,
}
