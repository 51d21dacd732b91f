"""Tensors out of nothing: Constant, ConstantOfShape, Range."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np

from graphopt.errors import OpsetError, TypeRuleError
from graphopt.ir.attributes import Attribute, Kind
from graphopt.ir.constant import Constant as Data
from graphopt.ir.dims import Dim, is_nonnegative
from graphopt.ir.types import TensorType, f32, i64, string
from graphopt.ops.adapters import same, without
from graphopt.ops.axes import is_small, shape_from
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.room import INTEGER, MAX_ELEMENTS, NUMERIC, Adapter, Fact, Room, Step, operand, operator, unknown_dim

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

    @cached_property
    def constant(self) -> Data | None:
        try:
            return self.data()
        except TypeRuleError:
            return None

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
        small = data.type.dtype.is_integer and data.size <= MAX_ELEMENTS and not data.is_absent
        return data.array().astype(object) if small else None

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
        """The one element, of shape []."""
        if self.value is None:
            return np.zeros((), np.float32)
        if self.value.size != 1:
            raise TypeRuleError(f"the value has {self.value.size} elements, and one is needed")
        return self.value.array().reshape(())

    def infer(self, target: Fact) -> TensorType:
        if self.value is not None and self.value.size != 1:
            raise TypeRuleError(f"the value has {self.value.size} elements, and one is needed")
        return TensorType(f32 if self.value is None else self.value.type.dtype, shape_from(target))

    def elements(self, *facts: Fact | None) -> np.ndarray | None:
        target = facts[0]
        if target is None or target.integers is None or self.value is None or not self.value.type.dtype.is_integer:
            return None
        return np.full(target.integers, int(self._fill()), object) if is_small(target.integers) else None

    def kernel(self, target: np.ndarray) -> np.ndarray:
        return np.broadcast_to(self._fill(), tuple(int(d) for d in target.ravel()))  # takes no room


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
        if None not in scalars:
            return _count(*(np.asarray(s, start.dtype.numpy) for s in scalars))
        known = [f.elements.ravel()[0] for f in (start, limit, delta) if f.elements is not None and f.elements.size]
        if len(known) < 3:
            return unknown_dim()
        first, last, step = known
        if step == 0:
            raise TypeRuleError("a delta of 0 goes nowhere")
        if isinstance(last - first, int) and isinstance(step, int):
            return int(max(-((first - last) // step), 0))
        span: Dim = last - first
        if isinstance(step, int) and step > 0 and is_nonnegative(span):
            return (span + (step - 1)) // step
        return unknown_dim()

    def elements(self, *facts: Fact | None) -> np.ndarray | None:
        values = [f.integers if f is not None else None for f in facts]
        if any(v is None or len(v) != 1 for v in values):
            return None
        start, limit, delta = (v[0] for v in values if v is not None)
        if delta == 0 or not 0 < -((start - limit) // delta) <= MAX_ELEMENTS:  # `len` fails beyond 64 bits
            return None
        return np.asarray(builtin_range(start, limit, delta), object)

    def kernel(self, start: np.ndarray, limit: np.ndarray, delta: np.ndarray) -> np.ndarray:
        a, b, c = (v.reshape(()) for v in (start, limit, delta))
        steps = np.arange(_count(a, b, c))
        return np.asarray(a + steps.astype(a.dtype) * c).astype(a.dtype, copy=False)


def _count(start: np.ndarray, limit: np.ndarray, delta: np.ndarray) -> int:
    """ceil((limit - start) / delta), the difference in the operands' type and the quotient in float64.

    Raises:
        TypeRuleError: that is not a number of elements.
    """
    if delta == 0:
        raise TypeRuleError("a delta of 0 goes nowhere")
    if start.dtype.kind in "iu":
        return max(-((int(start) - int(limit)) // int(delta)), 0)
    with np.errstate(all="ignore"):
        count = np.ceil(np.float64(limit - start) / np.float64(delta))
    if not np.isfinite(count):
        raise TypeRuleError(f"a range from {start} to {limit} by {delta} has no length")
    return max(int(count), 0)


def constant_of_shape(target: Like, value: np.ndarray | float | None = None) -> Operand:
    """A tensor of a shape, all elements equal to `value`: float32 zeros by default, a bare number is float32 too."""
    if value is None:
        return apply(ConstantOfShape(), target)
    fill = value if isinstance(value, np.ndarray) else np.asarray(value, np.float32)
    return apply(ConstantOfShape(value=Data.of(fill.reshape(1))), target)


def range(start: Like, limit: Like, delta: Like) -> Operand:  # noqa: A001  # ONNX's name
    """start, start + delta, ... before limit."""
    return apply(Range(), start, limit, delta)
