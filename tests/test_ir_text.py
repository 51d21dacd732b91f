"""The IR's text form: `parse` is the inverse of `print_graph`, and broken text ends in a `ParseError` with its line."""

from __future__ import annotations

import re
from types import MappingProxyType

import numpy as np
import pytest
from graphs import constants, graphs
from hypothesis import example, given, settings
from hypothesis import strategies as st

from graphopt.errors import GraphError, ParseError
from graphopt.ir.attributes import Attribute, Kind
from graphopt.ir.constant import Constant
from graphopt.ir.dims import symbol
from graphopt.ir.graph import Graph, ModelInfo, Node, Value
from graphopt.ir.operator import Opaque
from graphopt.ir.text import difference, parse, print_graph
from graphopt.ir.types import DTYPES, TensorType, f32, i64
from graphopt.ir.verifier import verify

SAMPLE = """graph "main" opset {"": 20, "com.ms": 1} (%x: f32[N, 3, 8, 8], %k: f32[2] = dense[1.0, -0.5]) -> (%y) {
  %w: f32[64, 3, 7, 7] = dense<sha256:0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f>
  %s: i64[4] = dense[0, -1, 2, 3]
  %e: f32[64] = splat 0.5
  %"l/0:0": f32[] = dense 1.5
  %c: f32[N, 64, 4, 4] = Conv(%x, %w, _) {pads=[3, 3, 3, 3], strides=[2, 2]} @"layer1.conv"
  %a: f32[N, 64], %b: ? = com.ms::Foo(%c) {mode="x", empty=ints[], scale=0.1, t=i64[2] dense[1, 2]}
  %y: f32[*], _ = Bar(%"l/0:0", %a)
}"""


def attribute(text: str) -> Attribute:
    (node,) = parse(f"() -> () {{ Op() {{a={text}}} }}").nodes
    return node.op.attributes["a"]


def constant(text: str) -> Constant:
    (value,) = parse(f"() -> () {{ %c: {text} }}").constants
    assert value.constant is not None
    return value.constant


# ---- round trips


@settings(max_examples=300)
@given(graphs())
def test_parse_is_the_inverse_of_print(graph: Graph) -> None:
    verify(graph)
    text = print_graph(graph)
    again = parse(text)
    verify(again)
    assert difference(graph, again) is None
    assert difference(again, graph) is None


@given(graphs())
def test_one_line_a_node(graph: Graph) -> None:
    inside = sum(1 for _ in graph.walk())
    values = sum(len(g.constants) for g in graph.graphs())
    ends = sum(1 for _ in graph.graphs())
    assert len(print_graph(graph).splitlines()) == inside + values + 1 + ends


@given(constants())
def test_constants_read_back_bit_for_bit(value: Constant) -> None:
    graph = Graph()
    graph.add_constant(value)
    (again,) = parse(print_graph(graph)).constants
    assert again.constant is not None
    assert again.constant.type == value.type
    assert again.constant.digest() == value.digest()
    assert again.constant.same(value)


@pytest.mark.parametrize("name", [d.name for d in DTYPES.values() if 0 < d.bits <= 8])
def test_every_code_of_narrow_dtypes(name: str) -> None:
    dtype = DTYPES[name]
    codes = np.arange(2 if dtype.kind == "bool" else 1 << dtype.bits, dtype=np.uint8)
    if dtype.bits < 8 and dtype.is_integer:
        codes = (codes.astype(np.int8) - (1 << dtype.bits - 1 if dtype.kind == "int" else 0)).astype(dtype.numpy)
    for code in codes:
        one = Constant(TensorType(dtype, ()), array=np.array(code).view(dtype.numpy))
        graph = Graph()
        graph.add_constant(one)
        (again,) = parse(print_graph(graph)).constants
        assert again.constant is not None
        assert bytes(next(again.constant.chunks())) == bytes(next(one.chunks()))


def test_the_sample_prints_as_it_is_written() -> None:
    graph = parse(SAMPLE)
    assert print_graph(graph) == SAMPLE
    assert str(graph) == SAMPLE
    verify(graph)


def test_subgraphs_read_what_is_around_them() -> None:
    graph = parse("""(%x: f32[2], %p: bool[]) -> (%y) {
      %k: f32[2] = dense[1.0, 2.0]
      %y = If(%p) {then_branch=graph "t" () -> (%a) {
        %a = Add(%x, %k)
      }, else_branch=graph "e" () -> (%a) {
        %a = Loop() {body=(%i: i64[]) -> (%x) { }}
      }}
    }""")
    verify(graph)
    (node,) = graph.nodes
    then, other = node.op.graphs
    assert [g.outer for g in (then, other)] == [graph, graph]
    assert then.owner is node
    x = graph.inputs[0]
    assert {u.user for u in x.uses} == {next(then.nodes), next(other.nodes).op.graphs[0]}
    assert difference(graph, parse(print_graph(graph))) is None


# ---- what is printed


def test_large_constants_by_digest_small_ones_by_content() -> None:
    graph = Graph()
    small, large = np.arange(16, dtype=np.float32), np.arange(17, dtype=np.float32)
    for array in (small, large, np.full((9, 9), -0.0, np.float16), np.zeros((0, 2), np.int8)):
        graph.add_constant(Constant.of(array))
    lines = print_graph(graph).splitlines()[1:-1]
    assert lines[0].endswith(
        "dense[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0]"
    )
    assert lines[1].endswith(f"f32[17] = dense<sha256:{Constant.of(large).digest()}>")
    assert lines[2].endswith("f16[9, 9] = splat -0.0")
    assert lines[3].endswith("i8[0, 2] = dense[]")


def test_almost_equal_elements_are_no_splat() -> None:
    for bits in ([0, 0x80000000] * 9, [0x7FC00000] * 200_000 + [0x7FC00001], [0] * 40 + [1]):
        graph = Graph()
        value = Constant.of(np.array(bits, np.uint32).view(np.float32))
        graph.add_constant(value)
        assert f"dense<sha256:{value.digest()}>" in print_graph(graph)


def test_digests_come_back_with_their_data_or_without() -> None:
    data = Constant.of(np.arange(40.0))
    graph = Graph()
    graph.add_constant(data)
    text = print_graph(graph)
    with_data = parse(text, constants={data.digest(): data}).constants[0].constant
    without = parse(text).constants[0].constant
    assert with_data is data
    assert without is not None
    assert without.is_absent
    assert without.same(data)
    with pytest.raises(GraphError, match="digest"):
        without.array()


def test_data_of_another_type_is_refused() -> None:
    data = Constant.of(np.arange(40.0))
    text = f"() -> () {{\n %c: f32[40] = dense<sha256:{data.digest()}>\n}}"
    with pytest.raises(ParseError, match=r"line 2: .*f64"):
        parse(text, constants={data.digest(): data})


def test_elided_constants_show_types_only() -> None:
    text = print_graph(parse(SAMPLE), constants="elide")
    assert "%w: f32[64, 3, 7, 7]\n" in text
    assert "0f0f" not in text
    assert "-0.5" not in text
    assert "%k: f32[2] = ..." in text


def test_names_of_nodes_are_left_out_on_request() -> None:
    graph = parse(SAMPLE)
    assert '@"layer1.conv"' in print_graph(graph)
    assert "@" not in print_graph(graph, names=False)


def test_unnamed_dims_are_numbered_as_they_appear() -> None:
    graph = parse("(%x: f32[?17, ?4], %y: f32[?4, ?a, N]) -> () {}")
    assert print_graph(graph).startswith('graph "graph" opset {"": 21} (%x: f32[?0, ?1], %y: f32[?1, ?2, N]) -> ()')
    other = parse("(%x: f32[?b, ?c], %y: f32[?c, ?d, N]) -> () {}")
    assert difference(graph, other) is None
    assert difference(graph, parse("(%x: f32[?b, ?c], %y: f32[?b, ?d, N]) -> () {}")) is not None
    assert difference(graph, parse("(%x: f32[?b, N], %y: f32[N, ?d, N]) -> () {}")) is not None


def test_shortest_floats() -> None:
    graph = Graph()
    for dtype, values in (
        (np.float32, [0.1, 1e-5, 3.4028235e38, 1e-45, np.nan, np.inf, -np.inf, -0.0, 16777216.0]),
        (np.float16, [0.1, 65504.0, 6e-8]),
        (np.float64, [0.1, 1 / 3, 5e-324]),
    ):
        graph.add_constant(Constant.of(np.array(values, dtype)))
    graph.add_constant(Constant.of(np.array([0.1, 3.0, 1e30], DTYPES["bf16"].numpy)))
    texts = [re.search(r"\[([^]]*)\]$", line)[1] for line in print_graph(graph).splitlines()[1:-1]]  # type: ignore[index]
    assert texts == [
        "0.1, 1e-05, 3.4028235e+38, 1e-45, nan, inf, -inf, -0.0, 16777216.0",
        "0.1, 65500.0, 6e-08",
        "0.1, 0.3333333333333333, 5e-324",
        "0.1, 3.0, 1e+30",
    ]


def test_a_default_of_another_type_than_its_input() -> None:
    text = "(%x: f32[N] = f32[2] dense[1.0, 2.0], %y: ? = i64[] dense 3) -> () {}"
    graph = parse(text)
    assert graph.inputs[0].type == f32["N"]
    assert graph.inputs[0].constant == Constant.of(np.array([1, 2], np.float32))
    assert graph.inputs[1].type is None
    assert difference(graph, parse(print_graph(graph))) is None


# ---- what is read and never printed


def test_header_and_types_may_be_left_out() -> None:
    graph = parse("(%x: f32[N], %z) -> (%y) { # a comment\n %y, %u = Relu(%x) # } another\n}")
    assert graph.name == "graph"
    assert graph.info.opsets == ModelInfo().opsets
    assert [v.type for v in graph.values()] == [f32["N"], None, None, None]
    named = parse('graph "g" (%x) -> (%x) {}')
    assert named.name == "g"
    assert parse("graph () -> () {}").name == "graph"
    with pytest.raises(GraphError, match="sealed"):
        graph.append(Opaque("Relu"), [graph.inputs[0]])


def test_random_data_is_that_of_pcg64() -> None:
    rng = np.random.Generator(np.random.PCG64(7))
    expected = rng.standard_normal((3, 4)).astype(np.float32)
    np.testing.assert_array_equal(constant("f32[3, 4] = random 7").array(), expected)
    uniform = constant("f64[1000] = random 1 uniform 0.5 1.5").array()
    assert uniform.min() >= 0.5
    assert uniform.max() < 1.5
    assert np.std(uniform) > 0.2
    whole = constant("i8[200] = random 2 uniform -3 4").array()
    assert set(whole.tolist()) == set(range(-3, 4))
    assert set(constant("u2[100] = random 2").array().tolist()) == {0, 1, 2, 3}
    assert set(constant("bool[50] = random 2").array().tolist()) == {True, False}
    assert not constant("bf16[5] = random 3").same(constant("bf16[5] = random 4"))


def test_rooms_are_made_by_the_caller() -> None:
    calls = []

    def make(domain: str, name: str, attributes: object) -> Opaque:
        calls.append((domain, name, attributes))
        return Opaque(name, domain)

    parse('() -> () { a.b::Foo() {k=1} Bar() "B az"() Own!3() Over<"x">() }', make=make)
    assert calls == [
        ("a.b", "Foo", {"k": Attribute(Kind.INT, 1)}),
        ("", "Bar", {}),
        ("", "B az", {}),
    ]


def test_kinds_of_attributes() -> None:
    assert attribute("1") == Attribute(Kind.INT, 1)
    assert attribute("1.0") == Attribute(Kind.FLOAT, 1.0)
    assert attribute("1e-1") == Attribute(Kind.FLOAT, float(np.float32(0.1)))
    assert attribute("-inf") == Attribute(Kind.FLOAT, float("-inf"))
    assert attribute('"a\\n"') == Attribute(Kind.STRING, "a\n")
    assert attribute('b"ff00"') == Attribute(Kind.STRING, b"\xff\0")
    assert attribute("[1, -2]") == Attribute(Kind.INTS, (1, -2))
    assert attribute("[1.0, inf]") == Attribute(Kind.FLOATS, (1.0, float("inf")))
    assert attribute('["a", b"ff"]') == Attribute(Kind.STRINGS, ("a", b"\xff"))
    for word, kind in [("ints", Kind.INTS), ("floats", Kind.FLOATS), ("strings", Kind.STRINGS)]:
        assert attribute(f"{word}[]") == Attribute(kind, ())
    assert attribute("tensors[]") == Attribute(Kind.TENSORS, ())
    assert attribute("graphs[]") == Attribute(Kind.GRAPHS, ())
    assert attribute("f32[2] splat 1.0") == Attribute(Kind.TENSOR, Constant.of(np.ones(2, np.float32)))
    assert attribute('sparse b"0a"') == Attribute(Kind.SPARSE_TENSOR, b"\n")
    assert attribute('type b""') == Attribute(Kind.TYPE_PROTO, b"")
    assert attribute('types[type b""]') == Attribute(Kind.TYPE_PROTOS, (b"",))


def test_large_splats_take_no_memory_until_they_are_used() -> None:
    value = constant("f32[1000000, 1000000, 1000000] = splat 0.5")
    assert value.is_recipe
    assert value.nbytes == 4 * 10**18


# ---- errors


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", 1, "expected"),
        ("(%x) -> (%x) {", 1, "the end"),
        ("(%x) -> (%x) {}\n\n%", 3, "%"),
        ("(%x) -> (%x) {}\n(%x) -> (%x) {}", 2, "end of the text"),
        ("(%x)\n-> (%y) {}", 2, "%y"),
        ("(%x)\n-> (%x) {\n %y = Relu(%z)\n}", 3, "%z"),
        ("(%x) -> (%x) {\n %y = Relu(%y)\n}", 2, "%y"),
        ("(%x) -> (%x) {\n %a = Relu(%x)\n %a = Relu(%x)\n}", 3, "%a is defined twice"),
        ("(%x, %x) -> (%x) {\n}", 1, "%x is defined twice"),
        ("(%x) -> (%x) {\n %y = If() {a=(%x) -> () {}}\n}", 2, "%x is defined twice"),
        ("(%x: f31[2]) -> (%x) {\n}", 1, "type"),
        ("(%x: f32[2) -> (%x) {\n}", 1, "expected"),
        ("(%x: f32[N//0]) -> (%x) {\n}", 1, "zero"),
        ("(%x: f32[2,]) -> (%x) {\n}", 1, "dim"),
        ("(%x: f32[*, 2]) -> (%x) {\n}", 1, "dim"),
        ("(%x: foreign<abc>) -> (%x) {\n}", 1, "hex"),
        ("(%x: seq<f32[2]) -> (%x) {\n}", 1, "`>`"),
        ("() -> () {\n\n %c: f32[2] = dense[1.0]\n}", 3, "2 elements"),
        ("() -> () {\n %c: f32[2] = dense[1.0, 2.0, 3.0]\n}", 2, "2 elements"),
        ("() -> () {\n %c: f32[2] = dense[1.0 2.0]\n}", 2, "expected"),
        ("() -> () {\n %c: f32[N] = dense[1.0]\n}", 2, "static shape"),
        ("() -> () {\n %c: f32[-1] = splat 1.0\n}", 2, "static shape"),
        ("() -> () {\n %c = dense[1.0]\n}", 2, "type"),
        ("() -> () {\n %c: f32[2] = dense 1.0\n}", 2, "splat"),
        ("() -> () {\n %c: i8[1] = dense[128]\n}", 2, "range of i8"),
        ("() -> () {\n %c: u4[1] = dense[-1]\n}", 2, "range of u4"),
        ("() -> () {\n %c: i8[1] = dense[1.5]\n}", 2, "integer"),
        ("() -> () {\n %c: f16[1] = dense[1e6]\n}", 2, "range of f16"),
        ("() -> () {\n %c: f32[1] = dense[0x1ffffffff]\n}", 2, "bits"),
        ("() -> () {\n %c: f32[1] = dense[true]\n}", 2, "number"),
        ("() -> () {\n %c: bool[1] = dense[1]\n}", 2, "true or false"),
        ("() -> () {\n %c: str[1] = dense[1]\n}", 2, "string"),
        ('() -> () {\n %c: str[1] = dense["\\q"]\n}', 2, "string"),
        ("() -> () {\n %c: c64[1] = dense[(1.0, 2.0, 3.0)]\n}", 2, "pairs"),
        ("() -> () {\n %c: f32[20] = dense<...>\n}", 2, "sha256"),
        ("() -> () {\n %c: f32[20] = dense<sha256:12>\n}", 2, "sha256"),
        ("() -> () {\n %c: f32[20]\n}", 3, "`=`"),
        ("() -> () {\n %c: str[2] = random 1\n}", 2, "random"),
        ("() -> () {\n %c: f32[2] = random -1\n}", 2, "seed"),
        ("() -> () {\n %c: f32[2] = random x\n}", 2, "seed"),
        ("() -> () {\n %c: f32[2] = random 1 uniform 2.0 1.0\n}", 2, "uniform"),
        ("() -> () {\n %c: u8[2] = random 1 uniform 0 300\n}", 2, "u8"),
        ("() -> () {\n %c: f32[1000000, 1000000] = random 1\n}", 2, "random"),
        ("() -> () {\n %a, %b: f32[1] = dense[1.0]\n}", 2, "one value"),
        ("() -> () {\n Op() {a=[]}\n}", 2, "ints[]"),
        ("() -> () {\n Op() {a=[1, 2.0]}\n}", 2, "list"),
        ("() -> () {\n Op() {a=ints[1.0]}\n}", 2, "list"),
        ("() -> () {\n Op() {a=1, a=2}\n}", 2, "twice"),
        ("() -> () {\n Op() {a=99999999999999999999}\n}", 2, "64 bits"),
        ("() -> () {\n Op() {a=" + "9" * 5000 + "}\n}", 2, "expected an integer"),
        ("() -> () {\n Op() {a=1e999}\n}", 2, "range of f32"),
        ('() -> () {\n Op() {a="\n"}\n}', 2, "expected"),
        ('() -> () {\n Op() {a=b"abc"}\n}', 2, "string"),
        ('() -> () {\n Op() {a="\\ud800"}\n}', 2, "string"),
        ("() -> () {\n Op() {a=sparse 1}\n}", 2, "bytes"),
        ("() -> () {\n Op() {=1}\n}", 2, "attribute"),
        ("() -> () {\n Op(1)\n}", 2, "value"),
        ("() -> () {\n Op() @conv\n}", 2, "quotes"),
        ("() -> () {\n %x = 5\n}", 2, "operator"),
        ("() -> () {\n = Op()\n}", 2, "a node"),
        ("() -> () {\n Op!x()\n}", 2, "version"),
        ('graph "g" opset {"": x} () -> () {\n}', 1, "version"),
        ('graph "g" opset {x: 1} () -> () {\n}', 1, "domain"),
        ('() -> () {\n Op() {a=graph opset {"": 1} () -> () {}}\n}', 2, "opset"),
        ("(%x: " + "seq<" * 10_000 + ") -> () {}", 1, "nested"),
        ("() -> () {\n" + "Op() {a=() -> () {" * 10_000, 2, "nested"),
        ("(%x: f32[" + "(" * 1000 + "]) -> () {}", 1, "nested"),
        ("() -> () {\n Op() {a=" + "[" * 10_000, 2, "expected"),
    ],
)
def test_broken_text(text: str, line: int, says: str) -> None:
    with pytest.raises(ParseError) as error:
        parse(text)
    assert re.match(rf"line {line}: ", str(error.value)), error.value
    assert says in str(error.value)
    assert len(str(error.value)) < 300


@given(st.data())
@example(None)
def test_cut_and_spoiled_text_never_ends_otherwise(data: st.DataObject | None) -> None:
    places = range(len(SAMPLE)) if data is None else [data.draw(st.integers(0, len(SAMPLE)))]
    for at in places:
        middle = "" if data is None else data.draw(st.text('%"()[]{}<>=,:@?_#-.0123456789abefnx \n', max_size=3))
        rest = "" if data is None else SAMPLE[at + data.draw(st.integers(0, 5)) :]
        message = ""
        try:
            verify(parse(SAMPLE[:at] + middle + rest))
        except ParseError as error:
            message = str(error)
        assert not message or re.match(r"line \d+: ", message)


# ---- same


SPOILED = [
    ('graph "main"', 'graph "other"', "called"),
    ('{"": 20,', '{"": 21,', "opsets"),
    ("f32[N, 3, 8, 8]", "f32[M, 3, 8, 8]", "%x has the types"),
    ("f32[N, 3, 8, 8]", "f16[N, 3, 8, 8]", "%x has the types"),
    ("(%x: ", "(%z: f32[], %x: ", "inputs"),
    (" = dense[1.0, -0.5]", "", "%k has data in one of them only"),
    ("-0.5", "-0.25", "%k has other data"),
    ("dense<sha256:0f", "dense<sha256:1f", "%w has other data"),
    ("splat 0.5", "splat 0.25", "%e has other data"),
    ("dense[0, -1, 2, 3]", "dense[0, -1, 2, 4]", "%s has other data"),
    ("  %s: i64[4] = dense[0, -1, 2, 3]\n", "", "constants"),
    ("%s: i64", "%t: i64", "%s is called %t"),
    ("Conv(", "Convolve(", "Convolve"),
    ("Conv(", "Conv!3(", "Conv!3"),
    ("com.ms::", "com.other::", "com.other::Foo"),
    ("%w, _", "%w", "operands"),
    ("%w, _", "%w, %e", "operand 2"),
    ("(%x, %w", "(%e, %w", "operand 0"),
    ("strides=[2, 2]", "strides=[2, 1]", "strides"),
    ("strides=[2, 2]", "stride=[2, 2]", "attributes"),
    ("strides=[2, 2]", "strides=[2.0, 2.0]", "INTS"),
    ("empty=ints[]", "empty=floats[]", "INTS"),
    ("scale=0.1", "scale=0.2", "scale"),
    ('mode="x"', 'mode=b"78"', "mode"),
    ("dense[1, 2]", "dense[1, 3]", "attribute t"),
    ("%b: ?", "%b: f32[*]", "%b has the types"),
    ("%y: f32[*], _", "%y: f32[*]", "results"),
    ("-> (%y)", "-> (%a)", "output 0"),
    ("-> (%y)", "-> (%y, %y)", "outputs"),
    ('@"layer1.conv"', '@"layer1"', "layer1"),
    ("  %y: f32[*], _ = Bar", "  Baz()\n  %y: f32[*], _ = Bar", "nodes"),
]


@pytest.mark.parametrize(("old", "new", "says"), SPOILED)
def test_same_names_the_first_difference(old: str, new: str, says: str) -> None:
    assert old in SAMPLE
    a, b = parse(SAMPLE), parse(SAMPLE.replace(old, new))
    assert says in (difference(a, b) or "")
    assert difference(b, a) is not None
    assert difference(a, parse(SAMPLE)) is None


def test_same_looks_into_subgraphs() -> None:
    text = '(%x, %z) -> (%y) {\n %y = If(%x) {a=graph "g" () -> (%o) { %o = Op(%x) {k=1} }}\n}'
    for old, new in [("Op(%x)", "Op(%z)"), ("k=1", "k=2"), ("Op", "Po"), ('"g"', '"h"'), ("(%o) {", "(%x) {")]:
        assert difference(parse(text), parse(text.replace(old, new))) is not None
    assert difference(parse(text), parse(text)) is None


def test_same_ignores_the_order_of_attributes_and_rooms() -> None:
    assert difference(parse("() -> () { Op() {a=1, b=2} }"), parse("() -> () { Op() {b=2, a=1} }")) is None


def test_nan_is_the_same_as_itself_and_zeros_have_signs() -> None:
    def of(value: float) -> Graph:
        graph = Graph()
        graph.append(Opaque("Op", "", MappingProxyType({"a": Attribute(Kind.FLOAT, value)})), [])
        return graph

    assert difference(of(float("nan")), of(float("nan"))) is None
    assert difference(of(0.0), of(-0.0)) is not None


def test_values_are_told_apart_beyond_their_names() -> None:
    def of(which: int) -> Graph:
        graph = Graph()
        both = [graph.add_input(Value("x", f32["N"])), graph.add_input(Value("x", f32["N"]))]
        graph.insert(Node(Opaque("Op"), [both[which]], [Value("y")]))
        return graph

    assert difference(of(0), of(0)) is None
    assert difference(of(0), of(1)) is not None


def test_dims_in_types_keep_their_form() -> None:
    graph = Graph()
    n, odd = symbol("N"), symbol('odd "]name, ')
    graph.add_input(Value("x", TensorType(i64, ((n + 3) // 2 * 4 - 1, odd, odd * n))))
    assert parse(print_graph(graph)).inputs[0].type == graph.inputs[0].type
