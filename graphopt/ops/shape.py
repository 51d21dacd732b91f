"""Shapes and types: Shape, Reshape, Flatten, Squeeze, Unsqueeze, Expand, Identity, Cast, CastLike."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from graphopt.errors import GraphError, TypeRuleError
from graphopt.ir.dims import Dim, floor_div, product
from graphopt.ir.types import DType, TensorType, dtype_of, dtype_of_code, i64
from graphopt.ops.adapters import attribute_needs, became_operands, counted_from_front
from graphopt.ops.axes import is_small, keeps_shape, length_of, listed, normalized, shape_from, unknown_shape
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.broadcast import broadcast
from graphopt.ops.convert import convert
from graphopt.ops.room import (
    ANY,
    INTEGER,
    Fact,
    NoKernelError,
    Room,
    Trait,
    operand,
    operator,
    unknown_dim,
)

__all__ = ["cast", "cast_like", "expand", "flatten", "identity", "reshape", "shape", "squeeze", "unsqueeze"]

_MOVES = frozenset({Trait.MOVES, Trait.SHAPE_ARITHMETIC})


class Reshaping(Room):
    """A room whose result has the first operand's elements in the same order, so the same shape means the same."""

    def forwards(self, *facts: Fact | None) -> int | None:
        return 0 if keeps_shape(self, facts) else None


@operator("Shape", since=1)
class Shape(Room):
    """The dims from `start` to `end` as int64. ONNX Shape-25."""

    x = operand(ANY)
    start: int = 0
    end: int | None = None
    type_only = frozenset({0})
    adapters = (attribute_needs("Shape", 15, "start", 0), attribute_needs("Shape", 15, "end", None))

    def _dims(self, shape: Sequence[Dim]) -> Sequence[Dim]:
        return shape[self.start : self.end]  # beyond the range it is cut, as in Python

    def infer(self, x: Fact) -> TensorType:
        return TensorType(i64, (unknown_dim() if x.type.shape is None else len(self._dims(x.shape)),))

    def elements(self, *facts: Fact | None) -> np.ndarray | None:
        x = facts[0]
        if x is None or x.type.shape is None:
            return None
        dims = self._dims(x.shape)
        found = np.empty(len(dims), object)
        found[:] = dims
        return found

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(self._dims(x.shape), np.int64)


@operator("Reshape", since=5)
class Reshape(Reshaping):
    """The same elements in another shape; 0 keeps a dim (unless allowzero), -1 is what is left. ONNX Reshape-25."""

    x = operand(ANY)
    target = operand(INTEGER)
    allowzero: int = 0
    traits = _MOVES
    adapters = (attribute_needs("Reshape", 14, "allowzero", 0),)

    def infer(self, x: Fact, target: Fact) -> TensorType:
        wanted = listed(target)
        if wanted is None:
            return TensorType(x.dtype, unknown_shape(length_of(target)))
        self._check(wanted, x)
        dims: list[Dim | None] = [None if d == -1 else self._kept(d, i, x) for i, d in enumerate(wanted)]
        known = [d for d in dims if d is not None]
        if x.type.shape is None:
            rest: Dim = unknown_dim()
        elif len(known) < len(dims):
            rest = _quotient(x.shape, known)
        else:
            rest = 0
            total, made = product(x.shape), product(known)
            if isinstance(total, int) and isinstance(made, int) and total != made:
                raise TypeRuleError(f"{x.type} has {total} elements, and the target {wanted} has {made}")
        return TensorType(x.dtype, tuple(rest if d is None else d for d in dims))

    def _check(self, wanted: Sequence[Dim], x: Fact) -> None:
        if wanted.count(-1) > 1 or any(isinstance(d, int) and d < -1 for d in wanted):
            raise TypeRuleError(f"the target {list(wanted)} of {x.type} is not a shape with one open dim at most")
        if self.allowzero and 0 in wanted and -1 in wanted:
            raise TypeRuleError(f"the target {list(wanted)} has an open dim beside a dim of 0")

    def _kept(self, dim: Dim, axis: int, x: Fact) -> Dim:
        if dim != 0 or self.allowzero:
            return dim
        if x.type.shape is None:
            return unknown_dim()
        if axis >= x.rank:
            raise TypeRuleError(f"the target keeps axis {axis}, and the input is {x.type}")
        return x.shape[axis]

    def elements(self, *facts: Fact | None) -> np.ndarray | None:
        x = facts[0]
        if x is None or x.elements is None:
            return None
        result = self.infer(*facts)  # type: ignore[arg-type]  # both operands are required
        small = result.is_static and is_small(result.static_shape)
        return x.elements.reshape(result.static_shape) if small else None

    def kernel(self, x: np.ndarray, target: np.ndarray) -> np.ndarray:
        wanted = [int(d) for d in target.ravel()]
        if not self.allowzero:
            wanted = [x.shape[i] if d == 0 else d for i, d in enumerate(wanted)]
        return x.reshape(wanted)


def _quotient(whole: Sequence[Dim], parts: Sequence[Dim]) -> Dim:
    """What is left of a product of dims; equal dims cancel, so that N * 3 * 4 over N is 12.

    Raises:
        TypeRuleError: the parts do not divide the whole.
    """
    left, right = list(whole), []
    for part in parts:
        if part in left and part != 0:
            left.remove(part)
        else:
            right.append(part)
    above, below = product(left), product(right)
    undivided = isinstance(above, int) and isinstance(below, int) and below != 0 and above % below
    if below == 0 or undivided:
        raise TypeRuleError(f"{product(whole)} elements do not divide into {product(parts)}")
    if above == 0:
        return 0
    quotient = floor_div(above, below)
    return quotient if quotient * below == above else unknown_dim()


@operator("Flatten", since=1)
class Flatten(Reshaping):
    """The axes before `axis` as one and the others as one. ONNX Flatten-25."""

    x = operand(ANY)
    axis: int = 1
    traits = frozenset({Trait.MOVES})
    adapters = (counted_from_front("Flatten", 11, "axis"),)

    def infer(self, x: Fact) -> TensorType:
        if not -x.rank <= self.axis <= x.rank:
            raise TypeRuleError(f"axis {self.axis} is not one of {x.type}")
        at = self.axis + x.rank if self.axis < 0 else self.axis
        return TensorType(x.dtype, (product(x.shape[:at]), product(x.shape[at:])))

    def kernel(self, x: np.ndarray) -> np.ndarray:
        at = self.axis + x.ndim if self.axis < 0 else self.axis
        return x.reshape(math.prod(x.shape[:at]), math.prod(x.shape[at:]))


@operator("Squeeze", since=1)
class Squeeze(Reshaping):
    """Without the axes given, which have length 1; without all such axes when none is. ONNX Squeeze-25.

    An empty list of axes is read as none by some and as all by others: its result is left open.
    """

    x = operand(ANY)
    axes = operand(INTEGER, optional=True)
    traits = _MOVES
    adapters = (counted_from_front("Squeeze", 11, "axes"), became_operands("Squeeze", 13, {"axes": 1}))

    def infer(self, x: Fact, axes: Fact | None = None) -> TensorType:
        if axes is None:
            if not all(isinstance(d, int) for d in x.shape):
                return TensorType(x.dtype, None)
            return TensorType(x.dtype, tuple(d for d in x.shape if d != 1))
        if not axes.integers:
            return TensorType(x.dtype, None)
        gone = normalized(axes.integers, x.rank)
        for a in gone:
            if isinstance(x.shape[a], int) and x.shape[a] != 1:
                raise TypeRuleError(f"axis {a} of {x.type} is not of length 1")
        return TensorType(x.dtype, tuple(d for i, d in enumerate(x.shape) if i not in gone))

    def elements(self, *facts: Fact | None) -> np.ndarray | None:
        x, axes = facts[0], facts[1] if len(facts) > 1 else None
        if x is None or x.elements is None:
            return None
        if axes is None:
            return self.kernel(x.elements)
        return self.kernel(x.elements, np.asarray(axes.integers)) if axes.integers else None

    def kernel(self, x: np.ndarray, axes: np.ndarray | None = None) -> np.ndarray:
        if axes is not None and axes.size == 0:
            raise NoKernelError("what Squeeze does with an empty list of axes differs between runtimes")
        return np.squeeze(x, None if axes is None else tuple(int(a) for a in axes.ravel()))


@operator("Unsqueeze", since=1)
class Unsqueeze(Reshaping):
    """With axes of length 1 where they stand in the result. ONNX Unsqueeze-25."""

    x = operand(ANY)
    axes = operand(INTEGER)
    traits = _MOVES
    adapters = (
        counted_from_front("Unsqueeze", 11, "axes", inserted=True),
        became_operands("Unsqueeze", 13, {"axes": 1}),
    )

    def infer(self, x: Fact, axes: Fact) -> TensorType:
        if axes.integers is None:
            count = length_of(axes)
            return TensorType(x.dtype, unknown_shape(None if count is None else x.rank + count))
        rank = x.rank + len(axes.integers)
        places = normalized(axes.integers, rank)
        rest = iter(x.shape)
        return TensorType(x.dtype, tuple(1 if i in places else next(rest) for i in range(rank)))

    def elements(self, *facts: Fact | None) -> np.ndarray | None:
        x, axes = facts[0], facts[1]
        if x is None or x.elements is None or axes is None or axes.integers is None:
            return None
        return self.kernel(x.elements, np.asarray(axes.integers))

    def kernel(self, x: np.ndarray, axes: np.ndarray) -> np.ndarray:
        return np.expand_dims(x, tuple(int(a) for a in axes.ravel()))


@operator("Expand", since=8)
class Expand(Room):
    """`x` broadcast to a shape (both ways: where the shape has 1, x's dim stays). ONNX Expand-13."""

    x = operand(ANY)
    target = operand(INTEGER)
    traits = _MOVES

    def infer(self, x: Fact, target: Fact) -> TensorType:
        wanted = shape_from(target)
        return TensorType(x.dtype, None if wanted is None else broadcast(x.shape, wanted))

    def elements(self, *facts: Fact | None) -> np.ndarray | None:
        x, target = facts[0], facts[1]
        if x is None or x.elements is None or target is None or target.integers is None:
            return None
        made = self.infer(x, target)
        return self.kernel(x.elements, np.asarray(target.integers)) if is_small(made.static_shape) else None

    def forwards(self, *facts: Fact | None) -> int | None:
        return 0 if keeps_shape(self, facts) else None

    def kernel(self, x: np.ndarray, target: np.ndarray) -> np.ndarray:
        return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(int(d) for d in target.ravel())))


@operator("Identity", since=1)
class Identity(Room):
    """x. ONNX Identity-25."""

    x = operand(ANY)
    traits = _MOVES

    def infer(self, x: Fact) -> TensorType:
        return x.type

    def forwards(self, *facts: Fact | None) -> int | None:
        return 0

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return x


@operator("Cast", since=1)
class Cast(Room):
    """x in the element type with number `to`. ONNX Cast-25."""

    x = operand(ANY)
    to: int
    saturate: int = 1
    round_mode: str = "up"
    traits = frozenset({Trait.ELEMENTWISE, Trait.SHAPE_ARITHMETIC})
    adapters = (
        attribute_needs("Cast", 19, "saturate", 1),
        attribute_needs("Cast", 24, "round_mode", "up"),
    )

    @property
    def dtype(self) -> DType:
        """The target type."""
        return dtype_of_code(self.to)

    def infer(self, x: Fact) -> TensorType:
        try:
            return TensorType(self.dtype, x.type.shape)
        except GraphError as error:
            raise TypeRuleError(str(error)) from None

    def elements(self, *facts: Fact | None) -> np.ndarray | None:
        x = facts[0]
        if x is None or x.elements is None or not self.dtype.is_integer:
            return None
        try:
            return self.kernel(x.elements)
        except NoKernelError:  # a symbol in a type that may be too narrow for it
            return None

    def forwards(self, *facts: Fact | None) -> int | None:
        x = facts[0]
        return 0 if x is not None and x.dtype.code == self.to else None

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return convert(x, self.dtype, saturate=bool(self.saturate))


@operator("CastLike", since=15)
class CastLike(Room):
    """x in the element type of another tensor. ONNX CastLike-25."""

    x = operand(ANY)
    like = operand(ANY)
    saturate: int = 1
    round_mode: str = "up"
    type_only = frozenset({1})
    adapters = (
        attribute_needs("CastLike", 19, "saturate", 1),
        attribute_needs("CastLike", 24, "round_mode", "up"),
    )

    def infer(self, x: Fact, like: Fact) -> TensorType:
        return TensorType(like.dtype, x.type.shape)

    def forwards(self, *facts: Fact | None) -> int | None:
        x, like = facts[0], facts[1]
        return 0 if x is not None and like is not None and x.dtype == like.dtype else None

    def kernel(self, x: np.ndarray, like: np.ndarray) -> np.ndarray:
        return convert(x, dtype_of(like.dtype), saturate=bool(self.saturate))


def shape(x: Like, *, start: int = 0, end: int | None = None) -> Operand:
    """The dims from `start` to `end` as int64."""
    return apply(Shape(start=start, end=end), x)


def reshape(x: Like, target: Like | Sequence[int]) -> Operand:
    """The same elements in another shape; 0 keeps a dim, -1 is what is left."""
    return apply(Reshape(), x, _numbers(target))


def flatten(x: Like, *, axis: int = 1) -> Operand:
    """The axes before `axis` as one and the others as one."""
    return apply(Flatten(axis=axis), x)


def squeeze(x: Like, axes: Like | Sequence[int] | None = None) -> Operand:
    """Without axes of length 1: those given, or all."""
    return apply(Squeeze(), x, None if axes is None else _numbers(axes))


def unsqueeze(x: Like, axes: Like | Sequence[int]) -> Operand:
    """With axes of length 1 where they stand in the result."""
    return apply(Unsqueeze(), x, _numbers(axes))


def expand(x: Like, target: Like | Sequence[int]) -> Operand:
    """`x` broadcast to a shape."""
    return apply(Expand(), x, _numbers(target))


def identity(x: Like) -> Operand:
    """`x`."""
    return apply(Identity(), x)


def cast(x: Like, dtype: DType, *, saturate: bool = True) -> Operand:
    """`x` in another element type; `saturate` matters for float8 only."""
    return apply(Cast(to=dtype.code, saturate=int(saturate)), x)


def cast_like(x: Like, like: Like) -> Operand:
    """`x` in the element type of another tensor."""
    return apply(CastLike(), x, like)


def _numbers(numbers: Like | Sequence[int]) -> Like:
    return np.asarray(numbers, np.int64) if isinstance(numbers, list | tuple) else numbers
