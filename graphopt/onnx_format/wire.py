"""ONNX's bytes without the weights: a model is split into a small message and the places of its large tensors.

Protobuf would copy every weight several times. So the file is walked by protobuf's wire format: `strip` copies
everything but long `raw_data`, for which it leaves a token, and `splice` puts bytes back in the place of tokens,
correcting the lengths of all messages around them. Neither ever holds a weight.

Encoding: a message is a sequence of fields; a field is a varint key (number << 3 | wire type) and a value: a varint
(0), 8 bytes (1), a length and that many bytes (2), 4 bytes (5). https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from graphopt.errors import ModelError

Buffer: TypeAlias = bytes | memoryview

KEEP = 256  # raw_data up to this many bytes stays in the skeleton: a token would not be much shorter
MAX_DEPTH = 100  # messages within messages; protobuf's own limit

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# Which length-delimited fields lead to tensors: message -> field number -> message. `raw_data` ends the way.
_RAW = "raw_data"
NESTING: Mapping[str, Mapping[int, str]] = {
    "ModelProto": {7: "GraphProto", 25: "FunctionProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {9: _RAW},
}

_NONCE = secrets.token_bytes(16)  # a file cannot know it, so it cannot forge a token
_serial = itertools.count()


@dataclass(frozen=True, slots=True)
class Span:
    """Where `raw_data` lies in a file."""

    offset: int
    length: int


class Payload(Protocol):
    """Bytes to be put in a token's place."""

    @property
    def nbytes(self) -> int:
        """How many."""

    def chunks(self) -> Iterator[Buffer]:
        """The bytes, in order; together `nbytes`."""


def token() -> bytes:
    """A mark that no file holds, to stand for bytes that are spliced in later."""
    return _NONCE + next(_serial).to_bytes(8, "big")


def strip(data: Buffer, *, keep: int = KEEP) -> tuple[bytes, dict[bytes, Span]]:
    """A ModelProto's bytes with tokens in the place of `raw_data` longer than `keep`, and where these lie.

    Raises:
        ModelError: the bytes are cut short or are no protobuf message.
    """
    view = memoryview(data)
    out: list[Buffer] = []
    spans: dict[bytes, Span] = {}
    _strip(view, 0, len(view), "ModelProto", keep, out, spans, 0)
    return b"".join(out), spans


def _strip(
    view: memoryview, start: int, end: int, kind: str, keep: int, out: list[Buffer], spans: dict[bytes, Span], depth: int
) -> int:
    """Append the message at `start:end` without its long tensors to `out`; its new length."""
    if depth > MAX_DEPTH:
        raise ModelError("it is nested too deeply to be a model: export it again")
    nested = NESTING[kind]
    verbatim = start
    length = 0
    for number, key_end, value_at, value_end in _fields(view, start, end):
        child = nested.get(number)
        if child is None or value_end - value_at <= keep:
            continue
        piece: list[Buffer] = []
        if child == _RAW:
            mark = token()
            spans[mark] = Span(value_at, value_end - value_at)
            piece.append(mark)
            size = len(mark)
        else:
            size = _strip(view, value_at, value_end, child, keep, piece, spans, depth + 1)
        prefix = _varint(size)
        out += [view[verbatim:key_end], prefix, *piece]
        length += key_end - verbatim + len(prefix) + size
        verbatim = value_end
    out.append(view[verbatim:end])
    return length + end - verbatim


def splice(skeleton: bytes, payloads: Mapping[bytes, Payload]) -> Iterator[Buffer]:
    """The skeleton's bytes with payloads in the place of tokens, and all lengths corrected; a stream.

    Raises:
        ModelError: the skeleton is no message.
    """
    pieces: list[Buffer | Payload] = []
    _splice(memoryview(skeleton), skeleton, 0, len(skeleton), "ModelProto", payloads, pieces, 0)
    for piece in pieces:
        if isinstance(piece, bytes | memoryview):
            yield piece
        else:
            yield from piece.chunks()


def _splice(
    view: memoryview,
    data: bytes,
    start: int,
    end: int,
    kind: str,
    payloads: Mapping[bytes, Payload],
    out: list[Buffer | Payload],
    depth: int,
) -> int:
    """Append the message at `start:end` with its payloads to `out`; its new length."""
    if depth > MAX_DEPTH:
        raise ModelError("its subgraphs are nested too deeply to be written")
    nested = NESTING[kind]
    verbatim = start
    length = 0
    for number, key_end, value_at, value_end in _fields(view, start, end):
        child = nested.get(number)
        if child is None or data.find(_NONCE, value_at, value_end) < 0:
            continue
        piece: list[Buffer | Payload] = []
        if child == _RAW:
            payload = payloads.get(data[value_at:value_end])
            if payload is None:
                continue
            piece.append(payload)
            size = payload.nbytes
        else:
            size = _splice(view, data, value_at, value_end, child, payloads, piece, depth + 1)
        prefix = _varint(size)
        out += [view[verbatim:key_end], prefix, *piece]
        length += key_end - verbatim + len(prefix) + size
        verbatim = value_end
    out.append(view[verbatim:end])
    return length + end - verbatim


def _fields(view: memoryview, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Length-delimited fields of a message: number, where the key ends, and where the value begins and ends.

    Raises:
        ModelError: the bytes are cut short or are no message.
    """
    at = start
    while at < end:
        key = view[at]
        if key < 0x80:
            at += 1
        else:
            key, at = _read_varint(view, at, end)
        wire = key & 7
        key_end = at
        if wire == _BYTES:
            if at < end and view[at] < 0x80:
                length = view[at]
                at += 1
            else:
                length, at = _read_varint(view, at, end)
            if length > end - at:
                raise ModelError(f"it is cut short at byte {at:,}: {length:,} bytes should follow, {end - at:,} do")
            if not key >> 3:
                raise ModelError(f"it is no ONNX model: byte {at:,} names a field that cannot be")
            yield key >> 3, key_end, at, at + length
            at += length
        elif wire == _VARINT:
            at = _read_varint(view, at, end)[1]
        elif wire in (_FIXED64, _FIXED32):
            at += 8 if wire == _FIXED64 else 4
            if at > end:
                raise ModelError(f"it is cut short at byte {end:,}")
        else:
            raise ModelError(f"it is no ONNX model: byte {at:,} begins no field")


def _read_varint(view: memoryview, at: int, end: int) -> tuple[int, int]:
    """A varint, and where it ends.

    Raises:
        ModelError: it is cut short or longer than 10 bytes.
    """
    value = shift = 0
    while at < end and shift < 70:
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ModelError(f"it is cut short or no ONNX model: a number at byte {at:,} does not end")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
