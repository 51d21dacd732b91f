"""Activations that CNNs have less often: Elu, Selu, Celu, Gelu, Mish, Softplus, Softsign, Swish, thresholds.

Computed in float32 at least, and rounded once. The attributes are numbers of float32, as a file holds them.
"""

from __future__ import annotations

import math

import numpy as np

from graphopt.errors import TypeRuleError
from graphopt.ir.types import TensorType
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.room import FLOAT, NUMERIC, Fact, NoKernelError, Trait, operand, operator
from graphopt.ops.single import in_single, stored
from graphopt.ops.special import complementary_error_function
from graphopt.ops.unary import Unary

__all__ = ["celu", "elu", "gelu", "mish", "selu", "softplus", "softsign", "swish"]

_ACTIVATION = frozenset({Trait.ELEMENTWISE, Trait.ACTIVATION})
_EXACT = 2**24  # integers up to here are exact in float32, which ONNX Runtime computes Shrink in


@operator("Elu", since=1)
class Elu(Unary):
    """x where x >= 0, alpha * (exp(x) - 1) elsewhere. ONNX Elu-22."""

    x = operand(FLOAT)
    alpha: float = 1.0
    traits = _ACTIVATION

    @in_single
    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.where(x >= 0, x, stored(self.alpha) * np.expm1(np.minimum(x, 0)))


@operator("Selu", since=1)
class Selu(Unary):
    """gamma * x where x > 0, gamma * alpha * (exp(x) - 1) elsewhere. ONNX Selu-22."""

    x = operand(FLOAT)
    alpha: float = 1.6732631921768188
    gamma: float = 1.0507010221481323
    traits = _ACTIVATION

    @in_single
    def kernel(self, x: np.ndarray) -> np.ndarray:
        return stored(self.gamma) * np.where(x > 0, x, stored(self.alpha) * np.expm1(np.minimum(x, 0)))


@operator("Celu", since=12)
class Celu(Unary):
    """max(0, x) + min(0, alpha * (exp(x / alpha) - 1)). ONNX Celu-12."""

    x = operand(FLOAT)
    alpha: float = 1.0
    traits = _ACTIVATION

    @in_single
    def kernel(self, x: np.ndarray) -> np.ndarray:
        alpha = x.dtype.type(stored(self.alpha))
        return np.asarray(np.maximum(x, 0) + np.minimum(0, alpha * np.expm1(x / alpha)))


@operator("Gelu", since=20)
class Gelu(Unary):
    """x * Φ(x), Φ(x) = (1 + erf(x / √2)) / 2, or Φ by a tanh where that is asked for. ONNX Gelu-20."""

    x = operand(FLOAT)
    approximate: str = "none"
    traits = _ACTIVATION

    def infer(self, x: Fact) -> TensorType:
        if self.approximate not in ("none", "tanh"):
            raise TypeRuleError(f"approximate is {self.approximate!r}, and only none and tanh are known")
        return x.type

    @in_single
    def kernel(self, x: np.ndarray) -> np.ndarray:
        if self.approximate == "tanh":
            return np.asarray(x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))
        wide = x.astype(np.float64)
        return np.asarray(wide / 2 * complementary_error_function(-wide / math.sqrt(2))).astype(x.dtype)


@operator("Mish", since=18)
class Mish(Unary):
    """x * tanh(log(1 + exp(x))). ONNX Mish-22."""

    x = operand(FLOAT)
    traits = _ACTIVATION

    @in_single
    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x * np.tanh(np.logaddexp(x, 0)))


@operator("Softplus", since=1)
class Softplus(Unary):
    """log(1 + exp(x)). ONNX Softplus-22."""

    x = operand(FLOAT)
    traits = _ACTIVATION | {Trait.MONOTONE}

    @in_single
    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(np.logaddexp(x, 0))


@operator("Softsign", since=1)
class Softsign(Unary):
    """x / (1 + |x|), which is NaN for infinities. ONNX Softsign-22."""

    x = operand(FLOAT)
    traits = _ACTIVATION

    @in_single
    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x / (1 + np.abs(x)))


@operator("Swish", since=24)
class Swish(Unary):
    """x / (1 + exp(-alpha * x)). ONNX Swish-24."""

    x = operand(FLOAT)
    alpha: float = 1.0
    traits = _ACTIVATION

    @in_single
    def kernel(self, x: np.ndarray) -> np.ndarray:
        z = stored(self.alpha) * x
        small = np.exp(-np.abs(z))  # never overflows
        return np.asarray(x * np.where(z >= 0, 1, small) / (1 + small))


@operator("ThresholdedRelu", since=10)
class ThresholdedRelu(Unary):
    """x where x > alpha, 0 elsewhere and for NaN. ONNX ThresholdedRelu-22."""

    x = operand(FLOAT)
    alpha: float = 1.0
    traits = _ACTIVATION | {Trait.IDEMPOTENT}

    def kernel(self, x: np.ndarray) -> np.ndarray:
        kind = x.dtype.type
        return np.where(x > kind(stored(self.alpha)), x, kind(0))


@operator("Shrink", since=9)
class Shrink(Unary):
    """x + bias where x < -lambd, x - bias where x > lambd, 0 elsewhere and for NaN. ONNX Shrink-9.

    Integers round toward zero.
    """

    x = operand(NUMERIC)
    bias: float = 0.0
    lambd: float = 0.5
    traits = _ACTIVATION

    def kernel(self, x: np.ndarray) -> np.ndarray:
        if x.dtype.kind in "iu":
            return self._whole(x)
        kind = x.dtype.type
        return self._shrunk(x, kind(stored(self.bias)), kind(stored(self.lambd)))

    def _whole(self, x: np.ndarray) -> np.ndarray:
        wide = x.astype(np.float64)
        moved = np.trunc(self._shrunk(wide, np.float64(stored(self.bias)), np.float64(stored(self.lambd))))
        limits = np.iinfo(x.dtype)
        if not ((moved >= limits.min) & (moved <= limits.max)).all():
            raise NoKernelError(f"Shrink gives numbers that {x.dtype} does not hold")
        if (np.abs(wide) > _EXACT).any():
            raise NoKernelError(f"Shrink of large numbers in {x.dtype} is not computed")
        return moved.astype(x.dtype)

    def _shrunk(self, x: np.ndarray, bias: np.floating, lambd: np.floating) -> np.ndarray:
        return np.asarray(np.where(x < -lambd, x + bias, np.where(x > lambd, x - bias, x.dtype.type(0))))


def elu(x: Like, *, alpha: float = 1.0) -> Operand:
    """X where x >= 0, alpha * (exp(x) - 1) elsewhere."""
    return apply(Elu(alpha=alpha), x)


def selu(x: Like) -> Operand:
    """The scaled exponential linear unit, with the constants of self-normalizing networks."""
    return apply(Selu(), x)


def celu(x: Like, *, alpha: float = 1.0) -> Operand:
    """max(0, x) + min(0, alpha * (exp(x / alpha) - 1))."""
    return apply(Celu(alpha=alpha), x)


def gelu(x: Like, *, approximate: str = "none") -> Operand:
    """X * Φ(x), Φ being the normal distribution; by a tanh with `approximate="tanh"`."""
    return apply(Gelu(approximate=approximate), x)


def mish(x: Like) -> Operand:
    """X * tanh(softplus(x))."""
    return apply(Mish(), x)


def softplus(x: Like) -> Operand:
    """log(1 + exp(x))."""
    return apply(Softplus(), x)


def softsign(x: Like) -> Operand:
    """X / (1 + |x|)."""
    return apply(Softsign(), x)


def swish(x: Like, *, alpha: float = 1.0) -> Operand:
    """X * sigmoid(alpha * x)."""
    return apply(Swish(alpha=alpha), x)
