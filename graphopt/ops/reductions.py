"""Reductions that are met less often: ReduceMax, ReduceMin, ReduceProd, and sums of functions, such as norms.

Integers are computed in float64 and rounded toward zero, as runtimes do it; what would be rounded before that, or is
not held by the type, is not computed.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.elementwise import holds as holds_dims
from graphopt.ops.reduce import EXACT, Reduction, axes_became_operand, holds
from graphopt.ops.room import BOOL, INTEGER, NUMERIC, Fact, NoKernelError, Trait, operand, operator
from graphopt.ops.single import at_least_single

__all__ = ["reduce_l1", "reduce_l2", "reduce_log_sum_exp", "reduce_max", "reduce_min", "reduce_prod"]


def _ends(dtype: np.dtype) -> tuple[float, float]:
    """The least and the largest number of a type."""
    if dtype.kind == "b":
        return False, True
    if dtype.kind in "iu":
        return np.iinfo(dtype).min, np.iinfo(dtype).max
    return -np.inf, np.inf


@operator("ReduceMax", since=1)
class ReduceMax(Reduction):
    """The largest element over axes, True before False; of none, the least number of the type. ONNX ReduceMax-20.

    NaN wins, as in Max; ONNX does not say, and ONNX Runtime sees it in some places and not in others.
    """

    x = operand(NUMERIC | BOOL)
    axes = operand(INTEGER, optional=True)
    keepdims: int = 1
    noop_with_empty_axes: int = 0
    adapters = axes_became_operand("ReduceMax", 18)

    def kernel(self, x: np.ndarray, axes: np.ndarray | None = None) -> np.ndarray:
        chosen = self._axes(x, axes)
        if not chosen:
            return x
        wide = at_least_single(x)
        least, _ = _ends(wide.dtype)
        return np.asarray(wide.max(axis=chosen, keepdims=bool(self.keepdims), initial=least), x.dtype)


@operator("ReduceMin", since=1)
class ReduceMin(Reduction):
    """The smallest element over axes, False before True; of none, the largest number of the type. ONNX ReduceMin-20.

    NaN wins, as in Min; see ReduceMax.
    """

    x = operand(NUMERIC | BOOL)
    axes = operand(INTEGER, optional=True)
    keepdims: int = 1
    noop_with_empty_axes: int = 0
    adapters = axes_became_operand("ReduceMin", 18)

    def kernel(self, x: np.ndarray, axes: np.ndarray | None = None) -> np.ndarray:
        chosen = self._axes(x, axes)
        if not chosen:
            return x
        wide = at_least_single(x)
        _, most = _ends(wide.dtype)
        return np.asarray(wide.min(axis=chosen, keepdims=bool(self.keepdims), initial=most), x.dtype)


@operator("ReduceProd", since=1)
class ReduceProd(Reduction):
    """The product over axes; 1 of none. ONNX ReduceProd-18."""

    x = operand(NUMERIC)
    axes = operand(INTEGER, optional=True)
    keepdims: int = 1
    noop_with_empty_axes: int = 0
    traits = frozenset({Trait.SHAPE_ARITHMETIC})
    adapters = axes_became_operand("ReduceProd", 18)

    def elements(self, *facts: Fact | None) -> np.ndarray | None:
        x, axes = facts[0], facts[1] if len(facts) > 1 else None
        if x is None or x.elements is None or (axes is not None and axes.integers is None):
            return None
        made = self.kernel(x.elements, None if axes is None else np.asarray(axes.integers))
        return made if holds_dims(x.dtype, made) else None

    def kernel(self, x: np.ndarray, axes: np.ndarray | None = None) -> np.ndarray:
        chosen = self._axes(x, axes)
        if not chosen:
            return x
        keepdims = bool(self.keepdims)
        if x.dtype.kind not in "iu":
            wide = x if x.dtype.kind == "O" else at_least_single(x)
            return np.asarray(np.prod(wide, axis=chosen, keepdims=keepdims), x.dtype)
        factors = x.astype(np.float64)
        with np.errstate(over="ignore"):
            magnitude = np.prod(np.where(factors == 0, 1, np.abs(factors)), axis=chosen)
        if (magnitude >= EXACT).any():
            raise NoKernelError(f"a product of large numbers in {x.dtype} is not computed")
        product = np.asarray(np.prod(factors, axis=chosen, keepdims=keepdims))
        if not holds(x.dtype, product):
            raise NoKernelError(f"a product that {x.dtype} does not hold differs between runtimes")
        return product.astype(x.dtype)


class _Composite(Reduction):
    """A function of the sum of a function: with noop_with_empty_axes still computed, of each element alone."""

    @abstractmethod
    def reduced(self, x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        """The result for numbers of single precision or more."""

    @abstractmethod
    def terms(self, x: np.ndarray) -> np.ndarray:
        """What is summed, of integers in float64."""

    def kernel(self, x: np.ndarray, axes: np.ndarray | None = None) -> np.ndarray:
        chosen = self._axes(x, axes)
        if x.dtype.kind not in "iu":
            return np.asarray(self.reduced(at_least_single(x), chosen)).astype(x.dtype, copy=False)
        wide = x.astype(np.float64)
        if np.abs(self.terms(wide)).sum() >= EXACT:
            raise NoKernelError(f"{self.name} of large numbers in {x.dtype} is not computed")
        with np.errstate(all="ignore"):
            made = np.asarray(np.trunc(self.reduced(wide, chosen)))
        if not holds(x.dtype, made):
            raise NoKernelError(f"{self.name} gives a number that {x.dtype} does not hold")
        return made.astype(x.dtype)

    def forwards(self, *facts: Fact | None) -> int | None:
        return None

    def _sum(self, x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        return np.asarray(np.sum(x, axis=axes, keepdims=bool(self.keepdims)))


@operator("ReduceL1", since=1)
class ReduceL1(_Composite):
    """Σ |x| over axes. ONNX ReduceL1-18."""

    x = operand(NUMERIC)
    axes = operand(INTEGER, optional=True)
    keepdims: int = 1
    noop_with_empty_axes: int = 0
    adapters = axes_became_operand("ReduceL1", 18)

    def terms(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(np.abs(x))

    def reduced(self, x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        return self._sum(np.abs(x), axes)


@operator("ReduceL2", since=1)
class ReduceL2(_Composite):
    """√(Σ x²) over axes. ONNX ReduceL2-18."""

    x = operand(NUMERIC)
    axes = operand(INTEGER, optional=True)
    keepdims: int = 1
    noop_with_empty_axes: int = 0
    adapters = axes_became_operand("ReduceL2", 18)

    def terms(self, x: np.ndarray) -> np.ndarray:
        return x * x

    def reduced(self, x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        return np.asarray(np.sqrt(self._sum(x * x, axes)))


@operator("ReduceSumSquare", since=1)
class ReduceSumSquare(_Composite):
    """Σ x² over axes. ONNX ReduceSumSquare-18."""

    x = operand(NUMERIC)
    axes = operand(INTEGER, optional=True)
    keepdims: int = 1
    noop_with_empty_axes: int = 0
    adapters = axes_became_operand("ReduceSumSquare", 18)

    def terms(self, x: np.ndarray) -> np.ndarray:
        return x * x

    def reduced(self, x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        return self._sum(x * x, axes)


@operator("ReduceLogSum", since=1)
class ReduceLogSum(_Composite):
    """log(Σ x) over axes; minus infinity of none, which integers do not hold. ONNX ReduceLogSum-18."""

    x = operand(NUMERIC)
    axes = operand(INTEGER, optional=True)
    keepdims: int = 1
    noop_with_empty_axes: int = 0
    adapters = axes_became_operand("ReduceLogSum", 18)

    def terms(self, x: np.ndarray) -> np.ndarray:
        return x

    def reduced(self, x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        return np.asarray(np.log(self._sum(x, axes)))


@operator("ReduceLogSumExp", since=1)
class ReduceLogSumExp(_Composite):
    """log(Σ exp(x)) over axes; minus infinity of none. ONNX ReduceLogSumExp-18.

    Of integers it is not computed: ONNX Runtime rounds each exponential on its own, and ONNX says nothing of them.
    """

    x = operand(NUMERIC)
    axes = operand(INTEGER, optional=True)
    keepdims: int = 1
    noop_with_empty_axes: int = 0
    adapters = axes_became_operand("ReduceLogSumExp", 18)

    def terms(self, x: np.ndarray) -> np.ndarray:
        raise NoKernelError("ReduceLogSumExp of integers differs between runtimes")

    def reduced(self, x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        largest = x.max(axis=axes, keepdims=True, initial=-np.inf)
        shift = np.where(np.isfinite(largest), largest, x.dtype.type(0))  # so that nothing overflows
        total = np.log(self._sum(np.exp(x - shift), axes))
        return np.asarray(total + shift.reshape(total.shape))


def _numbers(axes: tuple[int, ...] | None) -> np.ndarray | None:
    return None if axes is None else np.asarray(axes, np.int64)


def reduce_max(x: Like, axes: tuple[int, ...] | None = None, *, keepdims: bool = True) -> Operand:
    """The largest element over `axes` (all by default)."""
    return apply(ReduceMax(keepdims=int(keepdims)), x, _numbers(axes))


def reduce_min(x: Like, axes: tuple[int, ...] | None = None, *, keepdims: bool = True) -> Operand:
    """The smallest element over `axes` (all by default)."""
    return apply(ReduceMin(keepdims=int(keepdims)), x, _numbers(axes))


def reduce_prod(x: Like, axes: tuple[int, ...] | None = None, *, keepdims: bool = True) -> Operand:
    """The product over `axes` (all by default)."""
    return apply(ReduceProd(keepdims=int(keepdims)), x, _numbers(axes))


def reduce_l1(x: Like, axes: tuple[int, ...] | None = None, *, keepdims: bool = True) -> Operand:
    """The sum of absolute values over `axes` (all by default)."""
    return apply(ReduceL1(keepdims=int(keepdims)), x, _numbers(axes))


def reduce_l2(x: Like, axes: tuple[int, ...] | None = None, *, keepdims: bool = True) -> Operand:
    """The square root of the sum of squares over `axes` (all by default)."""
    return apply(ReduceL2(keepdims=int(keepdims)), x, _numbers(axes))


def reduce_log_sum_exp(x: Like, axes: tuple[int, ...] | None = None, *, keepdims: bool = True) -> Operand:
    """The logarithm of the sum of exponentials over `axes` (all by default)."""
    return apply(ReduceLogSumExp(keepdims=int(keepdims)), x, _numbers(axes))
