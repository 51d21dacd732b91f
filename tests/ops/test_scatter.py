"""ScatterElements (Scatter before opset 11), ScatterND, TensorScatter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphopt
from graphopt import ops
from graphopt.errors import OpsetError, TypeRuleError
from graphopt.ir.dims import symbol
from graphopt.ir.types import TensorType, f32, i64
from graphopt.onnx_format.opset import downgrade
from graphopt.ops.indexing import GatherElements, GatherND
from graphopt.ops.registry import find_room_of
from graphopt.ops.room import Fact, NoKernelError, Step, Trait
from graphopt.ops.scatter import ScatterElements, ScatterND, TensorScatter
from ops.cases_indexing import scatter_elements, scatter_nd, tensor_scatter
from ops.harness import check, check_old, compute, facts_of, inferred, normal, refuses

N, C, H, W = map(symbol, "NCHW")
UNKNOWN = Fact(TensorType(f32, None))
REDUCTIONS = ("none", "add", "mul", "max", "min")


def ints(*values: object) -> np.ndarray:
    return np.array(values, np.int64)


def known(*values: object) -> Fact:
    """An int64 list of dims."""
    contents = np.empty(len(values), object)
    contents[:] = values
    return Fact(TensorType(i64, (len(values),)), known=contents)


def held(array) -> Fact:
    return facts_of([np.asarray(array)])[0]


def lowered(op, arrays, opset, constants=None):
    names = tuple(f"x{i}" for i in range(len(arrays)))
    return downgrade(op, Step(op.attributes, names, ("y",), facts_of(arrays, constants)), opset)


# ---- ScatterElements and ScatterND


@settings(deadline=None)
@given(st.data(), st.sampled_from([np.float32, np.int64, np.float64]), st.booleans())
def test_scatter_elements(data, dtype, constant):
    arrays, attributes, *_ = scatter_elements(data, 26)
    arrays = [(a * 4).astype(dtype) if a.dtype == np.float32 else a for a in arrays]
    check(ScatterElements(**attributes), arrays, opset=18, constants=[1] if constant else [])


@settings(deadline=None)
@given(st.data(), st.sampled_from([np.float32, np.int64, np.float64]), st.booleans())
def test_scatter_nd(data, dtype, constant):
    arrays, attributes, *_ = scatter_nd(data, 26)
    arrays = [(a * 4).astype(dtype) if a.dtype == np.float32 else a for a in arrays]
    check(ScatterND(**attributes), arrays, opset=18, constants=[1] if constant else [])


@settings(deadline=None)
@given(st.data())
def test_what_is_scattered_is_gathered_again(data):
    (x, indices, updates), attributes, *_ = scatter_elements(data, 11)
    made = compute(ScatterElements(**attributes), [x, indices, updates])[0]
    np.testing.assert_array_equal(compute(GatherElements(**attributes), [made, indices])[0], updates)
    (x, indices, updates), *_ = scatter_nd(data, 11)
    made = compute(ScatterND(), [x, indices, updates])[0]
    np.testing.assert_array_equal(compute(GatherND(), [made, indices])[0], updates)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_one_place_several_times(reduction):
    """ONNX leaves open which update stays; the last does, as in ONNX Runtime."""
    updates = np.array([[7, 8, -9]], np.float32)
    check(ScatterElements(reduction=reduction), [normal(2, 3), ints([1, 1, 0]), updates], opset=18)
    check(ScatterElements(axis=1, reduction=reduction), [normal(2, 3), ints([1, 1, 1]), updates], opset=18)
    check(ScatterND(reduction=reduction), [normal(2), ints([1], [1], [-1]), updates.reshape(3)], opset=18)
    assert Trait.PARTIAL in ScatterElements.traits & ScatterND.traits


@pytest.mark.parametrize("reduction", ["none", "add", "mul"])
def test_truth_values(reduction):
    x, updates = np.array([True, False, True]), np.array([True, True, False])
    check(ScatterElements(reduction=reduction), [x, ints(0, 1, 2), updates], opset=18)
    check(ScatterND(reduction=reduction), [x, ints([0], [1], [2]), updates], opset=18)


def test_half_precision_is_summed_in_single():
    """ONNX Runtime adds no float16; a sum of 2048 ones is 2048 in it, and one more is lost."""
    ones = np.ones(4096, np.float16)
    x, indices = np.zeros(1, np.float16), np.zeros(4096, np.int64)
    made = compute(ScatterElements(reduction="add"), [x, indices, ones])[0]
    assert made.dtype == np.float16
    assert made.item() == 4096
    assert compute(ScatterND(reduction="add"), [x, indices.reshape(-1, 1), ones])[0].item() == 4096


def test_edges():
    x = normal(2, 3)
    none = np.zeros((0, 3), np.int64)
    check(ScatterElements(), [x, none, normal(0, 3)], opset=18, exact=True)
    check(ScatterND(), [x, np.zeros((0, 1), np.int64), normal(0, 3)], opset=18, exact=True)
    check(ScatterND(), [x, np.zeros((1, 0), np.int64), normal(1, 2, 3)], opset=18, shape_inference=False)
    check(ScatterND(), [x, ints(-1, -1), np.array(7, np.float32)], opset=18, exact=True)
    for reduction in ("max", "min"):  # NaN stays; in ONNX Runtime it gives way where it was there first
        made = compute(
            ScatterElements(reduction=reduction), [np.float32([1, np.nan]), ints(0, 1), np.float32([np.nan, 2])]
        )
        assert np.isnan(made[0]).all()


def test_facts():
    x = Fact(f32[N, C])
    for cls in (ScatterElements, ScatterND):
        assert inferred(cls(), x, Fact(i64["K", 2]), Fact(TensorType(f32, None)))[0].shape == (N, C)
        assert inferred(cls(), UNKNOWN, Fact(i64["K", 2]), UNKNOWN)[0].shape is None
        refuses(cls(reduction="sum"), [normal(2), ints(0), normal(1)], "reduction is 'sum', and it is one of none, add")
        refuses(cls(), [normal(2), ints(0), ints(1)], "one element type")
    refuses(ScatterElements(), [normal(2), ints(0), normal(2)], r"updates is f32\[2\], and its shape must be \[1\]")
    refuses(ScatterElements(), [normal(2), ints(2), normal(1)], "not all from -2 to 1")
    refuses(ScatterElements(axis=1), [normal(2, 2), ints([0], [0], [0]), normal(3, 1)], "reach beyond axis 0")
    refuses(ScatterElements(), [normal(2, 2), ints(0), normal(1)], "have not the rank")
    refuses(ScatterElements(axis=2), [normal(2), ints(0), normal(1)], "not all axes")
    refuses(ScatterND(), [normal(2), ints([0, 0]), normal(1)], r"tuples of 2 indices are too long for f32\[2\]")
    refuses(ScatterND(), [normal(2, 3), ints([0]), normal(1)], r"its shape must be \[1, 3\]")
    refuses(ScatterND(), [normal(2), ints([2]), normal(1)], r"the indices \[2\]")
    refuses(ScatterND(), [normal(2), np.array(0), normal(1)], "no tuples")
    for cls, indices in ((ScatterElements, ints(2)), (ScatterND, ints([-3]))):
        with pytest.raises(TypeRuleError, match="not all within 2"):
            cls().kernel(normal(2), indices, normal(1))
    with pytest.raises(NoKernelError, match="add of strings"):
        ScatterND(reduction="add").kernel(np.full(2, "a", object), ints([0]), np.full(1, "b", object))


def test_dims_are_scattered():
    """As exporters write an assignment to a part of a shape."""
    assert ScatterND().elements(known(N, C, H), held([[1]]), held([7])).tolist() == [N, 7, H]
    assert ScatterND().elements(known(N, C, H), held([[-1]]), known(W)).tolist() == [N, C, W]
    assert ScatterND(reduction="add").elements(known(N), held([[0]]), held([7])) is None
    assert ScatterND().elements(known(N), known(H), held([7])) is None
    assert ScatterElements().elements(known(N, C), held([0]), held([1])).tolist() == [1, C]
    check(ScatterND(), [ints(4, 5, 6), ints([2], [0]), ints(7, 8)], opset=18, constants=[1])


# ---- Older opsets


@pytest.mark.parametrize(
    ("reduction", "opset", "reason"),
    [("add", 15, "reduction=add needs opset 16"), ("max", 17, "reduction=max needs opset 18")],
)
@pytest.mark.parametrize("cls", [ScatterElements, ScatterND])
def test_reductions_of_older_opsets(cls, reduction, opset, reason):
    arrays = [normal(2), ints(0) if cls is ScatterElements else ints([0]), normal(1)]
    with pytest.raises(OpsetError, match=reason):
        lowered(cls(reduction=reduction), arrays, opset)
    assert lowered(cls(reduction=reduction), arrays, opset + 1).attributes


@settings(deadline=None)
@given(st.data(), st.sampled_from([9, 10]))
def test_scatter(data, opset):
    arrays, attributes, *_ = scatter_elements(data, opset)
    op = check_old("Scatter", arrays, attributes, opset, constants=data.draw(st.sampled_from([[], [1]])))
    assert isinstance(op, ScatterElements)
    assert ScatterElements.name_at(10) == "Scatter"
    assert find_room_of("Scatter", "", 11) is None


def test_scatter_counts_from_the_front():
    arrays = [normal(3), ints(-1, 0), normal(2)]
    operands = lowered(ScatterElements(), arrays, 10).operands
    assert operands[1].array().tolist() == [2, 0]
    assert lowered(ScatterElements(), arrays, 10, constants=[]).operands == ("x0", "x1", "x2")
    with pytest.raises(OpsetError, match="Scatter needs opset"):
        lowered(ScatterElements(), arrays, 8)
    with pytest.raises(OpsetError, match="ScatterND needs opset"):
        lowered(ScatterND(), [normal(3), ints([0]), normal(1)], 10)


# ---- TensorScatter


@settings(deadline=None)
@given(st.data())
def test_tensor_scatter(data):
    arrays, attributes, *_ = tensor_scatter(data, 26)
    check(TensorScatter(**attributes), arrays, exact=True)


def test_tensor_scatter_facts():
    cache, update = Fact(f32[N, 4, 8, W]), Fact(f32[N, 4, "L", W])
    assert inferred(TensorScatter(), cache, update, Fact(i64[N]))[0].shape == cache.shape
    assert inferred(TensorScatter(), cache, UNKNOWN)[0].shape == cache.shape
    assert inferred(TensorScatter(), UNKNOWN, update)[0].shape is None
    refuses(TensorScatter(mode="ring"), [normal(1, 2, 3), normal(1, 2, 3)], "mode is 'ring', and it is one of linear")
    refuses(TensorScatter(), [normal(1, 2, 3), ints([[1, 1, 1]])], "one element type")
    refuses(TensorScatter(axis=0), [normal(1, 2, 3), normal(1, 2, 3)], "axis 0 of .* is that of the batch")
    refuses(TensorScatter(), [normal(2, 3), normal(1, 3)], "that of the batch")
    refuses(TensorScatter(axis=3), [normal(1, 2, 3), normal(1, 2, 3)], "not all axes")
    refuses(TensorScatter(), [normal(1, 2, 3), normal(1, 2, 4)], "differs from .* beside axis 1")
    refuses(TensorScatter(), [normal(1, 2, 3), normal(1, 2)], "differs from")
    refuses(TensorScatter(), [normal(1, 2, 3), normal(1, 4, 3)], "is longer than")
    refuses(TensorScatter(), [normal(1, 2, 3), normal(1, 1, 3), ints(0, 0)], r"write_indices is i64\[2\]")
    for mode, start in (("linear", 2), ("linear", -1), ("circular", -1)):
        with pytest.raises(TypeRuleError, match=rf"from \[{start}\] on do not fit into 2"):
            TensorScatter(mode=mode).kernel(normal(1, 2, 3), normal(1, 1, 3), ints(start))


def test_functions():
    def network(x, i, u):
        return ops.scatter_elements(x, i, u, axis=1, reduction="add"), ops.scatter_nd(
            x, np.array([[0, 0]]), np.ones(1, np.float32)
        )

    graph = graphopt.trace(network, x=f32["N", 3], i=i64[1, 2], u=f32[1, 2])
    assert [n.op.name for n in graph.nodes] == ["ScatterElements", "ScatterND"]
    assert {v.type for v in graph.outputs} == {f32["N", 3]}
