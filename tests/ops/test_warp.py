"""GridSample, AffineGrid and DeformConv beside ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx.reference
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.errors import OpsetError
from graphopt.ir.attributes import Attribute, Kind
from graphopt.ir.constant import Constant
from graphopt.ir.dims import symbol
from graphopt.ir.types import TensorType, f32, i64
from graphopt.onnx_format.opset import downgrade
from graphopt.ops.conv import Conv
from graphopt.ops.room import Fact, NoKernelError, Step
from graphopt.ops.warp import AffineGrid, DeformConv, GridSample
from ops.cases import floats, ints
from ops.harness import check, check_old, compute, facts_of, inferred, model, normal, refuses, stays_opaque

PADDINGS = st.sampled_from(["zeros", "border", "reflection"])
N, C, H, W = map(symbol, "NCHW")


def held(array):
    made = Constant.of(np.asarray(array))
    return Fact(made.type, made)


# ---- GridSample


@st.composite
def grids(draw, axes):
    """Positions on a grid of sixteenths: some on elements, between them, on borders, and far outside."""
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    batch, spatial = draw(st.integers(0, 2)), draw(st.lists(st.integers(1, 4), min_size=axes, max_size=axes))
    out = draw(st.lists(st.integers(1, 3), min_size=axes, max_size=axes))
    return normal(batch, 2, *spatial), floats(rng.integers(-40, 41, (batch, *out, axes)) / 16)


@settings(deadline=None)
@given(grids(2), st.sampled_from(["linear", "nearest", "cubic"]), PADDINGS, st.integers(0, 1))
def test_grid_sample(arrays, mode, padding, align):
    op = GridSample(align_corners=align, mode=mode, padding_mode=padding)
    check(op, arrays, scale=np.full((len(arrays[1]), 2, *arrays[1].shape[1:-1]), 16.0))


@settings(deadline=None)
@given(grids(3), st.sampled_from(["linear", "nearest"]), PADDINGS, st.integers(0, 1))
def test_grid_sample_of_volumes(arrays, mode, padding, align):
    op = GridSample(align_corners=align, mode=mode, padding_mode=padding)
    check(op, arrays, scale=np.full((len(arrays[1]), 2, *arrays[1].shape[1:-1]), 16.0))


def reference(op, arrays):
    inputs = dict(zip((slot.name for slot in op.slots), arrays, strict=False))
    proto = model(op.name, inputs, op.attributes)
    return onnx.reference.ReferenceEvaluator(proto).run(None, inputs)[0]


@settings(deadline=None, max_examples=20)
@given(st.sampled_from([(1, "linear"), (1, "nearest"), (1, "cubic"), (3, "cubic")]), PADDINGS, st.integers(0, 1))
def test_grid_sample_of_what_onnx_runtime_lacks(case, padding, align):
    """Beside onnx's reference: one axis, and cubics of three. It moves positions inside before their neighbours."""
    axes, mode = case
    padding = "zeros" if mode == "cubic" and padding == "border" else padding
    op = GridSample(align_corners=align, mode=mode, padding_mode=padding)
    grid = floats(np.random.default_rng(axes).integers(-30, 31, (2, *[3] * axes, axes)) / 16)
    arrays = [normal(2, 2, *[3, 4, 2][:axes]), grid]
    np.testing.assert_allclose(compute(op, arrays)[0], reference(op, arrays), rtol=1e-4, atol=1e-4)
    assert inferred(op, *facts_of(arrays))[0].shape == (2, 2, *[3] * axes)


@settings(deadline=None)
@given(grids(2), st.sampled_from(["bilinear", "nearest", "bicubic"]), PADDINGS, st.integers(0, 1))
def test_grid_sample_of_opset_16(arrays, mode, padding, align):
    scale = np.full((len(arrays[1]), 2, *arrays[1].shape[1:-1]), 16.0)
    for opset in (16, 19):
        attributes = {"mode": mode, "padding_mode": padding, "align_corners": align}
        op = check_old("GridSample", arrays, attributes, opset, scale=scale)
        assert op.mode == mode.removeprefix("bi")


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_grid_sample_of_other_types(dtype):
    arrays = [normal(1, 2, 4, 5).astype(dtype), floats(np.linspace(-1.2, 1.2, 24).reshape(1, 3, 4, 2)).astype(dtype)]
    check(GridSample(), arrays, scale=np.full((1, 2, 3, 4), 16.0))


def test_grid_sample_far_outside_and_of_no_number():
    x = normal(1, 1, 3, 3)
    grid = floats([[[[1e30, 0], [np.nan, 0], [0, -np.inf], [0, 0]]]])
    for mode in ("linear", "nearest", "cubic"):
        made = compute(GridSample(mode=mode), [x, grid])[0]
        assert made[0, 0, 0, [0, 2]].tolist() == [0, 0]
        assert made[0, 0, 0, 3] == x[0, 0, 1, 1]


def test_grid_sample_computes_floats_only():
    grid = floats(np.zeros((1, 1, 1, 2)))
    with pytest.raises(NoKernelError, match="GridSample of int32 is not computed"):
        compute(GridSample(), [np.zeros((1, 1, 2, 2), np.int32), grid])
    with pytest.raises(NoKernelError, match="nothing to sample"):
        compute(GridSample(), [normal(1, 1, 0, 2), grid])


def test_types_of_grid_sample():
    x, grid, unknown = Fact(f32["N", "C", "H", "W"]), Fact(f32["M", "h", "w", 2]), Fact(TensorType(f32, None))
    assert inferred(GridSample(), x, grid)[0] == f32["N", "C", "h", "w"]
    assert inferred(GridSample(), x, Fact(f32[3, "h", "w", 2]))[0] == f32[3, "C", "h", "w"]
    assert inferred(GridSample(), x, unknown)[0].shape[:2] == (N, C)
    assert inferred(GridSample(), unknown, grid)[0].shape[2:] == (symbol("h"), symbol("w"))
    assert inferred(GridSample(), unknown, unknown)[0] == TensorType(f32, None)
    assert GridSample().macs((x, grid), (f32[2, 3, 4, 5],)) == 120 * 4
    assert GridSample(mode="cubic").macs((x, grid), (f32["N", 3, 4, 5],)) == N * 60 * 16


def test_refusals_of_grid_sample():
    x, grid = normal(1, 2, 4, 4), normal(1, 3, 3, 2)
    refuses(GridSample(), [x, normal(1, 3, 3, 3)], r"grid is f32\[1, 3, 3, 3\], and its shape must be \[1, \?, \?, 2\]")
    refuses(GridSample(), [x, normal(2, 3, 3, 2)], r"must be \[1, \?, \?, 2\]")
    refuses(GridSample(), [x, normal(1, 3, 2)], r"must be \[1, \?, \?, 2\]")
    refuses(GridSample(), [normal(1, 2), normal(1, 2)], "both have 3 axes or more")
    refuses(GridSample(mode="bilinear"), [x, grid], "mode is 'bilinear', and it is one of linear, nearest, cubic")
    refuses(GridSample(padding_mode="edge"), [x, grid], "padding_mode is 'edge'")


def test_grid_sample_below_opset_20():
    step = Step({}, ("x", "g"), ("y",), (Fact(f32[1, 2, 3, 4, 5]), Fact(f32[1, 2, 2, 2, 3])))
    with pytest.raises(OpsetError, match="GridSample of a tensor of 5 axes needs opset 20"):
        downgrade(GridSample(), step, 19)
    flat = Step({"mode": Attribute(Kind.STRING, "cubic")}, ("x", "g"), ("y",), (Fact(f32[1, 2, 3, 4]), None))
    assert downgrade(GridSample(mode="cubic"), flat, 16).attributes["mode"].value == "bicubic"
    assert stays_opaque("GridSample", [normal(1, 2, 3, 3), normal(1, 2, 2, 2)], {"mode": "linear"}, 16)


# ---- AffineGrid


@settings(deadline=None)
@given(st.lists(st.integers(2, 4), min_size=2, max_size=3), st.integers(0, 1), st.integers(1, 2), st.booleans())
def test_affine_grid(spatial, align, batch, constant):
    theta = normal(batch, len(spatial), len(spatial) + 1)
    arrays = [theta, ints([batch, 3, *spatial])]
    check(
        AffineGrid(align_corners=align),
        arrays,
        constants=[1] if constant else [],
        scale=np.full((batch, *spatial, len(spatial)), 4.0),
    )


def test_affine_grid_of_one_element():
    arrays = [normal(1, 2, 3), ints([1, 1, 1, 3])]
    check(AffineGrid(), arrays)
    with pytest.raises(NoKernelError, match="differs between runtimes"):
        compute(AffineGrid(align_corners=1), arrays)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_affine_grid_of_other_types(dtype):
    check(AffineGrid(), [normal(2, 3, 4).astype(dtype), ints([2, 1, 2, 3, 4])], scale=np.full((2, 2, 3, 4, 3), 4.0))


def test_types_of_affine_grid():
    theta = Fact(f32["N", 2, 3])
    known = np.empty(4, object)
    known[:] = [N, C, H, 5]
    assert inferred(AffineGrid(), theta, Fact(i64[4], known=known))[0] == f32["N", "H", 5, 2]
    assert inferred(AffineGrid(), theta, held([1, 2, 3, 4]))[0] == f32[1, 3, 4, 2]
    first, *_, last = inferred(AffineGrid(), theta, Fact(i64["K"]))[0].shape
    assert (first, last) == (N, 2)
    assert inferred(AffineGrid(), Fact(TensorType(f32, None)), Fact(i64["K"]))[0] == TensorType(f32, None)
    assert len(inferred(AffineGrid(), Fact(TensorType(f32, None)), Fact(i64[5]))[0].shape) == 5
    assert AffineGrid().macs((theta, None), (f32[2, 3, 4, 2],)) == 96


def test_refusals_of_affine_grid():
    refuses(AffineGrid(), [normal(1, 2, 3), ints([1, 2, 3])], "a grid has 2 or 3 axes, not 1")
    refuses(AffineGrid(), [normal(1, 3, 4), ints([1, 2, 3, 4])], r"theta is f32\[1, 3, 4\], and its shape must be")
    refuses(AffineGrid(), [normal(2, 2, 3), ints([1, 2, 3, 4])], r"must be \[1, 2, 3\]")
    refuses(
        AffineGrid(), [normal(1, 2, 3), ints([1, 2, 0, 4])], r"size is \[1, 2, 0, 4\], and all of it must be positive"
    )


# ---- DeformConv


@st.composite
def deformed(draw, axes=2):
    """Attributes, and x, w, offset, b, mask."""
    group, each = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    inputs, outputs = group * each * draw(st.integers(1, 2)), group * draw(st.integers(1, 2))
    kernel, strides, dilations = (
        tuple(draw(st.lists(st.integers(1, 2 + (i == 0)), min_size=axes, max_size=axes))) for i in range(3)
    )
    pads = tuple(draw(st.lists(st.integers(0, 2), min_size=2 * axes, max_size=2 * axes)))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    both = [pads[i] + pads[i + axes] for i in range(axes)]
    spatial = [max(r - p, 1) + draw(st.integers(0, 3)) for r, p in zip(reach, both, strict=True)]
    out = [(n + p - r) // s + 1 for n, p, r, s in zip(spatial, both, reach, strides, strict=True)]
    batch, taps = draw(st.integers(1, 2)), int(np.prod(kernel))
    arrays = [
        normal(batch, inputs, *spatial),
        normal(outputs, inputs // group, *kernel),
        normal(batch, each * taps * axes, *out, seed=1) * np.float32(draw(st.sampled_from([0.0, 0.5, 3.0]))),
        normal(outputs, seed=2) if draw(st.booleans()) else None,
        normal(batch, each * taps, *out, seed=3) if draw(st.booleans()) else None,
    ]
    attributes = {"strides": strides, "dilations": dilations, "pads": pads, "group": group, "offset_group": each}
    return attributes, arrays


def sums(arrays, out):
    """A bound of what one element sums in absolute values."""
    return np.full(out, 16.0 * arrays[1][0].size)


@settings(deadline=None)
@given(deformed(), st.sampled_from([19, 21, 22, 26]))
def test_deform_conv(case, opset):
    attributes, arrays = case
    out = (len(arrays[0]), len(arrays[1]), *arrays[2].shape[2:])
    check(DeformConv(**attributes), arrays, opset=opset, constants=(1, 3), scale=sums(arrays, out))
    check_old("DeformConv", arrays, attributes, opset, constants=(1,), scale=sums(arrays, out))


@settings(deadline=None, max_examples=30)
@given(deformed(axes=3) | deformed(axes=1))
def test_deform_conv_of_other_axes(case):
    """ONNX Runtime and onnx's reference compute images only. Without offsets it is a convolution."""
    attributes, (x, w, offset, b, mask) = case
    plain = {k: v for k, v in attributes.items() if k != "offset_group"}
    arrays = [x, w, offset * 0, b]
    wanted = compute(Conv(**plain), [x, w, b], np.float64)[0]
    np.testing.assert_allclose(compute(DeformConv(**attributes), arrays, np.float64)[0], wanted, atol=1e-9)
    masked = compute(
        DeformConv(**attributes), [x, w, offset * 0, b, np.ones_like(offset[:, : len(offset[0]) // (x.ndim - 2)])]
    )
    np.testing.assert_allclose(masked[0], wanted, atol=1e-4)
    assert inferred(DeformConv(**attributes), *facts_of([*arrays, mask]))[0].shape == wanted.shape


def test_deform_conv_moves_by_the_outermost_axis_first():
    x = np.arange(60, dtype=np.float64).reshape(1, 1, 3, 4, 5)
    offset = np.broadcast_to(np.array([1.0, 0, 0.5]).reshape(1, 3, 1, 1, 1), (1, 3, 3, 4, 5))
    made = compute(DeformConv(), [x, np.ones((1, 1, 1, 1, 1)), offset])[0]
    assert made[0, 0, 0, 0, 0] == 20.5
    assert made[0, 0, 1, 2, 4] == x[0, 0, 2, 2, 4] / 2  # half of it lies outside
    assert not made[0, 0, 2].any()


def test_deform_conv_in_half_precision():
    arrays = [normal(1, 8, 5, 5), normal(4, 8, 3, 3), normal(1, 18, 3, 3, seed=1)]
    check(DeformConv(), [a.astype(np.float16) for a in arrays], scale=np.full((1, 4, 3, 3), 8.0), ulps=1)


def test_types_of_deform_conv():
    x, w = Fact(f32["N", 4, "H", "W"]), Fact(f32[6, 4, 3, 3])
    offset, unknown = Fact(f32["N", 18, "h", "w"]), Fact(TensorType(f32, None))
    op = DeformConv(pads=(1, 1, 1, 1))
    assert inferred(op, x, w, offset)[0] == f32["N", 6, "H", "W"]
    assert inferred(op, x, w, unknown)[0] == f32["N", 6, "H", "W"]
    assert inferred(op, unknown, w, offset)[0] == f32["N", 6, "h", "w"]
    assert inferred(op, unknown, unknown, unknown)[0] == TensorType(f32, None)
    facts = (Fact(f32[2, 4, 5, 5]), w, None)
    assert op.macs(facts, (f32[2, 6, 5, 5],)) == 2 * 6 * 25 * 36 + 2 * 4 * 9 * 25 * 4


def test_refusals_of_deform_conv():
    x, w, offset = normal(1, 4, 5, 5), normal(6, 4, 3, 3), normal(1, 18, 3, 3)
    refuses(DeformConv(), [x, normal(6, 3, 3, 3), offset], r"x is f32\[1, 4, 5, 5\], and its shape must be \[\?, 3, ")
    refuses(DeformConv(), [x, w, normal(1, 17, 3, 3)], r"offset is .* must be \[1, 18, 3, 3\]")
    refuses(DeformConv(), [x, w, normal(1, 18, 4, 3)], r"must be \[1, 18, 3, 3\]")
    refuses(DeformConv(), [x, w, offset, normal(5)], r"b is f32\[5\], and its shape must be \[6\]")
    refuses(DeformConv(), [x, w, offset, None, normal(1, 18, 3, 3)], r"mask is .* must be \[1, 9, 3, 3\]")
    refuses(DeformConv(offset_group=3), [x, w, offset], "4 channels do not divide into 3 groups")
    refuses(DeformConv(group=0), [x, w, offset], "at least one of each")
    refuses(DeformConv(kernel_shape=(3, 2)), [x, w, offset], r"w is .* must be \[\?, \?, 3, 2\]")
    refuses(DeformConv(kernel_shape=(3,)), [x, w, offset], r"w is .* must be \[\?, \?, 3\]")
    refuses(DeformConv(), [normal(1, 4), normal(4, 4), normal(1, 2)], "both have 3 axes or more")
    refuses(DeformConv(), [x, w, offset.astype(np.float64)], "one element type")
