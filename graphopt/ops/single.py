"""Single precision: sums of narrower floats are made in it and rounded once, at the end; attributes are held in it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar, cast

import numpy as np

from graphopt.ir.types import dtype_of

K = TypeVar("K", bound=Callable[..., np.ndarray])


def is_narrow(dtype: np.dtype) -> bool:
    """Whether a dtype is of floats narrower than float32."""
    return dtype.itemsize < 4 and dtype_of(dtype).is_float


def at_least_single(array: np.ndarray) -> np.ndarray:
    """`array`, in float32 where it holds narrower floats."""
    return array.astype(np.float32) if is_narrow(array.dtype) else array


def stored(value: float) -> float:
    """A float attribute as a file holds it."""
    return float(np.float32(value))


def in_single(kernel: K) -> K:
    """A kernel that computes on narrow floats in float32; its result has the type of the first operand.

    As runtimes do it. Summed in float16, four numbers of 20000 would be infinite, and so would their mean.
    """

    @functools.wraps(kernel)
    def run(op: object, x: np.ndarray, *others: np.ndarray | None) -> np.ndarray:
        y = kernel(op, at_least_single(x), *(None if o is None else at_least_single(o) for o in others))
        return y.astype(x.dtype) if is_narrow(x.dtype) else y

    return cast(K, run)
