"""Activations: elementwise nonlinearities of one tensor."""

from __future__ import annotations

import numpy as np

from graphopt.errors import OpsetError, TypeRuleError
from graphopt.ir.types import TensorType
from graphopt.ops.adapters import became_operands, constant_of, same
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.broadcast import broadcasts_to
from graphopt.ops.room import FLOAT, NUMERIC, Adapter, Fact, Room, Step, Trait, operand, operator
from graphopt.ops.special import error_function
from graphopt.ops.unary import Unary

__all__ = [
    "clip",
    "erf",
    "hard_sigmoid",
    "hard_swish",
    "leaky_relu",
    "prelu",
    "relu",
    "sigmoid",
    "tanh",
]

_ACTIVATION = frozenset({Trait.ELEMENTWISE, Trait.ACTIVATION})


@operator("Relu", since=1)
class Relu(Unary):
    """Rectified linear unit, max(x, 0) for each element; NaN stays NaN. ONNX Relu-14."""

    x = operand(NUMERIC)
    traits = _ACTIVATION | {Trait.MONOTONE, Trait.IDEMPOTENT, Trait.POSITIVE_HOMOGENEOUS}

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(np.maximum(x, x.dtype.type(0)))


@operator("LeakyRelu", since=1)
class LeakyRelu(Unary):
    """x where x >= 0, alpha * x elsewhere. ONNX LeakyRelu-16."""

    x = operand(FLOAT)
    alpha: float = 0.01
    traits = _ACTIVATION | {Trait.POSITIVE_HOMOGENEOUS}

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.where(x >= 0, x, x * x.dtype.type(self.alpha))


@operator("PRelu", since=1)
class PRelu(Room):
    """x where x >= 0, slope * x elsewhere; the slope is broadcast to x. ONNX PRelu-16."""

    x = operand(NUMERIC)
    slope = operand(NUMERIC)
    traits = frozenset({Trait.ELEMENTWISE, Trait.POSITIVE_HOMOGENEOUS})

    def infer(self, x: Fact, slope: Fact) -> TensorType:
        if x.dtype != slope.dtype:
            raise TypeRuleError(f"the slope {slope.type} has another element type than {x.type}")
        if x.type.shape is None or slope.type.shape is None:
            return x.type
        if not broadcasts_to(slope.shape, x.shape):
            raise TypeRuleError(f"the slope {slope.type} does not broadcast to {x.type}")
        return x.type

    def kernel(self, x: np.ndarray, slope: np.ndarray) -> np.ndarray:
        return np.where(x >= 0, x, x * slope)


def _limits(dtype: np.dtype) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
    """The least and largest finite float; integers need no bounds."""
    if dtype.kind in "iu":
        return None, None
    import ml_dtypes

    info = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]  # the package is not typed
    return np.asarray(info.min, dtype), np.asarray(info.max, dtype)


def _crossed_below_11(step: Step) -> Step:
    """Before opset 11 runtimes load no Clip whose low bound is above the high one."""
    ends = float(np.finfo(np.float32).min), float(np.finfo(np.float32).max)
    given = (constant_of(step, 1), constant_of(step, 2))
    low, high = (end if b is None or b.size != 1 else float(b.item()) for b, end in zip(given, ends, strict=True))
    if not low <= high:
        raise OpsetError(f"Clip with the bounds {low} and {high}, which cross, needs opset 11")
    return step


@operator("Clip", since=1)
class Clip(Room):
    """min(max(x, low), high): high wins where low > high, and NaN stays. ONNX Clip-13.

    A bound that is left out is the type's largest finite number: an infinity does not go through.
    """

    x = operand(NUMERIC)
    low = operand(NUMERIC, optional=True)
    high = operand(NUMERIC, optional=True)
    traits = _ACTIVATION | {Trait.MONOTONE, Trait.IDEMPOTENT}
    adapters = (Adapter(11, same, _crossed_below_11), became_operands("Clip", 11, {"min": 1, "max": 2}))

    def infer(self, x: Fact, low: Fact | None = None, high: Fact | None = None) -> TensorType:
        for bound in (low, high):
            if bound is None:
                continue
            if bound.dtype != x.dtype:
                raise TypeRuleError(f"the bound {bound.type} has another element type than {x.type}")
            if bound.type.shape not in (None, (), (1,)):  # runtimes take one number in a list too
                raise TypeRuleError(f"the bound {bound.type} is not one number")
        return x.type

    def kernel(self, x: np.ndarray, low: np.ndarray | None = None, high: np.ndarray | None = None) -> np.ndarray:
        y = x
        least, most = _limits(x.dtype)
        low = least if low is None else low.reshape(())
        high = most if high is None else high.reshape(())
        if low is not None:
            y = np.where(y < low, low, y)  # NaN stays NaN, and as a bound it is none
        if high is not None:
            y = np.where(y > high, high, y)
        return np.asarray(y).astype(x.dtype, copy=False)


@operator("Sigmoid", since=1)
class Sigmoid(Unary):
    """1 / (1 + exp(-x)). ONNX Sigmoid-13."""

    x = operand(FLOAT)
    traits = _ACTIVATION | {Trait.MONOTONE}

    def kernel(self, x: np.ndarray) -> np.ndarray:
        small = np.exp(-np.abs(x))  # never overflows
        return np.asarray(np.where(x >= 0, 1 / (1 + small), small / (1 + small))).astype(x.dtype, copy=False)


@operator("HardSigmoid", since=1)
class HardSigmoid(Unary):
    """max(0, min(1, alpha * x + beta)). ONNX HardSigmoid-22."""

    x = operand(FLOAT)
    alpha: float = 0.2
    beta: float = 0.5
    traits = _ACTIVATION

    def kernel(self, x: np.ndarray) -> np.ndarray:
        kind = x.dtype.type
        return np.asarray(np.clip(x * kind(self.alpha) + kind(self.beta), kind(0), kind(1)))


@operator("HardSwish", since=14)
class HardSwish(Unary):
    """x * max(0, min(1, x / 6 + 1 / 2)). ONNX HardSwish-22."""

    x = operand(FLOAT)
    traits = _ACTIVATION

    def kernel(self, x: np.ndarray) -> np.ndarray:
        kind = x.dtype.type
        return np.asarray(x * np.clip(x * kind(1 / 6) + kind(0.5), kind(0), kind(1)))


@operator("Tanh", since=1)
class Tanh(Unary):
    """The hyperbolic tangent. ONNX Tanh-13."""

    x = operand(FLOAT)
    traits = _ACTIVATION | {Trait.MONOTONE}

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(np.tanh(x))


@operator("Erf", since=9)
class Erf(Unary):
    """The error function, 2/√π ∫₀ˣ exp(-t²) dt. ONNX Erf-13."""

    x = operand(NUMERIC)
    traits = frozenset({Trait.ELEMENTWISE, Trait.MONOTONE})

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return error_function(x).astype(x.dtype)


def relu(x: Like) -> Operand:
    """max(x, 0), elementwise."""
    return apply(Relu(), x)


def leaky_relu(x: Like, *, alpha: float = 0.01) -> Operand:
    """X where x >= 0, alpha * x elsewhere."""
    return apply(LeakyRelu(alpha=alpha), x)


def prelu(x: Like, slope: Like) -> Operand:
    """X where x >= 0, slope * x elsewhere."""
    return apply(PRelu(), x, slope)


def clip(x: Like, low: Like | None = None, high: Like | None = None) -> Operand:
    """min(max(x, low), high)."""
    return apply(Clip(), x, low, high)


def sigmoid(x: Like) -> Operand:
    """1 / (1 + exp(-x))."""
    return apply(Sigmoid(), x)


def hard_sigmoid(x: Like, *, alpha: float = 0.2, beta: float = 0.5) -> Operand:
    """max(0, min(1, alpha * x + beta))."""
    return apply(HardSigmoid(alpha=alpha, beta=beta), x)


def hard_swish(x: Like) -> Operand:
    """X * hard_sigmoid(x) with alpha 1/6 and beta 1/2."""
    return apply(HardSwish(), x)


def tanh(x: Like) -> Operand:
    """The hyperbolic tangent."""
    return apply(Tanh(), x)


def erf(x: Like) -> Operand:
    """The error function."""
    return apply(Erf(), x)
