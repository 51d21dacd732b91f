"""What adapters are made of, and the tables of all rooms together."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest

from graphopt.errors import OpsetError
from graphopt.ir.attributes import Attribute, Kind
from graphopt.ir.constant import Constant
from graphopt.ir.types import TensorType, f16, f32, f64, i64
from graphopt.ops import adapters
from graphopt.ops.registry import rooms
from graphopt.ops.room import NEWEST, Fact, Step
from ops.harness import read_attribute

X16, X32, X64 = (Fact(TensorType(t, (2, 3))) for t in (f16, f32, f64))


def step(*operands, facts=None, **attributes):
    """A step; operands are names or arrays, attributes numbers or tuples of integers."""
    held = {i: Constant.of(o) for i, o in enumerate(operands) if isinstance(o, np.ndarray)}
    names = tuple(f"c{i}" if i in held else o for i, o in enumerate(operands))
    given = facts or tuple(
        Fact(held[i].type, held[i]) if i in held else X32 if o else None for i, o in enumerate(names)
    )
    return Step({k: bound(v) for k, v in attributes.items()}, names, ("y",), given)


def bound(value):
    kind = Kind.INTS if isinstance(value, tuple) else Kind.FLOAT if isinstance(value, float) else Kind.INT
    return Attribute(kind, value)


def shown(made):
    operands = [o.array().tolist() if isinstance(o, Constant) else o for o in made.operands]
    return operands, {k: a.value for k, a in made.attributes.items()}


def agree(made):
    """What is known goes with the operands."""
    assert len(made.facts) <= len(made.operands)
    for operand, known in zip(made.operands, made.facts, strict=False):
        if isinstance(operand, Constant):
            assert known is not None
            assert known.constant is operand
        elif operand == "":
            assert known is None


def test_integers_become_an_operand_and_back():
    up = adapters.attribute_to_operand("axes", 1)
    down = adapters.operand_to_attribute("Squeeze", 13, "axes", 1)
    raised = up(step("x", axes=(0, -1)))
    agree(raised)
    assert shown(raised) == (["x", [0, -1]], {})
    assert raised.operands[1].type == TensorType(i64, (2,))
    back = down(raised)
    agree(back)
    assert shown(back) == (["x"], {"axes": (0, -1)})
    assert back.attributes["axes"].kind is Kind.INTS
    assert up(step("x")) == step("x")
    assert down(step("x")) == step("x")
    assert shown(down(step("x", np.array([2])))) == (["x"], {"axes": (2,)})
    with pytest.raises(OpsetError, match="Squeeze with computed axes needs opset 13"):
        down(step("x", "a"))


def test_one_integer():
    down = adapters.operand_to_attribute("TopK", 10, "k", 1, scalar=True)
    assert down(step("x", np.array([5]))).attributes["k"] == Attribute(Kind.INT, 5)
    assert shown(adapters.attribute_to_operand("k", 1)(step("x", k=5))) == (["x", 5], {})


@pytest.mark.parametrize(("known", "dtype"), [(X16, np.float16), (X32, np.float32), (X64, np.float64)])
def test_floats_take_the_type_of_the_data(known, dtype):
    adapter = adapters.became_operands("Clip", 11, {"min": 1, "max": 2})
    raised = adapter.up(step("x", facts=(known,), max=6.0))
    agree(raised)
    assert raised.operands[:2] == ("x", "")
    assert raised.operands[2].array().dtype == dtype
    assert shown(adapter.down(raised)) == (["x"], {"max": 6.0})
    both = adapter.up(step("x", facts=(known,), max=6.0, min=-0.5))
    assert shown(both) == (["x", -0.5, 6.0], {})
    assert shown(adapter.down(both)) == (["x"], {"max": 6.0, "min": -0.5})


def test_floats_for_data_of_unknown_type_are_refused():
    with pytest.raises(OpsetError, match="'max' became an operand of the data's type, which is not known"):
        adapters.attribute_to_operand("max", 2)(step("x", facts=(None,), max=6.0))


def test_floats_that_float32_does_not_hold_are_refused():
    down = adapters.operand_to_attribute("Clip", 11, "max", 2)
    for value in (0.1, 1e300):
        with pytest.raises(
            OpsetError, match=r"Clip with max=(0.1|1e\+300), which float32 does not hold, needs opset 11"
        ):
            down(step("x", "", np.array(value)))
    for value in (0.5, np.inf, -np.inf):
        assert down(step("x", "", np.array(value))).attributes["max"].value == value
    assert np.isnan(down(step("x", "", np.array(np.nan))).attributes["max"].value)
    with pytest.raises(OpsetError, match="Clip with 2 numbers as max"):
        down(step("x", "", np.array([1.0, 2.0])))


def test_a_later_operand_stays_where_it_is():
    down = adapters.operand_to_attribute("Slice", 10, "axes", 1)
    lowered = down(step("x", np.array([0]), "s"))
    agree(lowered)
    assert shown(lowered) == (["x", "", "s"], {"axes": (0,)})


def test_an_operand_that_appeared():
    plain = adapters.operand_needs("Pad", 18, "axes", 3)
    assert shown(plain.down(step("x", "p"))) == (["x", "p"], {})
    with pytest.raises(OpsetError, match="Pad with axes needs opset 18"):
        plain.down(step("x", "p", "", "a"))
    with pytest.raises(OpsetError, match="Pad with axes needs opset 18"):
        plain.down(step("x", "p", "", np.array([1])))
    ones = adapters.operand_needs("Slice", 10, "steps", 2, neutral=lambda a: bool((a == 1).all()))
    lowered = ones.down(step("x", "s", np.array([1, 1])))
    agree(lowered)
    assert shown(lowered) == (["x", "s"], {})
    for bad in ("t", np.array([1, 2])):
        with pytest.raises(OpsetError, match="Slice with steps needs opset 10"):
            ones.down(step("x", "s", bad))
    assert ones.up(step("x")) == step("x")


def test_an_attribute_that_appeared():
    adapter = adapters.attribute_needs("Reshape", 14, "allowzero", 0)
    assert shown(adapter.down(step("x", "t", allowzero=0, other=2))) == (["x", "t"], {"other": 2})
    with pytest.raises(OpsetError, match="Reshape with allowzero=1 needs opset 14"):
        adapter.down(step("x", "t", allowzero=1))


def test_axes_counted_from_the_front():
    one = adapters.counted_from_front("Concat", 11, "axis")
    assert one.down(step("x", axis=-1)).attributes["axis"] == Attribute(Kind.INT, 1)
    assert one.down(step("x", axis=1)).attributes["axis"].value == 1
    assert one.down(step("x")) == step("x")
    many = adapters.counted_from_front("Unsqueeze", 11, "axes", inserted=True)
    assert many.down(step("x", axes=(-1, 0))).attributes["axes"] == Attribute(Kind.INTS, (3, 0))
    unknown = step("x", facts=(Fact(TensorType(f32, None)),), axis=-1)
    with pytest.raises(OpsetError, match="Concat with a negative axis of a tensor of unknown rank needs opset 11"):
        one.down(unknown)
    assert one.down(step("x", facts=(None,), axis=2)).attributes["axis"].value == 2


def test_small_ones():
    made = step("x", "", np.array([1]), a=1, b=2)
    assert adapters.same(made) is made
    assert list(adapters.without(made, "a")) == ["b"]
    assert list(adapters.dropping("a", "c")(made).attributes) == ["b"]
    assert [adapters.given(made, i) for i in range(4)] == [True, False, True, False]
    assert adapters.constant_of(made, 2).tolist() == [1]
    assert adapters.constant_of(made, 0) is adapters.constant_of(made, 7) is None
    absent = Constant(TensorType(i64, (1,)), digest="0" * 64)
    assert adapters.constant_of(step("x", facts=(Fact(absent.type, absent),)), 0) is None
    assert adapters.shape_of(made) == (2, 3)
    assert adapters.shape_of(made, 5) is None
    assert adapters.integer_of(made, "a", 7) == 1
    assert adapters.integer_of(made, "z", 7) == 7
    assert shown(adapters.with_operand(made, 2, None))[0] == ["x"]
    assert shown(adapters.first_operands(made, 2))[0] == ["x", ""]
    agree(adapters.with_operand(step("x"), 3, Constant.of(np.array([1]))))


# ---- The tables of all rooms


def definitions(cls):
    """All definitions of a room's operator in order, those under its former name too."""
    all_of_them = [s for s in onnx.defs.get_all_schemas_with_history() if s.domain == "" and s.since_version <= NEWEST]
    return sorted(
        (s for s in all_of_them if s.name == cls.name_at(s.since_version)),
        key=lambda s: s.since_version,
    )


@pytest.mark.parametrize("cls", rooms().values(), ids=lambda c: c.name)
def test_versions_are_those_in_which_the_definition_changed(cls):
    if cls.domain:
        assert cls.adapters == ()
        return
    versions = {s.since_version for s in definitions(cls)}
    assert {a.version for a in cls.adapters} <= {v for v in versions if v > 7}
    assert cls.since == min(versions) or cls.since in versions


@pytest.mark.parametrize("cls", [c for c in rooms().values() if not c.domain], ids=lambda c: c.name)
def test_changes_of_attributes_and_operands_have_an_adapter(cls):
    """Where two definitions differ in the names of attributes or the number of operands, the room says what to do."""
    known = definitions(cls)
    start = max([s.since_version for s in known if s.since_version <= 7], default=0)
    known = [s for s in known if s.since_version >= start]
    told = {a.version for a in cls.adapters}
    for before, after in itertools.pairwise(known):
        names = [set(s.attributes) - {"sparse_value"} for s in (before, after)]
        if names[0] != names[1] or len(before.inputs) != len(after.inputs):
            assert after.since_version in told, f"{cls.name}-{after.since_version}: {names}"


@pytest.mark.parametrize("cls", [c for c in rooms().values() if not c.domain], ids=lambda c: c.name)
def test_fields_are_the_newest_definition_s_attributes(cls):
    schema = onnx.defs.get_schema(cls.name, NEWEST, "")
    assert set(cls.kinds) == set(schema.attributes) - {"sparse_value"}
    for key, attribute in schema.attributes.items():
        if key != "sparse_value":
            assert cls.kinds[key].value == attribute.type.value
    required = {k for k, a in schema.attributes.items() if a.required}
    bound = {k: Attribute(cls.kinds[k], 1) for k in required}
    made = cls.of(bound)
    for key, attribute in schema.attributes.items():
        default = read_attribute(attribute.default_value).value if attribute.default_value.type else None
        if isinstance(default, float):
            assert np.float32(getattr(made, key)) == np.float32(default), key
        elif default is not None:
            assert getattr(made, key) == default, key
