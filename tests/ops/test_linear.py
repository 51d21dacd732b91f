"""Matrix products beside ONNX Runtime: MatMul and Gemm."""

from __future__ import annotations

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.errors import OpsetError
from graphopt.ir.constant import Constant
from graphopt.ir.dims import symbol
from graphopt.ir.types import TensorType, f32
from graphopt.onnx_format.opset import downgrade
from graphopt.ops.algebra import Refused
from graphopt.ops.linear import Gemm, MatMul
from graphopt.ops.room import Fact, NoKernelError, Step
from ops.harness import (
    check,
    check_linear,
    check_old,
    compute,
    facts_of,
    inferred,
    is_symbolic_exact,
    magnitudes,
    normal,
    refuses,
)

N, M, K, B = map(symbol, "NMKB")
SUMS = 16  # ulps of what was summed
LAST_ULP = 1  # of float16: summed in float32 and rounded once, by both

extents = st.integers(1, 4)
floats = st.sampled_from([np.float32, np.float64, np.float16])


def ulps(dtype):
    return LAST_ULP if dtype is np.float16 else SUMS


def shaped(*dims: object) -> Fact:
    return Fact(TensorType(f32, dims))


UNKNOWN = Fact(TensorType(f32, None))


# ---- MatMul


@st.composite
def operands(draw):
    """Shapes of two operands: vectors, matrices, and stacks of them that broadcast."""
    k, batch = draw(extents), draw(st.lists(extents, max_size=2))

    def one(*matrix):
        if draw(st.integers(0, 3)) == 0:
            return (k,)
        stack = [1 if draw(st.integers(0, 3)) == 0 else n for n in batch]
        return (*stack[draw(st.integers(0, len(stack))) :], *matrix)

    return one(draw(extents), k), one(k, draw(extents))


@settings(deadline=None)
@given(operands(), floats, st.sampled_from([(), (1,), (0, 1)]))
def test_matmul(shapes, dtype, constants):
    arrays = [normal(*s, seed=i).astype(dtype) for i, s in enumerate(shapes)]
    scale = magnitudes(MatMul(), arrays)
    check(MatMul(), arrays, constants=constants, ulps=ulps(dtype), scale=scale)


@settings(deadline=None)
@given(operands(), st.sampled_from([np.int32, np.int64, np.uint32, np.uint64]))
def test_matmul_of_integers_wraps(shapes, dtype):
    info = np.iinfo(dtype)
    draw = np.random.default_rng(0).integers
    arrays = [draw(info.min, info.max, s, dtype, endpoint=True) for s in shapes]
    check(MatMul(), arrays, exact=True)


@settings(deadline=None)
@given(operands(), st.sampled_from([7, 9, 12, 13, 26]))
def test_matmul_of_old_opsets(shapes, opset):
    arrays = [normal(*s, seed=i) for i, s in enumerate(shapes)]
    check_old("MatMul", arrays, {}, opset, constants=[1], ulps=SUMS, scale=magnitudes(MatMul(), arrays))


@pytest.mark.parametrize(
    "shapes", [((0, 2), (2, 3)), ((2, 3), (3, 0)), ((0, 2, 3), (3, 4)), ((0, 2, 3), (1, 3, 4)), ((3,), (3, 0))]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int32])
def test_matmul_without_elements(shapes, dtype):
    check(MatMul(), [normal(*s).astype(dtype) for s in shapes], exact=True)


@pytest.mark.parametrize(
    "shapes", [((0,), (0,)), ((2, 0), (0, 3)), ((2, 3, 0), (0, 2)), ((2, 3, 0), (2, 0, 2)), ((3, 0), (0,))]
)
def test_matmul_of_nothing_to_sum(shapes):
    """It is 0; ONNX Runtime's product of floats with a vector is what lay in its memory, and that of integers right."""
    check(MatMul(), [np.ones(s, np.int32) for s in shapes], exact=True)
    for dtype in (np.float32, np.float16):
        arrays = [np.ones(s, dtype) for s in shapes]
        made = compute(MatMul(), arrays)[0]
        assert inferred(MatMul(), *facts_of(arrays))[0].shape == made.shape
        assert made.dtype == dtype
        assert (made == 0).all()


def test_bfloat16_is_summed_in_single():
    """Summed in its own eight bits, ones come to no more than 256."""
    ones = np.ones((1, 300), ml_dtypes.bfloat16)
    for made in (MatMul().kernel(ones, ones.T), Gemm(transB=1).kernel(ones, ones)):
        assert made.dtype == ones.dtype
        assert made.tolist() == [[300]]


def test_matmul_of_symbolic_shapes():
    def product(a, b):
        return inferred(MatMul(), shaped(*a), shaped(*b))[0].shape

    assert product((N, K), (K, M)) == (N, M)
    assert product((K,), (K,)) == ()
    assert product((K,), (B, K, M)) == (B, M)
    assert product((B, N, K), (K,)) == (B, N)
    assert product((N, K), (3, M)) == (N, M)  # K may be 3
    assert product((B, 1, N, 4), (5, 4, M)) == (B, 5, N, M)
    assert product((B, 3, N, 4), (5, 1, 4, M)) == (5, 3, N, M)
    assert len(product((B, N, 4), (M, 4, 2))) == 3
    assert is_symbolic_exact(MatMul(), [shaped(B, N, 4), shaped(B, 4, 2)])
    assert inferred(MatMul(), UNKNOWN, shaped(4, 2)) == (TensorType(f32, None),)


def test_matmul_refuses():
    refuses(MatMul(), [normal(2, 3), normal(2, 3)], r"f32\[2, 3\] and f32\[2, 3\]: 3 columns do not meet 2 rows")
    refuses(MatMul(), [normal(3), normal(2)], r"f32\[3\] and f32\[2\]: 3 columns do not meet 2 rows")
    refuses(MatMul(), [normal(), normal(2)], r"f32\[\] and f32\[2\]: MatMul takes no scalars")
    refuses(MatMul(), [normal(2, 2), normal()], "MatMul takes no scalars")
    refuses(MatMul(), [normal(2, 2, 3), normal(3, 3, 2)], r"the shapes \[2\], \[3\] do not broadcast: 2 meets 3")
    refuses(MatMul(), [normal(2, 2), normal(2, 2).astype(np.float16)], r"f32.* and f16.*: MatMul takes one element ty")
    refuses(MatMul(), [np.ones((2, 2), bool)] * 2, "operand 'a' is bool.*, and it takes float or int or uint")
    refuses(MatMul(), [normal(2, 2)], "MatMul needs its operand 'b'")


def macs(op, *facts):
    return op.macs(facts, inferred(op, *facts))


def test_matmul_macs():
    assert macs(MatMul(), shaped(2, 3, 4), shaped(4, 5)) == 2 * 3 * 5 * 4
    assert macs(MatMul(), shaped(7), shaped(7)) == 7
    assert macs(MatMul(), shaped(5, 1, 2, 3), shaped(4, 3, 6)) == 5 * 4 * 2 * 6 * 3
    assert macs(MatMul(), shaped(N, 768), shaped(768, 1000)) == 768000 * N
    assert MatMul().macs((None, None), (TensorType(f32, (1, 2)),)) == 0
    assert MatMul().macs((shaped(1, 2), UNKNOWN), (TensorType(f32, None),)) == 0


@settings(deadline=None)
@given(st.lists(extents, min_size=2, max_size=4), extents)
def test_matmul_scales_by_channel(shape, columns):
    check_linear(MatMul(), [normal(*shape), normal(shape[-1], columns)])


def test_matmul_has_channels_where_the_weight_is_a_matrix():
    def refused(pattern, *facts):
        with pytest.raises(Refused, match=pattern):
            MatMul().channels(facts)

    assert MatMul().channels((shaped(B, N, 4), shaped(4, 2))) == (2, 2)
    refused("the operands' ranks are not known", UNKNOWN, shaped(4, 2))
    refused("the operands' ranks are not known", shaped(4, 2), None)
    refused(r"the weight is f32\[2, 4, 2\]: only a matrix has one output channel a column", shaped(B, N, 4),
            shaped(2, 4, 2))  # fmt: skip
    refused("only a matrix has one output channel a column", shaped(4), shaped(4, 2))
    refused("the weight's shape is not known", shaped(N, 4), shaped(4, M))


# ---- Gemm

factors = st.one_of(st.sampled_from([0.0, 1.0, 0.1, -1.5]), st.floats(-3, 3, width=32))


@st.composite
def gemms(draw, needs_c=False, floating=floats):
    """A Gemm with its operands; C in every form that broadcasts to the product, or none."""
    m, k, n = (draw(extents) for _ in range(3))
    form = draw(st.sampled_from([None, (), (1,), (n,), (1, 1), (m, 1), (1, n), (m, n)][1 if needs_c else 0 :]))
    op = Gemm(
        alpha=draw(factors), beta=draw(factors), transA=draw(st.integers(0, 1)), transB=draw(st.integers(0, 1))
    )  # fmt: skip
    a = normal(*((k, m) if op.transA else (m, k)), seed=1)
    b = normal(*((n, k) if op.transB else (k, n)), seed=2)
    c = None if form is None else normal(*form, seed=3)
    dtype = draw(floating)
    return op, [None if o is None else o.astype(dtype) for o in (a, b, c)]


def summed(op, arrays):
    return magnitudes(replace(op, alpha=abs(op.alpha), beta=abs(op.beta)), arrays)


@settings(deadline=None)
@given(gemms(), st.sampled_from([(), (1,), (1, 2)]))
def test_gemm(case, constants):
    op, arrays = case
    check(op, arrays, constants=constants, ulps=ulps(arrays[0].dtype.type), scale=summed(op, arrays))


@settings(deadline=None)
@given(st.data(), st.sampled_from([7, 9, 10, 11, 13, 26]))
def test_gemm_of_old_opsets(data, opset):
    op, arrays = data.draw(gemms(needs_c=opset < 11, floating=st.just(np.float32)))
    plain = {k: a.value for k, a in op.attributes.items()}
    check_old("Gemm", arrays, plain, opset, constants=[1, 2], ulps=SUMS, scale=summed(op, arrays))


def test_gemm_without_c_gets_a_zero_below_opset_11():
    for dtype in (np.float32, np.float64):
        arrays = [normal(2, 3).astype(dtype), normal(3, 4).astype(dtype)]
        for operands in (("a", "b"), ("a", "b", "")):
            step = downgrade(Gemm(), Step({}, operands, ("y",), facts_of(arrays, ())), 10)
            assert step.operands[:2] == ("a", "b")
            zero = step.operands[2]
            assert isinstance(zero, Constant)
            assert zero.array().dtype == dtype
            assert zero.array().tolist() == [0]
            assert len(step.facts) == 3
            assert downgrade(Gemm(), Step({}, operands, ("y",), facts_of(arrays, ())), 11).operands == operands
    given_c = Step({}, ("a", "b", "c"), ("y",), facts_of([*arrays, normal(4)], ()))
    assert downgrade(Gemm(), given_c, 7).operands == ("a", "b", "c")
    whole = facts_of([np.ones((2, 2), np.int32)] * 2)
    with pytest.raises(OpsetError, match=r"Gemm of i32 needs opset"):
        downgrade(Gemm(), Step({}, ("a", "b"), ("y",), whole), 7)


def test_gemm_with_beta_0_does_not_read_c():
    """Not even NaN gets through; ONNX's own reference does so too."""
    op, c = Gemm(beta=0.0), np.full(3, np.nan, np.float32)
    assert np.isfinite(check(op, [normal(2, 4), normal(4, 3), c])[0]).all()
    assert np.isfinite(op.with_bias(c, np.ones(3), np.ones(3))).all()


@pytest.mark.parametrize("shapes", [((2, 0), (0, 3)), ((0, 2), (2, 3)), ((2, 4), (4, 0)), ((2, 0), (0, 3), (3,))])
def test_gemm_of_nothing(shapes):
    """With beta 1: where there is nothing to sum, ONNX Runtime forgets to multiply C by it."""
    check(Gemm(), [normal(*s) for s in shapes], exact=True)


def test_gemm_factors_are_single_precision():
    """A file holds them in float32: in float64 they are not what they read."""
    eye = np.eye(1)
    assert check(Gemm(alpha=0.1, beta=0.3), [eye, eye, eye], ulps=1)[0].item() == float(np.float32(0.1)) + float(
        np.float32(0.3)
    )


def test_gemm_of_integers():
    a, b, c = np.array([[1, 2]], np.int32), np.array([[3], [4]], np.int32), np.array([5], np.int32)
    assert compute(Gemm(alpha=-2.0, beta=3.0), [a, b, c])[0].tolist() == [[-7]]
    with pytest.raises(NoKernelError, match=r"Gemm of int32 with a factor of 0\.5 is not clear"):
        compute(Gemm(alpha=0.5), [a, b])
    unsigned = [o.astype(np.uint32) for o in (a, b, c)]
    assert compute(Gemm(beta=2.0), unsigned)[0].tolist() == [[21]]
    with pytest.raises(NoKernelError, match="Gemm of uint32 with a factor of -1 is not clear"):
        compute(Gemm(beta=-1.0), unsigned)


def test_gemm_of_symbolic_shapes():
    def product(a, b, *c, **attributes):
        return inferred(Gemm(**attributes), shaped(*a), shaped(*b), *c)[0].shape

    assert product((N, K), (K, M)) == (N, M)
    assert product((K, N), (M, K), transA=1, transB=1) == (N, M)
    assert product((N, 4), (4, 3), shaped(3)) == (N, 3)
    assert product((N, 4), (4, 3), shaped(N, 1)) == (N, 3)
    assert product((N, 4), (4, 3), shaped(2, M)) == (N, 3)
    assert product((N, 4), (4, 3), UNKNOWN) == (N, 3)
    assert inferred(Gemm(), UNKNOWN, shaped(4, 3)) == (TensorType(f32, None),)


def test_gemm_refuses():
    a, b = normal(2, 4), normal(4, 3)
    refuses(Gemm(), [normal(1, 2, 4), b], r"f32\[1, 2, 4\] and f32\[4, 3\]: Gemm takes matrices")
    refuses(Gemm(), [a, normal(4)], r"f32\[2, 4\] and f32\[4\]: Gemm takes matrices")
    refuses(Gemm(transA=1), [a, b], r"f32\[2, 4\] and f32\[4, 3\]: 2 columns do not meet 4 rows")
    refuses(Gemm(transB=1), [a, b], "4 columns do not meet 3 rows")
    refuses(Gemm(), [a, b, normal(2)], r"the bias f32\[2\] does not broadcast to the product \[2, 3\]")
    refuses(Gemm(), [normal(1, 4), b, normal(2, 3)], r"the bias f32\[2, 3\] does not broadcast to the product \[1, 3\]")
    refuses(Gemm(), [a, b, normal(1, 1, 3)], r"the bias f32\[1, 1, 3\] does not broadcast to the product \[2, 3\]")
    refuses(Gemm(), [a, b, normal(3).astype(np.float64)], r"f32.* and f32.* and f64\[3\]: Gemm takes one element type")
    refuses(Gemm(), [a, b.astype(np.float16)], "Gemm takes one element type")
    refuses(Gemm(), [a], "Gemm needs its operand 'b'")


def test_gemm_macs():
    assert macs(Gemm(), shaped(2, 4), shaped(4, 3), shaped(3)) == 2 * 3 * 4
    assert macs(Gemm(transA=1), shaped(4, 2), shaped(4, 3)) == 2 * 3 * 4
    assert macs(Gemm(transB=1), shaped(N, 2048), shaped(1000, 2048)) == 2048000 * N
    assert Gemm().macs((None, None), (TensorType(f32, (1, 2)),)) == 0


@settings(deadline=None)
@given(gemms(floating=st.just(np.float32)))
def test_gemm_scales_by_channel(case):
    op, arrays = case
    check_linear(op, arrays)


def test_gemm_channels_are_known_from_the_weight():
    assert Gemm().channels((shaped(N, 4), shaped(4, 3))) == (1, 3)
    assert Gemm(transB=1).channels((shaped(N, 4), shaped(3, 4))) == (1, 3)
    for weight in (None, UNKNOWN, shaped(4, M)):
        with pytest.raises(Refused, match="the weight's shape is not known"):
            Gemm().channels((shaped(N, 4), weight))
