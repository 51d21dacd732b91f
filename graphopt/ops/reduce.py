"""Reductions over axes, and the two common ones: ReduceMean and ReduceSum."""

from __future__ import annotations

import numpy as np

from graphopt.errors import TypeRuleError
from graphopt.ir.types import TensorType
from graphopt.ops.adapters import attribute_needs, became_operands, counted_from_front
from graphopt.ops.axes import length_of, unknown_shape
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.room import INTEGER, NUMERIC, Adapter, Fact, NoKernelError, Room, operand, operator

__all__ = ["reduce_mean", "reduce_sum"]

EXACT = 2**53  # integers below this are exact in float64


def axes_became_operand(name: str, version: int) -> tuple[Adapter, ...]:
    """The axes became an operand in `version`, and could be negative from 11 on."""
    return (
        counted_from_front(name, 11, "axes"),
        attribute_needs(name, version, "noop_with_empty_axes", 0),
        became_operands(name, version, {"axes": 1}),
    )


class Reduction(Room):
    """Over the axes given; over all when none is (or over none, with noop_with_empty_axes)."""

    keepdims: int
    noop_with_empty_axes: int

    def infer(self, x: Fact, axes: Fact | None = None) -> TensorType:
        chosen = self._chosen(x.rank, () if axes is None else axes.integers)
        if chosen is not None:
            kept = [1 if i in chosen else d for i, d in enumerate(x.shape) if self.keepdims or i not in chosen]
            return TensorType(x.dtype, tuple(kept))
        if self.keepdims:
            return TensorType(x.dtype, unknown_shape(x.rank))
        is_one = axes is not None and length_of(axes) == 1 and x.rank > 0  # more may name an axis twice
        return TensorType(x.dtype, unknown_shape(x.rank - 1) if is_one else None)

    def _chosen(self, rank: int, axes: tuple[int, ...] | None) -> set[int] | None:
        if axes is None:
            return None
        if not axes:
            return set() if self.noop_with_empty_axes else set(range(rank))
        if any(not -rank <= a < rank for a in axes):
            raise TypeRuleError(f"axes {list(axes)} are not all axes of a tensor of rank {rank}")
        return {a % rank for a in axes}

    def _axes(self, x: np.ndarray, axes: np.ndarray | None) -> tuple[int, ...]:
        chosen = self._chosen(x.ndim, () if axes is None else tuple(int(a) for a in axes.ravel()))
        return tuple(sorted(chosen or ()))

    def _wide(self, x: np.ndarray) -> np.ndarray:
        """What is summed: in float64 for integers, as runtimes do, and in float32 at least for floats.

        Raises:
            NoKernelError: integers so large that their sum is rounded.
        """
        if x.dtype.kind not in "iu":
            return x.astype(np.result_type(x.dtype, np.float32), copy=False)
        wide = x.astype(np.float64)
        if np.abs(wide).sum() >= EXACT:
            raise NoKernelError(f"{self.name} of large numbers in {x.dtype} is not computed")
        return wide

    def forwards(self, *facts: Fact | None) -> int | None:
        axes = facts[1] if len(facts) > 1 else None
        empty = axes is None or axes.type.shape == (0,)
        return 0 if empty and self.noop_with_empty_axes else None


@operator("ReduceMean", since=1)
class ReduceMean(Reduction):
    """The mean over axes; integers round toward zero. ONNX ReduceMean-18."""

    x = operand(NUMERIC)
    axes = operand(INTEGER, optional=True)
    keepdims: int = 1
    noop_with_empty_axes: int = 0
    adapters = axes_became_operand("ReduceMean", 18)

    def kernel(self, x: np.ndarray, axes: np.ndarray | None = None) -> np.ndarray:
        chosen = self._axes(x, axes)
        if not chosen:
            return x
        if any(x.shape[a] == 0 for a in chosen):
            raise NoKernelError(f"the mean of no numbers, of {list(x.shape)} over {list(chosen)}, is not defined")
        mean = np.mean(self._wide(x), axis=chosen, keepdims=bool(self.keepdims))
        return np.asarray(np.trunc(mean) if x.dtype.kind in "iu" else mean).astype(x.dtype)


@operator("ReduceSum", since=1)
class ReduceSum(Reduction):
    """The sum over axes. ONNX ReduceSum-13.

    ONNX does not say what a sum of integers is that the type does not hold: runtimes wrap or saturate.
    """

    x = operand(NUMERIC)
    axes = operand(INTEGER, optional=True)
    keepdims: int = 1
    noop_with_empty_axes: int = 0
    adapters = axes_became_operand("ReduceSum", 13)

    def kernel(self, x: np.ndarray, axes: np.ndarray | None = None) -> np.ndarray:
        chosen = self._axes(x, axes)
        if not chosen:
            return x
        total = np.asarray(np.sum(self._wide(x), axis=chosen, keepdims=bool(self.keepdims)))
        if x.dtype.kind in "iu" and not holds(x.dtype, total):
            raise NoKernelError(f"a sum that {x.dtype} does not hold differs between runtimes")
        return total.astype(x.dtype, copy=False)


def holds(dtype: np.dtype, integers: np.ndarray) -> bool:
    """Whether an integer dtype holds all these whole numbers, which may be floats."""
    limits = np.iinfo(dtype)
    return bool(((integers >= limits.min) & (integers < float(limits.max) + 1)).all())


def reduce_mean(x: Like, axes: tuple[int, ...] | None = None, *, keepdims: bool = True) -> Operand:
    """The mean over `axes` (all by default)."""
    given = None if axes is None else np.asarray(axes, np.int64)
    return apply(ReduceMean(keepdims=int(keepdims)), x, given)


def reduce_sum(x: Like, axes: tuple[int, ...] | None = None, *, keepdims: bool = True) -> Operand:
    """The sum over `axes` (all by default)."""
    given = None if axes is None else np.asarray(axes, np.int64)
    return apply(ReduceSum(keepdims=int(keepdims)), x, given)
