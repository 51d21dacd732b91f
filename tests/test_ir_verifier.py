"""The verifier finds every broken rule; each case breaks one in a graph that was right."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from graphs import graphs
from hypothesis import given

from graphopt.errors import GraphError
from graphopt.ir.constant import Constant
from graphopt.ir.graph import Graph, Node, Use, Value, copy_graph
from graphopt.ir.operator import Opaque
from graphopt.ir.text import parse
from graphopt.ir.types import Type, f32
from graphopt.ir.verifier import verify

TEXT = """(%x: f32[2], %p: bool[]) -> (%y, %a) {
  %k: f32[2] = dense[3.0, 4.0]
  %a: f32[2] = Add(%x, %k)
  %b: f32[2] = If(%p) {then_branch=graph "yes" () -> (%t) {
    %u: f32[2] = Mul(%a, %k)
    %t: f32[2] = Relu(%u)
  }}
  %c: f32[2], %d: f32[2] = Split(%b)
  %y: f32[2] = Add(%c, %a)
}"""


class Parts:
    """The graph with its parts by name."""

    def __init__(self) -> None:
        self.graph = copy_graph(parse(TEXT))  # open, so that anything can be spoiled
        self.body = next(n.op.graphs[0] for n in self.graph.nodes if n.op.graphs)
        for graph in (self.graph, self.body):
            for value in graph.values():
                setattr(self, value.name, value)

    def __getattr__(self, name: str) -> Value:
        raise AttributeError(name)

    def node(self, name: str) -> Node:
        producer = getattr(self, name).producer
        assert isinstance(producer, Node)
        return producer


def put(target: object, name: str, value: object) -> None:
    setattr(target, name, value)


def swap_neighbours(parts: Parts) -> None:
    """The list says %y, %c although %y reads %c."""
    one, other, before = parts.node("c"), parts.node("y"), parts.node("b")
    before._next, other._next, one._next = other, one, None
    other._previous, one._previous = before, other
    other._position, one._position = one._position, other._position
    parts.graph._last = one


BROKEN: list[tuple[str, Callable[[Parts], object], str]] = [
    ("name twice", lambda p: put(p.c, "name", "x"), "'x' is defined twice"),
    ("name twice in one node", lambda p: put(p.d, "name", "c"), "'c' is defined twice"),
    ("name of an outer value", lambda p: put(p.u, "name", "a"), "'a' is defined twice"),
    ("constant with an input's name", lambda p: put(p.k, "name", "p"), "'p' is defined twice"),
    ("value elsewhere", lambda p: put(p.c, "graph", p.body), "says that it is elsewhere"),
    ("value nowhere", lambda p: put(p.x, "graph", None), "says that it is elsewhere"),
    ("read before definition", lambda p: p.graph.set_operand(p.node("a"), 0, p.y), "reads 'y'"),
    ("read of itself", lambda p: p.graph.set_operand(p.node("a"), 0, p.a), "reads 'a'"),
    ("read out of a subgraph", lambda p: p.graph.set_operand(p.node("y"), 0, p.u), "reads 'u'"),
    ("read of the holder's result", lambda p: p.body.set_operand(p.node("u"), 0, p.b), "reads 'b'"),
    ("read of a later value inside", lambda p: p.body.set_operand(p.node("u"), 0, p.c), "reads 'c'"),
    ("dangling operand", lambda p: p.graph.set_operand(p.node("y"), 1, Value("lost")), "reads 'lost'"),
    ("another value of that name", lambda p: p.graph.set_operand(p.node("y"), 1, Value("a")), "reads 'a'"),
    ("order", swap_neighbours, "reads 'c'"),
    ("output undefined", lambda p: p.graph.set_output(0, Value("lost")), "output 'lost' is not defined"),
    ("output inside", lambda p: p.graph.set_output(0, p.u), "output 'u' is not defined"),
    ("inner output undefined", lambda p: p.body.set_output(0, p.y), "output 'y' is not defined"),
    ("use unknown", lambda p: p.a._drop_use(Use(p.node("y"), 1)), "%a: .*does not know that <Add 'y'> reads it"),
    ("captured use unknown", lambda p: p.k._drop_use(Use(p.node("u"), 1)), "%k: .*<Mul 'u'> reads it"),
    ("output's use unknown", lambda p: p.a._drop_use(Use(p.graph, 1)), "%a: .*<Graph 'graph'.*reads it"),
    ("inner output's use unknown", lambda p: p.t._drop_use(Use(p.body, 0)), "%t: .*<Graph 'yes'.*reads it"),
    (
        "use that is none",
        lambda p: p.d._add_use(Use(p.node("y"), 0)),
        "%d: .*says that <Add 'y'> reads it as operand 0",
    ),
    ("use of a node that is gone", lambda p: p.a._add_use(Use(Node(Opaque("Op"), []), 0)), "%a: .*says that <Op"),
    ("use of an inner node", lambda p: p.x._add_use(Use(p.node("u"), 0)), "%x: .*says that <Mul 'u'>"),
    ("use of another operand", lambda p: p.a._add_use(Use(p.node("u"), 1)), "%a: .*as operand 1"),
    ("producer", lambda p: put(p.c, "producer", p.node("y")), "%c: .*does not know its producer <Split"),
    ("no producer", lambda p: put(p.c, "producer", None), "does not know its producer"),
    ("index", lambda p: put(p.d, "index", 0), "%d: .*does not know its producer"),
    ("input with a producer", lambda p: put(p.x, "producer", p.node("a")), "%x: .*says that <Add 'a'> makes it"),
    ("constant without data", lambda p: put(p.k, "constant", None), "%k: .*has no data"),
    ("owner", lambda p: put(p.body, "owner", p.node("a")), "subgraph of <If 'b'>"),
    ("no owner", lambda p: put(p.body, "owner", None), "subgraph of <If 'b'>"),
    ("outer", lambda p: put(p.body, "outer", None), "subgraph of <If 'b'>"),
    ("node elsewhere", lambda p: put(p.node("c"), "graph", p.body), "not linked"),
    ("link back", lambda p: put(p.node("c"), "_previous", p.node("a")), "<Split 'c'> is not linked"),
    ("link forward", lambda p: put(p.node("a"), "_next", p.node("c")), "<Split 'c'> is not linked"),
    ("end", lambda p: put(p.node("c"), "_next", None), "counts 4 nodes"),
    ("last", lambda p: put(p.graph, "_last", p.node("a")), "nodes"),
    ("count", lambda p: put(p.body, "_count", 3), "'yes' counts 3 nodes, and 2"),
    ("position", lambda p: put(p.node("c"), "_position", -1), "<Split 'c'> has a position"),
    ("id", lambda p: put(p.node("t"), "id", p.node("a").id), "<Relu 't'> and <Add 'a'> have the same id"),
    ("result of two nodes", lambda p: put(p.node("y"), "results", (p.y, p.c)), "%c: .*does not know its producer"),
    ("result twice", lambda p: put(p.node("c"), "results", (p.c, p.c)), "%c"),
    ("input twice", lambda p: p.graph._constants.update({p.x: 9}), "'x' is listed twice"),
]


@pytest.mark.parametrize(("spoil", "says"), [c[1:] for c in BROKEN], ids=[c[0] for c in BROKEN])
def test_a_broken_rule_is_found(spoil: Callable[[Parts], object], says: str) -> None:
    parts = Parts()
    verify(parts.graph)
    spoil(parts)
    with pytest.raises(GraphError, match=says):
        verify(parts.graph)


@given(graphs())
def test_whole_graphs_and_their_subgraphs_pass(graph: Graph) -> None:
    for each in graph.graphs():
        verify(each)


def test_a_subgraph_by_itself() -> None:
    parts = Parts()
    verify(parts.body)
    parts.body.set_operand(parts.node("t"), 0, Value("lost"))
    with pytest.raises(GraphError, match="reads 'lost'"):
        verify(parts.body)


def test_names_may_recur_where_nobody_sees_both() -> None:
    verify(
        parse("""(%p) -> (%t) {
      %a = If(%p) {x=() -> (%t) { %t = One() }, y=() -> (%t) { %t = Two() }}
      %t = Three()
    }""")
    )


def test_results_left_out_share_their_name() -> None:
    verify(parse("() -> (%y) {\n _, _, %y = Op()\n _ = Op()\n}"))


# ---- types


def test_types_against_the_rule() -> None:
    parts = Parts()
    asked = []

    def infer(node: Node) -> list[Type | None]:
        asked.append(node.label)
        return [f32[2] if node.op.name == "Split" else None for _ in node.results]

    verify(parts.graph, infer)
    assert asked == ["a", "u", "t", "b", "c", "y"]
    parts.d.type = f32["N"]
    verify(parts.graph, infer)
    parts.d.type = f32[3]
    with pytest.raises(GraphError, match=r"<Split 'c'> gives f32\[2\], and %d: f32\[3\] is declared: dim 3 is not 2"):
        verify(parts.graph, infer)


def test_a_rule_that_gives_another_count_of_results() -> None:
    with pytest.raises(GraphError, match="<Add 'a'> has 1 results, and its rule gives 2"):
        verify(Parts().graph, lambda _: [None, None])


def test_inner_types_are_checked_too() -> None:
    def infer(node: Node) -> list[Type | None]:
        return [f32[7] if r.name == "u" else None for r in node.results]

    with pytest.raises(GraphError, match="<Mul 'u'>"):
        verify(Parts().graph, infer)


def test_a_constant_in_a_subgraph() -> None:
    graph = Graph()
    body = Graph("body", outer=graph)
    body.add_constant(Constant.of(1.0))
    verify(body)
