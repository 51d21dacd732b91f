"""For ONNX Runtime on the CPU: a convolution and the activation after it as one com.microsoft FusedConv.

before:
    (%x: f32[N, 2, 8, 8], %z: f32[N, 4, 6, 6]) -> (%y) {
      %w: f32[4, 2, 3, 3] = random 1
      %b: f32[4] = random 2
      %c: f32[N, 4, 6, 6] = Conv(%x, %w, %b)
      %d: f32[N, 4, 6, 6] = Add(%c, %z)
      %y: f32[N, 4, 6, 6] = Relu(%d)
    }
after:
    (%x: f32[N, 2, 8, 8], %z: f32[N, 4, 6, 6]) -> (%y) {
      %w: f32[4, 2, 3, 3] = random 1
      %b: f32[4] = random 2
      %y: f32[N, 4, 6, 6] = com.microsoft::FusedConv(%x, %w, %b, %z) {activation="Relu"}
    }

Only in the last stage, only for `--target cpu`, only in float32 (the provider's kernel takes no other type), only
where nothing else reads what lies in between, and not where the operands are dequantized: ONNX Runtime makes a
QLinearConv of such a group, and would not know it any more.
"""

from __future__ import annotations

from graphopt.ir.graph import Node, Value
from graphopt.ir.types import f32
from graphopt.ops.activation import Clip, HardSigmoid, LeakyRelu, Relu, Sigmoid, Tanh
from graphopt.ops.algebra import Refused
from graphopt.ops.conv import Conv, FusedConv
from graphopt.ops.elementwise import Add
from graphopt.ops.infer import facts
from graphopt.ops.room import Trait
from graphopt.rewrite.pattern import some
from graphopt.rewrite.rule import ROUNDING, Pass, rule
from graphopt.rewrite.site import Draft, Site


def activation_of(node: Node) -> tuple[str, tuple[float, ...]]:
    """FusedConv's `activation` and `activation_params` for an activation node.

    Raises:
        Refused: FusedConv has no such activation, or its parameters are not constants.
    """
    op = node.op
    if isinstance(op, Relu | Sigmoid | Tanh):
        return op.name, ()
    if isinstance(op, LeakyRelu):
        return op.name, (op.alpha,)
    if isinstance(op, HardSigmoid):
        return op.name, (op.alpha, op.beta)
    if isinstance(op, Clip):
        known = facts(node)
        bounds = [k.scalar if k is not None else None for k in known[1:]]
        if len(bounds) == 2 and all(b is not None for b in bounds):
            return op.name, (float(bounds[0] or 0.0), float(bounds[1] or 0.0))
        raise Refused("FusedConv's Clip needs both bounds as constants")
    raise Refused(f"FusedConv has no {op.name}")


def _fused(site: Site, conv: Node, activation: str, params: tuple[float, ...], extra: Value | None) -> Draft:
    op = conv.op
    if not isinstance(op, Conv):
        raise Refused(f"{op} is not a Conv")
    for operand in conv.operands:
        if operand is not None:
            site.not_quantizing(operand.producer, f"`{operand.name}` is dequantized")
    site.require(site.dtype(conv.result) == f32, f"FusedConv takes f32, and this is {site.fact(conv.result).type}")
    fused = FusedConv(**{f: getattr(op, f) for f in Conv.kinds}, activation=activation, activation_params=params)
    x, w, *rest = conv.operands
    return site.apply(fused, x, w, rest[0] if rest else None, extra)


@rule(ROUNDING, some(Trait.ACTIVATION, anywhere=some(Conv, name="conv")))
def conv_activation(site: Site) -> Draft:
    """activation(conv(x)) becomes one node."""
    conv = site.named("conv")
    site.require(site.node.operands[0] is conv.result, "the convolution is not what is activated")
    site.only_read_by(conv.result, site.node)
    return _fused(site, conv, *activation_of(site.node), None)


@rule(ROUNDING, some(Trait.ACTIVATION, anywhere=some(Add, name="sum", anywhere=some(Conv, name="conv"))))
def conv_sum_activation(site: Site) -> Draft:
    """activation(conv(x) + z) becomes one node."""
    conv, add = site.named("conv"), site.named("sum")
    site.require(site.node.operands[0] is add.result, "the sum is not what is activated")
    site.only_read_by(add.result, site.node)
    site.only_read_by(conv.result, add)
    other = next((o for o in add.operands if o is not conv.result), None)
    site.require(other is not None, "both summands are the same convolution")
    same = site.fact(other).type == site.fact(conv.result).type
    site.require(same, f"the summand is {site.fact(other).type}, the convolution {site.fact(conv.result).type}")
    return _fused(site, conv, *activation_of(site.node), other)


PASS = Pass("fuse_conv_activation", (conv_activation, conv_sum_activation), __doc__ or "", targets=frozenset({"cpu"}))
