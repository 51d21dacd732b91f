"""Elementwise arithmetic: Add, Sub, Mul, Div, Pow, Sum, Min, Max, Sqrt, Exp, Log, Neg, Abs, Reciprocal, Floor, Ceil."""

from __future__ import annotations

from functools import reduce

import numpy as np

from graphopt.ir.dims import is_nonnegative
from graphopt.ir.types import TensorType
from graphopt.ops.algebra import Affine, ChannelAffine, Refused
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.broadcast import broadcast
from graphopt.ops.room import FLOAT, NUMERIC, Fact, Room, Trait, operand, operator

__all__ = ["abs", "add", "div", "exp", "log", "maximum", "minimum", "mul", "neg", "pow", "sqrt", "sub", "sum"]

_SHAPES = frozenset({Trait.ELEMENTWISE, Trait.SHAPE_ARITHMETIC})


def _binary(a: Fact, b: Fact) -> TensorType:
    return TensorType(a.dtype, broadcast(a.shape, b.shape))


def channel_constant(facts: tuple[Fact | None, ...], axis: int, data: int) -> np.ndarray:
    """The other operand of a binary operator as float64, by channel: shape [C], or [] for one number.

    Raises:
        Refused: it is computed, an integer, broadens the result, or varies along another axis than `axis`.
    """
    x, other = facts[data], facts[1 - data]
    if x is None or other is None or x.type.shape is None:
        raise Refused("the operands' ranks are not known")
    if other.constant is None:
        raise Refused("the other operand is not a constant")
    if not x.dtype.is_float:
        raise Refused(f"it computes in {x.dtype}")
    shape = other.constant.shape
    array = other.constant.array().astype(np.float64)
    if array.size == 1 and len(shape) <= x.rank:
        return array.reshape(())
    padded = (1,) * (x.rank - len(shape)) + shape
    channels = x.shape[axis]
    if len(padded) > x.rank:
        raise Refused(f"the constant {other.type} broadens the result of {x.type}")
    for i, (dim, have) in enumerate(zip(padded, x.shape, strict=True)):
        if dim == 1:
            continue
        if i != axis:
            raise Refused(
                f"the constant {other.type} varies along axis {i} of {x.type}, and the channels are axis {axis}"
            )
        if have != dim:
            raise Refused(f"the constant {other.type} has {dim} channels and {x.type} has {channels}")
    return array.reshape(-1)


@operator("Add", since=1)
class Add(Room, ChannelAffine):
    """a + b with broadcasting; integers wrap. ONNX Add-14."""

    a = operand(NUMERIC)
    b = operand(NUMERIC)
    traits = _SHAPES | {Trait.COMMUTATIVE}

    def infer(self, a: Fact, b: Fact) -> TensorType:
        return _binary(a, b)

    def kernel(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(a + b)

    def affine(self, facts: tuple[Fact | None, ...], axis: int, data: int) -> Affine:
        return Affine(data, np.ones(()), channel_constant(facts, axis, data))


@operator("Sub", since=1)
class Sub(Room, ChannelAffine):
    """a - b with broadcasting; integers wrap. ONNX Sub-14."""

    a = operand(NUMERIC)
    b = operand(NUMERIC)
    traits = _SHAPES

    def infer(self, a: Fact, b: Fact) -> TensorType:
        return _binary(a, b)

    def kernel(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(a - b)

    def affine(self, facts: tuple[Fact | None, ...], axis: int, data: int) -> Affine:
        other = channel_constant(facts, axis, data)
        return Affine(data, np.ones(()), -other) if data == 0 else Affine(data, -np.ones(()), other)


@operator("Mul", since=1)
class Mul(Room, ChannelAffine):
    """a · b with broadcasting; integers wrap. ONNX Mul-14."""

    a = operand(NUMERIC)
    b = operand(NUMERIC)
    traits = _SHAPES | {Trait.COMMUTATIVE}

    def infer(self, a: Fact, b: Fact) -> TensorType:
        return _binary(a, b)

    def kernel(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(a * b)

    def affine(self, facts: tuple[Fact | None, ...], axis: int, data: int) -> Affine:
        return Affine(data, channel_constant(facts, axis, data), np.zeros(()))


@operator("Div", since=1)
class Div(Room, ChannelAffine):
    """a / b with broadcasting; integers round toward zero. ONNX Div-14."""

    a = operand(NUMERIC)
    b = operand(NUMERIC)
    traits = _SHAPES

    def infer(self, a: Fact, b: Fact) -> TensorType:
        return _binary(a, b)

    def elements(self, *facts: Fact | None) -> np.ndarray | None:
        for known in facts:
            if known is None or known.elements is None or not all(map(is_nonnegative, known.elements.ravel())):
                return None  # dims round down, integers toward zero: the same only for what is not negative
        divisor = facts[1]
        if divisor is None or divisor.elements is None:
            return None
        if any(isinstance(e, int) and e == 0 for e in divisor.elements.ravel()):
            return None
        return super().elements(*facts)

    def kernel(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if a.dtype.kind == "O":
            return np.asarray(a // b)
        if a.dtype.kind not in "iu":
            return np.asarray(a / b)
        quotient = np.asarray(a // b)  # rounds down: one more where the signs differ and something is left
        return quotient + ((a % b != 0) & ((a < 0) != (b < 0))).astype(a.dtype)

    def affine(self, facts: tuple[Fact | None, ...], axis: int, data: int) -> Affine:
        if data != 0:
            raise Refused("it is the divisor")
        other = channel_constant(facts, axis, data)
        if (other == 0).any():
            raise Refused("a divisor is 0")
        return Affine(data, 1 / other, np.zeros(()))


@operator("Pow", since=1)
class Pow(Room):
    """a to the power b with broadcasting, in a's element type. ONNX Pow-15."""

    a = operand(NUMERIC)
    b = operand(NUMERIC)
    traits = frozenset({Trait.ELEMENTWISE})

    def infer(self, a: Fact, b: Fact) -> TensorType:
        return _binary(a, b)

    def kernel(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if a.dtype.kind == "f" and b.dtype.kind == "f":
            return np.asarray(np.power(a, b.astype(np.result_type(a, b)))).astype(a.dtype)
        return np.asarray(np.power(a.astype(np.float64), b.astype(np.float64))).astype(a.dtype)


class _Variadic(Room):
    """Any number of operands, broadcast together."""

    def infer(self, *xs: Fact) -> TensorType:
        return TensorType(xs[0].dtype, broadcast(*(x.shape for x in xs)))

    def forwards(self, *facts: Fact | None) -> int | None:
        return 0 if len(facts) == 1 else None


@operator("Sum", since=1)
class Sum(_Variadic):
    """The sum of all operands with broadcasting. ONNX Sum-13."""

    xs = operand(FLOAT, variadic=True)
    traits = frozenset({Trait.ELEMENTWISE})

    def kernel(self, *xs: np.ndarray) -> np.ndarray:
        return np.asarray(reduce(np.add, xs))


@operator("Min", since=1)
class Min(_Variadic):
    """The smallest of all operands with broadcasting; NaN wins. ONNX Min-13."""

    xs = operand(NUMERIC, variadic=True)
    traits = frozenset({Trait.ELEMENTWISE})

    def kernel(self, *xs: np.ndarray) -> np.ndarray:
        return np.asarray(reduce(np.minimum, xs))


@operator("Max", since=1)
class Max(_Variadic):
    """The largest of all operands with broadcasting; NaN wins. ONNX Max-13."""

    xs = operand(NUMERIC, variadic=True)
    traits = frozenset({Trait.ELEMENTWISE})

    def kernel(self, *xs: np.ndarray) -> np.ndarray:
        return np.asarray(reduce(np.maximum, xs))


class _Unary(Room):
    """One operand, the same type."""

    def infer(self, x: Fact) -> TensorType:
        return x.type


@operator("Sqrt", since=1)
class Sqrt(_Unary):
    """The square root. ONNX Sqrt-13."""

    x = operand(FLOAT)
    traits = frozenset({Trait.ELEMENTWISE, Trait.MONOTONE})

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.sqrt(x)


@operator("Exp", since=1)
class Exp(_Unary):
    """e to the power x. ONNX Exp-13."""

    x = operand(FLOAT)
    traits = frozenset({Trait.ELEMENTWISE, Trait.MONOTONE})

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.exp(x)


@operator("Log", since=1)
class Log(_Unary):
    """The natural logarithm. ONNX Log-13."""

    x = operand(FLOAT)
    traits = frozenset({Trait.ELEMENTWISE, Trait.MONOTONE})

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.log(x)


@operator("Neg", since=1)
class Neg(_Unary):
    """-x. ONNX Neg-13."""

    x = operand(NUMERIC)
    traits = frozenset({Trait.ELEMENTWISE})

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.negative(x)


@operator("Abs", since=1)
class Abs(_Unary):
    """|x|. ONNX Abs-13."""

    x = operand(NUMERIC)
    traits = frozenset({Trait.ELEMENTWISE, Trait.IDEMPOTENT, Trait.POSITIVE_HOMOGENEOUS})

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.abs(x)


@operator("Reciprocal", since=1)
class Reciprocal(_Unary):
    """1 / x. ONNX Reciprocal-13."""

    x = operand(FLOAT)
    traits = frozenset({Trait.ELEMENTWISE})

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.reciprocal(x)


@operator("Floor", since=1)
class Floor(_Unary):
    """The largest integer not above x. ONNX Floor-13."""

    x = operand(FLOAT)
    traits = frozenset({Trait.ELEMENTWISE, Trait.MONOTONE, Trait.IDEMPOTENT})

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.floor(x)


@operator("Ceil", since=1)
class Ceil(_Unary):
    """The smallest integer not below x. ONNX Ceil-13."""

    x = operand(FLOAT)
    traits = frozenset({Trait.ELEMENTWISE, Trait.MONOTONE, Trait.IDEMPOTENT})

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.ceil(x)


def add(a: Like, b: Like) -> Operand:
    """The sum a + b."""
    return apply(Add(), a, b)


def sub(a: Like, b: Like) -> Operand:
    """The difference a - b."""
    return apply(Sub(), a, b)


def mul(a: Like, b: Like) -> Operand:
    """The product a · b."""
    return apply(Mul(), a, b)


def div(a: Like, b: Like) -> Operand:
    """The quotient a / b."""
    return apply(Div(), a, b)


def pow(a: Like, b: Like) -> Operand:  # noqa: A001  # ONNX's name
    """The power of a with exponent b."""
    return apply(Pow(), a, b)


def sum(*xs: Like) -> Operand:  # noqa: A001  # ONNX's name
    """The sum of all operands."""
    return apply(Sum(), *xs)


def minimum(*xs: Like) -> Operand:
    """The smallest of all operands."""
    return apply(Min(), *xs)


def maximum(*xs: Like) -> Operand:
    """The largest of all operands."""
    return apply(Max(), *xs)


def sqrt(x: Like) -> Operand:
    """The square root."""
    return apply(Sqrt(), x)


def exp(x: Like) -> Operand:
    """The exponential of x."""
    return apply(Exp(), x)


def log(x: Like) -> Operand:
    """The natural logarithm."""
    return apply(Log(), x)


def neg(x: Like) -> Operand:
    """-x."""
    return apply(Neg(), x)


def abs(x: Like) -> Operand:  # noqa: A001  # ONNX's name
    """|x|."""
    return apply(Abs(), x)
