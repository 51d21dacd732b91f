"""Layers: convolution, fully connected, batch normalization, activations."""

from __future__ import annotations

from graphopt import ops
from graphopt.nn.init import Init, Uniform, he_normal
from graphopt.nn.module import Module, Parameter
from graphopt.ops.bind import Operand


class Conv(Module):
    """A 2-D convolution over [N, C, H, W] with a square kernel; the weight is [out, in / groups, k, k]."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        bias: bool = True,
        init: Init = he_normal,
    ) -> None:
        super().__init__()
        self.stride, self.padding, self.groups = stride, padding, groups
        self.weight = Parameter((outputs, inputs // groups, kernel, kernel), init)
        self.bias = Parameter((outputs,), Uniform(-0.1, 0.1)) if bias else None

    def forward(self, x: Operand) -> Operand:
        """The convolution of x."""
        pads = (self.padding,) * 4
        return ops.conv(x, self.weight, self.bias, strides=(self.stride,) * 2, pads=pads, group=self.groups)


class Linear(Module):
    """x · Wᵀ + b over [N, in]; the weight is [out, in]."""

    def __init__(self, inputs: int, outputs: int, *, init: Init = he_normal) -> None:
        super().__init__()
        self.weight = Parameter((outputs, inputs), init)
        self.bias = Parameter((outputs,), Uniform(-0.1, 0.1))

    def forward(self, x: Operand) -> Operand:
        """The product and sum."""
        return ops.gemm(x, self.weight, self.bias, transB=1)


class BatchNorm(Module):
    """Batch normalization in inference mode over axis 1, with running statistics that are never 0 and 1."""

    def __init__(self, channels: int, *, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.weight = Parameter((channels,), Uniform(0.5, 1.5))
        self.bias = Parameter((channels,), Uniform(-0.2, 0.2))
        self.running_mean = Parameter((channels,), Uniform(-0.3, 0.3), buffer=True)
        self.running_var = Parameter((channels,), Uniform(0.5, 1.5), buffer=True)

    def forward(self, x: Operand) -> Operand:
        """(x - mean) / sqrt(variance + epsilon) * weight + bias."""
        return ops.batch_normalization(
            x, self.weight, self.bias, self.running_mean, self.running_var, epsilon=self.epsilon
        )


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x: Operand) -> Operand:
        """Elementwise."""
        return ops.relu(x)


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, x: Operand) -> Operand:
        """Elementwise."""
        return ops.tanh(x)
