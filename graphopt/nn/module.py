"""Modules: functions with parameters, named by where they stand in the network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextvars import ContextVar

import numpy as np

from graphopt.errors import UsageError
from graphopt.ir.constant import Constant
from graphopt.ir.types import TensorType, f32
from graphopt.nn.init import Draw, Init
from graphopt.ops.bind import Operand

SCOPE: ContextVar[str] = ContextVar("graphopt.nn.scope", default="")  # the path of the module that is being applied


class Parameter:
    """A tensor that a module owns: learnable, or a buffer (BN's statistics). float32.

    It has data once its network is `initialize`d; until then only a shape and a way to draw it.
    """

    def __init__(self, shape: tuple[int, ...], init: Init, *, buffer: bool = False) -> None:
        self.shape = shape
        self.init = init
        self.is_buffer = buffer
        self.name = ""
        self._constant: Constant | None = None

    @property
    def constant(self) -> Constant:
        """The data.

        Raises:
            UsageError: the network was not initialized.
        """
        if self._constant is None:
            raise UsageError("the network's parameters have no data yet: call `.initialize(seed)` first")
        return self._constant

    def draw(self, seed: int, name: str) -> None:
        """Take the data that belongs to (seed, name); it is made when it is needed."""
        self.name = name
        self._constant = Constant(TensorType(f32, self.shape), recipe=Draw(seed, name, self.init, self.shape))

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return self.constant.array() if dtype is None else self.constant.array().astype(dtype)


class Module(ABC):
    """A layer or a network. Parameters and modules assigned as attributes are found by those names."""

    def __init__(self) -> None:
        self._path = ""

    @abstractmethod
    def forward(self, x: Operand) -> Operand:
        """Apply the module."""

    def __call__(self, x: Operand) -> Operand:
        """Apply the module; nodes that it makes are named by its path."""
        token = SCOPE.set(self._path)
        try:
            return self.forward(x)
        finally:
            SCOPE.reset(token)

    def children(self) -> Iterator[tuple[str, Module]]:
        """Modules that this one holds, in order."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """All parameters and buffers with their paths, own ones first."""
        for name, value in vars(self).items():
            if isinstance(value, Parameter):
                yield prefix + name, value
        for name, child in self.children():
            yield from child.named_parameters(f"{prefix}{name}.")

    def initialize(self, seed: int = 0) -> Module:
        """Give every parameter its data, drawn from the seed and its own path; returns the module."""
        self._name(self._path)
        for name, parameter in self.named_parameters():
            parameter.draw(seed, name)
        return self

    def _name(self, path: str) -> None:
        self._path = path
        for name, child in self.children():
            child._name(f"{path}.{name}" if path else name)


class Sequential(Module):
    """Modules applied one after another, named by number."""

    def __init__(self, *modules: Module) -> None:
        super().__init__()
        self.modules = modules

    def children(self) -> Iterator[tuple[str, Module]]:
        """The modules, by number."""
        yield from ((str(i), m) for i, m in enumerate(self.modules))

    def forward(self, x: Operand) -> Operand:
        """Apply them in order."""
        for module in self.modules:
            x = module(x)
        return x
