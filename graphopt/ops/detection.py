"""Detection: NonMaxSuppression and RoiAlign."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from graphopt.errors import OpsetError, TypeRuleError
from graphopt.ir.attributes import Attribute, Kind
from graphopt.ir.dims import Dim, product
from graphopt.ir.types import TensorType, i64
from graphopt.ops.adapters import without
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.expect import dims_of, expect_number, expect_one_of, expect_one_type, expect_shape, same_dim
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
from graphopt.ops.single import in_single, stored

__all__ = ["non_max_suppression", "roi_align"]


@operator("NonMaxSuppression", since=10)
class NonMaxSuppression(Room):
    """Boxes by falling score, less those that overlap a chosen one by more than a share. ONNX NonMaxSuppression-11.

    The result lists [batch, class, box]. The share is the intersection over the union of two boxes.
    """

    boxes = operand(FLOAT)
    scores = operand(FLOAT)
    max_output_boxes_per_class = operand(INTEGER, optional=True)
    iou_threshold = operand(FLOAT, optional=True)
    score_threshold = operand(FLOAT, optional=True)
    center_point_box: int = 0
    traits = frozenset({Trait.PARTIAL})  # iou_threshold is from 0 to 1

    def infer(
        self,
        boxes: Fact,
        scores: Fact,
        max_output_boxes_per_class: Fact | None = None,
        iou_threshold: Fact | None = None,
        score_threshold: Fact | None = None,
    ) -> TensorType:
        if self.center_point_box not in (0, 1):
            raise TypeRuleError(f"center_point_box is {self.center_point_box}, and only 0 and 1 are known")
        expect_one_type(boxes=boxes, scores=scores, iou_threshold=iou_threshold, score_threshold=score_threshold)
        expect_shape("boxes", boxes, (None, None, 4))
        batch, count, _ = dims_of(boxes, 3)
        expect_shape("scores", scores, (batch, None, count))
        expect_number("max_output_boxes_per_class", max_output_boxes_per_class)
        expect_number("iou_threshold", iou_threshold)
        expect_number("score_threshold", score_threshold)
        share = None if iou_threshold is None else iou_threshold.scalar
        if share is not None and not 0 <= share <= 1:
            raise TypeRuleError(f"iou_threshold is {share}, and it is from 0 to 1")
        most = 0 if max_output_boxes_per_class is None else max_output_boxes_per_class.scalar
        return TensorType(i64, (0 if most is not None and most <= 0 else unknown_dim(), 3))

    def kernel(
        self,
        boxes: np.ndarray,
        scores: np.ndarray,
        max_output_boxes_per_class: np.ndarray | None = None,
        iou_threshold: np.ndarray | None = None,
        score_threshold: np.ndarray | None = None,
    ) -> np.ndarray:
        most = 0 if max_output_boxes_per_class is None else int(max_output_boxes_per_class.item())
        share = 0.0 if iou_threshold is None else float(iou_threshold.item())
        if not 0 <= share <= 1:
            raise NoKernelError(f"iou_threshold is {share}, and it is from 0 to 1")
        found = [np.zeros((0, 3), np.int64)]
        for n, c in np.ndindex(*scores.shape[:2]):
            order = np.argsort(-scores[n, c], kind="stable")  # of equal scores the first box comes first
            if score_threshold is not None:
                order = order[scores[n, c, order] > score_threshold.item()]
            chosen = _separate(_corners(boxes[n], center=bool(self.center_point_box)), order, most, share)
            found.append(np.array([[n, c, box] for box in chosen], np.int64).reshape(-1, 3))
        return np.concatenate(found)


def _corners(boxes: np.ndarray, *, center: bool) -> np.ndarray:
    """Boxes [n, 4] as their lower and upper ends on two axes: [n, 2, 2]."""
    if center:
        half = boxes[:, 2:] / 2
        return np.stack([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)
    return np.sort(boxes.reshape(-1, 2, 2), axis=1)  # any two opposite corners


def _separate(corners: np.ndarray, order: np.ndarray, most: int, share: float) -> Iterator[int]:
    """The first boxes in `order`, at most so many, of which no two overlap by more than `share`."""
    while most > 0 and len(order):
        first, order = order[0], order[1:]
        yield int(first)
        order = order[~(_overlap(corners[first], corners[order]) > share)]
        most -= 1


def _overlap(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of a box with each of others; below 0 where they do not meet or have no area."""
    sides = np.minimum(one[1], others[:, 1]) - np.maximum(one[0], others[:, 0])
    shared = sides[:, 0] * sides[:, 1]
    areas = (others[:, 1] - others[:, 0]).prod(axis=1)
    area = (one[1] - one[0]).prod()
    union = area + areas - shared
    meets = (sides > 0).all(axis=1) & (shared > 0) & (areas > 0) & (area > 0) & (union > 0)
    with np.errstate(all="ignore"):
        return np.where(meets, shared / union, -1)


def _roi_to_16(step: Step) -> Step:
    """Until opset 15 the input was not shifted by half a pixel."""
    mode = Attribute(Kind.STRING, "output_half_pixel")
    return replace(step, attributes={**step.attributes, "coordinate_transformation_mode": mode})


def _roi_below_16(step: Step) -> Step:
    mode = step.attributes.get("coordinate_transformation_mode")
    if mode is None or mode.value != "output_half_pixel":
        raise OpsetError("RoiAlign with coordinate_transformation_mode half_pixel needs opset 16")
    return replace(step, attributes=without(step, "coordinate_transformation_mode"))


_POSITIONS = ("half_pixel", "output_half_pixel")
_MOST_SAMPLES = 1 << 24  # on one axis of a region; the input is much smaller


@dataclass(frozen=True)
class _Samples:
    """Where one axis of a region is sampled: neighbours and their weights, [bins, 2 · samples] both."""

    at: np.ndarray
    weights: np.ndarray


@operator("RoiAlign", since=10)
class RoiAlign(Room):
    """Each region of x in a grid of bins, each the mean or maximum of samples by bilinear weights. ONNX RoiAlign-22.

    The maximum is that of the weighted neighbours, each by itself, as runtimes have it.
    """

    x = operand(FLOAT)
    rois = operand(FLOAT)
    batch_indices = operand(INTEGER)
    coordinate_transformation_mode: str = "half_pixel"
    mode: str = "avg"
    output_height: int = 1
    output_width: int = 1
    sampling_ratio: int = 0
    spatial_scale: float = 1.0
    traits = frozenset({Trait.PARTIAL})
    adapters = (Adapter(16, _roi_to_16, _roi_below_16),)

    def infer(self, x: Fact, rois: Fact, batch_indices: Fact) -> TensorType:
        expect_one_of("mode", self.mode, ("avg", "max"))
        expect_one_of("coordinate_transformation_mode", self.coordinate_transformation_mode, _POSITIONS)
        if min(self.output_height, self.output_width) < 1 or self.sampling_ratio < 0:
            raise TypeRuleError(
                f"{self.output_height} by {self.output_width} bins with a sampling_ratio of {self.sampling_ratio}: "
                "there is at least one bin, and the ratio is 0 or more"
            )
        expect_one_type(x=x, rois=rois)
        expect_shape("x", x, (None, None, None, None))
        expect_shape("rois", rois, (None, 4))
        count = dims_of(rois, 2)[0]
        expect_shape("batch_indices", batch_indices, (count,))
        count = same_dim(count, *dims_of(batch_indices, 1))
        return TensorType(x.dtype, (count, dims_of(x, 4)[1], self.output_height, self.output_width))

    @in_single
    def kernel(self, x: np.ndarray, rois: np.ndarray, batch_indices: np.ndarray) -> np.ndarray:
        made = np.zeros((len(rois), x.shape[1], self.output_height, self.output_width), x.dtype)
        if ((batch_indices < 0) | (batch_indices >= len(x))).any():
            raise NoKernelError(f"there are {len(x)} images, and a region lies in another one")
        for i, (region, image) in enumerate(zip(rois, batch_indices.ravel(), strict=True)):
            x1, y1, x2, y2 = region * x.dtype.type(stored(self.spatial_scale))
            rows = self._samples(y1, y2, self.output_height, x.shape[2])
            columns = self._samples(x1, x2, self.output_width, x.shape[3])
            pool = _mean if self.mode == "avg" else _maximum
            made[i] = pool(x[image], rows, columns)
        return made

    def _samples(self, start: np.floating, end: np.floating, bins: int, size: int) -> _Samples:
        """Samples along an axis: evenly spread over each bin; those beyond the input by more than 1 weigh nothing."""
        kind = type(start)
        if self.coordinate_transformation_mode == "half_pixel":
            start, length = start - kind(0.5), end - start
        else:
            length = max(end - start, kind(1))
        if not np.isfinite(length) or abs(length) > _MOST_SAMPLES:
            raise NoKernelError(f"a region of length {length} is not computed")
        count = self.sampling_ratio or max(ceil(length / kind(bins)), 0)
        each = length / kind(bins)
        inside = (np.arange(count, dtype=kind) + kind(0.5)) * each / kind(max(count, 1))
        at = start + np.arange(bins, dtype=kind)[:, None] * each + inside
        counted = (at >= -1) & (at <= size)
        at = np.clip(at, 0, size - 1)
        low = at.astype(np.int64)
        share = at - low.astype(kind)
        weights = np.concatenate([np.where(counted, 1 - share, kind(0)), np.where(counted, share, kind(0))], axis=1)
        return _Samples(np.concatenate([low, np.minimum(low + 1, size - 1)], axis=1), weights)

    def macs(self, facts: tuple[Fact | None, ...], results: tuple[TensorType, ...]) -> Dim:
        """Four neighbours a sample; one sample in each direction where their number depends on the region."""
        out = results[0].shape if results else None
        return 0 if out is None else product(out) * (4 * max(self.sampling_ratio, 1) ** 2)


def _mean(image: np.ndarray, rows: _Samples, columns: _Samples) -> np.ndarray:
    """The mean over the samples of each bin, one axis after the other, as the weights are products."""
    of_rows = _weighted(image, rows)
    return _weighted(of_rows.swapaxes(1, 2), columns).swapaxes(1, 2)


def _weighted(x: np.ndarray, samples: _Samples) -> np.ndarray:
    """[channels, size, others] as [channels, bins, others]."""
    count = max(samples.at.shape[1] // 2, 1)
    weights = samples.weights / samples.weights.dtype.type(count)
    return np.asarray((weights[:, None] @ x[:, samples.at])[:, :, 0])


def _maximum(image: np.ndarray, rows: _Samples, columns: _Samples) -> np.ndarray:
    """The maximum over the samples of each bin, and over the four neighbours of each by their weights."""
    weights = rows.weights[:, None, :, None] * columns.weights[None, :, None, :]
    if not weights.size:
        return np.zeros((len(image), *weights.shape[:2]), image.dtype)
    picked = image[:, rows.at[:, None, :, None], columns.at[None, :, None, :]]
    return np.asarray((picked * weights).max(axis=(-2, -1)))


def non_max_suppression(
    boxes: Like,
    scores: Like,
    max_output_boxes_per_class: Like,
    iou_threshold: Like | None = None,
    score_threshold: Like | None = None,
    *,
    center_point_box: int = 0,
) -> Operand:
    """The boxes [batch, class, box] that are left when those that overlap a better one are taken away."""
    op = NonMaxSuppression(center_point_box=center_point_box)
    return apply(op, boxes, scores, max_output_boxes_per_class, iou_threshold, score_threshold)


def roi_align(
    x: Like,
    rois: Like,
    batch_indices: Like,
    *,
    output_height: int,
    output_width: int,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
    mode: str = "avg",
    coordinate_transformation_mode: str = "half_pixel",
) -> Operand:
    """Regions [x1, y1, x2, y2] of x [N, C, H, W] in a grid of bins; see `RoiAlign`."""
    op = RoiAlign(
        coordinate_transformation_mode, mode, output_height, output_width, sampling_ratio, float(spatial_scale)
    )
    return apply(op, x, rois, batch_indices)
