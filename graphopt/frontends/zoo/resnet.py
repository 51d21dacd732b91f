"""ResNet-18 (He et al. 2016): 11,689,512 parameters."""

from __future__ import annotations

from graphopt import ops
from graphopt.frontends.tracer import trace
from graphopt.ir.graph import Graph
from graphopt.ir.types import f32
from graphopt.nn import BatchNorm, Conv, Linear, Module, Sequential
from graphopt.ops.bind import Operand

STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))  # width and first stride of the two blocks of each stage


class BasicBlock(Module):
    """Two 3x3 convolutions with a shortcut around them, which is a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = Conv(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = BatchNorm(outputs)
        self.conv2 = Conv(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = BatchNorm(outputs)
        self.downsample: Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = Sequential(Conv(inputs, outputs, 1, stride=stride, bias=False), BatchNorm(outputs))

    def forward(self, x: Operand) -> Operand:
        """relu(residual(x) + shortcut(x))."""
        y = ops.relu(self.bn1(self.conv1(x)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return ops.relu(self.bn2(self.conv2(y)) + shortcut)


class ResNet18(Module):
    """A 7x7 convolution, a pool, four stages of two basic blocks, over [N, 3, 224, 224]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = Conv(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = BatchNorm(64)
        self.layer1, self.layer2, self.layer3, self.layer4 = _stages()
        self.fc = Linear(512, 1000)

    def forward(self, x: Operand) -> Operand:
        """A thousand logits."""
        x = ops.relu(self.bn1(self.conv1(x)))
        x = ops.max_pool(x, kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.fc(ops.flatten(ops.global_average_pool(x)))


def _stages() -> list[Sequential]:
    stages, inputs = [], 64
    for width, stride in STAGES:
        stages.append(Sequential(BasicBlock(inputs, width, stride), BasicBlock(width, width, 1)))
        inputs = width
    return stages


def resnet18(seed: int = 0) -> Graph:
    """The network's graph."""
    return trace(ResNet18().initialize(seed), x=f32["N", 3, 224, 224])
