"""Traps beside those of the golden files: what a rewrite, a name or a stale declaration could spoil in a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tiny import F, info, model, node, weight

import graphopt
from graphopt.errors import ModelError, OpsetError, UsageError
from graphopt.ir.graph import Graph
from graphopt.onnx_format.writer import save
from graphopt.runtime.onnxruntime import OnnxRuntimeSession

X = info("x", F, ["N", 4, 6, 6])
RNG = np.random.default_rng(0)


def norm_weights(channels: int = 4) -> list[TensorProto]:
    return [weight(n, RNG.uniform(0.5, 2, channels).astype("f4")) for n in "sbmv"]


def load(proto: onnx.ModelProto, folder: Path) -> tuple[Path, Graph]:
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return path, graphopt.load(path)


def compiled(proto: onnx.ModelProto, folder: Path, **options) -> graphopt.Result:
    """The result, which computes what the original does and reads back from its text."""
    path, graph = load(proto, folder)
    result = graphopt.optimize(graph, check="every", **options)
    assert not result.quarantined
    out = folder / "out.onnx"
    save(result.graph, out)
    feeds = {
        i.name: RNG.standard_normal([d.dim_value or 3 for d in i.type.tensor_type.shape.dim]).astype("f4")
        for i in proto.graph.input
        if i.type.tensor_type.elem_type == F
    }
    feeds |= {"c": np.array(True)} if any(i.name == "c" for i in proto.graph.input) else {}
    before, after = (OnnxRuntimeSession(p, optimize=False).run(feeds) for p in (path, out))
    for name, array in before.items():
        np.testing.assert_allclose(after[name], array, rtol=1e-5, atol=1e-5)
    for each in (graph, result.graph):
        assert graphopt.difference(each, graphopt.parse(graphopt.text(each))) is None
    record = graphopt.load_record(result.record.dumps())
    assert graphopt.text(graphopt.replay(graph, record)) == graphopt.text(result.graph)
    return result


@pytest.mark.parametrize("where", ["value_info", "output"])
@pytest.mark.parametrize("batch", ["N", None])
def test_a_stale_declaration_freezes_no_batch(where: str, batch: str | None, tmp_path: Path) -> None:
    stale = info("t", F, [1, 4, 6, 6])
    proto = model(
        [node("Relu", "x", "t"), node("Shape", "t", "s"), node("Gather", "s i", "n")],
        [info("x", F, [batch, 4, 6, 6])],
        [info("n", TensorProto.INT64, []), *([stale] if where == "output" else [])],
        [weight("i", np.array(0))],
    )
    if where == "value_info":
        proto.graph.value_info.append(stale)
    result = compiled(proto, tmp_path)
    assert [str(n.op) for n in result.graph.nodes] == ["Relu", "Shape", "Gather"]


def branches(then: list[onnx.NodeProto], weights: list[TensorProto] = []) -> onnx.NodeProto:  # noqa: B006
    other = helper.make_graph([node("Neg", "x", "e")], "else", [], [info("e")])
    return helper.make_node(
        "If", ["c"], ["y"], then_branch=helper.make_graph(then, "then", [], [info("t")], weights), else_branch=other
    )


def test_what_is_computed_outside_stays_outside(tmp_path: Path) -> None:
    inner = [node("BatchNormalization", "conv s b m v", "n", "norm"), node("Relu", "n", "t")]
    proto = model(
        [node("Conv", "x w", "conv", "outer"), branches(inner)],
        [X, info("c", TensorProto.BOOL, [])],
        [info("y")],
        [weight("w", RNG.standard_normal((4, 4, 1, 1)).astype("f4")), *norm_weights()],
    )
    for target in ("portable", "cpu"):
        result = compiled(proto, tmp_path, target=target)
        assert [str(n.op) for n in result.graph.nodes] == ["Conv", "If"]
        assert "computed outside of this subgraph" in next(m.reason for m in result.missed if m.label == "norm")


def test_a_branch_never_hides_what_it_reads(tmp_path: Path) -> None:
    inner = [node("Add", "j k", "t")]
    proto = model(
        [node("Relu", "x", "k"), node("Identity", "k", "j"), branches(inner, [weight("k", np.full(6, 5, "f4"))])],
        [X, info("c", TensorProto.BOOL, [])],
        [info("y")],
    )
    compiled(proto, tmp_path)


def test_a_value_may_be_called_underscore(tmp_path: Path) -> None:
    result = compiled(model([node("Relu", "x", "_"), node("Neg", "_", "y")], [X], [info("y")]), tmp_path)
    assert [v.name for v in result.graph.values()] == ["x", "_", "y"]


def test_a_result_that_is_not_given_is_no_twin(tmp_path: Path) -> None:
    def pool(outputs: list[str]) -> onnx.NodeProto:
        return helper.make_node("MaxPool", ["x"], outputs, kernel_shape=[2, 2])

    proto = model(
        [pool(["a"]), pool(["b", "i"]), node("Add", "a b", "y"), node("Cast", "i", "z", to=F)],
        [X],
        [info("y"), info("z")],
    )
    compiled(proto, tmp_path)


@pytest.mark.parametrize("op", ["Gather", "Div"])
@pytest.mark.parametrize("count", [3, 200_000])
def test_constants_without_a_value_are_left(op: str, count: int, tmp_path: Path) -> None:
    weights = [weight("a", np.arange(count)), weight("k", np.full(count, 10**9 if op == "Gather" else 0))]
    proto = model(
        [node(op, "a k", "t"), node("Add", "t x", "y")], [info("x", TensorProto.INT64, [1])], [info("y")], weights
    )
    path, graph = load(proto, tmp_path)
    result = graphopt.optimize(graph, check="every", max_growth=100)
    assert not result.quarantined
    assert str(next(iter(result.graph.nodes)).op) == op
    assert any("cannot be computed" in m.reason or "not known" in m.reason for m in result.missed)
    save(result.graph, path.with_name("out.onnx"))


@pytest.mark.parametrize(("opset", "to"), [(7, None), (10, 13), (17, 10)])
def test_a_mask_that_is_read_does_not_change(opset: int, to: int | None, tmp_path: Path) -> None:
    kind = F if opset < 10 else TensorProto.BOOL
    proto = model([node("Dropout", "x", "y m")], [X], [info("y"), info("m", kind, ["N", 4, 6, 6])], opset=opset)
    _, graph = load(proto, tmp_path)
    result = graphopt.optimize(graph)
    if to is not None:
        with pytest.raises(OpsetError, match="Dropout"):
            save(result.graph, tmp_path / "out.onnx", opset=to)
        return
    save(result.graph, tmp_path / "out.onnx")
    assert list(OnnxRuntimeSession(tmp_path / "out.onnx").outputs) == ["y", "m"]


@pytest.mark.parametrize("opset", [7, 10, 13])
def test_a_mask_that_nobody_reads_is_no_obstacle(opset: int, tmp_path: Path) -> None:
    proto = model([node("Dropout", "x", "d m"), node("Relu", "d", "y")], [X], [info("y")], opset=opset)
    _, graph = load(proto, tmp_path)
    save(graph, tmp_path / "same.onnx")
    save(graph, tmp_path / "other.onnx", opset=17 if opset < 13 else 9)
    assert [str(n.op) for n in graphopt.optimize(graph).graph.nodes] == ["Relu"]


def test_a_normalization_that_is_only_carried_is_told(tmp_path: Path) -> None:
    weights = [weight("w", np.ones((4, 4, 1, 1), "f4")), *(weight(n, np.ones((4, 6, 6), "f4")) for n in "sbmv")]
    proto = model(
        [node("Conv", "x w", "c"), node("BatchNormalization", "c s b m v", "y", "norm", spatial=0)],
        [X], [info("y")], weights, opset=7,
    )  # fmt: skip
    _, graph = load(proto, tmp_path)
    (missed,) = (m for m in graphopt.optimize(graph).missed if m.label == "norm")
    assert "carried as it is" in missed.reason
    assert "spatial" in missed.reason


def test_rules_are_not_passes() -> None:
    graph = graphopt.load("zoo:lenet5")
    for option in ("passes", "also"):
        with pytest.raises(UsageError, match="its pass, 'fold_batch_norm'"):
            graphopt.optimize(graph, **{option: ["fold_affine"]})


def test_a_story_has_the_names_of_the_file(tmp_path: Path) -> None:
    proto = model([node("Relu", "x", "t"), node("Identity", "t", "y")], [X], [info("y")])
    for n in proto.graph.node:
        n.name = ""
    told = graphopt.explain(compiled(proto, tmp_path).record)
    assert "Relu `y`" in told.partition("To the result:")[2]


def test_a_constant_is_no_part_of_its_shapes_source(tmp_path: Path) -> None:
    proto = model(
        [node("Shape", "x", "s", "shape"), node("Gather", "s i", "g", "pick"), node("Cast", "s", "z", "other", to=F),
         node("Cast", "g", "y", "cast", to=F)],
        [X], [info("y"), info("z")], [weight("i", np.array([1]))],
    )  # fmt: skip
    told = graphopt.explain(compiled(proto, tmp_path).record)
    story = told.partition("`pick`")[2].partition("\n  Cast")[0]
    assert "is a constant now" in story
    assert "Shape" not in story


def test_a_function_of_another_opset_says_what_to_do(tmp_path: Path) -> None:
    body = [node("Softmax", "a", "b", axis=1)]
    function = helper.make_function("mine", "Soft", ["a"], ["b"], body, [helper.make_opsetid("", 11)])
    proto = model([helper.make_node("Soft", ["x"], ["y"], domain="mine")], [X], [info("y")])
    proto.opset_import.append(helper.make_opsetid("mine", 1))
    proto.functions.append(function)
    path, graph = load(proto, tmp_path)
    with pytest.raises((OpsetError, ModelError), match="--keep-functions"):
        save(graph, tmp_path / "out.onnx")
    save(graphopt.load(path, keep_functions=True), tmp_path / "out.onnx")
