"""Axes and shapes given as operands: small functions that rooms of shapes and movement share."""

from __future__ import annotations

import math
from collections.abc import Sequence

from graphopt.errors import TypeRuleError
from graphopt.ir.dims import Dim
from graphopt.ir.types import Shape, TensorType
from graphopt.ops.room import MAX_ELEMENTS, Fact, Room, UnknownRankError, unknown_dim


def normalized(axes: Sequence[int], rank: int) -> list[int]:
    """Axes counted from the front.

    Raises:
        TypeRuleError: one is out of range, or two are the same.
    """
    found = [a + rank if a < 0 else a for a in axes]
    if any(not 0 <= a < rank for a in found):
        raise TypeRuleError(f"axes {list(axes)} are not all axes of a tensor of rank {rank}")
    if len(set(found)) != len(found):
        raise TypeRuleError(f"axes {list(axes)} name an axis twice")
    return found


def keeps_shape(op: Room, facts: Sequence[Fact | None]) -> bool:
    """Whether an operator's first result certainly has the shape of operand 0; False where an operand is not known."""
    if any(f is None for f in facts) or not facts or facts[0] is None or facts[0].type.shape is None:
        return False
    try:
        made = op.infer(*facts)
    except (TypeRuleError, UnknownRankError):
        return False
    first = next(iter(made), None) if isinstance(made, tuple) else made
    return isinstance(first, TensorType) and first.shape == facts[0].type.shape


def listed(operand: Fact | None) -> list[Dim] | None:
    """The contents of a small integer operand as a flat list of dims, or None."""
    return None if operand is None or operand.elements is None else operand.elements.ravel().tolist()


def length_of(operand: Fact) -> int | None:
    """How many elements a list operand has, where that is known."""
    if operand.elements is not None:
        return int(operand.elements.size)
    shape = operand.type.shape
    return shape[0] if shape is not None and len(shape) == 1 and isinstance(shape[0], int) else None


def unknown_shape(rank: int | None) -> Shape | None:
    """Dims of which only the number is known; None where not even that is.

    Raises:
        TypeRuleError: no tensor has so many: a file may say that a list of axes has 2^40 elements.
    """
    if rank is not None and rank > MAX_ELEMENTS:
        raise TypeRuleError(f"a result of {rank} axes is no tensor")
    return None if rank is None else tuple(unknown_dim() for _ in range(rank))


def is_small(shape: Sequence[int]) -> bool:
    """Whether contents of this shape are followed as dims; NumPy cannot make [2^62, 4, 0], which has 0 elements."""
    return math.prod(d or 1 for d in shape) <= MAX_ELEMENTS


def shape_from(target: Fact) -> Shape | None:
    """The shape that an operand spells out: its contents, unknown dims where only its length is known, or None.

    Raises:
        TypeRuleError: a dim is negative.
    """
    dims = listed(target)
    if dims is None:
        return unknown_shape(length_of(target))
    if any(isinstance(d, int) and d < 0 for d in dims):
        raise TypeRuleError(f"the shape {dims} has a negative dim")
    return tuple(dims)
