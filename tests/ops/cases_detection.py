"""Cases of detection and of sampling at positions that are data."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from ops.cases import Case, Node, floats, ints, some
from ops.harness import normal

NO_ROI_ALIGN = 22  # from this opset on ONNX Runtime has no kernel for it


def non_max_suppression(data: st.DataObject, _: int) -> Node:
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    boxes, scores = floats(rng.integers(0, 9, (1, 6, 4)) / 4), floats(rng.integers(0, 5, (1, 2, 6)) / 4)
    more = [np.array(4), floats(data.draw(st.integers(0, 8)) / 8), floats(0.5)][: data.draw(st.integers(1, 3))]
    return Node([boxes, scores, *more], some(data, {"center_point_box": 1}), held=data.draw(st.booleans()))


def roi_align(data: st.DataObject, opset: int) -> Node:
    assume(opset < NO_ROI_ALIGN)
    attributes = some(data, {"output_height": 2, "output_width": 3, "sampling_ratio": 2, "spatial_scale": 0.5})
    attributes |= some(data, {"mode": "max"})
    if opset >= 16:
        attributes |= some(data, {"coordinate_transformation_mode": "output_half_pixel"})
    rois = floats([[0, 0, 3, 4], [2, 1, 7, 3]]) + floats(1 / 1024)
    return Node([normal(2, 2, 6, 5) + np.float32(5), rois, ints([1, 0])], attributes, held=False)


def grid_sample(data: st.DataObject, opset: int) -> Node:
    mode = data.draw(st.sampled_from(["linear", "nearest", "cubic"]))
    mode = mode if opset >= 20 or mode == "nearest" else f"bi{mode}"
    drawn = {"mode": mode, "padding_mode": data.draw(st.sampled_from(["border", "reflection"])), "align_corners": 1}
    grid = floats(np.random.default_rng(data.draw(st.integers(0, 99))).integers(-16, 17, (1, 2, 3, 2)) / 16)
    return Node([normal(1, 2, 3, 4) + np.float32(4), grid], some(data, drawn), held=False)


def affine_grid(data: st.DataObject, _: int) -> Node:
    size = ints([2, 1, *data.draw(st.lists(st.integers(2, 4), min_size=2, max_size=2))])
    theta = normal(2, 2, 3) + np.float32(4)
    return Node([theta, size], some(data, {"align_corners": 1}), held=data.draw(st.booleans()))


def deform_conv(data: st.DataObject, _: int) -> Node:
    x, w = normal(1, 2, 4, 5), normal(2, 2, 2, 2)
    attributes = {"pads": (1, 1, 0, 0), **some(data, {"kernel_shape": (2, 2), "group": 1})}
    more = [normal(2, seed=2), np.abs(normal(1, 4, 4, 5))][: data.draw(st.integers(0, 2))]
    return Node([x, w, normal(1, 8, 4, 5, seed=1), *more], attributes, held=False, ulps=256)


CASES: Mapping[str, Case] = {
    "NonMaxSuppression": non_max_suppression,
    "RoiAlign": roi_align,
    "GridSample": grid_sample,
    "AffineGrid": affine_grid,
    "DeformConv": deform_conv,
}
