"""Types: what is printed, what two types together say, and which of two says more."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from graphs import TENSORS, TYPES
from hypothesis import given
from hypothesis import strategies as st

from graphopt.errors import GraphError
from graphopt.ir.dims import Dim, is_anonymous, symbol
from graphopt.ir.types import (
    DTYPES,
    ForeignType,
    OptionalType,
    SequenceType,
    TensorType,
    Type,
    bf16,
    dtype_of,
    dtype_of_code,
    f16,
    f32,
    is_refinement,
    meet,
    meet_dim,
    string,
)

N, M, U, V = symbol("N"), symbol("M"), symbol("?0"), symbol("?1")
SOME_DIMS: st.SearchStrategy[Dim] = st.sampled_from([1, 2, N, M, N + 1, U, V])


def related() -> st.SearchStrategy[Type | None]:
    """Types of which two are often compatible."""
    tensors = st.builds(TensorType, st.just(f32), st.none() | st.lists(SOME_DIMS, min_size=2, max_size=2).map(tuple))
    return st.none() | tensors | st.builds(SequenceType, st.none() | tensors) | st.builds(OptionalType, tensors)


def test_codes_are_those_of_onnx() -> None:
    for name, dtype in DTYPES.items():
        assert str(dtype) == repr(dtype) == name
        assert dtype_of_code(dtype.code) is dtype
        expected = onnx.helper.tensor_dtype_to_np_dtype(dtype.code)
        assert dtype.numpy == (np.dtype(object) if dtype == string else expected)
        assert dtype_of(dtype.numpy) is dtype
        assert dtype.is_float == (dtype.kind == "float")
    assert len({d.code for d in DTYPES.values()}) == len(DTYPES)


def test_unknown_element_types_are_refused() -> None:
    with pytest.raises(GraphError, match="element type 99"):
        dtype_of_code(99)
    with pytest.raises(GraphError, match="element type 0"):
        dtype_of_code(0)
    with pytest.raises(GraphError, match="timedelta"):
        dtype_of(np.dtype("timedelta64[s]"))
    assert dtype_of(np.dtype("U5")) is string
    assert dtype_of(np.dtype("S5")) is string
    assert dtype_of(np.float32) is f32


def test_indexing_makes_types() -> None:
    assert f32["N", 3, 224] == TensorType(f32, (N, 3, 224))
    assert f32[3] == TensorType(f32, (3,))
    assert f32["N"] == TensorType(f32, (N,))
    assert f32[()] == TensorType(f32, ())
    assert f32[N + 1] == TensorType(f32, (N + 1,))
    first, second = f32[None, None].shape or ()
    assert is_anonymous(first)
    assert is_anonymous(second)
    assert first != second


def test_text() -> None:
    assert str(f32["N", 3]) == "f32[N, 3]"
    assert str(TensorType(f16)) == "f16[*]"
    assert str(bf16[()]) == "bf16[]"
    assert str(SequenceType(OptionalType(f32[2]))) == "seq<optional<f32[2]>>"
    assert str(SequenceType(None)) == "seq<?>"
    assert str(OptionalType(None)) == "optional<?>"
    assert str(ForeignType(b"\x0a\xff")) == "foreign<0aff>"


def test_sizes() -> None:
    assert f32["N", 3, 2].size == 6 * N
    assert f32["N", 3, 2].nbytes == 24 * N
    assert DTYPES["i4"][3].nbytes == 2
    assert DTYPES["u2"][5].nbytes == 2
    assert TensorType(f32).size is None
    assert TensorType(f32).nbytes is None
    assert TensorType(f32).rank is None
    assert f32[()].size == 1
    assert f32["N", 0].size == 0
    assert f32["N", 3].rank == 2
    assert f32[2, 3].is_static
    assert f32[2, 3].static_shape == (2, 3)
    assert not f32["N"].is_static
    assert not TensorType(f32).is_static
    for kind in (f32["N"], TensorType(f32)):
        with pytest.raises(GraphError, match="static shape"):
            _ = kind.static_shape
    assert f32["N"].with_shape(None) == TensorType(f32)


# ---- meet


@given(related() | TYPES)
def test_meet_with_itself_and_with_nothing(a: Type | None) -> None:
    assert meet(a, a) == a
    assert meet(a, None) == a
    assert meet(None, a) == a


def try_meet(a: Type | None, b: Type | None) -> Type | str | None:
    try:
        return meet(a, b)
    except GraphError:
        return "contradiction"


@given(related(), related())
def test_meet_says_all_that_both_say(a: Type | None, b: Type | None) -> None:
    both, reverse = try_meet(a, b), try_meet(b, a)
    assert (both == "contradiction") == (reverse == "contradiction")
    if isinstance(both, str) or isinstance(reverse, str):
        return
    assert meet(both, a) == both
    assert _compatible(both, b)
    assert _known(both) == _known(reverse) >= max(_known(a), _known(b))


@given(related())
def test_meet_refines_both_where_one_knows_no_dims(a: Type | None) -> None:
    def forget(kind: Type | None) -> Type | None:
        if isinstance(kind, SequenceType | OptionalType):
            return type(kind)(forget(kind.element))
        return TensorType(kind.dtype) if isinstance(kind, TensorType) else None

    less = forget(a)
    assert meet(a, less) == meet(less, a) == a
    assert is_refinement(a, less)
    assert is_refinement(less, a) == (less == a)


def _compatible(a: Type | None, b: Type | None) -> bool:
    return not isinstance(try_meet(a, b), str)


def _known(a: object) -> int:
    """How much a type says: integers over names over nothing."""
    if a is None:
        return 0
    if isinstance(a, SequenceType | OptionalType):
        return 1 + _known(a.element)
    if isinstance(a, TensorType) and a.shape is not None:
        return 2 + sum(3 if isinstance(d, int) else 1 if is_anonymous(d) else 2 for d in a.shape)
    return 1


@pytest.mark.parametrize(
    ("a", "b", "says"),
    [
        (f32[2], f16[2], "element types"),
        (f32[2], f32[2, 1], "ranks"),
        (f32[2], f32[3], "2 is not 3"),
        (f32[2], SequenceType(f32[2]), "cannot be both"),
        (SequenceType(f32[2]), OptionalType(f32[2]), "cannot be both"),
        (SequenceType(f32[2]), SequenceType(f32[3]), "2 is not 3"),
        (ForeignType(b"a"), ForeignType(b"b"), "cannot be both"),
    ],
)
def test_contradictions(a: Type, b: Type, says: str) -> None:
    for one, other in ((a, b), (b, a)):
        with pytest.raises(GraphError, match=says if one is a else "is not|different|cannot"):
            meet(one, other)
        assert not is_refinement(one, other)


def test_meet_of_dims() -> None:
    assert meet_dim(3, N) == 3
    assert meet_dim(N, 3) == 3
    assert meet_dim(U, N) == N
    assert meet_dim(N, U) == N
    assert meet_dim(N, M) == N
    assert meet_dim(N + 1, U) == N + 1
    assert meet_dim(U, V) == U
    assert meet(f32["N", 3], TensorType(f32, (M, U))) == f32["N", 3]
    assert meet(TensorType(f32), f32["N"]) == f32["N"]


# ---- refinement


@given(related() | TYPES)
def test_a_type_refines_itself_and_nothing_known(a: Type | None) -> None:
    assert is_refinement(a, a)
    assert is_refinement(a, None)
    assert is_refinement(None, a) == (a is None)


@given(related(), related(), related())
def test_refinement_goes_on(a: Type | None, b: Type | None, c: Type | None) -> None:
    if is_refinement(a, b) and is_refinement(b, c):
        assert is_refinement(a, c)


@given(related(), related())
def test_a_refinement_contradicts_nothing(a: Type | None, b: Type | None) -> None:
    if is_refinement(a, b):
        assert _compatible(a, b)
        assert _known(a) >= _known(b)


@given(TENSORS)
def test_forgetting_is_no_refinement(a: TensorType) -> None:
    assert is_refinement(a, TensorType(a.dtype))
    assert is_refinement(TensorType(a.dtype), a) == (a.shape is None)


def test_refinement_by_hand() -> None:
    assert is_refinement(f32[2], f32["N"])
    assert is_refinement(f32["N"], TensorType(f32, (U,)))
    assert is_refinement(f32[2], TensorType(f32, (U,)))
    assert not is_refinement(f32["N"], f32[2])
    assert not is_refinement(f32["N"], f32["M"])
    assert not is_refinement(TensorType(f32, (U,)), f32["N"])
    assert not is_refinement(f32[2, 2], f32["N"])
    assert not is_refinement(f16["N"], f32["N"])
    assert is_refinement(f32[2, 2], f32["N", "N"])
    assert is_refinement(f32[2, "N"], f32["N", "N"])
    assert not is_refinement(f32[2, 3], f32["N", "N"])
    assert not is_refinement(f32[2, 3], TensorType(f32, (U, U)))
    assert is_refinement(SequenceType(f32[2]), SequenceType(None))
    assert is_refinement(OptionalType(f32[2]), OptionalType(TensorType(f32)))
    assert not is_refinement(SequenceType(None), SequenceType(f32[2]))
    assert not is_refinement(OptionalType(f32[2]), SequenceType(f32[2]))
