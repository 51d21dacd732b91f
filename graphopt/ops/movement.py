"""Moving elements: Transpose, Concat, Split, Slice, Gather."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from graphopt.errors import OpsetError, TypeRuleError
from graphopt.ir.attributes import Attribute, Kind
from graphopt.ir.constant import Constant
from graphopt.ir.dims import Dim, is_anonymous
from graphopt.ir.types import TensorType
from graphopt.ops.adapters import (
    became_operands,
    constant_of,
    counted_from_front,
    given,
    integer_of,
    operand_needs,
    same,
    shape_of,
    with_operand,
    without,
)
from graphopt.ops.axes import keeps_shape, length_of, listed, normalized, unknown_shape
from graphopt.ops.bind import Like, Operand, apply, apply_all
from graphopt.ops.room import (
    ANY,
    INTEGER,
    MAX_ELEMENTS,
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
from graphopt.ops.slicing import cut, is_open, length

__all__ = ["concat", "gather", "slice_", "split", "transpose"]

_MOVES = frozenset({Trait.MOVES, Trait.SHAPE_ARITHMETIC})

_MOST_PARTS = 1 << 16  # a node with more results than this is a damaged file


@operator("Transpose", since=1)
class Transpose(Room):
    """Axes in another order (the reverse by default): axis i of the result is axis perm[i]. ONNX Transpose-25."""

    x = operand(ANY)
    perm: tuple[int, ...] = ()
    traits = _MOVES

    def _order(self, rank: int) -> tuple[int, ...]:
        return self.perm or tuple(reversed(range(rank)))

    def infer(self, x: Fact) -> TensorType:
        order = self._order(x.rank)
        if sorted(order) != list(range(x.rank)):
            raise TypeRuleError(f"perm {list(order)} is not an order of the axes of {x.type}")
        return TensorType(x.dtype, tuple(x.shape[i] for i in order))

    def forwards(self, *facts: Fact | None) -> int | None:
        x = facts[0]
        if x is None or x.type.shape is None:
            return 0 if self.perm and self.perm == tuple(range(len(self.perm))) else None
        return 0 if self._order(x.rank) == tuple(range(x.rank)) else None

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return x.transpose(self._order(x.ndim))


@operator("Concat", since=1)
class Concat(Room):
    """Tensors one after another along an axis. ONNX Concat-13."""

    xs = operand(ANY, variadic=True)
    axis: int
    traits = _MOVES
    adapters = (counted_from_front("Concat", 11, "axis"),)

    def infer(self, *xs: Fact) -> TensorType:
        if None in xs:
            raise TypeRuleError(f"one of {len(xs)} tensors to join is left out")
        shapes = [x.shape for x in xs if x.type.shape is not None] or [xs[0].shape]
        rank = len(shapes[0])
        (axis,) = normalized([self.axis], rank)
        if any(x.dtype != xs[0].dtype for x in xs) or any(len(s) != rank for s in shapes):
            listed_types = ", ".join(str(x.type) for x in xs)
            raise TypeRuleError(f"{listed_types} differ in type or rank, so they cannot stand one after another")
        dims = [_agreed([s[i] for s in shapes], i, axis) for i in range(rank) if i != axis]
        total = _sum(s[axis] for s in shapes) if len(shapes) == len(xs) else unknown_dim()
        return TensorType(xs[0].dtype, (*dims[:axis], total, *dims[axis:]))

    def forwards(self, *facts: Fact | None) -> int | None:
        return 0 if len(facts) == 1 else None

    def kernel(self, *xs: np.ndarray) -> np.ndarray:
        return np.concatenate(xs, axis=self.axis)


def _sum(dims: Iterable[Dim]) -> Dim:
    total: Dim = 0
    for dim in dims:
        total = total + dim
    return total


def _agreed(dims: Sequence[Dim], at: int, axis: int) -> Dim:
    """What is known of an axis on which tensors agree: an integer before a name before nothing.

    Raises:
        TypeRuleError: two different integers.
    """
    numbers = {d for d in dims if isinstance(d, int)}
    if len(numbers) > 1:
        raise TypeRuleError(
            f"the lengths {', '.join(map(str, dims))} of axis {at} differ, and the axis to join is {axis}"
        )
    return next(iter(numbers), next((d for d in dims if not is_anonymous(d)), dims[0]))


def _split_to_18(step: Step) -> Step:
    if given(step, 1):
        return step
    return replace(step, attributes={**step.attributes, "num_outputs": Attribute(Kind.INT, len(step.results))})


def _split_below_18(step: Step) -> Step:
    """Before opset 18 equal parts came from the number of results; parts that are not equal need sizes.

    Where the length is a symbol the node stays as it is: older runtimes say so when it does not divide.
    """
    if "num_outputs" not in step.attributes:
        return step
    plain = replace(step, attributes=without(step, "num_outputs"))
    shape, count = shape_of(step), len(step.results)
    if shape is None:
        return plain
    axis = integer_of(step, "axis", 0)
    if not -len(shape) <= axis < len(shape):
        raise OpsetError(f"Split has no axis {axis} in a tensor of rank {len(shape)}")
    size = shape[axis]
    if not isinstance(size, int) or size % count == 0:
        return plain
    parts = _equal_parts(size, count)
    return with_operand(plain, 1, Constant.of(np.asarray(parts, np.int64)))


def _equal_parts(size: Dim, count: int) -> list[Dim]:
    """Lengths of `count` parts of an axis, all alike but the last, which may be shorter.

    Raises:
        TypeRuleError: there are more parts than elements for them, or no node has so many results.
    """
    if not 1 <= count <= _MOST_PARTS:
        raise TypeRuleError(f"a number of parts is from 1 to {_MOST_PARTS}, and {count} are asked for")
    part = (size + (count - 1)) // count
    last = size - part * (count - 1)
    if isinstance(last, int) and last < 0:
        raise TypeRuleError(f"{size} elements do not make {count} parts")
    return [*(part for _ in range(count - 1)), last]


@operator("Split", since=1)
class Split(Room):
    """A tensor cut along an axis, into parts of given sizes or equal ones (the last may be smaller). ONNX Split-18."""

    x = operand(ANY)
    sizes = operand(INTEGER, optional=True)
    axis: int = 0
    num_outputs: int | None = None
    traits = frozenset({Trait.MOVES})
    adapters = (
        counted_from_front("Split", 11, "axis"),
        became_operands("Split", 13, {"split": 1}),
        Adapter(18, _split_to_18, _split_below_18),
    )

    def infer(self, x: Fact, sizes: Fact | None = None) -> tuple[TensorType, ...]:
        (axis,) = normalized([self.axis], x.rank)
        total = x.shape[axis]
        if sizes is not None:
            parts = listed(sizes)
            if parts is None:
                count = length_of(sizes)
                if count is None or count > _MOST_PARTS:
                    return ()
                parts = [unknown_dim() for _ in range(count)]
        elif self.num_outputs is not None:
            parts = _equal_parts(total, self.num_outputs)
        else:
            return ()  # as many as the node has results
        numbers = [p for p in parts if isinstance(p, int)]
        whole = isinstance(total, int) and len(numbers) == len(parts) and sizes is not None and bool(parts)
        if (whole and sum(numbers) != total) or any(n < 0 for n in numbers):
            raise TypeRuleError(f"the parts {list(parts)} do not make up axis {axis} of {x.type}")
        return tuple(TensorType(x.dtype, (*x.shape[:axis], p, *x.shape[axis + 1 :])) for p in parts)

    def forwards(self, *facts: Fact | None) -> int | None:
        if len(facts) < 2:
            return 0 if self.num_outputs == 1 else None
        return 0 if facts[1] is not None and length_of(facts[1]) == 1 else None

    def kernel(self, x: np.ndarray, sizes: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
        if sizes is not None:
            parts = [int(s) for s in sizes.ravel()]
        elif self.num_outputs is not None:
            parts = [int(p) for p in _equal_parts(x.shape[self.axis], self.num_outputs)]  # type: ignore[arg-type]
        else:
            raise NoKernelError("Split needs sizes or a number of parts")
        if sum(parts) != x.shape[self.axis] or min(parts, default=0) < 0:
            raise TypeRuleError(f"the parts {parts} do not make up axis {self.axis} of {list(x.shape)}")
        return tuple(np.split(x, np.cumsum(parts)[:-1], axis=self.axis))


def _axes_below_11(step: Step) -> Step:
    """Axes are counted from the front before opset 11."""
    axes, shape = constant_of(step, 3), shape_of(step)
    if axes is None or (axes >= 0).all():
        return step
    if shape is None:
        raise OpsetError("Slice with a negative axis of a tensor of unknown rank needs opset 11")
    return with_operand(step, 3, Constant.of(np.where(axes < 0, axes + len(shape), axes)))


@operator("Slice", since=1)
class Slice(Room):
    """x[start:end:step] on some axes; ends beyond the range are cut. ONNX Slice-13."""

    x = operand(ANY)
    starts = operand(INTEGER)
    ends = operand(INTEGER)
    axes = operand(INTEGER, optional=True)
    steps = operand(INTEGER, optional=True)
    traits = _MOVES
    adapters = (
        operand_needs("Slice", 10, "steps", 4, neutral=lambda steps: bool((steps == 1).all())),
        became_operands("Slice", 10, {"starts": 1, "ends": 2, "axes": 3}),
        Adapter(11, same, _axes_below_11),
    )

    def infer(
        self, x: Fact, starts: Fact, ends: Fact, axes: Fact | None = None, steps: Fact | None = None
    ) -> TensorType:
        chosen = self._axes(x.rank, axes, starts)
        if chosen is None:
            return TensorType(x.dtype, unknown_shape(x.rank))
        count = len(chosen)
        given_lists = [listed(starts), listed(ends), [1] * count if steps is None else listed(steps)]
        if any(v is not None and len(v) != count for v in given_lists):
            raise TypeRuleError(f"starts, ends, axes and steps of {x.type} are not of one length, {count}")
        first, last, strides = ([None] * count if v is None else v for v in given_lists)
        dims = list(x.shape)
        for axis, begin, end, step in zip(chosen, first, last, strides, strict=True):
            if begin is None or end is None or not isinstance(step, int):
                dims[axis] = unknown_dim()
            else:
                dims[axis] = length(dims[axis], begin, end, step)
        return TensorType(x.dtype, tuple(dims))

    @staticmethod
    def _axes(rank: int, axes: Fact | None, starts: Fact) -> list[int] | None:
        if axes is not None:
            return None if axes.integers is None else normalized(axes.integers, rank)
        count = length_of(starts)
        if count is not None and count > rank:
            raise TypeRuleError(f"there are {count} starts for a tensor of rank {rank}")
        return None if count is None else list(range(count))

    def elements(self, *facts: Fact | None) -> np.ndarray | None:
        x = facts[0]
        if x is None or x.elements is None:
            return None
        numbers = [None if f is None else f.integers for f in facts[1:]]
        if any(n is None and f is not None for n, f in zip(numbers, facts[1:], strict=True)):
            return None
        if len(numbers) > 3 and any(is_open(e, s) for e, s in zip(numbers[1] or (), numbers[3] or (), strict=False)):
            return None
        return self.kernel(x.elements, *(None if n is None else np.asarray(n, object) for n in numbers))  # type: ignore[arg-type]

    def forwards(self, *facts: Fact | None) -> int | None:
        steps = facts[4] if len(facts) > 4 else None
        if steps is not None and (steps.integers is None or any(s != 1 for s in steps.integers)):
            return None
        return 0 if keeps_shape(self, facts) else None

    def kernel(
        self,
        x: np.ndarray,
        starts: np.ndarray,
        ends: np.ndarray,
        axes: np.ndarray | None = None,
        steps: np.ndarray | None = None,
    ) -> np.ndarray:
        index = [slice(None)] * x.ndim
        chosen = range(len(starts)) if axes is None else [int(a) % x.ndim for a in axes.ravel()]
        strides = [1] * len(starts) if steps is None else [int(s) for s in steps.ravel()]
        for axis, begin, end, step in zip(chosen, starts.ravel(), ends.ravel(), strides, strict=True):
            if is_open(int(end), step):
                raise NoKernelError(f"what a slice to {end} by {step} takes differs between runtimes")
            index[axis] = cut(x.shape[axis], int(begin), int(end), step)
        return np.asarray(x[tuple(index)], x.dtype)  # one dim comes bare


def _indices_below_11(step: Step) -> Step:
    """Indices are counted from the front before opset 11, where they and the length are known."""
    indices, shape = constant_of(step, 1), shape_of(step)
    size = None if shape is None else shape[integer_of(step, "axis", 0)]
    if indices is None or not isinstance(size, int) or (indices >= 0).all():
        return step
    return with_operand(step, 1, Constant.of(np.where(indices < 0, indices + size, indices).astype(indices.dtype)))


@operator("Gather", since=1)
class Gather(Room):
    """Slices of x along an axis, by index; negative indices count from the end. ONNX Gather-13."""

    x = operand(ANY)
    indices = operand(INTEGER)
    axis: int = 0
    traits = _MOVES | {Trait.PARTIAL}
    adapters = (Adapter(11, same, _indices_below_11),)

    def infer(self, x: Fact, indices: Fact) -> TensorType:
        (axis,) = normalized([self.axis], x.rank)
        size = x.shape[axis]
        known = indices.integers
        if known is not None and isinstance(size, int) and any(not -size <= i < size for i in known):
            raise TypeRuleError(f"the indices {list(known)} are not all within axis {axis} of {x.type}")
        return TensorType(x.dtype, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))

    def elements(self, *facts: Fact | None) -> np.ndarray | None:
        x, indices = facts[0], facts[1]
        if x is None or x.elements is None or indices is None or indices.elements is None or indices.integers is None:
            return None
        if x.elements.size * indices.elements.size > MAX_ELEMENTS**2:
            return None
        made = self.kernel(x.elements, indices.elements)
        return made if made.size <= MAX_ELEMENTS else None

    def kernel(self, x: np.ndarray, indices: np.ndarray) -> np.ndarray:
        return np.asarray(np.take(x, indices.astype(np.int64), axis=self.axis), x.dtype)  # one dim comes bare


def transpose(x: Like, perm: Sequence[int] = ()) -> Operand:
    """Axes in another order."""
    return apply(Transpose(perm=tuple(perm)), x)


def concat(*xs: Like, axis: int) -> Operand:
    """Tensors one after another."""
    return apply(Concat(axis=axis), *xs)


def split(x: Like, parts: int | Sequence[int], *, axis: int = 0) -> tuple[Operand, ...]:
    """A tensor cut into `parts` equal parts, the last of which may be smaller, or into parts of the sizes given."""
    if isinstance(parts, int):
        return apply_all(Split(axis=axis, num_outputs=parts), x, results=parts)
    return apply_all(Split(axis=axis), x, np.asarray(parts, np.int64), results=len(parts))


def slice_(
    x: Like,
    starts: Like | Sequence[int],
    ends: Like | Sequence[int],
    axes: Like | Sequence[int] | None = None,
    steps: Like | Sequence[int] | None = None,
) -> Operand:
    """x[start:end:step] on some axes, on the first ones by default."""
    return apply(
        Slice(),
        x,
        *(np.asarray(v, np.int64) if isinstance(v, list | tuple) else v for v in (starts, ends, axes, steps or None)),
    )


def gather(x: Like, indices: Like, *, axis: int = 0) -> Operand:
    """Slices of x along an axis."""
    return apply(Gather(axis=axis), x, indices)
