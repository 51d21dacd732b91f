"""Constant, ConstantOfShape, Range."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.errors import OpsetError, TypeRuleError
from graphopt.ir.constant import Constant as Data
from graphopt.ir.dims import substitute, symbol
from graphopt.ir.types import TensorType, bf16, dtype_of, f16, f32, i32, i64, string
from graphopt.onnx_format.opset import downgrade
from graphopt.ops.create import Constant, ConstantOfShape, Range
from graphopt.ops.room import Fact, Step
from ops.harness import check, check_old, compute, facts_of, inferred, refuses, run_ort, stays_opaque

N, H = symbol("N"), symbol("H")


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def dim(value: object) -> Fact:
    """A fact of an int64 scalar that is a dim."""
    return Fact(TensorType(i64, ()), known=np.asarray(value, object))


# ---- Constant

FORMS = [
    ({"value": Data.of(np.array([[1.5, 2]], np.float32))}, f32, (1, 2)),
    ({"value": Data.of(ints(3, 4))}, i64, (2,)),
    ({"value_float": 1.5}, f32, ()),
    ({"value_floats": (1.5, 2.5)}, f32, (2,)),
    ({"value_int": 7}, i64, ()),
    ({"value_ints": (7, 8, 9)}, i64, (3,)),
    ({"value_string": "a"}, string, ()),
    ({"value_strings": ("a", "bc")}, string, (2,)),
]


@pytest.mark.parametrize(
    ("attributes", "dtype", "shape"), FORMS, ids=lambda v: next(iter(v)) if isinstance(v, dict) else ""
)
def test_constant(attributes, dtype, shape):
    op = Constant(**attributes)
    assert inferred(op) == (TensorType(dtype, shape),)
    made = compute(op, [])[0]
    theirs = run_ort("Constant", {}, op.attributes)[0]
    np.testing.assert_array_equal(made, theirs)
    assert made.dtype == theirs.dtype or dtype == string
    assert op.data().type == TensorType(dtype, shape)
    if dtype == i64:
        assert op.elements().tolist() == made.tolist()
    else:
        assert op.elements() is None
    name = next(iter(attributes))
    step = Step(op.attributes, (), ("y",), ())
    assert downgrade(op, step, 12).attributes == op.attributes
    if name.startswith("value_string"):
        with pytest.raises(OpsetError, match="Constant with strings needs opset 12"):
            downgrade(op, step, 11)
    else:
        lowered = downgrade(op, step, 11).attributes
        assert list(lowered) == ["value"]
        np.testing.assert_array_equal(run_ort("Constant", {}, lowered, opset=11)[0], theirs)


def test_constant_without_a_value():
    with pytest.raises(TypeRuleError, match="needs one of its value attributes"):
        inferred(Constant())


def test_constant_that_is_large_or_absent_is_no_list_of_dims():
    assert Constant(value=Data.of(np.arange(5000))).elements() is None
    assert Constant(value=Data(TensorType(i64, (2,)), digest="0" * 64)).elements() is None


def test_sparse_constants_stay_opaque():
    from types import MappingProxyType

    from graphopt.ir.attributes import Attribute, Kind
    from graphopt.onnx_format.opset import upgrade

    attributes = MappingProxyType({"sparse_value": Attribute(Kind.SPARSE_TENSOR, b"")})
    assert upgrade("", "Constant", Step(attributes, (), ("y",)), 13)[0].is_opaque


# ---- ConstantOfShape

VALUES = [
    None,
    np.array([2.5], np.float32),
    ints(-3),
    np.array([True]),
    np.array([7], np.int32),
    np.array([1], np.float16),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda v: "default" if v is None else str(v.dtype))
@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(0, 4), max_size=4))
def test_constant_of_shape(value, shape):
    op = ConstantOfShape(value=None if value is None else Data.of(value))
    theirs = run_ort("ConstantOfShape", {"x": ints(*shape)}, op.attributes)[0]
    made = compute(op, [ints(*shape)])[0]
    np.testing.assert_array_equal(made, theirs)
    assert made.dtype == theirs.dtype
    assert inferred(op, *facts_of([ints(*shape)])) == (TensorType(dtype_of(theirs.dtype), theirs.shape),)
    if theirs.dtype != np.float32:  # the harness wants float64 of a kernel, and this one is given no floats
        check(op, [ints(*shape)], constants={0})
        check(op, [ints(*shape)])
    check_old("ConstantOfShape", [ints(*shape)], dict(op.attributes), 9, constants={0})


def test_constant_of_shape_facts():
    (kind,) = inferred(ConstantOfShape(), Fact(TensorType(i64, (2,)), known=np.array([N, 3], object)))
    assert kind == TensorType(f32, (N, 3))
    assert inferred(ConstantOfShape(), Fact(TensorType(i64, (3,))))[0].rank == 3
    assert inferred(ConstantOfShape(), Fact(TensorType(i64, (N,))))[0].shape is None
    ones = ConstantOfShape(value=Data.of(ints(1)))
    assert ones.elements(*facts_of([ints(2)])).tolist() == [1, 1]
    assert ones.elements(Fact(TensorType(i64, (1,)), known=np.array([N], object))) is None
    assert ones.elements(*facts_of([ints(1 << 62, 1 << 62)])) is None
    assert ConstantOfShape().elements(*facts_of([ints(2)])) is None
    refuses(ConstantOfShape(), [ints(-1)], r"the shape \[-1\] has a negative dim")
    refuses(ConstantOfShape(value=Data.of(ints(1, 2))), [ints(1)], "the value has 2 elements, and one is needed")


def test_constant_of_shape_takes_no_room():
    assert compute(ConstantOfShape(), [ints(1 << 20, 1 << 20)])[0].shape == (1 << 20, 1 << 20)


def test_constant_of_shape_needs_9_and_20_for_some_types():
    facts = facts_of([ints(2)])
    op = ConstantOfShape()
    with pytest.raises(OpsetError, match="ConstantOfShape needs opset"):
        downgrade(op, Step(op.attributes, ("x",), ("y",), facts), 8)
    assert inferred(ConstantOfShape(value=Data.of(np.ones(1, bf16.numpy))), *facts)[0].dtype == bf16
    assert inferred(ConstantOfShape(value=Data.of(np.ones(1, np.float16))), *facts)[0].dtype == f16


# ---- Range


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int16])
@settings(deadline=None)
@given(start=st.integers(-9, 9), limit=st.integers(-9, 9), delta=st.integers(-4, 4).filter(bool))
def test_range_of_integers(dtype, start, limit, delta):
    arrays = [np.array(v, dtype) for v in (start, limit, delta)]
    check(Range(), arrays, constants={0, 1, 2})
    check(Range(), arrays, exact=True)
    known = Range().elements(*facts_of(arrays))
    assert (known is None) == (len(range(start, limit, delta)) == 0)


eighths = st.integers(-40, 40).map(lambda n: n / 8)


@settings(deadline=None)
@given(start=eighths, limit=eighths, delta=eighths.filter(bool))
def test_range_of_floats(start, limit, delta):
    check(Range(), [np.array(v, np.float32) for v in (start, limit, delta)], constants={0, 1, 2})


@pytest.mark.parametrize("numbers", [(0, 1, 0.1), (0.1, 0.3, 0.1), (1, 2, 0.15), (5, 1, -0.3), (0, 0.7, 0.1)])
def test_range_of_floats_with_rounding(numbers):
    """The number of elements is what ONNX Runtime makes of float32 numbers."""
    arrays = [np.array(v, np.float32) for v in numbers]
    theirs = run_ort("Range", dict(zip("abc", arrays, strict=True)), {})[0]
    (kind,) = inferred(Range(), *facts_of(arrays))
    assert kind.shape == theirs.shape
    made = compute(Range(), arrays)[0]
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, theirs, rtol=1e-6, atol=1e-6)


def test_range_facts():
    assert inferred(Range(), dim(0), dim(N), dim(1))[0].shape == (N,)
    assert inferred(Range(), dim(H), dim(H + N), dim(1))[0].shape == (N,)
    half = inferred(Range(), dim(0), dim(N), dim(2))[0].shape[0]
    assert [substitute(half, {"N": n}) for n in range(5)] == [0, 1, 1, 2, 2]
    assert inferred(Range(), dim(N), dim(N + 5), dim(2))[0].shape == (3,)
    for start, limit, delta in ((1, N, 1), (N, 0, 1), (0, N, -1), (0, N, H), (0, N - H, 1)):
        assert str(inferred(Range(), dim(start), dim(limit), dim(delta))[0].shape[0]).startswith("?")
    assert str(inferred(Range(), *(Fact(TensorType(i32, ())) for _ in range(3)))[0].shape[0]).startswith("?")
    refuses(Range(), [np.array(0), np.array(3), np.array(0)], "a delta of 0 goes nowhere")
    refuses(Range(), [np.array(v, np.float32) for v in (0, np.nan, 1)], "has no length")
    with pytest.raises(TypeRuleError, match="delta of 0"):
        inferred(Range(), dim(0), dim(N), dim(0))


def test_range_from_a_file_makes_nothing_huge():
    huge = [np.array(0), np.array(1 << 62), np.array(1)]
    assert Range().elements(*facts_of(huge)) is None
    assert inferred(Range(), *facts_of(huge))[0].shape == (1 << 62,)


def test_range_needs_11():
    facts = facts_of([np.array(0), np.array(3), np.array(1)])
    with pytest.raises(OpsetError, match="Range needs opset"):
        downgrade(Range(), Step({}, ("a", "b", "c"), ("y",), facts), 10)
    assert stays_opaque("Range", [np.array(0), np.array(3), np.array(1)], {"stash_type": 1}, 11)
