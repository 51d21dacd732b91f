"""If, Loop, Scan and SequenceMap: types inside and outside of their bodies, their runs beside ONNX Runtime, opsets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import parser

import graphopt
from graphopt.errors import OpsetError, TypeRuleError
from graphopt.ir.dims import symbols
from graphopt.ir.graph import Graph
from graphopt.ir.types import TensorType, f32, i64
from graphopt.onnx_format.writer import to_bytes
from graphopt.ops.control_flow import MAX_TRIPS, Loop
from graphopt.runtime.interpreter import Interpreter
from ops.harness import normal

HEAD = '<ir_version: 8, opset_import: ["" : {opset}]> agraph '


def read(text: str, folder: Path, opset: int = 17) -> Graph:
    path = folder / "model.onnx"
    path.write_bytes(parser.parse_model(HEAD.replace("{opset}", str(opset)) + text).SerializeToString())
    return graphopt.load(path)


def agree(graph: Graph, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The interpreter's results, which are those of ONNX Runtime."""
    made = Interpreter(graph).run(feeds)
    session = onnxruntime.InferenceSession(to_bytes(graph), providers=["CPUExecutionProvider"])
    for (name, array), theirs in zip(made.items(), session.run(None, feeds), strict=True):
        np.testing.assert_allclose(array, theirs, rtol=1e-6, err_msg=name)
        assert array.shape == theirs.shape
    return made


IF = """(bool c, float[N, 4] x) => (float[A, B] y) {
    y = If (c) <then_branch = g1 () => (float[A, B] t) { t = Relu(x) },
                else_branch = g2 () => (float[A, B] e) { e = Slice(x, zero, three, one) }>
}"""
SLICED = IF.replace(
    "=> (float[A, B] y) {", "=> (float[A, B] y) <int64[1] zero = {0}, int64[1] three = {3}, int64[1] one = {1}> {"
)


def test_what_both_branches_agree_on_is_known(tmp_path):
    graph = read(SLICED, tmp_path)
    kind = graph.outputs[0].type
    assert isinstance(kind, TensorType)
    assert kind.shape[0] == graph.inputs[1].type.shape[0]  # N of both
    assert isinstance(kind.shape[1], graphopt.ir.dims.Expr)  # 4 or 3


@pytest.mark.parametrize("condition", [True, False])
def test_one_branch_is_run(condition, tmp_path):
    agree(read(SLICED, tmp_path), {"c": np.array(condition), "x": normal(2, 4)})


GROWING = """(float[1] x, int64 n) => (float[K] y, float[S, T] s) {
    y, s = Loop (n, , x) <body = b (int64 i, bool c, float[1] v) => (bool d, float[1] w, float[1] z) {
        d = Identity(c)
        w = Concat <axis = 0> (v, x)
        z = ReduceSum <keepdims = 1> (w)
    }>
}"""


def test_what_changes_in_a_loop_is_not_known_inside(tmp_path):
    """The body's declaration says [1], which holds in the first iteration only."""
    graph = read(GROWING, tmp_path)
    body = graph.nodes.__next__().op.graphs[0]
    inside = body.inputs[2].type
    assert inside.dtype == f32
    assert inside.shape is None or not isinstance(inside.shape[0], int)
    assert graph.outputs[0].type.shape is None or not isinstance(graph.outputs[0].type.shape[0], int)
    agree(graph, {"x": normal(1), "n": np.array(3)})


KEPT = """(float[N, 3] x) => (float[A, B] y, float[S, T, U] s) <int64 n = {4}, bool t = {1}> {
    y, s = Loop (n, , x) <body = b (int64 i, bool c, float[P, Q] v) => (bool c2, float[P, Q] w, float[P, Q] z) {
        c2 = Identity(c)
        f = Cast <to = 1> (i)
        w = Add(v, f)
        z = Mul(w, x)
    }>
}"""


def test_what_stays_in_a_loop_is_known(tmp_path):
    graph = read(KEPT, tmp_path)
    n = graph.inputs[0].type.shape[0]
    body = next(iter(graph.nodes)).op.graphs[0]
    assert body.inputs[2].type == f32["N", 3]
    assert graph.outputs[0].type == f32["N", 3]
    assert graph.outputs[1].type.shape[1:] == (n, 3)
    optimized = graphopt.optimize(graph, "O1").graph  # the condition that is only handed on goes
    assert optimized.outputs[1].type.shape[1:] == (n, 3)
    agree(graph, {"x": normal(2, 3)})
    agree(optimized, {"x": normal(2, 3)})


NESTED = """(float[N] x, int64 n) => (float[A] y) {
    y = Loop (n, , x) <body = outer (int64 i, bool c, float[P] v) => (bool d, float[P] w) {
        d = Identity(c)
        w = Loop (i, , v) <body = inner (int64 j, bool e, float[Q] a) => (bool g, float[Q] b) {
            g = Less(j, n)
            b = Add(a, x)
        }>
    }>
}"""


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 4))
def test_loops_in_loops(tmp_path_factory, n):
    graph = read(NESTED, tmp_path_factory.mktemp("nested"))
    assert graph.outputs[0].type == f32["N"]
    agree(graph, {"x": normal(3), "n": np.array(n)})


def test_a_condition_ends_a_loop(tmp_path):
    graph = read(
        """(float[1] x) => (float[1] y, float[S, 1] s) <int64 n = {100}, bool t = {1}, float limit = {10.0}> {
            y, s = Loop (n, t, x) <body = b (int64 i, bool c, float[1] v) => (bool d, float[1] w, float[1] z) {
                w = Add(v, v)
                z = Identity(w)
                less = Less(w, limit)
                shape = Constant <value_ints = [0]> ()
                none = Constant <value_ints = [0]> ()
                d = Squeeze(less, none)
            }>
        }""",
        tmp_path,
    )
    made = agree(graph, {"x": np.array([1], np.float32)})
    assert made["y"].tolist() == [16]
    assert made["s"].shape == (4, 1)


def test_a_loop_that_never_ends_is_told(tmp_path):
    graph = read(
        """(float[1] x) => (float[1] y) <bool t = {1}> {
            y = Loop (, t, x) <body = b (int64 i, bool c, float[1] v) => (bool d, float[1] w) {
                w = Identity(v) d = Identity(c)
            }>
        }""",
        tmp_path,
    )
    with pytest.raises(TypeRuleError, match=f"it runs more than {MAX_TRIPS:,} times"):
        Interpreter(graph).run({"x": normal(1)})


SCAN = """(float[N, L] x, float[N] s0) => (float[N] s, float[A, B] ys) {
    s, ys = Scan (s0, x) <num_scan_inputs = 1, scan_input_axes = [1], scan_output_axes = [1], SETTINGS
                          body = b (float[N] a, float[N] e) => (float[N] n, float[N] o) {
        n = Add(a, e)
        o = Relu(n)
    }>
}"""


@pytest.mark.parametrize("directions", ["", "scan_input_directions = [1],", "scan_output_directions = [1],"])
def test_scans(directions, tmp_path):
    graph = read(SCAN.replace("SETTINGS", directions), tmp_path)
    assert [v.type for v in graph.outputs] == [f32["N"], f32["N", "L"]]
    agree(graph, {"x": normal(2, 5), "s0": normal(2, seed=1)})


def test_sequence_map(tmp_path):
    graph = read(
        """(float[2] x, float[3] y) => (float[Z] z) {
            q = SequenceConstruct(x, y)
            m = SequenceMap (q, x) <body = b (float[K] e, float[2] other) => (float[U] u) {
                u = Concat <axis = 0> (e, other)
            }>
            z = ConcatFromSequence <axis = 0> (m)
        }""",
        tmp_path,
    )
    made = Interpreter(graph).run({"x": normal(2), "y": normal(3)})
    np.testing.assert_array_equal(made["z"], np.concatenate([normal(2), normal(2), normal(3), normal(2)]))


def test_a_random_body_is_not_pure(tmp_path):
    text = SLICED.replace("t = Relu(x)", "t = RandomNormalLike(x)")
    node = next(iter(read(text, tmp_path).nodes))
    assert not node.op.is_pure()
    assert next(iter(read(SLICED, tmp_path).nodes)).op.is_pure()


def test_refusals(tmp_path):
    op = next(iter(read(KEPT, tmp_path).nodes)).op
    assert isinstance(op, Loop)
    with pytest.raises(TypeRuleError, match="the body has 3 inputs and 3 outputs, and 0 values are carried"):
        op.infer(None, None)
    condition = graphopt.ops.room.Fact(TensorType(i64, (2,)))
    with pytest.raises(TypeRuleError, match="the condition of 2 elements is not one"):
        next(iter(read(SLICED, tmp_path).nodes)).op.infer(condition)


def test_bodies_are_taken_to_other_opsets(tmp_path):
    """What stands in a body is adapted like everything else: ReduceSum's axes, Squeeze's."""
    graph = read(
        """(bool c, float[2, 1] x) => (float[A] y) <int64[1] axes = {1}> {
            y = If (c) <then_branch = g1 () => (float[A] t) { t = Squeeze(x, axes) },
                        else_branch = g2 () => (float[A] e) { e = ReduceSum <keepdims = 0> (x, axes) }>
        }""",
        tmp_path,
    )
    for opset in (11, 13, 21, 25):
        session = onnxruntime.InferenceSession(to_bytes(graph, opset=opset), providers=["CPUExecutionProvider"])
        for condition in (True, False):
            (made,) = session.run(None, {"c": np.array(condition), "x": normal(2, 1)})
            np.testing.assert_array_equal(made, normal(2, 1)[:, 0])
    old = onnx.load_from_string(to_bytes(graph, opset=11)).graph.node[0].attribute[0].g.node[0]
    assert [a.name for a in old.attribute] == ["axes"]


def test_old_opsets_lack_sequences_in_a_branch(tmp_path):
    graph = read(
        """(bool c, float[2] x) => (float[2] y) <int64 zero = {0}> {
            q = If (c) <then_branch = g1 () => (seq(float[2]) t) { t = SequenceConstruct(x, x) },
                        else_branch = g2 () => (seq(float[2]) e) { e = SequenceConstruct(x) }>
            y = SequenceAt(q, zero)
        }""",
        tmp_path,
    )
    with pytest.raises(OpsetError, match="If that gives sequences needs opset 13"):
        to_bytes(graph, opset=11)
    agree(graph, {"c": np.array(True), "x": normal(2)})


def test_no_symbol_of_a_body_gets_out_as_a_number(tmp_path):
    graph = read(GROWING, tmp_path)
    scan = graph.outputs[1].type
    assert scan.shape is None or all(symbols(d) or d == 1 for d in scan.shape)
