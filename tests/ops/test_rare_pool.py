"""LpPool, GlobalLpPool, MaxUnpool and MaxRoiPool beside ONNX Runtime."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.errors import OpsetError
from graphopt.ir.constant import Constant
from graphopt.ir.dims import symbol
from graphopt.ir.types import TensorType, f32, i64
from graphopt.onnx_format.opset import downgrade
from graphopt.ops.pool import MaxPool
from graphopt.ops.rare_pool import GlobalLpPool, LpPool, MaxRoiPool, MaxUnpool
from graphopt.ops.room import Fact, NoKernelError, Step, Trait
from ops.harness import check, check_old, compute, facts_of, inferred, normal, refuses, run_ort, run_reference
from ops.test_pool import pools

N, C, H, W = map(symbol, "NCHW")
SAME = ("SAME_UPPER", "SAME_LOWER")
UNKNOWN = Fact(TensorType(f32, None))
LAST_ULP = 1  # of float16: computed in float32 and rounded once
KERNELS = 21  # the last opset of which ONNX Runtime has GlobalLpPool and MaxRoiPool


def shaped(*dims: object, dtype=f32) -> Fact:
    return Fact(TensorType(dtype, dims))


# ---- LpPool, GlobalLpPool


@settings(deadline=None, max_examples=80)
@given(pools(auto_pads=("NOTSET", "NOTSET", "VALID", *SAME)), st.integers(1, 4))
def test_lp_pool(case, p):
    attributes, shape = case
    inference = not attributes.get("ceil_mode")  # see test_pool.infers
    check(LpPool(**attributes, p=p), [normal(*shape)], shape_inference=inference)


@settings(deadline=None, max_examples=30)
@given(pools())
def test_lp_pool_in_half_precision(case):
    attributes, shape = case
    x = (normal(*shape) * 100).astype(np.float16)  # their squares would overflow
    made, wide = compute(LpPool(**attributes), [x])[0], compute(LpPool(**attributes), [x], np.float64)[0]
    np.testing.assert_allclose(made.astype(np.float64), wide, rtol=1e-3)
    assert compute(LpPool(**attributes), [x.astype(ml_dtypes.bfloat16)])[0].dtype == ml_dtypes.bfloat16


OLD = [(7, False, (0,)), (11, False, (0,)), (17, False, (0,)), (18, True, (0, 1)), (22, True, (0, 1))]


@pytest.mark.parametrize(("opset", "dilated", "ceils"), OLD)
@settings(deadline=None, max_examples=20)
@given(st.data())
def test_lp_pool_of_old_opsets(opset, dilated, ceils, data):
    attributes, shape = data.draw(pools(dilated, ceils))
    attributes = {k: v for k, v in attributes.items() if k != "ceil_mode" or len(ceils) > 1}
    check_old("LpPool", [normal(*shape)], {**attributes, "p": data.draw(st.integers(1, 3))}, opset)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 4), min_size=3, max_size=5), st.integers(1, 4), st.sampled_from([7, 20, KERNELS]))
def test_global_lp_pool(shape, p, opset):
    check(GlobalLpPool(p=p), [normal(*shape)], opset=opset)
    check_old("GlobalLpPool", [normal(*shape)], {"p": p}, opset)


def test_norms_of_special_numbers():
    x = np.float32([[[1, np.nan, 2, np.inf, -np.inf, 0, -0.0, 0]]])
    check(LpPool(kernel_shape=(2,)), [x])
    check(LpPool(kernel_shape=(2,), p=3), [x])
    check(GlobalLpPool(), [np.float32([[[3, -4]], [[np.inf, 0]]])], opset=KERNELS)


def test_norms_below_1_have_no_kernel():
    for op in (LpPool(kernel_shape=(2,), p=0), GlobalLpPool(p=-1)):
        with pytest.raises(NoKernelError, match=f"the norm {op.p} is not computed"):
            compute(op, [normal(1, 1, 3)])


def test_lp_pool_types():
    op = LpPool(kernel_shape=(3, 2), strides=(2, 1), pads=(1, 0, 1, 0))
    assert inferred(op, shaped(N, C, H, W)) == (TensorType(f32, (N, C, (H + 1) // 2, W - 1)),)
    assert inferred(op, UNKNOWN) == (TensorType(f32, None),)
    assert inferred(GlobalLpPool(), shaped(N, C, H, W)) == (TensorType(f32, (N, C, 1, 1)),)
    same = LpPool(kernel_shape=(2,), dilations=(2,), auto_pad="SAME_UPPER")
    with pytest.raises(NoKernelError, match="LpPool with auto_pad SAME_UPPER and dilations is not clear"):
        compute(same, [normal(1, 1, 5)])
    refuses(op, [normal(1, 1, 5)], r"the kernel \[3, 2\] does not fit the rank of f32\[1, 1, 5\]")
    refuses(GlobalLpPool(), [normal(2, 3)], r"f32\[2, 3\] has no spatial axes")
    assert Trait.WINDOW in LpPool.traits & GlobalLpPool.traits & MaxRoiPool.traits


def lowered(op, arrays, opset):
    names = tuple(f"x{i}" for i in range(len(arrays)))
    return downgrade(op, Step(op.attributes, names, ("y",), facts_of(arrays)), opset)


def test_what_older_opsets_lack():
    x = normal(1, 1, 5)
    with pytest.raises(OpsetError, match=r"LpPool with dilations=\[2\] needs opset 18"):
        lowered(LpPool(kernel_shape=(2,), dilations=(2,)), [x], 17)
    with pytest.raises(OpsetError, match="LpPool with ceil_mode=1 needs opset 18"):
        lowered(LpPool(kernel_shape=(2,), ceil_mode=1), [x], 17)
    assert lowered(LpPool(kernel_shape=(2,), dilations=(1,)), [x], 7).attributes.keys() == {"kernel_shape"}
    with pytest.raises(OpsetError, match="MaxUnpool needs opset"):
        lowered(MaxUnpool(kernel_shape=(2,)), [x, np.zeros((1, 1, 5), np.int64)], 8)


# ---- MaxUnpool


@st.composite
def pooled(draw):
    """What MaxPool makes of a tensor, the attributes of both, and a shape that it may have had."""
    axes = draw(st.integers(1, 3))
    kernel = tuple(draw(st.integers(1, 3)) for _ in range(axes))
    strides = tuple(draw(st.integers(1, 3)) for _ in range(axes))
    before = tuple(draw(st.integers(0, k - 1)) for k in kernel)
    counts = [draw(st.integers(1, 3)) for _ in range(axes)]
    sizes = [(n - 1) * s + k - 2 * b for n, s, k, b in zip(counts, strides, kernel, before, strict=True)]
    spare = [draw(st.integers(0, s - 1)) for s in strides]
    if any(size < 1 for size in sizes):
        before, sizes = (0,) * axes, [(n - 1) * s + k for n, s, k in zip(counts, strides, kernel, strict=True)]
    shape = [draw(st.integers(1, 2)), draw(st.integers(1, 2)), *map(sum, zip(sizes, spare, strict=True))]
    attributes = {"kernel_shape": kernel, "strides": strides, "pads": before * 2}
    x = np.random.default_rng(0).permutation(np.prod(shape)).reshape(shape).astype(np.float32) + 1
    return x, attributes, not any(spare)


@settings(deadline=None, max_examples=80)
@given(pooled(), st.booleans(), st.sampled_from([9, 11, 22, 26]), st.sampled_from([np.float32, np.float16]))
def test_max_unpool_puts_elements_back(case, told, opset, dtype):
    x, attributes, smallest = case
    y, index = compute(MaxPool(**attributes), [x])
    x, y = x.astype(dtype), y.astype(dtype)
    shape = [np.array(x.shape)] if told or not smallest else []
    op = MaxUnpool(**attributes)
    wanted = np.where(np.isin(np.arange(x.size), index).reshape(x.shape), x, 0)
    np.testing.assert_array_equal(compute(op, [y, index, *shape])[0], wanted)
    if dtype is np.float32 or opset >= 11:
        check_old("MaxUnpool", [y, index, *shape], attributes, opset)
    if opset == 26:
        check(op, [y, index, *shape], exact=True, constants=[2] if told and shape else [])


def test_indices_count_through_the_shape_asked_for():
    """Of a MaxPool over [5, 5]. onnx's reference counts through [4, 4], the smallest shape, and pads that."""
    x = np.arange(25, dtype=np.float32).reshape(1, 1, 5, 5)
    y, index = compute(MaxPool(kernel_shape=(2, 2), strides=(2, 2)), [x])
    op, arrays = MaxUnpool(kernel_shape=(2, 2), strides=(2, 2)), [y, index, np.array(x.shape)]
    made = check(op, arrays)[0]
    assert (made[made != 0] == x[made != 0]).all()
    small = [y, np.array([[[[5, 7], [13, 15]]]])]
    inputs = dict(zip("xi", small, strict=True))
    np.testing.assert_array_equal(compute(op, small)[0], run_reference("MaxUnpool", inputs, op.attributes)[0])


def test_max_unpool_of_indices_that_come_twice_or_lie_outside():
    op = MaxUnpool(kernel_shape=(2,), strides=(2,))
    y = np.float32([[[1, 2, 3]]])
    assert check(op, [y, np.array([[[1, 1, 0]]])])[0].tolist() == [[[3, 2, 0, 0, 0, 0]]]
    assert Trait.PARTIAL in MaxUnpool.traits
    for index in ([0, 1, 6], [0, 1, -1]):
        with pytest.raises(NoKernelError, match=r"indices from -?\d to \d do not all lie in \[1, 1, 6\]"):
            compute(op, [y, np.array([[index]])])
    check(op, [normal(1, 0, 3), np.zeros((1, 0, 3), np.int64)])


def listed(*numbers):
    return Fact(i64[len(numbers)], Constant.of(np.array(numbers, np.int64)))


def test_max_unpool_types():
    op = MaxUnpool(kernel_shape=(3, 2), strides=(2, 1), pads=(1, 0, 0, 0))
    x, index = shaped(N, C, H, W), shaped(N, C, H, W, dtype=i64)
    assert inferred(op, x, index) == (TensorType(f32, (N, C, 2 * H, W + 1)),)
    assert inferred(op, x, Fact(TensorType(i64, None)), listed(2, 3, 8, 9)) == (TensorType(f32, (2, 3, 8, 9)),)
    assert inferred(op, UNKNOWN, index) == (UNKNOWN.type,)
    open_shape = inferred(op, x, index, Fact(i64["K"]))[0].shape
    assert open_shape[:2] == (N, C)
    assert len(open_shape) == 4
    y, i = normal(1, 2, 3), np.zeros((1, 2, 3), np.int64)
    one = MaxUnpool(kernel_shape=(2,), strides=(2,))
    refuses(op, [y, i], r"the kernel \[3, 2\] does not fit the rank of f32\[1, 2, 3\]")
    refuses(one, [y, i[:, :1]], r"the indices i64\[1, 1, 3\] are not one for each element of f32\[1, 2, 3\]")
    refuses(one, [y, i, np.array([1, 2, 5])], r"output_shape is \[1, 2, 5\], and the least is \[1, 2, 6\]")
    refuses(one, [y, i, np.array([1, 3, 6])], r"output_shape is \[1, 3, 6\], and the least is \[1, 2, 6\]")
    refuses(one, [y, i, np.array([6])], "output_shape has 1 dims, and the result 3")
    refuses(MaxUnpool(kernel_shape=(1,), pads=(3, 3)), [y, i], r"pads are \[3, 3\], and would leave the extents \[-3\]")
    refuses(MaxUnpool(kernel_shape=(2,), strides=(0,)), [y, i], "must be positive")
    refuses(one, [y, i.astype(np.float32)], "operand 'i' is f32.*, and it takes int")


# ---- MaxRoiPool

corners = st.integers(-8, 40).map(lambda n: n / 4)


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.tuples(st.integers(0, 1), corners, corners, corners, corners), max_size=3),
    st.tuples(st.integers(1, 4), st.integers(1, 7)),
    st.sampled_from([1.0, 0.5, 0.25, 0.1]),
    st.sampled_from([7, KERNELS]),
)
def test_max_roi_pool(rois, pooled_shape, scale, opset):
    arrays = [normal(2, 2, 6, 8), np.array(rois, np.float32).reshape(-1, 5)]
    op = MaxRoiPool(pooled_shape=pooled_shape, spatial_scale=scale)
    check(op, arrays, opset=opset, exact=True)
    check_old("MaxRoiPool", arrays, {"pooled_shape": pooled_shape, "spatial_scale": scale}, opset)


def test_cells_are_placed_in_float32():
    """29 rows over 7 cells: in float32 and in float64 a cell does not always end at the same row."""
    x = np.random.default_rng(0).permutation(32 * 32).reshape(1, 1, 32, 32).astype(np.float32)
    extents = (13, 15, 25, 26, 29, 30, 31)
    rois = np.float32([[0, 0, 0, w - 1, h - 1] for w in extents for h in extents])
    for pooled_shape in ((7, 11), (11, 7), (5, 6)):
        check(MaxRoiPool(pooled_shape=pooled_shape), [x, rois], opset=KERNELS, exact=True)


def test_regions_without_elements_and_outside():
    x = np.full((1, 1, 4, 4), -1, np.float32)
    far = np.float32([[0, 9, 9, 12, 12]])
    assert (check(MaxRoiPool(pooled_shape=(2, 2)), [x, far], opset=KERNELS)[0] == 0).all()
    assert Trait.PARTIAL in MaxRoiPool.traits
    for first in (-1, 1, np.nan):
        with pytest.raises(NoKernelError, match="not among the 1 of the batch"):
            compute(MaxRoiPool(pooled_shape=(1, 1)), [x, np.float32([[first, 0, 0, 1, 1]])])
    for corner in (np.inf, np.nan, 1e20):
        with pytest.raises(NoKernelError, match="corner is not finite, or out of range"):
            compute(MaxRoiPool(pooled_shape=(1, 1)), [x, np.float32([[0, 0, 0, 1, corner]])])
    part = np.float32([[0.7, 0, 0, 1, 1]])  # the number of an image is cut off
    check(MaxRoiPool(pooled_shape=(1, 1)), [x, part], opset=KERNELS)


def test_max_roi_pool_types():
    op = MaxRoiPool(pooled_shape=(2, 3))
    assert inferred(op, shaped(N, C, H, W), shaped(H, 5)) == (TensorType(f32, (H, C, 2, 3)),)
    assert inferred(op, UNKNOWN, shaped(H, 5))[0].shape[0] == H
    assert inferred(op, shaped(N, C, H, W), UNKNOWN)[0].shape[1:] == (C, 2, 3)
    x, rois = normal(1, 2, 3, 4), normal(3, 5)
    refuses(op, [normal(1, 2, 3), rois], r"f32\[1, 2, 3\] is no batch of images")
    refuses(op, [x, normal(3, 4)], r"the regions f32\[3, 4\] are not rows of 5 numbers")
    refuses(op, [x, rois.astype(np.float16)], "another element type")
    for wrong in ((2,), (0, 2), (1, 2, 3), ()):
        refuses(MaxRoiPool(pooled_shape=wrong), [x, rois], r"pooled_shape is \[.*\], and not two numbers from 1 on")


def test_runtimes_have_no_kernel_of_the_newest_opset():
    """Once they do, these belong among the cases of every opset."""
    for name, arrays, attributes in (
        ("GlobalLpPool", {"x": normal(1, 1, 3)}, {}),
        ("MaxRoiPool", {"x": normal(1, 1, 3, 3), "r": normal(1, 5)}, {"pooled_shape": [1, 1]}),
    ):
        with pytest.raises(Exception, match="NOT_IMPLEMENTED"):
            run_ort(name, arrays, attributes, opset=22)
