"""Constants: typed, immutable tensors whose bytes may lie in a file or be computed only when they are written.

A network's weights are most of its bytes, so a constant is one of
  * an array in memory,
  * a view of a memory-mapped file (ONNX layout: little-endian, C order, sub-byte types packed low bits first),
  * a recipe: a function that makes the array when it is needed, and whose result is not kept,
  * absent: only the digest is known (a graph parsed from text).
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from graphopt.errors import GraphError
from graphopt.ir.types import TensorType, dtype_of, static_size, string

SMALL_BYTES = 1 << 16  # constants up to this size may be compared and hashed without thought
WINDOW_BYTES = 1 << 24  # of a mapped file looked at before its memory is let go
_SAMPLES = 64  # bytes looked at in each of a few places for a cheap fingerprint


class Recipe(Protocol):
    """How to make an array on demand; called again whenever the array is needed and nobody holds it."""

    def __call__(self) -> np.ndarray:
        """The array, of the constant's dtype and shape."""


class Constant:
    """An immutable tensor. `type` has a static shape; `nbytes` is the length of its ONNX `raw_data`."""

    __slots__ = (
        "__weakref__",
        "_array",
        "_buffer",
        "_digest",
        "_fingerprint",
        "_held",
        "on_used",
        "recipe",
        "shape",
        "size",
        "type",
    )

    def __init__(
        self,
        type: TensorType,  # noqa: A002  # the field's name everywhere in the IR
        *,
        array: np.ndarray | None = None,
        buffer: memoryview | None = None,
        recipe: Recipe | None = None,
        digest: str | None = None,
    ) -> None:
        self.type = type
        self.shape = type.static_shape
        self.size = static_size(self.shape)  # number of elements
        self.recipe = recipe
        self.on_used: Callable[[], None] | None = None  # lets a mapped file's pages go after a large read
        self._array = array
        self._buffer = buffer
        self._digest = digest
        self._fingerprint: bytes | None = None
        self._held: weakref.ref[np.ndarray] | None = None
        if buffer is not None and buffer.nbytes != self.nbytes:
            raise GraphError(f"a constant of type {type} needs {self.nbytes} bytes, and {buffer.nbytes} are there")

    @staticmethod
    def of(value: np.ndarray | Sequence[object] | float | bool, like: TensorType | None = None) -> Constant:
        """A constant holding a read-only copy-free view of `value` (as `like`'s dtype where given)."""
        array = np.asarray(value, None if like is None else like.dtype.numpy)
        if array.dtype.kind in "US":
            array = array.astype(object)
        array = array.view()
        array.flags.writeable = False
        return Constant(TensorType(dtype_of(array.dtype), array.shape), array=array)

    @property
    def nbytes(self) -> int:
        """Length in bytes as ONNX stores the elements; strings count their UTF-8 bytes."""
        if self.type.dtype == string:
            return sum(len(s if isinstance(s, bytes) else str(s).encode()) for s in self.array().ravel())
        return (self.size * self.type.dtype.bits + 7) // 8

    @property
    def is_recipe(self) -> bool:
        """Whether the array is made on demand."""
        return self.recipe is not None

    @property
    def is_absent(self) -> bool:
        """Whether only the digest is known."""
        return self._array is None and self._buffer is None and self.recipe is None

    def array(self) -> np.ndarray:
        """The elements, read-only.

        Raises:
            GraphError: the constant is absent.
        """
        if self._array is not None:
            return self._array
        held = self._held() if self._held is not None else None
        if held is not None:
            return held
        if self._buffer is not None:
            array = _unpack(self._buffer, self.type)
        elif self.recipe is not None:
            array = self.recipe()
            if array.shape != self.shape or array.dtype != self.type.dtype.numpy:
                raise GraphError(f"a recipe for {self.type} made {array.dtype}{list(array.shape)}")
        else:
            raise GraphError(f"a constant of type {self.type} is known only by its digest {self._digest}")
        array = array.view()
        array.flags.writeable = False
        self._held = weakref.ref(array)
        return array

    def chunks(self) -> Iterator[bytes | memoryview]:
        """The bytes of ONNX `raw_data`, in order, without a copy where possible."""
        if self._buffer is not None:
            for start in range(0, self._buffer.nbytes, WINDOW_BYTES):
                yield self._buffer[start : start + WINDOW_BYTES]
                if self.on_used is not None:
                    self.on_used()
            return
        yield _pack(self.array(), self.type)

    def digest(self) -> str:
        """SHA-256 over dtype, shape and bytes, in hex."""
        if self._digest is None:
            import hashlib  # OpenSSL's start takes longer than a small compilation has

            sha = hashlib.sha256(str(self.type).encode())
            if self.type.dtype == string:
                sha.update(repr(self.array().tolist()).encode())
            else:
                for chunk in self.chunks():
                    sha.update(chunk)
            self._digest = sha.hexdigest()
        return self._digest

    def fingerprint(self) -> bytes | None:
        """A few bytes of the content, equal for equal constants; None where looking would cost a large recipe."""
        if self._fingerprint is None:
            if self.is_absent or self.type.dtype == string:
                self._fingerprint = self.digest().encode()
            elif self._array is None and self._buffer is None and self.nbytes > SMALL_BYTES:
                return None
            else:
                data = memoryview(self._buffer if self._buffer is not None else _pack(self.array(), self.type))
                step = max(len(data) // 4, 1)
                parts = [data[i : i + _SAMPLES] for i in range(0, len(data), step)]
                self._fingerprint = b"".join([*map(bytes, parts), bytes(data[-_SAMPLES:])])
        return self._fingerprint

    def same(self, other: Constant) -> bool:
        """Whether both have the same type and the same bits."""
        if self is other:
            return True
        if self.type != other.type:
            return False
        if self.is_absent or other.is_absent:
            return self.digest() == other.digest()
        if self.type.dtype == string:
            return bool(self.array().tolist() == other.array().tolist())
        mine, yours = self.fingerprint(), other.fingerprint()
        if mine is not None and yours is not None and mine != yours:
            return False
        return (
            b"".join(self.chunks()) == b"".join(other.chunks()) if self.nbytes <= SMALL_BYTES else _equal(self, other)
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constant) and self.same(other)

    def __hash__(self) -> int:
        return hash((self.type, self.fingerprint() if self.nbytes <= SMALL_BYTES else None))

    def __repr__(self) -> str:
        return f"Constant({self.type})"


def _equal(a: Constant, b: Constant) -> bool:
    """Whether the bits are the same; looked at through a window, of which nothing stays in memory."""
    left, right = (np.ascontiguousarray(c.array()).view(np.uint8).ravel() for c in (a, b))
    equal = True
    for start in range(0, left.size, WINDOW_BYTES):
        equal = np.array_equal(left[start : start + WINDOW_BYTES], right[start : start + WINDOW_BYTES])
        for constant in (a, b):
            if constant.on_used is not None:
                constant.on_used()
        if not equal:
            break
    return equal


def _unpack(buffer: memoryview, type: TensorType) -> np.ndarray:  # noqa: A002
    dtype = type.dtype
    if dtype.bits < 8:
        raw = np.frombuffer(buffer, np.uint8)
        per_byte = 8 // dtype.bits
        shifts = np.arange(per_byte, dtype=np.uint8) * dtype.bits
        codes = ((raw[:, None] >> shifts) & (2**dtype.bits - 1)).ravel()[: static_size(type.static_shape)]
        if dtype.kind == "int":  # sign-extend
            codes = ((codes ^ (1 << (dtype.bits - 1))).astype(np.int8) - (1 << (dtype.bits - 1))).astype(np.int8)
            return codes.astype(dtype.numpy).reshape(type.static_shape)
        if dtype.kind == "uint":
            return codes.astype(dtype.numpy).reshape(type.static_shape)
        return codes.view(dtype.numpy).reshape(type.static_shape)
    little = dtype.numpy.newbyteorder("<") if sys.byteorder == "big" and dtype.bits > 8 else dtype.numpy
    return np.frombuffer(buffer, little).reshape(type.static_shape)


def _pack(array: np.ndarray, type: TensorType) -> memoryview:  # noqa: A002
    dtype = type.dtype
    if dtype == string:
        raise GraphError("strings have no raw bytes")
    if dtype.bits < 8:
        per_byte = 8 // dtype.bits
        flat = array.ravel()
        codes = (flat.astype(np.int8) if dtype.is_integer else flat.view(np.uint8)).astype(np.uint8) & (
            2**dtype.bits - 1
        )
        codes = np.pad(codes, (0, -len(codes) % per_byte)).reshape(-1, per_byte)
        shifts = np.arange(per_byte, dtype=np.uint8) * dtype.bits
        return memoryview((codes << shifts).sum(axis=1, dtype=np.uint8).tobytes())
    if sys.byteorder == "big":
        array = array.byteswap()
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(np.uint8).data if flat.size else memoryview(b"")
