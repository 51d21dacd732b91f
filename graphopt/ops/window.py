"""Windows that slide over spatial axes: the arithmetic that convolutions and pools share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from graphopt.errors import TypeRuleError
from graphopt.ir.dims import Dim, floor_div


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


def resolve(
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int],
    auto_pad: str,
    spatial: Sequence[Dim],
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[Dim, ...], tuple[Dim, ...]]:
    """Strides, dilations, pads before and after, with `auto_pad` made explicit (symbolic where the shape is).

    Raises:
        TypeRuleError: an attribute has another number of axes than the kernel.
    """
    n = len(kernel)
    step = tuple(strides) or (1,) * n
    dilation = tuple(dilations) or (1,) * n
    given = tuple(pads) or (0,) * (2 * n)
    if len(step) != n or len(dilation) != n or len(given) != 2 * n or len(spatial) != n:
        raise TypeRuleError(
            f"the kernel has {n} axes, the input {len(spatial)}, strides {len(step)}, dilations {len(dilation)}, "
            f"pads {len(given)}"
        )
    if any(v < 1 for v in (*kernel, *step, *dilation)):
        raise TypeRuleError(
            f"kernel {list(kernel)}, strides {list(step)} and dilations {list(dilation)} must be positive"
        )
    if auto_pad in ("NOTSET", ""):
        return step, dilation, given[:n], given[n:]
    if auto_pad == "VALID":
        return step, dilation, (0,) * n, (0,) * n
    if auto_pad not in ("SAME_UPPER", "SAME_LOWER"):
        raise TypeRuleError(f"auto_pad is {auto_pad!r}")
    before, after = [], []
    for size, k, s, d in zip(spatial, kernel, step, dilation, strict=True):
        out = floor_div(size + (s - 1), s)
        total = (out - 1) * s + (k - 1) * d + 1 - size
        if isinstance(total, int):
            total = max(total, 0)
        small = floor_div(total, 2)
        first, second = (small, total - small) if auto_pad == "SAME_UPPER" else (total - small, small)
        before.append(first)
        after.append(second)
    return step, dilation, tuple(before), tuple(after)


def extent(size: Dim, kernel: int, stride: int, dilation: int, pad: Dim, *, ceil: bool = False, before: Dim = 0) -> Dim:
    """How many windows fit on an axis of `size` with `pad` in all; `ceil` also counts one that begins inside.

    Raises:
        TypeRuleError: none fits.
    """
    span = size + pad - ((kernel - 1) * dilation + 1)
    if isinstance(span, int) and span < 0:
        raise TypeRuleError(f"a window of {(kernel - 1) * dilation + 1} does not fit on {size} padded by {pad}")
    if not ceil:
        return floor_div(span, stride) + 1
    count = floor_div(span + (stride - 1), stride) + 1
    # ONNX drops a window that would begin in the padding behind the input.
    if isinstance(count, int) and isinstance(size, int) and isinstance(before, int):
        count -= (count - 1) * stride >= size + before
    return count


def outputs(window: Window, spatial: Sequence[int], *, ceil: bool = False) -> tuple[int, ...]:
    """Windows on each axis, for static sizes."""
    sizes = (
        extent(n, k, s, d, b + a, ceil=ceil, before=b)
        for n, k, s, d, b, a in zip(
            spatial, window.kernel, window.strides, window.dilations, window.before, window.after, strict=True
        )
    )
    return tuple(n for n in sizes if isinstance(n, int))


def padded(x: np.ndarray, window: Window, fill: float, counts: Sequence[int]) -> np.ndarray:
    """`x` [N, C, *spatial] with `fill` around it, long enough for `counts` windows on each axis."""
    lead = x.ndim - len(window.kernel)
    widths = [(0, 0)] * lead
    for n, reach, s, b, a, count in zip(
        x.shape[lead:], window.reach, window.strides, window.before, window.after, counts, strict=True
    ):
        needed = (count - 1) * s + reach
        widths.append((b, max(a, needed - n - b)))
    return x if not any(map(any, widths)) else np.pad(x, widths, constant_values=x.dtype.type(fill))


def windows(x: np.ndarray, window: Window, counts: Sequence[int]) -> np.ndarray:
    """A view [N, C, *counts, *kernel] of padded `x` [N, C, *spatial]."""
    n = len(window.kernel)
    axes = tuple(range(x.ndim - n, x.ndim))
    view = sliding_window_view(x, window.reach, axis=axes)
    lead = (slice(None),) * (x.ndim - n)
    steps = tuple(slice(0, (c - 1) * s + 1, s) for c, s in zip(counts, window.strides, strict=True))
    inside = tuple(slice(None, None, d) for d in window.dilations)
    return view[(*lead, *steps, *inside)]
