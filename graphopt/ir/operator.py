"""What the IR asks of an operator: a name, a domain, attributes. Rooms in `graphopt.ops` say the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from graphopt.errors import GraphError
from graphopt.ir.attributes import Attribute, Kind

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph

ONNX = ""  # the domain of ONNX's own operators
EMPTY: Mapping[str, Attribute] = MappingProxyType({})


class Operator:
    """An operator with its attributes bound: immutable, comparable, hashable.

    `name` and `domain` are ONNX's `op_type` and `domain`. `attributes` holds what differs from the defaults.
    """

    name: str
    domain: str
    is_opaque: ClassVar[bool] = False

    @property
    def attributes(self) -> Mapping[str, Attribute]:
        """Attributes in the order in which they are written."""
        raise NotImplementedError

    @property
    def graphs(self) -> tuple[Graph, ...]:
        """Subgraphs held by attributes, in order."""
        return ()

    def with_graphs(self, graphs: tuple[Graph, ...]) -> Operator:
        """The same operator holding other subgraphs, in the order of `graphs`."""
        if graphs:
            raise GraphError(f"{self} holds no subgraphs")
        return self

    def __str__(self) -> str:
        return f"{self.domain}::{self.name}" if self.domain else self.name


@dataclass(frozen=True, eq=True)
class Opaque(Operator):
    """An operator without a room: carried through untouched, taken to be random and to have effects.

    `version` is the opset of its domain that the node was written for, so that it is not moved to another; `why` says
    why an operator that has a room is opaque here.
    """

    name: str
    domain: str = ONNX
    bound: Mapping[str, Attribute] = field(default_factory=lambda: EMPTY)
    version: int | None = None
    overload: str = ""
    why: str = field(default="", compare=False)
    is_opaque: ClassVar[bool] = True

    @property
    def attributes(self) -> Mapping[str, Attribute]:
        """Every attribute that the file gave."""
        return self.bound

    @cached_property
    def graphs(self) -> tuple[Graph, ...]:
        """Subgraphs held by attributes, in order."""
        return tuple(g for a in self.bound.values() for g in a.graphs)

    def with_graphs(self, graphs: tuple[Graph, ...]) -> Opaque:
        """The same operator holding other subgraphs, in the order of `graphs`."""
        left = list(graphs)
        bound = dict(self.bound)
        for key, attribute in self.bound.items():
            if attribute.kind is Kind.GRAPH:
                bound[key] = Attribute(Kind.GRAPH, left.pop(0))
            elif attribute.kind is Kind.GRAPHS:
                count = len(attribute.graphs)
                bound[key] = Attribute(Kind.GRAPHS, tuple(left[:count]))
                del left[:count]
        return replace(self, bound=MappingProxyType(bound))

    def __hash__(self) -> int:
        return hash((self.name, self.domain, self.version, tuple(self.bound)))
