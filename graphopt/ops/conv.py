"""Convolutions: Conv, ConvTranspose, and ONNX Runtime's FusedConv.

Shapes: x [N, C, *spatial], w [M, C/group, *kernel] (ConvTranspose: [C, M/group, *kernel]), b [M].
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from graphopt.errors import TypeRuleError
from graphopt.ir.dims import Dim, product
from graphopt.ir.types import TensorType
from graphopt.ops.algebra import LinearWeights, Refused
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.room import FLOAT, Fact, NoKernelError, Room, Trait, operand, operator
from graphopt.ops.window import Window, extent, outputs, padded, resolve, windows

__all__ = ["conv", "conv_transpose"]

CHUNK_BYTES = 64 << 20  # the unfolded input of a convolution is made in pieces of this size


class _Convolution(LinearWeights):
    """What Conv and FusedConv share: the output channels are the weight's first axis."""

    def channels(self, facts: tuple[Fact | None, ...]) -> tuple[int, int]:
        weight = facts[1]
        count = None if weight is None or weight.type.shape is None else weight.type.shape[0]
        if not isinstance(count, int):
            raise Refused("the weight's shape is not known")
        return 1, count

    def weight_scale(self, scale: np.ndarray, weight_shape: tuple[int, ...]) -> np.ndarray:
        return scale.reshape((-1,) + (1,) * (len(weight_shape) - 1))


def _infer_conv(op: Conv | FusedConv, x: Fact, w: Fact, b: Fact | None) -> TensorType:
    if x.rank < 3 or w.rank != x.rank:
        raise TypeRuleError(f"the input has rank {x.rank} and the weight rank {w.rank}: both need the same, 3 or more")
    n, c, *spatial = x.shape
    m, per_group, *kernel_dims = w.shape
    wanted = per_group * op.group
    if isinstance(c, int) and isinstance(wanted, int) and c != wanted:
        raise TypeRuleError(f"the input has {c} channels and the weight expects {wanted}")
    if isinstance(m, int) and m % op.group:
        raise TypeRuleError(f"{m} output channels do not divide into {op.group} groups")
    if b is not None and b.type.shape is not None and (b.rank != 1 or _clash(b.shape[0], m)):
        raise TypeRuleError(f"the bias is {b.type} and the weight has {m} output channels")
    kernel = _kernel(op.kernel_shape, kernel_dims)
    steps, dilations, before, after = resolve(kernel, op.strides, op.dilations, op.pads, op.auto_pad, spatial)
    same = op.auto_pad in ("SAME_UPPER", "SAME_LOWER")
    sizes = [
        (size + (s - 1)) // s if same else extent(size, k, s, d, p + q)
        for size, k, s, d, p, q in zip(spatial, kernel, steps, dilations, before, after, strict=True)
    ]
    return TensorType(x.dtype, (n, m, *sizes))


def _clash(a: Dim, b: Dim) -> bool:
    return isinstance(a, int) and isinstance(b, int) and a != b


def _kernel(given: Sequence[int], dims: Sequence[Dim]) -> tuple[int, ...]:
    known = tuple(d for d in dims if isinstance(d, int))
    if len(known) != len(dims):
        if given:
            return tuple(given)
        raise TypeRuleError("the kernel's extent is not known")
    if given and tuple(given) != known:
        raise TypeRuleError(f"kernel_shape is {list(given)} and the weight's is {list(known)}")
    return known


def _run_conv(op: Conv | FusedConv, x: np.ndarray, w: np.ndarray, b: np.ndarray | None) -> np.ndarray:
    kernel = w.shape[2:]
    steps, dilations, before, after = resolve(kernel, op.strides, op.dilations, op.pads, op.auto_pad, x.shape[2:])
    window = Window(kernel, steps, dilations, _ints(before), _ints(after))
    counts = outputs(window, x.shape[2:])
    x = padded(x, window, 0, counts)
    groups = op.group
    m, per_group = w.shape[:2]
    out = np.empty((x.shape[0], m, *counts), np.result_type(x, w))
    if per_group == 1 and groups == m == x.shape[1]:
        _depthwise(x, w, window, counts, out)
    else:
        for g in range(groups):
            of, to = slice(g * per_group, (g + 1) * per_group), slice(g * (m // groups), (g + 1) * (m // groups))
            _by_matmul(x[:, of], w[to], window, counts, out[:, to])
    if b is not None:
        out += b.reshape((1, -1) + (1,) * len(kernel))
    return out


def _ints(dims: Sequence[Dim]) -> tuple[int, ...]:
    return tuple(d for d in dims if isinstance(d, int))


def _depthwise(x: np.ndarray, w: np.ndarray, window: Window, counts: tuple[int, ...], out: np.ndarray) -> None:
    """One filter a channel: a sum of shifted copies."""
    out[...] = 0
    for at in np.ndindex(*window.kernel):
        place = tuple(
            slice(i * d, i * d + (c - 1) * s + 1, s)
            for i, d, c, s in zip(at, window.dilations, counts, window.strides, strict=True)
        )
        out += x[(slice(None), slice(None), *place)] * w[(slice(None), 0, *at)].reshape((-1,) + (1,) * len(counts))


def _by_matmul(x: np.ndarray, w: np.ndarray, window: Window, counts: tuple[int, ...], out: np.ndarray) -> None:
    """A matrix product with the unfolded input, made in pieces along the first spatial axis."""
    flat = w.reshape(w.shape[0], -1)
    if prod(window.kernel) == 1:
        steps = tuple(slice(0, (c - 1) * s + 1, s) for c, s in zip(counts, window.strides, strict=True))
        for n in range(x.shape[0]):
            columns = x[n][(slice(None), *steps)].reshape(x.shape[1], -1)
            out[n] = (flat @ columns).reshape(out.shape[1:])
        return
    view = windows(x, window, counts)
    axes = len(counts)
    order = (0, *range(1 + axes, 1 + 2 * axes), *range(1, 1 + axes))  # [C, *kernel, *counts]
    row = x.shape[1] * prod(window.kernel) * prod(counts[1:]) * x.itemsize
    rows = max(1, CHUNK_BYTES // max(row, 1))
    for n in range(x.shape[0]):
        for start in range(0, counts[0], rows):
            piece = view[n][:, start : start + rows].transpose(order)
            columns = piece.reshape(flat.shape[1], -1)
            out[n, :, start : start + rows] = (flat @ columns).reshape(w.shape[0], *piece.shape[1 + axes :])


@operator("Conv", since=1)
class Conv(Room, _Convolution):
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
    traits = frozenset({Trait.WINDOW})

    def infer(self, x: Fact, w: Fact, b: Fact | None = None) -> TensorType:
        return _infer_conv(self, x, w, b)

    def kernel(self, x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
        return _run_conv(self, x, w, b)

    def macs(self, facts: tuple[Fact | None, ...], results: tuple[TensorType, ...]) -> Dim:
        return conv_macs(facts, results)


def conv_macs(facts: tuple[Fact | None, ...], results: tuple[TensorType, ...]) -> Dim:
    """Output elements times filter elements."""
    weight, out = facts[1], results[0].shape
    return 0 if weight is None or out is None else product(out) * product(weight.shape[1:])


_ACTIVATIONS = ("Relu", "Tanh", "Sigmoid", "LeakyRelu", "Clip", "HardSigmoid")


@operator("FusedConv", since=1, domain="com.microsoft")
class FusedConv(Room, _Convolution):
    """activation(conv(x, w, b) + z). ONNX Runtime's com.microsoft.FusedConv-1."""

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
    traits = frozenset({Trait.WINDOW})

    def channels(self, facts: tuple[Fact | None, ...]) -> tuple[int, int]:
        raise Refused("FusedConv ends in an activation")

    def infer(self, x: Fact, w: Fact, b: Fact | None = None, z: Fact | None = None) -> TensorType:
        return _infer_conv(self, x, w, b)

    def kernel(
        self, x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None, z: np.ndarray | None = None
    ) -> np.ndarray:
        y = _run_conv(self, x, w, b)
        if z is not None:
            y = y + z
        return _activate(self.activation, self.activation_params, y)

    def macs(self, facts: tuple[Fact | None, ...], results: tuple[TensorType, ...]) -> Dim:
        return conv_macs(facts, results)


def _activate(name: str, params: Sequence[float], y: np.ndarray) -> np.ndarray:
    given = [y.dtype.type(p) for p in params]
    match name, given:
        case "" | "Relu", _:
            return np.maximum(y, 0) if name else y
        case "Tanh", _:
            return np.tanh(y)
        case "Sigmoid", _:
            return 1 / (1 + np.exp(-y))
        case "LeakyRelu", [alpha]:
            return np.where(y >= 0, y, y * alpha)
        case "Clip", [low, high]:
            return np.minimum(np.maximum(y, low), high)
        case "HardSigmoid", [alpha, beta]:
            return np.clip(y * alpha + beta, 0, 1)
    raise NoKernelError(f"FusedConv's activation {name!r} with {len(given)} parameters is not known")


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
        weight = facts[1]
        count = None if weight is None or weight.type.shape is None else weight.type.shape[1] * self.group
        if not isinstance(count, int):
            raise Refused("the weight's shape is not known")
        return 1, count

    def weight_scale(self, scale: np.ndarray, weight_shape: tuple[int, ...]) -> np.ndarray:
        by_group = scale.reshape(self.group, weight_shape[1])
        rows = np.repeat(by_group, weight_shape[0] // self.group, axis=0)
        return rows.reshape(rows.shape + (1,) * (len(weight_shape) - 2))

    def infer(self, x: Fact, w: Fact, b: Fact | None = None) -> TensorType:
        if x.rank < 3 or w.rank != x.rank:
            raise TypeRuleError(f"the input has rank {x.rank} and the weight rank {w.rank}")
        n, c, *spatial = x.shape
        if _clash(c, w.shape[0]):
            raise TypeRuleError(f"the input has {c} channels and the weight expects {w.shape[0]}")
        m = w.shape[1] * self.group
        if b is not None and b.type.shape is not None and (b.rank != 1 or _clash(b.shape[0], m)):
            raise TypeRuleError(f"the bias is {b.type} and the weight gives {m} output channels")
        sizes = self._sizes(_kernel(self.kernel_shape, w.shape[2:]), spatial)
        return TensorType(x.dtype, (n, m, *sizes))

    def _axes(self, kernel: Sequence[int]) -> list[tuple[int, int, int, int]]:
        n = len(kernel)
        steps, dilations, extra = self.strides or (1,) * n, self.dilations or (1,) * n, self.output_padding or (0,) * n
        if not len(steps) == len(dilations) == len(extra) == n:
            raise TypeRuleError(f"the kernel has {n} axes, strides {len(steps)}, dilations {len(dilations)}")
        return list(zip(kernel, steps, dilations, extra, strict=True))

    def _sizes(self, kernel: Sequence[int], spatial: Sequence[Dim]) -> list[Dim]:
        if self.output_shape:
            return list(self.output_shape[-len(kernel) :])
        n = len(kernel)
        pads = self.pads or (0,) * (2 * n)
        sizes: list[Dim] = []
        for i, (size, (k, s, d, extra)) in enumerate(zip(spatial, self._axes(kernel), strict=True)):
            if self.auto_pad in ("SAME_UPPER", "SAME_LOWER"):
                sizes.append(size * s)
            else:
                removed = 0 if self.auto_pad == "VALID" else pads[i] + pads[i + n]
                sizes.append((size - 1) * s + (k - 1) * d + 1 + extra - removed)
        return sizes

    def kernel(self, x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
        axes = self._axes(w.shape[2:])
        sizes = [int(s) for s in self._sizes(w.shape[2:], x.shape[2:]) if isinstance(s, int)]
        n, c = x.shape[:2]
        per_in, per_out = c // self.group, w.shape[1]
        full = [(size - 1) * s + (k - 1) * d + 1 for size, (k, s, d, _) in zip(x.shape[2:], axes, strict=True)]
        begins = self._begins(full, sizes, axes)
        room = [max(f, start + size) for f, start, size in zip(full, begins, sizes, strict=True)]
        out = np.zeros((n, per_out * self.group, *room), np.result_type(x, w))
        flat = x.reshape(n, self.group, per_in, -1)
        for at in np.ndindex(*w.shape[2:]):
            taps = w[(slice(None), slice(None), *at)].reshape(self.group, per_in, per_out)
            added = np.einsum("ngip,gio->ngop", flat, taps, optimize=True).reshape(n, -1, *x.shape[2:])
            place = tuple(
                slice(i * d, i * d + (size - 1) * s + 1, s)
                for i, size, (_, s, d, _) in zip(at, x.shape[2:], axes, strict=True)
            )
            out[(slice(None), slice(None), *place)] += added
        if b is not None:
            out += b.reshape((1, -1) + (1,) * len(sizes))
        kept = tuple(slice(start, start + size) for start, size in zip(begins, sizes, strict=True))
        return np.ascontiguousarray(out[(slice(None), slice(None), *kept)])

    def _begins(
        self, full: Sequence[int], sizes: Sequence[int], axes: Sequence[tuple[int, int, int, int]]
    ) -> list[int]:
        """How much of the full result is cut off before the output, on each axis."""
        n = len(sizes)
        if self.auto_pad == "VALID" and not self.output_shape:
            return [0] * n
        if self.output_shape or self.auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            totals = [max(f + extra - s, 0) for f, s, (_, _, _, extra) in zip(full, sizes, axes, strict=True)]
            upper = self.auto_pad == "SAME_UPPER"
            return [t // 2 if upper else t - t // 2 for t in totals]
        return list(self.pads[:n]) or [0] * n

    def macs(self, facts: tuple[Fact | None, ...], results: tuple[TensorType, ...]) -> Dim:
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
