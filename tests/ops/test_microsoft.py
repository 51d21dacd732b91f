"""What ONNX Runtime's optimizers write on floats, beside ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.ir.dims import symbol
from graphopt.ir.types import TensorType, f32
from graphopt.ops.microsoft import (
    BiasGelu,
    FastGelu,
    FusedGemm,
    FusedMatMul,
    Inverse,
    MicrosoftGelu,
    MicrosoftGridSample,
    MicrosoftTrilu,
    QuickGelu,
    SkipLayerNormalization,
)
from graphopt.ops.room import Fact, NoKernelError, Trait
from ops.harness import check, compute, inferred, magnitudes, normal, refuses

flags = st.integers(0, 1)
SPECIAL = np.array([np.nan, 0.0, -0.0, 1.0, -1.0, 3.0, -3.0, 20.0, -20.0], np.float32)


@settings(deadline=None)
@given(st.data(), flags, flags, flags, flags, st.sampled_from([1.0, 0.3]))
def test_matmul(data, transposed_a, transposed_b, batch_a, batch_b, alpha):
    """All axes are as long as they are after the exchange: batches [2, 3], 4 rows, 5 columns, 6 columns."""

    def laid_out(lead, rows, columns, transposed, batch):
        shape = [*lead, *((columns, rows) if transposed else (rows, columns))]
        return [shape[-2], *shape[:-2], shape[-1]] if batch else shape

    lead = data.draw(st.sampled_from([[2], [2, 3]] if batch_a or batch_b else [[], [2], [2, 3]]))
    a = normal(*laid_out(lead, 4, 5, transposed_a, batch_a))
    b = normal(*laid_out(lead, 5, 6, transposed_b, batch_b), seed=1)
    op = FusedMatMul(alpha=alpha, transA=transposed_a, transB=transposed_b, transBatchA=batch_a, transBatchB=batch_b)
    check(op, [a, b], scale=magnitudes(op, [a, b]))


def test_matmul_of_vectors_and_half_precision():
    check(FusedMatMul(transA=1, transB=1), [normal(5), normal(5, seed=1)])
    check(FusedMatMul(transA=1), [normal(5), normal(5, 6)])
    check(FusedMatMul(transB=1), [normal(2, 3, 5).astype(np.float16), normal(4, 5).astype(np.float16)])


ACTIVATIONS = [
    ("Relu", None, None), ("LeakyRelu", 0.2, None), ("Sigmoid", None, None), ("Tanh", None, None), ("Elu", 0.5, None),
    ("HardSigmoid", 0.3, 0.4), ("Softplus", None, None), ("Softsign", None, None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "alpha", "beta"), ACTIVATIONS)
def test_gemm(name, alpha, beta):
    op = FusedGemm(activation=name, activation_alpha=alpha, activation_beta=beta, transB=1, alpha=0.5, beta=2.0)
    check(op, [normal(3, 4), normal(5, 4), normal(5)])
    check(op, [normal(3, 4), normal(5, 4)])


def test_gemm_without_an_activation_and_with_an_unknown_one():
    arrays = [normal(3, 4), normal(4, 5)]
    np.testing.assert_array_equal(compute(FusedGemm(), arrays)[0], arrays[0] @ arrays[1])
    for op in (FusedGemm(activation="Gelu"), FusedGemm(activation="LeakyRelu")):
        with pytest.raises(NoKernelError, match="with these parameters is not known"):
            compute(op, arrays)


@pytest.mark.parametrize("op", [MicrosoftGelu(), QuickGelu(), QuickGelu(alpha=1.0), FastGelu()], ids=repr)
def test_activations(op):
    x = np.concatenate([SPECIAL, normal(200) * 3]).reshape(11, 19)
    check(op, [x])
    check(op, [x[1:].astype(np.float16)])


@pytest.mark.parametrize("op", [FastGelu(), BiasGelu()], ids=repr)
def test_activations_of_a_sum(op):
    check(op, [normal(2, 3, 8) * 3, normal(8)])
    check(op, [normal(2, 3, 8).astype(np.float16), normal(8).astype(np.float16)])


@settings(deadline=None)
@given(
    st.sampled_from([(2, 3, 8), (3, 8), (1, 3, 8)]),
    st.sampled_from([1, 4]),
    st.integers(0, 2),
    st.sampled_from([1e-12, 1e-3]),
)
def test_skip_layer_normalization(skip, results, more, epsilon):
    arrays = [normal(2, 3, 8), normal(*skip, seed=1), normal(8), *[normal(8, seed=i) for i in range(2, 2 + more)]]
    check(SkipLayerNormalization(epsilon=epsilon), arrays, results=results)


def test_skip_layer_normalization_of_matrices():
    check(SkipLayerNormalization(), [normal(3, 8), normal(3, 8, seed=1), normal(8), None, normal(8, seed=2)])


@pytest.mark.parametrize("upper", [0, 1])
def test_trilu(upper):
    check(MicrosoftTrilu(upper=upper), [normal(2, 3, 4), np.array(1)], exact=True)
    check(MicrosoftTrilu(upper=upper), [normal(2, 3, 4)], exact=True)


def test_inverse():
    x = normal(2, 4, 4) + 3 * np.eye(4, dtype=np.float32)
    check(Inverse(), [x], ulps=1000)
    with pytest.raises(NoKernelError, match="has no inverse"):
        compute(Inverse(), [np.zeros((2, 2), np.float32)])


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_grid_sample(mode, padding):
    check(MicrosoftGridSample(mode=mode, padding_mode=padding), [normal(2, 3, 4, 5), normal(2, 6, 7, 2)], ulps=1000)


# ---- Types and traits


def test_symbols_are_kept():
    a, b = Fact(f32["N", "S", 8]), Fact(f32["N", 6, 8])
    assert inferred(FusedMatMul(transB=1), a, b) == (f32["N", "S", 6],)
    assert FusedMatMul(transB=1).macs((a, b), (f32["N", "S", 6],)) == symbol("N") * symbol("S") * 48
    assert inferred(FusedGemm(transB=1), Fact(f32["N", 8]), Fact(f32[6, 8])) == (f32["N", 6],)
    assert FusedGemm(transB=1).macs((Fact(f32["N", 8]), Fact(f32[6, 8])), (f32["N", 6],)) == symbol("N") * 48
    for op in (MicrosoftGelu(), QuickGelu(), FastGelu()):
        assert inferred(op, a) == (a.type,)
    vector = Fact(f32[8])
    wanted = (a.type, f32["N", "S", 1], f32["N", "S", 1], a.type)
    assert inferred(SkipLayerNormalization(), a, a, vector) == wanted
    assert inferred(Inverse(), Fact(f32["N", "K", "K"])) == (f32["N", "K", "K"],)
    assert inferred(MicrosoftGridSample(), Fact(f32["N", 3, "H", "W"]), Fact(f32["N", 5, "L", 2])) == (
        f32["N", 3, 5, "L"],
    )


def test_what_is_known_without_a_rank():
    unknown = Fact(TensorType(f32, None))
    for op in (FusedMatMul(), FusedGemm(), BiasGelu()):
        assert inferred(op, unknown, unknown) == (unknown.type,)
    assert inferred(SkipLayerNormalization(), unknown, unknown, unknown) == (unknown.type,) * 4


def test_refusals():
    x = normal(2, 3, 8)
    refuses(FusedMatMul(), [x, normal(7, 2)], "8 columns do not meet 7 rows")
    refuses(FusedMatMul(), [x, np.zeros((8, 2))], "they must have one element type")
    refuses(FusedGemm(), [x, x], "Gemm takes matrices")
    refuses(BiasGelu(), [x, normal(3)], r"bias is f32\[3\], and its shape must be \[8\]")
    refuses(FastGelu(), [normal(), normal(1)], "has no last axis")
    refuses(SkipLayerNormalization(), [x, normal(2, 4, 8), normal(8)], "do not broadcast|does not broadcast")
    refuses(SkipLayerNormalization(), [x[:, :1], x, normal(8)], "does not broadcast")
    refuses(SkipLayerNormalization(), [x, x, normal(7)], "gamma is")
    refuses(SkipLayerNormalization(), [normal(8), normal(8), normal(8)], "2 or 3 axes")
    refuses(Inverse(), [x], "no square matrices")
    refuses(MicrosoftGridSample(mode="linear"), [normal(1, 1, 2, 2), normal(1, 2, 2, 2)], "mode is 'linear'")
    refuses(MicrosoftGridSample(), [normal(1, 1, 2), normal(1, 2, 1)], "x is")


def test_traits():
    x = normal(300) * 4
    for op in (MicrosoftGelu(), QuickGelu()):
        assert Trait.ACTIVATION in op.traits
        order = np.argsort(normal(300, seed=1))
        np.testing.assert_array_equal(compute(op, [x[order]])[0], compute(op, [x])[0][order])
    for cls in (FastGelu, BiasGelu, FusedGemm, SkipLayerNormalization):
        assert Trait.ACTIVATION not in cls.traits  # of more tensors than one
