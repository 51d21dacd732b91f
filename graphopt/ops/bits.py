"""Bits: BitShift, BitwiseAnd, BitwiseOr, BitwiseXor, BitwiseNot, BitCast."""

from __future__ import annotations

import numpy as np

from graphopt.errors import GraphError, TypeRuleError
from graphopt.ir.types import DType, TensorType, dtype_of_code
from graphopt.ops.elementwise import joined
from graphopt.ops.room import BOOL, FLOAT, INTEGER, Fact, NoKernelError, Room, Trait, operand, operator

_ELEMENTWISE = frozenset({Trait.ELEMENTWISE})
_COMMUTATIVE = _ELEMENTWISE | {Trait.COMMUTATIVE}


@operator("BitShift", since=11)
class BitShift(Room):
    """The bits of x moved by y to the left or to the right, with broadcasting; zeros fill up. ONNX BitShift-11.

    A shift by all bits or more is not defined.
    """

    x = operand(frozenset({"uint"}))
    y = operand(frozenset({"uint"}))
    direction: str
    traits = _ELEMENTWISE | {Trait.PARTIAL}

    def infer(self, x: Fact, y: Fact) -> TensorType:
        if self.direction not in ("LEFT", "RIGHT"):
            raise TypeRuleError(f"the direction is LEFT or RIGHT, and not {self.direction!r}")
        return joined(x, y)

    def kernel(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        bits = 8 * x.dtype.itemsize
        if (y >= bits).any():
            raise NoKernelError(f"a shift of {bits} bits by {y.max()} is not defined")
        return np.asarray(np.left_shift(x, y) if self.direction == "LEFT" else np.right_shift(x, y))


class _Bitwise(Room):
    """Two integers, bit by bit."""

    def infer(self, a: Fact, b: Fact) -> TensorType:
        return joined(a, b)


@operator("BitwiseAnd", since=18)
class BitwiseAnd(_Bitwise):
    """The bits that a and b have, with broadcasting. ONNX BitwiseAnd-18."""

    a = operand(INTEGER)
    b = operand(INTEGER)
    traits = _COMMUTATIVE

    def kernel(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(a & b)


@operator("BitwiseOr", since=18)
class BitwiseOr(_Bitwise):
    """The bits that a or b have, with broadcasting. ONNX BitwiseOr-18."""

    a = operand(INTEGER)
    b = operand(INTEGER)
    traits = _COMMUTATIVE

    def kernel(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(a | b)


@operator("BitwiseXor", since=18)
class BitwiseXor(_Bitwise):
    """The bits that one of a and b has, with broadcasting. ONNX BitwiseXor-18."""

    a = operand(INTEGER)
    b = operand(INTEGER)
    traits = _COMMUTATIVE

    def kernel(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(a ^ b)


@operator("BitwiseNot", since=18)
class BitwiseNot(Room):
    """The bits that x has not. ONNX BitwiseNot-18."""

    x = operand(INTEGER)
    traits = _ELEMENTWISE

    def infer(self, x: Fact) -> TensorType:
        return x.type

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(~x)


@operator("BitCast", since=26)
class BitCast(Room):
    """The bits of x as another element type of the same width, that with number `to`. ONNX BitCast-26."""

    x = operand(FLOAT | INTEGER | BOOL | {"complex"})
    to: int
    traits = _ELEMENTWISE

    def _target(self) -> DType:
        try:
            return dtype_of_code(self.to)
        except GraphError as error:
            raise TypeRuleError(str(error)) from None

    def infer(self, x: Fact) -> TensorType:
        target = self._target()
        if target.bits != x.dtype.bits:
            raise TypeRuleError(f"the {x.dtype.bits} bits of {x.dtype} are no {target}, which has {target.bits}")
        return TensorType(target, x.type.shape)

    def forwards(self, *facts: Fact | None) -> int | None:
        return 0 if facts and facts[0] is not None and facts[0].dtype.code == self.to else None

    def kernel(self, x: np.ndarray) -> np.ndarray:
        target = self._target()
        if target.numpy.itemsize != x.dtype.itemsize:
            raise NoKernelError(f"the bits of {x.dtype} are no {target}: floats that are computed in more have others")
        if target.kind == "bool" and (x.view(np.uint8) > 1).any():
            raise NoKernelError("a truth value of other bits than 0 and 1 is not defined")
        return x.view(target.numpy)
