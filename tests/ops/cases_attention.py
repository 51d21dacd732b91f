"""Cases of attention."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import strategies as st

from ops.cases import Case, Node, ints, some
from ops.harness import normal


def attention(data: st.DataObject, opset: int) -> Node:
    q, k, v = normal(2, 4, 3, 4), normal(2, 2, 5, 4, seed=1), normal(2, 2, 5, 3, seed=2)
    attributes = some(data, {"is_causal": 1, "softcap": 2.0, "scale": 0.5})
    mask = normal(3, 5) if data.draw(st.booleans()) else None
    if opset >= 24 and data.draw(st.booleans()):
        return Node([q, k, v, mask, None, None, ints([3, 5])], attributes, held=False, ulps=1024)
    if data.draw(st.booleans()):
        q, k, v = (a.swapaxes(1, 2).reshape(2, a.shape[2], -1).copy() for a in (q, k, v))
        attributes |= {"q_num_heads": 4, "kv_num_heads": 2}
    return Node([q, k, v] if mask is None else [q, k, v, mask], attributes, held=False, ulps=1024)


def rotary_embedding(data: st.DataObject, _: int) -> Node:
    attributes = some(data, {"interleaved": 1})
    if data.draw(st.booleans()):
        attributes |= {"rotary_embedding_dim": 4, "num_heads": 2}
    pairs = 2 if "rotary_embedding_dim" in attributes else 3
    caches = [normal(7, pairs, seed=1), normal(7, pairs, seed=2)]
    return Node([normal(1, 2, 3, 6), *caches, ints([[6, 0, 3]])], attributes, held=data.draw(st.booleans()), ulps=256)


CASES: Mapping[str, Case] = {"Attention": attention, "RotaryEmbedding": rotary_embedding}
