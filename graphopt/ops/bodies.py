"""The types inside of loops: what a body's inputs are in every iteration.

Found as a least fixed point: the body is inferred with the types of the first iteration; where it hands on something
else than it took, what both have in common is tried next, until nothing changes.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from graphopt.errors import GraphError, GraphoptError
from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.types import TensorType, Type, is_refinement, join
from graphopt.ops.control_flow import ControlFlow
from graphopt.ops.infer import infer, known_of
from graphopt.ops.room import Room, unknown_dim

ROUNDS = 3  # a shape that still changes then is left open; fewer by one in each loop within a loop


def settle_bodies(node: Node, rounds: int = ROUNDS, *, anew: bool = False) -> None:
    """Give the inputs of a node's graphs the types that hold in every run, and what follows from them.

    A declared shape of a carried value is not believed: it may be that of the first iteration alone. `anew` is for
    a node whose graphs capture values of which other types are known now.
    """
    op = node.op
    if not isinstance(op, ControlFlow):
        return
    try:
        wanted = op.starts(*map(known_of, node.operands))
    except GraphoptError:  # it breaks its type rule, which whoever infers its results is told
        return
    for graph, types in zip(op.graphs, wanted, strict=True):
        if len(types) != len(graph.inputs) or max(op.fed_back.values(), default=-1) >= len(graph.outputs):
            continue
        if op.fed_back:
            _doubt(graph)
        first = [_left_open(v.type) if t is None and i in op.fed_back else t
                 for i, (t, v) in enumerate(zip(types, graph.inputs, strict=True))]  # fmt: skip
        _give(graph, first if rounds else _without_carried(first, op.fed_back), rounds, anew=anew)
        for turn in range(1, rounds + 1):
            carried = {i: _common(graph.inputs[i], graph.outputs[o]) for i, o in op.fed_back.items()}
            changed = [carried.get(i, v.type) for i, v in enumerate(graph.inputs)]
            if not _give(graph, _without_carried(changed, op.fed_back) if turn == rounds else changed, rounds):
                break


def _common(taken: Value, given: Value) -> Type | None:
    try:
        common = join(taken.type, given.type, unknown_dim)
    except GraphError:
        common = None
    return _left_open(taken.type) if common is None else common


def _doubt(graph: Graph) -> None:
    """Leave open the shapes that opaque nodes are declared to give: they may be those of the first iteration."""
    for node in graph.walk():
        if node.op.is_opaque:
            for result in node.results:
                graph.set_type(result, _left_open(result.type))


def _left_open(kind: Type | None) -> Type | None:
    return kind.with_shape(None) if isinstance(kind, TensorType) else kind


def _without_carried(types: Sequence[Type | None], carried: Container[int]) -> list[Type | None]:
    """Types of inputs, the shapes of those that are carried left open."""
    return [_left_open(t) if i in carried else t for i, t in enumerate(types)]


def _give(graph: Graph, types: Sequence[Type | None], rounds: int, *, anew: bool = False) -> bool:
    """Write down the inputs' types, and infer the graph again; False where they are what they were."""
    changed = False
    for value, kind in zip(graph.inputs, types, strict=True):
        if kind is not None and not (is_refinement(kind, value.type) and is_refinement(value.type, kind)):
            graph.set_type(value, kind)
            changed = True
    if changed or anew:
        _infer_again(graph, rounds - 1)
    return changed


def _infer_again(graph: Graph, rounds: int) -> None:
    """Infer every type in a graph anew; what its operator's rule does not know is what it was declared to be."""
    for node in graph.nodes:
        settle_bodies(node, max(rounds, 0), anew=True)
        try:
            found = infer(node)
        except (GraphoptError, ValueError, IndexError, TypeError):
            continue
        for result, (rule, elements) in zip(node.results, found, strict=True):
            graph.set_type(result, rule if rule is not None else _left(node, result), elements)


def _left(node: Node, result: Value) -> Type | None:
    """What stays known of a result of which the rule says nothing: all of an opaque one, the element type of others."""
    return _left_open(result.type) if isinstance(node.op, Room) else result.type
