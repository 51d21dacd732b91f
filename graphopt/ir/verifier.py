"""The verifier: does a graph keep the rules of the IR?

Checked: every value is defined once and before it is read, here or in an enclosing graph; names are unique among
the values that one place sees; the use lists agree with the operands; outputs exist. With `infer`, also that
every node's results have the types that its operator's rule gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphopt.errors import GraphError
from graphopt.ir.graph import OMITTED, Graph, Node, Use, Value
from graphopt.ir.types import Type, meet

TypeRule = Callable[[Node], Sequence[Type | None]]


def verify(graph: Graph, infer: TypeRule | None = None) -> None:
    """Check `graph` and its subgraphs.

    Raises:
        GraphError: with one sentence that names the node or value.
    """
    _verify_scope(graph, {}, infer)


def _verify_scope(graph: Graph, outer: dict[str, Value], infer: TypeRule | None) -> None:
    visible = dict(outer)
    reads: list[tuple[Value, Use]] = []

    def define(value: Value) -> None:
        if value.graph is not graph:
            raise GraphError(f"{value!r} is listed in the graph {graph.name!r} and says that it is elsewhere")
        if value.name == OMITTED:
            return
        if value.name in visible:
            raise GraphError(f"the value {value.name!r} is defined twice")
        visible[value.name] = value

    for value in (*graph.inputs, *graph.constants):
        define(value)
    previous: Node | None = None
    for node in graph.nodes:
        if node.graph is not graph or node.previous is not previous:
            raise GraphError(f"{node!r} is not linked where it stands")
        if previous is not None and not previous.precedes(node):
            raise GraphError(f"{node!r} has a position before the node in front of it")
        previous = node
        for i, operand in enumerate(node.operands):
            if operand is None:
                continue
            if visible.get(operand.name) is not operand:
                raise GraphError(f"{node!r} reads {operand.name!r}, which is not defined before it")
            reads.append((operand, Use(node, i)))
        for subgraph in node.op.graphs:
            if subgraph.owner is not node or subgraph.outer is not graph:
                raise GraphError(f"a subgraph of {node!r} does not know where it is")
            _verify_scope(subgraph, visible, infer)
        for result in node.results:
            if result.producer is not node:
                raise GraphError(f"{result!r} does not know its producer {node!r}")
            define(result)
        if infer is not None:
            _verify_types(node, infer)
    for i, value in enumerate(graph.outputs):
        if visible.get(value.name) is not value:
            raise GraphError(f"the output {value.name!r} is not defined")
        reads.append((value, Use(graph, i)))
    for value, use in reads:
        if use not in value._uses:
            raise GraphError(f"{value!r} does not know that {use.user!r} reads it")
    expected = len({(id(v), u) for v, u in reads if v.graph is graph})
    listed = sum(
        1 for v in graph.values() for u in v.uses if u.user is graph or getattr(u.user, "graph", None) is graph
    )
    if expected != listed:
        raise GraphError(f"the graph {graph.name!r} has {listed} uses on record and {expected} operands")


def _verify_types(node: Node, infer: TypeRule) -> None:
    for result, inferred in zip(node.results, infer(node), strict=True):
        try:
            meet(result.type, inferred)
        except GraphError as error:
            raise GraphError(f"{node!r} gives {inferred}, and {result!r} is declared: {error}") from None
