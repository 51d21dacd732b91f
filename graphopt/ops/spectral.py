"""Spectra of signals: DFT, STFT, window functions, and the mel scale.

The last axis of a signal holds its real part, or its real and imaginary parts.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from graphopt.errors import OpsetError, TypeRuleError
from graphopt.ir.attributes import Attribute, Kind
from graphopt.ir.constant import Constant
from graphopt.ir.dims import Dim, floor_div, product
from graphopt.ir.types import DType, TensorType, dtype_of_code
from graphopt.ops.adapters import constant_of, first_operands, given, integer_of, with_operand, without
from graphopt.ops.axes import listed, unknown_shape
from graphopt.ops.convert import convert
from graphopt.ops.expect import dims_of, expect_number, expect_one_type, expect_shape, same_dim
from graphopt.ops.room import (
    FLOAT,
    INTEGER,
    Adapter,
    Fact,
    NoKernelError,
    Room,
    Step,
    Trait,
    operand,
    operator,
    unknown_dim,
)
from graphopt.ops.single import in_single

__all__: list[str] = []

_PARTIAL = frozenset({Trait.PARTIAL})  # lengths must be positive, windows must fit
_MADE_OF_CODES = frozenset({1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 16})  # numbers of 8 bits or more, but no float8


def _number(fact: Fact | None) -> Dim | None:
    """The dim that an operand holds, where it is known."""
    dims = listed(fact)
    return dims[0] if dims is not None and len(dims) == 1 else None


def _length(name: str, fact: Fact | None) -> Dim | None:
    """A number that must be positive, where it is known."""
    expect_number(name, fact)
    length = _number(fact)
    if isinstance(length, int) and length < 1:
        raise TypeRuleError(f"{name} is {length}, and it must be positive")
    return length


def _result_type(code: int) -> DType:
    if code not in _MADE_OF_CODES:
        raise TypeRuleError(f"output_datatype is {code}, which is no element type of this result")
    return dtype_of_code(code)


def _complex(x: np.ndarray) -> np.ndarray:
    """A signal without its last axis, complex where that has two parts."""
    if x.shape[-1] == 1:
        return x[..., 0]
    return np.asarray(x[..., 0] + x.dtype.type(1) * 1j * x[..., 1]).astype(np.result_type(x.dtype, np.complex64))


def _parts(z: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return np.stack([z.real, z.imag], axis=-1).astype(dtype, copy=False)


def _fft_macs(length: Dim) -> Dim:
    """Of a fast transform: half as many complex products as length · log2(length). 0 where the length is a symbol."""
    return 2 * length * (length - 1).bit_length() if isinstance(length, int) else 0


# ---- DFT


def _dft_to_20(step: Step) -> Step:
    """Before opset 20 the axis was an attribute, 1 by default."""
    axis = Constant.of(np.asarray(integer_of(step, "axis", 1), np.int64))
    return replace(with_operand(step, 2, axis), attributes=without(step, "axis"))


def _dft_below_20(step: Step) -> Step:
    axis = constant_of(step, 2) if given(step, 2) else np.asarray(-2)
    if axis is None or axis.size != 1:
        raise OpsetError("DFT with a computed axis needs opset 20")
    bound = {**step.attributes, "axis": Attribute(Kind.INT, int(axis.item()))}
    plain = with_operand(step, 2, None) if given(step, 2) else first_operands(step, 2)
    return replace(plain, attributes=bound)


@operator("DFT", since=17)
class DFT(Room):
    """y[k] = Σ x[n]·exp(-2πi·kn/N) along an axis; inverse: with +2πi, divided by N. ONNX DFT-20.

    The signal is cut or padded with zeros to dft_length. With onesided the first N/2 + 1 elements are given out, and
    the inverse makes a real signal of them.
    """

    x = operand(FLOAT)
    dft_length = operand(INTEGER, optional=True)
    axis = operand(INTEGER, optional=True)
    inverse: int = 0
    onesided: int = 0
    traits = _PARTIAL
    adapters = (Adapter(20, _dft_to_20, _dft_below_20),)

    @property
    def _is_real(self) -> bool:
        return bool(self.inverse and self.onesided)

    def infer(self, x: Fact, dft_length: Fact | None = None, axis: Fact | None = None) -> TensorType:
        length = _length("dft_length", dft_length)
        expect_number("axis", axis)
        if x.type.shape is None:
            return TensorType(x.dtype, None)
        *dims, parts = x.shape if x.rank else (1,)
        _check_parts(x, parts)
        if self._is_real and parts == 1:
            raise TypeRuleError(f"x is {x.type}, and the inverse of one side takes complex numbers")
        last = 1 if self._is_real else 2
        chosen = -2 if axis is None else _number(axis)
        if not isinstance(chosen, int):
            keeps = dft_length is None and not self.onesided  # whatever the axis is
            return TensorType(x.dtype, (*(dims if keeps else unknown_shape(len(dims)) or ()), last))
        at = self._axis(x.rank, chosen)
        if dft_length is None:
            length = 2 * (dims[at] - 1) if self._is_real else dims[at]
            if isinstance(length, int) and length < 1:
                raise TypeRuleError(f"there is nothing to transform on axis {at} of {x.type}")
        elif length is None:
            length = unknown_dim()
        assert length is not None
        dims[at] = floor_div(length, 2) + 1 if self.onesided and not self.inverse else length
        return TensorType(x.dtype, (*dims, last))

    @staticmethod
    def _axis(rank: int, axis: int) -> int:
        """The axis from the front."""
        if not (-rank <= axis <= -2 or 0 <= axis <= rank - 2):
            raise TypeRuleError(f"axis {axis} is not an axis of a signal of rank {rank}, whose last holds its parts")
        return axis % rank

    @in_single
    def kernel(self, x: np.ndarray, dft_length: np.ndarray | None = None, axis: np.ndarray | None = None) -> np.ndarray:
        at = self._axis(x.ndim, -2 if axis is None else int(axis.item()))
        size = x.shape[at]
        default = 2 * (size - 1) if self._is_real else size
        length = default if dft_length is None else int(dft_length.item())
        if length < 1:
            raise NoKernelError(f"a transform of length {length} is not defined")
        z = _complex(x)
        if self._is_real:
            return np.asarray(np.fft.irfft(z, length, at))[..., None].astype(x.dtype, copy=False)
        y = np.fft.ifft(z, length, at) if self.inverse else np.fft.fft(z, length, at)
        if self.onesided:
            y = y.take(range(length // 2 + 1), at)
        return _parts(y, x.dtype)

    def macs(self, facts: tuple[Fact | None, ...], results: tuple[TensorType, ...]) -> Dim:
        """Those of a fast transform of each line along the axis."""
        x, axis = facts[0], facts[2] if len(facts) > 2 else None
        chosen = -2 if axis is None else _number(axis)
        if x is None or not results or not isinstance(chosen, int):
            return 0
        at = chosen % x.rank
        told = _number(facts[1]) if len(facts) > 1 and facts[1] is not None else None
        length = x.shape[at] if told is None else told
        return product((*x.shape[:at], *x.shape[at + 1 : -1])) * _fft_macs(length)


def _check_parts(signal: Fact, parts: Dim) -> None:
    if signal.rank < 2 or (isinstance(parts, int) and parts not in (1, 2)):
        raise TypeRuleError(f"the signal is {signal.type}: its last axis holds one part or two")


# ---- STFT


@operator("STFT", since=17)
class STFT(Room):
    """The DFT of each frame of a signal [batch, length, parts], times a window: [batch, frames, N, 2]. ONNX STFT-17.

    Frames begin every frame_step elements. They are as long as the window, or as frame_length, or as the signal.
    """

    signal = operand(FLOAT)
    frame_step = operand(INTEGER)
    window = operand(FLOAT, optional=True)
    frame_length = operand(INTEGER, optional=True)
    onesided: int = 1
    traits = _PARTIAL

    def infer(
        self, signal: Fact, frame_step: Fact, window: Fact | None = None, frame_length: Fact | None = None
    ) -> TensorType:
        expect_one_type(signal=signal, window=window)
        expect_shape("signal", signal, (None, None, None))
        batch, total, parts = dims_of(signal, 3)
        if signal.type.shape is not None:
            _check_parts(signal, parts)
        step, length = _length("frame_step", frame_step), _length("frame_length", frame_length)
        expect_shape("window", window, (length,))
        if window is not None:
            length = same_dim(*([] if length is None else [length]), dims_of(window, 1)[0])
        elif frame_length is None:
            length = total
        length = unknown_dim() if length is None else length
        spare = total - length
        if isinstance(spare, int) and spare < 0:
            raise TypeRuleError(f"a frame of {length} does not fit on {signal.type}")
        frames = floor_div(spare, step) + 1 if isinstance(step, int) else unknown_dim()
        return TensorType(signal.dtype, (batch, frames, floor_div(length, 2) + 1 if self.onesided else length, 2))

    @in_single
    def kernel(
        self,
        signal: np.ndarray,
        frame_step: np.ndarray,
        window: np.ndarray | None = None,
        frame_length: np.ndarray | None = None,
    ) -> np.ndarray:
        total, step = signal.shape[1], int(frame_step.item())
        default = total if window is None else len(window)
        length = default if frame_length is None else int(frame_length.item())
        if step < 1 or not 1 <= length <= total or (window is not None and len(window) != length):
            raise NoKernelError(f"frames of {length} every {step} on {total} elements are not defined")
        frames = np.lib.stride_tricks.sliding_window_view(_complex(signal), length, axis=1)[:, ::step]
        y = np.fft.fft(frames if window is None else frames * window, axis=2)
        return _parts(y[:, :, : length // 2 + 1] if self.onesided else y, signal.dtype)

    def macs(self, facts: tuple[Fact | None, ...], results: tuple[TensorType, ...]) -> Dim:
        """Those of a fast transform of each frame."""
        out, window = results[0].shape if results else None, facts[2] if len(facts) > 2 else None
        length = _number(facts[3]) if len(facts) > 3 and facts[3] is not None else None
        if length is None and window is not None and window.type.shape:
            length = window.shape[0]
        return 0 if out is None or length is None else product(out[:2]) * _fft_macs(length)


# ---- Windows


class _Window(Room):
    """A symmetric window of `size` elements, or the first of one that has one more."""

    output_datatype: int
    periodic: int

    def infer(self, size: Fact) -> TensorType:
        length = _length("size", size)
        return TensorType(_result_type(self.output_datatype), (unknown_dim() if length is None else length,))

    def cosines(self, size: np.ndarray, *coefficients: float) -> np.ndarray:
        """Σ coefficients[i]·cos(i·2πn/N)."""
        dtype, count = _result_type(self.output_datatype), int(size.item())
        if not dtype.is_float:
            raise NoKernelError(f"whether a window reaches 1 in {dtype} is a matter of rounding")
        if count < 0:
            raise NoKernelError(f"there is no window of {count} elements")
        with np.errstate(all="ignore"):  # a symmetric window of one element is no number, as in runtimes
            turn = 2 * np.pi * np.arange(count) / np.float64(count if self.periodic else count - 1)
        total = sum((c * np.cos(i * turn) for i, c in enumerate(coefficients)), np.zeros(count))
        return convert(np.asarray(total), dtype)


@operator("HannWindow", since=17)
class HannWindow(_Window):
    """0.5 - 0.5·cos(2πn/N). ONNX HannWindow-17."""

    size = operand(INTEGER)
    output_datatype: int = 1
    periodic: int = 1
    traits = _PARTIAL

    def kernel(self, size: np.ndarray) -> np.ndarray:
        return self.cosines(size, 0.5, -0.5)


@operator("HammingWindow", since=17)
class HammingWindow(_Window):
    """25/46 - 21/46·cos(2πn/N). ONNX HammingWindow-17."""

    size = operand(INTEGER)
    output_datatype: int = 1
    periodic: int = 1
    traits = _PARTIAL

    def kernel(self, size: np.ndarray) -> np.ndarray:
        return self.cosines(size, 25 / 46, -21 / 46)


@operator("BlackmanWindow", since=17)
class BlackmanWindow(_Window):
    """0.42 - 0.5·cos(2πn/N) + 0.08·cos(4πn/N). ONNX BlackmanWindow-17."""

    size = operand(INTEGER)
    output_datatype: int = 1
    periodic: int = 1
    traits = _PARTIAL

    def kernel(self, size: np.ndarray) -> np.ndarray:
        return self.cosines(size, 0.42, -0.5, 0.08)


# ---- Mel scale


@operator("MelWeightMatrix", since=17)
class MelWeightMatrix(Room):
    """Triangles of height 1, evenly spread on the mel scale, over the bins of a spectrum. ONNX MelWeightMatrix-17.

    mel(f) = 2595·log10(1 + f/700). The result is [dft_length/2 + 1, num_mel_bins].
    """

    num_mel_bins = operand(INTEGER)
    dft_length = operand(INTEGER)
    sample_rate = operand(INTEGER)
    lower_edge_hertz = operand(FLOAT)
    upper_edge_hertz = operand(FLOAT)
    output_datatype: int = 1
    traits = _PARTIAL

    def infer(
        self, num_mel_bins: Fact, dft_length: Fact, sample_rate: Fact, lower_edge_hertz: Fact, upper_edge_hertz: Fact
    ) -> TensorType:
        bands, length = _length("num_mel_bins", num_mel_bins), _length("dft_length", dft_length)
        _length("sample_rate", sample_rate)
        expect_one_type(lower_edge_hertz=lower_edge_hertz, upper_edge_hertz=upper_edge_hertz)
        expect_number("lower_edge_hertz", lower_edge_hertz)
        expect_number("upper_edge_hertz", upper_edge_hertz)
        bins = unknown_dim() if length is None else floor_div(length, 2) + 1
        return TensorType(_result_type(self.output_datatype), (bins, unknown_dim() if bands is None else bands))

    def kernel(
        self,
        num_mel_bins: np.ndarray,
        dft_length: np.ndarray,
        sample_rate: np.ndarray,
        lower_edge_hertz: np.ndarray,
        upper_edge_hertz: np.ndarray,
    ) -> np.ndarray:
        bands, length, rate = (int(v.item()) for v in (num_mel_bins, dft_length, sample_rate))
        low, high = (float(2595 * np.log10(1 + float(f.item()) / 700)) for f in (lower_edge_hertz, upper_edge_hertz))
        if min(bands, length, rate) < 1 or not 0 <= low <= high:
            raise NoKernelError(f"{bands} bands of {length} elements at a rate of {rate} are not defined")
        mels = low + (high - low) / (bands + 2) * np.arange(bands + 2)
        bins = np.floor((length + 1) * 700 * (10 ** (mels / 2595) - 1) / rate)
        if bins[-1] > length // 2:
            raise NoKernelError(f"the upper edge of {upper_edge_hertz.item()} lies beyond {length} elements at {rate}")
        left, center, right = bins[:-2], bins[1:-1], bins[2:]
        at = np.arange(length // 2 + 1)[:, None]
        with np.errstate(all="ignore"):
            rising = np.where((at >= left) & (at <= center), (at - left) / (center - left), 0.0)
            falling = (right - at) / (right - center)
        made = np.where(left == center, at == center, rising)
        return convert(np.where((at >= center) & (at < right), falling, made), _result_type(self.output_datatype))
