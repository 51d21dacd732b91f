"""Pad."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.errors import OpsetError, TypeRuleError
from graphopt.ir.constant import Constant
from graphopt.ir.dims import Dim
from graphopt.ir.types import TensorType
from graphopt.ops.adapters import (
    became_operands,
    constant_of,
    first_operands,
    given,
    same,
    shape_of,
    with_operand,
)
from graphopt.ops.axes import listed, normalized, unknown_shape
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.room import ANY, INTEGER, Adapter, Fact, NoKernelError, Room, Step, operand, operator

__all__ = ["pad"]

_MODES = {"constant": "constant", "edge": "edge", "reflect": "reflect", "wrap": "wrap"}


def _axes_below_18(step: Step) -> Step:
    """Pads of some axes, in their order, as pads of all axes."""
    if not given(step, 3):
        return first_operands(step, 3)
    axes, pads, shape = constant_of(step, 3), constant_of(step, 1), shape_of(step)
    if axes is None or pads is None or shape is None:
        raise OpsetError("Pad with axes that are not constants needs opset 18")
    widths = _by_axis(len(shape), pads.ravel().tolist(), axes.ravel().tolist())
    full = np.asarray([b for b, _ in widths] + [a for _, a in widths], np.int64)
    return with_operand(first_operands(step, 3), 1, Constant.of(full))


def _wrap_below_19(step: Step) -> Step:
    mode = step.attributes.get("mode")
    if mode is not None and mode.value == "wrap":
        raise OpsetError("Pad with mode wrap needs opset 19")
    return step


def _by_axis(rank: int, pads: Sequence[Dim], axes: Sequence[int] | None) -> list[tuple[Dim, Dim]]:
    """(before, after) for each axis."""
    chosen = list(range(rank)) if axes is None else normalized(axes, rank)
    if len(pads) != 2 * len(chosen):
        raise TypeRuleError(f"there are {len(pads)} pads for {len(chosen)} axes, which take two each")
    found: list[tuple[Dim, Dim]] = [(0, 0)] * rank
    for i, axis in enumerate(chosen):
        found[axis] = pads[i], pads[i + len(chosen)]
    return found


@operator("Pad", since=1)
class Pad(Room):
    """x with elements around it: a constant, or its own edge, reflection or repetition. ONNX Pad-25.

    Negative pads cut elements off, and do so first.
    """

    x = operand(ANY)
    pads = operand(INTEGER)
    value = operand(ANY, optional=True)
    axes = operand(INTEGER, optional=True)
    mode: str = "constant"
    adapters = (
        became_operands("Pad", 11, {"pads": 1, "value": 2}),
        Adapter(18, same, _axes_below_18),
        Adapter(19, same, _wrap_below_19),
    )

    def _known(self, x: Fact, pads: Fact, axes: Fact | None) -> list[tuple[Dim, Dim]] | None:
        widths = listed(pads)
        if widths is None or (axes is not None and axes.integers is None):
            return None
        return _by_axis(x.rank, widths, None if axes is None else axes.integers)

    def infer(self, x: Fact, pads: Fact, value: Fact | None = None, axes: Fact | None = None) -> TensorType:
        if self.mode not in _MODES:
            raise TypeRuleError(f"there is no mode {self.mode!r}")
        known = self._known(x, pads, axes)
        if known is None:
            return TensorType(x.dtype, unknown_shape(x.rank))
        for size, (before, after) in zip(x.shape, known, strict=True):
            if isinstance(size, int) and isinstance(before, int) and isinstance(after, int):
                _check(size, before, after)
        return TensorType(x.dtype, tuple(d + b + a for d, (b, a) in zip(x.shape, known, strict=True)))

    def forwards(self, *facts: Fact | None) -> int | None:
        x, pads, axes = facts[0], facts[1], facts[3] if len(facts) > 3 else None
        if x is None or pads is None or (axes is None and len(facts) > 3):
            return None
        if axes is None and x.type.shape is None:
            return 0 if pads.integers is not None and not any(pads.integers) else None
        try:
            known = None if x.type.shape is None else self._known(x, pads, axes)
        except TypeRuleError:
            return None
        return 0 if known is not None and all(p == (0, 0) for p in known) else None

    def kernel(
        self, x: np.ndarray, pads: np.ndarray, value: np.ndarray | None = None, axes: np.ndarray | None = None
    ) -> np.ndarray:
        if self.mode not in _MODES:
            raise NoKernelError(f"Pad has no mode {self.mode!r}")
        chosen = None if axes is None else [int(a) for a in axes.ravel()]
        widths = [(int(b), int(a)) for b, a in _by_axis(x.ndim, pads.ravel().tolist(), chosen)]  # type: ignore[arg-type]
        for size, (before, after) in zip(x.shape, widths, strict=True):
            _check(size, before, after)
        kept = tuple(slice(max(-b, 0), n - max(-a, 0)) for n, (b, a) in zip(x.shape, widths, strict=True))
        x, grown = x[kept], [(max(b, 0), max(a, 0)) for b, a in widths]
        if self.mode == "constant":
            fill = x.dtype.type(0) if value is None else value.reshape(()).astype(x.dtype)
            return np.pad(x, grown, constant_values=fill)
        return np.asarray(np.pad(x, grown, mode=_MODES[self.mode]))  # type: ignore[call-overload]  # a literal each


def _check(size: int, before: int, after: int) -> None:
    """Raises TypeRuleError where negative pads cut more than there is."""
    if size + min(before, 0) + min(after, 0) < 0:
        raise TypeRuleError(f"the pads {before} and {after} cut more than the {size} elements of an axis")


def pad(
    x: Like,
    pads: Like | Sequence[int],
    value: Like | None = None,
    *,
    axes: Like | Sequence[int] | None = None,
    mode: str = "constant",
) -> Operand:
    """`x` with elements around it; `pads` lists what comes before each axis (of `axes`), then what comes after."""
    widths = np.asarray(pads, np.int64) if isinstance(pads, list | tuple) else pads
    chosen = np.asarray(axes, np.int64) if isinstance(axes, list | tuple) else axes
    return apply(Pad(mode=mode), x, widths, value, chosen)
