"""What a file may hand to a room: any operands. A room answers, or refuses with a sentence; it never breaks."""

from __future__ import annotations

from dataclasses import MISSING, fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.errors import TypeRuleError
from graphopt.ir.attributes import Attribute, Kind
from graphopt.ir.constant import Constant
from graphopt.ir.dims import symbol
from graphopt.ir.types import TensorType, boolean, f16, f32, i32, i64, string
from graphopt.ops.create import ConstantOfShape, Range
from graphopt.ops.infer import check_operands
from graphopt.ops.movement import Split
from graphopt.ops.registry import rooms
from graphopt.ops.room import FOLLOWED, Fact, UnknownRankError
from graphopt.ops.shape import Expand, Reshape

NAMES = [
    "Shape", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Identity", "Cast", "CastLike", "Dropout",
    "Transpose", "Concat", "Split", "Slice", "Gather", "Pad", "Constant", "ConstantOfShape", "Range",
    "Tile", "DepthToSpace", "SpaceToDepth", "ReverseSequence", "Trilu", "CenterCropPad", "Col2Im",
    "GatherElements", "GatherND", "Compress", "NonZero", "Unique", "ScatterElements", "ScatterND", "TensorScatter",
    "OneHot", "EyeLike", "Size", "Einsum",
    "LpPool", "GlobalLpPool", "MaxUnpool", "MaxRoiPool", "NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss",
    "Sin", "Round", "Sign", "Det",
    "Elu", "Gelu", "Shrink", "Swish", "LogSoftmax", "Hardmax",
    "InstanceNormalization", "LayerNormalization", "GroupNormalization", "RMSNormalization",
    "MeanVarianceNormalization", "LpNormalization",
    "NonMaxSuppression", "RoiAlign", "GridSample", "AffineGrid", "DeformConv", "LSTM", "GRU", "RNN",
    "DFT", "STFT", "HannWindow", "HammingWindow", "BlackmanWindow", "MelWeightMatrix",
    "Attention", "RotaryEmbedding",
    "Equal", "Less", "GreaterOrEqual", "And", "Not", "Where", "IsInf",
    "Mod", "Mean", "BitShift", "BitwiseNot", "BitCast", "ReduceMax", "ReduceProd", "ReduceL2", "ReduceLogSumExp",
    "ArgMax", "TopK", "CumSum", "RandomNormal", "RandomUniformLike", "Bernoulli", "Multinomial",
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear",
]  # fmt: skip
REFUSALS = (TypeRuleError, UnknownRankError)

dims = st.sampled_from([0, 1, 2, 3, 1 << 40, symbol("N"), symbol("N") - 1, symbol("N") // 2, symbol("?0")])
integers = st.sampled_from([0, 1, 2, 3, -1, -2, -5, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63)])
shapes = st.none() | st.lists(dims, max_size=4).map(tuple)
dtypes = st.sampled_from([f32, f32, i64, i64, i32, f16, boolean, string])


@st.composite
def facts(draw):
    form = draw(st.integers(0, 5))
    if form == 0:
        return None
    if form <= 2:
        return Fact(TensorType(draw(dtypes), draw(shapes)))
    numbers = draw(st.lists(integers, max_size=5))
    if form == 3:
        return Fact(TensorType(i64, (len(numbers),)), Constant.of(np.array(numbers, np.int64)))
    if form == 4:
        scalar = np.array(draw(integers), np.int64)
        return Fact(TensorType(i64, ()), Constant.of(scalar))
    known = np.empty(len(numbers), object)
    known[:] = [draw(st.one_of(st.just(n), dims)) for n in numbers]
    return Fact(TensorType(i64, (len(numbers),)), known=known)


VALUES = {
    Kind.INT: integers,
    Kind.FLOAT: st.sampled_from([0.0, 0.5, -1.0, float("inf")]),
    Kind.STRING: st.sampled_from(["", "constant", "edge", "reflect", "down", "DCR", "circular", "mul", "i...j,jk->ik"]),
    Kind.INTS: st.lists(integers, max_size=4).map(tuple),
    Kind.FLOATS: st.lists(st.floats(width=32), max_size=2).map(tuple),
    Kind.STRINGS: st.lists(st.text(max_size=2), max_size=2).map(tuple),
    Kind.TENSOR: st.sampled_from([np.zeros(1, np.int64), np.ones((2, 2), np.float32), np.zeros(0, bool)]).map(
        Constant.of
    ),
}


HUGE = Fact(TensorType(i64, (1 << 40,)))  # what a damaged file says of a list


@pytest.mark.parametrize(
    ("name", "operand"),
    [("Reshape", HUGE), ("Expand", HUGE), ("Unsqueeze", HUGE), ("ConstantOfShape", None)],
)
def test_a_shape_of_a_terabyte_is_refused(name, operand):
    op, known = rooms()["", name](), (HUGE,) if operand is None else (Fact(f32[2]), operand)
    with pytest.raises(TypeRuleError, match=r"a result of \d+ axes is no tensor"):
        op.infer(*known)
    assert op.forwards(*known) is None


def test_parts_without_number_are_refused():
    for count in (0, -1, 1 << 40):
        with pytest.raises(TypeRuleError, match="a number of parts is from 1 to 65536"):
            Split(num_outputs=count).infer(Fact(f32["N", 1 << 50]))
    assert Split().infer(Fact(f32["N"]), HUGE) == ()


def test_no_elements_of_a_huge_shape_are_not_followed():
    """[2^62, 4, 0] has no elements, and NumPy cannot make it."""
    shape = Constant.of(np.array([1 << 62, 4, 0]))
    target = Fact(shape.type, shape)
    one, none = (Fact(i64[n], Constant.of(np.zeros(n, np.int64))) for n in (1, 0))
    assert Expand().elements(one, target) is None
    assert Reshape(allowzero=1).elements(none, target) is None
    assert ConstantOfShape(value=Constant.of(np.array([1]))).elements(target) is None


def test_ranges_longer_than_64_bits_are_left_open():
    start, limit, delta = (Fact(TensorType(i64, ()), Constant.of(np.array(n))) for n in (-(2**63), 2**63 - 1, 1))
    assert Range().elements(start, limit, delta) is None
    assert Range().elements(limit, start, delta) is None


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=200)
@given(st.data())
def test_answer_or_sentence(name, data):
    cls = rooms()["", name]
    drawn = {k: data.draw(VALUES[kind]) for k, kind in cls.kinds.items() if data.draw(st.booleans())}
    for field in fields(cls):
        if field.default is MISSING:
            drawn.setdefault(
                field.name, data.draw(st.sampled_from([1, 7]) if name == "Cast" else VALUES[cls.kinds[field.name]])
            )
    op = cls.of({k: Attribute(cls.kinds[k], v) for k, v in drawn.items()})
    known = tuple(data.draw(st.lists(facts(), max_size=6)))
    try:
        check_operands(op, known)
    except TypeRuleError:
        return
    try:
        types = op.infer(*known)
    except REFUSALS:
        pass
    else:
        types = (types,) if isinstance(types, TensorType) else types
        for kind in types:
            assert all(not isinstance(d, int) or d >= 0 for d in kind.shape or ())
        elements = op.elements(*known)
        if elements is not None:
            assert elements.dtype == object
            assert elements.size <= 1024
            assert types[0].shape is None or types[0].shape == elements.shape
            assert types[0].dtype.kind in FOLLOWED
    index = op.forwards(*known)
    assert index is None or known[index] is not None
    assert op.is_pure(*known) in (True, False)
    assert op.macs(known, ()) == 0
