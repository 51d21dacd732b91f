"""Conversion of arrays between element types, by the tables of ONNX Cast.

What ONNX leaves undefined (a float outside of the integers' range, NaN as an integer) depends on the machine that
runs the model; it is refused here, so that nobody computes it ahead of time.
"""

from __future__ import annotations

import numpy as np

from graphopt.ir.dims import Expr
from graphopt.ir.types import DType, dtype_of, string
from graphopt.ops.room import NoKernelError


def convert(x: np.ndarray, dtype: DType, *, saturate: bool = True) -> np.ndarray:
    """`x` in element type `dtype`; an object array of dims stays one when `dtype` is an integer type.

    Raises:
        NoKernelError: what ONNX leaves undefined, or strings, complex numbers and float8e8m0.
    """
    if x.dtype.kind == "O" and all(isinstance(v, int | Expr) for v in x.ravel().tolist()):
        return _dims(x, dtype)
    source = dtype_of(x.dtype)
    if source == dtype:
        return x
    if string in (source, dtype) or "complex" in (source.kind, dtype.kind) or dtype.name == "f8e8m0":
        raise NoKernelError(f"a cast from {source} to {dtype} is not computed")
    if dtype.kind == "bool":
        return np.asarray(x != x.dtype.type(0))
    with np.errstate(all="ignore"):
        if dtype.is_float:
            return _to_float(x, source, dtype, saturate=saturate)
        return _from_float(x, source, dtype) if source.is_float else _wrapped(x, dtype)


def _to_float(x: np.ndarray, source: DType, dtype: DType, *, saturate: bool) -> np.ndarray:
    if dtype.bits >= 32:
        return x.astype(dtype.numpy)
    if dtype.bits == 16:
        by_float = source.bits < 8 or (dtype.name == "bf16" and not source.is_float)
        return (x.astype(np.float32) if by_float else x).astype(dtype.numpy)
    import ml_dtypes

    x = x.astype(np.float64)  # exact enough: one rounding follows
    if dtype.bits < 8 and np.isnan(x).any():
        raise NoKernelError(f"{dtype} has no NaN")
    if saturate or dtype.bits < 8:
        limit = float(ml_dtypes.finfo(dtype.numpy).max)  # type: ignore[no-untyped-call]
        x = np.clip(x, -limit, limit)  # infinities too; NaN stays
    return x.astype(dtype.numpy)


def _from_float(x: np.ndarray, source: DType, dtype: DType) -> np.ndarray:
    """Floats to integers, rounded towards zero."""
    if source.bits < 32:
        x = x.astype(np.float32)
    whole = np.trunc(x)
    low, high = _range(dtype)
    if not ((whole >= float(low)) & (whole < float(high + 1))).all():  # both are powers of 2 or 0: exact
        raise NoKernelError(f"a cast of a number that {dtype} does not hold differs between machines")
    return np.asarray(whole if dtype.bits >= 8 else whole.astype(np.int8)).astype(dtype.numpy)


def _wrapped(x: np.ndarray, dtype: DType) -> np.ndarray:
    """Integers (or bools) to integers: the low bits."""
    if dtype.bits >= 8:
        return x.astype(dtype.numpy)
    low = x.astype(np.int64) & (2**dtype.bits - 1)
    if dtype.kind == "int":
        half = 2 ** (dtype.bits - 1)
        low = (low ^ half) - half
    return np.asarray(low.astype(np.int8)).astype(dtype.numpy)


def _dims(x: np.ndarray, dtype: DType) -> np.ndarray:
    """Dims in an integer type: numbers wrap, and a symbol must fit what every dim fits, 31 bits."""
    if not dtype.is_integer or (dtype.bits < 32 and any(isinstance(v, Expr) for v in x.ravel())):
        raise NoKernelError(f"dims are not {dtype}")
    low, high = _range(dtype)
    wrapped = np.empty(x.shape, object)
    wrapped.ravel()[:] = [v if isinstance(v, Expr) else (v - low) % (high - low + 1) + low for v in x.ravel()]
    return wrapped


def _range(dtype: DType) -> tuple[int, int]:
    """The least and the largest integer of an integer type."""
    if dtype.kind == "uint":
        return 0, 2**dtype.bits - 1
    return -(2 ** (dtype.bits - 1)), 2 ** (dtype.bits - 1) - 1
