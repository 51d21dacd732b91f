"""Normalizations beside ONNX Runtime: BatchNormalization and LRN."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.errors import OpsetError
from graphopt.ir.attributes import Attribute, Kind
from graphopt.ir.dims import symbol
from graphopt.ir.types import TensorType, f16, f32
from graphopt.onnx_format.opset import downgrade, upgrade
from graphopt.ops.algebra import Refused
from graphopt.ops.norm import LRN, BatchNormalization
from graphopt.ops.room import Fact, Step
from ops.harness import check, check_old, compute, facts_of, inferred, normal, refuses, stays_opaque

N, C, H = map(symbol, "NCH")
SUMS = 16  # ulps of what was added
LAST_ULP = 1  # of float16: computed in float32 and rounded once, by both

epsilons = st.sampled_from([1e-5, 1e-3, 0.125])


def parameters(channels):
    """Scale, B, mean and variance."""
    scale, b, mean, root = (normal(channels, seed=i) for i in range(4))
    return [scale, b, mean, root * root]


@st.composite
def cases(draw, lowest=0):
    """x and the parameters; of rank 1 there is one channel."""
    rank = draw(st.integers(1, 5))
    shape = [draw(st.integers(lowest, 3)), *(draw(st.integers(1, 4)) for _ in range(rank - 1))]
    return [normal(*shape, seed=9), *parameters(shape[1] if rank > 1 else 1)]


def summed(arrays, epsilon):
    """What is added, in absolute values."""
    x, scale, b, mean, variance = map(np.abs, arrays)
    return compute(BatchNormalization(epsilon=epsilon), [x, scale, b, -mean, variance], np.float64)[0]


# ---- BatchNormalization


@settings(deadline=None)
@given(cases(), epsilons, st.sampled_from([np.float32, np.float64]), st.booleans())
def test_batch_normalization(arrays, epsilon, dtype, constant):
    arrays = [a.astype(dtype) for a in arrays]
    op = BatchNormalization(epsilon=epsilon)
    check(op, arrays, constants=[1, 2, 3, 4] if constant else [], ulps=SUMS, scale=summed(arrays, epsilon))


@settings(deadline=None)
@given(cases(), epsilons, st.sampled_from([np.float16, np.float32]))
def test_batch_normalization_in_half_precision(arrays, epsilon, dtype):
    arrays = [arrays[0].astype(np.float16), *(a.astype(dtype) for a in arrays[1:])]
    check(BatchNormalization(epsilon=epsilon), arrays, ulps=LAST_ULP, scale=summed(arrays, epsilon))


@settings(deadline=None)
@given(cases(), epsilons, st.sampled_from([7, 8, 9, 13, 14, 15, 26]))
def test_batch_normalization_of_old_opsets(arrays, epsilon, opset):
    attributes = {"epsilon": epsilon, "momentum": 0.75} | ({"spatial": 1} if opset < 9 else {})
    scale = summed(arrays, epsilon)
    op = check_old("BatchNormalization", arrays, attributes, opset, constants=[1, 2, 3, 4], ulps=SUMS, scale=scale)
    assert op.momentum == 0.75


@settings(deadline=None)
@given(cases(lowest=1), epsilons, st.sampled_from([0.9, 0.25]))
def test_training_mode(arrays, epsilon, momentum):
    """By the statistics of the batch, which the running ones take up."""
    x, scale, b, mean, variance = arrays
    axes = tuple(i for i in range(x.ndim) if i != 1)
    batch = [np.atleast_1d(f(x, axis=axes, dtype=np.float64)) for f in (np.mean, np.var)]
    running = [np.abs(mean) + np.abs(x).mean(axis=axes), variance + np.square(x).mean(axis=axes)]
    op = BatchNormalization(epsilon=epsilon, momentum=momentum, training_mode=1)
    check(op, arrays, results=3, ulps=SUMS, scale=[summed([x, scale, b, *batch], epsilon), *running])


def test_variance_of_0_and_below():
    one = np.ones(1, np.float32)
    x, zero = normal(2, 1, 3), np.zeros(1, np.float32)
    check(BatchNormalization(), [x, one, zero, zero, zero])
    assert np.isnan(check(BatchNormalization(), [x, one, zero, zero, -one])[0]).all()


def shaped(*dims: object, dtype=f32) -> Fact:
    return Fact(TensorType(dtype, dims))


UNKNOWN = Fact(TensorType(f32, None))


def test_batch_normalization_types():
    op, training = BatchNormalization(), BatchNormalization(training_mode=1)
    four = [shaped(C)] * 4
    assert inferred(op, shaped(N, C, H), *four) == (shaped(N, C, H).type,)
    assert inferred(op, shaped(N, 3, H), *four) == (shaped(N, 3, H).type,)
    assert inferred(op, shaped(N, C, H), *[shaped(3)] * 4) == (shaped(N, C, H).type,)
    assert inferred(op, shaped(N), *[shaped(1)] * 4) == (shaped(N).type,)
    assert inferred(op, UNKNOWN, *four) == (UNKNOWN.type,)
    assert inferred(op, shaped(N, C), *[UNKNOWN] * 4) == (shaped(N, C).type,)
    assert inferred(training, shaped(N, C, H), *four) == (shaped(N, C, H).type, shaped(C).type, shaped(C).type)
    mixed = inferred(training, shaped(N, C, dtype=f16), *[shaped(C, dtype=f16)] * 2, *[shaped(C)] * 2)
    assert [t.dtype for t in mixed] == [f16, f32, f32]


def test_batch_normalization_refuses():
    op, x = BatchNormalization(), normal(2, 3, 4)
    scale, b, mean, variance = parameters(3)
    refuses(op, [x, scale, b, normal(4), variance], r"mean is f32\[4\] and the input f32\[2, 3, 4\] has 3 channels")
    refuses(op, [x, normal(1, 3), b, mean, variance], r"scale is f32\[1, 3\] and the input f32\[2, 3, 4\] has 3")
    refuses(op, [normal(3), scale, b, mean, variance], r"scale is f32\[3\] and the input f32\[3\] has 1 channels")
    refuses(op, [normal(), *parameters(1)], r"the input f32\[\] has no axes")
    refuses(op, [x, scale, b.astype(np.float16), mean, variance], r"f32\[3\] and f16\[3\] must have one element type")
    refuses(op, [x, scale, b, mean, variance.astype(np.float64)], r"f32\[3\] and f64\[3\] must have one element type")
    refuses(op, [x, scale, b, mean], "BatchNormalization needs its operand 'variance'")
    refuses(op, [x.astype(np.int32), scale, b, mean, variance], "operand 'x' is i32.*, and it takes float")


def taken_up(opset, attributes, results):
    names = ("x", "s", "b", "m", "v")
    step = Step(attributes, names, results, facts_of([normal(2, 3), *parameters(3)], ()))
    return upgrade("", "BatchNormalization", step, opset)


def test_what_has_no_newer_form_stays_opaque():
    arrays = [normal(2, 3), *parameters(3)]
    assert stays_opaque("BatchNormalization", arrays, {"spatial": 0}, 7)
    assert stays_opaque("BatchNormalization", arrays, {"spatial": 0}, 8)
    assert not stays_opaque("BatchNormalization", arrays, {"spatial": 1}, 7)
    assert stays_opaque("BatchNormalization", arrays, {"spatial": 1}, 9)  # has no such attribute any more
    for opset in (7, 9, 13):
        assert taken_up(opset, {}, ("y", "m2", "v2", "m3", "v3"))[0].is_opaque  # training, with results of its own
        op, step = taken_up(opset, {}, ("y", "", ""))
        assert not op.is_opaque
        assert step.results == ("y",)
    mode = {"training_mode": Attribute(Kind.INT, 1)}
    op, step = taken_up(14, mode, ("y", "m2", "v2"))
    assert op.training_mode == 1
    assert step.results == ("y", "m2", "v2")


def taken_down(op, arrays, opset, results=("y",)):
    step = Step(op.attributes, tuple(f"x{i}" for i in range(5)), results, facts_of(arrays, ()))
    return downgrade(op, step, opset)


def test_what_older_opsets_lack():
    arrays = [normal(2, 3), *parameters(3)]
    training, mode = BatchNormalization(training_mode=1), BatchNormalization(training_mode=0, epsilon=0.5)
    assert taken_down(training, arrays, 14, ("y", "m", "v")).attributes.keys() == {"training_mode"}
    with pytest.raises(OpsetError, match="BatchNormalization in training mode needs opset 14"):
        taken_down(training, arrays, 13, ("y", "m", "v"))
    assert taken_down(mode, arrays, 7).attributes.keys() == {"epsilon"}
    halves = [arrays[0].astype(np.float16), *arrays[1:]]
    assert taken_down(mode, halves, 15).attributes == mode.attributes
    with pytest.raises(OpsetError, match="parameters of another element type needs opset 15"):
        taken_down(mode, halves, 14)


@settings(deadline=None)
@given(cases(lowest=1), epsilons)
def test_batch_normalization_scales_and_shifts_by_channel(arrays, epsilon):
    op = BatchNormalization(epsilon=epsilon)
    affine = op.affine(facts_of(arrays), 1, 0)
    x = arrays[0].astype(np.float64)
    by_channel = (-1,) + (1,) * max(x.ndim - 2, 0)
    made = x * affine.scale.reshape(by_channel) + affine.shift.reshape(by_channel)
    np.testing.assert_allclose(made, compute(op, arrays, np.float64)[0], rtol=1e-9, atol=1e-9)


def test_batch_normalization_is_not_always_affine():
    op, arrays = BatchNormalization(), [normal(2, 3, 4), *parameters(3)]
    known = facts_of(arrays)

    def refused(pattern, op=op, known=known, axis=1, data=0):
        with pytest.raises(Refused, match=pattern):
            op.affine(known, axis, data)

    refused("it is in training mode: its statistics come from the batch", BatchNormalization(training_mode=1))
    refused("gives a parameter of the normalization, not its input", data=3)
    refused("it normalizes over axis 1, and the channels of what is before it are axis 2", axis=2)
    refused("its mean is not a constant", known=facts_of(arrays, [0, 1, 2, 4]))
    arrays[4] = np.array([1, -1, 1], np.float32)
    refused("a variance is not above -epsilon, or a parameter is not finite", known=facts_of(arrays))


def test_normalizations_do_no_multiplications_of_weights():
    assert BatchNormalization().macs((shaped(1, 3),), (shaped(1, 3).type,)) == 0
    assert LRN(size=3).macs((shaped(1, 3),), (shaped(1, 3).type,)) == 0


# ---- LRN


@st.composite
def neighbours(draw, sizes):
    attributes = {"size": draw(st.sampled_from(sizes))}
    for name, low, high in (("alpha", 0.0625, 4.0), ("beta", 0.25, 2.0), ("bias", 0.5, 3.0)):
        if draw(st.booleans()):
            attributes[name] = draw(st.floats(low, high, width=32))
    return attributes


def by_hand(op, x):
    """ONNX's text: the channels from c - floor((size - 1) / 2) to c + ceil((size - 1) / 2), where there are any."""
    made = np.empty(x.shape)
    for c in range(x.shape[1]):
        first, last = max(0, c - (op.size - 1) // 2), min(x.shape[1] - 1, c + -(-(op.size - 1) // 2))
        total = (x[:, first : last + 1].astype(np.float64) ** 2).sum(axis=1)
        made[:, c] = x[:, c] / (op.bias + op.alpha / op.size * total) ** op.beta
    return made


@settings(deadline=None)
@given(neighbours([1, 3, 5, 7, 99]), st.lists(st.integers(1, 5), min_size=3, max_size=3), st.integers(0, 2))
def test_lrn(attributes, shape, batch):
    op, x = LRN(**attributes), normal(batch, *shape)
    check(op, [x])
    check(op, [x.astype(np.float16)], ulps=LAST_ULP)
    np.testing.assert_allclose(compute(op, [x], np.float64)[0], by_hand(op, x), rtol=1e-6)


@settings(deadline=None)
@given(neighbours([1, 2, 3, 4, 6, 10]), st.lists(st.integers(1, 5), min_size=2, max_size=5))
def test_lrn_of_even_sizes_and_any_rank(attributes, shape):
    """ONNX Runtime takes odd sizes and four axes only."""
    op, x = LRN(**attributes), normal(*shape)
    np.testing.assert_allclose(compute(op, [x], np.float64)[0], by_hand(op, x), rtol=1e-6)
    np.testing.assert_allclose(compute(op, [x])[0], by_hand(op, x), rtol=1e-5)
    assert inferred(op, *facts_of([x])) == (TensorType(f32, x.shape),)


@pytest.mark.parametrize("opset", [7, 12, 13, 26])
def test_lrn_of_old_opsets(opset):
    check_old("LRN", [normal(2, 5, 3, 3)], {"size": 3, "alpha": 0.5}, opset)


def test_lrn_of_large_halves_and_large_sizes():
    x = np.full((1, 3, 1, 1), 1000, np.float16)
    check(LRN(size=3, alpha=1.0), [x], ulps=LAST_ULP)
    huge, none = LRN(size=2**40, alpha=2.0**40), LRN(size=3, alpha=0.0, bias=4.0, beta=0.5)
    np.testing.assert_allclose(compute(huge, [normal(1, 3)])[0], by_hand(huge, normal(1, 3)), rtol=1e-5)
    assert (compute(none, [x])[0] == 500).all()  # ONNX Runtime takes no alpha of 0


def test_lrn_types():
    assert inferred(LRN(size=3), shaped(N, C, H)) == (shaped(N, C, H).type,)
    assert inferred(LRN(size=3), UNKNOWN) == (UNKNOWN.type,)
    refuses(LRN(size=0), [normal(1, 2, 3, 3)], "size is 0, and a channel is its own neighbour at least")
    refuses(LRN(size=3), [normal(2)], r"f32\[2\] has no channels")
    refuses(LRN(size=3), [np.ones((1, 2), np.int32)], "operand 'x' is i32.*, and it takes float")
