"""DFT, STFT, windows and the mel scale beside ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.errors import OpsetError
from graphopt.ir.attributes import Attribute, Kind
from graphopt.ir.dims import symbol
from graphopt.ir.types import TensorType, bf16, f16, f32, f64, i64, u8
from graphopt.onnx_format.opset import downgrade
from graphopt.ops.room import Fact, NoKernelError, Step
from graphopt.ops.spectral import DFT, STFT, BlackmanWindow, HammingWindow, HannWindow, MelWeightMatrix
from ops.cases import floats
from ops.harness import check, check_old, compute, inferred, normal, refuses, run_ort, run_reference

N, L = symbol("N"), symbol("L")
SUM = 64.0  # of the absolute values that one element sums, at most
WINDOWS = (HannWindow, HammingWindow, BlackmanWindow)
lengths = st.none() | st.integers(1, 9)


def number(value, dtype=np.int64):
    return np.array(value, dtype)


def dim(value):
    return Fact(TensorType(i64, ()), known=np.asarray(value, object))


# ---- DFT


@st.composite
def transforms(draw):
    """Attributes, signal, length, and axis, from the front or the back, or the default."""
    inverse, onesided = draw(st.integers(0, 1)), draw(st.integers(0, 1))
    shape = draw(st.lists(st.integers(2, 6), min_size=1, max_size=3))
    parts = 2 if inverse and onesided else draw(st.integers(1, 2))
    axis = draw(st.none() | st.integers(0, len(shape) - 1))
    axis = axis if axis is None or draw(st.booleans()) else axis - len(shape) - 1
    length = draw(lengths)
    length = None if length is None else number(length, draw(st.sampled_from([np.int32, np.int64])))
    return {"inverse": inverse, "onesided": onesided}, [normal(*shape, parts), length, axis]


def judge(attributes, arrays, axis):
    """ONNX Runtime; but where one side has not the elements that the length needs its inverse is wrong: it neither
    cuts nor pads them. Then onnx's reference."""
    x, length = arrays[:2]
    if not (attributes["inverse"] and attributes["onesided"]) or length is None:
        return run_ort
    return run_ort if length // 2 + 1 == x.shape[-2 if axis is None else axis] else run_reference


@settings(deadline=None)
@given(transforms(), st.booleans(), st.sampled_from([np.float32, np.float64]))
def test_dft(case, constant, dtype):
    """In float64 ONNX Runtime's angles are exact to 1e-9 or so only."""
    attributes, (x, length, axis) = case
    arrays = [x.astype(dtype), length, None if axis is None else number(axis)]
    held = [i for i in (1, 2) if arrays[i] is not None] if constant else []
    ulps, scale = 64 if dtype == np.float32 else 2.0**30, np.full(compute(DFT(**attributes), arrays)[0].shape, SUM)
    run = judge(attributes, arrays, axis)
    told = x.shape[-1] == 1 or not attributes["onesided"] or attributes["inverse"]  # onnx refuses what runtimes take
    check(DFT(**attributes), arrays, constants=held, scale=scale, ulps=ulps, run=run, shape_inference=bool(told))


@settings(deadline=None)
@given(transforms(), st.sampled_from([17, 19, 20, 26]))
def test_dft_of_old_opsets(case, opset):
    attributes, (x, length, axis) = case
    arrays = [x, length] if opset < 20 else [x, length, None if axis is None else number(axis)]
    if opset < 20 and axis is None:
        axis = 1 if x.ndim > 2 else 0  # the default, 1, is no axis of a short signal
    if opset < 20:
        attributes |= {} if axis == 1 else {"axis": axis}
    run = judge(attributes, arrays, axis)
    arrays = arrays[: max(i + 1 for i, a in enumerate(arrays) if a is not None)]
    held = [i for i in range(1, len(arrays)) if arrays[i] is not None]
    full = [x, length, None if axis is None else number(axis)]
    made = compute(DFT(inverse=attributes["inverse"], onesided=attributes["onesided"]), full)[0]
    check_old("DFT", arrays, attributes, opset, constants=held, scale=np.full(made.shape, SUM), run=run)


def test_dft_in_half_precision():
    made = check(DFT(), [normal(2, 5, 1).astype(np.float16)], scale=np.full((2, 5, 2), 4.0), ulps=2)
    assert made[0].dtype == np.float16


def test_dft_and_back():
    x = normal(2, 7, 3, 2).astype(np.float64)
    arrays = [x, None, number(1)]
    np.testing.assert_allclose(compute(DFT(inverse=1), [compute(DFT(), arrays)[0], *arrays[1:]])[0], x, atol=1e-12)
    real = normal(2, 8, 1).astype(np.float64)
    half = compute(DFT(onesided=1), [real])[0]
    np.testing.assert_allclose(compute(DFT(onesided=1, inverse=1), [half])[0], real, atol=1e-12)


def test_types_of_dft():
    x = Fact(f32["N", "L", 1])
    assert inferred(DFT(), x)[0] == f32["N", "L", 2]
    assert inferred(DFT(onesided=1), x, dim(256))[0] == f32["N", 129, 2]
    assert inferred(DFT(onesided=1), x)[0].shape == (N, L // 2 + 1, 2)
    assert inferred(DFT(onesided=1, inverse=1), Fact(f32["N", "L", 2]))[0].shape == (N, 2 * L - 2, 1)
    assert inferred(DFT(), x, dim(L * 2), dim(0))[0].shape == (2 * L, L, 2)
    first, second, last = inferred(DFT(), x, None, Fact(i64[()]))[0].shape
    assert (first, second) == (N, L)  # on whatever axis
    first, second, last = inferred(DFT(onesided=1), x, None, Fact(i64[()]))[0].shape
    assert N not in (first, second)
    assert last == 2
    assert inferred(DFT(), Fact(TensorType(f32, None)))[0] == TensorType(f32, None)
    assert DFT().macs((Fact(f32["N", 8, 2]),), (f32[2],)) == N * 2 * 8 * 3
    assert DFT().macs((x,), (f32[2],)) == 0


def test_refusals_of_dft():
    x = normal(2, 5, 1)
    refuses(DFT(), [x, number(0)], "dft_length is 0, and it must be positive")
    refuses(DFT(), [x, np.array([4, 4])], r"dft_length is i64\[2\], and it must be one number")
    refuses(DFT(), [normal(2, 5, 3)], r"the signal is f32\[2, 5, 3\]: its last axis holds one part or two")
    refuses(DFT(), [normal(2)], "its last axis holds one part or two")
    refuses(DFT(), [np.float32(1)], "its last axis holds one part or two")
    refuses(DFT(inverse=1, onesided=1), [x], "the inverse of one side takes complex numbers")
    refuses(DFT(inverse=1, onesided=1), [normal(2, 1, 2)], "there is nothing to transform on axis 1")
    for axis in (2, -1, -4):
        refuses(DFT(), [x, None, number(axis)], f"axis {axis} is not an axis of a signal of rank 3")
    with pytest.raises(NoKernelError, match="a transform of length 0"):
        compute(DFT(), [x, number(0)])


def test_dft_below_opset_20():
    step = Step({}, ("x", "", "a"), ("y",), (Fact(f32[2, 5, 1]), None, Fact(i64[()])))
    with pytest.raises(OpsetError, match="DFT with a computed axis needs opset 20"):
        downgrade(DFT(), step, 19)
    plain = Step({}, ("x",), ("y",), (Fact(f32[2, 3, 5, 1]),))
    assert downgrade(DFT(), plain, 19).attributes == {"axis": Attribute(Kind.INT, -2)}


# ---- STFT


@st.composite
def short_transforms(draw):
    total = draw(st.integers(4, 12))
    length = draw(st.integers(1, total))
    form = draw(st.sampled_from(["window", "length", "both"]))
    dtype = draw(st.sampled_from([np.int32, np.int64]))
    return {"onesided": draw(st.integers(0, 1))}, [
        normal(draw(st.integers(1, 2)), total, draw(st.integers(1, 2))),
        number(draw(st.integers(1, 4)), dtype),
        normal(length, seed=1) if form != "length" else None,
        number(length, dtype) if form != "window" else None,
    ]


@settings(deadline=None)
@given(short_transforms(), st.booleans())
def test_stft(case, constant):
    attributes, arrays = case
    held = [i for i in (1, 2, 3) if arrays[i] is not None] if constant else []
    made = compute(STFT(**attributes), arrays)[0]
    judged = attributes["onesided"] == 0  # onnx's inference takes another default
    check(STFT(**attributes), arrays, constants=held, scale=np.full(made.shape, SUM), shape_inference=judged)


def test_stft_of_the_whole_signal():
    """Neither window nor length: ONNX says one frame, and ONNX Runtime asks for a tensor of negative size."""
    arrays = [normal(2, 6, 1), number(2)]
    check(STFT(), arrays, run=run_reference, scale=np.full((2, 1, 4, 2), SUM))


def test_types_of_stft():
    signal = Fact(f32["N", "L", 1])
    assert inferred(STFT(), signal, dim(4), None, dim(16))[0].shape == (N, (L - 16) // 4 + 1, 9, 2)
    assert inferred(STFT(onesided=0), signal, dim(4), Fact(f32[16]))[0].shape == (N, (L - 16) // 4 + 1, 16, 2)
    assert inferred(STFT(), signal, Fact(i64[()]), Fact(f32["W"]))[0].shape[2] == symbol("W") // 2 + 1
    assert inferred(STFT(), Fact(TensorType(f32, None)), dim(4), Fact(f32[16]))[0].shape[2:] == (9, 2)
    assert STFT().macs((signal, dim(4), Fact(f32[16])), (f32[2, 10, 9, 2],)) == 20 * 2 * 16 * 4


def test_refusals_of_stft():
    signal, step = normal(1, 8, 1), number(2)
    refuses(STFT(), [signal, number(0), normal(4)], "frame_step is 0, and it must be positive")
    refuses(STFT(), [signal, step, normal(4), number(5)], r"window is f32\[4\], and its shape must be \[5\]")
    refuses(STFT(), [signal, step, normal(9)], r"a frame of 9 does not fit on f32\[1, 8, 1\]")
    refuses(STFT(), [normal(1, 8), step, normal(4)], r"signal is f32\[1, 8\]")
    refuses(STFT(), [normal(1, 8, 4), step, normal(4)], "one part or two")
    refuses(STFT(), [signal, step, np.ones(4)], "one element type")
    with pytest.raises(NoKernelError, match="frames of 9 every 2 on 8 elements"):
        compute(STFT(), [signal, step, normal(9)])


# ---- Windows


@pytest.mark.parametrize("room", WINDOWS)
@settings(deadline=None)
@given(st.integers(0, 12), st.integers(0, 1), st.sampled_from([1, 11]), st.sampled_from([17, 26]), st.booleans())
def test_windows(room, count, periodic, code, opset, constant):
    """Also in float64 ONNX Runtime's coefficients are those of single precision."""
    op = room(periodic=periodic, output_datatype=code)
    held = [0] if constant and count else []
    ulps, scale = 64 if code == 1 else 2.0**30, np.ones(count)
    assert check_old(op.name, [number(count)], op.attributes, opset, constants=held, scale=scale, ulps=ulps) == op


@pytest.mark.parametrize("room", WINDOWS)
@pytest.mark.parametrize(("code", "dtype"), [(10, f16), (16, bf16)])
def test_windows_of_narrow_floats(room, code, dtype):
    """ONNX Runtime has no kernel: it rounds what it makes in float32."""
    made = compute(room(output_datatype=code), [number(7, np.int32)])[0]
    wide = run_ort(room.name, {"size": number(7)}, {})[0]
    assert made.dtype == dtype.numpy
    np.testing.assert_allclose(made.astype(np.float32), wide, atol=1e-2 if code == 16 else 1e-3)
    assert inferred(room(output_datatype=code), dim(N))[0] == dtype["N"]


@pytest.mark.parametrize("room", WINDOWS)
def test_types_of_windows(room):
    assert inferred(room(), dim(N * 2))[0].shape == (2 * N,)
    assert inferred(room(output_datatype=2), Fact(i64[1]))[0].dtype == u8
    refuses(room(), [number(-1)], "size is -1, and it must be positive")
    refuses(room(), [np.array([1, 2])], "it must be one number")
    for code in (0, 8, 9, 14, 17, 99):
        refuses(room(output_datatype=code), [number(4)], f"output_datatype is {code}")
    with pytest.raises(NoKernelError, match="there is no window of -1 elements"):
        compute(room(), [number(-1)])
    with pytest.raises(NoKernelError, match="a matter of rounding"):
        compute(room(output_datatype=6), [number(4)])


# ---- Mel scale


@settings(deadline=None)
@given(
    st.integers(1, 8),
    st.integers(16, 65),
    st.sampled_from([0.0, 20.5, 301.25]),
    st.sampled_from([1000.5, 2500.25, 3700.75]),
    st.sampled_from([1, 11, 6]),
)
def test_mel_weight_matrix(bands, length, low, high, code):
    arrays = [number(bands), number(length), number(8000), floats(low), floats(high)]
    check_old("MelWeightMatrix", arrays, {"output_datatype": code}, 17, constants=range(5))
    check_old("MelWeightMatrix", arrays, {"output_datatype": code}, 26)


def test_types_of_mel_weight_matrix():
    rest = [Fact(i64[()]), Fact(f32[()]), Fact(f32[()])]
    assert inferred(MelWeightMatrix(), dim(N), dim(L), *rest)[0].shape == (L // 2 + 1, N)
    assert inferred(MelWeightMatrix(output_datatype=11), Fact(i64[()]), dim(16), *rest)[0].dtype == f64
    arrays = [number(0), number(16), number(8000), floats(0), floats(100)]
    refuses(MelWeightMatrix(), arrays, "num_mel_bins is 0, and it must be positive")
    refuses(MelWeightMatrix(), [number(2), np.array([1, 2]), *arrays[2:]], "dft_length is .* it must be one number")
    refuses(MelWeightMatrix(), [number(2), *arrays[1:4], np.array(1.0)], "one element type")
    with pytest.raises(NoKernelError, match=r"the upper edge of 9000\.0 lies beyond 16 elements at 8000"):
        compute(MelWeightMatrix(), [number(2), *arrays[1:4], floats(9000)])
    with pytest.raises(NoKernelError, match="are not defined"):
        compute(MelWeightMatrix(), arrays)
