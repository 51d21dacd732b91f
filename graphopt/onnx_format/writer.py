"""Writes the IR as an ONNX file: nodes taken down to the file's opset, weights streamed, all or nothing.

Same graph and options, same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
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
from graphopt.onnx_format.wire import splice, token
from graphopt.ops.infer import facts
from graphopt.ops.room import Room, Step

INLINE_BYTES = 1024  # smaller weights travel inside the skeleton
PROTOBUF_LIMIT = 2**31 - 1 - 2**20  # a larger file cannot be parsed by protobuf: its weights go beside it
ALIGNMENT = 4096  # of tensors in an external data file, so that they can be mapped


@dataclass
class _Skeleton:
    """A model's message in which tokens stand for the bytes of large weights."""

    model: onnx.ModelProto
    opset: int
    payloads: dict[bytes, Constant] = field(default_factory=dict)
    tensors: list[onnx.TensorProto] = field(default_factory=list)
    constants: int = 0
    absorbed: dict[Value, int] = field(default_factory=dict)  # constants that became attributes, and how often


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
    total = sum(c.nbytes for c in skeleton.payloads.values())
    if external_data is None:
        external_data = total > PROTOBUF_LIMIT
    with AtomicOutput() as output:
        if external_data and skeleton.payloads:
            data = path.with_name(path.name + ".data")
            output.write(data, _beside(skeleton, data.name))
            output.write(path, [skeleton.model.SerializeToString(deterministic=True)])
            return path, data
        message = skeleton.model.SerializeToString(deterministic=True)
        output.write(path, splice(message, skeleton.payloads))
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
        opsets.setdefault(node.op.domain, version if node.op.domain == "" else 1)
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
    skeleton = _Skeleton(model, version)
    model.graph.doc_string = info.graph_doc
    _write_graph(skeleton, model.graph, graph)
    present = {v.name for v in graph.values()}
    for name, annotation in info.quantization.items():
        if name in present:
            model.graph.quantization_annotation.add().ParseFromString(annotation)
    return skeleton


def _ir_for(opset: int) -> int:
    return int(onnx.helper.OP_SET_ID_VERSION_MAP.get(("ai.onnx", opset), 10))


def _put_props(field_: object, props: Mapping[str, str]) -> None:
    for key, value in props.items():
        field_.add(key=key, value=value)  # type: ignore[attr-defined]  # protobuf's repeated fields have no type


def _write_graph(skeleton: _Skeleton, proto: onnx.GraphProto, graph: Graph) -> None:
    info = graph.info
    proto.name = graph.name
    for value in graph.inputs:
        _write_info(proto.input.add(), value, value.type)
        if value.constant is not None:
            _write_constant(skeleton, proto.initializer.add(), value.constant, value.name, value.doc)
    for node in graph.nodes:
        _write_node(skeleton, proto, node)
    for value in graph.constants:
        if value.constant is not None and not (value.is_read and skeleton.absorbed.get(value) == len(value.uses)):
            _write_constant(skeleton, proto.initializer.add(), value.constant, value.name, value.doc)
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
    proto.doc_string = value.doc
    _put_props(proto.metadata_props, value.metadata)


def _write_constant(skeleton: _Skeleton, proto: onnx.TensorProto, constant: Constant, name: str, doc: str = "") -> None:
    proto.doc_string = doc
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
            skeleton.constants += 1
            name = f"{node.label}.constant_{skeleton.constants}"
            _write_constant(skeleton, graph.initializer.add(), operand, name)
            operands[i] = name
    while operands and not operands[-1]:
        operands.pop()
    name = op.name_at(skeleton.opset) if isinstance(op, Room) else op.name
    proto = graph.node.add(op_type=name, domain=op.domain, name=node.name, doc_string=node.doc)
    proto.input.extend(str(o) for o in operands)
    proto.output.extend(node.gives[: len(step.results)])
    if isinstance(op, Opaque):
        proto.overload = op.overload
    _put_props(proto.metadata_props, node.metadata)
    for key, attribute in step.attributes.items():
        write_attribute(
            proto.attribute.add(),
            key,
            attribute,
            lambda p, c: _write_constant(skeleton, p, c, ""),
            lambda p, g: _write_graph(skeleton, p, g),
        )
