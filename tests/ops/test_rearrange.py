"""Tile, DepthToSpace, SpaceToDepth, ReverseSequence, Trilu, CenterCropPad, and Col2Im."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphopt
from graphopt import ops
from graphopt.errors import OpsetError, TypeRuleError
from graphopt.ir.dims import symbol
from graphopt.ir.types import TensorType, f32, i64
from graphopt.onnx_format.opset import downgrade
from graphopt.ops.columns import Col2Im
from graphopt.ops.rearrange import CenterCropPad, DepthToSpace, ReverseSequence, SpaceToDepth, Tile, Trilu
from graphopt.ops.room import Fact, NoKernelError, Step, Trait
from ops.harness import check, compute, facts_of, inferred, normal, refuses
from ops.reference import check_reference

N, C, H, W = map(symbol, "NCHW")
UNKNOWN = Fact(TensorType(f32, None))
sides = st.integers(0, 4)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def known(*values: object) -> Fact:
    """An int64 list of dims."""
    contents = np.empty(len(values), object)
    contents[:] = values
    return Fact(TensorType(i64, (len(values),)), known=contents)


def held(*values: int) -> Fact:
    return facts_of([ints(*values)])[0]


def shape_of(op, *facts):
    made = inferred(op, *facts)
    return None if made is None else made[0].shape


# ---- Tile


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=4), st.booleans(), st.booleans())
def test_tile(axes, integers, held):
    x = normal(*(d for d, _ in axes))
    x = (x * 9).astype(np.int64) if integers else x
    check(Tile(), [x, ints(*(n for _, n in axes))], constants=[1] if held else [], exact=True)


def test_tile_of_dims():
    """As exporters write it: a list of dims, repeated."""
    assert shape_of(Tile(), Fact(f32[N, 3]), known(2, H)) == (2 * N, 3 * H)
    assert Tile().elements(known(N, 3), held(2)).tolist() == [N, 3, N, 3]
    assert Tile().elements(known(N, 3), known(H)) is None
    assert Tile().elements(known(N, 3), held(1 << 40)) is None
    check(Tile(), [ints(4, 5), ints(3)], constants=[1])


def test_tile_facts():
    made = shape_of(Tile(), Fact(f32[N, 0]), Fact(i64[2]))
    assert made[1] == 0
    assert len(shape_of(Tile(), UNKNOWN, Fact(i64[2]))) == 2
    assert shape_of(Tile(), UNKNOWN, Fact(i64[None])) is None
    assert Tile().forwards(UNKNOWN, held(1, 1)) == 0
    assert Tile().forwards(UNKNOWN, held(1, 2)) is None
    assert Tile().forwards(UNKNOWN, Fact(i64[2])) is None
    refuses(Tile(), [normal(2), ints(1, 2)], r"2 repeats are given for the 1 axes of f32\[2\]")
    refuses(Tile(), [normal(2), ints(-1)], r"not repeated \[-1\] times")
    with pytest.raises(TypeRuleError, match="-1"):
        Tile().kernel(normal(2), ints(-1))


# ---- Blocks


@settings(deadline=None)
@given(sides, sides, sides, sides, st.integers(1, 3), st.sampled_from(["DCR", "CRD"]), st.sampled_from("fdB"))
def test_blocks(n, c, h, w, b, mode, kind):
    x = (normal(n, c * b * b, h, w) * 9).astype(np.int8).astype(kind)
    if x.size:  # ONNX Runtime refuses some empty images
        check(DepthToSpace(blocksize=b, mode=mode), [x], exact=True)
    y = compute(DepthToSpace(blocksize=b, mode=mode), [x])[0]
    assert y.shape == (n, c, h * b, w * b)
    if y.size:
        z = check(SpaceToDepth(blocksize=b), [y], exact=True)[0]
        if mode == "DCR":
            np.testing.assert_array_equal(z, x)


def test_blocks_facts():
    image = Fact(f32[N, C, H, W])
    assert shape_of(DepthToSpace(blocksize=2), image) == (N, C // 4, 2 * H, 2 * W)
    assert shape_of(SpaceToDepth(blocksize=2), image) == (N, 4 * C, H // 2, W // 2)
    assert shape_of(DepthToSpace(blocksize=2), Fact(f32[N, 4 * C, H, W])) == (N, C, 2 * H, 2 * W)
    for cls in (DepthToSpace, SpaceToDepth):
        assert len(shape_of(cls(blocksize=2), UNKNOWN)) == 4
        assert cls(blocksize=1).forwards(image) == 0
        assert cls(blocksize=2).forwards(image) is None
        refuses(cls(blocksize=0), [normal(1, 4, 2, 2)], "a block of 0 elements is none")
        refuses(cls(blocksize=2), [normal(4, 2, 2)], r"f32\[4, 2, 2\] has not the four axes")
    refuses(DepthToSpace(blocksize=2), [normal(1, 6, 2, 2)], r"the depth 6 of f32\[1, 6, 2, 2\] does not divide by 4")
    refuses(SpaceToDepth(blocksize=2), [normal(1, 6, 3, 2)], "the height 3")
    refuses(SpaceToDepth(blocksize=2), [normal(1, 6, 4, 5)], "the width 5")
    refuses(DepthToSpace(blocksize=2, mode="RCD"), [normal(1, 4, 2, 2)], "'RCD', and it is one of DCR, CRD")


def test_depth_first_needs_opset_11():
    op = DepthToSpace(blocksize=2, mode="CRD")
    x = facts_of([normal(1, 4, 2, 2)])
    with pytest.raises(OpsetError, match="DepthToSpace with mode=CRD needs opset 11"):
        downgrade(op, Step(op.attributes, ("x",), ("y",), x), 10)


# ---- ReverseSequence


@settings(deadline=None)
@given(st.lists(st.integers(1, 4), min_size=2, max_size=4), st.booleans(), st.data())
def test_reverse_sequence(shape, batch_first, data):
    batch, time = (0, 1) if batch_first else (1, 0)
    lengths = ints(*(data.draw(st.integers(0, shape[time])) for _ in range(shape[batch])))
    made = check(ReverseSequence(batch_axis=batch, time_axis=time), [normal(*shape), lengths], exact=True)
    again = compute(ReverseSequence(batch_axis=batch, time_axis=time), [made[0], lengths])
    np.testing.assert_array_equal(again[0], normal(*shape))


def test_reverse_sequence_facts():
    assert shape_of(ReverseSequence(), Fact(f32[N, C]), Fact(i64[C])) == (N, C)
    assert shape_of(ReverseSequence(), UNKNOWN, Fact(i64[C])) is None
    refuses(ReverseSequence(batch_axis=0), [normal(2, 2), ints(1, 1)], "batch axis 0 and time axis 0 are not 0 and 1")
    refuses(ReverseSequence(), [normal(2), ints(1, 1)], "no axes of batch and time")
    refuses(ReverseSequence(), [normal(2, 3), ints(1, 1)], r"2 lengths are given for 3 sequences of f32\[2, 3\]")
    refuses(ReverseSequence(), [normal(2, 3), np.array(1)], r"the lengths i64\[\] are not one for each sequence")
    for wrong in (3, -1):
        with pytest.raises(TypeRuleError, match=r"are not all from 0 to 2"):
            ReverseSequence().kernel(normal(2, 2), ints(1, wrong))
    assert Trait.PARTIAL in ReverseSequence.traits


# ---- Trilu


@settings(deadline=None)
@given(
    st.lists(sides, min_size=2, max_size=4),
    st.integers(-5, 5) | st.sampled_from([2**62, -(2**62), None]),
    st.integers(0, 1),
    st.sampled_from([np.float32, np.float16, np.float64, np.int64, np.bool_]),
)
def test_trilu(shape, k, upper, dtype):
    x = (normal(*shape) * 9).astype(dtype)
    arrays = [x] if k is None else [x, np.array(k)]
    check(Trilu(upper=upper), arrays, exact=True)
    once = compute(Trilu(upper=upper), arrays)[0]
    np.testing.assert_array_equal(compute(Trilu(upper=upper), [once, *arrays[1:]])[0], once)


def test_trilu_of_what_is_no_number():
    x = np.array([[np.nan, np.inf], [-np.inf, -0.0]], np.float32)
    check(Trilu(), [x, ints(1)], exact=True)
    with pytest.raises(NoKernelError, match="strings"):
        Trilu().kernel(np.full((2, 2), "a", object))


@given(st.floats(0.01, 100), st.integers(-3, 3), st.integers(0, 1))
def test_trilu_traits(c, k, upper):
    op, x, k = Trilu(upper=upper), normal(3, 4).astype(np.float64), np.array(k)
    assert {Trait.MONOTONE, Trait.IDEMPOTENT, Trait.POSITIVE_HOMOGENEOUS} <= op.traits
    np.testing.assert_array_equal(op.kernel(c * x, k), c * op.kernel(x, k))
    assert (op.kernel(x + c, k) >= op.kernel(x, k)).all()


def test_trilu_facts():
    assert shape_of(Trilu(), Fact(f32[N, C])) == (N, C)
    assert shape_of(Trilu(), UNKNOWN) is None
    refuses(Trilu(), [normal(2)], r"f32\[2\] has no matrices")
    refuses(Trilu(), [normal(2, 2), ints(1, 2)], "not one number")


# ---- CenterCropPad


@settings(deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.booleans(), st.data())
def test_center_crop_pad(shape, named, data):
    axes = data.draw(st.lists(st.sampled_from(range(len(shape))), min_size=1, unique=True)) if named else None
    signed = axes if axes is None else tuple(a - len(shape) if data.draw(st.booleans()) else a for a in axes)
    target = ints(*(data.draw(st.integers(1, 7)) for _ in axes or shape))
    check(CenterCropPad(axes=signed), [normal(*shape), target], constants=[1], exact=True)
    check(CenterCropPad(axes=signed), [(normal(*shape) * 9).astype(np.int32), target], exact=True)


def test_center_crop_pad_facts():
    image = Fact(f32[N, C, H, W])
    assert shape_of(CenterCropPad(axes=(2, -1)), image, held(7, 8)) == (N, C, 7, 8)
    assert shape_of(CenterCropPad(axes=(2,)), image, known(C)) == (N, C, C, W)
    assert shape_of(CenterCropPad(axes=(1,)), image, Fact(i64[1]))[2:] == (H, W)
    assert len(shape_of(CenterCropPad(), UNKNOWN, Fact(i64[3]))) == 3
    assert shape_of(CenterCropPad(axes=(1,)), UNKNOWN, held(3)) is None
    assert CenterCropPad(axes=(2,)).forwards(image, known(H)) == 0
    assert CenterCropPad(axes=(2,)).forwards(image, held(3)) is None
    assert CenterCropPad().forwards(image, Fact(i64[4])) is None
    assert CenterCropPad(axes=(9,)).forwards(image, held(3)) is None
    refuses(CenterCropPad(axes=(0, 1)), [normal(2, 2), ints(1)], "1 lengths are given for 2 axes")
    refuses(CenterCropPad(), [normal(2, 2), ints(1)], r"1 lengths are given for 2 axes of f32\[2, 2\]")
    refuses(CenterCropPad(), [normal(2), ints(-1)], "negative")
    refuses(CenterCropPad(axes=(0, -1)), [normal(2), ints(1, 1)], "name an axis twice")
    with pytest.raises(NoKernelError, match="strings"):
        CenterCropPad().kernel(np.full(2, "a", object), ints(1))


# ---- Col2Im


@st.composite
def columns(draw, rank):
    """A Col2Im, and columns that fill its image."""

    def each(low, high):
        return [draw(st.integers(low, high)) for _ in range(rank)]

    block, strides, dilations, before, after = each(1, 3), each(1, 2), each(1, 2), each(0, 2), each(0, 2)
    reach = [(k - 1) * d + 1 for k, d in zip(block, dilations, strict=True)]
    image = [max(r - b - a, 1) + draw(st.integers(0, 3)) for r, b, a in zip(reach, before, after, strict=True)]
    counts = [(n + b + a - r) // s + 1 for n, b, a, r, s in zip(image, before, after, reach, strides, strict=True)]
    op = Col2Im(strides=tuple(strides), dilations=tuple(dilations), pads=(*before, *after))
    x = normal(draw(st.integers(1, 2)), draw(st.integers(1, 2)) * int(np.prod(block)), int(np.prod(counts)))
    return op, [x, ints(*image), ints(*block)]


@settings(deadline=None)
@given(columns(2), st.booleans())
def test_images_of_columns(case, held):
    op, arrays = case
    check(op, arrays, constants=[1, 2] if held else [], scale=compute(op, [np.abs(arrays[0]), *arrays[1:]])[0])


@settings(deadline=None)
@given(st.integers(1, 3).flatmap(columns))
def test_columns_of_any_rank(case):
    """ONNX Runtime mixes up the columns of lines and volumes, at dilations or more channels."""
    check_reference(*case)


def test_half_precision_is_summed_in_single():
    x = np.full((1, 4, 4), 0.1, np.float16)
    made = check(Col2Im(), [x, ints(3, 3), ints(2, 2)])
    assert made[0].dtype == np.float16
    with pytest.raises(NoKernelError, match="bool"):
        Col2Im().kernel(np.ones((1, 4, 4), bool), ints(3, 3), ints(2, 2))


def test_col2im_facts():
    x = Fact(f32[N, 4 * C, 4])
    assert shape_of(Col2Im(), x, held(3, 3), held(2, 2)) == (N, C, 3, 3)
    assert shape_of(Col2Im(), Fact(f32[N, 8, None]), known(H, W), held(2, 2)) == (N, 2, H, W)
    assert shape_of(Col2Im(), x, Fact(i64[2]), held(2, 2))[:2] == (N, C)
    assert shape_of(Col2Im(), x, held(3, 3), Fact(i64[2]))[2:] == (3, 3)
    assert shape_of(Col2Im(), x, Fact(i64[None]), Fact(i64[None])) is None
    assert len(shape_of(Col2Im(), UNKNOWN, Fact(i64[2]), Fact(i64[2]))) == 4
    arrays = [normal(1, 4, 4), ints(3, 3), ints(2, 2)]
    refuses(Col2Im(), [normal(1, 4), *arrays[1:]], "three axes")
    refuses(Col2Im(), [arrays[0], ints(3), arrays[2]], "the image has 1 axes, and the block 2")
    refuses(Col2Im(), [normal(1, 5, 4), *arrays[1:]], r"the depth 5 of f32\[1, 5, 4\] does not divide into blocks of 4")
    refuses(Col2Im(), [normal(1, 4, 5), *arrays[1:]], "4 blocks fit into the image, and .* has 5 columns")
    refuses(Col2Im(pads=(1, 1)), arrays, "pads are 2")
    refuses(Col2Im(), [arrays[0], ints(1, 1), arrays[2]], "does not fit")


def test_functions():
    def network(x):
        y = ops.depth_to_space(ops.space_to_depth(x, 2), 2, mode="CRD")
        return ops.tile(ops.trilu(y, upper=False), [1, 1, 2, 1])

    graph = graphopt.trace(network, x=f32["N", 1, 4, 4])
    assert [n.op.name for n in graph.nodes] == ["SpaceToDepth", "DepthToSpace", "Trilu", "Tile"]
    assert graph.outputs[0].type == f32["N", 1, 8, 4]
