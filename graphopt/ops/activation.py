"""Activations: elementwise nonlinearities of one tensor, and Softmax."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from graphopt.errors import OpsetError, TypeRuleError
from graphopt.ir.attributes import Attribute, Kind
from graphopt.ir.types import TensorType
from graphopt.ops.adapters import became_operands
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.broadcast import broadcast
from graphopt.ops.room import FLOAT, NUMERIC, Adapter, Fact, Room, Step, Trait, operand, operator

__all__ = [
    "clip",
    "erf",
    "hard_sigmoid",
    "hard_swish",
    "leaky_relu",
    "prelu",
    "relu",
    "sigmoid",
    "softmax",
    "tanh",
]

_ACTIVATION = frozenset({Trait.ELEMENTWISE, Trait.ACTIVATION})


class _Unary(Room):
    """One operand, the same type."""

    def infer(self, x: Fact) -> TensorType:
        return x.type


@operator("Relu", since=1)
class Relu(_Unary):
    """Rectified linear unit, max(x, 0) for each element; NaN stays NaN. ONNX Relu-14."""

    x = operand(NUMERIC)
    traits = _ACTIVATION | {Trait.MONOTONE, Trait.IDEMPOTENT, Trait.POSITIVE_HOMOGENEOUS}

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.maximum(x, x.dtype.type(0))


@operator("LeakyRelu", since=1)
class LeakyRelu(_Unary):
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
        if slope.type.shape is not None and len(broadcast(x.shape, slope.shape)) != x.rank:
            raise TypeRuleError(f"the slope {slope.type} does not broadcast to {x.type}")
        return x.type

    def kernel(self, x: np.ndarray, slope: np.ndarray) -> np.ndarray:
        return np.where(x >= 0, x, x * slope)


@operator("Clip", since=1)
class Clip(Room):
    """min(max(x, low), high), so that high wins where low > high; a bound may be left out. ONNX Clip-13."""

    x = operand(NUMERIC)
    low = operand(NUMERIC, optional=True)
    high = operand(NUMERIC, optional=True)
    traits = _ACTIVATION | {Trait.MONOTONE, Trait.IDEMPOTENT}
    adapters = (became_operands("Clip", 11, {"min": 1, "max": 2}),)

    def infer(self, x: Fact, low: Fact | None = None, high: Fact | None = None) -> TensorType:
        return x.type

    def kernel(self, x: np.ndarray, low: np.ndarray | None = None, high: np.ndarray | None = None) -> np.ndarray:
        y = x
        if low is not None:
            y = np.where(y < low, low, y)  # NaN stays NaN
        if high is not None:
            y = np.where(y > high, high, y)
        return np.asarray(y).astype(x.dtype, copy=False)


@operator("Sigmoid", since=1)
class Sigmoid(_Unary):
    """1 / (1 + exp(-x)). ONNX Sigmoid-13."""

    x = operand(FLOAT)
    traits = _ACTIVATION | {Trait.MONOTONE}

    def kernel(self, x: np.ndarray) -> np.ndarray:
        small = np.exp(-np.abs(x))  # never overflows
        return np.where(x >= 0, 1 / (1 + small), small / (1 + small)).astype(x.dtype, copy=False)


@operator("HardSigmoid", since=1)
class HardSigmoid(_Unary):
    """max(0, min(1, alpha * x + beta)). ONNX HardSigmoid-22."""

    x = operand(FLOAT)
    alpha: float = 0.2
    beta: float = 0.5
    traits = _ACTIVATION

    def kernel(self, x: np.ndarray) -> np.ndarray:
        kind = x.dtype.type
        return np.clip(x * kind(self.alpha) + kind(self.beta), kind(0), kind(1))


@operator("HardSwish", since=14)
class HardSwish(_Unary):
    """x * max(0, min(1, x / 6 + 1 / 2)). ONNX HardSwish-22."""

    x = operand(FLOAT)
    traits = _ACTIVATION

    def kernel(self, x: np.ndarray) -> np.ndarray:
        kind = x.dtype.type
        return x * np.clip(x * kind(1 / 6) + kind(0.5), kind(0), kind(1))


@operator("Tanh", since=1)
class Tanh(_Unary):
    """The hyperbolic tangent. ONNX Tanh-13."""

    x = operand(FLOAT)
    traits = _ACTIVATION | {Trait.MONOTONE}

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.tanh(x)


@operator("Erf", since=9)
class Erf(_Unary):
    """The error function, 2/√π ∫₀ˣ exp(-t²) dt. ONNX Erf-13."""

    x = operand(NUMERIC)
    traits = frozenset({Trait.ELEMENTWISE, Trait.MONOTONE})

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return _erf(x.astype(np.float64)).astype(x.dtype)


def _erf(x: np.ndarray) -> np.ndarray:
    """Erf in float64: its Taylor series near 0, a continued fraction (Lentz) for the complement elsewhere."""
    a = np.minimum(np.abs(x), 6.0)  # erfc(6) is 2e-17
    near = a < 2.5
    t = np.where(near, a, 0)
    term = total = t
    for n in range(1, 60):
        term = term * (-t * t) / n
        total = total + term / (2 * n + 1)
    u = np.where(near, 3.0, a)
    tail = np.zeros_like(u)
    for n in range(80, 0, -1):
        tail = (n / 2) / (u + tail)
    far = 1 - np.exp(-u * u) / (np.sqrt(np.pi) * (u + tail))
    y = np.where(near, 2 / np.sqrt(np.pi) * total, far)
    return np.where(np.isnan(x), x, np.sign(x) * y)


def _softmax_to_13(step: Step) -> Step:
    """Until opset 12 axes from `axis` on were taken together (1 by default): one axis only where it is the last."""
    axis = step.attributes.get("axis")
    number = int(axis.value) if axis is not None and isinstance(axis.value, int) else 1
    known = step.facts[0] if step.facts else None
    shape = None if known is None else known.type.shape
    if shape is None:
        raise OpsetError("Softmax before opset 13 takes axes together, and the rank is not known here")
    number += len(shape) if number < 0 else 0
    if any(d != 1 for d in shape[number + 1 :]):
        raise OpsetError(f"Softmax before opset 13 takes the axes from {number} on together")
    return replace(step, attributes={**step.attributes, "axis": Attribute(Kind.INT, number)})


def _softmax_below_13(step: Step) -> Step:
    known = step.facts[0] if step.facts else None
    axis = step.attributes.get("axis")
    number = int(axis.value) if axis is not None and isinstance(axis.value, int) else -1
    if known is None or known.type.shape is None:
        raise OpsetError("Softmax of a tensor of unknown rank needs opset 13")
    shape = known.type.shape
    number += len(shape) if number < 0 else 0
    if any(d != 1 for d in shape[number + 1 :]):
        raise OpsetError(f"Softmax over axis {number} of {known.type} needs opset 13")
    return replace(step, attributes={**step.attributes, "axis": Attribute(Kind.INT, number)})


@operator("Softmax", since=1)
class Softmax(Room):
    """exp(x) / Σ exp(x) along one axis. ONNX Softmax-13."""

    x = operand(FLOAT)
    axis: int = -1
    adapters = (Adapter(13, _softmax_to_13, _softmax_below_13),)

    def infer(self, x: Fact) -> TensorType:
        if x.type.shape is not None and not -x.rank <= self.axis < max(x.rank, 1):
            raise TypeRuleError(f"axis {self.axis} is not one of {x.type}")
        return x.type

    def kernel(self, x: np.ndarray) -> np.ndarray:
        shifted = np.exp(x - x.max(axis=self.axis, keepdims=True, initial=-np.inf))
        return np.asarray(shifted / shifted.sum(axis=self.axis, keepdims=True))


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


def softmax(x: Like, *, axis: int = -1) -> Operand:
    """exp(x) / Σ exp(x) along an axis."""
    return apply(Softmax(axis=axis), x)
