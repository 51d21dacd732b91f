"""A site: one place where a rule matched, what the rule may ask there, and the replacement it builds, detached.

A rule reads operands through `site[...]`, refuses with `site.require(...)`, and builds with operator functions on
operands of the site. Nothing that it builds touches the graph; the engine checks the draft and commits it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from graphopt.errors import GraphError, UsageError
from graphopt.ir.constant import Constant
from graphopt.ir.graph import Graph, Node, Use, Value, path_of
from graphopt.ir.operator import Operator
from graphopt.ir.types import DType, TensorType
from graphopt.ops.algebra import Refused
from graphopt.ops.bind import Like, Operand
from graphopt.ops.infer import fact, infer
from graphopt.ops.room import Fact, Room, Trait
from graphopt.rewrite.pattern import Match

FactValue: TypeAlias = str | int | float | bool | list[int] | list[str]


class Draft(Operand):
    """A value inside a replacement: an existing one, or the result of a node that is not in the graph yet."""

    def __init__(self, site: Site, value: Value) -> None:
        self.site = site
        self.value = value

    def bind(self, op: Room, operands: Sequence[Operand | None], results: int) -> tuple[Operand, ...]:
        """A detached node; its result types are inferred at once."""
        values = [None if o is None else _value(o) for o in operands]
        return tuple(Draft(self.site, r) for r in self.site.add_node(op, values, results).results)

    def lift(self, value: Like) -> Operand:
        """A new constant, of this value's element type where `value` is a plain number."""
        kind = self.value.type
        if isinstance(value, int | float) and isinstance(kind, TensorType):
            return self.site.constant(np.asarray(value, kind.dtype.numpy))
        return self.site.constant(np.asarray(value))


def _value(operand: Operand) -> Value:
    if not isinstance(operand, Draft):
        raise UsageError("a replacement is built from operands of its site")
    return operand.value


@dataclass(frozen=True)
class Patch:
    """What a rule wants done: values to replace, and inputs to make constants; with neither the site just goes."""

    replace: tuple[tuple[Value, Draft | Value], ...] = ()
    freeze: tuple[Value, ...] = ()


Replacement: TypeAlias = Draft | Operand | Value | Patch


@dataclass
class Site:
    """A match, with the draft of its replacement.

    Attributes:
        root: the last node of the match; None for a rule on values.
        value: the value that a rule on values looks at.
        facts: what the replacement rests on, for the record; on replay they are given.
    """

    graph: Graph
    match: Match
    root: Node | None = None
    value: Value | None = None
    target: str = "portable"
    facts: dict[str, FactValue] = field(default_factory=dict)
    replaying: bool = False
    nodes: list[Node] = field(default_factory=list)
    constants: list[Value] = field(default_factory=list)

    # ---- asking

    @property
    def node(self) -> Node:
        """The root node."""
        if self.root is None:
            raise GraphError("this site is a value, not a node")
        return self.root

    @property
    def key(self) -> int | str:
        """What the record calls the site by: its node's id, or its value's path."""
        return self.root.id if self.root is not None else path_of(self.value) if self.value is not None else ""

    @property
    def label(self) -> str:
        """What people call the site by."""
        return self.root.label if self.root is not None else self.value.name if self.value is not None else ""

    def named(self, name: str) -> Node:
        """The matched node that the pattern calls `name`."""
        return self.match.nodes[name]

    def bound(self, name: str) -> Value:
        """The value of a variable that cannot have been left out."""
        value = self.match.values[name]
        if value is None:
            raise GraphError(f"{name} was left out")
        return value

    def given(self, name: str) -> Value | None:
        """The value of a variable, None where the operand was left out."""
        return self.match.values.get(name)

    def require(self, holds: bool, reason: str) -> None:
        """Go on only if `holds`.

        Raises:
            Refused: with the reason, a sentence with the values in it.
        """
        if not holds:
            raise Refused(reason)

    def only_read_by(self, value: Value, reader: Node) -> None:
        """Go on only if nothing but `reader` reads `value`: it will be gone.

        Raises:
            Refused: naming the other reader.
        """
        for use in value.uses:
            if use.user is not reader:
                raise Refused(f"`{value.name}` is also {_reader(use)}")

    def not_quantizing(self, node: Node | None, what: str = "") -> None:
        """Go on only if `node` is not between numbers and scaled integers: what is quantized stays quantized.

        Raises:
            Refused: it is; the reason begins with `what`.
        """
        if node is not None and isinstance(node.op, Room) and Trait.QUANTIZES in node.op.traits:
            raise Refused(f"{what or f'{node.op} stays as it is'}: runtimes know what is quantized by such nodes")

    def data(self, value: Value | None, what: str) -> np.ndarray:
        """The elements of a constant operand.

        Raises:
            Refused: it is computed or an input.
        """
        if value is None or not value.is_constant or value.constant is None:
            name = "left out" if value is None else f"`{value.name}`, which is not a constant"
            raise Refused(f"{what} is {name}")
        return value.constant.array()

    def fact(self, value: Value | None) -> Fact:
        """What is known of a tensor.

        Raises:
            Refused: not even that it is one.
        """
        known = fact(value)
        if known is None:
            raise Refused(f"the type of `{value.name if value else ''}` is not known")
        return known

    def note(self, key: str, value: FactValue) -> None:
        """Write down a fact that the replacement rests on."""
        self.facts[key] = value

    # ---- building

    def __getitem__(self, key: str | Value) -> Draft:
        """The operand for a variable or a value, for building with."""
        return Draft(self, self.bound(key) if isinstance(key, str) else key)

    def constant(self, data: np.ndarray | Constant, name: str = "") -> Draft:
        """A new constant, called `name` if that is free when all is done, else by `name` and a number."""
        value = Value(name, constant=data if isinstance(data, Constant) else Constant.of(data))
        self.constants.append(value)
        return Draft(self, value)

    def apply(self, op: Operator, *operands: Draft | Value | None, results: int = 1) -> Draft:
        """A new node for an operator that is at hand as an object; its first result."""
        values = [o.value if isinstance(o, Draft) else o for o in operands]
        while values and values[-1] is None:
            values.pop()
        return Draft(self, self.add_node(op, values, results).result)

    def add_node(self, op: Operator, operands: Sequence[Value | None], results: int) -> Node:
        """A detached node with inferred result types."""
        node = Node(op, operands, results)
        for result, known in zip(node.results, infer(node), strict=True):
            result.type, result.elements = known
        self.nodes.append(node)
        return node

    def dtype(self, value: Value) -> DType:
        """Element type of a tensor value."""
        return self.fact(value).dtype


def _reader(use: Use) -> str:
    if isinstance(use.user, Graph):
        return "a graph output" if use.user.outer is None else f"an output of the subgraph `{use.user.name}`"
    return f"read by `{use.user.label}`"


def patch_of(site: Site, result: Replacement | Sequence[Replacement]) -> Patch:
    """The patch that a rule's return value stands for: replacements of the root's results, in order."""
    if isinstance(result, Patch):
        return result
    new = list(result) if isinstance(result, Sequence) else [result]
    pairs = []
    for old, replacement in zip(site.node.results, new, strict=False):
        if not isinstance(replacement, Draft | Value):
            raise UsageError("a rule returns operands of its site, values, or a patch")
        pairs.append((old, replacement))
    return Patch(tuple(pairs))
