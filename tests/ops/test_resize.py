"""Resize beside ONNX Runtime: modes, positions, sizes, and the definitions of older opsets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.errors import OpsetError
from graphopt.ir.constant import Constant
from graphopt.ir.dims import symbol
from graphopt.ir.types import f32, i64
from graphopt.onnx_format.opset import downgrade
from graphopt.ops.resize import Resize
from graphopt.ops.room import Fact, NoKernelError, Step
from ops.harness import check, check_old, compute, facts_of, inferred, normal, refuses, stays_opaque

COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
)
NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
extents = st.integers(1, 7)
factors = st.one_of(st.integers(1, 3), st.floats(0.3, 3.5)).map(np.float32)
spatial = st.tuples(extents, extents)


def floats(*values):
    return np.array(values, np.float32)


def image(*shape):
    """Numbers around 4.

    Interpolation of numbers around 0 may cancel to anything small, and `check` measures errors by the result.
    """
    return normal(*shape) + np.float32(4)


def by_scales(op, x, scales):
    """Checked beside ONNX Runtime, unless nothing is left or its copy departs from the definition."""
    shape = [int(np.float32(s) * np.float32(n)) for s, n in zip(scales, x.shape, strict=True)]
    if shape != list(x.shape) or all(s == 1 for s in scales):
        check(op, [x, None, floats(*scales)], opset=19, constants=[2])


@settings(deadline=None)
@given(spatial, factors, factors, st.sampled_from(COORDINATES), st.sampled_from(NEAREST))
def test_nearest(shape, h, w, coordinates, nearest):
    op = Resize(coordinate_transformation_mode=coordinates, nearest_mode=nearest)
    by_scales(op, normal(2, 3, *shape), [1, 1, h, w])


@pytest.mark.parametrize(("mode", "place"), [("round_prefer_ceil", 15), ("round_prefer_floor", 14)])
def test_halves_are_halves_in_spite_of_rounding(mode, place):
    """4.5 · 20/6 - 0.5 is 14.5, and 14.499999 in float32. ONNX Runtime before 1.31 may round it down."""
    x = image(1, 1, 1, 20)
    made = check(Resize(nearest_mode=mode), [x, None, None, np.array([1, 1, 1, 6])], opset=19, constants=[3])
    assert made[0].ravel()[4] == x.ravel()[place]


@settings(deadline=None)
@given(spatial, factors, factors, st.sampled_from(COORDINATES), st.sampled_from(["linear", "cubic"]))
def test_interpolation(shape, h, w, coordinates, mode):
    by_scales(Resize(mode=mode, coordinate_transformation_mode=coordinates), image(2, 3, *shape), [1, 1, h, w])


@settings(deadline=None)
@given(spatial, factors, factors, st.sampled_from([-0.75, -0.5]), st.booleans())
def test_cubic(shape, h, w, a, exclude):
    by_scales(Resize(mode="cubic", cubic_coeff_a=a, exclude_outside=int(exclude)), image(1, 2, *shape), [1, 1, h, w])


@settings(deadline=None)
@given(st.lists(extents, min_size=3, max_size=3), st.lists(factors, min_size=3, max_size=3))
def test_three_axes(shape, scales):
    by_scales(Resize(mode="linear"), image(1, 2, *shape), [1, 1, *scales])
    by_scales(Resize(), normal(*shape), scales)


@settings(deadline=None)
@given(spatial, spatial, st.sampled_from(COORDINATES), st.sampled_from(["nearest", "linear", "cubic"]), st.booleans())
def test_sizes(shape, sizes, coordinates, mode, constant):
    op = Resize(mode=mode, coordinate_transformation_mode=coordinates)
    check(op, [image(1, 2, *shape), None, None, np.array([1, 2, *sizes])], opset=19, constants=[3] if constant else [])


@settings(deadline=None)
@given(spatial, spatial, st.sampled_from(["not_larger", "not_smaller"]))
def test_proportions(shape, sizes, policy):
    op = Resize(axes=(2, 3), keep_aspect_ratio_policy=policy)
    x, wanted = normal(1, 2, *shape), np.array(sizes)
    made = inferred(op, *facts_of([x, None, None, wanted]))
    if 0 in made[0].shape or made[0].shape == x.shape:
        return
    check(op, [x, None, None, wanted], opset=19, constants=[3])


@settings(deadline=None)
@given(spatial, spatial, st.lists(st.floats(-0.5, 1.5), min_size=4, max_size=4), st.sampled_from(["nearest", "linear"]))
def test_crops(shape, sizes, roi, mode):
    if any(a == b for a, b in zip(shape, sizes, strict=True)):
        return
    op = Resize(mode=mode, coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=7.5)
    part = floats(0, 0, *roi[:2], 1, 1, *roi[2:])
    check(op, [image(1, 2, *shape), part, None, np.array([1, 2, *sizes])], opset=19, constants=[1, 3])


def test_crop_of_named_axes():
    op = Resize(
        mode="cubic", coordinate_transformation_mode="tf_crop_and_resize", axes=(3, 2), extrapolation_value=-1.0
    )
    roi = floats(0.1, -0.2, 0.9, 1.1)
    made = check(op, [image(1, 2, 5, 6), roi, None, np.array([9, 7])], opset=19, constants=[1, 3])
    assert made[0].shape == (1, 2, 7, 9)
    assert (made[0] == -1).any()


def test_axes_may_be_negative_and_out_of_order():
    made = check(Resize(axes=(-1, 2)), [normal(1, 2, 3, 4), None, floats(2, 3)], opset=19, constants=[2])
    assert made[0].shape == (1, 2, 9, 8)


def test_integers_are_copied_not_interpolated():
    x = np.arange(12, dtype=np.int32).reshape(1, 1, 3, 4)
    check(Resize(), [x, None, floats(1, 1, 2, 2)], opset=19, constants=[2])
    with pytest.raises(NoKernelError, match="int32"):
        compute(Resize(mode="linear"), [x, None, floats(1, 1, 2, 2)])


def test_what_runtimes_do_otherwise_than_onnx_says_is_not_computed():
    x = normal(1, 1, 5, 5)
    with pytest.raises(NoKernelError, match="same shape"):
        compute(Resize(), [x, None, floats(1, 1, 1.1, 1)])
    crop = Resize(coordinate_transformation_mode="tf_crop_and_resize")
    with pytest.raises(NoKernelError, match="crops axis 2"):
        compute(crop, [x, floats(0, 0, 0.5, 0, 1, 1, 1, 1), floats(1, 1, 1, 2)])
    with pytest.raises(NoKernelError, match="antialias"):
        compute(Resize(mode="linear", antialias=1), [x, None, floats(1, 1, 0.5, 0.5)])


def test_extents_are_computed_in_single_precision():
    """0.7 in float32 times 10 is 7 in float32, and a little less in float64; the oracle must see 7 too."""
    wide = compute(Resize(), [normal(1, 1, 1, 10), None, floats(1, 1, 1, 0.7)], np.float64)
    assert wide[0].shape == (1, 1, 1, 7)


def test_symbolic_extents():
    h, w = symbol("H"), symbol("W")
    x = Fact(f32["N", 3, "H", "W"])

    def scaled(*scales):
        return inferred(Resize(), x, None, Fact(f32[4], Constant.of(floats(*scales))))[0].shape

    assert scaled(1, 1, 2, 0.5) == (symbol("N"), 3, 2 * h, w // 2)
    assert scaled(1, 1, 1.5, 1) == (symbol("N"), 3, (3 * h) // 2, w)
    assert str(scaled(1, 1, 0.7, 1)[2]).startswith("?")
    sizes = Fact(i64[4], None, np.array([symbol("N"), 3, 2 * h, 7], object))
    assert inferred(Resize(), x, None, None, sizes)[0].shape == (symbol("N"), 3, 2 * h, 7)
    unknown = inferred(Resize(axes=(2, 3)), x, None, None, Fact(i64[2]))[0].shape
    assert unknown[:2] == (symbol("N"), 3)
    assert unknown[2] != unknown[3]


def test_forwards_only_what_is_proven_to_keep_its_shape():
    x = Fact(f32["N", 3, "H", "W"])
    ones, twos = Fact(f32[4], Constant.of(floats(1, 1, 1, 1))), Fact(f32[4], Constant.of(floats(1, 1, 2, 1)))
    same = Fact(i64[4], None, np.array([symbol("N"), 3, symbol("H"), symbol("W")], object))
    other = Fact(i64[4], None, np.array([symbol("N"), 3, symbol("W"), symbol("H")], object))
    for mode in ("nearest", "linear", "cubic"):
        assert Resize(mode=mode).forwards(x, None, ones) == 0
        assert Resize(mode=mode).forwards(x, None, None, same) == 0
        assert Resize(mode=mode).forwards(x, None, None, other) is None
        assert Resize(mode=mode).forwards(x, None, twos) is None
    assert Resize().forwards(x, None, Fact(f32[4])) is None
    assert Resize(coordinate_transformation_mode="tf_crop_and_resize").forwards(x, None, ones) is None
    assert Resize(coordinate_transformation_mode="tf_half_pixel_for_nn").forwards(x, None, ones) is None
    still = Fact(f32[1, 1, 5, 5])
    nearly = Fact(f32[4], Constant.of(floats(1, 1, 1.1, 1)))
    assert Resize().forwards(still, None, nearly) is None


def test_refusals():
    x, twos = normal(1, 2, 3, 4), floats(1, 1, 2, 2)
    refuses(Resize(), [x], "neither scales nor sizes")
    refuses(Resize(), [x, None, twos, np.array([1, 2, 3, 4])], "both scales and sizes")
    refuses(Resize(), [x, None, floats(2, 2)], "2 scales are given for 4 axes")
    refuses(Resize(axes=(2,)), [x, None, None, np.array([2, 2])], "2 sizes are given for 1 axes")
    refuses(Resize(), [x, None, floats(1, 1, 0, 2)], "not all positive")
    refuses(Resize(mode="area"), [x, None, twos], "mode is 'area', and it is one of nearest, linear, cubic")
    refuses(Resize(axes=(4,)), [x, None, floats(2)], r"axes \[4\] are not all axes of a tensor of rank 4")


OLD = (
    ({"mode": "nearest"}, (1, 1, 2, 3)),
    ({"mode": "nearest"}, (1, 1, 1.7, 2.5)),
    ({"mode": "nearest"}, (1, 1, 0.6, 0.4)),
    ({"mode": "linear"}, (1, 1, 1.5, 0.7)),
)


@pytest.mark.parametrize(("attributes", "scales"), OLD)
def test_opset_10(attributes, scales):
    op = check_old("Resize", [image(1, 2, 5, 7), floats(*scales)], attributes, 10, constants=[1])
    assert op.coordinate_transformation_mode == "asymmetric"


def test_opset_10_without_a_counterpart_stays_opaque():
    x = normal(1, 2, 5, 7)
    assert stays_opaque("Resize", [x, floats(1, 1, 2, 2)], {"mode": "nearest"}, 10)  # the scales are computed
    assert not stays_opaque("Resize", [x, floats(1, 1, 2, 2)], {"mode": "linear"}, 10)


@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_opsets_11_to_18(opset, mode):
    x, none = image(1, 2, 5, 7), np.zeros(0, np.float32)
    attributes = {"mode": mode, "coordinate_transformation_mode": "align_corners"}
    check_old("Resize", [x, none, floats(1, 1, 2, 0.7)], attributes, opset, constants=[1, 2])
    check_old("Resize", [x, none, none, np.array([1, 2, 8, 3])], attributes, opset, constants=[1, 2, 3])
    if opset >= 13:
        check_old("Resize", [x, None, floats(1, 1, 2, 0.7)], attributes, opset, constants=[2])


def lowered(op, arrays, opset):
    names = tuple("" if a is None else f"x{i}" for i, a in enumerate(arrays))
    return downgrade(op, Step(op.attributes, names, ("r",), facts_of(arrays)), opset)


def test_left_out_operands_are_empty_before_opset_13():
    step = lowered(Resize(), [normal(1, 2, 5, 7), None, None, np.array([1, 2, 8, 3])], 11)
    assert [o if isinstance(o, str) else o.shape for o in step.operands] == ["x0", (0,), (0,), "x3"]
    step = lowered(Resize(), [normal(1, 2, 5, 7), None, floats(1, 1, 2, 2)], 12)
    assert [o if isinstance(o, str) else o.shape for o in step.operands] == ["x0", (0,), "x2"]


@pytest.mark.parametrize(
    ("op", "scales", "opset", "reason"),
    [
        (Resize(axes=(2, 3)), (2, 2), 17, "axes"),
        (Resize(mode="linear", antialias=1), (1, 1, 0.5, 0.5), 17, "antialias"),
        (Resize(coordinate_transformation_mode="half_pixel_symmetric"), (1, 1, 2, 2), 18, "half_pixel_symmetric"),
        (Resize(), (1, 1, 2, 2), 10, "positions"),
        (Resize(coordinate_transformation_mode="asymmetric"), (1, 1, 2, 2), 10, "nearest_mode round_prefer_floor"),
        (Resize(coordinate_transformation_mode="asymmetric"), (1, 1, 2, 0.5), 10, "grows one axis"),
        (Resize(mode="cubic", coordinate_transformation_mode="asymmetric"), (1, 1, 2, 2), 10, "cubics"),
        (Resize(), (1, 1, 2, 2), 9, "positions"),
    ],
)
def test_what_older_opsets_lack(op, scales, opset, reason):
    with pytest.raises(OpsetError, match=reason):
        lowered(op, [normal(1, 2, 6, 6), None, floats(*scales)], opset)
