"""Reads an ONNX model into the IR: types inferred, functions inlined, every reference checked.

Weights are views of the file. Nodes are put in a valid order where the file has them in another. What is odd about
the file, and does no harm, is noted in `graph.info.notes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType

import onnx

from graphopt.errors import GraphError, ModelError
from graphopt.ir.attributes import Attribute, Kind
from graphopt.ir.constant import Constant
from graphopt.ir.dims import Dim, is_anonymous
from graphopt.ir.graph import OMITTED, Graph, ModelInfo, Node, Value
from graphopt.ir.operator import Opaque, Operator
from graphopt.ir.types import TensorType, Type, settle
from graphopt.onnx_format.functions import Inliner
from graphopt.onnx_format.opset import upgrade
from graphopt.onnx_format.order import Versioned, in_order, reads, value_names
from graphopt.onnx_format.protos import TensorReader, as_text, read_attribute, read_type
from graphopt.ops.infer import annotate, fact
from graphopt.ops.room import NEWEST, Step

Scope = dict[str, Value]


@dataclass(frozen=True)
class ReadOptions:
    """`keep_functions` carries model-local functions as they are instead of inlining them."""

    keep_functions: bool = False


def read_model(model: onnx.ModelProto, tensors: TensorReader, options: ReadOptions | None = None) -> Graph:
    """The IR of a model.

    Raises:
        ModelError: a reference that leads nowhere, a value defined twice, a cycle, a broken weight, an opset that
            is too new.
    """
    return _ModelReader(model, tensors, options or ReadOptions()).graph()


class _ModelReader:
    """What all graphs of a model share: its weights, opsets and functions, and what was odd."""

    def __init__(self, model: onnx.ModelProto, tensors: TensorReader, options: ReadOptions) -> None:
        self.model = model
        self.tensors = tensors
        self.opsets = _opsets(model)
        self.odd: list[str] = []
        self.unnamed: set[Dim] = set()  # of the model's inputs: a caller may give them any number
        functions = () if options.keep_functions else model.functions
        taken = (*value_names(model.graph), *(n.name for n in model.graph.node)) if functions else ()
        self.inliner = Inliner({(_domain(f.domain), f.name, f.overload): f for f in functions}, taken)

    def graph(self) -> Graph:
        """The model's graph, with all that it holds."""
        model = self.model
        if not model.HasField("graph"):
            raise ModelError("the model has no graph: export it again")
        info = ModelInfo(
            opsets=MappingProxyType(self.opsets),
            ir_version=model.ir_version,
            producer=as_text(model.producer_name),
            producer_version=as_text(model.producer_version),
            domain=as_text(model.domain),
            model_version=model.model_version,
            doc=as_text(model.doc_string),
            metadata=_props(model.metadata_props),
            functions=() if self.inliner.functions else tuple(map(self.carried, model.functions)),
            declared=MappingProxyType({o.name: t for o in model.graph.output if (t := read_type(o.type)) is not None}),
            annotated=bool(model.graph.value_info),
        )
        if model.training_info:
            self.odd.append("the model holds training information, which is left out")
        graph = _GraphReader(self, model.graph, None, {}, info).read()
        graph.set_info(replace(graph.info, notes=tuple(dict.fromkeys(self.odd))))
        return graph.seal()

    def carried(self, message: onnx.FunctionProto | onnx.SparseTensorProto) -> bytes:
        """The bytes of a message that the IR only carries."""
        return self.tensors.carried(message.SerializeToString(deterministic=True), message.DESCRIPTOR.name)

    def declared_type(self, info: onnx.ValueInfoProto) -> Type | None:
        """The type that a model says a value has; None, and a note, where it makes no sense."""
        try:
            return read_type(info.type)
        except GraphError as error:
            self.odd.append(f"the type of `{info.name}` is not read: {error}")
            return None

    def settle(self, known: Type | None, declared: Type | None) -> Type | None:
        """What is known by rule and declaration; see `ir.types.settle`."""
        return settle(known, declared, self.unnamed)


class _GraphReader:
    """Reads one graph.

    `scope` maps the file's names to this graph's values as they come to be; `visible` those of the graphs around it.
    `around` is the node that holds it: what a function's node holds is of the function's opsets.
    """

    def __init__(
        self,
        model: _ModelReader,
        proto: onnx.GraphProto,
        outer: Graph | None,
        visible: Scope,
        info: ModelInfo | None = None,
        around: Versioned | None = None,
    ) -> None:
        self.model = model
        self.around = around
        self.proto = proto
        info = info or (outer.info if outer is not None else ModelInfo())
        self.graph = Graph(as_text(proto.name), _own(proto, info), outer)
        self.scope: Scope = {}
        self.visible = visible
        self.declared = {v.name: v for v in (*proto.value_info, *proto.output)}
        self.nodes: list[Versioned] = []

    def read(self) -> Graph:
        """The graph.

        Raises:
            ModelError: as `read_model`.
        """
        proto, graph = self.proto, self.graph
        opsets, depth = (self.around.opsets, self.around.depth) if self.around else (self.model.opsets, 0)
        self.nodes = self.model.inliner.expand(proto.node, opsets, depth)
        if graph.outer is None or self.model.inliner.functions:
            graph.reserve(value_names(proto, [n.node for n in self.nodes]))
        defaults = {t.name: t for t in proto.initializer}
        if len(defaults) != len(proto.initializer):
            names = [t.name for t in proto.initializer]
            twice = next(n for n in names if names.count(n) > 1)
            raise ModelError(f"the initializer `{twice}` is defined twice: export the model again")
        for info in proto.input:
            self.read_input(info, defaults.pop(info.name, None))
        for tensor in defaults.values():
            value = Value(self.local(tensor.name), constant=self.model.tensors.read(tensor, tensor.name))
            value.doc, value.metadata = tensor.doc_string, _props(tensor.metadata_props)
            self.define(graph.add_constant(value), tensor.name)
        for sparse in proto.sparse_initializer:
            self.read_sparse(sparse)
        for node in in_order(self.nodes, self.scope, self.visible):
            self.read_node(node)
        for i, output in enumerate(proto.output):
            found = self.scope.get(output.name) or self.visible.get(output.name)
            if found is None:
                raise ModelError(f"the output `{output.name}` is computed by no node: export the model again")
            if found.graph is graph:  # what a branch says of a value from outside holds in the branch alone
                self.declare(found, output)
            graph.set_output(i, found)
        return graph

    # ---- values

    def local(self, name: str) -> str:
        """A value's name; another one where it would hide one from outside, which a rewrite might want to read."""
        return self.graph.fresh_name(name) if name in self.visible else name

    def define(self, value: Value, name: str) -> None:
        """From here on the file's `name` is `value`."""
        as_text(name)
        as_text(value.doc)
        if name in self.scope:
            raise ModelError(f"the value `{name}` is defined twice: export the model again")
        self.scope[name] = value

    def look_up(self, name: str) -> Value:
        """The value that has this name in the file, here or outside."""
        return self.scope.get(name) or self.visible[name]

    @cached_property
    def read_names(self) -> set[str]:
        """The names that nodes read, subgraphs included, and outputs."""
        return {o.name for o in self.proto.output}.union(*(reads(n.node) for n in self.nodes))

    def read_input(self, info: onnx.ValueInfoProto, default: onnx.TensorProto | None) -> None:
        """An input, with its default where it has one."""
        constant = None if default is None else self.model.tensors.read(default, default.name)
        value = Value(self.local(info.name), self.model.declared_type(info), constant)
        value.doc, value.metadata = info.doc_string, _props(info.metadata_props)
        if self.graph.outer is None and isinstance(value.type, TensorType):
            self.model.unnamed.update(d for d in value.type.shape or () if is_anonymous(d))
        self.define(self.graph.add_input(value), info.name)

    def read_sparse(self, sparse: onnx.SparseTensorProto) -> None:
        """A sparse initializer is carried as the Constant node that says the same."""
        attribute = Attribute(Kind.SPARSE_TENSOR, self.model.carried(sparse))
        value = Value(self.local(sparse.values.name))
        self.graph.append(Opaque("Constant", "", MappingProxyType({"sparse_value": attribute})), (), [value])
        self.define(value, sparse.values.name)

    def declare(self, value: Value, info: onnx.ValueInfoProto) -> None:
        """Take in what an output's declaration adds to what is known."""
        declared = self.model.declared_type(info)
        try:
            known = self.model.settle(value.type, declared)
        except GraphError as error:
            self.model.odd.append(f"`{info.name}` is declared {declared}, and is {value.type}: {error}")
            return
        if known != value.type:
            self.graph.set_type(value, known, value.elements)

    # ---- nodes

    def read_node(self, versioned: Versioned) -> None:
        """A node, taken up to its room's opset."""
        proto = versioned.node
        for text in (proto.op_type, proto.name, proto.doc_string, *(a.name for a in proto.attribute)):
            as_text(text)
        label = proto.name or (proto.output[0] if proto.output else "")
        op, step = self.operator(versioned, label)
        operands = [self.operand(o, f"{label}.{i}") for i, o in enumerate(step.operands)]
        while operands and operands[-1] is None:
            operands.pop()
        names = list(proto.output)[: len(step.results)]
        while names and not names[-1]:
            names.pop()
        results = [Value(self.local(name) if name else OMITTED) for name in names]
        node = Node(op, operands, results, name=proto.name, origins=(proto.name,) if proto.name else ())
        node.doc, node.metadata = proto.doc_string, _props(proto.metadata_props)
        self.graph.insert(node)
        for value, name in zip(results, names, strict=True):
            if not name:
                continue
            self.define(value, name)
            info = self.declared.get(name)
            if info is not None:
                value.type = self.model.declared_type(info)
                value.doc, value.metadata = info.doc_string, _props(info.metadata_props)
        if op.graphs:
            from graphopt.ops.bodies import settle_bodies

            settle_bodies(node)
        annotate(node, self.graph, self.model.odd, self.model.settle)

    def operator(self, versioned: Versioned, label: str) -> tuple[Operator, Step]:
        """A node's operator, and its operands and results for it."""
        proto = versioned.node
        domain = _domain(proto.domain)
        version = versioned.opsets.get(domain)
        if domain == "" and version is not None and version > NEWEST:
            raise ModelError(f"the model uses opset {version}, and graphopt reads opsets up to {NEWEST}")
        known = tuple(fact(self.look_up(name)) if name else None for name in proto.input)
        asked = tuple(n if i == 0 or n in self.read_names else "" for i, n in enumerate(proto.output))
        step = Step(self.attributes(versioned, label), tuple(proto.input), asked, known)
        op, step = upgrade(domain, proto.op_type, step, version)
        if isinstance(op, Opaque) and proto.overload:
            op = replace(op, overload=proto.overload)
        return op, step

    def attributes(self, versioned: Versioned, label: str) -> Mapping[str, Attribute]:
        """A node's attributes by name, subgraphs read."""
        proto = versioned.node
        holds_graphs = any(a.HasField("g") or a.graphs for a in proto.attribute)
        around = {**self.visible, **self.scope} if holds_graphs else {}
        try:
            attributes = {
                a.name: read_attribute(
                    a,
                    lambda t: self.model.tensors.read(t, t.name or label),
                    lambda g: _GraphReader(self.model, g, self.graph, around, around=versioned).read(),
                    self.model.carried,
                )
                for a in proto.attribute
            }
        except ModelError as error:
            raise ModelError(f"{proto.op_type} `{label}`: {error}") from None
        if len(attributes) != len(proto.attribute):
            raise ModelError(f"{proto.op_type} `{label}` has an attribute twice: export the model again")
        return MappingProxyType(attributes)

    def operand(self, operand: str | Constant, name: str) -> Value | None:
        """A value by its name in the file, or a constant that an adapter made; None where it is left out."""
        if isinstance(operand, Constant):
            return self.graph.add_constant(operand, name)
        return self.look_up(operand) if operand else None


def _own(proto: onnx.GraphProto, info: ModelInfo) -> ModelInfo:
    """What a graph says about itself, beside what its model says."""
    annotations = proto.quantization_annotation
    return replace(
        info,
        graph_doc=as_text(proto.doc_string),
        graph_metadata=_props(proto.metadata_props),
        quantization=MappingProxyType({q.tensor_name: q.SerializeToString() for q in annotations}),
        pinned=frozenset(as_text(p.value) for q in annotations for p in q.quant_parameter_tensor_names),
    )


def _opsets(model: onnx.ModelProto) -> dict[str, int]:
    opsets = {_domain(as_text(o.domain)): int(o.version) for o in model.opset_import}
    if "" not in opsets and not opsets:
        opsets[""] = 1  # files of IR 1 and 2 import nothing
    newest = opsets.get("", NEWEST)
    if newest > NEWEST:
        raise ModelError(
            f"the model uses opset {newest}, and graphopt reads opsets up to {NEWEST}: export it with an older one"
        )
    if newest < 1:
        raise ModelError(f"the model uses opset {newest}, and opsets begin at 1: export it again")
    return opsets


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _props(props: Iterable[onnx.StringStringEntryProto]) -> Mapping[str, str]:
    return MappingProxyType({as_text(p.key): as_text(p.value) for p in props})
