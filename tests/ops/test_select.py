"""ArgMax, ArgMin, TopK and running totals beside ONNX Runtime."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.errors import OpsetError
from graphopt.ir.attributes import Attribute, Kind
from graphopt.ir.constant import Constant
from graphopt.ir.dims import symbol
from graphopt.ir.types import TensorType, bf16, f32, i64
from graphopt.onnx_format.opset import downgrade
from graphopt.ops.room import Fact, NoKernelError, Step, Trait
from graphopt.ops.select import ArgMax, ArgMin, CumProd, CumSum, TopK
from ops.harness import check, check_old, compute, facts_of, inferred, normal, refuses

ARGS = (ArgMax, ArgMin)
CUMULATIVE = (CumSum, CumProd)
FLOATS = (np.float16, np.float32, np.float64)
shapes = st.lists(st.integers(1, 5), min_size=1, max_size=4)


def ties(shape, dtype=np.float32):
    """Few different numbers, so that many are equal."""
    return np.round(normal(*shape)).astype(dtype)


def one(*values):
    array = np.array(values, np.int64)
    return Fact(TensorType(i64, array.shape), Constant.of(array))


# ArgMax, ArgMin


@settings(deadline=None)
@given(
    st.data(),
    shapes,
    st.sampled_from(ARGS),
    st.integers(0, 1),
    st.integers(0, 1),
    st.sampled_from([*FLOATS, np.int8, np.int32, np.int64]),
)
def test_extremes(data, shape, room, keepdims, last, dtype):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    check(room(axis=axis, keepdims=keepdims, select_last_index=last), [ties(shape, dtype)])


@pytest.mark.parametrize("room", ARGS)
def test_extremes_of_special_numbers(room):
    x = np.array([[0.0, -0.0, 0.0], [np.inf, -np.inf, np.inf], [-np.inf] * 3, [3e38, -3e38, 1e-40]], np.float32)
    for last in (0, 1):
        check(room(axis=1, select_last_index=last), [x])
    check(room(axis=1), [normal(0, 3)])
    largest = np.array([2**53, 2**53 + 1, -(2**63), 2**63 - 1])
    check(room(), [largest])
    assert compute(room(), [ties((3, 4)).astype(bf16.numpy)])[0].dtype == np.int64


@pytest.mark.parametrize("room", [*ARGS, TopK])
def test_where_nan_stands_is_not_computed(room):
    x = np.array([1, np.nan, 2], np.float32)
    with pytest.raises(NoKernelError, match=f"where {room.name} puts what is not a number"):
        compute(room(), [x, np.array([1])] if room is TopK else [x])


@pytest.mark.parametrize("room", ARGS)
def test_types_of_extremes(room):
    n = symbol("N")
    assert room(axis=1).infer(Fact(f32["N", "C"])) == i64["N", 1]
    assert room(axis=-1, keepdims=0).infer(Fact(f32["N", "C"])).shape == (n,)
    assert room(axis=5).infer(Fact(TensorType(f32, None))) == TensorType(i64, None)
    refuses(room(axis=2), [normal(2, 3)], r"axes \[2\] are not all axes of a tensor of rank 2")
    refuses(room(), [np.float32(1).reshape(())], "rank 0")
    refuses(room(), [normal(0, 3)], r"axis 0 of f32\[0, 3\] has no elements to choose from")
    refuses(room(), [np.array([True])], "takes float or int or uint")
    with pytest.raises(NoKernelError, match="no elements to choose from"):
        compute(room(), [normal(0, 3)])


# TopK


@settings(deadline=None)
@given(
    st.data(),
    shapes,
    st.integers(0, 1),
    st.sampled_from([*FLOATS, np.int8, np.uint8, np.int32, np.int64]),
    st.booleans(),
)
def test_top_k(data, shape, largest, dtype, constant):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    k = data.draw(st.integers(0, shape[axis]))
    x = ties(shape, dtype)
    check(TopK(axis=axis, largest=largest), [x, np.array([k])], constants=[1] if constant else [], results=2)


@pytest.mark.parametrize("largest", [0, 1])
def test_top_k_of_extreme_numbers(largest):
    for x in (
        np.array([0, 255, 128, 255, 0], np.uint8),
        np.array([-(2**63), 2**63 - 1, 0, -(2**63), 2**63 - 1]),
        np.array([np.inf, -np.inf, 3e38, np.inf, -np.inf], np.float32),
        np.array([0.0, -0.0, 0.0, -0.0, 0.0], np.float32),
    ):
        for k in (1, 4, 5):
            check(TopK(largest=largest), [x, np.array([k])], results=2, exact=True)
    check(TopK(largest=largest), [normal(0, 3), np.array([2])], results=2)
    check(TopK(largest=largest), [normal(3, 0), np.array([0])], results=2)


def test_order_that_is_not_defined():
    x = normal(2, 5)
    with pytest.raises(NoKernelError, match="sorted=0 is not defined"):
        compute(TopK(sorted=0), [x, np.array([2])])
    check(TopK(sorted=0), [x, np.array([1])], results=2)
    check(TopK(sorted=0), [x, np.array([0])], results=2)


def test_types_of_top_k():
    n, k = symbol("N"), symbol("K")
    x = Fact(f32["N", 9])
    assert TopK().infer(x, one(4)) == (f32["N", 4], i64["N", 4])
    known = np.array([k], object)
    assert TopK(axis=0).infer(x, Fact(i64[1], None, known)) == (f32["K", 9], i64["K", 9])
    values, index = TopK().infer(x, Fact(i64[1]))
    assert values.shape == index.shape
    assert values.shape[0] == n
    assert str(values.shape[1]).startswith("?")
    unknown = TopK().infer(Fact(TensorType(f32, None)), one(4))
    assert unknown == (TensorType(f32, None), TensorType(i64, None))
    refuses(TopK(), [normal(2, 3), np.array([4])], r"there are no 4 elements along axis 1 of f32\[2, 3\]")
    refuses(TopK(), [normal(2, 3), np.array([-1])], "there are no -1 elements")
    refuses(TopK(), [normal(2, 3), np.array(1)], r"a list of one, and not i64\[\]")
    refuses(TopK(), [normal(2, 3), np.array([1, 2])], r"a list of one, and not i64\[2\]")
    refuses(TopK(axis=2), [normal(2, 3), np.array([1])], "rank 2")
    refuses(TopK(), [np.float32(1).reshape(()), np.array([1])], "rank 0")
    with pytest.raises(NoKernelError, match="no 4 of 3 elements"):
        compute(TopK(), [normal(2, 3), np.array([4])])
    assert Trait.PARTIAL in TopK.traits


# Running totals


@settings(deadline=None)
@given(
    st.data(),
    st.lists(st.integers(0, 5), min_size=1, max_size=4),
    st.sampled_from(CUMULATIVE),
    st.integers(0, 1),
    st.integers(0, 1),
    st.sampled_from([*FLOATS, np.int32, np.int64]),
)
def test_running_totals(data, shape, room, exclusive, reverse, dtype):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    axes = np.array(data.draw(st.sampled_from([axis, [axis]])), data.draw(st.sampled_from([np.int32, np.int64])))
    x = (normal(*shape) * 3).astype(dtype)
    constants = data.draw(st.sampled_from([(), (1,)]))
    check(room(exclusive=exclusive, reverse=reverse), [x, axes], constants=constants)


@pytest.mark.parametrize("room", CUMULATIVE)
def test_running_totals_of_special_numbers(room):
    x = np.array([[1, np.inf, 3], [np.inf, -np.inf, 1], [np.nan, 0, 1], [0, np.inf, 1]], np.float32)
    for exclusive in (0, 1):
        for reverse in (0, 1):
            check(room(exclusive=exclusive, reverse=reverse), [x, np.array(1)])
    check(room(), [np.array([2**31 - 1, 2, 5], np.int32), np.array(0)], exact=True)  # wraps
    check(room(), [np.array([2**63 - 1, 2, 5]), np.array(0)], exact=True)


def test_half_precision_is_summed_in_more():
    check(CumSum(), [np.full(3000, 1, np.float16), np.array(0)])
    check(CumProd(), [np.full(50, 1.01, np.float16), np.array(0)])
    made = compute(CumSum(exclusive=1), [np.ones(3, bf16.numpy), np.array(0)])[0]
    assert made.dtype == bf16.numpy
    assert made.tolist() == [0, 1, 2]


def test_types_of_running_totals():
    for room in CUMULATIVE:
        assert inferred(room(), Fact(f32["N", 3]), Fact(i64[1]))[0] == f32["N", 3]
        assert inferred(room(), Fact(TensorType(f32, None)), one(4))[0] == TensorType(f32, None)
        refuses(room(), [normal(2, 3), np.array(2)], r"axes \[2\] are not all axes of a tensor of rank 2")
        refuses(room(), [normal(2, 3), np.array([0, 1])], r"the axis is one number, and not i64\[2\]")
        refuses(room(), [np.float32(1).reshape(()), np.array(0)], "has no axes to run along")
        with pytest.raises(NoKernelError, match="2 is no axis of a tensor of rank 2"):
            compute(room(), [normal(2, 3), np.array(2)])
        assert Trait.PARTIAL in room.traits


# Older opsets


def lowered(op, arrays, opset, constants=(1,)):
    names = tuple(f"x{i}" for i in range(len(arrays)))
    return downgrade(op, Step(op.attributes, names, ("r",), facts_of(arrays, constants)), opset)


def test_older_opsets():
    x = ties((2, 5))
    assert check_old("TopK", [x], {"k": 3}, 7, results=2) == TopK()
    check_old("TopK", [x, np.array([3])], {"axis": 1}, 10, results=2)
    check_old("TopK", [x, np.array([3])], {"largest": 0}, 11, results=2)
    assert check_old("ArgMax", [x], {"axis": 1}, 7) == ArgMax(axis=1)
    lower = lowered(TopK(), [x, np.array([3])], 9)
    assert lower.attributes["k"] == Attribute(Kind.INT, 3)
    assert lower.operands == ("x0",)
    assert lowered(ArgMin(axis=-1), [x], 10).attributes["axis"] == Attribute(Kind.INT, 1)


def test_what_older_opsets_lack():
    x, k = normal(2, 5), np.array([3])
    with pytest.raises(OpsetError, match="TopK with a computed k needs opset 10"):
        lowered(TopK(), [x, k], 9, ())
    with pytest.raises(OpsetError, match="TopK of 0 elements needs opset 10"):
        lowered(TopK(), [x, k * 0], 9)
    with pytest.raises(OpsetError, match="TopK with largest=0 needs opset 11"):
        lowered(TopK(largest=0), [x, k], 10)
    with pytest.raises(OpsetError, match="TopK with sorted=0 needs opset 11"):
        lowered(TopK(sorted=0), [x, k], 10)
    with pytest.raises(OpsetError, match="select_last_index=1 needs opset 12"):
        lowered(ArgMax(select_last_index=1), [x], 11)
    with pytest.raises(OpsetError, match="TopK of i64 needs opset"):
        lowered(TopK(), [k, np.array([1])], 10)
    with pytest.raises(OpsetError, match="CumSum needs opset"):
        lowered(CumSum(), [x, np.array(0)], 10)
    with pytest.raises(OpsetError, match="CumProd needs opset"):
        lowered(CumProd(), [x, np.array(0)], 25)
