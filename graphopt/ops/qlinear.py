"""ONNX Runtime's operators on scaled integers of 8 bits, element by element and along an axis (see `scaled`).

All but QLinearAdd and QLinearMul are dequantize, compute in float32, quantize. Those two are computed in the order of
ONNX Runtime's kernels for AVX2, so that ties fall alike: (a - za) · sa / sc + ... is taken apart there.
"""

from __future__ import annotations

import numpy as np

from graphopt.errors import TypeRuleError
from graphopt.ir.types import TensorType, dtype_of
from graphopt.ops.activation import LeakyRelu, Sigmoid
from graphopt.ops.axes import normalized
from graphopt.ops.broadcast import broadcast
from graphopt.ops.movement import Concat
from graphopt.ops.room import BOOL, FLOAT, INTEGER, MICROSOFT, NUMERIC, Fact, Room, Trait, operand, operator
from graphopt.ops.scaled import (
    check_bytes,
    check_one,
    check_zero,
    dequantized,
    less,
    limits,
    quantized,
    single,
    zero_or_none,
)

_QUANTIZES = frozenset({Trait.QUANTIZES})


class _Binary(Room):
    """Two tensors of one type, broadcast, with a scale and a zero point each, and those of the result."""

    traits = _QUANTIZES

    def infer(
        self,
        a: Fact,
        a_scale: Fact,
        a_zero_point: Fact | None,
        b: Fact,
        b_scale: Fact,
        b_zero_point: Fact | None,
        c_scale: Fact,
        c_zero_point: Fact | None = None,
    ) -> TensorType:
        check_bytes(a=a, b=b)
        check_one(a_scale=a_scale, a_zero_point=a_zero_point, b_scale=b_scale, b_zero_point=b_zero_point)
        check_one(c_scale=c_scale, c_zero_point=c_zero_point)
        for name, zero in (("a", a_zero_point), ("b", b_zero_point), ("c", c_zero_point)):
            check_zero(f"{name}_zero_point", zero, a)
        if a.dtype != b.dtype:
            raise TypeRuleError(f"{a.type} and {b.type} have different element types")
        if a.type.shape is None or b.type.shape is None:
            return TensorType(a.dtype, None)
        return TensorType(a.dtype, broadcast(a.shape, b.shape))


def _scalars(*values: np.ndarray | None) -> list[np.float32]:
    """Scales and zero points as float32 numbers; 0 for a zero point that is left out."""
    return [np.float32(0 if v is None else v.reshape(()).item()) for v in values]


def _cut(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    low, high = limits(dtype_of(dtype))
    return np.clip(np.rint(x), low, high).astype(dtype)


@operator("QLinearAdd", since=1, domain=MICROSOFT)
class QLinearAdd(_Binary):
    """a + b of scaled integers; next to a tie, runtimes round either way. ONNX Runtime's com.microsoft QLinearAdd-1."""

    a = operand(INTEGER)
    a_scale = operand(FLOAT)
    a_zero_point = operand(INTEGER, optional=True)
    b = operand(INTEGER)
    b_scale = operand(FLOAT)
    b_zero_point = operand(INTEGER, optional=True)
    c_scale = operand(FLOAT)
    c_zero_point = operand(INTEGER, optional=True)

    def kernel(
        self,
        a: np.ndarray,
        a_scale: np.ndarray,
        a_zero_point: np.ndarray | None,
        b: np.ndarray,
        b_scale: np.ndarray,
        b_zero_point: np.ndarray | None,
        c_scale: np.ndarray,
        c_zero_point: np.ndarray | None = None,
    ) -> np.ndarray:
        scale_a, zero_a, scale_b, zero_b = _scalars(a_scale, a_zero_point, b_scale, b_zero_point)
        scale_c, zero_c = _scalars(c_scale, c_zero_point)
        total = (single(a) - zero_a) * scale_a + (single(b) - zero_b) * scale_b
        return _cut(total / scale_c + zero_c, a.dtype)


@operator("QLinearMul", since=1, domain=MICROSOFT)
class QLinearMul(_Binary):
    """a · b of scaled integers. ONNX Runtime's com.microsoft QLinearMul-1."""

    a = operand(INTEGER)
    a_scale = operand(FLOAT)
    a_zero_point = operand(INTEGER, optional=True)
    b = operand(INTEGER)
    b_scale = operand(FLOAT)
    b_zero_point = operand(INTEGER, optional=True)
    c_scale = operand(FLOAT)
    c_zero_point = operand(INTEGER, optional=True)

    def kernel(
        self,
        a: np.ndarray,
        a_scale: np.ndarray,
        a_zero_point: np.ndarray | None,
        b: np.ndarray,
        b_scale: np.ndarray,
        b_zero_point: np.ndarray | None,
        c_scale: np.ndarray,
        c_zero_point: np.ndarray | None = None,
    ) -> np.ndarray:
        scale_a, scale_b, scale_c, zero_c = _scalars(a_scale, b_scale, c_scale, c_zero_point)
        product = less(a, zero_or_none(a_zero_point)) * less(b, zero_or_none(b_zero_point))
        return _cut(single(product) * (scale_a * scale_b / scale_c) + zero_c, a.dtype)


class _Unary(Room):
    """One tensor with its scale and zero point, and those of the result."""

    traits = _QUANTIZES

    def infer(
        self,
        x: Fact,
        x_scale: Fact,
        x_zero_point: Fact | None,
        y_scale: Fact,
        y_zero_point: Fact | None = None,
    ) -> TensorType:
        check_bytes(x=x)
        check_one(x_scale=x_scale, x_zero_point=x_zero_point, y_scale=y_scale, y_zero_point=y_zero_point)
        check_zero("x_zero_point", x_zero_point, x)
        check_zero("y_zero_point", y_zero_point, x)
        return x.type

    def kernel(
        self,
        x: np.ndarray,
        x_scale: np.ndarray,
        x_zero_point: np.ndarray | None,
        y_scale: np.ndarray,
        y_zero_point: np.ndarray | None = None,
    ) -> np.ndarray:
        numbers = dequantized(x, x_scale.reshape(()), zero_or_none(x_zero_point))
        return quantized(self.of_numbers(numbers), y_scale.reshape(()), zero_or_none(y_zero_point), dtype_of(x.dtype))

    def of_numbers(self, x: np.ndarray) -> np.ndarray:
        """The function of float32 numbers."""
        raise NotImplementedError


@operator("QLinearSigmoid", since=1, domain=MICROSOFT)
class QLinearSigmoid(_Unary):
    """1 / (1 + exp(-x)) of scaled integers. ONNX Runtime's com.microsoft QLinearSigmoid-1."""

    x = operand(INTEGER)
    x_scale = operand(FLOAT)
    x_zero_point = operand(INTEGER, optional=True)
    y_scale = operand(FLOAT)
    y_zero_point = operand(INTEGER, optional=True)

    def of_numbers(self, x: np.ndarray) -> np.ndarray:
        return Sigmoid().kernel(x.astype(np.float64))


@operator("QLinearLeakyRelu", since=1, domain=MICROSOFT)
class QLinearLeakyRelu(_Unary):
    """x where x >= 0, alpha * x elsewhere, of scaled integers. ONNX Runtime's com.microsoft QLinearLeakyRelu-1."""

    x = operand(INTEGER)
    x_scale = operand(FLOAT)
    x_zero_point = operand(INTEGER, optional=True)
    y_scale = operand(FLOAT)
    y_zero_point = operand(INTEGER, optional=True)
    alpha: float = 0.009999999776482582

    def of_numbers(self, x: np.ndarray) -> np.ndarray:
        return LeakyRelu(alpha=self.alpha).kernel(x)


@operator("QLinearSoftmax", since=1, domain=MICROSOFT)
class QLinearSoftmax(_Unary):
    """exp(x) / Σ exp(x) of scaled integers. ONNX Runtime's com.microsoft QLinearSoftmax-1.

    In units of 1 / floor(1 / y_scale), as ONNX Runtime computes it, which is y_scale where that divides 1. Along `axis`
    for `opset` 13 and newer, over the axes from `axis` on below.
    """

    x = operand(INTEGER)
    x_scale = operand(FLOAT)
    x_zero_point = operand(INTEGER, optional=True)
    y_scale = operand(FLOAT)
    y_zero_point = operand(INTEGER)
    opset: int
    axis: int = -1

    def infer(
        self,
        x: Fact,
        x_scale: Fact,
        x_zero_point: Fact | None,
        y_scale: Fact,
        y_zero_point: Fact | None = None,
    ) -> TensorType:
        if x.type.shape is not None:
            normalized([self.axis], x.rank)
        return super().infer(x, x_scale, x_zero_point, y_scale, y_zero_point)

    def kernel(
        self,
        x: np.ndarray,
        x_scale: np.ndarray,
        x_zero_point: np.ndarray | None,
        y_scale: np.ndarray,
        y_zero_point: np.ndarray | None = None,
    ) -> np.ndarray:
        if x.size == 0:
            return x
        axis = self.axis % x.ndim
        rows = np.moveaxis(x, axis, -1) if self.opset >= 13 else x.reshape(*x.shape[:axis], -1)
        steps = rows.astype(np.float64) - rows.max(axis=-1, keepdims=True)
        room = np.log(np.float64(np.finfo(np.float32).max) / rows.shape[-1]) - 5  # the largest power leaves this much
        scale, unit = (float(single(s).reshape(())) for s in (x_scale, y_scale))
        powers = np.exp(steps * scale + max(room, 0.0)).astype(np.float32)
        total = np.cumsum(powers, axis=-1)[..., -1:]  # one after another, as it is done there
        made = np.rint(powers * np.floor(np.float32(1) / np.float32(unit)) / total)
        zero = 0 if y_zero_point is None else y_zero_point.reshape(()).item()
        made = _cut(made + np.float32(zero), x.dtype)
        return np.ascontiguousarray(np.moveaxis(made, -1, axis)) if self.opset >= 13 else made.reshape(x.shape)


@operator("QLinearConcat", since=1, domain=MICROSOFT)
class QLinearConcat(Room):
    """Tensors of scaled integers one after another, in one scale; each comes with its scale and zero point.

    ONNX Runtime's com.microsoft QLinearConcat-1.
    """

    y_scale = operand(FLOAT)
    y_zero_point = operand(INTEGER)
    xs = operand(NUMERIC, variadic=True)
    axis: int
    traits = _QUANTIZES

    def infer(self, y_scale: Fact, y_zero_point: Fact, *xs: Fact | None) -> TensorType:
        check_one(y_scale=y_scale, y_zero_point=y_zero_point)
        check_bytes(y_zero_point=y_zero_point)
        if not xs or len(xs) % 3:
            raise TypeRuleError(f"{len(xs)} operands are no tensors with a scale and a zero point each")
        tensors = []
        for i, (x, scale, zero) in enumerate(zip(xs[::3], xs[1::3], xs[2::3], strict=True)):
            if x is None or scale is None or zero is None:
                raise TypeRuleError(f"tensor {i}, its scale or its zero point is left out")
            check_one(x_scale=scale, x_zero_point=zero)
            if not x.dtype == zero.dtype == y_zero_point.dtype:
                raise TypeRuleError(
                    f"tensor {i} is {x.type}, its zero point {zero.type}, the result's {y_zero_point.type}"
                )
            tensors.append(Fact(x.type))
        return Concat(axis=self.axis).infer(*tensors)

    def unranked(self, *facts: Fact | None) -> TensorType | None:
        return super().unranked(*facts[1:])

    def kernel(self, y_scale: np.ndarray, y_zero_point: np.ndarray, *xs: np.ndarray) -> np.ndarray:
        target = dtype_of(y_zero_point.dtype)
        to = y_scale.reshape(()), y_zero_point.reshape(()), target
        parts = zip(xs[::3], xs[1::3], xs[2::3], strict=True)
        made = [quantized(dequantized(x, s.reshape(()), z.reshape(())), *to) for x, s, z in parts]
        return np.concatenate(made, axis=self.axis)


@operator("QLinearWhere", since=1, domain=MICROSOFT)
class QLinearWhere(Room):
    """x where the condition holds, y elsewhere, of scaled integers. ONNX Runtime's com.microsoft QLinearWhere-1."""

    condition = operand(BOOL)
    x = operand(INTEGER)
    x_scale = operand(FLOAT)
    x_zero_point = operand(INTEGER)
    y = operand(INTEGER)
    y_scale = operand(FLOAT)
    y_zero_point = operand(INTEGER)
    z_scale = operand(FLOAT)
    z_zero_point = operand(INTEGER)
    traits = _QUANTIZES

    def infer(
        self,
        condition: Fact,
        x: Fact,
        x_scale: Fact,
        x_zero_point: Fact,
        y: Fact,
        y_scale: Fact,
        y_zero_point: Fact,
        z_scale: Fact,
        z_zero_point: Fact,
    ) -> TensorType:
        check_bytes(x=x, y=y)
        check_one(x_scale=x_scale, x_zero_point=x_zero_point, y_scale=y_scale, y_zero_point=y_zero_point)
        check_one(z_scale=z_scale, z_zero_point=z_zero_point)
        for name, zero, of in (("x", x_zero_point, x), ("y", y_zero_point, y), ("z", z_zero_point, x)):
            check_zero(f"{name}_zero_point", zero, of)
        if x.dtype != y.dtype:
            raise TypeRuleError(f"{x.type} and {y.type} have different element types")
        shapes = [f.type.shape for f in (condition, x, y)]
        known = [s for s in shapes if s is not None]
        return TensorType(x.dtype, broadcast(*known) if len(known) == 3 else None)

    def kernel(
        self,
        condition: np.ndarray,
        x: np.ndarray,
        x_scale: np.ndarray,
        x_zero_point: np.ndarray,
        y: np.ndarray,
        y_scale: np.ndarray,
        y_zero_point: np.ndarray,
        z_scale: np.ndarray,
        z_zero_point: np.ndarray,
    ) -> np.ndarray:
        scales = [s.reshape(()) for s in (x_scale, y_scale, z_scale)]
        zeros = [z.reshape(()) for z in (x_zero_point, y_zero_point, z_zero_point)]
        numbers = [dequantized(v, s, z) for v, s, z in zip((x, y), scales, zeros, strict=False)]
        return np.where(condition, *(quantized(n, scales[2], zeros[2], dtype_of(x.dtype)) for n in numbers))
