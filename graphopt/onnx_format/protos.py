"""ONNX's messages to and from the IR's small parts: types, tensors, attributes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import onnx

from graphopt.errors import GraphoptError, ModelError
from graphopt.ir.attributes import Attribute, AttributeValue, Kind
from graphopt.ir.constant import Constant
from graphopt.ir.dims import Dim, Expr, is_anonymous, symbol
from graphopt.ir.types import (
    ForeignType,
    OptionalType,
    SequenceType,
    TensorType,
    Type,
    dtype_of_code,
    string,
)
from graphopt.onnx_format.wire import fill
from graphopt.ops.room import unknown_dim

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph

_FIELDS: Mapping[int, str] = {1: "float_data", 7: "int64_data", 11: "double_data", 12: "uint64_data", 13: "uint64_data",
                              14: "float_data", 15: "double_data"}  # fmt: skip  # others: int32_data


def as_text(text: str | bytes) -> str:
    """A message's text, which protobuf gives as bytes where it is not UTF-8.

    Raises:
        ModelError: it is not.
    """
    if isinstance(text, bytes):
        raise ModelError(f"the text {text[:40]!r} is not UTF-8: the file is damaged; export or copy it again")
    return text


def read_type(proto: onnx.TypeProto) -> Type | None:
    """A type; None where the message says nothing."""
    kind = proto.WhichOneof("value")
    if kind == "tensor_type":
        tensor = proto.tensor_type
        if not tensor.elem_type:
            return None
        dtype = dtype_of_code(tensor.elem_type)
        if not tensor.HasField("shape"):
            return TensorType(dtype)
        return TensorType(dtype, tuple(_read_dim(d) for d in tensor.shape.dim))
    if kind == "sequence_type":
        return SequenceType(read_type(proto.sequence_type.elem_type))
    if kind == "optional_type":
        return OptionalType(read_type(proto.optional_type.elem_type))
    return None if kind is None else ForeignType(proto.SerializeToString(deterministic=True))


def _read_dim(dim: onnx.TensorShapeProto.Dimension) -> Dim:
    kind = dim.WhichOneof("value")
    if kind == "dim_value":
        return int(dim.dim_value) if dim.dim_value >= 0 else unknown_dim()
    if kind == "dim_param" and (name := as_text(dim.dim_param)) and not name.startswith("?"):
        return symbol(name)
    return unknown_dim()


def write_type(kind: Type) -> onnx.TypeProto:
    """The message for a type."""
    proto = onnx.TypeProto()
    if isinstance(kind, ForeignType):
        proto.ParseFromString(kind.proto)
    elif isinstance(kind, SequenceType):
        proto.sequence_type.elem_type.CopyFrom(write_type(kind.element) if kind.element else onnx.TypeProto())
    elif isinstance(kind, OptionalType):
        proto.optional_type.elem_type.CopyFrom(write_type(kind.element) if kind.element else onnx.TypeProto())
    else:
        proto.tensor_type.elem_type = kind.dtype.code
        if kind.shape is not None:
            shape = proto.tensor_type.shape
            shape.SetInParent()
            for dim in kind.shape:
                item = shape.dim.add()
                if isinstance(dim, int):
                    item.dim_value = dim
                elif not _has_anonymous(dim):
                    item.dim_param = dim.name or str(dim)
    return proto


def _has_anonymous(dim: Expr) -> bool:
    from graphopt.ir.dims import symbols

    return is_anonymous(dim) or any(name.startswith("?") for name in symbols(dim))


class TensorReader:
    """Makes constants of TensorProtos: views of the file where the data lies in it.

    `spans` finds the bytes of data that the wire module left in the file; `external` those in other files.
    """

    def __init__(
        self,
        spans: Callable[[bytes], memoryview | None],
        external: Callable[[str, str, int, int | None], memoryview],
        on_used: Callable[[memoryview], Callable[[], None]] | None = None,
    ) -> None:
        self._spans = spans
        self._external = external
        self._on_used = on_used

    def carried(self, message: bytes, kind: str) -> bytes:
        """The bytes of a message that is only carried, with its large tensors back in their places."""
        return fill(message, self._spans, root=kind)

    def read(self, proto: onnx.TensorProto, name: str) -> Constant:
        """A constant.

        Raises:
            ModelError: the data is not what type and shape ask for.
        """
        dims = tuple(proto.dims)
        if any(d < 0 for d in dims):
            raise ModelError(f"the weight `{name}` has the shape {list(dims)}: export the model again")
        if proto.HasField("segment"):
            raise ModelError(f"the weight `{name}` is stored in segments, which nothing reads: export the model again")
        try:
            kind = TensorType(dtype_of_code(proto.data_type), dims)
        except GraphoptError as error:
            raise ModelError(f"the weight `{name}`: {error}: export the model again") from None
        nbytes = (math.prod(dims) * kind.dtype.bits + 7) // 8
        if proto.data_location == onnx.TensorProto.EXTERNAL:
            return self._view(self._read_external(proto, name, nbytes), kind, name)
        if kind.dtype == string:
            return self._typed(proto, kind, name, "string_data", 1)
        if proto.HasField("raw_data"):
            data = self._spans(proto.raw_data)
            return self._view(memoryview(proto.raw_data) if data is None else data, kind, name)
        if math.prod(dims) == 0:
            return Constant(kind, buffer=memoryview(b""))
        field = _FIELDS.get(proto.data_type, "int32_data")
        packed = 8 // kind.dtype.bits if kind.dtype.bits < 8 else 1
        return self._typed(proto, kind, name, field, 2 if kind.dtype.kind == "complex" else 1, packed)

    def _typed(
        self, proto: onnx.TensorProto, kind: TensorType, name: str, field: str, each: int, packed: int = 1
    ) -> Constant:
        size = math.prod(kind.static_shape)
        wanted, found = -(-size * each // packed), len(getattr(proto, field))
        if wanted != found:
            raise ModelError(
                f"the weight `{name}` is declared {kind} and has {found:,} of {wanted:,} elements: "
                "export the model again"
            )
        if kind.dtype == string:
            values = np.empty(size, object)
            values[:] = [_text(b) for b in proto.string_data]
            return Constant.of(values.reshape(kind.static_shape))
        array: np.ndarray = onnx.numpy_helper.to_array(proto)
        return Constant.of(array)

    def _view(self, data: memoryview, kind: TensorType, name: str) -> Constant:
        wanted = kind.nbytes
        if data.nbytes != wanted:
            raise ModelError(
                f"the weight `{name}` is declared {kind}, which takes {wanted:,} bytes, and {data.nbytes:,} are there: "
                "export the model again"
            )
        constant = Constant(kind, buffer=data)
        if self._on_used is not None and data.nbytes > 1 << 20:
            constant.on_used = self._on_used(data)
        return constant

    def _read_external(self, proto: onnx.TensorProto, name: str, nbytes: int) -> memoryview:
        entries = {e.key: e.value for e in proto.external_data}
        try:
            offset = int(entries.get("offset", "0"))
            length = int(entries["length"]) if "length" in entries else nbytes
        except ValueError:
            raise ModelError(
                f"the external data of `{name}` has an offset or a length that is not a number: export the model again"
            ) from None
        return self._external(name, entries.get("location", ""), offset, length)


def write_tensor(proto: onnx.TensorProto, constant: Constant, name: str) -> bool:
    """Fill in everything but raw bytes; True where raw bytes are still to come."""
    if name:
        proto.name = name
    proto.data_type = constant.type.dtype.code
    proto.dims.extend(constant.shape)
    if constant.type.dtype == string:
        proto.string_data.extend(_bytes(s) for s in constant.array().ravel().tolist())
        return False
    return True


def _text(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


_LISTS: Mapping[Kind, str] = MappingProxyType({Kind.FLOATS: "floats", Kind.INTS: "ints"})


def read_attribute(
    proto: onnx.AttributeProto,
    tensor: Callable[[onnx.TensorProto], Constant],
    graph: Callable[[onnx.GraphProto], Graph],
    sparse: Callable[[onnx.SparseTensorProto], bytes],
) -> Attribute:
    """An attribute.

    Raises:
        ModelError: its kind is not known.
    """
    kind = _kind(proto)
    value: AttributeValue
    match kind:
        case Kind.INT:
            value = int(proto.i)
        case Kind.INTS:
            value = tuple(proto.ints)
        case Kind.FLOAT:
            value = float(proto.f)
        case Kind.FLOATS:
            value = tuple(proto.floats)
        case Kind.STRING:
            value = _text(proto.s)
        case Kind.STRINGS:
            value = tuple(map(_text, proto.strings))
        case Kind.TENSOR:
            value = tensor(proto.t)
        case Kind.TENSORS:
            value = tuple(map(tensor, proto.tensors))
        case Kind.GRAPH:
            value = graph(proto.g)
        case Kind.GRAPHS:
            value = tuple(map(graph, proto.graphs))
        case Kind.SPARSE_TENSOR:
            value = sparse(proto.sparse_tensor)
        case Kind.SPARSE_TENSORS:
            value = tuple(map(sparse, proto.sparse_tensors))
        case Kind.TYPE_PROTO:
            value = proto.tp.SerializeToString(deterministic=True)
        case Kind.TYPE_PROTOS:
            value = tuple(t.SerializeToString(deterministic=True) for t in proto.type_protos)
    return Attribute(kind, value)


_GUESSES = (("f", Kind.FLOAT), ("i", Kind.INT), ("s", Kind.STRING), ("t", Kind.TENSOR), ("g", Kind.GRAPH))


def _kind(proto: onnx.AttributeProto) -> Kind:
    if proto.type:
        try:
            return Kind(proto.type)
        except ValueError:
            raise ModelError(
                f"the attribute {proto.name!r} has the unknown kind {proto.type}: export the model again"
            ) from None
    for field, kind in _GUESSES:  # files of IR 1 and 2 leave the type out
        if proto.HasField(field):
            return kind
    return Kind.INTS if proto.ints else Kind.FLOATS if proto.floats else Kind.STRINGS if proto.strings else Kind.INTS


def write_attribute(
    proto: onnx.AttributeProto,
    name: str,
    attribute: Attribute,
    tensor: Callable[[onnx.TensorProto, Constant], None],
    graph: Callable[[onnx.GraphProto, Graph], None],
) -> None:
    """Fill in an attribute's message."""
    from graphopt.ir.graph import Graph

    proto.name = name
    proto.type = attribute.kind.value  # type: ignore[assignment]  # an enum's number
    value = attribute.value
    items = value if isinstance(value, tuple) else (value,)
    match attribute.kind:
        case Kind.INT:
            proto.i = value  # type: ignore[assignment]  # here and below the kind says what the value is
        case Kind.FLOAT:
            proto.f = value  # type: ignore[assignment]
        case Kind.STRING:
            proto.s = _bytes(value)  # type: ignore[arg-type]  # the kind says that it is text
        case Kind.INTS | Kind.FLOATS:
            getattr(proto, _LISTS[attribute.kind]).extend(items)
        case Kind.STRINGS:
            proto.strings.extend(_bytes(i) for i in items)  # type: ignore[arg-type]
        case Kind.TENSOR | Kind.TENSORS:
            for item in items:
                if isinstance(item, Constant):
                    tensor(proto.t if attribute.kind is Kind.TENSOR else proto.tensors.add(), item)
        case Kind.GRAPH | Kind.GRAPHS:
            for item in items:
                if isinstance(item, Graph):
                    graph(proto.g if attribute.kind is Kind.GRAPH else proto.graphs.add(), item)
        case Kind.SPARSE_TENSOR:
            proto.sparse_tensor.ParseFromString(value)
        case Kind.SPARSE_TENSORS:
            for item in items:
                proto.sparse_tensors.add().ParseFromString(item)
        case Kind.TYPE_PROTO:
            proto.tp.ParseFromString(value)
        case Kind.TYPE_PROTOS:
            for item in items:
                proto.type_protos.add().ParseFromString(item)
