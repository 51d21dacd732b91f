"""Transpose, Concat, Split, Slice, Gather."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from graphopt.errors import OpsetError, TypeRuleError
from graphopt.ir.constant import Constant
from graphopt.ir.dims import is_anonymous, substitute, symbol
from graphopt.ir.types import TensorType, f32, i64
from graphopt.onnx_format.opset import downgrade
from graphopt.ops.movement import Concat, Gather, Slice, Split, Transpose
from graphopt.ops.room import Fact, NoKernelError, Step, Trait
from graphopt.ops.slicing import is_open, length
from ops.harness import check, check_old, compute, facts_of, inferred, normal, refuses

N, C, H, W = map(symbol, "NCHW")
FAR = 2**31 - 1
FARTHEST = 2**63 - 1


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


def lowered(op, arrays, opset, *, constants=None, results=1):
    """A node taken down to an older opset: its attributes and operands (arrays for new constants)."""
    names = tuple("" if a is None else f"x{i}" for i, a in enumerate(arrays))
    outs = tuple(f"y{i}" for i in range(results))
    step = downgrade(op, Step(op.attributes, names, outs, facts_of(arrays, constants)), opset)
    operands = [o.array().tolist() if isinstance(o, Constant) else o for o in step.operands]
    return {k: a.value for k, a in step.attributes.items()}, operands


# ---- Transpose


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), max_size=4).flatmap(lambda s: st.tuples(st.just(s), st.permutations(range(len(s))))))
def test_transpose(case):
    shape, perm = case
    check(Transpose(perm=tuple(perm)), [normal(*shape)])
    check(Transpose(), [normal(*shape)])
    check_old("Transpose", [normal(*shape)], {"perm": perm} if perm else {}, 7)


def test_transpose_facts():
    assert inferred(Transpose(perm=(0, 2, 1)), shaped(N, H, W))[0].shape == (N, W, H)
    assert Transpose(perm=(0, 1)).forwards(shaped(N, H)) == 0
    assert Transpose(perm=(0, 1)).forwards(Fact(TensorType(f32, None))) == 0
    assert Transpose(perm=(1, 0)).forwards(shaped(2, 2)) is None
    assert Transpose().forwards(shaped(N)) == 0
    assert Transpose().forwards(shaped(N, N)) is None
    assert Transpose().forwards(Fact(TensorType(f32, None))) is None
    refuses(Transpose(perm=(0, 0)), [normal(2, 2)], r"perm \[0, 0\] is not an order of the axes of f32\[2, 2\]")
    refuses(Transpose(perm=(0, 1)), [normal(2)], "not an order")


# ---- Concat


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=4), st.lists(st.integers(0, 3), min_size=1, max_size=4), st.data()
)
def test_concat(shape, lengths, data):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    arrays = []
    for i, n in enumerate(lengths):
        own = list(shape)
        own[axis] = n
        arrays.append(normal(*own, seed=i))
    check(Concat(axis=axis), arrays)
    check_old("Concat", arrays, {"axis": axis}, 11)
    check_old("Concat", arrays, {"axis": axis % len(shape)}, 7)


def test_concat_facts():
    assert inferred(Concat(axis=1), shaped(N, C, H), shaped(2, 3, H))[0].shape == (2, C + 3, H)
    assert inferred(Concat(axis=0), shaped(N, symbol("?1")), shaped(N, C))[0].shape == (N * 2, C)
    rank_of_one = inferred(Concat(axis=0), Fact(TensorType(f32, None)), shaped(N, 4))[0]
    assert rank_of_one.shape[1] == 4
    assert is_anonymous(rank_of_one.shape[0])
    assert Concat(axis=0).forwards(shaped(N)) == 0
    assert Concat(axis=0).forwards(shaped(N), shaped(0)) is None
    assert Concat(axis=0).elements(known(N), known(3, H)).tolist() == [N, 3, H]
    assert Concat(axis=0).elements(known(N), numbers(1)) is None
    refuses(Concat(axis=0), [normal(2, 3), normal(2, 4)], "lengths 3, 4 of axis 1 differ, and the axis to join is 0")
    refuses(Concat(axis=0), [normal(2, 3), normal(2)], "differ in type or rank")
    refuses(Concat(axis=0), [normal(2), ints(1, 2)], "differ in type or rank")
    refuses(Concat(axis=2), [normal(2, 3)], "not all axes of a tensor of rank 2")


def test_concat_of_unknown_rank_with_a_negative_axis_cannot_go_down():
    op, x = Concat(axis=-1), Fact(TensorType(f32, None))
    with pytest.raises(OpsetError, match="Concat with a negative axis of a tensor of unknown rank needs opset 11"):
        downgrade(op, Step(op.attributes, ("a", "b"), ("y",), (x, x)), 10)


# ---- Split


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=4), st.lists(st.integers(0, 3), min_size=1, max_size=4), st.data()
)
def test_split_by_sizes(shape, sizes, data):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    shape[axis] = sum(sizes)
    x = normal(*shape)
    check(Split(axis=axis), [x, ints(*sizes)], results=len(sizes), constants={1})
    check_old("Split", [x, ints(*sizes)], {"axis": axis}, 13, results=len(sizes), constants={1})
    check_old("Split", [x], {"axis": axis, "split": sizes}, 11, results=len(sizes))
    check_old("Split", [x], {"axis": axis % len(shape), "split": sizes}, 7, results=len(sizes))


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 5))
def test_split_by_number(size, count):
    x = normal(2, size)
    part = -(-size // count)
    last = size - part * (count - 1)
    if last < 0:
        refuses(Split(axis=1, num_outputs=count), [x], f"{size} elements do not make {count} parts")
    elif last:  # ONNX Runtime makes no empty part
        check(Split(axis=1, num_outputs=count), [x], results=count)
    if size % count == 0:
        for opset in (7, 11, 13):
            op = check_old("Split", [x], {"axis": 1}, opset, results=count)
            assert op.num_outputs == count


def test_split_parts_that_are_not_equal_go_down_as_sizes():
    op = Split(axis=-1, num_outputs=3)
    assert lowered(op, [normal(2, 5)], 17, results=3) == ({"axis": -1}, ["x0", [2, 2, 1]])
    assert lowered(op, [normal(2, 5)], 9, results=3) == ({"axis": 1, "split": (2, 2, 1)}, ["x0"])
    step = Step(op.attributes, ("x",), ("a", "b", "c"), (shaped(N, H),))
    assert downgrade(op, step, 17).operands == ("x",)
    with pytest.raises(OpsetError, match="Split with computed split needs opset 13"):
        lowered(Split(), [normal(3), ints(1, 2)], 12, constants={}, results=2)


def test_split_facts():
    left, right = inferred(Split(axis=1, num_outputs=2), shaped(N, C * 2))
    assert left.shape == right.shape == (N, C)
    kinds = inferred(Split(axis=0, num_outputs=3), shaped(N))
    for n in (3, 4, 5, 9, 10, 11):
        assert [substitute(k.shape[0], {"N": n}) for k in kinds] == [-(-n // 3), -(-n // 3), n - 2 * -(-n // 3)]
    assert [k.shape for k in inferred(Split(), shaped(N, 3), known(2, H))] == [(2, 3), (H, 3)]
    assert [k.shape[1] for k in inferred(Split(), shaped(N, 3), numbers(2))] == [3, 3]
    assert inferred(Split(), shaped(N, 3)) == ()
    assert Split(num_outputs=1).forwards(shaped(N)) == 0
    assert Split(num_outputs=2).forwards(shaped(N)) is None
    assert Split().forwards(shaped(N), known(N)) == 0
    assert Split().forwards(shaped(N), numbers(1)) == 0
    assert Split().forwards(shaped(N), known(2, 3)) is None
    assert Split().forwards(shaped(N)) is None
    assert Split().forwards(shaped(N), None) is None
    refuses(Split(), [normal(4), ints(1, 2)], r"the parts \[1, 2\] do not make up axis 0 of f32\[4\]")
    refuses(Split(), [normal(4), ints(5, -1)], "do not make up axis 0")


# ---- Slice

index = st.integers(-7, 7) | st.sampled_from([FAR, -FAR - 1, FARTHEST, -FARTHEST - 1])


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.tuples(st.integers(0, 5), index, index, st.integers(-3, 3).filter(bool)), min_size=1, max_size=3),
    st.data(),
)
@example([(6, -100, 100, -1)], None)
@example([(6, -100, -7, -1)], None)
@example([(6, 100, -100, -2)], None)
def test_slice(axes, data):
    axes = [(n, b, -FAR if is_open(e, s) else e, s) for n, b, e, s in axes]
    shape, starts, ends, steps = zip(*axes, strict=True)
    rank = len(shape)
    order = list(range(rank)) if data is None else data.draw(st.permutations(range(rank)))
    count = rank if data is None else data.draw(st.integers(1, rank))
    signed = [a - rank * (i % 2) for i, a in enumerate(order[:count])]
    x = normal(*shape)
    picked = [ints(*(v[a] for a in order[:count])) for v in (starts, ends)]
    strides = ints(*(steps[a] for a in order[:count]))
    check(Slice(), [x, *picked, ints(*signed), strides], constants={1, 2, 3, 4})
    check(Slice(), [x, *picked, ints(*signed), strides], constants={1, 3})
    check(Slice(), [x, *picked, ints(*signed)], constants={1, 2, 3})
    check(Slice(), [x, ints(*starts), ints(*ends)], constants={1, 2})
    check_old("Slice", [x, *picked, ints(*signed), strides], {}, 11, constants={1, 2, 3, 4})
    attributes = {"starts": picked[0].tolist(), "ends": picked[1].tolist(), "axes": [a % rank for a in signed]}
    check_old("Slice", [x], attributes, 9)
    check_old("Slice", [x], {"starts": list(starts), "ends": list(ends)}, 7)


def test_slice_without_axes_but_steps():
    check(Slice(), [normal(5, 4), ints(4), ints(-FAR), None, ints(-2)], constants={1, 2, 4})


def test_slice_in_int32():
    check(Slice(), [normal(5), *(np.array([v], np.int32) for v in (1, FAR, 0, 2))], constants={1, 2, 3, 4})


def test_slice_down():
    x = normal(4, 6)
    arrays = [x, ints(1), ints(FAR), ints(-1), ints(1)]
    assert lowered(Slice(), arrays, 10) == ({}, ["x0", "x1", "x2", [1], "x4"])
    assert lowered(Slice(), arrays, 9) == ({"starts": (1,), "ends": (FAR,), "axes": (1,)}, ["x0"])
    with pytest.raises(OpsetError, match="Slice with steps needs opset 10"):
        lowered(Slice(), [*arrays[:4], ints(2)], 9)
    with pytest.raises(OpsetError, match="Slice with computed starts needs opset 10"):
        lowered(Slice(), arrays[:3], 9, constants={2})


@pytest.mark.parametrize(
    ("size", "begin", "end", "step", "expected"),
    [
        (N, 0, FARTHEST, 1, N),
        (N, 0, N, 1, N),
        (N - 1, 0, FAR, 1, N - 1),
        (N - 1, -FAR, N - 1, 1, N - 1),
        (N - 1, 1, FAR, 2, (N - 1) // 2),
        (N, -FAR, FAR, 1, N),
        (N, 0, FAR, 2, (N + 1) // 2),
        (N, 1, FAR, 2, N // 2),
        (N, 2, FAR, 3, N // 3),
        (N, -1, -FARTHEST - 1, -1, N),
        (N, N - 1, -FAR, -2, (N + 1) // 2),
        (N + 2, 1, -1, 1, N),
        (N + 2, 1, FAR, 1, N + 1),
        (N + 2, -2, FAR, 1, 2),
        (N + H, 0, N, 1, N),
        (N + H, N, FAR, 1, H),
        (N + H, N, N + H, 1, H),
        (N * 2, N, FAR, 1, N),
        (N + 5, 0, 3, 1, 3),
        (N, 1, FAR, 1, None),  # N may be 0
        (N, 0, 3, 1, None),
        (N, -1, FAR, 1, None),
        (N, 0, H, 1, None),
        (N, H, FAR, 1, None),
        (N, 3, 1, 1, None),
        (4, 0, N, 1, None),
        (N, 3, 0, -1, None),
    ],
)
def test_slice_of_symbols(size, begin, end, step, expected):
    found = length(size, begin, end, step)
    if expected is None:
        assert is_anonymous(found)
    else:
        assert found == expected


places = st.sampled_from([0, 1, 2, 3, -1, -2, FAR, -FAR, N, H, N - 1, N + H, N * 2, N // 2])


@settings(deadline=None, max_examples=300)
@given(st.sampled_from([N, N + H, N * 2, N + 3, N // 2, N - 1]), places, places, st.sampled_from([1, 1, 2, 3, -1, -2]))
def test_slice_of_symbols_is_what_it_is_of_numbers(size, begin, end, step):
    found = length(size, begin, end, step)
    if is_anonymous(found):
        return
    for n in range(1, 6):  # N - 1 must not be negative: a size is none
        for h in range(5):
            at = [substitute(d, {"N": n, "H": h}) for d in (size, begin, end, found)]
            assert at[3] == length(at[0], at[1], at[2], step), f"{size}[{begin}:{end}:{step}] with N={n}, H={h}"


def test_slice_facts():
    assert inferred(Slice(), shaped(N, 8), known(0), known(4), known(1))[0].shape == (N, 4)
    assert inferred(Slice(), shaped(N, 8), numbers(1), numbers(1), known(1))[0].shape[0] == N
    assert inferred(Slice(), shaped(N, 8), numbers(1), numbers(1), numbers(1))[0].rank == 2
    assert inferred(Slice(), shaped(N, 8), numbers(1), numbers(1))[0].shape[1] == 8
    assert Slice().elements(known(N, C, H, W), known(2), known(FAR)).tolist() == [H, W]
    assert Slice().elements(known(N, C, H, W), known(-1), known(-FAR), known(0), known(-2)).tolist() == [W, C]
    assert Slice().elements(known(N, C), known(H), known(FAR)) is None
    whole = Slice().elements(Fact(TensorType(i64, ()), known=np.asarray(N, object)), known(), known())
    assert whole.shape == ()
    assert whole[()] == N
    refuses(Slice(), [normal(3), ints(0), ints(1), ints(0), ints(0)], "step of 0")
    with pytest.raises(TypeRuleError, match="step of 0"):
        inferred(Slice(), shaped(N), known(1), known(H), known(0), known(0))
    refuses(Slice(), [normal(3), ints(0), ints(1), ints(1)], "not all axes of a tensor of rank 1")
    refuses(Slice(), [normal(3, 3), ints(0, 0), ints(1)], "not of one length, 2")
    refuses(Slice(), [normal(3), ints(0, 0), ints(1, 1)], "2 starts for a tensor of rank 1")


@pytest.mark.parametrize("end", [FAR, FARTHEST])
def test_slice_backwards_to_int_max_is_left_open(end):
    """ONNX clamps the end to the last element, ONNX Runtime goes on to the first."""
    arrays = [normal(4), ints(-1), ints(end), ints(0), ints(-1)]
    assert is_anonymous(inferred(Slice(), *facts_of(arrays))[0].shape[0])
    with pytest.raises(NoKernelError, match="differs between runtimes"):
        compute(Slice(), arrays)
    assert Slice().elements(known(N, C), *facts_of(arrays[1:])) is None


def test_slice_forwards_only_everything():
    x, zero, far = shaped(N, 8), known(0), known(FAR)
    assert Slice().forwards(x, zero, far) == 0
    assert Slice().forwards(x, zero, known(8), known(-1)) == 0
    assert Slice().forwards(x, zero, known(N), known(0), known(1)) == 0
    assert Slice().forwards(x, known(-8), far, known(1)) == 0
    assert Slice().forwards(x, zero, known(7), known(1)) is None
    assert Slice().forwards(x, zero, far, known(0), known(-1)) is None
    assert Slice().forwards(shaped(1), known(-1), known(-FAR), known(0), known(-1)) is None
    assert Slice().forwards(x, zero, known(H)) is None
    assert Slice().forwards(x, zero, far, known(0), numbers(1)) is None
    assert Slice().forwards(x, zero, far, None) is None  # axes of unknown type
    assert Slice().forwards(x, zero, far, known(0), None) is None
    assert Slice().forwards(x, None, far) is None


# ---- Gather


@settings(deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.lists(st.integers(0, 3), max_size=2), st.data())
def test_gather(shape, picked, data):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    size = shape[axis]
    drawn = data.draw(st.lists(st.integers(-size, size - 1), min_size=9, max_size=9))
    indices = np.resize(np.array(drawn, np.int64), picked)
    check(Gather(axis=axis), [normal(*shape), indices], constants={1})
    check(Gather(axis=axis), [np.arange(np.prod(shape)).reshape(shape), indices.astype(np.int32)])
    check_old("Gather", [normal(*shape), indices], {"axis": axis}, 11, constants={1})
    check_old("Gather", [normal(*shape), indices % size], {"axis": axis}, 7, constants={1})


def test_gather_facts():
    assert inferred(Gather(axis=1), shaped(N, C), numbers(3))[0].shape == (N, 3)
    assert inferred(Gather(), shaped(N, C), Fact(TensorType(i64, (H, W))))[0].shape == (H, W, C)
    scalar = Fact(TensorType(i64, ()), Constant.of(np.array(-1)))
    assert Gather().elements(known(N, C), scalar).shape == ()
    assert Gather().elements(known(N, C), scalar)[()] == C
    assert Gather().elements(known(N, 7), known(1, 0)).tolist() == [7, N]
    assert Gather().elements(known(N, C), numbers(1)) is None
    assert Gather().elements(known(N, C), known(H)) is None
    refuses(Gather(), [normal(2), ints(2)], r"the indices \[2\] are not all within axis 0 of f32\[2\]")
    refuses(Gather(), [normal(2), ints(-3)], "not all within axis 0")
    refuses(Gather(axis=1), [normal(2), ints(0)], "not all axes of a tensor of rank 1")
    with pytest.raises(TypeRuleError, match="takes int or uint"):
        inferred(Gather(), shaped(2), shaped(1))


def test_gather_down_counts_from_the_front():
    x = normal(2, 5)
    assert lowered(Gather(axis=1), [x, ints(-1, 2)], 10) == ({"axis": 1}, ["x0", [4, 2]])
    assert lowered(Gather(axis=1), [x, ints(-1, 2)], 11) == ({"axis": 1}, ["x0", "x1"])
    assert lowered(Gather(), [x, ints(1)], 10) == ({}, ["x0", "x1"])
    assert lowered(Gather(), [x, ints(-1)], 10, constants={}) == ({}, ["x0", "x1"])


# ---- Shape arithmetic as a chain, and what these rooms claim


def test_sizes_of_half_the_axes():
    """What exporters write for `x.view(x.size(0), -1, h // 2, w // 2)`."""
    from graphopt.ops.create import ConstantOfShape
    from graphopt.ops.elementwise import Div, Mul
    from graphopt.ops.shape import Cast, Expand, Reshape, Shape, Squeeze, Unsqueeze

    x = shaped(N, 8, H * 2, W * 2)
    sizes = Fact(TensorType(i64, (4,)), known=Shape().elements(x))
    halves = Fact(TensorType(i64, (2,)), known=Slice().elements(sizes, known(2), known(FAR)))
    halves = Fact(halves.type, known=Div().elements(halves, known(2)))
    assert halves.known.tolist() == [H, W]
    batch = Fact(
        TensorType(i64, ()), known=Gather().elements(sizes, Fact(TensorType(i64, ()), Constant.of(np.array(0))))
    )
    batch = Fact(batch.type, known=Cast(to=7).elements(Fact(batch.type, known=Cast(to=6).elements(batch))))
    listed = Fact(TensorType(i64, (1,)), known=Unsqueeze().elements(batch, known(0)))
    assert Squeeze().elements(listed, known(0))[()] == N
    four = Fact(TensorType(i64, (1,)), known=Mul().elements(known(2), known(2)))
    target = Fact(TensorType(i64, (4,)), known=Concat(axis=0).elements(listed, known(-1), halves))
    assert inferred(Reshape(), x, target)[0].shape == (N, 32, H, W)
    grown = Fact(TensorType(i64, (2,)), known=Concat(axis=0).elements(listed, four))
    assert inferred(Expand(), shaped(1, 4), grown)[0].shape == (N, 4)
    assert inferred(ConstantOfShape(), grown)[0].shape == (N, 4)


def test_rooms_that_move_keep_every_bit():
    odd = np.array([0x7FC00001, 0x7FA00000, 0x80000000, 1], np.uint32).view(np.float32).reshape(2, 2)  # NaNs, -0, tiny
    for op, more in (
        (Transpose(), ()),
        (Gather(), (ints(1, 0, 1),)),
        (Slice(), (ints(-1), ints(-FAR), ints(0), ints(-1))),
        (Split(num_outputs=2), ()),
    ):
        assert Trait.MOVES in op.traits
        made = op.kernel(odd, *more)
        for part in made if isinstance(made, tuple) else (made,):
            assert {*part.ravel().view(np.uint32).tolist()} <= {*odd.ravel().view(np.uint32).tolist()}
