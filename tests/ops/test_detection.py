"""NonMaxSuppression and RoiAlign beside ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.errors import OpsetError
from graphopt.ir.attributes import Attribute, Kind
from graphopt.ir.constant import Constant
from graphopt.ir.dims import symbol
from graphopt.ir.types import TensorType, f32, i64
from graphopt.onnx_format.opset import downgrade
from graphopt.ops.detection import NonMaxSuppression, RoiAlign
from graphopt.ops.room import Fact, NoKernelError, Step
from ops.cases import floats, ints
from ops.harness import check, check_old, compute, inferred, normal, refuses

quarters = st.integers(-16, 16).map(lambda n: n / 4)


def held(array):
    made = Constant.of(np.asarray(array))
    return Fact(made.type, made)


# ---- NonMaxSuppression


@st.composite
def boxes_and_scores(draw):
    """Coordinates on a coarse grid, so that boxes coincide, touch, and have no area; scores with ties."""
    batch, classes, count = draw(st.integers(0, 2)), draw(st.integers(1, 3)), draw(st.integers(0, 7))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    boxes = rng.integers(-4, 9, (batch, count, 4)) / 4
    return floats(boxes), floats(rng.integers(-4, 5, (batch, classes, count)) / 4)


@settings(deadline=None)
@given(
    boxes_and_scores(),
    st.integers(0, 1),
    st.none() | st.integers(-1, 8),
    st.none() | st.integers(0, 16).map(lambda n: n / 16),
    st.none() | quarters,
    st.booleans(),
)
def test_non_max_suppression(case, center, most, share, least, in_list):
    numbers = [None if v is None else np.array(v, t) for v, t in ((most, np.int64), (share, "f4"), (least, "f4"))]
    numbers = [n if n is None or not in_list else n.reshape(1) for n in numbers]
    check(NonMaxSuppression(center_point_box=center), [*case, *numbers], exact=True)
    check(NonMaxSuppression(center_point_box=center), [*case, *numbers], constants=(2, 3, 4), exact=True)


def test_a_box_equal_to_the_share_is_kept():
    boxes = floats([[[0, 0, 1, 2], [0, 1, 1, 2], [1, 2, 0, 0]]])  # the second is half of the first, the third is it
    arrays = [boxes, floats([[[3, 2, 1]]]), np.array(9), np.array(0.5, np.float32)]
    assert compute(NonMaxSuppression(), arrays)[0].tolist() == [[0, 0, 0], [0, 0, 1]]
    arrays[3] = np.array(0.49, np.float32)
    assert compute(NonMaxSuppression(), arrays)[0].tolist() == [[0, 0, 0]]
    check(NonMaxSuppression(), arrays, exact=True)


@settings(deadline=None, max_examples=20)
@given(boxes_and_scores(), st.sampled_from([10, 11, 26]))
def test_non_max_suppression_of_old_opsets(case, opset):
    more = [np.array(3), np.array(0.25, np.float32), np.array(0, np.float32)]
    check_old("NonMaxSuppression", [*case, *more], {"center_point_box": 1}, opset, constants=(2, 3, 4))


def test_types_of_non_max_suppression():
    boxes, scores = Fact(f32["N", "B", 4]), Fact(f32["N", 80, "B"])
    (kind,) = inferred(NonMaxSuppression(), boxes, scores, Fact(i64[()]))
    assert kind.dtype == i64
    assert kind.shape[1] == 3
    assert kind.shape[0] not in (0, symbol("N"))
    assert inferred(NonMaxSuppression(), boxes, scores)[0] == i64[0, 3]
    assert inferred(NonMaxSuppression(), boxes, scores, held(np.array(0)))[0] == i64[0, 3]
    unknown = Fact(TensorType(f32, None))
    assert inferred(NonMaxSuppression(), unknown, unknown, Fact(i64[1]))[0].shape[1] == 3


def test_refusals_of_non_max_suppression():
    op, boxes, scores = NonMaxSuppression(), normal(1, 5, 4), normal(1, 2, 5)
    refuses(op, [normal(1, 5, 3), scores], r"boxes is f32\[1, 5, 3\], and its shape must be \[\?, \?, 4\]")
    refuses(op, [boxes, normal(1, 2, 6)], r"scores is f32\[1, 2, 6\], and its shape must be \[1, \?, 5\]")
    refuses(op, [boxes, normal(2, 2, 5)], r"must be \[1, \?, 5\]")
    refuses(op, [boxes, normal(2, 5)], r"must be \[1, \?, 5\]")
    refuses(op, [boxes, scores, ints([1, 2])], r"max_output_boxes_per_class is i64\[2\], and it must be one number")
    refuses(op, [boxes, scores, None, floats(1.5)], "iou_threshold is 1.5, and it is from 0 to 1")
    refuses(op, [boxes, scores, None, np.array(0.5)], "they must have one element type")
    refuses(NonMaxSuppression(center_point_box=2), [boxes, scores], "center_point_box is 2")
    with pytest.raises(NoKernelError, match="iou_threshold is nan"):
        compute(op, [boxes, scores, ints(1), floats(np.nan)])


# ---- RoiAlign


@st.composite
def regions(draw):
    """No sample lies on a border, where a last bit decides whether it counts."""
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    count = draw(st.integers(0, 3))
    ratio = draw(st.integers(0, 3))
    starts = rng.integers(-20, 60, (count, 2)) / 8 + 1 / 1024
    sizes = rng.integers(0 if ratio == 0 else -8, 40, (count, 2)) / 8
    x = normal(2, 3, *draw(st.lists(st.integers(1, 6), min_size=2, max_size=2)))
    attributes = {
        "mode": draw(st.sampled_from(["avg", "max"])),
        "output_height": draw(st.integers(1, 3)),
        "output_width": draw(st.integers(1, 3)),
        "sampling_ratio": ratio,
        "spatial_scale": draw(st.sampled_from([1.0, 0.5, 0.25])),
    }
    rois = floats(np.concatenate([starts, starts + sizes], axis=1))
    return attributes, [x, rois, rng.integers(0, 2, count)]


modes = st.sampled_from(["half_pixel", "output_half_pixel"])


@settings(deadline=None)
@given(regions(), modes, st.sampled_from([16, 21]), st.sampled_from([np.float32, np.float64]))
def test_roi_align(case, mode, opset, dtype):
    """ONNX Runtime has no kernel for opset 22, whose definition differs in the element types only."""
    attributes, (x, rois, images) = case
    op = RoiAlign(coordinate_transformation_mode=mode, **attributes)
    check(
        op,
        [x.astype(dtype), rois.astype(dtype), images],
        opset=opset,
        scale=np.full((), 4.0) + np.zeros((len(rois), x.shape[1], op.output_height, op.output_width)),
    )


@settings(deadline=None)
@given(regions(), modes, st.sampled_from([10, 15, 16, 21]))
def test_roi_align_of_old_opsets(case, mode, opset):
    attributes, arrays = case
    more = {"coordinate_transformation_mode": mode} if opset >= 16 else {}
    scale = np.full((len(arrays[1]), 3, attributes["output_height"], attributes["output_width"]), 4.0)
    op = check_old("RoiAlign", arrays, {**attributes, **more}, opset, scale=scale)
    assert op.coordinate_transformation_mode == (mode if opset >= 16 else "output_half_pixel")


def test_roi_align_takes_elements_beside_an_infinity():
    x = np.zeros((1, 1, 4, 4), np.float32)
    x[0, 0, 3, 3] = np.inf
    x[0, 0, 0, 3] = np.nan
    arrays = [x, floats([[0, 0, 2, 2], [1, 1, 4, 4], [2, 0, 4, 1]]), ints([0, 0, 0])]
    check(RoiAlign(output_height=2, output_width=2, sampling_ratio=2), arrays, opset=16)


def test_types_of_roi_align():
    x, rois = Fact(f32["N", "C", "H", "W"]), Fact(f32["R", 4])
    op = RoiAlign(output_height=7, output_width=5)
    assert inferred(op, x, rois, Fact(i64["R"]))[0] == f32["R", "C", 7, 5]
    assert inferred(op, x, Fact(TensorType(f32, None)), Fact(i64[3]))[0] == f32[3, "C", 7, 5]
    unknown = inferred(op, Fact(TensorType(f32, None)), rois, Fact(TensorType(i64, None)))[0]
    assert (unknown.shape[0], unknown.shape[2:]) == (symbol("R"), (7, 5))
    assert RoiAlign(sampling_ratio=2).macs((x, rois, None), (f32[3, 8, 7, 7],)) == 3 * 8 * 49 * 16


def test_refusals_of_roi_align():
    x, rois, images = normal(1, 2, 4, 4), normal(3, 4), ints([0, 0, 0])
    refuses(RoiAlign(), [normal(2, 4, 4), rois, images], r"x is f32\[2, 4, 4\]")
    refuses(RoiAlign(), [x, normal(3, 5), images], r"rois is f32\[3, 5\], and its shape must be \[\?, 4\]")
    refuses(RoiAlign(), [x, rois, ints([0])], r"batch_indices is i64\[1\], and its shape must be \[3\]")
    refuses(RoiAlign(), [x, rois.astype(np.float16), images], "one element type")
    refuses(RoiAlign(mode="min"), [x, rois, images], "mode is 'min', and it is one of avg, max")
    refuses(RoiAlign(coordinate_transformation_mode="x"), [x, rois, images], "coordinate_transformation_mode is 'x'")
    refuses(RoiAlign(output_height=0), [x, rois, images], "0 by 1 bins")
    refuses(RoiAlign(sampling_ratio=-1), [x, rois, images], "a sampling_ratio of -1")
    for bad in (1, -1):
        with pytest.raises(NoKernelError, match="there are 1 images"):
            compute(RoiAlign(), [x, rois, ints([0, bad, 0])])
    with pytest.raises(NoKernelError, match="a region of length inf"):
        compute(RoiAlign(), [x, floats([[0, 0, np.inf, 1]]), ints([0])])


def test_roi_align_below_opset_16():
    step = Step({}, ("x", "r", "i"), ("y",), (Fact(f32[1, 2, 4, 4]), Fact(f32[3, 4]), Fact(i64[3])))
    with pytest.raises(OpsetError, match="RoiAlign with coordinate_transformation_mode half_pixel needs opset 16"):
        downgrade(RoiAlign(), step, 15)
    mode = Attribute(Kind.STRING, "output_half_pixel")
    old = Step({"coordinate_transformation_mode": mode}, step.operands, step.results, step.facts)
    assert not downgrade(RoiAlign(coordinate_transformation_mode="output_half_pixel"), old, 15).attributes
