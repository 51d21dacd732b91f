"""Type inference: a node's result types, and the contents of small tensors of integers (as dims) or bools."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from graphopt.errors import GraphoptError, TypeRuleError
from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.types import OptionalType, SequenceType, TensorType, Type, boolean, i64, meet
from graphopt.ops.room import BOOL, FOLLOWED, INTEGER, Collection, Fact, Room, UnknownRankError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from graphopt.ir.constant import Constant


MAX_DIM = 2**63 - 1  # ONNX's dims are integers of 64 bits


class Inferred(NamedTuple):
    """What the rule of an operator says of one result."""

    type: Type | None
    elements: np.ndarray | None = None


def fact(value: Value | None) -> Fact | None:
    """What is known of a value; None for an operand left out or one that is not known to be a tensor."""
    if value is None or not isinstance(value.type, TensorType):
        return None
    return Fact(value.type, _data(value), value.elements)


def _data(value: Value) -> Constant | None:
    """The data of a constant, or of what a Constant node gives."""
    if value.producer is None:
        return value.constant if value.is_constant else None
    op = value.producer.op
    return op.constant if isinstance(op, Room) else None


def known_of(value: Value | None) -> Fact | Collection | None:
    """What is known of a value, sequences and optionals too; None where not even that is known which it is."""
    if value is not None and isinstance(value.type, SequenceType | OptionalType):
        return Collection(value.type)
    return fact(value)


def facts(node: Node) -> tuple[Fact | None, ...]:
    """The facts of a node's operands."""
    return tuple(map(fact, node.operands))


def infer(node: Node) -> list[Inferred]:
    """Result types by the operator's rule; unknown for opaque operators and where operands are not known.

    Raises:
        TypeRuleError: the operator does not take these operands.
    """
    op = node.op
    unknown = [Inferred(None)] * len(node.results)
    if not isinstance(op, Room):
        return unknown
    known = tuple(map(known_of, node.operands))
    if any(k is None and o is not None for k, o in zip(known, node.operands, strict=True)):
        if not op.held:
            return unknown
        known = tuple(
            _there(op, i, k) if o is not None else k for i, (k, o) in enumerate(zip(known, node.operands, strict=True))
        )
    check_operands(op, known, node.operands)
    try:
        found = op.infer(*known)
    except UnknownRankError:
        found = op.unranked(*(k for k in known if not isinstance(k, Collection)))
    types = found if isinstance(found, tuple) else (found,)
    for kind in types:
        if isinstance(kind, TensorType) and any(isinstance(d, int) and d > MAX_DIM for d in kind.shape or ()):
            raise TypeRuleError(f"{kind} has a dim that no integer of 64 bits holds")
    first = types[0] if len(types) == 1 else None
    is_followed = isinstance(first, TensorType) and first.dtype.kind in FOLLOWED
    elements = op.elements(*(k for k in known if not isinstance(k, Collection))) if is_followed else None
    return [
        Inferred(types[i], elements if i == 0 else None) if i < len(types) else Inferred(None)
        for i in range(len(node.results))
    ]


def _there(op: Room, index: int, known: Fact | Collection | None) -> Fact | Collection | None:
    """What is known of an operand that is there: where nothing is, still that a condition or a count is one."""
    kinds = op.slots[min(index, len(op.slots) - 1)].kinds
    sure = boolean if kinds == BOOL else i64 if kinds == INTEGER else None
    return known if known is not None or sure is None else Fact(TensorType(sure, None))


def check_operands(
    op: Room, known: Sequence[Fact | Collection | None], operands: Sequence[Value | None] | None = None
) -> None:
    """Number and element kinds of operands; `operands` tells those left out from those of which nothing is known.

    Raises:
        TypeRuleError: with the operand's name.
    """
    slots = op.slots
    variadic = bool(slots) and slots[-1].variadic
    if len(known) > len(slots) and not variadic:
        raise TypeRuleError(f"{op.name} takes at most {len(slots)} operands and has {len(known)}")
    for i in range(max(len(slots), len(known))):
        slot, given = slots[min(i, len(slots) - 1)], known[i] if i < len(known) else None
        if given is None:
            is_there = operands is not None and i < len(operands) and operands[i] is not None
            if not slot.optional and not is_there:
                raise TypeRuleError(f"{op.name} needs its operand {slot.name!r}")
        elif (given.dtype.kind if isinstance(given, Fact) else given.kind) not in slot.kinds:
            kinds = " or ".join(sorted(slot.kinds))
            raise TypeRuleError(f"{op.name}'s operand {slot.name!r} is {given.type}, and it takes {kinds}")


def annotate(
    node: Node, graph: Graph, odd: list[str] | None = None, combine: Callable[[Type, Type | None], Type | None] = meet
) -> None:
    """Infer a node's result types and write them down, combined with what is there already.

    Where the rule and the declaration contradict each other the rule wins, as in ONNX Runtime, and `odd` gets
    a sentence. A node whose operands break its rule raises, unless `odd` is given: then it keeps what is declared.
    """
    try:
        inferred = infer(node)
    except (TypeRuleError, ValueError, IndexError, TypeError) as error:
        if odd is None:
            raise TypeRuleError(f"{node.op} {node.label!r}: {error}") from error
        odd.append(f"{node.op} {node.label!r} breaks its type rule: {error}")
        return
    for result, (rule, elements) in zip(node.results, inferred, strict=True):
        if rule is None:
            continue
        try:
            known = combine(rule, result.type)
        except GraphoptError as error:
            known = rule
            if odd is not None:
                odd.append(f"{result.name!r} is declared {result.type}, and {node.op} gives {rule}: {error}")
        if known != result.type or elements is not None:
            graph.set_type(result, known, elements)
