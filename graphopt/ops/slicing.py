"""Slices of one axis: ONNX's clamping, and lengths of slices of symbolic dims."""

from __future__ import annotations

from graphopt.errors import TypeRuleError
from graphopt.ir.dims import Dim, Expr, is_nonnegative
from graphopt.ops.room import unknown_dim

FAR = 2**31 - 1  # from here on an index means the end of any axis: exporters write INT_MAX


def is_open(end: Dim, step: Dim) -> bool:
    """Whether runtimes differ on a slice: backwards to INT_MAX is nothing by ONNX, and all in ONNX Runtime."""
    return isinstance(step, int) and step < 0 and end in (2**31 - 1, 2**63 - 1)


def cut(size: int, begin: int, end: int, step: int) -> slice:
    """Python's slice for ONNX's begin, end and step on an axis of `size`.

    Going backwards ONNX takes a begin before the first element as the first, where Python takes nothing.

    Raises:
        TypeRuleError: the step is 0.
    """
    if step == 0:
        raise TypeRuleError("a step of 0 goes nowhere")
    begin = begin + size if begin < 0 else begin
    end = end + size if end < 0 else end
    if step > 0:
        return slice(min(max(begin, 0), size), min(max(end, 0), size), step)
    begin, end = min(max(begin, 0), size - 1), min(max(end, -1), size - 1)
    return slice(begin, None if end < 0 else end, step) if size else slice(0, 0)


def length(size: Dim, begin: Dim, end: Dim, step: int) -> Dim:
    """How many elements a slice takes; unknown where symbols, or runtimes, decide.

    Raises:
        TypeRuleError: the step is 0.
    """
    if step == 0:
        raise TypeRuleError("a step of 0 goes nowhere")
    if is_open(end, step):
        return unknown_dim()
    if isinstance(size, int) and isinstance(begin, int) and isinstance(end, int):
        return len(range(size)[cut(size, begin, end, step)])
    if step < 0:
        whole = _is_last(begin, size) and isinstance(end, int) and end <= -FAR
        return _rounded_up(size, -step) if whole else unknown_dim()
    last = _place(size, end)
    if last is None:
        return unknown_dim()
    if isinstance(begin, int) and 0 <= begin < step and _is_length(last, size):
        return _rounded_up(last - begin, step)  # 0 where the axis ends before `begin`, by rounding
    first = _place(size, begin)
    if first is None or not _is_length(last - first, size):
        return unknown_dim()
    return _rounded_up(last - first, step)


def _is_last(begin: Dim, size: Dim) -> bool:
    return begin == -1 or (isinstance(begin, int) and begin >= FAR) or (isinstance(begin, Expr) and begin == size - 1)


def _place(size: Dim, at: Dim) -> Dim | None:
    """Where an index that may be negative or beyond the end lies, from 0 to size; None where that is not certain."""
    if isinstance(at, int) and abs(at) >= FAR:
        return size if at > 0 else 0
    place = size + at if isinstance(at, int) and at < 0 else at
    return place if _is_length(place, size) and is_nonnegative(size - place) else None


def _is_length(dim: Dim, size: Dim) -> bool:
    """Whether a dim is certainly not negative, as the size of an axis is by nature."""
    return dim == size or is_nonnegative(dim)


def _rounded_up(span: Dim, step: int) -> Dim:
    return (span + (step - 1)) // step
