"""Pools that CNNs have less often: LpPool, GlobalLpPool, MaxUnpool, MaxRoiPool, over x [N, C, *spatial]."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from graphopt.errors import TypeRuleError
from graphopt.ir.dims import Dim
from graphopt.ir.types import Shape, TensorType
from graphopt.ops.adapters import attribute_needs
from graphopt.ops.axes import length_of, listed
from graphopt.ops.broadcast import fits
from graphopt.ops.pool import GlobalPool, Pool, dilations_need, summed
from graphopt.ops.room import FLOAT, Fact, NoKernelError, Room, Trait, operand, operator, unknown_dim
from graphopt.ops.single import in_single, stored
from graphopt.ops.window import padded, steps

__all__: list[str] = []

_INDEX = frozenset({"int"})
_FARTHEST = 2**31  # coordinates from here on are no integers of 32 bits, which runtimes make of them


def _power(x: np.ndarray, p: int) -> np.ndarray:
    if p < 1:
        raise NoKernelError(f"the norm {p} is not computed, and those from 1 on are")
    return np.asarray(np.abs(x) ** p)


@operator("LpPool", since=1)
class LpPool(Pool):
    """(Σ |x|^p)^(1/p) under each window. ONNX LpPool-22."""

    x = operand(FLOAT)
    kernel_shape: tuple[int, ...]
    auto_pad: str = "NOTSET"
    ceil_mode: int = 0
    dilations: tuple[int, ...] = ()
    p: int = 2
    pads: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    adapters = (attribute_needs("LpPool", 18, "ceil_mode", 0), dilations_need("LpPool", 18))

    def infer(self, x: Fact) -> TensorType:
        return TensorType(x.dtype, self.pooled(x))

    @in_single
    def kernel(self, x: np.ndarray) -> np.ndarray:
        window, counts = self.place(x)
        total = summed(padded(_power(x, self.p), window, 0, counts), window, counts)
        return np.asarray(total ** (1 / self.p))


@operator("GlobalLpPool", since=1)
class GlobalLpPool(GlobalPool):
    """(Σ |x|^p)^(1/p) over all spatial axes. ONNX GlobalLpPool-22."""

    x = operand(FLOAT)
    p: int = 2
    traits = frozenset({Trait.WINDOW})

    @in_single
    def kernel(self, x: np.ndarray) -> np.ndarray:
        total = _power(x, self.p).sum(axis=tuple(range(2, x.ndim)), keepdims=True)
        return np.asarray(total ** (1 / self.p))


@operator("MaxUnpool", since=9)
class MaxUnpool(Room):
    """Elements at the indices that MaxPool gave for them, 0 elsewhere. ONNX MaxUnpool-22.

    Indices count through the result, whose extents are those of the smallest input of that MaxPool, or `output_shape`
    (so in ONNX Runtime; onnx's reference counts through the smallest extents also then).
    """

    x = operand(FLOAT)
    i = operand(_INDEX)
    output_shape = operand(_INDEX, optional=True)
    kernel_shape: tuple[int, ...]
    pads: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    auto_pad: ClassVar[str] = "NOTSET"
    dilations: ClassVar[tuple[int, ...]] = ()
    traits = frozenset({Trait.PARTIAL})

    def infer(self, x: Fact, i: Fact, output_shape: Fact | None = None) -> TensorType:
        if x.type.shape is None:
            return TensorType(x.dtype, None)
        if x.rank < 3 or x.rank - 2 != len(self.kernel_shape):
            raise TypeRuleError(f"the kernel {list(self.kernel_shape)} does not fit the rank of {x.type}")
        if i.type.shape is not None and not _alike(i.shape, x.shape):
            raise TypeRuleError(f"the indices {i.type} are not one for each element of {x.type}")
        least = self._smallest(x.shape)
        if output_shape is None:
            return TensorType(x.dtype, least)
        return TensorType(x.dtype, _told(output_shape, least))

    def _smallest(self, shape: Shape) -> Shape:
        strides, _, pads = steps(self, self.kernel_shape)
        n = len(strides)
        extents = zip(shape[2:], self.kernel_shape, strides, pads[:n], pads[n:], strict=True)
        sizes = [(size - 1) * s + k - before - after for size, k, s, before, after in extents]
        if any(isinstance(size, int) and size < 0 for size in sizes):
            raise TypeRuleError(f"pads are {list(pads)}, and would leave the extents {sizes}")
        return (*shape[:2], *sizes)

    def kernel(self, x: np.ndarray, i: np.ndarray, output_shape: np.ndarray | None = None) -> np.ndarray:
        shape = self._smallest(x.shape) if output_shape is None else tuple(int(d) for d in output_shape)
        y = np.zeros(tuple(d for d in shape if isinstance(d, int)), x.dtype)
        if i.size and not (i.min() >= 0 and i.max() < y.size):
            raise NoKernelError(f"indices from {i.min()} to {i.max()} do not all lie in {list(y.shape)}")
        y.ravel()[i.ravel()] = x.ravel()
        return y


def _alike(a: Shape, b: Shape) -> bool:
    return len(a) == len(b) and all(map(fits, a, b))


def _told(output_shape: Fact, least: Shape) -> Shape:
    """The shape asked for: one that is not below the smallest, and of as many samples and channels.

    Raises:
        TypeRuleError: it is not.
    """
    dims = listed(output_shape)
    count = length_of(output_shape)
    if count is not None and count != len(least):
        raise TypeRuleError(f"output_shape has {count} dims, and the result {len(least)}")
    if dims is None:
        return (*least[:2], *(unknown_dim() for _ in least[2:]))
    if not _alike(tuple(dims[:2]), least[:2]) or any(
        isinstance(d, int) and (d < 0 or (isinstance(low, int) and d < low)) for d, low in zip(dims, least, strict=True)
    ):
        raise TypeRuleError(f"output_shape is {dims}, and the least is {list(least)}")
    return tuple(dims)


@operator("MaxRoiPool", since=1)
class MaxRoiPool(Room):
    """The largest element in each cell of a grid over each region, 0 where there is none. ONNX MaxRoiPool-22.

    A region is [batch, x1, y1, x2, y2]; its corners, scaled and rounded, belong to it. A cell begins at the floor and
    ends at the ceiling of its share, in float32, as runtimes compute it.
    """

    x = operand(FLOAT)
    rois = operand(FLOAT)
    pooled_shape: tuple[int, ...]
    spatial_scale: float = 1.0
    traits = frozenset({Trait.PARTIAL, Trait.WINDOW})

    def infer(self, x: Fact, rois: Fact) -> TensorType:
        if x.dtype != rois.dtype:
            raise TypeRuleError(f"the regions {rois.type} have another element type than {x.type}")
        if len(self.pooled_shape) != 2 or min(self.pooled_shape) < 1:
            raise TypeRuleError(f"pooled_shape is {list(self.pooled_shape)}, and not two numbers from 1 on")
        if x.type.shape is not None and x.rank != 4:
            raise TypeRuleError(f"{x.type} is no batch of images")
        if rois.type.shape is not None and (rois.rank != 2 or not fits(rois.shape[1], 5)):
            raise TypeRuleError(f"the regions {rois.type} are not rows of 5 numbers")
        count: Dim = unknown_dim() if rois.type.shape is None else rois.shape[0]
        channels: Dim = unknown_dim() if x.type.shape is None else x.shape[1]
        return TensorType(x.dtype, (count, channels, *self.pooled_shape))

    def kernel(self, x: np.ndarray, rois: np.ndarray) -> np.ndarray:
        y = np.zeros((len(rois), x.shape[1], *self.pooled_shape), x.dtype)
        batch = np.trunc(rois[:, 0].astype(np.float64))
        if not ((batch >= 0) & (batch < len(x))).all():
            raise NoKernelError(f"a region lies in an image that is not among the {len(x)} of the batch")
        corners = rois[:, 1:].astype(np.float32) * np.float32(stored(self.spatial_scale))
        if not (np.abs(corners) < _FARTHEST).all():
            raise NoKernelError("a region's corner is not finite, or out of range")
        corners = np.trunc(corners + np.copysign(0.5, corners, dtype=np.float64)).astype(np.int64)  # half: away from 0
        for n, (x1, y1, x2, y2) in enumerate(corners):
            image = x[int(batch[n])]
            columns = _cells(x1, x2, self.pooled_shape[1], image.shape[2])
            for row, (top, bottom) in enumerate(_cells(y1, y2, self.pooled_shape[0], image.shape[1])):
                if top >= bottom:
                    continue
                tallest = image[:, top:bottom].max(axis=1)
                for column, (left, right) in enumerate(columns):
                    if left < right:
                        y[n, :, row, column] = tallest[:, left:right].max(axis=1)
        return y


def _cells(first: int, last: int, count: int, size: int) -> list[tuple[int, int]]:
    """Where each of `count` cells of a region begins and ends, within `size` elements."""
    share = np.float32(max(last - first + 1, 1)) / np.float32(count)
    number = np.arange(count + 1, dtype=np.float32)
    begins = np.clip(np.floor(number[:-1] * share).astype(np.int64) + first, 0, size)
    ends = np.clip(np.ceil(number[1:] * share).astype(np.int64) + first, 0, size)
    return list(zip(begins.tolist(), ends.tolist(), strict=True))
