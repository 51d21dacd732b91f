"""Einsum nodes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from hypothesis import strategies as st

from ops.cases import Case, Node
from ops.harness import normal

LETTERS = "abIJ"


def einsum(data: st.DataObject, _: int) -> Node:
    """Equations of up to three operands over four letters, repeated or not, with or without an ellipsis."""
    extents = {letter: data.draw(st.integers(1, 3)) for letter in LETTERS}
    hidden = data.draw(st.lists(st.integers(1, 3), max_size=2))
    has_ellipsis = data.draw(st.booleans())
    terms, arrays = [], []
    for i in range(data.draw(st.integers(1, 3))):
        letters = data.draw(st.text(LETTERS, max_size=3))
        at = data.draw(st.integers(0, len(letters))) if has_ellipsis and (i == 0 or data.draw(st.booleans())) else None
        shape = [extents[letter] for letter in letters]
        terms.append(letters if at is None else f"{letters[:at]}...{letters[at:]}")
        arrays.append(normal(*(shape if at is None else [*shape[:at], *hidden, *shape[at:]]), seed=i))
    equation = ",".join(terms)
    used = "".join(sorted(set(equation) & set(LETTERS)))
    if data.draw(st.booleans()) or used != used.lower():  # ONNX Runtime takes no capitals without "->"
        result = data.draw(st.lists(st.sampled_from(used), unique=True)) if used else []
        if has_ellipsis:
            result.insert(data.draw(st.integers(0, len(result))), "...")
        equation += "->" + "".join(result)
    if data.draw(st.booleans()):
        equation = equation.replace(",", " , ").replace("->", " -> ")
    kind = data.draw(st.sampled_from([np.float32, np.float32, np.int64, np.float64]))
    return Node([(a * 4).astype(kind) for a in arrays], {"equation": equation}, held=data.draw(st.booleans()), ulps=256)


CASES: Mapping[str, Case] = {"Einsum": einsum}
