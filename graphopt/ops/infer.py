"""Type inference: a node's result types, and the contents of small integer tensors as dims."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from graphopt.errors import GraphoptError, TypeRuleError
from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.types import TensorType, Type, meet
from graphopt.ops.room import Fact, Room, UnknownRankError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np


MAX_DIM = 2**63 - 1  # ONNX's dims are integers of 64 bits


class Inferred(NamedTuple):
    """What the rule of an operator says of one result."""

    type: Type | None
    elements: np.ndarray | None = None


def fact(value: Value | None) -> Fact | None:
    """What is known of a value; None for an operand left out or one that is not known to be a tensor."""
    if value is None or not isinstance(value.type, TensorType):
        return None
    return Fact(value.type, value.constant if value.is_constant else None, value.elements)


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
    known = facts(node)
    if any(f is None and o is not None for f, o in zip(known, node.operands, strict=True)):
        return unknown
    check_operands(op, known)
    try:
        types = op.infer(*known)
    except UnknownRankError:
        return unknown
    if isinstance(types, TensorType):
        types = (types,)
    for found in types:
        if any(isinstance(d, int) and d > MAX_DIM for d in found.shape or ()):
            raise TypeRuleError(f"{found} has a dim that no integer of 64 bits holds")
    elements = op.elements(*known) if len(types) == 1 and types[0].dtype.is_integer else None
    return [
        Inferred(types[i], elements if i == 0 else None) if i < len(types) else Inferred(None)
        for i in range(len(node.results))
    ]


def check_operands(op: Room, known: tuple[Fact | None, ...]) -> None:
    """Number and element kinds of operands.

    Raises:
        TypeRuleError: with the operand's name.
    """
    slots = op.slots
    variadic = bool(slots) and slots[-1].variadic
    if len(known) > len(slots) and not variadic:
        raise TypeRuleError(f"{op.name} takes at most {len(slots)} operands and has {len(known)}")
    for i, slot in enumerate(slots):
        given = known[i] if i < len(known) else None
        if given is None:
            if not slot.optional:
                raise TypeRuleError(f"{op.name} needs its operand {slot.name!r}")
        elif given.dtype.kind not in slot.kinds:
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
