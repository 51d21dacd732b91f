"""Sequences and optionals of tensors.

While graphs are evaluated a sequence is an array of objects with one axis, an optional one with none: None is empty.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from graphopt.errors import GraphError, TypeRuleError
from graphopt.ir.types import OptionalType, SequenceType, TensorType, Type, boolean, dtype_of_code, f32, i64, join
from graphopt.ops.axes import normalized
from graphopt.ops.room import (
    ANY,
    INTEGER,
    OPTIONAL,
    SEQUENCE,
    Collection,
    Fact,
    Room,
    Trait,
    operand,
    operator,
    unknown_dim,
)


def packed(elements: Iterable[object]) -> np.ndarray:
    """A sequence of arrays as an array of objects."""
    items = list(elements)
    made = np.empty(len(items), object)
    for i, item in enumerate(items):
        made[i] = item
    return made


def boxed(element: object) -> np.ndarray:
    """An optional, None for an empty one, as an array of objects."""
    made = np.empty((), object)
    made[()] = element
    return made


def one_of(kind: Type | None) -> Type | None:
    """The type of one element of a sequence: a dim that is no number may be another in each."""
    if not isinstance(kind, TensorType) or kind.shape is None:
        return kind
    return kind.with_shape(tuple(d if isinstance(d, int) else unknown_dim() for d in kind.shape))


def _element(sequence: Collection) -> Type | None:
    return one_of(sequence.type.element)


def _must_be_one(position: Fact | None) -> None:
    if position is not None and position.type.shape not in (None, ()) and position.type.size != 1:
        raise TypeRuleError(f"the position {position.type} is not one number")


@operator("SequenceEmpty", since=11)
class SequenceEmpty(Room):
    """An empty sequence of tensors with the element type number `dtype` (float32 by default). ONNX SequenceEmpty-11."""

    dtype: int | None = None

    def infer(self) -> Type:
        try:
            return SequenceType(TensorType(f32 if self.dtype is None else dtype_of_code(self.dtype), None))
        except GraphError as error:
            raise TypeRuleError(str(error)) from None

    def kernel(self) -> np.ndarray:
        return packed(())


@operator("SequenceConstruct", since=11)
class SequenceConstruct(Room):
    """The sequence of its operands. ONNX SequenceConstruct-11."""

    elements_ = operand(ANY, variadic=True)

    def infer(self, *elements: Fact) -> Type:
        common: Type | None = elements[0].type
        for other in elements[1:]:
            common = _common(common, other.type)
        return SequenceType(common)

    def kernel(self, *elements: np.ndarray) -> np.ndarray:
        return packed(elements)


def _common(a: Type | None, b: Type | None) -> Type | None:
    try:
        return join(a, b, unknown_dim)
    except GraphError as error:
        raise TypeRuleError(str(error)) from None


@operator("SequenceAt", since=11)
class SequenceAt(Room):
    """The element at a position; negative ones count from the end. ONNX SequenceAt-11."""

    sequence = operand(SEQUENCE)
    position = operand(INTEGER)
    traits = frozenset({Trait.PARTIAL})

    def infer(self, sequence: Collection, position: Fact) -> Type | None:
        _must_be_one(position)
        return _element(sequence)

    def kernel(self, sequence: np.ndarray, position: np.ndarray) -> np.ndarray:
        return np.asarray(sequence[_place(position, len(sequence), past_end=False)])


def _place(position: np.ndarray, length: int, *, past_end: bool) -> int:
    at = int(position.reshape(()))
    if not -length <= at < length + past_end:
        raise TypeRuleError(f"the position {at} is not in a sequence of {length}")
    return at + length if at < 0 else at


@operator("SequenceInsert", since=11)
class SequenceInsert(Room):
    """The sequence with an element inserted before a position, at the end by default. ONNX SequenceInsert-11."""

    sequence = operand(SEQUENCE)
    element = operand(ANY)
    position = operand(INTEGER, optional=True)
    traits = frozenset({Trait.PARTIAL})

    def infer(self, sequence: Collection, element: Fact, position: Fact | None = None) -> Type:
        _must_be_one(position)
        inside = _element(sequence)
        return SequenceType(None if inside is None else _common(inside, element.type))

    def kernel(self, sequence: np.ndarray, element: np.ndarray, position: np.ndarray | None = None) -> np.ndarray:
        at = len(sequence) if position is None else _place(position, len(sequence), past_end=True)
        return packed([*sequence[:at], element, *sequence[at:]])


@operator("SequenceErase", since=11)
class SequenceErase(Room):
    """The sequence without the element at a position, the last by default. ONNX SequenceErase-11."""

    sequence = operand(SEQUENCE)
    position = operand(INTEGER, optional=True)
    traits = frozenset({Trait.PARTIAL})

    def infer(self, sequence: Collection, position: Fact | None = None) -> Type:
        _must_be_one(position)
        return sequence.type

    def kernel(self, sequence: np.ndarray, position: np.ndarray | None = None) -> np.ndarray:
        last = np.asarray(-1)
        at = _place(last if position is None else position, len(sequence), past_end=False)
        return packed([*sequence[:at], *sequence[at + 1 :]])


@operator("SequenceLength", since=11)
class SequenceLength(Room):
    """How many elements a sequence has. ONNX SequenceLength-11."""

    sequence = operand(SEQUENCE)

    def infer(self, sequence: Collection) -> Type:
        return TensorType(i64, ())

    def kernel(self, sequence: np.ndarray) -> np.ndarray:
        return np.asarray(len(sequence), np.int64)


@operator("SplitToSequence", since=11)
class SplitToSequence(Room):
    """x cut along `axis` into parts of the lengths `split`, of one length, or of length 1. ONNX SplitToSequence-24.

    Parts of length 1 lose the axis with keepdims=0, where no `split` is given.
    """

    x = operand(ANY)
    split = operand(INTEGER, optional=True)
    axis: int = 0
    keepdims: int = 1

    def infer(self, x: Fact, split: Fact | None = None) -> Type:
        if x.type.shape is None:
            return SequenceType(x.type)
        (axis,) = normalized([self.axis], x.rank)
        before, after = x.shape[:axis], x.shape[axis + 1 :]
        if split is None:
            return SequenceType(TensorType(x.dtype, (*before, 1, *after) if self.keepdims else (*before, *after)))
        lengths = set(split.integers or ())
        extent = x.shape[axis]
        even = split.type.shape == () and isinstance(extent, int) and all(n > 0 and extent % n == 0 for n in lengths)
        same = lengths.pop() if len(lengths) == 1 and (split.type.shape != () or even) else unknown_dim()
        return SequenceType(TensorType(x.dtype, (*before, same, *after)))

    def kernel(self, x: np.ndarray, split: np.ndarray | None = None) -> np.ndarray:
        axis, extent = self.axis % x.ndim, x.shape[self.axis]
        if split is None:
            parts = np.split(x, extent, axis) if extent else []
            return packed(parts if self.keepdims else [np.squeeze(p, axis) for p in parts])
        lengths = [int(n) for n in split.ravel()]
        if split.ndim == 0:
            step = lengths[0]
            if step <= 0:
                raise TypeRuleError(f"parts of the length {step} are none")
            ends = list(range(step, extent, step))
        else:
            if min(lengths, default=0) < 0 or sum(lengths) != extent:
                raise TypeRuleError(f"parts of the lengths {lengths} do not make {extent}")
            ends = np.cumsum(lengths)[:-1].tolist()
        return packed(np.split(x, ends, axis))


@operator("ConcatFromSequence", since=11)
class ConcatFromSequence(Room):
    """The elements of a sequence joined along `axis`, a new one with new_axis=1. ONNX ConcatFromSequence-11."""

    sequence = operand(SEQUENCE)
    axis: int
    new_axis: int = 0

    def infer(self, sequence: Collection) -> Type | None:
        inside = _element(sequence)
        if not isinstance(inside, TensorType) or inside.shape is None:
            return inside
        if self.new_axis:
            (axis,) = normalized([self.axis], len(inside.shape) + 1)
            return inside.with_shape((*inside.shape[:axis], unknown_dim(), *inside.shape[axis:]))
        (axis,) = normalized([self.axis], len(inside.shape))
        return inside.with_shape((*inside.shape[:axis], unknown_dim(), *inside.shape[axis + 1 :]))

    def kernel(self, sequence: np.ndarray) -> np.ndarray:
        if not len(sequence):
            raise TypeRuleError("an empty sequence has nothing to join")
        parts = list(sequence)
        return np.stack(parts, self.axis) if self.new_axis else np.concatenate(parts, self.axis)


@operator("Optional", since=15)
class Optional(Room):
    """An optional that holds the operand, or an empty one of the type `type`. ONNX Optional-15."""

    element = operand(ANY | SEQUENCE, optional=True)
    type: bytes | None = None

    def infer(self, element: Fact | Collection | None = None) -> Type | None:
        return None if element is None else OptionalType(element.type)

    def kernel(self, element: np.ndarray | None = None) -> np.ndarray:
        return boxed(element)


@operator("OptionalGetElement", since=15)
class OptionalGetElement(Room):
    """What an optional holds; a tensor or a sequence is itself. ONNX OptionalGetElement-18."""

    optional = operand(ANY | SEQUENCE | OPTIONAL)
    traits = frozenset({Trait.PARTIAL})

    def infer(self, optional: Fact | Collection) -> Type | None:
        return one_of(optional.type.element) if isinstance(optional.type, OptionalType) else optional.type

    def kernel(self, optional: np.ndarray) -> np.ndarray:
        if optional.dtype != object or optional.ndim:
            return optional
        if optional[()] is None:
            raise TypeRuleError("an empty optional has no element")
        return np.asarray(optional[()])


@operator("OptionalHasElement", since=15)
class OptionalHasElement(Room):
    """Whether an optional holds something; a tensor or a sequence does. ONNX OptionalHasElement-18."""

    optional = operand(ANY | SEQUENCE | OPTIONAL, optional=True)

    def infer(self, optional: Fact | Collection | None = None) -> Type:
        return TensorType(boolean, ())

    def kernel(self, optional: np.ndarray | None = None) -> np.ndarray:
        empty = optional is None or (optional.dtype == object and not optional.ndim and optional[()] is None)
        return np.asarray(not empty)
