"""Elu, Selu, Celu, Gelu, Mish, Softplus, Softsign, Swish and thresholds, beside ONNX Runtime."""

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.errors import OpsetError
from graphopt.ir.types import TensorType, f32
from graphopt.onnx_format.opset import downgrade
from graphopt.ops.rare_activation import (
    Celu,
    Elu,
    Gelu,
    Mish,
    Selu,
    Shrink,
    Softplus,
    Softsign,
    Swish,
    ThresholdedRelu,
)
from graphopt.ops.room import Fact, NoKernelError, Step, Trait
from graphopt.ops.special import complementary_error_function, error_function
from ops.harness import check, check_old, close, compute, facts_of, inferred, normal, refuses, run_ort, run_reference

SPECIAL = np.array([np.nan, 0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, 1e-40, 3e38, -3e38, 80, -80, 104, -104], np.float32)
ALL = (Elu(), Selu(), Celu(), Gelu(), Gelu(approximate="tanh"), Mish(), Softplus(), Softsign(), Swish(),
       ThresholdedRelu(), Shrink())  # fmt: skip
LAST_ULP = 1  # of float16: computed in float32 and rounded once

shapes = st.lists(st.integers(0, 4), max_size=4)
numbers = st.sampled_from([-2.0, -0.7, -0.1, 0.0, 0.01, 0.1, 0.5, 0.7, 1.5, 2.0])
drawn = (
    st.sampled_from(ALL)
    | st.builds(Elu, alpha=numbers)
    | st.builds(Selu, alpha=numbers, gamma=numbers)
    | st.builds(Celu, alpha=numbers.filter(lambda a: a > 0))  # below 0 it grows as exp does
    | st.builds(Swish, alpha=numbers)
    | st.builds(ThresholdedRelu, alpha=numbers)
    | st.builds(Shrink, bias=numbers, lambd=numbers)
)


def beside(op):
    """What has a kernel: ONNX Runtime has none for Swish."""
    return run_reference if op.name == "Swish" else run_ort


@settings(deadline=None, max_examples=200)
@given(shapes, drawn, st.sampled_from([0.1, 1.0, 10.0]))
def test_random_numbers(shape, op, scale):
    x = np.asarray(normal(*shape) * np.float32(scale))
    check(op, [x], run=beside(op), scale=np.asarray(np.abs(x)) if op.name == "Gelu" else None)  # of a sum next to 0


@pytest.mark.parametrize("op", ALL, ids=str)
def test_special_numbers(op):
    check(op, [SPECIAL], run=beside(op))


@pytest.mark.parametrize("alpha", [0.0, -0.5])
def test_celu_of_no_or_negative_alpha(alpha):
    check(Celu(alpha=alpha), [SPECIAL])


@pytest.mark.parametrize("op", [op for op in ALL if op.name != "Celu"], ids=str)
def test_half_precision(op):
    """ONNX Runtime rounds after each of the operators that some are made of."""
    x = np.append(normal(200), SPECIAL[[0, 1, 3, 4, 10, 11]]).astype(np.float16)
    if op.name in ("Gelu", "Mish", "Swish"):
        close(compute(op, [x])[0], compute(op, [x], np.float64)[0], LAST_ULP)
    else:
        check(op, [x], ulps=LAST_ULP)
    assert compute(op, [x.astype(ml_dtypes.bfloat16)])[0].dtype == ml_dtypes.bfloat16


EXACT = {
    "Elu": lambda v: v if v >= 0 else math.expm1(v),
    "Gelu": lambda v: v / 2 * math.erfc(-v / math.sqrt(2)),
    "Mish": lambda v: v * math.tanh(max(v, 0) + math.log1p(math.exp(-abs(v)))),
    "Softplus": lambda v: max(v, 0) + math.log1p(math.exp(-abs(v))),
    "Softsign": lambda v: v / (1 + abs(v)),
    "Swish": lambda v: v / (1 + math.exp(-v)),
}


@pytest.mark.parametrize("op", [Elu(), Gelu(), Mish(), Softplus(), Softsign(), Swish()], ids=str)
def test_wide_kernels_are_as_good_as_the_math_library(op):
    """The oracle computes in float64, and the tails count."""
    x = np.concatenate([np.linspace(-25, 25, 4001), np.geomspace(1e-12, 1, 200), -np.geomspace(1e-12, 1, 200)])
    np.testing.assert_allclose(compute(op, [x])[0], [EXACT[op.name](v) for v in x.tolist()], rtol=3e-13, atol=0)


def test_gelu_by_tanh_in_float64():
    x = np.linspace(-5, 5, 201)
    wanted = [v / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))) for v in x.tolist()]
    np.testing.assert_allclose(compute(Gelu(approximate="tanh"), [x])[0], wanted, rtol=1e-9, atol=1e-14)


def test_error_functions():
    x = np.concatenate([np.linspace(-30, 30, 4001), [np.inf, -np.inf, 0, 1.9999, 2.0, 2.0001]])
    np.testing.assert_allclose(error_function(x), list(map(math.erf, x)), rtol=2e-15, atol=0)
    np.testing.assert_allclose(complementary_error_function(x), list(map(math.erfc, x)), rtol=3e-13, atol=1e-300)
    assert np.isnan(error_function(SPECIAL[:1])).all()
    assert np.isnan(complementary_error_function(SPECIAL[:1])).all()


def test_attributes_are_single_precision():
    """As in a file: 0.1 is 0.100000001490116 there, and the oracle knows."""
    assert compute(ThresholdedRelu(alpha=0.1), [np.array([0.1])])[0] == 0
    assert compute(Shrink(lambd=2.0, bias=0.1), [np.array([3.0])])[0] == 3 - float(np.float32(0.1))
    assert compute(Elu(alpha=0.1), [np.array([-800.0])])[0] == -float(np.float32(0.1))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(-100, 100), max_size=8), numbers, numbers, st.sampled_from([np.int8, np.uint8, np.int64]))
def test_shrink_of_integers(values, bias, lambd, dtype):
    x = np.array(values).astype(dtype)
    x = x[x <= 100]
    moved = np.trunc(np.where(x < -lambd, x + bias, np.where(x > lambd, x - bias, 0)))
    if dtype is np.uint8 and (moved < 0).any():
        with pytest.raises(NoKernelError, match="gives numbers that uint8 does not hold"):
            compute(Shrink(bias=bias, lambd=lambd), [x])
    else:
        check(Shrink(bias=bias, lambd=lambd), [x], exact=True)


def test_shrink_of_large_integers_differs_between_runtimes():
    with pytest.raises(NoKernelError, match="large numbers in int64"):
        compute(Shrink(), [np.array([2**24 + 1])])
    with pytest.raises(NoKernelError, match="does not hold"):
        compute(Shrink(bias=-1), [np.array([127], np.int8)])


# Opsets, types, traits


@pytest.mark.parametrize("opset", [24, 25, 26])
def test_swish_of_its_opsets(opset):
    check_old("Swish", [normal(3, 4)], {"alpha": 1.5}, opset, run=run_reference)


def lowered(op, arrays, opset):
    return downgrade(op, Step(op.attributes, ("x",), ("r",), facts_of(arrays)), opset)


def test_what_older_opsets_lack():
    for op, opset in ((Celu(), 11), (Gelu(), 19), (Mish(), 17), (Swish(), 23), (ThresholdedRelu(), 9), (Shrink(), 8)):
        with pytest.raises(OpsetError, match=f"{op.name} needs opset"):
            lowered(op, [normal(2)], opset)
        assert lowered(op, [normal(2)], opset + 1).attributes == op.attributes
    with pytest.raises(OpsetError, match="Elu of bf16 needs opset"):
        lowered(Elu(), [np.zeros(2, ml_dtypes.bfloat16)], 21)


@pytest.mark.parametrize("op", ALL, ids=str)
def test_types(op):
    assert inferred(op, Fact(f32["N", 3])) == (f32["N", 3],)
    assert inferred(op, Fact(TensorType(f32, None))) == (TensorType(f32, None),)
    refuses(op, [np.zeros(3, bool)], "operand 'x' is bool.*, and it takes float")


def test_refusals():
    refuses(Gelu(approximate="erf"), [normal(3)], "approximate is 'erf', and only none and tanh are known")
    refuses(Softplus(), [np.zeros(3, np.int32)], "takes float")


@settings(deadline=None)
@given(drawn, st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=30))
def test_traits(op, values):
    x = np.sort(np.array([*values, 0.0, -0.0, np.inf, -np.inf]))
    y = compute(op, [x])[0]
    if Trait.MONOTONE in op.traits:
        assert (y[1:] >= y[:-1]).all()
    if Trait.IDEMPOTENT in op.traits:
        np.testing.assert_array_equal(compute(op, [y])[0], y)
    assert {Trait.ELEMENTWISE, Trait.ACTIVATION} <= op.traits
    np.testing.assert_array_equal(compute(op, [x[:1]])[0], y[:1])


def test_traits_that_are_not_claimed():
    """What a tempting trait would get wrong."""
    for room in (Elu, Selu, Gelu, Mish, Swish, ThresholdedRelu, Shrink):
        assert Trait.MONOTONE not in room.traits  # not, or not for every alpha, bias or lambd
    assert Trait.MONOTONE not in Celu.traits  # NaN where alpha is 0
    assert Trait.MONOTONE not in Softsign.traits  # NaN of infinities
    assert Trait.IDEMPOTENT not in Shrink.traits
