"""Model-local functions: inlined, or carried as they are with `--keep-functions`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from carry import at_each_level, body, carry, graphs, inside
from commands import done, refused
from onnx import TensorProto, helper, numpy_helper
from tiny import F, info, model, node, random, weight

import graphopt
from graphopt.errors import OpsetError
from graphopt.onnx_format.writer import save

BOOL = TensorProto.BOOL
VECTOR = info("x", F, [3])
HERE = helper.make_opsetid("", 17)
OLD = helper.make_opsetid("", 11)
MINE = helper.make_opsetid("mine", 1)


def function(name, inputs, outputs, nodes, opsets=(HERE, MINE), attributes=(), **more) -> onnx.FunctionProto:
    return helper.make_function(
        "mine", name, inputs.split(), outputs.split(), nodes, list(opsets), list(attributes), **more
    )


def call(name, inputs, outputs, label="", **attributes) -> onnx.NodeProto:
    return helper.make_node(name, inputs.split(), outputs.split(), name=label, domain="mine", **attributes)


def passed_down(node_: onnx.NodeProto, *names: str) -> onnx.NodeProto:
    """The node with attributes that the caller gives."""
    for name in names:
        mine, _, theirs = name.partition("=")
        node_.attribute.add(name=mine, ref_attr_name=theirs or mine, type=onnx.AttributeProto.FLOAT)
    return node_


def of(functions, nodes, inputs=(VECTOR,), outputs=("y",), weights=(), **more) -> onnx.ModelProto:
    outputs = [info(o) if isinstance(o, str) else o for o in outputs]
    return model(nodes, list(inputs), outputs, weights, functions=functions, **more)


LEAKY = function("Leaky", "a", "b", [passed_down(node("LeakyRelu", "a", "b", "act"), "alpha=slope")],
                 attributes=["slope"])  # fmt: skip


def at_opset(proto: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """The model with another opset written on it."""
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    changed.opset_import[0].version = opset
    return changed


# ---- inlined


@at_each_level
@pytest.mark.parametrize("keep", [False, True], ids=["inlined", "kept"])
def test_functions_that_call_functions(keep: bool, level: str, tmp_path: Path) -> None:
    """Two deep, each called twice, so that names inside must not meet; an attribute goes down both."""
    twice = call("Leaky", "a", "t"), call("Leaky", "t", "b")
    for each in twice:
        passed_down(each, "slope=s")
    outer = function("Twice", "a", "b", list(twice), attributes=["s"])
    nodes = [call("Twice", "x", "p", "one", s=0.5), call("Twice", "p", "q", "two", s=0.25), node("Neg", "q", "y")]
    carried = carry(of([LEAKY, outer], nodes), tmp_path, level, keep_functions=keep)
    np.testing.assert_allclose(carried.same(x=np.array([-64, 1, 0], "f4"))["y"], [1, -1, 0])
    kept = [f.name for f in carried.proto.functions]
    assert kept == (["Leaky", "Twice"] if keep else [])
    assert carried.operators == (["Twice", "Twice", "Neg"] if keep else ["LeakyRelu"] * 4 + ["Neg"])


@at_each_level
def test_attributes_have_defaults(level: str, tmp_path: Path) -> None:
    """The function's own where the caller gives none, and where it has none the operator's."""
    default = helper.make_attribute("slope", 0.5)
    with_one = function("One", "a", "b", [passed_down(node("LeakyRelu", "a", "b"), "alpha=slope")],
                        attribute_protos=[default])  # fmt: skip
    nodes = [call("One", "x", "p"), call("One", "x", "q", slope=0.25), call("Leaky", "x", "r")]
    carried = carry(of([with_one, LEAKY], nodes, outputs="pqr"), tmp_path, level)
    got = carried.same(x=np.array([-100, 0, 1], "f4"))
    assert [got[n][0] for n in "pqr"] == [-50, -25, -1]


@at_each_level
@pytest.mark.parametrize("opset", [HERE, OLD], ids=["same", "older"])
@pytest.mark.parametrize("keep", [False, True], ids=["inlined", "kept"])
def test_a_function_that_holds_graphs(keep: bool, opset: onnx.OperatorSetIdProto, level: str, tmp_path: Path) -> None:
    """Its branches capture its values, call functions, and are of its own opset: Softmax of opset 11 is another."""
    then = [call("Leaky", "m", "l"), node("ReduceSum", "l", "t", keepdims=1, **({"axes": [0]} if opset is OLD else {}))]
    other = [node("Softmax", "m", "s", axis=1), node("Mul", "s k", "e")]
    two = weight("k", np.array(2, "f4"))
    choice = node("If", "p", "b")
    choice.attribute.extend(
        helper.make_attribute(f"{side}_branch", body(nodes, [], [info(out)], weights, side))
        for side, nodes, out, weights in (("then", then, "t", []), ("else", other, "e", [two]))
    )  # fmt: skip
    chooser = function("Choose", "a p", "b", [node("Identity", "a", "m"), choice], (opset, MINE))
    nodes = [call("Choose", "x p", "u", "first"), call("Choose", "u p", "y", "second")]
    proto = of([LEAKY, chooser], nodes, [info("x", F, [2, 3]), info("p", BOOL, [])])
    carried = carry(proto, tmp_path, level, keep_functions=keep)
    if opset is OLD:  # ONNX Runtime takes every function for one of the model's opset
        if keep:
            return
        carried = carried.instead_of(at_opset(proto, 11))
    for p in (True, False):
        carried.same(p=np.array(p))
    if not keep:
        assert carried.operators == ["If", "If"]
        assert not carried.proto.functions
        assert not any("Leaky" in operators for operators in inside(carried.proto).values())


@at_each_level
def test_a_function_of_another_opset_is_taken_to_the_models(level: str, tmp_path: Path) -> None:
    """Dropout and Clip had attributes where the model's opset has operands; Softmax had another meaning."""
    old = [
        node("Clip", "a", "c", min=-0.5, max=0.5),
        node("Dropout", "c", "d", ratio=0.3),
        node("Softmax", "d", "b", axis=1),
    ]
    cut = function("Cut", "a", "b", old, (helper.make_opsetid("", 10),))
    proto = of([cut], [call("Cut", "x", "y")], [info("x", F, [2, 3])])
    carried = carry(proto, tmp_path, level)
    carried.instead_of(at_opset(proto, 10)).same()
    assert [o for o in carried.operators if o not in ("Shape", "Reshape", "Flatten")] == ["Clip", "Softmax"]
    onnx.checker.check_model(str(carried.after), full_check=True)


@at_each_level
@pytest.mark.parametrize("keep", [False, True], ids=["inlined", "kept"])
def test_overloads_are_told_apart(keep: bool, level: str, tmp_path: Path) -> None:
    functions = [
        function("Act", "a", "b", [node(op, "a", "b")], overload=overload)
        for op, overload in (("Relu", ""), ("Neg", "neg"), ("Abs", "abs"))
    ]
    calls = [call("Act", "x", "p"), call("Act", "x", "q", overload="neg"), call("Act", "x", "r", overload="abs")]
    proto = of(functions, calls, outputs="pqr", ir_version=10)
    carried = carry(proto, tmp_path, level, keep_functions=keep)
    nodes = carried.proto.graph.node
    if keep:  # ONNX Runtime does not tell overloads apart in every version
        assert [(n.op_type, n.overload) for n in nodes] == [("Act", ""), ("Act", "neg"), ("Act", "abs")]
        assert [f.overload for f in carried.proto.functions] == ["", "neg", "abs"]
    else:
        assert [n.op_type for n in nodes] == ["Relu", "Neg", "Abs"]


@at_each_level
def test_operands_and_results_left_out_of_a_call(level: str, tmp_path: Path) -> None:
    """An operand in the middle and at the end; a result that the caller does not take; an input that is an output."""
    clip = function("Cut", "a low high", "b a rest", [
        helper.make_node("Clip", ["a", "low", "high"], ["b"]), node("Sub", "a b", "rest"),
    ])  # fmt: skip
    calls = [
        helper.make_node("Cut", ["x", "", "half"], ["p", "", "q"], domain="mine"),
        helper.make_node("Cut", ["x", "half"], ["r", "same"], domain="mine"),
    ]
    proto = of([clip], calls, outputs=["p", "q", "r", "same"], weights=[weight("half", np.array(0.5, "f4"))])
    carried = carry(proto, tmp_path, level, skip=["fuse_conv_activation"])
    inputs = {n.output[0]: list(n.input) for n in carried.proto.graph.node if n.op_type == "Clip"}
    assert inputs == {"p": ["x", "", "half"], "r": ["x", "half"]}
    plain = [
        helper.make_node("Clip", ["x", "", "half"], ["p"]), node("Sub", "x p", "q"),
        helper.make_node("Clip", ["x", "half"], ["r"]), node("Identity", "x", "same"),
    ]  # fmt: skip
    carried.instead_of(of([], plain, outputs=["p", "q", "r", "same"], weights=proto.graph.initializer)).same()


def test_names_inside_a_function_meet_none_outside(tmp_path: Path) -> None:
    """Values of the model have the names that the inlined ones would get."""
    leaky = function("Leaky", "a", "b", [node("Exp", "a", "t", "e"), node("Neg", "t", "b")])
    taken = ["f.1/t", "f.2/t", "Leaky.1/t", "t"]
    nodes = [call("Leaky", "x", "q", "f"), call("Leaky", "q", "r")]
    nodes += [helper.make_node(op, ["x"], [name]) for op, name in zip(("Sin", "Cos", "Tan", "Abs"), taken, strict=True)]
    nodes[2].name, nodes[-1].name = "Leaky", "f.3/e"
    nodes.append(helper.make_node("Sum", ["r", *taken], ["y"]))
    carried = carry(of([leaky], nodes), tmp_path)
    carried.same()
    results = [o for n in carried.proto.graph.node for o in n.output]
    assert len(set(results)) == len(results)
    named = [n.name for n in carried.proto.graph.node if n.name]
    assert len(set(named)) == len(named)
    assert set(taken) <= set(results)


def test_a_sparse_weight_in_a_functions_graph(tmp_path: Path) -> None:
    """It gets a name of its own in each call, as all values do."""
    then = body([node("Add", "a k", "t")], [], [info("t")], name="then")
    then.sparse_initializer.append(helper.make_sparse_tensor(weight("k", random(2)), weight("", np.array([0, 2])), [3]))
    other = body([node("Neg", "a", "e")], [], [info("e")], name="else")
    choice = helper.make_node("If", ["p"], ["b"], then_branch=then, else_branch=other)
    proto = of([function("F", "a p", "b", [choice])], [call("F", "x p", "u", "one"), call("F", "u p", "y", "two")],
               [VECTOR, info("p", BOOL, [])])  # fmt: skip
    carried = carry(proto, tmp_path)
    dense = np.zeros(3, "f4")  # ONNX Runtime takes no sparse ones in functions
    dense[[0, 2]] = random(2)
    del then.sparse_initializer[:]
    then.initializer.append(weight("k", dense))
    choice = helper.make_node("If", ["p"], ["b"], then_branch=then, else_branch=other)
    proto.functions[0].CopyFrom(function("F", "a p", "b", [choice]))
    for p in (True, False):
        carried.instead_of(proto).same(p=np.array(p))


def test_a_function_brings_the_domains_that_it_imports(tmp_path: Path) -> None:
    """One of another version than the model's cannot be said in one file: --keep-functions can."""
    for version, model_has in ((3, None), (3, 3), (3, 2)):
        odd = helper.make_node("Odd", ["a"], ["b"], domain="com.acme")
        proto = of([function("F", "a", "b", [odd], (HERE, helper.make_opsetid("com.acme", version)))],
                   [call("F", "x", "y")])  # fmt: skip
        if model_has is not None:
            proto.opset_import.add(domain="com.acme", version=model_has)
        path, out = tmp_path / "in.onnx", tmp_path / "out.onnx"
        onnx.save(proto, path)
        if model_has == 2:
            with pytest.raises(OpsetError, match=r"`y`.*com\.acme.*--keep-functions"):
                save(graphopt.load(path), out)
            save(graphopt.load(path, keep_functions=True), out)
            continue
        save(graphopt.load(path), out)
        assert {o.domain: o.version for o in onnx.load(out).opset_import}["com.acme"] == 3


@pytest.mark.parametrize("keep", [False, True], ids=["inlined", "kept"])
def test_functions_that_call_themselves_through_a_graph(keep: bool, tmp_path: Path) -> None:
    branches = {f"{s}_branch": body([call("F", "a p", "r")], [], [info("r")]) for s in ("then", "else")}
    again = function("F", "a p", "b", [helper.make_node("If", ["p"], ["b"], **branches)])
    onnx.save(of([again], [call("F", "x p", "y")], [VECTOR, info("p", BOOL, [])]), tmp_path / "in.onnx")
    words = ["compile", tmp_path / "in.onnx", "-o", tmp_path / "out.onnx", "--no-verify"]
    if keep:
        done(*words, "--keep-functions")
    else:
        assert "circle" in refused(*words)


# ---- kept


def test_a_kept_function_stays_byte_for_byte(tmp_path: Path) -> None:
    """Its documentation, types, weights of any size, and imports; calls in graphs stay calls."""
    k = helper.make_node("Constant", [], ["k"], value=weight("", random(500)))
    kept = function("F", "a", "b", [k, node("Add", "a k", "b")], doc_string="adds", value_info=[info("k", F, [500])])
    kept.metadata_props.add(key="from", value="here")
    branches = {f"{s}_branch": body([call("F", "x", "r")], [], [info("r")], name=s) for s in ("then", "else")}
    proto = of([kept, LEAKY], [helper.make_node("If", ["p"], ["y"], **branches)],
               [info("x", F, [500]), info("p", BOOL, [])], ir_version=10)  # fmt: skip
    proto.opset_import.append(MINE)
    carried = carry(proto, tmp_path, keep_functions=True)
    assert [f.SerializeToString() for f in carried.proto.functions] == [f.SerializeToString() for f in proto.functions]
    assert inside(carried.proto) == {"then": ["F"], "else": ["F"]}
    carried.same()
    data = [
        numpy_helper.to_array(a.t) for n in carried.proto.functions[0].node for a in n.attribute if a.name == "value"
    ]
    np.testing.assert_array_equal(data[0], random(500))


def test_around_kept_functions_the_graph_is_optimized(tmp_path: Path) -> None:
    nodes = [node("Identity", "x", "i"), call("Leaky", "i", "l", slope=0.5), node("Identity", "l", "j"),
             node("Add", "k k", "two"), node("Mul", "j two", "y")]  # fmt: skip
    proto = of([LEAKY], nodes, weights=[weight("k", random(3))])
    proto.graph.value_info.append(info("l", F, [3]))  # else nobody knows what a function gives
    carried = carry(proto, tmp_path, keep_functions=True)
    carried.same()
    assert carried.operators == ["Leaky", "Mul"]
    assert [len(g.initializer) for g in graphs(carried.proto.graph)] == [1]
