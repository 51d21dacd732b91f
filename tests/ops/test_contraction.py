"""Einsum."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphopt
from graphopt import ops
from graphopt.errors import TypeRuleError
from graphopt.ir.dims import symbol
from graphopt.ir.types import TensorType, f16, f32
from graphopt.ops.contraction import Einsum, parsed
from graphopt.ops.room import Fact
from ops.cases_contraction import einsum
from ops.harness import check, compute, facts_of, inferred, magnitudes, normal, refuses, run_ort

B, N, C, H, W = map(symbol, "BNCHW")
UNKNOWN = Fact(TensorType(f32, None))


def shape_of(equation, *facts):
    made = inferred(Einsum(equation=equation), *facts)
    return None if made is None else made[0].shape


def macs_of(equation, *facts):
    op = Einsum(equation=equation)
    return op.macs(facts, inferred(op, *facts))


@settings(deadline=None)
@given(st.data())
def test_einsum(data):
    arrays, attributes, *_ = einsum(data, 12)
    op = Einsum(**attributes)
    check(op, arrays, scale=magnitudes(op, arrays), constants=data.draw(st.sampled_from([[], [0]])))


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("bhid,bhjd->bhij", [(2, 3, 4, 5), (2, 3, 6, 5)]),
        ("bij,bjk->bki", [(2, 3, 4), (2, 4, 5)]),
        ("...ij,...jk->...ik", [(5, 1, 2, 3), (1, 6, 3, 4)]),
        ("abc,cd,def->abef", [(2, 3, 4), (4, 5), (5, 6, 7)]),
        ("i...->...i", [(2, 3, 4)]),
        ("ij,jk", [(2, 3), (3, 4)]),
        ("iijj->ij", [(2, 2, 3, 3)]),
        ("i,->i", [(3,), ()]),
        ("i->i...", [(3,)]),
        ("", [()]),
        ("ij,ij->", [(0, 3), (0, 3)]),
    ],
)
def test_equations(equation, shapes):
    arrays = [normal(*s, seed=i) for i, s in enumerate(shapes)]
    check(Einsum(equation=equation), arrays, scale=magnitudes(Einsum(equation=equation), arrays))


@settings(deadline=None)
@given(st.sampled_from([1, 3]), st.sampled_from([1, 3]), st.sampled_from([1, 4]), st.sampled_from([1, 4]))
def test_ones_go_with_any_length(i, i2, j, j2):
    arrays = [normal(i, j), normal(i2, j2, seed=1)]
    for equation in ("ij,ij->ij", "ij,ij->j", "...j,...j->...j"):
        op = Einsum(equation=equation)
        check(op, arrays, scale=magnitudes(op, arrays), shape_inference=False)


def test_half_precision_is_summed_in_single():
    """4096 ones: in float16 a sum of ones ends at 2048."""
    ones = np.ones((1, 4096), np.float16)
    made = compute(Einsum(equation="ij,kj->ik"), [ones, ones])[0]
    assert made.dtype == np.float16
    assert made.item() == 4096
    check(Einsum(equation="ij,jk->ik"), [normal(2, 3).astype(np.float16), normal(3, 4).astype(np.float16)], ulps=4)


def test_capitals():
    """Capitals sort before small letters; without "->" ONNX Runtime takes none."""
    x, y = normal(2, 3), normal(3, 4)
    assert parsed("aB,ac").result.letters == "Bc"
    np.testing.assert_allclose(compute(Einsum(equation="ba,aB"), [x, y])[0], (x @ y).T, rtol=1e-5)
    with pytest.raises(Exception, match="only subscript labels allowed"):
        run_ort("Einsum", {"x": x, "y": y}, {"equation": "ba,aB"})


def test_symbols():
    assert shape_of("bhid,bhjd->bhij", Fact(f32[B, 8, N, 64]), Fact(f32[B, 8, C, 64])) == (B, 8, N, C)
    assert shape_of("...ij,jk->...ik", Fact(f32[B, H, N, 3]), Fact(f32[3, C])) == (B, H, N, C)
    assert shape_of("ij,jk", Fact(f32[N, 3]), Fact(f32[3, C])) == (N, C)
    assert shape_of("ii->i", Fact(f32[N, 3])) == (3,)
    assert shape_of("i,i->i", Fact(f32[N]), Fact(f32[7])) == (7,)
    assert str(shape_of("i,i->i", Fact(f32[N]), Fact(f32[C]))[0]).startswith("?")  # either may be 1
    assert len(shape_of("ij,jk->ik", Fact(f32[N, 3]), UNKNOWN)) == 2
    assert shape_of("...j,j->...", UNKNOWN, Fact(f32[3])) is None


def test_cost():
    """Of k operands each combination of indices takes k - 1 products."""
    assert macs_of("ij,jk->ik", Fact(f32[N, 3]), Fact(f32[3, C])) == 3 * N * C
    assert macs_of("...i,...i,i->...", Fact(f32[B, H, 5]), Fact(f32[B, H, 5]), Fact(f32[5])) == 10 * B * H
    assert macs_of("ij->ji", Fact(f32[N, 3])) == 0
    assert macs_of("i,i->i", Fact(f32[3]), UNKNOWN) == 0
    assert Einsum(equation="i,j").macs((Fact(f32[3]),), (f32[3],)) == 0


def test_forwards():
    for equation in ("ij->ij", "ij", "...", "a...b -> a...b"):
        check(Einsum(equation=equation), [normal(2, 3)])
        assert Einsum(equation=equation).forwards(UNKNOWN) == 0
    for equation in ("ji", "ij->ji", "ii->i", "i...", "i1"):
        assert Einsum(equation=equation).forwards(UNKNOWN) is None
    assert Einsum(equation="i,i->i").forwards(UNKNOWN, UNKNOWN) is None


@pytest.mark.parametrize(
    ("equation", "shapes", "reason"),
    [
        ("ij,jk->ik", [(2, 3)], "has 2 operands, and 1 are given"),
        ("ij,jk->ik", [(2, 3), (4, 5)], "the index 'j' of 'ij,jk->ik' has the lengths 3 and 4"),
        ("...,...", [(2,), (3,)], r"the index '\.\.\.' of '\.\.\.,\.\.\.' has the lengths 2 and 3"),
        ("...i,...i->...", [(2, 3), (3,)], r"the ellipses of .* stand for 1 and 0 axes"),
        ("ii->i", [(1, 3)], r"the index 'i' of 'ii->i' has two lengths in f32\[1, 3\]"),
        ("ij->i", [(2,)], r"f32\[2\] has not the 2 indices 'ij' of 'ij->i'"),
        ("i->i", [(2, 3)], r"f32\[2, 3\] has not the 1 indices 'i'"),
        ("ij->ik", [(2, 3)], "does not name different indices of its operands"),
        ("ij->jj", [(2, 3)], "does not name different indices"),
        ("i...->i", [(2, 3)], "lacks the ellipsis"),
        ("i1->i", [(2, 3)], "'i1' in the equation 'i1->i' is not made of letters and one ellipsis"),
        ("i.j->ij", [(2, 3)], "is not made of letters"),
        ("......->...", [(2, 3)], "is not made of letters"),
        ("i->i->i", [(2,)], "'i->i' in the equation"),
    ],
)
def test_refusals(equation, shapes, reason):
    refuses(Einsum(equation=equation), [normal(*s) for s in shapes], reason)
    with pytest.raises(Exception, match="Einsum"):
        run_ort("Einsum", {f"x{i}": normal(*s) for i, s in enumerate(shapes)}, {"equation": equation})


def test_types_differ():
    with pytest.raises(TypeRuleError, match="one element type"):
        Einsum(equation="i,i").infer(Fact(f32[2]), Fact(f16[2]))
    refuses(Einsum(equation="i,i"), [normal(2), np.ones(2, np.int64)], "one element type")
    assert facts_of([normal(2)])[0].dtype == f32


def test_function():
    graph = graphopt.trace(lambda x, y: ops.einsum("bij,bjk->bik", x, y), x=f32["N", 2, 3], y=f32["N", 3, 4])
    assert next(iter(graph.nodes)).op == Einsum(equation="bij,bjk->bik")
    assert graph.outputs[0].type == f32["N", 2, 4]
