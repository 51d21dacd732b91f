"""Elementwise arithmetic of several tensors, broadcast together: Add, Sub, Mul, Div, Pow, Sum, Min, Max."""

from __future__ import annotations

from functools import reduce

import numpy as np

from graphopt.errors import OpsetError, TypeRuleError
from graphopt.ir.dims import is_nonnegative
from graphopt.ir.types import DType, Shape, TensorType
from graphopt.ops.adapters import same
from graphopt.ops.algebra import Affine, ChannelAffine, Refused
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.broadcast import broadcast
from graphopt.ops.room import (
    FLOAT,
    MAX_ELEMENTS,
    NUMERIC,
    Adapter,
    Fact,
    NoKernelError,
    Room,
    Step,
    Trait,
    operand,
    operator,
)

__all__ = ["add", "div", "maximum", "minimum", "mul", "pow", "sub", "sum"]

_SHAPES = frozenset({Trait.ELEMENTWISE, Trait.SHAPE_ARITHMETIC})


def joined(*facts: Fact) -> TensorType:
    """The type of operands of one element type, broadcast together."""
    for fact in facts[1:]:
        if fact.dtype != facts[0].dtype:
            listed = ", ".join(str(f.type) for f in facts)
            raise TypeRuleError(f"the operands {listed} have different element types")
    return TensorType(facts[0].dtype, _broadcast(*facts))


def _broadcast(*facts: Fact) -> Shape | None:
    shapes = [f.type.shape for f in facts]
    return broadcast(*(s for s in shapes if s is not None)) if None not in shapes else None


def holds(dtype: DType, elements: np.ndarray) -> bool:
    """Whether dims fit an integer type without wrapping; symbols are taken to fit 32 bits."""
    low, high = (0, 2**dtype.bits) if dtype.kind == "uint" else (-(2 ** (dtype.bits - 1)), 2 ** (dtype.bits - 1))
    return all(
        low <= e < high if isinstance(e, int) else dtype.bits >= 32 and (low < 0 or is_nonnegative(e))
        for e in elements.ravel().tolist()
    )


def _like(result: object, a: np.ndarray) -> np.ndarray:
    """NumPy gives scalars for arrays without axes; dims stay objects."""
    return np.asarray(result, a.dtype if a.dtype.kind == "O" else None)


def equals_everywhere(x: Fact | None, other: Fact | None, value: float, *, negative_zero: bool = False) -> bool:
    """Whether `other` is a small constant that holds `value` alone, and broadcasting it leaves `x`'s shape."""
    if x is None or other is None or other.constant is None or other.constant.is_absent:
        return False
    if x.type.shape is None or other.constant.size > MAX_ELEMENTS or not _keeps(x.shape, other.shape):
        return False
    array = other.constant.array()
    signs = np.signbit(array) if other.dtype.is_float else np.full(array.shape, negative_zero)
    return bool((array == value).all() and (signs == negative_zero).all())


def _keeps(shape: Shape, other: Shape) -> bool:
    try:
        return broadcast(shape, other) == shape
    except TypeRuleError:
        return False


def channel_constant(facts: tuple[Fact | None, ...], axis: int, data: int) -> np.ndarray:
    """The other operand of a binary operator as float64, by channel: shape [C], or [] for one number.

    Raises:
        Refused: it is computed, an integer, not finite, broadens the result, or varies along another axis.
    """
    x, other = facts[data], facts[1 - data]
    if x is None or other is None or x.type.shape is None:
        raise Refused("the operands' ranks are not known")
    if other.constant is None or other.constant.is_absent:
        raise Refused("the other operand is not a constant")
    if not x.dtype.is_float:
        raise Refused(f"it computes in {x.dtype}")
    shape = other.constant.shape
    if len(shape) > x.rank:
        raise Refused(f"the constant {other.type} broadens the result of {x.type}")
    padded = (1,) * (x.rank - len(shape)) + shape
    for i, (dim, have) in enumerate(zip(padded, x.shape, strict=True)):
        if dim != 1 and i != axis:
            raise Refused(f"the constant {other.type} varies along axis {i} of {x.type}, the channels are axis {axis}")
        if dim not in (1, have):
            raise Refused(f"the constant {other.type} has {dim} channels and {x.type} has {have}")
    array = other.constant.array().astype(np.float64)
    if not np.isfinite(array).all():
        raise Refused(f"the constant {other.type} holds numbers that are not finite")
    return array.reshape(()) if array.size == 1 else array.reshape(-1)


class _Arithmetic(Room, ChannelAffine):
    """Two operands; on dims too."""

    def infer(self, a: Fact, b: Fact) -> TensorType:
        return joined(a, b)

    def elements(self, *facts: Fact | None) -> np.ndarray | None:
        made = super().elements(*facts)
        return made if made is not None and facts[0] is not None and holds(facts[0].dtype, made) else None


@operator("Add", since=1)
class Add(_Arithmetic):
    """a + b with broadcasting; integers wrap. ONNX Add-14."""

    a = operand(NUMERIC)
    b = operand(NUMERIC)
    traits = _SHAPES | {Trait.COMMUTATIVE}

    def kernel(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return _like(a + b, a)

    def forwards(self, *facts: Fact | None) -> int | None:
        """Adding -0 keeps x, also where x is -0; an integer 0 has no sign."""
        for data in (0, 1):
            x = facts[data]
            if x is not None and equals_everywhere(x, facts[1 - data], 0, negative_zero=x.dtype.is_float):
                return data
        return None

    def affine(self, facts: tuple[Fact | None, ...], axis: int, data: int) -> Affine:
        return Affine(data, np.ones(()), channel_constant(facts, axis, data))


@operator("Sub", since=1)
class Sub(_Arithmetic):
    """a - b with broadcasting; integers wrap. ONNX Sub-14."""

    a = operand(NUMERIC)
    b = operand(NUMERIC)
    traits = _SHAPES

    def kernel(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return _like(a - b, a)

    def forwards(self, *facts: Fact | None) -> int | None:
        """Taking 0 keeps x, also where x is -0; taking -0 does not."""
        return 0 if equals_everywhere(facts[0], facts[1], 0) else None

    def affine(self, facts: tuple[Fact | None, ...], axis: int, data: int) -> Affine:
        other = channel_constant(facts, axis, data)
        return Affine(data, np.ones(()), -other) if data == 0 else Affine(data, -np.ones(()), other)


@operator("Mul", since=1)
class Mul(_Arithmetic):
    """a · b with broadcasting; integers wrap. ONNX Mul-14."""

    a = operand(NUMERIC)
    b = operand(NUMERIC)
    traits = _SHAPES | {Trait.COMMUTATIVE}

    def kernel(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return _like(a * b, a)

    def forwards(self, *facts: Fact | None) -> int | None:
        return next((data for data in (0, 1) if equals_everywhere(facts[data], facts[1 - data], 1)), None)

    def affine(self, facts: tuple[Fact | None, ...], axis: int, data: int) -> Affine:
        return Affine(data, channel_constant(facts, axis, data), np.zeros(()))


@operator("Div", since=1)
class Div(_Arithmetic):
    """a / b with broadcasting; integers round toward zero. ONNX Div-14."""

    a = operand(NUMERIC)
    b = operand(NUMERIC)
    traits = _SHAPES | {Trait.PARTIAL}

    def elements(self, *facts: Fact | None) -> np.ndarray | None:
        """Dims round down, integers toward zero: the same only for what is not negative."""
        known = [None if f is None else f.elements for f in facts]
        if any(k is None or not all(map(is_nonnegative, k.ravel().tolist())) for k in known):
            return None
        divisor = known[1]
        if divisor is None or any(isinstance(e, int) and e == 0 for e in divisor.ravel().tolist()):
            return None
        return super().elements(*facts)

    def kernel(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if a.dtype.kind == "O":
            return _like(a // b, a)
        if a.dtype.kind not in "iu":
            return np.asarray(a / b)
        if (b == 0).any():
            raise NoKernelError("an integer is divided by 0")
        if a.dtype.kind == "i" and ((a == np.iinfo(a.dtype).min) & (b == -1)).any():
            raise NoKernelError(f"the quotient of {np.iinfo(a.dtype).min} and -1 is no {a.dtype}")
        quotient = np.asarray(a // b)  # rounds down: one more where the signs differ and something is left
        return np.asarray(quotient + ((a % b != 0) & ((a < 0) != (b < 0))).astype(a.dtype))

    def forwards(self, *facts: Fact | None) -> int | None:
        return 0 if equals_everywhere(facts[0], facts[1], 1) else None

    def affine(self, facts: tuple[Fact | None, ...], axis: int, data: int) -> Affine:
        if data != 0:
            raise Refused("it is the divisor")
        other = channel_constant(facts, axis, data)
        if (other == 0).any():
            raise Refused("a divisor is 0")
        with np.errstate(over="ignore"):
            scale = 1 / other
        if not np.isfinite(scale).all():
            raise Refused("a divisor is so small that its reciprocal is not finite")
        return Affine(data, scale, np.zeros(()))


def _pow_below_12(step: Step) -> Step:
    a, b = step.facts[:2]
    if a is not None and b is not None and a.dtype != b.dtype:
        raise OpsetError(f"Pow of {a.dtype} to a power in {b.dtype} needs opset 12")
    return step


@operator("Pow", since=1)
class Pow(Room):
    """a to the power b with broadcasting, in a's element type. ONNX Pow-15."""

    a = operand(NUMERIC)
    b = operand(NUMERIC)
    traits = frozenset({Trait.ELEMENTWISE})
    adapters = (Adapter(12, same, _pow_below_12),)

    def infer(self, a: Fact, b: Fact) -> TensorType:
        return TensorType(a.dtype, _broadcast(a, b))

    def kernel(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if a.dtype.kind not in "iu":
            wide = np.result_type(a, b) if b.dtype.kind == "f" else np.float64
            return np.asarray(np.power(a, b, dtype=wide)).astype(a.dtype)
        power = np.asarray(np.power(a.astype(np.float64), b.astype(np.float64)))
        limits = np.iinfo(a.dtype)
        if not ((power >= limits.min) & (power < float(limits.max) + 1)).all():
            raise NoKernelError(f"a power of {a.dtype} is out of range")
        return power.astype(a.dtype)


def _below_8(step: Step) -> Step:
    shapes = [None if f is None else f.type.shape for f in step.facts]
    if len(shapes) > 1 and (None in shapes or len(set(shapes)) > 1):
        raise OpsetError("broadcasting needs opset 8 in Sum, Mean, Min and Max")
    return step


class Variadic(Room):
    """Any number of operands, broadcast together."""

    adapters = (Adapter(8, same, _below_8),)

    def infer(self, *xs: Fact) -> TensorType:
        if not xs:
            raise TypeRuleError(f"{self.name} has no operands")
        if None in xs:
            raise TypeRuleError(f"one of the {len(xs)} operands of {self.name} is left out")
        return joined(*xs)

    def forwards(self, *facts: Fact | None) -> int | None:
        return 0 if len(facts) == 1 else None


@operator("Sum", since=1)
class Sum(Variadic):
    """The sum of all operands with broadcasting. ONNX Sum-13."""

    xs = operand(FLOAT, variadic=True)
    traits = frozenset({Trait.ELEMENTWISE})

    def kernel(self, *xs: np.ndarray) -> np.ndarray:
        return np.asarray(reduce(np.add, xs))


@operator("Min", since=1)
class Min(Variadic):
    """The smallest of all operands with broadcasting; NaN wins. ONNX Min-13."""

    xs = operand(NUMERIC, variadic=True)
    traits = frozenset({Trait.ELEMENTWISE})

    def kernel(self, *xs: np.ndarray) -> np.ndarray:
        return np.asarray(reduce(np.minimum, xs))


@operator("Max", since=1)
class Max(Variadic):
    """The largest of all operands with broadcasting; NaN wins. ONNX Max-13."""

    xs = operand(NUMERIC, variadic=True)
    traits = frozenset({Trait.ELEMENTWISE})

    def kernel(self, *xs: np.ndarray) -> np.ndarray:
        return np.asarray(reduce(np.maximum, xs))


def add(a: Like, b: Like) -> Operand:
    """The sum a + b."""
    return apply(Add(), a, b)


def sub(a: Like, b: Like) -> Operand:
    """The difference a - b."""
    return apply(Sub(), a, b)


def mul(a: Like, b: Like) -> Operand:
    """The product a · b."""
    return apply(Mul(), a, b)


def div(a: Like, b: Like) -> Operand:
    """The quotient a / b."""
    return apply(Div(), a, b)


def pow(a: Like, b: Like) -> Operand:  # noqa: A001  # ONNX's name
    """The power of a with exponent b."""
    return apply(Pow(), a, b)


def sum(*xs: Like) -> Operand:  # noqa: A001  # ONNX's name
    """The sum of all operands."""
    return apply(Sum(), *xs)


def minimum(*xs: Like) -> Operand:
    """The smallest of all operands."""
    return apply(Min(), *xs)


def maximum(*xs: Like) -> Operand:
    """The largest of all operands."""
    return apply(Max(), *xs)
