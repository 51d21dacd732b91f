"""Quantized operators beside ONNX Runtime, bit for bit."""

from __future__ import annotations

from dataclasses import MISSING, fields

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from graphopt.errors import OpsetError
from graphopt.ir.attributes import Attribute
from graphopt.ir.dims import symbol
from graphopt.ir.types import DTYPES, TensorType, dtype_of, f16, f32, i8, i32, u8
from graphopt.onnx_format.opset import downgrade
from graphopt.ops.infer import check_operands
from graphopt.ops.integer import ConvInteger, MatMulInteger, QLinearConv, QLinearMatMul
from graphopt.ops.quantize import DequantizeLinear, DynamicQuantizeLinear, QuantizeLinear
from graphopt.ops.registry import RARE, rooms
from graphopt.ops.room import Fact, NoKernelError, Step, Trait
from ops import cases_quantize
from ops.cases_quantize import WEIGHTS, whole
from ops.harness import check, compute, facts_of, inferred, model, normal, refuses, run_reference
from ops.test_any_operands import REFUSALS, VALUES, facts

TINY = {t: DTYPES[t].numpy for t in ("i4", "u4", "f8e4m3fn", "f8e4m3fnuz", "f8e5m2", "f8e5m2fnuz")}
ALL_ROOMS = [
    (domain, name)
    for module in ("quantize", "integer", "qlinear", "qlinear_pool", "quantized_product", "microsoft")
    for domain, _, name in (n.rpartition("::") for n in RARE[module])
]


def one(value, dtype=np.float32):
    return np.array(value, dtype)


def widened_ort(op_type, inputs, attributes, *, opset, constants=(), results=1, domain=""):
    """ONNX Runtime's results of element types that it cannot hand to NumPy, through a Cast to float."""
    proto = model(op_type, inputs, attributes, opset=opset, domain=domain, constants=constants)
    code = attributes.get("output_dtype")
    target = dtype_of(inputs["y_zero_point"].dtype) if code is None else next(
        d for d in DTYPES.values() if d.code == code.value
    )  # fmt: skip
    node = helper.make_node("Cast", [proto.graph.output[0].name], ["wide"], to=onnx.TensorProto.FLOAT)
    proto.graph.node.append(node)
    proto.graph.output[0].CopyFrom(onnx.ValueInfoProto(name="wide"))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (made,) = session.run(None, {k: v for k, v in inputs.items() if v is not None and k not in constants})
    return (made.astype(target.numpy),)


# ---- QuantizeLinear


@settings(deadline=None)
@given(st.data(), st.sampled_from([21, 23, 24, 25]))
def test_quantize(data, opset):
    x, *more = cases_quantize.quantize(data, opset).arrays
    for op in (QuantizeLinear(axis=0), QuantizeLinear(axis=0, output_dtype=3)):
        fits = len(more) < 2 or op.output_dtype in (0, dtype_of(more[1].dtype).code)
        if more[0].size in (1, x.shape[0]) and more[0].ndim < 2 and fits:
            check(op, [x, *more], opset=opset, exact=True, ulps=0)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
def test_ties_and_ends(dtype):
    info = np.iinfo(dtype)
    halves = np.arange(2 * info.min - 9, 2 * info.max + 9, 7 if info.bits == 16 else 1) / 2
    x = np.append(halves, [np.nan, np.inf, -np.inf, 3e38, -3e38, -0.0]).astype(np.float32)
    for zero in (0, 3, info.min, info.max):
        (made,) = check(QuantizeLinear(), [x, one(1), one(zero, dtype)], exact=True)
    assert compute(QuantizeLinear(), [one([0.5, 1.5, 2.5, -0.5]), one(1), one(10, dtype)])[0].tolist() == [
        10,
        12,
        12,
        10,
    ]
    assert made[-6:].tolist() == [info.min, info.max, info.min, info.max, info.min, info.max]


def test_the_division_is_single():
    """0.3 / 0.1 · 5 and the like: near a tie the width decides, and a wider one would be wrong."""
    ties = np.arange(1, 255, 2, dtype=np.float64) / 2
    scale = np.float32(0.013)
    x = (ties * np.float64(scale)).astype(np.float32)
    check(QuantizeLinear(), [x, scale.reshape(()), one(0, np.uint8)], exact=True)
    narrow = (x / scale).astype(np.float64)
    assert (np.rint(narrow) != np.rint(x.astype(np.float64) / np.float64(scale))).any(), "the case shows nothing"


@pytest.mark.parametrize("kind", TINY)
@pytest.mark.parametrize("saturate", [0, 1])
@pytest.mark.parametrize("scale", [1.0, 40.0])
def test_tiny_types(kind, saturate, scale):
    x = np.append(normal(400) * np.float32(300), [0.5, 1.5, 2.5, -2.5, -0.0, 6e4, 7e4]).astype(np.float32)
    if not saturate:  # from 464 on f8e4m3fn has only NaN, and ONNX Runtime makes 448 of 480 to 495
        x = x[(np.abs(x) < 464) | (np.abs(x) > 512)]
    inputs = {"x": x, "y_scale": one(scale), "y_zero_point": np.zeros((), TINY[kind])}
    op = QuantizeLinear(saturate=saturate)
    (theirs,) = widened_ort(op.name, inputs, op.attributes, opset=26, constants=["y_zero_point"])
    (made,) = compute(op, list(inputs.values()))
    assert made.dtype == theirs.dtype == TINY[kind]
    np.testing.assert_array_equal(made.astype(np.float32), theirs.astype(np.float32))


def test_int4_with_a_zero_point():
    arrays = [normal(50) * 3, one(0.7), np.array(2, ml_dtypes.int4)]
    check(QuantizeLinear(), arrays, constants=[2], exact=True, run=widened_ort)
    check(QuantizeLinear(output_dtype=22), arrays[:2], exact=True, run=widened_ort)


def test_integers_are_quantized_as_the_reference_does():
    """ONNX Runtime has no kernel for them."""
    x = np.arange(-300, 300, 7, dtype=np.int32)
    check(QuantizeLinear(), [x, one(0.5), one(3, np.int8)], run=run_reference, exact=True)


def test_16_bit_floats_are_divided_in_single():
    """As ONNX Runtime does; by ONNX's text in their own type, which gives other integers near ties."""
    x = (normal(4000) * 3).astype(np.float16)
    arrays = [x, one(0.0131, np.float16), one(128, np.uint8)]
    (made,) = check(QuantizeLinear(), arrays, exact=True)
    assert (made != run_reference("QuantizeLinear", dict(zip("xyz", arrays, strict=True)), {})[0]).any()


# ---- DequantizeLinear


@settings(deadline=None)
@given(st.data(), st.sampled_from([21, 23, 24, 25]))
def test_dequantize(data, opset):
    x, scale, *zero = cases_quantize.dequantize(data, opset).arrays
    if scale.ndim < 2 and scale.size in (1, x.shape[0]):
        check(DequantizeLinear(axis=0), [x, scale, *zero], opset=opset, exact=True)


@pytest.mark.parametrize("kind", [*TINY, "i2", "u2"])
def test_dequantize_tiny_types(kind):
    dtype = DTYPES[kind].numpy
    x = np.arange(-2 if kind[0] == "i" else 0, 2 if kind == "i2" else 4).astype(np.int8).astype(dtype)
    check(DequantizeLinear(), [x, one(0.3)], constants=[0], exact=True)
    if kind[0] != "f":
        check(DequantizeLinear(), [x, one(0.3), np.array(1, dtype)], constants=[0, 2], exact=True)


def test_dequantize_to_another_type():
    x, scale = whole(np.int8, 30), one(0.3)
    check(DequantizeLinear(output_dtype=10), [x, scale], exact=True)
    check(DequantizeLinear(output_dtype=1), [x, scale.astype(np.float16)], exact=True)
    power = one(0.5).astype(ml_dtypes.float8_e8m0fnu)
    (made,) = compute(DequantizeLinear(output_dtype=1), [x, power])
    np.testing.assert_array_equal(made, x * np.float32(0.5))
    assert inferred(DequantizeLinear(output_dtype=16), *facts_of([x, power]))[0].dtype.name == "bf16"


def test_the_oracle_sees_what_single_precision_gives():
    """Scales widened to float64 change no integer, and dequantized numbers are those of float32."""
    x, scale = whole(np.int8, 99), one(0.1)
    for op, arrays in ((QuantizeLinear(), [normal(99), scale]), (DequantizeLinear(), [x, scale])):
        (narrow,), (wide,) = compute(op, arrays), compute(op, arrays, np.float64)
        np.testing.assert_array_equal(narrow, wide)
    assert wide.dtype == np.float64


# ---- DynamicQuantizeLinear


@settings(deadline=None)
@given(st.lists(st.integers(0, 40), max_size=3), st.sampled_from([-40, -1, 0, 1, 40]), st.sampled_from([0, 1e-3, 1e30]))
def test_dynamic_quantize(shape, shift, factor):
    x = ((normal(*shape) + np.float32(shift)) * np.float32(factor)).astype(np.float32)
    check(DynamicQuantizeLinear(), [x], results=3, exact=True)


def test_dynamic_quantize_needs_a_range():
    with pytest.raises(NoKernelError, match="without bounds"):
        compute(DynamicQuantizeLinear(), [one([1, np.inf])])


# ---- Convolutions and products


@settings(deadline=None)
@given(st.data(), st.sampled_from(["QLinearConv", "ConvInteger", "QLinearMatMul", "MatMulInteger"]))
def test_integer_operators(data, name):
    node = cases_quantize.CASES[name](data, 21)
    cls = rooms()["", name]
    op = cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in node.attributes.items()})
    held = range(1, len(node.arrays)) if node.held else ()
    check(op, node.arrays, constants=held, exact=True, shape_inference="auto_pad" not in node.attributes)


def test_large_sums_round_to_single_first():
    """A sum beyond 2^24 is rounded to float32 before it is scaled."""
    a, b = np.full((1, 4096), 255, np.uint8), np.full((4096, 3), WEIGHTS, np.uint8)
    b[0] = [1, 2, 3]
    check(MatMulInteger(), [a, b], exact=True)
    u = one(0, np.uint8)
    check(QLinearMatMul(), [a, one(1), u, b, one(1), u, one(2.6e5), u], exact=True)
    bias = np.array([2**24 + 1, -(2**31), 2**31 - 1], np.int32)
    conv = [np.ones((1, 1, 1), np.uint8), one(1), u, np.ones((3, 1, 1), np.uint8), one(1), u, one(1.3e7), u, bias]
    check(QLinearConv(), conv, exact=True)


def test_zero_points_by_channel_and_by_row():
    """ONNX Runtime takes one zero point for data, and one for all channels of ConvInteger's weight."""
    x, w = whole(np.uint8, 2, 3, 5), whole(np.uint8, 4, 3, 2, limit=WEIGHTS)
    zeros = np.array([1, 2, 3, 4], np.uint8)
    (made,) = compute(ConvInteger(), [x, w, None, zeros])
    alone = [compute(ConvInteger(), [x, w, None, z])[0][:, i] for i, z in enumerate(zeros)]
    np.testing.assert_array_equal(made, np.stack(alone, 1))
    a, b = whole(np.uint8, 2, 3, 5), whole(np.uint8, 5, 4)
    rows = np.array([1, 2, 3], np.uint8)
    for given_rows in (rows, rows.reshape(1, 3, 1).repeat(2, 0)):
        (made,) = compute(MatMulInteger(), [a, b, given_rows, one(7, np.uint8)])
        wanted = (a.astype(int) - rows[:, None]) @ (b.astype(int) - 7)
        np.testing.assert_array_equal(made, wanted)
    scales = np.array([1, 2, 3], np.float32)
    u = one(0, np.uint8)
    small = [whole(np.uint8, 3, 2, limit=5), scales, rows * 0, whole(np.uint8, 2, 2, limit=5), one(1), u, scales, rows]
    (made,) = compute(QLinearMatMul(), small)
    np.testing.assert_array_equal(made, small[0].astype(int) @ small[3] + rows[:, None])


def test_float8_products_have_no_kernel():
    eight = np.zeros((2, 2), ml_dtypes.float8_e4m3fn)
    zero = np.zeros((), eight.dtype)
    with pytest.raises(NoKernelError, match="float8"):
        compute(QLinearMatMul(), [eight, one(1), zero, eight, one(1), zero, one(1), zero])


# ---- Types


def test_symbols_are_kept():
    x, scale = Fact(f32["N", 3, "H", "W"]), Fact(f32[3])
    assert inferred(QuantizeLinear(), x, scale, Fact(i8[3])) == (i8["N", 3, "H", "W"],)
    assert inferred(QuantizeLinear(), x, Fact(f32[()])) == (u8["N", 3, "H", "W"],)
    assert inferred(DequantizeLinear(), Fact(i8["N", 3]), Fact(f16[3])) == (f16["N", 3],)
    blocks = Fact(f32["N", 3, (symbol("H") + 1) // 2, "W"])
    assert inferred(QuantizeLinear(axis=2, block_size=2), x, blocks) == (u8["N", 3, "H", "W"],)
    one_scale, byte = Fact(f32[()]), Fact(u8[()])
    w = Fact(u8[4, 3, 3, 3])
    conv = (Fact(u8["N", 3, "H", "W"]), one_scale, byte, w, one_scale, byte, one_scale, byte)
    assert inferred(QLinearConv(pads=(1, 1, 1, 1)), *conv) == (u8["N", 4, "H", "W"],)
    assert (
        QLinearConv(pads=(1, 1, 1, 1)).macs(conv, (u8["N", 4, "H", "W"],))
        == symbol("N") * symbol("H") * symbol("W") * 108
    )
    assert inferred(MatMulInteger(), Fact(u8["N", 4, 5]), Fact(i8[5, 6])) == (i32["N", 4, 6],)
    assert MatMulInteger().macs((Fact(u8["N", 5]), Fact(i8[5, 6])), (i32["N", 6],)) == symbol("N") * 30


def test_what_is_known_without_a_rank():
    unknown, scale, byte = Fact(TensorType(u8, None)), Fact(f32[()]), Fact(u8[()])
    assert inferred(QuantizeLinear(), Fact(TensorType(f32, None)), scale) == (TensorType(u8, None),)
    assert inferred(MatMulInteger(), unknown, unknown) == (TensorType(i32, None),)
    (made,) = inferred(ConvInteger(), unknown, Fact(u8[4, 3, 3, 3]))
    assert made.rank == 4
    assert made.shape[1] == 4
    known = (unknown, scale, byte, unknown, scale, byte, scale, Fact(i8[()]))
    assert inferred(QLinearConv(), *known) == (TensorType(i8, None),)


def test_refusals():
    x, scale = normal(2, 3), one(1)
    refuses(QuantizeLinear(), [x, np.ones(4, np.float32)], r"the scale is f32\[4\], and axis 1 of f32\[2, 3\] has 3")
    refuses(QuantizeLinear(axis=2), [x, np.ones(3, np.float32)], r"axis 2 is not an axis of f32\[2, 3\]")
    refuses(QuantizeLinear(), [x, np.ones(3, np.float32), np.zeros(2, np.int8)], "they differ in shape")
    refuses(QuantizeLinear(), [x, np.ones((2, 3), np.float32)], "the scale is")
    refuses(QuantizeLinear(block_size=2), [x, np.ones((2, 3), np.float32)], r"blocks of 2 need \[2, 2\]")
    refuses(QuantizeLinear(block_size=-1), [x, scale], "block_size is -1")
    refuses(QuantizeLinear(output_dtype=3), [x, scale, one(0, np.uint8)], "the zero point is u8 and output_dtype i8")
    refuses(QuantizeLinear(output_dtype=1), [x, scale], "output_dtype is f32, which this operator does not make")
    refuses(QuantizeLinear(output_dtype=99), [x, scale], "output_dtype: element type 99")
    refuses(QuantizeLinear(), [x, scale, one(0, np.int64)], "not quantized to that")
    refuses(QuantizeLinear(precision=6), [x, scale], "precision is i32")
    refuses(QuantizeLinear(), [x, one(1, np.int32)], "takes float")
    refuses(DequantizeLinear(), [x, scale], r"f32\[2, 3\] is not quantized")
    refuses(DequantizeLinear(), [whole(np.int8, 2), scale, one(0, np.uint8)], "the zero point is u8")
    power = one(1).astype(ml_dtypes.float8_e8m0fnu)
    refuses(DequantizeLinear(), [whole(np.int8, 2), power], "the scale is f8e8m0")
    refuses(DynamicQuantizeLinear(), [x.astype(np.float64)], "it holds f32")
    w, u = whole(np.uint8, 4, 3, 2), one(0, np.uint8)
    conv = [whole(np.uint8, 1, 3, 5), scale, u, w, scale, u, scale, u]
    refuses(QLinearConv(), [*conv, np.zeros(3, np.int32)], "the bias is i32.3. and the weight has 4 output channels")
    refuses(QLinearConv(), [*conv, np.zeros(4, np.uint8)], "it holds i32")
    refuses(QLinearConv(), [*conv[:4], np.ones(3, np.float32), *conv[5:]], r"w_scale is f32\[3\], and there are 4")
    refuses(QLinearConv(), [conv[0], np.ones(3, np.float32), *conv[2:]], "x_scale is .*one number")
    refuses(QLinearConv(), [conv[0], scale, one(0, np.int8), *conv[3:]], "the zero point x_zero_point is i8")
    refuses(QLinearConv(), [conv[0], one(1, np.float16), *conv[2:]], "x_scale is f16.., and scales are f32")
    refuses(ConvInteger(), [conv[0].astype(np.int32), w], "it holds i8 or u8")
    refuses(ConvInteger(), [whole(np.uint8, 1, 2, 5), w], "the input has 2 channels and the weight expects 3")
    a, b = whole(np.uint8, 2, 3), whole(np.uint8, 3, 4)
    refuses(MatMulInteger(), [a, a], "3 columns do not meet 2 rows")
    refuses(MatMulInteger(), [a, b, np.zeros(3, np.uint8)], "a_zero_point is u8.3., and there are 2 rows")
    refuses(MatMulInteger(), [a, b, None, np.zeros((3, 1), np.uint8)], r"by columns it is \[1, 4\]")
    refuses(MatMulInteger(), [a[0], b, np.zeros(3, np.uint8)], "has no rows")
    product = [a, scale, u, b, scale, u, scale, u]
    refuses(QLinearMatMul(), [a, one(1, np.float16), *product[2:]], "one type holds for all")
    refuses(QLinearMatMul(), [*product[:4], np.ones(3, np.float32), *product[5:]], "there are 4 columns")


@pytest.mark.parametrize(("domain", "name"), ALL_ROOMS)
@settings(deadline=None, max_examples=60)
@given(st.data())
def test_answer_or_sentence(domain, name, data):
    cls = rooms()[domain, name]
    drawn = {k: data.draw(VALUES[kind]) for k, kind in cls.kinds.items() if data.draw(st.booleans())}
    for field in fields(cls):
        if field.default is MISSING:
            drawn.setdefault(field.name, data.draw(VALUES[cls.kinds[field.name]]))
    op = cls.of({k: Attribute(cls.kinds[k], v) for k, v in drawn.items()})
    dtypes = st.sampled_from([f32, u8, i8, i32])
    bytes_or_scales = st.builds(lambda d, s: Fact(TensorType(d, s)), dtypes, st.sampled_from([(), (1,), (3,), None]))
    known = tuple(data.draw(st.lists(facts() | bytes_or_scales, min_size=1, max_size=len(cls.slots) + 1)))
    try:
        check_operands(op, known)
        types = op.infer(*known)
    except REFUSALS:
        return
    types = (types,) if isinstance(types, TensorType) else types
    assert op.forwards(*known) is None
    assert op.macs(known, types) is not None
    for kind in types:
        assert all(not isinstance(d, int) or d >= 0 for d in kind.shape or ())


def test_traits():
    quantizing = {name for (_, name), cls in rooms().items() if Trait.QUANTIZES in cls.traits}
    assert {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul"} <= quantizing
    assert not {"ConvInteger", "MatMulInteger", "Conv", "Cast"} & quantizing
    for cls in (QuantizeLinear, DequantizeLinear):  # by an axis: not what is at the same place
        assert not {Trait.ELEMENTWISE, Trait.MONOTONE, Trait.MOVES} & cls.traits


# ---- Older opsets


def lowered(op, arrays, opset):
    names = tuple("" if a is None else f"x{i}" for i, a in enumerate(arrays))
    return downgrade(op, Step(op.attributes, names, ("r",), facts_of(arrays)), opset)


def test_what_older_opsets_lack():
    x, scale, zero, many = normal(2, 3), one(1), one(0, np.int8), np.ones(2, np.float32)
    q, d, held = QuantizeLinear, DequantizeLinear, whole(np.int8, 2, 3)
    for op, arrays, opset, sentence in (
        (q(axis=0), [x, many], 12, "QuantizeLinear with scales along axis 0 needs opset 13"),
        (d(axis=0), [held, many], 12, "DequantizeLinear with scales along axis 0 needs opset 13"),
        (q(saturate=0), [x, scale], 18, "QuantizeLinear with saturate=0 needs opset 19"),
        (q(block_size=2, axis=0), [x, np.ones((1, 3), np.float32)], 20, "with block_size=2 needs opset 21"),
        (d(block_size=2, axis=0), [held, np.ones((1, 3), np.float32)], 20, "with block_size=2 needs opset 21"),
        (q(output_dtype=3), [x, scale], 20, "output_dtype=3 and no zero point needs opset 21"),
        (q(precision=10), [x, scale], 22, "QuantizeLinear with precision=10 needs opset 23"),
        (q(), [x, scale.astype(np.float16)], 22, "QuantizeLinear of f32 by a scale of f16 needs opset 23"),
        (d(output_dtype=10), [held, scale], 22, "DequantizeLinear with output_dtype=10 needs opset 23"),
        (q(), [x, scale, one(0, np.int16)], 20, "of i16 needs opset"),
        (q(), [x, scale], 9, "QuantizeLinear needs opset"),
        (QLinearMatMul(), [held, one(1, np.float16), zero] * 2 + [one(1, np.float16), zero], 20, "of f16 needs opset"),
    ):
        with pytest.raises(OpsetError, match=sentence):
            lowered(op, arrays, opset)


def test_what_says_nothing_more_is_dropped():
    x, scale, zero = normal(2, 3), one(1), one(0, np.int8)
    assert lowered(QuantizeLinear(axis=0), [x, scale, zero], 10).attributes == {}
    assert lowered(QuantizeLinear(), [x, np.ones(3, np.float32)], 10).attributes == {}
    assert lowered(QuantizeLinear(output_dtype=3), [x, scale, zero], 13).attributes == {}
    assert lowered(QuantizeLinear(output_dtype=2), [x, scale], 13).attributes == {}
    assert lowered(QuantizeLinear(precision=1), [x, scale, zero], 13).attributes == {}
    assert lowered(DequantizeLinear(output_dtype=1), [whole(np.int8, 3), scale], 13).attributes == {}
