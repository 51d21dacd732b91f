"""Col2Im: windows laid over an image again, what overlaps is added."""

from __future__ import annotations

import math

import numpy as np

from graphopt.errors import TypeRuleError
from graphopt.ir.dims import Dim, floor_div, product
from graphopt.ir.types import TensorType
from graphopt.ops.axes import length_of, listed, shape_from, unknown_shape
from graphopt.ops.broadcast import fits
from graphopt.ops.room import ANY, INTEGER, Fact, NoKernelError, Room, operand, operator, unknown_dim
from graphopt.ops.single import in_single
from graphopt.ops.window import place, result_sizes, taps


@operator("Col2Im", since=18)
class Col2Im(Room):
    """Each of the L columns [c·block] of x [n, c·block, L] is added to its place in the image. ONNX Col2Im-18."""

    x = operand(ANY)
    image_shape = operand(INTEGER)
    block_shape = operand(INTEGER)
    dilations: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    auto_pad = ""  # no attribute: windows ask for it

    def infer(self, x: Fact, image_shape: Fact, block_shape: Fact) -> TensorType:
        if x.type.shape is not None and x.rank != 3:
            raise TypeRuleError(f"{x.type} has not the three axes batch, depth and columns")
        counts = {length_of(image_shape), length_of(block_shape)} - {None}
        if len(counts) > 1 or 0 in counts:
            raise TypeRuleError(f"the image has {length_of(image_shape)} axes, and the block {length_of(block_shape)}")
        rank = next(iter(counts), None)
        image = shape_from(image_shape) if rank is None or image_shape.elements is not None else unknown_shape(rank)
        if rank is None or image is None:
            return TensorType(x.dtype, None)
        n, depth, columns = x.type.shape or (unknown_dim(), unknown_dim(), unknown_dim())
        block = listed(block_shape)
        if block is None:
            return TensorType(x.dtype, (n, unknown_dim(), *image))
        made = product(result_sizes(self, block, image))
        if not fits(made, columns):
            raise TypeRuleError(f"{made} blocks fit into the image, and {x.type} has {columns} columns")
        return TensorType(x.dtype, (n, _channels(depth, product(block), x), *image))

    @in_single
    def kernel(self, x: np.ndarray, image_shape: np.ndarray, block_shape: np.ndarray) -> np.ndarray:
        if x.dtype.kind not in "fiuc":
            raise NoKernelError(f"Col2Im of {x.dtype} is not computed")
        image, block = (tuple(int(d) for d in s.ravel()) for s in (image_shape, block_shape))
        window, counts = place(self, block, image)
        taken = math.prod(block)
        parts = x.reshape(x.shape[0], x.shape[1] // taken, taken, *counts)
        extents = zip(image, window.before, window.after, strict=True)
        y = np.zeros((*parts.shape[:2], *(size + before + after for size, before, after in extents)), x.dtype)
        for i, (_, places) in enumerate(taps(y, window, counts)):
            np.add(places, parts[:, :, i], out=places)
        inside = tuple(slice(b, b + size) for b, size in zip(window.before, image, strict=True))
        return y[:, :, *inside]


def _channels(depth: Dim, block: Dim, x: Fact) -> Dim:
    if isinstance(depth, int) and isinstance(block, int) and depth % block:
        raise TypeRuleError(f"the depth {depth} of {x.type} does not divide into blocks of {block}")
    return floor_div(depth, block)
