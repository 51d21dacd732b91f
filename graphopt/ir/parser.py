"""The parser of the IR's text form; `graphopt.ir.text` describes the language.

One method reads each part of the grammar, with a token of lookahead (`graphopt.ir.tokens`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import TypeAlias

from graphopt.errors import ParseError
from graphopt.ir import literal
from graphopt.ir.attributes import Attribute, Kind, Scalar
from graphopt.ir.constant import Constant
from graphopt.ir.dims import Dim, parse_dim
from graphopt.ir.graph import OMITTED, Graph, ModelInfo, Node, Value
from graphopt.ir.literal import STRING
from graphopt.ir.operator import Opaque, Operator
from graphopt.ir.tokens import Tokens
from graphopt.ir.types import DTYPES, ForeignType, OptionalType, SequenceType, TensorType, Type, f32

Make: TypeAlias = Callable[[str, str, Mapping[str, Attribute]], Operator]

DEEPEST = 64  # subgraphs, or types, within each other
LEFT_OUT = "_"  # an operand or a result that is not there
DATA_WORDS = frozenset({"dense", "splat", "random", "uniform"})  # not the names of operators, unless quoted
LISTS: Mapping[str, tuple[Kind, Kind]] = MappingProxyType(  # the word for a list, its kind and its elements'
    {
        "floats": (Kind.FLOATS, Kind.FLOAT),
        "ints": (Kind.INTS, Kind.INT),
        "strings": (Kind.STRINGS, Kind.STRING),
        "tensors": (Kind.TENSORS, Kind.TENSOR),
        "graphs": (Kind.GRAPHS, Kind.GRAPH),
        "sparse_tensors": (Kind.SPARSE_TENSORS, Kind.SPARSE_TENSOR),
        "types": (Kind.TYPE_PROTOS, Kind.TYPE_PROTO),
    }
)
_LIST_OF = {element: kind for kind, element in LISTS.values()}
_DIM = re.compile(rf'\s*((?:[^,"]|{STRING})+?)\s*(,|\Z)')


def opaque(domain: str, name: str, attributes: Mapping[str, Attribute]) -> Operator:
    """The operator without a room."""
    return Opaque(name, domain, attributes)


def parse(text: str, *, make: Make = opaque, constants: Mapping[str, Constant] | None = None) -> Graph:
    """The graph that `text` describes, sealed.

    Args:
        text: one graph, in the form that `graphopt.ir.text` describes.
        make: makes an operator of (domain, name, attributes). One that is written with a version or an overload
            is opaque without asking.
        constants: data by digest, for constants that the text names by digest; those it lacks are absent.

    Raises:
        ParseError: with the number of the line and what was expected there.
    """
    parser = _Parser(text, make, constants or {})
    graph = parser.graph(None)
    if parser.kind != "end":
        raise parser.error("the end of the text")
    return graph.seal()


@lru_cache(maxsize=1 << 14)
def _tensor_type(text: str) -> TensorType:
    name, _, inside = text[:-1].partition("[")
    dims: list[Dim] = []
    if inside.strip() == "*":
        return TensorType(DTYPES[name])
    at = 0
    while inside.strip():
        match = _DIM.match(inside, at)
        if match is None:
            raise ParseError(f"{text[:80]} is not a type: a dim is missing")
        dims.append(parse_dim(match[1]))
        at = match.end()
        if not match[2]:
            break
    return TensorType(DTYPES[name], tuple(dims))


class _Parser(Tokens):
    """One method for each part of the grammar."""

    def __init__(self, source: str, make: Make, constants: Mapping[str, Constant]) -> None:
        super().__init__(source)
        self._make = make
        self._constants = constants
        self._scopes: list[dict[str, Value]] = []

    # ---- graphs

    def graph(self, outer: Graph | None) -> Graph:
        """A graph with its header."""
        if len(self._scopes) > DEEPEST:
            raise self.wrong(f"graphs are nested more than {DEEPEST} deep", self.at)
        name, info = "graph", None
        if self.accept("graph"):
            name = self.quoted("the graph's name") if self.kind == "string" else name
            if self.text == "opset":
                if outer is not None:
                    raise self.wrong("a subgraph has the opset of its outer graph", self.at)
                info = self.opsets()
        graph = Graph(name, info, outer)
        self._scopes.append({})
        self.expect("(")
        while self.text != ")":
            self.input(graph)
            if not self.accept(","):
                break
        self.expect(")")
        self.expect("->")
        self.expect("(")
        outputs = []
        while self.text != ")":
            at = self.at
            outputs.append((self.value_name(), at))
            if not self.accept(","):
                break
        self.expect(")")
        self.expect("{")
        while not self.accept("}"):
            self.statement(graph)
        for i, (output, at) in enumerate(outputs):
            graph.set_output(i, self.look_up(output, at))
        self._scopes.pop()
        return graph

    def opsets(self) -> ModelInfo:
        """The opset clause."""
        self.advance()
        self.expect("{")
        versions: dict[str, int] = {}
        while self.text != "}":
            domain = self.quoted("a domain")
            self.expect(":")
            versions[domain] = self.integer("a version")
            if not self.accept(","):
                break
        self.expect("}")
        return ModelInfo(opsets=MappingProxyType(versions))

    def value_name(self) -> str:
        """The name in `%name`."""
        if self.kind != "value":
            raise self.error("a value, as in `%x`")
        at, text = self.at, self.advance()
        return str(self.checked(at, literal.parse_string, text[1:])) if text[1] == '"' else text[1:]

    def define(self, value: Value, at: int) -> None:
        """Let the value be seen from here on."""
        if any(value.name in scope for scope in self._scopes):
            raise self.wrong(f"%{value.name} is defined twice", at)
        self._scopes[-1][value.name] = value

    def look_up(self, name: str, at: int) -> Value:
        """The value of that name, here or in an enclosing graph."""
        for scope in reversed(self._scopes):
            if name in scope:
                return scope[name]
        raise self.wrong(f"%{name} is not defined before it is read", at)

    def input(self, graph: Graph) -> None:
        """`%x: f32[N]`, with ` = dense[…]` where it has a default."""
        at, value = self.at, Value(self.value_name())
        if self.accept(":"):
            value.type = self.type()
        if self.accept("="):
            value.constant = self.data(value.type)
        graph.add_input(value)
        self.define(value, at)

    def statement(self, graph: Graph) -> None:
        """A constant or a node."""
        results = self.results()
        if results:
            self.expect("=")
        elif self.kind not in ("word", "string"):
            raise self.error("a node, as in `%y = Relu(%x)`, or `}`")
        if self.kind in ("type", "data") or (results and self.text in DATA_WORDS):
            if len(results) != 1:
                raise self.wrong("a constant defines one value", self.at)
            value = results[0][0]
            value.constant = self.data(value.type)
            graph.add_constant(value)
        else:
            self.node(graph, [v for v, _ in results])
        for value, at in results:
            if value.name != OMITTED:
                self.define(value, at)

    def results(self) -> list[tuple[Value, int]]:
        """`%a: f32[N], _`, and where each stands; nothing for a node without results."""
        found: list[tuple[Value, int]] = []
        while self.kind == "value" or self.text == LEFT_OUT:
            at = self.at
            value = Value(OMITTED if self.accept(LEFT_OUT) else self.value_name())
            if self.accept(":"):
                value.type = self.type()
            found.append((value, at))
            if not self.accept(","):
                break
        return found

    def node(self, graph: Graph, results: list[Value]) -> None:
        """`Conv(%x, %w) {strides=[2, 2]} @"name"`."""
        domain, name = "", self.operator_name()
        if self.accept("::"):
            domain, name = name, self.operator_name()
        version, overload = None, ""
        if self.accept("<"):
            overload = self.quoted("the overload")
            self.expect(">")
        if self.accept("!"):
            version = self.integer("a version")
        operands = self.operands()
        attributes = MappingProxyType(self.attributes(graph) if self.text == "{" else {})
        label = self.quoted("the node's name") if self.accept("@") else ""
        if overload or version is not None:
            op: Operator = Opaque(name, domain, attributes, version, overload)
        else:
            op = self._make(domain, name, attributes)
        graph.insert(Node(op, operands, results, name=label, origins=(label,) if label else ()))

    def operator_name(self) -> str:
        """An operator's name or domain, quoted where it is not a word."""
        if self.kind == "string":
            return self.quoted("an operator")
        if self.kind != "word" or self.text in DATA_WORDS:
            raise self.error("an operator, as in `Relu(%x)`, or a constant, as in `dense[1, 2]`")
        return self.advance()

    def operands(self) -> list[Value | None]:
        """`(%x, _, %y)`."""
        self.expect("(")
        operands: list[Value | None] = []
        while self.text != ")":
            if self.accept(LEFT_OUT):
                operands.append(None)
            else:
                at = self.at
                operands.append(self.look_up(self.value_name(), at))
            if not self.accept(","):
                break
        self.expect(")")
        return operands

    # ---- attributes

    def attributes(self, graph: Graph) -> dict[str, Attribute]:
        """`{pads=[1, 1], mode="x"}`."""
        self.expect("{")
        found: dict[str, Attribute] = {}
        while self.text != "}":
            at = self.at
            if self.kind not in ("word", "string"):
                raise self.error("an attribute, as in `axis=1`, or `}`")
            key = self.quoted("an attribute") if self.kind == "string" else self.advance()
            if key in found:
                raise self.wrong(f"the attribute {key} is given twice", at)
            self.expect("=")
            found[key] = self.attribute(graph)
            if not self.accept(","):
                break
        self.expect("}")
        return found

    def attribute(self, graph: Graph) -> Attribute:
        """One attribute's value with its kind."""
        at = self.at
        kind, element = LISTS.get(self.text, (None, None))
        if kind is not None:
            self.advance()
        if self.text != "[" and kind is None:
            return Attribute(*self.scalar(graph))
        self.expect("[")
        items: list[Scalar] = []
        while self.text != "]" or (kind is None and not items):
            found, value = self.scalar(graph)
            element = element or found
            if element is not found:
                raise self.wrong(f"a list of {element.name.lower()}s holds a {found.name.lower()}", at)
            items.append(value)
            if not self.accept(","):
                break
        self.expect("]")
        return Attribute(kind or _LIST_OF[element or Kind.INT], tuple(items))

    def scalar(self, graph: Graph) -> tuple[Kind, Scalar]:
        """One value that is not a list."""
        at = self.at
        if self.kind == "number" or self.text in ("inf", "nan"):
            return self.checked(at, _number, self.advance())
        if self.kind in ("string", "bytes"):
            return Kind.STRING, self.checked(at, literal.parse_string, self.advance())
        if self.kind == "type":
            return Kind.TENSOR, self.data(None)
        if self.text in ("graph", "("):
            return Kind.GRAPH, self.graph(graph)
        if self.text in ("sparse", "type"):
            kind = Kind.SPARSE_TENSOR if self.advance() == "sparse" else Kind.TYPE_PROTO
            if self.kind != "bytes":
                raise self.error('bytes, as in `b"00ff"`')
            return kind, self.checked(at, literal.parse_string, self.advance())
        raise self.error("a number, string, tensor, graph or list (an empty list names its kind, as in `ints[]`)")

    # ---- types and data

    def type(self) -> Type | None:
        """A type; None for `?`."""
        wrappers: list[type[SequenceType] | type[OptionalType]] = []
        while self.text in ("seq", "optional"):
            if len(wrappers) == DEEPEST:
                raise self.wrong(f"types are nested more than {DEEPEST} deep", self.at)
            wrappers.append(SequenceType if self.advance() == "seq" else OptionalType)
            self.expect("<")
        found: Type | None = None
        if self.kind == "type":
            at = self.at
            found = self.checked(at, _tensor_type, self.advance())
        elif self.kind == "foreign":
            digits = self.text[len("foreign<") : -1]
            if not re.fullmatch(r"(?:[0-9a-f]{2})*", digits):
                raise self.error("hex digits in pairs")
            found = ForeignType(bytes.fromhex(digits))
            self.advance()
        elif not self.accept("?"):
            raise self.error("a type, as in `f32[N, 3]`, or `?`")
        for wrapper in reversed(wrappers):
            found = wrapper(found)
            self.expect(">")
        return found

    def data(self, declared: Type | None) -> Constant:
        """A constant's data, after its own type where that is not the declared one."""
        at = self.at
        tensor = self.type() if self.kind == "type" else declared
        if not isinstance(tensor, TensorType):
            raise self.wrong("a constant needs a tensor type, as in `%c: f32[2] = dense[1.0, 2.0]`", at)
        at = self.at
        if self.kind == "data":
            body = self.advance()
            if body.startswith("dense["):
                return self.checked(at, literal.dense, tensor, body[len("dense[") : -1])
            return self.checked(at, literal.by_digest, tensor, body[len("dense<") : -1], self._constants)
        if self.accept("dense"):
            if tensor.shape != ():
                raise self.wrong(f"one element does not fill {tensor}: list them (`dense[…]`), or say `splat`", at)
            return self.checked(at, literal.dense, tensor, self.element())
        if self.accept("splat"):
            return self.checked(at, literal.splat, tensor, self.element())
        if self.accept("random"):
            seed = self.integer("a seed")
            bounds = [self.element(), self.element()] if self.accept("uniform") else []
            return self.checked(at, literal.random, tensor, seed, bounds)
        raise self.error("data, as in `dense[1, 2]`, `splat 0.5` or `random 7`")

    def element(self) -> str:
        """The text of one element."""
        if self.kind in ("number", "string", "bytes") or self.text in ("inf", "nan", "true", "false"):
            return self.advance()
        if self.accept("("):
            parts = [self.part()]
            self.expect(",")
            parts.append(self.part())
            self.expect(")")
            return f"({', '.join(parts)})"
        raise self.error("an element")

    def part(self) -> str:
        """A complex element's real or imaginary part."""
        if self.kind != "number" and self.text not in ("inf", "nan"):
            raise self.error("a number")
        return self.advance()


def _number(text: str) -> tuple[Kind, int | float]:
    """An INT, or a FLOAT in single precision; `0x…` gives a float's bits."""
    if not text.lstrip("-").isdecimal():
        return Kind.FLOAT, float(literal.parse_elements([text], f32)[0])
    value = literal.parse_int(text)
    if not -(1 << 63) <= value < 1 << 63:
        raise ParseError(f"{text[:80]} does not fit into an attribute's 64 bits")
    return Kind.INT, value
