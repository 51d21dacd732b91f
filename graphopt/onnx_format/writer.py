"""Writes the IR as an ONNX file: nodes taken down to the file's opset, weights streamed, all or nothing.

Same graph and options, same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import onnx

from graphopt._version import __version__
from graphopt.errors import OpsetError
from graphopt.ir.constant import Constant
from graphopt.ir.dims import Expr
from graphopt.ir.graph import OMITTED, Graph, Node, Value
from graphopt.ir.operator import Opaque
from graphopt.ir.types import OptionalType, SequenceType, TensorType, Type
from graphopt.onnx_format.atomic import AtomicOutput, check_writable
from graphopt.onnx_format.opset import downgrade, written_opset
from graphopt.onnx_format.protos import write_attribute, write_tensor, write_type
from graphopt.onnx_format.wire import Spliced, splice, token
from graphopt.ops.infer import facts
from graphopt.ops.room import Room, Step

INLINE_BYTES = 1024  # smaller weights travel inside the skeleton
PROTOBUF_LIMIT = 2**31 - 1  # bytes; a larger file cannot be parsed by protobuf: its weights go beside it
ALIGNMENT = 4096  # of tensors in an external data file, so that they can be mapped


@dataclass
class _Skeleton:
    """A model's message in which tokens stand for the bytes of large weights."""

    model: onnx.ModelProto
    graph: Graph
    opset: int
    payloads: dict[bytes, Constant] = field(default_factory=dict)
    tensors: list[onnx.TensorProto] = field(default_factory=list)
    constants: int = 0
    absorbed: dict[Value, int] = field(default_factory=dict)  # constants that became attributes, and how often

    @cached_property
    def taken(self) -> set[str]:
        """The names of all values."""
        return {v.name for g in self.graph.graphs() for v in g.values()}

    def constant_name(self, node: Node) -> str:
        """A name for a constant that an adapter made for a node."""
        while True:
            self.constants += 1
            name = f"{node.label}.constant_{self.constants}"
            if name not in self.taken:
                return name


def save(
    graph: Graph,
    path: str | Path,
    *,
    opset: int | None = None,
    external_data: bool | None = None,
    approve: Callable[[Path], None] | None = None,
) -> tuple[Path, ...]:
    """Write `graph` to `path`, replacing what is there only when all is written; the files written.

    Args:
        graph: what to write.
        path: the ONNX file.
        opset: the version of ONNX's operators to write; the graph's own by default.
        external_data: put large weights in `NAME.data` beside the file; by default only where the file would
            pass protobuf's 2 GB.
        approve: called with the complete file in a folder beside its place, before it goes there; what it raises
            passes, and then nothing was written.

    Raises:
        OpsetError: an operator that the opset lacks or that cannot be taken there.
        GraphoptError: the path cannot be written.
    """
    path = Path(path)
    if approve is not None:
        return _approved(graph, path, opset, external_data, approve)
    skeleton = build(graph, opset)
    whole = Spliced(skeleton.model.SerializeToString(deterministic=True), skeleton.payloads)
    if external_data is None:
        external_data = whole.nbytes > PROTOBUF_LIMIT
    with AtomicOutput() as output:
        if external_data and skeleton.payloads:
            data = path.with_name(path.name + ".data")
            output.write(data, _beside(skeleton, data.name))
            output.write(path, [skeleton.model.SerializeToString(deterministic=True)])
            return path, data
        output.write(path, whole.chunks())
    return (path,)


def _approved(
    graph: Graph, path: Path, opset: int | None, external_data: bool | None, approve: Callable[[Path], None]
) -> tuple[Path, ...]:
    """Write into a folder beside the place, have it approved, and move all files to their places."""
    from tempfile import TemporaryDirectory

    check_writable(path)
    place = path.resolve()  # a link keeps leading to the file
    with TemporaryDirectory(prefix=f".{place.name}.", dir=place.parent) as folder:
        staged = save(graph, Path(folder) / place.name, opset=opset, external_data=external_data)
        approve(staged[0])
        for file in reversed(staged):  # the data first: the model must never point at what is not there
            file.replace(place.parent / file.name)
    return tuple(place.parent / file.name for file in staged)


def to_bytes(graph: Graph, *, opset: int | None = None) -> bytes:
    """The file's bytes in memory; for small models and tests.

    Raises:
        OpsetError: as `save`.
    """
    skeleton = build(graph, opset)
    message = skeleton.model.SerializeToString(deterministic=True)
    return b"".join(bytes(c) for c in splice(message, skeleton.payloads))


def _beside(skeleton: _Skeleton, name: str) -> Iterator[bytes | memoryview]:
    """Chunks of the external data file; the skeleton's tensors are pointed at their places."""
    offset = 0
    for proto in skeleton.tensors:
        constant = skeleton.payloads[proto.raw_data]
        padding = -offset % ALIGNMENT
        yield bytes(padding)
        offset += padding
        proto.ClearField("raw_data")
        proto.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", name), ("offset", str(offset)), ("length", str(constant.nbytes))):
            proto.external_data.add(key=key, value=value)
        yield from constant.chunks()
        offset += constant.nbytes


def build(graph: Graph, opset: int | None = None) -> _Skeleton:
    """The skeleton of a graph's model."""
    info = graph.info
    version = written_opset(info.opsets, opset)
    model = onnx.ModelProto()
    opsets = {**info.opsets, "": version} if "" in info.opsets or opset is not None else dict(info.opsets)
    for node in graph.walk():
        _import(opsets, node, version)
    model.ir_version = max(info.ir_version, 4, _ir_for(opsets[""]) if "" in opsets else 4)
    model.producer_name, model.producer_version = (
        info.producer or "graphopt",
        info.producer_version or __version__,
    )
    model.domain, model.model_version, model.doc_string = info.domain, info.model_version, info.doc
    _put_props(model.metadata_props, info.metadata)
    for domain, number in opsets.items():
        model.opset_import.add(domain=domain, version=number)
    for function in info.functions:
        model.functions.add().ParseFromString(function)
    skeleton = _Skeleton(model, graph, version)
    _write_graph(skeleton, model.graph, graph)
    return skeleton


def _import(opsets: dict[str, int], node: Node, version: int) -> None:
    """Import the domain of a node's operator; an opaque one needs the version that it was written for.

    Raises:
        OpsetError: the model imports another version, as one may whose functions were inlined.
    """
    op = node.op
    needed = op.version if isinstance(op, Opaque) and op.domain else None
    number = opsets.setdefault(op.domain, version if op.domain == "" else needed or 1)
    if needed not in (None, number):
        raise OpsetError(
            f"{op} `{node.label}` is of a function that imports version {needed} of `{op.domain}`, and the model "
            f"imports {number}: leave the functions as they are with --keep-functions"
        )


def _ir_for(opset: int) -> int:
    return int(onnx.helper.OP_SET_ID_VERSION_MAP.get(("ai.onnx", opset), 10))


def _put_props(field_: object, props: Mapping[str, str]) -> None:
    for key, value in props.items():
        field_.add(key=key, value=value)  # type: ignore[attr-defined]  # protobuf's repeated fields have no type


def _describe(
    proto: onnx.GraphProto | onnx.NodeProto | onnx.ValueInfoProto | onnx.TensorProto, doc: str, props: Mapping[str, str]
) -> None:
    if doc:
        proto.doc_string = doc
    _put_props(proto.metadata_props, props)


def _write_quantization(proto: onnx.GraphProto, graph: Graph) -> None:
    """The annotations of tensors that are still there, with all that they name."""
    if not graph.info.quantization:
        return
    visible: set[str] = set()
    around: Graph | None = graph
    while around is not None:
        visible.update(v.name for v in around.values())
        around = around.outer
    for message in graph.info.quantization.values():
        annotation = onnx.TensorAnnotation.FromString(message)
        if visible.issuperset((annotation.tensor_name, *(p.value for p in annotation.quant_parameter_tensor_names))):
            proto.quantization_annotation.append(annotation)


def _write_graph(skeleton: _Skeleton, proto: onnx.GraphProto, graph: Graph) -> None:
    info = graph.info
    proto.name = graph.name
    _describe(proto, info.graph_doc, info.graph_metadata)
    _write_quantization(proto, graph)
    for value in graph.inputs:
        _write_info(proto.input.add(), value, value.type)
        if value.constant is not None:
            _write_constant(skeleton, proto.initializer.add(), value.constant, value.name)
    for node in graph.nodes:
        _write_node(skeleton, proto, node)
    for value in graph.constants:
        if value.constant is not None and not (value.is_read and skeleton.absorbed.get(value) == len(value.uses)):
            tensor = proto.initializer.add()
            _describe(tensor, value.doc, value.metadata)
            _write_constant(skeleton, tensor, value.constant, value.name)
    outputs = set(graph.outputs)
    for value in graph.outputs:
        declared = info.declared.get(value.name) if graph.outer is None else None
        _write_info(proto.output.add(), value, _as_declared(value.type, declared))
    if not info.annotated:
        return
    for node in graph.nodes:
        for value in node.results:
            if value.type is not None and value not in outputs and value.name != OMITTED:
                _write_info(proto.value_info.add(), value, value.type)


def _as_declared(known: Type | None, declared: Type | None) -> Type | None:
    """An output's type with the dims' names that its model declared."""
    if not isinstance(known, TensorType) or not isinstance(declared, TensorType):
        return known or declared
    if known.shape is None or declared.shape is None or len(known.shape) != len(declared.shape):
        return known
    dims = [d if isinstance(d, Expr) and not isinstance(k, int) else k
            for k, d in zip(known.shape, declared.shape, strict=True)]  # fmt: skip
    return known.with_shape(tuple(dims))


def _write_info(proto: onnx.ValueInfoProto, value: Value, kind: Type | None) -> None:
    proto.name = value.name
    if kind is not None:
        proto.type.CopyFrom(write_type(kind))
    _describe(proto, value.doc, value.metadata)


def _write_constant(skeleton: _Skeleton, proto: onnx.TensorProto, constant: Constant, name: str) -> None:
    if not write_tensor(proto, constant, name):
        return
    if constant.nbytes < INLINE_BYTES:
        proto.raw_data = b"".join(bytes(c) for c in constant.chunks())
        return
    mark = token()
    skeleton.payloads[mark] = constant
    skeleton.tensors.append(proto)
    proto.raw_data = mark


def _collections(node: Node) -> Mapping[str, Type]:
    """The types of a node's operands and results that are sequences or optionals."""
    values = (v for v in (*node.operands, *node.results) if v is not None)
    return {v.name: v.type for v in values if isinstance(v.type, SequenceType | OptionalType)}


def _write_node(skeleton: _Skeleton, graph: onnx.GraphProto, node: Node) -> None:
    op = node.op
    names = tuple("" if o is None else o.name for o in node.operands)
    asked = tuple(name if i == 0 or node.results[i].is_read else "" for i, name in enumerate(node.gives))
    try:
        step = downgrade(op, Step(op.attributes, names, asked, facts(node)), skeleton.opset, _collections(node))
    except OpsetError as error:
        raise OpsetError(f"{op} `{node.label}`: {error}") from None
    for value in node.operands:
        if value is not None and value.name not in step.operands:
            skeleton.absorbed[value] = skeleton.absorbed.get(value, 0) + 1
    operands = list(step.operands)
    for i, operand in enumerate(operands):
        if isinstance(operand, Constant):  # an attribute of the newest opset that is an operand in this one
            name = skeleton.constant_name(node)
            _write_constant(skeleton, graph.initializer.add(), operand, name)
            operands[i] = name
    least = op.least if isinstance(op, Room) else 0
    while len(operands) > least and not operands[-1]:
        operands.pop()
    operands += [""] * (least - len(operands))
    name = op.name_at(skeleton.opset) if isinstance(op, Room) else op.name
    proto = graph.node.add(op_type=name)
    if op.domain:
        proto.domain = op.domain
    if node.name:
        proto.name = node.name
    _describe(proto, node.doc, node.metadata)
    proto.input.extend(str(o) for o in operands)
    proto.output.extend(node.gives[: len(step.results)])
    if isinstance(op, Opaque) and op.overload:
        proto.overload = op.overload
    for key, attribute in step.attributes.items():
        write_attribute(
            proto.attribute.add(),
            key,
            attribute,
            lambda p, c: _write_constant(skeleton, p, c, ""),
            lambda p, g: _write_graph(skeleton, p, g),
        )
