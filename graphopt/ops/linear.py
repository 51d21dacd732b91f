"""Matrix products: MatMul and Gemm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from graphopt.errors import TypeRuleError
from graphopt.ir.constant import Constant
from graphopt.ir.dims import Dim, product
from graphopt.ir.types import TensorType
from graphopt.ops.adapters import given, same, with_operand
from graphopt.ops.algebra import LinearWeights, Refused
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.broadcast import broadcast, fits
from graphopt.ops.room import NUMERIC, Adapter, Fact, NoKernelError, Room, Step, operand, operator
from graphopt.ops.single import in_single

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
        _check_types("MatMul", a, b)
        if a.rank == 0 or b.rank == 0:
            raise TypeRuleError(f"{a.type} and {b.type}: MatMul takes no scalars")
        left = a.shape if a.rank > 1 else (1, *a.shape)
        right = b.shape if b.rank > 1 else (*b.shape, 1)
        if not fits(left[-1], right[-2]):
            raise TypeRuleError(f"{a.type} and {b.type}: {left[-1]} columns do not meet {right[-2]} rows")
        lead = broadcast(left[:-2], right[:-2])
        tail = (*((left[-2],) if a.rank > 1 else ()), *((right[-1],) if b.rank > 1 else ()))
        return TensorType(a.dtype, (*lead, *tail))

    @in_single
    def kernel(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(np.matmul(a, b))

    def macs(self, facts: tuple[Fact | None, ...], results: tuple[TensorType, ...]) -> Dim:
        a, out = facts[0], results[0].shape
        return 0 if a is None or out is None else product(out) * a.shape[-1]


def _check_types(name: str, *operands: Fact) -> None:
    if len({o.dtype for o in operands}) > 1:
        raise TypeRuleError(f"{' and '.join(str(o.type) for o in operands)}: {name} takes one element type")


def _below_11(step: Step) -> Step:
    """Until opset 10 Gemm's C could not be left out: a zero stands in for it."""
    if given(step, 2):
        return step
    known = step.facts[0]
    dtype = np.dtype(np.float32) if known is None else known.dtype.numpy
    return with_operand(step, 2, Constant.of(np.zeros((1,), dtype)))


@operator("Gemm", since=1)
class Gemm(Room, LinearWeights):
    """alpha · A' · B' + beta · C, where A' and B' may be transposed and C is broadcast. ONNX Gemm-13.

    With beta 0 C does not count at all, not even where it is NaN.
    """

    a = operand(NUMERIC)
    b = operand(NUMERIC)
    c = operand(NUMERIC, optional=True)
    alpha: float = 1.0
    beta: float = 1.0
    transA: int = 0  # noqa: N815  # ONNX's names
    transB: int = 0  # noqa: N815
    adapters = (Adapter(11, same, _below_11),)

    def channels(self, facts: tuple[Fact | None, ...]) -> tuple[int, int]:
        w = facts[1]
        count = None if w is None or w.type.shape is None else w.shape[0 if self.transB else 1]
        if not isinstance(count, int):
            raise Refused("the weight's shape is not known")
        return 1, count

    def weight_scale(self, scale: np.ndarray, weight_shape: tuple[int, ...]) -> np.ndarray:
        return scale.reshape(-1, 1) if self.transB else scale.reshape(1, -1)

    def with_bias(self, bias: np.ndarray | None, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
        if bias is None or self.beta == 0:
            return 0.0 * scale + shift
        return bias.astype(np.float64) * float(np.float32(self.beta)) * scale + shift

    def folded(self) -> Gemm:
        return replace(self, beta=1.0)

    def infer(self, a: Fact, b: Fact, c: Fact | None = None) -> TensorType:
        _check_types("Gemm", *(o for o in (a, b, c) if o is not None))
        if a.rank != 2 or b.rank != 2:
            raise TypeRuleError(f"{a.type} and {b.type}: Gemm takes matrices")
        m, k = a.shape[::-1] if self.transA else a.shape
        k2, n = b.shape[::-1] if self.transB else b.shape
        if not fits(k, k2):
            raise TypeRuleError(f"{a.type} and {b.type}: {k} columns do not meet {k2} rows")
        if c is not None and c.type.shape is not None:
            to = (m, n)[2 - c.rank :] if c.rank <= 2 else ()
            if c.rank > 2 or not all(d == 1 or fits(d, have) for d, have in zip(c.shape, to, strict=True)):
                raise TypeRuleError(f"the bias {c.type} does not broadcast to the product [{m}, {n}]")
        return TensorType(a.dtype, (m, n))

    @in_single
    def kernel(self, a: np.ndarray, b: np.ndarray, c: np.ndarray | None = None) -> np.ndarray:
        y = (a.T if self.transA else a) @ (b.T if self.transB else b)
        if self.alpha != 1:
            y = y * _factor(self.alpha, y.dtype)
        if c is not None and self.beta != 0:
            y = y + (c if self.beta == 1 else c * _factor(self.beta, y.dtype))
        return np.asarray(y)

    def macs(self, facts: tuple[Fact | None, ...], results: tuple[TensorType, ...]) -> Dim:
        a, out = facts[0], results[0].shape
        return 0 if a is None or out is None else product(out) * a.shape[0 if self.transA else 1]


def _factor(value: float, dtype: np.dtype) -> np.generic:
    """The factor alpha or beta, a single-precision attribute, in the operands' type."""
    if dtype.kind in "iu" and (not value.is_integer() or (value < 0 and dtype.kind == "u")):
        raise NoKernelError(f"Gemm of {dtype} with a factor of {value:g} is not clear")
    factor: np.generic = dtype.type(np.float32(value))
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
