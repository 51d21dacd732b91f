"""Activations: elementwise nonlinearities of one tensor, and Softmax."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from graphopt.errors import OpsetError, TypeRuleError
from graphopt.ir.attributes import Attribute, Kind
from graphopt.ir.types import TensorType
from graphopt.ops.adapters import became_operands, constant_of, integer_of, same, shape_of
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.broadcast import fits
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
        return np.asarray(np.maximum(x, x.dtype.type(0)))


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
        if x.dtype != slope.dtype:
            raise TypeRuleError(f"the slope {slope.type} has another element type than {x.type}")
        if x.type.shape is None or slope.type.shape is None:
            return x.type
        missing = x.rank - slope.rank
        if missing < 0 or any(
            d != 1 and not fits(d, have) for d, have in zip(slope.shape, x.shape[missing:], strict=True)
        ):
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
class Sigmoid(_Unary):
    """1 / (1 + exp(-x)). ONNX Sigmoid-13."""

    x = operand(FLOAT)
    traits = _ACTIVATION | {Trait.MONOTONE}

    def kernel(self, x: np.ndarray) -> np.ndarray:
        small = np.exp(-np.abs(x))  # never overflows
        return np.asarray(np.where(x >= 0, 1 / (1 + small), small / (1 + small))).astype(x.dtype, copy=False)


@operator("HardSigmoid", since=1)
class HardSigmoid(_Unary):
    """max(0, min(1, alpha * x + beta)). ONNX HardSigmoid-22."""

    x = operand(FLOAT)
    alpha: float = 0.2
    beta: float = 0.5
    traits = _ACTIVATION

    def kernel(self, x: np.ndarray) -> np.ndarray:
        kind = x.dtype.type
        return np.asarray(np.clip(x * kind(self.alpha) + kind(self.beta), kind(0), kind(1)))


@operator("HardSwish", since=14)
class HardSwish(_Unary):
    """x * max(0, min(1, x / 6 + 1 / 2)). ONNX HardSwish-22."""

    x = operand(FLOAT)
    traits = _ACTIVATION

    def kernel(self, x: np.ndarray) -> np.ndarray:
        kind = x.dtype.type
        return np.asarray(x * np.clip(x * kind(1 / 6) + kind(0.5), kind(0), kind(1)))


@operator("Tanh", since=1)
class Tanh(_Unary):
    """The hyperbolic tangent. ONNX Tanh-13."""

    x = operand(FLOAT)
    traits = _ACTIVATION | {Trait.MONOTONE}

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(np.tanh(x))


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
    near = a < 2.0
    t = np.where(near, a, 0)
    term = total = t
    for n in range(1, 60):
        term = term * (-t * t) / n
        total = total + term / (2 * n + 1)
    u = np.where(near, 2.0, a)
    tail = np.zeros_like(u)
    for n in range(80, 0, -1):
        tail = (n / 2) / (u + tail)
    far = 1 - np.exp(-u * u) / (np.sqrt(np.pi) * (u + tail))
    y = np.where(near, 2 / np.sqrt(np.pi) * total, far)
    return np.where(np.isnan(x), x, np.sign(x) * y)


def _softmax_to_13(step: Step) -> Step:
    """Until opset 12 the axes from `axis` on (1 by default) were one: the same where at most one of them is long."""
    shape = shape_of(step)
    if shape is None:
        raise OpsetError("Softmax before opset 13 takes axes together, and the rank is not known here")
    axis = _from_front(integer_of(step, "axis", 1), len(shape))
    long = [i for i in range(axis, len(shape)) if shape[i] != 1]
    if len(long) > 1:
        raise OpsetError(f"Softmax before opset 13 takes the axes {long} together")
    return replace(step, attributes={**step.attributes, "axis": Attribute(Kind.INT, long[0] if long else axis)})


def _softmax_below_13(step: Step) -> Step:
    shape = shape_of(step)
    if shape is None:
        raise OpsetError("Softmax of a tensor of unknown rank needs opset 13")
    axis = _from_front(integer_of(step, "axis", -1), len(shape))
    if any(d != 1 for d in shape[axis + 1 :]):
        listed = ", ".join(map(str, shape))
        raise OpsetError(f"Softmax over axis {axis} of [{listed}] needs opset 13")
    return replace(step, attributes={**step.attributes, "axis": Attribute(Kind.INT, axis)})


def _from_front(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise OpsetError(f"Softmax over axis {axis} of a tensor of rank {rank} has no meaning")
    return axis % rank


@operator("Softmax", since=1)
class Softmax(Room):
    """exp(x) / Σ exp(x) along one axis. ONNX Softmax-13."""

    x = operand(FLOAT)
    axis: int = -1
    adapters = (Adapter(13, _softmax_to_13, _softmax_below_13),)

    def infer(self, x: Fact) -> TensorType:
        if x.type.shape is not None and not -x.rank <= self.axis < x.rank:
            raise TypeRuleError(f"axis {self.axis} is not an axis of {x.type}")
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
