"""Lets the memory of mapped files go."""

from __future__ import annotations

import mmap

import numpy as np


def release(view: memoryview) -> None:
    """Let the memory go that holds what was read of a mapped file; later reads fetch it from the file again.

    Views of other memory are left alone, as is everything where the system has no way to say so.
    """
    mapping = view.obj
    if not isinstance(mapping, mmap.mmap) or not hasattr(mmap, "MADV_DONTNEED") or not view.nbytes:
        return
    start = _address(view) - _address(memoryview(mapping))
    first = start - start % mmap.PAGESIZE
    mapping.madvise(mmap.MADV_DONTNEED, first, start + view.nbytes - first)


def _address(view: memoryview) -> int:
    return np.frombuffer(view, np.uint8).ctypes.data
