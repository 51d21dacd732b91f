"""Patterns: what a rule looks for, written with the same operator functions as a network.

    x, s, b, m, v = var("x"), constant("s"), constant("b"), constant("m"), constant("v")
    relu_of_bn = ops.relu(ops.batch_normalization(x, s, b, m, v))

A pattern fixes operators and how they are connected, not attributes: a rule reads those from the matched node.
`some(LinearWeights, ...)` stands for any operator with that interface or trait. Operands of commutative
operators match both ways. A variable that appears twice must be the same value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from graphopt.errors import UsageError
from graphopt.ir.graph import Node, Value
from graphopt.ops.bind import Like, Operand
from graphopt.ops.room import Room, Trait

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Match:
    """Where a pattern was found: values by variable, nodes by `named`, and all matched nodes, root last."""

    values: Mapping[str, Value | None] = field(default_factory=lambda: MappingProxyType({}))
    nodes: Mapping[str, Node] = field(default_factory=lambda: MappingProxyType({}))
    order: tuple[Node, ...] = ()

    def bound(self, name: str, value: Value | None) -> Match | None:
        """This match with a variable bound; None when it is bound to something else."""
        if name in self.values:
            return self if self.values[name] is value else None
        return replace(self, values=MappingProxyType({**self.values, name: value}))

    def with_node(self, name: str, node: Node) -> Match:
        """This match with one more node."""
        nodes = MappingProxyType({**self.nodes, name: node}) if name else self.nodes
        order = self.order if node in self.order else (*self.order, node)
        return replace(self, nodes=nodes, order=order)


class Pattern(Operand):
    """Base of all patterns; operator functions applied to one give a pattern."""

    def bind(self, op: Room, operands: Sequence[Operand | None], results: int) -> tuple[Operand, ...]:
        """A pattern for that operator over patterns; only first results can be matched further."""
        return (Applied(type(op), tuple(o for o in operands if o is None or isinstance(o, Pattern))),)

    def lift(self, value: Like) -> Operand:
        """A pattern for a constant whose elements all equal `value`."""
        if not isinstance(value, int | float):
            raise UsageError("a pattern takes plain numbers as constants, and arrays as `constant(name)`")
        return Number(float(value))

    def matches(self, value: Value | None, match: Match) -> Iterator[Match]:
        """All ways in which this pattern matches `value`, given what is bound already."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Var(Pattern):
    """Any value; `constants` asks for a constant, `optional` also takes an operand that was left out."""

    name: str
    constants: bool = False
    optional: bool = False

    def matches(self, value: Value | None, match: Match) -> Iterator[Match]:
        """At most one way: bound to this value."""
        if value is None and not self.optional:
            return
        if self.constants and value is not None and not value.is_constant:
            return
        if (bound := match.bound(self.name, value)) is not None:
            yield bound


@dataclass(frozen=True, eq=False)
class Number(Pattern):
    """A constant whose elements are all this number."""

    number: float

    def matches(self, value: Value | None, match: Match) -> Iterator[Match]:
        """At most one way, binding nothing."""
        if value is not None and value.is_constant and value.constant is not None:
            array = value.constant.array()
            if array.size and array.dtype.kind in "iuf" and bool((array == self.number).all()):
                yield match


@dataclass(frozen=True, eq=False)
class Applied(Pattern):
    """A node whose operator is of a room, or has an interface or trait, over operand patterns.

    `operands` None takes any; missing trailing patterns match operands left out.
    """

    key: type | Trait
    operands: tuple[Pattern | None, ...] | None = None
    name: str = ""
    anywhere: Pattern | None = None  # must match one of the operands, at any place

    def named(self, name: str) -> Applied:
        """The same pattern; the matched node is found under `name`."""
        return replace(self, name=name)

    @property
    def is_bare(self) -> bool:
        """Whether the pattern looks at the root's operator only."""
        return self.operands is None and self.anywhere is None

    def accepts(self, op_type: type) -> bool:
        """Whether nodes with operators of this class can match."""
        if isinstance(self.key, Trait):
            return issubclass(op_type, Room) and self.key in op_type.traits
        return issubclass(op_type, self.key)

    def matches(self, value: Value | None, match: Match) -> Iterator[Match]:
        """All ways, when the value is the node's first result."""
        if value is not None and value.producer is not None and value.index == 0:
            yield from self.matches_node(value.producer, match)

    def matches_node(self, node: Node, match: Match) -> Iterator[Match]:
        """All ways in which `node` itself matches."""
        if not self.accepts(type(node.op)):
            return
        if self.operands is None:
            found: Iterator[Match] = iter((match,))
        else:
            found = _match_operands(self.operands, node, match)
        for partial in found:
            if self.anywhere is None:
                yield partial.with_node(self.name, node)
                continue
            for operand in node.operands:
                for inner in self.anywhere.matches(operand, partial):
                    yield inner.with_node(self.name, node)


def _match_operands(patterns: tuple[Pattern | None, ...], node: Node, match: Match) -> Iterator[Match]:
    given = node.operands
    if len(given) > len(patterns):
        return
    padded = (*given, *[None] * (len(patterns) - len(given)))
    yield from _match_each(patterns, padded, match)
    commutes = isinstance(node.op, Room) and Trait.COMMUTATIVE in node.op.traits
    if commutes and len(padded) == 2 and padded[0] is not padded[1]:
        yield from _match_each(patterns, padded[::-1], match)


def _match_each(
    patterns: tuple[Pattern | None, ...], values: tuple[Value | None, ...], match: Match
) -> Iterator[Match]:
    if not patterns:
        yield match
        return
    if patterns[0] is None:
        if values[0] is None:
            yield from _match_each(patterns[1:], values[1:], match)
        return
    for first in patterns[0].matches(values[0], match):
        yield from _match_each(patterns[1:], values[1:], first)


def var(name: str) -> Var:
    """Any value, bound to `name`."""
    return Var(name)


def constant(name: str) -> Var:
    """Any constant, bound to `name`."""
    return Var(name, constants=True)


def maybe(name: str) -> Var:
    """Any value or an operand left out, bound to `name`."""
    return Var(name, optional=True)


def some(key: type | Trait, *operands: Pattern, name: str = "", anywhere: Pattern | None = None) -> Applied:
    """A node whose operator is of the room, or has the interface or trait `key`.

    Without operands any are taken; `anywhere` must then match one of them.
    """
    return Applied(key, operands or None, name, anywhere)


def find(pattern: Applied, root: Node) -> Match | None:
    """The first way in which `pattern` matches with `root` as its last node, all of it in one graph.

    What a subgraph reads from outside runs elsewhere, and perhaps less often: it is a value, not a part of the match.
    """
    if not pattern.accepts(type(root.op)):
        return None
    if pattern.is_bare:
        return Match().with_node(pattern.name, root) if pattern.name else Match(order=(root,))
    found = pattern.matches_node(root, Match())
    return next((m for m in found if all(n.graph is root.graph for n in m.order)), None)
