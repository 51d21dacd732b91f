"""Losses: NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss, over scores [N, C, *spatial]."""

from __future__ import annotations

import numpy as np

from graphopt.errors import TypeRuleError
from graphopt.ir.types import Shape, TensorType
from graphopt.ops.bind import Like, Operand, apply
from graphopt.ops.broadcast import fits
from graphopt.ops.room import FLOAT, Fact, NoKernelError, Room, Trait, operand, operator
from graphopt.ops.single import at_least_single
from graphopt.ops.softmax import log_softmax_of

__all__ = ["softmax_cross_entropy_loss"]

_LABEL = frozenset({"int"})
_REDUCTIONS = ("none", "sum", "mean")


class _Loss(Room):
    """Of log probabilities by class, and the class of each sample."""

    ignore_index: int | None
    reduction: str
    traits = frozenset({Trait.PARTIAL})  # a label may be none of the classes

    def loss_type(self, x: Fact, labels: Fact, weights: Fact | None) -> TensorType:
        """The type of the loss."""
        if self.reduction not in _REDUCTIONS:
            raise TypeRuleError(f"reduction is {self.reduction!r}, and only {', '.join(_REDUCTIONS)} are known")
        if weights is not None and weights.dtype != x.dtype:
            raise TypeRuleError(f"the weights {weights.type} have another element type than {x.type}")
        samples = self._samples(x, labels, weights)
        return TensorType(x.dtype, samples if self.reduction == "none" else ())

    def _samples(self, x: Fact, labels: Fact, weights: Fact | None) -> Shape | None:
        """The scores' shape without the classes."""
        told = labels.type.shape
        if x.type.shape is None:
            return told
        if x.rank < 2:
            raise TypeRuleError(f"{x.type} has no axis of classes")
        given = None if weights is None else weights.type.shape
        if given is not None and (len(given) != 1 or not fits(given[0], x.shape[1])):
            raise TypeRuleError(f"the weights of {list(given)} are not one for each class of {x.type}")
        rest = (x.shape[0], *x.shape[2:])
        if told is None:
            return rest
        if len(told) != len(rest) or not all(map(fits, told, rest)):
            raise TypeRuleError(f"the labels {labels.type} are not one for each sample of {x.type}")
        return tuple(a if isinstance(a, int) else b for a, b in zip(rest, told, strict=True))

    def loss(self, log: np.ndarray, labels: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        """The loss of log probabilities, in their width."""
        if log.size == 0:
            raise NoKernelError("a loss of no samples, or of no classes, is not defined")
        kept = np.ones(labels.shape, bool) if self.ignore_index is None else labels != self.ignore_index
        classes = np.where(kept, labels, 0)
        if not (classes.min() >= 0 and classes.max() < log.shape[1]):
            raise NoKernelError(
                f"labels from {classes.min()} to {classes.max()} are not all among {log.shape[1]} classes"
            )
        picked = np.take_along_axis(log, np.expand_dims(classes, 1), axis=1).squeeze(1)
        each = kept.astype(log.dtype) if weights is None else np.where(kept, weights[classes], log.dtype.type(0))
        loss = np.where(kept, -picked * each, log.dtype.type(0))
        if self.reduction == "none":
            return loss
        total = loss.sum()
        return np.asarray(total if self.reduction == "sum" else total / each.sum())


@operator("NegativeLogLikelihoodLoss", since=12)
class NegativeLogLikelihoodLoss(_Loss):
    """-x at each sample's label, weighted; their sum, or mean by weight. ONNX NegativeLogLikelihoodLoss-22.

    A sample whose label is `ignore_index` counts nothing.
    """

    x = operand(FLOAT)
    target = operand(_LABEL)
    weight = operand(FLOAT, optional=True)
    ignore_index: int | None = None
    reduction: str = "mean"

    def infer(self, x: Fact, target: Fact, weight: Fact | None = None) -> TensorType:
        return self.loss_type(x, target, weight)

    def kernel(self, x: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
        wide = None if weight is None else at_least_single(weight)
        return self.loss(at_least_single(x), target, wide).astype(x.dtype, copy=False)


@operator("SoftmaxCrossEntropyLoss", since=12)
class SoftmaxCrossEntropyLoss(_Loss):
    """The loss of log softmax over the classes, which is the second result. ONNX SoftmaxCrossEntropyLoss-13."""

    scores = operand(FLOAT)
    labels = operand(_LABEL)
    weights = operand(FLOAT, optional=True)
    ignore_index: int | None = None
    reduction: str = "mean"

    def infer(self, scores: Fact, labels: Fact, weights: Fact | None = None) -> tuple[TensorType, ...]:
        return self.loss_type(scores, labels, weights), scores.type

    def kernel(
        self, scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None
    ) -> tuple[np.ndarray, ...]:
        log = log_softmax_of(at_least_single(scores), 1)
        loss = self.loss(log, labels, None if weights is None else at_least_single(weights))
        return loss.astype(scores.dtype, copy=False), log.astype(scores.dtype, copy=False)


def softmax_cross_entropy_loss(
    scores: Like, labels: Like, weights: Like | None = None, *, reduction: str = "mean"
) -> Operand:
    """-log softmax(scores) at each sample's label; their mean by default."""
    return apply(SoftmaxCrossEntropyLoss(reduction=reduction), scores, labels, weights)
