"""Moving elements: Transpose, Concat, Split, Slice, Gather, Pad."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from graphopt.errors import OpsetError, TypeRuleError
from graphopt.ir.constant import Constant
from graphopt.ir.dims import Dim, is_nonnegative
from graphopt.ir.types import TensorType
from graphopt.ops.adapters import became_operands, constant_of, given, operand_needs, without
from graphopt.ops.bind import Like, Operand, apply, apply_all
from graphopt.ops.broadcast import fits
from graphopt.ops.room import (
    ANY,
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
from graphopt.ops.shape import normalized

__all__ = ["concat", "gather", "pad", "slice_", "split", "transpose"]

_MOVES = frozenset({Trait.MOVES, Trait.SHAPE_ARITHMETIC})


@operator("Transpose", since=1)
class Transpose(Room):
    """Axes in another order (the reverse by default): axis i of the result is axis perm[i]. ONNX Transpose-25."""

    x = operand(ANY)
    perm: tuple[int, ...] = ()
    traits = frozenset({Trait.MOVES})

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

    def infer(self, *xs: Fact) -> TensorType:
        rank = xs[0].rank
        (axis,) = normalized([self.axis], rank)
        for x in xs:
            if x.rank != rank or x.dtype != xs[0].dtype:
                raise TypeRuleError(f"{xs[0].type} and {x.type} cannot stand one after another")
        dims: list[Dim] = []
        for i in range(rank):
            if i == axis:
                total: Dim = 0
                for x in xs:
                    total = total + x.shape[i]
                dims.append(total)
                continue
            known = next((x.shape[i] for x in xs if isinstance(x.shape[i], int)), xs[0].shape[i])
            for x in xs:
                if not fits(known, x.shape[i]):
                    listed = ", ".join(str(y.type) for y in xs)
                    raise TypeRuleError(f"{listed} differ on axis {i}, and the axis to join is {axis}")
            dims.append(known)
        return TensorType(xs[0].dtype, tuple(dims))

    def forwards(self, *facts: Fact | None) -> int | None:
        return 0 if len(facts) == 1 else None

    def kernel(self, *xs: np.ndarray) -> np.ndarray:
        return np.concatenate(xs, axis=self.axis)


def _split_below_18(step: Step) -> Step:
    """Before opset 18 equal parts came from the number of results; parts that are not equal need sizes."""
    if "num_outputs" not in step.attributes:
        return step
    known = step.facts[0]
    axis = step.attributes.get("axis")
    at = int(axis.value) if axis is not None and isinstance(axis.value, int) else 0
    size = None if known is None or known.type.shape is None else known.type.shape[at]
    count = len(step.results)
    if not isinstance(size, int) or size % count:
        raise OpsetError(f"Split of {size} into {count} parts needs opset 18")
    return replace(step, attributes=without(step, "num_outputs"))


def _split_to_18(step: Step) -> Step:
    from graphopt.ir.attributes import Attribute, Kind

    if given(step, 1):
        return step
    return replace(step, attributes={**step.attributes, "num_outputs": Attribute(Kind.INT, len(step.results))})


@operator("Split", since=1)
class Split(Room):
    """A tensor cut along an axis, into parts of given sizes or equal ones (the last may be smaller). ONNX Split-18."""

    x = operand(ANY)
    sizes = operand(INTEGER, optional=True)
    axis: int = 0
    num_outputs: int | None = None
    traits = frozenset({Trait.MOVES})
    adapters = (became_operands("Split", 13, {"split": 1}), Adapter(18, _split_to_18, _split_below_18))

    def _parts(self, size: Dim, sizes: Sequence[Dim] | None) -> list[Dim] | None:
        if sizes is not None:
            return list(sizes)
        count = self.num_outputs
        if count is None:
            return None
        if not isinstance(size, int):
            return [unknown_dim() for _ in range(count)]
        part = -(-size // count)
        return [*(part for _ in range(count - 1)), size - part * (count - 1)]

    def infer(self, x: Fact, sizes: Fact | None = None) -> tuple[TensorType, ...]:
        (axis,) = normalized([self.axis], x.rank)
        known = None if sizes is None or sizes.elements is None else sizes.elements.ravel().tolist()
        if sizes is not None and known is None:
            return ()
        parts = self._parts(x.shape[axis], known)
        if parts is None:
            return ()
        total = x.shape[axis]
        if isinstance(total, int) and all(isinstance(p, int) for p in parts) and sum(parts) != total:  # type: ignore[arg-type]
            raise TypeRuleError(f"the parts {parts} do not make up axis {axis} of {x.type}")
        return tuple(TensorType(x.dtype, (*x.shape[:axis], p, *x.shape[axis + 1 :])) for p in parts)

    def forwards(self, *facts: Fact | None) -> int | None:
        sizes = facts[1] if len(facts) > 1 else None
        if len(facts) > 1 and facts[1] is not None:
            one = sizes is not None and sizes.elements is not None and sizes.elements.size == 1
            return 0 if one else None
        return 0 if self.num_outputs == 1 else None

    def kernel(self, x: np.ndarray, sizes: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
        given_sizes: list[Dim] | None = None if sizes is None else [int(s) for s in sizes.ravel()]
        parts = self._parts(x.shape[self.axis], given_sizes)
        if parts is None:
            raise NoKernelError("Split needs sizes or a number of parts")
        ends = np.cumsum([int(p) for p in parts if isinstance(p, int)])[:-1]
        return tuple(np.split(x, ends, axis=self.axis))


@operator("Slice", since=1)
class Slice(Room):
    """x[start:end:step] on some axes; ends beyond the range are cut. ONNX Slice-13."""

    x = operand(ANY)
    starts = operand(INTEGER)
    ends = operand(INTEGER)
    axes = operand(INTEGER, optional=True)
    steps = operand(INTEGER, optional=True)
    traits = _MOVES
    adapters = (became_operands("Slice", 10, {"starts": 1, "ends": 2, "axes": 3}),)

    def infer(
        self, x: Fact, starts: Fact, ends: Fact, axes: Fact | None = None, steps: Fact | None = None
    ) -> TensorType:
        first, last = starts.elements, ends.elements
        chosen = self._axes(x.rank, axes, starts)
        if chosen is None:
            return TensorType(x.dtype, tuple(unknown_dim() for _ in x.shape))
        stride = None if steps is None else steps.integers
        dims = list(x.shape)
        for i, axis in enumerate(chosen):
            step = 1 if steps is None else stride[i] if stride is not None else None
            begin = None if first is None else first.ravel()[i]
            end = None if last is None else last.ravel()[i]
            dims[axis] = unknown_dim() if None in (step, begin, end) else _length(dims[axis], begin, end, step or 1)
        return TensorType(x.dtype, tuple(dims))

    @staticmethod
    def _axes(rank: int, axes: Fact | None, starts: Fact) -> list[int] | None:
        if axes is not None:
            return None if axes.integers is None else normalized(axes.integers, rank)
        count = starts.type.shape[0] if starts.type.shape else None
        return list(range(count)) if isinstance(count, int) else None

    def elements(self, *facts: Fact | None) -> np.ndarray | None:
        x = facts[0]
        if x is None or x.elements is None:
            return None
        numbers = [None if f is None else f.integers for f in facts[1:]]
        if any(n is None and f is not None for n, f in zip(numbers, facts[1:], strict=True)):
            return None
        return self.kernel(x.elements, *(None if n is None else np.asarray(n, object) for n in numbers))  # type: ignore[arg-type]

    def forwards(self, *facts: Fact | None) -> int | None:
        x, steps = facts[0], facts[4] if len(facts) > 4 else None
        if x is None or x.type.shape is None or any(f is None for f in facts[1:3]):
            return None
        if len(facts) > 4 and facts[4] is not None and (steps is None or steps.integers is None):
            return None
        if steps is not None and any(s != 1 for s in steps.integers or ()):
            return None
        return 0 if self.infer(*facts).shape == x.type.shape else None  # type: ignore[arg-type]  # required ones are there

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
            index[axis] = _cut(x.shape[axis], int(begin), int(end), step)
        return x[tuple(index)]


def _cut(size: int, begin: int, end: int, step: int) -> slice:
    """Python's slice for ONNX's start, end and step on an axis of `size`."""
    begin = begin + size if begin < 0 else begin
    end = end + size if end < 0 else end
    if step > 0:
        return slice(min(max(begin, 0), size), min(max(end, 0), size), step)
    begin, end = min(max(begin, 0), size - 1), min(max(end, -1), size - 1)
    return slice(begin, None if end < 0 else end, step) if size else slice(0, 0)


def _length(size: Dim, begin: Dim, end: Dim, step: int) -> Dim:
    """How many elements a slice takes; unknown where a symbol decides."""
    if isinstance(size, int) and isinstance(begin, int) and isinstance(end, int):
        return len(range(size)[_cut(size, begin, end, step)])
    huge = isinstance(end, int) and end >= 2**31 - 1
    if step == 1 and isinstance(begin, int):
        if begin == 0 and (huge or end == size):
            return size
        if begin == 0 and isinstance(end, int) and end < 0 or begin > 0 and (huge or end == size):
            rest = size + end if isinstance(end, int) and end < 0 else size - begin
            return rest if is_nonnegative(rest) else unknown_dim()
    return unknown_dim()


@operator("Gather", since=1)
class Gather(Room):
    """Slices of x along an axis, by index; negative indices count from the end. ONNX Gather-13."""

    x = operand(ANY)
    indices = operand(INTEGER)
    axis: int = 0
    traits = _MOVES

    def infer(self, x: Fact, indices: Fact) -> TensorType:
        (axis,) = normalized([self.axis], x.rank)
        size = x.shape[axis]
        known = indices.integers
        if known is not None and isinstance(size, int) and any(not -size <= i < size for i in known):
            raise TypeRuleError(f"the indices {list(known)} are not all within axis {axis} of {x.type}")
        return TensorType(x.dtype, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))

    def elements(self, *facts: Fact | None) -> np.ndarray | None:
        x, indices = facts[0], facts[1]
        if x is None or x.elements is None or indices is None or indices.integers is None:
            return None
        shape = indices.type.static_shape
        taken = np.take(x.elements, np.asarray(indices.integers, np.int64).reshape(shape), axis=self.axis)
        if isinstance(taken, np.ndarray):
            return taken
        scalar = np.empty((), object)
        scalar[()] = taken
        return scalar

    def kernel(self, x: np.ndarray, indices: np.ndarray) -> np.ndarray:
        return np.asarray(np.take(x, indices.astype(np.int64), axis=self.axis))


def _pad_to_11(step: Step) -> Step:
    pads, value = step.attributes.get("pads"), step.attributes.get("value")
    known = step.facts[0] if step.facts else None
    dtype = known.dtype.numpy if known is not None else np.dtype(np.float32)
    operands: list[str | Constant] = [step.operands[0], Constant.of(np.asarray(pads.value if pads else (), np.int64))]
    if value is not None:
        operands.append(Constant.of(np.asarray(value.value, dtype)))
    return replace(step, attributes=without(step, "pads", "value"), operands=tuple(operands))


def _pad_below_11(step: Step) -> Step:
    from graphopt.ir.attributes import Attribute, Kind

    pads, value = constant_of(step, 1), constant_of(step, 2)
    if pads is None or (given(step, 2) and value is None):
        raise OpsetError("Pad with computed pads needs opset 11")
    attributes = dict(step.attributes)
    attributes["pads"] = Attribute(Kind.INTS, tuple(int(p) for p in pads.ravel()))
    if value is not None:
        attributes["value"] = Attribute(Kind.FLOAT, float(value.ravel()[0]))
    return replace(step, attributes=attributes, operands=step.operands[:1])


def _wrap_below_19(step: Step) -> Step:
    mode = step.attributes.get("mode")
    if mode is not None and mode.value == "wrap":
        raise OpsetError("Pad with mode wrap needs opset 19")
    return step


@operator("Pad", since=1)
class Pad(Room):
    """x with elements around it: a constant, or its own edge, reflection or wrap-around; negative pads cut. ONNX Pad-25."""

    x = operand(ANY)
    pads = operand(INTEGER)
    value = operand(ANY, optional=True)
    axes = operand(INTEGER, optional=True)
    mode: str = "constant"
    adapters = (
        Adapter(11, _pad_to_11, _pad_below_11),
        operand_needs("Pad", 18, "axes", 3),
        Adapter(19, lambda step: step, _wrap_below_19),
    )

    def _by_axis(self, rank: int, pads: Sequence[Dim], axes: Sequence[int] | None) -> list[tuple[Dim, Dim]]:
        chosen = list(range(rank)) if axes is None else normalized(axes, rank)
        if len(pads) != 2 * len(chosen):
            raise TypeRuleError(f"{len(pads)} pads for {len(chosen)} axes")
        found: list[tuple[Dim, Dim]] = [(0, 0)] * rank
        for i, axis in enumerate(chosen):
            found[axis] = pads[i], pads[i + len(chosen)]
        return found

    def _known(self, x: Fact, pads: Fact, axes: Fact | None) -> list[tuple[Dim, Dim]] | None:
        if pads.elements is None or (axes is not None and axes.integers is None):
            return None
        return self._by_axis(x.rank, pads.elements.ravel().tolist(), None if axes is None else axes.integers)

    def infer(self, x: Fact, pads: Fact, value: Fact | None = None, axes: Fact | None = None) -> TensorType:
        known = self._known(x, pads, axes)
        if known is None:
            return TensorType(x.dtype, tuple(unknown_dim() for _ in x.shape))
        return TensorType(x.dtype, tuple(d + b + a for d, (b, a) in zip(x.shape, known, strict=True)))

    def forwards(self, *facts: Fact | None) -> int | None:
        x, pads = facts[0], facts[1]
        axes = facts[3] if len(facts) > 3 else None
        if x is None or pads is None or x.type.shape is None:
            return None
        known = self._known(x, pads, axes)
        return 0 if known is not None and all(p == (0, 0) for p in known) else None

    def kernel(
        self, x: np.ndarray, pads: np.ndarray, value: np.ndarray | None = None, axes: np.ndarray | None = None
    ) -> np.ndarray:
        chosen = None if axes is None else [int(a) for a in axes.ravel()]
        widths = [(int(b), int(a)) for b, a in self._by_axis(x.ndim, pads.ravel().tolist(), chosen)]  # type: ignore[arg-type]
        kept = tuple(slice(max(-b, 0), n - max(-a, 0)) for n, (b, a) in zip(x.shape, widths, strict=True))
        x, grown = x[kept], [(max(b, 0), max(a, 0)) for b, a in widths]
        if self.mode == "constant":
            fill = x.dtype.type(0) if value is None else value.reshape(()).astype(x.dtype)
            return np.pad(x, grown, constant_values=fill)
        modes = {"edge": "edge", "reflect": "reflect", "wrap": "wrap"}
        if self.mode not in modes:
            raise NoKernelError(f"Pad has no mode {self.mode!r}")
        return np.asarray(np.pad(x, grown, mode=modes[self.mode]))  # type: ignore[call-overload]  # a literal each


def transpose(x: Like, perm: Sequence[int] = ()) -> Operand:
    """Axes in another order."""
    return apply(Transpose(perm=tuple(perm)), x)


def concat(*xs: Like, axis: int) -> Operand:
    """Tensors one after another."""
    return apply(Concat(axis=axis), *xs)


def split(x: Like, parts: int, *, axis: int = 0) -> tuple[Operand, ...]:
    """A tensor cut into equal parts."""
    return apply_all(Split(axis=axis, num_outputs=parts), x, results=parts)


def slice_(x: Like, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int], steps: Sequence[int] = ()) -> Operand:
    """x[start:end:step] on some axes."""
    numbers = [np.asarray(v, np.int64) for v in (starts, ends, axes)]
    return apply(Slice(), x, *numbers, np.asarray(steps, np.int64) if steps else None)


def gather(x: Like, indices: Like, *, axis: int = 0) -> Operand:
    """Slices of x along an axis."""
    return apply(Gather(axis=axis), x, indices)


def pad(x: Like, pads: Sequence[int], value: Like | None = None, *, mode: str = "constant") -> Operand:
    """x with elements around it."""
    return apply(Pad(mode=mode), x, np.asarray(pads, np.int64), value)
