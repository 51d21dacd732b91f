"""Nodes of circular and hyperbolic functions, Round, Sign and Det, of every opset."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from hypothesis import strategies as st

from ops.cases import Case, Node, normal, plain, tensor


def inside(data: st.DataObject, _: int) -> Node:
    return Node([np.clip(tensor(data), -0.9, 0.9)])


def above_one(data: st.DataObject, _: int) -> Node:
    return Node([np.abs(tensor(data)) + np.float32(1.5)])


def det(data: st.DataObject, _: int) -> Node:
    size = data.draw(st.integers(1, 3))
    return Node([normal(*data.draw(st.lists(st.integers(1, 3), max_size=2)), size, size)], ulps=4096)


CASES: Mapping[str, Case] = {
    "Acos": inside,
    "Acosh": above_one,
    "Asin": inside,
    "Asinh": plain,
    "Atan": plain,
    "Atanh": inside,
    "Cos": plain,
    "Cosh": plain,
    "Det": det,
    "Round": plain,
    "Sign": plain,
    "Sin": plain,
    "Sinh": plain,
    "Tan": inside,
}
