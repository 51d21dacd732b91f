"""Convolutions and matrix products of integers of 8 bits: sums of 32 bits, and those rounded to 8 bits again.

Sums are exact and keep their low 32 bits. A result of 8 bits is saturate(round(sum · s) + zero point) with
s = x_scale · w_scale / y_scale, all in float32 (see `scaled`).
"""

from __future__ import annotations

import numpy as np

from graphopt.errors import TypeRuleError
from graphopt.ir.dims import Dim
from graphopt.ir.types import DType, Shape, TensorType, dtype_of, f32, i32
from graphopt.ops.axes import unknown_shape
from graphopt.ops.broadcast import fits
from graphopt.ops.conv import Conv
from graphopt.ops.linear import MatMul
from graphopt.ops.room import (
    FLOAT,
    INTEGER,
    NUMERIC,
    Fact,
    NoKernelError,
    Room,
    Trait,
    operand,
    operator,
    unknown_dim,
)
from graphopt.ops.scaled import check_bytes, check_one, check_single, check_zero, is_one, less, limits, single


def low_bits(total: np.ndarray) -> np.ndarray:
    """Sums that float64 holds exactly, as integers of 32 bits that wrap."""
    return total.astype(np.int64).astype(np.int32)


def exact(x: np.ndarray, zero: np.ndarray | None) -> np.ndarray:
    """Integers less their zero point in float64, whose matrix products are exact and fast."""
    return less(x, zero).astype(np.float64)


def rounded(total: np.ndarray, factor: np.ndarray, zero: np.ndarray) -> np.ndarray:
    """Sums of 32 bits times a float32 factor, rounded and cut to the zero point's type."""
    target = dtype_of(zero.dtype)
    low, high = (np.float32(end) - single(zero) for end in limits(target))
    scaled = total.astype(np.float32) * factor
    cut = np.minimum(np.fmax(scaled, low), high)
    return (np.rint(cut).astype(np.int32) + zero.astype(np.int32)).astype(target.numpy)


class _Convolution(Room):
    """What ConvInteger and QLinearConv share with Conv: how the window slides."""

    auto_pad: str
    dilations: tuple[int, ...]
    group: int
    kernel_shape: tuple[int, ...]
    pads: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def conv(self) -> Conv:
        """The convolution of numbers that slides alike."""
        return Conv(
            auto_pad=self.auto_pad,
            dilations=self.dilations,
            group=self.group,
            kernel_shape=self.kernel_shape,
            pads=self.pads,
            strides=self.strides,
        )

    def convolved(self, x: Fact, w: Fact, dtype: DType) -> tuple[TensorType, Dim]:
        """The type of the result, and its channels."""
        if x.type.shape is not None and w.type.shape is not None:
            made = self.conv.convolved(Fact(f32_of(x)), Fact(f32_of(w)), None)
            return TensorType(dtype, made.shape), w.shape[0]
        for given in (x, w):
            if given.type.shape is not None and given.rank < 3:
                raise TypeRuleError(f"{given.type} has no spatial axes")
        if w.type.shape is None:
            return TensorType(dtype, unknown_shape(x.type.rank)), unknown_dim()
        return TensorType(dtype, (unknown_dim(), w.shape[0], *(unknown_dim() for _ in w.shape[2:]))), w.shape[0]

    def sums(
        self,
        x: np.ndarray,
        x_zero: np.ndarray | None,
        w: np.ndarray,
        w_zero: np.ndarray | None,
        bias: np.ndarray | None,
    ) -> np.ndarray:
        """The convolution in 32 bits; what pads stand for is the number 0, so they are the zero point."""
        if w_zero is not None and w_zero.size > 1:
            w_zero = by_channel(w_zero, w.ndim - 1)
        x_zero = None if x_zero is None else x_zero.reshape(())
        wide = None if bias is None else bias.astype(np.float64)
        return low_bits(self.conv.convolve(exact(x, x_zero), exact(w, w_zero), wide))

    def macs(self, facts: tuple[Fact | None, ...], results: tuple[TensorType, ...]) -> Dim:
        """As many as the convolution of numbers has."""
        w = facts[self.weight]
        return 0 if w is None or w.type.shape is None else self.conv.macs((facts[0], w), results)

    @property
    def weight(self) -> int:
        """The index of the weight among the operands."""
        raise NotImplementedError


def f32_of(x: Fact) -> TensorType:
    """A type with numbers in place of integers: type rules of float operators say the shape."""
    return TensorType(f32, x.type.shape)


def by_channel(values: np.ndarray, axes: int) -> np.ndarray:
    """A list with one element a channel, with `axes` axes behind; one number as it is."""
    return values.reshape(()) if values.size == 1 else values.reshape((-1,) + (1,) * axes)


def check_by_channel(name: str, given: Fact | None, channels: Dim, what: str) -> None:
    """A scale or a zero point is one number, or one for each channel.

    Raises:
        TypeRuleError: it is not.
    """
    if given is not None and not is_one(given) and (given.rank != 1 or not fits(given.shape[0], channels)):
        raise TypeRuleError(f"{name} is {given.type}, and there are {channels} {what}")


@operator("ConvInteger", since=10)
class ConvInteger(_Convolution):
    """Conv over x - x_zero_point and w - w_zero_point in 32 bits. ONNX ConvInteger-10."""

    x = operand(INTEGER)
    w = operand(INTEGER)
    x_zero_point = operand(INTEGER, optional=True)
    w_zero_point = operand(INTEGER, optional=True)
    auto_pad: str = "NOTSET"
    dilations: tuple[int, ...] = ()
    group: int = 1
    kernel_shape: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()

    @property
    def weight(self) -> int:
        return 1

    def infer(self, x: Fact, w: Fact, x_zero_point: Fact | None = None, w_zero_point: Fact | None = None) -> TensorType:
        check_bytes(x=x, w=w)
        check_one(x_zero_point=x_zero_point)
        check_zero("x_zero_point", x_zero_point, x)
        check_zero("w_zero_point", w_zero_point, w)
        made, channels = self.convolved(x, w, i32)
        check_by_channel("w_zero_point", w_zero_point, channels, "output channels")
        return made

    def kernel(
        self,
        x: np.ndarray,
        w: np.ndarray,
        x_zero_point: np.ndarray | None = None,
        w_zero_point: np.ndarray | None = None,
    ) -> np.ndarray:
        return self.sums(x, x_zero_point, w, w_zero_point, None)


@operator("QLinearConv", since=10)
class QLinearConv(_Convolution):
    """Conv of scaled integers, rounded to scaled integers; the bias is in units of x_scale · w_scale.

    ONNX QLinearConv-10.
    """

    x = operand(INTEGER)
    x_scale = operand(FLOAT)
    x_zero_point = operand(INTEGER)
    w = operand(INTEGER)
    w_scale = operand(FLOAT)
    w_zero_point = operand(INTEGER)
    y_scale = operand(FLOAT)
    y_zero_point = operand(INTEGER)
    b = operand(INTEGER, optional=True)
    auto_pad: str = "NOTSET"
    dilations: tuple[int, ...] = ()
    group: int = 1
    kernel_shape: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    traits = frozenset({Trait.QUANTIZES})

    @property
    def weight(self) -> int:
        return 3

    def infer(
        self,
        x: Fact,
        x_scale: Fact,
        x_zero_point: Fact,
        w: Fact,
        w_scale: Fact,
        w_zero_point: Fact,
        y_scale: Fact,
        y_zero_point: Fact,
        b: Fact | None = None,
    ) -> TensorType:
        check_bytes(x=x, w=w, y_zero_point=y_zero_point)
        check_one(x_scale=x_scale, x_zero_point=x_zero_point, y_scale=y_scale, y_zero_point=y_zero_point)
        check_single(w_scale=w_scale)
        check_zero("x_zero_point", x_zero_point, x)
        check_zero("w_zero_point", w_zero_point, w)
        made, channels = self.convolved(x, w, y_zero_point.dtype)
        check_by_channel("w_scale", w_scale, channels, "output channels")
        check_by_channel("w_zero_point", w_zero_point, channels, "output channels")
        if b is not None and b.dtype != i32:
            raise TypeRuleError(f"the bias is {b.type}, and it holds i32")
        if b is not None and b.type.shape is not None and (b.rank != 1 or not fits(b.shape[0], channels)):
            raise TypeRuleError(f"the bias is {b.type} and the weight has {channels} output channels")
        return made

    def kernel(
        self,
        x: np.ndarray,
        x_scale: np.ndarray,
        x_zero_point: np.ndarray,
        w: np.ndarray,
        w_scale: np.ndarray,
        w_zero_point: np.ndarray,
        y_scale: np.ndarray,
        y_zero_point: np.ndarray,
        b: np.ndarray | None = None,
    ) -> np.ndarray:
        total = self.sums(x, x_zero_point, w, w_zero_point, b)
        factor = by_channel(single(x_scale).reshape(()) * single(w_scale) / single(y_scale).reshape(()), x.ndim - 2)
        return rounded(total, factor, y_zero_point.reshape(()))


class _Product(Room):
    """What the matrix products share: a by rows, b by columns."""

    def product(self, a: Fact, b: Fact, dtype: DType) -> TensorType:
        """The type of the product."""
        if a.type.shape is None or b.type.shape is None:
            return TensorType(dtype, None)
        return TensorType(dtype, MatMul().infer(Fact(f32_of(a)), Fact(f32_of(b))).shape)


def matmul_macs(a: Fact | None, b: Fact | None, shape: Shape | None) -> Dim:
    """As many as the product of numbers has."""
    if a is None or b is None or a.type.shape is None:
        return 0
    return MatMul().macs((Fact(f32_of(a)), Fact(f32_of(b))), (TensorType(f32, shape),))


def by_row(values: np.ndarray | None, rank: int) -> np.ndarray | None:
    """Scales or zero points of a's rows: one number, a list, or laid out already as [..., M, 1]."""
    if values is None or values.size == 1:
        return None if values is None else values.reshape(())
    return values.reshape(-1, 1) if values.ndim == 1 and rank > 1 else values


def by_column(values: np.ndarray | None) -> np.ndarray | None:
    """Scales or zero points of b's columns: one number, a list, or laid out already as [..., 1, N]."""
    return values.reshape(()) if values is not None and values.size == 1 else values


def check_lines(name: str, given: Fact | None, matrix: Fact, axis: int) -> None:
    """A scale or a zero point is one number, or one for each row (`axis` -2) or column (-1) of a matrix.

    Raises:
        TypeRuleError: it is not.
    """
    if given is None or is_one(given) or matrix.type.shape is None:
        return
    what = "rows" if axis == -2 else "columns"
    if matrix.rank < 2:
        raise TypeRuleError(f"{name} is {given.type}, and {matrix.type} has no {what}")
    if given.rank == 1:
        if not fits(given.shape[0], matrix.shape[axis]):
            raise TypeRuleError(f"{name} is {given.type}, and there are {matrix.shape[axis]} {what}")
        return
    wanted = [*matrix.shape[:-2], *((matrix.shape[-2], 1) if axis == -2 else (1, matrix.shape[-1]))]
    if given.rank != matrix.rank or not all(map(fits, given.shape, wanted)):
        raise TypeRuleError(f"{name} is {given.type}, and by {what} it is [{', '.join(map(str, wanted))}]")


@operator("MatMulInteger", since=10)
class MatMulInteger(_Product):
    """MatMul of a - a_zero_point and b - b_zero_point in 32 bits. ONNX MatMulInteger-10."""

    a = operand(INTEGER)
    b = operand(INTEGER)
    a_zero_point = operand(INTEGER, optional=True)
    b_zero_point = operand(INTEGER, optional=True)

    def infer(
        self,
        a: Fact,
        b: Fact,
        a_zero_point: Fact | None = None,
        b_zero_point: Fact | None = None,
    ) -> TensorType:
        check_bytes(a=a, b=b)
        check_zero("a_zero_point", a_zero_point, a)
        check_zero("b_zero_point", b_zero_point, b)
        check_lines("a_zero_point", a_zero_point, a, -2)
        check_lines("b_zero_point", b_zero_point, b, -1)
        return self.product(a, b, i32)

    def kernel(
        self,
        a: np.ndarray,
        b: np.ndarray,
        a_zero_point: np.ndarray | None = None,
        b_zero_point: np.ndarray | None = None,
    ) -> np.ndarray:
        return low_bits(exact(a, by_row(a_zero_point, a.ndim)) @ exact(b, by_column(b_zero_point)))

    def macs(self, facts: tuple[Fact | None, ...], results: tuple[TensorType, ...]) -> Dim:
        return matmul_macs(facts[0], facts[1], results[0].shape)


@operator("QLinearMatMul", since=10)
class QLinearMatMul(_Product):
    """MatMul of scaled integers, rounded to scaled integers. ONNX QLinearMatMul-21."""

    a = operand(NUMERIC)
    a_scale = operand(FLOAT)
    a_zero_point = operand(NUMERIC)
    b = operand(NUMERIC)
    b_scale = operand(FLOAT)
    b_zero_point = operand(NUMERIC)
    y_scale = operand(FLOAT)
    y_zero_point = operand(NUMERIC)
    traits = frozenset({Trait.QUANTIZES})

    def infer(
        self,
        a: Fact,
        a_scale: Fact,
        a_zero_point: Fact,
        b: Fact,
        b_scale: Fact,
        b_zero_point: Fact,
        y_scale: Fact,
        y_zero_point: Fact,
    ) -> TensorType:
        check_bytes(a=a, b=b, y_zero_point=y_zero_point)
        scales = (a_scale, b_scale, y_scale)
        if len({s.dtype for s in scales}) > 1:
            raise TypeRuleError(f"the scales are {', '.join(str(s.type) for s in scales)}: one type holds for all")
        check_zero("a_zero_point", a_zero_point, a)
        check_zero("b_zero_point", b_zero_point, b)
        for name, scale, zero, of, axis in (
            ("a", a_scale, a_zero_point, a, -2),
            ("b", b_scale, b_zero_point, b, -1),
        ):
            check_lines(f"{name}_scale", scale, of, axis)
            check_lines(f"{name}_zero_point", zero, of, axis)
        made = self.product(a, b, y_zero_point.dtype)
        rows = Fact(made)
        check_lines("y_scale", y_scale, rows, -2)
        check_lines("y_zero_point", y_zero_point, rows, -2)
        return made

    def kernel(
        self,
        a: np.ndarray,
        a_scale: np.ndarray,
        a_zero_point: np.ndarray,
        b: np.ndarray,
        b_scale: np.ndarray,
        b_zero_point: np.ndarray,
        y_scale: np.ndarray,
        y_zero_point: np.ndarray,
    ) -> np.ndarray:
        if any(dtype_of(o.dtype).is_float for o in (a, b, y_zero_point)):
            raise NoKernelError("QLinearMatMul of float8 is not computed")
        if a.ndim < 2 and max(a_scale.size, b_scale.size, y_scale.size) > 1:
            raise NoKernelError("QLinearMatMul of a vector has one scale")
        total = low_bits(exact(a, by_row(a_zero_point, a.ndim)) @ exact(b, by_column(b_zero_point)))
        lines = by_row(single(a_scale), a.ndim), by_column(single(b_scale)), by_row(single(y_scale), a.ndim)
        left, right, out = (np.asarray(line) for line in lines)
        zero = by_row(y_zero_point, a.ndim)
        assert zero is not None
        return rounded(total, left * right / out, zero)

    def macs(self, facts: tuple[Fact | None, ...], results: tuple[TensorType, ...]) -> Dim:
        return matmul_macs(facts[0], facts[3], results[0].shape)
