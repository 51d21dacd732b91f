"""Windows that slide over spatial axes: the arithmetic that convolutions and pools share.

An axis of `size`, padded by `before` and `after`, is covered by windows that begin every `stride` elements and reach
over (kernel - 1) * dilation + 1 of them: floor((size + before + after - reach) / stride) + 1 windows fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from graphopt.errors import TypeRuleError
from graphopt.ir.dims import Dim, floor_div

SAME = ("SAME_UPPER", "SAME_LOWER")  # pads such that only the stride changes the size
_AUTO_PADS = ("NOTSET", "", "VALID", *SAME)


class Sliding(Protocol):
    """The attributes that say how a window slides; empty ones have their defaults."""

    @property
    def auto_pad(self) -> str:
        """How to pad, where `pads` does not say it."""

    @property
    def dilations(self) -> tuple[int, ...]:
        """Distance between neighbouring elements of a window; 1 by default."""

    @property
    def pads(self) -> tuple[int, ...]:
        """Elements added before each axis, then those added behind each; 0 by default."""

    @property
    def strides(self) -> tuple[int, ...]:
        """Distance between the beginnings of neighbouring windows; 1 by default."""


@dataclass(frozen=True)
class Window:
    """A window over n spatial axes: extent, stride and dilation on each axis, pads before and after."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def reach(self) -> tuple[int, ...]:
        """What a window covers on each axis, dilation included."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))


def steps(op: Sliding, kernel: Sequence[Dim]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Strides, dilations and pads with their defaults filled in (pads 0 where `auto_pad` makes them).

    Raises:
        TypeRuleError: an attribute has another number of axes than the kernel, or is out of range.
    """
    n = len(kernel)
    strides, dilations, pads = op.strides or (1,) * n, op.dilations or (1,) * n, op.pads or (0,) * (2 * n)
    if len(strides) != n or len(dilations) != n or len(pads) != 2 * n:
        raise TypeRuleError(
            f"the kernel has {n} axes, strides {len(strides)}, dilations {len(dilations)}, and pads are {len(pads)}"
        )
    if any(isinstance(v, int) and v < 1 for v in (*kernel, *strides, *dilations)):
        kernel_text = ", ".join(map(str, kernel))
        raise TypeRuleError(
            f"the kernel [{kernel_text}], strides {list(strides)} and dilations {list(dilations)} must be positive"
        )
    if any(p < 0 for p in pads):
        raise TypeRuleError(f"pads are {list(pads)}, and none may be below 0")
    if op.auto_pad not in _AUTO_PADS:
        raise TypeRuleError(f"auto_pad is {op.auto_pad!r}, and only {', '.join(filter(None, _AUTO_PADS))} are known")
    return strides, dilations, pads if op.auto_pad in ("NOTSET", "") else (0,) * (2 * n)


def result_sizes(op: Sliding, kernel: Sequence[Dim], spatial: Sequence[Dim], *, ceil: bool = False) -> tuple[Dim, ...]:
    """How many windows there are on each axis; `ceil` also counts one that only begins inside.

    Raises:
        TypeRuleError: the attributes do not fit the kernel, or no window fits.
    """
    strides, dilations, pads = steps(op, kernel)
    n = len(kernel)
    if len(spatial) != n:
        raise TypeRuleError(f"the kernel has {n} axes and the input {len(spatial)} spatial ones")
    if op.auto_pad in SAME:
        return tuple(floor_div(size + (s - 1), s) for size, s in zip(spatial, strides, strict=True))
    return tuple(
        _count(size, (k - 1) * d + 1, s, before, after, ceil=ceil)
        for size, k, s, d, before, after in zip(spatial, kernel, strides, dilations, pads[:n], pads[n:], strict=True)
    )


def _count(size: Dim, reach: Dim, stride: int, before: int, after: int, *, ceil: bool) -> Dim:
    span = size + (before + after) - reach
    if isinstance(span, int) and (span <= -stride if ceil else span < 0):  # rounded up, one may reach beyond the end
        raise TypeRuleError(f"a window of {reach} does not fit on {size} padded by {before + after}")
    if not ceil:
        return floor_div(span, stride) + 1
    # ceil(span / stride) + 1, but none begins in the padding behind the input: at most ceil((size + before) / stride)
    spare = after - reach + stride
    if not isinstance(spare, int):
        return floor_div(span + (stride - 1), stride) + 1
    return floor_div(size + (before + min(spare, 0) + stride - 1), stride)


def place(
    op: Sliding, kernel: tuple[int, ...], spatial: tuple[int, ...], *, ceil: bool = False
) -> tuple[Window, tuple[int, ...]]:
    """The window with its pads made explicit, and how many there are on each axis.

    Raises:
        TypeRuleError: as `result_sizes`.
    """
    counts = tuple(int(c) for c in result_sizes(op, kernel, spatial, ceil=ceil) if isinstance(c, int))
    strides, dilations, pads = steps(op, kernel)
    n = len(kernel)
    before, after = pads[:n], pads[n:]
    if op.auto_pad in SAME:
        totals = [
            max((count - 1) * s + (k - 1) * d + 1 - size, 0)
            for size, count, k, s, d in zip(spatial, counts, kernel, strides, dilations, strict=True)
        ]
        smaller, larger = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
        before, after = (smaller, larger) if op.auto_pad == "SAME_UPPER" else (larger, smaller)
    return Window(kernel, strides, dilations, before, after), counts


def padded(x: np.ndarray, window: Window, fill: float, counts: Sequence[int]) -> np.ndarray:
    """`x` [N, C, *spatial] with `fill` around it, long enough for `counts` windows."""
    lead = x.ndim - len(window.kernel)
    widths = [(0, 0)] * lead
    for n, reach, s, b, a, count in zip(
        x.shape[lead:], window.reach, window.strides, window.before, window.after, counts, strict=True
    ):
        needed = (count - 1) * s + reach
        widths.append((b, max(a, needed - n - b)))
    return x if not any(map(any, widths)) else np.pad(x, widths, constant_values=x.dtype.type(fill))


def taps(x: np.ndarray, window: Window, counts: Sequence[int]) -> list[tuple[tuple[int, ...], np.ndarray]]:
    """For each place in the window (in row-major order) the view [N, C, *counts] of padded `x` there."""
    found = []
    lead = (slice(None),) * (x.ndim - len(counts))
    for at in np.ndindex(*window.kernel):
        axes = zip(at, window.dilations, counts, window.strides, strict=True)
        spatial = (slice(i * d, i * d + max((c - 1) * s + 1, 0), s) for i, d, c, s in axes)
        found.append((at, x[(*lead, *spatial)]))
    return found


def windows(x: np.ndarray, window: Window, counts: Sequence[int]) -> np.ndarray:
    """A view [N, C, *counts, *kernel] of padded `x` [N, C, *spatial]."""
    n = len(window.kernel)
    axes = tuple(range(x.ndim - n, x.ndim))
    view = sliding_window_view(x, window.reach, axis=axes)
    lead = (slice(None),) * (x.ndim - n)
    each = tuple(slice(0, (c - 1) * s + 1, s) for c, s in zip(counts, window.strides, strict=True))
    inside = tuple(slice(None, None, d) for d in window.dilations)
    return view[(*lead, *each, *inside)]
