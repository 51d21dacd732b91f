"""Circular and hyperbolic functions and their inverses, rounding and sign, elementwise; and the determinant."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from graphopt.errors import TypeRuleError
from graphopt.ir.types import TensorType
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.broadcast import fits
from graphopt.ops.room import FLOAT, NUMERIC, Fact, Room, Trait, operand, operator
from graphopt.ops.single import in_single
from graphopt.ops.unary import Unary

__all__ = ["cos", "round", "sign", "sin"]

_ELEMENTWISE = frozenset({Trait.ELEMENTWISE})
_MONOTONE = _ELEMENTWISE | {Trait.MONOTONE}


class _Function(Unary):
    """One of NumPy's functions of one number; narrow floats are computed in float32."""

    function: ClassVar[np.ufunc]
    traits = _ELEMENTWISE

    @in_single
    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(self.function(x))


@operator("Sin", since=7)
class Sin(_Function):
    """The sine. ONNX Sin-22."""

    x = operand(FLOAT)
    function = np.sin


@operator("Cos", since=7)
class Cos(_Function):
    """The cosine. ONNX Cos-22."""

    x = operand(FLOAT)
    function = np.cos


@operator("Tan", since=7)
class Tan(_Function):
    """The tangent. ONNX Tan-22."""

    x = operand(FLOAT)
    function = np.tan


@operator("Asin", since=7)
class Asin(_Function):
    """The inverse sine; NaN outside of [-1, 1]. ONNX Asin-22."""

    x = operand(FLOAT)
    function = np.arcsin


@operator("Acos", since=7)
class Acos(_Function):
    """The inverse cosine; NaN outside of [-1, 1]. ONNX Acos-22."""

    x = operand(FLOAT)
    function = np.arccos


@operator("Atan", since=7)
class Atan(_Function):
    """The inverse tangent. ONNX Atan-22."""

    x = operand(FLOAT)
    function = np.arctan
    traits = _MONOTONE


@operator("Sinh", since=9)
class Sinh(_Function):
    """The hyperbolic sine. ONNX Sinh-22."""

    x = operand(FLOAT)
    function = np.sinh
    traits = _MONOTONE


@operator("Cosh", since=9)
class Cosh(_Function):
    """The hyperbolic cosine. ONNX Cosh-22."""

    x = operand(FLOAT)
    function = np.cosh


@operator("Asinh", since=9)
class Asinh(_Function):
    """The inverse hyperbolic sine. ONNX Asinh-22."""

    x = operand(FLOAT)
    function = np.arcsinh
    traits = _MONOTONE


@operator("Acosh", since=9)
class Acosh(_Function):
    """The inverse hyperbolic cosine; NaN below 1. ONNX Acosh-22."""

    x = operand(FLOAT)
    function = np.arccosh


@operator("Atanh", since=9)
class Atanh(_Function):
    """The inverse hyperbolic tangent; NaN outside of [-1, 1]. ONNX Atanh-22."""

    x = operand(FLOAT)
    function = np.arctanh


@operator("Round", since=11)
class Round(_Function):
    """The nearest integer, the even one of two. ONNX Round-22."""

    x = operand(FLOAT)
    function = np.rint
    traits = _MONOTONE | {Trait.IDEMPOTENT}


@operator("Sign", since=9)
class Sign(_Function):
    """1 above 0, -1 below, 0 at 0; NaN stays NaN. ONNX Sign-13."""

    x = operand(NUMERIC)
    function = np.sign
    traits = _MONOTONE | {Trait.IDEMPOTENT}


@operator("Det", since=11)
class Det(Room):
    """The determinants of square matrices, the last two axes. ONNX Det-22."""

    x = operand(FLOAT)

    def infer(self, x: Fact) -> TensorType:
        if x.rank < 2 or not fits(x.shape[-2], x.shape[-1]):
            raise TypeRuleError(f"the last two axes of {x.type} are no square matrix")
        return TensorType(x.dtype, x.shape[:-2])

    @in_single
    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(np.linalg.det(x))


def sin(x: Like) -> Operand:
    """The sine."""
    return apply(Sin(), x)


def cos(x: Like) -> Operand:
    """The cosine."""
    return apply(Cos(), x)


def round(x: Like) -> Operand:  # noqa: A001  # ONNX's name
    """The nearest integer, the even one of two."""
    return apply(Round(), x)


def sign(x: Like) -> Operand:
    """1 above 0, -1 below, 0 at 0."""
    return apply(Sign(), x)
