"""Einsum: sums of products over indices that an equation names."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from graphopt.errors import TypeRuleError
from graphopt.ir.dims import Dim, product
from graphopt.ir.types import Shape, TensorType
from graphopt.ops.axes import unknown_shape
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.broadcast import broadcast_dim, fits
from graphopt.ops.expect import expect_one_type, same_dim
from graphopt.ops.room import NUMERIC, Fact, Room, operand, operator
from graphopt.ops.single import in_single

__all__ = ["einsum"]

_TERM = re.compile(r"([A-Za-z]*)(\.\.\.)?([A-Za-z]*)")


class Term(NamedTuple):
    """Indices of one operand: letters before and behind the axes that an ellipsis stands for."""

    before: str
    ellipsis: bool
    behind: str

    @property
    def letters(self) -> str:
        """All letters, in order."""
        return self.before + self.behind


class Equation(NamedTuple):
    """The indices of the operands and of the result."""

    terms: tuple[Term, ...]
    result: Term


@functools.lru_cache(maxsize=256)
def parsed(equation: str) -> Equation:
    """An equation in its explicit form.

    Raises:
        TypeRuleError: it is none.
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = tuple(_term(t, equation) for t in left.split(","))
    counts = Counter(letter for t in terms for letter in t.letters)
    has_ellipsis = any(t.ellipsis for t in terms)
    if not arrow:
        once = sorted(letter for letter, count in counts.items() if count == 1)
        return Equation(terms, Term("", has_ellipsis, "".join(once)))
    result = _term(right, equation)
    if len(set(result.letters)) < len(result.letters) or not set(result.letters) <= set(counts):
        raise TypeRuleError(f"the result of {equation!r} does not name different indices of its operands")
    if has_ellipsis and not result.ellipsis:
        raise TypeRuleError(f"the result of {equation!r} lacks the ellipsis that its operands have")
    return Equation(terms, result)


def _term(text: str, equation: str) -> Term:
    found = _TERM.fullmatch(text)
    if found is None:
        raise TypeRuleError(f"{text!r} in the equation {equation!r} is not made of letters and one ellipsis")
    return Term(found[1], found[2] is not None, found[3])


class Extents(NamedTuple):
    """The lengths of all indices: of those with letters, and of the axes that an ellipsis stands for."""

    letters: dict[str, Dim]
    ellipsis: Shape


@operator("Einsum", since=12)
class Einsum(Room):
    """The sum over all indices that the result does not have of the operands' products. ONNX Einsum-12.

    An axis of length 1 goes with any length, as in NumPy. Every ellipsis stands for as many axes.
    """

    xs = operand(NUMERIC, variadic=True)
    equation: str

    def infer(self, *xs: Fact) -> TensorType:
        result = parsed(self.equation).result
        expect_one_type(**{f"operand {i}": x for i, x in enumerate(xs)})
        extents = self._extents(xs)
        if extents is None:
            rank = None if result.ellipsis else len(result.letters)
            return TensorType(xs[0].dtype, unknown_shape(rank))
        before, behind = ([extents.letters[letter] for letter in part] for part in (result.before, result.behind))
        return TensorType(xs[0].dtype, (*before, *(extents.ellipsis if result.ellipsis else ()), *behind))

    def _extents(self, xs: Sequence[Fact | None]) -> Extents | None:
        """The lengths of all indices; None where a rank is not known.

        Raises:
            TypeRuleError: operands contradict the equation or one another.
        """
        letters: dict[str, Dim] = {}
        hidden: list[Shape] = []
        complete = True
        terms = parsed(self.equation).terms
        if len(terms) != len(xs) or None in xs:
            raise TypeRuleError(f"{self.equation!r} has {len(terms)} operands, and {len(xs)} are given")
        for x, term in zip(xs, terms, strict=True):
            if x is None or x.type.shape is None:
                complete = False
                continue
            own, inner = self._own(x, term)
            for letter, dim in own.items():
                letters[letter] = self._shared(letters.get(letter, 1), dim, letter)
            if term.ellipsis:
                hidden.append(inner)
        if len({len(h) for h in hidden}) > 1:
            ranks = " and ".join(str(len(h)) for h in hidden)
            raise TypeRuleError(f"the ellipses of {self.equation!r} stand for {ranks} axes")
        if not complete:
            return None
        axes = zip(*hidden, strict=True)
        return Extents(letters, tuple(functools.reduce(self._shared, axis) for axis in axes))

    def _own(self, x: Fact, term: Term) -> tuple[dict[str, Dim], Shape]:
        """What one operand says of the indices."""
        count = len(term.letters)
        if x.rank < count or (x.rank > count and not term.ellipsis):
            raise TypeRuleError(f"{x.type} has not the {count} indices {term.letters!r} of {self.equation!r}")
        first, last = len(term.before), x.rank - len(term.behind)
        found: dict[str, Dim] = {}
        for letter, dim in zip(term.letters, (*x.shape[:first], *x.shape[last:]), strict=True):
            if letter in found and not fits(found[letter], dim):
                raise TypeRuleError(f"the index {letter!r} of {self.equation!r} has two lengths in {x.type}")
            found[letter] = same_dim(found[letter], dim) if letter in found else dim
        return found, x.shape[first:last]

    def _shared(self, a: Dim, b: Dim, letter: str = "...") -> Dim:
        try:
            return broadcast_dim(a, b)
        except TypeRuleError:
            raise TypeRuleError(f"the index {letter!r} of {self.equation!r} has the lengths {a} and {b}") from None

    def forwards(self, *facts: Fact | None) -> int | None:
        try:
            terms, result = parsed(self.equation)
        except TypeRuleError:
            return None
        return 0 if len(facts) == len(terms) == 1 and _text(terms[0]) == _text(result) else None

    @in_single
    def kernel(self, *xs: np.ndarray) -> np.ndarray:
        terms, result = parsed(self.equation)
        equation = f"{','.join(map(_text, terms))}->{_text(result)}"
        return np.asarray(np.einsum(equation, *xs, optimize=len(xs) > 1))

    def macs(self, facts: tuple[Fact | None, ...], results: tuple[TensorType, ...]) -> Dim:
        """One product less than operands for each combination of all indices."""
        try:
            extents = self._extents(facts) if results else None
        except TypeRuleError:
            extents = None
        if extents is None:
            return 0
        return product([*extents.letters.values(), *extents.ellipsis]) * (len(facts) - 1)


def _text(term: Term) -> str:
    return f"{term.before}{'...' if term.ellipsis else ''}{term.behind}"


def einsum(equation: str, *xs: Like) -> Operand:
    """The sum over all indices that the result does not have of the products of `xs`."""
    return apply(Einsum(equation=equation), *xs)
