"""Reductions beside ONNX Runtime: axes as operand and as attribute, given or not."""

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
from graphopt.ops.reduce import ReduceMean, ReduceSum
from graphopt.ops.room import Fact, NoKernelError, Step
from ops.harness import check, check_old, compute, facts_of, inferred, normal, refuses

ROOMS = (ReduceMean, ReduceSum)
NEWEST = {ReduceMean: 18, ReduceSum: 13}  # the opset of the definition


@st.composite
def cases(draw):
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    axes = draw(st.none() | st.lists(st.integers(0, len(shape) - 1), unique=True))
    if axes is not None:
        axes = [a - len(shape) * draw(st.integers(0, 1)) for a in axes]
    return shape, axes


@settings(deadline=None)
@given(cases(), st.sampled_from(ROOMS), st.integers(0, 1), st.integers(0, 1), st.booleans())
def test_axes_as_operand(case, room, keepdims, noop, constant):
    shape, axes = case
    arrays = [normal(*shape)] if axes is None else [normal(*shape), np.array(axes, np.int64)]
    check(room(keepdims=keepdims, noop_with_empty_axes=noop), arrays, constants=[1] if constant else [])


@settings(deadline=None)
@given(cases(), st.sampled_from(ROOMS), st.integers(0, 1), st.sampled_from([7, 10, 11, 12, 13, 17, 18]))
def test_axes_as_attribute(case, room, keepdims, opset):
    shape, axes = case
    if opset >= NEWEST[room]:
        arrays = [normal(*shape)] if axes is None else [normal(*shape), np.array(axes, np.int64)]
        check_old(room.name, arrays, {"keepdims": keepdims}, opset, constants=range(1, len(arrays)))
        return
    if axes and opset < 11:
        axes = [a % len(shape) for a in axes]
    given_axes = {} if axes is None else {"axes": Attribute(Kind.INTS, tuple(axes))}
    check_old(room.name, [normal(*shape)], {"keepdims": keepdims, **given_axes}, opset)


def test_integers():
    for room in ROOMS:
        check(room(), [np.array([[-1, -2, -2], [1, 2, 2]], np.int32), np.array([1])])
        check(room(), [np.array([2**40, 2**40 + 3]), np.array([0])])
        with pytest.raises(NoKernelError, match=f"{room.name} of large numbers in int64"):
            compute(room(), [np.array([2**53, 1])])
    check(ReduceMean(), [np.array([2**31 - 1, 2**31 - 1], np.int32), np.array([0])])


@settings(deadline=None)
@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=6), st.sampled_from(ROOMS))
def test_integers_of_any_size(numbers, room):
    """ONNX Runtime saturates a sum that the type does not hold, NumPy wraps, ONNX says nothing."""
    arrays = [np.array(numbers, np.int32), np.array([0])]
    if room is ReduceMean or -(2**31) <= sum(numbers) < 2**31:
        check(room(), arrays)
    else:
        with pytest.raises(NoKernelError, match="a sum that int32 does not hold"):
            compute(room(), arrays)
    check(room(), [np.array(numbers), np.array([0])])


def test_half_precision_is_summed_in_more():
    many = np.full(4096, 1.0, np.float16)
    assert compute(ReduceMean(), [many])[0] == 1
    assert compute(ReduceSum(), [many[:3000]])[0] == 3000


def test_no_numbers():
    check(ReduceSum(), [normal(0, 3), np.array([0])])
    check(ReduceMean(), [normal(2, 0), np.array([0])])
    with pytest.raises(NoKernelError, match="mean of no numbers"):
        compute(ReduceMean(), [normal(0, 3), np.array([0])])


@pytest.mark.parametrize("room", ROOMS)
def test_not_a_number_and_infinities_go_through(room):
    x = np.array([[np.nan, 1], [np.inf, 1], [np.inf, -np.inf], [-np.inf, 0]], np.float32)
    check(room(), [x, np.array([1])])


@pytest.mark.parametrize("room", ROOMS)
def test_symbolic_axes(room):
    x = Fact(f32["N", "C", "H"])
    n, h = symbol("N"), symbol("H")

    def reduced(axes, **attributes):
        return inferred(room(**attributes), x, axes)[0].shape

    assert reduced(Fact(i64[1], Constant.of(np.array([1])))) == (n, 1, h)
    assert reduced(Fact(i64[1], Constant.of(np.array([-2]))), keepdims=0) == (n, h)
    assert reduced(None) == (1, 1, 1)
    assert reduced(None, keepdims=0) == ()
    assert reduced(None, noop_with_empty_axes=1) == x.shape
    assert reduced(Fact(i64[0], Constant.of(np.zeros(0, np.int64))), noop_with_empty_axes=1) == x.shape
    assert len(reduced(Fact(i64["K"]))) == 3
    assert len(reduced(Fact(i64[1]), keepdims=0)) == 2
    assert reduced(Fact(i64[2]), keepdims=0) is None  # both may name the same axis
    assert reduced(Fact(i64["K"]), keepdims=0) is None
    assert inferred(room(), Fact(TensorType(f32, None)), None) == (TensorType(f32, None),)


@pytest.mark.parametrize("room", ROOMS)
def test_nothing_to_do(room):
    x = Fact(f32["N", 3])
    empty = Fact(i64[0])
    assert room(noop_with_empty_axes=1).forwards(x) == 0
    assert room(noop_with_empty_axes=1).forwards(x, None) == 0
    assert room(noop_with_empty_axes=1).forwards(x, empty) == 0
    assert room().forwards(x, empty) is None
    assert room(noop_with_empty_axes=1).forwards(x, Fact(i64["K"])) is None
    assert room(noop_with_empty_axes=1).forwards(x, Fact(i64[1])) is None


@pytest.mark.parametrize("room", ROOMS)
def test_refusals(room):
    refuses(room(), [normal(2, 3), np.array([2])], r"axes \[2\] are not all axes of a tensor of rank 2")
    refuses(room(), [normal(2, 3), np.array([-3])], r"axes \[-3\]")
    refuses(room(), [normal(2, 3), np.array([1.0], np.float32)], "'axes' is f32")


def lowered(op, arrays, opset, constants=(1,)):
    names = tuple(f"x{i}" for i in range(len(arrays)))
    return downgrade(op, Step(op.attributes, names, ("r",), facts_of(arrays, constants)), opset)


@pytest.mark.parametrize("room", ROOMS)
def test_what_older_opsets_lack(room):
    old, x, axes = NEWEST[room] - 1, normal(2, 3), np.array([-1])
    with pytest.raises(OpsetError, match=f"{room.name} with computed axes needs opset {NEWEST[room]}"):
        lowered(room(), [x, axes], old, ())
    with pytest.raises(OpsetError, match="noop_with_empty_axes=1 needs opset"):
        lowered(room(noop_with_empty_axes=1), [x, axes], old)
    assert lowered(room(), [x, axes], 11).attributes["axes"] == Attribute(Kind.INTS, (-1,))
    assert lowered(room(), [x, axes], 10).attributes["axes"] == Attribute(Kind.INTS, (1,))
