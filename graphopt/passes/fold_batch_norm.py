"""Fold a batch normalization, or any scaling and shifting of channels by constants, into the weights before it.

before:
    (%x: f32[N, 2, 8, 8]) -> (%y) {
      %w: f32[4, 2, 3, 3] = random 1
      %s: f32[4] = random 2
      %b: f32[4] = random 3
      %m: f32[4] = random 4
      %v: f32[4] = random 5 uniform 0.5 1.5
      %c = Conv(%x, %w)
      %y = BatchNormalization(%c, %s, %b, %m, %v)
    }
after:
    (%x: f32[N, 2, 8, 8]) -> (%y) {
      %w: f32[4, 2, 3, 3]
      %w.bias: f32[4]
      %y: f32[N, 4, 6, 6] = Conv(%x, %w, %w.bias)
    }

The formula, for every output channel:

    (W*x + b)·scale + shift = (W·scale)*x + (b·scale + shift)

with scale = γ/√(σ²+ε) and shift = β − μ·scale for a batch normalization in inference mode; Mul, Div give a scale,
Add, Sub a shift. Holds for Conv, ConvTranspose (whose output channels are axis 1 times the groups), Gemm and MatMul.
Computed in float64, rounded once. The weight is computed when the file is written. A weight or a bias that
someone else reads is copied, inside the growth budget.

Refused: the value in between is read elsewhere or is an output; training mode; parameters that are not constant,
vary along another axis, or overflow the weights' type; weights that are quantized.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphopt.ir.constant import Constant
from graphopt.ir.graph import Node, Value
from graphopt.ir.operator import Opaque
from graphopt.ops.algebra import ChannelAffine, LinearWeights, Refused
from graphopt.ops.elementwise import Add
from graphopt.ops.infer import facts
from graphopt.ops.room import Room, Trait
from graphopt.rewrite.pattern import Match, some
from graphopt.rewrite.rule import ROUNDING, Pass, rule
from graphopt.rewrite.site import Draft, Site


@dataclass(frozen=True)
class Scaled:
    """The recipe of a weight times a scale, in float64, rounded once."""

    base: Constant
    scale: np.ndarray

    def __call__(self) -> np.ndarray:
        """The scaled weight, of the weight's own type."""
        weight = self.base.array()
        out = np.empty(weight.shape, weight.dtype)
        with np.errstate(all="ignore"):
            np.multiply(weight, self.scale, out=out, dtype=np.float64, casting="same_kind")
        if self.base.on_used is not None:
            self.base.on_used()
        return out


def scaled(weight: Constant, scale: np.ndarray) -> Constant:
    """`weight * scale` as a recipe; a weight that was scaled before is scaled by both at once."""
    recipe = weight.recipe
    if isinstance(recipe, Scaled) and recipe.scale.shape == scale.shape:
        weight, scale = recipe.base, recipe.scale * scale
    return Constant(weight.type, recipe=Scaled(weight, scale))


@rule(ROUNDING, some(ChannelAffine))
def fold_affine(site: Site) -> Draft | None:
    """linear(x, w, b) * scale + shift becomes linear(x, w * scale, b * scale + shift)."""
    node = site.node
    after = node.op
    linear = _linear_before(site)
    if linear is None:
        return None
    op = linear.op
    if not isinstance(op, Room) or not isinstance(op, LinearWeights) or not isinstance(after, ChannelAffine):
        return None
    site.only_read_by(linear.result, node)
    weight = linear.operands[op.weight]
    bias = linear.operands[op.bias] if op.bias is not None and op.bias < len(linear.operands) else None
    axis, count = op.channels(facts(linear))
    affine = after.affine(facts(node), axis, node.operands.index(linear.result))
    scale = np.broadcast_to(affine.scale, (count,)).astype(np.float64)
    shift = np.broadcast_to(affine.shift, (count,)).astype(np.float64)
    if op.bias is None and bool((scale == 1).all()):
        return None  # already a product and a sum
    new_weight = _weight(site, op, weight, scale)
    site.note("channels", count)
    if op.bias is None:
        return _with_sum(site, linear, new_weight, shift, axis)
    old = None if bias is None else site.data(bias, f"the bias of `{linear.label}`")
    if bias is None and not shift.any():
        return site.apply(op, linear.operands[0], new_weight)
    new_bias = _narrowed(site, op.with_bias(old, scale, shift), new_weight.value, "the folded bias")
    folded = op.folded()
    assert isinstance(folded, Room)
    bias_name = bias.name if bias is not None else _bias_name(weight)
    return site.apply(folded, linear.operands[0], new_weight, site.constant(new_bias, name=bias_name))


def _bias_name(weight: Value | None) -> str:
    name = weight.name if weight is not None else ""
    return f"{name[:-6]}bias" if name.endswith("weight") else f"{name}.bias"


def _linear_before(site: Site) -> Node | None:
    """The linear node whose result the root scales and shifts; None where the root is ordinary arithmetic.

    Raises:
        Refused: the root is a normalization of something that has no weights to fold into.
    """
    node = site.node
    others = [o for o in node.operands if o is not None]
    for operand in others:
        producer = operand.producer
        if producer is not None and isinstance(producer.op, LinearWeights):
            site.match = Match(site.match.values, {"linear": producer}, (producer, node))
            arithmetic = isinstance(node.op, Room) and Trait.ELEMENTWISE in node.op.traits
            site.require(producer.graph is node.graph, f"`{operand.name}` is computed outside of this subgraph")
            return None if arithmetic and not any(o.is_constant for o in others if o is not operand) else producer
    if isinstance(node.op, Room) and Trait.ELEMENTWISE in node.op.traits:
        return None
    source = others[0]
    if source.producer is None:
        raise Refused(f"`{source.name}` is not computed by an operator with weights to fold into")
    raise Refused(f"`{source.name}` comes from {source.producer.op}, which has no weights to fold into")


def _weight(site: Site, op: LinearWeights, weight: Value | None, scale: np.ndarray) -> Draft:
    if weight is None or not weight.is_constant or weight.constant is None:
        if weight is not None:
            site.not_quantizing(weight.producer, f"the weight `{weight.name}` is dequantized")
        raise Refused(f"the weight `{weight.name if weight else ''}` is not a constant")
    data = weight.constant
    site.require(data.type.dtype.is_float, f"the weight `{weight.name}` is {data.type}")
    site.require(bool(np.isfinite(scale).all()), "a scale is not finite")
    if (scale == 1).all():
        return site[weight]
    limit = float(np.finfo(data.type.dtype.numpy).max) if data.type.dtype.numpy.kind == "f" else 3e38
    peak = float(np.abs(scale).max(initial=0.0))
    if peak > limit**0.5 or data.type.dtype.bits < 32:
        largest = float(np.abs(data.array().astype(np.float64)).max(initial=0.0))
        site.require(largest * peak <= limit, f"a weight of {largest:.3g} times {peak:.3g} overflows {data.type.dtype}")
    laid_out = op.weight_scale(scale, data.shape)
    return site.constant(scaled(data, laid_out), name=weight.name)


def _narrowed(site: Site, exact: np.ndarray, like: Value, what: str) -> np.ndarray:
    with np.errstate(all="ignore"):
        array = exact.astype(site.dtype(like).numpy)
    site.require(bool(np.isfinite(array.astype(np.float64)).all()), f"{what} is not finite in {site.dtype(like)}")
    return array


def _with_sum(site: Site, linear: Node, weight: Draft, shift: np.ndarray, axis: int) -> Draft:
    """The product with a sum after it, for an operator that takes no bias."""
    product = site.apply(linear.op, linear.operands[0], weight)
    if not shift.any():
        return product
    rank = site.fact(linear.result).rank
    laid_out = _narrowed(site, shift, weight.value, "the shift").reshape((-1,) + (1,) * (rank - 1 - axis))
    return site.apply(Add(), product, site.constant(laid_out))


@rule(ROUNDING, some(Opaque))
def carried_normalization(site: Site) -> None:
    """A normalization in a form that no room takes is only carried: it is told, never folded."""
    op = site.node.op
    if isinstance(op, Opaque) and (op.domain, op.name) == ("", "BatchNormalization"):
        raise Refused(f"it is carried as it is, in the form of opset {op.version}" + (f": {op.why}" if op.why else ""))


PASS = Pass("fold_batch_norm", (fold_affine, carried_normalization), __doc__ or "")
