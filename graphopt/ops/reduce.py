"""Reductions: ReduceMean and ReduceSum."""

from __future__ import annotations

import numpy as np

from graphopt.errors import TypeRuleError
from graphopt.ir.types import TensorType
from graphopt.ops.adapters import attribute_needs, became_operands
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.room import INTEGER, NUMERIC, Fact, Room, operand, operator

__all__ = ["reduce_mean", "reduce_sum"]


class _Reduction(Room):
    """Over the axes given; over all when none is (or over none, with noop_with_empty_axes)."""

    keepdims: int
    noop_with_empty_axes: int

    def infer(self, x: Fact, axes: Fact | None = None) -> TensorType:
        chosen = self._chosen(x.rank, axes)
        if chosen is None:
            if self.keepdims:
                from graphopt.ops.room import unknown_dim

                return TensorType(x.dtype, tuple(unknown_dim() for _ in x.shape))
            return TensorType(x.dtype, None)
        kept = [(d if i not in chosen else 1) for i, d in enumerate(x.shape) if self.keepdims or i not in chosen]
        return TensorType(x.dtype, tuple(kept))

    def _chosen(self, rank: int, axes: Fact | None) -> set[int] | None:
        if axes is None:
            return set() if self.noop_with_empty_axes else set(range(rank))
        given = axes.integers
        if given is None:
            return None
        if not given:
            return set() if self.noop_with_empty_axes else set(range(rank))
        if any(not -rank <= a < rank for a in given):
            raise TypeRuleError(f"axes {list(given)} are not all axes of a tensor of rank {rank}")
        return {a % rank for a in given}

    def _axes(self, x: np.ndarray, axes: np.ndarray | None) -> tuple[int, ...]:
        if axes is None or axes.size == 0:
            return () if self.noop_with_empty_axes else tuple(range(x.ndim))
        return tuple(int(a) % x.ndim for a in axes.ravel())

    def forwards(self, *facts: Fact | None) -> int | None:
        x = facts[0]
        axes = facts[1] if len(facts) > 1 else None
        empty = axes is None or axes.integers == ()
        return 0 if x is not None and empty and self.noop_with_empty_axes else None


@operator("ReduceMean", since=1)
class ReduceMean(_Reduction):
    """The mean over axes. ONNX ReduceMean-18."""

    x = operand(NUMERIC)
    axes = operand(INTEGER, optional=True)
    keepdims: int = 1
    noop_with_empty_axes: int = 0
    adapters = (
        attribute_needs("ReduceMean", 18, "noop_with_empty_axes", 0),
        became_operands("ReduceMean", 18, {"axes": 1}),
    )

    def kernel(self, x: np.ndarray, axes: np.ndarray | None = None) -> np.ndarray:
        chosen = self._axes(x, axes)
        if not chosen:
            return x
        mean = np.mean(x, axis=chosen, keepdims=bool(self.keepdims), dtype=None if x.dtype.kind == "f" else np.float64)
        return np.asarray(np.trunc(mean) if x.dtype.kind in "iu" else mean).astype(x.dtype)


@operator("ReduceSum", since=1)
class ReduceSum(_Reduction):
    """The sum over axes. ONNX ReduceSum-13."""

    x = operand(NUMERIC)
    axes = operand(INTEGER, optional=True)
    keepdims: int = 1
    noop_with_empty_axes: int = 0
    adapters = (
        attribute_needs("ReduceSum", 13, "noop_with_empty_axes", 0),
        became_operands("ReduceSum", 13, {"axes": 1}),
    )

    def kernel(self, x: np.ndarray, axes: np.ndarray | None = None) -> np.ndarray:
        chosen = self._axes(x, axes)
        return np.asarray(np.sum(x, axis=chosen, keepdims=bool(self.keepdims), dtype=x.dtype)) if chosen else x


def reduce_mean(x: Like, axes: tuple[int, ...] | None = None, *, keepdims: bool = True) -> Operand:
    """The mean over `axes` (all by default)."""
    given = None if axes is None else np.asarray(axes, np.int64)
    return apply(ReduceMean(keepdims=int(keepdims)), x, given)


def reduce_sum(x: Like, axes: tuple[int, ...] | None = None, *, keepdims: bool = True) -> Operand:
    """The sum over `axes` (all by default)."""
    given = None if axes is None else np.asarray(axes, np.int64)
    return apply(ReduceSum(keepdims=int(keepdims)), x, given)
