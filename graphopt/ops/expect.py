"""What rooms with many operands expect of each: an element type, a shape in which dims recur, one number."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.errors import TypeRuleError
from graphopt.ir.dims import Dim, is_anonymous
from graphopt.ops.broadcast import fits
from graphopt.ops.room import Fact, unknown_dim


def expect_shape(name: str, fact: Fact | None, wanted: Sequence[Dim | None]) -> None:
    """An operand that is given may have this shape; None stands for any dim.

    Raises:
        TypeRuleError: it certainly has another.
    """
    shape = None if fact is None else fact.type.shape
    if fact is None or shape is None:
        return
    if len(shape) != len(wanted) or not all(w is None or fits(w, d) for w, d in zip(wanted, shape, strict=True)):
        listed = ", ".join("?" if w is None or is_anonymous(w) else str(w) for w in wanted)
        raise TypeRuleError(f"{name} is {fact.type}, and its shape must be [{listed}]")


def expect_number(name: str, fact: Fact | None) -> None:
    """An operand that is given may hold one number, alone or in a list.

    Raises:
        TypeRuleError: it certainly holds more or none.
    """
    shape = None if fact is None else fact.type.shape
    if fact is not None and shape is not None and (len(shape) > 1 or not all(fits(d, 1) for d in shape)):
        raise TypeRuleError(f"{name} is {fact.type}, and it must be one number")


def expect_one_type(**operands: Fact | None) -> None:
    """The operands that are given have one element type.

    Raises:
        TypeRuleError: two differ.
    """
    given = {name: fact.type for name, fact in operands.items() if fact is not None}
    if len({t.dtype for t in given.values()}) > 1:
        raise TypeRuleError(f"{', '.join(f'{n} is {t}' for n, t in given.items())}: they must have one element type")


def expect_one_of(name: str, value: str, known: Sequence[str]) -> None:
    """An attribute that is one of some words.

    Raises:
        TypeRuleError: it is another.
    """
    if value not in known:
        raise TypeRuleError(f"{name} is {value!r}, and it is one of {', '.join(known)}")


def dims_of(fact: Fact | None, rank: int) -> tuple[Dim, ...]:
    """The dims of an operand that was found to have this rank, or fresh ones where it is left out or not known."""
    shape = None if fact is None else fact.type.shape
    return tuple(unknown_dim() for _ in range(rank)) if shape is None else shape


def same_dim(*dims: Dim) -> Dim:
    """What is known of a dim that several operands share: an integer before a name before nothing."""
    named = (d for d in dims if not is_anonymous(d))
    return next((d for d in dims if isinstance(d, int)), next(named, dims[0]))
