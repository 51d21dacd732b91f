"""Writing elements into a copy, by index: ScatterElements, ScatterND, TensorScatter."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from graphopt.errors import OpsetError, TypeRuleError
from graphopt.ir.constant import Constant
from graphopt.ir.types import TensorType
from graphopt.ops.adapters import attribute_needs, constant_of, integer_of, same, shape_of, with_operand
from graphopt.ops.axes import normalized
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.broadcast import fits
from graphopt.ops.expect import expect_one_of, expect_one_type, expect_shape
from graphopt.ops.indexing import Indexing, covered, from_front, tuples, within
from graphopt.ops.room import ANY, INTEGER, Adapter, Fact, NoKernelError, Room, Step, Trait, operand, operator
from graphopt.ops.single import in_single

__all__ = ["scatter_elements", "scatter_nd"]

_COMBINED: Mapping[str, np.ufunc] = MappingProxyType(
    {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}
)
_REDUCTIONS = ("none", *_COMBINED)
_TRAITS = frozenset({Trait.PARTIAL, Trait.SHAPE_ARITHMETIC})


def _put(y: np.ndarray, at: tuple[np.ndarray, ...] | np.ndarray, updates: np.ndarray, reduction: str) -> np.ndarray:
    """`y` with `updates` written or combined at places; of several for one place the last is written."""
    if reduction == "none":
        y[at] = updates
        return y
    if y.dtype == object:
        raise NoKernelError(f"{reduction} of strings or of dims is not computed")
    _COMBINED[reduction].at(y, at, updates)
    return y


def _adapters(name: str) -> tuple[Adapter, ...]:
    def below_18(step: Step) -> Step:
        reduction = step.attributes.get("reduction")
        if reduction is not None and reduction.value in ("max", "min"):
            raise OpsetError(f"{name} with reduction={reduction.value!s} needs opset 18")
        return step

    return attribute_needs(name, 16, "reduction", "none"), Adapter(18, same, below_18)


def _scatter_below_11(step: Step) -> Step:
    """The indices of Scatter are counted from the front, where they and the length are known."""
    indices, shape = constant_of(step, 1), shape_of(step)
    axis = integer_of(step, "axis", 0)
    size = shape[axis] if shape is not None and -len(shape) <= axis < len(shape) else None
    if indices is None or not isinstance(size, int) or (indices >= 0).all():
        return step
    return with_operand(step, 1, Constant.of(np.where(indices < 0, indices + size, indices).astype(indices.dtype)))


class _Reducing(Indexing):
    reduction: str

    def elements(self, *facts: Fact | None) -> np.ndarray | None:
        return super().elements(*facts) if self.reduction == "none" else None


@operator("ScatterElements", since=11)
class ScatterElements(_Reducing):
    """x, but [i, indices[i, j, k], k] is updates[i, j, k], for axis 1 of three. ONNX ScatterElements-18.

    A reduction combines what is there with each update. Without one no place may be named twice: ONNX does not say
    which update stays. Here, as in ONNX Runtime on the CPU, it is the last.
    """

    x = operand(ANY)
    indices = operand(INTEGER)
    updates = operand(ANY)
    axis: int = 0
    reduction: str = "none"
    traits = _TRAITS
    formerly = ("Scatter", 11)
    adapters = (Adapter(11, same, _scatter_below_11), *_adapters("ScatterElements"))

    def infer(self, x: Fact, indices: Fact, updates: Fact) -> TensorType:
        expect_one_of("reduction", self.reduction, _REDUCTIONS)
        expect_one_type(x=x, updates=updates)
        if indices.type.shape is not None:
            expect_shape("updates", updates, indices.shape)
        if x.type.shape is not None:
            (axis,) = normalized([self.axis], x.rank)
            if indices.type.shape is not None:
                covered(x, indices, axis)
            within(indices, x.shape[axis], x)
        return x.type

    @in_single
    def kernel(self, x: np.ndarray, indices: np.ndarray, updates: np.ndarray) -> np.ndarray:
        axis = self.axis % x.ndim
        places = [np.expand_dims(np.arange(d), _others(i, x.ndim)) for i, d in enumerate(indices.shape)]
        places[axis] = from_front(indices, x.shape[axis])
        return _put(x.copy(), tuple(np.broadcast_arrays(*places)), updates, self.reduction)


def _others(axis: int, rank: int) -> tuple[int, ...]:
    return tuple(i for i in range(rank) if i != axis)


@operator("ScatterND", since=11)
class ScatterND(_Reducing):
    """x, but x[i, j, ...] is an update for each tuple along the last axis of the indices. ONNX ScatterND-18.

    A reduction combines what is there with each update. Without one no place may be named twice: ONNX does not say
    which update stays. Here it is the last.
    """

    x = operand(ANY)
    indices = operand(INTEGER)
    updates = operand(ANY)
    reduction: str = "none"
    traits = _TRAITS
    adapters = _adapters("ScatterND")

    def infer(self, x: Fact, indices: Fact, updates: Fact) -> TensorType:
        expect_one_of("reduction", self.reduction, _REDUCTIONS)
        expect_one_type(x=x, updates=updates)
        if x.type.shape is None or indices.type.shape is None:
            return x.type
        if indices.rank == 0:
            raise TypeRuleError(f"the indices {indices.type} are no tuples")
        length = indices.shape[-1]
        if not isinstance(length, int):
            return x.type
        if length > x.rank:
            raise TypeRuleError(f"tuples of {length} indices are too long for {x.type}")
        expect_shape("updates", updates, (*indices.shape[:-1], *x.shape[length:]))
        if length == 1:
            within(indices, x.shape[0], x)
        return x.type

    @in_single
    def kernel(self, x: np.ndarray, indices: np.ndarray, updates: np.ndarray) -> np.ndarray:
        length = indices.shape[-1]
        inner, rest = x.shape[:length], x.shape[length:]
        place = tuples(indices, inner).ravel()
        y = x.copy().reshape(math.prod(inner), *rest)
        return _put(y, place, updates.reshape(place.size, *rest), self.reduction).reshape(x.shape)


@operator("TensorScatter", since=24)
class TensorScatter(Room):
    """A cache with an update written along an axis, from an index for each batch on. ONNX TensorScatter-24.

    In mode `circular` it goes on at the front.
    """

    past_cache = operand(ANY)
    update = operand(ANY)
    write_indices = operand(INTEGER, optional=True)
    axis: int = -2
    mode: str = "linear"
    traits = frozenset({Trait.PARTIAL})

    def infer(self, past_cache: Fact, update: Fact, write_indices: Fact | None = None) -> TensorType:
        expect_one_of("mode", self.mode, ("linear", "circular"))
        expect_one_type(past_cache=past_cache, update=update)
        if past_cache.type.shape is None:
            return past_cache.type
        (axis,) = normalized([self.axis], past_cache.rank)
        if axis == 0:
            raise TypeRuleError(f"axis {self.axis} of {past_cache.type} is that of the batch")
        if update.type.shape is not None:
            self._check_update(past_cache, update, axis)
        expect_shape("write_indices", write_indices, past_cache.shape[:1])
        return past_cache.type

    def _check_update(self, cache: Fact, update: Fact, axis: int) -> None:
        pairs = list(zip(cache.shape, update.shape, strict=False))
        if update.rank != cache.rank or not all(fits(c, u) for i, (c, u) in enumerate(pairs) if i != axis):
            raise TypeRuleError(f"the update {update.type} differs from {cache.type} beside axis {axis}")
        size, length = pairs[axis]
        if isinstance(size, int) and isinstance(length, int) and length > size:
            raise TypeRuleError(f"the update {update.type} is longer than {cache.type} along axis {axis}")

    def kernel(self, past_cache: np.ndarray, update: np.ndarray, write_indices: np.ndarray | None = None) -> np.ndarray:
        axis = self.axis % past_cache.ndim
        batches, size, length = past_cache.shape[0], past_cache.shape[axis], update.shape[axis]
        start = np.zeros(batches, np.int64) if write_indices is None else write_indices.astype(np.int64)
        last = size - (length if self.mode == "linear" else 1)
        if batches and length and (start.min() < 0 or (start.max() > last and self.mode == "linear")):
            raise TypeRuleError(f"updates of {length} elements from {start.tolist()} on do not fit into {size}")
        places = start.reshape(-1, 1) + np.arange(length)
        y = past_cache.copy()
        batch = np.arange(batches).reshape(-1, 1)
        np.moveaxis(y, axis, 1)[batch, places % max(size, 1)] = np.moveaxis(update, axis, 1)
        return y


def scatter_elements(x: Like, indices: Like, updates: Like, *, axis: int = 0, reduction: str = "none") -> Operand:
    """`x` with each update at its place, but for `axis`, which its index says."""
    return apply(ScatterElements(axis=axis, reduction=reduction), x, indices, updates)


def scatter_nd(x: Like, indices: Like, updates: Like, *, reduction: str = "none") -> Operand:
    """`x` with updates at tuples of indices."""
    return apply(ScatterND(reduction=reduction), x, indices, updates)
