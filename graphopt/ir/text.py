"""The text form of graphs: one line a node, for people and for golden files. `parse` is in `graphopt.ir.parser`.

    graph "main" opset {"": 21} (%x: f32[N, 3, 8, 8]) -> (%y) {
      %w: f32[4, 3, 3, 3] = dense<sha256:0f3a...>
      %b: f32[4] = dense[1.0, 2.0, 3.0, 4.0]
      %c: f32[N, 4, 6, 6] = Conv(%x, %w, %b) @"conv1"
      %y: f32[N, 4, 6, 6] = com.microsoft::Gelu(%c) {approximate="tanh"}
    }

`_` is an operand left out or a result not given; `?` an unknown type. Large constants stand by digest, small ones by
content, those with one value as `splat 0.5`. Attributes: 1 is an int, 1.0 a float, "s" text, b"00ff" bytes, [1, 2]
ints, [1.0] floats, `ints[]` an empty list, `f32[2] dense[1.0, 2.0]` a tensor, `graph "body" (...) -> (...) {...}`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Literal, TypeAlias

import numpy as np

from graphopt.ir.attributes import Attribute, AttributeValue, Kind
from graphopt.ir.constant import Constant
from graphopt.ir.dims import substitute, symbol, symbols
from graphopt.ir.graph import OMITTED, Graph, Node, Value
from graphopt.ir.operator import Opaque
from graphopt.ir.types import OptionalType, SequenceType, TensorType, Type

CONTENT = 16  # constants with up to this many elements are written out
PLAIN = re.compile(r"[A-Za-z_][\w.]*")
TYPED_LISTS: Mapping[Kind, str] = {
    Kind.INTS: "ints",
    Kind.FLOATS: "floats",
    Kind.STRINGS: "strings",
    Kind.TENSORS: "tensors",
    Kind.GRAPHS: "graphs",
    Kind.SPARSE_TENSORS: "sparse_tensors",
    Kind.TYPE_PROTOS: "types",
}

Constants: TypeAlias = Literal["short", "elide"]


def print_graph(graph: Graph, *, constants: Constants = "short") -> str:
    """A graph as text.

    Args:
        graph: what to print.
        constants: `short` writes small constants out and names large ones by digest (which reads them); `elide`
            leaves out all contents, for golden files.
    """
    return "\n".join(_Printer(constants).graph(graph, ""))


class _Printer:
    def __init__(self, constants: Constants) -> None:
        self.constants = constants
        self.anonymous: dict[str, str] = {}  # anonymous dims are numbered in order of appearance

    def graph(self, graph: Graph, indent: str) -> Iterator[str]:
        opsets = ""
        if graph.outer is None:
            listed = ", ".join(f"{json.dumps(d)}: {v}" for d, v in graph.info.opsets.items())
            opsets = f" opset {{{listed}}}"
        inputs = ", ".join(self._input(v) for v in graph.inputs)
        outputs = ", ".join(map(reference, graph.outputs))
        yield f"{indent}graph {json.dumps(graph.name)}{opsets} ({inputs}) -> ({outputs}) {{"
        inner = indent + "  "
        for value in graph.constants:
            assert value.constant is not None
            data = "" if self.constants == "elide" else f" = {self.constant(value.constant)}"
            yield f"{inner}{reference(value)}: {self.type(value.constant.type)}{data}"
        for node in graph.nodes:
            yield from self._node(node, inner)
        yield f"{indent}}}"

    def _input(self, value: Value) -> str:
        default = ""
        if value.constant is not None:
            default = " = ..." if self.constants == "elide" else f" = {self.constant(value.constant)}"
        return f"{reference(value)}: {self.type(value.type)}{default}"

    def _node(self, node: Node, indent: str) -> Iterator[str]:
        results = ", ".join(
            OMITTED if r.name == OMITTED else f"{reference(r)}: {self.type(r.type)}" for r in node.results
        )
        operands = ", ".join(OMITTED if o is None else reference(o) for o in node.operands)
        head = f"{indent}{results} = " if node.results else indent
        line = f"{head}{operator_name(node)}({operands})"
        lines = [line]
        parts = list(node.op.attributes.items())
        if parts:
            lines[-1] += " {"
            for i, (key, attribute) in enumerate(parts):
                lines[-1] += f"{', ' if i else ''}{_key(key)}="
                first, *more = self.attribute(attribute, indent)
                lines[-1] += first
                lines += more
            lines[-1] += "}"
        if node.name:
            lines[-1] += f" @{json.dumps(node.name, ensure_ascii=False)}"
        yield from lines

    # ---- types and constants

    def type(self, kind: Type | None) -> str:
        if kind is None:
            return "?"
        if isinstance(kind, SequenceType):
            return f"seq<{self.type(kind.element)}>"
        if isinstance(kind, OptionalType):
            return f"optional<{self.type(kind.element)}>"
        if isinstance(kind, TensorType) and kind.shape is not None:
            dims = []
            for dim in kind.shape:
                named = {n: symbol(self._numbered(n)) for n in symbols(dim) if n.startswith("?")}
                dims.append(str(substitute(dim, named) if named else dim))
            return f"{kind.dtype}[{', '.join(dims)}]"
        return str(kind)

    def _numbered(self, name: str) -> str:
        return self.anonymous.setdefault(name, f"?{len(self.anonymous)}")

    def constant(self, constant: Constant) -> str:
        if constant.is_absent or (constant.size > CONTENT and not _is_splat(constant)):
            return f"dense<sha256:{constant.digest()}>"
        items = [element(e) for e in constant.array().ravel().tolist()] if constant.size else []
        if constant.type.dtype.is_float:
            items = [element(e) for e in constant.array().ravel()]
        if constant.size > 1 and len(set(items)) == 1:
            return f"splat {items[0]}"
        if constant.shape == ():
            return f"dense {items[0]}"
        return f"dense[{', '.join(items)}]"

    # ---- attributes

    def attribute(self, attribute: Attribute, indent: str) -> list[str]:
        kind, value = attribute.kind, attribute.value
        if kind in TYPED_LISTS and isinstance(value, tuple):
            if not value:
                return [f"{TYPED_LISTS[kind]}[]"]
            head = "[" if kind in (Kind.INTS, Kind.FLOATS, Kind.STRINGS) else f"{TYPED_LISTS[kind]}["
            lines = [head]
            for i, item in enumerate(value):
                first, *more = self._scalar(item, indent, kind)
                lines[-1] += (", " if i else "") + first
                lines += more
            lines[-1] += "]"
            return lines
        return self._scalar(value, indent, kind)

    def _scalar(self, value: AttributeValue, indent: str, kind: Kind) -> list[str]:
        if isinstance(value, Graph):
            first, *more = self.graph(value, indent + "  ")
            return [first.lstrip(), *more]
        if isinstance(value, Constant):
            data = "..." if self.constants == "elide" else self.constant(value)
            return [f"{self.type(value.type)} {data}"]
        if kind in (Kind.SPARSE_TENSOR, Kind.SPARSE_TENSORS, Kind.TYPE_PROTO, Kind.TYPE_PROTOS):
            word = "sparse" if kind in (Kind.SPARSE_TENSOR, Kind.SPARSE_TENSORS) else "type"
            assert isinstance(value, bytes)
            return [f'{word} b"{value.hex()}"']
        if kind in (Kind.FLOAT, Kind.FLOATS):
            return [element(np.float32(value))]  # type: ignore[arg-type]  # the kind says that it is a number
        return [element(value)]


def element(value: object) -> str:
    """One number, text or truth value; floats in the shortest form that reads back in their own precision."""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bytes):
        return f'b"{value.hex()}"'
    if isinstance(value, complex | np.complexfloating):
        return f"({value.real!r}, {value.imag!r})"
    if isinstance(value, int | np.integer):
        return str(int(value))
    number = float(value)  # type: ignore[arg-type]  # what is left are floats of any width
    if math.isnan(number) or math.isinf(number):
        return "nan" if math.isnan(number) else "inf" if number > 0 else "-inf"
    if isinstance(value, np.generic) and value.dtype.kind == "f":
        text = np.format_float_scientific(value, unique=True, trim="0")
        short = np.format_float_positional(value, unique=True, trim="0")
        text = short if len(short) <= len(text) + 2 else text
    else:
        text = repr(number)
    return text if any(c in text for c in ".en") else text + ".0"


def reference(value: Value) -> str:
    """A value's name as it is written."""
    return (
        f"%{value.name}"
        if PLAIN.fullmatch(value.name) and value.name != OMITTED
        else f"%{json.dumps(value.name, ensure_ascii=False)}"
    )


def operator_name(node: Node) -> str:
    """An operator's name as it is written: domain, name, and for opaque ones overload and opset."""
    op = node.op
    text = f"{op.domain}::{op.name}" if op.domain else op.name
    if not all(PLAIN.fullmatch(part) for part in (op.name, op.domain or "x")):
        text = f"{json.dumps(op.domain)}::{json.dumps(op.name)}"
    if isinstance(op, Opaque):
        text += f"<{json.dumps(op.overload)}>" if op.overload else ""
        text += f"!{op.version}" if op.version is not None else ""
    return text


def _key(name: str) -> str:
    return name if PLAIN.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def _is_splat(constant: Constant) -> bool:
    """Whether all elements have the same bits; large constants are looked at in a few places first."""
    if constant.is_recipe or constant.type.dtype.bits < 8:
        return False
    array = constant.array()
    if array.dtype.kind == "O":
        return False
    flat = np.ascontiguousarray(array).reshape(-1)
    raw = flat.view(np.uint8).reshape(flat.size, -1)
    probe = raw[:: max(1, flat.size // 8)]
    return bool((probe == raw[0]).all()) and bool((raw == raw[0]).all())


def same(a: Graph, b: Graph) -> str | None:
    """The first difference between two graphs in one sentence, or None: same inputs, nodes, types, constants.

    Doc strings and metadata do not count; anonymous dims count by where they are shared.
    """
    left, right = print_graph(a).splitlines(), print_graph(b).splitlines()
    for number, (x, y) in enumerate(zip(left, right, strict=False), 1):
        if x != y:
            return f"line {number} is {x.strip()!r} in one and {y.strip()!r} in the other"
    if len(left) != len(right):
        return f"one has {len(left)} lines and the other {len(right)}"
    return None
