"""The rule for "equal": each clause has an input that only that clause tells apart."""

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.analysis.equal import NOISE_FACTOR, NOISE_FLOOR_EPS, compare, compare_bits, relative_error, same_bits

F32 = np.float32
EPS = float(np.finfo(F32).eps)


def f32(*values):
    return np.array(values, F32)


def test_the_noise_is_the_worst_of_the_originals_runs():
    truth = np.array([1.0, 1.0])
    quiet, loud = f32(1, 1), f32(1, 1.001)
    off = f32(1, 1.003)
    assert not compare(truth, [quiet], [off]).equal
    for noise in ([quiet, loud], [loud, quiet]):
        verdict = compare(truth, noise, [off])
        assert verdict.equal
        assert verdict.noise == pytest.approx(0.001 / 2, rel=1e-3)  # |R| + rms(R) is 2
        assert verdict.allowed == pytest.approx(NOISE_FACTOR * verdict.noise)


def test_no_more_than_four_times_the_noise_is_allowed():
    truth = np.array([1.0, 1.0])
    noise = [f32(1, 1.001)]
    assert compare(truth, noise, [f32(1, 1.0039)]).equal
    assert not compare(truth, noise, [f32(1, 1.0041)]).equal


def test_an_exact_original_still_allows_a_few_roundings():
    truth = np.array([1.0, 1.0])
    floor = NOISE_FACTOR * NOISE_FLOOR_EPS * EPS * 2  # times |R| + rms(R)
    assert compare(truth, [f32(1, 1)], [f32(1, 1 + 0.9 * floor)]).equal
    assert not compare(truth, [f32(1, 1)], [f32(1, 1 + 1.1 * floor)]).equal


def test_eps_is_that_of_the_outputs_type():
    truth = np.ones(4)
    near = 1 + 1e-3
    for dtype, equal in ((np.float16, True), (np.float32, False), (ml_dtypes.bfloat16, True)):
        base = truth.astype(dtype)
        wide = np.full(4, near)  # a wide result, so that the type's own rounding plays no part
        assert compare(truth, [base], [wide], dtype=dtype).equal is equal


def test_certified_bounds_are_added():
    truth = np.array([1.0, 1.0])
    off = f32(1, 1.01)
    assert not compare(truth, [f32(1, 1)], [off]).equal
    assert compare(truth, [f32(1, 1)], [off], bounds=0.006).equal


def test_the_worst_of_the_results_counts():
    truth = np.array([1.0, 2.0])
    good, bad = f32(1, 2), f32(1, 2.1)
    assert not compare(truth, [good], [good, bad]).equal
    verdict = compare(truth, [good], [bad, good])
    assert not verdict.equal
    assert verdict.worst is not None
    assert verdict.worst.index == (1,)
    assert verdict.worst.reference == 2.0
    assert "2.1 instead of 2 at [1]" in str(verdict)


def test_small_outputs_are_measured_against_their_own_size():
    truth = np.full(8, 1e-9)
    assert not compare(truth, [truth.astype(F32)], [np.zeros(8, F32)]).equal


def test_a_small_element_of_a_large_output_is_measured_against_the_rms():
    truth = np.array([1000.0, 0.0])
    assert compare(truth, [f32(1000, 0)], [f32(1000, 1e-5)]).equal
    assert not compare(truth, [f32(1000, 0)], [f32(1000, 1.0)]).equal


def test_without_a_reference_the_first_run_takes_its_place():
    base, other = f32(1, 2), f32(1, 2.0001)
    assert compare(base, [base, other], [f32(1, 2.0002)]).equal
    assert not compare(base, [base], [f32(1, 2.0002)]).equal


@pytest.mark.parametrize("special", [math.nan, math.inf, -math.inf])
def test_positions_of_special_values_are_the_same(special):
    truth = np.array([1.0, special])
    base = f32(1, special)
    assert compare(truth, [base], [base]).equal
    assert not compare(truth, [base], [f32(1, 2)]).equal
    assert not compare(np.array([1.0, 2.0]), [f32(1, 2)], [base]).equal
    for other in {math.nan, math.inf, -math.inf} - {special}:
        if not (math.isnan(special) and math.isnan(other)):
            assert not compare(truth, [base], [f32(1, other)]).equal


def test_a_special_value_may_go_where_the_originals_runs_disagree():
    truth = np.array([1.0, 3.3e38])
    verdict = compare(truth, [f32(1, 3.3e38), f32(1, math.inf)], [f32(1, math.inf)])
    assert verdict.equal
    assert verdict.excused == 1


def test_elements_beside_special_values_are_still_compared():
    truth = np.array([math.inf, math.nan, 1.0])
    base = f32(math.inf, math.nan, 1)
    assert not compare(truth, [base], [f32(math.inf, math.nan, 1.1)]).equal


def test_where_the_oracle_has_no_number_the_originals_run_stands_in():
    truth = np.array([math.nan, 1.0])
    assert compare(truth, [f32(5, 1)], [f32(5, 1)]).equal
    assert not compare(truth, [f32(5, 1)], [f32(6, 1)]).equal


def test_an_oracle_that_does_not_overflow_excuses_no_finite_result():
    truth = np.array([1.0, 1e39])
    assert compare(truth, [f32(1, math.inf)], [f32(1, math.inf)]).equal
    assert not compare(truth, [f32(1, math.inf)], [f32(1, 3e38)]).equal
    near = np.array([1.0, 3.3e38])
    assert not compare(near, [f32(1, math.inf)], [f32(1, 3.3e38)]).equal


def test_all_zero():
    zero = np.zeros(3)
    assert compare(zero, [f32(0, 0, 0)], [f32(0, -0.0, 0)]).equal
    assert not compare(zero, [f32(0, 0, 0)], [f32(0, 0, 1e-30)]).equal


def test_all_zero_in_truth_and_noise_in_the_original():
    zero = np.zeros(3)
    noisy = f32(1e-8, -1e-8, 0)
    assert compare(zero, [noisy], [f32(0, 1e-8, 2e-8)]).equal
    assert not compare(zero, [noisy], [f32(0, 1e-3, 0)]).equal


def test_nothing_but_special_values():
    truth = np.array([math.nan, math.inf])
    base = truth.astype(F32)
    verdict = compare(truth, [base], [base])
    assert verdict.equal
    assert verdict.error == 0


def test_zero_size():
    empty = np.zeros((0, 3))
    assert compare(empty, [empty.astype(F32)], [empty.astype(F32)]).equal
    assert not compare(empty, [empty.astype(F32)], [np.zeros((3, 0), F32)]).equal
    assert compare_bits(empty, empty).equal


def test_scalars():
    truth = np.array(2.0)
    assert compare(truth, [np.array(2, F32)], [np.array(2, F32)]).equal
    verdict = compare(truth, [np.array(2, F32)], [np.array(3, F32)])
    assert not verdict.equal
    assert verdict.worst is not None
    assert verdict.worst.index == ()


def test_large_values_do_not_overflow_the_measure():
    truth = np.array([1.6e308, -1.6e308])
    assert compare(truth, [truth], [truth]).equal
    assert not compare(truth, [truth], [-truth]).equal
    assert not compare(truth, [truth], [truth * 0.99]).equal


def test_denormals_are_measured():
    truth = np.full(4, 5e-324)
    assert compare(truth, [truth], [truth]).equal
    assert not compare(truth, [truth], [truth * 2]).equal


def test_shape_and_dtype():
    truth = np.ones((2, 3))
    base = truth.astype(F32)
    shape = compare(truth, [base], [base.T])
    assert not shape.equal
    assert "[3, 2]" in shape.reason
    dtype = compare(truth, [base], [base.astype(np.float16)])
    assert not dtype.equal
    assert "f16" in dtype.reason
    assert not compare(np.ones(2, int), [np.ones(2, np.int64)], [np.ones(2, np.int32)]).equal


def test_an_original_with_several_shapes_lets_the_result_have_either():
    a, b, c = np.zeros((2, 3), F32), np.zeros((4, 3), F32), np.zeros((5, 3), F32)
    verdict = compare(a, [a, b], [b])
    assert verdict.equal
    assert verdict.excused == 12
    assert not compare(a, [a, b], [c]).equal


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
def test_integers_are_identical(dtype):
    base = np.array([0, 1, 1], dtype)
    off = np.array([0, 1, 0], dtype)
    assert compare(base, [base, base], [base]).equal
    verdict = compare(base, [base, base], [off])
    assert not verdict.equal
    assert "1 of 3 elements" in verdict.reason
    assert verdict.worst is not None
    assert verdict.worst.index == (2,)


def test_an_integer_may_differ_where_the_originals_runs_do_and_is_counted():
    base, other = np.array([3, 5, 7]), np.array([3, 6, 7])
    verdict = compare(base, [base, other], [np.array([3, 4, 7])])
    assert verdict.equal
    assert verdict.excused == 1
    assert "1 elements differ" in str(verdict)
    assert not compare(base, [base, other], [np.array([3, 6, 8])]).equal


def test_strings():
    base = np.array(["cat", "dog"], object)
    assert compare(base, [base], [base.copy()]).equal
    assert not compare(base, [base], [np.array(["cat", "cow"], object)]).equal


def test_complex():
    truth = np.array([1 + 2j, 3 - 1j])
    base = truth.astype(np.complex64)
    assert compare(truth, [base], [base]).equal
    assert not compare(truth, [base], [base.conj()]).equal


def test_bits():
    zero, minus = f32(0.0), f32(-0.0)
    assert same_bits(zero, zero.copy())
    assert not same_bits(zero, minus)
    assert not compare_bits(zero, minus).equal
    nan = np.array([0x7FC00000], np.uint32).view(F32)
    other_nan = np.array([0x7FC00001], np.uint32).view(F32)
    assert same_bits(nan, nan.copy())
    assert not same_bits(nan, other_nan)
    assert not same_bits(zero, zero.astype(np.float64))
    assert not same_bits(f32(1, 2), f32(1, 2).reshape(2, 1))
    verdict = compare_bits(f32(1, 2, 3), f32(1, 2, np.nextafter(F32(3), F32(4))))
    assert not verdict.equal
    assert verdict.worst is not None
    assert verdict.worst.index == (2,)
    assert not compare_bits(f32(1), f32(1).astype(np.float16)).equal


def test_a_noise_that_cannot_be_measured_excuses_nothing():
    truth = np.array([0.0, 0.0])
    verdict = compare(truth, [f32(0, 0), f32(0, 0)], [f32(1, 1)])
    assert not verdict.equal


def test_a_blind_comparison_says_so():
    truth = np.array([1.0, 1.0])
    assert compare(truth, [f32(1, 1.5)], [f32(1, 1.5)]).blind
    assert not compare(truth, [f32(1, 1)], [f32(1, 1)]).blind


def test_json_has_no_bare_nan():
    import json

    verdict = compare(np.array([math.nan]), [f32(math.nan)], [f32(1)])
    json.loads(json.dumps(verdict.to_json(), allow_nan=False))


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20), st.floats(1e-3, 1e3))
def test_the_measure_does_not_depend_on_the_unit(values, unit):
    x = np.array(values)
    y = x * 1.01 + 1e-3
    assert relative_error(y * unit, x * unit)[0] == pytest.approx(relative_error(y, x)[0], rel=1e-6)


@given(st.lists(st.floats(width=32), min_size=1, max_size=20))
def test_everything_is_equal_to_itself(values):
    x = np.array(values, F32)
    assert compare(x, [x], [x]).equal
    assert compare(x.astype(np.float64), [x], [x]).equal
    assert compare_bits(x, x).equal
