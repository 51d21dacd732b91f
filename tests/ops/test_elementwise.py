"""Elementwise arithmetic beside ONNX Runtime, on dims, and as scale and shift of channels."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as arrays_of
from hypothesis.extra.numpy import mutually_broadcastable_shapes

from graphopt.errors import OpsetError, TypeRuleError
from graphopt.ir.constant import Constant
from graphopt.ir.dims import symbol
from graphopt.ir.types import TensorType, dtype_of, f32, i64, u8
from graphopt.onnx_format.opset import downgrade
from graphopt.ops.algebra import Refused
from graphopt.ops.elementwise import Add, Div, Max, Min, Mul, Pow, Sub, Sum
from graphopt.ops.room import Fact, NoKernelError, Step, Trait, UnknownRankError
from graphopt.ops.unary import Abs, Ceil, Exp, Floor, Log, Neg, Reciprocal, Sqrt
from ops.harness import check, check_old, close, compute, facts_of, inferred, normal, refuses

BINARY = (Add, Sub, Mul, Div)
VARIADIC = (Sum, Min, Max)
SPECIAL = np.array([np.nan, 0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, 1e-40, 3e38, 0.5, -2.5], np.float32)
dims = st.integers(0, 4)


def shapes(count):
    return mutually_broadcastable_shapes(num_shapes=count, max_dims=4, min_side=0, max_side=4).map(
        lambda found: found.input_shapes
    )


def constant(*values, dtype=np.float32):
    array = np.array(values, dtype)
    return Fact(TensorType(dtype_of(array.dtype), array.shape), Constant.of(array))


def held(array):
    return Fact(TensorType(dtype_of(array.dtype), array.shape), Constant.of(array))


# Beside ONNX Runtime


@settings(deadline=None)
@given(shapes(2), st.sampled_from(BINARY), st.sampled_from([(), (0,), (1,), (0, 1)]))
def test_floats(found, room, constants):
    a, b = (normal(*s, seed=i) for i, s in enumerate(found))
    check(room(), [a, b], constants=constants, exact=True)


@settings(deadline=None)
@given(st.sampled_from(BINARY), st.sampled_from([np.int64, np.int32, np.int8, np.uint8]), st.data())
def test_integers(room, dtype, data):
    limits = np.iinfo(dtype)
    numbers = st.integers(int(limits.min), int(limits.max)) | st.integers(max(-4, int(limits.min)), 4)
    a, b = (data.draw(arrays_of(dtype, (3,), elements=numbers)) for _ in range(2))
    if room is Div:
        assume((b != 0).all())
        assume(not ((a == limits.min) & (b == -1)).any())
    check(room(), [a, b], exact=True)


@pytest.mark.parametrize("room", BINARY)
def test_special_floats(room):
    with np.errstate(all="ignore"):
        check(room(), [SPECIAL[:, None], SPECIAL[None, :]], exact=True)


def test_integers_round_toward_zero():
    made = check(Div(), [np.array([7, -7, 7, -7]), np.array([2, 2, -2, -2])])
    assert made[0].tolist() == [3, -3, -3, 3]


def test_what_ends_the_process_elsewhere_is_not_computed():
    with pytest.raises(NoKernelError, match="divided by 0"):
        compute(Div(), [np.array([1, 2]), np.array([1, 0])])
    with pytest.raises(NoKernelError, match="-2147483648 and -1"):
        compute(Div(), [np.array([-(2**31)], np.int32), np.array([-1], np.int32)])


@settings(deadline=None)
@given(st.integers(1, 4).flatmap(shapes), st.sampled_from(VARIADIC))
def test_variadic(found, room):
    check(room(), [normal(*s, seed=i) for i, s in enumerate(found)])


@pytest.mark.parametrize("room", [Min, Max])
def test_not_a_number_wins(room):
    check(room(), [SPECIAL[:, None], SPECIAL[None, :], np.zeros((), np.float32)], exact=True)


@settings(deadline=None)
@given(shapes(2), st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 2.0, 3.0]))
def test_powers(found, exponent):
    a = normal(*found[0])
    check(Pow(), [np.abs(a) + np.float32(0.1), np.full(found[1], exponent, np.float32)])


def test_powers_of_other_types():
    check(Pow(), [SPECIAL, np.array([2], np.int64)])
    check(Pow(), [SPECIAL[:, None], np.array([0, 1, 2, 0.5, -1, np.nan], np.float32)])
    check(Pow(), [np.array([7, -7, 2]), np.array([2, 3, 10])])
    check(Pow(), [np.array([2, 3], np.int32), np.array([0.5, 2], np.float32)])
    with pytest.raises(NoKernelError, match="out of range"):
        compute(Pow(), [np.array([10**9], np.int32), np.array([2], np.int32)])
    with pytest.raises(NoKernelError, match="out of range"):
        compute(Pow(), [np.array([0]), np.array([-1])])


@pytest.mark.parametrize("room", [Sqrt, Exp, Log, Neg, Abs, Reciprocal, Floor, Ceil])
def test_unary(room):
    check(room(), [np.concatenate([SPECIAL, normal(500) * 8])])
    check(room(), [normal(2, 0, 3)])


@pytest.mark.parametrize("room", [Neg, Abs])
def test_signed_integers(room):
    check(room(), [np.array([-(2**31), -1, 0, 5], np.int32)], exact=True)


# Types


def test_unlike_operands_are_refused():
    refuses(Add(), [normal(2, 3), normal(4)], r"\[2, 3\], \[4\] do not broadcast")
    refuses(Add(), [normal(2), np.zeros(2)], r"f32\[2\], f64\[2\] have different element types")
    refuses(Max(), [normal(2), np.zeros(2, np.int32)], "different element types")
    refuses(Sum(), [], "needs its operand 'xs'|no operands")
    refuses(Sqrt(), [np.zeros(2, np.int64)], "takes float")
    refuses(Neg(), [np.zeros(2, np.uint8)], "takes float or int")


def test_symbolic_broadcasting():
    n, c = symbol("N"), symbol("C")
    x = Fact(f32["N", "C", 7])
    assert Add().infer(x, Fact(f32["C", 1])).shape == (n, c, 7)
    assert Add().infer(x, Fact(f32[64, 7])).shape == (n, 64, 7)
    assert Add().infer(x, Fact(f32[1, 1, 1, 7])).shape == (1, n, c, 7)
    (mixed,) = Add().infer(Fact(f32["N"]), Fact(f32["M"])).shape
    assert str(mixed).startswith("?")
    assert Add().infer(x, Fact(TensorType(f32, None))) == TensorType(f32, None)


# On dims


def told(*elements, dtype=i64):
    known = np.empty(len(elements), object)
    known[:] = elements
    return Fact(dtype[len(elements)], None, known)


def test_arithmetic_of_dims():
    n, h = symbol("N"), symbol("H")
    assert Add().elements(told(n, 4), told(1, h)).tolist() == [n + 1, h + 4]
    assert Sub().elements(told(n), told(n)).tolist() == [0]
    assert Mul().elements(told(n), told(h)).tolist() == [n * h]
    assert Div().elements(told(4 * n, 7), told(2)).tolist() == [2 * n, 3]
    assert Div().elements(told(n - 1), told(2)) is None  # -1 // 2 is -1 for dims and 0 for integers
    assert Div().elements(told(7), told(0)) is None
    assert Div().elements(told(7), told(-2)) is None


def test_dims_without_axes_stay_objects():
    one = Fact(TensorType(i64, ()), Constant.of(np.array(6)))
    for op in (Add(), Sub(), Mul(), Div()):
        elements = op.elements(one, one)
        assert elements.dtype == object
        assert isinstance(elements.item(), int)


def test_dims_do_not_wrap():
    assert Sub().elements(told(3, dtype=u8), told(5, dtype=u8)) is None
    assert Sub().elements(told(symbol("N"), dtype=u8), told(1, dtype=u8)) is None
    assert Mul().elements(told(2**40), told(2**40)) is None
    assert Mul().elements(told(symbol("N")), told(2)).tolist() == [2 * symbol("N")]


# Nothing to do


@pytest.mark.parametrize(
    ("op", "other", "first", "second"),
    [
        (Mul(), 1.0, 0, 1),
        (Div(), 1.0, 0, None),
        (Sub(), 0.0, 0, None),
        (Sub(), -0.0, None, None),
        (Add(), -0.0, 0, 1),
        (Add(), 0.0, None, None),
        (Mul(), 0.0, None, None),
        (Mul(), 2.0, None, None),
    ],
)
def test_neutral_constants(op, other, first, second):
    x = Fact(f32["N", 3])
    assert op.forwards(x, constant(other)) == first
    assert op.forwards(constant(other), x) == second
    if first == 0:
        made = compute(op, [SPECIAL, np.float32(other).reshape(1)])[0]
        assert made[1:].tobytes() == SPECIAL[1:].tobytes()
        assert np.isnan(made[0])


def test_neutral_constants_that_broaden_do_something():
    ones = held(np.ones((2, 1, 1), np.float32))
    assert Mul().forwards(Fact(f32["N", 3]), ones) is None
    assert Mul().forwards(Fact(f32["N"]), held(np.ones(4, np.float32))) is None  # N may be 1
    assert Mul().forwards(Fact(f32[1]), held(np.ones(4, np.float32))) is None
    assert Mul().forwards(Fact(f32[3]), held(np.ones(4, np.float32))) is None
    assert Mul().forwards(Fact(f32["N", 4]), held(np.ones(4, np.float32))) == 0
    assert Mul().forwards(Fact(TensorType(f32, None)), ones) is None


def test_integer_zeros_have_no_sign():
    x = Fact(i64["N"])
    assert Add().forwards(x, constant(0, dtype=np.int64)) == 0
    assert Sub().forwards(x, constant(0, dtype=np.int64)) == 0


@pytest.mark.parametrize("room", VARIADIC)
def test_one_operand_passes(room):
    assert room().forwards(Fact(f32["N"])) == 0
    assert room().forwards(Fact(f32["N"]), Fact(f32["N"])) is None
    check(room(), [SPECIAL])


# Traits


@settings(deadline=None)
@given(shapes(2), st.sampled_from([*BINARY, Pow, *VARIADIC]))
def test_commutative_only_where_it_is(found, room):
    if Trait.COMMUTATIVE in room.traits:
        a, b = (normal(*s, seed=i) for i, s in enumerate(found))
        np.testing.assert_array_equal(compute(room(), [a, b])[0], compute(room(), [b, a])[0])


@pytest.mark.parametrize("room", [Sqrt, Exp, Log, Neg, Abs, Reciprocal, Floor, Ceil])
def test_traits_of_unary(room):
    x = np.sort(np.concatenate([SPECIAL[1:], normal(200)]).astype(np.float64))
    y = compute(room(), [x])[0]
    known = y[~np.isnan(y)]
    assert (np.diff(known[np.isfinite(known)]) >= 0).all() or Trait.MONOTONE not in room.traits
    if Trait.IDEMPOTENT in room.traits:
        np.testing.assert_array_equal(compute(room(), [y])[0], y)
    if Trait.POSITIVE_HOMOGENEOUS in room.traits:
        np.testing.assert_array_equal(compute(room(), [4 * x])[0], 4 * y)


# Scale and shift by channel


X = Fact(f32["N", 4, 6, 4])


@settings(deadline=None)
@given(st.sampled_from(BINARY), st.sampled_from([0, 1]), st.integers(0, 3), st.booleans(), st.integers(0, 3))
def test_affine_is_what_the_operator_does(room, data, axis, scalar, missing):
    x = normal(2, 4, 6, 4).astype(np.float64)
    shape = [1, 1, 1, 1] if scalar else [x.shape[axis] if i == axis else 1 for i in range(4)]
    lead = min(missing, next((i for i, d in enumerate(shape) if d != 1), 4))  # leading ones may be left out
    other = np.abs(normal(*shape[lead:], seed=3)).astype(np.float64) + 0.5
    arrays = [x, other] if data == 0 else [other, x]
    facts = tuple(held(a) if a is other else Fact(TensorType(dtype_of(a.dtype), a.shape)) for a in arrays)
    if room is Div and data == 1:
        with pytest.raises(Refused, match="divisor"):
            room().affine(facts, axis, data)
        return
    affine = room().affine(facts, axis, data)
    spread = [-1 if i == axis else 1 for i in range(4)]
    scale, shift = (v.reshape(spread) if v.ndim else v for v in (affine.scale, affine.shift))
    assert affine.data == data
    assert affine.scale.dtype == affine.shift.dtype == np.float64
    close(x * scale + shift, room().kernel(*arrays), 4)


@pytest.mark.parametrize(
    ("shape", "axis", "reason"),
    [
        ((4,), 1, r"f32\[4\] varies along axis 3 of f32\[N, 4, 6, 4\], the channels are axis 1"),
        ((1, 1, 4), 1, "varies along axis 3"),
        ((6, 1), 1, "varies along axis 2"),
        ((4, 1, 4), 1, "varies along axis 3"),
        ((1, 1, 1, 1, 1), 1, "broadens"),
        ((5, 1, 4, 1, 1), 1, "broadens"),
        ((3, 1, 1), 1, r"f32\[3, 1, 1\] has 3 channels and f32\[N, 4, 6, 4\] has 4"),
        ((2, 1, 1, 1), 0, "has 2 channels and .* has N"),
    ],
)
@pytest.mark.parametrize("room", BINARY)
def test_affine_refuses_other_axes(room, shape, axis, reason):
    with pytest.raises(Refused, match=reason):
        room().affine((X, held(np.ones(shape, np.float32))), axis, 0)


def test_affine_refuses_what_broadens_a_single_channel():
    x = Fact(f32["N", 1, 6, 4])
    with pytest.raises(Refused, match="8 channels and"):
        Add().affine((x, held(np.ones((8, 1, 1), np.float32))), 1, 0)


@pytest.mark.parametrize("room", BINARY)
def test_affine_refuses_what_is_no_constant(room):
    ones = constant(1.0)
    with pytest.raises(Refused, match="not a constant"):
        room().affine((X, Fact(f32[1])), 1, 0)
    with pytest.raises(Refused, match="ranks are not known"):
        room().affine((Fact(TensorType(f32, None)), ones), 1, 0)
    with pytest.raises(Refused, match="computes in i64"):
        room().affine((Fact(i64["N", 4, 6, 4]), constant(1, dtype=np.int64)), 1, 0)
    absent = Fact(f32[1], Constant(f32[1], digest="0" * 64))
    with pytest.raises(Refused, match="not a constant"):
        room().affine((X, absent), 1, 0)
    with pytest.raises(Refused, match="not finite"):
        room().affine((X, constant(np.inf)), 1, 0)


def test_affine_refuses_divisors_without_reciprocal():
    with pytest.raises(Refused, match="divisor is 0"):
        Div().affine((X, held(np.array([1, 0, 1, 1], np.float32).reshape(4, 1, 1))), 1, 0)
    tiny = held(np.full((4, 1, 1), 5e-324))
    x = Fact(TensorType(dtype_of(np.dtype(np.float64)), X.type.shape))
    with pytest.raises(Refused, match="not finite"):
        Div().affine((x, tiny), 1, 0)


# Older opsets


@pytest.mark.parametrize("opset", [7, 13])
@pytest.mark.parametrize("room", BINARY)
def test_older_arithmetic(room, opset):
    check_old(room.name, [normal(2, 3), normal(3, seed=1)], {}, opset)


@pytest.mark.parametrize("room", VARIADIC)
def test_older_variadic(room):
    check_old(room.name, [normal(2, 3), normal(3, seed=1)], {}, 8)
    check_old(room.name, [normal(2, 3), normal(2, 3, seed=1)], {}, 7)


def lowered(op, arrays, opset):
    names = tuple(f"x{i}" for i in range(len(arrays)))
    return downgrade(op, Step(op.attributes, names, ("r",), facts_of(arrays)), opset)


def test_what_older_opsets_lack():
    with pytest.raises(OpsetError, match="broadcasting needs opset 8"):
        lowered(Sum(), [normal(2, 3), normal(3)], 7)
    with pytest.raises(OpsetError, match="Pow of f32 to a power in i64 needs opset 12"):
        lowered(Pow(), [normal(2), np.array([2])], 11)
    with pytest.raises(OpsetError, match="Max of i64 needs opset"):
        lowered(Max(), [np.array([2]), np.array([3])], 11)
    check_old("Pow", [np.abs(normal(2, 3)), np.array([2.0], np.float32)], {}, 7)
    check_old("Pow", [normal(2, 3), np.array([2])], {}, 12)


def test_unknown_ranks_do_not_raise():
    anything = Fact(TensorType(f32, None))
    for op in (*(room() for room in BINARY), Pow()):
        try:
            assert inferred(op, anything, Fact(f32[3]))[0].dtype == f32
        except (TypeRuleError, UnknownRankError) as error:
            pytest.fail(f"{op.name}: {error!r}")
