"""GatherElements, GatherND, Compress, NonZero, Unique; OneHot, EyeLike, Size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphopt
from graphopt import ops
from graphopt.errors import OpsetError, TypeRuleError
from graphopt.ir.dims import symbol
from graphopt.ir.types import TensorType, boolean, f32, i32, i64
from graphopt.onnx_format.opset import downgrade
from graphopt.ops.extent import Size
from graphopt.ops.indexing import Compress, GatherElements, GatherND, NonZero, Unique
from graphopt.ops.indicator import EyeLike, OneHot
from graphopt.ops.room import Fact, NoKernelError, Step, Trait
from ops.cases_indexing import indices_into, part_of
from ops.harness import check, compute, facts_of, inferred, normal, refuses, run_ort
from ops.reference import check_reference

N, C, H, W = map(symbol, "NCHW")
UNKNOWN = Fact(TensorType(f32, None))
shapes = st.lists(st.integers(1, 4), min_size=1, max_size=3)


def ints(*values: object) -> np.ndarray:
    return np.array(values, np.int64)


def known(*values: object) -> Fact:
    """An int64 list of dims."""
    contents = np.empty(len(values), object)
    contents[:] = values
    return Fact(TensorType(i64, (len(values),)), known=contents)


def held(array) -> Fact:
    return facts_of([np.asarray(array)])[0]


def shape_of(op, *facts):
    made = inferred(op, *facts)
    return None if made is None else made[0].shape


def lowered(op, arrays, opset):
    names = tuple(f"x{i}" for i in range(len(arrays)))
    return downgrade(op, Step(op.attributes, names, ("y",), facts_of(arrays)), opset)


# ---- GatherElements


@settings(deadline=None)
@given(shapes, st.data())
def test_gather_elements(shape, data):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    part = list(part_of(data, tuple(shape)))
    part[axis] = data.draw(st.integers(0, 6))  # as many as one likes
    indices = np.reshape(indices_into(data, shape[axis], int(np.prod(part))), part).astype(np.int64)
    x = normal(*shape)
    made = check(GatherElements(axis=axis), [x, indices], constants=data.draw(st.sampled_from([[], [1]])), exact=True)
    if part[axis] == shape[axis] and part == shape:
        np.testing.assert_array_equal(made[0], np.take_along_axis(x, indices, axis))


def test_gather_elements_facts():
    assert shape_of(GatherElements(), Fact(f32[N, C]), Fact(i64[H, W])) == (H, W)
    assert shape_of(GatherElements(), UNKNOWN, Fact(i32[H, W])) == (H, W)
    assert shape_of(GatherElements(), Fact(f32[N]), Fact(TensorType(i64, None))) is None
    assert GatherElements().elements(known(N, C, 3), held([2, 0])).tolist() == [3, N]
    assert GatherElements().elements(known(N, C, 3), known(H)) is None
    refuses(GatherElements(), [normal(2, 3), ints(1)], r"the indices i64\[1\] have not the rank of f32\[2, 3\]")
    refuses(GatherElements(axis=1), [normal(2, 3), ints([0], [0], [0])], r"reach beyond axis 0 of f32\[2, 3\]")
    refuses(GatherElements(), [normal(2), ints(2)], r"the indices \[2\] are not all from -2 to 1, as f32\[2\] asks")
    refuses(GatherElements(axis=1), [normal(2), ints(1)], "not all axes")
    refuses(GatherElements(), [normal(), np.array(0)], "not all axes")
    for wrong in (2, -3):
        with pytest.raises(TypeRuleError, match="not all within 2"):
            GatherElements().kernel(normal(2), ints(wrong))


# ---- GatherND


@settings(deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data())
def test_gather_nd(shape, data):
    batch = data.draw(st.integers(0, len(shape) - 1))
    length = data.draw(st.integers(1, len(shape) - batch))
    lead = (*shape[:batch], *data.draw(st.lists(st.integers(0, 3), max_size=2)))
    columns = [indices_into(data, shape[batch + i], int(np.prod(lead))) for i in range(length)]
    indices = np.array(columns, np.int64).T.reshape(*lead, length)
    check(GatherND(batch_dims=batch), [normal(*shape), indices], exact=True)


def test_gather_nd_facts():
    image = Fact(f32[N, C, H, W])
    assert shape_of(GatherND(), image, Fact(i64[5, 2])) == (5, H, W)
    assert shape_of(GatherND(batch_dims=1), image, Fact(i64[N, 5, 2])) == (N, 5, W)
    assert shape_of(GatherND(batch_dims=1), image, Fact(i64[7, 5, 2])) == (7, 5, W)
    assert shape_of(GatherND(), image, Fact(i64[5, "K"])) is None
    assert shape_of(GatherND(), UNKNOWN, Fact(i64[5, 2])) is None
    assert GatherND().elements(known(N, C, 3), held([[2], [0]])).tolist() == [3, N]
    assert GatherND().elements(known(N, C), known(H)) is None
    check(GatherND(), [ints(5, 6, 7), ints([-1], [0])], constants=[1])
    refuses(GatherND(batch_dims=1), [normal(2), ints([0], [0])], "1 batch axes are not fewer than those of f32")
    refuses(GatherND(batch_dims=-1), [normal(2, 2), ints([0], [0])], "-1 batch axes")
    refuses(GatherND(batch_dims=1), [normal(2, 2), ints([0])], r"the first 1 axes of f32\[2, 2\] and of i64\[1, 1\]")
    refuses(GatherND(), [normal(2), ints([0, 0])], r"tuples of 2 indices behind 0 batch axes are too long for f32\[2\]")
    refuses(GatherND(), [normal(2), ints([2])], r"the indices \[2\]")
    with pytest.raises(TypeRuleError, match="not all within 3"):
        GatherND().kernel(normal(2, 3), ints([0, 3]))
    with pytest.raises(OpsetError, match="GatherND with batch_dims=1 needs opset 12"):
        lowered(GatherND(batch_dims=1), [normal(2, 2), ints([0], [0])], 11)


# ---- Compress


@settings(deadline=None)
@given(shapes, st.data())
def test_compress(shape, data):
    axis = data.draw(st.none() | st.integers(-len(shape), len(shape) - 1))
    condition = np.array(data.draw(st.lists(st.booleans(), min_size=1, max_size=20)))  # it may be too long
    x = (normal(*shape) * 9).astype(data.draw(st.sampled_from([np.float32, np.int8, np.bool_])))
    check(Compress(axis=axis), [x, condition], constants=data.draw(st.sampled_from([[], [1]])), exact=True)


def test_compress_facts():
    condition = held([True, False, True])
    assert shape_of(Compress(axis=1), Fact(f32[N, 4]), condition) == (N, 2)
    assert shape_of(Compress(), Fact(f32[3, 4]), condition) == (2,)
    assert shape_of(Compress(axis=1), Fact(f32[N, 1]), condition) == (N, 1)
    for op, x, mask in ((Compress(axis=0), f32[N, 4], condition), (Compress(axis=0), f32[3, 4], Fact(boolean["M"]))):
        first, second = shape_of(op, Fact(x), mask)
        assert str(first).startswith("?")
        assert second == 4
    assert len(shape_of(Compress(), UNKNOWN, condition)) == 1
    assert shape_of(Compress(axis=0), UNKNOWN, condition) is None
    refuses(Compress(axis=0), [normal(2), np.array([[True]])], r"the condition bool\[1, 1\] is not one for each slice")
    refuses(Compress(axis=1), [normal(2), np.array([True])], "not all axes")
    assert lowered(Compress(axis=-1), [normal(2, 2), np.array([True])], 10).attributes["axis"].value == 1


# ---- NonZero


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=3), st.sampled_from([np.float32, np.int64, np.uint8, np.bool_]))
def test_nonzero(shape, dtype):
    x = np.maximum(normal(*shape), 0).astype(dtype)
    check(NonZero(), [x], exact=True)
    check(NonZero(), [x], constants=[0])


def test_nonzero_facts():
    check(NonZero(), [np.array([np.nan, -0.0, 0, -np.inf], np.float32)], exact=True)
    assert shape_of(NonZero(), Fact(f32[N, C]))[0] == 2
    assert len(shape_of(NonZero(), UNKNOWN)) == 2
    assert shape_of(NonZero(), held(np.ones((2, 3), np.float32))) == (2, 6)
    assert str(shape_of(NonZero(), held(np.ones(2000, np.float32)))[1]).startswith("?")


def test_nonzero_of_a_scalar_differs():
    """[0, n] by ONNX, [1, n] in ONNX Runtime."""
    assert run_ort("NonZero", {"x": np.float32(3)}, {})[0].shape == (1, 1)
    assert str(shape_of(NonZero(), Fact(f32[()]))[0]).startswith("?")
    with pytest.raises(NoKernelError, match="scalar"):
        NonZero().kernel(np.float32(3).reshape(()))
    with pytest.raises(NoKernelError, match="strings"):
        NonZero().kernel(np.full(2, "a", object))


# ---- Unique


@settings(deadline=None)
@given(shapes, st.integers(0, 1), st.sampled_from([np.float32, np.float64, np.int64, np.int8]), st.data())
def test_unique(shape, ascending, dtype, data):
    axis = data.draw(st.none() | st.integers(-len(shape), len(shape) - 1))
    x = np.round(normal(*shape) * 0.7).astype(dtype)
    check(Unique(axis=axis, sorted=ascending), [x], results=4, exact=True)


@pytest.mark.parametrize("ascending", [0, 1])
def test_unique_edges(ascending):
    check(Unique(sorted=ascending), [np.array(2, np.float32)], results=4)
    check(Unique(sorted=ascending), [normal(0)], results=4)
    check(Unique(sorted=ascending), [np.array([0.0, -0.0, 1], np.float32)], results=4)
    check(Unique(sorted=ascending), [np.array(["b", "a", "b"], object)], results=4)
    check_reference(Unique(sorted=ascending), [ints(3, 1, 3)], results=4)


def test_unique_facts():
    types = inferred(Unique(axis=1), Fact(f32[N, C]))
    assert types[0].shape[0] == N
    assert types[0].shape[1] == types[1].shape[0] == types[3].shape[0]
    assert types[2].shape == (C,)
    assert inferred(Unique(), Fact(f32[N, C]))[2].shape == (N * C,)
    assert inferred(Unique(), UNKNOWN)[0].rank == 1
    assert inferred(Unique(axis=0), UNKNOWN)[0].shape is None
    refuses(Unique(axis=1), [normal(2)], "not all axes")


def test_different_is_not_clear_of_nan():
    """ONNX Runtime takes all numbers for one where some are NaN."""
    x = np.array([np.nan, 1, np.nan, 2], np.float32)
    assert run_ort("Unique", {"x": x}, {})[0].shape == (1,)
    with pytest.raises(NoKernelError, match="NaN"):
        Unique().kernel(x)
    with pytest.raises(NoKernelError, match=r"different slices of float32\[2, 0\]"):  # ONNX Runtime aborts
        Unique(axis=0).kernel(normal(2, 0))


# ---- OneHot


@settings(deadline=None)
@given(shapes, st.integers(1, 5), st.sampled_from([np.int64, np.int32, np.float32]), st.booleans(), st.data())
def test_one_hot(shape, depth, dtype, constant, data):
    count = int(np.prod(shape))
    indices = np.reshape(data.draw(st.lists(st.integers(-7, 7), min_size=count, max_size=count)), shape).astype(dtype)
    size = np.array([depth] if data.draw(st.booleans()) else depth, dtype)
    op = OneHot(axis=data.draw(st.integers(-len(shape) - 1, len(shape))))
    check(op, [indices, size, np.array([-1.5, 2], np.float32)], constants=[1, 2] if constant else [], exact=True)


def test_one_hot_facts():
    values = Fact(f32[2])
    assert shape_of(OneHot(axis=1), Fact(i64[N, C]), held(7), values) == (N, 7, C)
    assert shape_of(OneHot(axis=-3), Fact(i64[N, C]), held([7]), values) == (7, N, C)
    assert shape_of(OneHot(), Fact(i64[N]), known(C), values) == (N, C)
    assert shape_of(OneHot(), Fact(i64[N]), held(3.7), values) == (N, 3)
    assert str(shape_of(OneHot(), Fact(i64[N]), Fact(i64[()]), values)[1]).startswith("?")
    assert shape_of(OneHot(), Fact(TensorType(i64, None)), held(7), values) is None
    two = np.array([0, 1], np.float32)
    for depth in (0, -1, np.inf):
        refuses(OneHot(), [ints(1), np.array(depth), two], "a depth of .* is none")
    refuses(OneHot(), [ints(1), ints(1, 2), two], "depth is .* one number")
    refuses(OneHot(), [ints(1), np.array(2), normal(3)], r"values is f32\[3\]")
    refuses(OneHot(axis=2), [ints(1), np.array(2), two], "axis 2 is not one of a tensor of rank 2")
    refuses(OneHot(axis=-3), [ints(1), np.array(2), two], "axis -3 is not one")
    with pytest.raises(TypeRuleError, match="a depth of 0"):
        OneHot().kernel(ints(1), np.array(0), two)


def test_indices_that_are_no_integers():
    """By ONNX 0.7 is cast to 0, in ONNX Runtime it is no place. Unsigned integers do not wrap."""
    with pytest.raises(NoKernelError, match="no integers"):
        OneHot().kernel(np.array([0.7]), np.array(3), np.array([0, 1]))
    far = np.array([2**64 - 1, 1], np.uint64)
    assert compute(OneHot(), [far, np.array(2), ints(0, 1)])[0].tolist() == [[0, 0], [0, 1]]
    words = np.array(["off", "on"], object)
    assert compute(OneHot(), [ints(1), np.array(2), words])[0].tolist() == [["off", "on"]]


# ---- EyeLike


@settings(deadline=None)
@given(st.integers(0, 4), st.integers(0, 4), st.integers(-6, 6), st.sampled_from([None, 6, 7, 11, 13]))
def test_eye_like(rows, columns, k, dtype):
    check(EyeLike(k=k, dtype=dtype), [normal(rows, columns)], exact=True)


@pytest.mark.parametrize("code", [1, 3, 9, 10, 16])
def test_eyes_of_other_types(code):
    check_reference(EyeLike(dtype=code, k=1), [normal(2, 3)])


def test_eye_like_facts():
    assert shape_of(EyeLike(), Fact(f32[N, C])) == (N, C)
    assert len(shape_of(EyeLike(), UNKNOWN)) == 2
    assert inferred(EyeLike(dtype=7), UNKNOWN)[0].dtype == i64
    refuses(EyeLike(), [normal(2)], r"f32\[2\] is no matrix")
    refuses(EyeLike(dtype=8), [normal(2, 2)], "no identity matrix of str")
    refuses(EyeLike(dtype=99), [normal(2, 2)], "element type 99")
    assert compute(EyeLike(k=-(2**63)), [normal(2, 2)])[0].sum() == 0


# ---- Size


@given(st.lists(st.integers(0, 4), max_size=4))
@settings(deadline=None, max_examples=20)
def test_size(shape):
    check(Size(), [normal(*shape)], exact=True)


def test_size_of_symbols():
    assert Size().elements(Fact(f32[N, 3, H])).item() == 3 * N * H
    assert Size().elements(UNKNOWN) is None
    assert Size().elements(Fact(f32[1 << 40, 1 << 40])) is None


def test_functions():
    def network(x, i, c):
        y = ops.gather_elements(x, i, axis=1)
        z = ops.one_hot(ops.gather_nd(i, np.array([[0], [1]])), 4, np.array([0, 1], np.float32))
        return y, z, ops.compress(x, c, axis=0), ops.nonzero(x), ops.reshape(x, ops.unsqueeze(ops.size(x), [0]))

    graph = graphopt.trace(network, x=f32["N", 3], i=i64[2, 2], c=boolean["N"])
    assert {n.op.name for n in graph.nodes} >= {"GatherElements", "GatherND", "OneHot", "Compress", "NonZero", "Size"}
    assert [str(v.type) for v in graph.outputs][:2] == ["f32[2, 2]", "f32[2, 2, 4]"]
    assert graph.outputs[4].type == f32[3 * symbol("N")]


@pytest.mark.parametrize("cls", [GatherElements, GatherND])
def test_traits(cls):
    assert {Trait.MOVES, Trait.PARTIAL, Trait.SHAPE_ARITHMETIC} <= cls.traits
