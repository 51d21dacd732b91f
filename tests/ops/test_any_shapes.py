"""Operands of the right kinds and of any shape: deeper into rooms of many operands than `test_any_operands` gets."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.errors import TypeRuleError
from graphopt.ir.attributes import Attribute
from graphopt.ir.constant import Constant
from graphopt.ir.dims import symbol
from graphopt.ir.types import TensorType, f32, i64
from graphopt.ops.infer import check_operands
from graphopt.ops.registry import room
from graphopt.ops.room import INTEGER, Fact, UnknownRankError
from ops.test_any_operands import VALUES

NAMES = [
    "NonMaxSuppression", "RoiAlign", "GridSample", "AffineGrid", "DeformConv", "LSTM", "GRU", "RNN", "DFT", "STFT",
    "HannWindow", "MelWeightMatrix", "Attention", "RotaryEmbedding",
]  # fmt: skip
REFUSALS = (TypeRuleError, UnknownRankError)
WORDS = {
    "mode": ["avg", "max", "linear", "cubic"], "padding_mode": ["zeros", "border"], "activations": [(), ("Relu",) * 6],
    "coordinate_transformation_mode": ["half_pixel"], "direction": ["forward", "reverse", "bidirectional"],
}  # fmt: skip

dims = st.sampled_from([0, 1, 1, 2, 2, 3, 4, 8, 12, 1 << 40, symbol("N"), symbol("N") * 2, symbol("?0")])
numbers = st.sampled_from([-(2**63), -3, -2, -1, 0, 1, 2, 3, 4, 1 << 40, 2**63 - 1])


@st.composite
def operands(draw, cls, rank):
    """Most of one rank, so that some fit; integers with contents or without."""
    slots = cls.slots[: draw(st.integers(1, len(cls.slots)))]
    found = []
    for slot in slots:
        if slot.optional and draw(st.booleans()):
            found.append(None)
            continue
        if slot.kinds == INTEGER and draw(st.booleans()):
            values = np.array(draw(st.lists(numbers, max_size=5) | numbers), np.int64)
            found.append(Fact(TensorType(i64, values.shape), Constant.of(values)))
            continue
        size = draw(st.sampled_from([rank, rank, rank, 0, 1, 2]))
        shape = draw(st.none() | st.lists(dims, min_size=size, max_size=size).map(tuple))
        found.append(Fact(TensorType(i64 if slot.kinds == INTEGER else f32, shape)))
    return tuple(found)


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=100)
@given(st.data(), st.integers(2, 5))
def test_answer_or_sentence(name, data, rank):
    cls = room(name)
    drawn = {}
    for key, kind in cls.kinds.items():
        if data.draw(st.booleans()):
            drawn[key] = data.draw(st.sampled_from(WORDS[key]) if key in WORDS else VALUES[kind])
    op = cls.of({k: Attribute(cls.kinds[k], v) for k, v in drawn.items()})
    known = data.draw(operands(cls, rank))
    try:
        check_operands(op, known)
        types = op.infer(*known)
    except REFUSALS:
        return
    types = (types,) if isinstance(types, TensorType) else types
    for found in types:
        assert all(not isinstance(d, int) or d >= 0 for d in found.shape or ())
    with contextlib.suppress(UnknownRankError):
        op.macs(known, types)
