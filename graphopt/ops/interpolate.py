"""Sampling an array along one axis: where a result's element lies in the input, and what it is made of.

Positions are computed in single precision, step by step as ONNX Runtime does: their rounding decides which element
is the nearest one, and which positions lie outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor

import numpy as np

_HALF = np.float32(0.5)
_ZERO, _ONE = np.float32(0), np.float32(1)
_TIE = np.float32(1e-6)  # how near to n + 0.5 a position means just that: what ONNX Runtime 1.31 allows for rounding


@dataclass(frozen=True)
class Sampling:
    """One axis: elements before and after, their ratio, and the part of the input that is sampled (0 to 1: all)."""

    size: int
    result: int
    scale: np.float32
    start: np.float32 = _ZERO
    end: np.float32 = _ONE


@dataclass(frozen=True)
class Taps:
    """Each result element is Σ weights[t] · x[indices[t]]; both are [taps, result]."""

    indices: np.ndarray
    weights: np.ndarray


def positions(axis: Sampling, mode: str) -> np.ndarray:
    """Positions in the input [result], float32, by ONNX's `coordinate_transformation_mode`."""
    at = np.arange(axis.result, dtype=np.float32)
    size, result = np.float32(axis.size), np.float32(axis.result)
    if mode == "asymmetric":
        return at / axis.scale
    if mode == "align_corners":
        return at * (size - _ONE) / (result - _ONE) if axis.result > 1 else at
    if mode == "pytorch_half_pixel" and axis.result <= 1:
        return at * 0
    if mode == "tf_half_pixel_for_nn":
        return (at + _HALF) / axis.scale
    if mode == "half_pixel_symmetric":
        offset = size / 2 * (_ONE - result / (axis.scale * size))
        return (np.float64(offset) + (at.astype(np.float64) + 0.5) / np.float64(axis.scale) - 0.5).astype(np.float32)
    if mode == "tf_crop_and_resize":
        if axis.result > 1:
            return axis.start * (size - _ONE) + at * (axis.end - axis.start) * (size - _ONE) / (result - _ONE)
        return np.full_like(at, 0.5 * np.float64(axis.start + axis.end) * np.float64(size - _ONE))
    return (at + _HALF) / axis.scale - _HALF


def outside(at: np.ndarray, size: int) -> np.ndarray:
    """Which positions lie beyond the first or the last element."""
    return (at < 0) | (at > np.float32(size - 1))


def nearest(at: np.ndarray, size: int, mode: str) -> np.ndarray:
    """The element nearest to each position, by ONNX's `nearest_mode`.

    ONNX speaks of real numbers: 4.5 · 20/6 - 0.5 is 14.5, and a little less in single precision.
    """
    low, high = np.floor(at), np.ceil(at)
    if mode == "floor":
        chosen = low
    elif mode == "ceil":
        chosen = high
    else:
        past = (at - low) - _HALF
        tied = high if mode == "round_prefer_ceil" else low
        chosen = np.where(np.abs(past) <= _TIE, tied, np.where(past < 0, low, high))
    return np.asarray(np.clip(chosen.astype(np.int64), 0, max(size - 1, 0)))


def linear(at: np.ndarray, size: int, dtype: np.dtype) -> Taps:
    """Two neighbours by distance; beyond the ends the last element."""
    inside = np.clip(at, np.float32(0), np.float32(size - 1))
    left = inside.astype(np.int64)
    right = np.minimum(left + 1, size - 1)
    share = np.where(left == right, dtype.type(0.5), inside.astype(dtype) - left.astype(dtype))
    return Taps(np.stack([left, right]), np.stack([1 - share, share]).astype(dtype))


def cubic(at: np.ndarray, size: int, dtype: np.dtype, a: float, *, exclude_outside: bool) -> Taps:
    """Four neighbours by Keys' kernel with parameter `a`; beyond the ends the last element, or nothing."""
    whole = np.floor(at)
    s = (at - whole).astype(dtype)
    k = dtype.type(a)

    def near(d: np.ndarray) -> np.ndarray:
        return np.asarray(((k + 2) * d - (k + 3)) * d * d + 1)

    def far(d: np.ndarray) -> np.ndarray:
        return np.asarray(((k * d - 5 * k) * d + 8 * k) * d - 4 * k)

    weights = np.stack([far(s + 1), near(s), near(1 - s), far(2 - s)])
    indices = whole.astype(np.int64) + np.arange(-1, 3)[:, None]
    if exclude_outside:
        weights = np.where((indices < 0) | (indices >= size), dtype.type(0), weights)
        weights = weights / weights.sum(axis=0)
    return Taps(np.clip(indices, 0, size - 1), weights.astype(dtype))


def resample(x: np.ndarray, axis: int, taps: Taps) -> np.ndarray:
    """`x` sampled along `axis`."""
    shape = [1] * x.ndim
    shape[axis] = -1
    total = np.zeros((), x.dtype)
    for indices, weights in zip(taps.indices, taps.weights, strict=True):
        total = total + np.take(x, indices, axis) * weights.reshape(shape)
    return np.asarray(total)


def rounded(value: float) -> int:
    """The nearest integer, the larger one of two."""
    return floor(value + 0.5)
