"""Bring what exporters write to one form: constants are initializers, and nodes that do nothing are gone.

before:
    (%x: f32[1, 4], %w: f32[4] = dense[1.0, 2.0, 3.0, 4.0]) -> (%y) {
      %k: f32[4] = Constant() {value=f32[4] splat 2.0}
      %a: f32[1, 4] = Identity(%x)
      %b: f32[1, 4] = Add(%a, %w)
      %y: f32[1, 4] = Mul(%b, %k)
    }
after:
    (%x: f32[1, 4]) -> (%y) {
      %w: f32[4] = dense[1.0, 2.0, 3.0, 4.0]
      %k: f32[4] = splat 2.0
      %b: f32[1, 4] = Add(%x, %w)
      %y: f32[1, 4] = Mul(%b, %k)
    }

1. An initializer that is also an input becomes a constant: a caller can no longer override it at run time.
   (ONNX Runtime itself lets nobody override one in files of IR 3.)
2. A Constant node becomes an initializer.
3. A node whose result certainly equals one of its operands, bit for bit, goes: Identity, Dropout at inference,
   Cast to the same type, Reshape to the same shape, Transpose that moves nothing, Pad by nothing, Slice of
   everything, Concat or Split of one. A graph output keeps its name: where its value would become an input or
   another output, the node stays.
4. CastLike becomes Cast: the second operand mattered by its type only.
"""

from __future__ import annotations

from graphopt.ir.graph import Value
from graphopt.ops.create import Constant as ConstantOp
from graphopt.ops.infer import facts
from graphopt.ops.room import Room
from graphopt.ops.shape import Cast, CastLike
from graphopt.rewrite.pattern import some
from graphopt.rewrite.rule import EXACT, Pass, rule
from graphopt.rewrite.site import Draft, Patch, Site


@rule(EXACT, on="inputs")
def initializer_input(site: Site) -> Patch | None:
    """An input with a default becomes a constant."""
    value = site.value
    if value is None or not value.is_input or value.constant is None:
        return None
    return Patch(freeze=(value,))


@rule(EXACT, some(ConstantOp))
def constant_node(site: Site) -> Draft | None:
    """A Constant node becomes an initializer."""
    op = site.node.op
    if not isinstance(op, ConstantOp):
        return None
    return site.constant(op.value if op.value is not None else op.kernel())


@rule(EXACT, some(CastLike))
def cast_like(site: Site) -> Draft | None:
    """CastLike becomes Cast to the second operand's element type."""
    x, like = site.node.operands
    op = site.node.op
    if not isinstance(op, CastLike):
        return None
    return site.apply(Cast(to=site.fact(like).dtype.code, saturate=op.saturate, round_mode=op.round_mode), x)


@rule(EXACT, some(Room))
def does_nothing(site: Site) -> Value | None:
    """A node that forwards an operand goes."""
    op, node = site.node.op, site.node
    if not isinstance(op, Room) or type(op).forwards is Room.forwards or not node.result.is_read:
        return None
    known = facts(node)
    if None in known[:1]:
        return None
    index = op.forwards(*known)
    return None if index is None else node.operands[index]


PASS = Pass("normalize", (initializer_input, constant_node, cast_like, does_nothing), __doc__ or "")
