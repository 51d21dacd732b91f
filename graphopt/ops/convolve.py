"""Convolution of arrays by matrix products; the kernels of the rooms in `conv.py`. Any float type."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from graphopt.ops.window import Window, padded, taps, windows

SMALL_MACS = 1 << 24
SERIAL_MACS = 1 << 18  # OpenBLAS's products of this size and less stay in one thread
CHUNK_BYTES = 16 << 20  # the unfolded input is made in pieces of this size, which stay in cache


def convolve(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None, group: int, window: Window, counts: tuple[int, ...]
) -> np.ndarray:
    """The sum over windows on x [N, C, *spatial] times w [M, C/group, *kernel], plus b [M]: [N, M, *counts]."""
    x = padded(x, window, 0, counts)
    m, per_group = w.shape[:2]
    out = np.empty((x.shape[0], m, *counts), np.result_type(x, w))
    if per_group == 1 and group == m:
        _depthwise(x, w, window, counts, out)
    else:
        share = m // group
        for g in range(group):
            of, to = slice(g * per_group, (g + 1) * per_group), slice(g * share, (g + 1) * share)
            _by_matmul(x[:, of], w[to], window, counts, out[:, to])
    return out if b is None else np.add(out, _by_channel(b, len(counts)), out=out)


def _by_channel(b: np.ndarray, axes: int) -> np.ndarray:
    return b.reshape((-1,) + (1,) * axes)


def _depthwise(x: np.ndarray, w: np.ndarray, window: Window, counts: tuple[int, ...], out: np.ndarray) -> None:
    """One filter a channel: a sum of shifted copies, one image at a time so that they stay in cache."""
    by_place = np.moveaxis(w[:, 0], 0, -1)  # [*kernel, M]
    for image, total in zip(x, out, strict=True):
        total[...] = 0
        for at, part in taps(image, window, counts):
            total[...] += part * _by_channel(by_place[at], len(counts))


def _by_matmul(x: np.ndarray, w: np.ndarray, window: Window, counts: tuple[int, ...], out: np.ndarray) -> None:
    """A matrix product with the unfolded input, made in pieces: of several images, or of rows of one."""
    flat = w.reshape(w.shape[0], prod(w.shape[1:]))
    if prod(window.kernel) == 1:
        ((_, columns),) = taps(x, window, counts)
        for n, image in enumerate(columns):
            _product(flat, image.reshape(len(image), prod(counts)), out[n].reshape(len(flat), prod(counts)))
        return
    axes = len(counts)
    row = max(flat.shape[1] * prod(counts[1:]), 1)
    budget = max(CHUNK_BYTES // (row * x.itemsize), 1)  # in rows
    rows = min(counts[0], budget)
    images = max(budget // rows, 1)
    held = np.empty(row * rows * min(images, len(x)), x.dtype)
    view = windows(x, window, counts)
    view = view.transpose(1, *range(2 + axes, 2 + 2 * axes), 0, *range(2, 2 + axes))  # [C, *kernel, N, *counts]
    some: tuple[slice, ...] = (slice(None),) * (1 + axes)
    for n in range(0, len(x), images):
        for start in range(0, counts[0], rows):
            piece = view[(*some, slice(n, n + images), slice(start, start + rows))]
            columns = held[: piece.size].reshape(piece.shape)
            np.copyto(columns, piece)
            columns = columns.reshape(flat.shape[1], prod(piece.shape[1 + axes :]))
            made = _product(flat, columns, np.empty((len(flat), columns.shape[1]), out.dtype))
            of_images = made.reshape(len(flat), *piece.shape[1 + axes :])
            out[n : n + images, :, start : start + rows] = of_images.swapaxes(0, 1)


def _product(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> np.ndarray:
    """The product of two matrices. A small one is made in pieces that BLAS computes in the calling thread.

    To wake other threads would take longer, and OpenBLAS's go on spinning for a while on a core that others need.
    """
    each = b.size
    if len(a) * each > SMALL_MACS or not 0 < each <= SERIAL_MACS:
        return np.matmul(a, b, out=out)
    rows = SERIAL_MACS // each
    for start in range(0, len(a), rows):
        np.matmul(a[start : start + rows], b, out=out[start : start + rows])
    return out


def convolve_transposed(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None, group: int, window: Window, sizes: tuple[int, ...]
) -> np.ndarray:
    """Each element of x [N, C, *spatial] adds its filter of w [C, M/group, *kernel]; plus b [M]: [N, M, *sizes].

    `window.before` is what is cut off the full sum on each axis.
    """
    n, c = x.shape[:2]
    spatial, cut = x.shape[2:], window.before
    full = [(size - 1) * s + reach for size, s, reach in zip(spatial, window.strides, window.reach, strict=True)]
    room = [max(f, start + size) for f, start, size in zip(full, cut, sizes, strict=True)]
    out = np.zeros((n, w.shape[1] * group, *room), np.result_type(x, w))
    columns = x.reshape(n, group, c // group, prod(spatial))
    filters = w.reshape(group, c // group, *w.shape[1:])
    filters = filters.transpose(*range(3, filters.ndim), 0, 2, 1)  # [*kernel, group, M/group, C/group]
    for at, part in taps(out, window, spatial):
        part[...] += (np.ascontiguousarray(filters[at]) @ columns).reshape(part.shape)
    kept = (slice(start, start + size) for start, size in zip(cut, sizes, strict=True))
    y = out[(slice(None), slice(None), *kept)]
    return np.ascontiguousarray(y if b is None else y + _by_channel(b, len(sizes)))


def total_padding(spatial: Sequence[int], window: Window, extra: Sequence[int], sizes: Sequence[int]) -> list[int]:
    """What a transposed convolution cuts off on each axis so that `sizes` are left of the full result and `extra`."""
    axes = zip(spatial, window.strides, window.reach, extra, sizes, strict=True)
    return [max((n - 1) * s + reach + e - size, 0) for n, s, reach, e, size in axes]
