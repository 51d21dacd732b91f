"""Dropout, which does nothing at inference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from graphopt.errors import OpsetError
from graphopt.ir.attributes import Attribute, Kind
from graphopt.ir.constant import Constant
from graphopt.ir.types import TensorType, boolean
from graphopt.ops.adapters import constant_of, first_operands, given, with_operand, without
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.room import BOOL, FLOAT, Adapter, Fact, NoKernelError, Room, Step, operand, operator

__all__ = ["dropout"]


def _to_12(step: Step) -> Step:
    """The ratio became an operand; Dropout of older opsets is at inference always, and does not define its mask."""
    if any(step.results[1:]):
        raise OpsetError("the mask of Dropout before opset 12 is not defined")
    ratio = step.attributes.get("ratio")
    value = ratio.value if ratio is not None and isinstance(ratio.value, float) else 0.5
    plain = replace(first_operands(step, 1), attributes=without(step, "ratio"), results=step.results[:1])
    return with_operand(plain, 1, Constant.of(np.asarray(value, np.float32)))


def _below_12(step: Step) -> Step:
    if any(step.results[1:]):
        raise OpsetError("the mask of Dropout needs opset 12")
    mode = constant_of(step, 2)
    if given(step, 2) and (mode is None or mode.any()):
        raise OpsetError("Dropout in training mode needs opset 12")
    ratio = constant_of(step, 1)
    if given(step, 1) and ratio is None:
        raise OpsetError("Dropout with a computed ratio needs opset 12")
    attributes = dict(without(step, "seed"))
    if ratio is not None:
        attributes["ratio"] = Attribute(Kind.FLOAT, float(np.float32(ratio.reshape(()).item())))
    return replace(first_operands(step, 1), attributes=attributes, results=step.results[:1])


@operator("Dropout", since=1)
class Dropout(Room):
    """x at inference; in training mode elements are dropped at random and the others scaled. ONNX Dropout-22.

    The mask has the data's type before opset 10 and no defined content at inference before opset 12: a node whose
    mask is read does not cross that step.
    """

    x = operand(FLOAT)
    ratio = operand(FLOAT, optional=True)
    training_mode = operand(BOOL, optional=True)
    seed: int | None = None
    adapters = (Adapter(12, _to_12, _below_12),)

    def infer(self, x: Fact, ratio: Fact | None = None, training_mode: Fact | None = None) -> tuple[TensorType, ...]:
        return x.type, TensorType(boolean, x.type.shape)

    def is_pure(self, *facts: Fact | None) -> bool:
        mode = facts[2] if len(facts) > 2 else None
        return len(facts) < 3 or (mode is not None and mode.scalar is False)

    def forwards(self, *facts: Fact | None) -> int | None:
        return 0 if self.is_pure(*facts) else None

    def kernel(
        self, x: np.ndarray, ratio: np.ndarray | None = None, training_mode: np.ndarray | None = None
    ) -> tuple[np.ndarray, ...]:
        if training_mode is not None and training_mode.any():
            raise NoKernelError("Dropout in training mode is random")
        return x, np.broadcast_to(np.True_, x.shape)


def dropout(x: Like, ratio: Like | None = None) -> Operand:
    """x, as at inference."""
    return apply(Dropout(), x, ratio)
