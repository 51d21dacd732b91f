"""Matrix products: MatMul and Gemm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from graphopt.errors import TypeRuleError
from graphopt.ir.dims import Dim, product
from graphopt.ir.types import TensorType
from graphopt.ops.algebra import LinearWeights, Refused
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.broadcast import broadcast, fits
from graphopt.ops.room import NUMERIC, Adapter, Fact, Room, Step, operand, operator

__all__ = ["gemm", "matmul"]


@operator("MatMul", since=1)
class MatMul(Room, LinearWeights):
    """NumPy's matmul: products over the last two axes, the others broadcast. ONNX MatMul-13."""

    a = operand(NUMERIC)
    b = operand(NUMERIC)
    bias = None

    def channels(self, facts: tuple[Fact | None, ...]) -> tuple[int, int]:
        x, w = facts[0], facts[1]
        if x is None or w is None or x.type.shape is None or w.type.shape is None:
            raise Refused("the operands' ranks are not known")
        if w.rank != 2 or x.rank < 2:
            raise Refused(f"the weight is {w.type}: only a matrix has one output channel a column")
        count = w.shape[1]
        if not isinstance(count, int):
            raise Refused("the weight's shape is not known")
        return x.rank - 1, count

    def weight_scale(self, scale: np.ndarray, weight_shape: tuple[int, ...]) -> np.ndarray:
        return scale.reshape(1, -1)

    def infer(self, a: Fact, b: Fact) -> TensorType:
        if a.rank == 0 or b.rank == 0:
            raise TypeRuleError(f"{a.type} and {b.type}: MatMul takes no scalars")
        left = a.shape if a.rank > 1 else (1, *a.shape)
        right = b.shape if b.rank > 1 else (*b.shape, 1)
        if not fits(left[-1], right[-2]):
            raise TypeRuleError(f"{a.type} and {b.type}: {left[-1]} columns do not meet {right[-2]} rows")
        lead = broadcast(left[:-2], right[:-2])
        tail = (*((left[-2],) if a.rank > 1 else ()), *((right[-1],) if b.rank > 1 else ()))
        return TensorType(a.dtype, (*lead, *tail))

    def kernel(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(np.matmul(a, b))

    def macs(self, facts: tuple[Fact | None, ...], results: tuple[TensorType, ...]) -> Dim:
        a, out = facts[0], results[0].shape
        return 0 if a is None or out is None else product(out) * a.shape[-1]


def _below_11(step: Step) -> Step:
    """Until opset 10 Gemm's C could not be left out: a zero stands in for it."""
    if len(step.operands) > 2 and step.operands[2] != "":
        return step
    from graphopt.ir.constant import Constant

    known = step.facts[0]
    dtype = np.dtype(np.float32) if known is None else known.dtype.numpy
    return replace(step, operands=(*step.operands[:2], Constant.of(np.zeros((1,), dtype))))


@operator("Gemm", since=1)
class Gemm(Room, LinearWeights):
    """alpha · A' · B' + beta · C, where A' and B' may be transposed and C is broadcast. ONNX Gemm-13."""

    a = operand(NUMERIC)
    b = operand(NUMERIC)
    c = operand(NUMERIC, optional=True)
    alpha: float = 1.0
    beta: float = 1.0
    transA: int = 0  # noqa: N815  # ONNX's names
    transB: int = 0  # noqa: N815
    adapters = (Adapter(11, up=lambda step: step, down=_below_11),)

    def channels(self, facts: tuple[Fact | None, ...]) -> tuple[int, int]:
        w = facts[1]
        count = None if w is None or w.type.shape is None else w.shape[0 if self.transB else 1]
        if not isinstance(count, int):
            raise Refused("the weight's shape is not known")
        return 1, count

    def weight_scale(self, scale: np.ndarray, weight_shape: tuple[int, ...]) -> np.ndarray:
        return scale.reshape(-1, 1) if self.transB else scale.reshape(1, -1)

    def with_bias(self, bias: np.ndarray | None, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
        return (0.0 if bias is None else bias.astype(np.float64) * self.beta) * scale + shift

    def folded(self) -> Gemm:
        return replace(self, beta=1.0)

    def infer(self, a: Fact, b: Fact, c: Fact | None = None) -> TensorType:
        if a.rank != 2 or b.rank != 2:
            raise TypeRuleError(f"{a.type} and {b.type}: Gemm takes matrices")
        m, k = a.shape[::-1] if self.transA else a.shape
        k2, n = b.shape[::-1] if self.transB else b.shape
        if not fits(k, k2):
            raise TypeRuleError(f"{a.type} and {b.type}: {k} columns do not meet {k2} rows")
        if c is not None and c.type.shape is not None:
            broadcast((m, n), c.shape)
            if c.rank > 2:
                raise TypeRuleError(f"the bias is {c.type} and the product has rank 2")
        return TensorType(a.dtype, (m, n))

    def kernel(self, a: np.ndarray, b: np.ndarray, c: np.ndarray | None = None) -> np.ndarray:
        product_ = (a.T if self.transA else a) @ (b.T if self.transB else b)
        y = product_ if self.alpha == 1 else product_ * _factor(self.alpha, a.dtype)
        if c is not None:
            y = y + (c if self.beta == 1 else c * _factor(self.beta, a.dtype))
        return np.asarray(y.astype(a.dtype, copy=False))

    def macs(self, facts: tuple[Fact | None, ...], results: tuple[TensorType, ...]) -> Dim:
        a, out = facts[0], results[0].shape
        return 0 if a is None or out is None else product(out) * a.shape[0 if self.transA else 1]


def _factor(value: float, dtype: np.dtype) -> np.generic:
    """The factor alpha or beta in the operands' type (integer products take their whole part)."""
    factor: np.generic = dtype.type(value)
    return factor


def matmul(a: Like, b: Like) -> Operand:
    """The matrix product over the last two axes."""
    return apply(MatMul(), a, b)


def gemm(
    a: Like,
    b: Like,
    c: Like | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,  # noqa: N803  # ONNX's names
    transB: int = 0,  # noqa: N803
) -> Operand:
    """The matrix alpha · A' · B' + beta · C."""
    return apply(Gemm(alpha=alpha, beta=beta, transA=transA, transB=transB), a, b, c)
