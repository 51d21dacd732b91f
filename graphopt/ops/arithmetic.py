"""Elementwise arithmetic that is met less often: Mod, Mean."""

from __future__ import annotations

import numpy as np

from graphopt.errors import TypeRuleError
from graphopt.ir.dims import Dim, floor_div, is_nonnegative
from graphopt.ir.types import TensorType
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.elementwise import Variadic, joined
from graphopt.ops.reduce import EXACT
from graphopt.ops.room import FLOAT, MAX_ELEMENTS, NUMERIC, Fact, NoKernelError, Room, Trait, operand, operator
from graphopt.ops.single import in_single

__all__ = ["mean", "mod"]


@operator("Mod", since=10)
class Mod(Room):
    """What is left of a / b, with broadcasting: with the sign of b, or of a (as C's fmod). ONNX Mod-13.

    ONNX Runtime takes fmod=1 for integers too, where ONNX names floats alone.
    """

    a = operand(NUMERIC)
    b = operand(NUMERIC)
    fmod: int = 0
    traits = frozenset({Trait.ELEMENTWISE, Trait.SHAPE_ARITHMETIC, Trait.PARTIAL})

    def infer(self, a: Fact, b: Fact) -> TensorType:
        if self.fmod not in (0, 1):
            raise TypeRuleError(f"fmod is 0 or 1, and not {self.fmod}")
        if a.dtype.is_float and not self.fmod:
            raise TypeRuleError(f"the remainder of {a.type} needs fmod=1")
        return joined(a, b)

    def elements(self, *facts: Fact | None) -> np.ndarray | None:
        known = [None if f is None else f.elements for f in facts]
        if len(known) != 2 or known[0] is None or known[1] is None:
            return None
        pairs = np.broadcast(known[0], known[1])
        if pairs.size > MAX_ELEMENTS:
            return None
        found = np.empty(pairs.size, object)
        for i, (a, b) in enumerate(pairs):
            rest = _rest(a, b)
            if rest is None:
                return None
            found[i] = rest
        return found.reshape(pairs.shape)

    def kernel(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if a.dtype.kind not in "iu":
            return np.asarray(np.fmod(a, b))
        if (b == 0).any():
            raise NoKernelError("an integer is divided by 0")
        if a.dtype.kind == "i" and ((a == np.iinfo(a.dtype).min) & (b == -1)).any():
            raise NoKernelError(f"the quotient of {np.iinfo(a.dtype).min} and -1 is no {a.dtype}")
        if not self.fmod:
            return np.asarray(np.mod(a, b))
        if any((np.abs(v.astype(np.float64)) >= EXACT).any() for v in (a, b)):
            raise NoKernelError(f"runtimes round large numbers in {a.dtype} before they take the remainder")
        return np.asarray(np.fmod(a, b))


def _rest(a: Dim, b: Dim) -> Dim | None:
    """The rest a - b * (a // b) where both have one sign, so that both kinds of remainder are the same."""
    if not is_nonnegative(a) or not is_nonnegative(b - 1):
        return None
    return a - b * floor_div(a, b)


@operator("Mean", since=1)
class Mean(Variadic):
    """The mean of all operands with broadcasting. ONNX Mean-13."""

    xs = operand(FLOAT, variadic=True)
    traits = frozenset({Trait.ELEMENTWISE})

    @in_single
    def kernel(self, *xs: np.ndarray) -> np.ndarray:
        total = xs[0]
        for x in xs[1:]:
            total = total + x
        return np.asarray(total / total.dtype.type(len(xs)))


def mod(a: Like, b: Like, *, fmod: bool = False) -> Operand:
    """What is left of a / b, with the sign of b, or of a (as C's fmod)."""
    return apply(Mod(fmod=int(fmod)), a, b)


def mean(*xs: Like) -> Operand:
    """The mean of all operands."""
    return apply(Mean(), *xs)
