"""Picking elements: by index (GatherElements, GatherND), by condition (Compress, NonZero), each once (Unique)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from graphopt.errors import TypeRuleError
from graphopt.ir.constant import Constant
from graphopt.ir.dims import Dim, product
from graphopt.ir.types import Shape, TensorType, i64
from graphopt.ops.adapters import attribute_needs, counted_from_front
from graphopt.ops.axes import is_small, normalized
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.broadcast import fits
from graphopt.ops.expect import same_dim
from graphopt.ops.room import ANY, BOOL, INTEGER, Fact, NoKernelError, Room, Trait, operand, operator, unknown_dim

__all__ = ["compress", "gather_elements", "gather_nd", "nonzero"]


def within(indices: Fact, size: Dim, x: Fact) -> None:
    """Indices that are known lie within an axis of known size.

    Raises:
        TypeRuleError: one does not.
    """
    known = indices.integers
    if known is not None and isinstance(size, int) and not all(-size <= i < size for i in known):
        raise TypeRuleError(f"the indices {list(known)} are not all from -{size} to {size - 1}, as {x.type} asks")


def from_front(indices: np.ndarray, size: int | np.ndarray) -> np.ndarray:
    """Indices counted from the front, as int64.

    Raises:
        TypeRuleError: one is out of range.
    """
    index = indices.astype(np.int64)
    if not ((index >= -np.asarray(size)) & (index < size)).all():
        raise TypeRuleError(f"the indices, from {index.min()} to {index.max()}, are not all within {size}")
    return np.where(index < 0, index + size, index)


def tuples(indices: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Places of index tuples [..., k] in an array whose first k axes, of `shape`, are one."""
    place = np.zeros(indices.shape[:-1], np.int64)
    for i, size in enumerate(shape):
        place = place * size + from_front(indices[..., i], size)
    return place


class Indexing(Room):
    """A room whose operand 1 holds indices: shapes are computed with it where these are numbers."""

    def elements(self, *facts: Fact | None) -> np.ndarray | None:
        if any(f is None or f.elements is None for f in facts) or facts[1] is None or facts[1].integers is None:
            return None
        made = self.infer(*facts)
        if not isinstance(made, TensorType) or not made.is_static or not is_small(made.static_shape):
            return None
        result = self.kernel(*(None if f is None else f.elements for f in facts))
        return result if isinstance(result, np.ndarray) else None


@operator("GatherElements", since=11)
class GatherElements(Indexing):
    """result[i, j, k] = x[i, indices[i, j, k], k], for axis 1 of three. ONNX GatherElements-13.

    The indices may cover less of the other axes than x has.
    """

    x = operand(ANY)
    indices = operand(INTEGER)
    axis: int = 0
    traits = frozenset({Trait.MOVES, Trait.SHAPE_ARITHMETIC, Trait.PARTIAL})

    def infer(self, x: Fact, indices: Fact) -> TensorType:
        if x.type.shape is None or indices.type.shape is None:
            return TensorType(x.dtype, indices.type.shape)
        (axis,) = normalized([self.axis], x.rank)
        covered(x, indices, axis)
        within(indices, x.shape[axis], x)
        return TensorType(x.dtype, indices.shape)

    def kernel(self, x: np.ndarray, indices: np.ndarray) -> np.ndarray:
        axis = self.axis % x.ndim
        part = tuple(slice(None) if i == axis else slice(d) for i, d in enumerate(indices.shape))
        return np.take_along_axis(x[part], from_front(indices, x.shape[axis]), axis)


def covered(x: Fact, indices: Fact, axis: int) -> None:
    """Indices, one for each element of a part of x; along `axis` they may be as many as they like.

    Raises:
        TypeRuleError: they have another rank, or reach beyond x.
    """
    if indices.rank != x.rank:
        raise TypeRuleError(f"the indices {indices.type} have not the rank of {x.type}")
    for i, (count, size) in enumerate(zip(indices.shape, x.shape, strict=True)):
        if i != axis and isinstance(count, int) and isinstance(size, int) and count > size:
            raise TypeRuleError(f"the indices {indices.type} reach beyond axis {i} of {x.type}")


@operator("GatherND", since=11)
class GatherND(Indexing):
    """x[i, j, ...] for each tuple (i, j, ...) along the last axis of the indices, in each batch. ONNX GatherND-13."""

    x = operand(ANY)
    indices = operand(INTEGER)
    batch_dims: int = 0
    traits = frozenset({Trait.MOVES, Trait.SHAPE_ARITHMETIC, Trait.PARTIAL})
    adapters = (attribute_needs("GatherND", 12, "batch_dims", 0),)

    def infer(self, x: Fact, indices: Fact) -> TensorType:
        if x.type.shape is None or indices.type.shape is None:
            return TensorType(x.dtype, None)
        b = self.batch_dims
        if not 0 <= b < min(x.rank, indices.rank):
            raise TypeRuleError(f"{b} batch axes are not fewer than those of {x.type} and of {indices.type}")
        if not all(map(fits, x.shape[:b], indices.shape[:b])):
            raise TypeRuleError(f"the first {b} axes of {x.type} and of {indices.type} differ")
        length = indices.shape[-1]
        if not isinstance(length, int):
            return TensorType(x.dtype, None)
        if b + length > x.rank:
            raise TypeRuleError(f"tuples of {length} indices behind {b} batch axes are too long for {x.type}")
        if length == 1:
            within(indices, x.shape[b], x)
        batch = tuple(map(same_dim, indices.shape[:b], x.shape[:b]))
        return TensorType(x.dtype, (*batch, *indices.shape[b:-1], *x.shape[b + length :]))

    def kernel(self, x: np.ndarray, indices: np.ndarray) -> np.ndarray:
        b, length = self.batch_dims, indices.shape[-1]
        batches, inner, rest = math.prod(x.shape[:b]), x.shape[b : b + length], x.shape[b + length :]
        place = tuples(indices, inner).reshape(batches, math.prod(indices.shape[b:-1]))
        flat = x.reshape(batches, math.prod(inner), *rest)
        picked = flat[np.arange(batches).reshape(-1, 1), place]
        return np.asarray(picked, x.dtype).reshape((*indices.shape[:-1], *rest))


@operator("Compress", since=9)
class Compress(Room):
    """The slices along an axis (the elements of all, without one) where the condition holds. ONNX Compress-11.

    A condition may be shorter than the axis; what it says beyond the end does not count.
    """

    x = operand(ANY)
    condition = operand(BOOL)
    axis: int | None = None
    traits = frozenset({Trait.MOVES})
    adapters = (counted_from_front("Compress", 11, "axis"),)

    def infer(self, x: Fact, condition: Fact) -> TensorType:
        if condition.type.shape is not None and condition.rank != 1:
            raise TypeRuleError(f"the condition {condition.type} is not one for each slice")
        if self.axis is None:
            size = product(x.shape) if x.type.shape is not None else unknown_dim()
            return TensorType(x.dtype, (_kept(condition, size),))
        (axis,) = normalized([self.axis], x.rank)
        return TensorType(x.dtype, (*x.shape[:axis], _kept(condition, x.shape[axis]), *x.shape[axis + 1 :]))

    def kernel(self, x: np.ndarray, condition: np.ndarray) -> np.ndarray:
        axis, whole = (0, x.ravel()) if self.axis is None else (self.axis, x)
        return whole.take(np.flatnonzero(condition[: whole.shape[axis]]), axis)


def _kept(condition: Fact, size: Dim) -> Dim:
    known = condition.elements
    if known is None or not isinstance(size, int) or not all(isinstance(e, bool | np.bool_) for e in known):
        return unknown_dim()
    return int(np.count_nonzero(known[:size]))


@operator("NonZero", since=9)
class NonZero(Room):
    """The indices of all elements that are not zero, one column for each. ONNX NonZero-13.

    Of a scalar ONNX makes [0, n] and ONNX Runtime [1, n]: its result is left open.
    """

    x = operand(ANY)

    def infer(self, x: Fact) -> TensorType:
        rank = unknown_dim() if x.type.shape in (None, ()) else x.rank
        known = _data(x.constant)
        return TensorType(i64, (rank, unknown_dim() if known is None else int(np.count_nonzero(known))))

    def kernel(self, x: np.ndarray) -> np.ndarray:
        if x.ndim == 0:
            raise NoKernelError("what NonZero makes of a scalar differs between runtimes")
        if x.dtype.kind in "OSU":
            raise NoKernelError("NonZero of strings is not computed")
        return np.array(np.nonzero(x), np.int64)


def _data(constant: Constant | None) -> np.ndarray | None:
    """The contents of a constant that is small."""
    if constant is None or constant.is_absent or not is_small(constant.shape):
        return None
    return constant.array()


@operator("Unique", since=11)
class Unique(Room):
    """Different elements (or slices along an axis), ascending or (`sorted` 0) as met. ONNX Unique-11.

    Further results: where each was first met, which one each element is, and how often each was met.
    """

    x = operand(ANY)
    axis: int | None = None
    sorted: int = 1

    def infer(self, x: Fact) -> tuple[TensorType, ...]:
        found = unknown_dim()
        if self.axis is None:
            size: Dim = product(x.shape) if x.type.shape is not None else unknown_dim()
            shape: Shape | None = (found,)
        elif x.type.shape is None:
            size, shape = unknown_dim(), None
        else:
            (axis,) = normalized([self.axis], x.rank)
            size, shape = x.shape[axis], (*x.shape[:axis], found, *x.shape[axis + 1 :])
        return (
            TensorType(x.dtype, shape),
            TensorType(i64, (found,)),
            TensorType(i64, (size,)),
            TensorType(i64, (found,)),
        )

    def kernel(self, x: np.ndarray) -> tuple[np.ndarray, ...]:
        if x.dtype.kind in "fcV" and (x != x).any():  # noqa: PLR0124  # NaN
            raise NoKernelError("which numbers are different is not clear where some are NaN")
        axis, whole = (0, x.ravel()) if self.axis is None else (self.axis % x.ndim, x)
        if whole.ndim > 1 and (whole.dtype == object or whole.size == 0):
            raise NoKernelError(f"different slices of {x.dtype}{list(x.shape)} are not computed")
        values, first, inverse, counts = np.unique(
            whole, return_index=True, return_inverse=True, return_counts=True, axis=axis if whole.ndim > 1 else None
        )
        inverse = inverse.ravel()
        if not self.sorted:
            order = np.argsort(first)
            place = np.argsort(order)
            values, first, inverse, counts = values.take(order, axis), first[order], place[inverse], counts[order]
        return values, *(a.astype(np.int64, copy=False) for a in (first, inverse, counts))


def gather_elements(x: Like, indices: Like, *, axis: int = 0) -> Operand:
    """For each index the element of `x` at its place, but for `axis`, which the index says."""
    return apply(GatherElements(axis=axis), x, indices)


def gather_nd(x: Like, indices: Like, *, batch_dims: int = 0) -> Operand:
    """Elements or slices of `x` by tuples of indices."""
    return apply(GatherND(batch_dims=batch_dims), x, indices)


def compress(x: Like, condition: Like, *, axis: int | None = None) -> Operand:
    """The slices of `x` where the condition holds."""
    return apply(Compress(axis=axis), x, condition)


def nonzero(x: Like) -> Operand:
    """The indices of elements that are not zero."""
    return apply(NonZero(), x)
