"""Comparisons and truth values beside ONNX Runtime, and on dims."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

from graphopt.errors import OpsetError
from graphopt.ir.constant import Constant
from graphopt.ir.dims import symbol
from graphopt.ir.types import TensorType, bf16, boolean, dtype_of, dtype_of_code, f32, i64
from graphopt.onnx_format.opset import downgrade
from graphopt.ops.create import ConstantOfShape
from graphopt.ops.elementwise import Mul
from graphopt.ops.logic import And, Equal, Greater, GreaterOrEqual, IsInf, IsNaN, Less, LessOrEqual, Not, Or, Where, Xor
from graphopt.ops.room import Fact, Step, Trait
from graphopt.ops.shape import Cast, Expand, Shape
from ops.harness import check, compute, facts_of, inferred, normal, refuses
from ops.reference import check_reference

COMPARISONS = (Equal, Less, Greater, LessOrEqual, GreaterOrEqual)
CONNECTIVES = (And, Or, Xor)
SPECIAL = np.array([np.nan, 0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, 1e-40, 3e38], np.float32)


def shapes(count):
    return mutually_broadcastable_shapes(num_shapes=count, max_dims=4, min_side=0, max_side=4).map(
        lambda found: found.input_shapes
    )


def whole(shape, seed, dtype=np.float32):
    return np.round(np.abs(normal(*shape, seed=seed)) * 2).astype(dtype)


def told(*elements, dtype=i64):
    known = np.empty(len(elements), object)
    known[:] = elements
    return Fact(dtype[len(elements)], None, known)


def held(*values):
    array = np.array(values)
    return Fact(TensorType(dtype_of(array.dtype), array.shape), Constant.of(array))


# Beside ONNX Runtime


@settings(deadline=None)
@given(
    shapes(2),
    st.sampled_from(COMPARISONS),
    st.sampled_from([np.float32, np.float64, np.float16, np.int64, np.int32, np.int8, np.uint8, np.uint64]),
    st.sampled_from([(), (0,), (1,), (0, 1)]),
)
def test_comparisons(found, room, dtype, constants):
    check(room(), [whole(s, i, dtype) for i, s in enumerate(found)], constants=constants)


@pytest.mark.parametrize("room", COMPARISONS)
def test_special_floats_compare(room):
    check(room(), [SPECIAL[:, None], SPECIAL[None, :]])


@pytest.mark.parametrize("room", COMPARISONS)
def test_extreme_integers_compare(room):
    for dtype in (np.int64, np.uint64, np.int8):
        numbers = np.array([np.iinfo(dtype).min, 0, 1, np.iinfo(dtype).max - 1, np.iinfo(dtype).max], dtype)
        check(room(), [numbers[:, None], numbers[None, :]])


def test_truth_values_and_strings_are_equal():
    check(Equal(), [np.array([True, False]), np.array([[True], [False]])])
    words = np.array(["a", "b", ""], object)
    check(Equal(), [words[:, None], words])
    assert Equal().elements(*facts_of([words, words])) is None


def test_narrow_floats_compare():
    x = np.array([1, 2, np.nan, 3], bf16.numpy)
    assert compute(Equal(), [x, x])[0].tolist() == [True, True, False, True]
    assert compute(Less(), [x, x[::-1]])[0].tolist() == [True, False, False, False]


@settings(deadline=None)
@given(shapes(2), st.sampled_from(CONNECTIVES), st.sampled_from([(), (0,), (1,), (0, 1)]))
def test_connectives(found, room, constants):
    check(room(), [normal(*s, seed=i) > 0 for i, s in enumerate(found)], constants=constants)


def test_not():
    check(Not(), [normal(2, 3) > 0])
    check(Not(), [np.zeros((0, 2), bool)])
    check(Not(), [np.array(True)], constants=[0])


@settings(deadline=None)
@given(
    shapes(3),
    st.sampled_from([np.float32, np.int64, np.int32, np.uint8, np.float64]),
    st.sampled_from([(), (0,), (1, 2), (0, 1, 2)]),
)
def test_where(found, dtype, constants):
    condition = normal(*found[0]) > 0
    x, y = (whole(s, i, dtype) for i, s in enumerate(found[1:], 1))
    check(Where(), [condition, x, y], constants=constants)


@pytest.mark.parametrize("verdict", [True, False])
@pytest.mark.parametrize("shape", [(), (1, 1), (2, 3), (2, 1, 1)])
def test_where_it_is_the_same_everywhere(verdict, shape):
    check(Where(), [np.full(shape, verdict), normal(2, 3), normal(3, seed=1)], constants=[0])
    check(Where(), [np.full(shape, verdict), np.arange(3), np.arange(6).reshape(2, 3)], constants=[0])


def test_where_of_strings_and_complex_numbers():
    chosen = np.array([True, False])
    words = np.array(["a", "b"], object)
    check(Where(), [chosen, words, words[::-1]])
    numbers = np.array([1 + 2j, 3], np.complex64)
    assert compute(Where(), [chosen, numbers, -numbers])[0].tolist() == [1 + 2j, -3]
    check_reference(Where(), [chosen, chosen, ~chosen])  # ONNX Runtime chooses no truth values


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_not_a_number_and_infinities(dtype):
    with np.errstate(over="ignore"):
        x = SPECIAL.astype(dtype)
    check(IsNaN(), [x])
    for negative in (0, 1):
        for positive in (0, 1):
            check(IsInf(detect_negative=negative, detect_positive=positive), [x])
            check(IsInf(detect_negative=negative, detect_positive=positive), [x[:0]])


@pytest.mark.parametrize("code", [16, 17, 18, 19, 20])  # bfloat16 and the float8 types
def test_not_a_number_and_infinities_of_narrow_floats(code):
    x = np.array([1, np.nan, np.inf, -np.inf, 0, -2], np.float32).astype(dtype_of_code(code).numpy)
    wide = x.astype(np.float32)
    np.testing.assert_array_equal(compute(IsNaN(), [x])[0], np.isnan(wide))
    np.testing.assert_array_equal(compute(IsInf(), [x])[0], np.isinf(wide))
    np.testing.assert_array_equal(compute(IsInf(detect_negative=0), [x])[0], np.isposinf(wide))


# Types


def test_types():
    n = symbol("N")
    assert Equal().infer(Fact(f32["N", 1]), Fact(f32[4])) == boolean["N", 4]
    assert And().infer(Fact(boolean["N", 1]), Fact(boolean[4])) == boolean["N", 4]
    assert Where().infer(Fact(boolean[4, 1]), Fact(f32["N"]), Fact(f32[1])).shape == (4, n)
    unknown = Fact(TensorType(f32, None))
    assert Equal().infer(unknown, Fact(f32[4])) == TensorType(boolean, None)
    assert Where().infer(Fact(boolean[4]), unknown, Fact(f32[4])) == TensorType(f32, None)
    assert Where().infer(Fact(TensorType(boolean, None)), Fact(f32[4]), Fact(f32[4])) == TensorType(f32, None)
    assert IsNaN().infer(unknown) == TensorType(boolean, None)


def test_refusals():
    refuses(Equal(), [normal(2), np.zeros(2)], r"f32\[2\], f64\[2\] have different element types")
    refuses(Less(), [normal(2, 3), normal(4)], "do not broadcast")
    refuses(Less(), [np.zeros(2, bool), np.zeros(2, bool)], "takes float or int")
    refuses(And(), [np.zeros(2), np.zeros(2)], "takes bool")
    refuses(Not(), [np.zeros(2)], "takes bool")
    refuses(Where(), [np.zeros(2), normal(2), normal(2)], "'condition' is f64")
    refuses(Where(), [np.zeros(2, bool), normal(2), np.zeros(2)], "different element types")
    refuses(Where(), [np.zeros(3, bool), normal(2), normal(2)], "do not broadcast")
    refuses(IsInf(), [np.zeros(2, int)], "takes float")


# On dims


def test_what_is_certain_of_dims():
    n, h = symbol("N"), symbol("H")
    assert Equal().elements(told(n, 3, 4), told(n, 3, 5)).tolist() == [True, True, False]
    assert Equal().elements(told(n, h + 2), told(-1)).tolist() == [False, False]  # dims are not negative
    assert Equal().elements(told(n + h + 1), told(h)).tolist() == [False]
    assert Equal().elements(told(n), told(0)) is None
    assert Equal().elements(told(n), told(h)) is None
    assert Equal().elements(told(n - 1), told(-1)) is None  # N may be 0
    assert Equal().elements(told(7, n), told(8, h)) is None
    assert Less().elements(told(n, n, n), told(n + 1, n, -1)).tolist() == [True, False, False]
    assert Less().elements(told(n), told(3)) is None
    assert Less().elements(told(2, 3, 4), told(3)).tolist() == [True, False, False]
    assert Greater().elements(told(n, n), told(-1, n)).tolist() == [True, False]
    assert GreaterOrEqual().elements(told(n, n, n), told(0, n, n + 1)).tolist() == [True, True, False]
    assert GreaterOrEqual().elements(told(n), told(1)) is None
    assert LessOrEqual().elements(told(n, n + 1), told(n)).tolist() == [True, False]
    assert Equal().elements(told(n, dtype=i64), None) is None


@settings(deadline=None)
@given(st.data(), st.sampled_from(COMPARISONS))
def test_verdicts_hold_for_all_dims(data, room):
    """What is certain of two expressions is so for every number in place of the symbol."""
    n = symbol("N")
    forms = [lambda v, k: v + k, lambda v, k: 2 * v + k, lambda v, k: v // 2 + k, lambda v, k: k, lambda v, k: k - v]
    first, second = (data.draw(st.tuples(st.sampled_from(forms), st.integers(-2, 3))) for _ in range(2))
    elements = room().elements(told(first[0](n, first[1])), told(second[0](n, second[1])))
    for value in range(6):
        a, b = (np.array([form(value, k)]) for form, k in (first, second))
        assert elements is None or elements.tolist() == compute(room(), [a, b])[0].tolist()


def test_verdicts_are_followed():
    yes, no = told(True, False, dtype=boolean), told(True, dtype=boolean)
    for op, want in ((And(), [True, False]), (Or(), [True, True]), (Xor(), [False, True])):
        made = op.elements(yes, no)
        assert made.dtype == object
        assert made.tolist() == want
    assert Not().elements(yes).tolist() == [False, True]
    assert And().elements(held(True, False), yes).tolist() == [True, False]
    assert Cast(to=7).elements(yes).tolist() == [1, 0]
    assert And().elements(yes, Fact(boolean[2])) is None


def test_the_target_of_an_expand():
    """torch writes a target that may hold -1: Where(target == -1, 1, target)."""
    n, h = symbol("N"), symbol("H")
    target = Shape().elements(Fact(f32["N", 3, "H"]))
    shape = told(n, 3, h)
    assert target.tolist() == [n, 3, h]
    ones = told(*ConstantOfShape(value=Constant.of(np.array([1]))).elements(held(3)).tolist())
    minus = told(*Mul().elements(ones, held(-1)).tolist())
    for lengths, want in ((shape, [n, 3, h]), (told(-1, n, 4), [1, n, 4])):
        same = Fact(boolean[3], None, Equal().elements(lengths, minus))
        found = Where().elements(same, ones, lengths)
        assert found.tolist() == want
        assert Expand().infer(Fact(f32[1, 1, 1]), told(*found.tolist())).shape == tuple(want)


def test_where_stays_unknown_where_it_is():
    ones, shape = told(1, 1), told(symbol("N"), 4)
    assert Where().elements(Fact(boolean[2]), ones, shape) is None
    assert Where().elements(held(True, False), Fact(i64[2]), shape) is None
    assert Where().elements(held(True, False), ones, shape).tolist() == [1, 4]
    many = [Fact(i64[s], None, np.ones(s, object)) for s in ((1000, 1), (1, 1000))]
    assert Where().elements(held(True), *many) is None
    assert Equal().elements(*many) is None


# Nothing to do


@pytest.mark.parametrize(("op", "neutral"), [(And(), True), (Or(), False), (Xor(), False)])
def test_neutral_truth_values(op, neutral):
    x = Fact(boolean["N", 3])
    for other in (held(neutral), held(*[neutral] * 3)):
        assert op.forwards(x, other) == 0
        assert op.forwards(other, x) == 1
    for other in (held(not neutral), held(neutral, neutral, not neutral), Fact(boolean[3])):
        assert op.forwards(x, other) is None
    assert op.forwards(Fact(boolean[1]), held(neutral, neutral)) is None  # broadens


def test_certain_choices():
    x, y = Fact(f32["N", 3]), Fact(f32[3])
    assert Where().forwards(held(True), x, y) == 1
    assert Where().forwards(held(False), y, x) == 2
    assert Where().forwards(held(False), x, y) is None  # y is broadcast
    assert Where().forwards(held(True, False, True), x, y) is None
    assert Where().forwards(told(True, dtype=boolean), x, y) == 1
    assert Where().forwards(Fact(boolean[1]), x, y) is None
    assert Where().forwards(held(True), Fact(TensorType(f32, None)), y) is None


# Traits and older opsets


@pytest.mark.parametrize("room", [*COMPARISONS, *CONNECTIVES])
def test_commutative_only_where_it_is(room):
    a, b = whole((4, 1), 1, np.float32), whole((1, 5), 2, np.float32)
    if room in CONNECTIVES:
        a, b = a > 1, b > 1
    same = np.array_equal(compute(room(), [a, b])[0], compute(room(), [b, a])[0])
    assert same == (Trait.COMMUTATIVE in room.traits)


def lowered(op, arrays, opset):
    names = tuple(f"x{i}" for i in range(len(arrays)))
    return downgrade(op, Step(op.attributes, names, ("r",), facts_of(arrays)), opset)


def test_what_older_opsets_lack():
    with pytest.raises(OpsetError, match="Equal of f32 needs opset"):
        lowered(Equal(), [normal(2), normal(2)], 10)
    with pytest.raises(OpsetError, match="Equal of str needs opset"):
        lowered(Equal(), [np.array(["a"], object)] * 2, 18)
    with pytest.raises(OpsetError, match="Less of i64 needs opset"):
        lowered(Less(), [np.zeros(2, int)] * 2, 8)
    with pytest.raises(OpsetError, match="LessOrEqual needs opset"):
        lowered(LessOrEqual(), [normal(2), normal(2)], 11)
    with pytest.raises(OpsetError, match="Where needs opset"):
        lowered(Where(), [np.array(True), normal(2), normal(2)], 8)
    with pytest.raises(OpsetError, match="IsInf of f16 needs opset"):
        lowered(IsInf(), [np.zeros(2, np.float16)], 19)
    assert lowered(Where(), [np.array(True), normal(2), normal(2)], 9).operands == ("x0", "x1", "x2")
    assert inferred(Where(), *facts_of([np.array(True), normal(2), normal(2)])) == (f32[2],)
