"""Graphs within graphs, collections, and odd structure: optimized where it can be, carried where it cannot.

Each model is compiled at O1 and at O2, and computes in ONNX Runtime what it computed before.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from carry import Carried, at_each_level, body, carry, graphs, inside
from onnx import TensorProto, helper, numpy_helper
from tiny import I64, F, info, model, node, random, weight

import graphopt
from graphopt.ir.types import TensorType
from graphopt.onnx_format.writer import to_bytes

BOOL = TensorProto.BOOL
IMAGE = info("x", F, ["N", 2, 6, 6])
VECTOR = info("x", F, [3])
CONV = [weight("w", random(4, 2, 3, 3))]
NORM = [weight(n, np.random.default_rng(i).uniform(0.5, 2, 4).astype("f4")) for i, n in enumerate("sbmv")]
NORMED = [node("Conv", "x w", "c", "conv"), node("BatchNormalization", "c s b m v", "n", "norm")]


def initializers(proto: onnx.ModelProto) -> dict[str, list[str]]:
    """The names of the initializers of every graph, by the graph's name."""
    return {g.name: [t.name for t in g.initializer] for g in graphs(proto.graph)}


# ---- rewrites inside of bodies


@at_each_level
@pytest.mark.parametrize("within", [False, True], ids=["captured", "own"])
def test_a_branch_is_optimized_inside(within: bool, level: str, tmp_path: Path) -> None:
    """Conv and BN become one, a constant is computed, and what nobody reads goes; weights of either graph do."""
    then = [
        *NORMED,
        node("Add", "one one", "two"),
        node("Mul", "n two", "t"),
        node("Exp", "x", "unused"),
        node("Identity", "t", "i"),
    ]
    weights = [*CONV, *NORM, weight("one", np.array(1, "f4"))]
    choice = helper.make_node(
        "If",
        ["p"],
        ["y"],
        name="choice",
        then_branch=body(then, [], [info("i")], weights if within else [], "then"),
        else_branch=body([node("Conv", "x w2", "e")], [], [info("e")], [weight("w2", random(4, 2, 3, 3))], "else"),
    )
    proto = model([choice], [IMAGE, info("p", BOOL, [])], [info("y")], [] if within else weights)
    carried = carry(proto, tmp_path, level)
    for p in (True, False):
        carried.same(p=np.array(p))
    assert inside(carried.proto) == {"then": ["Conv"], "else": ["Conv"]}
    assert sum(len(names) for names in initializers(carried.proto).values()) == 3  # weight, bias, the other weight


@at_each_level
def test_a_loops_body_is_optimized_inside(level: str, tmp_path: Path) -> None:
    """Carried values keep their shapes open; a scan and a captured weight stay."""
    work = body(
        [
            node("Identity", "state", "s1"),
            node("Add", "k k", "k2"),
            node("Add", "s1 k2", "next"),
            node("Neg", "s1", "unused"),
            node("Mul", "next half", "seen"),
            node("Identity", "go", "on"),
        ],
        [info("i", I64, []), info("go", BOOL, []), info("state", F, [3])],
        [info("on", BOOL, []), info("next", F, [3]), info("seen", F, [3])],
        [weight("half", np.array(0.5, "f4"))],
    )
    loop = helper.make_node("Loop", ["n", "", "x"], ["last", "all"], name="loop", body=work)
    proto = model(
        [loop], [VECTOR], [info("last", F, [3]), info("all", F, [None, 3])],
        [weight("n", np.array(4)), weight("k", random(3))],
    )  # fmt: skip
    carried = carry(proto, tmp_path, level)
    assert carried.same()["all"].shape == (4, 3)
    assert inside(carried.proto) == {"body": ["Add", "Mul", "Identity"]}  # the condition is handed on


@at_each_level
@pytest.mark.parametrize("backwards", [0, 1])
def test_a_scans_body_is_optimized_inside(backwards: int, level: str, tmp_path: Path) -> None:
    work = body(
        [node("Add", "total element", "t"), node("Identity", "t", "next"), node("Sub", "t zero", "seen")],
        [info("total", F, [4]), info("element", F, [4])],
        [info("next", F, [4]), info("seen", F, [4])],
        [weight("zero", np.array(0, "f4"))],
    )
    scan = helper.make_node(
        "Scan", ["start", "x"], ["last", "all"], name="scan", body=work, num_scan_inputs=1,
        scan_input_axes=[1], scan_input_directions=[backwards], scan_output_axes=[1],
    )  # fmt: skip
    proto = model([scan], [info("x", F, [4, "T"])], [info("last"), info("all")], [weight("start", np.zeros(4, "f4"))])
    carried = carry(proto, tmp_path, level)
    assert carried.same(x=random(4, 5))["all"].shape == (4, 5)
    assert "Identity" not in inside(carried.proto)["body"]


@at_each_level
def test_bodies_within_bodies(level: str, tmp_path: Path) -> None:
    """A branch in a loop in a branch reads a weight of the model, two graphs further out, and is folded with it."""
    choice = helper.make_node(
        "If",
        ["go"],
        ["r"],
        name="inner",
        then_branch=body([*NORMED, node("Identity", "n", "t")], [], [info("t")], name="deep"),
        else_branch=body([node("Conv", "x w", "e")], [], [info("e")], name="deep_else"),
    )
    work = body(
        [choice, node("Identity", "go", "on"), node("Add", "state r", "next")],
        [info("i", I64, []), info("go", BOOL, []), info("state", F, ["N", 4, 4, 4])],
        [info("on", BOOL, []), info("next", F, ["N", 4, 4, 4])],
        name="loop",
    )
    loop = helper.make_node("Loop", ["two", "p", "start"], ["l"], name="loop", body=work)
    outer = helper.make_node(
        "If",
        ["p"],
        ["y"],
        name="outer",
        then_branch=body([node("Conv", "x w", "start"), loop], [], [info("l")], [weight("two", np.array(2))], "then"),
        else_branch=body([node("Conv", "x w", "f")], [], [info("f")], name="else"),
    )
    proto = model([outer], [IMAGE, info("p", BOOL, [])], [info("y")], [*CONV, *NORM])
    carried = carry(proto, tmp_path, level)
    for p in (True, False):
        carried.same(p=np.array(p))
    found = inside(carried.proto)
    assert found["deep"] == found["deep_else"] == ["Conv"]
    assert sorted(found["loop"]) == ["Add", "Identity", "If"]  # the condition is handed on
    assert "w" in initializers(carried.proto)["tiny"]


def test_what_only_a_body_reads_is_not_dead(tmp_path: Path) -> None:
    """A node and a weight of the model, read two graphs further in and nowhere else; what is read nowhere goes."""
    deep = helper.make_node(
        "If", ["p"], ["r"], name="deep",
        then_branch=body([node("Add", "outer k", "a")], [], [info("a")], name="a"),
        else_branch=body([node("Identity", "k", "b")], [], [info("b")], name="b"),
    )  # fmt: skip
    choice = helper.make_node(
        "If", ["p"], ["y"], name="choice",
        then_branch=body([deep], [], [info("r")], name="c"),
        else_branch=body([node("Identity", "outer", "i")], [], [info("i")], name="d"),
    )  # fmt: skip
    proto = model(
        [node("Exp", "x", "outer"), node("Neg", "x", "dead"), choice],
        [VECTOR, info("p", BOOL, [])], [info("y")], [weight("k", random(3)), weight("unread", random(3))],
    )  # fmt: skip
    carried = carry(proto, tmp_path)
    for p in (True, False):
        carried.same(p=np.array(p))
    assert carried.operators == ["Exp", "If"]
    assert initializers(carried.proto)["tiny"] == ["k"]


def test_names_of_two_branches_stay_though_they_are_the_same(tmp_path: Path) -> None:
    branches = {
        f"{side}_branch": body([node(op, "x", "t"), node("Neg", "t", "u")], [], [info("u")], name=side)
        for side, op in (("then", "Exp"), ("else", "Sin"))
    }
    choice = helper.make_node("If", ["p"], ["y"], name="choice", **branches)
    carried = carry(model([choice], [VECTOR, info("p", BOOL, [])], [info("y")]), tmp_path)
    for p in (True, False):
        carried.same(p=np.array(p))
    bodies = [g for g in graphs(carried.proto.graph) if g.name != "tiny"]
    assert [[o for n in g.node for o in n.output] for g in bodies] == [["t", "u"]] * 2


# ---- order


@at_each_level
def test_nodes_out_of_order(level: str, tmp_path: Path) -> None:
    """In a branch and around it: the list is put in order by what nodes read, within their subgraphs too."""
    then = [node("Neg", "b", "t"), node("Exp", "a", "b"), node("Add", "x late", "a")]
    choice = helper.make_node(
        "If", ["q"], ["y"], name="choice",
        then_branch=body(then, [], [info("t")], name="then"),
        else_branch=body([node("Identity", "late", "e")], [], [info("e")], name="else"),
    )  # fmt: skip
    nodes = [choice, node("Abs", "x", "late"), node("Not", "p", "q")]
    in_order = model(nodes[::-1], [VECTOR, info("p", BOOL, [])], [info("y")])
    in_order.graph.node[2].attribute[0 if in_order.graph.node[2].attribute[0].name == "then_branch" else 1].g.CopyFrom(
        body(then[::-1], [], [info("t")], name="then")
    )
    carried = carry(model(nodes, [VECTOR, info("p", BOOL, [])], [info("y")]), tmp_path, level)
    onnx.checker.check_model(str(carried.after), full_check=True)
    onnx.save(in_order, tmp_path / "in_order.onnx")
    for p in (True, False):  # ONNX Runtime does not take the original's order in a branch
        Carried(tmp_path / "in_order.onnx", carried.after, carried.result).same(p=np.array(p))


# ---- collections and open ranks


@at_each_level
def test_sequences(level: str, tmp_path: Path) -> None:
    """A sequence is built, changed and joined; one is an input and one an output."""
    nodes = [
        node("Identity", "x", "i"),
        node("SequenceConstruct", "i x", "two"),
        node("SequenceInsert", "two i zero", "three"),
        node("SequenceAt", "three minus", "last"),
        node("SequenceErase", "three zero", "erased"),
        node("ConcatFromSequence", "erased", "joined", axis=0),
        node("SequenceLength", "given", "count"),
        node("SplitToSequence", "joined", "parts", axis=0, keepdims=0),
        node("SequenceAt", "parts minus", "part"),
        node("SequenceEmpty", "", "unread"),
    ]
    given = helper.make_tensor_sequence_value_info("given", F, ["M"])
    outputs = [info("last", F, [3]), info("joined", F, [6]), info("count", I64, [])]
    outputs.append(info("part", F, [3]))
    proto = model(nodes, [VECTOR, given], outputs, [weight("zero", np.array(0)), weight("minus", np.array(-1))])
    carried = carry(proto, tmp_path, level)
    assert carried.same(given=[random(2), random(2)])["count"] == 2
    assert "Identity" not in carried.operators
    assert "SequenceEmpty" not in carried.operators
    assert str(carried.result.graph.inputs[1].type) == "seq<f32[M]>"


@at_each_level
def test_optionals(level: str, tmp_path: Path) -> None:
    """An optional is made, asked and opened; an empty one carries its type."""
    kind = helper.make_tensor_type_proto(F, [3])
    nodes = [
        node("Identity", "x", "i"),
        node("Optional", "i", "o"),
        node("OptionalHasElement", "o", "has"),
        node("OptionalGetElement", "o", "inner"),
        node("Optional", "", "empty", type=kind),
        node("OptionalHasElement", "empty", "none"),
        node("Neg", "inner", "y"),
    ]
    outputs = [info("has", BOOL, []), info("none", BOOL, []), info("y", F, [3])]
    carried = carry(model(nodes, [VECTOR], outputs), tmp_path, level)
    got = carried.same()
    assert (bool(got["has"]), bool(got["none"])) == (True, False)
    assert "Identity" not in carried.operators


@at_each_level
def test_an_unknown_rank_stays_unknown(level: str, tmp_path: Path) -> None:
    nodes = [node("Identity", "x", "i"), node("Relu", "i", "r"), node("Add", "r k", "y"), node("Shape", "r", "s")]
    proto = model(nodes, [info("x")], [info("y"), info("s", I64, None)], [weight("k", random(3))])
    carried = carry(proto, tmp_path, level)
    for shape in ((3,), (2, 3), (2, 1, 4, 3)):
        assert carried.same(x=random(*shape))["y"].shape == shape
    assert carried.operators == ["Relu", "Add", "Shape"]
    assert not carried.proto.graph.input[0].type.tensor_type.HasField("shape")
    assert carried.result.graph.inputs[0].type == TensorType(graphopt.load(carried.before).inputs[0].type.dtype)


# ---- what nobody knows


def test_foreign_operators_are_carried_whole(tmp_path: Path) -> None:
    """Every kind of attribute, a subgraph that reads from outside, operands and results left out, no results."""
    sub = body([node("Add", "x k", "inner")], [info("arg", F, ["M"])], [info("inner"), info("arg")], name="sub")
    attributes = {
        "f": 0.1, "i": -5, "s": "text", "bytes": b"\xff\x00", "t": weight("", random(300)), "g": sub,
        "floats": [0.5, 1e-30], "ints": [2**40, -1], "strings": ["a", "ü"], "tp": helper.make_tensor_type_proto(F, [3]),
        "tensors": [weight("", random(2)), weight("", np.array([1], "u1"))], "graphs": [body([], [], [], name="nil")],
    }  # fmt: skip
    foreign = helper.make_node("Odd", ["a", "", "k", ""], ["", "m", ""], name="odd", domain="com.acme", **attributes)
    log = helper.make_node("Log", ["m"], [], name="log", domain="com.acme")
    unread = helper.make_node("Log", ["m"], ["nobody"], name="unread", domain="com.other")
    proto = model(
        [node("Identity", "x", "a"), foreign, node("Relu", "m", "y"), log, unread],
        [VECTOR], [info("y")], [weight("k", random(3))],
    )  # fmt: skip
    carried = carry(proto, tmp_path)
    nodes = {n.name: n for n in carried.proto.graph.node}
    assert set(nodes) == {"odd", "relu_y", "log", "unread"}
    assert [list(nodes["odd"].input), list(nodes["odd"].output)] == [["x", "", "k"], ["", "m"]]
    before = {a.name: a for a in foreign.attribute}
    for attribute in nodes["odd"].attribute:
        wanted = before[attribute.name]
        if attribute.name == "t":
            np.testing.assert_array_equal(numpy_helper.to_array(attribute.t), numpy_helper.to_array(wanted.t))
        elif attribute.name == "g":
            assert [(n.op_type, n.name, *n.input, *n.output) for n in attribute.g.node] == [
                ("Add", "add_inner", "x", "k", "inner")
            ]
            assert [v.name for v in (*attribute.g.input, *attribute.g.output)] == ["arg", "inner", "arg"]
        elif attribute.name != "graphs":
            assert attribute == wanted
    assert {o.domain: o.version for o in carried.proto.opset_import} == {"": 17, "com.acme": 1, "com.other": 1}


# ---- operands left out, sizes of zero


@at_each_level
def test_operands_left_out_stay_left_out(level: str, tmp_path: Path) -> None:
    """In the middle and at the end: Clip without a minimum, Resize without a region and scales."""
    nodes = [
        node("Identity", "x", "i"),
        helper.make_node("Clip", ["i", "", "k"], ["a"], name="clip"),
        helper.make_node("Clip", ["a", "zero", ""], ["b"], name="clip_end"),
        helper.make_node("Resize", ["b", "", "", "sizes"], ["c"], name="resize"),
        helper.make_node("Clip", ["c", "", ""], ["y"], name="none"),
    ]
    weights = [weight("k", np.array(1, "f4")), weight("zero", np.array(0, "f4")), weight("sizes", np.array([1, 2, 4]))]
    proto = model(nodes, [info("x", F, [1, 2, 8])], [info("y", F, [1, 2, 4])], weights)
    carried = carry(proto, tmp_path, level, skip=["fuse_conv_activation"])
    assert np.all((carried.same()["y"] >= 0) & (carried.same()["y"] <= 1))
    onnx.checker.check_model(str(carried.after), full_check=True)


@at_each_level
def test_results_left_out_stay_left_out(level: str, tmp_path: Path) -> None:
    """The middle one of three that an LSTM gives."""
    lstm = helper.make_node("LSTM", ["x", "w", "r"], ["all", "", "state"], name="lstm", hidden_size=2)
    weights = [weight("w", random(1, 8, 3)), weight("r", random(1, 8, 2))]
    proto = model([lstm], [info("x", F, ["T", 1, 3])], [info("state"), info("all")], weights)
    carried = carry(proto, tmp_path, level)
    carried.same(x=random(4, 1, 3))
    assert list(carried.proto.graph.node[0].output) == ["all", "", "state"]


@at_each_level
def test_tensors_of_size_zero(level: str, tmp_path: Path) -> None:
    """An input, a weight and a result without elements; what can be computed of them is."""
    nodes = [
        node("Concat", "x none", "a", axis=0),
        node("Add", "none none", "b"),
        node("ReduceSum", "b", "sum", keepdims=0),
        node("Concat", "b one", "c", axis=0),
        node("Mul", "a c", "m"),
        node("Add", "m sum", "y"),
    ]
    proto = model(
        nodes, [info("x", F, ["N", 3])], [info("y", F, None)],
        [weight("none", np.zeros((0, 3), "f4")), weight("one", random(1, 3))],
    )  # fmt: skip
    carried = carry(proto, tmp_path, level)
    for length in (0, 2):
        assert carried.same(x=np.ones((length, 3), "f4"))["y"].shape == (length, 3)
    assert carried.operators[-2:] == ["Mul", "Add"]
    assert set(carried.operators[:-2]) <= {"Concat"}


# ---- values that are several things


@at_each_level
def test_one_value_is_input_output_and_captured(level: str, tmp_path: Path) -> None:
    """An input is an output twice over, a constant is one, and a branch gives what it captured."""
    choice = helper.make_node(
        "If", ["p"], ["z"], name="choice",
        then_branch=body([node("Identity", "x", "t")], [], [info("t")], name="then"),
        else_branch=body([node("Identity", "k", "e")], [], [info("e")], name="else"),
    )  # fmt: skip
    proto = model(
        [choice, node("Identity", "x", "y")], [VECTOR, info("p", BOOL, [])],
        [info(n, F, [3]) for n in ("z", "x", "y", "k")], [weight("k", random(3))],
    )  # fmt: skip
    carried = carry(proto, tmp_path, level)
    for p in (True, False):
        assert list(carried.same(p=np.array(p))) == ["z", "x", "y", "k"]


def test_the_same_bytes_come_of_the_same_model(tmp_path: Path) -> None:
    """Nested graphs and all: compiled twice, and read from its own result once more, nothing changes."""
    branches = {f"{s}_branch": body(NORMED, [], [info("n")], name=s) for s in ("then", "else")}
    choice = helper.make_node("If", ["p"], ["y"], name="choice", **branches)
    proto = model([choice], [IMAGE, info("p", BOOL, [])], [info("y")], [*CONV, *NORM])
    carried = carry(proto, tmp_path)
    first = carried.after.read_bytes()
    assert carry(proto, tmp_path).after.read_bytes() == first
    again = graphopt.optimize(graphopt.load(carried.after))
    assert not again.records
    assert to_bytes(again.graph) == first
