"""What ONNX Runtime's optimizers write on floats: products with transposes, Gelu, sums that are normalized, and more.

Trilu and GridSample are older than ONNX's own, and Inverse has no other.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from graphopt.errors import TypeRuleError
from graphopt.ir.dims import Dim
from graphopt.ir.types import TensorType, f32
from graphopt.ops.activation import HardSigmoid, LeakyRelu, Relu, Sigmoid, Tanh
from graphopt.ops.broadcast import broadcast, fits
from graphopt.ops.expect import expect_one_of, expect_one_type, expect_shape
from graphopt.ops.linear import Gemm, MatMul
from graphopt.ops.rare_activation import Elu, Gelu, Softplus, Softsign
from graphopt.ops.rearrange import Trilu
from graphopt.ops.room import (
    ANY,
    FLOAT,
    INTEGER,
    MICROSOFT,
    NUMERIC,
    Fact,
    NoKernelError,
    Room,
    Trait,
    operand,
    operator,
)
from graphopt.ops.single import at_least_single, in_single, stored
from graphopt.ops.standardize import LayerNormalization
from graphopt.ops.warp import GridSample

_ELEMENTWISE = frozenset({Trait.ELEMENTWISE})
_ACTIVATION = frozenset({Trait.ELEMENTWISE, Trait.ACTIVATION})
_PLAIN: Mapping[str, type[Room]] = {
    "Relu": Relu, "Sigmoid": Sigmoid, "Tanh": Tanh, "Softplus": Softplus, "Softsign": Softsign,
}  # fmt: skip


@operator("FusedMatMul", since=1, domain=MICROSOFT)
class FusedMatMul(Room):
    """alpha · a' · b', where a' and b' may be transposed. ONNX Runtime's com.microsoft FusedMatMul-1.

    `transBatchA` moves the first axis before the last, `transA` then exchanges the last two.
    """

    a = operand(FLOAT)
    b = operand(FLOAT)
    alpha: float = 1.0
    transA: int = 0  # noqa: N815  # ONNX's names
    transB: int = 0  # noqa: N815
    transBatchA: int = 0  # noqa: N815
    transBatchB: int = 0  # noqa: N815

    def infer(self, a: Fact, b: Fact) -> TensorType:
        expect_one_type(a=a, b=b)
        if a.type.shape is None or b.type.shape is None:
            return TensorType(a.dtype, None)
        left = [a.shape[i] for i in _axes(a.rank, self.transA, self.transBatchA)]
        right = [b.shape[i] for i in _axes(b.rank, self.transB, self.transBatchB)]
        made = MatMul().infer(Fact(TensorType(a.dtype, tuple(left))), Fact(TensorType(b.dtype, tuple(right))))
        return TensorType(a.dtype, made.shape)

    @in_single
    def kernel(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        left = a.transpose(_axes(a.ndim, self.transA, self.transBatchA))
        right = b.transpose(_axes(b.ndim, self.transB, self.transBatchB))
        return np.asarray(np.matmul(left, right) * a.dtype.type(stored(self.alpha)))

    def macs(self, facts: tuple[Fact | None, ...], results: tuple[TensorType, ...]) -> Dim:
        a = facts[0]
        if a is None or a.type.shape is None or a.rank == 0:
            return 0
        inner = [a.shape[i] for i in _axes(a.rank, self.transA, self.transBatchA)]
        return MatMul().macs((Fact(TensorType(a.dtype, tuple(inner))), None), results)


def _axes(rank: int, trans: int, batch: int) -> list[int]:
    """The order of axes in which an operand is multiplied; vectors and scalars stay."""
    axes = list(range(rank))
    if rank < 2:
        return axes
    if batch:
        axes = [*axes[1:-1], axes[0], axes[-1]]
    return [*axes[:-2], axes[-1], axes[-2]] if trans else axes


@operator("FusedGemm", since=1, domain=MICROSOFT)
class FusedGemm(Room):
    """activation(gemm(a, b, c)). ONNX Runtime's com.microsoft FusedGemm-1."""

    a = operand(NUMERIC)
    b = operand(NUMERIC)
    c = operand(NUMERIC, optional=True)
    activation: str | None = None
    activation_alpha: float | None = None
    activation_beta: float | None = None
    activation_gamma: float | None = None
    alpha: float = 1.0
    beta: float = 1.0
    transA: int = 0  # noqa: N815
    transB: int = 0  # noqa: N815

    @property
    def gemm(self) -> Gemm:
        """The product."""
        return Gemm(alpha=self.alpha, beta=self.beta, transA=self.transA, transB=self.transB)

    def infer(self, a: Fact, b: Fact, c: Fact | None = None) -> TensorType:
        if a.type.shape is None or b.type.shape is None:
            return TensorType(a.dtype, None)
        return self.gemm.infer(a, b, c)

    @in_single
    def kernel(self, a: np.ndarray, b: np.ndarray, c: np.ndarray | None = None) -> np.ndarray:
        y = self.gemm.kernel(a, b, c)
        match self.activation or "", self.activation_alpha, self.activation_beta:
            case "", _, _:
                return y
            case name, _, _ if name in _PLAIN:
                return np.asarray(_PLAIN[name]().kernel(y))
            case "LeakyRelu", float(alpha), _:
                return LeakyRelu(alpha=alpha).kernel(y)
            case "Elu", float(alpha), _:
                return Elu(alpha=alpha).kernel(y)
            case "HardSigmoid", float(alpha), float(beta):
                return HardSigmoid(alpha=alpha, beta=beta).kernel(y)
        raise NoKernelError(f"FusedGemm's activation {self.activation!r} with these parameters is not known")

    def macs(self, facts: tuple[Fact | None, ...], results: tuple[TensorType, ...]) -> Dim:
        known = facts[0] is not None and facts[0].type.shape is not None
        return self.gemm.macs(facts, results) if known else 0


@operator("Gelu", since=1, domain=MICROSOFT)
class MicrosoftGelu(Room):
    """x * Φ(x), Φ(x) = (1 + erf(x / √2)) / 2. ONNX Runtime's com.microsoft Gelu-1."""

    x = operand(FLOAT)
    traits = _ACTIVATION

    def infer(self, x: Fact) -> TensorType:
        return x.type

    def kernel(self, x: np.ndarray) -> np.ndarray:
        return Gelu().kernel(x)


@operator("QuickGelu", since=1, domain=MICROSOFT)
class QuickGelu(Room):
    """x / (1 + exp(-alpha * x)). ONNX Runtime's com.microsoft QuickGelu-1."""

    x = operand(FLOAT)
    alpha: float = 1.7020000219345093
    traits = _ACTIVATION

    def infer(self, x: Fact) -> TensorType:
        return x.type

    @in_single
    def kernel(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x * Sigmoid().kernel(x * x.dtype.type(stored(self.alpha))))


class _Biased(Room):
    """An activation of x + bias, the bias along the last axis."""

    traits = _ELEMENTWISE

    def infer(self, x: Fact, bias: Fact | None = None) -> TensorType:
        expect_one_type(x=x, bias=bias)
        if bias is not None and x.type.shape is not None:
            if x.rank == 0:
                raise TypeRuleError(f"{x.type} has no last axis")
            expect_shape("bias", bias, [x.shape[-1]])
        return x.type


@operator("FastGelu", since=1, domain=MICROSOFT)
class FastGelu(_Biased):
    """x * (1 + tanh(√(2 / π) · (x + 0.044715 x³))) / 2 of x + bias. ONNX Runtime's com.microsoft FastGelu-1."""

    x = operand(FLOAT)
    bias = operand(FLOAT, optional=True)

    @in_single
    def kernel(self, x: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
        return Gelu(approximate="tanh").kernel(x if bias is None else x + bias)


@operator("BiasGelu", since=1, domain=MICROSOFT)
class BiasGelu(_Biased):
    """x * Φ(x) of x + bias, Φ(x) = (1 + erf(x / √2)) / 2. ONNX Runtime's com.microsoft BiasGelu-1."""

    x = operand(FLOAT)
    bias = operand(FLOAT)

    @in_single
    def kernel(self, x: np.ndarray, bias: np.ndarray) -> np.ndarray:
        return Gelu().kernel(x + bias)


@operator("SkipLayerNormalization", since=1, domain=MICROSOFT)
class SkipLayerNormalization(Room):
    """LayerNormalization over the last axis of x + skip + bias. ONNX Runtime's com.microsoft SkipLayerNormalization-1.

    Further results are the mean, 1 / sqrt(variance + epsilon), and the sum.
    """

    x = operand(FLOAT)
    skip = operand(FLOAT)
    gamma = operand(FLOAT)
    beta = operand(FLOAT, optional=True)
    bias = operand(FLOAT, optional=True)
    epsilon: float = 9.999999960041972e-13

    def infer(
        self, x: Fact, skip: Fact, gamma: Fact, beta: Fact | None = None, bias: Fact | None = None
    ) -> tuple[TensorType, ...]:
        expect_one_type(x=x, skip=skip, gamma=gamma, beta=beta, bias=bias)
        if x.type.shape is None:
            statistics = TensorType(f32, None)
            return x.type, statistics, statistics, x.type
        if x.rank not in (2, 3):
            raise TypeRuleError(f"x is {x.type}, and it has 2 or 3 axes")
        for name, given in (("gamma", gamma), ("beta", beta), ("bias", bias)):
            expect_shape(name, given, [x.shape[-1]])
        if skip.type.shape is not None:
            together = broadcast(x.shape, skip.shape)
            if len(together) != x.rank or not all(map(fits, together, x.shape)):
                raise TypeRuleError(f"skip is {skip.type}, and it does not broadcast to {x.type}")
        statistics = TensorType(f32, (*x.shape[:-1], 1))
        return x.type, statistics, statistics, x.type

    def kernel(
        self,
        x: np.ndarray,
        skip: np.ndarray,
        gamma: np.ndarray,
        beta: np.ndarray | None = None,
        bias: np.ndarray | None = None,
    ) -> tuple[np.ndarray, ...]:
        total = at_least_single(x) + at_least_single(skip)
        total = total if bias is None else total + at_least_single(bias)
        scale, shift = at_least_single(gamma), None if beta is None else at_least_single(beta)
        y, mean, factor = LayerNormalization(epsilon=self.epsilon).kernel(total, scale, shift)
        return y.astype(x.dtype, copy=False), mean, factor, total.astype(x.dtype, copy=False)


@operator("Trilu", since=1, domain=MICROSOFT)
class MicrosoftTrilu(Trilu):
    """Matrices with zeros on one side of diagonal k. ONNX Runtime's com.microsoft Trilu-1, which became ONNX's."""

    x = operand(ANY)
    k = operand(INTEGER, optional=True)


@operator("Inverse", since=1, domain=MICROSOFT)
class Inverse(Room):
    """The inverses of matrices. ONNX Runtime's com.microsoft Inverse-1."""

    x = operand(FLOAT)

    def infer(self, x: Fact) -> TensorType:
        if x.type.shape is None:
            return x.type
        if x.rank < 2 or not fits(x.shape[-1], x.shape[-2]):
            raise TypeRuleError(f"{x.type} holds no square matrices")
        return x.type

    @in_single
    def kernel(self, x: np.ndarray) -> np.ndarray:
        try:
            return np.asarray(np.linalg.inv(x))
        except np.linalg.LinAlgError as error:
            raise NoKernelError(f"a matrix has no inverse: {error}") from None


@operator("GridSample", since=1, domain=MICROSOFT)
class MicrosoftGridSample(Room):
    """Images x [N, C, H, W] at positions [N, *out, 2]. ONNX Runtime's com.microsoft GridSample-1."""

    x = operand(ANY)
    grid = operand(FLOAT)
    align_corners: int = 0
    mode: str = "bilinear"
    padding_mode: str = "zeros"

    @property
    def sampled(self) -> GridSample:
        """ONNX's operator."""
        mode = {"bilinear": "linear", "bicubic": "cubic"}.get(self.mode, self.mode)
        return GridSample(align_corners=self.align_corners, mode=mode, padding_mode=self.padding_mode)

    def infer(self, x: Fact, grid: Fact) -> TensorType:
        expect_one_of("mode", self.mode, ("bilinear", "nearest", "bicubic"))
        expect_shape("x", x, [None] * 4)
        return self.sampled.infer(x, grid)

    def kernel(self, x: np.ndarray, grid: np.ndarray) -> np.ndarray:
        return self.sampled.kernel(x, grid)
