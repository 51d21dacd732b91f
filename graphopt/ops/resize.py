"""Resize: sampling a tensor on a finer or coarser grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from graphopt.errors import OpsetError, TypeRuleError
from graphopt.ir.attributes import Attribute, Kind
from graphopt.ir.constant import Constant
from graphopt.ir.dims import Dim, floor_div
from graphopt.ir.types import Shape, TensorType
from graphopt.ops.adapters import attribute_needs, constant_of, given, same, with_operand, without
from graphopt.ops.axes import length_of, listed, normalized
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.interpolate import Sampling, cubic, linear, nearest, outside, positions, resample, rounded
from graphopt.ops.room import (
    ANY,
    FLOAT,
    INTEGER,
    Adapter,
    Fact,
    NoKernelError,
    Room,
    Step,
    operand,
    operator,
    unknown_dim,
)

__all__ = ["resize"]

_MODES = ("nearest", "linear", "cubic")
_NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
_POLICIES = ("stretch", "not_larger", "not_smaller")
_CROP = "tf_crop_and_resize"
_HALF_FOR_NEAREST = "tf_half_pixel_for_nn"  # of opsets 11 and 12; runtimes still take it
_COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    _CROP,
    _HALF_FOR_NEAREST,
)

_EXACT_NUMERATOR = 256  # n/2^k · d is exact in float32 for n up to this and d up to 65536, and rounds to an integer


def _scaled(dim: Dim, scale: np.float32) -> Dim:
    """floor(dim · scale) in float32, as runtimes compute it; a fresh dim where that is not known."""
    if isinstance(dim, int):
        return int(scale * np.float32(dim))
    from fractions import Fraction  # used by few networks, and its import takes as long as many rooms

    ratio = Fraction(float(scale))
    if ratio.numerator > _EXACT_NUMERATOR:
        return unknown_dim()
    return floor_div(dim * ratio.numerator, ratio.denominator)


def _chosen(values: Sequence[str], value: str, name: str) -> None:
    if value not in values:
        raise TypeRuleError(f"{name} is {value!r}, and it is one of {', '.join(values)}")


def _is_empty(operand: Fact | None) -> bool:
    return operand is None or operand.type.shape == (0,)


def _adapter_9() -> Adapter:
    """The scales of Upsample became an operand."""

    def up(step: Step) -> Step:
        scales = step.attributes.get("scales")
        if scales is None:
            raise OpsetError("Upsample without scales")
        moved = with_operand(step, 1, Constant.of(np.asarray(scales.value, np.float32)))
        return replace(moved, attributes=without(step, "scales"))

    def down(step: Step) -> Step:
        scales = constant_of(step, 1)
        if scales is None:
            raise OpsetError("Upsample by computed scales needs opset 9")
        said = Attribute(Kind.FLOATS, tuple(float(s) for s in scales.ravel()))
        return replace(with_operand(step, 1, None), attributes={**step.attributes, "scales": said})

    return Adapter(9, up, down)


def _adapter_10() -> Adapter:
    """Upsample, which only grows, became Resize: its positions are asymmetric too, the nearest is always below."""

    def up(step: Step) -> Step:
        below = {"nearest_mode": Attribute(Kind.STRING, "floor")} if _mode(step) == "nearest" else {}
        return replace(step, attributes={**step.attributes, **below})

    def down(step: Step) -> Step:
        scales = constant_of(step, 1)
        if scales is not None and not (scales >= 1).all():
            raise OpsetError(f"Resize by {scales.tolist()}, which shrinks an axis, needs opset 10")
        return replace(step, attributes=without(step, "nearest_mode"))

    return Adapter(10, up, down)


def _adapter_11() -> Adapter:
    """Resize-10 knows no modes: positions are asymmetric; the nearest is below, or above where an axis shrinks."""

    def up(step: Step) -> Step:
        if not given(step, 1):
            raise OpsetError("Resize without scales")
        name, scales = step.operands[:2]
        attributes = {**step.attributes, "coordinate_transformation_mode": Attribute(Kind.STRING, "asymmetric")}
        if _mode(step) == "nearest" and "nearest_mode" not in attributes:
            attributes["nearest_mode"] = Attribute(Kind.STRING, _nearest_of_10(constant_of(step, 1)))
        facts = () if len(step.facts) < 2 else (step.facts[0], None, step.facts[1])
        return replace(step, attributes=attributes, operands=(name, "", scales), facts=facts)

    def down(step: Step) -> Step:
        if _text(step, "coordinate_transformation_mode", "half_pixel") != "asymmetric":
            raise OpsetError("Resize with other positions than asymmetric ones needs opset 11")
        if given(step, 3):
            raise OpsetError("Resize to sizes needs opset 11")
        if _mode(step) == "cubic":
            raise OpsetError("Resize by cubics needs opset 11")
        kept = {k: a for k, a in step.attributes.items() if k == "mode"}
        if _mode(step) == "nearest":
            wanted, scales = _text(step, "nearest_mode", "round_prefer_floor"), constant_of(step, 2)
            if wanted == "floor" and (scales is None or (scales < 1).any()):
                kept["nearest_mode"] = step.attributes["nearest_mode"]  # Resize-10 cannot say it, Upsample always does
            elif wanted != (known := _nearest_of_10(scales)):
                raise OpsetError(f"Resize with nearest_mode {wanted} needs opset 11, these scales mean {known} before")
        facts = tuple(step.facts[i] for i in (0, 2)) if len(step.facts) > 2 else ()
        return replace(step, attributes=kept, operands=(step.operands[0], step.operands[2]), facts=facts)

    return Adapter(11, up, down)


def _nearest_of_10(scales: np.ndarray | None) -> str:
    if scales is None:
        raise OpsetError("Resize by computed scales has another nearest element in opset 10")
    if (scales >= 1).all():
        return "floor"
    if (scales <= 1).all():
        return "ceil"
    raise OpsetError("Resize that grows one axis and shrinks another has other nearest elements in opset 10")


def _adapter_13() -> Adapter:
    """The operands roi and scales must be there until opset 12, empty where they say nothing."""

    def down(step: Step) -> Step:
        for index in (1, 2):
            if not given(step, index):
                known = step.facts
                step = with_operand(step, index, Constant.of(np.zeros(0, np.float32)))
                step = replace(step, facts=known)
        return step

    return Adapter(13, same, down)


def _below_19(step: Step) -> Step:
    if _text(step, "coordinate_transformation_mode", "") == "half_pixel_symmetric":
        raise OpsetError("Resize with half_pixel_symmetric positions needs opset 19")
    return step


def _text(step: Step, name: str, default: str) -> str:
    attribute = step.attributes.get(name)
    return default if attribute is None else str(attribute.value)


def _mode(step: Step) -> str:
    return _text(step, "mode", "nearest")


@operator("Resize", since=10)
class Resize(Room):
    """Each result element is made of the elements around its position in `x`, on the chosen axes. ONNX Resize-19.

    An axis has floor(dim · scale) elements, or as many as `sizes` says. `roi` matters to tf_crop_and_resize only.
    """

    x = operand(ANY)
    roi = operand(FLOAT, optional=True)
    scales = operand(FLOAT, optional=True)
    sizes = operand(INTEGER, optional=True)
    antialias: int = 0
    axes: tuple[int, ...] | None = None
    coordinate_transformation_mode: str = "half_pixel"
    cubic_coeff_a: float = -0.75
    exclude_outside: int = 0
    extrapolation_value: float = 0.0
    keep_aspect_ratio_policy: str = "stretch"
    mode: str = "nearest"
    nearest_mode: str = "round_prefer_floor"
    formerly = ("Upsample", 10)
    adapters = (
        _adapter_9(),
        _adapter_10(),
        _adapter_11(),
        _adapter_13(),
        attribute_needs("Resize", 18, "axes", None),
        attribute_needs("Resize", 18, "antialias", 0),
        attribute_needs("Resize", 18, "keep_aspect_ratio_policy", "stretch"),
        Adapter(19, same, _below_19),
    )

    def infer(
        self, x: Fact, roi: Fact | None = None, scales: Fact | None = None, sizes: Fact | None = None
    ) -> TensorType:
        _chosen(_MODES, self.mode, "mode")
        _chosen(_NEAREST, self.nearest_mode, "nearest_mode")
        _chosen(_POLICIES, self.keep_aspect_ratio_policy, "keep_aspect_ratio_policy")
        _chosen(_COORDINATES, self.coordinate_transformation_mode, "coordinate_transformation_mode")
        axes = self._axes(x.rank)
        if _is_empty(scales) and _is_empty(sizes):
            raise TypeRuleError("neither scales nor sizes are given")
        for name, fact in (("scales", scales), ("sizes", sizes)):
            count = None if fact is None else length_of(fact)
            if count not in (None, 0, len(axes)):
                raise TypeRuleError(f"{count} {name} are given for {len(axes)} axes of {x.type}")
        both = length_of(scales) if scales is not None else 0, length_of(sizes) if sizes is not None else 0
        if all(both):
            raise TypeRuleError("both scales and sizes are given")
        made = self._from_scales(x, axes, scales) if both[1] == 0 else None
        if both[0] == 0 and sizes is not None:
            made = self._from_sizes(x, axes, sizes)
        if made is None:
            made = tuple(unknown_dim() if i in axes else d for i, d in enumerate(x.shape))
        return TensorType(x.dtype, made)

    def _axes(self, rank: int) -> list[int]:
        return list(range(rank)) if not self.axes else normalized(self.axes, rank)

    def _from_scales(self, x: Fact, axes: list[int], scales: Fact | None) -> Shape | None:
        if scales is None or scales.constant is None or scales.constant.is_absent:
            return None
        numbers = scales.constant.array().astype(np.float32)
        if not ((numbers > 0) & np.isfinite(numbers)).all():
            raise TypeRuleError(f"the scales {numbers.tolist()} are not all positive numbers")
        shape = list(x.shape)
        for axis, scale in zip(axes, numbers, strict=True):
            shape[axis] = _scaled(shape[axis], scale)
        return tuple(shape)

    def _from_sizes(self, x: Fact, axes: list[int], sizes: Fact) -> Shape | None:
        wanted = listed(sizes)
        if wanted is None:
            return None
        if any(isinstance(n, int) and n < 0 for n in wanted):
            raise TypeRuleError(f"the sizes {wanted} are not all sizes")
        shape = list(x.shape)
        if self.keep_aspect_ratio_policy != "stretch":
            have = [n for n in (shape[axis] for axis in axes) if isinstance(n, int)]
            numbers = [n for n in wanted if isinstance(n, int)]
            if len(have) != len(axes) or len(numbers) != len(axes):
                return None
            wanted = [*self._in_proportion(have, numbers)[0]]
        for axis, size in zip(axes, wanted, strict=True):
            shape[axis] = size
        return tuple(shape)

    def _in_proportion(self, have: Sequence[int], wanted: Sequence[int]) -> tuple[list[int], np.float32]:
        """Sizes with one scale on all axes, and that scale."""
        if 0 in have:
            raise TypeRuleError(f"sizes {list(have)} have no proportion to keep")
        ratios = [np.float32(w) / np.float32(h) for h, w in zip(have, wanted, strict=True)]
        scale = min(ratios) if self.keep_aspect_ratio_policy == "not_larger" else max(ratios)
        return [rounded(float(scale * np.float32(h))) for h in have], scale

    def forwards(self, *facts: Fact | None) -> int | None:
        x, _, scales, sizes = (*facts, None, None, None)[:4]
        if x is None or x.type.shape is None or self.coordinate_transformation_mode in (_CROP, _HALF_FOR_NEAREST):
            return None
        if not _is_empty(scales):
            known = None if scales is None or scales.constant is None else scales.constant
            if not _is_empty(sizes) or known is None or known.is_absent or not (known.array() == 1).all():
                return None
        try:
            return 0 if self.infer(x, *facts[1:]).shape == x.shape else None
        except TypeRuleError:
            return None

    def kernel(
        self,
        x: np.ndarray,
        roi: np.ndarray | None = None,
        scales: np.ndarray | None = None,
        sizes: np.ndarray | None = None,
    ) -> np.ndarray:
        plan = self._plan(x.shape, roi, scales, sizes)
        if all(a.size == a.result for a in plan):
            if any(a.scale != 1 for a in plan):
                raise NoKernelError(
                    f"Resize of {list(x.shape)} to the same shape by other scales than 1 is not computed"
                )
            return x
        if self.antialias:
            raise NoKernelError("Resize with antialias is not computed")
        if self.mode != "nearest" and x.dtype.kind in "iubSUO":
            raise NoKernelError(f"Resize of {x.dtype} by {self.mode} interpolation is not computed")
        work = np.result_type(x.dtype, np.float32) if self.mode != "nearest" else x.dtype
        y = x.astype(work, copy=False)
        beyond = np.zeros((), bool)
        for i, axis in enumerate(plan):
            if axis.scale == 1:
                continue
            at = positions(axis, self.coordinate_transformation_mode)
            if axis.size == 0 or axis.result == 0:
                y = np.zeros((*y.shape[:i], axis.result, *y.shape[i + 1 :]), work)
            elif self.mode == "nearest":
                y = np.take(y, nearest(at, axis.size, self.nearest_mode), i)
            elif self.mode == "linear":
                y = resample(y, i, linear(at, axis.size, work))
            else:
                outer = bool(self.exclude_outside)
                y = resample(y, i, cubic(at, axis.size, work, self.cubic_coeff_a, exclude_outside=outer))
            beyond = beyond | outside(at, axis.size).reshape([-1 if j == i else 1 for j in range(x.ndim)])
        if self.coordinate_transformation_mode == _CROP and beyond.any():
            y = np.where(beyond, work.type(self.extrapolation_value), y)
        return np.asarray(y).astype(x.dtype, copy=False)

    def _plan(
        self, shape: tuple[int, ...], roi: np.ndarray | None, scales: np.ndarray | None, sizes: np.ndarray | None
    ) -> list[Sampling]:
        """What happens on each axis."""
        axes = self._axes(len(shape))
        have = [shape[axis] for axis in axes]
        ratios: list[np.float32]
        if scales is not None and scales.size:
            ratios = list(scales.astype(np.float32))
            wanted = [int(s * np.float32(h)) for s, h in zip(ratios, have, strict=True)]
        elif sizes is not None and sizes.size:
            wanted = [int(n) for n in sizes]
            ratios = [np.float32(w) / np.float32(h) if h else np.float32(1) for h, w in zip(have, wanted, strict=True)]
            if self.keep_aspect_ratio_policy != "stretch":
                wanted, scale = self._in_proportion(have, wanted)
                ratios = [scale] * len(axes)
        else:
            raise TypeRuleError("neither scales nor sizes are given")
        if any(h == 0 and w != 0 for h, w in zip(have, wanted, strict=True)):
            raise TypeRuleError(f"a tensor {list(shape)} without elements cannot be resized to have some")
        plan = [Sampling(n, n, np.float32(1)) for n in shape]
        crop = self.coordinate_transformation_mode == _CROP and roi is not None and roi.size > 0
        part = (
            roi.astype(np.float32) if crop and roi is not None else np.repeat(np.array([0, 1], np.float32), len(axes))
        )
        for i, axis in enumerate(axes):
            start, end = part[i], part[len(axes) + i]
            if ratios[i] == 1 and (start, end) != (0, 1):
                raise NoKernelError(f"Resize that crops axis {axis} and keeps its size is not computed")
            plan[axis] = Sampling(have[i], wanted[i], ratios[i], start, end)
        return plan


def resize(
    x: Like,
    *,
    scales: Like | None = None,
    sizes: Like | None = None,
    roi: Like | None = None,
    mode: str = "nearest",
    axes: tuple[int, ...] | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    nearest_mode: str = "round_prefer_floor",
) -> Operand:
    """`x` on another grid: `scales` or `sizes` of the axes given (of all by default)."""
    op = Resize(
        mode=mode,
        axes=axes,
        coordinate_transformation_mode=coordinate_transformation_mode,
        nearest_mode=nearest_mode,
    )
    return apply(op, x, _list(roi, np.float32), _list(scales, np.float32), _list(sizes, np.int64))


def _list(value: Like | None, dtype: type[np.generic]) -> Like | None:
    return np.asarray(value, dtype) if isinstance(value, list | tuple) else value
