"""Tensors out of nothing: Constant, ConstantOfShape, Range."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from graphopt.errors import OpsetError, TypeRuleError
from graphopt.ir.attributes import Attribute, Kind
from graphopt.ir.constant import Constant as Data
from graphopt.ir.dims import Dim, is_nonnegative
from graphopt.ir.types import TensorType, f32, i64, string
from graphopt.ops.adapters import same, without
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.room import INTEGER, NUMERIC, Adapter, Fact, Room, Step, operand, operator, unknown_dim

__all__ = ["constant_of_shape", "range"]

_FORMS = ("value_float", "value_floats", "value_int", "value_ints", "value_string", "value_strings")


def _constant_below_12(step: Step) -> Step:
    """Before opset 12 a Constant holds a tensor only."""
    for name in _FORMS:
        attribute = step.attributes.get(name)
        if attribute is None:
            continue
        if name.startswith("value_string"):
            raise OpsetError("Constant with strings needs opset 12")
        dtype = np.float32 if "float" in name else np.int64
        tensor = Attribute(Kind.TENSOR, Data.of(np.asarray(attribute.value, dtype)))
        return replace(step, attributes={**without(step, *_FORMS), "value": tensor})
    return step


@operator("Constant", since=1)
class Constant(Room):
    """A tensor written in the node itself. ONNX Constant-25."""

    value: Data | None = None
    value_float: float | None = None
    value_floats: tuple[float, ...] | None = None
    value_int: int | None = None
    value_ints: tuple[int, ...] | None = None
    value_string: str | None = None
    value_strings: tuple[str, ...] | None = None
    adapters = (Adapter(12, same, _constant_below_12),)

    def infer(self) -> TensorType:
        return self.data().type

    def data(self) -> Data:
        """The tensor.

        Raises:
            TypeRuleError: no attribute says it.
        """
        if self.value is not None:
            return self.value
        return Data.of(self.kernel())

    def elements(self, *facts: Fact | None) -> np.ndarray | None:
        data = self.data()
        return data.array().astype(object) if data.type.dtype.is_integer and data.size <= 64 else None

    def kernel(self) -> np.ndarray:
        if self.value is not None:
            return self.value.array()
        if self.value_float is not None or self.value_floats is not None:
            given = self.value_float if self.value_float is not None else self.value_floats
            return np.asarray(given, f32.numpy)
        if self.value_int is not None or self.value_ints is not None:
            return np.asarray(self.value_int if self.value_int is not None else self.value_ints, i64.numpy)
        text = self.value_string if self.value_string is not None else self.value_strings
        if text is None:
            raise TypeRuleError("a Constant needs one of its value attributes")
        return np.asarray(text, string.numpy)


@operator("ConstantOfShape", since=9)
class ConstantOfShape(Room):
    """A tensor of a shape, all elements equal (float32 zeros by default). ONNX ConstantOfShape-25."""

    target = operand(INTEGER)
    value: Data | None = None

    def _fill(self) -> np.ndarray:
        return np.zeros(1, np.float32) if self.value is None else self.value.array().reshape(-1)

    def infer(self, target: Fact) -> TensorType:
        dtype = f32 if self.value is None else self.value.type.dtype
        if target.elements is not None:
            return TensorType(dtype, tuple(target.elements.ravel().tolist()))
        count = target.type.shape[0] if target.type.shape is not None and target.rank == 1 else None
        return TensorType(dtype, tuple(unknown_dim() for _ in builtin_range(count)) if isinstance(count, int) else None)

    def elements(self, *facts: Fact | None) -> np.ndarray | None:
        target = facts[0]
        if target is None or target.integers is None or self._fill().dtype.kind not in "iu":
            return None
        if int(np.prod(target.integers)) > 1024:
            return None
        return np.full(target.integers, int(self._fill()[0]), object)

    def kernel(self, target: np.ndarray) -> np.ndarray:
        fill = self._fill()
        return np.full(tuple(int(d) for d in target.ravel()), fill[0], fill.dtype)


builtin_range = range


@operator("Range", since=11)
class Range(Room):
    """start, start + delta, ... before limit. ONNX Range-11."""

    start = operand(NUMERIC)
    limit = operand(NUMERIC)
    delta = operand(NUMERIC)

    def infer(self, start: Fact, limit: Fact, delta: Fact) -> TensorType:
        return TensorType(start.dtype, (self._count(start, limit, delta),))

    def _count(self, start: Fact, limit: Fact, delta: Fact) -> Dim:
        scalars = start.scalar, limit.scalar, delta.scalar
        if all(s is not None for s in scalars):
            a, b, c = (float(s) for s in scalars if s is not None)
            return max(int(np.ceil((b - a) / c)), 0) if c else unknown_dim()
        known = start.elements, limit.elements, delta.elements
        if all(k is not None and k.size == 1 for k in known):
            first, last, step = (k.ravel()[0] for k in known if k is not None)
            if step == 1 and isinstance(first, int) and first == 0 and is_nonnegative(last):
                dim: Dim = last
                return dim
        return unknown_dim()

    def elements(self, *facts: Fact | None) -> np.ndarray | None:
        values = [f.integers if f is not None else None for f in facts]
        if any(v is None or len(v) != 1 for v in values):
            return None
        start, limit, delta = (v[0] for v in values if v is not None)
        return np.asarray(list(builtin_range(start, limit, delta))[:1025], object) if delta else None

    def kernel(self, start: np.ndarray, limit: np.ndarray, delta: np.ndarray) -> np.ndarray:
        a, b, c = (v.reshape(()) for v in (start, limit, delta))
        count = max(int(np.ceil((b - a) / c)), 0)
        return (a + np.arange(count, dtype=start.dtype) * c).astype(start.dtype)


def constant_of_shape(target: Like) -> Operand:
    """Float32 zeros of a shape."""
    return apply(ConstantOfShape(), target)


def range(start: Like, limit: Like, delta: Like) -> Operand:  # noqa: A001  # ONNX's name
    """start, start + delta, ... before limit."""
    return apply(Range(), start, limit, delta)
