"""Sampling between elements, at positions that are data: GridSample, AffineGrid, DeformConv."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import ClassVar

import numpy as np

from graphopt.errors import OpsetError, TypeRuleError
from graphopt.ir.attributes import Attribute, Kind
from graphopt.ir.dims import Dim, product
from graphopt.ir.types import TensorType, dtype_of
from graphopt.ops.adapters import shape_of
from graphopt.ops.axes import length_of, listed, unknown_shape
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.expect import dims_of, expect_one_of, expect_one_type, expect_shape, same_dim
from graphopt.ops.positions import Taps, cubic, linear, nearest, reflected, sample
from graphopt.ops.room import ANY, FLOAT, INTEGER, Adapter, Fact, NoKernelError, Room, Step, operand, operator
from graphopt.ops.single import in_single
from graphopt.ops.window import result_sizes, steps

__all__ = ["affine_grid", "deform_conv", "grid_sample"]

_TAPS: Mapping[str, Callable[[np.ndarray], Taps]] = {"linear": linear, "nearest": nearest, "cubic": cubic}
_COUNT: Mapping[str, int] = {"linear": 2, "nearest": 1, "cubic": 4}  # on one axis


# ---- GridSample

_OLD_MODES = {"linear": "bilinear", "nearest": "nearest", "cubic": "bicubic"}
_NEW_MODES = {old: new for new, old in _OLD_MODES.items()}


def _renamed(step: Step, names: dict[str, str]) -> Step:
    mode = step.attributes.get("mode")
    if mode is None:
        return step
    if mode.value not in names:
        raise OpsetError(f"GridSample's mode {mode.value!r} has no name on the other side of opset 20")
    renamed = Attribute(Kind.STRING, names[str(mode.value)])
    return replace(step, attributes={**step.attributes, "mode": renamed})


def _sample_to_20(step: Step) -> Step:
    return _renamed(step, _NEW_MODES)


def _sample_below_20(step: Step) -> Step:
    shape = shape_of(step)
    if shape is not None and len(shape) != 4:
        raise OpsetError(f"GridSample of a tensor of {len(shape)} axes needs opset 20")
    return _renamed(step, _OLD_MODES)


@operator("GridSample", since=16)
class GridSample(Room):
    """x [N, C, *spatial] at the positions grid [N, *out, r], from -1 to 1 over each of r axes. ONNX GridSample-22.

    A position lists the innermost axis first. Outside there are zeros, the border, or x reflected.
    """

    x = operand(ANY)
    grid = operand(FLOAT)
    align_corners: int = 0
    mode: str = "linear"
    padding_mode: str = "zeros"
    adapters = (Adapter(20, _sample_to_20, _sample_below_20),)

    def infer(self, x: Fact, grid: Fact) -> TensorType:
        expect_one_of("mode", self.mode, tuple(_TAPS))
        expect_one_of("padding_mode", self.padding_mode, ("zeros", "border", "reflection"))
        known = next((f.type.shape for f in (x, grid) if f.type.shape is not None), None)
        if known is None:
            return TensorType(x.dtype, None)
        rank = len(known)
        if rank < 3:
            raise TypeRuleError(f"x is {x.type} and grid {grid.type}: both have 3 axes or more")
        expect_shape("x", x, [None] * rank)
        batch, channels, *_ = dims_of(x, rank)
        expect_shape("grid", grid, (batch, *[None] * (rank - 2), rank - 2))
        others, *out, _ = dims_of(grid, rank)
        return TensorType(x.dtype, (same_dim(batch, others), channels, *out))

    def kernel(self, x: np.ndarray, grid: np.ndarray) -> np.ndarray:
        if not dtype_of(x.dtype).is_float:
            raise NoKernelError(f"GridSample of {x.dtype} is not computed")
        if not all(x.shape[2:]):
            raise NoKernelError(f"there is nothing to sample in {list(x.shape)}")
        return self._sampled(x, grid)

    @in_single
    def _sampled(self, x: np.ndarray, grid: np.ndarray) -> np.ndarray:
        spatial, out = x.shape[2:], grid.shape[1:-1]
        places = grid.astype(np.result_type(x, grid), copy=False).reshape(len(grid), prod(out), len(spatial))
        taps = [_TAPS[self.mode](self._at(places[:, :, -1 - i], size)) for i, size in enumerate(spatial)]
        return sample(x, taps, self._inside(spatial)).reshape(*x.shape[:2], *out)

    def _borders(self, size: int) -> tuple[float, float]:
        return (0, size - 1) if self.align_corners else (-0.5, size - 0.5)

    def _at(self, grid: np.ndarray, size: int) -> np.ndarray:
        """Positions on an axis, in elements; those outside moved inside where the padding says so."""
        kind = grid.dtype.type
        if self.align_corners:
            at = (grid + kind(1)) / kind(2) * kind(size - 1)
        else:
            at = ((grid + kind(1)) * kind(size) - kind(1)) / kind(2)
        if self.mode == "cubic":  # only its neighbours are moved inside, by runtimes and in PyTorch
            return at
        at = np.rint(at) if self.mode == "nearest" else at
        low, high = self._borders(size)
        beyond = (at < low) | (at > high)
        if self.padding_mode == "border":
            return np.where(beyond, np.clip(at, kind(0), kind(size - 1)), at)
        return np.where(beyond, reflected(at, low, high), at) if self.padding_mode == "reflection" else at

    def _inside(self, spatial: Sequence[int]) -> Callable[[np.ndarray, int], np.ndarray] | None:
        if self.padding_mode == "zeros":
            return None
        if self.padding_mode == "border":
            return lambda index, axis: np.clip(index, 0, spatial[axis] - 1)

        def folded(index: np.ndarray, axis: int) -> np.ndarray:
            at = reflected(index.astype(np.float64), *self._borders(spatial[axis]))
            return np.clip(at.astype(np.int64), 0, spatial[axis] - 1)

        return folded

    def macs(self, facts: tuple[Fact | None, ...], results: tuple[TensorType, ...]) -> Dim:
        """Two, one or four neighbours on each axis."""
        out = results[0].shape if results else None
        return 0 if out is None else product(out) * _COUNT.get(self.mode, 0) ** (len(out) - 2)


# ---- AffineGrid


@operator("AffineGrid", since=20)
class AffineGrid(Room):
    """theta [N, r, r + 1] applied to evenly spaced positions, from -1 to 1 over each of r axes. ONNX AffineGrid-20.

    The size is [N, C, *spatial], the result [N, *spatial, r], whose positions list the innermost axis first.
    """

    theta = operand(FLOAT)
    size = operand(INTEGER)
    align_corners: int = 0

    def infer(self, theta: Fact, size: Fact) -> TensorType:
        dims = listed(size)
        count = len(dims) if dims is not None else length_of(size)
        axes = None if count is None else count - 2
        if axes is None and theta.type.shape is not None and len(theta.shape) == 3:
            axes = theta.shape[1] if isinstance(theta.shape[1], int) else None
        if axes is None:
            return TensorType(theta.dtype, None)
        if axes not in (2, 3):
            raise TypeRuleError(f"size is {size.type} and theta {theta.type}: a grid has 2 or 3 axes, not {axes}")
        expect_shape("size", size, (axes + 2,))
        expect_shape("theta", theta, (None, axes, axes + 1))
        batch = dims_of(theta, 3)[0] if dims is None else dims[0]
        expect_shape("theta", theta, (batch, axes, axes + 1))
        spatial = unknown_shape(axes) or () if dims is None else tuple(dims[2:])
        if any(isinstance(d, int) and d < 1 for d in (dims or ())):
            raise TypeRuleError(f"size is {dims}, and all of it must be positive")
        return TensorType(theta.dtype, (same_dim(batch, dims_of(theta, 3)[0]), *spatial, axes))

    @in_single
    def kernel(self, theta: np.ndarray, size: np.ndarray) -> np.ndarray:
        spatial = [int(d) for d in size.ravel()[2:]]
        kind = theta.dtype.type
        if self.align_corners and 1 in spatial:
            raise NoKernelError("where the corners of an axis of one element lie differs between runtimes")
        axes = [
            np.linspace(-1, 1, d, dtype=kind)
            if self.align_corners
            else (2 * np.arange(d, dtype=kind) + kind(1)) / kind(d) - kind(1)
            for d in spatial
        ]
        at = [np.broadcast_to(a, spatial).ravel() for a in np.ix_(*axes)][::-1]
        made = np.stack([*at, np.ones_like(at[0])], axis=1) @ theta.swapaxes(1, 2)
        return np.asarray(made).reshape(len(theta), *spatial, len(spatial))

    def macs(self, facts: tuple[Fact | None, ...], results: tuple[TensorType, ...]) -> Dim:
        """A coordinate of the result is made of all coordinates of a position."""
        out = results[0].shape if results else None
        return 0 if out is None else product(out) * out[-1]


# ---- DeformConv


@operator("DeformConv", since=19)
class DeformConv(Room):
    """A convolution whose every tap is moved by an offset and weighted by a mask, both data. ONNX DeformConv-22.

    Offsets are [N, offset_group · taps · r, *out], r numbers a tap from the outermost axis on, masks the same with
    r = 1. Between elements the input is interpolated linearly, outside it is 0.
    """

    x = operand(FLOAT)
    w = operand(FLOAT)
    offset = operand(FLOAT)
    b = operand(FLOAT, optional=True)
    mask = operand(FLOAT, optional=True)
    dilations: tuple[int, ...] = ()
    group: int = 1
    kernel_shape: tuple[int, ...] = ()
    offset_group: int = 1
    pads: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    auto_pad: ClassVar[str] = "NOTSET"

    def infer(self, x: Fact, w: Fact, offset: Fact, b: Fact | None = None, mask: Fact | None = None) -> TensorType:
        expect_one_type(x=x, w=w, offset=offset, b=b, mask=mask)
        known = next((f.type.shape for f in (x, w, offset) if f.type.shape is not None), None)
        if known is None:
            return TensorType(x.dtype, None)
        rank = len(known)
        if rank < 3:
            raise TypeRuleError(f"x is {x.type} and w {w.type}: both have 3 axes or more")
        if self.group < 1 or self.offset_group < 1:
            raise TypeRuleError(
                f"there are {self.group} groups and {self.offset_group} of offsets: at least one of each"
            )
        expect_shape("w", w, [None] * rank)
        outputs, inputs, *dims = dims_of(w, rank)
        expect_shape("x", x, (None, inputs * self.group, *[None] * (rank - 2)))
        for count, group in ((outputs, self.group), (dims_of(x, rank)[1], self.offset_group)):
            if isinstance(count, int) and count % group:
                raise TypeRuleError(f"{count} channels do not divide into {group} groups")
        expect_shape("b", b, (outputs,))
        if self.kernel_shape:
            expect_shape("w", w, (None, None, *self.kernel_shape))
            dims = list(self.kernel_shape)
            if len(dims) != rank - 2:
                raise TypeRuleError(f"kernel_shape is {dims} for a tensor of {rank - 2} spatial axes")
        batch, _, *spatial = dims_of(x, rank)
        sizes = result_sizes(self, dims, spatial)
        numbers = product(dims) * self.offset_group
        expect_shape("offset", offset, (batch, numbers * (rank - 2), *sizes))
        expect_shape("mask", mask, (batch, numbers, *sizes))
        moved, _, *given = dims_of(offset, rank)
        return TensorType(x.dtype, (same_dim(batch, moved), outputs, *map(same_dim, sizes, given)))

    @in_single
    def kernel(
        self,
        x: np.ndarray,
        w: np.ndarray,
        offset: np.ndarray,
        b: np.ndarray | None = None,
        mask: np.ndarray | None = None,
    ) -> np.ndarray:
        out, filters = offset.shape[2:], w.reshape(self.group, len(w) // self.group, prod(w.shape[1:]))
        made = np.zeros((len(x), len(w), prod(out)), x.dtype)
        for i, image in enumerate(x):
            columns = self._columns(image, w.shape[2:], offset[i], None if mask is None else mask[i])
            made[i] = (filters @ columns).reshape(len(w), prod(out))
        return (made if b is None else made + b[:, None]).reshape(*made.shape[:2], *out)

    def _columns(
        self, image: np.ndarray, kernel: tuple[int, ...], offset: np.ndarray, mask: np.ndarray | None
    ) -> np.ndarray:
        """The unfolded image [C, *spatial]: [group, C/group · taps, elements of the result]."""
        spatial, out, each = image.shape[1:], offset.shape[1:], self.offset_group
        strides, dilations, pads = steps(self, kernel)
        moves = offset.reshape(each, prod(kernel), len(kernel), prod(out))
        places, begins = np.indices(kernel).reshape(len(kernel), -1), np.indices(out).reshape(len(kernel), -1)
        taps = []
        for axis in range(len(spatial)):
            begin = begins[axis] * strides[axis] - pads[axis] + places[axis][:, None] * dilations[axis]
            at = begin.astype(image.dtype) + moves[:, :, axis]
            taps.append(linear(at.reshape(each, prod(kernel) * prod(out))))
        groups = image.reshape(each, len(image) // each, *spatial)
        picked = sample(groups, taps)
        if mask is not None:
            picked = picked * mask.reshape(each, 1, prod(kernel) * prod(out))
        return picked.reshape(self.group, len(image) // self.group * prod(kernel), prod(out))

    def macs(self, facts: tuple[Fact | None, ...], results: tuple[TensorType, ...]) -> Dim:
        """Those of a convolution, and 2^r for each element that is sampled."""
        x, w, out = facts[0], facts[1], results[0].shape if results else None
        if x is None or w is None or out is None:
            return 0
        sampled = product(out[2:]) * product(x.shape[:2]) * product(w.shape[2:])
        return product(out) * product(w.shape[1:]) + sampled * 2 ** (len(out) - 2)


# ---- Functions


def grid_sample(
    x: Like, grid: Like, *, mode: str = "linear", padding_mode: str = "zeros", align_corners: bool = False
) -> Operand:
    """The tensor x [N, C, *spatial] at the positions of a grid [N, *out, r], each coordinate from -1 to 1."""
    return apply(GridSample(int(align_corners), mode, padding_mode), x, grid)


def affine_grid(theta: Like, size: Like | Sequence[int], *, align_corners: bool = False) -> Operand:
    """A grid for `grid_sample` of affine maps theta [N, r, r + 1] over an image of the size [N, C, *spatial]."""
    dims = np.asarray(size, np.int64) if isinstance(size, list | tuple) else size
    return apply(AffineGrid(int(align_corners)), theta, dims)


def deform_conv(
    x: Like,
    w: Like,
    offset: Like,
    b: Like | None = None,
    mask: Like | None = None,
    *,
    strides: tuple[int, ...] = (),
    pads: tuple[int, ...] = (),
    dilations: tuple[int, ...] = (),
    group: int = 1,
    offset_group: int = 1,
) -> Operand:
    """A convolution whose taps are moved by offsets and weighted by a mask; see `DeformConv`."""
    op = DeformConv(strides=strides, pads=pads, dilations=dilations, group=group, offset_group=offset_group)
    return apply(op, x, w, offset, b, mask)
