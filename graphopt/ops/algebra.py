"""What rewrites ask of families of operators: who is linear in its weights, who is affine by channel.

`y = linear(x, w, b)` followed by `z = y * scale + shift`, one pair for each channel, is one linear operator with
`w' = w * scale` and `b' = b * scale + shift`. Which axis holds the channels, how a weight is laid out and what a
bias means belongs to each operator; a pass asks through these two interfaces and knows no operator by name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ops.room import Fact


class Refused(Exception):  # noqa: N818  # it is an answer, not an error
    """A rewrite that does not hold at a site; the text is the reason, a sentence with the values in it."""


@dataclass(frozen=True)
class Affine:
    """`result = operands[data] * scale + shift`, float64, each of shape [channels] or [] for all channels alike."""

    data: int
    scale: np.ndarray
    shift: np.ndarray


class ChannelAffine(ABC):
    """An operator that scales and shifts each channel of one operand by constants."""

    @abstractmethod
    def affine(self, facts: tuple[Fact | None, ...], axis: int, data: int) -> Affine:
        """The scale and shift by index along `axis` (counted from the front) of operand `data`, the tensor.

        Raises:
            Refused: parameters are not constants, vary along another axis, or the operator is in another mode.
        """


class LinearWeights(ABC):
    """An operator linear in operand `weight` and affine in operand `bias` (None: it takes no bias)."""

    weight: ClassVar[int] = 1
    bias: ClassVar[int | None] = 2

    @abstractmethod
    def channels(self, facts: tuple[Fact | None, ...]) -> tuple[int, int]:
        """The result's channel axis (from the front) and the number of channels.

        Raises:
            Refused: they are not known, or the weight has no channel axis.
        """

    @abstractmethod
    def weight_scale(self, scale: np.ndarray, weight_shape: tuple[int, ...]) -> np.ndarray:
        """`scale` [channels] laid out to broadcast against the weight, in the operator's own channel order."""

    def with_bias(self, bias: np.ndarray | None, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
        """The bias operand, float64, of `linear(x, w, bias) * scale + shift`, for `folded()`."""
        return (0.0 if bias is None else bias.astype(np.float64)) * scale + shift

    def folded(self) -> LinearWeights:
        """The operator to use with the bias of `with_bias`: itself, unless an attribute acts on the bias."""
        return self
