"""The verifier: does a graph keep the rules of the IR?

Checked: every value is defined once and before it is read, here or in an enclosing graph; names are unique among
the values that one place sees; the lists of uses agree with the operands; nodes, values and subgraphs know where
they are; outputs exist; constants have data; ids are unique. With `infer`, also that no result has another type than
its operator's rule gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphopt.errors import GraphError
from graphopt.ir.graph import OMITTED, Graph, Node, Use, Value
from graphopt.ir.types import Type, meet

TypeRule = Callable[[Node], Sequence[Type | None]]


def verify(graph: Graph, infer: TypeRule | None = None) -> None:
    """Check `graph` and its subgraphs; what is around `graph` is taken to be right.

    Raises:
        GraphError: with one sentence that names the node or value.
    """
    verifier = _Verifier(infer)
    inner, outer = graph, graph.outer
    while outer is not None:
        seen = (v for v in outer.values() if v.producer is None or _is_before(v.producer, inner.owner))
        verifier.scopes.insert(0, {v.name: v for v in seen})
        inner, outer = outer, outer.outer
    verifier.graph(graph)
    verifier.uses()


def _is_before(node: Node, owner: Node | None) -> bool:
    return owner is None or node.precedes(owner)


class _Verifier:
    def __init__(self, infer: TypeRule | None) -> None:
        self.scopes: list[dict[str, Value]] = []  # visible values by name, outer graphs first
        self._infer = infer
        self._reads: dict[Value, set[Use]] = {}  # of every value that was met
        self._ids: dict[int, Node] = {}

    def graph(self, graph: Graph) -> None:
        """One graph with what it holds."""
        self.scopes.append({})
        for value in (*graph.inputs, *graph.constants):
            if value.producer is not None:
                raise GraphError(f"{value!r} is an input or a constant, and says that {value.producer!r} makes it")
            self.define(value, graph)
        for value in graph.constants:
            if value.constant is None:
                raise GraphError(f"the constant {value!r} has no data")
        previous: Node | None = None
        count = 0
        for node in graph.nodes:
            if node.graph is not graph or node.previous is not previous:
                raise GraphError(f"{node!r} is not linked where it stands")
            if previous is not None and not previous.precedes(node):
                raise GraphError(f"{node!r} has a position before the node in front of it")
            self.node(node, graph)
            previous = node
            count += 1
        if graph._last is not previous or len(graph) != count:
            raise GraphError(f"the graph {graph.name!r} counts {len(graph)} nodes, and {count} are linked")
        for i, value in enumerate(graph.outputs):
            if not self.sees(value):
                raise GraphError(f"the output {value.name!r} is not defined")
            self._reads[value].add(Use(graph, i))
        self.scopes.pop()

    def define(self, value: Value, graph: Graph) -> None:
        """From here on the value can be read."""
        if value.graph is not graph:
            raise GraphError(f"{value!r} is listed in the graph {graph.name!r} and says that it is elsewhere")
        if value in self._reads:
            raise GraphError(f"the value {value.name!r} is listed twice")
        self._reads[value] = set()
        if value.name == OMITTED:
            return
        if any(value.name in scope for scope in self.scopes):
            raise GraphError(f"the value {value.name!r} is defined twice")
        self.scopes[-1][value.name] = value

    def sees(self, value: Value) -> bool:
        """Whether the value can be read here; from now on its reads are counted."""
        if any(scope.get(value.name) is value for scope in self.scopes):
            self._reads.setdefault(value, set())
            return True
        return False

    def node(self, node: Node, graph: Graph) -> None:
        """One node with its subgraphs."""
        if self._ids.setdefault(node.id, node) is not node:
            raise GraphError(f"{node!r} and {self._ids[node.id]!r} have the same id {node.id}")
        for i, operand in enumerate(node.operands):
            if operand is None:
                continue
            if not self.sees(operand):
                raise GraphError(f"{node!r} reads {operand.name!r}, which is not defined before it")
            self._reads[operand].add(Use(node, i))
        for subgraph in node.op.graphs:
            if subgraph.owner is not node or subgraph.outer is not graph:
                raise GraphError(f"a subgraph of {node!r} does not know where it is")
            self.graph(subgraph)
        for i, result in enumerate(node.results):
            if result.producer is not node or result.index != i:
                raise GraphError(f"{result!r} does not know its producer {node!r}")
            self.define(result, graph)
        if self._infer is not None:
            _verify_types(node, self._infer(node))

    def uses(self) -> None:
        """What every value knows of its readers."""
        for value, reads in self._reads.items():
            listed = value._uses.keys()
            for use in reads - listed:
                raise GraphError(f"{value!r} does not know that {use.user!r} reads it")
            if any(scope.get(value.name) is value for scope in self.scopes):
                continue  # defined outside of what is verified, and read there too
            for use in listed - reads:
                raise GraphError(f"{value!r} says that {use.user!r} reads it as operand {use.operand}")


def _verify_types(node: Node, inferred: Sequence[Type | None]) -> None:
    if len(inferred) != len(node.results):
        raise GraphError(f"{node!r} has {len(node.results)} results, and its rule gives {len(inferred)}")
    for result, type_ in zip(node.results, inferred, strict=True):
        try:
            meet(result.type, type_)
        except GraphError as error:
            raise GraphError(f"{node!r} gives {type_}, and {result!r} is declared: {error}") from None
