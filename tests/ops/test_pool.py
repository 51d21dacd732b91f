"""Pools beside ONNX Runtime: MaxPool, AveragePool, GlobalAveragePool, GlobalMaxPool."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from graphopt.errors import OpsetError
from graphopt.ir.dims import symbol
from graphopt.ir.types import TensorType, f32, i64
from graphopt.onnx_format.opset import downgrade
from graphopt.ops.pool import AveragePool, GlobalAveragePool, GlobalMaxPool, MaxPool
from graphopt.ops.room import Fact, NoKernelError, Step
from ops.harness import check, check_old, compute, facts_of, inferred, is_symbolic_exact, magnitudes, normal, refuses

N, C, H, W = map(symbol, "NCHW")
SAME = ("SAME_UPPER", "SAME_LOWER")
SUMS = 16  # ulps of float32, of what was summed
LAST_ULP = 1  # of float16: computed in float32 and rounded once, by both

steps = st.integers(1, 3)


def lists(draw, elements, count):
    return tuple(draw(st.lists(elements, min_size=count, max_size=count)))


@st.composite
def pools(draw, dilated=True, ceils=(0, 1), auto_pads=("NOTSET",)):
    """Attributes, and the shape of an input that ONNX Runtime takes."""
    axes = draw(st.integers(1, 3))
    auto_pad = draw(st.sampled_from(auto_pads))
    kernel, strides = lists(draw, steps, axes), lists(draw, steps, axes)
    dilations = lists(draw, steps, axes) if dilated and auto_pad not in SAME else (1,) * axes
    ceil = draw(st.sampled_from(ceils))
    before, after = (tuple(draw(st.integers(0, k - 1)) for k in kernel) for _ in range(2))
    if auto_pad != "NOTSET":
        before = after = (0,) * axes
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    if auto_pad in SAME:
        least = [1] * axes
        kernel = tuple(map(max, kernel, strides))  # ONNX Runtime's MaxPool takes no strides beyond the kernel here
    else:
        # With ceil_mode the only window may reach beyond the end.
        spare = [draw(st.integers(0, s - 1)) if ceil else 0 for s in strides]
        least = [max(r - b - a - s, 1) for r, b, a, s in zip(reach, before, after, spare, strict=True)]
    spatial = [n + draw(st.integers(0, 4)) for n in least]
    attributes = {"kernel_shape": kernel, "strides": strides}
    attributes |= {"dilations": dilations} if dilated and (any(d > 1 for d in dilations) or draw(st.booleans())) else {}
    attributes |= {"ceil_mode": ceil} if ceil or draw(st.booleans()) else {}
    attributes |= {"pads": (*before, *after)} if auto_pad == "NOTSET" else {"auto_pad": auto_pad}
    return attributes, [draw(st.integers(0, 2)), draw(st.integers(1, 3)), *spatial]


def every_window_holds_an_element(attributes, shape):
    """Dilated ones may lie around a short input: ONNX does not say what is largest there."""
    one = np.ones((1, 1, *shape[2:]), np.float32)
    return bool((compute(MaxPool(**attributes), [one])[0] == 1).all())


# onnx's own inference also counts windows that begin in the padding behind the input, though its text drops them.
def infers(attributes):
    return not attributes.get("ceil_mode")


# ---- MaxPool


@settings(deadline=None)
@given(pools(auto_pads=("NOTSET", "NOTSET", "VALID", *SAME)), st.sampled_from([0, 1]), st.integers(1, 2))
def test_max_pool(case, order, results):
    attributes, shape = case
    assume(every_window_holds_an_element(attributes, shape))
    op = MaxPool(**attributes, storage_order=order)
    check(op, [normal(*shape)], results=results, exact=True, shape_inference=infers(attributes))


@settings(deadline=None)
@given(pools(), st.sampled_from([np.float16, np.float64, np.int8, np.uint8]), st.sampled_from([0, 1]))
def test_max_pool_of_other_types(case, dtype, order):
    attributes, shape = case
    assume(every_window_holds_an_element(attributes, shape))
    x = (normal(*shape) * 40 + (128 if dtype is np.uint8 else 0)).astype(dtype)
    op = MaxPool(**attributes, storage_order=order)
    check(op, [x], results=2, exact=True, shape_inference=infers(attributes))


@settings(deadline=None)
@given(pools(), st.integers(0, 3))
def test_max_pool_of_equal_elements_gives_the_first_index(case, levels):
    attributes, shape = case
    assume(every_window_holds_an_element(attributes, shape))
    x = np.random.default_rng(levels).integers(0, levels + 1, shape).astype(np.float32)
    x[x == 3] = -np.inf
    check(MaxPool(**attributes), [x], results=2, exact=True, shape_inference=infers(attributes))


OLD_MAX_POOL = [(7, False, (0,)), (8, False, (0,)), (10, True, (0, 1)), (11, True, (0, 1)), (12, True, (0, 1)),
                (21, True, (0, 1)), (22, True, (0, 1))]  # fmt: skip


@pytest.mark.parametrize(("opset", "dilated", "ceils"), OLD_MAX_POOL)
@settings(deadline=None, max_examples=20)
@given(st.data())
def test_max_pool_of_old_opsets(opset, dilated, ceils, data):
    attributes, shape = data.draw(pools(dilated, ceils))
    assume(every_window_holds_an_element(attributes, shape))
    attributes = {k: v for k, v in attributes.items() if k != "ceil_mode" or len(ceils) > 1}
    order = {} if opset < 8 else {"storage_order": data.draw(st.integers(0, 1))}
    check_old("MaxPool", [normal(*shape)], attributes | order, opset, results=1 if opset < 8 else 2)


def test_max_pool_nan_is_the_largest():
    """ONNX Runtime passes it over, or not, by the way that it computes; the oracle does not lose it."""
    x = np.array([[[1, np.nan, 2, 3]]], np.float32)
    largest, _ = compute(MaxPool(kernel_shape=(2,)), [x])
    assert np.isnan(largest[0, 0]).tolist() == [True, True, False]


def test_max_pool_below_everything():
    """ONNX Runtime's index of nothing but -inf is the first element that is no padding."""
    x = np.full((1, 2, 3), -np.inf, np.float32)
    check(MaxPool(kernel_shape=(2,), pads=(1, 1)), [x], results=2, exact=True)
    check(MaxPool(kernel_shape=(2,), pads=(1, 1)), [np.full((1, 2, 3), -128, np.int8)], results=2, exact=True)


def test_max_pool_keeps_bfloat16():
    x = np.array([[[1, -2, -3]]], ml_dtypes.bfloat16)
    largest, index = MaxPool(kernel_shape=(2,), pads=(0, 1)).kernel(x)
    assert largest.dtype == x.dtype
    assert largest.tolist() == [[[1, -2, -3]]]
    assert index.tolist() == [[[0, 1, 2]]]


# ---- AveragePool


@settings(deadline=None)
@given(pools(auto_pads=("NOTSET", "NOTSET", "VALID", *SAME)), st.sampled_from([0, 1]))
def test_average_pool(case, include):
    attributes, shape = case
    op = AveragePool(**attributes, count_include_pad=include)
    x = normal(*shape)
    check(op, [x], scale=magnitudes(op, [x]), ulps=SUMS, shape_inference=infers(attributes))


@settings(deadline=None)
@given(pools(), st.sampled_from([0, 1]))
def test_average_pool_in_half_precision(case, include):
    attributes, shape = case
    op = AveragePool(**attributes, count_include_pad=include)
    x = normal(*shape).astype(np.float16)
    check(op, [x], scale=magnitudes(op, [x]), ulps=LAST_ULP, shape_inference=infers(attributes))


OLD_AVERAGE_POOL = [(7, False, (0,)), (10, False, (0, 1)), (11, False, (0, 1)), (18, False, (0, 1)),
                    (19, True, (0, 1)), (22, True, (0, 1))]  # fmt: skip


@pytest.mark.parametrize(("opset", "dilated", "ceils"), OLD_AVERAGE_POOL)
@settings(deadline=None, max_examples=20)
@given(st.data())
def test_average_pool_of_old_opsets(opset, dilated, ceils, data):
    attributes, shape = data.draw(pools(dilated, ceils))
    attributes = {k: v for k, v in attributes.items() if k != "ceil_mode" or len(ceils) > 1}
    attributes["count_include_pad"] = data.draw(st.integers(0, 1))
    x = normal(*shape)
    check_old("AveragePool", [x], attributes, opset, scale=magnitudes(AveragePool(**attributes), [x]), ulps=SUMS)


def test_a_mean_of_pads_alone_is_0():
    for include in (0, 1):
        op = AveragePool(kernel_shape=(2,), dilations=(2,), pads=(1, 1), count_include_pad=include)
        assert check(op, [np.ones((1, 1, 1), np.float32)])[0] == 0


def test_means_of_large_halves():
    x = np.full((1, 2, 2, 2), 40000, np.float16)
    for op in (AveragePool(kernel_shape=(2, 2)), GlobalAveragePool()):
        assert (check(op, [x], ulps=LAST_ULP)[0] == 40000).all()
        assert (compute(op, [x])[0] == 40000).all()


# ---- What both share


def test_same_with_dilations_is_not_clear():
    """ONNX Runtime pads as if there were no dilations."""
    for op in (MaxPool, AveragePool):
        pool = op(kernel_shape=(2,), dilations=(2,), auto_pad="SAME_UPPER")
        assert not isinstance(inferred(pool, *facts_of([normal(1, 2, 5)]))[0].shape[2], int)
        with pytest.raises(NoKernelError, match="with auto_pad SAME_UPPER and dilations is not clear"):
            compute(pool, [normal(1, 2, 5)])


def shaped(*dims: object) -> Fact:
    return Fact(TensorType(f32, dims))


@pytest.mark.parametrize("cls", [MaxPool, AveragePool])
def test_symbolic_shapes(cls):
    def extents(**attributes):
        return inferred(cls(**{"kernel_shape": (3, 2), **attributes}), shaped(N, 8, H, W))[0].shape

    assert extents() == (N, 8, H - 2, W - 1)
    assert extents(strides=(2, 2), pads=(1, 0, 1, 0)) == (N, 8, (H + 1) // 2, W // 2)
    assert extents(strides=(2, 2), pads=(1, 0, 1, 0), ceil_mode=1) == (N, 8, H // 2 + 1, (W + 1) // 2)
    assert extents(strides=(4, 1), pads=(0, 0, 2, 0), ceil_mode=1) == (N, 8, (H + 3) // 4, W - 1)
    assert extents(dilations=(2, 3)) == (N, 8, H - 4, W - 3)
    assert extents(auto_pad="SAME_UPPER", strides=(2, 3)) == (N, 8, (H + 1) // 2, (W + 2) // 3)
    assert extents(auto_pad="VALID", strides=(2, 1)) == (N, 8, (H - 1) // 2, W - 1)
    assert is_symbolic_exact(cls(kernel_shape=(3,), ceil_mode=1), [shaped(N, C, H)])
    assert inferred(cls(kernel_shape=(3,)), Fact(TensorType(f32, None))) == (TensorType(f32, None),)


def test_max_pool_indices_are_integers_of_the_same_shape():
    types = inferred(MaxPool(kernel_shape=(2,)), shaped(N, C, H))
    assert [t.dtype for t in types] == [f32, i64]
    assert types[0].shape == types[1].shape == (N, C, H - 1)


@pytest.mark.parametrize("cls", [MaxPool, AveragePool])
def test_refusals(cls):
    x = normal(1, 2, 5, 5)

    def refused(pattern, **attributes):
        refuses(cls(**{"kernel_shape": (3, 3), **attributes}), [x], pattern)

    refused(r"the kernel \[3\] does not fit the rank of f32\[1, 2, 5, 5\]", kernel_shape=(3,))
    refuses(cls(kernel_shape=()), [normal(1, 2)], r"the kernel \[\] does not fit the rank of f32\[1, 2\]")
    refused("the kernel has 2 axes, strides 1, dilations 2, and pads are 4", strides=(1,))
    refused("strides 2, dilations 2, and pads are 2", pads=(1, 1))
    refused(r"the kernel \[3, 0\], strides \[1, 1\] and dilations \[1, 1\] must be positive", kernel_shape=(3, 0))
    refused(r"pads are \[0, 0, -1, 0\], and none may be below 0", pads=(0, 0, -1, 0))
    refused(r"pads are \[0, 3, 0, 0\] and the kernel \[3, 3\]: a window would hold nothing else", pads=(0, 3, 0, 0))
    refused("a window of 7 does not fit on 5 padded by 0", dilations=(1, 3))
    refused("a window of 7 does not fit on 5 padded by 0", dilations=(1, 3), ceil_mode=1)
    refused("a window of 7 does not fit on 5 padded by 0", dilations=(1, 3), ceil_mode=1, strides=(1, 2))
    refused("auto_pad is 'UPPER', and only NOTSET, VALID, SAME_UPPER, SAME_LOWER are known", auto_pad="UPPER")
    refuses(cls(kernel_shape=(2,)), [np.ones((1, 2, 3), bool)], f"{cls.__name__}'s operand 'x' is bool.*, and it takes")
    refuses(AveragePool(kernel_shape=(2,)), [np.ones((1, 2, 3), np.int8)], "operand 'x' is i8.*, and it takes float")
    fits = inferred(cls(kernel_shape=(7,), ceil_mode=1, strides=(3,)), *facts_of([normal(1, 2, 5)]))
    assert fits[0].shape == (1, 2, 1)


def lowered(op, opset, results=("y",), x=None):
    x = normal(1, 2, 5) if x is None else x
    return downgrade(op, Step(op.attributes, ("x",), results, facts_of([x])), opset)


@pytest.mark.parametrize(
    ("op", "opset", "reason"),
    [
        (MaxPool(kernel_shape=(2,), dilations=(2,)), 9, r"MaxPool with dilations=\[2\] needs opset 10"),
        (MaxPool(kernel_shape=(2,), ceil_mode=1), 9, "MaxPool with ceil_mode=1 needs opset 10"),
        (MaxPool(kernel_shape=(2,), storage_order=1), 7, "MaxPool with storage_order=1 needs opset 8"),
        (AveragePool(kernel_shape=(2,), dilations=(2,)), 18, r"AveragePool with dilations=\[2\] needs opset 19"),
        (AveragePool(kernel_shape=(2,), ceil_mode=1), 9, "AveragePool with ceil_mode=1 needs opset 10"),
    ],
)
def test_what_older_opsets_lack(op, opset, reason):
    with pytest.raises(OpsetError, match=reason):
        lowered(op, opset)
    assert lowered(op, opset + 1).attributes.keys() == op.attributes.keys()


def test_older_opsets_lose_what_says_nothing():
    plain = MaxPool(kernel_shape=(2,), dilations=(1,))
    assert lowered(plain, 9).attributes.keys() == {"kernel_shape"}
    assert lowered(AveragePool(kernel_shape=(2,), dilations=(1,)), 18).attributes.keys() == {"kernel_shape"}
    assert lowered(plain, 8, ("y", "index")).results == ("y", "index")
    assert lowered(plain, 7, ("y", "")).results == ("y",)
    with pytest.raises(OpsetError, match="MaxPool with indices needs opset 8"):
        lowered(plain, 7, ("y", "index"))
    with pytest.raises(OpsetError, match=r"MaxPool of i8 needs opset 12"):
        lowered(plain, 11, x=np.ones((1, 1, 3), np.int8))


def test_pools_do_no_multiplications():
    for op in (MaxPool(kernel_shape=(2,)), AveragePool(kernel_shape=(2,)), GlobalAveragePool(), GlobalMaxPool()):
        assert op.macs((shaped(1, 2, 5),), inferred(op, shaped(1, 2, 5))) == 0


# ---- GlobalAveragePool, GlobalMaxPool

GLOBAL = (GlobalAveragePool(), GlobalMaxPool())
shapes = st.tuples(st.integers(0, 2), st.integers(1, 3), st.lists(st.integers(1, 5), min_size=1, max_size=3))


@settings(deadline=None)
@given(st.sampled_from(GLOBAL), shapes, st.sampled_from([np.float32, np.float16]))
def test_global_pools(op, shape, dtype):
    n, c, spatial = shape
    x = normal(n, c, *spatial).astype(dtype)
    ulps = LAST_ULP if dtype is np.float16 else SUMS
    check(op, [x], exact=isinstance(op, GlobalMaxPool), scale=magnitudes(op, [x]), ulps=ulps)


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(GLOBAL), shapes, st.sampled_from([7, 21, 22]))
def test_global_pools_of_old_opsets(op, shape, opset):
    n, c, spatial = shape
    x = normal(n, c, *spatial)
    check_old(op.name, [x], {}, opset, scale=magnitudes(op, [x]), ulps=SUMS)


@pytest.mark.parametrize("op", GLOBAL, ids=str)
def test_global_types(op):
    assert inferred(op, shaped(N, C, H, W))[0].shape == (N, C, 1, 1)
    assert inferred(op, shaped(N, C, 5))[0].shape == (N, C, 1)
    assert inferred(op, Fact(TensorType(f32, None))) == (TensorType(f32, None),)
    refuses(op, [normal(2, 3)], r"f32\[2, 3\] has no spatial axes")
    refuses(op, [normal(2, 3, 4, 0)], r"f32\[2, 3, 4, 0\] has no elements to pool")
    refuses(op, [np.ones((1, 2, 3), np.int32)], "operand 'x' is i32.*, and it takes float")
