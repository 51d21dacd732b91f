"""Random tensors: their types beside ONNX Runtime and onnx's inference. Nobody computes them."""

import numpy as np
import onnx
import pytest

from graphopt.errors import OpsetError
from graphopt.ir.attributes import Attribute
from graphopt.ir.types import TensorType, bf16, boolean, dtype_of, f16, f32, f64, i32, i64
from graphopt.onnx_format.opset import downgrade, upgrade
from graphopt.ops.room import Fact, Step
from graphopt.ops.sampling import (
    Bernoulli,
    Multinomial,
    RandomNormal,
    RandomNormalLike,
    RandomUniform,
    RandomUniformLike,
)
from ops.harness import facts_of, inferred, model, normal, refuses, run_ort

X = np.abs(normal(2, 3)) / np.float32(8)
CASES = [
    (RandomNormal(shape=(2, 3)), None),
    (RandomNormal(shape=(2, 0), dtype=11, mean=1.0, scale=2.0, seed=3.0), None),
    (RandomUniform(shape=(4,), low=-1.0, high=2.0), None),
    (RandomNormalLike(), X),
    (RandomNormalLike(dtype=11, seed=1.0), X),
    (RandomUniformLike(), X),
    (RandomUniformLike(dtype=1), np.arange(4)),
    (Bernoulli(), X),
    (Bernoulli(dtype=7), X),
    (Bernoulli(dtype=9, seed=2.0), X),
    (Multinomial(), X),
    (Multinomial(sample_size=5, dtype=7), X),
]
ids = [str(op) for op, _ in CASES]


@pytest.mark.parametrize(("op", "x"), CASES, ids=ids)
def test_types(op, x):
    """ONNX Runtime has kernels of the definitions before opset 22 alone."""
    inputs = {} if x is None else {"x": x}
    (rule,) = inferred(op, *facts_of(list(inputs.values()), ()))
    for opset in (15, 21):
        (made,) = run_ort(op.name, inputs, op.attributes, opset=opset)
        assert rule == TensorType(dtype_of(made.dtype), made.shape)
    told = onnx.shape_inference.infer_shapes(model(op.name, inputs, op.attributes, static=True), strict_mode=True)
    kind = told.graph.output[0].type.tensor_type
    assert kind.elem_type == rule.dtype.code
    assert tuple(d.dim_value for d in kind.shape.dim) == rule.shape


@pytest.mark.parametrize(("op", "x"), CASES, ids=ids)
def test_up_and_down(op, x):
    names = () if x is None else ("x",)
    step = Step(op.attributes, names, ("r",), facts_of([] if x is None else [x], ()))
    for opset in (max(op.since, 7), 15, 21, 22, 26):
        lowered = downgrade(op, step, opset)
        assert dict(lowered.attributes) == dict(op.attributes)
        assert upgrade("", op.name, lowered, opset)[0] == op


@pytest.mark.parametrize(("op", "x"), CASES, ids=ids)
def test_nobody_computes_them(op, x):
    assert not op.is_pure(*facts_of([] if x is None else [x]))
    assert not hasattr(op, "kernel")


def test_symbolic_and_unknown_shapes():
    x, unknown = Fact(f32["N", 3]), Fact(TensorType(f32, None))
    assert RandomNormalLike(dtype=10).infer(x) == f16["N", 3]
    assert RandomUniformLike().infer(unknown) == TensorType(f32, None)
    assert Bernoulli(dtype=9).infer(x) == boolean["N", 3]
    assert Multinomial(sample_size=4).infer(x) == i32["N", 4]
    assert Multinomial(sample_size=4, dtype=7).infer(Fact(f64["N", 3])) == i64["N", 4]
    rows, samples = Multinomial().infer(unknown).shape
    assert str(rows).startswith("?")
    assert samples == 1
    assert 0 in RandomNormalLike.type_only
    assert 0 not in Bernoulli.type_only


def test_refusals():
    refuses(RandomNormal(shape=(2, -1)), [], r"the shape \[2, -1\] has a negative dim")
    refuses(RandomUniform(shape=(2,), dtype=7), [], "RandomUniform gives float, and no i64")
    refuses(RandomUniform(shape=(2,), dtype=99), [], "element type 99")
    refuses(RandomNormalLike(), [np.arange(3)], "RandomNormalLike gives float, and no i64")
    refuses(Bernoulli(dtype=8), [X], "and no str")
    refuses(Bernoulli(), [np.arange(3)], "takes float")
    refuses(Multinomial(), [normal(3)], r"f32\[3\] is no list of rows")
    refuses(Multinomial(dtype=1), [X], "i32 or i64, and not element type 1")
    refuses(Multinomial(sample_size=0), [X], "at least one sample is drawn, and not 0")


def test_what_older_opsets_lack():
    def lowered(op, fact, opset):
        given = () if fact is None else (fact,)
        return downgrade(op, Step(op.attributes, ("x",) * len(given), ("r",), given), opset)

    for op, fact in (
        (RandomNormal(shape=(2,), dtype=16), None),
        (RandomUniform(shape=(2,), dtype=16), None),
        (RandomNormalLike(dtype=16), Fact(f32[2])),
        (RandomUniformLike(dtype=16), Fact(f32[2])),
    ):
        with pytest.raises(OpsetError, match=f"{op.name} in bf16 needs opset 22"):
            lowered(op, fact, 21)
        assert all(isinstance(a, Attribute) for a in lowered(op, fact, 22).attributes.values())
    for op in (RandomNormalLike(), Bernoulli(), Multinomial()):
        with pytest.raises(OpsetError, match=f"{op.name} of bf16 needs opset"):
            lowered(op, Fact(bf16[2, 2]), 21)
    with pytest.raises(OpsetError, match="Bernoulli needs opset"):
        lowered(Bernoulli(), Fact(f32[2]), 14)
