"""LeNet-5 (LeCun et al. 1998): 61,706 parameters."""

from __future__ import annotations

from graphopt import ops
from graphopt.frontends.tracer import trace
from graphopt.ir.graph import Graph
from graphopt.ir.types import f32
from graphopt.nn import Conv, Linear, Module
from graphopt.nn.init import xavier_uniform
from graphopt.ops.bind import Operand


class LeNet5(Module):
    """conv5 - pool - conv5 - pool - conv5 - fc - fc, tanh, over [N, 1, 32, 32]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = Conv(1, 6, 5, init=xavier_uniform)
        self.conv2 = Conv(6, 16, 5, init=xavier_uniform)
        self.conv3 = Conv(16, 120, 5, init=xavier_uniform)
        self.fc1 = Linear(120, 84, init=xavier_uniform)
        self.fc2 = Linear(84, 10, init=xavier_uniform)

    def forward(self, x: Operand) -> Operand:
        """Ten logits."""
        x = ops.average_pool(ops.tanh(self.conv1(x)), kernel_shape=(2, 2), strides=(2, 2))
        x = ops.average_pool(ops.tanh(self.conv2(x)), kernel_shape=(2, 2), strides=(2, 2))
        x = ops.flatten(ops.tanh(self.conv3(x)))
        return self.fc2(ops.tanh(self.fc1(x)))


def lenet5(seed: int = 0) -> Graph:
    """The network's graph."""
    return trace(LeNet5().initialize(seed), x=f32["N", 1, 32, 32])
