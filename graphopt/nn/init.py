"""How weights are drawn: each from the seed and the parameter's own name, so that a later layer changes none."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

Init: TypeAlias = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def he_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Normal with variance 2 / fan-in, for layers before a ReLU (He et al. 2015)."""
    fan_in = math.prod(shape[1:])
    return rng.standard_normal(shape, np.float32) * np.float32(math.sqrt(2 / fan_in))


def xavier_uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform within ±√(6 / (fan-in + fan-out)) (Glorot & Bengio 2010)."""
    receptive = math.prod(shape[2:])
    bound = math.sqrt(6 / ((shape[0] + shape[1]) * receptive))
    return ((rng.random(shape, np.float32) * 2 - 1) * np.float32(bound)).astype(np.float32)


@dataclass(frozen=True)
class Uniform:
    """Uniform in [low, high): for biases, and for BN's parameters, which then are never 0 and 1."""

    low: float
    high: float

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """The data, float32."""
        return (rng.random(shape, np.float32) * np.float32(self.high - self.low) + np.float32(self.low)).astype(
            np.float32
        )


@dataclass(frozen=True)
class Draw:
    """The recipe of one parameter: drawn again whenever it is needed, always the same."""

    seed: int
    name: str
    init: Init
    shape: tuple[int, ...]

    def __call__(self) -> np.ndarray:
        """The data, float32."""
        key = hashlib.sha256(f"{self.seed}/{self.name}".encode()).digest()
        return self.init(np.random.default_rng(int.from_bytes(key[:16], "big")), self.shape)
