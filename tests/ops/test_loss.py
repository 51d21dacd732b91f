"""Losses beside ONNX Runtime."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.errors import OpsetError
from graphopt.ir.dims import symbol
from graphopt.ir.types import TensorType, f32, i64
from graphopt.onnx_format.opset import downgrade
from graphopt.ops.loss import NegativeLogLikelihoodLoss, SoftmaxCrossEntropyLoss
from graphopt.ops.room import Fact, NoKernelError, Step, Trait
from ops.harness import check, check_old, compute, facts_of, inferred, normal, refuses

ROOMS = (NegativeLogLikelihoodLoss, SoftmaxCrossEntropyLoss)
N, C, H = map(symbol, "NCH")
UNKNOWN = Fact(TensorType(f32, None))
each = pytest.mark.parametrize("room", ROOMS)


@st.composite
def cases(draw):
    """Scores, labels, perhaps weights; attributes. Not all labels are ignored."""
    n, c = draw(st.integers(1, 3)), draw(st.integers(2, 4))
    spatial = draw(st.lists(st.integers(1, 3), max_size=3))
    count = n * int(np.prod(spatial))
    labels = draw(st.lists(st.integers(0, c - 1), min_size=count, max_size=count))
    attributes = {"reduction": draw(st.sampled_from(["none", "sum", "mean"]))}
    if draw(st.booleans()):
        attributes["ignore_index"] = ignored = draw(st.sampled_from([-1, 0, 1, 99]))
        labels = [ignored if i and draw(st.booleans()) else max(v, 2 if c > 2 else 0) for i, v in enumerate(labels)]
    dtype = draw(st.sampled_from([np.int32, np.int64]))
    arrays = [normal(n, c, *spatial), np.array(labels, dtype).reshape(n, *spatial)]
    weights = [np.abs(normal(c, seed=3)) + np.float32(0.1)] if draw(st.booleans()) else []
    return arrays + weights, attributes


def sums(room, arrays, attributes):
    """What is added, in absolute values."""
    x, *more = arrays
    worst = np.abs(x) if room is NegativeLogLikelihoodLoss else np.full_like(x, np.abs(x).max() * 2 + 2)
    return np.abs(compute(NegativeLogLikelihoodLoss(**attributes), [-worst, *more], np.float64)[0])


@settings(deadline=None, max_examples=100)
@given(cases(), st.sampled_from(ROOMS), st.sampled_from([12, 13, 21, 22, 26]), st.integers(1, 2))
def test_losses(case, room, opset, results):
    arrays, attributes = case
    results = 1 if room is NegativeLogLikelihoodLoss else results
    scale = [sums(room, arrays, attributes), None][:results]
    check(room(**attributes), arrays, opset=opset, results=results, scale=scale)
    check_old(room.name, arrays, attributes, opset, scale=scale[0])


@each
def test_of_float64(room):
    arrays = [normal(4, 3).astype(np.float64), np.array([0, 1, 2, 0]), np.array([0.5, 1, 2])]
    check(room(), arrays)


@each
def test_narrow_floats_are_summed_in_float32(room):
    for dtype in (np.float16, ml_dtypes.bfloat16):
        made = compute(room(reduction="mean"), [np.zeros((4096, 4), dtype), np.zeros(4096, np.int64)])
        assert all(m.dtype == dtype for m in made)
        assert made[0] == (0 if room is NegativeLogLikelihoodLoss else dtype(np.log(4)))


@each
def test_all_labels_ignored(room):
    """The mean of nothing is NaN, the sum is 0."""
    arrays = [normal(2, 3), np.array([7, 7])]
    assert np.isnan(check(room(ignore_index=7), arrays)[0])
    assert check(room(ignore_index=7, reduction="sum"), arrays)[0] == 0
    assert (check(room(ignore_index=7, reduction="none"), arrays)[0] == 0).all()


@each
def test_a_label_that_is_no_class(room):
    """ONNX Runtime counts -1 from the end, which ONNX does not say."""
    assert Trait.PARTIAL in room.traits
    for labels in ([0, -1], [0, 3]):
        with pytest.raises(NoKernelError, match=r"labels from -?\d to \d are not all among 3 classes"):
            compute(room(), [normal(2, 3), np.array(labels)])
    for x in (normal(0, 3), normal(2, 0)):
        with pytest.raises(NoKernelError, match="a loss of no samples, or of no classes"):
            compute(room(), [x, np.zeros(len(x), np.int64)])


def shaped(*dims: object, dtype=f32) -> Fact:
    return Fact(TensorType(dtype, dims))


@each
def test_types(room):
    x, labels, weights = shaped(N, C, H), shaped(N, H, dtype=i64), shaped(C)
    assert inferred(room(), x, labels, weights)[0] == TensorType(f32, ())
    assert inferred(room(), UNKNOWN, labels)[0] == TensorType(f32, ())
    each_one = room(reduction="none")
    assert inferred(each_one, x, labels, weights)[0] == TensorType(f32, (N, H))
    assert inferred(each_one, shaped(N, 3, 4), Fact(TensorType(i64, None)))[0] == TensorType(f32, (N, 4))
    assert inferred(each_one, UNKNOWN, labels)[0] == TensorType(f32, (N, H))
    assert inferred(each_one, shaped(2, 3, H), shaped(N, 4, dtype=i64), UNKNOWN)[0] == TensorType(f32, (2, 4))
    if room is SoftmaxCrossEntropyLoss:
        assert inferred(room(), x, labels)[1] == x.type


@each
def test_refusals(room):
    x, labels, weights = normal(2, 3, 4), np.zeros((2, 4), np.int64), normal(3)
    refuses(room(reduction="max"), [x, labels], "reduction is 'max', and only none, sum, mean are known")
    refuses(room(), [x, labels[:, :3]], r"the labels i64\[2, 3\] are not one for each sample of f32\[2, 3, 4\]")
    refuses(room(), [x, labels[0]], r"the labels i64\[4\] are not one for each sample")
    refuses(room(), [normal(3), labels[0]], r"f32\[3\] has no axis of classes")
    refuses(room(), [x, labels, normal(4)], r"the weights of \[4\] are not one for each class of f32\[2, 3, 4\]")
    refuses(room(), [x, labels, normal(3, 1)], r"the weights of \[3, 1\] are not one for each class")
    refuses(room(), [x, labels, weights.astype(np.float16)], r"the weights f16\[3\] have another element type")
    refuses(room(), [x, x], "is f32.*, and it takes int")


@each
def test_older_opsets(room):
    arrays = [normal(2, 3), np.zeros(2, np.int64)]
    step = Step({}, ("x", "y"), ("r",), facts_of(arrays))
    assert downgrade(room(), step, 12).operands == ("x", "y")
    with pytest.raises(OpsetError, match=f"{room.name} needs opset 12"):
        downgrade(room(), step, 11)
