"""The IR's text form, for people and for golden files; `parse` is the inverse of `print_graph`.

    graph "main" opset {"": 20, "com.microsoft": 1} (%x: f32[N, 3, 224, 224]) -> (%y) {
      %w: f32[64, 3, 7, 7] = dense<sha256:0f3a…>
      %s: i64[4] = dense[0, -1, 2, 3]
      %e: f32[64] = splat 0.5
      %c: f32[N, 64, 112, 112] = Conv(%x, %w, _) {pads=[3, 3, 3, 3], strides=[2, 2]} @"layer1.conv"
      %a: f32[N, 64], _ = com.microsoft::Foo!1(%c) {mode="x", empty=ints[], body=graph "body" () -> (%z) {
          %z: ? = Relu(%a)
        }}
      %y: ? = Relu(%a)
    }

* Names that are not plain are quoted: `%"a/b:0"`, `"my domain"::"an op"`. `_` is an operand or a result left out.
* Types: `?` unknown, `f32[*]` unknown rank, `seq<…>`, `optional<…>`, `foreign<hex>`; dims as `graphopt.ir.dims`
  prints them. Dims that nobody named are numbered in the order in which they appear: `?0`, `?1`.
* A constant whose data has another type than the value says so: `%x: f32[N] = f32[2] dense[…]`.
* An opaque operator may have an overload and the opset that it was written for: `Foo<"overload">!13`.
* Attributes: `1` int, `1.0` float, `"…"` or `b"hex"` string, `f32[2] dense[…]` tensor, `graph … {…}`,
  `sparse b"hex"`, `type b"hex"`; lists of these. Lists that are empty or hold no numbers or strings name their kind:
  `ints[]`, `tensors[f32[] dense 1.0]`.
* Data: see `graphopt.ir.literal`. Large constants are named by digest, and come back without their data unless
  `parse` is given it.
* Read but never printed: comments from `#` to the end of the line; `random SEED` and `random SEED uniform LOW HIGH`
  as data; result types, the graph's name and its opsets may be left out.

Not in the text: docs, metadata, origins, and what `ModelInfo` has besides opsets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from graphopt.ir.attributes import Attribute, Kind
from graphopt.ir.constant import Constant
from graphopt.ir.dims import Dim, substitute, symbol, symbols
from graphopt.ir.graph import OMITTED, Graph, Node, Value
from graphopt.ir.literal import format_data, format_element, format_string
from graphopt.ir.operator import Opaque, Operator
from graphopt.ir.parser import DATA_WORDS, LEFT_OUT, LISTS, parse
from graphopt.ir.types import OptionalType, SequenceType, TensorType, Type, f32

__all__ = ["difference", "parse", "print_graph"]

Constants: TypeAlias = Literal["short", "elide"]
_PLAIN = re.compile(r"[A-Za-z_][\w.]*")
_LIST_WORD = {kind: word for word, (kind, _) in LISTS.items()}
_BARE_LISTS = (Kind.INTS, Kind.FLOATS, Kind.STRINGS)
_SPARSE = (Kind.SPARSE_TENSOR, Kind.SPARSE_TENSORS)
_PROTOS = (Kind.TYPE_PROTO, Kind.TYPE_PROTOS)


def print_graph(graph: Graph, *, constants: Constants = "short", names: bool = True) -> str:
    """The graph as text.

    Args:
        graph: a graph or subgraph.
        constants: `short` writes up to 16 elements and splats out, and names others by digest (which reads them);
            `elide` leaves all contents out, for golden files.
        names: whether nodes are printed with their names.
    """
    printer = _Printer(constants == "elide", names)
    printer.graph(graph, "")
    return "".join(printer.parts)


@dataclass
class _Numbering:
    """Types as text; the dims that nobody named get numbers, or with `off` keep their names."""

    off: bool = False
    numbers: dict[str, str] = field(default_factory=dict)

    def type(self, kind: Type | None) -> str:
        """A type; `?` for None."""
        if kind is None:
            return "?"
        if isinstance(kind, SequenceType):
            return f"seq<{self.type(kind.element)}>"
        if isinstance(kind, OptionalType):
            return f"optional<{self.type(kind.element)}>"
        if isinstance(kind, TensorType) and kind.shape is not None:
            return f"{kind.dtype}[{', '.join([self.dim(d) for d in kind.shape])}]"
        return str(kind)

    def dim(self, dim: Dim) -> str:
        """One dim."""
        text = str(dim)
        if "?" not in text or self.off:
            return text
        named = {
            n: symbol(self.numbers.setdefault(n, f"?{len(self.numbers)}")) for n in symbols(dim) if n.startswith("?")
        }
        return str(substitute(dim, named)) if named else text


class _Printer:
    def __init__(self, elide: bool, names: bool) -> None:
        self.parts: list[str] = []
        self._elide = elide
        self._names = names
        self._type = _Numbering().type

    def graph(self, graph: Graph, indent: str) -> None:
        opsets = ", ".join(f"{format_string(domain)}: {version}" for domain, version in graph.info.opsets.items())
        clause = f"opset {{{opsets}}} " if graph.outer is None else ""
        inputs = ", ".join([self.definition(v, " = ...") for v in graph.inputs])
        outputs = ", ".join([value_text(v.name) for v in graph.outputs])
        self.parts.append(f"graph {format_string(graph.name)} {clause}({inputs}) -> ({outputs}) {{\n")
        for value in graph.constants:
            self.parts.append(f"{indent}  {self.definition(value, '')}\n")
        for node in graph.nodes:
            self.parts.append(indent + "  ")
            self.node(node, indent + "  ")
            self.parts.append("\n")
        self.parts.append(indent + "}")

    def definition(self, value: Value, elided: str) -> str:
        """An input or a constant; `elided` stands for its data."""
        text = f"{value_text(value.name)}: {self._type(value.type)}"
        if value.constant is None:
            return text
        if self._elide:
            return text + elided
        other = "" if value.constant.type == value.type else f"{value.constant.type} "
        return f"{text} = {other}{format_data(value.constant)}"

    def node(self, node: Node, indent: str) -> None:
        if node.results:
            self.parts.append(", ".join([self.result(r) for r in node.results]) + " = ")
        operands = ", ".join([LEFT_OUT if o is None else value_text(o.name) for o in node.operands])
        self.parts.append(f"{operator_text(node.op)}({operands})")
        attributes = node.op.attributes
        for i, (key, attribute) in enumerate(attributes.items()):
            self.parts.append(f"{', ' if i else ' {'}{_word_text(key)}=")
            self.attribute(attribute, indent)
        if attributes:
            self.parts.append("}")
        if node.name and self._names:
            self.parts.append(f" @{format_string(node.name)}")

    def result(self, value: Value) -> str:
        """A result with its type."""
        if value.name == OMITTED:
            return LEFT_OUT if value.type is None else f"{LEFT_OUT}: {self._type(value.type)}"
        return f"{value_text(value.name)}: {self._type(value.type)}"

    def attribute(self, attribute: Attribute, indent: str) -> None:
        kind, value = attribute.kind, attribute.value
        if not isinstance(value, tuple):
            self.scalar(value, kind, indent)
            return
        self.parts.append("[" if value and kind in _BARE_LISTS else f"{_LIST_WORD[kind]}[")
        for i, item in enumerate(value):
            if i:
                self.parts.append(", ")
            self.scalar(item, kind, indent)
        self.parts.append("]")

    def scalar(self, value: object, kind: Kind, indent: str) -> None:
        if isinstance(value, Graph):
            self.graph(value, indent + "  ")
        elif isinstance(value, Constant):
            self.parts.append(f"{value.type} {'...' if self._elide else format_data(value)}")
        elif isinstance(value, str | bytes):
            word = "sparse " if kind in _SPARSE else "type " if kind in _PROTOS else ""
            self.parts.append(word + format_string(value))
        elif kind in (Kind.FLOAT, Kind.FLOATS) and isinstance(value, int | float):
            self.parts.append(float_text(value))
        else:
            self.parts.append(str(value))


def float_text(value: float) -> str:
    """A float attribute, in the shortest form that gives the same single."""
    with np.errstate(over="ignore"):
        return format_element(np.array([value], np.float32), f32)


def value_text(name: str) -> str:
    """A value as it is read: `%x`, `%"a/b:0"`."""
    return f"%{name}" if _PLAIN.fullmatch(name) and name != LEFT_OUT else f"%{format_string(name)}"


def _word_text(name: str) -> str:
    plain = _PLAIN.fullmatch(name) and name not in DATA_WORDS and name != LEFT_OUT
    return name if plain else format_string(name)


def operator_text(op: Operator) -> str:
    """An operator without its attributes."""
    text = f"{_word_text(op.domain)}::{_word_text(op.name)}" if op.domain else _word_text(op.name)
    if isinstance(op, Opaque):
        text += f"<{format_string(op.overload)}>" if op.overload else ""
        text += f"!{op.version}" if op.version is not None else ""
    return text


def difference(a: Graph, b: Graph) -> str | None:
    """None when the graphs are equal, else a sentence that says the first difference.

    Compared: opsets, and in the order in which they stand inputs, constants, nodes, outputs; their names, types,
    data, operators and attributes (in any order), operands, subgraphs. Dims that nobody named count by where they
    recur. Not compared: what the text leaves out, and whether an operator has a room.
    """
    if dict(a.info.opsets) != dict(b.info.opsets):
        return f"the opsets are {dict(a.info.opsets)} and {dict(b.info.opsets)}"
    found = _Comparison(_Numbering(), _Numbering()).graph(a, b)
    if found is None:
        return None
    # Numbers follow the order in a dim's normal form, which follows names: one of the two may be numbered already.
    for left, right in ((_Numbering(), _Numbering(off=True)), (_Numbering(off=True), _Numbering())):
        if _Comparison(left, right).graph(a, b) is None:
            return None
    return found


@dataclass
class _Comparison:
    """The first difference of two things that stand in the same place, or None."""

    left: _Numbering
    right: _Numbering
    twin: dict[Value, Value] = field(default_factory=dict)  # which value of one stands for which of the other

    def graph(self, a: Graph, b: Graph) -> str | None:
        if a.name != b.name:
            return f"the graphs are called {a.name!r} and {b.name!r}"
        for what, mine, its in (
            ("inputs", a.inputs, b.inputs),
            ("constants", a.constants, b.constants),
            ("outputs", a.outputs, b.outputs),
            ("nodes", a, b),
        ):
            if len(mine) != len(its):
                return f"in the graph {a.name!r} there are {len(mine)} and {len(its)} {what}"
        for one, other in zip((*a.inputs, *a.constants), (*b.inputs, *b.constants), strict=True):
            if found := self.value(one, other):
                return found
        for node, its_node in zip(a.nodes, b.nodes, strict=True):
            if found := self.node(node, its_node):
                return found
        for i, (one, other) in enumerate(zip(a.outputs, b.outputs, strict=True)):
            if not self.operand(one, other):
                return f"in the graph {a.name!r} output {i} is %{one.name} and %{other.name}"
        return None

    def value(self, a: Value, b: Value) -> str | None:
        """Two definitions; from here on one stands for the other."""
        self.twin[a] = b
        mine, its = self.left.type(a.type), self.right.type(b.type)
        if a.name != b.name:
            return f"%{a.name} is called %{b.name}"
        if mine != its:
            return f"%{a.name} has the types {mine} and {its}"
        if a.constant is None or b.constant is None:
            return f"%{a.name} has data in one of them only" if a.constant is not b.constant else None
        return None if a.constant.same(b.constant) else f"%{a.name} has other data"

    def operand(self, a: Value | None, b: Value | None) -> bool:
        """Whether both are left out, twins, or of one name and defined outside of what is compared."""
        if a is None or b is None:
            return a is b
        return self.twin[a] is b if a in self.twin else a.name == b.name

    def node(self, a: Node, b: Node) -> str | None:
        what = f"the node {a.label!r}"
        if a.name != b.name:
            return f"{what} is called {b.name!r}"
        if operator_text(a.op) != operator_text(b.op):
            return f"{what} is {operator_text(a.op)} and {operator_text(b.op)}"
        if len(a.operands) != len(b.operands) or len(a.results) != len(b.results):
            return f"{what} has other counts of operands or results"
        for i, (one, other) in enumerate(zip(a.operands, b.operands, strict=True)):
            if not self.operand(one, other):
                return f"{what} reads {one!r} and {other!r} as operand {i}"
        mine, its = a.op.attributes, b.op.attributes
        if mine.keys() != its.keys():
            return f"{what} has the attributes {sorted(mine)} and {sorted(its)}"
        for key in mine:
            if found := self.attribute(mine[key], its[key]):
                return f"{what}, attribute {key}: {found}"
        for one, other in zip(a.results, b.results, strict=True):
            if found := self.value(one, other):
                return found
        return None

    def attribute(self, a: Attribute, b: Attribute) -> str | None:
        if a.kind is not b.kind:
            return f"{a.kind.name} and {b.kind.name}"
        mine = a.value if isinstance(a.value, tuple) else (a.value,)
        its = b.value if isinstance(b.value, tuple) else (b.value,)
        if len(mine) != len(its):
            return f"{len(mine)} and {len(its)} elements"
        for one, other in zip(mine, its, strict=True):
            if isinstance(one, Graph) and isinstance(other, Graph):
                if found := self.graph(one, other):
                    return found
            elif isinstance(one, Constant) and isinstance(other, Constant):
                if not one.same(other):
                    return f"{one.type} and {other.type} with other data"
            elif isinstance(one, float) and isinstance(other, float):
                if float_text(one) != float_text(other):
                    return f"{float_text(one)} and {float_text(other)}"
            elif type(one) is not type(other) or one != other:
                return f"{one!r} and {other!r}"
        return None
