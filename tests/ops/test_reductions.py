"""Reductions beside ONNX Runtime: of floats, integers and nothing, over axes given or not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.errors import OpsetError
from graphopt.ir.attributes import Attribute, Kind
from graphopt.ir.constant import Constant
from graphopt.ir.dims import symbol
from graphopt.ir.types import TensorType, bf16, boolean, f32, i32, i64
from graphopt.onnx_format.opset import downgrade
from graphopt.ops.reductions import (
    ReduceL1,
    ReduceL2,
    ReduceLogSum,
    ReduceLogSumExp,
    ReduceMax,
    ReduceMin,
    ReduceProd,
    ReduceSumSquare,
)
from graphopt.ops.room import Fact, NoKernelError, Step
from ops.harness import check, compute, facts_of, inferred, normal, refuses, run_ort
from ops.reference import check_reference

ENDS = (ReduceMax, ReduceMin)
COMPOSITE = (ReduceL1, ReduceL2, ReduceSumSquare, ReduceLogSum, ReduceLogSumExp)
ROOMS = (*ENDS, ReduceProd, *COMPOSITE)


@st.composite
def cases(draw, least=1):
    shape = draw(st.lists(st.integers(least, 4), max_size=4))
    axes = draw(st.none() | st.lists(st.sampled_from(range(len(shape))), unique=True)) if shape else None
    if axes is not None:
        axes = [a - len(shape) * draw(st.integers(0, 1)) for a in axes]
    return shape, axes


@settings(deadline=None)
@given(
    cases(),
    st.sampled_from(ROOMS),
    st.integers(0, 1),
    st.integers(0, 1),
    st.booleans(),
    st.sampled_from([np.float16, np.float32, np.float64]),
)
def test_floats(case, room, keepdims, noop, constant, dtype):
    shape, axes = case
    x = normal(*shape)
    x = (np.abs(x) + np.float32(0.1) if room is ReduceLogSum else x).astype(dtype)
    arrays = [x] if axes is None else [x, np.array(axes, np.int64)]
    op = room(keepdims=keepdims, noop_with_empty_axes=noop)
    logarithm = room in (ReduceLogSum, ReduceLogSumExp)
    scale = np.ones(compute(op, arrays)[0].shape) if logarithm else None  # near 1 it cancels
    check(op, arrays, constants=[1] if constant else [], scale=scale)


@settings(deadline=None)
@given(
    st.data(), st.sampled_from(ROOMS), st.sampled_from([np.int32, np.int64]), st.sampled_from([9, 40_000, 2**31 - 1])
)
def test_integers(data, room, dtype, limit):
    """ONNX Runtime saturates what the type does not hold; ONNX says nothing of it."""
    numbers = data.draw(st.lists(st.integers(-limit, limit - 1), min_size=4, max_size=4))
    arrays = [np.array(numbers, dtype).reshape(2, 2), np.array(data.draw(st.sampled_from([[0], [1], [0, 1], []])))]
    arrays[1] = arrays[1].astype(np.int64)
    op = room(noop_with_empty_axes=data.draw(st.integers(0, 1)))
    try:
        compute(op, arrays)
    except NoKernelError:
        return
    check(op, arrays, constants=[1])


def test_what_integers_do_not_hold():
    large = np.array([2**31 - 1, 2**31 - 1], np.int32)
    for room in (ReduceProd, ReduceSumSquare):
        with pytest.raises(NoKernelError, match=f"(product|{room.__name__}) .*"):
            compute(room(), [large])
    with pytest.raises(NoKernelError, match="a product that int32 does not hold"):
        compute(ReduceProd(), [np.array([2**16, 2**16], np.int32)])
    with pytest.raises(NoKernelError, match="a product of large numbers in int64"):
        compute(ReduceProd(), [np.array([2**40, 2**40, 0])])
    with pytest.raises(NoKernelError, match="ReduceL1 gives a number that int32 does not hold"):
        compute(ReduceL1(), [large])
    with pytest.raises(NoKernelError, match="ReduceL1 of large numbers in int64"):
        compute(ReduceL1(), [np.array([2**53, 1])])
    with pytest.raises(NoKernelError, match="ReduceLogSumExp of integers differs between runtimes"):
        compute(ReduceLogSumExp(), [np.array([3, 1])])
    with pytest.raises(NoKernelError, match="ReduceLogSum gives a number that int64 does not hold"):
        compute(ReduceLogSum(), [np.array([-3, 1])])


@pytest.mark.parametrize("room", ENDS)
def test_the_ends_of_integers_and_truth_values(room):
    for dtype in (np.int8, np.uint8, np.int32, np.int64):
        x = np.array([[np.iinfo(dtype).min, 0, np.iinfo(dtype).max], [3, 1, 2]], dtype)
        check(room(), [x, np.array([1])], exact=True)
    truth = np.array([[True, False], [False, False], [True, True]])
    check(room(), [truth, np.array([1])])
    check(room(keepdims=0), [truth])
    check(room(noop_with_empty_axes=1), [truth])
    assert compute(room(), [np.array([2**53 + 1, 2**53 + 1])])[0].tolist() == [2**53 + 1]


@pytest.mark.parametrize("room", ROOMS)
def test_of_nothing(room):
    for arrays in ([normal(0, 3), np.array([0])], [normal(0, 3)], [normal(0, 3), np.array([1])], [normal(2, 0, 3)]):
        check(room(), arrays)
        check(room(keepdims=0), arrays)


@pytest.mark.parametrize("room", ROOMS)
def test_integers_of_nothing(room):
    arrays = [np.zeros((0, 3), np.int32), np.array([0])]
    if room in (ReduceLogSum, ReduceLogSumExp):
        with pytest.raises(NoKernelError, match=r"a number that int32 does not hold|of integers"):
            compute(room(), arrays)
    else:
        check(room(), arrays)


def test_truth_values_of_nothing():
    """ONNX Runtime says that it is not defined, ONNX that it is the least, or the largest, value."""
    nothing = [np.zeros((0, 3), bool), np.array([0])]
    assert compute(ReduceMax(), nothing)[0].tolist() == [[False] * 3]
    assert compute(ReduceMin(), nothing)[0].tolist() == [[True] * 3]


@pytest.mark.parametrize("room", [r for r in ROOMS if r not in ENDS])
def test_not_a_number_and_infinities_go_through(room):
    rows = [[np.nan, 1], [np.inf, 1], [np.inf, -np.inf], [-np.inf, 0], [-np.inf, -np.inf], [100, 100]]
    x = np.array(rows, np.float32)
    check(room(), [x, np.array([1])])
    check(room(noop_with_empty_axes=1), [x])


@pytest.mark.parametrize("room", ENDS)
def test_not_a_number_wins(room):
    """ONNX Runtime takes NaN for the largest where it comes first, and passes over it elsewhere."""
    x = np.array([[np.nan, 1, 2], [1, np.nan, 2], [1, 2, np.nan]], np.float32)
    theirs = run_ort(room.name, {"x": x, "axes": np.array([1])}, {})[0]
    assert np.isnan(theirs).ravel().tolist() == [True, False, False]
    assert np.isnan(compute(room(), [x, np.array([1])])[0]).all()
    check_reference(room(), [x, np.array([1])])
    infinite = np.array([[np.inf, 1], [-np.inf, 1], [-np.inf, -np.inf], [0, -0.0]], np.float32)
    check(room(), [infinite, np.array([1])])


def test_nothing_overflows_on_the_way():
    check(ReduceLogSumExp(), [np.array([[1e4, 1e4], [-1e4, -1e4]], np.float32), np.array([1])])


def test_half_precision_is_summed_in_more():
    many = np.full(4096, 1.0, np.float16)
    for room, want in ((ReduceL1, 4096), (ReduceL2, 64), (ReduceSumSquare, 4096)):
        check(room(), [many])
        assert compute(room(), [many])[0] == want
    large = np.array([[60000, 60000, 0.25, 0.25]], np.float16)
    check(ReduceProd(), [large])
    check(ReduceL2(), [large[:, :1]])
    for room in ROOMS:
        made = compute(room(), [np.abs(normal(3, 4)).astype(bf16.numpy)])[0]
        assert made.dtype == bf16.numpy


# Types and dims


@pytest.mark.parametrize("room", ROOMS)
def test_symbolic_axes(room):
    x, n, h = Fact(f32["N", "C", "H"]), symbol("N"), symbol("H")

    def reduced(axes, **attributes):
        return inferred(room(**attributes), x, axes)[0].shape

    assert reduced(Fact(i64[1], Constant.of(np.array([1])))) == (n, 1, h)
    assert reduced(Fact(i64[1], Constant.of(np.array([-2]))), keepdims=0) == (n, h)
    assert reduced(None, keepdims=0) == ()
    assert reduced(None, noop_with_empty_axes=1) == x.shape
    assert len(reduced(Fact(i64["K"]))) == 3
    assert inferred(room(), Fact(TensorType(f32, None)), None) == (TensorType(f32, None),)


def test_products_of_dims():
    n, h = symbol("N"), symbol("H")
    known = np.empty((2, 2), object)
    known[:] = [[n, 3], [h, 4]]
    shape = Fact(i64[2, 2], None, known)
    axis = Fact(i64[1], Constant.of(np.array([1])))
    assert ReduceProd().elements(shape).tolist() == [[12 * n * h]]
    assert ReduceProd(keepdims=0).elements(shape, axis).tolist() == [3 * n, 4 * h]
    whole = ReduceProd(keepdims=0).elements(shape)
    assert whole.shape == ()
    assert whole.dtype == object
    assert whole.item() == 12 * n * h
    assert ReduceProd(noop_with_empty_axes=1).elements(shape).tolist() == known.tolist()
    assert ReduceProd().elements(Fact(i64[0], None, np.empty(0, object))).tolist() == [1]
    assert ReduceProd().elements(shape, Fact(i64[1])) is None
    assert ReduceProd().elements(Fact(i64[2])) is None
    large = np.empty(2, object)
    large[:] = [2**20, 2**20]
    assert ReduceProd().elements(Fact(i32[2], None, large)) is None  # wraps
    assert ReduceMax().elements(shape) is None


@pytest.mark.parametrize("room", ROOMS)
def test_nothing_to_do(room):
    """Without axes a norm is one of each element alone, not the element."""
    x, op = Fact(f32["N", 3]), room(noop_with_empty_axes=1)
    assert op.forwards(x) == (None if room in COMPOSITE else 0)
    assert op.forwards(x, Fact(i64[0])) == (None if room in COMPOSITE else 0)
    assert op.forwards(x, Fact(i64["K"])) is None
    assert room().forwards(x) is None


def test_refusals():
    for room in ROOMS:
        refuses(room(), [normal(2, 3), np.array([2])], r"axes \[2\] are not all axes of a tensor of rank 2")
        refuses(room(), [normal(2, 3), np.array([1.0], np.float32)], "'axes' is f32")
        refuses(room(), [np.array(["a"], object)], "'x' is str")
    for room in (ReduceProd, *COMPOSITE):
        refuses(room(), [np.array([True])], r"'x' is bool\[1\]")
    assert ReduceMax().infer(Fact(boolean[3])) == boolean[1]


# Older opsets


def lowered(op, arrays, opset, constants=(1,)):
    names = tuple(f"x{i}" for i in range(len(arrays)))
    return downgrade(op, Step(op.attributes, names, ("r",), facts_of(arrays, constants)), opset)


@pytest.mark.parametrize("room", ROOMS)
def test_what_older_opsets_lack(room):
    x, axes = normal(2, 3), np.array([-1])
    with pytest.raises(OpsetError, match=f"{room.name} with computed axes needs opset 18"):
        lowered(room(), [x, axes], 17, ())
    with pytest.raises(OpsetError, match="noop_with_empty_axes=1 needs opset 18"):
        lowered(room(noop_with_empty_axes=1), [x, axes], 17)
    assert lowered(room(), [x, axes], 11).attributes["axes"] == Attribute(Kind.INTS, (-1,))
    assert lowered(room(), [x, axes], 10).attributes["axes"] == Attribute(Kind.INTS, (1,))


def test_truth_values_in_older_opsets():
    with pytest.raises(OpsetError, match="ReduceMax of bool needs opset"):
        lowered(ReduceMax(), [np.array([True])], 19)
