"""A networkx view of a graph, for analyses: topological generations, dominators, paths."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from graphopt.ir.graph import Graph, Node, captures

if TYPE_CHECKING:
    import networkx as nx


def to_networkx(graph: Graph) -> nx.DiGraph[Node]:
    """The graph's own nodes, in order, and an edge wherever a result is read (captures count for the holder).

    Node attributes: `op` (text). Edge attributes: `values`, the names carried.
    """
    import networkx as nx

    view: nx.DiGraph[Node] = nx.DiGraph()
    for node in graph.nodes:
        view.add_node(node, op=str(node.op))
    for node in graph.nodes:
        for result in node.results:
            for user, _ in result.uses:
                reader = _holder(user, graph)
                if reader is None:
                    continue
                if view.has_edge(node, reader):
                    if result.name not in view.edges[node, reader]["values"]:
                        view.edges[node, reader]["values"].append(result.name)
                else:
                    view.add_edge(node, reader, values=[result.name])
    return view


def generations(graph: Graph) -> Iterator[list[Node]]:
    """Nodes by depth: each group depends only on groups before it."""
    import networkx as nx

    for group in nx.topological_generations(to_networkx(graph)):
        yield sorted(group, key=lambda n: n._position)


def dominators(graph: Graph) -> dict[Node, Node | None]:
    """The immediate dominator of each node, the last that all paths to it pass; None where there is no such node.

    Paths begin wherever something comes in: at nodes that read an input of the graph or a value from outside of it,
    and at those that read no other node. Constants do not count.
    """
    import networkx as nx

    view: nx.DiGraph[object] = nx.DiGraph()
    source = object()
    view.add_node(source)
    view.add_edges_from(to_networkx(graph).edges)
    for node in graph.nodes:
        reads = [o for o in node.operands if o is not None] + [value for value, _ in captures(node)]
        enters = any(v.graph is not graph or v.is_input for v in reads if not v.is_constant)
        if enters or node not in view or not view.pred[node]:
            view.add_edge(source, node)
    found = nx.immediate_dominators(view, source)
    return {n: (d if isinstance(d, Node) else None) for n, d in found.items() if isinstance(n, Node)}


def _holder(user: Node | Graph, graph: Graph) -> Node | None:
    """The node of `graph` itself that is `user` or holds it in a subgraph; None for graph outputs."""
    if isinstance(user, Graph):
        if user is graph:
            return None
        owner = user.owner
    else:
        owner = user
    while owner is not None and owner.graph is not graph:
        owner = owner.graph.owner if owner.graph is not None else None
    return owner
