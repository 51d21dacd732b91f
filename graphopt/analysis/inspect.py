"""What a graph holds and costs, in one immutable summary.

`parameters` are elements of floating-point constants that operators learn with (weights, biases, BN's scale and
shift); `buffers` are BN's running mean and variance. `activations` are elements of the graph's inputs and of the
outputs of convolutions, pools and fully connected layers (BN and activations work in place). Numbers for symbolic
dims are those of `graphopt.analysis.cost`: batch 1, other symbols 224.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import cast

from graphopt.analysis.cost import binding, cost, number, total, value_bytes
from graphopt.analysis.liveness import peak_bytes
from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.operator import Opaque
from graphopt.ir.types import TensorType
from graphopt.ops.algebra import LinearWeights
from graphopt.ops.norm import BatchNormalization
from graphopt.ops.room import Room, Trait

BUFFERS = (3, 4)  # BatchNormalization's operands: running mean and variance


@dataclass(frozen=True)
class Layer:
    """One node that computes something worth a row. Shapes are text, with symbols; counts are at batch 1."""

    name: str
    op: str
    output_shape: str
    parameters: int
    macs: int
    activations: int
    bytes_moved: int


@dataclass(frozen=True)
class Inspection:
    """What a graph holds and costs."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    opsets: Mapping[str, int]
    producer: str
    nodes: int
    operators: Mapping[str, int]
    opaque: tuple[str, ...]
    parameters: int
    buffers: int
    constant_bytes: int
    macs: int
    bytes_moved: int
    activations: int
    activation_bytes: int
    peak_activation_bytes: int
    bound: str
    layers: tuple[Layer, ...]
    odd: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """As JSON data."""
        return cast("dict[str, object]", asdict(self))


def inspect(graph: Graph) -> Inspection:
    """Look at a graph; weights are not read."""
    bound = binding(graph)
    buffers = _buffers(graph)
    constants = [v for g in graph.graphs() for v in g.constants] + [v for v in graph.inputs if v.constant]
    sizes = {v: v.constant.size for v in constants if v.constant is not None}
    floats = {v: n for v, n in sizes.items() if isinstance(v.type, TensorType) and v.type.dtype.is_float}
    operators: dict[str, int] = {}
    for node in graph.walk():
        operators[str(node.op)] = operators.get(str(node.op), 0) + 1
    held = [v for v in graph.inputs if v.constant is None]
    held += [n.result for n in graph.walk() if _keeps_activation(n)]
    whole = total(graph)
    producer = f"{graph.info.producer} {graph.info.producer_version}".strip()
    said = ", ".join(f"{k}={v}" for k, v in bound.items()) or "static shapes"
    return Inspection(
        inputs={v.name: str(v.type or "?") for v in graph.inputs},
        outputs={v.name: str(v.type or "?") for v in graph.outputs},
        opsets=dict(graph.info.opsets),
        producer=producer,
        nodes=whole.nodes,
        operators=dict(sorted(operators.items(), key=lambda item: (-item[1], item[0]))),
        opaque=tuple(sorted({str(n.op) for n in graph.walk() if isinstance(n.op, Opaque)})),
        parameters=sum(n for v, n in floats.items() if v not in buffers and _is_learned(v)),
        buffers=sum(n for v, n in floats.items() if v in buffers),
        constant_bytes=sum(v.constant.nbytes for v in constants if v.constant is not None),
        macs=whole.macs,
        bytes_moved=whole.bytes,
        activations=sum(_elements(v, bound) for v in held),
        activation_bytes=sum(value_bytes(v, bound) for v in held),
        peak_activation_bytes=peak_bytes(graph, bound)[0],
        bound=said,
        layers=tuple(_layer(n, bound, buffers, floats) for n in graph.walk() if _is_layer(n)),
        odd=graph.info.notes,
    )


def _buffers(graph: Graph) -> set[Value]:
    found: set[Value] = set()
    for node in graph.walk():
        if isinstance(node.op, BatchNormalization):
            found |= {o for i, o in enumerate(node.operands) if i in BUFFERS and o is not None}
    return found


def _is_learned(value: Value) -> bool:
    """Whether a float constant is a parameter: more than a scalar, or read by an operator that learns."""
    learns = any(isinstance(u.op, LinearWeights | BatchNormalization) for u in value.users)
    return learns or (value.constant is not None and value.constant.size > 1)


def _keeps_activation(node: Node) -> bool:
    pooled = isinstance(node.op, Room) and Trait.WINDOW in node.op.traits
    return pooled or isinstance(node.op, LinearWeights)


def _is_layer(node: Node) -> bool:
    return isinstance(node.op, Room)


def _elements(value: Value, bound: Mapping[str, int]) -> int:
    return number(value.type.size, bound) if isinstance(value.type, TensorType) else 0


def _layer(node: Node, bound: Mapping[str, int], buffers: set[Value], floats: Mapping[Value, int]) -> Layer:
    spent = cost(node, bound)
    kind = node.result.type
    shape = str(list(kind.shape)) if isinstance(kind, TensorType) and kind.shape is not None else "?"
    learned = sum(floats.get(o, 0) for o in dict.fromkeys(node.operands) if o is not None and o not in buffers)
    return Layer(node.label, str(node.op), shape, learned, spent.macs, _elements(node.result, bound), spent.bytes)
