"""Shapes and types: Shape, Reshape, Flatten, Squeeze, Unsqueeze, Expand, Identity, Cast, CastLike, Dropout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from graphopt.errors import OpsetError, TypeRuleError
from graphopt.ir.attributes import Attribute, Kind
from graphopt.ir.constant import Constant
from graphopt.ir.dims import Dim, Expr, floor_div, product
from graphopt.ir.types import DType, TensorType, boolean, dtype_of_code, i64
from graphopt.ops.adapters import attribute_needs, became_operands, constant_of, same, without
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.broadcast import broadcast
from graphopt.ops.room import (
    ANY,
    BOOL,
    FLOAT,
    INTEGER,
    Adapter,
    Fact,
    NoKernelError,
    Room,
    Step,
    Trait,
    operand,
    operator,
    unknown_dim,
)

__all__ = ["cast", "dropout", "expand", "flatten", "identity", "reshape", "shape", "squeeze", "unsqueeze"]

_MOVES = frozenset({Trait.MOVES, Trait.SHAPE_ARITHMETIC})


def same_shape(a: TensorType, b: TensorType) -> bool:
    """Whether two types certainly have the same shape."""
    return a.shape is not None and a.shape == b.shape


class Reshaping(Room):
    """A room whose result has the first operand's elements in the same order, so the same shape means the same."""

    def forwards(self, *facts: Fact | None) -> int | None:
        known = [f for f in facts if f is not None]
        x = facts[0]
        if x is None or x.type.shape is None:
            return None
        result = self.infer(*facts) if len(known) else None
        return 0 if isinstance(result, TensorType) and same_shape(result, x.type) else None


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


@operator("Shape", since=1)
class Shape(Room):
    """The dims from `start` to `end` as int64. ONNX Shape-25."""

    x = operand(ANY)
    start: int = 0
    end: int | None = None
    type_only = frozenset({0})
    adapters = (attribute_needs("Shape", 15, "start", 0), attribute_needs("Shape", 15, "end", None))

    def infer(self, x: Fact) -> TensorType:
        return TensorType(i64, (len(self._dims(x)),))

    def _dims(self, x: Fact) -> tuple[Dim, ...]:
        return x.shape[self.start : self.end if self.end is not None else x.rank]

    def elements(self, *facts: Fact | None) -> np.ndarray | None:
        x = facts[0]
        if x is None or x.type.shape is None:
            return None
        found = np.empty(len(self._dims(x)), object)
        found[:] = self._dims(x)
        return found

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x.shape[self.start : self.end if self.end is not None else x.ndim], np.int64)


@operator("Reshape", since=5)
class Reshape(Reshaping):
    """The same elements in another shape; 0 keeps a dim (unless allowzero), -1 is what is left. ONNX Reshape-25."""

    x = operand(ANY)
    target = operand(INTEGER)
    allowzero: int = 0
    traits = _MOVES
    adapters = (attribute_needs("Reshape", 14, "allowzero", 0),)

    def infer(self, x: Fact, target: Fact) -> TensorType:
        wanted = target.elements
        if wanted is None:
            count = target.type.shape[0] if target.type.shape is not None and target.rank == 1 else None
            return TensorType(x.dtype, tuple(unknown_dim() for _ in range(count)) if isinstance(count, int) else None)
        given: list[Dim] = wanted.ravel().tolist()
        dims: list[Dim | None] = []
        for i, d in enumerate(given):
            if isinstance(d, int) and d == 0 and not self.allowzero:
                if i >= x.rank:
                    raise TypeRuleError(f"the target {given} keeps axis {i}, and the input is {x.type}")
                dims.append(x.shape[i])
            elif isinstance(d, int) and d < 0:
                dims.append(None)
            else:
                dims.append(d)
        if dims.count(None) > 1 or any(isinstance(d, int) and d < -1 for d in given):
            raise TypeRuleError(f"the target {given} leaves more than one dim open")
        known = product(d for d in dims if d is not None)
        if None not in dims:
            total = product(x.shape)
            if isinstance(total, int) and isinstance(known, int) and total != known:
                raise TypeRuleError(f"{x.type} has {total} elements and the target {given} {known}")
            return TensorType(x.dtype, tuple(d for d in dims if d is not None))
        rest = _quotient(x.shape, [d for d in dims if d is not None])
        return TensorType(x.dtype, tuple(rest if d is None else d for d in dims))

    def elements(self, *facts: Fact | None) -> np.ndarray | None:
        x = facts[0]
        result = self.infer(*[f for f in facts if f is not None]) if x is not None and x.elements is not None else None
        if x is None or x.elements is None or result is None or not result.is_static:
            return None
        return x.elements.reshape(result.static_shape)

    def kernel(self, x: np.ndarray, target: np.ndarray) -> np.ndarray:
        wanted = [int(d) for d in target.ravel()]
        if not self.allowzero:
            wanted = [x.shape[i] if d == 0 else d for i, d in enumerate(wanted)]
        return x.reshape(wanted)


def _quotient(whole: Sequence[Dim], parts: Sequence[Dim]) -> Dim:
    """What is left of a product of dims; equal dims cancel, so that N * 3 * 4 over N is 12.

    Raises:
        TypeRuleError: the parts do not divide the whole.
    """
    left, right = list(whole), []
    for part in parts:
        if part in left and part != 0:
            left.remove(part)
        else:
            right.append(part)
    above, below = product(left), product(right)
    if below == 0:
        return unknown_dim() if above != 0 else 0
    if isinstance(above, int) and isinstance(below, int) and above % below:
        raise TypeRuleError(f"{product(whole)} elements do not divide into {product(parts)}")
    quotient = floor_div(above, below)
    if isinstance(quotient, Expr) and quotient * below != above:
        return unknown_dim()
    return quotient


@operator("Flatten", since=1)
class Flatten(Reshaping):
    """The axes before `axis` as one and the others as one. ONNX Flatten-25."""

    x = operand(ANY)
    axis: int = 1
    traits = frozenset({Trait.MOVES})

    def infer(self, x: Fact) -> TensorType:
        if not -x.rank <= self.axis <= x.rank:
            raise TypeRuleError(f"axis {self.axis} is not one of {x.type}")
        at = self.axis + x.rank if self.axis < 0 else self.axis
        return TensorType(x.dtype, (product(x.shape[:at]), product(x.shape[at:])))

    def kernel(self, x: np.ndarray) -> np.ndarray:
        at = self.axis + x.ndim if self.axis < 0 else self.axis
        return x.reshape(int(np.prod(x.shape[:at])), int(np.prod(x.shape[at:])))


@operator("Squeeze", since=1)
class Squeeze(Reshaping):
    """Without the axes given, which have length 1; without all such axes when none is. ONNX Squeeze-25."""

    x = operand(ANY)
    axes = operand(INTEGER, optional=True)
    traits = _MOVES
    adapters = (became_operands("Squeeze", 13, {"axes": 1}),)

    def infer(self, x: Fact, axes: Fact | None = None) -> TensorType:
        if axes is None:
            if not all(isinstance(d, int) for d in x.shape):
                return TensorType(x.dtype, None)
            return TensorType(x.dtype, tuple(d for d in x.shape if d != 1))
        given = axes.integers
        if given is None:
            return TensorType(x.dtype, None)
        gone = normalized(given, x.rank)
        for a in gone:
            if isinstance(x.shape[a], int) and x.shape[a] != 1:
                raise TypeRuleError(f"axis {a} of {x.type} is not of length 1")
        return TensorType(x.dtype, tuple(d for i, d in enumerate(x.shape) if i not in gone))

    def elements(self, *facts: Fact | None) -> np.ndarray | None:
        x = facts[0]
        axes = facts[1] if len(facts) > 1 else None
        if x is None or x.elements is None:
            return None
        return self.kernel(x.elements, None if axes is None or axes.integers is None else np.asarray(axes.integers))

    def kernel(self, x: np.ndarray, axes: np.ndarray | None = None) -> np.ndarray:
        return np.squeeze(x, None if axes is None else tuple(int(a) for a in axes.ravel()))


@operator("Unsqueeze", since=1)
class Unsqueeze(Reshaping):
    """With axes of length 1 where they stand in the result. ONNX Unsqueeze-25."""

    x = operand(ANY)
    axes = operand(INTEGER)
    traits = _MOVES
    adapters = (became_operands("Unsqueeze", 13, {"axes": 1}),)

    def infer(self, x: Fact, axes: Fact) -> TensorType:
        given = axes.integers
        if given is None:
            return TensorType(x.dtype, None)
        places = normalized(given, x.rank + len(given))
        rest = iter(x.shape)
        return TensorType(x.dtype, tuple(1 if i in places else next(rest) for i in range(x.rank + len(given))))

    def elements(self, *facts: Fact | None) -> np.ndarray | None:
        x, axes = facts[0], facts[1]
        if x is None or x.elements is None or axes is None or axes.integers is None:
            return None
        return self.kernel(x.elements, np.asarray(axes.integers))

    def kernel(self, x: np.ndarray, axes: np.ndarray) -> np.ndarray:
        return np.expand_dims(x, tuple(int(a) for a in axes.ravel()))


@operator("Expand", since=8)
class Expand(Room):
    """x broadcast to a shape (both ways: where the shape has 1, x's dim stays). ONNX Expand-13."""

    x = operand(ANY)
    target = operand(INTEGER)
    traits = _MOVES

    def infer(self, x: Fact, target: Fact) -> TensorType:
        wanted = target.elements
        if wanted is None:
            count = target.type.shape[0] if target.type.shape is not None and target.rank == 1 else None
            if not isinstance(count, int):
                return TensorType(x.dtype, None)
            return TensorType(x.dtype, tuple(unknown_dim() for _ in range(max(count, x.rank))))
        return TensorType(x.dtype, broadcast(x.shape, tuple(wanted.ravel().tolist())))

    def elements(self, *facts: Fact | None) -> np.ndarray | None:
        x, target = facts[0], facts[1]
        if x is None or x.elements is None or target is None or target.integers is None:
            return None
        return self.kernel(x.elements, np.asarray(target.integers, np.int64))

    def forwards(self, *facts: Fact | None) -> int | None:
        x, target = facts[0], facts[1]
        if x is None or target is None or x.type.shape is None or target.elements is None:
            return None
        return 0 if same_shape(self.infer(x, target), x.type) else None

    def kernel(self, x: np.ndarray, target: np.ndarray) -> np.ndarray:
        return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(int(d) for d in target.ravel())))


@operator("Identity", since=1)
class Identity(Room):
    """x. ONNX Identity-25."""

    x = operand(ANY)
    traits = _MOVES

    def infer(self, x: Fact) -> TensorType:
        return x.type

    def forwards(self, *facts: Fact | None) -> int | None:
        return 0

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return x


def _cast(x: np.ndarray, dtype: DType, saturate: bool) -> np.ndarray:
    """x in another element type. What float to integer gives outside the range is the machine's, as in ONNX.

    Raises:
        NoKernelError: from or to strings.
    """
    if dtype.kind == "string" or x.dtype.kind == "O" and not dtype.is_integer:
        raise NoKernelError("casts from and to strings are not computed")
    if x.dtype.kind == "O":
        return x  # dims stay dims
    if dtype.bits == 8 and dtype.is_float and saturate:
        import ml_dtypes

        limit = float(ml_dtypes.finfo(dtype.numpy).max)
        x = np.where(np.isfinite(x), np.clip(x, -limit, limit), x)
    with np.errstate(all="ignore"):
        return x.astype(dtype.numpy)



@operator("Cast", since=1)
class Cast(Room):
    """x in the element type with number `to`. ONNX Cast-25."""

    x = operand(ANY)
    to: int
    saturate: int = 1
    round_mode: str = "up"
    traits = frozenset({Trait.ELEMENTWISE, Trait.SHAPE_ARITHMETIC})
    adapters = (
        attribute_needs("Cast", 19, "saturate", 1),
        attribute_needs("Cast", 24, "round_mode", "up"),
    )

    @property
    def dtype(self) -> DType:
        """The target type."""
        return dtype_of_code(self.to)

    def infer(self, x: Fact) -> TensorType:
        return TensorType(self.dtype, x.type.shape)

    def elements(self, *facts: Fact | None) -> np.ndarray | None:
        x = facts[0]
        return None if x is None or self.to not in (6, 7) else x.elements

    def forwards(self, *facts: Fact | None) -> int | None:
        x = facts[0]
        return 0 if x is not None and x.dtype.code == self.to else None

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return _cast(x, self.dtype, bool(self.saturate))


@operator("CastLike", since=15)
class CastLike(Room):
    """x in the element type of another tensor. ONNX CastLike-25."""

    x = operand(ANY)
    like = operand(ANY)
    saturate: int = 1
    round_mode: str = "up"
    type_only = frozenset({1})
    adapters = (
        attribute_needs("CastLike", 19, "saturate", 1),
        attribute_needs("CastLike", 24, "round_mode", "up"),
    )

    def infer(self, x: Fact, like: Fact) -> TensorType:
        return TensorType(like.dtype, x.type.shape)

    def forwards(self, *facts: Fact | None) -> int | None:
        x, like = facts[0], facts[1]
        return 0 if x is not None and like is not None and x.dtype == like.dtype else None

    def kernel(self, x: np.ndarray, like: np.ndarray) -> np.ndarray:
        from graphopt.ir.types import dtype_of

        return _cast(x, dtype_of(like.dtype), bool(self.saturate))


def _dropout_to_12(step: Step) -> Step:
    ratio = step.attributes.get("ratio")
    value = float(ratio.value) if ratio is not None and isinstance(ratio.value, float) else 0.5
    operands = (step.operands[0], Constant.of(np.asarray(value, np.float32)))
    return replace(step, attributes=without(step, "ratio"), operands=operands)


def _dropout_below_12(step: Step) -> Step:
    mode = constant_of(step, 2)
    if len(step.operands) > 2 and step.operands[2] != "" and (mode is None or bool(mode.ravel()[0])):
        raise OpsetError("Dropout in training mode needs opset 12")
    ratio = constant_of(step, 1)
    if len(step.operands) > 1 and step.operands[1] != "" and ratio is None:
        raise OpsetError("Dropout with a computed ratio needs opset 12")
    attributes = dict(without(step, "seed"))
    if ratio is not None:
        attributes["ratio"] = Attribute(Kind.FLOAT, float(ratio.ravel()[0]))
    return replace(step, attributes=attributes, operands=step.operands[:1])


def _dropout_mask_to_10(step: Step) -> Step:
    """Until opset 9 the mask had the data's type; from 10 on it is boolean."""
    if len([r for r in step.results if r]) > 1:
        raise OpsetError("Dropout's mask has another type before opset 10")
    return step


@operator("Dropout", since=1)
class Dropout(Room):
    """x at inference; in training mode elements are dropped at random and the others scaled. ONNX Dropout-22."""

    x = operand(FLOAT)
    ratio = operand(FLOAT, optional=True)
    training_mode = operand(BOOL, optional=True)
    seed: int | None = None
    adapters = (Adapter(10, _dropout_mask_to_10, _dropout_mask_to_10), Adapter(12, _dropout_to_12, _dropout_below_12))

    def infer(self, x: Fact, ratio: Fact | None = None, training_mode: Fact | None = None) -> tuple[TensorType, ...]:
        return x.type, TensorType(boolean, x.type.shape)

    def is_pure(self, *facts: Fact | None) -> bool:
        mode = facts[2] if len(facts) > 2 else None
        return len(facts) < 3 or facts[2] is None or (mode is not None and mode.scalar is False)

    def forwards(self, *facts: Fact | None) -> int | None:
        return 0 if self.is_pure(*facts) else None

    def kernel(
        self, x: np.ndarray, ratio: np.ndarray | None = None, training_mode: np.ndarray | None = None
    ) -> tuple[np.ndarray, ...]:
        if training_mode is not None and training_mode.any():
            raise NoKernelError("Dropout in training mode is random")
        return x, np.ones(x.shape, bool)


def shape(x: Like) -> Operand:
    """The dims as int64."""
    return apply(Shape(), x)


def reshape(x: Like, target: Like | Sequence[int]) -> Operand:
    """The same elements in another shape."""
    return apply(Reshape(), x, np.asarray(target, np.int64) if isinstance(target, list | tuple) else target)


def flatten(x: Like, *, axis: int = 1) -> Operand:
    """The axes before `axis` as one and the others as one."""
    return apply(Flatten(axis=axis), x)


def squeeze(x: Like, axes: Sequence[int] | None = None) -> Operand:
    """Without axes of length 1."""
    return apply(Squeeze(), x, None if axes is None else np.asarray(axes, np.int64))


def unsqueeze(x: Like, axes: Sequence[int]) -> Operand:
    """With axes of length 1."""
    return apply(Unsqueeze(), x, np.asarray(axes, np.int64))


def expand(x: Like, target: Like | Sequence[int]) -> Operand:
    """x broadcast to a shape."""
    return apply(Expand(), x, np.asarray(target, np.int64) if isinstance(target, list | tuple) else target)


def identity(x: Like) -> Operand:
    """x."""
    return apply(Identity(), x)


def cast(x: Like, dtype: DType) -> Operand:
    """x in another element type."""
    return apply(Cast(to=dtype.code), x)


def dropout(x: Like) -> Operand:
    """x, as at inference."""
    return apply(Dropout(), x)
