"""Comparisons and truth values: Equal, Less, ..., And, Or, Xor, Not, Where, IsNaN, IsInf."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np

from graphopt.errors import TypeRuleError
from graphopt.ir.dims import Dim, is_nonnegative
from graphopt.ir.types import TensorType, boolean
from graphopt.ops.axes import is_small
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.broadcast import broadcast
from graphopt.ops.elementwise import equals_everywhere, joined
from graphopt.ops.room import ANY, BOOL, FLOAT, MAX_ELEMENTS, NUMERIC, Fact, Room, Trait, operand, operator

__all__ = [
    "equal",
    "greater",
    "greater_or_equal",
    "less",
    "less_or_equal",
    "logical_and",
    "logical_not",
    "logical_or",
    "where",
]

_SHAPES = frozenset({Trait.ELEMENTWISE, Trait.SHAPE_ARITHMETIC})
_COMMUTATIVE = _SHAPES | {Trait.COMMUTATIVE}


def _is_less(a: Dim, b: Dim) -> bool | None:
    """Whether a < b, or None where it depends on the symbols, which stand for integers >= 0."""
    if is_nonnegative(b - a - 1):
        return True
    return False if is_nonnegative(a - b) else None


def _not(verdict: bool | None) -> bool | None:
    return None if verdict is None else not verdict


class _Comparison(Room):
    """Two operands of one type broadcast together, a truth value for each pair; on dims too."""

    def infer(self, a: Fact, b: Fact) -> TensorType:
        return TensorType(boolean, joined(a, b).shape)

    @abstractmethod
    def decide(self, a: Dim, b: Dim) -> bool | None:
        """The result for two dims, None where it is not certain."""

    def elements(self, *facts: Fact | None) -> np.ndarray | None:
        known = [None if f is None else f.elements for f in facts]
        if len(known) != 2 or known[0] is None or known[1] is None:
            return None
        pairs = np.broadcast(known[0], known[1])
        if pairs.size > MAX_ELEMENTS:
            return None
        verdicts = [self.decide(a, b) for a, b in pairs]
        if None in verdicts:
            return None
        found = np.empty(pairs.size, object)
        found[:] = verdicts
        return found.reshape(pairs.shape)


@operator("Equal", since=1)
class Equal(_Comparison):
    """a == b with broadcasting; NaN equals nothing. ONNX Equal-19."""

    a = operand(ANY - {"complex"})
    b = operand(ANY - {"complex"})
    traits = _COMMUTATIVE

    def decide(self, a: Dim, b: Dim) -> bool | None:
        if a == b:
            return True
        return False if _is_less(a, b) or _is_less(b, a) else None

    def kernel(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(a == b, bool)


@operator("Less", since=1)
class Less(_Comparison):
    """a < b with broadcasting. ONNX Less-13."""

    a = operand(NUMERIC)
    b = operand(NUMERIC)
    traits = _SHAPES

    def decide(self, a: Dim, b: Dim) -> bool | None:
        return _is_less(a, b)

    def kernel(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(a < b)


@operator("Greater", since=1)
class Greater(_Comparison):
    """a > b with broadcasting. ONNX Greater-13."""

    a = operand(NUMERIC)
    b = operand(NUMERIC)
    traits = _SHAPES

    def decide(self, a: Dim, b: Dim) -> bool | None:
        return _is_less(b, a)

    def kernel(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(a > b)


@operator("LessOrEqual", since=12)
class LessOrEqual(_Comparison):
    """a <= b with broadcasting. ONNX LessOrEqual-16."""

    a = operand(NUMERIC)
    b = operand(NUMERIC)
    traits = _SHAPES

    def decide(self, a: Dim, b: Dim) -> bool | None:
        return _not(_is_less(b, a))

    def kernel(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(a <= b)


@operator("GreaterOrEqual", since=12)
class GreaterOrEqual(_Comparison):
    """a >= b with broadcasting. ONNX GreaterOrEqual-16."""

    a = operand(NUMERIC)
    b = operand(NUMERIC)
    traits = _SHAPES

    def decide(self, a: Dim, b: Dim) -> bool | None:
        return _not(_is_less(a, b))

    def kernel(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(a >= b)


class _Connective(Room):
    """Two truth values."""

    neutral: ClassVar[bool]  # the one that leaves the other as it is

    def infer(self, a: Fact, b: Fact) -> TensorType:
        return joined(a, b)

    def forwards(self, *facts: Fact | None) -> int | None:
        return next((i for i in (0, 1) if equals_everywhere(facts[i], facts[1 - i], self.neutral)), None)


@operator("And", since=1)
class And(_Connective):
    """Both a and b, with broadcasting. ONNX And-7."""

    a = operand(BOOL)
    b = operand(BOOL)
    traits = _COMMUTATIVE
    neutral = True

    def kernel(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(a & b, a.dtype)  # bools that are followed stay objects


@operator("Or", since=1)
class Or(_Connective):
    """a or b or both, with broadcasting. ONNX Or-7."""

    a = operand(BOOL)
    b = operand(BOOL)
    traits = _COMMUTATIVE
    neutral = False

    def kernel(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(a | b, a.dtype)


@operator("Xor", since=1)
class Xor(_Connective):
    """Either a or b, with broadcasting. ONNX Xor-7."""

    a = operand(BOOL)
    b = operand(BOOL)
    traits = _COMMUTATIVE
    neutral = False

    def kernel(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(a ^ b, a.dtype)


@operator("Not", since=1)
class Not(Room):
    """The other truth value. ONNX Not-1."""

    x = operand(BOOL)
    traits = _SHAPES

    def infer(self, x: Fact) -> TensorType:
        return x.type

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x ^ True, x.dtype)


@operator("Where", since=9)
class Where(Room):
    """x where the condition holds, y elsewhere; all three are broadcast together. ONNX Where-16."""

    condition = operand(BOOL)
    x = operand(ANY)
    y = operand(ANY)
    traits = _SHAPES

    def infer(self, condition: Fact, x: Fact, y: Fact) -> TensorType:
        chosen = joined(x, y)
        if condition.type.shape is None or chosen.shape is None:
            return chosen.with_shape(None)
        return chosen.with_shape(broadcast(condition.shape, chosen.shape))

    def elements(self, *facts: Fact | None) -> np.ndarray | None:
        shapes = [f.elements.shape for f in facts if f is not None and f.elements is not None]
        return super().elements(*facts) if is_small(np.broadcast_shapes(*shapes)) else None

    def forwards(self, *facts: Fact | None) -> int | None:
        """A condition that holds everywhere, or nowhere, and operands that don't broaden the one chosen."""
        condition = facts[0]
        if len(facts) != 3 or condition is None or condition.elements is None or not condition.elements.size:
            return None
        verdicts = set(condition.elements.ravel().tolist())
        if len(verdicts) > 1:
            return None
        index = 1 if verdicts == {True} else 2
        return index if self._keeps(index, facts) else None

    def _keeps(self, index: int, facts: tuple[Fact | None, ...]) -> bool:
        """Whether the result certainly has the type of operand `index`."""
        condition, x, y = facts
        chosen = facts[index]
        if condition is None or x is None or y is None or chosen is None or chosen.type.shape is None:
            return False
        try:
            return self.infer(condition, x, y) == chosen.type
        except TypeRuleError:
            return False

    def kernel(self, condition: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.where(condition, x, y)


@operator("IsNaN", since=9)
class IsNaN(Room):
    """Whether x is not a number. ONNX IsNaN-20."""

    x = operand(FLOAT)
    traits = frozenset({Trait.ELEMENTWISE})

    def infer(self, x: Fact) -> TensorType:
        return TensorType(boolean, x.type.shape)

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(np.isnan(x))


@operator("IsInf", since=10)
class IsInf(Room):
    """Whether x is infinite, of the signs that are asked for. ONNX IsInf-20."""

    x = operand(FLOAT)
    detect_negative: int = 1
    detect_positive: int = 1
    traits = frozenset({Trait.ELEMENTWISE})

    def infer(self, x: Fact) -> TensorType:
        return TensorType(boolean, x.type.shape)

    def kernel(self, x: np.ndarray) -> np.ndarray:
        negative = np.signbit(x)
        asked = (negative & bool(self.detect_negative)) | (~negative & bool(self.detect_positive))
        return np.asarray(np.isinf(x) & asked)


def equal(a: Like, b: Like) -> Operand:
    """Whether a == b."""
    return apply(Equal(), a, b)


def less(a: Like, b: Like) -> Operand:
    """Whether a < b."""
    return apply(Less(), a, b)


def greater(a: Like, b: Like) -> Operand:
    """Whether a > b."""
    return apply(Greater(), a, b)


def less_or_equal(a: Like, b: Like) -> Operand:
    """Whether a <= b."""
    return apply(LessOrEqual(), a, b)


def greater_or_equal(a: Like, b: Like) -> Operand:
    """Whether a >= b."""
    return apply(GreaterOrEqual(), a, b)


def logical_and(a: Like, b: Like) -> Operand:
    """Both a and b."""
    return apply(And(), a, b)


def logical_or(a: Like, b: Like) -> Operand:
    """At least one of a and b."""
    return apply(Or(), a, b)


def logical_not(x: Like) -> Operand:
    """The other truth value."""
    return apply(Not(), x)


def where(condition: Like, x: Like, y: Like) -> Operand:
    """`x` where the condition holds, `y` elsewhere."""
    return apply(Where(), condition, x, y)
