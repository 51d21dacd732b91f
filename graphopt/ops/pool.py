"""Pools: MaxPool, AveragePool, GlobalAveragePool, GlobalMaxPool, over x [N, C, *spatial]."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from graphopt.errors import OpsetError, TypeRuleError
from graphopt.ir.types import Shape, TensorType, i64
from graphopt.ops.adapters import attribute_needs, same, without
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.room import (
    FLOAT,
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
from graphopt.ops.window import SAME, Window, padded, place, result_sizes, steps, taps

__all__ = ["average_pool", "global_average_pool", "global_max_pool", "max_pool"]


class Pool(Room):
    """A window over the spatial axes."""

    kernel_shape: tuple[int, ...]
    auto_pad: str
    ceil_mode: int
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    strides: tuple[int, ...]
    traits = frozenset({Trait.WINDOW})

    def pooled(self, x: Fact) -> Shape:
        """The result's shape."""
        if x.rank < 3 or x.rank - 2 != len(self.kernel_shape):
            raise TypeRuleError(f"the kernel {list(self.kernel_shape)} does not fit the rank of {x.type}")
        sizes = result_sizes(self, self.kernel_shape, x.shape[2:], ceil=bool(self.ceil_mode))
        pads = steps(self, self.kernel_shape)[2]
        if any(p >= k for p, k in zip(pads, (*self.kernel_shape, *self.kernel_shape), strict=True)):
            raise TypeRuleError(
                f"pads are {list(pads)} and the kernel {list(self.kernel_shape)}: a window would hold nothing else"
            )
        if self._is_unclear():
            sizes = tuple(unknown_dim() for _ in sizes)
        return (*x.shape[:2], *sizes)

    def place(self, x: np.ndarray) -> tuple[Window, tuple[int, ...]]:
        """The window, and how many there are on each axis."""
        if self._is_unclear():
            raise NoKernelError(f"{self.name} with auto_pad {self.auto_pad} and dilations is not clear")
        return place(self, self.kernel_shape, x.shape[2:], ceil=bool(self.ceil_mode))

    def _is_unclear(self) -> bool:
        """Whether ONNX and ONNX Runtime differ, which pads as if there were no dilations."""
        return self.auto_pad in SAME and any(d != 1 for d in self.dilations)


def dilations_need(operator: str, version: int) -> Adapter:
    """Dilations appeared in `version`; all 1 says what was done before."""

    def down(step: Step) -> Step:
        given = step.attributes.get("dilations")
        if given is not None and isinstance(given.value, tuple) and any(d != 1 for d in given.value):
            raise OpsetError(f"{operator} with dilations={list(given.value)} needs opset {version}")
        return replace(step, attributes=without(step, "dilations"))

    return Adapter(version, same, down)


def _indices_below_8(step: Step) -> Step:
    if any(step.results[1:]):
        raise OpsetError("MaxPool with indices needs opset 8")
    return replace(step, results=step.results[:1])


@operator("MaxPool", since=1)
class MaxPool(Pool):
    """The largest element under each window; optionally its index in the flattened input. ONNX MaxPool-22.

    NaN is the largest of all here; ONNX does not say what it is, and ONNX Runtime often passes it over.
    """

    x = operand(NUMERIC)
    kernel_shape: tuple[int, ...]
    auto_pad: str = "NOTSET"
    ceil_mode: int = 0
    dilations: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    storage_order: int = 0
    strides: tuple[int, ...] = ()
    adapters = (
        Adapter(8, same, _indices_below_8),
        attribute_needs("MaxPool", 8, "storage_order", 0),
        attribute_needs("MaxPool", 10, "ceil_mode", 0),
        dilations_need("MaxPool", 10),
    )

    def infer(self, x: Fact) -> tuple[TensorType, ...]:
        shape = self.pooled(x)
        return TensorType(x.dtype, shape), TensorType(i64, shape)

    def kernel(self, x: np.ndarray) -> tuple[np.ndarray, ...]:
        window, counts = self.place(x)
        lowest = -np.inf if x.dtype.kind not in "iu" else np.iinfo(x.dtype).min
        views = taps(padded(x, window, lowest, counts), window, counts)
        largest = views[0][1].copy()
        tap = np.zeros(largest.shape, np.int32)
        for i, (_, view) in enumerate(views[1:], 1):
            np.putmask(tap, view > largest, i)
            np.maximum(largest, view, out=largest)
        return largest, self._indices(x, window, counts, tap)

    def _indices(self, x: np.ndarray, window: Window, counts: tuple[int, ...], tap: np.ndarray) -> np.ndarray:
        """Where in the flattened input the elements lie that are at `tap` in their windows."""
        spatial = x.shape[2:]
        inside = np.unravel_index(tap, window.kernel)
        index = np.zeros(tap.shape, np.int64)
        order = range(len(spatial))
        for axis in order if self.storage_order == 0 else reversed(order):
            start = np.arange(counts[axis]) * window.strides[axis] - window.before[axis]
            start = start.reshape((-1,) + (1,) * (len(spatial) - 1 - axis))
            at = start + inside[axis] * window.dilations[axis]
            at = np.where(at < 0, at % window.dilations[axis], at)  # of nothing but -inf, one that is no padding
            index = index * spatial[axis] + at
        base = np.arange(x.shape[0] * x.shape[1]).reshape(x.shape[:2] + (1,) * len(spatial))
        return np.asarray(base * prod(spatial) + index)


@operator("AveragePool", since=1)
class AveragePool(Pool):
    """The mean of the elements under each window, pads counted only with count_include_pad. ONNX AveragePool-22."""

    x = operand(FLOAT)
    kernel_shape: tuple[int, ...]
    auto_pad: str = "NOTSET"
    ceil_mode: int = 0
    count_include_pad: int = 0
    dilations: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    adapters = (
        attribute_needs("AveragePool", 10, "ceil_mode", 0),
        dilations_need("AveragePool", 19),
    )

    def infer(self, x: Fact) -> TensorType:
        return TensorType(x.dtype, self.pooled(x))

    @in_single
    def kernel(self, x: np.ndarray) -> np.ndarray:
        window, counts = self.place(x)
        total = summed(padded(x, window, 0, counts), window, counts)
        inside = np.ones((1, 1, *x.shape[2:]), x.dtype)
        if self.count_include_pad:  # pads count, but not what only ceil_mode adds behind them
            widths = [(0, 0), (0, 0), *zip(window.before, window.after, strict=True)]
            inside = np.pad(inside, widths, constant_values=1)
            window = replace(window, before=(0,) * len(counts), after=(0,) * len(counts))
        count = summed(padded(inside, window, 0, counts), window, counts)
        return np.asarray(total / np.maximum(count, 1))  # dilated windows may hold pads only: their mean is 0


def summed(x: np.ndarray, window: Window, counts: tuple[int, ...]) -> np.ndarray:
    """The sum under each window of padded `x`."""
    (_, first), *others = taps(x, window, counts)
    total = first.copy()
    for _, view in others:
        total += view
    return total


class GlobalPool(Room):
    """Over all spatial axes, which become 1."""

    def infer(self, x: Fact) -> TensorType:
        if x.rank < 3:
            raise TypeRuleError(f"{x.type} has no spatial axes")
        if 0 in x.shape[2:]:
            raise TypeRuleError(f"{x.type} has no elements to pool")
        return TensorType(x.dtype, (*x.shape[:2], *(1,) * (x.rank - 2)))


@operator("GlobalAveragePool", since=1)
class GlobalAveragePool(GlobalPool):
    """The mean over all spatial axes. ONNX GlobalAveragePool-22."""

    x = operand(FLOAT)
    traits = frozenset({Trait.WINDOW})

    @in_single
    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x.mean(axis=tuple(range(2, x.ndim)), keepdims=True))


@operator("GlobalMaxPool", since=1)
class GlobalMaxPool(GlobalPool):
    """The largest element over all spatial axes. ONNX GlobalMaxPool-22."""

    x = operand(FLOAT)
    traits = frozenset({Trait.WINDOW})

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x.max(axis=tuple(range(2, x.ndim)), keepdims=True))


def max_pool(
    x: Like,
    *,
    kernel_shape: tuple[int, ...],
    strides: tuple[int, ...] = (),
    pads: tuple[int, ...] = (),
    ceil_mode: bool = False,
) -> Operand:
    """The largest element under each window."""
    return apply(MaxPool(kernel_shape=kernel_shape, strides=strides, pads=pads, ceil_mode=int(ceil_mode)), x)


def average_pool(
    x: Like,
    *,
    kernel_shape: tuple[int, ...],
    strides: tuple[int, ...] = (),
    pads: tuple[int, ...] = (),
    ceil_mode: bool = False,
    count_include_pad: bool = False,
) -> Operand:
    """The mean of the elements under each window."""
    op = AveragePool(
        kernel_shape=kernel_shape,
        strides=strides,
        pads=pads,
        ceil_mode=int(ceil_mode),
        count_include_pad=int(count_include_pad),
    )
    return apply(op, x)


def global_average_pool(x: Like) -> Operand:
    """The mean over all spatial axes."""
    return apply(GlobalAveragePool(), x)


def global_max_pool(x: Like) -> Operand:
    """The largest element over all spatial axes."""
    return apply(GlobalMaxPool(), x)
