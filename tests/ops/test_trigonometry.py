"""Circular and hyperbolic functions, Round, Sign and Det, beside ONNX Runtime."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.errors import OpsetError
from graphopt.ir.dims import symbol
from graphopt.ir.types import TensorType, f32
from graphopt.onnx_format.opset import downgrade
from graphopt.ops.room import Fact, Step, Trait
from graphopt.ops.trigonometry import (
    Acos,
    Acosh,
    Asin,
    Asinh,
    Atan,
    Atanh,
    Cos,
    Cosh,
    Det,
    Round,
    Sign,
    Sin,
    Sinh,
    Tan,
)
from ops.harness import check, close, compute, facts_of, inferred, normal, refuses

ALL = (Sin(), Cos(), Tan(), Asin(), Acos(), Atan(), Sinh(), Cosh(), Asinh(), Acosh(), Atanh(), Round(), Sign())
WIDE = ("Sin", "Cos", "Round", "Sign")  # that ONNX Runtime has in float64
SPECIAL = np.array(
    [np.nan, 0.0, -0.0, 0.5, -0.5, 1, -1, 1.5, -1.5, 2.5, -2.5, np.inf, -np.inf, 1e-40, 80, -80], np.float32
)
LAST_ULP = 1  # of float16: computed in float32 and rounded once

shapes = st.lists(st.integers(0, 4), max_size=4)
each = pytest.mark.parametrize("op", ALL, ids=str)


@settings(deadline=None, max_examples=150)
@given(shapes, st.sampled_from(ALL), st.sampled_from([0.1, 1.0, 30.0]))
def test_random_numbers(shape, op, scale):
    x = np.asarray(normal(*shape) * np.float32(scale))
    x = np.asarray(np.abs(x) + np.float32(1.01)) if op.name == "Acosh" else x  # ill-conditioned at 1
    x = np.clip(x, -0.99, 0.99) if op.name == "Atanh" else x
    check(op, [x], exact=op.name in ("Round", "Sign"))
    if op.name in WIDE:
        check(op, [x.astype(np.float64)])


@each
def test_special_numbers(op):
    check(op, [SPECIAL])


@each
def test_half_precision(op):
    x = np.append(normal(200), SPECIAL).astype(np.float16)
    close(compute(op, [x])[0], compute(op, [x], np.float64)[0], LAST_ULP)
    assert compute(op, [x.astype(ml_dtypes.bfloat16)])[0].dtype == ml_dtypes.bfloat16


@settings(deadline=None)
@given(st.lists(st.integers(-20, 20), max_size=8))
def test_round_to_even(halves):
    made = check(Round(), [np.array(halves, np.float32) / 2], exact=True)[0]
    assert made.tolist() == [float(round(n / 2)) for n in halves]


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint8, np.uint64])
def test_sign_of_integers(dtype):
    limits = np.iinfo(dtype)
    check(Sign(), [np.array([limits.min, 0, 1, limits.max], dtype)], exact=True)


@each
def test_types(op):
    assert inferred(op, Fact(f32["N", 3])) == (f32["N", 3],)
    assert inferred(op, Fact(TensorType(f32, None))) == (TensorType(f32, None),)
    refuses(op, [np.zeros(3, bool)], "operand 'x' is bool.*, and it takes float")


@settings(deadline=None)
@given(st.sampled_from(ALL), st.lists(st.floats(-50, 50) | st.floats(allow_nan=False), min_size=1, max_size=30))
def test_traits(op, values):
    x = np.sort(np.array([*values, 0.0, -0.0, np.inf, -np.inf]))
    y = compute(op, [x])[0]
    if Trait.MONOTONE in op.traits:
        assert (y[1:] >= y[:-1]).all()
    if Trait.IDEMPOTENT in op.traits:
        np.testing.assert_array_equal(compute(op, [y])[0], y)
    assert Trait.ELEMENTWISE in op.traits


def test_traits_that_are_not_claimed():
    """Functions that rise where they are defined are NaN elsewhere."""
    for room in (Sin, Cos, Tan, Asin, Acos, Cosh, Acosh, Atanh):
        assert Trait.MONOTONE not in room.traits


def test_what_older_opsets_lack():
    def lowered(op, x, opset):
        return downgrade(op, Step(op.attributes, ("x",), ("r",), facts_of([x])), opset)

    for op in ALL:
        assert lowered(op, normal(2), max(op.since, 7)).operands == ("x",)
        if op.since > 7:
            with pytest.raises(OpsetError, match=f"{op.name} needs opset"):
                lowered(op, normal(2), op.since - 1)
    with pytest.raises(OpsetError, match="Sin of bf16 needs opset"):
        lowered(Sin(), np.zeros(2, ml_dtypes.bfloat16), 21)


# ---- Det


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 3), max_size=2), st.integers(0, 4), st.sampled_from([np.float32, np.float16]))
def test_det(batch, size, dtype):
    """Rounding errors are relative to the product of the rows' lengths."""
    x = normal(*batch, size, size).astype(dtype)
    lengths = np.linalg.norm(x.astype(np.float64), axis=-1).prod(axis=-1)
    check(Det(), [x], scale=np.asarray(lengths), ulps=16)


def test_det_of_known_matrices():
    x = np.array([[[2, 0], [0, 3]], [[0, 1], [1, 0]], [[1, 2], [2, 4]]], np.float64)
    np.testing.assert_allclose(compute(Det(), [x])[0], [6, -1, 0], atol=1e-15)


def test_det_types():
    n, m = symbol("N"), symbol("M")
    assert inferred(Det(), Fact(TensorType(f32, (n, m, m)))) == (TensorType(f32, (n,)),)
    assert inferred(Det(), Fact(TensorType(f32, (m, 3)))) == (TensorType(f32, ()),)
    assert inferred(Det(), Fact(TensorType(f32, None))) == (TensorType(f32, None),)
    refuses(Det(), [normal(2, 3)], r"the last two axes of f32\[2, 3\] are no square matrix")
    refuses(Det(), [normal(2)], r"the last two axes of f32\[2\] are no square matrix")
    refuses(Det(), [np.zeros((2, 2), np.int32)], "takes float")
