"""Mod, Mean and the operators on bits beside ONNX Runtime, and Mod on dims."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as arrays_of
from hypothesis.extra.numpy import mutually_broadcastable_shapes

from graphopt.errors import OpsetError
from graphopt.ir.constant import Constant
from graphopt.ir.dims import symbol
from graphopt.ir.types import DTYPES, TensorType, bf16, dtype_of_code, f16, f32, i32, i64
from graphopt.onnx_format.opset import downgrade
from graphopt.ops.arithmetic import Mean, Mod
from graphopt.ops.bits import BitCast, BitShift, BitwiseAnd, BitwiseNot, BitwiseOr, BitwiseXor
from graphopt.ops.room import Fact, NoKernelError, Step, Trait
from ops.harness import check, check_old, compute, facts_of, normal, refuses, run_ort

BITWISE = (BitwiseAnd, BitwiseOr, BitwiseXor)
INTEGERS = (np.int8, np.int32, np.int64, np.uint8, np.uint16, np.uint64)
SPECIAL = np.array([np.nan, 0.0, 1.0, -1.0, np.inf, -np.inf, 1e-40, 3e38, 0.5, -2.5], np.float32)


def shapes(count):
    return mutually_broadcastable_shapes(num_shapes=count, max_dims=4, min_side=0, max_side=4).map(
        lambda found: found.input_shapes
    )


def numbers(dtype):
    limits = np.iinfo(dtype)
    return st.integers(int(limits.min), int(limits.max)) | st.integers(max(-9, int(limits.min)), 9)


def told(*elements):
    known = np.empty(len(elements), object)
    known[:] = elements
    return Fact(i64[len(elements)], None, known)


# Mod


@settings(deadline=None)
@given(st.data(), st.sampled_from(INTEGERS), st.integers(0, 1))
def test_remainders_of_integers(data, dtype, fmod):
    a, b = (data.draw(arrays_of(dtype, (4,), elements=numbers(dtype))) for _ in range(2))
    assume((b != 0).all() and not ((a == np.iinfo(dtype).min) & (b.astype(float) == -1)).any())
    if fmod and any((np.abs(v.astype(float)) >= 2**53).any() for v in (a, b)):
        with pytest.raises(NoKernelError, match="runtimes round large numbers"):
            compute(Mod(fmod=1), [a, b])
    else:
        check(Mod(fmod=fmod), [a, b], exact=True)


def test_signs_of_remainders():
    arrays = [np.array([7, -7, 7, -7, 6]), np.array([3, 3, -3, -3, -3])]
    assert check(Mod(), arrays)[0].tolist() == [1, 2, -2, -1, 0]
    assert check(Mod(fmod=1), arrays)[0].tolist() == [1, -1, 1, -1, 0]


@settings(deadline=None)
@given(shapes(2), st.sampled_from([(), (0,), (1,), (0, 1)]), st.sampled_from([np.float16, np.float32, np.float64]))
def test_remainders_of_floats(found, constants, dtype):
    a, b = (normal(*s, seed=i).astype(dtype) for i, s in enumerate(found))
    check(Mod(fmod=1), [a * dtype(8), b], constants=constants)


def test_special_remainders():
    with np.errstate(all="ignore"):
        check(Mod(fmod=1), [SPECIAL[:, None], SPECIAL[None, :]])


def test_remainders_that_are_not_defined():
    with pytest.raises(NoKernelError, match="divided by 0"):
        compute(Mod(), [np.array([1, 2]), np.array([1, 0])])
    with pytest.raises(NoKernelError, match="-2147483648 and -1"):
        compute(Mod(), [np.array([-(2**31)], np.int32), np.array([-1], np.int32)])
    assert Trait.PARTIAL in Mod.traits


def test_remainders_of_dims():
    n, h = symbol("N"), symbol("H")
    for op in (Mod(), Mod(fmod=1)):
        assert op.elements(told(7, 8), told(3)).tolist() == [1, 2]
        assert op.elements(told(4 * n, 4 * n + 3), told(4)).tolist() == [0, 3]
        assert op.elements(told(h), told(8)).tolist() == [h - 8 * (h // 8)]
        assert op.elements(told(h), told(n + 1)).tolist() == [h - (n + 1) * (h // (n + 1))]
        assert op.elements(told(h), told(n)) is None  # N may be 0
        assert op.elements(told(h - 1), told(2)) is None
        assert op.elements(told(-7), told(3)) is None  # has two remainders
        assert op.elements(told(7), told(0)) is None
        assert op.elements(told(7), Fact(i64[1])) is None
    many = [Fact(i64[s], None, np.ones(s, object)) for s in ((1000, 1), (1, 1000))]
    assert Mod().elements(*many) is None


# Mean


@settings(deadline=None)
@given(st.integers(1, 4).flatmap(shapes), st.sampled_from([np.float16, np.float32]))
def test_means(found, dtype):
    check(Mean(), [normal(*s, seed=i).astype(dtype) for i, s in enumerate(found)])


def test_means_of_narrow_floats():
    large = np.full(3, 60000, np.float16)
    check(Mean(), [large, large, large])
    assert compute(Mean(), [large.astype(bf16.numpy)] * 3)[0].dtype == bf16.numpy
    assert Mean().forwards(Fact(f32["N"])) == 0
    small = np.delete(SPECIAL, 7)  # a sum of 3e38 overflows in float32 alone
    check(Mean(), [small[:, None], small[None, :]])


# Bits


@settings(deadline=None)
@given(st.data(), st.sampled_from([np.uint8, np.uint32, np.uint64]), st.sampled_from(["LEFT", "RIGHT"]))
def test_shifts(data, dtype, direction):
    x = data.draw(arrays_of(dtype, (4, 1), elements=numbers(dtype)))
    y = data.draw(arrays_of(dtype, (3,), elements=st.integers(0, np.iinfo(dtype).bits - 1)))
    check(BitShift(direction=direction), [x, y], exact=True)


def test_shifts_that_are_not_defined():
    with pytest.raises(NoKernelError, match="a shift of 16 bits by 17 is not defined"):
        compute(BitShift(direction="LEFT"), [np.array([1], np.uint16), np.array([17], np.uint16)])
    assert Trait.PARTIAL in BitShift.traits


@settings(deadline=None)
@given(st.data(), st.sampled_from(BITWISE), st.sampled_from(INTEGERS))
def test_bitwise(data, room, dtype):
    a = data.draw(arrays_of(dtype, (4, 1), elements=numbers(dtype)))
    b = data.draw(arrays_of(dtype, (3,), elements=numbers(dtype)))
    made = check(room(), [a, b], exact=True)
    np.testing.assert_array_equal(compute(room(), [b, a])[0], made[0])  # commutative
    check(BitwiseNot(), [a], exact=True)


@pytest.mark.parametrize("room", BITWISE)
def test_bitwise_without_elements_or_axes(room):
    check(room(), [np.zeros((0, 2), np.int32), np.array(3, np.int32)])
    check(room(), [np.array(5), np.array(3)])


PAIRS = [(f32, 6), (f32, 12), (i64, 11), (f16, 5), (DTYPES["u8"], 3), (DTYPES["f64"], 7)]


@pytest.mark.parametrize(("dtype", "to"), PAIRS)
def test_bit_casts(dtype, to):
    x = (normal(3, 4) * 100).astype(dtype.numpy) if dtype.is_float else np.arange(100, 112).astype(dtype.numpy)
    for array in (x, x.T, x.reshape(-1)[0], x[:0]):
        theirs = run_ort("BitCast", {"x": np.asarray(array)}, {"to": to})[0]
        made = compute(BitCast(to=to), [np.asarray(array)])[0]
        assert made.dtype == theirs.dtype
        np.testing.assert_array_equal(made, theirs)
        np.testing.assert_array_equal(compute(BitCast(to=dtype.code), [theirs])[0], array)


def test_bits_of_a_float_that_is_computed_in_more_are_refused():
    with pytest.raises(NoKernelError, match="the bits of float64 are no i32"):
        compute(BitCast(to=6), [normal(3)], np.float64)


def test_bit_casts_back_and_forth_of_all_widths():
    """ONNX Runtime casts few types; there and back is the same."""
    for first in DTYPES.values():
        for second in DTYPES.values():
            if first.bits != second.bits or "string" in (first.kind, second.kind):
                continue
            raw = np.arange(1 << min(first.bits, 8), dtype=np.uint8)
            if "bool" in (first.kind, second.kind):
                raw = raw[:2]
            x = raw.repeat(max(first.bits // 8, 1)).view(first.numpy)
            there = compute(BitCast(to=second.code), [x])[0]
            assert there.dtype == second.numpy
            assert compute(BitCast(to=first.code), [there])[0].tobytes() == x.tobytes()


def test_bits_of_no_truth_value():
    with pytest.raises(NoKernelError, match="other bits than 0 and 1"):
        compute(BitCast(to=9), [np.array([0, 2], np.uint8)])


def test_bit_casts_that_do_nothing():
    assert BitCast(to=6).forwards(Fact(i32["N"])) == 0
    assert BitCast(to=6).forwards(Fact(f32["N"])) is None


# Types and older opsets


def test_types():
    n = symbol("N")
    assert Mod().infer(Fact(i64["N", 1]), Fact(i64[4])).shape == (n, 4)
    assert Mod().infer(Fact(TensorType(i64, None)), Fact(i64[4])) == TensorType(i64, None)
    assert BitCast(to=1).infer(Fact(i32["N"])) == f32["N"]
    assert BitCast(to=1).infer(Fact(TensorType(i32, None))) == TensorType(f32, None)


def test_refusals():
    refuses(Mod(), [normal(2), normal(2)], r"the remainder of f32\[2\] needs fmod=1")
    refuses(Mod(fmod=2), [np.array([1]), np.array([1])], "fmod is 0 or 1, and not 2")
    refuses(Mod(), [np.array([1]), np.array([1], np.int32)], "different element types")
    refuses(Mean(), [normal(2), normal(3)], "do not broadcast")
    refuses(Mean(), [np.array([1])], "takes float")
    refuses(BitShift(direction="UP"), [np.array([1], np.uint8)] * 2, "LEFT or RIGHT, and not 'UP'")
    refuses(BitShift(direction="LEFT"), [np.array([1])] * 2, "takes uint")
    refuses(BitwiseAnd(), [normal(2), normal(2)], "takes int or uint")
    refuses(BitCast(to=7), [normal(2)], "the 32 bits of f32 are no i64, which has 64")
    refuses(BitCast(to=99), [normal(2)], "element type 99")
    refuses(BitCast(to=8), [normal(2)], "are no str")
    assert dtype_of_code(8).bits == 0


def lowered(op, arrays, opset):
    names = tuple(f"x{i}" for i in range(len(arrays)))
    return downgrade(op, Step(op.attributes, names, ("r",), facts_of(arrays)), opset)


def test_what_older_opsets_lack():
    with pytest.raises(OpsetError, match="broadcasting needs opset 8"):
        lowered(Mean(), [normal(2, 3), normal(3)], 7)
    with pytest.raises(OpsetError, match="Mod needs opset"):
        lowered(Mod(), [np.array([2]), np.array([3])], 9)
    with pytest.raises(OpsetError, match="BitCast needs opset"):
        lowered(BitCast(to=6), [normal(2)], 25)
    with pytest.raises(OpsetError, match="BitwiseAnd needs opset"):
        lowered(BitwiseAnd(), [np.array([2]), np.array([3])], 17)
    check_old("Mean", [normal(2, 3), normal(3, seed=1)], {}, 8)
    check_old("Mean", [normal(2, 3), normal(2, 3, seed=1)], {}, 7)


def test_constant_operands():
    held = Fact(i64[2], Constant.of(np.array([7, 9])))
    assert Mod().elements(held, held).tolist() == [0, 0]
