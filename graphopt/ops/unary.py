"""Functions of one number, elementwise: Sqrt, Exp, Log, Neg, Abs, Reciprocal, Floor, Ceil."""

from __future__ import annotations

import numpy as np

from graphopt.ir.types import TensorType
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.room import FLOAT, NUMERIC, Fact, Room, Trait, operand, operator

__all__ = ["abs", "ceil", "exp", "floor", "log", "neg", "reciprocal", "sqrt"]

SIGNED = frozenset({"float", "int"})


class Unary(Room):
    """One operand, the same type."""

    def infer(self, x: Fact) -> TensorType:
        return x.type


@operator("Sqrt", since=1)
class Sqrt(Unary):
    """The square root. ONNX Sqrt-13."""

    x = operand(FLOAT)
    traits = frozenset({Trait.ELEMENTWISE, Trait.MONOTONE})

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(np.sqrt(x))


@operator("Exp", since=1)
class Exp(Unary):
    """e to the power x. ONNX Exp-13."""

    x = operand(FLOAT)
    traits = frozenset({Trait.ELEMENTWISE, Trait.MONOTONE})

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(np.exp(x))


@operator("Log", since=1)
class Log(Unary):
    """The natural logarithm. ONNX Log-13."""

    x = operand(FLOAT)
    traits = frozenset({Trait.ELEMENTWISE, Trait.MONOTONE})

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(np.log(x))


@operator("Neg", since=1)
class Neg(Unary):
    """-x; the least integer stays. ONNX Neg-13."""

    x = operand(SIGNED)
    traits = frozenset({Trait.ELEMENTWISE})

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(np.negative(x))


@operator("Abs", since=1)
class Abs(Unary):
    """|x|; the least integer stays. ONNX Abs-13."""

    x = operand(NUMERIC)
    traits = frozenset({Trait.ELEMENTWISE, Trait.IDEMPOTENT, Trait.POSITIVE_HOMOGENEOUS})

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(np.abs(x))


@operator("Reciprocal", since=1)
class Reciprocal(Unary):
    """1 / x. ONNX Reciprocal-13."""

    x = operand(FLOAT)
    traits = frozenset({Trait.ELEMENTWISE})

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(np.reciprocal(x))


@operator("Floor", since=1)
class Floor(Unary):
    """The largest integer not above x. ONNX Floor-13."""

    x = operand(FLOAT)
    traits = frozenset({Trait.ELEMENTWISE, Trait.MONOTONE, Trait.IDEMPOTENT})

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(np.floor(x))


@operator("Ceil", since=1)
class Ceil(Unary):
    """The smallest integer not below x. ONNX Ceil-13."""

    x = operand(FLOAT)
    traits = frozenset({Trait.ELEMENTWISE, Trait.MONOTONE, Trait.IDEMPOTENT})

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(np.ceil(x))


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


def reciprocal(x: Like) -> Operand:
    """1 / x."""
    return apply(Reciprocal(), x)


def floor(x: Like) -> Operand:
    """The largest integer not above x."""
    return apply(Floor(), x)


def ceil(x: Like) -> Operand:
    """The smallest integer not below x."""
    return apply(Ceil(), x)
