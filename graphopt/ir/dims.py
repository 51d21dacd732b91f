"""Dimensions of tensors: integers, named symbols, and expressions of them.

A `Dim` is an `int` or an `Expr`. An `Expr` is a polynomial with integer coefficients over *atoms*; an atom is
a symbol or a floor division of two dims. The polynomial is kept in a normal form, so two dims are known to be
equal exactly when they compare equal. Symbols stand for integers >= 0. A symbol whose name starts with `?` is
anonymous: it stands for a dim that nobody named, and two of them are equal only if they are the same one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from graphopt.errors import ParseError

_IDENTIFIER = re.compile(r"\??[A-Za-z_][\w.]*|\?\d+")
_TOKEN = re.compile(r'\s*(//|[-+*()]|\d+|"(?:[^"\\]|\\.)*"|\??[A-Za-z_][\w.]*|\?\d+|\S)')
_DEEPEST = 64  # parentheses within each other, in text
_LONGEST = 4096  # parts of one dim, in text
_MOST_DIGITS = 40  # of an integer, in text


@dataclass(frozen=True, slots=True)
class Symbol:
    """A dim with a name, for example the batch size `N`."""

    name: str

    def __str__(self) -> str:
        return self.name if _IDENTIFIER.fullmatch(self.name) else json.dumps(self.name)


@dataclass(frozen=True, slots=True)
class Quotient:
    """`numerator // denominator`, rounded down, kept as an atom because it does not simplify."""

    numerator: Dim
    denominator: Dim

    def __str__(self) -> str:
        return f"{_parenthesized(self.numerator)}//{_parenthesized(self.denominator)}"


Atom: TypeAlias = Symbol | Quotient
Monomial: TypeAlias = tuple[Atom, ...]  # a product of atoms, sorted; () is 1


@dataclass(frozen=True)
class Expr:
    """A polynomial over atoms that is not a plain integer; build it with `symbol` and arithmetic."""

    terms: tuple[tuple[Monomial, int], ...]

    def __add__(self, other: Dim) -> Dim:
        return _from_terms((*self.terms, *_terms(other))) if isinstance(other, int | Expr) else NotImplemented

    __radd__ = __add__

    def __neg__(self) -> Dim:
        return self * -1

    def __sub__(self, other: Dim) -> Dim:
        return self + other * -1

    def __rsub__(self, other: Dim) -> Dim:
        return self * -1 + other

    def __mul__(self, other: Dim) -> Dim:
        if not isinstance(other, int | Expr):
            return NotImplemented
        return _from_terms((tuple(sorted(a + b, key=str)), m * n) for a, m in self.terms for b, n in _terms(other))

    __rmul__ = __mul__

    def __floordiv__(self, other: Dim) -> Dim:
        return floor_div(self, other)

    def __rfloordiv__(self, other: Dim) -> Dim:
        return floor_div(other, self)

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return self._text

    def __hash__(self) -> int:
        return self._hash

    def __bool__(self) -> bool:
        raise TypeError(f"whether the dim {self} is zero is not known while the graph is static")

    @cached_property
    def _hash(self) -> int:
        return hash(self.terms)

    @cached_property
    def _text(self) -> str:
        parts: list[str] = []
        for monomial, coefficient in self.terms:
            factors = [_parenthesized_atom(a) for a in monomial]
            if not factors or abs(coefficient) != 1:
                factors.insert(0, str(abs(coefficient)))
            sign = "-" if coefficient < 0 else "+" if parts else ""
            parts.append(sign + "*".join(factors))
        return "".join(parts)

    @property
    def name(self) -> str | None:
        """The symbol's name if this is one symbol alone, else None."""
        if len(self.terms) == 1 and self.terms[0][1] == 1:
            monomial = self.terms[0][0]
            if len(monomial) == 1 and isinstance(monomial[0], Symbol):
                return monomial[0].name
        return None


Dim: TypeAlias = int | Expr


def symbol(name: str) -> Expr:
    """The dim called `name`."""
    return Expr((((Symbol(name),), 1),))


def is_anonymous(dim: Dim) -> bool:
    """Whether `dim` is one symbol that nobody named."""
    return isinstance(dim, Expr) and (dim.name or "").startswith("?")


def floor_div(a: Dim, b: Dim) -> Dim:
    """`a // b` rounded down; the parts of `a` that `b` divides leave the quotient.

    Raises:
        ZeroDivisionError: `b` is 0.
    """
    if isinstance(b, int):
        if isinstance(a, int):
            return a // b
        if b == 1:
            return a
        if b < 0:
            return floor_div(-a, -b)
        whole = _from_terms((m, c // b) for m, c in a.terms if c % b == 0)
        rest = _from_terms((m, c) for m, c in a.terms if c % b)
        if isinstance(rest, int):
            return whole + rest // b
        offset = sum(c for m, c in rest.terms if not m)
        inner = rest - offset
        if isinstance(inner, Expr) and len(inner.terms) == 1 and inner.terms[0][1] == 1:
            (atom,) = inner.terms[0][0] if len(inner.terms[0][0]) == 1 else (None,)
            if isinstance(atom, Quotient) and isinstance(atom.denominator, int) and atom.denominator > 0:
                # (x//d + k) // b == (x + k*d) // (d*b)
                d = atom.denominator
                return whole + floor_div(atom.numerator + offset * d, d * b)
        spill, offset = divmod(offset, b)
        return whole + spill + Expr((((Quotient(inner + offset, b),), 1),))
    if a == b:
        return 1
    if isinstance(a, Expr) and (exact := _divide_by_monomial(a, b)) is not None:
        return exact
    return Expr((((Quotient(a, b),), 1),))


def _divide_by_monomial(a: Expr, b: Expr) -> Dim | None:
    """`a / b` where `b` is one monomial that divides every term of `a` (b is taken to be nonzero)."""
    if len(b.terms) != 1:
        return None
    divisor, scale = b.terms[0]
    terms = []
    for monomial, coefficient in a.terms:
        left = list(monomial)
        for atom in divisor:
            if atom not in left:
                return None
            left.remove(atom)
        if coefficient % scale:
            return None
        terms.append((tuple(left), coefficient // scale))
    return _from_terms(terms)


def product(dims: Iterable[Dim]) -> Dim:
    """The product of all dims; 1 for none."""
    known, symbolic = 1, []
    for dim in dims:
        if isinstance(dim, int):
            known *= dim
        else:
            symbolic.append(dim)
    result: Dim = known
    for dim in symbolic:
        result = dim * result
    return result


def substitute(dim: Dim, values: Mapping[str, Dim] | Callable[[str], Dim]) -> Dim:
    """`dim` with symbols replaced; symbols that the mapping lacks stay."""
    if isinstance(dim, int):
        return dim
    lookup = values if callable(values) else lambda name: values.get(name, symbol(name))
    total: Dim = 0
    for monomial, coefficient in dim.terms:
        term: Dim = coefficient
        for atom in monomial:
            if isinstance(atom, Symbol):
                term = term * lookup(atom.name)
            else:
                term = term * floor_div(substitute(atom.numerator, lookup), substitute(atom.denominator, lookup))
        total = total + term
    return total


def symbols(dim: Dim) -> list[str]:
    """Names of the symbols in `dim`, each once, in order of appearance."""
    if isinstance(dim, int):
        return []
    found: dict[str, None] = {}
    for monomial, _ in dim.terms:
        for atom in monomial:
            names = [atom.name] if isinstance(atom, Symbol) else symbols(atom.numerator) + symbols(atom.denominator)
            found.update(dict.fromkeys(names))
    return list(found)


def is_nonnegative(dim: Dim) -> bool:
    """Whether `dim` is certainly >= 0 (False when it is not known)."""
    if isinstance(dim, int):
        return dim >= 0
    return all(
        coefficient >= 0
        and all(
            isinstance(a, Symbol) or (is_nonnegative(a.numerator) and is_nonnegative(a.denominator)) for a in monomial
        )
        for monomial, coefficient in dim.terms
    )


def parse_dim(text: str) -> Dim:
    """The inverse of `str(dim)`.

    Raises:
        ParseError: `text` is not a dim.
    """
    tokens = _TOKEN.findall(text)
    if len(tokens) > _LONGEST:
        raise ParseError(f"a dim of {len(tokens)} parts is too long: it begins {text[:40]!r}")
    tokens = ["", *reversed(tokens)]  # the next one is the last
    depth = 0

    def take() -> str:
        return tokens.pop() if len(tokens) > 1 else ""

    def atom() -> Dim:
        nonlocal depth
        token = take()
        if token in ("(", "-"):
            depth += 1
            if depth > _DEEPEST:
                raise ParseError(f"a dim is nested more than {_DEEPEST} deep: it begins {text[:40]!r}")
            inner = total() if token == "(" else atom() * -1
            depth -= 1
            if token == "(" and take() != ")":
                raise ParseError(f"the dim {text!r} lacks a closing parenthesis")
            return inner
        if token.isdecimal() and len(token) <= _MOST_DIGITS:
            return int(token)
        if token.startswith('"') and len(token) > 1:
            return symbol(_unquoted(token, text))
        if _IDENTIFIER.fullmatch(token):
            return symbol(token)
        raise ParseError(f"{text!r} is not a dim: {token!r} is neither a number nor a name")

    def term() -> Dim:
        value = atom()
        while tokens[-1] in ("*", "//"):
            if take() == "*":
                value = value * atom()
            else:
                divisor = atom()
                if divisor == 0:
                    raise ParseError(f"the dim {text!r} divides by zero")
                value = floor_div(value, divisor)
        return value

    def total() -> Dim:
        value = term()
        while tokens[-1] in ("+", "-"):
            value = value + term() if take() == "+" else value - term()
        return value

    result = total()
    if tokens[-1]:
        raise ParseError(f"{text!r} is not a dim: {tokens[-1]!r} was not expected")
    return result


def _unquoted(token: str, text: str) -> str:
    try:
        return str(json.loads(token))
    except ValueError:
        raise ParseError(f"{text!r} is not a dim: {token} is not a name in quotes") from None


def _terms(dim: Dim) -> tuple[tuple[Monomial, int], ...]:
    return dim.terms if isinstance(dim, Expr) else (((), dim),)


def _from_terms(terms: Iterable[tuple[Monomial, int]]) -> Dim:
    total: dict[Monomial, int] = {}
    for monomial, coefficient in terms:
        total[monomial] = total.get(monomial, 0) + coefficient
    kept = sorted(((m, c) for m, c in total.items() if c), key=lambda t: (-len(t[0]), [str(a) for a in t[0]]))
    if not kept:
        return 0
    if len(kept) == 1 and not kept[0][0]:
        return kept[0][1]
    return Expr(tuple(kept))


def _parenthesized(dim: Dim) -> str:
    plain = (isinstance(dim, int) and dim >= 0) or (isinstance(dim, Expr) and dim.name is not None)
    return str(dim) if plain else f"({dim})"


def _parenthesized_atom(atom: Atom) -> str:
    return str(atom) if isinstance(atom, Symbol) else f"({atom})"
