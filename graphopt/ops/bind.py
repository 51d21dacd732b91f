"""Operands and how an operator is applied to them: one call, several worlds.

`ops.conv(x, w)` asks an operand to `bind` the operator: a traced value writes a node into a graph, a pattern
variable makes a pattern, a value inside a rewrite makes a detached node, an eager tensor computes. What
`ops` functions are written with is therefore also what rules and traced programs are written with.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias, Union

import numpy as np

from graphopt.errors import UsageError

if TYPE_CHECKING:
    from graphopt.ops.room import Room


class HasArray(Protocol):
    """What NumPy can make an array of, such as a module's parameter."""

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        """The data."""


Like: TypeAlias = Union["Operand", np.ndarray, float, int, bool, Sequence[int], Sequence[float], HasArray]


class Operand(ABC):
    """What operators are applied to. Arithmetic on it writes Add, Sub, Mul, Div, Pow, Neg-as-Mul and MatMul."""

    @abstractmethod
    def bind(self, op: Room, operands: Sequence[Operand | None], results: int) -> tuple[Operand, ...]:
        """Apply `op` in this operand's world. `operands` are all of that world; None is one left out."""

    @abstractmethod
    def lift(self, value: Like) -> Operand:
        """A constant of this operand's world; a bare Python number takes this operand's element type."""

    def __add__(self, other: Like) -> Operand:
        return _arithmetic("Add", self, other)

    def __radd__(self, other: Like) -> Operand:
        return _arithmetic("Add", self.lift(other), self)

    def __sub__(self, other: Like) -> Operand:
        return _arithmetic("Sub", self, other)

    def __rsub__(self, other: Like) -> Operand:
        return _arithmetic("Sub", self.lift(other), self)

    def __mul__(self, other: Like) -> Operand:
        return _arithmetic("Mul", self, other)

    def __rmul__(self, other: Like) -> Operand:
        return _arithmetic("Mul", self.lift(other), self)

    def __truediv__(self, other: Like) -> Operand:
        return _arithmetic("Div", self, other)

    def __rtruediv__(self, other: Like) -> Operand:
        return _arithmetic("Div", self.lift(other), self)

    def __pow__(self, other: Like) -> Operand:
        return _arithmetic("Pow", self, other)

    def __matmul__(self, other: Like) -> Operand:
        return _arithmetic("MatMul", self, other)

    def __neg__(self) -> Operand:
        return _arithmetic("Mul", self, -1)


def _arithmetic(name: str, left: Operand, right: Like) -> Operand:
    from graphopt.ops.registry import room

    return apply(room(name)(), left, right)


def apply_all(op: Room, *operands: Like | None, results: int = 1) -> tuple[Operand, ...]:
    """Apply `op`; arrays and numbers among the operands become constants of the first real operand's world.

    Raises:
        UsageError: no operand has a world to compute in.
    """
    host = next((o for o in operands if isinstance(o, Operand)), None)
    if host is None:
        raise UsageError(f"{op.name} needs at least one operand that is not a plain array or number")
    lifted = [o if o is None or isinstance(o, Operand) else host.lift(o) for o in operands]
    while lifted and lifted[-1] is None:
        lifted.pop()
    return host.bind(op, lifted, results)


def apply(op: Room, *operands: Like | None) -> Operand:
    """`apply_all` for an operator with one result."""
    return apply_all(op, *operands)[0]
