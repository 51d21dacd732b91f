"""Along one axis: which elements are the largest (ArgMax, ArgMin, TopK), and running totals (CumSum, CumProd)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from graphopt.errors import OpsetError, TypeRuleError
from graphopt.ir.attributes import Attribute, Kind
from graphopt.ir.constant import Constant
from graphopt.ir.dims import Dim
from graphopt.ir.types import Shape, TensorType, i64
from graphopt.ops.adapters import (
    attribute_needs,
    constant_of,
    counted_from_front,
    integer_of,
    with_operand,
    without,
)
from graphopt.ops.axes import listed, normalized
from graphopt.ops.bind import Like, Operand, apply, apply_all
from graphopt.ops.room import (
    INTEGER,
    NUMERIC,
    Adapter,
    Fact,
    NoKernelError,
    Room,
    Step,
    Trait,
    operand,
    operator,
    unknown_dim,
)
from graphopt.ops.single import in_single

__all__ = ["arg_max", "arg_min", "cum_sum", "top_k"]


def _without_nan(op: Room, x: np.ndarray) -> None:
    if x.dtype.kind not in "iu" and np.isnan(x).any():
        raise NoKernelError(f"where {op.name} puts what is not a number differs between runtimes")


class _ArgExtreme(Room):
    """The index of an extreme element along an axis; of equal ones the first, or the last."""

    axis: int
    keepdims: int
    select_last_index: int

    def infer(self, x: Fact) -> TensorType:
        if x.type.shape is None:
            return TensorType(i64, None)
        (axis,) = normalized([self.axis], x.rank)
        if x.shape[axis] == 0:
            raise TypeRuleError(f"axis {axis} of {x.type} has no elements to choose from")
        kept: Shape = (1,) if self.keepdims else ()
        return TensorType(i64, (*x.shape[:axis], *kept, *x.shape[axis + 1 :]))

    def _index(self, x: np.ndarray, *, largest: bool) -> np.ndarray:
        _without_nan(self, x)
        if x.shape[self.axis] == 0:
            raise NoKernelError(f"axis {self.axis} of {list(x.shape)} has no elements to choose from")
        seen = np.flip(x, self.axis) if self.select_last_index else x
        pick = np.argmax if largest else np.argmin
        index = pick(seen, axis=self.axis, keepdims=bool(self.keepdims))
        return np.asarray(x.shape[self.axis] - 1 - index if self.select_last_index else index, np.int64)


@operator("ArgMax", since=1)
class ArgMax(_ArgExtreme):
    """The index of the largest element along an axis. ONNX ArgMax-13."""

    x = operand(NUMERIC)
    axis: int = 0
    keepdims: int = 1
    select_last_index: int = 0
    adapters = (counted_from_front("ArgMax", 11, "axis"), attribute_needs("ArgMax", 12, "select_last_index", 0))

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return self._index(x, largest=True)


@operator("ArgMin", since=1)
class ArgMin(_ArgExtreme):
    """The index of the smallest element along an axis. ONNX ArgMin-13."""

    x = operand(NUMERIC)
    axis: int = 0
    keepdims: int = 1
    select_last_index: int = 0
    adapters = (counted_from_front("ArgMin", 11, "axis"), attribute_needs("ArgMin", 12, "select_last_index", 0))

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return self._index(x, largest=False)


def _top_k_to_10(step: Step) -> Step:
    """The number became an operand, a list of one."""
    if "k" not in step.attributes:
        return step
    count = Constant.of(np.asarray([integer_of(step, "k", 0)], np.int64))
    return replace(with_operand(step, 1, count), attributes=without(step, "k"))


def _top_k_below_10(step: Step) -> Step:
    array = constant_of(step, 1)
    if array is None or array.size != 1:
        raise OpsetError("TopK with a computed k needs opset 10")
    if array.item() < 1:
        raise OpsetError(f"TopK of {array.item()} elements needs opset 10")
    attributes = {**step.attributes, "k": Attribute(Kind.INT, int(array.item()))}
    return replace(with_operand(step, 1, None), attributes=attributes)


@operator("TopK", since=1)
class TopK(Room):
    """The k largest (or smallest) elements along an axis, and their indices; of equal ones the first. ONNX TopK-24.

    The order is not defined with sorted=0.
    """

    x = operand(NUMERIC)
    k = operand(INTEGER)
    axis: int = -1
    largest: int = 1
    sorted: int = 1
    traits = frozenset({Trait.PARTIAL})
    adapters = (
        Adapter(10, _top_k_to_10, _top_k_below_10),
        attribute_needs("TopK", 11, "largest", 1),
        attribute_needs("TopK", 11, "sorted", 1),
    )

    def infer(self, x: Fact, k: Fact) -> tuple[TensorType, ...]:
        shape = k.type.shape
        if shape is not None and (len(shape) != 1 or (isinstance(shape[0], int) and shape[0] != 1)):
            raise TypeRuleError(f"the number k is a list of one, and not {k.type}")
        if x.type.shape is None:
            return TensorType(x.dtype, None), TensorType(i64, None)
        (axis,) = normalized([self.axis], x.rank)
        dims = (*x.shape[:axis], _count(x, axis, k), *x.shape[axis + 1 :])
        return TensorType(x.dtype, dims), TensorType(i64, dims)

    def kernel(self, x: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, ...]:
        count, length = int(k.reshape(()).item()), x.shape[self.axis]
        if not 0 <= count <= length:
            raise NoKernelError(f"there are no {count} of {length} elements")
        if not self.sorted and count > 1:
            raise NoKernelError("the order of TopK with sorted=0 is not defined")
        _without_nan(self, x)
        if self.largest:  # backwards, so that the first of equal ones comes last and, turned around, first
            turned = np.argsort(np.flip(x, self.axis), axis=self.axis, kind="stable")
            order = length - 1 - np.flip(turned, self.axis)
        else:
            order = np.argsort(x, axis=self.axis, kind="stable")
        index = np.take(order, range(count), axis=self.axis).astype(np.int64)
        return np.take_along_axis(x, index, self.axis), index


def _count(x: Fact, axis: int, k: Fact) -> Dim:
    """How many elements are taken.

    Raises:
        TypeRuleError: more than there are, or less than none.
    """
    known = listed(k)
    if known is None or len(known) != 1:
        return unknown_dim()
    count, length = known[0], x.shape[axis]
    if isinstance(count, int) and (count < 0 or (isinstance(length, int) and count > length)):
        raise TypeRuleError(f"there are no {count} elements along axis {axis} of {x.type}")
    return count


class _Cumulative(Room):
    """Running totals along an axis, which is an operand."""

    reverse: int
    exclusive: int

    def infer(self, x: Fact, axis: Fact) -> TensorType:
        if axis.type.shape not in (None, (), (1,)) and all(isinstance(d, int) for d in axis.type.shape or ()):
            raise TypeRuleError(f"the axis is one number, and not {axis.type}")
        if x.type.shape is not None:
            if not x.rank:
                raise TypeRuleError(f"{x.type} has no axes to run along")
            if axis.integers is not None:
                normalized(axis.integers, x.rank)
        return x.type

    def _run(self, x: np.ndarray, axis: np.ndarray, step: np.ufunc) -> np.ndarray:
        at = int(axis.reshape(()).item())
        if not -x.ndim <= at < x.ndim:
            raise NoKernelError(f"{at} is no axis of a tensor of rank {x.ndim}")
        seen = np.flip(x, at) if self.reverse else x
        total = step.accumulate(seen, axis=at, dtype=x.dtype)
        if self.exclusive:
            first = np.full_like(x, step.identity, shape=(*x.shape[:at], 1, *x.shape[at:][1:]))
            total = np.take(np.concatenate([first, total], axis=at), range(x.shape[at]), axis=at)
        return np.asarray(np.flip(total, at) if self.reverse else total)


@operator("CumSum", since=11)
class CumSum(_Cumulative):
    """The sum of all elements up to each one along an axis, or from each one on; integers wrap. ONNX CumSum-14."""

    x = operand(NUMERIC)
    axis = operand(INTEGER)
    exclusive: int = 0
    reverse: int = 0
    traits = frozenset({Trait.PARTIAL})

    @in_single
    def kernel(self, x: np.ndarray, axis: np.ndarray) -> np.ndarray:
        return self._run(x, axis, np.add)


@operator("CumProd", since=26)
class CumProd(_Cumulative):
    """The product of all elements up to each one along an axis, or from each one on; integers wrap. ONNX CumProd-26."""

    x = operand(NUMERIC)
    axis = operand(INTEGER)
    exclusive: int = 0
    reverse: int = 0
    traits = frozenset({Trait.PARTIAL})

    @in_single
    def kernel(self, x: np.ndarray, axis: np.ndarray) -> np.ndarray:
        return self._run(x, axis, np.multiply)


def arg_max(x: Like, *, axis: int = 0, keepdims: bool = True) -> Operand:
    """The index of the largest element along an axis."""
    return apply(ArgMax(axis=axis, keepdims=int(keepdims)), x)


def arg_min(x: Like, *, axis: int = 0, keepdims: bool = True) -> Operand:
    """The index of the smallest element along an axis."""
    return apply(ArgMin(axis=axis, keepdims=int(keepdims)), x)


def top_k(x: Like, k: int | Operand, *, axis: int = -1, largest: bool = True) -> tuple[Operand, ...]:
    """The `k` largest (or smallest) elements along an axis in order, and their indices."""
    count = np.asarray([k], np.int64) if isinstance(k, int) else k
    return apply_all(TopK(axis=axis, largest=int(largest)), x, count, results=2)


def cum_sum(x: Like, axis: int, *, exclusive: bool = False, reverse: bool = False) -> Operand:
    """Running sums along an axis, without each element itself where `exclusive`, from the end where `reverse`."""
    return apply(CumSum(exclusive=int(exclusive), reverse=int(reverse)), x, np.asarray(axis, np.int64))
