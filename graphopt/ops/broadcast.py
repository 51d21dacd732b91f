"""Broadcasting of shapes, with symbolic dims."""

from __future__ import annotations

from graphopt.errors import TypeRuleError
from graphopt.ir.dims import Dim
from graphopt.ir.types import Shape
from graphopt.ops.room import unknown_dim


def fits(a: Dim, b: Dim) -> bool:
    """Whether two dims may be equal: only two different integers are certainly not."""
    return not (isinstance(a, int) and isinstance(b, int) and a != b)


def broadcast_dim(a: Dim, b: Dim) -> Dim:
    """One axis of a broadcast.

    Raises:
        TypeRuleError: two different integers, neither of which is 1.
    """
    if b in (a, 1):
        return a
    if a == 1:
        return b
    if isinstance(a, int) and isinstance(b, int):
        raise TypeRuleError(f"{a} and {b} do not broadcast")
    if isinstance(a, int) or isinstance(b, int):
        return a if isinstance(a, int) else b  # a symbol that meets 3 is 3 or 1: the result is 3
    return unknown_dim()


def broadcast(*shapes: Shape) -> Shape:
    """The shape that all of these broadcast to.

    Raises:
        TypeRuleError: they do not; names the shapes.
    """
    rank = max(map(len, shapes))
    result: list[Dim] = [1] * rank
    for shape in shapes:
        for i, dim in enumerate(shape, rank - len(shape)):
            try:
                result[i] = broadcast_dim(result[i], dim)
            except TypeRuleError:
                listed = ", ".join(f"[{', '.join(map(str, s))}]" for s in shapes)
                raise TypeRuleError(f"the shapes {listed} do not broadcast: {result[i]} meets {dim}") from None
    return tuple(result)


def broadcasts_to(shape: Shape, target: Shape) -> bool:
    """Whether `shape` may broadcast to `target` and leave it as it is."""
    missing = len(target) - len(shape)
    return missing >= 0 and all(d == 1 or fits(d, have) for d, have in zip(shape, target[missing:], strict=True))
