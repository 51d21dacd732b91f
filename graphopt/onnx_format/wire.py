"""Takes large weights out of ONNX's protobuf bytes and puts them back, so that they never pass through protobuf.

`strip` makes a skeleton: the same ModelProto, with a short token in place of each large `raw_data`. The onnx package
parses and writes skeletons. `splice` streams the final file: the skeleton with each token replaced by its bytes.

Both walk the same way. Protobuf stores a message as fields, each a tag (number and wire type), then a varint, 4 or 8
bytes, or a length and that many bytes; a nested message is such a run of bytes. Only the few fields that can lead to
`raw_data` are entered. All else, unknown fields too, is copied as it stands.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from mmap import mmap
from types import MappingProxyType
from typing import NamedTuple, Protocol

from graphopt.errors import GraphoptError, ModelError

KEEP_BYTES = 256  # shorter data stays in the skeleton: a token and a view cost more than its copy
STRETCH_BYTES = 16 << 20  # of a file, after which `strip` lets its memory go
DEPTH_LIMIT = 100  # nested messages; protobuf itself stops there

# Message by message, the fields that lead to raw_data, by their number: all of ONNX's, and no others.
NESTED: Mapping[str, Mapping[int, str]] = MappingProxyType(
    {
        "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
        "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
        "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
        "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
        "NodeProto": {5: "AttributeProto"},
        "AttributeProto": {
            5: "TensorProto", 6: "GraphProto", 10: "TensorProto", 11: "GraphProto",
            22: "SparseTensorProto", 23: "SparseTensorProto",
        },
        "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
        "TensorProto": {9: "raw_data"},
    }
)  # fmt: skip

_VARINT, _FIXED64, _LEN, _GROUP, _END_GROUP, _FIXED32 = range(6)  # wire types
_BY_TAG = {name: {number << 3 | _LEN: into for number, into in fields.items()} for name, fields in NESTED.items()}

_NONCE = os.urandom(16)  # so that no file can hold a token of this process
_COUNTER = itertools.count()
TOKEN_BYTES = len(_NONCE) + 8


@dataclass(frozen=True, slots=True)
class Span:
    """Where bytes lie in a file: `length` of them from `offset` on."""

    offset: int
    length: int


class Payload(Protocol):
    """Bytes that are made, or read, only while they are written."""

    @property
    def nbytes(self) -> int:
        """How many bytes all chunks have together."""

    def chunks(self) -> Iterator[bytes | memoryview]:
        """The bytes, in order."""


def token() -> bytes:
    """A token that stands for no other data in this process."""
    return _NONCE + next(_COUNTER).to_bytes(8, "big")


def strip(
    data: memoryview | bytes | mmap,
    *,
    keep: int = KEEP_BYTES,
    passed: Callable[[memoryview], None] | None = None,
) -> tuple[bytes, dict[bytes, Span]]:
    """The skeleton of a ModelProto, and where in `data` the bytes behind its tokens lie.

    Args:
        data: the bytes of the model; large ones are not read.
        keep: `raw_data` of at most this many bytes stays in the skeleton.
        passed: is given stretches of `data` that are no longer looked at, so that their memory can be let go: the
            system brings in whole large pages around the few bytes that are read.

    Raises:
        ModelError: the bytes cannot be a ModelProto.
    """
    view = memoryview(data)
    spans: dict[bytes, Span] = {}
    behind = _Behind(view, passed)

    def replace(start: int, stop: int) -> bytes:
        behind.pass_by(start)
        mark = token()
        spans[mark] = Span(start, stop - start)
        return mark

    walk = _Walk(view, replace, shortest=keep + 1)
    walk.message(0, len(view), "ModelProto", 0)
    skeleton = bytearray()
    position = behind.since = 0
    for edit in walk.edits:
        behind.pass_by(position)
        skeleton += view[position : edit.start]
        skeleton += edit.length
        if isinstance(edit.content, bytes):
            skeleton += edit.content
        position = edit.stop
    skeleton += view[position:]
    return bytes(skeleton), spans


class _Behind:
    """Hands on the stretches of `view` that a walk has behind it."""

    __slots__ = ("passed", "since", "view")

    def __init__(self, view: memoryview, passed: Callable[[memoryview], None] | None) -> None:
        self.view = view
        self.passed = passed
        self.since = 0

    def pass_by(self, position: int) -> None:
        if self.passed is not None and position - self.since >= STRETCH_BYTES:
            self.passed(self.view[self.since : position])
            self.since = position


def splice(
    skeleton: bytes, payloads: Mapping[bytes, Payload], *, root: str = "ModelProto"
) -> Iterator[bytes | memoryview]:
    """The chunks of the final file; see `Spliced`, which also knows the length beforehand."""
    return Spliced(skeleton, payloads, root=root).chunks()


def fill(message: bytes, find: Callable[[bytes], memoryview | None], *, root: str) -> bytes:
    """A part of a skeleton with the bytes behind its tokens in it; for parts that are carried as bytes.

    Args:
        message: the serialised part.
        find: gives a token's bytes.
        root: the part's type in ONNX's schema, "FunctionProto" for instance.

    Raises:
        ModelError: the message is not of that type.
        GraphoptError: `find` gives None.
    """
    payloads: dict[bytes, Payload] = {}
    at = first = message.find(_NONCE)
    while at >= 0:
        mark = message[at : at + TOKEN_BYTES]
        data = find(mark)
        if data is not None:
            payloads[mark] = _Bytes(data)
        at = message.find(_NONCE, at + TOKEN_BYTES)
    return b"".join(splice(message, payloads, root=root)) if first >= 0 else message


@dataclass(frozen=True, slots=True)
class _Bytes:
    data: memoryview

    @property
    def nbytes(self) -> int:
        return self.data.nbytes

    def chunks(self) -> Iterator[memoryview]:
        yield self.data


class Spliced:
    """A message whose tokens are replaced by their payloads while it is streamed; a payload itself.

    Args:
        skeleton: a message as `strip` or protobuf wrote it.
        payloads: the bytes behind the tokens; one that the skeleton does not name is left out.
        root: the message's type in ONNX's schema.

    Raises:
        ModelError: the skeleton cannot be a message of that type.
        GraphoptError: it holds a token without a payload, or outside of `raw_data`.
    """

    __slots__ = ("_edits", "_skeleton", "nbytes")

    def __init__(self, skeleton: bytes, payloads: Mapping[bytes, Payload], *, root: str = "ModelProto") -> None:
        def next_token(start: int) -> int:
            found = skeleton.find(_NONCE, start)
            return found if found >= 0 else len(skeleton)

        def replace(start: int, stop: int) -> Payload:
            mark = skeleton[start:stop]
            if mark not in payloads:
                raise GraphoptError(
                    "a weight's bytes are missing: the message was made from a file that is not at hand"
                )
            walk.nearest = next_token(stop)
            return payloads[mark]

        walk = _Walk(skeleton, replace, shortest=TOKEN_BYTES, nearest=next_token(0))
        grown = walk.message(0, len(skeleton), root, 0)
        if walk.nearest < len(skeleton):
            raise GraphoptError("a token stands where no weight's bytes belong")
        self.nbytes = len(skeleton) + grown
        self._skeleton = skeleton
        self._edits = walk.edits

    def chunks(self) -> Iterator[bytes | memoryview]:
        """The bytes, in order; one payload at a time is asked for its chunks."""
        view = memoryview(self._skeleton)
        position = 0
        for edit in self._edits:
            if edit.start > position:
                yield view[position : edit.start]
            yield edit.length
            if edit.content is not None and not isinstance(edit.content, bytes):
                yield from _exactly(edit.content)
            position = edit.stop
        if position < len(view):
            yield view[position:]


def _exactly(payload: Payload) -> Iterator[bytes | memoryview]:
    left = payload.nbytes
    for chunk in payload.chunks():
        left -= memoryview(chunk).nbytes
        if left < 0:
            break
        yield chunk
    if left:
        raise GraphoptError(f"a weight of {payload.nbytes:,} bytes gave {payload.nbytes - left:,} or more to write")


class _Edit(NamedTuple):
    """Bytes `start` to `stop` become a new length, and the content where there is one."""

    start: int
    stop: int
    length: bytes
    content: bytes | Payload | None


class _Walk:
    """One pass over a message: asks `replace` what stands for each `raw_data`, and notes what changes around it.

    Messages that are shorter than `shortest`, or that end before `nearest`, are not entered.
    """

    __slots__ = ("data", "edits", "nearest", "replace", "shortest")

    def __init__(
        self,
        data: bytes | memoryview,
        replace: Callable[[int, int], bytes | Payload],
        shortest: int,
        nearest: int = -1,
    ) -> None:
        self.data = data
        self.replace = replace
        self.shortest = shortest
        self.nearest = nearest
        self.edits: list[_Edit] = []  # in the order of their places, none inside another

    def message(self, position: int, end: int, kind: str, depth: int) -> int:
        """Walk the fields of one message; by how many bytes it grows."""
        if depth > DEPTH_LIMIT:
            raise _broken(position, f"messages are nested more than {DEPTH_LIMIT} deep")
        data, shortest = self.data, self.shortest
        entered = _BY_TAG[kind]
        grown = 0
        while position < end:
            at = position
            tag = data[position]
            position += 1
            if tag > 127 or tag < 8:
                tag, position = _tag(data, at, end)
            wire = tag & 7
            if wire != _LEN:
                if wire == _VARINT and position < end and data[position] < 128:
                    position += 1
                else:
                    position = _skip(data, at, position, end, tag)
                continue
            head = position
            if position < end and (length := data[position]) < 128:
                position += 1
            else:
                length, position = _varint(data, position, end)
            start, position = position, position + length
            if position > end:
                raise _broken(at, f"a field of {length:,} bytes begins, and {end - start:,} are left")
            if length >= shortest and position > self.nearest and (into := entered.get(tag)) is not None:
                grown += self.field(head, start, position, into, depth)
        return grown

    def field(self, head: int, start: int, stop: int, into: str, depth: int) -> int:
        """Enter a field whose length is written at `head`; by how many bytes it grows."""
        place = len(self.edits)
        if into == "raw_data":
            content = self.replace(start, stop)
            size = len(content) if isinstance(content, bytes) else content.nbytes
            length = _encoded(size)
            self.edits.append(_Edit(head, stop, length, content))
            return len(length) + size - (stop - head)
        self.edits.append(_Edit(head, start, b"", None))  # the length comes before what it measures
        grown = self.message(start, stop, into, depth + 1)
        if len(self.edits) == place + 1:
            self.edits.pop()
            return 0
        length = _encoded(stop - start + grown)
        self.edits[place] = _Edit(head, start, length, None)
        return grown + len(length) - (start - head)


def _skip(data: bytes | memoryview, at: int, position: int, end: int, tag: int) -> int:
    """Where the field ends whose tag stands at `at`; its value begins at `position`."""
    groups: list[int] = []
    while True:
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            _, position = _varint(data, position, end)
        elif wire == _FIXED64:
            position += 8
        elif wire == _FIXED32:
            position += 4
        elif wire == _LEN:
            length, position = _varint(data, position, end)
            position += length
        elif wire == _GROUP:
            groups.append(number)
        elif wire != _END_GROUP or not groups or groups.pop() != number:
            raise _broken(at, f"a field of the wire type {wire} stands where none can")
        if position > end:
            raise _broken(at, f"a field of {position - at:,} bytes begins, and {end - at:,} are left")
        if not groups:
            return position
        if len(groups) > DEPTH_LIMIT:
            raise _broken(at, f"groups are nested more than {DEPTH_LIMIT} deep")
        at = position
        tag, position = _tag(data, position, end)


def _tag(data: bytes | memoryview, position: int, end: int) -> tuple[int, int]:
    """A field's tag, and where it ends."""
    tag, after = _varint(data, position, end)
    if not 8 <= tag < 1 << 32:
        raise _broken(position, f"no field has the number {tag >> 3:,}")
    return tag, after


def _varint(data: bytes | memoryview, position: int, end: int) -> tuple[int, int]:
    """A number written in groups of seven bits, lowest first, and where it ends."""
    value = shift = 0
    place = position
    while place < end:
        byte = data[place]
        place += 1
        if byte < 128:
            return value | byte << shift, place
        value |= (byte & 127) << shift
        shift += 7
        if shift == 70:
            raise _broken(position, "a number is longer than 10 bytes")
    raise _broken(position, "the bytes end within a number")


def _encoded(value: int) -> bytes:
    """A varint in its shortest form."""
    if value < 128:
        return _ONE_BYTE[value]
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


_ONE_BYTE = [bytes((value,)) for value in range(128)]


def _broken(position: int, what: str) -> ModelError:
    return ModelError(
        f"it is not an ONNX model, or is cut short: at byte {position:,}, {what}: export or copy it again"
    )
