"""Reads the text form of graphs (see `graphopt.ir.text`).

Beyond what is printed it takes: no types for results (they are inferred later), no name and opsets, comments from
`#` to the line's end, and seeded data for examples: `random 3` (normal), `random 3 uniform 0.5 1.5`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from graphopt.errors import GraphError, ParseError
from graphopt.ir.attributes import Attribute, AttributeValue, Kind
from graphopt.ir.constant import Constant
from graphopt.ir.dims import parse_dim
from graphopt.ir.graph import OMITTED, Graph, ModelInfo, Node, Value
from graphopt.ir.operator import Opaque, Operator
from graphopt.ir.text import TYPED_LISTS
from graphopt.ir.types import DTYPES, ForeignType, OptionalType, SequenceType, TensorType, Type, string

Make: TypeAlias = Callable[[str, str, Mapping[str, Attribute]], Operator]

DEFAULT_OPSETS: Mapping[str, int] = MappingProxyType({"": 21})

_TOKEN = re.compile(
    r"""[ \t]*(?:(?P<newline>\n)|(?P<comment>\#[^\n]*)
    |(?P<string>b?"(?:[^"\\\n]|\\.)*")
    |(?P<digest>sha256:[0-9a-f]{64})
    |(?P<number>-?(?:\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|inf\b|nan\b))
    |(?P<word>[A-Za-z_][\w.]*|\?\d*)
    |(?P<mark>->|::|//|[-+*%(){}\[\]<>:,=@!]))""",
    re.VERBOSE,
)
_KIND_OF_LIST = {word: kind for kind, word in TYPED_LISTS.items()}


def opaque(domain: str, name: str, attributes: Mapping[str, Attribute]) -> Operator:
    """The operator without a room."""
    return Opaque(name, domain, MappingProxyType(dict(attributes)))


def parse(text: str, *, make: Make = opaque, constants: Mapping[str, Constant] | None = None) -> Graph:
    """The graph that a text describes, sealed.

    Args:
        text: as `print_graph` writes it.
        make: makes an operator of domain, name and attributes.
        constants: data by digest for `dense<sha256:...>`; those that it lacks are known by digest only.

    Raises:
        ParseError: with the line and what was expected.
    """
    parser = _Parser(text, make, constants or {})
    graph = parser.graph(None, {})
    if parser.peek():
        raise parser.error("the end of the text")
    return graph.seal()


class _Parser:
    def __init__(self, text: str, make: Make, constants: Mapping[str, Constant]) -> None:
        self.make = make
        self.data = constants
        self.tokens: list[tuple[str, str, int]] = []
        self.at = 0
        line, position = 1, 0
        text = text.replace("\r\n", "\n") + "\n"
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                if not text[position:].strip():
                    break
                raise ParseError(f"line {line}: {text[position:].split()[0][:20]!r} is not understood")
            position = match.end()
            kind = match.lastgroup or ""
            if kind == "newline":
                line += 1
            elif kind != "comment":
                self.tokens.append((kind, match[kind], line))

    # ---- tokens

    def peek(self, ahead: int = 0) -> str:
        return self.tokens[self.at + ahead][1] if self.at + ahead < len(self.tokens) else ""

    def kind(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    def take(self, *expected: str) -> str:
        token = self.peek()
        if not token or (expected and token not in expected):
            raise self.error(" or ".join(map(repr, expected)) or "more")
        self.at += 1
        return token

    def accept(self, token: str) -> bool:
        if self.peek() == token and self.kind() != "string":
            self.at += 1
            return True
        return False

    def error(self, expected: str) -> ParseError:
        at = min(self.at, len(self.tokens) - 1)
        line = self.tokens[at][2] if self.tokens else 1
        return ParseError(f"line {line}: expected {expected}, found {self.peek() or 'the end'!r}")

    def quoted(self) -> str:
        if self.kind() != "string":
            raise self.error("text in quotes")
        text: str = json.loads(self.take())
        return text

    def word(self) -> str:
        if self.kind() == "string":
            return self.quoted()
        if self.kind() != "word":
            raise self.error("a name")
        return self.take()

    # ---- graphs

    def graph(self, outer: Graph | None, visible: Mapping[str, Value]) -> Graph:
        name, opsets = "graph", dict(DEFAULT_OPSETS)
        if self.accept("graph"):
            if self.kind() == "string":
                name = self.quoted()
            if self.accept("opset"):
                opsets = self._opsets()
        graph = Graph(name, None if outer is not None else ModelInfo(opsets=MappingProxyType(opsets)), outer)
        scope: dict[str, Value] = {}

        def define(value: Value) -> None:
            if value.name == OMITTED:
                return
            if value.name in scope:
                raise ParseError(f"line {self._line()}: %{value.name} is defined twice")
            scope[value.name] = value

        self.take("(")
        while not self.accept(")"):
            value = self._typed_value()
            if self.accept("="):
                value.constant = self._constant(value.type)
            define(graph.add_input(value))
            if self.peek() != ")":
                self.take(",")
        self.take("->")
        self.take("(")
        outputs = []
        while not self.accept(")"):
            outputs.append(self._reference())
            if self.peek() != ")":
                self.take(",")
        self.take("{")
        while not self.accept("}"):
            self._statement(graph, scope, visible, define)
        for i, output in enumerate(outputs):
            found = scope.get(output) or visible.get(output)
            if found is None:
                raise ParseError(f"line {self._line()}: the output %{output} is not defined")
            graph.set_output(i, found)
        return graph

    def _line(self) -> int:
        return self.tokens[min(self.at, len(self.tokens)) - 1][2]

    def _opsets(self) -> dict[str, int]:
        found = {}
        self.take("{")
        while not self.accept("}"):
            domain = self.quoted()
            self.take(":")
            found[domain] = int(self.take())
            if self.peek() != "}":
                self.take(",")
        return found

    def _reference(self) -> str:
        self.take("%")
        return self.word() if self.kind() != "number" else self.take()

    def _typed_value(self) -> Value:
        value = Value(self._reference())
        if self.accept(":"):
            value.type = self._type()
        return value

    def _statement(
        self, graph: Graph, scope: dict[str, Value], visible: Mapping[str, Value], define: Callable[[Value], None]
    ) -> None:
        results = []
        while self.peek() in ("%", OMITTED):
            results.append(Value(OMITTED) if self.accept(OMITTED) else self._typed_value())
            if not self.accept(","):
                break
        if results:
            self.take("=")
            if self.peek() in ("dense", "splat", "random") and self.peek(1) != "(":
                (value,) = results
                value.constant = self._constant(value.type)
                value.type = value.constant.type
                define(graph.add_constant(value))
                return
        line = self._line()
        domain, name, overload, version = self._operator()
        operands: list[Value | None] = []
        self.take("(")
        while not self.accept(")"):
            if self.accept(OMITTED):
                operands.append(None)
            else:
                wanted = self._reference()
                found = scope.get(wanted) or visible.get(wanted)
                if found is None:
                    raise ParseError(f"line {line}: %{wanted} is not defined")
                operands.append(found)
            if self.peek() != ")":
                self.take(",")
        attributes = self._attributes(graph, {**visible, **scope}) if self.peek() == "{" else {}
        op = self.make(domain, name, attributes)
        if isinstance(op, Opaque) and (overload or version is not None):
            op = Opaque(op.name, op.domain, op.bound, version, overload)
        label = self.quoted() if self.accept("@") else ""
        for result in results:
            define(result)
        try:
            graph.insert(Node(op, operands, results, name=label, origins=(label,) if label else ()))
        except GraphError as error:
            raise ParseError(f"line {line}: {error}") from None

    def _operator(self) -> tuple[str, str, str, int | None]:
        domain, name = "", self.word()
        if self.accept("::"):
            domain, name = name, self.word()
        overload = ""
        if self.accept("<"):
            overload = self.quoted()
            self.take(">")
        return domain, name, overload, int(self.take()) if self.accept("!") else None

    # ---- types and constants

    def _type(self) -> Type | None:
        word = self.take()
        if word == "?":
            return None
        if word in ("seq", "optional"):
            self.take("<")
            element = self._type()
            self.take(">")
            return SequenceType(element) if word == "seq" else OptionalType(element)
        if word == "foreign":
            self.take("<")
            digits = ""
            while not self.accept(">"):
                digits += self.take()
            return ForeignType(bytes.fromhex(digits))
        dtype = DTYPES.get(word)
        if dtype is None:
            self.at -= 1
            raise self.error("a type")
        self.take("[")
        if self.peek() == "*" and self.peek(1) == "]":
            self.at += 2
            return TensorType(dtype, None)
        dims, part = [], ""
        depth = 0
        while True:
            if not self.peek():
                raise self.error("']'")
            is_text = self.kind() == "string"
            token = self.take()
            if not is_text and depth == 0 and token in (",", "]"):
                if part:
                    dims.append(parse_dim(part))
                part = ""
                if token == "]":
                    return TensorType(dtype, tuple(dims))
                continue
            depth += 0 if is_text else (token == "(") - (token == ")")
            part += token

    def _constant(self, kind: Type | None) -> Constant:
        word = self.take("dense", "splat", "random")
        if not isinstance(kind, TensorType) or not kind.is_static:
            raise ParseError(f"line {self._line()}: a constant needs a type with a static shape")
        if word == "random":
            return self._random(kind)
        if word == "dense" and self.accept("<"):
            digest = self.take().removeprefix("sha256:")
            self.take(">")
            return self.data.get(digest) or Constant(kind, digest=digest)
        shape = kind.static_shape
        if word == "dense" and self.accept("["):
            items = []
            while not self.accept("]"):
                items.append(self._element())
                if self.peek() != "]":
                    self.take(",")
        else:
            items = [self._element()] * (int(np.prod(shape)) if word == "splat" else 1)
        if len(items) != int(np.prod(shape)):
            raise ParseError(
                f"line {self._line()}: {kind} has {int(np.prod(shape))} elements, and {len(items)} are given"
            )
        if kind.dtype == string:
            array = np.empty(len(items), object)
            array[:] = items
            return Constant.of(array.reshape(shape))
        return Constant.of(np.asarray(items).astype(kind.dtype.numpy).reshape(shape), kind)

    def _random(self, kind: TensorType) -> Constant:
        """Seeded data from PCG64: normal, or uniform between two numbers; integers below 8."""
        rng = np.random.default_rng(int(self.take()))
        shape = kind.static_shape
        if self.accept("uniform"):
            low, high = float(self.take()), float(self.take())
            data = rng.random(shape) * (high - low) + low
        elif kind.dtype.is_float:
            data = rng.standard_normal(shape)
        else:
            return Constant.of(rng.integers(0, 8, shape).astype(kind.dtype.numpy), kind)
        return Constant.of(data.astype(kind.dtype.numpy), kind)

    def _element(self) -> object:
        kind, token = self.kind(), self.peek()
        if kind == "string":
            self.at += 1
            return bytes.fromhex(token[2:-1]) if token.startswith("b") else json.loads(token)
        if token in ("true", "false"):
            self.at += 1
            return token == "true"
        if token == "(":
            self.at += 1
            real = float(self.take())
            self.take(",")
            imaginary = float(self.take())
            self.take(")")
            return complex(real, imaginary)
        if kind != "number":
            raise self.error("a number or text")
        self.at += 1
        return float(token) if any(c in token for c in ".eEn") else int(token)

    # ---- attributes

    def _attributes(self, graph: Graph, visible: Mapping[str, Value]) -> dict[str, Attribute]:
        found: dict[str, Attribute] = {}
        self.take("{")
        while not self.accept("}"):
            key = self.word()
            self.take("=")
            found[key] = self._attribute(graph, visible)
            if self.peek() != "}":
                self.take(",")
        return found

    def _attribute(self, graph: Graph, visible: Mapping[str, Value]) -> Attribute:
        word = self.peek()
        if self.kind() == "word" and word in _KIND_OF_LIST and self.peek(1) == "[":
            self.at += 1
            kind = _KIND_OF_LIST[word]
            return Attribute(kind, tuple(a.value for a in self._list(graph, visible)))  # type: ignore[misc]
        if word == "[":
            items = self._list(graph, visible)
            if not items:
                raise self.error("an element (an empty list is written ints[], floats[], ...)")
            kinds = {a.kind for a in items}
            if kinds == {Kind.INT, Kind.FLOAT}:
                kinds = {Kind.FLOAT}
            if len(kinds) != 1:
                raise self.error("elements of one kind")
            plural = {Kind.INT: Kind.INTS, Kind.FLOAT: Kind.FLOATS, Kind.STRING: Kind.STRINGS}[kinds.pop()]
            values = tuple(float(a.value) if plural is Kind.FLOATS else a.value for a in items)  # type: ignore[arg-type]
            return Attribute(plural, values)  # type: ignore[arg-type]
        if self.kind() == "string":
            return Attribute(Kind.STRING, self._text())
        if self.kind() == "word":
            return self._structured(graph, visible)
        value = self._element()
        if isinstance(value, int):
            return Attribute(Kind.INT, value)
        return Attribute(Kind.FLOAT, float(np.float32(value)))  # type: ignore[arg-type]  # numbers are left

    def _text(self) -> AttributeValue:
        value = self._element()
        assert isinstance(value, str | bytes)
        return value

    def _structured(self, graph: Graph, visible: Mapping[str, Value]) -> Attribute:
        word = self.peek()
        if word == "graph":
            return Attribute(Kind.GRAPH, self.graph(graph, visible))
        if word in ("sparse", "type"):
            self.at += 1
            return Attribute(Kind.SPARSE_TENSOR if word == "sparse" else Kind.TYPE_PROTO, self._text())
        if word in DTYPES:
            return Attribute(Kind.TENSOR, self._constant(self._type()))
        if word in ("inf", "nan"):
            self.at += 1
            return Attribute(Kind.FLOAT, float(word))
        raise self.error("a value")

    def _list(self, graph: Graph, visible: Mapping[str, Value]) -> list[Attribute]:
        self.take("[")
        items = []
        while not self.accept("]"):
            items.append(self._attribute(graph, visible))
            if self.peek() != "]":
                self.take(",")
        return items
