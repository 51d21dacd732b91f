"""Attributes of operators, with ONNX's kinds kept apart (an empty list of ints is not one of floats)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias, Union

if TYPE_CHECKING:
    from graphopt.ir.constant import Constant
    from graphopt.ir.graph import Graph


class Kind(Enum):
    """ONNX `AttributeProto.AttributeType`, by number."""

    FLOAT = 1
    INT = 2
    STRING = 3
    TENSOR = 4
    GRAPH = 5
    FLOATS = 6
    INTS = 7
    STRINGS = 8
    TENSORS = 9
    GRAPHS = 10
    SPARSE_TENSOR = 11  # carried as the bytes of the message
    SPARSE_TENSORS = 12
    TYPE_PROTO = 13  # carried as the bytes of the message
    TYPE_PROTOS = 14


Scalar: TypeAlias = Union[int, float, str, bytes, "Constant", "Graph"]
AttributeValue: TypeAlias = Scalar | tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute: its kind and an immutable value.

    Strings are `str` where they are UTF-8 and `bytes` elsewhere; lists are tuples. Floats are single
    precision, widened.
    """

    kind: Kind
    value: AttributeValue

    @property
    def graphs(self) -> tuple[Graph, ...]:
        """The subgraphs in this attribute."""
        if self.kind is Kind.GRAPH:
            return (self.value,)  # type: ignore[return-value]  # the kind says that it is a graph
        return self.value if self.kind is Kind.GRAPHS else ()  # type: ignore[return-value]
