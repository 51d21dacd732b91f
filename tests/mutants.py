"""Mutants of rules: each makes one mistake in a rule's construction, on a graph where the mistake matters.

A mutant runs the real rule and then spoils its draft: a sign, an axis, an epsilon, a pad, a group order, a bias. The
engine's own check must refuse every one, and so must verification of a result that was made without the check.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from graphopt.ir.constant import Constant
from graphopt.ir.graph import Node, Value
from graphopt.ops.elementwise import Sub
from graphopt.ops.room import Room
from graphopt.passes.pipeline import PASSES, RULES
from graphopt.rewrite.rule import Pass, Rule
from graphopt.rewrite.site import Draft, Site, patch_of

Spoil = Callable[[Site], None]

X = "%x: f32[N, 4, 9, 11]"
NORM = """
  %s: f32[6] = random 2 uniform 0.5 2.0
  %b: f32[6] = random 3
  %m: f32[6] = random 4
  %v: f32[6] = random 5 uniform 0.5 1.5
"""
CONV = f"""({X}) -> (%y) {{
  %w: f32[6, 2, 3, 2] = random 1
  %k: f32[6] = random 9
  {NORM}
  %c = Conv(%x, %w, %k) {{group=2, dilations=[2, 1], pads=[0, 1, 2, 0], strides=[1, 2]}}
  %y = BatchNormalization(%c, %s, %b, %m, %v) {{epsilon=0.1}}
}}"""
SQUARE = f"""(%x: f32[N, 6, 5, 5]) -> (%y) {{
  %w: f32[6, 6, 1, 1] = random 1
  {NORM}
  %c = Conv(%x, %w)
  %y = BatchNormalization(%c, %s, %b, %m, %v)
}}"""
TRANSPOSED = f"""(%x: f32[N, 4, 5, 5]) -> (%y) {{
  %w: f32[4, 3, 2, 2] = random 1
  %k: f32[6] = random 9
  {NORM}
  %c = ConvTranspose(%x, %w, %k) {{group=2, strides=[2, 2]}}
  %y = BatchNormalization(%c, %s, %b, %m, %v)
}}"""
GEMM = f"""(%x: f32[N, 6]) -> (%y) {{
  %w: f32[6, 6] = random 1
  %k: f32[6] = random 9
  {NORM}
  %c = Gemm(%x, %w, %k) {{transB=1, alpha=0.5, beta=2.0}}
  %y = BatchNormalization(%c, %s, %b, %m, %v)
}}"""
MATMUL = f"""(%x: f32[N, 6]) -> (%y) {{
  %w: f32[6, 6] = random 1
  {NORM}
  %c = MatMul(%x, %w)
  %y = BatchNormalization(%c, %s, %b, %m, %v)
}}"""
FUSED = """(%x: f32[N, 2, 8, 8], %z: f32[N, 4, 8, 8]) -> (%y) {
  %w: f32[4, 2, 3, 3] = random 1
  %k: f32[4] = random 9
  %c = Conv(%x, %w, %k) {pads=[0, 1, 2, 1]}
  %d = Add(%z, %c)
  %y = LeakyRelu(%d) {alpha=0.3}
}"""
CLIPPED = """(%x: f32[N, 2, 8, 8]) -> (%y) {
  %w: f32[4, 2, 3, 3] = random 1
  %lo: f32[] = dense -0.5
  %hi: f32[] = dense 0.75
  %c = Conv(%x, %w)
  %y = Clip(%c, %lo, %hi)
}"""
HARD = """(%x: f32[N, 2, 8, 8]) -> (%y) {
  %w: f32[4, 2, 3, 3] = random 1
  %c = Conv(%x, %w)
  %y = HardSigmoid(%c) {alpha=0.25, beta=0.4}
}"""
COMPUTED = """(%x: f32[3]) -> (%y) {
  %a: f32[3] = random 1
  %b: f32[3] = random 2 uniform 0.5 1.5
  %c = Sub(%a, %b)
  %y = Add(%x, %c)
}"""
MOVED = """(%x: f32[3, 3]) -> (%y) {
  %a: f32[3, 3] = random 1
  %c = Transpose(%a) {perm=[1, 0]}
  %y = Add(%x, %c)
}"""
CONTENTS = """(%x: f32[2, 3]) -> (%y) {
  %s = Shape(%x)
  %f = Cast(%s) {to=1}
  %one: i64[] = dense 0
  %g = Gather(%f, %one)
  %y = Mul(%x, %g)
}"""
BRANCH = """(%x: f32[2], %p: f32[2]) -> (%y) {
  %true: bool[] = dense true
  %a = Mul(%x, %p)
  %r = If(%true) {then_branch=graph "t" () -> (%b) {
    %w: f32[2] = dense[1.0, 2.0]
    %b = Add(%a, %w)
  }, else_branch=graph "e" () -> (%c) {
    %c = Neg(%a)
  }}
  %y = Relu(%r)
}"""
CASTLIKE = """(%x: f32[N, 4], %z: f64[M]) -> (%y) {
  %a = CastLike(%x, %z)
  %y = Sigmoid(%a)
}"""
NOTHING = """(%x: f32[N, 4], %p: f32[N, 4]) -> (%y) {
  %a = Identity(%x)
  %y = Sub(%p, %a)
}"""
CONSTANT = """(%x: f32[N, 2]) -> (%y) {
  %k = Constant() {value=f32[2] dense[1.0, 2.0]}
  %y = Add(%x, %k)
}"""
COMMON = """(%x: f32[2], %z: f32[2]) -> (%y) {
  %a = Sub(%x, %z)
  %b = Sub(%x, %z)
  %y = Mul(%a, %b)
}"""


@dataclass(frozen=True)
class Mutant:
    name: str
    pass_name: str
    rule: str
    graph: str
    spoil: Spoil

    @property
    def id(self) -> str:
        return f"{self.rule}-{self.name}"

    def run_as(self) -> Pass:
        """The pass with the spoiled rule alone."""
        original = RULES[self.pass_name, self.rule]
        return replace(PASSES[self.pass_name], rules=(_spoiled(original, self.spoil),))


def _spoiled(rule: Rule, spoil: Spoil) -> Rule:
    def wrap(rewrite):
        def rewritten(site: Site):
            result = rewrite(site)
            if result is None:
                return None
            patch = patch_of(site, result)
            site.patch = patch  # type: ignore[attr-defined]  # for spoilers that replace by something else
            spoil(site)
            return site.patch  # type: ignore[attr-defined]

        return rewritten

    if rule.begin is not None:
        begin = rule.begin
        return replace(rule, begin=lambda graph: wrap(begin(graph)))
    return replace(rule, rewrite=wrap(rule.rewrite))


# ---- spoilers


def array(number: int, change: Callable[[np.ndarray], np.ndarray]) -> Spoil:
    """Change the data of the draft's constant `number`."""

    def spoil(site: Site) -> None:
        value = site.constants[number]
        assert value.constant is not None
        changed = change(value.constant.array().copy())
        value.constant = Constant.of(changed.astype(value.constant.type.dtype.numpy))

    return spoil


def attribute(**changes: object) -> Spoil:
    """Change attributes of the draft's last node."""

    def spoil(site: Site) -> None:
        node = site.nodes[-1]
        assert isinstance(node.op, Room)
        node.op = replace(node.op, **changes)

    return spoil


def operands(change: Callable[[Site, Node], list[Value | None]]) -> Spoil:
    """Change the operands of the draft's last node."""

    def spoil(site: Site) -> None:
        node = site.nodes[-1]
        node._operands = tuple(change(site, node))

    return spoil


Norm = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float], tuple[np.ndarray, np.ndarray]]


def norm(change: Norm) -> Spoil:
    """Fold with another scale and shift, computed from the normalization's parameters, as a wrong rule would."""

    def spoil(site: Site) -> None:
        bn, linear = site.node, site.named("linear")
        s, b, m, v = (site.data(o, "").astype(np.float64) for o in bn.operands[1:])
        scale, shift = change(s, b, m, v, bn.op.epsilon)  # type: ignore[attr-defined]
        op = linear.op
        weight = site.data(linear.operands[1], "").astype(np.float64)
        bias = site.data(linear.operands[2], "") if len(linear.operands) > 2 else None
        site.constants[0].constant = Constant.of((weight * op.weight_scale(scale, weight.shape)).astype(np.float32))  # type: ignore[attr-defined]
        site.constants[1].constant = Constant.of(op.with_bias(bias, scale, shift).astype(np.float32))  # type: ignore[attr-defined]

    return spoil


def replaced_by(pick: Callable[[Site], Value]) -> Spoil:
    """Replace the root by another value."""

    def spoil(site: Site) -> None:
        from graphopt.rewrite.site import Patch

        site.patch = Patch(((site.node.result, pick(site)),))  # type: ignore[attr-defined]

    return spoil


def _roll(a: np.ndarray, axis: int = 0) -> np.ndarray:
    return np.roll(a, 1, axis)


def _group_order(a: np.ndarray) -> np.ndarray:
    """ConvTranspose's scale by channel laid out as if groups were not in order: the halves exchanged."""
    return np.concatenate([a[a.shape[0] // 2 :], a[: a.shape[0] // 2]])


def _wrong_axis(site: Site) -> None:
    """The scale along the weight's input axis (the weight is square, so that the shapes fit)."""
    bn, linear = site.node, site.named("linear")
    s, _, _, v = (site.data(o, "").astype(np.float64) for o in bn.operands[1:])
    weight = site.data(linear.operands[1], "")
    scale = s / np.sqrt(v + bn.op.epsilon)  # type: ignore[attr-defined]
    right = linear.op.weight_scale(scale, weight.shape)  # type: ignore[attr-defined]
    wrong = np.swapaxes(right, 0, 1)
    site.constants[0].constant = Constant.of((weight * wrong).astype(np.float32))


def _fold(name: str, graph: str, spoil: Spoil) -> Mutant:
    return Mutant(name, "fold_batch_norm", "fold_affine", graph, spoil)


def _root(s: np.ndarray, v: np.ndarray, eps: float) -> np.ndarray:
    return s / np.sqrt(v + eps)


def _bias_unscaled(site: Site) -> None:
    bn, linear = site.node, site.named("linear")
    s, b, m, v = (site.data(o, "").astype(np.float64) for o in bn.operands[1:])
    scale = s / np.sqrt(v + bn.op.epsilon)  # type: ignore[attr-defined]
    bias = site.data(linear.operands[2], "")
    site.constants[1].constant = Constant.of((bias + b - m * scale).astype(np.float32))


FOLD = [
    _fold("weight_sign", CONV, array(0, np.negative)),
    _fold("bias_sign", CONV, array(1, np.negative)),
    _fold("channels_rolled", CONV, array(0, _roll)),
    _fold("bias_rolled", CONV, array(1, _roll)),
    _fold("kernel_flipped", CONV, array(0, lambda a: a[:, :, ::-1])),
    _fold("one_weight", CONV, array(0, lambda a: np.where(np.arange(a.size).reshape(a.shape) == 7, 0, a))),
    _fold("no_epsilon", CONV, norm(lambda s, b, m, v, e: (_root(s, v, 0), b - m * _root(s, v, 0)))),
    _fold("default_epsilon", CONV, norm(lambda s, b, m, v, e: (_root(s, v, 1e-5), b - m * _root(s, v, 1e-5)))),
    _fold("epsilon_outside", CONV, norm(lambda s, b, m, v, e: (s / (np.sqrt(v) + e), b - m * s / (np.sqrt(v) + e)))),
    _fold("no_root", CONV, norm(lambda s, b, m, v, e: (s / (v + e), b - m * s / (v + e)))),
    _fold("no_gamma", CONV, norm(lambda s, b, m, v, e: (_root(s / s, v, e), b - m * _root(s / s, v, e)))),
    _fold("no_mean", CONV, norm(lambda s, b, m, v, e: (_root(s, v, e), b))),
    _fold("mean_unscaled", CONV, norm(lambda s, b, m, v, e: (_root(s, v, e), b - m))),
    _fold("mean_added", CONV, norm(lambda s, b, m, v, e: (_root(s, v, e), b + m * _root(s, v, e)))),
    _fold("no_beta", CONV, norm(lambda s, b, m, v, e: (_root(s, v, e), -m * _root(s, v, e)))),
    _fold("scale_twice", CONV, norm(lambda s, b, m, v, e: (_root(s, v, e) ** 2, b - m * _root(s, v, e)))),
    _fold("bias_unscaled", CONV, _bias_unscaled),
    _fold("bias_dropped", CONV, operands(lambda site, n: [*n.operands[:2]])),
    _fold("old_bias", CONV, operands(lambda site, n: [*n.operands[:2], site.named("linear").operands[2]])),
    _fold(
        "old_weight", CONV, operands(lambda site, n: [n.operands[0], site.named("linear").operands[1], n.operands[2]])
    ),
    _fold("pads_swapped", CONV, attribute(pads=(2, 1, 0, 0))),
    _fold("pads_sides", CONV, attribute(pads=(0, 0, 2, 1))),
    _fold("group_lost", SQUARE, array(0, lambda a: a * (np.arange(6) < 3)[None, :, None, None])),
    _fold("wrong_axis", SQUARE, _wrong_axis),
    _fold("transposed_weight", SQUARE, array(0, lambda a: a.swapaxes(0, 1))),
    _fold("conv_transpose_group_order", TRANSPOSED, array(0, _group_order)),
    _fold("conv_transpose_channel_roll", TRANSPOSED, array(0, lambda a: _roll(a, 1))),
    _fold("conv_transpose_bias_groups", TRANSPOSED, array(1, _group_order)),
    _fold("gemm_wrong_axis", GEMM, _wrong_axis),
    _fold("gemm_beta_kept", GEMM, attribute(beta=2.0)),
    _fold("gemm_alpha_lost", GEMM, attribute(alpha=1.0)),
    _fold("gemm_untransposed", GEMM, attribute(transB=0)),
    _fold("matmul_wrong_axis", MATMUL, _wrong_axis),
    _fold("matmul_no_shift", MATMUL, replaced_by(lambda site: site.nodes[0].result)),
    _fold("matmul_shift_sign", MATMUL, array(1, np.negative)),
]


def _fuse(name: str, rule: str, graph: str, spoil: Spoil) -> Mutant:
    return Mutant(name, "fuse_conv_activation", rule, graph, spoil)


FUSE = [
    _fuse("no_residual", "conv_sum_activation", FUSED, operands(lambda site, n: list(n.operands[:3]))),
    _fuse("no_bias", "conv_sum_activation", FUSED, operands(lambda site, n: [*n.operands[:2], None, n.operands[3]])),
    _fuse("pads_swapped", "conv_sum_activation", FUSED, attribute(pads=(2, 1, 0, 1))),
    _fuse("default_alpha", "conv_sum_activation", FUSED, attribute(activation_params=(0.01,))),
    _fuse("other_activation", "conv_sum_activation", FUSED, attribute(activation="Relu", activation_params=())),
    _fuse("bounds_wrong", "conv_activation", CLIPPED, attribute(activation_params=(-0.75, 0.5))),
    _fuse("upper_only", "conv_activation", CLIPPED, attribute(activation_params=(-3e38, 0.75))),
    _fuse("alpha_beta_swapped", "conv_activation", HARD, attribute(activation_params=(0.4, 0.25))),
]


def swapped_branch(site: Site) -> None:
    """Take the first operand's negation for what the branch does."""
    node = site.nodes[-1]
    node.op = Sub()


SIMPLE = [
    Mutant("operands_swapped", "fold_constants", "computed_constant", COMPUTED, array(0, np.negative)),
    Mutant("one_element", "fold_constants", "computed_constant", COMPUTED, array(0, lambda a: a + (np.arange(3) == 1))),
    Mutant("rounded", "fold_constants", "computed_constant", COMPUTED, array(0, lambda a: a.astype(np.float16))),
    Mutant("not_moved", "fold_constants", "moved_constant", MOVED, array(0, np.transpose)),
    Mutant("moved_the_wrong_way", "fold_constants", "moved_constant", MOVED, array(0, lambda a: a[::-1])),
    Mutant("off_by_one", "fold_constants", "known_contents", CONTENTS, array(0, lambda a: a + 1)),
    Mutant("other_operand", "normalize", "does_nothing", NOTHING,
           replaced_by(lambda site: site.graph.find("p"))),
    Mutant("other_constant", "normalize", "constant_node", CONSTANT, array(0, lambda a: a[::-1])),
    Mutant("not_cast", "normalize", "cast_like", CASTLIKE, attribute(to=10)),
    Mutant("other_branch", "inline_branches", "known_branch", BRANCH, swapped_branch),
    Mutant("not_captured", "inline_branches", "known_branch", BRANCH,
           replaced_by(lambda site: site.graph.find("p"))),
    Mutant("constants_mixed_up", "inline_branches", "known_branch", BRANCH, array(0, lambda a: a[::-1])),
    Mutant("other_value", "merge_common", "same_node", COMMON, replaced_by(lambda site: site.graph.find("x"))),
]  # fmt: skip

MUTANTS = [*FOLD, *FUSE, *SIMPLE]

__all__ = ["MUTANTS", "Draft", "Mutant"]
