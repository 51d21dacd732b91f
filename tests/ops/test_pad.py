"""Pad."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.errors import OpsetError, TypeRuleError
from graphopt.ir.constant import Constant
from graphopt.ir.dims import symbol
from graphopt.ir.types import TensorType, f32, i64
from graphopt.onnx_format.opset import downgrade
from graphopt.ops.pad import Pad
from graphopt.ops.room import Fact, NoKernelError, Step, Trait
from ops.harness import check, check_old, compute, facts_of, inferred, normal, refuses, stays_opaque

N, H = symbol("N"), symbol("H")


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def shaped(*dims: object) -> Fact:
    return Fact(TensorType(f32, dims))


def held(array: np.ndarray) -> Fact:
    return facts_of([array])[0]


@st.composite
def pads_of(draw, mode):
    """Shape and pads that ONNX Runtime takes too: it reflects once, and cuts no axis away."""
    shape = draw(st.lists(st.integers(2, 5), min_size=1, max_size=3))
    pads = []
    for n in shape:
        before = draw(st.integers(-(n - 1) // 2, n + 2 if mode != "reflect" else n - 1))
        left = n + min(before, 0)
        after = draw(st.integers(-(left - 1) // 2, n + 2 if mode != "reflect" else n - 1))
        left += min(after, 0)
        if mode == "reflect":
            before, after = min(before, left - 1), min(after, left - 1)
        pads.append((before, after))
    return shape, [b for b, _ in pads] + [a for _, a in pads]


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
@settings(deadline=None)
@given(st.data())
def test_pad(mode, data):
    shape, pads = data.draw(pads_of(mode))
    rank = len(shape)
    x, value = normal(*shape), np.array(1.5, np.float32)
    check(Pad(mode=mode), [x, ints(*pads)], constants={1}, exact=True)
    check(Pad(mode=mode), [x, ints(*pads), value], constants={1, 2}, exact=True)
    order = data.draw(st.permutations(range(rank)))
    count = data.draw(st.integers(1, rank))
    some = [pads[a] for a in order[:count]] + [pads[a + rank] for a in order[:count]]
    signed = [a - rank * (i % 2) for i, a in enumerate(order[:count])]
    check(Pad(mode=mode), [x, ints(*some), None, ints(*signed)], constants={1, 3}, exact=True)
    check_old("Pad", [x, ints(*pads), value], {"mode": mode}, 19 if mode == "wrap" else 11, constants={1, 2})
    if mode != "wrap":
        check_old("Pad", [x, ints(*some), value, ints(*signed)], {"mode": mode}, 18, constants={1, 2, 3})
        check_old("Pad", [x], {"mode": mode, "pads": pads, "value": 1.5}, 7)
        check_old("Pad", [x], {"mode": mode, "pads": pads}, 10)


def test_pad_integers_and_bools():
    check(Pad(), [ints(1, 2), ints(1, 2)], constants={1})
    check(Pad(), [ints(1, 2), ints(1, 2), np.array(7)], constants={1})
    check(Pad(), [np.array([True, True]), ints(1, 2)], constants={1})
    assert compute(Pad(), [np.ones(1, np.float16), ints(1, 0), np.array(2, np.float16)])[0].dtype == np.float16


def test_pad_takes_the_value_in_the_data_s_precision():
    made = compute(Pad(), [np.ones(1, np.float64), ints(1, 0), np.array(0.1)])[0]
    assert made[0] == 0.1


def test_pad_facts():
    assert inferred(Pad(), shaped(N, H), held(ints(0, 1, 0, 2)))[0].shape == (N, H + 3)
    assert inferred(Pad(), shaped(N, H), held(ints(1, 2)), None, held(ints(-1)))[0].shape == (N, H + 3)
    assert inferred(Pad(), shaped(N, H), Fact(TensorType(i64, (4,))))[0].rank == 2
    contents = np.array([0, N, 0, H], object)
    assert inferred(Pad(), shaped(2, 3), Fact(TensorType(i64, (4,)), known=contents))[0].shape == (2, N + H + 3)
    assert Trait.MOVES not in Pad.traits


def test_pad_refuses():
    refuses(Pad(), [normal(2), ints(1)], "there are 1 pads for 1 axes, which take two each")
    refuses(Pad(), [normal(2), ints(-3, 2)], "the pads -3 and 2 cut more than the 2 elements")
    refuses(Pad(), [normal(2), ints(1, 1, 1, 1), None, ints(0, 0)], "not all axes|name an axis twice")
    refuses(Pad(mode="symmetric"), [normal(2), ints(1, 1)], "no mode 'symmetric'")
    with pytest.raises(TypeRuleError, match="cut more"):
        compute(Pad(), [normal(2), ints(-3, 2)])
    with pytest.raises(NoKernelError):
        compute(Pad(mode="symmetric"), [normal(2), ints(1, 1)])


def test_pad_forwards_only_nothing_added():
    x = shaped(N, H)
    assert Pad().forwards(x, held(ints(0, 0, 0, 0))) == 0
    assert Pad(mode="reflect").forwards(x, held(ints(0, 0, 0, 0))) == 0
    assert Pad().forwards(x, held(ints(0, 0)), None, held(ints(1))) == 0
    assert Pad().forwards(Fact(TensorType(f32, None)), held(ints(0, 0))) == 0
    assert Pad().forwards(x, held(ints(0, 1, 0, -1))) is None  # as long as before, and moved
    assert Pad().forwards(x, Fact(TensorType(i64, (4,)))) is None
    assert Pad().forwards(x, held(ints(0, 0)), None, None) is None
    assert Pad().forwards(x, None) is None


def down(op, arrays, opset, constants=None):
    names = tuple("" if a is None else f"x{i}" for i, a in enumerate(arrays))
    step = downgrade(op, Step(op.attributes, names, ("y",), facts_of(arrays, constants)), opset)
    operands = [o.array().tolist() if isinstance(o, Constant) else o for o in step.operands]
    return {k: a.value for k, a in step.attributes.items()}, operands


def test_pad_down():
    x = normal(2, 3)
    assert down(Pad(), [x, ints(1, 2), None, ints(-1)], 17) == ({}, ["x0", [0, 1, 0, 2]])
    assert down(Pad(), [x, ints(1, 2), None, ints(-1)], 10) == (
        {"pads": (0, 1, 0, 2)},
        ["x0"],
    )
    value = np.array(0.5, np.float32)
    assert down(Pad(), [x, ints(0, 1, 0, 2), value], 10) == ({"pads": (0, 1, 0, 2), "value": 0.5}, ["x0"])
    with pytest.raises(OpsetError, match="axes that are not constants needs opset 18"):
        down(Pad(), [x, ints(1, 2), None, ints(-1)], 17, constants={1})
    with pytest.raises(OpsetError, match="computed pads needs opset 11"):
        down(Pad(), [x, ints(0, 1, 0, 2)], 10, constants={})
    with pytest.raises(OpsetError, match="computed value needs opset 11"):
        down(Pad(), [x, ints(0, 1, 0, 2), value], 10, constants={1})
    with pytest.raises(OpsetError, match="mode wrap needs opset 19"):
        down(Pad(mode="wrap"), [x, ints(0, 1, 0, 2)], 18)
    with pytest.raises(OpsetError, match=r"0\.1, which float32 does not hold, needs opset 11"):
        down(Pad(), [x.astype(np.float64), ints(0, 1, 0, 2), np.array(0.1)], 10)
    with pytest.raises(OpsetError, match="Pad of i64 needs opset"):
        down(Pad(), [ints(1), ints(0, 1)], 10)


def test_pad_of_unknown_type_with_a_value_stays_opaque():
    from graphopt.ir.attributes import Attribute, Kind
    from graphopt.onnx_format.opset import upgrade

    attributes = {"pads": Attribute(Kind.INTS, (0, 1)), "value": Attribute(Kind.FLOAT, 1.0)}
    assert upgrade("", "Pad", Step(attributes, ("x",), ("y",), (None,)), 10)[0].is_opaque
    del attributes["value"]
    assert not upgrade("", "Pad", Step(attributes, ("x",), ("y",), (None,)), 10)[0].is_opaque
    assert stays_opaque("Pad", [normal(2)], {"paddings": [0, 1]}, 7)
