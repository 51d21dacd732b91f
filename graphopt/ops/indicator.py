"""Zeros with some ones: OneHot and EyeLike."""

from __future__ import annotations

import numpy as np

from graphopt.errors import GraphError, TypeRuleError
from graphopt.ir.dims import Dim
from graphopt.ir.types import DType, TensorType, dtype_of_code
from graphopt.ops.axes import unknown_shape
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.expect import expect_number, expect_shape
from graphopt.ops.room import ANY, BOOL, NUMERIC, Fact, NoKernelError, Room, operand, operator, unknown_dim

__all__ = ["one_hot"]


@operator("OneHot", since=9)
class OneHot(Room):
    """values[1] where the place along a new axis of length `depth` is the index, else values[0]. ONNX OneHot-11.

    Indices from -depth on count from the end, in ONNX Runtime at opset 9 too; others are no place.
    """

    indices = operand(NUMERIC)
    depth = operand(NUMERIC)
    values = operand(ANY)
    axis: int = -1

    def infer(self, indices: Fact, depth: Fact, values: Fact) -> TensorType:
        expect_number("depth", depth)
        expect_shape("values", values, (2,))
        size = _depth(depth)
        if indices.type.shape is None:
            return TensorType(values.dtype, None)
        at = self._axis(indices.rank)
        return TensorType(values.dtype, (*indices.shape[:at], size, *indices.shape[at:]))

    def _axis(self, rank: int) -> int:
        if not -rank - 1 <= self.axis <= rank:
            raise TypeRuleError(f"axis {self.axis} is not one of a tensor of rank {rank + 1}")
        return self.axis % (rank + 1)

    def kernel(self, indices: np.ndarray, depth: np.ndarray, values: np.ndarray) -> np.ndarray:
        size = int(depth.reshape(()))
        if size < 1:
            raise TypeRuleError(f"a depth of {size} is none")
        if indices.dtype.kind not in "iu":
            if not (indices == np.trunc(indices)).all():
                raise NoKernelError("what indices mean that are no integers differs between runtimes")
            indices = np.clip(indices, -size - 1, size)
        elif indices.dtype.kind == "u":
            indices = np.minimum(indices, size)
        places = np.arange(size).reshape(-1, *(1,) * (indices.ndim - self._axis(indices.ndim)))
        index = np.expand_dims(indices.astype(np.int64), self._axis(indices.ndim))
        return np.where(np.where(index < 0, index + size, index) == places, values[1], values[0]).astype(values.dtype)


def _depth(depth: Fact) -> Dim:
    """The length of the new axis, where it is known.

    Raises:
        TypeRuleError: there is no such length.
    """
    known: object = depth.scalar
    if depth.elements is not None and depth.elements.size == 1:
        known = depth.elements.ravel()[0]
    if isinstance(known, float) and np.isfinite(known):
        known = int(known)
    if isinstance(known, float) or (isinstance(known, int) and known < 1):
        raise TypeRuleError(f"a depth of {known} is none")
    return unknown_dim() if known is None else known  # type: ignore[return-value]  # contents are dims


@operator("EyeLike", since=9)
class EyeLike(Room):
    """A matrix of x's shape: ones on diagonal k, zeros elsewhere. ONNX EyeLike-22."""

    x = operand(NUMERIC | BOOL)
    dtype: int | None = None
    k: int = 0
    type_only = frozenset({0})

    def _dtype(self, own: DType) -> DType:
        try:
            made = own if self.dtype is None else dtype_of_code(self.dtype)
        except GraphError as error:
            raise TypeRuleError(str(error)) from None
        if made.kind not in NUMERIC | BOOL:
            raise TypeRuleError(f"there is no identity matrix of {made}")
        return made

    def infer(self, x: Fact) -> TensorType:
        if x.type.shape is not None and x.rank != 2:
            raise TypeRuleError(f"{x.type} is no matrix")
        return TensorType(self._dtype(x.dtype), unknown_shape(2) if x.type.shape is None else x.shape)

    def kernel(self, x: np.ndarray) -> np.ndarray:
        rows, columns = x.shape
        diagonal = np.arange(columns) - np.arange(rows).reshape(-1, 1) == self.k
        return diagonal.astype(x.dtype if self.dtype is None else dtype_of_code(self.dtype).numpy)


def one_hot(indices: Like, depth: Like, values: Like, *, axis: int = -1) -> Operand:
    """values[1] at the index along a new axis, values[0] elsewhere."""
    return apply(OneHot(axis=axis), indices, depth, values)
