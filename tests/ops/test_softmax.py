"""Softmax, LogSoftmax and Hardmax beside ONNX Runtime."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.errors import OpsetError
from graphopt.ir.types import TensorType, f32
from graphopt.onnx_format.opset import downgrade
from graphopt.ops.room import Fact, Step, Trait
from graphopt.ops.softmax import Hardmax, LogSoftmax, Softmax
from ops.harness import check, check_old, compute, facts_of, inferred, normal, refuses, stays_opaque

ROOMS = (Softmax, LogSoftmax, Hardmax)
LAST_ULP = 1  # of float16: computed in float32 and rounded once, by both
each = pytest.mark.parametrize("room", ROOMS)


@settings(deadline=None)
@given(
    st.data(), st.lists(st.integers(0, 4), min_size=1, max_size=4), st.sampled_from([1.0, 50.0]), st.sampled_from(ROOMS)
)
def test_along_an_axis(data, shape, scale, room):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    check(room(axis=axis), [normal(*shape) * np.float32(scale)], exact=room is Hardmax)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.sampled_from(ROOMS))
def test_in_half_precision(shape, room):
    check(room(), [normal(*shape).astype(np.float16)], ulps=LAST_ULP)


def test_sums_of_narrow_floats_are_made_in_float32():
    for dtype in (np.float16, ml_dtypes.bfloat16):
        x = np.zeros(4096, dtype)
        assert (compute(Softmax(), [x])[0] == 2.0**-12).all()
        assert (compute(LogSoftmax(), [x])[0] == np.log(2.0**-12).astype(dtype)).all()
        assert compute(Hardmax(), [x])[0].tolist() == [1, *[0] * 4095]
        assert all(compute(room(), [x])[0].dtype == dtype for room in ROOMS)


ROWS = [[np.inf, 1, 2], [-np.inf, 1, 2], [-np.inf] * 3, [np.nan, 1, 2], [1, np.nan, 2], [3e38, -3e38, 0], [0, -0.0, 0]]


@each
def test_infinities_and_not_a_number(room):
    rows = np.array(ROWS, np.float32)
    check(room(), [rows if room is not Hardmax else rows[~np.isnan(rows).any(axis=1)]])


def test_hardmax_beside_not_a_number():
    """In ONNX Runtime it depends on where the NaN is."""
    assert not compute(Hardmax(), [np.array([[np.nan, 1, 2], [1, np.nan, 2], [1, 2, np.nan]])])[0].any()


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(-1, 1), min_size=12, max_size=12), st.integers(0, 1))
def test_hardmax_takes_the_first_of_equals(numbers, axis):
    check(Hardmax(axis=axis), [np.array(numbers, np.float32).reshape(3, 4)], exact=True)


def test_hardmax_of_any_value_is_one_hot():
    x = normal(5, 6, 7)
    y = compute(Hardmax(axis=1), [x])[0]
    assert (y.sum(axis=1) == 1).all()
    np.testing.assert_array_equal(y.argmax(axis=1), x.argmax(axis=1))


def test_log_softmax_is_exact_where_softmax_vanishes():
    assert compute(LogSoftmax(), [np.array([0.0, 1000.0])])[0].tolist() == [-1000, 0]


@settings(deadline=None)
@given(
    st.data(),
    st.lists(st.sampled_from([1, 1, 2, 3]), min_size=1, max_size=4),
    st.sampled_from([7, 11, 12]),
    st.sampled_from(ROOMS),
)
def test_before_opset_13(data, shape, opset, room):
    """The axes from `axis` on were taken together: the same as one axis where the others have extent 1."""
    axis = data.draw(st.integers(-len(shape) if opset >= 11 else 0, len(shape) - 1))
    x, attributes = normal(*shape), {"axis": axis}
    long = [d for d in shape[axis % len(shape) :] if d != 1]
    if len(long) > 1:
        assert stays_opaque(room.name, [x], attributes, opset)
    else:
        check_old(room.name, [x], attributes, opset)


@each
def test_default_axis_changed(room):
    assert check_old(room.name, [normal(2, 3)], {}, 12).axis == 1
    assert check_old(room.name, [normal(2, 1, 1, 3)], {}, 12).axis == 3
    assert stays_opaque(room.name, [normal(2, 3, 4)], {}, 12)
    assert stays_opaque(room.name, [normal(3)], {}, 12)


def lowered(op, known, opset):
    return downgrade(op, Step(op.attributes, ("x",), ("r",), known), opset)


@each
def test_below_opset_13(room):
    assert lowered(room(), facts_of([normal(2, 3, 4)]), 12).attributes["axis"].value == 2
    assert lowered(room(axis=1), facts_of([normal(2, 3, 1, 1)]), 12).attributes["axis"].value == 1
    with pytest.raises(OpsetError, match=rf"{room.name} over axis 1 of \[2, 3, 4\] needs opset 13"):
        lowered(room(axis=1), facts_of([normal(2, 3, 4)]), 12)
    with pytest.raises(OpsetError, match=f"{room.name} of a tensor of unknown rank needs opset 13"):
        lowered(room(), (Fact(TensorType(f32, None)),), 12)
    with pytest.raises(OpsetError, match=rf"{room.name} over axis 1 of \[N, 3, H\]"):
        lowered(room(axis=1), (Fact(f32["N", 3, "H"]),), 12)


@each
def test_types(room):
    assert inferred(room(axis=1), Fact(f32["N", 3])) == (f32["N", 3],)
    assert inferred(room(axis=9), Fact(TensorType(f32, None))) == (TensorType(f32, None),)
    refuses(room(axis=2), [normal(3, 4)], "axis 2 is not an axis of f32")
    refuses(room(), [normal()], "axis -1 is not an axis of f32")
    refuses(room(), [np.zeros(3, np.int32)], "takes float")
    assert Trait.ELEMENTWISE not in room.traits
