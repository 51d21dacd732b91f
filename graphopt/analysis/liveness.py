"""Liveness: from where to where each value is needed, and how many bytes are alive at once.

Nodes run in their order. A value is alive from the node that makes it (an input: from the start) to the last node
that reads it; a node that holds subgraphs reads what they capture. Outputs live to the end. Constants are not
activations and do not count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graphopt.analysis.cost import binding, value_bytes
from graphopt.analysis.evaluate import reads
from graphopt.ir.graph import Graph, Node, Value


@dataclass(frozen=True, slots=True)
class Lifetime:
    """First and last place (index of a node in its graph) at which a value is alive, both included."""

    first: int
    last: int


def lifetimes(graph: Graph) -> dict[Value, Lifetime]:
    """The lifetimes of a graph's own inputs and results."""
    nodes = list(graph.nodes)
    end = len(nodes)
    first: dict[Value, int] = dict.fromkeys(graph.inputs, 0)
    last: dict[Value, int] = dict.fromkeys(graph.inputs, 0)
    for place, node in enumerate(nodes):
        for value in reads(node):
            if value in last:
                last[value] = place
        for result in node.results:
            first[result] = last[result] = place
    for value in graph.outputs:
        if value in last:
            last[value] = end
    return {v: Lifetime(first[v], last[v]) for v in first}


def peak_bytes(graph: Graph, bound: Mapping[str, int] | None = None) -> tuple[int, Node | None]:
    """The most bytes of activations that are alive at one node, and that node; symbols as in `analysis.cost`."""
    nodes = list(graph.nodes)
    known = binding(graph) if bound is None else bound
    change = [0] * (len(nodes) + 2)
    for value, life in lifetimes(graph).items():
        size = value_bytes(value, known)
        change[life.first] += size
        change[life.last + 1] -= size
    alive = peak = 0
    where: Node | None = None
    for place, node in enumerate(nodes):
        alive += change[place]
        if alive > peak:
            peak, where = alive, node
    return peak, where
