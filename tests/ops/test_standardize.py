"""Normalizations by a tensor's own statistics, beside ONNX Runtime."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.errors import OpsetError
from graphopt.ir.attributes import Attribute, Kind
from graphopt.ir.dims import symbol
from graphopt.ir.types import TensorType, bf16, f16, f32, f64
from graphopt.onnx_format.opset import downgrade
from graphopt.ops.room import Fact, NoKernelError, Step
from graphopt.ops.standardize import (
    GroupNormalization,
    InstanceNormalization,
    LayerNormalization,
    LpNormalization,
    MeanVarianceNormalization,
    RMSNormalization,
)
from ops.harness import check, check_old, compute, facts_of, inferred, normal, refuses, stays_opaque

N, C, H = map(symbol, "NCH")
SUMS = 16  # ulps of what was added
LAST_ULP = 1  # of float16: computed in float32 and rounded once, by both
UNKNOWN = Fact(TensorType(f32, None))

epsilons = st.sampled_from([1e-5, 1e-3, 0.125])
floats = st.sampled_from([np.float32, np.float32, np.float16])


def shaped(*dims: object, dtype=f32) -> Fact:
    return Fact(TensorType(dtype, dims))


def of(draw, lowest, ranks):
    """A tensor with at least two channels, that has some spread along each axis."""
    rank = draw(ranks)
    return normal(draw(st.integers(lowest, 3)), draw(st.sampled_from([2, 4, 6])), *(
        draw(st.integers(2, 4)) for _ in range(rank - 2)
    ), seed=9)  # fmt: skip


def added(x, axes, epsilon, scale, b):
    """What is added, in absolute values."""
    x = x.astype(np.float64)
    spread = np.sqrt(x.var(axis=axes, keepdims=True) + epsilon)
    wide = np.abs(x) + np.abs(x).mean(axis=axes, keepdims=True)
    return wide / spread * np.abs(scale) + np.abs(b)


# ---- InstanceNormalization, GroupNormalization


@st.composite
def instances(draw):
    x = of(draw, 0, st.integers(3, 5))
    return [x, normal(x.shape[1], seed=1), normal(x.shape[1], seed=2)]


def by_channel(parameter, x):
    return parameter.reshape((-1,) + (1,) * (x.ndim - 2)).astype(np.float64)


@settings(deadline=None, max_examples=50)
@given(instances(), epsilons, floats, st.booleans())
def test_instance_normalization(arrays, epsilon, dtype, constant):
    x, scale, b = arrays = [a.astype(dtype) for a in arrays]
    sums = added(x, tuple(range(2, x.ndim)), epsilon, by_channel(scale, x), by_channel(b, x)) if x.size else x
    ulps = LAST_ULP if dtype is np.float16 else SUMS
    check(InstanceNormalization(epsilon=epsilon), arrays, constants=[1, 2] if constant else [], ulps=ulps, scale=sums)


def test_instance_normalization_of_nothing_and_of_constants():
    scale, b = normal(3, seed=1), normal(3, seed=2)
    check(InstanceNormalization(), [normal(2, 3, 0), scale, b])
    check(InstanceNormalization(), [normal(0, 3, 4), scale, b])
    equal = [np.full((2, 3, 4), 0.5, np.float32), scale, b]
    check(InstanceNormalization(), equal)
    np.testing.assert_array_equal(compute(InstanceNormalization(), equal)[0], np.broadcast_to(b[:, None], (2, 3, 4)))
    assert np.isnan(check(InstanceNormalization(), [np.full((1, 3, 4), np.inf, np.float32), scale, b])[0]).all()


@st.composite
def groups(draw):
    x = of(draw, 1, st.integers(2, 4))
    return draw(st.sampled_from([g for g in (1, 2, 3) if x.shape[1] % g == 0])), x


def added_by_group(x, count, epsilon, scale, b):
    sums = added(x.reshape(x.shape[0], count, -1), (2,), epsilon, 1, 0).reshape(x.shape)
    return sums * np.abs(by_channel(scale, x)) + np.abs(by_channel(b, x))


@settings(deadline=None, max_examples=50)
@given(groups(), epsilons, st.sampled_from([21, 24, 26]))
def test_group_normalization(case, epsilon, opset):
    count, x = case
    scale, b = normal(x.shape[1], seed=1), normal(x.shape[1], seed=2)
    op = GroupNormalization(num_groups=count, epsilon=epsilon)
    check(op, [x, scale, b], opset=opset, ulps=SUMS, scale=added_by_group(x, count, epsilon, scale, b))


@settings(deadline=None, max_examples=50)
@given(groups(), epsilons, st.sampled_from([18, 19, 20]))
def test_group_normalization_by_group(case, epsilon, opset):
    """Before opset 21 there was one scale and one bias for each group of channels."""
    count, x = case
    arrays = [x, normal(count, seed=1), normal(count, seed=2)]
    attributes = {"num_groups": count, "epsilon": epsilon}
    sums = added_by_group(x, count, epsilon, *(np.repeat(a, x.shape[1] // count) for a in arrays[1:]))
    check_old("GroupNormalization", arrays, attributes, opset, constants=[1, 2], ulps=SUMS, scale=sums)
    assert stays_opaque("GroupNormalization", arrays, attributes, opset) == (count != x.shape[1])


def test_group_normalization_of_as_many_groups_as_channels():
    arrays = [normal(2, 3, 4), normal(3), normal(3)]
    check_old("GroupNormalization", arrays, {"num_groups": 3}, 18)


def lowered(op, arrays, opset, constants=(1, 2)):
    names = tuple(f"x{i}" for i in range(len(arrays)))
    return downgrade(op, Step(op.attributes, names, ("r",), facts_of(arrays, constants)), opset)


def test_what_older_opsets_lack():
    x, even = normal(2, 4, 3), np.float32([1, 1, 2, 2])
    op = GroupNormalization(num_groups=2)
    low = lowered(op, [x, even, -even], 18).operands
    assert [o.array().tolist() for o in low[1:]] == [[1, 2], [-1, -2]]
    with pytest.raises(OpsetError, match="GroupNormalization with a bias that differs within a group needs opset 21"):
        lowered(op, [x, even, normal(4)], 20)
    with pytest.raises(OpsetError, match="GroupNormalization with a computed scale needs opset 21"):
        lowered(op, [x, even, even], 20, ())
    with pytest.raises(OpsetError, match="GroupNormalization with stash_type=11 needs opset 21"):
        lowered(GroupNormalization(num_groups=4, stash_type=11), [x, even, even], 20)
    assert lowered(GroupNormalization(num_groups=4), [x, even, even], 20, ()).operands == ("x0", "x1", "x2")
    assert lowered(op, [x, even, even], 21).attributes == op.attributes
    for op, opset in ((LayerNormalization(), 16), (RMSNormalization(), 22), (MeanVarianceNormalization(), 8)):
        with pytest.raises(OpsetError, match=f"{op.name} needs opset"):
            lowered(op, [x, x], opset)


def test_by_group_with_unknown_channels_stays_opaque():
    """A list by group that does not fit the channels is not taken up either."""
    assert stays_opaque("GroupNormalization", [normal(4), normal(2), normal(2)], {"num_groups": 2}, 18)
    with pytest.raises(AssertionError, match="stays opaque"):
        check_old("GroupNormalization", [normal(2, 4, 3), normal(2), normal(2)], {"num_groups": 2}, 18)


# ---- LayerNormalization, RMSNormalization


@st.composite
def layers(draw):
    """x, the first axis, and shapes that broadcast to those from it on."""
    shape = [*draw(st.lists(st.integers(1, 3), max_size=3)), draw(st.integers(2, 5))]
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    tail = shape[axis:]
    full = draw(st.booleans())
    small = [d if draw(st.booleans()) else 1 for d in tail][draw(st.integers(0, len(tail))) :]
    return normal(*shape, seed=9), axis, tail if full else small


@settings(deadline=None, max_examples=80)
@given(layers(), epsilons, floats, st.booleans(), st.integers(1, 3), st.sampled_from([17, 22, 26]))
def test_layer_normalization(case, epsilon, dtype, biased, results, opset):
    x, axis, shape = case
    x, scale, b = (a.astype(dtype) for a in (x, normal(*shape, seed=1), normal(*shape, seed=2)))
    axes = tuple(range(axis % x.ndim, x.ndim))
    sums = added(x, axes, epsilon, scale, b if biased else 0)
    means = np.abs(x.astype(np.float64)).mean(axis=axes, keepdims=True)
    op = LayerNormalization(axis=axis, epsilon=epsilon)
    inverse = 1 / np.sqrt(x.astype(np.float64).var(axis=axes, keepdims=True) + epsilon)
    scales = [sums, means, inverse * (1 + means**2 * inverse**2)][:results]
    ulps = 3 if dtype is np.float16 else SUMS  # ONNX Runtime rounds the scale's product too
    check(op, [x, scale, b] if biased else [x, scale], opset=opset, results=results, ulps=ulps, scale=scales)


@settings(deadline=None, max_examples=50)
@given(layers(), epsilons)
def test_rms_normalization(case, epsilon):
    x, axis, shape = case
    check(RMSNormalization(axis=axis, epsilon=epsilon), [x, normal(*shape, seed=1)], ulps=SUMS)


def test_statistics_of_narrow_floats_are_made_in_float32():
    for dtype in (np.float16, ml_dtypes.bfloat16):
        x, one = np.full(4096, 300, dtype), np.ones(1, dtype)
        y, mean, factor = compute(LayerNormalization(), [x, one])
        assert (y.dtype, mean.dtype, factor.dtype) == (dtype, np.float32, np.float32)
        assert (mean[0], y.max()) == (float(dtype(300)), 0)
        assert compute(RMSNormalization(), [x, one])[0].tolist() == [1] * 4096
        for op in (InstanceNormalization(), GroupNormalization(num_groups=1)):
            assert (compute(op, [x.reshape(1, 1, -1), one, one])[0] == 1).all()
    assert compute(RMSNormalization(), [np.ones(3, np.float16), np.ones(3, np.float32)])[0].dtype == np.float32


def test_layer_normalization_keeps_float64():
    """ONNX Runtime's statistics of float64 are float32; its result is not, nor is the kernel's."""
    x, scale = normal(3, 5).astype(np.float64), normal(5).astype(np.float64)
    check(LayerNormalization(), [x, scale], scale=added(x, (1,), 1e-5, scale, 0))


def test_no_numbers_have_no_mean():
    for op in (LayerNormalization(), RMSNormalization()):
        with pytest.raises(NoKernelError, match=r"the mean of no numbers, of \[2, 0\] from axis -1 on"):
            compute(op, [normal(2, 0), normal(0)])
        assert compute(op, [normal(0, 2), normal(2)])[0].shape == (0, 2)


@pytest.mark.parametrize("op", [LayerNormalization(stash_type=16), RMSNormalization(stash_type=11),
                                GroupNormalization(num_groups=1, stash_type=10)], ids=str)  # fmt: skip
def test_statistics_in_other_types_have_no_kernel(op):
    arrays = [normal(2, 3), normal(3), normal(3)][: len(op.slots)]
    assert inferred(op, *facts_of(arrays, ()))[0].shape == (2, 3)
    with pytest.raises(NoKernelError, match=f"{op.name} with stash_type {op.stash_type} is not computed"):
        compute(op, arrays)


# ---- MeanVarianceNormalization, LpNormalization


@settings(deadline=None, max_examples=50)
@given(st.data(), st.sampled_from([9, 12, 13, 26]))
def test_mean_variance_normalization(data, opset):
    x = of(data.draw, 2, st.integers(2, 4))
    axes = data.draw(st.lists(st.integers(0, x.ndim - 1), min_size=1, unique=True))
    attributes = {} if x.ndim == 4 and data.draw(st.booleans()) else {"axes": axes}
    along = tuple(attributes.get("axes", (0, 2, 3)))
    spread = x.std(axis=along, keepdims=True)
    sums = added(x, along, 0, 1, 0) * (1 + (np.abs(x).mean(axis=along, keepdims=True) / spread) ** 2)
    check_old("MeanVarianceNormalization", [x], attributes, opset, ulps=SUMS, scale=sums)
    if opset == 26:  # onnx's own inference does not know the function's default axes
        check(MeanVarianceNormalization(axes=along), [x], ulps=SUMS, scale=sums, shape_inference=along != (0, 2, 3))


def test_equal_numbers_have_no_deviation():
    """ONNX's text and ONNX Runtime divide by 0; the function in ONNX adds 1e-9 first."""
    assert np.isnan(check(MeanVarianceNormalization(axes=(0, 1)), [np.ones((2, 3, 2), np.float32)])[0]).all()


@settings(deadline=None, max_examples=60)
@given(st.data(), st.lists(st.integers(0, 4), min_size=1, max_size=4), st.integers(1, 2),
       st.sampled_from([np.float16, np.float32, np.float64]), st.sampled_from([7, 21, 22, 26]))  # fmt: skip
def test_lp_normalization(data, shape, p, dtype, opset):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = np.where(np.abs(normal(*shape)) < 0.5, 0, normal(*shape)).astype(dtype)
    attributes = {"axis": axis, "p": p}
    if dtype is not np.float16:  # ONNX Runtime sums it in float16
        check_old("LpNormalization", [x], attributes, opset)
    if opset == 26:
        check(LpNormalization(**attributes), [x])


def test_lp_normalization_of_zeros_and_infinities():
    x = np.float32([[0, 0], [-0.0, 0], [np.inf, 1], [np.nan, 0], [1, -1]])
    for p in (1, 2):
        check(LpNormalization(p=p), [x])


# ---- Types


PARAMETERS = {2: [shaped(C)] * 2, 1: [shaped(C)]}
BY_CHANNEL = (InstanceNormalization(), GroupNormalization(num_groups=2))
OVER_LAST = (LayerNormalization(axis=1), RMSNormalization(axis=1))


@pytest.mark.parametrize("op", BY_CHANNEL, ids=str)
def test_types_by_channel(op):
    assert inferred(op, shaped(N, C, H), shaped(C), shaped(C)) == (shaped(N, C, H).type,)
    assert inferred(op, shaped(N, 4, H), shaped(C), shaped(4)) == (shaped(N, 4, H).type,)
    assert inferred(op, UNKNOWN, shaped(C), UNKNOWN) == (UNKNOWN.type,)
    x, p = normal(2, 4, 3), normal(4)
    refuses(op, [x, normal(3), p], r"scale is f32\[3\], and not one number for each channel of f32\[2, 4, 3\]")
    refuses(op, [x, p, normal(4, 1)], r"f32\[4, 1\], and not one number for each channel")
    refuses(op, [x, p, p.astype(np.float16)], r"the parameter f16\[4\] has another element type than f32\[2, 4, 3\]")
    refuses(op, [normal(2), p, p], r"f32\[2\] has 1 axes, and \d are the fewest")
    refuses(op, [x, p], f"{op.name} needs its operand")
    refuses(op, [x.astype(np.int32), p, p], "operand 'x' is i32.*, and it takes float")


def test_groups():
    x, p = normal(2, 4, 3), normal(4)
    for count in (0, -1, 3, 8):
        refuses(GroupNormalization(num_groups=count), [x, p, p], f"do not fall into {count} equal groups")
    refuses(GroupNormalization(num_groups=1, stash_type=7), [x, p, p], "stash_type is 7, and it is a float type's")
    refuses(GroupNormalization(num_groups=1, stash_type=99), [x, p, p], "stash_type is 99")
    refuses(InstanceNormalization(), [normal(2, 4), p, p], r"f32\[2, 4\] has 2 axes, and 3 are the fewest")


def test_types_over_the_last_axes():
    layer, rms = OVER_LAST
    x = shaped(N, C, H)
    stats = TensorType(f32, (N, 1, 1))
    assert inferred(layer, x, shaped(C, H), shaped(H)) == (x.type, stats, stats)
    assert inferred(layer, shaped(N, C, H, dtype=f16), shaped(dtype=f16))[1:] == (stats, stats)
    assert inferred(LayerNormalization(stash_type=16), x, shaped(H))[1].dtype == bf16
    assert inferred(LayerNormalization(axis=-3), x, shaped(N, 1, H))[1].shape == (1, 1, 1)
    assert inferred(layer, UNKNOWN, shaped(H)) == (UNKNOWN.type,) * 3
    assert inferred(rms, x, shaped(C, H)) == (x.type,)
    assert inferred(rms, x, shaped(H, dtype=f64)) == (TensorType(f64, x.shape),)
    assert inferred(rms, x, UNKNOWN) == (x.type,)
    refuses(LayerNormalization(stash_type=11), [normal(2, 3), normal(3)], "are in f32 or bf16, not in f64")
    refuses(layer, [normal(2, 3), normal(3), normal(3).astype(np.float16)], "another element type")
    for op in OVER_LAST:
        refuses(op, [normal(2), normal(2)], r"axis 1 is not an axis of f32\[2\]")
        refuses(op, [normal(2, 3), normal(2)], r"scale f32\[2\] does not broadcast to f32\[2, 3\]")
        refuses(op, [normal(2, 3), normal(1, 2, 3)], r"scale f32\[1, 2, 3\] does not broadcast to f32\[2, 3\]")


def test_types_of_the_others():
    x = shaped(N, C, H)
    assert inferred(MeanVarianceNormalization(axes=(0, -1)), x) == (x.type,)
    assert inferred(LpNormalization(), x) == (x.type,)
    assert inferred(MeanVarianceNormalization(), UNKNOWN) == inferred(LpNormalization(), UNKNOWN) == (UNKNOWN.type,)
    refuses(MeanVarianceNormalization(), [normal(2, 3, 4)], r"axes \[0, 2, 3\] are not all axes of a tensor of rank 3")
    refuses(MeanVarianceNormalization(axes=(1, -1)), [normal(2, 3)], r"axes \[1, -1\] name an axis twice")
    refuses(MeanVarianceNormalization(axes=()), [normal(2, 3)], "has no axes")
    refuses(LpNormalization(p=3), [normal(2)], "p is 3, and only the norms 1 and 2 are known")
    refuses(LpNormalization(), [normal()], r"axis -1 is not an axis of f32\[\]")


def test_attributes_are_written_where_they_differ():
    op = LayerNormalization(axis=1, stash_type=1)
    assert op.attributes == {"axis": Attribute(Kind.INT, 1)}
