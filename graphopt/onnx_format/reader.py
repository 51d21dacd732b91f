"""Reads an ONNX model into the IR: types inferred, functions inlined, every reference checked.

Weights are views of the file. Nodes are put in a valid order where the file has them in another. What is odd about
the file, and does no harm, is noted in `graph.info.notes`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import onnx

from graphopt.errors import GraphError, ModelError
from graphopt.ir.attributes import Attribute
from graphopt.ir.constant import Constant
from graphopt.ir.dims import Dim, is_anonymous
from graphopt.ir.graph import OMITTED, Graph, ModelInfo, Node, Value
from graphopt.ir.operator import Opaque
from graphopt.ir.types import TensorType, Type, settle
from graphopt.onnx_format.functions import FunctionKey, expand
from graphopt.onnx_format.opset import upgrade
from graphopt.onnx_format.order import in_order, reads
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
    return _Reader(model, tensors, options or ReadOptions()).graph()


class _Reader:
    def __init__(self, model: onnx.ModelProto, tensors: TensorReader, options: ReadOptions) -> None:
        self.model = model
        self.tensors = tensors
        self.opsets = _opsets(model)
        self.odd: list[str] = []
        self.unnamed: set[Dim] = set()  # of the model's inputs: a caller may give them any number
        self.functions: dict[FunctionKey, onnx.FunctionProto] = {}
        if not options.keep_functions:
            self.functions = {(_domain(f.domain), f.name, f.overload): f for f in model.functions}

    def graph(self) -> Graph:
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
            graph_doc=as_text(model.graph.doc_string),
            metadata=_props(model.metadata_props),
            functions=() if self.functions else tuple(map(self.carried, model.functions)),
            quantization=MappingProxyType(
                {q.tensor_name: q.SerializeToString() for q in model.graph.quantization_annotation}
            ),
            declared=MappingProxyType({o.name: t for o in model.graph.output if (t := read_type(o.type)) is not None}),
            annotated=bool(model.graph.value_info),
        )
        if model.training_info:
            self.odd.append("the model holds training information, which is left out")
        graph = self.read_graph(model.graph, None, {}, info)
        graph.set_info(replace(info, notes=tuple(dict.fromkeys(self.odd))))
        return graph.seal()

    # ---- graphs

    def read_graph(
        self, proto: onnx.GraphProto, outer: Graph | None, visible: Scope, info: ModelInfo | None = None
    ) -> Graph:
        graph = Graph(as_text(proto.name), info, outer)
        scope: Scope = {}
        declared = {v.name: v for v in proto.value_info}
        defaults = {t.name: t for t in proto.initializer}
        if len(defaults) != len(proto.initializer):
            names = [t.name for t in proto.initializer]
            twice = next(n for n in names if names.count(n) > 1)
            raise ModelError(f"the initializer `{twice}` is defined twice: export the model again")

        def local(name: str) -> str:
            """A value's name; another one where it would hide one from outside, which a rewrite might want to read."""
            return graph.fresh_name(name) if name in visible else name

        def define(value: Value, name: str) -> None:
            as_text(name)
            as_text(value.doc)
            if name in scope:
                raise ModelError(f"the value `{name}` is defined twice: export the model again")
            scope[name] = value

        for info_proto in proto.input:
            default = defaults.pop(info_proto.name, None)
            constant = None if default is None else self.tensors.read(default, default.name)
            value = Value(local(info_proto.name), self.declared_type(info_proto), constant)
            value.doc, value.metadata = info_proto.doc_string, _props(info_proto.metadata_props)
            if outer is None and isinstance(value.type, TensorType):
                self.unnamed.update(d for d in value.type.shape or () if is_anonymous(d))
            define(graph.add_input(value), info_proto.name)
        for tensor in defaults.values():
            value = Value(local(tensor.name), constant=self.tensors.read(tensor, tensor.name))
            value.doc = tensor.doc_string
            define(graph.add_constant(value), tensor.name)
        for sparse in proto.sparse_initializer:
            self.read_sparse(graph, sparse, define)
        nodes = expand(proto.node, self.functions, self.opsets)
        outputs = {o.name: o for o in proto.output}
        read: set[str] = set(outputs)

        def is_read(name: str) -> bool:
            if len(read) == len(outputs):  # most graphs need not know
                read.update(n for node, _ in nodes for n in reads(node))
            return name in read

        for node, version_of in in_order(nodes, scope, visible):
            self.read_node(node, version_of, graph, scope, visible, declared, outputs, define, local, is_read)
        for i, output in enumerate(proto.output):
            found = scope.get(output.name) or visible.get(output.name)
            if found is None:
                raise ModelError(f"the output `{output.name}` is computed by no node: export the model again")
            self.declare(found, graph, output)
            graph.set_output(i, found)
        return graph

    def read_sparse(self, graph: Graph, sparse: onnx.SparseTensorProto, define: Callable[[Value, str], None]) -> None:
        """A sparse initializer is carried as the Constant node that says the same."""
        from graphopt.ir.attributes import Kind

        attribute = Attribute(Kind.SPARSE_TENSOR, self.carried(sparse))
        value = Value(sparse.values.name)
        graph.append(Opaque("Constant", "", MappingProxyType({"sparse_value": attribute})), (), [value])
        define(value, sparse.values.name)

    def carried(self, message: onnx.FunctionProto | onnx.SparseTensorProto) -> bytes:
        """The bytes of a message that the IR only carries."""
        return self.tensors.carried(message.SerializeToString(deterministic=True), message.DESCRIPTOR.name)

    def declared_type(self, info: onnx.ValueInfoProto) -> Type | None:
        try:
            return read_type(info.type)
        except GraphError as error:
            self.odd.append(f"the type of `{info.name}` is not read: {error}")
            return None

    def settle(self, known: Type | None, declared: Type | None) -> Type | None:
        return settle(known, declared, self.unnamed)

    def declare(self, value: Value, graph: Graph, info: onnx.ValueInfoProto) -> None:
        declared = self.declared_type(info)
        try:
            known = self.settle(value.type, declared)
        except GraphError as error:
            self.odd.append(f"`{info.name}` is declared {declared}, and is {value.type}: {error}")
            return
        if known != value.type:
            graph.set_type(value, known, value.elements)

    # ---- nodes

    def read_node(
        self,
        proto: onnx.NodeProto,
        version_of: Mapping[str, int],
        graph: Graph,
        scope: Scope,
        visible: Scope,
        declared: Mapping[str, onnx.ValueInfoProto],
        outputs: Mapping[str, onnx.ValueInfoProto],
        define: Callable[[Value, str], None],
        local: Callable[[str], str],
        is_read: Callable[[str], bool],
    ) -> None:
        domain = _domain(proto.domain)
        for text in (proto.op_type, proto.name, proto.doc_string, *(a.name for a in proto.attribute)):
            as_text(text)
        label = proto.name or (proto.output[0] if proto.output else "")
        everything = {**visible, **scope} if any(a.HasField("g") or a.graphs for a in proto.attribute) else visible

        def look_up(name: str) -> Value:
            return scope.get(name) or visible[name]

        try:
            attributes = {
                a.name: read_attribute(
                    a,
                    lambda t: self.tensors.read(t, t.name or label),
                    lambda g: self.read_graph(g, graph, everything),
                    self.carried,
                )
                for a in proto.attribute
            }
        except ModelError as error:
            raise ModelError(f"{proto.op_type} `{label}`: {error}") from None
        if len(attributes) != len(proto.attribute):
            raise ModelError(f"{proto.op_type} `{label}` has an attribute twice: export the model again")
        known = tuple(fact(look_up(name)) if name else None for name in proto.input)
        asked = tuple(n if i == 0 or is_read(n) else "" for i, n in enumerate(proto.output))
        step = Step(MappingProxyType(attributes), tuple(proto.input), asked, known)
        version = version_of.get(domain)
        if domain == "" and version is not None and version > NEWEST:
            raise ModelError(f"the model uses opset {version}, and graphopt reads opsets up to {NEWEST}")
        op, step = upgrade(domain, proto.op_type, step, version)
        if isinstance(op, Opaque) and proto.overload:
            op = replace(op, overload=proto.overload)
        operands: list[Value | None] = []
        for operand in step.operands:
            if isinstance(operand, Constant):
                operands.append(graph.add_constant(operand, f"{label}.{len(operands)}"))
            else:
                operands.append(look_up(operand) if operand else None)
        while operands and operands[-1] is None:
            operands.pop()
        names = list(proto.output)[: len(step.results)]
        while names and not names[-1]:
            names.pop()
        results = [Value(local(name) if name else OMITTED) for name in names]
        node = Node(op, operands, results, name=proto.name, origins=(proto.name,) if proto.name else ())
        node.doc, node.metadata = proto.doc_string, _props(proto.metadata_props)
        graph.insert(node)
        for value, name in zip(results, names, strict=True):
            if not name:
                continue
            define(value, name)
            info = declared.get(name) or outputs.get(name)
            if info is not None:
                value.type = self.declared_type(info)
                value.doc, value.metadata = info.doc_string, _props(info.metadata_props)
        annotate(node, graph, self.odd, self.settle)


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
