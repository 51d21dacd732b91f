"""Sampling a tensor at positions that are data: which elements a position takes, by which weights, and their sum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from math import prod

import numpy as np

_FAR = 1 << 30  # positions beyond this lie outside of any tensor

Taps = list[tuple[np.ndarray, np.ndarray | float]]  # neighbours on one axis, by index, and their weights


def nearest(at: np.ndarray) -> Taps:
    """The element next to each position, the even one of two."""
    return [(_index(np.rint(at)), 1.0)]


def linear(at: np.ndarray) -> Taps:
    """Two neighbours by distance."""
    low = np.floor(at)
    share = at - low
    return [(_index(low), 1 - share), (_index(low) + 1, share)]


def cubic(at: np.ndarray) -> Taps:
    """Four neighbours by Keys' kernel with a = -0.75, as in PyTorch."""
    low = np.floor(at)
    s, a, first = at - low, at.dtype.type(-0.75), _index(low)

    def near(d: np.ndarray) -> np.ndarray:
        return np.asarray(((a + 2) * d - (a + 3)) * d * d + 1)

    def far(d: np.ndarray) -> np.ndarray:
        return np.asarray(((a * d - 5 * a) * d + 8 * a) * d - 4 * a)

    weights = (far(s + 1), near(s), near(1 - s), far(2 - s))
    return [(first + i, w) for i, w in enumerate(weights, -1)]


def _index(at: np.ndarray) -> np.ndarray:
    return np.nan_to_num(np.clip(at, -_FAR, _FAR)).astype(np.int64)


def reflected(at: np.ndarray, low: float, high: float) -> np.ndarray:
    """Positions folded at two borders until they lie between them."""
    kind, span = at.dtype.type, high - low
    if span == 0:
        return np.full_like(at, low)
    way = np.mod(at - kind(low), kind(2 * span))
    return np.asarray(kind(low) + np.minimum(way, kind(2 * span) - way))


def sample(
    x: np.ndarray, taps: Sequence[Taps], inside: Callable[[np.ndarray, int], np.ndarray] | None = None
) -> np.ndarray:
    """Elements of x [B, C, *spatial] at M positions for each of B, by the taps [B, M] of each axis: [B, C, M].

    `inside` takes indices on an axis to some that are there; without it there are zeros outside.
    """
    spatial = x.shape[2:]
    flat = x.reshape(*x.shape[:2], prod(spatial))
    total = np.zeros((), x.dtype)
    for corner in product(*taps):
        at = np.zeros_like(corner[0][0])
        there, weight = np.ones(at.shape, bool), np.ones(at.shape, x.dtype)
        for axis, (index, share) in enumerate(corner):
            size = spatial[axis]
            there &= (index >= 0) & (index < size) | (inside is not None)
            at = at * size + (np.clip(index, 0, size - 1) if inside is None else inside(index, axis))
            weight = weight * share
        part = np.take_along_axis(flat, at[:, None], axis=2) * weight[:, None].astype(x.dtype, copy=False)
        total = total + np.where(there[:, None], part, x.dtype.type(0))
    return np.asarray(total)
