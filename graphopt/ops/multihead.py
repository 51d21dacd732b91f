"""Attention and RotaryEmbedding.

Tensors are [batch, heads, positions, size], or [batch, positions, heads · size] where the heads are attributes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from graphopt.errors import TypeRuleError
from graphopt.ir.dims import Dim, floor_div
from graphopt.ir.types import Shape, TensorType
from graphopt.ops.adapters import attribute_needs, operand_needs
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.broadcast import broadcasts_to, fits
from graphopt.ops.expect import dims_of, expect_one_type, expect_shape, same_dim
from graphopt.ops.room import (
    BOOL,
    FLOAT,
    INTEGER,
    NUMERIC,
    Fact,
    NoKernelError,
    Room,
    Trait,
    UnknownRankError,
    operand,
    operator,
    unknown_dim,
)
from graphopt.ops.single import at_least_single, in_single, stored

__all__ = ["attention", "rotary_embedding"]

_PRECISIONS = (1, 10, 11, 16)  # element types that softmax_precision may name


def _by_head(name: str, fact: Fact, rank: int, heads: int | None) -> Shape:
    """The dims [batch, heads, positions, size] of an operand of `rank` axes.

    Raises:
        TypeRuleError: it has another rank, or its elements do not divide among the heads.
    """
    expect_shape(name, fact, (None,) * rank)
    if rank == 4:
        return dims_of(fact, 4)
    if heads is None or heads < 1:
        raise TypeRuleError(f"{name} is {fact.type}, and the number of its heads is {heads}")
    batch, positions, hidden = dims_of(fact, 3)
    if isinstance(hidden, int) and hidden % heads:
        raise TypeRuleError(f"{name} is {fact.type}, which does not divide into {heads} heads")
    return batch, heads, positions, floor_div(hidden, heads)


def _split(x: np.ndarray, heads: int | None) -> np.ndarray:
    """A tensor as [batch, heads, positions, size]."""
    if x.ndim == 4:
        return x
    if heads is None:
        raise NoKernelError("the number of heads is not given")
    return x.reshape(*x.shape[:2], heads, x.shape[2] // heads).swapaxes(1, 2)


def _joined(x: np.ndarray) -> np.ndarray:
    """[batch, heads, positions, size] as [batch, positions, heads · size]."""
    return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], x.shape[1] * x.shape[3])


class _Sizes(NamedTuple):
    """What the operands of an attention agree on."""

    rank: int
    batch: Dim
    heads: Dim
    kept_heads: Dim  # of keys and values; each serves several heads of queries
    queries: Dim
    keys: Dim  # those of the past too
    size: Dim
    value_size: Dim


@operator("Attention", since=23)
class Attention(Room):
    """softmax(q·k' · scale + bias) · v by head; the bias is -inf where a key may not be seen. ONNX Attention-25.

    Keys may be seen where the mask has it; with is_causal up to the query's own position; in a window around it; up
    to nonpad_kv_seqlen. Where no key may be seen the result is 0. Between product and bias, softcap · tanh(· /
    softcap). Further results are keys and values, those of the past before them, and one of four steps on the way.
    softmax_precision says how to round, and is not followed.
    """

    q = operand(FLOAT)
    k = operand(FLOAT)
    v = operand(FLOAT)
    attn_mask = operand(NUMERIC | BOOL, optional=True)
    past_key = operand(FLOAT, optional=True)
    past_value = operand(FLOAT, optional=True)
    nonpad_kv_seqlen = operand(INTEGER, optional=True)
    is_causal: int = 0
    kv_num_heads: int | None = None
    left_window_size: int = -1
    q_num_heads: int | None = None
    qk_matmul_output_mode: int = 0
    right_window_size: int = -1
    scale: float | None = None
    softcap: float = 0.0
    softmax_precision: int | None = None
    adapters = (
        operand_needs("Attention", 24, "nonpad_kv_seqlen", 6),
        attribute_needs("Attention", 25, "left_window_size", -1),
        attribute_needs("Attention", 25, "right_window_size", -1),
    )

    # Types

    def infer(
        self,
        q: Fact,
        k: Fact,
        v: Fact,
        attn_mask: Fact | None = None,
        past_key: Fact | None = None,
        past_value: Fact | None = None,
        nonpad_kv_seqlen: Fact | None = None,
    ) -> tuple[TensorType, ...]:
        self._check_attributes()
        expect_one_type(q=q, k=k, past_key=past_key)
        expect_one_type(v=v, past_value=past_value)
        try:
            s = self._sizes(q, k, v, past_key, past_value)
        except UnknownRankError:
            return tuple(TensorType(t, None) for t in (q.dtype, q.dtype, v.dtype, q.dtype))
        if nonpad_kv_seqlen is not None and past_key is not None:
            raise TypeRuleError("nonpad_kv_seqlen and past_key are both given, and only one of them says what is past")
        expect_shape("nonpad_kv_seqlen", nonpad_kv_seqlen, (s.batch,))
        _check_mask(attn_mask, (s.batch, s.heads, s.queries, s.keys))
        y = (s.batch, s.heads, s.queries, s.value_size)
        joined = (s.batch, s.queries, s.heads * s.value_size)
        return (
            TensorType(q.dtype, y if s.rank == 4 else joined),
            TensorType(q.dtype, (s.batch, s.kept_heads, s.keys, s.size)),
            TensorType(v.dtype, (s.batch, s.kept_heads, s.keys, s.value_size)),
            TensorType(q.dtype, (s.batch, s.heads, s.queries, s.keys)),
        )

    def _check_attributes(self) -> None:
        if not 0 <= self.qk_matmul_output_mode <= 3:
            raise TypeRuleError(f"qk_matmul_output_mode is {self.qk_matmul_output_mode}, and it is from 0 to 3")
        if min(self.left_window_size, self.right_window_size) < -1:
            raise TypeRuleError(
                f"the window has {self.left_window_size} positions on its left and {self.right_window_size} on its "
                "right: -1 for all, 0 or more"
            )
        if self.softmax_precision is not None and self.softmax_precision not in _PRECISIONS:
            raise TypeRuleError(f"softmax_precision is {self.softmax_precision}, which names none of the floats")

    def _sizes(self, q: Fact, k: Fact, v: Fact, past_key: Fact | None, past_value: Fact | None) -> _Sizes:
        rank = next((f.rank for f in (q, k, v) if f.type.shape is not None), None)
        if rank is None:
            raise UnknownRankError
        if rank not in (3, 4):
            raise TypeRuleError(f"q is {q.type}, k {k.type} and v {v.type}: all have 3 axes, or all 4")
        batch, heads, queries, size = _by_head("q", q, rank, self.q_num_heads)
        of_keys = _by_head("k", k, rank, self.kv_num_heads)
        of_values = _by_head("v", v, rank, self.kv_num_heads)
        agreed = [same_dim(a, b) for a, b in zip(of_keys[:3], of_values[:3], strict=True)]
        batch, kept, new = same_dim(batch, agreed[0]), agreed[1], agreed[2]
        size, value_size = same_dim(size, of_keys[3]), of_values[3]
        for name, dims, wanted in (
            ("k", of_keys, (batch, kept, new, size)),
            ("v", of_values, (batch, kept, new, None)),
        ):
            if not all(w is None or fits(w, d) for w, d in zip(wanted, dims, strict=True)):
                text = ", ".join("?" if w is None else str(w) for w in wanted)
                raise TypeRuleError(f"{name} is {', '.join(map(str, dims))} by head, and it must be {text}")
        if isinstance(heads, int) and isinstance(kept, int) and (kept < 1 or heads % kept):
            raise TypeRuleError(f"{heads} heads of queries do not divide among {kept} of keys")
        if (past_key is None) != (past_value is None):
            raise TypeRuleError("past_key and past_value are given together or not at all")
        if past_key is None:
            return _Sizes(rank, batch, heads, kept, queries, new, size, value_size)
        expect_shape("past_key", past_key, (batch, kept, None, size))
        expect_shape("past_value", past_value, (None, None, None, None))
        past = same_dim(dims_of(past_key, 4)[2], dims_of(past_value, 4)[2])
        expect_shape("past_value", past_value, (batch, kept, past, value_size))
        return _Sizes(rank, batch, heads, kept, queries, past + new, size, value_size)

    # Kernel

    def kernel(
        self,
        q: np.ndarray,
        k: np.ndarray,
        v: np.ndarray,
        attn_mask: np.ndarray | None = None,
        past_key: np.ndarray | None = None,
        past_value: np.ndarray | None = None,
        nonpad_kv_seqlen: np.ndarray | None = None,
    ) -> tuple[np.ndarray, ...]:
        rank, kinds = q.ndim, (q.dtype, q.dtype, v.dtype, q.dtype)
        q, k, v = _split(q, self.q_num_heads), _split(k, self.kv_num_heads), _split(v, self.kv_num_heads)
        offset = np.zeros((), np.int64) if past_key is None else np.asarray(past_key.shape[2])
        if past_key is not None and past_value is not None:
            k, v = np.concatenate([past_key, k], axis=2), np.concatenate([past_value, v], axis=2)
        ends = None if nonpad_kv_seqlen is None else nonpad_kv_seqlen.reshape(-1, 1, 1, 1).astype(np.int64)
        if ends is not None:
            offset = ends - q.shape[2]
        q, wide_k, wide_v = map(at_least_single, (q, k, v))
        if q.shape[1] != k.shape[1]:
            wide_k, wide_v = (np.repeat(a, q.shape[1] // k.shape[1], axis=1) for a in (wide_k, wide_v))
        bias = self._bias(q, k.shape[2], attn_mask, offset, ends)
        root = np.sqrt(q.dtype.type(q.shape[3] ** -0.5 if self.scale is None else stored(self.scale)))
        product = (q * root) @ (wide_k * root).swapaxes(2, 3)
        capped = product
        if self.softcap > 0:
            cap = q.dtype.type(stored(self.softcap))
            capped = np.tanh(product / cap) * cap
        shares = _softmax(capped + bias, bias)
        y = shares.astype(wide_v.dtype, copy=False) @ wide_v
        shown = (product, capped, capped + bias, shares)[self.qk_matmul_output_mode]
        made = (y if rank == 4 else _joined(y), k, v, shown)
        return tuple(np.ascontiguousarray(m).astype(kind, copy=False) for m, kind in zip(made, kinds, strict=True))

    def _bias(
        self, q: np.ndarray, keys: int, mask: np.ndarray | None, offset: np.ndarray, ends: np.ndarray | None
    ) -> np.ndarray:
        """What is added to the products, broadcast to [batch, heads, queries, keys]."""
        position, key = np.arange(q.shape[2])[:, None] + offset, np.arange(keys)
        seen = np.ones((1, 1, q.shape[2], keys), bool)
        if self.is_causal:
            seen = seen & (key <= position)
        if self.left_window_size >= 0:
            seen = seen & (position - key <= self.left_window_size)
        if self.right_window_size >= 0:
            seen = seen & (key - position <= self.right_window_size)
        if ends is not None:
            seen = seen & (key < ends)
        bias = np.zeros((), q.dtype)
        if mask is not None:
            short = keys - mask.shape[-1]
            if short > 0 and mask.shape[-1] != 1:
                fill = False if mask.dtype == bool else -np.inf
                mask = np.pad(
                    mask if mask.dtype == bool else mask.astype(q.dtype),
                    [(0, 0)] * (mask.ndim - 1) + [(0, short)],
                    constant_values=fill,
                )
            if mask.dtype == bool:
                seen = seen & mask
            else:
                bias = mask.astype(q.dtype)
        return np.asarray(np.where(seen, bias, q.dtype.type(-np.inf)))

    def macs(self, facts: tuple[Fact | None, ...], results: tuple[TensorType, ...]) -> Dim:
        """The products of queries with keys, and of their shares with the values."""
        q, k, v, past_key, past_value = (facts[i] if len(facts) > i else None for i in (0, 1, 2, 4, 5))
        if q is None or k is None or v is None or not results:
            return 0
        s = self._sizes(q, k, v, past_key, past_value)
        return s.batch * s.heads * s.queries * s.keys * (s.size + s.value_size)


def _check_mask(mask: Fact | None, target: Shape) -> None:
    """A mask broadcasts to the products; it may have fewer keys."""
    shape = None if mask is None else mask.type.shape
    if mask is None or shape is None:
        return
    keys, have = target[-1], shape[-1] if shape else 0
    fewer = not isinstance(have, int) or not isinstance(keys, int) or have <= keys
    if not 1 <= len(shape) <= 4 or not fewer or not broadcasts_to(shape[:-1], target[:-1]):
        text = ", ".join(map(str, target))
        raise TypeRuleError(f"attn_mask is {mask.type}, and it must broadcast to [{text}]")


def _softmax(scores: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """By the last axis; 0 where the bias leaves nothing."""
    nothing = np.isneginf(bias.max(axis=-1, keepdims=True, initial=-np.inf))
    top = scores.max(axis=-1, keepdims=True, initial=-np.inf)
    shifted = np.exp(scores - np.where(np.isneginf(top), scores.dtype.type(0), top))
    total = shifted.sum(axis=-1, keepdims=True)
    return np.where(nothing, scores.dtype.type(0), shifted / np.where(total == 0, scores.dtype.type(1), total))


@operator("RotaryEmbedding", since=23)
class RotaryEmbedding(Room):
    """Pairs of elements turned by the angle of their position: (a·cos - b·sin, a·sin + b·cos). ONNX RotaryEmbedding-23.

    Cosines and sines are [positions, pairs], picked by position_ids [batch, positions], or [batch, positions, pairs].
    A pair's elements lie half of rotary_embedding_dim apart, or beside each other where they are interleaved.
    """

    x = operand(FLOAT)
    cos_cache = operand(FLOAT)
    sin_cache = operand(FLOAT)
    position_ids = operand(INTEGER, optional=True)
    interleaved: int = 0
    num_heads: int | None = None
    rotary_embedding_dim: int = 0
    traits = frozenset({Trait.PARTIAL})

    def infer(self, x: Fact, cos_cache: Fact, sin_cache: Fact, position_ids: Fact | None = None) -> TensorType:
        expect_one_type(x=x, cos_cache=cos_cache, sin_cache=sin_cache)
        if self.rotary_embedding_dim < 0 or self.rotary_embedding_dim % 2:
            raise TypeRuleError(f"rotary_embedding_dim is {self.rotary_embedding_dim}, and it is even and not negative")
        batch, positions, pairs = unknown_dim(), unknown_dim(), unknown_dim()
        if x.type.shape is not None:
            batch, _, positions, size = self._dims(x)
            pairs = floor_div(size, 2)
        if self.rotary_embedding_dim:
            pairs = self.rotary_embedding_dim // 2
        if position_ids is None:
            wanted: tuple[Dim | None, ...] = (batch, positions, pairs)
        else:
            expect_shape("position_ids", position_ids, (batch, positions))
            wanted = (None, pairs)
        expect_shape("cos_cache", cos_cache, wanted)
        expect_shape("sin_cache", sin_cache, dims_of(cos_cache, len(wanted)))
        return x.type

    def _dims(self, x: Fact) -> Shape:
        """[batch, heads, positions, size]."""
        if x.rank not in (3, 4):
            raise TypeRuleError(f"x is {x.type}, and it has 3 axes or 4")
        dims = _by_head("x", x, x.rank, self.num_heads)
        size = dims[3]
        if isinstance(size, int) and (size < self.rotary_embedding_dim or (size % 2 and not self.rotary_embedding_dim)):
            raise TypeRuleError(f"{self.rotary_embedding_dim or 'all'} of {size} elements of a head cannot be turned")
        return dims

    @in_single
    def kernel(
        self, x: np.ndarray, cos_cache: np.ndarray, sin_cache: np.ndarray, position_ids: np.ndarray | None = None
    ) -> np.ndarray:
        y = _split(x, self.num_heads).copy()
        turned = y[..., : self.rotary_embedding_dim or y.shape[3]]
        pairs = turned.shape[3] // 2
        if position_ids is not None:
            if ((position_ids < 0) | (position_ids >= len(cos_cache))).any():
                raise NoKernelError(f"there are angles of {len(cos_cache)} positions, and another one is asked for")
            cos_cache, sin_cache = cos_cache[position_ids], sin_cache[position_ids]
        cos, sin = cos_cache[:, None], sin_cache[:, None]
        at = (slice(0, None, 2), slice(1, None, 2)) if self.interleaved else (slice(0, pairs), slice(pairs, None))
        a, b = turned[..., at[0]].copy(), turned[..., at[1]].copy()
        turned[..., at[0]], turned[..., at[1]] = a * cos - b * sin, a * sin + b * cos
        return y if x.ndim == 4 else _joined(y)

    def macs(self, facts: tuple[Fact | None, ...], results: tuple[TensorType, ...]) -> Dim:
        """Four for each pair."""
        if facts[0] is None or not results:
            return 0
        batch, heads, positions, size = self._dims(facts[0])
        return batch * heads * positions * (self.rotary_embedding_dim or size) * 2


def attention(
    q: Like,
    k: Like,
    v: Like,
    attn_mask: Like | None = None,
    *,
    is_causal: bool = False,
    q_num_heads: int | None = None,
    kv_num_heads: int | None = None,
    scale: float | None = None,
    softcap: float = 0.0,
) -> Operand:
    """Scaled dot-product attention by head; see `Attention`."""
    op = Attention(
        is_causal=int(is_causal), q_num_heads=q_num_heads, kv_num_heads=kv_num_heads, scale=scale, softcap=softcap
    )
    return apply(op, q, k, v, attn_mask)


def rotary_embedding(
    x: Like,
    cos_cache: Like,
    sin_cache: Like,
    position_ids: Like | None = None,
    *,
    interleaved: bool = False,
    num_heads: int | None = None,
    rotary_embedding_dim: int = 0,
) -> Operand:
    """Pairs of elements turned by the angle of their position; see `RotaryEmbedding`."""
    op = RotaryEmbedding(int(interleaved), num_heads, rotary_embedding_dim)
    return apply(op, x, cos_cache, sin_cache, position_ids)
