"""Random graphs over all operators: what is read, written, and compiled is valid, equal, and told in full."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_random_networks import by_digest, check_valid
from vocabulary import STEPS, Sample, loaded, samples

import graphopt
from graphopt.analysis.equal import compare, compare_bits
from graphopt.errors import GraphoptError, ModelError, OpsetError
from graphopt.ir.dims import is_anonymous, substitute, symbol, symbols
from graphopt.ir.graph import Graph
from graphopt.ir.text import difference
from graphopt.ir.types import TensorType, Type, is_refinement
from graphopt.onnx_format.opset import OLDEST
from graphopt.onnx_format.writer import to_bytes
from graphopt.ops.registry import rooms
from graphopt.ops.room import NEWEST, NoKernelError, unknown_dim
from graphopt.passes.pipeline import LEVELS, TARGETS, optimize
from graphopt.runtime.interpreter import Interpreter, evaluate
from graphopt.runtime.verify import verify

NEVER: dict[str, str] = {}  # rooms of ONNX's own domain that are not drawn, and why

ways = st.sampled_from([(level, target) for level in LEVELS for target in TARGETS])


def test_all_operators_are_drawn() -> None:
    assert set(STEPS) | set(NEVER) == {name for domain, name in rooms() if domain == ""}
    assert not set(STEPS) & set(NEVER)


def check_interface(before: Graph, after: Graph) -> None:
    """Names and order as before; types as before, or better known."""
    pairs = [(a, b) for part in ("inputs", "outputs") for a, b in zip(getattr(before, part), getattr(after, part))]  # noqa: B905
    assert (len(after.inputs), len(after.outputs)) == (len(before.inputs), len(before.outputs))
    for old, new in pairs:
        assert old.name == new.name
        assert old.type is None or is_refinement(_named(new.type), _named(old.type)), f"{new} was {old.type}"


def _named(kind: Type | None) -> Type | None:
    """A type in which dims that depend on unnamed ones are unnamed themselves."""
    if not isinstance(kind, TensorType) or kind.shape is None:
        return kind
    return kind.with_shape(
        tuple(unknown_dim() if any(map(is_anonymous, map(symbol, symbols(d)))) else d for d in kind.shape)
    )


def check_text(graph: Graph) -> None:
    """Text read back is the same graph."""
    again = graphopt.parse(graphopt.text(graph), by_digest(graph))
    check_valid(again)
    assert difference(graph, again) is None
    assert graphopt.text(again) == graphopt.text(graph)


def check_file(graph: Graph) -> None:
    """A file read back is the same graph, and gives the same file; types that follow from what is new come with it."""
    data = to_bytes(graph)
    back = loaded(data)
    check_valid(back)
    check_interface(graph, back)
    assert names(graph) == names(back)
    again = to_bytes(back)
    assert to_bytes(loaded(again)) == again


def names(graph: Graph) -> list[str]:
    return [v.name for v in graph.values() if v.producer is not None]


def without_anonymous(graph: Graph) -> str:
    """A graph as text; which unnamed dims are the same is not written to files."""
    return re.sub(r"\?\d+", "?", graphopt.text(graph))


def interpreted(before: Graph, after: Graph, sample: Sample, *, exact: bool) -> list[str]:
    """What differs in the interpreter; nothing where it cannot evaluate the original."""
    found = []
    for kind, given_ in sample.feeds.items():
        try:
            reference, native = (Interpreter(before, t).run(given_) for t in (np.float64, None))
        except GraphoptError:
            continue
        result = Interpreter(after).run(given_)
        for name, original in native.items():
            verdict = (
                compare_bits(original, result[name]) if exact else compare(reference[name], [original], [result[name]])
            )
            if not verdict.equal:
                found.append(f"{kind}: `{name}`: {verdict}")
    return found


def run_apart(before: bytes, after: bytes, graph: Graph, sample: Sample, *, exact: bool) -> str:
    """What differs in ONNX Runtime, its optimizers off and on; '' where it does not run the original."""
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("before.onnx", "after.onnx")]
        for path, data in zip(paths, (before, after), strict=True):
            path.write_bytes(data)
        try:
            told = verify(*paths, graph=graph, inputs=sample.feeds["normal"], exact_only=exact, threads=1)
        except ModelError:
            return ""
    # ONNX Runtime has no kernels of the newest definitions of some operators.
    is_missing = "has no CPU kernel" in told.problem and before != after
    return "" if told.equal or not told.ran or is_missing else told.sentence


def check_compiled(sample: Sample, level: str, target: str, check: str) -> None:
    """Compiled it is valid, equal, told in full, and not to be compiled further."""
    graph = sample.graph
    before = to_bytes(graph)
    result = optimize(graph, level, target=target, check=check)  # type: ignore[arg-type]
    assert result.quarantined == ()
    assert to_bytes(graph) == before, "the input graph was changed"
    check_valid(result.graph)
    check_interface(graph, result.graph)
    check_text(result.graph)
    check_file(result.graph)
    if level == "O0":
        assert difference(graph, result.graph) is None
    again = optimize(result.graph, level, target=target, check="off")
    assert again.records == (), [str(a) for a in again.records]
    after = to_bytes(result.graph)
    replayed = graphopt.replay(graph, graphopt.load_record(result.record.dumps()))
    assert to_bytes(replayed) == after
    if not sample.is_random:
        assert interpreted(graph, result.graph, sample, exact=result.is_exact) == []
        # ONNX Runtime takes other kernels where other operands are constants
        assert run_apart(before, after, graph, sample, exact=False) == ""


@settings(max_examples=150)
@given(sample=samples())
def test_text_and_file_read_back(sample: Sample) -> None:
    graph = sample.graph
    check_valid(graph)
    assert not graph.info.notes
    check_text(graph)
    check_file(graph)
    data = to_bytes(graph)
    back = loaded(data)
    if sample.names & {"Loop", "Scan"}:  # where shapes change, a second look may see more
        return
    assert to_bytes(back) == data
    if graph.info.opsets[""] == NEWEST:  # older ones hold as attributes what are operands in the newest
        assert without_anonymous(graph) == without_anonymous(back)
    if all(isinstance(t := v.type, TensorType) and t.shape is not None for v in graph.outputs):
        onnx.checker.check_model(onnx.load_from_string(data))


@settings(max_examples=150)
@given(sample=samples())
def test_types_hold_for_what_is_computed(sample: Sample) -> None:
    graph = sample.graph
    wanted = tuple(v for v in graph.values() if isinstance(v.type, TensorType) and v.graph is graph)
    sizes = {
        dim: size
        for v in graph.inputs
        for dim, size in zip(v.type.shape or (), sample.feeds["normal"][v.name].shape, strict=True)
    }
    names = {str(dim): size for dim, size in sizes.items() if not isinstance(dim, int)}
    for kind, given_ in sample.feeds.items():
        try:
            values = evaluate(graph, given_, wanted)
        except (NoKernelError, GraphoptError):
            assume(kind != "normal")
            continue
        for value in wanted:
            array, told = values[value.name], value.type
            assert told.dtype.numpy == array.dtype, value
            if told.shape is None:
                continue
            assert len(told.shape) == array.ndim, f"{value} is {told}, and has shape {array.shape}"
            for dim, size in zip(told.shape, array.shape, strict=True):
                if set(symbols(dim)) <= set(names):
                    assert substitute(dim, names) == size, f"{value} is {told}, and has shape {array.shape}"


@settings(max_examples=250)
@given(sample=samples(), way=ways, check=st.sampled_from(["every", "every", "off"]))
def test_compiled_it_is_equal_valid_and_final(sample: Sample, way: tuple[str, str], check: str) -> None:
    check_compiled(sample, *way, check)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(STEPS))
@settings(max_examples=3)
@given(data=st.data())
def test_every_operator_is_reached(name: str, data: st.DataObject) -> None:
    sample = data.draw(samples(first=name, steps=2))
    assert name in sample.names
    check_compiled(sample, "O2", "cpu", "every")


@settings(max_examples=150)
@given(sample=samples(), opset=st.integers(OLDEST, NEWEST))
def test_at_another_opset_it_is_the_same_or_refused(sample: Sample, opset: int) -> None:
    graph = sample.graph
    try:
        data = to_bytes(graph, opset=opset)
    except OpsetError:
        return
    back = loaded(data)
    check_valid(back)
    check_interface(graph, back)
    if not sample.is_random:
        assert interpreted(graph, back, sample, exact=False) == []
    assert run_apart(to_bytes(graph), data, graph, sample, exact=False) == ""


# ---- What these found


def test_a_loop_has_two_operands_at_least() -> None:
    graph = graphopt.parse("""(%n: i64[], %x: f32[N]) -> (%y) {
      %y = Loop(%n) {body=graph "b" (%i: i64[], %g: bool[]) -> (%h, %c) {
          %h = Identity(%g)
          %c = Identity(%x)
        }}
    }""")
    assert list(onnx.load_from_string(to_bytes(graph)).graph.node[0].input) == ["n", ""]
    with pytest.raises(OpsetError, match="Loop that carries nothing needs opset 11"):
        to_bytes(graph, opset=10)


def test_one_node_of_a_branch_takes_the_name_of_its_if() -> None:
    """ONNX Runtime refuses two nodes of one name."""
    graph = graphopt.parse("""(%x: f32[2]) -> (%y, %z) {
      %one: bool[] = dense true
      %y: f32[2], %z: f32[2] = If(%one) {then_branch=graph "t" () -> (%b, %d) {
          %a = Reshape(%x, %s)
          %b = Abs(%a)
          %d = Reshape(%x, %s)
        }, else_branch=graph "e" () -> (%e, %f) {
          %e = Identity(%x)
          %f = Identity(%x)
        }} @"choice"
    }""".replace("%one:", "%s: i64[1] = dense[2]\n      %one:"))  # fmt: skip
    result = optimize(graph, passes=["inline_branches"]).graph
    named = [n.name for n in result.nodes if n.name]
    assert len(list(result.nodes)) == 3
    assert sorted(set(named)) == sorted(named)


def test_branches_in_a_loop_know_what_it_carries() -> None:
    text = """(%n: i64[], %p: bool[], %x: f32[N, 3]) -> (%y) {
      %y = Loop(%n, _, %x) {body=graph "b" (%i: i64[], %g: bool[], %a: f32[*]) -> (%h, %c) {
          %h = Identity(%g)
          %c = If(%p) {then_branch=graph "t" () -> (%d) {
              %d: f32[*] = Relu(%a)
            }, else_branch=graph "e" () -> (%e) {
              %e: f32[*] = Abs(%a)
            }}
        }}
    }"""
    (loop,) = loaded(to_bytes(graphopt.parse(text))).nodes
    assert str(loop.result.type) == "f32[N, 3]"
    (choice,) = (n for n in loop.op.graphs[0].nodes if n.op.name == "If")
    assert {str(g.outputs[0].type) for g in choice.op.graphs} == {"f32[N, 3]"}


def test_the_turn_of_a_loop_whose_shapes_change_is_a_number() -> None:
    text = """(%n: i64[], %x: f32[N, 3]) -> (%y) {
      %k: i64[2] = dense[3, 3]
      %y, %z, %w = Loop(%n, _, %x, %x, %x) {body=graph "body" (%i: i64[], %g: bool[], %a: f32[*], %b: f32[*],
          %c: f32[*]) -> (%h, %d, %e, %f) {
          %h = Identity(%g)
          %d = Identity(%b)
          %e = Identity(%c)
          %f = Reshape(%a, %k)
        }}
    }"""
    (loop,) = loaded(to_bytes(graphopt.parse(text))).nodes
    assert [str(v.type) for v in loop.op.graphs[0].inputs[:2]] == ["i64[]", "bool[]"]


def test_a_branch_that_takes_other_shapes_than_the_check_tries_is_no_fault() -> None:
    graph = graphopt.parse("""(%x: f32[N, 1]) -> (%y) {
      %s: i64[1] = dense[1]
      %one: bool[] = dense true
      %y: f32[1] = If(%one) {then_branch=graph "t" () -> (%a) {
          %a = Reshape(%x, %s)
        }, else_branch=graph "e" () -> (%b) {
          %b = Reshape(%x, %s)
        }}
    }""")
    result = optimize(graph, check="every")
    assert result.quarantined == ()
    assert [n.op.name for n in result.graph.nodes] == ["Reshape"]


def test_text_says_which_unnamed_dims_are_the_same() -> None:
    text = """(%n: i64[]) -> (%y) {
      %i: i64[] = dense 0
      %v: f32[?0] = HannWindow(%n)
      %s: seq<f32[?0]> = SequenceConstruct(%v)
      %m: seq<f32[?0]> = SequenceMap(%s) {body=graph "b" (%a: f32[?0]) -> (%c) {
          %c: f32[?0] = Neg(%a)
        }}
      %y: f32[?0] = SequenceAt(%m, %i)
    }"""
    graph = graphopt.parse(text)
    assert difference(graph, graphopt.parse(graphopt.text(graph))) is None
    assert graphopt.text(graph).count("?0") == text.count("?0")
