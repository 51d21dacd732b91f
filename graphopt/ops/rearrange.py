"""Rearranging elements: Tile, DepthToSpace, SpaceToDepth, ReverseSequence, Trilu, CenterCropPad."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.errors import TypeRuleError
from graphopt.ir.dims import Dim, floor_div
from graphopt.ir.types import TensorType
from graphopt.ops.adapters import attribute_needs
from graphopt.ops.axes import is_small, length_of, listed, normalized, shape_from, unknown_shape
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.broadcast import fits
from graphopt.ops.room import ANY, INTEGER, Fact, NoKernelError, Room, Trait, operand, operator, unknown_dim

__all__ = ["depth_to_space", "space_to_depth", "tile", "trilu"]


@operator("Tile", since=1)
class Tile(Room):
    """x repeated along each axis, as often as `repeats` says. ONNX Tile-13."""

    x = operand(ANY)
    repeats = operand(INTEGER)
    traits = frozenset({Trait.MOVES, Trait.SHAPE_ARITHMETIC})

    def infer(self, x: Fact, repeats: Fact) -> TensorType:
        count, times = length_of(repeats), listed(repeats)
        if times is not None and any(isinstance(n, int) and n < 0 for n in times):
            raise TypeRuleError(f"a tensor is not repeated {times} times")
        if x.type.shape is None:
            return TensorType(x.dtype, unknown_shape(count))
        if count is not None and count != x.rank:
            raise TypeRuleError(f"{count} repeats are given for the {x.rank} axes of {x.type}")
        if times is None:
            return TensorType(x.dtype, tuple(0 if d == 0 else unknown_dim() for d in x.shape))
        return TensorType(x.dtype, tuple(d * n for d, n in zip(x.shape, times, strict=True)))

    def elements(self, *facts: Fact | None) -> np.ndarray | None:
        x, repeats = facts[0], facts[1]
        if x is None or x.elements is None or repeats is None or repeats.integers is None:
            return None
        made = self.infer(x, repeats)
        return self.kernel(x.elements, np.asarray(repeats.integers)) if is_small(made.static_shape) else None

    def forwards(self, *facts: Fact | None) -> int | None:
        repeats = facts[1]
        times = None if repeats is None else repeats.integers
        return 0 if times is not None and all(n == 1 for n in times) else None

    def kernel(self, x: np.ndarray, repeats: np.ndarray) -> np.ndarray:
        times = [int(n) for n in repeats.ravel()]
        if min(times, default=0) < 0:
            raise TypeRuleError(f"a tensor is not repeated {times} times")
        return np.tile(x, times)


class _Blocks(Room):
    """A room that exchanges depth for blocks of [blocksize, blocksize] in the plane."""

    blocksize: int

    def _image(self, x: Fact) -> tuple[Dim, ...] | None:
        """Batch, depth, height and width, where they are known.

        Raises:
            TypeRuleError: the operand is no image, or the block is none.
        """
        if self.blocksize < 1:
            raise TypeRuleError(f"a block of {self.blocksize} elements is none")
        if x.type.shape is not None and x.rank != 4:
            raise TypeRuleError(f"{x.type} has not the four axes batch, depth, height and width")
        return x.type.shape

    def forwards(self, *facts: Fact | None) -> int | None:
        return 0 if self.blocksize == 1 else None


def _divided(dim: Dim, by: int, axis: str, x: Fact) -> Dim:
    if isinstance(dim, int) and dim % by:
        raise TypeRuleError(f"the {axis} {dim} of {x.type} does not divide by {by}")
    return floor_div(dim, by)


@operator("DepthToSpace", since=1)
class DepthToSpace(_Blocks):
    """Depth b·b·c becomes c, and each element a block of [b, b] in the plane. ONNX DepthToSpace-13.

    Mode DCR: depth counts rows of the block, columns, then c; CRD: c first.
    """

    x = operand(ANY)
    blocksize: int
    mode: str = "DCR"
    traits = frozenset({Trait.MOVES})
    adapters = (attribute_needs("DepthToSpace", 11, "mode", "DCR"),)

    def infer(self, x: Fact) -> TensorType:
        if self.mode not in ("DCR", "CRD"):
            raise TypeRuleError(f"mode is {self.mode!r}, and it is one of DCR, CRD")
        image, b = self._image(x), self.blocksize
        if image is None:
            return TensorType(x.dtype, unknown_shape(4))
        n, c, h, w = image
        return TensorType(x.dtype, (n, _divided(c, b * b, "depth", x), h * b, w * b))

    def kernel(self, x: np.ndarray) -> np.ndarray:
        (n, c, h, w), b = x.shape, self.blocksize
        depth = c // (b * b)
        if self.mode == "DCR":
            blocks = x.reshape(n, b, b, depth, h, w).transpose(0, 3, 4, 1, 5, 2)
        else:
            blocks = x.reshape(n, depth, b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
        return blocks.reshape(n, depth, h * b, w * b)


@operator("SpaceToDepth", since=1)
class SpaceToDepth(_Blocks):
    """Each block of [b, b] in the plane becomes one element of b·b times the depth. ONNX SpaceToDepth-13."""

    x = operand(ANY)
    blocksize: int
    traits = frozenset({Trait.MOVES})

    def infer(self, x: Fact) -> TensorType:
        image, b = self._image(x), self.blocksize
        if image is None:
            return TensorType(x.dtype, unknown_shape(4))
        n, c, h, w = image
        return TensorType(x.dtype, (n, c * (b * b), _divided(h, b, "height", x), _divided(w, b, "width", x)))

    def kernel(self, x: np.ndarray) -> np.ndarray:
        (n, c, h, w), b = x.shape, self.blocksize
        blocks = x.reshape(n, c, h // b, b, w // b, b).transpose(0, 3, 5, 1, 2, 4)
        return blocks.reshape(n, c * b * b, h // b, w // b)


@operator("ReverseSequence", since=10)
class ReverseSequence(Room):
    """The first sequence_lens[i] elements of sequence i in reverse, the others as they are. ONNX ReverseSequence-10."""

    x = operand(ANY)
    sequence_lens = operand(INTEGER)
    batch_axis: int = 1
    time_axis: int = 0
    traits = frozenset({Trait.MOVES, Trait.PARTIAL})

    def infer(self, x: Fact, sequence_lens: Fact) -> TensorType:
        if sorted((self.batch_axis, self.time_axis)) != [0, 1]:
            raise TypeRuleError(f"batch axis {self.batch_axis} and time axis {self.time_axis} are not 0 and 1")
        lengths = sequence_lens.type.shape
        if lengths is not None and len(lengths) != 1:
            raise TypeRuleError(f"the lengths {sequence_lens.type} are not one for each sequence")
        if x.type.shape is None:
            return x.type
        if x.rank < 2:
            raise TypeRuleError(f"{x.type} has no axes of batch and time")
        if lengths is not None and not fits(lengths[0], x.shape[self.batch_axis]):
            raise TypeRuleError(f"{lengths[0]} lengths are given for {x.shape[self.batch_axis]} sequences of {x.type}")
        return x.type

    def kernel(self, x: np.ndarray, sequence_lens: np.ndarray) -> np.ndarray:
        size = x.shape[self.time_axis]
        if ((sequence_lens < 0) | (sequence_lens > size)).any():
            raise TypeRuleError(f"the lengths {sequence_lens.tolist()} are not all from 0 to {size}")
        time, length = np.arange(size).reshape(-1, 1), sequence_lens.reshape(1, -1).astype(np.int64)
        source = np.where(time < length, length - 1 - time, time)
        if self.time_axis == 1:
            source = source.T
        return np.take_along_axis(x, source.reshape(source.shape + (1,) * (x.ndim - 2)), self.time_axis)


@operator("Trilu", since=14)
class Trilu(Room):
    """Matrices with zeros on one side of diagonal k: below it (`upper`), or above it. ONNX Trilu-14."""

    x = operand(ANY)
    k = operand(INTEGER, optional=True)
    upper: int = 1
    traits = frozenset({Trait.MONOTONE, Trait.IDEMPOTENT, Trait.POSITIVE_HOMOGENEOUS})

    def infer(self, x: Fact, k: Fact | None = None) -> TensorType:
        if x.type.shape is not None and x.rank < 2:
            raise TypeRuleError(f"{x.type} has no matrices")
        if k is not None and k.type.shape not in (None, (), (1,)) and all(isinstance(d, int) for d in k.shape):
            raise TypeRuleError(f"the diagonal {k.type} is not one number")
        return x.type

    def kernel(self, x: np.ndarray, k: np.ndarray | None = None) -> np.ndarray:
        if x.dtype.kind in "OSU":
            raise NoKernelError("Trilu of strings is not computed")
        rows, columns = x.shape[-2:]
        diagonal = 0 if k is None else min(max(int(k.reshape(())), -rows), columns)  # beyond, all is said
        above = np.arange(columns) - np.arange(rows).reshape(-1, 1)
        kept = above >= diagonal if self.upper else above <= diagonal
        return np.where(kept, x, np.zeros((), x.dtype))


@operator("CenterCropPad", since=18)
class CenterCropPad(Room):
    """x cut, or padded by zeros, to a shape on both sides alike; what is odd is at the end. ONNX CenterCropPad-18."""

    x = operand(ANY)
    target = operand(INTEGER)
    axes: tuple[int, ...] | None = None

    def infer(self, x: Fact, target: Fact) -> TensorType:
        count = length_of(target)
        if self.axes is not None and count is not None and count != len(self.axes):
            raise TypeRuleError(f"{count} lengths are given for {len(self.axes)} axes")
        if x.type.shape is None:
            return TensorType(x.dtype, unknown_shape(count) if self.axes is None else None)
        axes = self._axes(x.rank)
        if count is not None and count != len(axes):
            raise TypeRuleError(f"{count} lengths are given for {len(axes)} axes of {x.type}")
        wanted: Sequence[Dim] = shape_from(target) or [unknown_dim() for _ in axes]
        dims = list(x.shape)
        for axis, dim in zip(axes, wanted, strict=True):
            dims[axis] = dim
        return TensorType(x.dtype, tuple(dims))

    def _axes(self, rank: int) -> list[int]:
        return list(range(rank)) if self.axes is None else normalized(self.axes, rank)

    def forwards(self, *facts: Fact | None) -> int | None:
        x, target = facts[0], facts[1]
        if x is None or x.type.shape is None or target is None or target.elements is None:
            return None
        try:
            return 0 if self.infer(x, target).shape == x.shape else None
        except TypeRuleError:
            return None

    def kernel(self, x: np.ndarray, target: np.ndarray) -> np.ndarray:
        if x.dtype.kind in "OSU":
            raise NoKernelError("CenterCropPad of strings is not computed")
        pads = [(0, 0)] * x.ndim
        for axis, size in zip(self._axes(x.ndim), map(int, target.ravel()), strict=True):
            spare = x.shape[axis] - size
            first = max(spare, 0) // 2
            x = x.take(range(first, first + min(x.shape[axis], size)), axis)
            before = max(-spare, 0) // 2
            pads[axis] = (before, max(-spare, 0) - before)
        return np.pad(x, pads)


def tile(x: Like, repeats: Like | Sequence[int]) -> Operand:
    """`x` repeated along each axis."""
    return apply(Tile(), x, np.asarray(repeats, np.int64) if isinstance(repeats, list | tuple) else repeats)


def depth_to_space(x: Like, blocksize: int, *, mode: str = "DCR") -> Operand:
    """Depth as blocks of [blocksize, blocksize] in the plane."""
    return apply(DepthToSpace(blocksize=blocksize, mode=mode), x)


def space_to_depth(x: Like, blocksize: int) -> Operand:
    """Blocks of [blocksize, blocksize] in the plane as depth."""
    return apply(SpaceToDepth(blocksize=blocksize), x)


def trilu(x: Like, k: Like | None = None, *, upper: bool = True) -> Operand:
    """Matrices with zeros below (`upper`) or above diagonal `k`."""
    return apply(Trilu(upper=int(upper)), x, k)
