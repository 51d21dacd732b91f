"""VGG-16 (Simonyan & Zisserman 2015, configuration D): 138,357,544 parameters."""

from __future__ import annotations

from graphopt import ops
from graphopt.frontends.tracer import trace
from graphopt.ir.graph import Graph
from graphopt.ir.types import f32
from graphopt.nn import Conv, Linear, Module, ReLU, Sequential
from graphopt.ops.bind import Operand

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # width and number of 3x3 convolutions


class VGG16(Module):
    """Five stages of 3x3 convolutions, a pool after each, and three fully connected layers, over [N, 3, 224, 224]."""

    def __init__(self) -> None:
        super().__init__()
        self.stage1, self.stage2, self.stage3, self.stage4, self.stage5 = _stages()
        self.fc1 = Linear(512 * 7 * 7, 4096)
        self.fc2 = Linear(4096, 4096)
        self.fc3 = Linear(4096, 1000)

    def forward(self, x: Operand) -> Operand:
        """A thousand logits."""
        for stage in (self.stage1, self.stage2, self.stage3, self.stage4, self.stage5):
            x = ops.max_pool(stage(x), kernel_shape=(2, 2), strides=(2, 2))
        x = ops.relu(self.fc1(ops.flatten(x)))
        return self.fc3(ops.relu(self.fc2(x)))


def _stages() -> list[Sequential]:
    stages, inputs = [], 3
    for width, depth in STAGES:
        layers: list[Module] = []
        for _ in range(depth):
            layers += [Conv(inputs, width, 3, padding=1), ReLU()]
            inputs = width
        stages.append(Sequential(*layers))
    return stages


def vgg16(seed: int = 0) -> Graph:
    """The network's graph."""
    return trace(VGG16().initialize(seed), x=f32["N", 3, 224, 224])
