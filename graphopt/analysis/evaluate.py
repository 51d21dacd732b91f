"""Nodes evaluated with their rooms' kernels, in their own precision or in a wider one that is the oracle.

In a wider float type every float operand is widened and results stay wide, with two exceptions:

1. A cast that narrows on purpose (its declared source is wider than its target) rounds through the target.
2. Shape arithmetic keeps its declared precision: `floor(f32(H) * 0.7)` must give the extent that the network
   has, and 0.7 rounded to float32 times 10 is 7 in float32 and a little less in float64.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np

from graphopt.errors import GraphoptError, TypeRuleError
from graphopt.ir.graph import Node, Value
from graphopt.ir.types import DType, TensorType, dtype_of, dtype_of_code
from graphopt.ops.infer import facts
from graphopt.ops.room import NoKernelError, Room

SHAPE_ELEMENTS = 32  # float tensors up to this size that follow from shapes alone are shape arithmetic

_CASTS = ("Cast", "CastLike")


def run_nodes(
    nodes: Iterable[Node],
    values: dict[Value, np.ndarray],
    float_type: type[np.floating] | None = None,
    *,
    keep: Collection[Value] | None = None,
) -> None:
    """Evaluate `nodes` in order, and put their results into `values`.

    Args:
        nodes: in a valid order; constants that they read need not be in `values`.
        values: what the nodes read from outside; with `float_type`, floats in it are widened in place.
        float_type: what to compute floats in; None for each value's own type.
        keep: values that must be left in the end; others go after their last reader. None keeps all.

    Raises:
        NoKernelError: an operator without a kernel, or a random one.
        TypeRuleError: a kernel refuses its operands.
    """
    nodes = list(nodes)
    dying = None if keep is None else _last_reads(nodes, keep)
    data = {v for v in values if not v.is_constant}  # values that depend on what the inputs hold
    if float_type is not None:
        for value in data:
            values[value] = widened(values[value], float_type)
    for i, node in enumerate(nodes):
        is_data = _depends_on_data(node, data)
        wide = None if float_type is None or _is_shape_arithmetic(node, values, is_data) else float_type
        operands = [None if o is None else _read(o, values, wide) for o in node.operands]
        results = run_node(node, operands, wide)
        del operands
        _release(node)
        for value, array in zip(node.results, results, strict=True):
            values[value] = array
            if is_data:
                data.add(value)
        if dying is not None:
            for value in dying[i]:
                values.pop(value, None)


def run_node(
    node: Node, operands: Sequence[np.ndarray | None], float_type: type[np.floating] | None = None
) -> tuple[np.ndarray, ...]:
    """The results of one node; with `float_type`, its operands are that wide already, and so are its results.

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
            made = op.kernel(*operands)
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
    return isinstance(op, Room) and hasattr(op, "kernel") and op.is_pure(*facts(node))


def reads(node: Node) -> Iterator[Value]:
    """The values that a node reads, those that its subgraphs capture included (some may come twice)."""
    yield from (o for o in node.operands if o is not None)
    for subgraph in node.op.graphs:
        inside = set(subgraph.graphs())
        for graph in inside:
            inner = (o for n in graph.nodes for o in n.operands if o is not None)
            yield from (v for v in (*inner, *graph.outputs) if v.graph not in inside)


def widened(array: np.ndarray, float_type: type[np.floating] | None) -> np.ndarray:
    """`array` in `float_type` where it holds narrower floats (or complex numbers of such), else itself."""
    if float_type is None or array.dtype == float_type or array.dtype.kind in "iubOSU":
        return array
    if array.dtype.kind == "c":
        return array.astype(np.result_type(array.dtype, float_type), copy=False)
    narrower = array.dtype.itemsize < np.dtype(float_type).itemsize
    return array.astype(float_type) if narrower and dtype_of(array.dtype).is_float else array


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
    return any(o in data for i, o in enumerate(node.operands) if i not in type_only)


def _is_shape_arithmetic(node: Node, values: dict[Value, np.ndarray], is_data: bool) -> bool:
    """Whether a node computes with few numbers that follow from shapes (and not from constants alone)."""
    if is_data or all(o is None or o.is_constant for o in node.operands):
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
    if source is not None and (source == target or source.bits < target.bits):
        return widened(x, float_type)
    return x.astype(target.numpy).astype(float_type)


def _declared(value: Value | None) -> DType | None:
    return value.type.dtype if value is not None and isinstance(value.type, TensorType) else None


def _target(node: Node) -> DType | None:
    """The element type that a cast makes."""
    to = getattr(node.op, "to", None)
    if isinstance(to, int):
        return dtype_of_code(to)
    return _declared(node.result) or _declared(node.operands[1] if len(node.operands) > 1 else None)
