"""Compute at compile time what does not depend on the inputs' values.

before:
    (%x: f32[N, 3, 8, 8]) -> (%y) {
      %w: f32[4, 3, 3, 3] = random 1
      %zero: f32[] = dense 0.0
      %s: i64[1] = Shape(%w) {end=1}
      %b: f32[4] = Expand(%zero, %s)
      %c: f32[N, 4, 6, 6] = Conv(%x, %w, %b)
      %two: f32[] = dense 2.0
      %half: f32[] = Reciprocal(%two)
      %y: f32[N, 4, 6, 6] = Mul(%c, %half)
    }
after:
    (%x: f32[N, 3, 8, 8]) -> (%y) {
      %w: f32[4, 3, 3, 3] = random 1
      %b: f32[4] = splat 0.0
      %half: f32[] = dense 0.5
      %c: f32[N, 4, 6, 6] = Conv(%x, %w, %b)
      %y: f32[N, 4, 6, 6] = Mul(%c, %half)
    }

1. Contents of a small integer tensor that follow from shapes, with symbols: the channel count of `f32[N, 3, H, W]`
   is a constant, its batch is not.
2. Nodes that only move elements of constants: the same bits.
3. Other nodes over constants, by the operator's kernel in the operator's own precision.

Large results are recipes: computed when the file is written, and checked against the growth budget before that.
Random operators, operators without a room, those that quantize or dequantize, and graph outputs are left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphopt.errors import GraphoptError
from graphopt.ir.constant import SMALL_BYTES, Constant
from graphopt.ir.graph import Node
from graphopt.ir.types import TensorType
from graphopt.ops.algebra import Refused
from graphopt.ops.create import Constant as ConstantOp
from graphopt.ops.infer import facts
from graphopt.ops.room import NoKernelError, Room, Trait
from graphopt.rewrite.pattern import Match, some
from graphopt.rewrite.rule import EXACT, ROUNDING, Pass, rule
from graphopt.rewrite.site import Draft, Site

MAX_FOLD_BYTES = 1 << 32  # a folded tensor larger than this is refused whatever the growth budget


@dataclass(frozen=True)
class Computed:
    """The recipe of a folded node: its kernel over constants."""

    op: Room
    operands: tuple[Constant | None, ...]
    index: int

    def __call__(self) -> np.ndarray:
        """The result, computed now."""
        with np.errstate(all="ignore"):
            result = self.op.kernel(*(None if c is None else c.array() for c in self.operands))
        array = result if isinstance(result, np.ndarray) else np.asarray(result[self.index])
        for constant in self.operands:
            if constant is not None and constant.on_used is not None:
                constant.on_used()
        return array if array.flags.c_contiguous else array.copy()


@rule(EXACT, some(Room))
def known_contents(site: Site) -> Draft | None:
    """A small integer tensor whose contents are all known integers is a constant."""
    result = site.node.result
    known, kind = result.elements, result.type
    if known is None or not isinstance(kind, TensorType) or not result.is_read:
        return None
    if not all(isinstance(e, int | np.integer) for e in known.ravel()):
        return None
    site.match = Match(order=_sources(site.node))
    return site.constant(known.astype(kind.dtype.numpy).reshape(known.shape))


def _sources(root: Node) -> tuple[Node, ...]:
    """The nodes that the contents follow from, root last: those whose results are followed as dims as well."""
    found: dict[Node, None] = {root: None}
    stack = [root]
    while stack:
        node = stack.pop()
        skip = node.op.type_only if isinstance(node.op, Room) else frozenset()
        for i, operand in enumerate(node.operands):
            producer = operand.producer if operand is not None and i not in skip else None
            if producer is not None and producer not in found and producer.graph is root.graph:
                found[producer] = None
                stack.append(producer)
    return tuple(sorted(found, key=lambda n: n is root))


@rule(EXACT, some(Trait.MOVES))
def moved_constant(site: Site) -> list[Draft] | None:
    """A node that only moves elements of constants."""
    return _fold(site)


@rule(ROUNDING, some(Room))
def computed_constant(site: Site) -> list[Draft] | None:
    """A node over constants."""
    op = site.node.op
    return _fold(site) if isinstance(op, Room) and Trait.MOVES not in op.traits else None


def _fold(site: Site) -> list[Draft] | None:
    node = site.node
    op = node.op
    operands = [o for o in node.operands if o is not None]
    if not isinstance(op, Room) or isinstance(op, ConstantOp) or op.held or not operands:
        return None
    if not all(o.is_constant for o in operands) or not any(r.is_read for r in node.results):
        return None
    site.require(op.is_pure(*facts(node)), f"{op.name} is random: each run may give another result")
    site.not_quantizing(node)
    types = [r.type for r in node.results]
    size = 0
    for kind in types:
        site.require(isinstance(kind, TensorType) and kind.is_static, "the result's shape is not known")
        if isinstance(kind, TensorType) and isinstance(kind.nbytes, int):
            size += kind.nbytes
    site.require(size <= MAX_FOLD_BYTES, f"the result would have {size:,} bytes")
    constants = tuple(None if o is None else o.constant for o in node.operands)
    return [
        _constant(Computed(op, constants, i), kind, site, large=size > SMALL_BYTES)
        for i, kind in enumerate(types)
        if isinstance(kind, TensorType)
    ]


def _evaluated(recipe: Computed) -> np.ndarray:
    try:
        return recipe()
    except (GraphoptError, NoKernelError, IndexError, ValueError) as error:
        raise Refused(f"it cannot be computed: {error}") from None


def _constant(recipe: Computed, kind: TensorType, site: Site, *, large: bool) -> Draft:
    if large:
        if Trait.PARTIAL in recipe.op.traits:
            _evaluated(recipe)  # it may fail, and must not do so when the file is written
        return site.constant(Constant(kind, recipe=recipe))
    array = _evaluated(recipe)
    site.require(
        array.shape == kind.shape and array.dtype == kind.dtype.numpy,
        f"its kernel gives {array.dtype}{list(array.shape)} for {kind}",
    )
    return site.constant(array)


PASS = Pass("fold_constants", (known_contents, moved_constant, computed_constant), __doc__ or "")
