"""What is known in one scope only: types inside a branch or an iteration, names of sibling graphs, effects, depth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import parser

import graphopt
from graphopt.ir.graph import Graph
from graphopt.ir.verifier import verify
from graphopt.onnx_format.writer import to_bytes

HEAD = '<ir_version: 8, opset_import: ["" : 17 IMPORTS]> '


def read(text: str, folder: Path, imports: str = "", **options: bool) -> Graph:
    path = folder / "model.onnx"
    path.write_bytes(parser.parse_model(HEAD.replace("IMPORTS", imports) + text).SerializeToString())
    return graphopt.load(path, **options)


def same(before: Graph, after: Graph, feeds: dict[str, np.ndarray]) -> None:
    """Both give the same numbers in ONNX Runtime."""
    results = [
        onnxruntime.InferenceSession(to_bytes(g), providers=["CPUExecutionProvider"]).run(None, feeds)
        for g in (before, after)
    ]
    for first, second in zip(*results, strict=True):
        np.testing.assert_array_equal(first, second)


def optimized(graph: Graph) -> Graph:
    """The graph at O2: valid, no rule set aside, and replayed from its record."""
    result = graphopt.optimize(graph, check="every")
    verify(result.graph)
    assert result.quarantined == ()
    again = graphopt.replay(graph, graphopt.load_record(result.record.dumps()))
    assert to_bytes(again) == to_bytes(result.graph)
    return result.graph


@pytest.mark.parametrize("count", [1, 3])
def test_what_a_branch_says_of_an_outer_value_holds_there_only(count, tmp_path):
    """Its declaration [1] is true whenever the branch is taken."""
    graph = read(
        """g (float[N] x, bool[N] c) => (float[A] y, int64[1] s) <int64[1] one = {1}, int64[1] two = {2}> {
            z = Compress <axis = 0> (x, c)
            shape = Shape(z)
            k = Equal(shape, one)
            y = If (k) <then_branch = t () => (float[1] to) <float[1] ti> { ti = Identity(z) to = Neg(ti) },
                        else_branch = e () => (float[1] eo) { eo = ReduceSum(z) }>
            s = Mul(shape, two)
        }""",
        tmp_path,
    )
    same(graph, optimized(graph), {"x": np.arange(1, 4, dtype=np.float32), "c": np.arange(3) < count})


def test_a_condition_of_unknown_type_is_one(tmp_path):
    """A kept function gives it: the loop may end at once, whatever its number of trips."""
    graph = read(
        """g (float[2] x, bool c) => (float[S, 2] y, int64[1] s) <int64 trips = {5}, int64[1] two = {2}> {
            k = loc.Same(c)
            y = Loop (trips, k) <body = b (int64 i, bool a) => (bool a, float[2] e) { e = Relu(x) }>
            shape = Shape <end = 1> (y)
            s = Mul(shape, two)
        }
        <domain: "loc", opset_import: ["" : 17]> Same (p) => (q) { q = Identity(p) }""",
        tmp_path,
        ', "loc" : 1',
        keep_functions=True,
    )
    after = optimized(graph)
    for condition in (True, False):
        same(graph, after, {"x": np.ones(2, np.float32), "c": np.array(condition)})


def test_a_declared_shape_of_what_is_carried_is_not_believed_behind_an_opaque_node(tmp_path):
    graph = read(
        """g (float[1] x) => (int64[S, 1] s) <int64 trips = {3}, int64[1] two = {2}> {
            last, s = Loop (trips, , x) <body = b (int64 i, bool a, float[1] v) => (bool d, float[1] w, int64[1] e) {
                d = Identity(a)
                w = loc.Grow(v)
                shape = Shape(v)
                e = Mul(shape, two)
            }>
        }
        <domain: "loc", opset_import: ["" : 17]> Grow (p) => (q) { q = Concat <axis = 0> (p, p) }""",
        tmp_path,
        ', "loc" : 1',
        keep_functions=True,
    )
    same(graph, optimized(graph), {"x": np.ones(1, np.float32)})


def test_sibling_branches_may_use_the_same_names(tmp_path):
    branch = """NAME () => (float[1] NAMEo) <float[1] c = {2.0}, float[1] d = {2.0}> {
        a = Mul(x, c) NAMEo = Add(a, d)
    }"""
    graph = read(
        f"""g (float[1] x, bool p) => (float[1] y) {{
            y = If (p) <then_branch = {branch.replace("NAME", "t")}, else_branch = {branch.replace("NAME", "e")}>
        }}""",
        tmp_path,
    )
    after = optimized(graph)
    for taken in (True, False):
        same(graph, after, {"x": np.ones(1, np.float32), "p": np.array(taken)})


def test_a_branch_with_effects_stays(tmp_path):
    graph = read(
        """g (float[1] x) => (float[1] y) <bool k = {1}> {
            y = If (k) <then_branch = t () => (float[1] to) { to = Neg(x) p = foo.Print(x) },
                        else_branch = e () => (float[1] eo) { eo = Relu(x) }>
        }""",
        tmp_path,
        ', "foo" : 1',
    )
    result = graphopt.optimize(graph)
    assert [n.op.name for n in result.graph.walk()] == ["If", "Neg", "Print", "Relu"]
    (missed,) = (m for m in result.missed if m.rule == "known_branch")
    assert missed.reason == "nobody reads what `foo::Print` gives, but it may have effects"


def test_results_that_are_left_out_or_given_twice():
    text = """(%x: f32[3]) -> (%y, %z) {
      %k: bool[] = dense true
      %y, %z = If(%k) {then_branch=graph "t" () -> (%q, %q) {
        %q = Neg(%x)
      }, else_branch=graph "e" () -> (%r, %r) {
        %r = Relu(%x)
      }}
    }"""
    assert [n.op.name for n in optimized(graphopt.parse(text)).walk()] == ["Neg", "Identity"]
    fewer = graphopt.parse(text.replace("(%y, %z) {\n      %k", "(%y) {\n      %k").replace("%y, %z = If", "%y = If"))
    assert [n.op.name for n in optimized(fewer).walk()] == ["Neg"]


def test_depth_costs_no_more_than_size():
    """Thirty loops within each other: a purity that is asked again at each level would take hours."""
    inner = "%w30 = Relu(%x)"
    for i in reversed(range(30)):
        takes, gives = f"%i{i}: i64[], %c{i}: bool[], %v{i}: f32[2]", f"%c{i}, %w{i + 1}"
        inner = f'%w{i} = Loop(%n, %p, %x) {{body=graph "b{i}" ({takes}) -> ({gives}) {{\n{inner}\n}}}}'
    graph = graphopt.parse(f"(%x: f32[2], %n: i64[], %p: bool[]) -> (%w0) {{ {inner} }}")
    assert len(list(graphopt.optimize(graph).graph.walk())) == 31


def test_elements_of_a_sequence_may_have_other_shapes_each(tmp_path):
    graph = read(
        """g (float[5] x) => (int64[1] y) <int64[2] parts = {2, 3}, int64 zero = {0}, int64 one = {1},
                                            int64[1] yes = {1}, int64[1] no = {2}> {
            s = SplitToSequence <axis = 0> (x, parts)
            a = SequenceAt(s, zero)
            b = SequenceAt(s, one)
            p = Shape(a)
            q = Shape(b)
            e = Equal(p, q)
            y = Where(e, yes, no)
        }""",
        tmp_path,
    )
    same(graph, optimized(graph), {"x": np.ones(5, np.float32)})
