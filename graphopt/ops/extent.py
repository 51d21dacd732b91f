"""Size: how many elements a tensor has."""

from __future__ import annotations

import numpy as np

from graphopt.ir.dims import product
from graphopt.ir.types import TensorType, i64
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.room import ANY, Fact, Room, operand, operator

__all__ = ["size"]

_MOST = 2**63 - 1  # what an int64 holds


@operator("Size", since=1)
class Size(Room):
    """The number of elements, the product of the dims, as int64. ONNX Size-25."""

    x = operand(ANY)
    type_only = frozenset({0})

    def infer(self, x: Fact) -> TensorType:
        return TensorType(i64, ())

    def elements(self, *facts: Fact | None) -> np.ndarray | None:
        x = facts[0]
        if x is None or x.type.shape is None:
            return None
        count = product(x.shape)
        if isinstance(count, int) and count > _MOST:
            return None
        found = np.empty((), object)
        found[()] = count
        return found

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x.size, np.int64)


def size(x: Like) -> Operand:
    """The number of elements."""
    return apply(Size(), x)
