"""Attention and RotaryEmbedding beside ONNX Runtime; what it lacks or does otherwise, beside onnx's reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.errors import OpsetError
from graphopt.ir.attributes import Attribute, Kind
from graphopt.ir.dims import symbol
from graphopt.ir.types import TensorType, f16, f32, i64
from graphopt.onnx_format.opset import downgrade
from graphopt.ops.multihead import Attention, RotaryEmbedding
from graphopt.ops.room import Fact, NoKernelError, Step
from ops.cases import floats, ints
from ops.harness import check, check_old, compute, facts_of, inferred, normal, refuses, run_ort, run_reference

N, S, T, P = map(symbol, "NSTP")
few = st.integers(1, 3)


def run_with_infinities(*args, **settings):
    """ONNX Runtime; where a key may not be seen it adds the lowest number, and shows it, where ONNX says -inf."""
    return tuple(np.where(r < -1e38, np.float32(-np.inf), r) for r in run_ort(*args, **settings))


def joined(x):
    return np.ascontiguousarray(x.swapaxes(1, 2)).reshape(x.shape[0], x.shape[2], -1)


@st.composite
def attentions(draw, past=True, nonpad=True):
    """Attributes, operands, and how many results there are."""
    batch, kept, times, queries, new, size, value_size, old = (draw(few) for _ in range(8))
    heads = kept * times
    arrays = [normal(batch, heads, queries, size), normal(batch, kept, new, size, seed=1),
              normal(batch, kept, new, value_size, seed=2), None, None, None, None]  # fmt: skip
    attributes = {"is_causal": draw(st.integers(0, 1)), "qk_matmul_output_mode": draw(st.integers(0, 3))}
    if draw(st.booleans()):
        arrays[:3] = map(joined, arrays[:3])
        attributes |= {"q_num_heads": heads, "kv_num_heads": kept}
    form = draw(st.sampled_from(["past"] * past + ["nonpad"] * nonpad + ["plain"]))
    if form == "past":
        new = 1 if queries == 1 and attributes["is_causal"] else new  # see `test_one_query_with_a_past`
        arrays[1], arrays[2] = (a[..., :new, :] if a.ndim == 4 else a[:, :new] for a in arrays[1:3])
        arrays[4:6] = normal(batch, kept, old, size, seed=3), normal(batch, kept, old, value_size, seed=4)
    if form == "nonpad":
        arrays[6] = ints(draw(st.lists(st.integers(0, new), min_size=batch, max_size=batch)))
    keys = new + old * (form == "past")
    lead = draw(st.sampled_from([(), (1,), (heads,), (batch, 1), (1, heads), (batch, heads)]))
    kind = draw(st.sampled_from([None, "float", "bool"]))
    if kind is not None:
        mask = normal(*lead, queries, keys, seed=5)
        arrays[3] = mask > -0.3 if kind == "bool" else np.where(mask > -1, mask, np.float32(-np.inf))
    attributes |= {"softcap": 1.5} if draw(st.booleans()) else {}
    attributes |= {"scale": 0.75} if draw(st.booleans()) else {}
    return attributes, arrays, 1 if form == "nonpad" else 4


@settings(deadline=None)
@given(attentions(), st.sampled_from([24, 26]))
def test_attention(case, opset):
    attributes, arrays, results = case
    op = Attention(**attributes)
    scale = [np.full(r.shape, 4.0) for r in compute(op, arrays)]
    check(op, arrays, opset=opset, results=results, scale=scale, run=run_with_infinities)


@settings(deadline=None, max_examples=40)
@given(attentions(nonpad=False), st.sampled_from([23, 24, 25]))
def test_attention_of_old_opsets(case, opset):
    attributes, arrays, _ = case
    op = Attention(**attributes)
    first = compute(op, arrays)[0]
    results = 1 if arrays[4] is None else 3
    arrays = arrays[: max(i + 1 for i, a in enumerate(arrays) if a is not None)]
    scale = np.full(first.shape, 4.0) if results == 1 else None
    ulps = 64 if results == 1 else 4096
    check_old("Attention", arrays, attributes, opset, results=results, scale=scale, ulps=ulps)


@settings(deadline=None, max_examples=60)
@given(attentions(), st.integers(-1, 2), st.integers(-1, 2))
def test_windows(case, left, right):
    """ONNX Runtime does not know them. The reference's first step is capped: there it is left out."""
    attributes, arrays, results = case
    if attributes["qk_matmul_output_mode"] == 0:
        attributes.pop("softcap", None)
    op = Attention(left_window_size=left, right_window_size=right, **attributes)
    scale = [np.full(r.shape, 4.0) for r in compute(op, arrays)]
    check(op, arrays, results=results, scale=scale, run=run_reference)


def test_one_query_with_a_past():
    """ONNX Runtime lets it see every new key, ONNX those up to its own position."""
    arrays = [normal(1, 1, 1, 2), normal(1, 1, 3, 2, seed=1), normal(1, 1, 3, 2, seed=2), None,
              normal(1, 1, 1, 2, seed=3), normal(1, 1, 1, 2, seed=4)]  # fmt: skip
    check(Attention(is_causal=1), arrays, results=3, run=run_reference)
    shares = compute(Attention(is_causal=1, qk_matmul_output_mode=3), arrays)[3]
    assert (shares[0, 0, 0] > 0).tolist() == [True, True, False, False]


def test_masks_of_few_axes_and_keys():
    """ONNX Runtime wants masks of two axes or more, and of all queries and keys."""
    arrays = [normal(2, 2, 3, 4), normal(2, 2, 5, 4, seed=1), normal(2, 2, 5, 4, seed=2)]
    for mask in (normal(5), normal(1, 5), normal(2, 1, 1, 5), normal(3, 3), np.ones((3, 3), bool), np.eye(3, 5) > 0):
        check(Attention(), [*arrays, mask], run=run_reference)
    shares = compute(Attention(qk_matmul_output_mode=3), [*arrays, normal(3, 3)])[3]
    assert not shares[..., 3:].any()


def test_nothing_to_see():
    """A row without keys is 0, whatever the products are; no keys at all give 0 too."""
    q, k, v = normal(1, 1, 2, 3), normal(1, 1, 2, 3, seed=1), normal(1, 1, 2, 3, seed=2)
    k[0, 0, 0, 0] = np.inf
    mask = np.array([[False, False], [False, True]])
    y, *_, shares = compute(Attention(qk_matmul_output_mode=3), [q, k, v, mask])
    assert not y[0, 0, 0].any()
    assert not shares[0, 0, 0].any()
    np.testing.assert_array_equal(y[0, 0, 1], v[0, 0, 1])
    assert not compute(Attention(), [q, k[:, :, :0], v[:, :, :0]])[0].any()


@pytest.mark.parametrize(("dtype", "ulps"), [(np.float16, 4), (np.float64, 2.0**30)])
def test_other_types(dtype, ulps):
    """In float64 too ONNX Runtime takes the root of the scale in single precision."""
    arrays = [normal(2, 2, 3, 4), normal(2, 2, 5, 4, seed=1), normal(2, 2, 5, 4, seed=2)]
    scale = np.full((2, 2, 3, 4), 4.0)
    check(Attention(), [a.astype(dtype) for a in arrays], scale=scale, ulps=ulps)


def test_values_of_another_type():
    """Queries and keys in half precision: so are the shares' products and the first result."""
    arrays = [normal(1, 1, 2, 3).astype(np.float16), normal(1, 1, 2, 3, seed=1).astype(np.float16), normal(1, 1, 2, 3)]
    assert [m.dtype for m in compute(Attention(), arrays)] == [np.float16, np.float16, np.float32, np.float16]
    assert [t.dtype for t in inferred(Attention(), *facts_of(arrays))] == [f16, f16, f32, f16]


def test_types_of_attention():
    q, k, v = Fact(f32["N", 8, "S", 64]), Fact(f32["N", 2, "T", 64]), Fact(f32["N", 2, "T", 32])
    assert inferred(Attention(), q, k, v) == (
        f32["N", 8, "S", 32], f32["N", 2, "T", 64], f32["N", 2, "T", 32], f32["N", 8, "S", "T"],
    )  # fmt: skip
    assert Attention().macs((q, k, v), (f32[2],)) == N * 8 * S * T * 96
    past = Fact(f32["N", 2, "P", 64]), Fact(f32["N", 2, "P", 32])
    y, key, value, products = inferred(Attention(), q, k, v, None, *past)
    assert (y.shape[2], key.shape[2], value.shape[2], products.shape[3]) == (S, T + P, T + P, T + P)
    flat = Fact(f32["N", "S", 512]), Fact(f32["N", "T", 128]), Fact(f32["N", "T", 64])
    assert inferred(Attention(q_num_heads=8, kv_num_heads=2), *flat)[0] == f32["N", "S", 256]
    hidden = inferred(Attention(q_num_heads=8, kv_num_heads=8), *(Fact(f32["N", "S", "D"]),) * 3)
    assert hidden[0].shape[2] == symbol("D") // 8 * 8
    unknown = Fact(TensorType(f32, None))
    assert inferred(Attention(), unknown, unknown, unknown) == (TensorType(f32, None),) * 4
    y, *_ = inferred(Attention(), unknown, k, v)
    assert (y.shape[0], y.shape[3]) == (N, 32)


def test_refusals_of_attention():
    q, k, v = normal(1, 4, 3, 8), normal(1, 2, 5, 8), normal(1, 2, 5, 6)
    past = normal(1, 2, 2, 8), normal(1, 2, 2, 6)
    refuses(
        Attention(), [q, normal(1, 3, 5, 8), normal(1, 3, 5, 6)], "4 heads of queries do not divide among 3 of keys"
    )
    refuses(Attention(), [q, normal(1, 2, 5, 7), v], "k is 1, 2, 5, 7 by head, and it must be 1, 2, 5, 8")
    refuses(Attention(), [q, k, normal(1, 2, 4, 6)], "v is 1, 2, 4, 6 by head, and it must be 1, 2, 5, ?")
    refuses(Attention(), [q, k, normal(1, 5, 12)], r"v is f32\[1, 5, 12\], and its shape must be")
    refuses(Attention(), [normal(1, 2), k, v], "all have 3 axes, or all 4")
    flat = [normal(1, 3, 32), normal(1, 5, 16), normal(1, 5, 12)]
    refuses(Attention(), flat, r"q is f32\[1, 3, 32\], and the number of its heads is None")
    refuses(Attention(q_num_heads=5, kv_num_heads=2), flat, "q is .* which does not divide into 5 heads")
    refuses(Attention(), [q, k, v, normal(3, 6)], r"attn_mask is f32\[3, 6\], and it must broadcast to \[1, 4, 3, 5\]")
    refuses(Attention(), [q, k, v, normal(2, 5)], r"attn_mask is f32\[2, 5\]")
    refuses(Attention(), [q, k, v, normal()], r"attn_mask is f32\[\]")
    refuses(Attention(), [q, k, v, None, past[0]], "given together or not at all")
    refuses(Attention(), [q, k, v, None, *past, ints([3])], "only one of them says what is past")
    refuses(Attention(), [q, k, v, None, past[0], normal(1, 2, 3, 6)], r"past_value is .* must be \[1, 2, 2, 6\]")
    refuses(Attention(), [q, k, v, None, None, None, ints([3, 3])], r"nonpad_kv_seqlen is i64\[2\]")
    refuses(Attention(), [q, k.astype(np.float64), v], "one element type")
    refuses(Attention(qk_matmul_output_mode=4), [q, k, v], "qk_matmul_output_mode is 4")
    refuses(Attention(left_window_size=-2), [q, k, v], "the window has -2 positions on its left")
    refuses(Attention(softmax_precision=7), [q, k, v], "softmax_precision is 7")


def test_what_older_opsets_lack():
    facts = tuple(Fact(f32[1, 1, 2, 4]) for _ in range(3))
    windowed = Step({"left_window_size": Attribute(Kind.INT, 3)}, ("q", "k", "v"), ("y",), facts)
    with pytest.raises(OpsetError, match="Attention with left_window_size=3 needs opset 25"):
        downgrade(Attention(left_window_size=3), windowed, 24)
    padded = Step({}, ("q", "k", "v", "", "", "", "n"), ("y",), (*facts, None, None, None, Fact(i64[1])))
    assert downgrade(Attention(), padded, 24).operands == padded.operands
    with pytest.raises(OpsetError, match="Attention with nonpad_kv_seqlen needs opset 24"):
        downgrade(Attention(), padded, 23)
    with pytest.raises(OpsetError, match="Attention needs opset"):
        downgrade(Attention(), Step({}, ("q", "k", "v"), ("y",), facts), 22)


# ---- RotaryEmbedding


@st.composite
def rotations(draw):
    batch, heads, positions, pairs, rest = (draw(few) for _ in range(5))
    partial = draw(st.booleans())
    x = normal(batch, heads, positions, 2 * pairs + 2 * rest * partial)
    attributes = {"interleaved": draw(st.integers(0, 1)), "rotary_embedding_dim": 2 * pairs * partial}
    if draw(st.booleans()):
        x, attributes["num_heads"] = joined(x), heads
    elif partial:
        attributes["num_heads"] = heads  # ONNX Runtime asks for it
    if draw(st.booleans()):
        caches = [normal(batch, positions, pairs, seed=1), normal(batch, positions, pairs, seed=2)]
        return attributes, [x, *caches]
    ids = ints(np.random.default_rng(draw(st.integers(0, 99))).integers(0, 5, (batch, positions)))
    return attributes, [x, normal(5, pairs, seed=1), normal(5, pairs, seed=2), ids]


@settings(deadline=None)
@given(rotations(), st.sampled_from([23, 26]))
def test_rotary_embedding(case, opset):
    attributes, arrays = case
    op = RotaryEmbedding(**attributes)
    check(op, arrays, opset=opset, scale=np.full(arrays[0].shape, 4.0))
    check_old("RotaryEmbedding", arrays, attributes, opset, scale=np.full(arrays[0].shape, 4.0))


def test_rotary_embedding_in_half_precision():
    arrays = [normal(1, 2, 3, 4), normal(1, 3, 2, seed=1), normal(1, 3, 2, seed=2)]
    check(RotaryEmbedding(), [a.astype(np.float16) for a in arrays], scale=np.full((1, 2, 3, 4), 4.0), ulps=2)


def test_types_of_rotary_embedding():
    x, cache = Fact(f32["N", 8, "S", 64]), Fact(f32["M", 32])
    assert inferred(RotaryEmbedding(), x, cache, cache, Fact(i64["N", "S"]))[0] == x.type
    unknown = Fact(TensorType(f32, None))
    assert inferred(RotaryEmbedding(), unknown, cache, cache, Fact(i64["N", "S"]))[0] == unknown.type
    flat = Fact(f32["N", "S", 512])
    assert inferred(RotaryEmbedding(num_heads=8), flat, unknown, unknown)[0] == flat.type
    assert RotaryEmbedding().macs((x, cache, cache), (f32[2],)) == N * 8 * S * 128
    assert RotaryEmbedding(num_heads=8, rotary_embedding_dim=16).macs((flat,), (f32[2],)) == N * 8 * S * 32


def test_refusals_of_rotary_embedding():
    x, cache, ids = normal(1, 2, 3, 4), normal(7, 2), ints([[0, 1, 2]])
    refuses(
        RotaryEmbedding(), [x, normal(7, 3), cache, ids], r"cos_cache is f32\[7, 3\], and its shape must be \[\?, 2\]"
    )
    refuses(
        RotaryEmbedding(), [x, cache, normal(6, 2), ids], r"sin_cache is f32\[6, 2\], and its shape must be \[7, 2\]"
    )
    refuses(RotaryEmbedding(), [x, cache, cache], r"cos_cache is f32\[7, 2\], and its shape must be \[1, 3, 2\]")
    refuses(RotaryEmbedding(), [x, cache, cache, ints([[0, 1]])], r"position_ids is i64\[1, 2\]")
    refuses(RotaryEmbedding(), [normal(1, 3, 8), cache, cache, ids], "the number of its heads is None")
    refuses(RotaryEmbedding(), [normal(3, 8), cache, cache, ids], "it has 3 axes or 4")
    refuses(RotaryEmbedding(), [normal(1, 2, 3, 5), cache, cache, ids], "all of 5 elements of a head cannot be turned")
    refuses(RotaryEmbedding(rotary_embedding_dim=6), [x, cache, cache, ids], "6 of 4 elements")
    refuses(RotaryEmbedding(rotary_embedding_dim=3), [x, cache, cache, ids], "rotary_embedding_dim is 3")
    refuses(RotaryEmbedding(), [x, cache.astype(np.float16), cache, ids], "one element type")
    for bad in (7, -1):
        with pytest.raises(NoKernelError, match="there are angles of 7 positions"):
            compute(RotaryEmbedding(), [x, cache, cache, ints([[0, bad, 1]])])
    with pytest.raises(NoKernelError, match="the number of heads is not given"):
        compute(RotaryEmbedding(), [floats(np.ones((1, 3, 4))), cache, cache, ids])
