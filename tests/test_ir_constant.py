"""Constants: every dtype, packing, views of buffers, data on demand, and when two are the same."""

from __future__ import annotations

import gc
import mmap
import weakref
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import arrays, constants
from hypothesis import given
from hypothesis import strategies as st

from graphopt.errors import GraphError
from graphopt.ir.constant import SMALL_BYTES, Constant
from graphopt.ir.types import DTYPES, DType, TensorType, f32, i64, string

PACKED = [d for d in DTYPES.values() if d != string]


def raw(value: Constant) -> bytes:
    return b"".join(bytes(c) for c in value.chunks())


def of_bytes(dtype: DType, data: bytes, *shape: int) -> Constant:
    return Constant(TensorType(dtype, shape), buffer=memoryview(data))


@pytest.mark.parametrize("dtype", PACKED, ids=str)
@given(st.data())
def test_bytes_and_arrays_are_inverse(dtype: DType, data: st.DataObject) -> None:
    shape = data.draw(st.sampled_from([(), (0,), (5,), (2, 3), (8,), (1, 7, 1)]))
    array = data.draw(arrays(dtype, shape))
    made = Constant(TensorType(dtype, shape), array=array)
    read = of_bytes(dtype, raw(made), *shape)
    assert made.nbytes == len(raw(made)) == read.nbytes
    assert read.array().tobytes() == np.ascontiguousarray(array).tobytes()
    assert read.array().dtype == dtype.numpy
    assert read.array().shape == shape
    assert made.same(read)
    assert read == made
    assert hash(read) == hash(made)
    assert read.digest() == made.digest()


@pytest.mark.parametrize("dtype", PACKED, ids=str)
def test_bytes_are_those_of_onnx(dtype: DType) -> None:
    shape = (3, 3)
    rng = np.random.default_rng(dtype.code)
    data = rng.integers(0, 256, (9 * dtype.bits + 7) // 8, np.uint8)
    if dtype.kind == "bool":
        data %= 2
    if dtype.bits < 8 and 9 * dtype.bits % 8:
        data[-1] &= (1 << 9 * dtype.bits % 8) - 1  # what is past the end is zero
    proto = onnx.TensorProto(data_type=dtype.code, dims=shape, raw_data=data.tobytes())
    expected = onnx.numpy_helper.to_array(proto)
    found = of_bytes(dtype, data.tobytes(), *shape)
    assert found.array().astype(expected.dtype).tobytes() == expected.tobytes()
    assert raw(Constant(found.type, array=found.array())) == data.tobytes()


def test_four_bit_codes_stand_low_first_and_signed_ones_are_extended() -> None:
    assert of_bytes(DTYPES["i4"], b"\x8f\x07", 3).array().tolist() == [-1, -8, 7]
    assert of_bytes(DTYPES["u4"], b"\x8f\x07", 3).array().tolist() == [15, 8, 7]
    assert of_bytes(DTYPES["i2"], b"\xe4\x02", 5).array().tolist() == [0, 1, -2, -1, -2]
    assert of_bytes(DTYPES["u2"], b"\xe4\x02", 5).array().tolist() == [0, 1, 2, 3, 2]


def test_a_buffer_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(GraphError, match="needs 8 bytes, and 7 are there"):
        of_bytes(f32, b"1234567", 2)
    with pytest.raises(GraphError, match="needs 2 bytes, and 3 are there"):
        of_bytes(DTYPES["i4"], b"123", 3)


def test_arrays_are_read_only_and_not_copied() -> None:
    source = np.arange(6, dtype=np.float32)
    value = Constant.of(source)
    assert np.shares_memory(value.array(), source)
    assert not value.array().flags.writeable
    assert source.flags.writeable
    data = bytearray(source.tobytes())
    assert not of_bytes(f32, bytes(data), 6).array().flags.writeable


def test_views_keep_their_owner_alive(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(np.arange(4096, dtype=np.float32).tobytes())
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    owner = weakref.ref(mapped)
    value = Constant(f32[4, 8], buffer=memoryview(mapped)[4:132])
    array = value.array()
    del mapped, value
    gc.collect()
    assert owner() is not None
    assert array[0].tolist() == list(range(1, 9))
    del array
    gc.collect()
    assert owner() is None


def test_of_takes_what_numpy_takes() -> None:
    assert Constant.of([1, 2, 3]).type == i64[3]
    assert Constant.of(True).type == TensorType(DTYPES["bool"], ())
    assert Constant.of([1, 2], f32[2]).array().dtype == np.float32
    assert Constant.of(np.array(["a", "bc"])).type == TensorType(string, (2,))
    with pytest.raises(GraphError, match="datetime64"):
        Constant.of(np.zeros(2, "datetime64[s]"))


def test_recipes_are_made_when_needed_and_kept_only_while_held() -> None:
    calls = []

    def recipe() -> np.ndarray:
        calls.append(1)
        return np.ones((50_000,), np.float32)

    value = Constant(f32[50_000], recipe=recipe)
    assert value.is_recipe
    assert value.nbytes == 200_000
    assert value.fingerprint() is None
    assert not calls
    held = value.array()
    assert value.array() is held
    assert len(calls) == 1
    del held
    gc.collect()
    assert value.array().sum() == 50_000
    assert len(calls) == 2
    assert value.same(Constant.of(np.ones(50_000, np.float32)))
    assert hash(value) == hash(Constant.of(np.ones(50_000, np.float32)))


def test_a_recipe_that_makes_something_else_is_refused() -> None:
    for made in (np.ones(3, np.float32), np.ones(2, np.float64), np.ones((2, 1), np.float32)):
        value = Constant(f32[2], recipe=lambda made=made: made)
        with pytest.raises(GraphError, match=r"recipe for f32\[2\] made float"):
            value.array()


def test_absent_constants_have_only_their_digest() -> None:
    data = Constant.of(np.arange(5.0))
    absent = Constant(data.type, digest=data.digest())
    assert absent.is_absent
    assert not data.is_absent
    assert absent.same(data)
    assert data.same(absent)
    assert absent.same(Constant(data.type, digest=data.digest()))
    assert not absent.same(Constant(data.type, digest="00"))
    with pytest.raises(GraphError, match="known only by its digest"):
        absent.array()


@given(constants(), constants())
def test_sameness_is_that_of_digests(a: Constant, b: Constant) -> None:
    assert a.same(b) == (a.type == b.type and a.digest() == b.digest())
    assert a.same(a)
    assert (a == b) == b.same(a)
    if a == b and not a.is_absent and not b.is_absent:
        assert hash(a) == hash(b)


@given(st.integers(0, 2 * SMALL_BYTES - 1), st.integers(1, 255))
def test_one_byte_makes_a_difference_wherever_it_is(place: int, flip: int) -> None:
    data = bytearray(2 * SMALL_BYTES)
    a = of_bytes(DTYPES["u8"], bytes(data), len(data))
    assert a.same(of_bytes(DTYPES["u8"], bytes(data), len(data)))
    data[place] ^= flip
    b = of_bytes(DTYPES["u8"], bytes(data), len(data))
    assert not a.same(b)
    assert a.digest() != b.digest()


def test_bits_decide_not_values() -> None:
    zeros, negative = np.zeros(3, np.float32), -np.zeros(3, np.float32)
    nan = np.full(3, np.nan, np.float32)
    assert not Constant.of(zeros).same(Constant.of(negative))
    assert Constant.of(nan).same(Constant.of(nan.copy()))
    assert not Constant.of(zeros).same(Constant.of(zeros.reshape(3, 1)))
    assert not Constant.of(zeros).same(Constant.of(zeros.view(np.int32)))
    assert Constant.of(zeros) != "zeros"


def test_strings() -> None:
    value = Constant.of(np.array([["a", "é"], ["", "b"]]))
    assert value.nbytes == 4
    assert value.same(Constant.of(np.array([["a", "é"], ["", "b"]], object)))
    assert not value.same(Constant.of(np.array([["a", "é"], ["", "c"]])))
    text, data = np.empty(1, object), np.empty(1, object)
    text[0], data[0] = "a", b"a"
    assert not Constant.of(text).same(Constant.of(data))
    assert hash(value) == hash(Constant.of(np.array([["a", "é"], ["", "b"]])))
    with pytest.raises(GraphError, match="no raw bytes"):
        list(value.chunks())


def test_views_that_are_not_contiguous() -> None:
    array = np.arange(12, dtype=np.int16).reshape(3, 4)
    assert raw(Constant.of(array.T)) == np.ascontiguousarray(array.T).tobytes()
    assert raw(Constant.of(array[:, ::2])) == array[:, ::2].tobytes()
    assert Constant.of(np.broadcast_to(np.float32(2), (70_000,))).same(Constant.of(np.full(70_000, 2, np.float32)))
    codes = np.arange(12, dtype=np.int8).reshape(3, 4).astype(DTYPES["u4"].numpy)
    assert raw(Constant.of(codes.T)) == raw(Constant.of(np.ascontiguousarray(codes.T)))


def test_a_reader_is_told_when_its_bytes_were_used() -> None:
    told = []
    value = of_bytes(DTYPES["u8"], bytes(SMALL_BYTES + 1), SMALL_BYTES + 1)
    value.on_used = lambda: told.append(1)
    assert raw(value) == bytes(SMALL_BYTES + 1)
    assert told == [1]
    assert value.same(of_bytes(DTYPES["u8"], bytes(SMALL_BYTES + 1), SMALL_BYTES + 1))
    assert told == [1, 1]


def test_type_and_size() -> None:
    value = Constant.of(np.zeros((2, 0, 3), np.int8))
    assert value.shape == (2, 0, 3)
    assert value.size == 0
    assert value.nbytes == 0
    assert raw(value) == b""
    assert repr(value) == "Constant(i8[2, 0, 3])"
    with pytest.raises(GraphError, match="static shape"):
        _ = Constant(f32["N"], digest="").shape
