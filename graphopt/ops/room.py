"""Rooms: everything known about an operator, in one declaration.

A room is an immutable dataclass whose fields are the operator's attributes; an instance is the operator with its
attributes bound, and is what a node holds. Operands are declared as `x = operand(...)`.

    @operator("LeakyRelu", since=1)
    class LeakyRelu(Room):
        '''x where x >= 0, alpha * x elsewhere. ONNX LeakyRelu-16.'''

        x = operand(FLOAT)
        alpha: float = 0.01
        traits = ELEMENTWISE | {Trait.MONOTONE}

        def infer(self, x: Fact) -> TensorType: ...
        def kernel(self, x: np.ndarray) -> np.ndarray: ...

A room describes the *newest* definition of its operator; `adapters` take nodes of older opsets up to it when a
file is read and down again when one is written.
"""

from __future__ import annotations

import itertools
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, FrozenInstanceError, dataclass, fields, replace
from enum import Enum, auto
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, TypeVar, dataclass_transform

import numpy as np

from graphopt.errors import GraphoptError, TypeRuleError
from graphopt.ir.attributes import Attribute, AttributeValue, Kind
from graphopt.ir.constant import Constant
from graphopt.ir.dims import Dim, symbol
from graphopt.ir.operator import Operator
from graphopt.ir.types import DType, OptionalType, SequenceType, Shape, TensorType, Type

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph

MICROSOFT = "com.microsoft"  # the domain of ONNX Runtime's own operators
NEWEST = 26  # the opset whose definitions the rooms describe

FLOAT = frozenset({"float"})
INTEGER = frozenset({"int", "uint"})
NUMERIC = FLOAT | INTEGER
BOOL = frozenset({"bool"})
ANY = NUMERIC | BOOL | frozenset({"complex", "string"})
SEQUENCE = frozenset({"sequence"})
OPTIONAL = frozenset({"optional"})
FOLLOWED = INTEGER | BOOL  # element types whose contents are followed: as dims, or as truth values

MAX_ELEMENTS = 1024  # larger tensors are data, not shapes: their contents are not followed as dims


class Trait(Enum):
    """Facts about an operator that rules rest on, instead of on its name."""

    ELEMENTWISE = auto()  # each result element depends on the elements at its (broadcast) position only
    COMMUTATIVE = auto()  # the first two operands may be exchanged
    MONOTONE = auto()  # non-decreasing in the first operand
    IDEMPOTENT = auto()  # f(f(x)) == f(x)
    POSITIVE_HOMOGENEOUS = auto()  # f(c*x) == c*f(x) for c > 0
    MOVES = auto()  # only moves or repeats elements of the first operand: bits stay as they are
    SHAPE_ARITHMETIC = auto()  # the kernel also computes on dims (object arrays)
    ACTIVATION = auto()  # an elementwise nonlinearity of one tensor
    WINDOW = auto()  # slides a window over the spatial axes
    PARTIAL = auto()  # not defined for all contents of its operands: an index out of range, an integer divided by 0
    QUANTIZES = auto()  # between numbers and scaled integers: kept as it is, as runtimes know groups by these nodes


class UnknownRankError(Exception):
    """Raised inside a type rule that needs a rank where none is known; the result's rank is then unknown too."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One operand in a room's declaration: the kinds of element types it takes, and whether it may be left out."""

    name: str
    kinds: frozenset[str]
    optional: bool
    variadic: bool


def operand(kinds: frozenset[str] = ANY, *, optional: bool = False, variadic: bool = False) -> Slot:
    """Declare an operand of a room; the attribute's name becomes the operand's."""
    return Slot("", kinds, optional, variadic)


@dataclass(frozen=True)
class Fact:
    """What is known of an operand while types are inferred: its type, its data, its contents as dims."""

    type: TensorType
    constant: Constant | None = None
    known: np.ndarray | None = None  # contents as dims, from inference

    @property
    def dtype(self) -> DType:
        """Element type."""
        return self.type.dtype

    @property
    def shape(self) -> Shape:
        """The dims.

        Raises:
            UnknownRankError: not even the rank is known.
        """
        if self.type.shape is None:
            raise UnknownRankError
        return self.type.shape

    @property
    def rank(self) -> int:
        """Number of dims; raises `UnknownRankError` where it is not known."""
        return len(self.shape)

    @cached_property
    def elements(self) -> np.ndarray | None:
        """Contents as an object array of dims (or of bools) where this is a small tensor that is known, else None."""
        if self.known is not None:
            return self.known
        if self.constant is None or self.dtype.kind not in FOLLOWED or self.constant.is_absent:
            return None
        return self.constant.array().astype(object) if self.constant.size <= MAX_ELEMENTS else None

    @property
    def integers(self) -> tuple[int, ...] | None:
        """Contents as plain integers (flattened), or None when any is not known."""
        if self.elements is None:
            return None
        flat = self.elements.ravel().tolist()
        return tuple(flat) if all(isinstance(e, int) for e in flat) else None

    @property
    def scalar(self) -> float | int | bool | None:
        """The value of a constant with one element, else None."""
        if self.constant is None or self.constant.size != 1 or self.constant.is_absent:
            return None
        return typing.cast("float | int | bool", self.constant.array().reshape(()).item())


@dataclass(frozen=True, slots=True)
class Collection:
    """What is known of an operand that is a sequence or an optional: its type."""

    type: SequenceType | OptionalType

    @property
    def kind(self) -> str:
        """What a slot calls it."""
        return "sequence" if isinstance(self.type, SequenceType) else "optional"


@dataclass(frozen=True, slots=True)
class Step:
    """A node on its way between opsets: attributes, and operands as value names or new constants ('' left out).

    Results behind the first that nobody reads are '' too; an adapter may cut them off.
    """

    attributes: Mapping[str, Attribute]
    operands: tuple[str | Constant, ...]
    results: tuple[str, ...]
    facts: tuple[Fact | None, ...] = ()  # of the operands, where known (always when going down)


@dataclass(frozen=True, slots=True)
class Adapter:
    """How an operator's definition changed at opset `version`: `up` from below it, `down` to below it.

    `down` raises `OpsetError` with the feature that the older definition lacks.
    """

    version: int
    up: Callable[[Step], Step]
    down: Callable[[Step], Step]


class Room(Operator):
    """Base of all rooms.

    What a subclass may define beside its fields and operands:

    `infer(*facts) -> Type | tuple`: the type rule; raises `TypeRuleError`. Facts of operands left out are None.
    `kernel(*arrays) -> array | tuple`: NumPy semantics for any float type; operands left out are None. A sequence is
    an array of objects (see `ops.sequence`).
    `run(call, *arrays) -> tuple`: in place of a kernel, for operators that hold graphs: `call(graph, arrays)` gives
    the outputs of one of them.
    """

    name: ClassVar[str] = ""  # type: ignore[misc]  # fixed per class here, per instance for opaque operators
    domain: ClassVar[str] = ""  # type: ignore[misc]
    since: ClassVar[int] = 1  # the opset in which the operator appeared
    formerly: ClassVar[tuple[str, int] | None] = None  # ("Upsample", 10): what it was called before an opset
    slots: ClassVar[tuple[Slot, ...]] = ()
    traits: ClassVar[frozenset[Trait]] = frozenset()
    adapters: ClassVar[tuple[Adapter, ...]] = ()
    kinds: ClassVar[Mapping[str, Kind]] = MappingProxyType({})
    held: ClassVar[tuple[str, ...]] = ()  # the attributes that hold graphs
    type_only: ClassVar[frozenset[int]] = frozenset()  # operands of which only type and shape matter
    least: ClassVar[int] = 0  # operands that are written even where they are left out

    infer: ClassVar[Callable[..., Type | tuple[Type | None, ...] | None]]
    kernel: ClassVar[Callable[..., np.ndarray | tuple[np.ndarray, ...]]]
    run: ClassVar[Callable[..., tuple[np.ndarray, ...]]]

    def __setattr__(self, name: str, value: object) -> None:
        if name in self.__dict__:
            raise FrozenInstanceError(f"{self.name}.{name} is bound: make another with dataclasses.replace")
        object.__setattr__(self, name, value)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and all(getattr(self, k) == getattr(other, k) for k in self.kinds)

    def __hash__(self) -> int:
        return hash((type(self), *(getattr(self, k) for k in self.kinds)))

    def __repr__(self) -> str:
        bound = ", ".join(f"{k}={a.value!r}" for k, a in self.attributes.items())
        return f"{self.name}({bound})"

    def elements(self, *facts: Fact | None) -> np.ndarray | None:
        """Contents of the result as dims, where they follow from the operands' (see `Trait.SHAPE_ARITHMETIC`)."""
        if Trait.SHAPE_ARITHMETIC not in self.traits:
            return None
        arrays = [None if f is None else f.elements for f in facts]
        if any(a is None and f is not None for a, f in zip(arrays, facts, strict=True)):
            return None
        result = self.kernel(*arrays)
        return result if isinstance(result, np.ndarray) and result.size <= MAX_ELEMENTS else None

    def unranked(self, *facts: Fact | None) -> TensorType | None:
        """What is known of the first result where `infer` needs a rank that is not known: the element type."""
        first = facts[0] if facts else None
        return None if first is None else TensorType(first.dtype, None)

    def macs(self, facts: tuple[Fact | None, ...], results: tuple[TensorType, ...]) -> Dim:
        """Multiply-accumulates; 0 for operators that do none."""
        return 0

    def forwards(self, *facts: Fact | None) -> int | None:
        """The operand that the (first) result certainly equals bit for bit, or None: the operator does nothing."""
        return None

    def is_pure(self, *facts: Fact | None) -> bool:
        """Whether the result depends on the operands alone (no randomness, no state)."""
        return True

    @property
    def constant(self) -> Constant | None:
        """The result of an operator that is nothing but a constant, else None."""
        return None

    @property
    def graphs(self) -> tuple[Graph, ...]:
        """Subgraphs held by attributes, in order."""
        return tuple(getattr(self, key) for key in self.held) if self.held else ()

    def with_graphs(self, graphs: tuple[Graph, ...]) -> Room:
        """The same operator holding other subgraphs, in the order of `graphs`."""
        return replace(self, **dict(zip(self.held, graphs, strict=True)))  # type: ignore[type-var]  # rooms are dataclasses

    @cached_property
    def attributes(self) -> Mapping[str, Attribute]:
        """Fields that differ from their defaults, as ONNX attributes."""
        found = {}
        for f in fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            value = getattr(self, f.name)
            if value is not None and (f.default is MISSING or value != f.default):
                found[f.name] = Attribute(self.kinds[f.name], value)
        return MappingProxyType(found)

    @classmethod
    def name_at(cls, version: int) -> str:
        """What the operator is called in an opset."""
        return cls.formerly[0] if cls.formerly is not None and version < cls.formerly[1] else cls.name

    @classmethod
    def of(cls, attributes: Mapping[str, Attribute]) -> Room:
        """The operator with `attributes` bound.

        Raises:
            TypeRuleError: an attribute is unknown, has the wrong kind, or is missing.
        """
        values: dict[str, AttributeValue] = {}
        for key, attribute in attributes.items():
            if key not in cls.kinds:
                raise TypeRuleError(f"{cls.name} has no attribute {key!r}")
            if attribute.kind is not cls.kinds[key]:
                raise TypeRuleError(
                    f"{cls.name}'s attribute {key!r} is {cls.kinds[key].name}, not {attribute.kind.name}"
                )
            values[key] = attribute.value
        missing = [f.name for f in fields(cls) if f.default is MISSING and f.name not in values]  # type: ignore[arg-type]
        if missing:
            raise TypeRuleError(f"{cls.name} lacks the attribute {missing[0]!r}")
        return cls(**values)


_KIND_OF: Mapping[str, Kind] = {  # by a field's annotation, which stays text: evaluating it would take longer
    "int": Kind.INT,
    "float": Kind.FLOAT,
    "str": Kind.STRING,
    "Constant": Kind.TENSOR,
    "Data": Kind.TENSOR,
    "Graph": Kind.GRAPH,
    "bytes": Kind.TYPE_PROTO,
    "tuple[int, ...]": Kind.INTS,
    "tuple[float, ...]": Kind.FLOATS,
    "tuple[str, ...]": Kind.STRINGS,
}

R = TypeVar("R", bound=type[Room])


@dataclass_transform(frozen_default=True)
def operator(name: str, *, since: int = 1, domain: str = "") -> Callable[[R], R]:
    """Declare a room: makes the class a frozen dataclass of attributes and enters it in the registry."""
    from graphopt.ops.registry import register

    def declare(cls: R) -> R:
        cls.name, cls.domain, cls.since = name, domain, since
        slots = [(key, value) for key, value in vars(cls).items() if isinstance(value, Slot)]
        cls.slots = tuple(Slot(key, s.kinds, s.optional, s.variadic) for key, s in slots)
        made = dataclass(eq=False, repr=False)(cls)  # `Room` has one of each for all: a room takes no time to declare
        made.kinds = MappingProxyType({f.name: _kind(f.type) for f in fields(made)})  # type: ignore[arg-type]
        made.held = tuple(key for key, kind in made.kinds.items() if kind is Kind.GRAPH)
        register(made)
        return typing.cast(R, made)

    return declare


def _kind(annotation: object) -> Kind:
    return _KIND_OF[str(annotation).removesuffix(" | None")]


class NoKernelError(GraphoptError):
    """An operator, or a combination of its attributes, that has no NumPy kernel."""


_unknown = itertools.count()


def unknown_dim() -> Dim:
    """A dim of which nothing is known: an anonymous symbol unlike any other. Never written to files."""
    return symbol(f"?{next(_unknown)}")
