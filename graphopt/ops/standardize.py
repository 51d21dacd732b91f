"""Normalizations by a tensor's own statistics: a layer's, a group's or a channel's mean and deviation, or its norm.

`stash_type` is the float type that ONNX has the statistics computed in. Kernels compute in float32, or in float64 on
float64, as ONNX Runtime does; statistics in another type have no kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from graphopt.errors import GraphError, OpsetError, TypeRuleError
from graphopt.ir.constant import Constant
from graphopt.ir.types import DType, TensorType, bf16, dtype_of_code, f32
from graphopt.ops.adapters import attribute_needs, constant_of, integer_of, shape_of, with_operand
from graphopt.ops.axes import normalized
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.broadcast import broadcasts_to, fits
from graphopt.ops.room import FLOAT, Adapter, Fact, NoKernelError, Room, Step, operand, operator
from graphopt.ops.single import at_least_single, in_single, stored

__all__ = ["group_normalization", "instance_normalization", "layer_normalization", "rms_normalization"]


def _standardized(x: np.ndarray, axes: Sequence[int], epsilon: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(x - mean) / sqrt(variance + epsilon) over axes, the mean, and what the difference is multiplied with."""
    mean = x.mean(axis=tuple(axes), keepdims=True)
    difference = x - mean
    variance = np.square(difference).mean(axis=tuple(axes), keepdims=True)
    factor = np.reciprocal(np.sqrt(variance + stored(epsilon)))
    return np.asarray(difference * factor), np.asarray(mean), np.asarray(factor)


def _same_types(x: Fact, *parameters: Fact | None) -> None:
    for p in parameters:
        if p is not None and p.dtype != x.dtype:
            raise TypeRuleError(f"the parameter {p.type} has another element type than {x.type}")


def _by_channel(x: Fact, least: int, **parameters: Fact) -> None:
    """The parameters are lists with one number for each channel of `x`, which has `least` axes or more.

    Raises:
        TypeRuleError: they are not.
    """
    _same_types(x, *parameters.values())
    known = x.type.shape
    if known is not None and len(known) < least:
        raise TypeRuleError(
            f"{x.type} has {len(known)} axes, and {least} are the fewest: batch, channels, spatial ones"
        )
    for name, p in parameters.items():
        if p.type.shape is not None and (p.rank != 1 or (known is not None and not fits(p.shape[0], known[1]))):
            raise TypeRuleError(f"{name} is {p.type}, and not one number for each channel of {x.type}")


def _spread(parameter: np.ndarray, rank: int) -> np.ndarray:
    """Numbers by channel, to broadcast with [N, C, *spatial]."""
    return parameter.reshape((-1,) + (1,) * (rank - 2))


def _stash(op: Room, code: int) -> DType:
    try:
        found = dtype_of_code(code)
    except GraphError:
        found = None
    if found is None or not found.is_float or found.bits < 16:
        raise TypeRuleError(f"{op.name}'s stash_type is {code}, and it is a float type's number")
    return found


def _needs_single(op: Room, code: int) -> None:
    if code != f32.code:
        raise NoKernelError(f"{op.name} with stash_type {code} is not computed")


@operator("InstanceNormalization", since=1)
class InstanceNormalization(Room):
    """(x - mean) / sqrt(variance + epsilon) * scale + B, for each sample and channel. ONNX InstanceNormalization-22."""

    x = operand(FLOAT)
    scale = operand(FLOAT)
    b = operand(FLOAT)
    epsilon: float = 1e-5

    def infer(self, x: Fact, scale: Fact, b: Fact) -> TensorType:
        _by_channel(x, 3, scale=scale, B=b)
        return x.type

    @in_single
    def kernel(self, x: np.ndarray, scale: np.ndarray, b: np.ndarray) -> np.ndarray:
        if x.size == 0:
            return x
        y, _, _ = _standardized(x, range(2, x.ndim), self.epsilon)
        return np.asarray(y * _spread(scale, x.ndim) + _spread(b, x.ndim))


def _to_21(step: Step) -> Step:
    """Until opset 20 there was one scale and one bias for each group of channels."""
    groups, channels = integer_of(step, "num_groups", 0), _channels(step)
    for index, name in ((1, "scale"), (2, "bias")):
        if channels == groups:
            break
        array = constant_of(step, index)
        if array is None or not isinstance(channels, int):
            raise OpsetError(f"GroupNormalization's {name} is by group before opset 21, and is not known by channel")
        if groups < 1 or channels % groups or array.shape != (groups,):
            raise OpsetError(f"the {name} {list(array.shape)} does not fit {groups} groups of {channels} channels")
        step = with_operand(step, index, Constant.of(np.repeat(array, channels // groups)))
    return step


def _below_21(step: Step) -> Step:
    groups, channels = integer_of(step, "num_groups", 0), _channels(step)
    for index, name in ((1, "scale"), (2, "bias")):
        if channels == groups:
            break
        array = constant_of(step, index)
        if array is None:
            raise OpsetError(f"GroupNormalization with a computed {name} needs opset 21")
        by_group = array.reshape(groups, -1) if groups >= 1 and array.size % groups == 0 else array
        if by_group.ndim != 2 or (by_group != by_group[:, :1]).any():
            raise OpsetError(f"GroupNormalization with a {name} that differs within a group needs opset 21")
        step = with_operand(step, index, Constant.of(np.ascontiguousarray(by_group[:, 0])))
    return step


def _channels(step: Step) -> object:
    shape = shape_of(step)
    return shape[1] if shape is not None and len(shape) > 1 else None


@operator("GroupNormalization", since=18)
class GroupNormalization(Room):
    """(x - mean) / sqrt(variance + epsilon) * scale + bias, for each group of channels. ONNX GroupNormalization-21."""

    x = operand(FLOAT)
    scale = operand(FLOAT)
    bias = operand(FLOAT)
    num_groups: int
    epsilon: float = 1e-5
    stash_type: int = 1
    adapters = (Adapter(21, _to_21, _below_21), attribute_needs("GroupNormalization", 21, "stash_type", 1))

    def infer(self, x: Fact, scale: Fact, bias: Fact) -> TensorType:
        _stash(self, self.stash_type)
        _by_channel(x, 2, scale=scale, bias=bias)
        channels = None if x.type.shape is None else x.shape[1]
        if self.num_groups < 1 or (isinstance(channels, int) and channels % self.num_groups):
            raise TypeRuleError(f"the channels of {x.type} do not fall into {self.num_groups} equal groups")
        return x.type

    @in_single
    def kernel(self, x: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> np.ndarray:
        _needs_single(self, self.stash_type)
        if x.size == 0:
            return x
        grouped = x.reshape(x.shape[0], self.num_groups, -1)
        y, _, _ = _standardized(grouped, (2,), self.epsilon)
        return np.asarray(y.reshape(x.shape) * _spread(scale, x.ndim) + _spread(bias, x.ndim))


def _over_last(x: Fact, axis: int, **parameters: Fact | None) -> int | None:
    """The first of the axes normalized over, from the front; parameters broadcast to `x`. None: the rank is unknown.

    Raises:
        TypeRuleError: there is no such axis, or a parameter does not broadcast.
    """
    if x.type.shape is None:
        return None
    if not -x.rank <= axis < x.rank:
        raise TypeRuleError(f"axis {axis} is not an axis of {x.type}")
    for name, p in parameters.items():
        if p is not None and p.type.shape is not None and not broadcasts_to(p.shape, x.shape):
            raise TypeRuleError(f"{name} {p.type} does not broadcast to {x.type}")
    return axis % x.rank


def _last_axes(x: np.ndarray, axis: int) -> tuple[int, ...]:
    axes = tuple(range(axis % x.ndim, x.ndim))
    if prod(x.shape[a] for a in axes) == 0:
        raise NoKernelError(f"the mean of no numbers, of {list(x.shape)} from axis {axis} on, is not defined")
    return axes


@operator("LayerNormalization", since=17)
class LayerNormalization(Room):
    """(x - mean) / sqrt(variance + epsilon) * scale + B over the axes from `axis` on. ONNX LayerNormalization-17.

    Further results are the mean and 1 / sqrt(variance + epsilon).
    """

    x = operand(FLOAT)
    scale = operand(FLOAT)
    b = operand(FLOAT, optional=True)
    axis: int = -1
    epsilon: float = 1e-5
    stash_type: int = 1

    def infer(self, x: Fact, scale: Fact, b: Fact | None = None) -> tuple[TensorType, ...]:
        stash = _stash(self, self.stash_type)
        if stash not in (f32, bf16):
            raise TypeRuleError(f"LayerNormalization's statistics are in f32 or bf16, not in {stash}")
        _same_types(x, scale, b)
        first = _over_last(x, self.axis, scale=scale, B=b)
        kept = None if first is None else (*x.shape[:first], *(1,) * (x.rank - first))
        return x.type, TensorType(stash, kept), TensorType(stash, kept)

    def kernel(self, x: np.ndarray, scale: np.ndarray, b: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
        _needs_single(self, self.stash_type)
        wide = at_least_single(x)
        y, mean, factor = _standardized(wide, _last_axes(x, self.axis), self.epsilon)
        y = y * at_least_single(scale) + (0 if b is None else at_least_single(b))
        return y.astype(x.dtype, copy=False), mean, factor


@operator("RMSNormalization", since=23)
class RMSNormalization(Room):
    """x / sqrt(mean x² + epsilon) * scale over the axes from `axis` on. ONNX RMSNormalization-23."""

    x = operand(FLOAT)
    scale = operand(FLOAT)
    axis: int = -1
    epsilon: float = 1e-5
    stash_type: int = 1

    def infer(self, x: Fact, scale: Fact) -> TensorType:
        _stash(self, self.stash_type)
        _over_last(x, self.axis, scale=scale)
        return TensorType(scale.dtype, x.type.shape)

    def kernel(self, x: np.ndarray, scale: np.ndarray) -> np.ndarray:
        _needs_single(self, self.stash_type)
        wide = at_least_single(x)
        square = np.square(wide).mean(axis=_last_axes(x, self.axis), keepdims=True)
        return np.asarray(wide / np.sqrt(square + stored(self.epsilon)) * at_least_single(scale)).astype(scale.dtype)


@operator("MeanVarianceNormalization", since=9)
class MeanVarianceNormalization(Room):
    """(x - mean) / sqrt(variance) over `axes`, NaN where all are equal. ONNX MeanVarianceNormalization-13.

    So does ONNX Runtime; ONNX's function adds 1e-9 to the root.
    """

    x = operand(FLOAT)
    axes: tuple[int, ...] = (0, 2, 3)

    def infer(self, x: Fact) -> TensorType:
        if not self.axes:
            raise TypeRuleError("MeanVarianceNormalization has no axes")
        if x.type.shape is not None:
            normalized(self.axes, x.rank)
        return x.type

    @in_single
    def kernel(self, x: np.ndarray) -> np.ndarray:
        y, _, _ = _standardized(x, normalized(self.axes, x.ndim), 0.0)
        return y


@operator("LpNormalization", since=1)
class LpNormalization(Room):
    """x over its L1 or L2 norm along an axis; 0 where that is 0. ONNX LpNormalization-22."""

    x = operand(FLOAT)
    axis: int = -1
    p: int = 2

    def infer(self, x: Fact) -> TensorType:
        if self.p not in (1, 2):
            raise TypeRuleError(f"p is {self.p}, and only the norms 1 and 2 are known")
        if x.type.shape is not None and not -x.rank <= self.axis < x.rank:
            raise TypeRuleError(f"axis {self.axis} is not an axis of {x.type}")
        return x.type

    @in_single
    def kernel(self, x: np.ndarray) -> np.ndarray:
        if self.p == 1:
            norm = np.abs(x).sum(axis=self.axis, keepdims=True)
        else:
            norm = np.sqrt(np.square(x).sum(axis=self.axis, keepdims=True))
        return np.where(norm == 0, x.dtype.type(0), x / norm)


def instance_normalization(x: Like, scale: Like, b: Like, *, epsilon: float = 1e-5) -> Operand:
    """(x - mean) / sqrt(variance + epsilon) * scale + b for each sample and channel."""
    return apply(InstanceNormalization(epsilon=epsilon), x, scale, b)


def group_normalization(x: Like, scale: Like, bias: Like, *, num_groups: int, epsilon: float = 1e-5) -> Operand:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias for each group of channels."""
    return apply(GroupNormalization(num_groups=num_groups, epsilon=epsilon), x, scale, bias)


def layer_normalization(
    x: Like, scale: Like, b: Like | None = None, *, axis: int = -1, epsilon: float = 1e-5
) -> Operand:
    """(x - mean) / sqrt(variance + epsilon) * scale + b over the axes from `axis` on."""
    return apply(LayerNormalization(axis=axis, epsilon=epsilon), x, scale, b)


def rms_normalization(x: Like, scale: Like, *, axis: int = -1, epsilon: float = 1e-5) -> Operand:
    """X / sqrt(mean x² + epsilon) * scale over the axes from `axis` on."""
    return apply(RMSNormalization(axis=axis, epsilon=epsilon), x, scale)
