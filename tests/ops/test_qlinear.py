"""ONNX Runtime's own quantized operators, bit for bit where they end in integers.

No operand is left out: where an optional zero point is, ONNX Runtime's type inference fails, or ends the process.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.ir.dims import symbol
from graphopt.ir.types import TensorType, boolean, f16, f32, i32, i64, u8
from graphopt.ops.qlinear import (
    QLinearAdd,
    QLinearConcat,
    QLinearLeakyRelu,
    QLinearMul,
    QLinearSigmoid,
    QLinearSoftmax,
    QLinearWhere,
)
from graphopt.ops.qlinear_pool import NhwcMaxPool, QLinearAveragePool, QLinearGlobalAveragePool
from graphopt.ops.quantize import (
    DequantizeLinear,
    MicrosoftDequantizeLinear,
    MicrosoftQuantizeLinear,
    QuantizeLinear,
)
from graphopt.ops.quantized_product import (
    DynamicQuantizeMatMul,
    LayoutQLinearConv,
    MatMulIntegerToFloat,
    MatMulNBits,
    QGemm,
)
from graphopt.ops.room import Fact, NoKernelError
from ops.cases_quantize import WEIGHTS, scale, whole, zero
from ops.harness import check, compute, facts_of, inferred, normal, refuses

bytes_of = st.sampled_from([np.uint8, np.int8])
images = st.lists(st.integers(4, 7), min_size=1, max_size=3).map(tuple)


def one(value, dtype=np.float32):
    return np.array(value, dtype)


def held(arrays, *data):
    """Indices of the operands that are no data."""
    return [i for i in range(len(arrays)) if i not in data]


# ---- Elementwise


@settings(deadline=None)
@given(
    st.data(),
    bytes_of,
    st.sampled_from([QLinearAdd, QLinearMul]),
    st.sampled_from([(), (1,), (40,), (5, 1), (2, 5, 40)]),
)
def test_arithmetic(data, dtype, cls, shape):
    same = data.draw(st.booleans())  # the same scale everywhere: half of all sums are ties
    scales = [scale(data)] * 3 if same else [scale(data) for _ in range(3)]
    a, b = whole(dtype, 2, 5, 40), whole(dtype, *shape, seed=1)
    if data.draw(st.booleans()):
        a, b = b, a
    zeros = [zero(data, dtype) for _ in range(3)]
    arrays = [a, scales[0], zeros[0], b, scales[1], zeros[1], scales[2] * np.float32(2 if same else 1), zeros[2]]
    check(cls(), arrays, constants=held(arrays, 0, 3), steps=1)  # kernels differ in the order of a sum


def test_zero_points_that_are_left_out_are_0():
    a, b, s = whole(np.int8, 9), whole(np.int8, 9, seed=1), one(0.5)
    none, nil = None, one(0, np.int8)
    for op in (QLinearAdd(), QLinearMul()):
        made = compute(op, [a, s, none, b, s, none, s])
        np.testing.assert_array_equal(made, compute(op, [a, s, nil, b, s, nil, s, nil]))
    for op in (QLinearSigmoid(), QLinearLeakyRelu()):
        np.testing.assert_array_equal(compute(op, [a, s, none, s]), compute(op, [a, s, nil, s, nil]))


@settings(deadline=None)
@given(st.data(), bytes_of, st.sampled_from([QLinearSigmoid(), QLinearLeakyRelu(), QLinearLeakyRelu(alpha=0.3)]))
def test_activations(data, dtype, op):
    x = np.arange(256).astype(np.uint8).view(dtype).reshape(4, 64)
    to = one(1 / 256) if isinstance(op, QLinearSigmoid) else scale(data)
    arrays = [x, scale(data), zero(data, dtype), to, zero(data, dtype)]
    check(op, arrays, constants=held(arrays, 0), exact=True)


@settings(deadline=None)
@given(st.data(), bytes_of, st.integers(-3, 2), st.sampled_from([11, 13]), st.sampled_from([256, 255, 100]))
def test_softmax(data, dtype, axis, opset, steps):
    """But for int8 where the result is 1: ONNX Runtime's 128 becomes -128."""
    x = whole(dtype, 3, 5, 20, limit=60)
    arrays = [
        x,
        one(data.draw(st.sampled_from([0.003, 0.02, 0.1]))),
        zero(data, dtype),
        one(1 / steps),
        one(np.iinfo(dtype).min, dtype),
    ]
    check(QLinearSoftmax(axis=axis, opset=opset), arrays, constants=held(arrays, 0), exact=True)


def test_softmax_at_its_ends():
    (made,) = compute(
        QLinearSoftmax(opset=13), [one([[127, -128]], np.int8), one(1), None, one(1 / 256), one(-128, np.int8)]
    )
    assert made.tolist() == [[127, -128]]
    assert compute(QLinearSoftmax(opset=13), [np.zeros((0, 3), np.uint8), one(1), None, one(1), one(0, np.uint8)])[
        0
    ].shape == (0, 3)


@settings(deadline=None)
@given(st.data(), bytes_of, st.integers(-3, 2))
def test_concat(data, dtype, axis):
    parts = []
    for i in range(data.draw(st.integers(2, 3))):
        shape = [2, 3, 4]
        shape[axis] = data.draw(st.integers(1, 3))
        parts += [whole(dtype, *shape, seed=i), scale(data), zero(data, dtype)]
    arrays = [scale(data), zero(data, dtype), *parts]
    check(QLinearConcat(axis=axis), arrays, constants=held(arrays, *range(2, len(arrays), 3)), exact=True)


@settings(deadline=None)
@given(st.data(), bytes_of)
def test_where(data, dtype):
    condition = normal(3, 1, 5) > 0
    arrays = [
        condition,
        whole(dtype, 4, 5),
        scale(data),
        zero(data, dtype),
        whole(dtype, 3, 4, 1),
        scale(data),
        zero(data, dtype),
    ]
    arrays += [scale(data), zero(data, dtype)]
    check(QLinearWhere(), arrays, constants=held(arrays, 0, 1, 4), exact=True)


# ---- Pools


@settings(deadline=None)
@given(st.data(), bytes_of, images, st.integers(0, 1))
def test_average_pool(data, dtype, spatial, last):
    n = len(spatial)
    kernel = [data.draw(st.integers(1, 3)) for _ in spatial]
    drawn = {"strides": tuple(data.draw(st.integers(1, 2)) for _ in spatial)}
    form = data.draw(st.integers(0, 2))
    if form == 0:
        drawn |= {
            "pads": tuple(data.draw(st.integers(0, k - 1)) for k in (*kernel, *kernel)),
            "count_include_pad": data.draw(st.integers(0, 1)),
        }
    elif form == 1:
        drawn |= {"ceil_mode": 1}
    else:
        drawn |= {"auto_pad": data.draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"]))}
    shape = (2, *spatial, 3) if last else (2, 3, *spatial)
    arrays = [whole(dtype, *shape), scale(data), zero(data, dtype), scale(data), zero(data, dtype)]
    op = QLinearAveragePool(kernel_shape=tuple(kernel), channels_last=last, **drawn)
    assert len(op.kernel_shape) == n
    check(op, arrays, constants=held(arrays, 0), exact=True)


@settings(deadline=None)
@given(st.data(), bytes_of, images, st.integers(0, 1))
def test_global_average_pool(data, dtype, spatial, last):
    shape = (2, *spatial, 3) if last else (2, 3, *spatial)
    arrays = [whole(dtype, *shape), scale(data), zero(data, dtype), scale(data), zero(data, dtype)]
    check(QLinearGlobalAveragePool(channels_last=last), arrays, constants=held(arrays, 0), exact=True)


@settings(deadline=None)
@given(st.data(), bytes_of)
def test_max_pool_with_channels_last(data, dtype):
    drawn = {key: tuple(data.draw(st.integers(1, 2)) for _ in range(2)) for key in ("strides", "dilations")}
    op = NhwcMaxPool(kernel_shape=(3, 2), pads=(1, 0, 1, 1), ceil_mode=data.draw(st.integers(0, 1)), **drawn)
    check(op, [whole(dtype, 2, 7, 6, 3)], exact=True)


# ---- Products


def _pair(data):
    return data.draw(st.sampled_from([(np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8)]))


@settings(deadline=None)
@given(st.data(), st.integers(0, 1), st.integers(0, 1), st.sampled_from([1.0, 0.7]))
def test_gemm(data, transposed_a, transposed_b, alpha):
    m, k, n = (data.draw(st.integers(1, 20)) for _ in range(3))
    kind, of_weight = _pair(data)
    each = (n,) if data.draw(st.booleans()) else ()
    a = whole(kind, *((k, m) if transposed_a else (m, k)))
    b = whole(of_weight, *((n, k) if transposed_b else (k, n)), limit=WEIGHTS)
    bias = data.draw(st.sampled_from([None, whole(np.int32, n, limit=9000), whole(np.int32, m, 1, limit=9000)]))
    arrays = [a, scale(data), zero(data, kind), b, scale(data, *each), np.full(each, 3, of_weight), bias]
    if data.draw(st.booleans()):
        arrays += [scale(data) * np.float32(9), zero(data, kind)]
    op = QGemm(transA=transposed_a, transB=transposed_b, alpha=alpha)
    check(op, arrays, constants=held(arrays, 0), exact=True)


@settings(deadline=None)
@given(st.data(), st.booleans(), st.booleans())
def test_products_that_end_in_floats(data, by_column, biased):
    k, n = (data.draw(st.integers(1, 20)) for _ in range(2))
    kind, of_weight = _pair(data)
    each = (n,) if by_column else ()
    bias = [normal(n)] if biased else []
    b = whole(of_weight, k, n, limit=WEIGHTS)
    arrays = [
        whole(kind, 2, 3, k),
        b,
        scale(data),
        scale(data, *each),
        zero(data, kind),
        np.full(each, 2, of_weight),
        *bias,
    ]
    check(MatMulIntegerToFloat(), arrays, constants=held(arrays, 0), scale=_size(arrays[0], b, arrays[2], arrays[3]))
    a = normal(2, 3, k)
    arrays = [a, b, scale(data, *each), np.full(each, 2, of_weight), *bias]
    check(DynamicQuantizeMatMul(), arrays, constants=held(arrays, 0), scale=_size(a, b, one(1), arrays[2]))


def _size(a, b, *scales):
    """What the products may be, in absolute values."""
    return (
        (np.abs(a).astype(np.float64) + 300)
        @ (np.abs(b).astype(np.float64) + 300)
        * float(np.prod([s.max() for s in scales]))
    )


@settings(deadline=None)
@given(st.data(), st.sampled_from([2, 4, 8]), st.sampled_from([16, 32]), st.integers(1, 70), st.integers(1, 9))
def test_weights_of_a_few_bits(data, bits, block, k, n):
    count = -(-k // block)
    weight, scales = whole(np.uint8, n, count, block * bits // 8), scale(data, n * count)
    zeros = data.draw(st.sampled_from([None, whole(np.uint8, n * -(-count * bits // 8), seed=3)]))
    arrays = [normal(2, 3, k), weight, scales, zeros, None, data.draw(st.sampled_from([None, normal(n)]))]
    check(MatMulNBits(K=k, N=n, block_size=block, bits=bits), arrays, constants=held(arrays, 0), ulps=256)


def test_weights_of_a_few_bits_with_other_zero_points_and_an_order():
    weight, scales = whole(np.uint8, 5, 3, 16), np.abs(normal(15)) + np.float32(0.1)
    op = MatMulNBits(K=80, N=5, block_size=32)
    check(op, [normal(4, 80), weight, scales, normal(15)], constants=[1, 2, 3], ulps=256)
    order = np.random.default_rng(0).integers(0, 3, 96).astype(np.int32)
    check(op, [normal(4, 80), weight, scales, None, order], constants=[1, 2, 4], ulps=256)
    with pytest.raises(NoKernelError, match="own layout"):
        compute(MatMulNBits(K=80, N=5, block_size=32, weight_prepacked=1), [normal(4, 80), weight, scales])


@settings(deadline=None)
@given(st.data(), st.integers(0, 1))
def test_convolution_with_channels_last(data, last):
    kind, of_weight = _pair(data)
    each = (6,) if data.draw(st.booleans()) else ()
    x = whole(kind, *((2, 7, 5, 4) if last else (2, 4, 7, 5)))
    arrays = [
        x, scale(data), zero(data, kind), whole(of_weight, 6, 2, 3, 2, limit=WEIGHTS), scale(data, *each),
        np.full(each, 3, of_weight), scale(data), zero(data, kind), whole(np.int32, 6, limit=9000),
    ]  # fmt: skip
    op = LayoutQLinearConv(channels_last=last, group=2, pads=(1, 0, 1, 1), strides=(2, 1))
    check(op, arrays, constants=held(arrays, 0), exact=True)


@settings(deadline=None)
@given(st.data(), st.sampled_from([np.uint8, np.int8, np.uint16, np.int16]), st.booleans())
def test_quantize_and_dequantize_of_the_other_domain(data, dtype, by_axis):
    shape = (3,) if by_axis else ()
    more = [scale(data, *shape), zero(data, dtype, *shape)]
    check(MicrosoftQuantizeLinear(axis=0), [normal(3, 4) * np.float32(50), *more], exact=True)
    check(MicrosoftDequantizeLinear(axis=0), [whole(dtype, 3, 4), *more], exact=True)
    assert isinstance(MicrosoftQuantizeLinear(), QuantizeLinear)
    assert isinstance(MicrosoftDequantizeLinear(), DequantizeLinear)


# ---- Types


def test_symbols_are_kept():
    s, z = Fact(f32[()]), Fact(u8[()])
    x = Fact(u8["N", 3, "H", "W"])
    assert inferred(QLinearAdd(), x, s, z, Fact(u8[3, 1, 1]), s, z, s, z) == (x.type,)
    assert inferred(QLinearSigmoid(), x, s, z, s, z) == (x.type,)
    assert inferred(QLinearConcat(axis=1), s, z, x, s, z, x, s, z) == (u8["N", 6, "H", "W"],)
    assert inferred(QLinearWhere(), Fact(boolean["N", 1, 1, 1]), x, s, z, x, s, z, s, z) == (x.type,)
    pool = QLinearAveragePool(kernel_shape=(3, 3), pads=(1, 1, 1, 1))
    assert inferred(pool, x, s, z, s, z) == (x.type,)
    assert inferred(QLinearGlobalAveragePool(), x, s, z, s, z) == (u8["N", 3, 1, 1],)
    last = Fact(u8["N", "H", "W", 3])
    assert inferred(QLinearGlobalAveragePool(channels_last=1), last, s, z, s, z) == (u8["N", 1, 1, 3],)
    assert inferred(NhwcMaxPool(kernel_shape=(3, 3), pads=(1, 1, 1, 1)), last) == (last.type,)
    assert inferred(QGemm(), Fact(u8["N", 5]), s, z, Fact(u8[5, 6]), s, z, None, s, z) == (u8["N", 6],)
    assert inferred(QGemm(), Fact(u8["N", 5]), s, z, Fact(u8[5, 6]), s, z) == (f32["N", 6],)
    assert inferred(MatMulIntegerToFloat(), Fact(u8["N", 5]), Fact(u8[5, 6]), s, s) == (f32["N", 6],)
    assert inferred(DynamicQuantizeMatMul(), Fact(f32["N", 5]), Fact(u8[5, 6]), s) == (f32["N", 6],)
    conv = LayoutQLinearConv(channels_last=1, pads=(1, 1, 1, 1))
    assert inferred(conv, last, s, z, Fact(u8[4, 3, 3, 3]), s, z, s, z) == (u8["N", "H", "W", 4],)


def test_what_is_known_without_a_rank():
    x, s, z = Fact(TensorType(u8, None)), Fact(f32[()]), Fact(u8[()])
    assert inferred(QLinearMul(), x, s, z, x, s, z, s, z) == (x.type,)
    assert inferred(QLinearAveragePool(kernel_shape=(2,)), x, s, z, s, z) == (x.type,)
    assert inferred(QGemm(), x, s, z, x, s, z) == (TensorType(f32, None),)
    few, rows = MatMulNBits(K=32, N=4, block_size=32), Fact(TensorType(f32, None))
    assert inferred(few, rows, x, Fact(f32[4])) == (rows.type,)


def test_costs():
    s, z = Fact(f32[()]), Fact(u8[()])
    rows = Fact(u8["N", 5]), s, z, Fact(u8[5, 6]), s, z
    assert QGemm().macs(rows, (u8["N", 6],)) == symbol("N") * 30
    assert QGemm(transA=1).macs((Fact(u8[5, "N"]), *rows[1:]), (u8["N", 6],)) == symbol("N") * 30
    assert MatMulIntegerToFloat().macs((Fact(u8["N", 5]), Fact(u8[5, 6]), s, s), (f32["N", 6],)) == symbol("N") * 30
    assert MatMulNBits(K=32, N=4, block_size=32).macs((Fact(f32["N", 32]),), (f32["N", 4],)) == symbol("N") * 128


def test_refusals():
    x, s, z = whole(np.uint8, 2, 3), one(1), one(0, np.uint8)
    refuses(QLinearAdd(), [x, s, z, whole(np.uint8, 2, 4), s, z, s, z], "do not broadcast")
    refuses(QLinearAdd(), [x, s, z, whole(np.int8, 2, 3), s, None, s, z], "different element types")
    refuses(QLinearAdd(), [x, np.ones(3, np.float32), z, x, s, z, s, z], "a_scale is f32.3., and one number")
    refuses(QLinearMul(), [x, s, one(0, np.int8), x, s, z, s, z], "the zero point a_zero_point is i8")
    refuses(QLinearSigmoid(), [x.astype(np.int32), s, None, s], "it holds i8 or u8")
    refuses(QLinearSoftmax(axis=2, opset=13), [x, s, z, s, z], "axes .2. are not all axes")
    refuses(QLinearConcat(axis=0), [s, z, x, s], "2 operands are no tensors with a scale and a zero point each")
    refuses(QLinearConcat(axis=0), [s, z, x, s, one(0, np.int8)], "tensor 0 is u8.2, 3., its zero point i8")
    refuses(QLinearConcat(axis=0), [s, z, x, None, z], "QLinearConcat needs its operand 'xs'")
    refuses(
        QLinearWhere(),
        [np.zeros(3, bool), x, s, z, x.astype(np.int8), s, one(0, np.int8), s, z],
        "different element types",
    )
    refuses(QLinearAveragePool(kernel_shape=(2,)), [x, s, z, s, z], "does not fit the rank")
    refuses(QGemm(), [x, s, z, x, s, z], "3 columns do not meet 2 rows")
    refuses(QGemm(transB=1), [x, s, z, x, s, z, None, s], "one is left out")
    refuses(QGemm(transB=1), [x, s, z, x, s, z, np.zeros(2, np.int8)], "the bias is i8.2., and it holds i32")
    refuses(QGemm(transB=1), [x, s, z, x, np.ones(3, np.float32), z], "b_scale is f32.3., and there are 2 columns")
    refuses(MatMulIntegerToFloat(), [x, x.T, s, one(1, np.float16)], "one type holds for both")
    refuses(
        MatMulIntegerToFloat(), [x, x.T, s, s, None, None, normal(3)], "the bias is f32.3., and there are 2 columns"
    )
    refuses(DynamicQuantizeMatMul(), [normal(2, 3).astype(np.float16), x.T, s], "a is f16.2, 3., and it holds f32")
    few = MatMulNBits(K=64, N=4, block_size=32)
    weight, scales = whole(np.uint8, 4, 2, 16), np.ones(8, np.float32)
    refuses(few, [normal(2, 63), weight, scales], "its rows have 64 elements")
    refuses(few, [normal(2, 64), weight[:3], scales], "128 bytes hold it")
    refuses(few, [normal(2, 64), weight, scales[:7]], "there are 8 blocks")
    refuses(few, [normal(2, 64), weight.astype(np.int8), scales], "it holds u8")
    refuses(few, [normal(2, 64), weight, scales.astype(np.float16)], "have a's type")
    for wrong in ({"bits": 3}, {"block_size": 0}, {"N": -1}, {"K": 0}):
        refuses(MatMulNBits(**{"K": 64, "N": 4, "block_size": 32, **wrong}), [normal(2, 64), weight, scales], "is none")


def test_counts_that_are_not_clear():
    op = QLinearAveragePool(kernel_shape=(2,), ceil_mode=1, count_include_pad=1)
    with pytest.raises(NoKernelError, match="counts pads and rounds sizes up"):
        compute(op, [whole(np.uint8, 1, 1, 5), one(1), None, one(1)])


def test_facts_of_other_types_are_refused():
    s, z = Fact(f32[()]), Fact(u8[()])
    refuses(QLinearAdd(), [whole(np.uint8, 2), one(1, np.float16), *[None] * 6], "needs its operand")
    for kind in (i64, i32, f16):
        with pytest.raises(Exception, match=r"i8 or u8|takes int"):
            inferred(QLinearSigmoid(), Fact(kind[2]), s, z, s, z)
    assert facts_of([one(1)])[0].rank == 0
