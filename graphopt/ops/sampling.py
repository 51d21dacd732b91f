"""Random tensors: RandomNormal, RandomUniform, both like another tensor, Bernoulli, Multinomial.

Each run gives other numbers, also with a seed (ONNX does not say which), so none has a kernel.
"""

from __future__ import annotations

from collections.abc import Callable

from graphopt.errors import GraphError, OpsetError, TypeRuleError
from graphopt.ir.types import DType, TensorType, dtype_of_code
from graphopt.ops.adapters import integer_of, same
from graphopt.ops.room import ANY, FLOAT, Adapter, Fact, Room, Step, operand, operator, unknown_dim

_BFLOAT16 = 16  # ONNX's number of the type


class _Random(Room):
    """What another run makes otherwise."""

    def is_pure(self, *facts: Fact | None) -> bool:
        return False


def _drawn(op: Room, code: int, kinds: frozenset[str]) -> DType:
    """The element type with number `code`, one of those that are drawn."""
    try:
        dtype = dtype_of_code(code)
    except GraphError as error:
        raise TypeRuleError(str(error)) from None
    if dtype.kind not in kinds:
        raise TypeRuleError(f"{op.name} gives {' or '.join(sorted(kinds))}, and no {dtype}")
    return dtype


def _below_22(name: str) -> Callable[[Step], Step]:
    def down(step: Step) -> Step:
        if integer_of(step, "dtype", 1) == _BFLOAT16:
            raise OpsetError(f"{name} in bf16 needs opset 22")
        return step

    return down


class _OfShape(_Random):
    """Of a shape that is an attribute."""

    shape: tuple[int, ...]
    dtype: int

    def infer(self) -> TensorType:
        if any(d < 0 for d in self.shape):
            raise TypeRuleError(f"the shape {list(self.shape)} has a negative dim")
        return TensorType(_drawn(self, self.dtype, FLOAT), tuple(self.shape))


@operator("RandomNormal", since=1)
class RandomNormal(_OfShape):
    """Numbers drawn from the normal distribution. ONNX RandomNormal-22."""

    shape: tuple[int, ...]
    dtype: int = 1
    mean: float = 0.0
    scale: float = 1.0
    seed: float | None = None
    adapters = (Adapter(22, same, _below_22("RandomNormal")),)


@operator("RandomUniform", since=1)
class RandomUniform(_OfShape):
    """Numbers drawn evenly from low to high. ONNX RandomUniform-22."""

    shape: tuple[int, ...]
    dtype: int = 1
    high: float = 1.0
    low: float = 0.0
    seed: float | None = None
    adapters = (Adapter(22, same, _below_22("RandomUniform")),)


class _Like(_Random):
    """Of the shape of another tensor, and of its element type where no other is given."""

    dtype: int | None
    type_only = frozenset({0})

    def infer(self, x: Fact) -> TensorType:
        return TensorType(_drawn(self, x.dtype.code if self.dtype is None else self.dtype, FLOAT), x.type.shape)


@operator("RandomNormalLike", since=1)
class RandomNormalLike(_Like):
    """Numbers drawn from the normal distribution, as many as another tensor has. ONNX RandomNormalLike-22."""

    x = operand(ANY)
    dtype: int | None = None
    mean: float = 0.0
    scale: float = 1.0
    seed: float | None = None
    adapters = (Adapter(22, same, _below_22("RandomNormalLike")),)


@operator("RandomUniformLike", since=1)
class RandomUniformLike(_Like):
    """Numbers drawn evenly from low to high, as many as another tensor has. ONNX RandomUniformLike-22."""

    x = operand(ANY)
    dtype: int | None = None
    high: float = 1.0
    low: float = 0.0
    seed: float | None = None
    adapters = (Adapter(22, same, _below_22("RandomUniformLike")),)


@operator("Bernoulli", since=15)
class Bernoulli(_Random):
    """1 with probability x, 0 elsewhere, for each element. ONNX Bernoulli-22."""

    x = operand(FLOAT)
    dtype: int | None = None
    seed: float | None = None

    def infer(self, x: Fact) -> TensorType:
        code = x.dtype.code if self.dtype is None else self.dtype
        return TensorType(_drawn(self, code, ANY - {"string", "complex"}), x.type.shape)


@operator("Multinomial", since=7)
class Multinomial(_Random):
    """Indices drawn with the probabilities whose logarithms the rows of x are (but for a sum). ONNX Multinomial-22."""

    x = operand(FLOAT)
    dtype: int = 6
    sample_size: int = 1
    seed: float | None = None

    def infer(self, x: Fact) -> TensorType:
        if self.dtype not in (6, 7):
            raise TypeRuleError(f"Multinomial gives i32 or i64, and not element type {self.dtype}")
        if self.sample_size < 1:
            raise TypeRuleError(f"at least one sample is drawn, and not {self.sample_size}")
        if x.type.shape is not None and x.rank != 2:
            raise TypeRuleError(f"{x.type} is no list of rows")
        rows = unknown_dim() if x.type.shape is None else x.shape[0]
        return TensorType(dtype_of_code(self.dtype), (rows, self.sample_size))
