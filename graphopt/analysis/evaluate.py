"""Nodes evaluated with their rooms' kernels, in their own precision or in a wider one that is the oracle.

In a wider float type every float operand is widened and results stay wide, with two exceptions:

1. A cast that narrows on purpose (its declared source is wider than its target) rounds through the target.
2. Shape arithmetic keeps its declared precision: `floor(f32(H) * 0.7)` must give the extent that the network
   has, and 0.7 rounded to float32 times 10 is 7 in float32 and a little less in float64.

Operators that quantize or dequantize do so in single precision whatever they are given: it decides which integer a
number next to a tie becomes. What rounding elsewhere may do to such numbers is seen by nudging them (`Nudge`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from graphopt.errors import GraphoptError, TypeRuleError
from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.types import DType, TensorType, dtype_of, dtype_of_code
from graphopt.ops.infer import facts
from graphopt.ops.room import NoKernelError, Room, Trait

Call: TypeAlias = Callable[[Graph, Sequence[np.ndarray]], list[np.ndarray]]

SHAPE_ELEMENTS = 32  # float tensors up to this size that follow from shapes alone are shape arithmetic

Nudge: TypeAlias = Callable[[np.ndarray], np.ndarray]  # numbers that are about to be quantized, moved a little

_CASTS = ("Cast", "CastLike")


def run_nodes(
    nodes: Iterable[Node],
    values: dict[Value, np.ndarray],
    float_type: type[np.floating] | None = None,
    *,
    keep: Collection[Value] | None = None,
    nudge: Nudge | None = None,
) -> None:
    """Evaluate `nodes` in order, and put their results into `values`.

    Args:
        nodes: in a valid order; constants that they read need not be in `values`.
        values: what the nodes read from outside; with `float_type`, floats in it are widened in place.
        float_type: what to compute floats in; None for each value's own type.
        keep: values that must be left in the end; others go after their last reader. None keeps all.
        nudge: what to do to numbers that depend on the inputs before they are quantized.

    Raises:
        NoKernelError: an operator without a kernel, or a random one.
        TypeRuleError: a kernel refuses its operands.
    """
    data = {v for v in values if not v.is_constant}
    if float_type is not None:
        for value in data:
            values[value] = widened(values[value], float_type)
    _Run(values, data, float_type, nudge).nodes(list(nodes), keep)


@dataclass(frozen=True)
class _Run:
    """One evaluation: the values so far, which of them depend on what the inputs hold, and what floats are."""

    values: dict[Value, np.ndarray]
    data: set[Value]
    float_type: type[np.floating] | None
    nudge: Nudge | None

    def nodes(self, nodes: Sequence[Node], keep: Collection[Value] | None) -> None:
        """Evaluate nodes in order."""
        dying = None if keep is None else _last_reads(nodes, keep)
        for i, node in enumerate(nodes):
            self.node(node)
            if dying is not None:
                for value in dying[i]:
                    self.values.pop(value, None)

    def node(self, node: Node) -> None:
        """Evaluate one node, with its subgraphs."""
        values, data, nudge = self.values, self.data, self.nudge
        is_data = _depends_on_data(node, data)
        wide = None if self.float_type is None or _is_shape_arithmetic(node, values, is_data) else self.float_type
        operands = [None if o is None else _read(o, values, wide) for o in node.operands]
        if nudge is not None and is_quantizing(node):
            operands = [_nudged(a, nudge) if o in data else a for o, a in zip(node.operands, operands, strict=True)]
        results = run_node(node, operands, wide, lambda g, inputs: self.graph(g, inputs, wide, is_data=is_data))
        del operands
        _release(node)
        for value, array in zip(node.results, results, strict=True):
            values[value] = array
            if is_data:
                data.add(value)

    def graph(
        self, graph: Graph, inputs: Sequence[np.ndarray], wide: type[np.floating] | None, *, is_data: bool
    ) -> list[np.ndarray]:
        """The outputs of a subgraph; what is defined in it is forgotten again."""
        if len(inputs) != len(graph.inputs):
            raise TypeRuleError(f"`{graph.name}` takes {len(graph.inputs)} inputs, and {len(inputs)} are given")
        for value, array in zip(graph.inputs, inputs, strict=True):
            self.values[value] = array
            if is_data:
                self.data.add(value)
        self.nodes(list(graph.nodes), None)
        outputs = [_read(v, self.values, wide) for v in graph.outputs]
        for value in graph.values():
            self.values.pop(value, None)
        return outputs


def run_node(
    node: Node,
    operands: Sequence[np.ndarray | None],
    float_type: type[np.floating] | None = None,
    call: Call | None = None,
) -> tuple[np.ndarray, ...]:
    """The results of one node; with `float_type`, its operands are that wide already, and so are its results.

    `call` runs a subgraph that the node holds on given inputs.

    Raises:
        NoKernelError: the operator has no kernel, or is random.
        TypeRuleError: the kernel refuses the operands.
    """
    op = node.op
    if not has_kernel(node) or not isinstance(op, Room):
        why = "is random" if isinstance(op, Room) and hasattr(op, "kernel") else "has no kernel"
        raise NoKernelError(f"{op} {why}, so the node {node.label!r} cannot be evaluated")
    if float_type is not None and op.name in _CASTS and not op.domain:
        cast = _wide_cast(node, operands[0], float_type)
        if cast is not None:
            return (cast,)
    try:
        with np.errstate(all="ignore"):
            made = op.run(call, *operands) if op.held else op.kernel(*operands)
    except NoKernelError as error:
        raise NoKernelError(f"{op} {node.label!r}: {error}") from error
    except (GraphoptError, ValueError, IndexError, TypeError, ZeroDivisionError, MemoryError) as error:
        raise TypeRuleError(f"{op} {node.label!r} cannot be evaluated: {error}") from error
    arrays = [np.asarray(a) for a in (made if isinstance(made, tuple) else (made,))]
    if len(arrays) < len(node.results):
        raise NoKernelError(
            f"the kernel of {op} gives {len(arrays)} of the {len(node.results)} results of {node.label!r}"
        )
    return tuple(widened(a, float_type) for a in arrays[: len(node.results)])


def has_kernel(node: Node) -> bool:
    """Whether a node can be evaluated: its operator has a kernel, and is not random."""
    op = node.op
    if not isinstance(op, Room) or not hasattr(op, "run" if op.held else "kernel") or not op.is_pure(*facts(node)):
        return False
    return all(has_kernel(inner) for graph in op.graphs for inner in graph.nodes)


def is_quantizing(node: Node) -> bool:
    """Whether a node is between numbers and scaled integers."""
    return isinstance(node.op, Room) and Trait.QUANTIZES in node.op.traits


def reads(node: Node) -> Iterator[Value]:
    """The values that a node reads, those that its subgraphs capture included (some may come twice)."""
    yield from (o for o in node.operands if o is not None)
    for subgraph in node.op.graphs:
        inside = set(subgraph.graphs())
        for graph in inside:
            inner = (o for n in graph.nodes for o in n.operands if o is not None)
            yield from (v for v in (*inner, *graph.outputs) if v.graph not in inside)


def needed(graph: Graph, wanted: tuple[Value, ...]) -> list[Node]:
    """The nodes of `graph` that `wanted` depends on, in order."""
    live = set(wanted)
    kept = []
    for node in reversed(list(graph.nodes)):
        if not live.isdisjoint(node.results):
            live.update(reads(node))
            kept.append(node)
    return kept[::-1]


def widened(array: np.ndarray, float_type: type[np.floating] | None) -> np.ndarray:
    """`array` in `float_type` where it holds narrower floats (or complex numbers of such), else itself.

    Floats of 8 bits and less are quantized numbers, and stay what they are.
    """
    if float_type is None or array.dtype == float_type or array.dtype.kind in "iubOSU" or array.dtype.itemsize < 2:
        return array
    if array.dtype.kind == "c":
        return array.astype(np.result_type(array.dtype, float_type), copy=False)
    narrower = array.dtype.itemsize < np.dtype(float_type).itemsize
    return array.astype(float_type) if narrower and dtype_of(array.dtype).is_float else array


def _nudged(array: np.ndarray | None, nudge: Nudge) -> np.ndarray | None:
    return array if array is None or array.dtype.kind != "f" else nudge(array)


def _last_reads(nodes: Sequence[Node], keep: Collection[Value]) -> list[list[Value]]:
    """For each node the values that nobody needs after it."""
    last: dict[Value, int] = {}
    for i, node in enumerate(nodes):
        last.update(dict.fromkeys(reads(node), i))
        for result in node.results:
            last.setdefault(result, i)
    dying: list[list[Value]] = [[] for _ in nodes]
    for value, i in last.items():
        if value not in keep:
            dying[i].append(value)
    return dying


def _depends_on_data(node: Node, data: Collection[Value]) -> bool:
    type_only = node.op.type_only if isinstance(node.op, Room) else frozenset()
    if node.op.graphs and any(value in data for value in reads(node)):
        return True
    return any(o in data for i, o in enumerate(node.operands) if i not in type_only)


def _is_shape_arithmetic(node: Node, values: dict[Value, np.ndarray], is_data: bool) -> bool:
    """Whether a node computes with few numbers that follow from shapes (and not from constants alone)."""
    if is_data or node.op.graphs or all(o is None or o.is_constant for o in node.operands):
        return False
    return all(_size(o, values) <= SHAPE_ELEMENTS for o in node.operands if o is not None)


def _release(node: Node) -> None:
    """Let the pages of weights that lie in a mapped file go; they come back when they are read again."""
    for value in node.operands:
        if value is not None and value.constant is not None and value.constant.on_used is not None:
            value.constant.on_used()


def _size(value: Value, values: dict[Value, np.ndarray]) -> int:
    if value.is_constant and value.constant is not None:
        return value.constant.size
    return _read(value, values, None).size


def _read(value: Value, values: dict[Value, np.ndarray], float_type: type[np.floating] | None) -> np.ndarray:
    array = values.get(value)
    if value.is_constant and value.constant is not None:  # the given array may be a widened copy
        array = value.constant.array() if array is None or float_type is None else array
    elif array is None:
        raise TypeRuleError(f"the value {value.name!r} is read and was not computed")
    return widened(array, float_type)


def _wide_cast(node: Node, x: np.ndarray | None, float_type: type[np.floating]) -> np.ndarray | None:
    """A cast between float types while computing wide; None for other casts, which the kernel does."""
    source, target = _declared(node.operands[0]), _target(node)
    if x is None or target is None or not target.is_float or not dtype_of(x.dtype).is_float:
        return None
    if target.bits < 16:
        return None
    if source is not None and (source == target or source.bits < target.bits):
        return x.astype(float_type, copy=False)
    return x.astype(target.numpy).astype(float_type)


def _declared(value: Value | None) -> DType | None:
    return value.type.dtype if value is not None and isinstance(value.type, TensorType) else None


def _target(node: Node) -> DType | None:
    """The element type that a cast makes."""
    to = getattr(node.op, "to", None)
    if isinstance(to, int):
        return dtype_of_code(to)
    return _declared(node.result) or _declared(node.operands[1] if len(node.operands) > 1 else None)
