"""The types inside of loops: what a body's inputs are in every iteration, found by asking until nothing changes."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.errors import GraphoptError
from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.types import TensorType, Type, is_refinement
from graphopt.ops.control_flow import ControlFlow
from graphopt.ops.infer import infer, known_of
from graphopt.ops.room import Room

ROUNDS = 3  # a shape that still changes then is left open; fewer by one in each loop within a loop


def settle_bodies(node: Node, rounds: int = ROUNDS) -> None:
    """Give the inputs of a node's graphs the types that hold in every run, and what follows from them.

    A declared shape of a carried value is not believed: it may be that of the first iteration alone.
    """
    op = node.op
    if not isinstance(op, ControlFlow):
        return
    for turn in range(rounds + 1):
        try:
            wanted = op.inputs(*map(known_of, node.operands))
        except GraphoptError:  # it breaks its type rule, which whoever infers its results is told
            return
        is_last = turn == rounds
        changed = [_give(g, types, is_last=is_last) for g, types in zip(op.graphs, wanted, strict=True)]
        for graph, is_changed in zip(op.graphs, changed, strict=True):
            if is_changed:
                _infer_again(graph, rounds - 1)
        if not any(changed):
            return


def _give(graph: Graph, types: Sequence[Type | None], *, is_last: bool) -> bool:
    """Write down the inputs' types; whether one of them changed. The last time, changing shapes are left open."""
    changed = False
    for value, kind in zip(graph.inputs, types, strict=False):
        if kind is None or kind == value.type or (is_refinement(kind, value.type) and is_refinement(value.type, kind)):
            continue
        graph.set_type(value, kind.with_shape(None) if is_last and isinstance(kind, TensorType) else kind)
        changed = True
    return changed


def _infer_again(graph: Graph, rounds: int) -> None:
    """Infer every type in a graph anew; what its operator's rule does not know is what it was declared to be."""
    for node in graph.nodes:
        settle_bodies(node, max(rounds, 0))
        try:
            found = infer(node)
        except (GraphoptError, ValueError, IndexError, TypeError):
            continue
        for result, (rule, elements) in zip(node.results, found, strict=True):
            graph.set_type(result, rule if rule is not None else _left(node, result), elements)


def _left(node: Node, result: Value) -> Type | None:
    """What stays known of a result of which the rule says nothing: all of an opaque one, the element type of others."""
    if isinstance(node.op, Room) and isinstance(result.type, TensorType):
        return result.type.with_shape(None)
    return result.type
