"""Convolutions: Conv, ConvTranspose, and ONNX Runtime's FusedConv.

Shapes: x [N, C, *spatial], w [M, C/group, *kernel] (ConvTranspose: [C, M/group, *kernel]), b [M].
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.errors import TypeRuleError
from graphopt.ir.dims import Dim, product
from graphopt.ir.types import TensorType
from graphopt.ops.activation import Clip, HardSigmoid, HardSwish, LeakyRelu, Relu, Sigmoid, Tanh
from graphopt.ops.algebra import LinearWeights, Refused
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.broadcast import fits
from graphopt.ops.convolve import convolve, convolve_transposed, total_padding
from graphopt.ops.room import FLOAT, MICROSOFT, Fact, NoKernelError, Room, Trait, operand, operator, unknown_dim
from graphopt.ops.single import in_single
from graphopt.ops.window import SAME, Window, place, result_sizes, steps

__all__ = ["conv", "conv_transpose"]


def _check_weight(x: Fact, w: Fact, axis: int, group: int, times: int) -> None:
    """The input's channels are the weight's dim `axis`, `times` over."""
    if x.rank < 3 or w.rank != x.rank:
        raise TypeRuleError(f"the input has rank {x.rank} and the weight rank {w.rank}: both need the same, 3 or more")
    if x.dtype != w.dtype:
        raise TypeRuleError(f"the input holds {x.dtype} and the weight {w.dtype}")
    if group < 1:
        raise TypeRuleError(f"group is {group}, and there is at least one")
    wanted = w.shape[axis] * times
    if not fits(x.shape[1], wanted):
        raise TypeRuleError(f"the input has {x.shape[1]} channels and the weight expects {wanted}")


def _check_bias(b: Fact | None, x: Fact, channels: Dim) -> None:
    if b is None:
        return
    if b.dtype != x.dtype:
        raise TypeRuleError(f"the input holds {x.dtype} and the bias {b.dtype}")
    if b.type.shape is not None and (b.rank != 1 or not fits(b.shape[0], channels)):
        raise TypeRuleError(f"the bias is {b.type} and the weight has {channels} output channels")


def _check_pads(auto_pad: str, pads: Sequence[int]) -> None:
    if auto_pad not in ("NOTSET", "") and any(pads):
        raise TypeRuleError(f"pads are {list(pads)} and auto_pad is {auto_pad}: only one of them can say how to pad")


def _divides(count: Dim, group: int, what: str) -> None:
    if isinstance(count, int) and count % group:
        raise TypeRuleError(f"{count} {what} channels do not divide into {group} groups")


def _kernel(given: Sequence[int], dims: Sequence[Dim]) -> tuple[Dim, ...]:
    """The extent of a window, from the weight's dims and the attribute, which may say it when they don't."""
    if not given:
        return tuple(dims)
    if len(given) != len(dims) or not all(map(fits, given, dims)):
        raise TypeRuleError(f"kernel_shape is {list(given)} and the weight's is [{', '.join(map(str, dims))}]")
    return tuple(given)


def _weight_channels(weight: Fact | None, axis: int, times: int = 1) -> int:
    shape = None if weight is None else weight.type.shape
    count = None if shape is None else shape[axis]
    if not isinstance(count, int):
        raise Refused("the weight's shape is not known")
    return count * times


class _Convolution(Room, LinearWeights):
    """What Conv and FusedConv share: the output channels are the weight's first axis."""

    auto_pad: str
    dilations: tuple[int, ...]
    group: int
    kernel_shape: tuple[int, ...]
    pads: tuple[int, ...]
    strides: tuple[int, ...]
    traits = frozenset({Trait.WINDOW})

    def channels(self, facts: tuple[Fact | None, ...]) -> tuple[int, int]:
        return 1, _weight_channels(facts[1], 0)

    def weight_scale(self, scale: np.ndarray, weight_shape: tuple[int, ...]) -> np.ndarray:
        return scale.reshape((-1,) + (1,) * (len(weight_shape) - 1))

    def convolved(self, x: Fact, w: Fact, b: Fact | None) -> TensorType:
        """The type of the convolution."""
        _check_weight(x, w, 1, self.group, self.group)
        _divides(w.shape[0], self.group, "output")
        _check_bias(b, x, w.shape[0])
        _check_pads(self.auto_pad, self.pads)
        sizes = result_sizes(self, _kernel(self.kernel_shape, w.shape[2:]), x.shape[2:])
        return TensorType(x.dtype, (x.shape[0], w.shape[0], *sizes))

    def convolve(self, x: np.ndarray, w: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        """The convolution."""
        window, counts = place(self, w.shape[2:], x.shape[2:])
        return convolve(x, w, b, self.group, window, counts)

    def macs(self, facts: tuple[Fact | None, ...], results: tuple[TensorType, ...]) -> Dim:
        """Result elements times filter elements."""
        weight, out = facts[1], results[0].shape
        return 0 if weight is None or out is None else product(out) * product(weight.shape[1:])


@operator("Conv", since=1)
class Conv(_Convolution):
    """Cross-correlation with a bank of filters, plus a bias: y[n, m] = Σ_c w[m, c] ⋆ x[n, c] + b[m]. ONNX Conv-22."""

    x = operand(FLOAT)
    w = operand(FLOAT)
    b = operand(FLOAT, optional=True)
    auto_pad: str = "NOTSET"
    dilations: tuple[int, ...] = ()
    group: int = 1
    kernel_shape: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()

    def infer(self, x: Fact, w: Fact, b: Fact | None = None) -> TensorType:
        return self.convolved(x, w, b)

    @in_single
    def kernel(self, x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
        return self.convolve(x, w, b)


@operator("FusedConv", since=1, domain=MICROSOFT)
class FusedConv(_Convolution):
    """activation(conv(x, w, b) + z), z of the result's shape. ONNX Runtime's com.microsoft FusedConv-1."""

    x = operand(FLOAT)
    w = operand(FLOAT)
    b = operand(FLOAT, optional=True)
    z = operand(FLOAT, optional=True)
    activation: str = ""
    activation_params: tuple[float, ...] = ()
    auto_pad: str = "NOTSET"
    dilations: tuple[int, ...] = ()
    group: int = 1
    kernel_shape: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()

    def channels(self, facts: tuple[Fact | None, ...]) -> tuple[int, int]:
        if self.activation:
            raise Refused(f"FusedConv ends in {self.activation}")
        if len(facts) > 3 and facts[3] is not None:
            raise Refused("FusedConv adds another tensor")
        return super().channels(facts)

    def infer(self, x: Fact, w: Fact, b: Fact | None = None, z: Fact | None = None) -> TensorType:
        y = self.convolved(x, w, b)
        if z is not None and (z.dtype != y.dtype or not _same_shape(z.type, y)):
            raise TypeRuleError(f"what is added is {z.type} and the convolution {y}")
        return y

    @in_single
    def kernel(
        self, x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None, z: np.ndarray | None = None
    ) -> np.ndarray:
        y = self.convolve(x, w, b)
        return _activate(self.activation, self.activation_params, y if z is None else y + z)


def _same_shape(a: TensorType, b: TensorType) -> bool:
    """Whether two shapes may be the same."""
    if a.shape is None or b.shape is None:
        return True
    return len(a.shape) == len(b.shape) and all(map(fits, a.shape, b.shape))


def _activate(name: str, params: Sequence[float], y: np.ndarray) -> np.ndarray:
    """ONNX Runtime takes these activations, and needs their parameters."""
    match name, tuple(params):
        case "", _:
            return y
        case "Relu", _:
            return Relu().kernel(y)
        case "Tanh", _:
            return Tanh().kernel(y)
        case "Sigmoid", _:
            return Sigmoid().kernel(y)
        case "HardSwish", _:
            return HardSwish().kernel(y)
        case "LeakyRelu", (alpha,):
            return LeakyRelu(alpha=alpha).kernel(y)
        case "HardSigmoid", (alpha, beta):
            return HardSigmoid(alpha=alpha, beta=beta).kernel(y)
        case "Clip", (low, high):
            return Clip().kernel(y, y.dtype.type(low), y.dtype.type(high))
    raise NoKernelError(f"FusedConv's activation {name!r} with {len(params)} parameters is not known")


@operator("ConvTranspose", since=1)
class ConvTranspose(Room, LinearWeights):
    """The transpose of a convolution in x: each input element adds its filter to the output. ONNX ConvTranspose-22.

    The weight is [C, M/group, *kernel]: output channel m of group g is w[:, m] over that group's input channels.
    """

    x = operand(FLOAT)
    w = operand(FLOAT)
    b = operand(FLOAT, optional=True)
    auto_pad: str = "NOTSET"
    dilations: tuple[int, ...] = ()
    group: int = 1
    kernel_shape: tuple[int, ...] = ()
    output_padding: tuple[int, ...] = ()
    output_shape: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    traits = frozenset({Trait.WINDOW})

    def channels(self, facts: tuple[Fact | None, ...]) -> tuple[int, int]:
        return 1, _weight_channels(facts[1], 1, self.group)

    def weight_scale(self, scale: np.ndarray, weight_shape: tuple[int, ...]) -> np.ndarray:
        by_group = scale.reshape(self.group, weight_shape[1])
        rows = np.repeat(by_group, weight_shape[0] // self.group, axis=0)
        return rows.reshape(rows.shape + (1,) * (len(weight_shape) - 2))

    def infer(self, x: Fact, w: Fact, b: Fact | None = None) -> TensorType:
        _check_weight(x, w, 0, self.group, 1)
        _divides(w.shape[0], self.group, "input")
        channels = w.shape[1] * self.group
        _check_bias(b, x, channels)
        _check_pads(self.auto_pad, self.pads)
        sizes = self._sizes(_kernel(self.kernel_shape, w.shape[2:]), x.shape[2:])
        return TensorType(x.dtype, (x.shape[0], channels, *(unknown_dim() if s is None else s for s in sizes)))

    def _extra(self, strides: Sequence[int]) -> tuple[int, ...]:
        extra = self.output_padding or (0,) * len(strides)
        if len(extra) != len(strides):
            raise TypeRuleError(f"the kernel has {len(strides)} axes and output_padding {len(extra)}")
        if not all(0 <= e < s for e, s in zip(extra, strides, strict=True)):
            raise TypeRuleError(f"output_padding is {list(extra)}, and it must be below the strides {list(strides)}")
        return extra

    def _sizes(self, kernel: Sequence[Dim], spatial: Sequence[Dim]) -> list[Dim | None]:
        """The result's extent on each axis; None where ONNX and ONNX Runtime differ.

        With auto_pad SAME_* ONNX says size * stride, and ONNX Runtime makes less where the filters do not meet.
        """
        n = len(kernel)
        strides, dilations, pads = steps(self, kernel)
        extra = self._extra(strides)
        if len(spatial) != n:
            raise TypeRuleError(f"the kernel has {n} axes and the input {len(spatial)} spatial ones")
        if self.output_shape:
            if len(self.output_shape) not in (n, n + 2):
                raise TypeRuleError(f"the kernel has {n} axes and output_shape {len(self.output_shape)}")
            wanted = self.output_shape[-n:]
            for size, k, s, d, want in zip(spatial, kernel, strides, dilations, wanted, strict=True):
                most = size * s + (k - 1) * d  # a whole stride more, and the input would have another element
                if want < 1 or (isinstance(most, int) and want > most):
                    raise TypeRuleError(f"output_shape asks for {want}, and {size} elements make 1 to {most}")
            return list(wanted)
        sizes: list[Dim | None] = []
        for i, (size, k, s, d) in enumerate(zip(spatial, kernel, strides, dilations, strict=True)):
            reach = (k - 1) * d + 1 + extra[i]
            if self.auto_pad in SAME:
                sizes.append(size * s if isinstance(reach, int) and reach >= s else None)
            else:
                sizes.append((size - 1) * s + reach - (pads[i] + pads[i + n]))
        if any(isinstance(size, int) and size < 1 for size in sizes):
            raise TypeRuleError(f"nothing is left of the result: its size would be {sizes}, by the pads {list(pads)}")
        return sizes

    @in_single
    def kernel(self, x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
        kernel, spatial = w.shape[2:], x.shape[2:]
        n = len(kernel)
        sizes = tuple(s for s in self._sizes(kernel, spatial) if isinstance(s, int))
        if len(sizes) < n:
            raise NoKernelError(
                f"ConvTranspose with auto_pad {self.auto_pad} and strides beyond its filters is not clear"
            )
        strides, dilations, pads = steps(self, kernel)
        window = Window(kernel, strides, dilations, pads[:n], pads[n:])
        if self.output_shape or self.auto_pad in SAME:
            totals = total_padding(spatial, window, self._extra(strides), sizes)
            begins = tuple(t // 2 if self.auto_pad == "SAME_UPPER" else t - t // 2 for t in totals)
            window = Window(kernel, strides, dilations, begins, pads[n:])
        return convolve_transposed(x, w, b, self.group, window, sizes)

    def macs(self, facts: tuple[Fact | None, ...], results: tuple[TensorType, ...]) -> Dim:
        """Input elements times filter elements."""
        x, w = facts[0], facts[1]
        return 0 if x is None or w is None else product(x.shape) * product(w.shape[1:])


def conv(
    x: Like,
    w: Like,
    b: Like | None = None,
    *,
    strides: tuple[int, ...] = (),
    pads: tuple[int, ...] = (),
    dilations: tuple[int, ...] = (),
    group: int = 1,
    auto_pad: str = "NOTSET",
) -> Operand:
    """Convolution of x [N, C, *spatial] with w [M, C/group, *kernel], plus b [M]; see `Conv`."""
    op = Conv(strides=strides, pads=pads, dilations=dilations, group=group, auto_pad=auto_pad)
    return apply(op, x, w, b)


def conv_transpose(
    x: Like,
    w: Like,
    b: Like | None = None,
    *,
    strides: tuple[int, ...] = (),
    pads: tuple[int, ...] = (),
    dilations: tuple[int, ...] = (),
    output_padding: tuple[int, ...] = (),
    group: int = 1,
) -> Operand:
    """Transposed convolution of x [N, C, *spatial] with w [C, M/group, *kernel], plus b [M]; see `ConvTranspose`."""
    op = ConvTranspose(strides=strides, pads=pads, dilations=dilations, output_padding=output_padding, group=group)
    return apply(op, x, w, b)
