"""ONNX Runtime's pools of scaled integers of 8 bits (see `scaled`), channels first or last."""

from __future__ import annotations

from math import prod

import numpy as np

from graphopt.ir.types import Shape, TensorType, dtype_of, f32
from graphopt.ops.integer import rounded
from graphopt.ops.pool import AveragePool, GlobalAveragePool, MaxPool
from graphopt.ops.room import FLOAT, INTEGER, MICROSOFT, Fact, NoKernelError, Room, Trait, operand, operator
from graphopt.ops.scaled import check_bytes, check_one, check_zero, dequantized, less, saturated, single, zero_or_none

_POOL = frozenset({Trait.QUANTIZES, Trait.WINDOW})


def channels_second(shape: Shape | None) -> Shape | None:
    """A shape [N, *spatial, C] as [N, C, *spatial]."""
    return shape if shape is None or len(shape) < 2 else (shape[0], shape[-1], *shape[1:-1])


def channels_last(shape: Shape | None) -> Shape | None:
    """A shape [N, C, *spatial] as [N, *spatial, C]."""
    return shape if shape is None or len(shape) < 2 else (shape[0], *shape[2:], shape[1])


def _check(x: Fact, x_scale: Fact, x_zero_point: Fact | None, y_scale: Fact, y_zero_point: Fact | None) -> None:
    check_bytes(x=x)
    check_one(x_scale=x_scale, x_zero_point=x_zero_point, y_scale=y_scale, y_zero_point=y_zero_point)
    check_zero("x_zero_point", x_zero_point, x)
    check_zero("y_zero_point", y_zero_point, x)


@operator("QLinearAveragePool", since=1, domain=MICROSOFT)
class QLinearAveragePool(Room):
    """The mean under each window, of scaled integers. ONNX Runtime's com.microsoft QLinearAveragePool-1."""

    x = operand(INTEGER)
    x_scale = operand(FLOAT)
    x_zero_point = operand(INTEGER, optional=True)
    y_scale = operand(FLOAT)
    y_zero_point = operand(INTEGER, optional=True)
    kernel_shape: tuple[int, ...]
    auto_pad: str = "NOTSET"
    ceil_mode: int = 0
    channels_last: int = 0
    count_include_pad: int = 0
    pads: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    traits = _POOL

    @property
    def pool(self) -> AveragePool:
        """The pool of numbers."""
        return AveragePool(
            kernel_shape=self.kernel_shape,
            auto_pad=self.auto_pad,
            ceil_mode=self.ceil_mode,
            count_include_pad=self.count_include_pad,
            pads=self.pads,
            strides=self.strides,
        )

    def infer(
        self, x: Fact, x_scale: Fact, x_zero_point: Fact | None, y_scale: Fact, y_zero_point: Fact | None = None
    ) -> TensorType:
        _check(x, x_scale, x_zero_point, y_scale, y_zero_point)
        return _pooled(self.pool, x, last=self.channels_last)

    def kernel(
        self,
        x: np.ndarray,
        x_scale: np.ndarray,
        x_zero_point: np.ndarray | None,
        y_scale: np.ndarray,
        y_zero_point: np.ndarray | None = None,
    ) -> np.ndarray:
        if self.ceil_mode and self.count_include_pad:
            raise NoKernelError("QLinearAveragePool that counts pads and rounds sizes up is not clear")
        data = np.moveaxis(x, -1, 1) if self.channels_last else x
        mean = self.pool.kernel(dequantized(data, x_scale.reshape(()), zero_or_none(x_zero_point)))
        shift = np.float32(0) if y_zero_point is None else single(y_zero_point).reshape(())
        made = saturated(mean / single(y_scale).reshape(()) + shift, None, dtype_of(x.dtype))
        return np.ascontiguousarray(np.moveaxis(made, 1, -1)) if self.channels_last else made


def _pooled(pool: AveragePool | GlobalAveragePool | MaxPool, x: Fact, *, last: int) -> TensorType:
    """The type of a pool's first result."""
    numbers = TensorType(f32, channels_second(x.type.shape) if last else x.type.shape)
    if x.type.shape is None:
        return TensorType(x.dtype, None)
    made = pool.infer(Fact(numbers))
    shape = made.shape if isinstance(made, TensorType) else made[0].shape
    return TensorType(x.dtype, channels_last(shape) if last else shape)


@operator("QLinearGlobalAveragePool", since=1, domain=MICROSOFT)
class QLinearGlobalAveragePool(Room):
    """The mean over all spatial axes, of scaled integers. ONNX Runtime's com.microsoft QLinearGlobalAveragePool-1."""

    x = operand(INTEGER)
    x_scale = operand(FLOAT)
    x_zero_point = operand(INTEGER)
    y_scale = operand(FLOAT)
    y_zero_point = operand(INTEGER)
    channels_last: int = 0
    traits = _POOL

    def infer(self, x: Fact, x_scale: Fact, x_zero_point: Fact, y_scale: Fact, y_zero_point: Fact) -> TensorType:
        _check(x, x_scale, x_zero_point, y_scale, y_zero_point)
        return _pooled(GlobalAveragePool(), x, last=self.channels_last)

    def kernel(
        self,
        x: np.ndarray,
        x_scale: np.ndarray,
        x_zero_point: np.ndarray,
        y_scale: np.ndarray,
        y_zero_point: np.ndarray,
    ) -> np.ndarray:
        axes = tuple(range(1, x.ndim - 1) if self.channels_last else range(2, x.ndim))
        total = less(x, zero_or_none(x_zero_point)).sum(axis=axes, keepdims=True, dtype=np.int32)
        count = np.float32(prod(x.shape[a] for a in axes))
        factor = single(x_scale).reshape(()) / (single(y_scale).reshape(()) * count)
        return rounded(total, np.asarray(factor), y_zero_point.reshape(()))


@operator("NhwcMaxPool", since=1, domain=MICROSOFT)
class NhwcMaxPool(Room):
    """The largest integer under each window, channels last. ONNX Runtime's com.microsoft NhwcMaxPool-1."""

    x = operand(INTEGER)
    kernel_shape: tuple[int, ...]
    auto_pad: str = "NOTSET"
    ceil_mode: int = 0
    dilations: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    traits = frozenset({Trait.WINDOW})

    @property
    def pool(self) -> MaxPool:
        """The pool with its channels second."""
        return MaxPool(
            kernel_shape=self.kernel_shape,
            auto_pad=self.auto_pad,
            ceil_mode=self.ceil_mode,
            dilations=self.dilations,
            pads=self.pads,
            strides=self.strides,
        )

    def infer(self, x: Fact) -> TensorType:
        check_bytes(x=x)
        return _pooled(self.pool, x, last=1)

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.moveaxis(self.pool.kernel(np.moveaxis(x, -1, 1))[0], 1, -1))
