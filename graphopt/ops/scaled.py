"""Scaled integers: what rooms of quantized operators share.

A number is kept as q = saturate(round(x / scale) + zero point), ties to even, and stands for (q - zero point) * scale.
One scale holds for a whole tensor, for an index along an axis, or for a block of indices along it.

All of this is computed in single precision whatever the width of the operands, because that is what a quantized
network is: next to a tie the width decides which integer comes out, and a runtime computes in float32.
"""

from __future__ import annotations

import numpy as np

from graphopt.errors import TypeRuleError
from graphopt.ir.types import DType, dtype_of
from graphopt.ops.broadcast import fits
from graphopt.ops.convert import convert
from graphopt.ops.room import Fact


def single(x: np.ndarray) -> np.ndarray:
    """`x` in float32."""
    return x.astype(np.float32, copy=False)


def saturated(x: np.ndarray, zero: np.ndarray | None, dtype: DType) -> np.ndarray:
    """round(x) + zero point in an integer type of up to 16 bits, cut at its ends; NaN is the least integer."""
    low, high = limits(dtype)
    made = np.rint(x)
    if zero is not None:
        made = made + zero.astype(np.float32)
    cut = np.minimum(np.fmax(made, np.float32(low)), np.float32(high))
    return cut.astype(np.int8 if dtype.bits < 8 else dtype.numpy).astype(dtype.numpy, copy=False)


def limits(dtype: DType) -> tuple[int, int]:
    """The least and the largest integer of an integer type."""
    return (0, 2**dtype.bits - 1) if dtype.kind == "uint" else (-(2 ** (dtype.bits - 1)), 2 ** (dtype.bits - 1) - 1)


def quantized(
    x: np.ndarray, scale: np.ndarray, zero: np.ndarray | None, dtype: DType, *, saturate: bool = True
) -> np.ndarray:
    """`x` as integers (or float8, float4) of a scale and zero point that broadcast to it."""
    with np.errstate(all="ignore"):
        ratio = single(x) / single(scale)
        if dtype.is_integer:
            return saturated(ratio, zero, dtype)
        return convert(ratio if zero is None else ratio + single(zero), dtype, saturate=saturate)


def dequantized(x: np.ndarray, scale: np.ndarray, zero: np.ndarray | None = None) -> np.ndarray:
    """What integers (or float8, float4) of a scale and zero point that broadcast to them stand for, in float32."""
    return single(less(x, zero)) * single(scale)


def less(x: np.ndarray, zero: np.ndarray | None) -> np.ndarray:
    """`x` less its zero point, without overflow; floats have none."""
    if dtype_of(x.dtype).is_float:
        return single(x) if zero is None else single(x) - single(zero)
    wide = x.astype(np.int64 if x.dtype.itemsize > 2 else np.int32)
    return wide if zero is None else wide - zero.astype(wide.dtype)


def zero_or_none(zero: np.ndarray | None) -> np.ndarray | None:
    """A zero point that is one number, as a scalar."""
    return None if zero is None else zero.reshape(())


def is_one(operand: Fact) -> bool:
    """Whether an operand may be one number: a scalar, or a list of one."""
    shape = operand.type.shape
    return shape is None or len(shape) == 0 or (len(shape) == 1 and fits(shape[0], 1))


def check_one(**operands: Fact | None) -> None:
    """All of these scales and zero points are one number, and scales are floats.

    Raises:
        TypeRuleError: one is not.
    """
    for name, given in operands.items():
        if given is not None and not is_one(given):
            raise TypeRuleError(f"{name} is {given.type}, and one number holds for the whole tensor")
    check_single(**operands)


def check_single(**operands: Fact | None) -> None:
    """All of these that are scales (by name) are float32.

    Raises:
        TypeRuleError: one is not.
    """
    for name, given in operands.items():
        if given is not None and name.endswith("scale") and (given.dtype.bits != 32 or not given.dtype.is_float):
            raise TypeRuleError(f"{name} is {given.type}, and scales are f32")


def check_bytes(**operands: Fact | None) -> None:
    """All of these are tensors of integers of 8 bits.

    Raises:
        TypeRuleError: one is not.
    """
    for name, given in operands.items():
        if given is not None and given.dtype.bits != 8:
            raise TypeRuleError(f"{name} is {given.type}, and it holds i8 or u8")


def check_zero(name: str, zero: Fact | None, x: Fact) -> None:
    """A zero point has the element type of its tensor.

    Raises:
        TypeRuleError: it has not.
    """
    if zero is not None and zero.dtype != x.dtype:
        raise TypeRuleError(f"the zero point {name} is {zero.type}, and its tensor {x.type}")
