"""QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear: between numbers and scaled integers (see `scaled`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import numpy as np

from graphopt.errors import GraphError, OpsetError, TypeRuleError
from graphopt.ir.dims import floor_div
from graphopt.ir.types import DType, TensorType, dtype_of, dtype_of_code, f32, f64, u8
from graphopt.ops.adapters import attribute_needs, same, without
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.broadcast import fits
from graphopt.ops.room import (
    FLOAT,
    INTEGER,
    MICROSOFT,
    NUMERIC,
    Adapter,
    Fact,
    NoKernelError,
    Room,
    Step,
    Trait,
    operand,
    operator,
)
from graphopt.ops.scaled import dequantized, is_one, quantized

__all__ = ["dequantize_linear", "quantize_linear"]

_QUANTIZES = frozenset({Trait.QUANTIZES})
_TARGET_BITS = 16  # integers that numbers are quantized to


class _ByAxis(Room):
    """A scale and a zero point for the tensor, for each index along an axis, or for each block of indices."""

    axis: int
    block_size: int
    traits = _QUANTIZES

    def check(self, x: Fact, scale: Fact, zero: Fact | None) -> None:
        """The scale and the zero point fit the tensor.

        Raises:
            TypeRuleError: they do not.
        """
        if self.block_size < 0:
            raise TypeRuleError(f"block_size is {self.block_size}, and none is below 0")
        if zero is not None and zero.type.shape is not None and scale.type.shape is not None:
            alike = len(zero.shape) == len(scale.shape) and all(map(fits, zero.shape, scale.shape))
            if not alike and not (is_one(zero) and is_one(scale)):
                raise TypeRuleError(f"the scale is {scale.type} and the zero point {zero.type}: they differ in shape")
        if scale.type.shape is None or x.type.shape is None or (not self.block_size and is_one(scale)):
            return
        if not -x.rank <= self.axis < x.rank:
            raise TypeRuleError(f"axis {self.axis} is not an axis of {x.type}")
        axis = self.axis % x.rank
        if not self.block_size:
            if scale.rank != 1 or not fits(scale.shape[0], x.shape[axis]):
                raise TypeRuleError(f"the scale is {scale.type}, and axis {axis} of {x.type} has {x.shape[axis]}")
            return
        wanted = list(x.shape)
        wanted[axis] = floor_div(x.shape[axis] + (self.block_size - 1), self.block_size)
        if scale.rank != x.rank or not all(map(fits, scale.shape, wanted)):
            blocks = ", ".join(map(str, wanted))
            raise TypeRuleError(f"the scale is {scale.type}, and blocks of {self.block_size} need [{blocks}]")

    def laid_out(self, scale: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """A scale or a zero point, made to broadcast to a tensor of `shape`."""
        if self.block_size:
            every = np.repeat(scale, self.block_size, self.axis)
            return every[(*[slice(None)] * (self.axis % len(shape)), slice(shape[self.axis]))]
        if scale.size == 1:
            return scale.reshape(())
        return scale.reshape((-1,) + (1,) * (len(shape) - 1 - self.axis % len(shape)))

    def laid_out_zero(self, zero: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray | None:
        """`laid_out` for a zero point that may be left out."""
        return None if zero is None else self.laid_out(zero, shape)


def _float_type(code: int, name: str) -> DType:
    return _type_of(code, name, lambda dtype: dtype.is_float and dtype.bits >= 16)


def _type_of(code: int, name: str, takes: Callable[[DType], bool]) -> DType:
    try:
        found = dtype_of_code(code)
    except GraphError as error:
        raise TypeRuleError(f"{name}: {error}") from None
    if not takes(found):
        raise TypeRuleError(f"{name} is {found}, which this operator does not make")
    return found


def _is_target(dtype: DType) -> bool:
    return (dtype.is_integer and dtype.bits <= _TARGET_BITS) or (dtype.is_float and dtype.bits <= 8)


def _target(zero: DType | None, code: int) -> DType:
    """The element type that QuantizeLinear makes.

    Raises:
        TypeRuleError: the zero point and the attribute contradict each other, or it is no type to quantize to.
    """
    told = _type_of(code, "output_dtype", _is_target) if code else None
    if zero is not None and told not in (None, zero):
        raise TypeRuleError(f"the zero point is {zero} and output_dtype {told}")
    target = zero or told or u8
    if not _is_target(target):
        raise TypeRuleError(f"the zero point is {target}: numbers are not quantized to that")
    return target


def _one_scale(step: Step) -> bool:
    known = step.facts[1] if len(step.facts) > 1 else None
    return known is not None and known.type.shape in ((), (1,))


def _axis_needs_13(operator: str) -> Adapter:
    """The axis appeared in opset 13; runtimes take lists of scales before that too, along axis 1."""

    def down(step: Step) -> Step:
        axis = step.attributes.get("axis")
        if axis is not None and not _one_scale(step):
            raise OpsetError(f"{operator} with scales along axis {axis.value} needs opset 13")
        return replace(step, attributes=without(step, "axis"))

    return Adapter(13, same, down)


def _type_not_from_scale(step: Step) -> Step:
    """Below 23 the scale has the numbers' type (integers have it from no type that can be a scale's)."""
    x, scale = (*step.facts, None, None)[:2]
    if x is not None and scale is not None and x.dtype.is_float and x.dtype != scale.dtype:
        raise OpsetError(f"QuantizeLinear of {x.dtype} by a scale of {scale.dtype} needs opset 23")
    return step


def _type_by_zero_point(step: Step) -> Step:
    """Where a zero point says the type `output_dtype` says nothing more."""
    code = step.attributes.get("output_dtype")
    zero = step.facts[2] if len(step.facts) > 2 else None
    if zero is not None:
        return replace(step, attributes=without(step, "output_dtype"))
    if code is not None and code.value not in (0, u8.code):
        raise OpsetError(f"QuantizeLinear with output_dtype={code.value!r} and no zero point needs opset 21")
    return replace(step, attributes=without(step, "output_dtype"))


def _precision_of_scale(step: Step) -> Step:
    """A precision that is the scale's own says nothing more."""
    code, scale = step.attributes.get("precision"), step.facts[1] if len(step.facts) > 1 else None
    if code is not None and scale is not None and code.value == scale.dtype.code:
        return replace(step, attributes=without(step, "precision"))
    return step


@operator("QuantizeLinear", since=10)
class QuantizeLinear(_ByAxis):
    """saturate(round(x / scale) + zero point), ties to even; float8 is not rounded to integers. ONNX QuantizeLinear-25.

    The division is in float32 as in ONNX Runtime, where ONNX asks for the scale's type or `precision`.
    """

    x = operand(NUMERIC)
    y_scale = operand(FLOAT)
    y_zero_point = operand(NUMERIC, optional=True)
    axis: int = 1
    block_size: int = 0
    output_dtype: int = 0
    precision: int = 0
    saturate: int = 1
    adapters: ClassVar[tuple[Adapter, ...]] = (
        _axis_needs_13("QuantizeLinear"),
        attribute_needs("QuantizeLinear", 19, "saturate", 1),
        attribute_needs("QuantizeLinear", 21, "block_size", 0),
        Adapter(21, same, _type_by_zero_point),
        Adapter(23, same, _precision_of_scale),
        attribute_needs("QuantizeLinear", 23, "precision", 0),
        Adapter(23, same, _type_not_from_scale),
    )

    def infer(self, x: Fact, y_scale: Fact, y_zero_point: Fact | None = None) -> TensorType:
        target = _target(None if y_zero_point is None else y_zero_point.dtype, self.output_dtype)
        if self.precision:
            _float_type(self.precision, "precision")
        self.check(x, y_scale, y_zero_point)
        return TensorType(target, x.type.shape)

    def kernel(self, x: np.ndarray, y_scale: np.ndarray, y_zero_point: np.ndarray | None = None) -> np.ndarray:
        target = _target(None if y_zero_point is None else dtype_of(y_zero_point.dtype), self.output_dtype)
        scale, zero = self.laid_out(y_scale, x.shape), self.laid_out_zero(y_zero_point, x.shape)
        return quantized(x, scale, zero, target, saturate=bool(self.saturate))


def _result_of_scale(step: Step) -> Step:
    """An `output_dtype` that is the scale's own says nothing more."""
    code, scale = step.attributes.get("output_dtype"), step.facts[1] if len(step.facts) > 1 else None
    if code is None or code.value == 0 or (scale is not None and code.value == scale.dtype.code):
        return replace(step, attributes=without(step, "output_dtype"))
    raise OpsetError(f"DequantizeLinear with output_dtype={code.value!r} needs opset 23")


@operator("DequantizeLinear", since=10)
class DequantizeLinear(_ByAxis):
    """(x - zero point) * scale. ONNX DequantizeLinear-25."""

    x = operand(NUMERIC)
    x_scale = operand(FLOAT)
    x_zero_point = operand(NUMERIC, optional=True)
    axis: int = 1
    block_size: int = 0
    output_dtype: int = 0
    adapters: ClassVar[tuple[Adapter, ...]] = (
        _axis_needs_13("DequantizeLinear"),
        attribute_needs("DequantizeLinear", 21, "block_size", 0),
        Adapter(23, same, _result_of_scale),
    )

    def infer(self, x: Fact, x_scale: Fact, x_zero_point: Fact | None = None) -> TensorType:
        if not _is_target(x.dtype) and x.dtype.name != "i32":
            raise TypeRuleError(f"{x.type} is not quantized")
        if x_zero_point is not None and x_zero_point.dtype != x.dtype:
            raise TypeRuleError(f"the zero point is {x_zero_point.type}, and what it belongs to {x.type}")
        self.check(x, x_scale, x_zero_point)
        return TensorType(self._result(x_scale.dtype), x.type.shape)

    def _result(self, scale: DType) -> DType:
        return _float_type(self.output_dtype or scale.code, "output_dtype" if self.output_dtype else "the scale")

    def kernel(self, x: np.ndarray, x_scale: np.ndarray, x_zero_point: np.ndarray | None = None) -> np.ndarray:
        scale, zero = self.laid_out(x_scale, x.shape), self.laid_out_zero(x_zero_point, x.shape)
        target = dtype_of(x_scale.dtype)
        if target != f64 or self.output_dtype not in (0, f32.code):  # no scale is f64 but one that was widened
            target = self._result(target)
        return dequantized(x, scale, zero).astype(target.numpy, copy=False)


@operator("QuantizeLinear", since=1, domain=MICROSOFT)
class MicrosoftQuantizeLinear(QuantizeLinear):
    """QuantizeLinear by tensor or axis, to 16 and 4 bits before ONNX had them. ONNX Runtime's com.microsoft one."""

    x = operand(FLOAT)
    y_scale = operand(FLOAT)
    y_zero_point = operand(NUMERIC, optional=True)
    adapters: ClassVar[tuple[Adapter, ...]] = ()


@operator("DequantizeLinear", since=1, domain=MICROSOFT)
class MicrosoftDequantizeLinear(DequantizeLinear):
    """DequantizeLinear by tensor or axis, of 16 and 4 bits before ONNX had them. ONNX Runtime's com.microsoft one."""

    x = operand(INTEGER)
    x_scale = operand(FLOAT)
    x_zero_point = operand(INTEGER, optional=True)
    adapters: ClassVar[tuple[Adapter, ...]] = ()


@operator("DynamicQuantizeLinear", since=11)
class DynamicQuantizeLinear(Room):
    """x in 8 bits, with the scale and the zero point that its least and largest element ask for.

    With low = min(0, min x) and high = max(0, max x): scale = (high - low) / 255, zero point = round(-low / scale), and
    saturate(round(x / scale) + zero point). ONNX DynamicQuantizeLinear-11.
    """

    x = operand(FLOAT)
    traits = _QUANTIZES

    def infer(self, x: Fact) -> tuple[TensorType, ...]:
        if x.dtype != f32:
            raise TypeRuleError(f"the operand is {x.type}, and it holds f32")
        return TensorType(u8, x.type.shape), TensorType(f32, ()), TensorType(u8, ())

    def kernel(self, x: np.ndarray) -> tuple[np.ndarray, ...]:
        scale, zero = dynamic_scale(x)
        return quantized(x, scale, zero, u8), scale.astype(x.dtype), zero


def dynamic_scale(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The float32 scale and the uint8 zero point of DynamicQuantizeLinear for a tensor."""
    narrow = x.astype(np.float32, copy=False)
    if not np.isfinite(narrow).all():
        raise NoKernelError("a range without bounds has no scale")
    low, high = np.float32(narrow.min(initial=0)), np.float32(narrow.max(initial=0))
    scale = (high - low) / np.float32(255) if high > low else np.float32(1)
    zero = np.rint(np.clip(-low / scale, np.float32(0), np.float32(255)))
    return np.asarray(scale, np.float32), np.asarray(zero, np.uint8)


def quantize_linear(x: Like, scale: Like, zero_point: Like | None = None, *, axis: int = 1) -> Operand:
    """saturate(round(x / scale) + zero_point), scales for the tensor or along an axis."""
    return apply(QuantizeLinear(axis=axis), x, scale, zero_point)


def dequantize_linear(x: Like, scale: Like, zero_point: Like | None = None, *, axis: int = 1) -> Operand:
    """(x - zero_point) * scale, scales for the tensor or along an axis."""
    return apply(DequantizeLinear(axis=axis), x, scale, zero_point)
