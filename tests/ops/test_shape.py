"""Shape, Reshape, Flatten, Squeeze, Unsqueeze, Expand, Identity, Dropout."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.errors import OpsetError, TypeRuleError
from graphopt.ir.constant import Constant
from graphopt.ir.dims import symbol
from graphopt.ir.types import TensorType, boolean, f32, i32, i64
from graphopt.onnx_format.opset import downgrade
from graphopt.ops.dropout import Dropout
from graphopt.ops.room import Fact, NoKernelError, Step
from graphopt.ops.shape import Expand, Flatten, Identity, Reshape, Shape, Squeeze, Unsqueeze
from ops.harness import check, check_old, compute, facts_of, inferred, normal, refuses, stays_opaque

N, C, H, W = map(symbol, "NCHW")
shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def known(*values: object) -> Fact:
    """A fact of an int64 list of dims."""
    contents = np.empty(len(values), object)
    contents[:] = values
    return Fact(TensorType(i64, (len(values),)), known=contents)


def shaped(*dims: object) -> Fact:
    return Fact(TensorType(f32, dims))


def numbers(n: int) -> Fact:
    """A computed list of `n` integers."""
    return Fact(TensorType(i64, (n,)))


# ---- Shape


@settings(deadline=None)
@given(shapes, st.integers(-6, 6), st.none() | st.integers(-6, 6))
def test_shape(shape, start, end):
    check(Shape(start=start, end=end), [normal(*shape)])


def test_shape_gives_symbols():
    assert Shape(start=-2).elements(shaped(N, 3, H, W)).tolist() == [H, W]
    assert Shape().elements(Fact(TensorType(f32, None))) is None
    (kind,) = inferred(Shape(), Fact(TensorType(f32, None)))
    assert kind.rank == 1


def test_shape_of_part_needs_15():
    for attributes in ({}, {"start": 1}, {"end": -1}):
        check_old("Shape", [normal(2, 3)], attributes, 15)
    for opset in (7, 13):
        check_old("Shape", [normal(2, 3)], {}, opset)
    for op in (Shape(start=1), Shape(end=2)):
        with pytest.raises(OpsetError, match=r"Shape with (start=1|end=2) needs opset 15"):
            downgrade(op, Step(op.attributes, ("x",), ("y",), (shaped(N, 3),)), 14)


# ---- Reshape


@st.composite
def reshapes(draw):
    shape = draw(shapes)
    total = math.prod(shape)
    target, left = [], total
    for i in range(draw(st.integers(0, 3))):
        if i < len(shape) and shape[i] and left % shape[i] == 0 and draw(st.booleans()):
            target.append(0)
            left //= shape[i]
            continue
        divisors = [d for d in range(1, left + 1) if left % d == 0] if left else [1, 2]
        d = draw(st.sampled_from(divisors))
        target.append(d)
        left //= d
    keeps = left == 0 and (len(target) >= len(shape) or shape[len(target)] != 0)  # what a 0 would mean there
    target.append(-1 if keeps or draw(st.booleans()) else left)
    return shape, target


@settings(deadline=None)
@given(reshapes())
def test_reshape(case):
    shape, target = case
    x = normal(*shape)
    check(Reshape(), [x, ints(*target)], constants={1})
    check(Reshape(), [np.arange(x.size).reshape(shape), ints(*target)])


@pytest.mark.parametrize("target", [(0, 3), (3, 0), (0, 0), (5, 0), (0, 2, 2)])
def test_reshape_allowzero(target):
    check(Reshape(allowzero=1), [normal(0, 3), ints(*target)], constants={1})


def test_reshape_to_a_scalar():
    check(Reshape(), [normal(1, 1), ints()], constants={1})


def test_reshape_refuses():
    refuses(Reshape(), [normal(2, 3), ints(4, 2)], r"f32\[2, 3\] has 6 elements, and the target \[4, 2\] has 8")
    refuses(Reshape(), [normal(2, 3), ints(4, -1)], "6 elements do not divide into 4")
    refuses(Reshape(), [normal(2, 3), ints(-1, -1)], "one open dim at most")
    refuses(Reshape(), [normal(2, 3), ints(-2, 3)], "one open dim at most")
    refuses(Reshape(), [normal(2, 3), ints(2, 3, 0)], "keeps axis 2")
    refuses(Reshape(), [normal(0, 3), ints(0, -1)], "0 elements do not divide into 0")
    refuses(Reshape(allowzero=1), [normal(0, 3), ints(0, -1)], "an open dim beside a dim of 0")


@pytest.mark.parametrize(
    ("dims", "target", "result"),
    [
        ((N, C, H, W), (0, -1), (N, C * H * W)),
        ((N, 64, 7, 7), (-1, 3136), (N, 3136)),
        ((N, 64, 7, 7), (N, -1), (N, 3136)),
        ((N, 64, H, W), (N, 2, 32, H, W), (N, 2, 32, H, W)),
        ((N, 64, H, W), (0, 2, -1, H, W), (N, 2, 32, H, W)),
        ((N, 64, H, W), (-1, 8, 0), (8 * N * W, 8, H)),
        ((N * 2, 3), (2, -1, 3), (2, N, 3)),
        ((N * 4 + 8,), (-1, 4), (N + 2, 4)),
        ((0, N), (-1, 3), (0, 3)),
    ],
)
def test_reshape_with_symbols(dims, target, result):
    (kind,) = inferred(Reshape(), shaped(*dims), known(*target))
    assert kind.shape == result


def test_reshape_does_not_claim_what_may_have_a_remainder():
    (kind,) = inferred(Reshape(), shaped(N, 3), known(-1, 4))
    assert kind.shape[1] == 4
    assert kind.shape[0].name.startswith("?")
    (kind,) = inferred(Reshape(), shaped(N, 6), known(C, -1))
    assert kind.shape[1].name.startswith("?")


def test_reshape_of_little_known():
    assert inferred(Reshape(), shaped(N, 3), numbers(3))[0].rank == 3
    (kind,) = inferred(Reshape(), Fact(TensorType(f32, None)), known(0, 4, -1))
    assert kind.rank == 3
    assert kind.shape[1] == 4
    assert inferred(Reshape(), shaped(2), Fact(TensorType(i64, (N,))))[0].shape is None


def test_reshape_forwards_only_what_is_proven():
    x = shaped(N, 3, H)
    for target in ((N, 3, H), (0, 0, 0), (0, 0, -1), (-1, 3, H), (N, -1, H)):
        assert Reshape().forwards(x, known(*target)) == 0
    for target in ((H, 3, N), (0, 3, -1, 1), (N, H, 3), (-1,), (C, 3, H)):
        assert Reshape().forwards(x, known(*target)) is None
    assert Reshape().forwards(x, numbers(3)) is None
    assert Reshape().forwards(x, None) is None
    assert Reshape().forwards(shaped(2, 3), known(7)) is None  # breaks the rule: not for `forwards` to say


def test_reshape_of_dims():
    assert Reshape().elements(known(N, C, H, W), known(2, -1)).tolist() == [[N, C], [H, W]]
    assert Reshape().elements(numbers(4), known(2, 2)) is None


@pytest.mark.parametrize("opset", [7, 13, 14])
def test_reshape_old(opset):
    check_old("Reshape", [normal(2, 3, 4), ints(0, -1)], {}, opset, constants={1})


def test_reshape_allowzero_needs_14():
    op = Reshape(allowzero=1)
    with pytest.raises(OpsetError, match="Reshape with allowzero=1 needs opset 14"):
        downgrade(op, Step(op.attributes, ("x", "t"), ("y",), facts_of([normal(0, 3), ints(3, 0)])), 13)


# ---- Flatten


@settings(deadline=None)
@given(shapes, st.data())
def test_flatten(shape, data):
    axis = data.draw(st.integers(-len(shape), len(shape)))
    check(Flatten(axis=axis), [normal(*shape)])


def test_flatten_symbols_and_forwards():
    assert inferred(Flatten(), shaped(N, 3, H))[0].shape == (N, H * 3)
    assert Flatten(axis=2).forwards(shaped(N, 3, 1)) is None
    assert Flatten(axis=-1).forwards(shaped(N, H)) == 0
    assert Flatten(axis=0).forwards(shaped(1, H)) == 0
    assert Flatten(axis=0).forwards(shaped(N, H)) is None
    refuses(Flatten(axis=3), [normal(2, 3)], "axis 3 is not one of f32")


@pytest.mark.parametrize(("opset", "axis"), [(7, 2), (9, 0), (10, 1), (11, -1), (13, -2), (21, -3)])
def test_flatten_old(opset, axis):
    check_old("Flatten", [normal(2, 3, 4)], {"axis": axis}, opset)


# ---- Squeeze, Unsqueeze


@settings(deadline=None)
@given(st.lists(st.sampled_from([1, 1, 2, 3]), min_size=1, max_size=5), st.data())
def test_squeeze(shape, data):
    ones = [i for i, d in enumerate(shape) if d == 1]
    axes = data.draw(st.permutations(ones).flatmap(lambda p: st.integers(0, len(p)).map(lambda k: p[:k])))
    signs = data.draw(st.lists(st.booleans(), min_size=len(axes), max_size=len(axes)))
    signed = [a - len(shape) if s else a for a, s in zip(axes, signs, strict=True)]
    x = normal(*shape)
    if signed:
        check(Squeeze(), [x, ints(*signed)], constants={1})
        check_old("Squeeze", [x], {"axes": signed}, 12)
        check_old("Squeeze", [x], {"axes": axes}, 8)
    check(Squeeze(), [x])
    check_old("Squeeze", [x], {}, 8)


def test_squeeze_symbols():
    assert inferred(Squeeze(), shaped(N, 1, H, 1), known(-1, 1))[0].shape == (N, H)
    assert inferred(Squeeze(), shaped(N, 1), known(0))[0].shape == (1,)
    assert inferred(Squeeze(), shaped(N, 1))[0].shape is None  # N may be 1
    assert inferred(Squeeze(), shaped(N, 1), numbers(1))[0].shape is None
    refuses(Squeeze(), [normal(2, 3), ints(1)], r"axis 1 of f32\[2, 3\] is not of length 1")
    refuses(Squeeze(), [normal(1, 1), ints(0, -2)], "name an axis twice")
    assert Squeeze().forwards(shaped(2, 3)) == 0
    assert Squeeze().forwards(shaped(N, 3)) is None
    assert Squeeze().elements(known(N)).shape == ()
    assert Squeeze().elements(known(N), numbers(1)) is None


def test_squeeze_by_an_empty_list_is_left_open():
    x = normal(1, 2)
    assert inferred(Squeeze(), *facts_of([x, ints()]))[0].shape is None
    assert Squeeze().forwards(*facts_of([x, ints()])) is None
    with pytest.raises(NoKernelError, match="empty list of axes"):
        compute(Squeeze(), [x, ints()])


@settings(deadline=None)
@given(st.lists(st.integers(1, 3), max_size=3), st.integers(0, 3), st.data())
def test_unsqueeze(shape, count, data):
    rank = len(shape) + count
    axes = data.draw(st.permutations(range(rank)))[:count]
    signs = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    signed = [a - rank if s else a for a, s in zip(axes, signs, strict=True)]
    x = normal(*shape)
    check(Unsqueeze(), [x, ints(*signed)], constants={1})
    check(Unsqueeze(), [np.arange(x.size).reshape(shape), ints(*signed)])
    if count:
        check_old("Unsqueeze", [x], {"axes": signed}, 11)
        check_old("Unsqueeze", [x], {"axes": axes}, 7)


def test_unsqueeze_symbols():
    assert inferred(Unsqueeze(), shaped(N, H), known(-1, 1))[0].shape == (N, 1, H, 1)
    assert inferred(Unsqueeze(), shaped(N, H), numbers(2))[0].rank == 4
    assert Unsqueeze().elements(Fact(TensorType(i64, ()), known=np.asarray(N, object)), known(0)).tolist() == [N]
    assert Unsqueeze().forwards(shaped(N), known()) == 0
    assert Unsqueeze().forwards(shaped(1), known(0)) is None
    refuses(Unsqueeze(), [normal(2), ints(0, 0)], "name an axis twice")
    refuses(Unsqueeze(), [normal(2), ints(2)], "not all axes of a tensor of rank 2")


def test_axes_go_down_as_older_opsets_want_them():
    check_old("Squeeze", [normal(2, 1, 1)], {"axes": [-1, 1]}, 11)
    for opset in (11, 12, 13):
        arrays = [normal(2, 3)] if opset < 13 else [normal(2, 3), ints(-1)]
        check_old(
            "Unsqueeze", arrays, {"axes": [-1]} if opset < 13 else {}, opset, constants=set(range(1, len(arrays)))
        )


# ---- Expand


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("xtb")), max_size=4), st.integers(-3, 3))
def test_expand(axes, cut):
    """Each axis is 1 on one side, or the same on both; leading axes are missing on one side."""
    x = [1 if side == "t" else d for d, side in axes]
    target = [1 if side == "x" else d for d, side in axes]
    x, target = (x[cut:], target) if cut > 0 else (x, target[-cut:])
    check(Expand(), [normal(*x), ints(*target)], constants={1})
    check_old("Expand", [normal(*x), ints(*target)], {}, 8, constants={1})


def test_expand_symbols():
    assert inferred(Expand(), shaped(1, C, 1), known(N, C, H))[0].shape == (N, C, H)
    assert inferred(Expand(), shaped(N, 3), known(1, 1))[0].shape == (N, 3)
    assert inferred(Expand(), shaped(3), known(C))[0].shape == (3,)  # C is 1 or 3
    assert inferred(Expand(), shaped(N), known(C))[0].shape not in ((N,), (C,))
    assert inferred(Expand(), shaped(1, 3), numbers(4))[0].rank == 4
    assert Expand().forwards(shaped(N, 3), known(N, 3)) == 0
    assert Expand().forwards(shaped(N, 3), known(3)) == 0
    assert Expand().forwards(shaped(N, 3), known(C, 3)) is None
    assert Expand().forwards(shaped(1, 3), known(N, 3)) is None
    refuses(Expand(), [normal(2), ints(3)], "do not broadcast")
    refuses(Expand(), [normal(2), ints(-1)], "has a negative dim")


def test_expand_takes_no_room():
    x = np.zeros((1, 1), np.float32)
    assert compute(Expand(), [x, ints(1 << 20, 1 << 20)])[0].shape == (1 << 20, 1 << 20)
    one = Fact(TensorType(i64, (1,)), Constant.of(ints(7)))
    assert Expand().elements(one, known(1 << 20, 1 << 20)) is None
    assert Expand().elements(one, known(3)).tolist() == [7, 7, 7]


# ---- Identity, Dropout


def test_identity():
    for x in (normal(2, 3), normal(), np.array(["a"], object), ints(1), np.array(True)):
        assert Identity().forwards(*facts_of([x])) == 0
        assert compute(Identity(), [x])[0] is x
    check(Identity(), [normal(2, 3)])
    for opset in (7, 13, 14):
        check_old("Identity", [normal(2)], {}, opset)


@pytest.mark.parametrize("more", [(), (np.float32(0.5),), (np.float32(0.5), np.bool_(False)), (None, np.bool_(False))])
def test_dropout_at_inference(more):
    arrays = [normal(2, 3), *(None if m is None else np.asarray(m) for m in more)]
    check(Dropout(), arrays, results=2, constants={1, 2}, opset=13)
    if None not in more:
        assert Dropout().forwards(*facts_of(arrays)) == 0
    assert Dropout().is_pure(*facts_of(arrays))


def test_dropout_in_training_is_random():
    x, ratio = shaped(2, 3), Fact(TensorType(f32, ()))
    on = Fact(TensorType(boolean, ()), Constant.of(np.array(True)))
    for mode in (on, Fact(TensorType(boolean, ())), None):  # None: an operand of unknown type
        assert not Dropout().is_pure(x, ratio, mode)
        assert Dropout().forwards(x, ratio, mode) is None
    with pytest.raises(NoKernelError, match="random"):
        compute(Dropout(), [normal(2), None, np.array(True)])


@pytest.mark.parametrize(("opset", "attributes"), [(7, {}), (9, {"ratio": 0.3}), (10, {"ratio": 0.25}), (11, {})])
def test_dropout_old(opset, attributes):
    op = check_old("Dropout", [normal(2, 3)], attributes, opset)
    assert isinstance(op, Dropout)
    if opset < 12:
        check_old("Dropout", [normal(2, 3), np.array(0.5, np.float32), np.array(False)], {}, 12, constants={1, 2})


def test_dropout_down():
    def step(*arrays, constants):
        names = tuple("" if a is None else f"x{i}" for i, a in enumerate(arrays))
        return Step({}, names, ("y",), facts_of(arrays, constants))

    x, ratio = normal(2), np.array(0.25, np.float32)
    lowered = downgrade(Dropout(), step(x, ratio, np.array(False), constants={1, 2}), 11)
    assert lowered.operands == ("x0",)
    assert lowered.attributes["ratio"].value == 0.25
    with pytest.raises(OpsetError, match="training mode"):
        downgrade(Dropout(), step(x, ratio, np.array(True), constants={1, 2}), 11)
    with pytest.raises(OpsetError, match="training mode"):
        downgrade(Dropout(), step(x, ratio, np.array(False), constants={1}), 11)
    with pytest.raises(OpsetError, match="computed ratio"):
        downgrade(Dropout(), step(x, ratio, constants=()), 11)


def test_unknown_attributes_stay_opaque():
    assert stays_opaque("Reshape", [normal(2), ints(2)], {"consumed_inputs": [1]}, 7)
    with pytest.raises(TypeRuleError):
        inferred(Squeeze(), Fact(TensorType(i32, (2,))), shaped(1))
