"""What a compilation keeps: names, order, documentation, metadata, dims' names, versions, and the bits of weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from carry import at_each_level, body, carry, graphs
from commands import done, refused
from ml_dtypes import bfloat16
from onnx import TensorProto, helper, numpy_helper
from tiny import F, info, model, node, random, weight

import graphopt
from graphopt.ir.types import DTYPES
from graphopt.onnx_format.writer import save, to_bytes

VECTOR = info("x", F, [3])


def label(message, text: str):
    """The message with documentation and metadata that speak of `text`."""
    message.doc_string = f"about {text}"
    message.metadata_props.add(key="of", value=text)
    message.metadata_props.add(key=f"{text} é/\n", value="")
    return message


def described(message) -> tuple[str, dict[str, str]]:
    return message.doc_string, {p.key: p.value for p in message.metadata_props}


# ---- documentation and metadata


def annotated() -> onnx.ModelProto:
    """A model with words on everything: itself, its graphs, nodes, values, and weights."""
    then = label(
        body(
            [label(node("Mul", "r inner", "m"), "m node"), label(node("Neg", "m", "t"), "t node")],
            [],
            [label(info("t", F, [3]), "t")],
            [label(weight("inner", random(3)), "inner")],
            "then",
        ),
        "then",
    )
    then.value_info.append(label(info("m", F, [3]), "m"))
    other = label(body([node("Identity", "r", "e")], [], [info("e")], name="else"), "else")
    choice = label(helper.make_node("If", ["p"], ["y"], name="if", then_branch=then, else_branch=other), "if node")
    nodes = [label(node("Identity", "x", "i", "gone"), "gone"), label(node("Add", "i k", "a"), "a node"),
             label(node("Relu", "a", "r"), "r node"), choice]  # fmt: skip
    inputs = [label(info("x", F, [3]), "x"), info("p", TensorProto.BOOL, [])]
    proto = model(nodes, inputs, [label(info("y"), "y")], [label(weight("k", random(3)), "k")], ir_version=10)
    proto.graph.value_info.extend([label(info("a", F, [3]), "a"), label(info("r", F, [3]), "r")])
    label(proto.graph, "graph")
    return label(proto, "model")


def words(proto: onnx.ModelProto) -> dict[str, tuple[str, dict[str, str]]]:
    """What is said of each part, by kind and name; parts of which nothing is said are left out."""
    parts = {"model": proto}
    for graph in graphs(proto.graph):
        parts[f"graph {graph.name}"] = graph
        parts.update({f"node {n.name}": n for n in graph.node})
        parts.update({f"value {v.name}": v for v in (*graph.input, *graph.value_info, *graph.output)})
        parts.update({f"weight {t.name}": t for t in graph.initializer})
    return {name: described(part) for name, part in parts.items() if described(part) != ("", {})}


@pytest.mark.parametrize("level", ["O0", "O1", "O2"])
def test_words_are_kept(level: str, tmp_path: Path) -> None:
    proto = annotated()
    wanted = words(proto)
    assert len(wanted) == 18
    if level != "O0":
        del wanted["node gone"]
    assert words(carry(proto, tmp_path, level).proto) == wanted


def test_words_of_an_output_win_over_those_of_its_value_info(tmp_path: Path) -> None:
    proto = model([node("Relu", "x", "y")], [VECTOR], [label(info("y", F, [3]), "output")], ir_version=10)
    proto.graph.value_info.append(label(info("y", F, [3]), "value"))
    assert described(carry(proto, tmp_path).proto.graph.output[0])[0] == "about output"


def test_an_output_keeps_its_words_when_its_node_is_folded(tmp_path: Path) -> None:
    weights = [weight("w", random(4, 2, 3, 3)), *(weight(n, np.full(4, 2, "f4")) for n in "sbmv")]
    outputs = [label(info("y", F, ["N", 4, "h", "w"]), "y")]
    nodes = [label(node("Conv", "x w", "c"), "conv"), label(node("BatchNormalization", "c s b m v", "y"), "norm")]
    carried = carry(model(nodes, [info("x", F, ["N", 2, 6, 6])], outputs, weights, ir_version=10), tmp_path)
    assert carried.operators == ["Conv"]
    assert described(carried.proto.graph.output[0])[0] == "about y"
    assert carried.proto.graph.node[0].doc_string


@at_each_level
def test_quantization_annotations_are_kept(level: str, tmp_path: Path) -> None:
    """With the tensors that they name, which nobody else reads; one of a tensor that is gone goes, and its tensors."""

    def annotation(name: str, **parameters: str) -> onnx.TensorAnnotation:
        made = onnx.TensorAnnotation(tensor_name=name)
        for key, value in parameters.items():
            made.quant_parameter_tensor_names.add(key=key, value=value)
        return made

    then = body([node("Add", "x k", "t")], [], [info("t")], [weight("t_scale", np.array(1, "f4"))], "then")
    then.quantization_annotation.append(annotation("t", SCALE_TENSOR="t_scale"))
    other = body([node("Identity", "x", "e")], [], [info("e")], name="else")
    choice = helper.make_node("If", ["p"], ["z"], name="if", then_branch=then, else_branch=other)
    nodes = [node("Identity", "x", "gone"), node("Add", "gone k", "y"), choice]
    weights = [weight("k", random(3)), weight("s", np.array(2, "f4")), weight("zero", np.array(3, "u1"))]
    proto = model(nodes, [VECTOR, info("p", TensorProto.BOOL, [])], [info("y"), info("z")], weights)
    kept = annotation("k", SCALE_TENSOR="s", ZERO_POINT_TENSOR="zero")
    proto.graph.quantization_annotation.extend([kept, annotation("gone", SCALE_TENSOR="s")])
    carried = carry(proto, tmp_path, level)
    carried.same(p=np.array(True))
    assert list(carried.proto.graph.quantization_annotation) == [kept]
    inner = [list(g.quantization_annotation) for g in graphs(carried.proto.graph) if g.name == "then"]
    assert inner == [list(then.quantization_annotation)]


# ---- the model's own fields


@at_each_level
def test_what_a_model_says_of_itself(level: str, tmp_path: Path) -> None:
    proto = model([node("Identity", "x", "i"), node("Relu", "i", "y")], [VECTOR], [info("y", F, [3])])
    proto.producer_name, proto.producer_version, proto.domain, proto.model_version = "maker", "1.2+c", "org.x", 2**40
    proto.opset_import.extend([helper.make_opsetid("com.unused", 7), helper.make_opsetid("ai.onnx.ml", 3)])
    proto.graph.name = "a graph: ü"
    after = carry(proto, tmp_path, level).proto
    for field in ("producer_name", "producer_version", "domain", "model_version", "ir_version"):
        assert getattr(after, field) == getattr(proto, field), field
    assert after.graph.name == "a graph: ü"
    assert {o.domain: o.version for o in after.opset_import} == {"": 17, "com.unused": 7, "ai.onnx.ml": 3}


@at_each_level
@pytest.mark.parametrize("ir", [3, 4, 7, 8, 10, 13])
def test_ir_versions(ir: int, level: str, tmp_path: Path) -> None:
    """Up to IR 3 every initializer is an input, and becomes a constant; the version is the original's or newer."""
    k = weight("k", random(3))
    inputs = [VECTOR, info("k", F, [3])] if ir == 3 else [VECTOR]
    proto = model([node("Identity", "x", "i"), node("Add", "i k", "y")], inputs, [info("y", F, [3])], [k], 8)
    proto.ir_version = ir
    carried = carry(proto, tmp_path, level)
    assert carried.proto.ir_version == max(ir, 4)
    assert [v.name for v in carried.proto.graph.input] == ["x"]
    onnx.checker.check_model(str(carried.after), full_check=True)
    if ir <= 11:  # newer ones are refused by some versions of ONNX Runtime
        carried.same()


def test_initializers_may_stay_inputs(tmp_path: Path) -> None:
    """As a caller may want to give them: skipped, the rule leaves them where they are, in order, and overridable."""
    inputs = [info("k", F, [3]), VECTOR, label(info("l", F, [3]), "l")]
    proto = model([node("Add", "x k", "s"), node("Mul", "s l", "y")], inputs, [info("y", F, [3])],
                  [weight("l", random(3)), weight("k", random(3, seed=1))], ir_version=10)  # fmt: skip
    carried = carry(proto, tmp_path, skip=["initializer_input"])
    after = carried.proto.graph
    assert [v.name for v in after.input] == ["k", "x", "l"]
    assert {t.name for t in after.initializer} == {"k", "l"}
    assert described(after.input[2])[0] == "about l"
    carried.same(k=np.ones(3, "f4"))


@pytest.mark.parametrize("opset", range(7, 27))
def test_every_opset_comes_back(opset: int, tmp_path: Path) -> None:
    """Operators whose definitions changed on the way keep the file's: opset and bytes of a model only carried."""
    wide = opset >= 13
    nodes = [
        node("Identity", "x", "i"),
        node("Unsqueeze", "i axis" if wide else "i", "u", **({} if wide else {"axes": [0]})),
        node("Squeeze", "u axis" if wide else "u", "q", **({} if wide else {"axes": [0]})),
        node("Softmax", "q", "s", axis=1),
        node("Clip", "s low", "c") if opset >= 11 else node("Clip", "s", "c", min=0.125),
        node("Dropout", "c", "y", **({} if opset >= 12 else {"ratio": 0.5})),
    ]
    low = [weight("axis", np.array([0]))] if wide else []
    low += [weight("low", np.array(0.125, "f4"))] if opset >= 11 else []
    proto = model(nodes, [info("x", F, ["N", 3])], [info("y", F, ["N", 3])], low, opset)
    carried = carry(proto, tmp_path)
    assert carried.proto.opset_import[0].version == opset
    onnx.checker.check_model(str(carried.after), full_check=True)
    if opset < 26:  # ONNX Runtime's newest may be older
        carried.same()
    once = to_bytes(graphopt.load(carried.before))
    (tmp_path / "once.onnx").write_bytes(once)
    assert [n.SerializeToString() for n in onnx.load_from_string(once).graph.node] == [
        n.SerializeToString() for n in proto.graph.node
    ]
    assert to_bytes(graphopt.load(tmp_path / "once.onnx")) == once


def test_an_opset_of_the_future_is_refused(tmp_path: Path) -> None:
    """Whether the model is of it, or a function that it calls."""
    path, out = tmp_path / "in.onnx", tmp_path / "out.onnx"
    proto = model([node("Relu", "x", "y")], [VECTOR], [info("y")], opset=27)
    onnx.save(proto, path)
    assert "opset 27" in refused("compile", path, "-o", out)
    future = helper.make_function("mine", "F", ["a"], ["b"], [node("Relu", "a", "b")], [helper.make_opsetid("", 27)])
    call = helper.make_node("F", ["x"], ["y"], domain="mine")
    onnx.save(model([call], [VECTOR], [info("y")], functions=[future]), path)
    assert "opset 27" in refused("compile", path, "-o", out)
    assert not out.exists()
    done("compile", path, "-o", out, "--keep-functions", "--no-verify")


# ---- dims


@at_each_level
def test_names_of_dims_are_kept(level: str, tmp_path: Path) -> None:
    """Of inputs, outputs and values between, whatever they are; dims without a name get none."""
    odd = ["batch size", "N+1", "2*N", "éà", 'a"b', "%x", "?", "-1", "N", ""]
    inputs = [info(f"x{i}", F, [name or None, 3]) for i, name in enumerate(odd)]
    nodes = [node("Relu", f"x{i}", f"r{i}") for i in range(len(odd))]
    nodes += [node("Reshape", f"r{i} shape", f"y{i}") for i in range(len(odd))]
    outputs = [info(f"y{i}", F, [f"rows of {name}" if name else None, 1]) for i, name in enumerate(odd)]
    proto = model(nodes, inputs, outputs, [weight("shape", np.array([-1, 1]))])
    proto.graph.value_info.extend(info(f"r{i}", F, [name or None, 3]) for i, name in enumerate(odd))
    carried = carry(proto, tmp_path, level)
    carried.same()

    def names(values) -> list[list[str | int]]:
        return [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values]

    after = carried.proto.graph
    assert names(after.input) == [[name if name != "?" else 0, 3] for name in odd[:-1]] + [[0, 3]]
    assert names(after.output) == [[f"rows of {name}", 1] for name in odd[:-1]] + [[0, 1]]
    between = {v.name: v for v in after.value_info}
    assert names(between[f"r{i}"] for i in range(len(odd))) == names(after.input)


def test_a_declared_dim_that_no_rule_knows_is_kept(tmp_path: Path) -> None:
    proto = model(
        [node("NonZero", "x", "n"), node("Neg", "n", "y")], [VECTOR], [info("y", TensorProto.INT64, [1, "found"])]
    )
    proto.graph.value_info.append(info("n", TensorProto.INT64, [1, "found"]))
    after = carry(proto, tmp_path).proto.graph
    for value in (after.output[0], next(v for v in after.value_info if v.name == "n")):
        assert [d.dim_param for d in value.type.tensor_type.shape.dim] == ["", "found"]


# ---- names

NAMES = [
    "a b", "a/b/c:0", 'q"uo"te', "it's", "new\nline", "tab\t", "back\\slash", "ünï·码", "😀", "%v", "%0", "0", "-1",
    "v", "v_0", "in", "{x}", "#", "=", "(x)", "a,b", "[1]", "dense", "x" * 5000, " ", "\x01", "graph", ";", "@x",
]  # fmt: skip


@at_each_level
def test_any_name_is_kept(level: str, tmp_path: Path) -> None:
    """Of an input, a weight, a value between, an output; nodes have those of other values, or all one, or none."""
    for naming in (lambda i: NAMES[i - 1], lambda i: f"n{i}" if i % 2 else "", lambda i: "same"):
        nodes = [helper.make_node("Add", [f"x{n}", f"k{n}"], [n], name=f"{naming(i)}") for i, n in enumerate(NAMES)]
        nodes.append(helper.make_node("Sum", NAMES, ["sum"], name="sum"))
        nodes += [helper.make_node("Neg", [n], [f"{n}y"]) for n in NAMES]
        proto = model(
            nodes,
            [info(f"x{n}", F, [2]) for n in NAMES],
            [info(f"{n}y", F, [2]) for n in reversed(NAMES)] + [info("sum", F, [2])],
            [weight(f"k{n}", random(2, seed=i)) for i, n in enumerate(NAMES)],
        )
        carried = carry(proto, tmp_path, level)
        if naming(0) != "same":  # ONNX Runtime wants names of nodes to differ
            carried.same()
        after = carried.proto.graph
        assert [v.name for v in after.input] == [v.name for v in proto.graph.input]
        assert [v.name for v in after.output] == [v.name for v in proto.graph.output]
        assert [list(n.output) for n in after.node] == [list(n.output) for n in nodes]
        assert [n.name for n in after.node] == [n.name for n in nodes]
        assert [t.name for t in after.initializer] == [t.name for t in proto.graph.initializer]


@pytest.mark.parametrize("opset", [9, 10, 13])
def test_made_names_meet_none_of_the_file(opset: int, tmp_path: Path) -> None:
    """Attributes that became operands are constants with names of their own, on the way in and on the way out."""
    taken = ["cut.1", "cut.2", "cut.constant_1", "cut.constant_2", "cut.1_0", "c", "c_0", "v"]
    nodes = [helper.make_node(*args, name="cut", **more) for args, more in [
        (("Clip", ["x"], ["c"]), {"min": -0.5, "max": 0.5}) if opset < 11 else (("Clip", ["x", "low"], ["c"]), {}),
    ]]  # fmt: skip
    nodes += [helper.make_node("Exp", ["c"], [n]) for n in taken if n != "c"]
    nodes.append(helper.make_node("Sum", taken, ["y"]))
    proto = model(nodes, [VECTOR], [info("y", F, [3])], [weight("low", np.array(0, "f4"))] if opset > 10 else [], opset)
    carried = carry(proto, tmp_path, skip=["merge_common"])
    for to in (None, 8, 12):
        save(carried.result.graph, carried.after, opset=to)
        onnx.checker.check_model(str(carried.after))
        names = [o for n in carried.proto.graph.node for o in n.output]
        names += [t.name for t in carried.proto.graph.initializer] + ["x"]
        assert len(set(names)) == len(names)
        assert set(taken) < set(names)
        carried.same()


# ---- weights

TYPES = [d.code for d in DTYPES.values() if d.code != TensorProto.STRING]
NAME_OF = TensorProto.DataType.Name


def some_weight(code: int, raw: bool) -> TensorProto:
    """Five elements of a type: the smallest and largest numbers, −0 and the like; as raw bytes or in typed fields."""
    dtype = helper.tensor_dtype_to_np_dtype(code)
    wide = np.array([-2, -1, -0.0, 1, 1.5] if dtype.kind not in "ub" else [0, 1, 1, 0, 1], "f8").astype(dtype)
    proto = numpy_helper.from_array(wide, "w")
    return proto if raw else helper.make_tensor("w", code, [5], wide)


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
@pytest.mark.parametrize("code", TYPES, ids=map(NAME_OF, TYPES))
def test_weights_keep_their_bits(code: int, raw: bool, tmp_path: Path) -> None:
    """A weight of any type is itself an output, an operand of something unknown, and in an attribute of it."""
    tensor = some_weight(code, raw)
    held = TensorProto()
    held.CopyFrom(tensor)
    unknown = helper.make_node("Odd", ["w"], ["y"], domain="com.acme", t=held)
    proto = model(
        [unknown, node("Identity", "w", "z")], [], [info("y"), info("z", code, [5])], [tensor], 26, ir_version=13
    )
    after = carry(proto, tmp_path).proto.graph
    wanted = numpy_helper.to_array(tensor)
    for found in (after.initializer[0], next(n for n in after.node if n.op_type == "Odd").attribute[0].t):
        assert (found.data_type, list(found.dims)) == (code, [5])
        got = numpy_helper.to_array(found)
        assert got.dtype == wanted.dtype
        assert got.tobytes() == wanted.tobytes()


def test_strings_keep_their_bytes(tmp_path: Path) -> None:
    """As weights, which may hold anything, and in attributes; nodes that read them run."""
    words_ = [b"", "é 码".encode(), b"a\0b", b"\xff\xfe", b"x" * 3000]
    tensor = helper.make_tensor("w", TensorProto.STRING, [5], words_)
    nodes = [node("Identity", "w", "i"), node("Concat", "i i", "y", axis=0), node("Equal", "y y", "e")]
    proto = model(nodes, [], [info("y", TensorProto.STRING, [10]), info("e", TensorProto.BOOL, [10])], [tensor], 19)
    carried = carry(proto, tmp_path)
    kept = [t for t in carried.proto.graph.initializer if t.data_type == TensorProto.STRING]
    assert [list(t.string_data) for t in kept] == [words_]


@at_each_level
def test_sparse_weights_are_kept(level: str, tmp_path: Path) -> None:
    """An initializer and one of a branch, by positions and by indices, each read by name."""

    def sparse(name: str, indices: np.ndarray) -> onnx.SparseTensorProto:
        return helper.make_sparse_tensor(weight(name, np.array([5, 7], "f4")), weight("", indices), [2, 3])

    then = body([node("Add", "x k2", "t")], [], [info("t")], name="then")
    then.sparse_initializer.append(sparse("k2", np.array([1, 5])))
    other = body([node("Sub", "x k", "e")], [], [info("e")], name="else")
    choice = helper.make_node("If", ["p"], ["z"], name="if", then_branch=then, else_branch=other)
    proto = model([node("Mul", "x k", "y"), choice], [info("x", F, [2, 3]), info("p", TensorProto.BOOL, [])],
                  [info("y"), info("z")])  # fmt: skip
    proto.graph.sparse_initializer.append(sparse("k", np.array([[0, 1], [1, 2]])))
    carried = carry(proto, tmp_path, level)
    for p in (True, False):
        got = carried.same(p=np.array(p), x=np.ones((2, 3), "f4"))
        np.testing.assert_array_equal(got["y"], [[0, 5, 0], [0, 0, 7]])


@at_each_level
@pytest.mark.parametrize("dtype", [np.float16, bfloat16], ids=["f16", "bf16"])
def test_half_weights_stay_half(dtype: np.dtype, level: str, tmp_path: Path) -> None:
    """What is folded of 16-bit weights has 16 bits; no Cast comes in."""
    code = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    weights = [weight("w", random(4, 2, 3, 3).astype(dtype))]
    weights += [weight(n, np.random.default_rng(i).uniform(0.5, 2, 4).astype(dtype)) for i, n in enumerate("sbmv")]
    nodes = [node("Conv", "x w", "c"), node("BatchNormalization", "c s b m v", "y")]
    proto = model(nodes, [info("x", code, [1, 2, 6, 6])], [info("y", code)], weights, 22)
    carried = carry(proto, tmp_path, level)
    assert carried.operators == ["Conv"]
    assert {t.data_type for t in carried.proto.graph.initializer} == {code}
