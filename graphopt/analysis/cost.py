"""What nodes cost: multiply-accumulates and bytes moved.

Both may depend on symbolic dims. Where a number is needed, symbols are given values: 1 for the symbols that are
an input's first dim (the batch), 224 for others; `Binding` says which.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graphopt.ir.attributes import Kind
from graphopt.ir.constant import Constant
from graphopt.ir.dims import Dim, Expr, substitute
from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.types import TensorType
from graphopt.ops.infer import facts
from graphopt.ops.room import Room, UnknownRankError

BATCH = 1  # stands for a symbolic first dim of an input
EXTENT = 224  # stands for any other symbolic dim: the usual side of an image


@dataclass(frozen=True, slots=True)
class Cost:
    """Nodes, multiply-accumulates, and bytes read and written."""

    nodes: int = 0
    macs: int = 0
    bytes: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.nodes + other.nodes, self.macs + other.macs, self.bytes + other.bytes)

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.nodes - other.nodes, self.macs - other.macs, self.bytes - other.bytes)

    def to_json(self) -> dict[str, int]:
        """As a JSON object."""
        return {"nodes": self.nodes, "macs": self.macs, "bytes": self.bytes}


def binding(graph: Graph) -> Mapping[str, int]:
    """Numbers for the symbols that stand first in an input's shape."""
    found: dict[str, int] = {}
    for value in graph.root.inputs:
        if isinstance(value.type, TensorType) and value.type.shape:
            first = value.type.shape[0]
            if isinstance(first, Expr) and first.name is not None:
                found[first.name] = BATCH
    return found


def number(dim: Dim | None, bound: Mapping[str, int]) -> int:
    """A dim as a number under `bound`; 0 where it is not known at all."""
    if dim is None:
        return 0
    value = substitute(dim, lambda name: bound.get(name, EXTENT))
    return value if isinstance(value, int) else 0


def value_bytes(value: Value | None, bound: Mapping[str, int]) -> int:
    """Bytes of a tensor under `bound`; 0 for what is not a tensor of known rank."""
    kind = value.type if value is not None else None
    if not isinstance(kind, TensorType) or kind.shape is None:
        return 0
    size = 1
    for dim in kind.shape:
        size *= dim if isinstance(dim, int) else number(dim, bound)
    return (size * kind.dtype.bits + 7) // 8


def macs(node: Node) -> Dim:
    """Multiply-accumulates of one node by its room; 0 for opaque operators and unknown shapes."""
    op = node.op
    if not isinstance(op, Room) or type(op).macs is Room.macs:
        return 0
    types = tuple(r.type for r in node.results if isinstance(r.type, TensorType))
    if not types:
        return 0
    try:
        return op.macs(facts(node), types)
    except (UnknownRankError, AttributeError, IndexError):
        return 0


def cost(node: Node, bound: Mapping[str, int]) -> Cost:
    """The cost of one node, without what its subgraphs do."""
    moved = sum(value_bytes(v, bound) for v in (*node.operands, *node.results))
    return Cost(1, number(macs(node), bound), moved)


def total(graph: Graph) -> Cost:
    """The cost of all nodes, subgraphs counted once."""
    bound = binding(graph)
    result = Cost()
    for node in graph.walk():
        result = result + cost(node, bound)
    return result


def constant_bytes(graph: Graph) -> int:
    """Bytes of all constants, inputs' defaults and tensors in attributes, subgraphs included."""
    held = sum(v.constant.nbytes for g in graph.graphs() for v in (*g.constants, *g.inputs) if v.constant is not None)
    return held + sum(map(attribute_bytes, graph.walk()))


def attribute_bytes(node: Node) -> int:
    """Bytes of the tensors that a node holds in attributes."""
    if isinstance(node.op, Room) and Kind.TENSOR not in node.op.kinds.values():
        return 0
    values = (a.value for a in node.op.attributes.values())
    items = (i for v in values for i in (v if isinstance(v, tuple) else (v,)))
    return sum(i.nbytes for i in items if isinstance(i, Constant))
