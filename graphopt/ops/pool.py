"""Pools: MaxPool, AveragePool, GlobalAveragePool, GlobalMaxPool, over x [N, C, *spatial]."""

from __future__ import annotations

import numpy as np

from graphopt.errors import TypeRuleError
from graphopt.ir.dims import Dim, floor_div
from graphopt.ir.types import Shape, TensorType, i64
from graphopt.ops.adapters import attribute_needs
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.room import FLOAT, NUMERIC, Fact, Room, Trait, operand, operator
from graphopt.ops.window import Window, extent, outputs, padded, resolve, windows

__all__ = ["average_pool", "global_average_pool", "global_max_pool", "max_pool"]


class _Pool(Room):
    """A window over the spatial axes."""

    kernel_shape: tuple[int, ...]
    auto_pad: str
    ceil_mode: int
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    strides: tuple[int, ...]

    def pooled(self, x: Fact) -> Shape:
        if x.rank < 3 or x.rank - 2 != len(self.kernel_shape):
            raise TypeRuleError(f"the kernel {list(self.kernel_shape)} does not fit the rank of {x.type}")
        n, c, *spatial = x.shape
        steps, dilations, before, after = resolve(
            self.kernel_shape, self.strides, self.dilations, self.pads, self.auto_pad, spatial
        )
        sizes: list[Dim] = []
        for size, k, s, d, b, a in zip(spatial, self.kernel_shape, steps, dilations, before, after, strict=True):
            if self.auto_pad in ("SAME_UPPER", "SAME_LOWER"):
                sizes.append(floor_div(size + (s - 1), s))
            else:
                sizes.append(extent(size, k, s, d, b + a, ceil=bool(self.ceil_mode), before=b))
        return (n, c, *sizes)

    def window(self, x: np.ndarray) -> tuple[Window, tuple[int, ...]]:
        spatial = x.shape[2:]
        steps, dilations, before, after = resolve(
            self.kernel_shape, self.strides, self.dilations, self.pads, self.auto_pad, spatial
        )
        first = tuple(b for b in before if isinstance(b, int))
        last = tuple(a for a in after if isinstance(a, int))
        window = Window(self.kernel_shape, steps, dilations, first, last)
        return window, outputs(window, spatial, ceil=bool(self.ceil_mode))


@operator("MaxPool", since=1)
class MaxPool(_Pool):
    """The largest element under each window; optionally its index in the flattened input. ONNX MaxPool-22."""

    x = operand(NUMERIC)
    kernel_shape: tuple[int, ...]
    auto_pad: str = "NOTSET"
    ceil_mode: int = 0
    dilations: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    storage_order: int = 0
    strides: tuple[int, ...] = ()
    traits = frozenset({Trait.WINDOW})
    adapters = (
        attribute_needs("MaxPool", 8, "storage_order", 0),
        attribute_needs("MaxPool", 10, "ceil_mode", 0),
        attribute_needs("MaxPool", 10, "dilations", ()),
    )

    def infer(self, x: Fact) -> tuple[TensorType, ...]:
        shape = self.pooled(x)
        return TensorType(x.dtype, shape), TensorType(i64, shape)

    def kernel(self, x: np.ndarray) -> tuple[np.ndarray, ...]:
        window, counts = self.window(x)
        lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
        n = len(counts)
        view = windows(padded(x, window, lowest, counts), window, counts)
        flat = view.reshape(*view.shape[:-n], -1)
        y = flat.max(axis=-1)
        return y, self._indices(x, window, counts, flat.argmax(axis=-1))

    def _indices(self, x: np.ndarray, window: Window, counts: tuple[int, ...], place: np.ndarray) -> np.ndarray:
        inside = np.unravel_index(place, window.kernel)
        spatial = x.shape[2:]
        index = np.zeros(place.shape, np.int64)
        order = range(len(spatial)) if self.storage_order == 0 else reversed(range(len(spatial)))
        for axis in order:
            start = np.arange(counts[axis]) * window.strides[axis] - window.before[axis]
            shape = [1] * place.ndim
            shape[2 + axis] = -1
            at = start.reshape(shape) + inside[axis] * window.dilations[axis]
            index = index * spatial[axis] + at
        base = np.arange(x.shape[0] * x.shape[1]).reshape(x.shape[:2] + (1,) * len(spatial))
        return np.asarray(base * int(np.prod(spatial)) + index)


@operator("AveragePool", since=1)
class AveragePool(_Pool):
    """The mean of the elements under each window, pads counted only with count_include_pad. ONNX AveragePool-22."""

    x = operand(FLOAT)
    kernel_shape: tuple[int, ...]
    auto_pad: str = "NOTSET"
    ceil_mode: int = 0
    count_include_pad: int = 0
    dilations: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    traits = frozenset({Trait.WINDOW})
    adapters = (
        attribute_needs("AveragePool", 10, "ceil_mode", 0),
        attribute_needs("AveragePool", 19, "dilations", ()),
    )

    def infer(self, x: Fact) -> TensorType:
        return TensorType(x.dtype, self.pooled(x))

    def kernel(self, x: np.ndarray) -> np.ndarray:
        window, counts = self.window(x)
        axes = tuple(range(-len(counts), 0))
        total = windows(padded(x, window, 0, counts), window, counts).sum(axis=axes)
        inside = np.ones((1, 1, *x.shape[2:]), x.dtype)
        if self.count_include_pad:  # pads count, but not what only ceil_mode adds behind them
            widths = [(0, 0), (0, 0), *zip(window.before, window.after, strict=True)]
            inside = np.pad(inside, widths, constant_values=1)
            plain = Window(window.kernel, window.strides, window.dilations, (0,) * len(counts), (0,) * len(counts))
            count = windows(padded(inside, plain, 0, counts), plain, counts).sum(axis=axes)
        else:
            count = windows(padded(inside, window, 0, counts), window, counts).sum(axis=axes)
        return np.asarray(total / count)


class _Global(Room):
    """Over all spatial axes, which become 1."""

    def infer(self, x: Fact) -> TensorType:
        if x.rank < 3:
            raise TypeRuleError(f"{x.type} has no spatial axes")
        return TensorType(x.dtype, (*x.shape[:2], *(1,) * (x.rank - 2)))


@operator("GlobalAveragePool", since=1)
class GlobalAveragePool(_Global):
    """The mean over all spatial axes. ONNX GlobalAveragePool-22."""

    x = operand(FLOAT)
    traits = frozenset({Trait.WINDOW})

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x.mean(axis=tuple(range(2, x.ndim)), keepdims=True))


@operator("GlobalMaxPool", since=1)
class GlobalMaxPool(_Global):
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
