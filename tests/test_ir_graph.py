"""Graphs: building, changing, undoing, copying, and the views of them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from types import MappingProxyType

import networkx as nx
import numpy as np
import pytest
from graphs import graphs
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.errors import GraphError
from graphopt.ir.attributes import Attribute, Kind
from graphopt.ir.constant import Constant
from graphopt.ir.graph import OMITTED, Graph, ModelInfo, Node, Use, Value, copy_graph, copy_nodes
from graphopt.ir.operator import Opaque
from graphopt.ir.text import difference, parse, print_graph
from graphopt.ir.types import f32
from graphopt.ir.verifier import verify
from graphopt.ir.view import dominators, generations, to_networkx

BRANCH = """(%x: f32[2], %p: bool[], %d: f32[2] = dense[1.0, 2.0]) -> (%y, %x) {
  %k: f32[2] = dense[3.0, 4.0]
  %unread: f32[] = dense 1.0
  %a: f32[2] = Add(%x, %k) @"first"
  %b: f32[2] = If(%p) {then_branch=graph "yes" () -> (%t) {
    %u: f32[2] = Mul(%a, %k)
    %t: f32[2] = Loop(%u) {body=(%i: i64[]) -> (%a, %v) {
      %v: f32[2] = Sub(%x, %u)
    }}
  }, else_branch=graph "no" () -> (%a) {
  }}
  %c: f32[2], _ = Split(%b)
  %y: f32[2] = Add(%c, %c)
}"""


class BoomError(Exception):
    pass


def named(graph: Graph, name: str) -> Value:
    return next(v for g in graph.graphs() for v in g.values() if v.name == name)


def node_of(graph: Graph, name: str) -> Node:
    producer = named(graph, name).producer
    assert producer is not None
    return producer


def snapshot(graph: Graph) -> list[object]:
    """All that a transaction can change, with identities."""
    found: list[object] = [print_graph(graph), graph._state.next_id, set(graph._state.names)]
    found.append({name: serial for name, serial in graph._state.serial.items() if serial})
    for inner in graph.graphs():
        found += [inner, inner.info, len(inner), inner.inputs, inner.outputs, inner.constants, inner._sealed]
        found += [inner._first, inner._last, inner.owner, list(inner.nodes)]
        for value in inner.values():
            found += [value, value.name, value.type, value.elements, value.graph, value.producer, value.uses]
            found += [value.is_input, value.is_constant, value.is_output, value.users]
        previous = None
        for node in inner.nodes:
            found += [node.id, node.op, node.operands, node.results, node.previous is previous, node.graph]
            assert previous is None or previous.precedes(node)
            previous = node
    return found


# ---- building and reading


def test_uses_are_kept_in_the_order_of_reading() -> None:
    graph = parse(BRANCH)
    verify(graph)
    x, a, k, c = (named(graph, n) for n in "xakc")
    inner = node_of(graph, "b").op.graphs
    loop = node_of(graph, "t").op.graphs[0]
    assert a.uses == (Use(node_of(graph, "u"), 0), Use(loop, 0), Use(inner[1], 0))
    assert x.uses == (Use(node_of(graph, "a"), 0), Use(node_of(graph, "v"), 0), Use(graph, 1))
    assert c.uses == (Use(node_of(graph, "y"), 0), Use(node_of(graph, "y"), 1))
    assert c.users == (node_of(graph, "y"),)
    assert k.users == (node_of(graph, "a"), node_of(graph, "u"))
    assert a.is_output
    assert x.is_output
    assert not c.is_output
    assert not named(graph, "unread").is_read


def test_what_values_are() -> None:
    graph = parse(BRANCH)
    d, k, x = (named(graph, n) for n in "dkx")
    assert (d.is_input, d.is_constant) == (True, False)
    assert (k.is_input, k.is_constant) == (False, True)
    assert (x.is_input, x.is_constant) == (True, False)
    assert Value("v").graph is None
    assert not Value("v", constant=Constant.of(1.0)).is_input
    assert repr(x) == "%x: f32[2]"
    assert repr(Value("z")) == "%z: ?"


def test_walk_and_graphs_go_outside_in() -> None:
    graph = parse(BRANCH)
    assert [n.result.name for n in graph.walk()] == ["a", "b", "u", "t", "v", "c", "y"]
    assert [g.name for g in graph.graphs()] == ["graph", "yes", "graph", "no"]
    assert len(graph) == 4
    assert all(g.root is graph for g in graph.graphs())
    assert [v.name for v in graph.values()] == ["x", "p", "d", "k", "unread", "a", "b", "c", OMITTED, "y"]
    assert graph.find("c") is named(graph, "c")
    with pytest.raises(GraphError, match="'u'"):
        graph.find("u")


def test_labels() -> None:
    graph = parse(BRANCH)
    assert node_of(graph, "a").label == "first"
    assert node_of(graph, "c").label == "c"
    assert Node(Opaque("Op"), [], 0).label == "Op"
    assert repr(node_of(graph, "a")) == "<Add 'first'>"


def test_fresh_names_are_free_in_every_subgraph() -> None:
    graph = parse(BRANCH)
    with graph.transaction():
        assert graph.fresh_name("new") == "new"
        assert graph.fresh_name("v") == "v_0"
        inner = node_of(graph, "b").op.graphs[1]
        assert inner.fresh_name("x") == "x_0"
        values = [graph.add_constant(Constant.of(1.0), "k") for _ in range(3)]
        assert [v.name for v in values] == ["k_0", "k_1", "k_2"]
        node = graph.append(Opaque("Op"), [], 2)
        assert [r.name for r in node.results] == ["v_1", "v_2"]
    verify(graph)


def test_a_name_that_ends_like_a_fresh_one_is_not_taken_twice() -> None:
    graph = Graph()
    for name in ("k", "k_0", "k_2"):
        graph.add_input(Value(name))
    made = [graph.add_constant(Constant.of(1.0), "k").name for _ in range(3)]
    assert made == ["k_1", "k_3", "k_4"]


def test_ids_count_up_and_start_again_after_an_undo() -> None:
    graph = parse(BRANCH)
    ids = [n.id for n in graph.walk()]
    assert sorted(ids) == list(range(7))

    def add() -> Node:
        return graph.append(Opaque("Op"), [graph.inputs[0]])

    with pytest.raises(BoomError), graph.transaction():  # noqa: PT012  # it raises when all is changed
        undone = add()
        assert undone.id == 7
        raise BoomError
    with graph.transaction():
        assert add().id == 7
        assert graph.insert(undone).id == 8
    assert len({n.id for n in graph.walk()}) == 9


def test_a_sealed_graph_changes_in_transactions_only() -> None:
    graph = parse(BRANCH)
    inner = node_of(graph, "b").op.graphs[0]
    x, k = named(graph, "x"), named(graph, "k")
    before = snapshot(graph)
    for change in (
        lambda: graph.add_input(Value("n")),
        lambda: graph.add_constant(Constant.of(1.0)),
        lambda: graph.append(Opaque("Op"), [x]),
        lambda: inner.append(Opaque("Op"), [x]),
        lambda: graph.erase(node_of(graph, "y")),
        lambda: graph.set_operand(node_of(graph, "y"), 0, x),
        lambda: inner.set_operand(node_of(graph, "u"), 0, x),
        lambda: graph.set_output(0, x),
        lambda: graph.set_output(2, x),
        lambda: graph.replace_uses(k, x),
        lambda: graph.rename(x, "z"),
        lambda: graph.set_type(x, None),
        lambda: graph.set_info(ModelInfo()),
        lambda: graph.remove_constant(named(graph, "unread")),
        lambda: graph.make_constant(named(graph, "d")),
    ):
        with pytest.raises(GraphError, match="transaction"):
            change()
        assert snapshot(graph) == before


def test_subgraphs_that_come_in_are_sealed_too() -> None:
    graph = parse(BRANCH)
    with graph.transaction():
        (node,) = (graph.append(_with_body(graph, [named(graph, "k")]), []),)
    with pytest.raises(GraphError, match="sealed"):
        node.op.graphs[0].append(Opaque("Op"), [])


def _with_body(graph: Graph, reads: list[Value]) -> Opaque:
    """An operator that holds a subgraph in which one node reads `reads`, and whose outputs they are too."""
    body = Graph("body", outer=graph)
    node = body.append(Opaque("Inner"), reads, [Value(graph.fresh_name("inner"))])
    for i, value in enumerate([*reads, node.result]):
        body.set_output(i, value)
    return Opaque("Outer", "", MappingProxyType({"body": Attribute(Kind.GRAPH, body)}))


# ---- changing


def test_insert_before_any_node_many_times() -> None:
    graph = parse("(%x) -> (%y) {\n %a = A(%x)\n %y = B(%a)\n}")
    with graph.transaction():
        for _ in range(3):
            anchor = graph._last
            for _ in range(60):  # halving the gap between two positions runs out after 20
                anchor = graph.insert(Node(Opaque("Op"), [graph.inputs[0]]), before=anchor)
                anchor = anchor.next
        for _ in range(40):
            graph.insert(Node(Opaque("Op"), []), before=graph._first)
    nodes = list(graph.nodes)
    assert len(nodes) == len(graph) == 222
    assert all(a.precedes(b) for a, b in pairwise(nodes))
    assert [n.previous for n in nodes] == [None, *nodes[:-1]]
    assert [n.next for n in nodes] == [*nodes[1:], None]
    verify(graph)


def test_replace_uses_reaches_outputs_and_subgraphs() -> None:
    graph = parse(BRANCH)
    a, x = named(graph, "a"), named(graph, "x")
    with graph.transaction():
        graph.replace_uses(a, x)
    verify(graph)
    assert a.uses == ()
    loop = node_of(graph, "t").op.graphs[0]
    assert loop.outputs[0] is x
    assert node_of(graph, "b").op.graphs[1].outputs == (x,)
    assert node_of(graph, "u").operands[0] is x
    with graph.transaction():
        graph.erase(node_of(graph, "a"))
    verify(graph)
    assert len(graph) == 3


def test_erase_takes_the_captures_of_subgraphs_along() -> None:
    graph = parse(BRANCH)
    a, k, x = (named(graph, n) for n in "akx")
    with graph.transaction():
        with pytest.raises(GraphError, match="still read"):
            graph.erase(node_of(graph, "a"))
        with pytest.raises(GraphError, match="not in the graph"):
            graph.erase(node_of(graph, "u"))
        graph.set_output(0, x)
        for name in "ycb":
            graph.erase(node_of(graph, name))
    verify(graph)
    assert a.uses == ()
    assert len(k.uses) == 1
    assert x.uses == (Use(node_of(graph, "a"), 0), Use(graph, 1), Use(graph, 0))


def test_a_node_gives_its_subgraphs_to_another() -> None:
    text = "(%x, %p) -> (%y) {\n %y = If(%p) {b=() -> (%t) { %t = Relu(%x) }}\n}"
    for erase_first in (False, True):
        graph = parse(text)
        before = snapshot(graph)
        for fail in (True, False):
            old = node_of(graph, "y")
            try:
                with graph.transaction():
                    new = Node(replace(old.op, name="Iff"), old.operands, [Value("z")])  # type: ignore[type-var]
                    if erase_first:
                        graph.set_output(0, graph.inputs[0])
                        graph.erase(old)
                        graph.insert(new)
                        graph.set_output(0, new.result)
                    else:
                        graph.insert(new, before=old)
                        graph.replace_uses(old.result, new.result)
                        graph.erase(old)
                    if fail:
                        raise BoomError
            except BoomError:
                assert snapshot(graph) == before
        verify(graph)
        assert graph.inputs[0].users == (next(next(graph.nodes).op.graphs[0].nodes),)


def test_make_constant() -> None:
    graph = parse(BRANCH)
    d, x = named(graph, "d"), named(graph, "x")
    with graph.transaction():
        with pytest.raises(GraphError, match="%x"):
            graph.make_constant(x)
        graph.make_constant(d)
    assert d.is_constant
    assert graph.inputs == (x, named(graph, "p"))
    assert graph.constants[-1] is d
    verify(graph)


def test_constants_that_are_read_stay() -> None:
    graph = parse(BRANCH)
    with graph.transaction():
        with pytest.raises(GraphError, match="%k"):
            graph.remove_constant(named(graph, "k"))
        graph.remove_constant(named(graph, "unread"))
        with pytest.raises(GraphError, match="no data"):
            graph.add_constant(Value("n"))
    assert [v.name for v in graph.constants] == ["k"]


@pytest.mark.parametrize("forward", [True, False])
def test_iteration_goes_on_while_nodes_go(forward: bool) -> None:
    text = "(%x) -> () {\n" + "".join(f" %n{i} = Op(%x)\n" for i in range(8)) + "}"
    graph = parse(text)
    seen = []
    with graph.transaction():
        for node in graph.nodes:
            assert node.graph is graph
            seen.append(node.result.name)
            if node.result.name in ("n1", "n4"):
                gone = [node, node.next, node.next and node.next.next]
                for each in gone if forward else reversed(gone):
                    assert each is not None
                    graph.erase(each)
    assert seen == ["n0", "n1", "n4", "n7"]
    assert [n.result.name for n in graph.nodes] == ["n0", "n7"]


def test_iteration_sees_what_is_inserted_ahead() -> None:
    graph = parse("(%x) -> () {\n %a = Op(%x)\n %b = Op(%x)\n}")
    seen = []
    with graph.transaction():
        for node in graph.nodes:
            seen.append(node.result.name)
            if node.result.name == "a":
                graph.insert(Node(Opaque("Op"), [], [Value("n")]), before=node.next)
    assert seen == ["a", "n", "b"]


# ---- checks at the end of a transaction


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda g: g.set_operand(node_of(g, "a"), 0, named(g, "c")), "before it is defined"),
        (lambda g: g.set_operand(node_of(g, "a"), 0, named(g, "a")), "before it is defined"),
        (lambda g: g.set_operand(node_of(g, "u"), 0, named(g, "c")), "before it is defined"),
        (lambda g: g.set_operand(node_of(g, "u"), 0, named(g, "b")), "before it is defined"),
        (lambda g: g.set_operand(node_of(g, "y"), 0, named(g, "u")), "not visible"),
        (lambda g: g.set_operand(node_of(g, "y"), 0, Value("lost")), "not in the graph"),
        (lambda g: g.append(Opaque("Op"), [Value("lost")]), "not in the graph"),
        (lambda g: g.insert(Node(Opaque("Op"), [named(g, "y")]), before=node_of(g, "c")), "before it is defined"),
        (lambda g: g.set_output(0, Value("lost")), "not in the graph"),
        (lambda g: g.set_output(0, named(g, "u")), "not visible"),
        (lambda g: named(g, "u").graph.set_output(0, named(g, "y")), "before it is defined"),
        (lambda g: g.append(_with_body(g, [Value("lost")]), []), "not in the graph"),
        (lambda g: g.insert(Node(_with_body(g, [named(g, "y")]), []), before=node_of(g, "c")), "before it is defined"),
        (lambda g: g.insert(Node(Opaque("Op"), []), before=node_of(g, "u")), "is not in the graph"),
        (lambda g: g.insert(node_of(g, "u")), "in a graph already"),
    ],
)
def test_broken_changes_are_refused_and_undone(change: object, says: str) -> None:
    graph = parse(BRANCH)
    before = snapshot(graph)
    with pytest.raises(GraphError, match=says), graph.transaction():
        change(graph)  # type: ignore[operator]
    assert snapshot(graph) == before
    verify(graph)


def test_transactions_do_not_nest() -> None:
    graph = parse(BRANCH)
    before = snapshot(graph)
    with pytest.raises(GraphError, match="already open"), graph.transaction():  # noqa: PT012  # the inner one raises
        graph.append(Opaque("Op"), [])
        with graph.transaction():
            pass
    assert snapshot(graph) == before
    with graph.transaction():
        graph.append(Opaque("Op"), [])


# ---- undoing everything


def _change(draw: st.DrawFn, graph: Graph, gone: list[Node]) -> None:
    """Change something at random; GraphError where it may not be."""
    scopes = list(graph.graphs())
    values = [v for g in scopes for v in g.values() if v.name != OMITTED]
    if not values:
        return
    nodes = list(graph.walk())
    scope = draw(st.sampled_from(scopes))
    value = draw(st.sampled_from(values))
    other = draw(st.sampled_from(values))
    node = draw(st.sampled_from(nodes)) if nodes else None
    before = draw(st.sampled_from([None, *scope.nodes]))
    what = draw(st.integers(0, 14))
    if what == 0:
        scope.insert(Node(Opaque("New"), draw(st.lists(st.sampled_from([*values, None]), max_size=3)), 2), before)
    elif what == 1:
        scope.insert(Node(_with_body(scope, [value, other, value]), [other]), before)
    elif what in (2, 3) and node is not None:
        assert node.graph is not None
        node.graph.erase(node)
        gone.append(node)
    elif what == 4 and node is not None and node.operands:
        scope.set_operand(node, draw(st.integers(0, len(node.operands) - 1)), draw(st.sampled_from([value, None])))
    elif what == 5:
        scope.set_output(draw(st.integers(0, len(scope.outputs))), value)
    elif what == 6:
        scope.replace_uses(value, other)
    elif what == 7:
        scope.rename(value, scope.fresh_name("renamed"))
    elif what == 8:
        scope.set_type(value, draw(st.sampled_from([None, f32["M"], f32[3]])), np.array([1], object))
    elif what == 9:
        graph.set_info(ModelInfo(opsets=MappingProxyType({"": draw(st.integers(1, 30))})))
    elif what == 10:
        scope.add_input(Value(scope.fresh_name("in"), constant=draw(st.sampled_from([None, Constant.of(1.0)]))))
    elif what == 11:
        scope.add_constant(Constant.of(draw(st.floats(width=32))))
    elif what == 12 and value.graph is not None:
        if value in value.graph.constants:
            value.graph.remove_constant(value)
        elif value.constant is not None and value.is_input:
            value.graph.make_constant(value)
    elif what == 13 and gone and gone[-1].graph is None:
        scope.insert(gone.pop(), before)
    elif what == 14:
        copy_nodes(list(graph.nodes)[:2], graph, {})


@settings(max_examples=200)
@given(st.data(), graphs() | st.builds(parse, st.just(BRANCH)))
def test_every_change_is_undone_exactly(data: st.DataObject, graph: Graph) -> None:
    graph.seal()
    before = snapshot(graph)
    gone: list[Node] = []
    with pytest.raises(BoomError), graph.transaction():  # noqa: PT012  # it raises when all is changed
        for _ in range(data.draw(st.integers(1, 8))):
            with suppress(GraphError):
                _change(data.draw, graph, gone)
        raise BoomError
    assert snapshot(graph) == before
    verify(graph)
    assert difference(copy_graph(graph), graph) is None


@settings(max_examples=200)
@given(st.data(), graphs() | st.builds(parse, st.just(BRANCH)))
def test_a_transaction_leaves_a_valid_graph_or_the_old_one(data: st.DataObject, graph: Graph) -> None:
    graph.seal()
    before = snapshot(graph)
    broken = False
    try:
        with graph.transaction():
            for _ in range(data.draw(st.integers(1, 6))):
                with suppress(GraphError):
                    _change(data.draw, graph, [])
    except GraphError:
        broken = True
    if broken:
        assert snapshot(graph) == before
    names = [v.name for g in graph.graphs() for v in g.values()]
    if len(set(names)) == len(names):  # copies of nodes repeat names
        verify(graph)
        assert difference(graph, parse(print_graph(graph))) is None


# ---- copies


@given(graphs())
def test_copies_are_equal_and_apart(graph: Graph) -> None:
    mapping: dict[Value, Value] = {}
    copy = copy_graph(graph, mapping=mapping)
    verify(copy)
    assert difference(graph, copy) is None
    mine = {id(v) for g in graph.graphs() for v in g.values()} | {id(n) for n in graph.walk()}
    its = {id(v) for g in copy.graphs() for v in g.values()} | {id(n) for n in copy.walk()}
    assert not mine & its
    assert len(mapping) == sum(1 for g in graph.graphs() for _ in g.values())
    assert sorted(n.id for n in copy.walk()) == list(range(sum(1 for _ in graph.walk())))
    for value, twin in mapping.items():
        assert twin.constant is value.constant


def test_copies_carry_what_the_text_leaves_out() -> None:
    graph = parse(BRANCH)
    a = node_of(graph, "a")
    a.doc, a.metadata, a.origins = "doc", {"k": "v"}, ("one", "two")
    a.result.doc, a.result.metadata, a.result.elements = "value doc", {"l": "w"}, np.array([1])
    copy = copy_graph(graph)
    twin = node_of(copy, "a")
    assert (twin.doc, twin.metadata, twin.origins, twin.name) == ("doc", {"k": "v"}, ("one", "two"), "first")
    assert (twin.result.doc, twin.result.metadata, twin.result.elements) == ("value doc", {"l": "w"}, np.array([1]))
    assert copy.info is graph.info
    copy.append(Opaque("Op"), [])  # still open
    assert len(graph) == 4


# ---- views


def test_networkx_edges_carry_values() -> None:
    graph = parse(BRANCH)
    view = to_networkx(graph)
    a, b, c, y = graph.nodes
    assert list(view.nodes) == [a, b, c, y]
    assert [view.nodes[n]["op"] for n in view.nodes] == ["Add", "If", "Split", "Add"]
    assert {(u, v): d["values"] for u, v, d in view.edges(data=True)} == {(a, b): ["a"], (b, c): ["b"], (c, y): ["c"]}
    assert nx.utils.graphs_equal(graph.to_networkx(), view)
    inner = node_of(graph, "b").op.graphs[0]
    assert [(u.result.name, v.result.name) for u, v in to_networkx(inner).edges] == [("u", "t")]


@given(graphs())
def test_generations_respect_every_edge(graph: Graph) -> None:
    groups = list(generations(graph))
    depth = {n: i for i, group in enumerate(groups) for n in group}
    assert set(depth) == set(graph.nodes)
    order = {n: i for i, n in enumerate(graph.nodes)}
    for group in groups:
        assert [order[n] for n in group] == sorted(order[n] for n in group)
    for user, its in ((b, a) for a, b in to_networkx(graph).edges):
        assert depth[its] < depth[user]


def test_dominators_of_a_diamond() -> None:
    graph = parse("""(%x) -> (%e) {
      %k: f32[] = dense 1.0
      %a = Relu(%x)
      %b = Left(%a)
      %c = Right(%a, %k)
      %d = Add(%b, %c)
      %e = Mul(%d, %k)
      %g = Lonely()
    }""")
    a, b, c, d, e, g = graph.nodes
    assert dominators(graph) == {a: None, b: a, c: a, d: a, e: d, g: None}


def test_dominators_see_captures_and_second_inputs() -> None:
    graph = parse("""(%x, %z, %p) -> (%d) {
      %a = Relu(%x)
      %b = If(%p) {t=() -> (%a) {}}
      %c = Relu(%z)
      %d = Add(%b, %c)
      %e = Add(%a, %z)
    }""")
    a, b, c, d, e = graph.nodes
    found = dominators(graph)
    assert found[a] is None
    assert found[c] is None
    assert found[d] is None
    assert found[b] is None  # the condition comes from outside
    assert found[e] is None  # so does the second operand


@given(graphs())
def test_dominators_by_definition(graph: Graph) -> None:
    """A dominates B when no path from the inputs reaches B once A is taken out."""
    found = dominators(graph)
    view = to_networkx(graph)
    assert set(found) == set(graph.nodes)
    sources = {n for n in graph.nodes if _reads_outside(n, graph)}
    for node in graph.nodes:
        ancestors = nx.ancestors(view, node)
        strict = set()
        for other in ancestors:
            rest = view.subgraph(set(view) - {other})
            if not any(s == node or (s in rest and nx.has_path(rest, s, node)) for s in sources - {other}):
                strict.add(other)
        chain = []
        above = found[node]
        while above is not None:
            chain.append(above)
            above = found[above]
        assert set(chain) == strict


def _reads_outside(node: Node, graph: Graph) -> bool:
    """Whether the node reads an input, a constant does not count, or an outer value, or nothing at all."""
    inner = [n for g in node.op.graphs for n in (*g.walk(), *g.graphs())]
    reads = [o for o in node.operands if o is not None]
    for each in inner:
        reads += [o for o in (each.outputs if isinstance(each, Graph) else each.operands) if o is not None]
    own = {v for g in node.op.graphs for h in g.graphs() for v in h.values()}
    reads = [v for v in reads if v not in own and not v.is_constant]
    return not reads or any(v.producer is None or v.graph is not graph for v in reads)
