"""Distributions along an axis: Softmax, LogSoftmax, Hardmax."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from graphopt.errors import OpsetError, TypeRuleError
from graphopt.ir.attributes import Attribute, Kind
from graphopt.ir.types import TensorType
from graphopt.ops.adapters import integer_of, shape_of
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.room import FLOAT, Adapter, Fact, Room, Step, operand, operator
from graphopt.ops.single import in_single

__all__ = ["log_softmax", "softmax"]


def _axes_together(name: str) -> Adapter:
    """Until opset 12 the axes from `axis` on (1 by default) were one: the same where at most one of them is long."""
    return Adapter(13, _to_13(name), _below_13(name))


def _to_13(name: str) -> Callable[[Step], Step]:
    def up(step: Step) -> Step:
        shape = shape_of(step)
        if shape is None:
            raise OpsetError(f"{name} before opset 13 takes axes together, and the rank is not known here")
        axis = _from_front(name, integer_of(step, "axis", 1), len(shape))
        long = [i for i in range(axis, len(shape)) if shape[i] != 1]
        if len(long) > 1:
            raise OpsetError(f"{name} before opset 13 takes the axes {long} together")
        return _along(step, long[0] if long else axis)

    return up


def _below_13(name: str) -> Callable[[Step], Step]:
    def down(step: Step) -> Step:
        shape = shape_of(step)
        if shape is None:
            raise OpsetError(f"{name} of a tensor of unknown rank needs opset 13")
        axis = _from_front(name, integer_of(step, "axis", -1), len(shape))
        if any(d != 1 for d in shape[axis + 1 :]):
            listed = ", ".join(map(str, shape))
            raise OpsetError(f"{name} over axis {axis} of [{listed}] needs opset 13")
        return _along(step, axis)

    return down


def _along(step: Step, axis: int) -> Step:
    return replace(step, attributes={**step.attributes, "axis": Attribute(Kind.INT, axis)})


def _from_front(name: str, axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise OpsetError(f"{name} over axis {axis} of a tensor of rank {rank} has no meaning")
    return axis % rank


class _Along(Room):
    """Along one axis; the type stays."""

    axis: int

    def infer(self, x: Fact) -> TensorType:
        if x.type.shape is not None and not -x.rank <= self.axis < x.rank:
            raise TypeRuleError(f"axis {self.axis} is not an axis of {x.type}")
        return x.type


@operator("Softmax", since=1)
class Softmax(_Along):
    """exp(x) / Σ exp(x) along one axis. ONNX Softmax-13."""

    x = operand(FLOAT)
    axis: int = -1
    adapters = (_axes_together("Softmax"),)

    @in_single
    def kernel(self, x: np.ndarray) -> np.ndarray:
        powers = np.exp(x - _largest(x, self.axis))
        return np.asarray(powers / powers.sum(axis=self.axis, keepdims=True))


@operator("LogSoftmax", since=1)
class LogSoftmax(_Along):
    """x - log Σ exp(x) along one axis. ONNX LogSoftmax-13."""

    x = operand(FLOAT)
    axis: int = -1
    adapters = (_axes_together("LogSoftmax"),)

    @in_single
    def kernel(self, x: np.ndarray) -> np.ndarray:
        return log_softmax_of(x, self.axis)


@operator("Hardmax", since=1)
class Hardmax(_Along):
    """1 at the first of the largest elements along one axis, 0 elsewhere. ONNX Hardmax-13.

    Beside NaN nothing is largest here; ONNX does not say what is, and in ONNX Runtime it depends on the order.
    """

    x = operand(FLOAT)
    axis: int = -1
    adapters = (_axes_together("Hardmax"),)

    def kernel(self, x: np.ndarray) -> np.ndarray:
        largest = x == _largest(x, self.axis)
        return np.asarray(largest & (largest.cumsum(axis=self.axis) == 1)).astype(x.dtype)


def _largest(x: np.ndarray, axis: int) -> np.ndarray:
    return np.asarray(x.max(axis=axis, keepdims=True, initial=x.dtype.type(-np.inf)))


def log_softmax_of(x: np.ndarray, axis: int) -> np.ndarray:
    """X - log Σ exp(x) along an axis, in the width of `x`."""
    shifted = x - _largest(x, axis)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True)))


def softmax(x: Like, *, axis: int = -1) -> Operand:
    """exp(x) / Σ exp(x) along an axis."""
    return apply(Softmax(axis=axis), x)


def log_softmax(x: Like, *, axis: int = -1) -> Operand:
    """X - log Σ exp(x) along an axis."""
    return apply(LogSoftmax(axis=axis), x)
