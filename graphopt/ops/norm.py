"""Normalizations: BatchNormalization and LRN."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from graphopt.errors import OpsetError, TypeRuleError
from graphopt.ir.types import TensorType
from graphopt.ops.adapters import same, without
from graphopt.ops.algebra import Affine, ChannelAffine, Refused
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.broadcast import fits
from graphopt.ops.room import FLOAT, Adapter, Fact, Room, Step, operand, operator
from graphopt.ops.single import at_least_single, in_single

__all__ = ["batch_normalization", "lrn"]

_PARAMETERS = ("scale", "B", "mean", "variance")


def _to_9(step: Step) -> Step:
    """Opset 7 had `spatial`; statistics by position (spatial=0) have no newer form."""
    if (a := step.attributes.get("spatial")) is not None and a.value == 0:
        raise OpsetError("BatchNormalization with spatial=0 has no newer form")
    return replace(step, attributes=without(step, "spatial"))


def _to_14(step: Step) -> Step:
    """Before opset 14 more than one output meant training."""
    if len([r for r in step.results if r]) > 1:
        raise OpsetError("BatchNormalization in training mode has another form before opset 14")
    return replace(step, results=step.results[:1])


def _below_14(step: Step) -> Step:
    mode = step.attributes.get("training_mode")
    if (mode is not None and mode.value) or len([r for r in step.results if r]) > 1:
        raise OpsetError("BatchNormalization in training mode needs opset 14")
    return replace(step, attributes=without(step, "training_mode"))


def _below_15(step: Step) -> Step:
    types = {f.dtype for f in step.facts if f is not None}
    if len(types) > 1:
        raise OpsetError("BatchNormalization with parameters of another element type needs opset 15")
    return step


@operator("BatchNormalization", since=1)
class BatchNormalization(Room, ChannelAffine):
    """(x - mean) / sqrt(variance + epsilon) * scale + B over axis 1. ONNX BatchNormalization-15.

    In training mode mean and variance are those of the batch, and the running ones are updated.
    """

    x = operand(FLOAT)
    scale = operand(FLOAT)
    b = operand(FLOAT)
    mean = operand(FLOAT)
    variance = operand(FLOAT)
    epsilon: float = 1e-5
    momentum: float = 0.9
    training_mode: int = 0
    adapters = (
        Adapter(9, _to_9, same),
        Adapter(14, _to_14, _below_14),
        Adapter(15, same, _below_15),
    )

    def infer(self, x: Fact, scale: Fact, b: Fact, mean: Fact, variance: Fact) -> tuple[TensorType, ...]:
        for first, second in ((scale, b), (mean, variance)):
            if first.dtype != second.dtype:
                raise TypeRuleError(f"{first.type} and {second.type} must have one element type")
        known = x.type.shape
        if known == ():
            raise TypeRuleError(f"the input {x.type} has no axes")
        channels = None if known is None else known[1] if len(known) > 1 else 1
        for name, p in zip(_PARAMETERS, (scale, b, mean, variance), strict=True):
            if p.type.shape is None:
                continue
            if p.rank != 1 or (channels is not None and not fits(p.shape[0], channels)):
                has = "" if channels is None else f" has {channels} channels"
                raise TypeRuleError(f"{name} is {p.type} and the input {x.type}{has}")
        return (x.type, mean.type, variance.type) if self.training_mode else (x.type,)

    @property
    def _epsilon(self) -> float:
        return float(np.float32(self.epsilon))  # as a file holds it

    def kernel(
        self, x: np.ndarray, scale: np.ndarray, b: np.ndarray, mean: np.ndarray, variance: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        result, running = x.dtype, mean.dtype
        x, scale, b, mean, variance = map(at_least_single, (x, scale, b, mean, variance))
        shape = (1, -1) + (1,) * (x.ndim - 2) if x.ndim > 1 else (-1,)
        old_mean, old_variance = mean, variance
        if self.training_mode:
            axes = tuple(i for i in range(x.ndim) if i != 1)
            mean, variance = np.asarray(x.mean(axis=axes)), np.asarray(x.var(axis=axes))
        factor = scale / np.sqrt(variance + variance.dtype.type(self._epsilon))
        y = ((x - mean.reshape(shape)) * factor.reshape(shape) + b.reshape(shape)).astype(result, copy=False)
        if not self.training_mode:
            return (y,)
        kept = old_mean.dtype.type(np.float32(self.momentum))
        new_mean, new_variance = (
            (old * kept + new * (1 - kept)).astype(running) for old, new in ((old_mean, mean), (old_variance, variance))
        )
        return y, new_mean, new_variance

    def affine(self, facts: tuple[Fact | None, ...], axis: int, data: int) -> Affine:
        if self.training_mode:
            raise Refused("it is in training mode: its statistics come from the batch")
        if data != 0:
            raise Refused("the linear operator gives a parameter of the normalization, not its input")
        if axis != 1:
            raise Refused(f"it normalizes over axis 1, and the channels of what is before it are axis {axis}")
        arrays = []
        for name, known in zip(_PARAMETERS, facts[1:], strict=True):
            if known is None or known.constant is None:
                raise Refused(f"its {name} is not a constant")
            arrays.append(known.constant.array().astype(np.float64))
        scale, shift, mean, variance = arrays
        with np.errstate(all="ignore"):
            factor = scale / np.sqrt(variance + self._epsilon)
            offset = shift - mean * factor
        if not (np.isfinite(factor).all() and np.isfinite(offset).all()):
            raise Refused("a variance is not above -epsilon, or a parameter is not finite")
        return Affine(0, factor, offset)


@operator("LRN", since=1)
class LRN(Room):
    """x / (bias + alpha / size · Σ x²)^beta, the sum over `size` neighbouring channels. ONNX LRN-13."""

    x = operand(FLOAT)
    size: int
    alpha: float = 0.0001
    beta: float = 0.75
    bias: float = 1.0

    def infer(self, x: Fact) -> TensorType:
        if self.size < 1:
            raise TypeRuleError(f"size is {self.size}, and a channel is its own neighbour at least")
        if x.type.shape is not None and x.rank < 2:
            raise TypeRuleError(f"{x.type} has no channels")
        return x.type

    @in_single
    def kernel(self, x: np.ndarray) -> np.ndarray:
        channels = x.shape[1]
        before, after = (min(n, channels) for n in ((self.size - 1) // 2, self.size // 2))  # there are no more
        squares = np.pad(np.square(x), [(0, 0), (before, after)] + [(0, 0)] * (x.ndim - 2))
        total = np.zeros_like(x)
        for i in range(before + after + 1):
            total += squares[:, i : i + channels]
        alpha, beta, bias = (float(np.float32(v)) for v in (self.alpha, self.beta, self.bias))  # as a file holds them
        return np.asarray(x / (bias + alpha / self.size * total) ** beta)


def batch_normalization(x: Like, scale: Like, b: Like, mean: Like, variance: Like, *, epsilon: float = 1e-5) -> Operand:
    """Batch normalization in inference mode over axis 1; parameters of shape [C]."""
    return apply(BatchNormalization(epsilon=epsilon), x, scale, b, mean, variance)


def lrn(x: Like, *, size: int, alpha: float = 0.0001, beta: float = 0.75, bias: float = 1.0) -> Operand:
    """Local response normalization over axis 1."""
    return apply(LRN(size=size, alpha=alpha, beta=beta, bias=bias), x)
