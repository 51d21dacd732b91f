"""Activations: elementwise nonlinearities of one tensor, and Softmax."""

from __future__ import annotations

import numpy as np

from graphopt.ir.types import TensorType
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.room import FLOAT, NUMERIC, Fact, Room, Trait, operand, operator

__all__ = ["relu"]

_ACTIVATION = frozenset({Trait.ELEMENTWISE, Trait.ACTIVATION})


@operator("Relu", since=1)
class Relu(Room):
    """Rectified linear unit, max(x, 0) for each element; NaN stays NaN. ONNX Relu-14."""

    x = operand(NUMERIC)
    traits = _ACTIVATION | {Trait.MONOTONE, Trait.IDEMPOTENT, Trait.POSITIVE_HOMOGENEOUS}

    def infer(self, x: Fact) -> TensorType:
        return x.type

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.maximum(x, x.dtype.type(0))


@operator("LeakyRelu", since=1)
class LeakyRelu(Room):
    """x where x >= 0, alpha * x elsewhere. ONNX LeakyRelu-16."""

    x = operand(FLOAT)
    alpha: float = 0.01
    traits = _ACTIVATION | {Trait.POSITIVE_HOMOGENEOUS}

    def infer(self, x: Fact) -> TensorType:
        return x.type

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.where(x >= 0, x, x * x.dtype.type(self.alpha))


def relu(x: Like) -> Operand:
    """max(x, 0), elementwise."""
    return apply(Relu(), x)
