"""Types of values: element types, tensors with symbolic shapes, sequences, optionals."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from graphopt.errors import GraphError
from graphopt.ir.dims import Dim, Expr, is_anonymous, product, symbol

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping

Shape: TypeAlias = tuple[Dim, ...]


@dataclass(frozen=True, slots=True, eq=False)  # there is one object for each: compared and hashed all the time
class DType:
    """An element type: its short name, ONNX `TensorProto.DataType` code, width in bits and kind.

    `kind` is one of `float`, `int`, `uint`, `bool`, `complex`, `string`. Indexing makes a tensor type:
    `f32["N", 3, 224, 224]`, where a string is a symbolic dim and None an unnamed one.
    """

    name: str
    code: int
    bits: int
    kind: str
    numpy_name: str

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return self.name

    def __getitem__(self, dims: str | int | Expr | tuple[str | int | Expr | None, ...] | None) -> TensorType:
        parts = dims if isinstance(dims, tuple) else (dims,)
        return TensorType(self, tuple(_as_dim(d, i) for i, d in enumerate(parts)))

    @property
    def numpy(self) -> np.dtype:
        """The NumPy dtype of one element (from ml_dtypes for the types that NumPy lacks; object for strings)."""
        if self.numpy_name.startswith("ml:"):
            import ml_dtypes

            return np.dtype(getattr(ml_dtypes, self.numpy_name[3:]))
        return np.dtype(self.numpy_name)

    @property
    def is_float(self) -> bool:
        """Whether this is a real floating-point type."""
        return self.kind == "float"

    @property
    def is_integer(self) -> bool:
        """Whether this is a signed or unsigned integer type (bool is not)."""
        return self.kind in ("int", "uint")


def _as_dim(dim: str | int | Expr | None, position: int) -> Dim:
    if dim is None:
        return symbol(f"?{position}")
    return symbol(dim) if isinstance(dim, str) else dim


_ROWS = (
    ("f32", 1, 32, "float", "float32"),
    ("u8", 2, 8, "uint", "uint8"),
    ("i8", 3, 8, "int", "int8"),
    ("u16", 4, 16, "uint", "uint16"),
    ("i16", 5, 16, "int", "int16"),
    ("i32", 6, 32, "int", "int32"),
    ("i64", 7, 64, "int", "int64"),
    ("str", 8, 0, "string", "object"),
    ("bool", 9, 8, "bool", "bool"),
    ("f16", 10, 16, "float", "float16"),
    ("f64", 11, 64, "float", "float64"),
    ("u32", 12, 32, "uint", "uint32"),
    ("u64", 13, 64, "uint", "uint64"),
    ("c64", 14, 64, "complex", "complex64"),
    ("c128", 15, 128, "complex", "complex128"),
    ("bf16", 16, 16, "float", "ml:bfloat16"),
    ("f8e4m3fn", 17, 8, "float", "ml:float8_e4m3fn"),
    ("f8e4m3fnuz", 18, 8, "float", "ml:float8_e4m3fnuz"),
    ("f8e5m2", 19, 8, "float", "ml:float8_e5m2"),
    ("f8e5m2fnuz", 20, 8, "float", "ml:float8_e5m2fnuz"),
    ("u4", 21, 4, "uint", "ml:uint4"),
    ("i4", 22, 4, "int", "ml:int4"),
    ("f4e2m1", 23, 4, "float", "ml:float4_e2m1fn"),
    ("f8e8m0", 24, 8, "float", "ml:float8_e8m0fnu"),
    ("u2", 25, 2, "uint", "ml:uint2"),
    ("i2", 26, 2, "int", "ml:int2"),
)
DTYPES: Mapping[str, DType] = {row[0]: DType(*row) for row in _ROWS}
_BY_CODE: Mapping[int, DType] = {d.code: d for d in DTYPES.values()}
_BY_NUMPY: Mapping[str, DType] = {d.numpy_name.removeprefix("ml:"): d for d in DTYPES.values()}

f32, f16, f64, bf16 = DTYPES["f32"], DTYPES["f16"], DTYPES["f64"], DTYPES["bf16"]
i8, i16, i32, i64 = DTYPES["i8"], DTYPES["i16"], DTYPES["i32"], DTYPES["i64"]
u8, u16, u32, u64 = DTYPES["u8"], DTYPES["u16"], DTYPES["u32"], DTYPES["u64"]
boolean, string = DTYPES["bool"], DTYPES["str"]


def dtype_of_code(code: int) -> DType:
    """The element type with ONNX's `TensorProto.DataType` number `code`.

    Raises:
        GraphError: no such number is known.
    """
    try:
        return _BY_CODE[code]
    except KeyError:
        raise GraphError(f"element type {code} is not one that ONNX defines up to opset 26") from None


def dtype_of(dtype: np.dtype | type[np.generic]) -> DType:
    """The element type of a NumPy dtype (strings of any kind are `str`).

    Raises:
        GraphError: ONNX has no such element type.
    """
    dtype = np.dtype(dtype)
    if dtype.kind in "OUS":
        return string
    try:
        return _BY_NUMPY[dtype.name]
    except KeyError:
        raise GraphError(f"NumPy's dtype {dtype} has no ONNX element type") from None


@dataclass(frozen=True, slots=True)
class TensorType:
    """A tensor: element type and shape; `shape` is None when not even the rank is known."""

    dtype: DType
    shape: Shape | None = None

    def __str__(self) -> str:
        return f"{self.dtype}[{'*' if self.shape is None else ', '.join(map(str, self.shape))}]"

    @property
    def rank(self) -> int | None:
        """Number of dims, or None."""
        return None if self.shape is None else len(self.shape)

    @property
    def size(self) -> Dim | None:
        """Number of elements, or None for an unknown rank."""
        return None if self.shape is None else product(self.shape)

    @property
    def nbytes(self) -> Dim | None:
        """Bytes of the elements, packed as ONNX stores them; None for an unknown rank."""
        size = self.size
        return None if size is None else (size * self.dtype.bits + 7) // 8

    @property
    def is_static(self) -> bool:
        """Whether every dim is an integer."""
        return self.shape is not None and all(isinstance(d, int) for d in self.shape)

    @property
    def static_shape(self) -> tuple[int, ...]:
        """The shape as integers.

        Raises:
            GraphError: a dim is symbolic or the rank is unknown.
        """
        if self.shape is None or not self.is_static:
            raise GraphError(f"{self} has no static shape")
        return tuple(d for d in self.shape if isinstance(d, int))

    def with_shape(self, shape: Shape | None) -> TensorType:
        """The same element type with another shape."""
        return replace(self, shape=shape)


@dataclass(frozen=True, slots=True)
class SequenceType:
    """ONNX's sequence of elements of one type (None: not known)."""

    element: Type | None

    def __str__(self) -> str:
        return f"seq<{self.element or '?'}>"


@dataclass(frozen=True, slots=True)
class OptionalType:
    """ONNX's optional element (None: not known)."""

    element: Type | None

    def __str__(self) -> str:
        return f"optional<{self.element or '?'}>"


@dataclass(frozen=True, slots=True)
class ForeignType:
    """A type that is only carried (map, sparse tensor): the bytes of its `TypeProto`."""

    proto: bytes

    def __str__(self) -> str:
        return f"foreign<{self.proto.hex()}>"


Type: TypeAlias = TensorType | SequenceType | OptionalType | ForeignType


def static_size(shape: tuple[int, ...]) -> int:
    """Number of elements of a static shape."""
    return math.prod(shape)


def meet_dim(a: Dim, b: Dim) -> Dim:
    """What is known when both are true: an integer before a symbol, a named symbol before an unnamed one.

    Raises:
        GraphError: two different integers.
    """
    if a == b:
        return a
    if isinstance(a, int) and isinstance(b, int):
        raise GraphError(f"dim {a} is not {b}")
    if isinstance(a, int) or isinstance(b, int):
        return a if isinstance(a, int) else b
    return b if is_anonymous(a) and not is_anonymous(b) else a


def meet(a: Type | None, b: Type | None) -> Type | None:
    """What is known when both types are true of one value; `a`'s names win.

    Raises:
        GraphError: the two contradict each other.
    """
    if a is None or b is None:
        return a if b is None else b
    if isinstance(a, TensorType) and isinstance(b, TensorType):
        if a.dtype != b.dtype:
            raise GraphError(f"{a} and {b} have different element types")
        if a.shape is None or b.shape is None:
            return a if b.shape is None else b
        if len(a.shape) != len(b.shape):
            raise GraphError(f"{a} and {b} have different ranks")
        return TensorType(a.dtype, tuple(map(meet_dim, a.shape, b.shape)))
    if isinstance(a, SequenceType) and isinstance(b, SequenceType):
        return SequenceType(meet(a.element, b.element))
    if isinstance(a, OptionalType) and isinstance(b, OptionalType):
        return OptionalType(meet(a.element, b.element))
    if a != b:
        raise GraphError(f"a value cannot be both {a} and {b}")
    return a


def join_dim(a: Dim, b: Dim) -> Dim | None:
    """What is true of a dim that is one or the other: itself where they are the same, else None."""
    return a if a == b else None


def join(a: Type | None, b: Type | None, unknown: Callable[[], Dim]) -> Type | None:
    """What is known of a value that has one type or the other; `unknown` makes dims of which nothing is known.

    Raises:
        GraphError: no value has both: their element types differ, or one is a tensor and the other is not.
    """
    if a is None or b is None:
        return None
    if isinstance(a, TensorType) and isinstance(b, TensorType):
        if a.dtype != b.dtype:
            raise GraphError(f"{a} and {b} have different element types")
        if a.shape is None or b.shape is None or len(a.shape) != len(b.shape):
            return TensorType(a.dtype, None)
        same = map(join_dim, a.shape, b.shape)
        return TensorType(a.dtype, tuple(unknown() if d is None else d for d in same))
    for cls in (SequenceType, OptionalType):
        if isinstance(a, cls) and isinstance(b, cls):
            return cls(join(a.element, b.element, unknown))
    if a != b:
        raise GraphError(f"a value cannot be {a} or {b}")
    return a


def settle(known: Type | None, declared: Type | None, fixed: Container[Dim] = ()) -> Type | None:
    """What is known of a value from its operator's rule, and from its declaration where the rule says nothing.

    A declared number fills an unnamed dim, but for those in `fixed`; it never takes the place of a symbol: a note that
    was made at another batch would freeze it.

    Raises:
        GraphError: the two contradict each other.
    """
    if declared is None or known == declared:
        return known
    both = meet(known, declared)
    if not isinstance(known, TensorType) or not isinstance(both, TensorType) or known.shape is None:
        return both
    dims = (k if k in fixed or not (isinstance(k, int) or is_anonymous(k)) else b
            for k, b in zip(known.shape, both.shape or (), strict=True))  # fmt: skip
    return both.with_shape(tuple(dims))


def is_refinement(new: Type | None, old: Type | None) -> bool:
    """Whether `new` contradicts nothing in `old` and is known at least as well, dim by dim."""
    if old is None:
        return True
    if isinstance(new, TensorType) and isinstance(old, TensorType):
        if new.dtype != old.dtype:
            return False
        if old.shape is None:
            return True
        return new.shape is not None and _refines(new.shape, old.shape)
    for cls in (SequenceType, OptionalType):
        if isinstance(new, cls) and isinstance(old, cls):
            return is_refinement(new.element, old.element)
    return new == old


def _refines(new: Shape, old: Shape) -> bool:
    if len(new) != len(old):
        return False
    numbers: dict[Dim, int] = {}  # one dim is not two numbers
    for n, o in zip(new, old, strict=True):
        if isinstance(n, int) and not isinstance(o, int):
            if numbers.setdefault(o, n) != n:
                return False
        elif n != o and not is_anonymous(o):
            return False
    return True
