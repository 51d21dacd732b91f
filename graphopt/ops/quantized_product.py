"""ONNX Runtime's products with integers: QGemm, products that end in floats, weights of a few bits, QLinearConv."""

from __future__ import annotations

import numpy as np

from graphopt.errors import TypeRuleError
from graphopt.ir.dims import Dim, product
from graphopt.ir.types import TensorType, f32, i32, u8
from graphopt.ops.integer import (
    QLinearConv,
    by_channel,
    by_column,
    by_row,
    check_by_channel,
    check_lines,
    exact,
    low_bits,
    matmul_macs,
    rounded,
)
from graphopt.ops.linear import Gemm, MatMul
from graphopt.ops.qlinear_pool import channels_last, channels_second
from graphopt.ops.quantize import dynamic_scale
from graphopt.ops.room import FLOAT, INTEGER, MICROSOFT, NUMERIC, Fact, NoKernelError, Room, Trait, operand, operator
from graphopt.ops.scaled import check_bytes, check_one, check_single, check_zero, quantized, single

_QUANTIZES = frozenset({Trait.QUANTIZES})


@operator("QLinearConv", since=1, domain=MICROSOFT)
class LayoutQLinearConv(QLinearConv):
    """Conv of scaled integers, channels second or last. ONNX Runtime's com.microsoft QLinearConv-1."""

    x = operand(INTEGER)
    x_scale = operand(FLOAT)
    x_zero_point = operand(INTEGER)
    w = operand(INTEGER)
    w_scale = operand(FLOAT)
    w_zero_point = operand(INTEGER)
    y_scale = operand(FLOAT)
    y_zero_point = operand(INTEGER)
    b = operand(INTEGER, optional=True)
    channels_last: int = 0

    def infer(self, x: Fact, *others: Fact | None) -> TensorType:
        if not self.channels_last:
            return super().infer(x, *others)  # type: ignore[arg-type]
        made = super().infer(Fact(TensorType(x.dtype, channels_second(x.type.shape))), *others)  # type: ignore[arg-type]
        return TensorType(made.dtype, channels_last(made.shape))

    def kernel(self, x: np.ndarray, *others: np.ndarray | None) -> np.ndarray:
        if not self.channels_last:
            return super().kernel(x, *others)  # type: ignore[arg-type]
        return np.ascontiguousarray(np.moveaxis(super().kernel(np.moveaxis(x, -1, 1), *others), 1, -1))  # type: ignore[arg-type]


@operator("QGemm", since=1, domain=MICROSOFT)
class QGemm(Room):
    """alpha · a' · b' + c of scaled integers, c in units of a_scale · b_scale: scaled integers again, or floats.

    ONNX Runtime's com.microsoft QGemm-1; without y_scale and y_zero_point the result is floats.
    """

    a = operand(INTEGER)
    a_scale = operand(FLOAT)
    a_zero_point = operand(INTEGER)
    b = operand(INTEGER)
    b_scale = operand(FLOAT)
    b_zero_point = operand(INTEGER)
    c = operand(INTEGER, optional=True)
    y_scale = operand(FLOAT, optional=True)
    y_zero_point = operand(INTEGER, optional=True)
    alpha: float = 1.0
    transA: int = 0  # noqa: N815  # ONNX's names
    transB: int = 0  # noqa: N815
    traits = _QUANTIZES

    def infer(
        self,
        a: Fact,
        a_scale: Fact,
        a_zero_point: Fact,
        b: Fact,
        b_scale: Fact,
        b_zero_point: Fact,
        c: Fact | None = None,
        y_scale: Fact | None = None,
        y_zero_point: Fact | None = None,
    ) -> TensorType:
        check_bytes(a=a, b=b, y_zero_point=y_zero_point)
        check_one(a_scale=a_scale, a_zero_point=a_zero_point, y_scale=y_scale, y_zero_point=y_zero_point)
        check_single(b_scale=b_scale)
        check_zero("a_zero_point", a_zero_point, a)
        check_zero("b_zero_point", b_zero_point, b)
        if (y_scale is None) != (y_zero_point is None):
            raise TypeRuleError("of the result's scale and zero point one is left out")
        if c is not None and c.dtype != i32:
            raise TypeRuleError(f"the bias is {c.type}, and it holds i32")
        dtype = f32 if y_zero_point is None else y_zero_point.dtype
        if a.type.shape is None or b.type.shape is None:
            return TensorType(dtype, None)
        numbers = [None if f is None else Fact(TensorType(f32, f.type.shape)) for f in (a, b, c)]
        made = Gemm(transA=self.transA, transB=self.transB).infer(*numbers)  # type: ignore[arg-type]
        for name, given in (("b_scale", b_scale), ("b_zero_point", b_zero_point)):
            check_by_channel(name, given, made.shape[1] if made.shape else 0, "columns")
        return TensorType(dtype, made.shape)

    def kernel(
        self,
        a: np.ndarray,
        a_scale: np.ndarray,
        a_zero_point: np.ndarray,
        b: np.ndarray,
        b_scale: np.ndarray,
        b_zero_point: np.ndarray,
        c: np.ndarray | None = None,
        y_scale: np.ndarray | None = None,
        y_zero_point: np.ndarray | None = None,
    ) -> np.ndarray:
        left = exact(a.T if self.transA else a, a_zero_point.reshape(()))
        right = exact(b.T if self.transB else b, by_column(b_zero_point))
        total = low_bits(left @ right + (0 if c is None else c.astype(np.float64)))
        factor = np.float32(self.alpha) * single(a_scale).reshape(()) * by_channel(single(b_scale), 0)
        if y_scale is None or y_zero_point is None:
            return (total.astype(np.float32) * factor).astype(a_scale.dtype, copy=False)
        return rounded(total, np.asarray(factor / single(y_scale).reshape(())), y_zero_point.reshape(()))

    def macs(self, facts: tuple[Fact | None, ...], results: tuple[TensorType, ...]) -> Dim:
        a, out = facts[0], results[0].shape
        return 0 if a is None or a.type.shape is None or out is None else product(out) * a.shape[not self.transA]


def _check_bias(bias: Fact | None, columns: Dim) -> None:
    if bias is not None and bias.type.shape is not None:
        check_by_channel("the bias", bias, columns, "columns")


class _ToFloat(Room):
    """A product of integers that ends in floats."""

    traits = _QUANTIZES

    def product(self, a: Fact, b: Fact, like: Fact, bias: Fact | None) -> TensorType:
        """The result's type, of the element type of a scale."""
        if bias is not None and bias.dtype != like.dtype:
            raise TypeRuleError(f"the bias is {bias.type} and the scale {like.type}")
        if a.type.shape is None or b.type.shape is None:
            return TensorType(like.dtype, None)
        numbers = [Fact(TensorType(f32, f.type.shape)) for f in (a, b)]
        made = MatMul().infer(*numbers)
        if b.rank > 1:
            _check_bias(bias, b.shape[-1])
        return TensorType(like.dtype, made.shape)


@operator("MatMulIntegerToFloat", since=1, domain=MICROSOFT)
class MatMulIntegerToFloat(_ToFloat):
    """(a - a_zero_point) · (b - b_zero_point) · a_scale · b_scale + bias, in floats.

    ONNX Runtime's com.microsoft MatMulIntegerToFloat-1.
    """

    a = operand(INTEGER)
    b = operand(INTEGER)
    a_scale = operand(FLOAT)
    b_scale = operand(FLOAT)
    a_zero_point = operand(INTEGER, optional=True)
    b_zero_point = operand(INTEGER, optional=True)
    bias = operand(FLOAT, optional=True)

    def infer(
        self,
        a: Fact,
        b: Fact,
        a_scale: Fact,
        b_scale: Fact,
        a_zero_point: Fact | None = None,
        b_zero_point: Fact | None = None,
        bias: Fact | None = None,
    ) -> TensorType:
        check_bytes(a=a, b=b)
        check_zero("a_zero_point", a_zero_point, a)
        check_zero("b_zero_point", b_zero_point, b)
        if a_scale.dtype != b_scale.dtype:
            raise TypeRuleError(f"the scales are {a_scale.type} and {b_scale.type}: one type holds for both")
        for name, given, of, axis in (
            ("a_scale", a_scale, a, -2),
            ("a_zero_point", a_zero_point, a, -2),
            ("b_scale", b_scale, b, -1),
            ("b_zero_point", b_zero_point, b, -1),
        ):
            check_lines(name, given, of, axis)
        return self.product(a, b, a_scale, bias)

    def kernel(
        self,
        a: np.ndarray,
        b: np.ndarray,
        a_scale: np.ndarray,
        b_scale: np.ndarray,
        a_zero_point: np.ndarray | None = None,
        b_zero_point: np.ndarray | None = None,
        bias: np.ndarray | None = None,
    ) -> np.ndarray:
        total = low_bits(exact(a, by_row(a_zero_point, a.ndim)) @ exact(b, by_column(b_zero_point)))
        factor = np.asarray(by_row(a_scale, a.ndim)) * np.asarray(by_column(b_scale))
        y = total * factor.astype(np.float64)
        return (y if bias is None else y + bias).astype(a_scale.dtype)

    def macs(self, facts: tuple[Fact | None, ...], results: tuple[TensorType, ...]) -> Dim:
        return matmul_macs(facts[0], facts[1], results[0].shape)


@operator("DynamicQuantizeMatMul", since=1, domain=MICROSOFT)
class DynamicQuantizeMatMul(_ToFloat):
    """MatMul of a, quantized as DynamicQuantizeLinear does, and scaled integers b, plus a bias, in floats.

    ONNX Runtime's com.microsoft DynamicQuantizeMatMul-1.
    """

    a = operand(FLOAT)
    b = operand(INTEGER)
    b_scale = operand(FLOAT)
    b_zero_point = operand(INTEGER, optional=True)
    bias = operand(FLOAT, optional=True)

    def infer(
        self, a: Fact, b: Fact, b_scale: Fact, b_zero_point: Fact | None = None, bias: Fact | None = None
    ) -> TensorType:
        check_bytes(b=b)
        check_single(b_scale=b_scale)
        if a.dtype != f32:
            raise TypeRuleError(f"a is {a.type}, and it holds f32")
        check_zero("b_zero_point", b_zero_point, b)
        check_lines("b_scale", b_scale, b, -1)
        check_lines("b_zero_point", b_zero_point, b, -1)
        return self.product(a, b, b_scale, bias)

    def kernel(
        self,
        a: np.ndarray,
        b: np.ndarray,
        b_scale: np.ndarray,
        b_zero_point: np.ndarray | None = None,
        bias: np.ndarray | None = None,
    ) -> np.ndarray:
        scale, zero = dynamic_scale(a)
        held = quantized(a, scale, zero, u8)
        total = low_bits(exact(held, zero) @ exact(b, by_column(b_zero_point)))
        y = total * (np.float64(scale) * np.asarray(by_column(b_scale)))
        return (y if bias is None else y + bias).astype(a.dtype)

    def macs(self, facts: tuple[Fact | None, ...], results: tuple[TensorType, ...]) -> Dim:
        return matmul_macs(facts[0], facts[1], results[0].shape)


@operator("MatMulNBits", since=1, domain=MICROSOFT)
class MatMulNBits(Room):
    """a · Wᵀ + bias with W [N, K] in `bits` bits: (q - zero point) · scale for each block of `block_size` along K.

    ONNX Runtime's com.microsoft MatMulNBits-1. b is [N, blocks, bytes], the first element in the lowest bits; a zero
    point that is left out is 2^(bits - 1). ONNX Runtime may quantize a as well (`accuracy_level` 4): not so here.
    """

    a = operand(FLOAT)
    b = operand(INTEGER)
    scales = operand(FLOAT)
    zero_points = operand(NUMERIC, optional=True)
    g_idx = operand(INTEGER, optional=True)
    bias = operand(FLOAT, optional=True)
    K: int
    N: int
    block_size: int
    accuracy_level: int = 0
    bits: int = 4
    weight_prepacked: int = 0

    @property
    def blocks(self) -> int:
        """Blocks in a row of the weight."""
        return -(-self.K // self.block_size)

    def infer(
        self,
        a: Fact,
        b: Fact,
        scales: Fact,
        zero_points: Fact | None = None,
        g_idx: Fact | None = None,
        bias: Fact | None = None,
    ) -> TensorType:
        if self.bits not in (2, 4, 8) or self.K < 1 or self.N < 1 or self.block_size < 8 // self.bits:
            raise TypeRuleError(
                f"a weight of {self.N} rows of {self.K} in {self.bits} bits and blocks of {self.block_size} is none"
            )
        if b.dtype != u8:
            raise TypeRuleError(f"the weight is {b.type}, and it holds u8")
        if scales.dtype != a.dtype or (bias is not None and bias.dtype != a.dtype):
            raise TypeRuleError(f"a is {a.type}, the scales {scales.type}: scales and bias have a's type")
        size = b.type.size
        wanted = self.N * self.blocks * (self.block_size * self.bits // 8)
        if isinstance(size, int) and size != wanted and not self.weight_prepacked:
            raise TypeRuleError(f"the weight is {b.type}, and {wanted} bytes hold it")
        count = scales.type.size
        if isinstance(count, int) and count != self.N * self.blocks:
            raise TypeRuleError(f"the scales are {scales.type}, and there are {self.N * self.blocks} blocks")
        _check_bias(bias, self.N)
        if a.type.shape is None:
            return TensorType(a.dtype, None)
        if a.rank < 1 or (isinstance(a.shape[-1], int) and a.shape[-1] != self.K):
            raise TypeRuleError(f"a is {a.type}, and its rows have {self.K} elements")
        return TensorType(a.dtype, (*a.shape[:-1], self.N))

    def kernel(
        self,
        a: np.ndarray,
        b: np.ndarray,
        scales: np.ndarray,
        zero_points: np.ndarray | None = None,
        g_idx: np.ndarray | None = None,
        bias: np.ndarray | None = None,
    ) -> np.ndarray:
        if self.weight_prepacked:
            raise NoKernelError("a weight in a provider's own layout is not known")
        rows = self._unpacked(b.reshape(self.N, -1))[:, : self.blocks * self.block_size]
        factors = scales.reshape(self.N, self.blocks)
        zeros = np.full((self.N, self.blocks), 2 ** (self.bits - 1), np.uint8)
        if zero_points is not None:
            given = zero_points.reshape(self.N, -1)
            zeros = self._unpacked(given)[:, : self.blocks] if given.dtype == np.uint8 else given
        of = np.arange(self.K) // self.block_size if g_idx is None else g_idx[: self.K]
        kind = np.result_type(a.dtype, np.float32)
        weight = (rows[:, : self.K].astype(kind) - zeros[:, of].astype(kind)) * factors[:, of].astype(kind)
        y = a.astype(kind, copy=False) @ weight.T
        return (y if bias is None else y + bias).astype(a.dtype, copy=False)

    def _unpacked(self, data: np.ndarray) -> np.ndarray:
        """Rows of bytes as rows of the numbers in them."""
        shifts = np.arange(0, 8, self.bits, dtype=np.uint8)
        parts = (data[:, :, None] >> shifts) & np.uint8(2**self.bits - 1)
        return parts.reshape(len(data), -1)

    def macs(self, facts: tuple[Fact | None, ...], results: tuple[TensorType, ...]) -> Dim:
        out = results[0].shape
        return 0 if out is None else product(out) * self.K
