"""Put the branch of an If whose condition is known in the If's place.

before:
    (%x: f32[2, 1, 4]) -> (%y) {
      %one: i64[1] = dense[1]
      %shape: i64[1] = Shape(%x) {start=1, end=2}
      %is_one: bool[1] = Equal(%shape, %one)
      %y: f32[*] = If(%is_one) {then_branch=graph "squeeze" () -> (%s) {
          %s: f32[2, 4] = Squeeze(%x, %one)
        }, else_branch=graph "leave" () -> (%i) {
          %i: f32[2, 1, 4] = Identity(%x)
        }}
    }
after:
    (%x: f32[2, 1, 4]) -> (%y) {
      %one: i64[1] = dense[1]
      %shape: i64[1] = Shape(%x) {start=1, end=2}
      %is_one: bool[1] = Equal(%shape, %one)
      %y: f32[2, 4] = Squeeze(%x, %one)
    }

Exporters write such an If for whatever depends on a shape. What a branch holds in graphs of its own goes with it.
"""

from __future__ import annotations

from graphopt.analysis.evaluate import needed
from graphopt.ir.graph import Graph, Node, Value, copy_graph
from graphopt.ops.control_flow import If
from graphopt.ops.shape import Identity
from graphopt.passes.eliminate_dead import is_effect_free
from graphopt.rewrite.pattern import some
from graphopt.rewrite.rule import EXACT, Pass, rule
from graphopt.rewrite.site import Draft, Site


@rule(EXACT, some(If), copies_graphs=True)
def known_branch(site: Site) -> list[Draft] | None:
    """The nodes of the branch that is always taken."""
    node = site.node
    condition = node.operands[0]
    known = None if condition is None else site.fact(condition).elements
    if not isinstance(node.op, If) or known is None or known.size != 1 or not isinstance(known.item(), bool):
        return None
    branch = node.op.then_branch if known.item() else node.op.else_branch
    effect = next((n for n in set(branch.nodes) - set(needed(branch, branch.outputs)) if not is_effect_free(n)), None)
    site.require(effect is None, f"nobody reads what `{effect and effect.op}` gives, but it may have effects")
    return _copied(site, branch, _taken_names(node))


def _copied(site: Site, branch: Graph, taken: set[str]) -> list[Draft]:
    """The branch's outputs, computed in the site's graph; its values keep their names where these are free."""
    copies: dict[Value, Value] = {}
    for constant in branch.constants:
        if constant.constant is not None:
            copies[constant] = site.constant(constant.constant, constant.name).value
    for inner in needed(branch, branch.outputs):
        op = inner.op.with_graphs(tuple(copy_graph(g, site.graph, copies) for g in inner.op.graphs))
        made = site.add_node(op, [None if o is None else copies.get(o, o) for o in inner.operands], len(inner.results))
        made.name, made.doc, made.metadata = inner.name, inner.doc, inner.metadata
        made.origins = inner.origins or ((inner.name,) if inner.name else ())
        for old, new in zip(inner.results, made.results, strict=True):
            new.name = "" if old.name in taken else old.name
            copies[old] = new
    outputs: list[Draft] = []
    for result, output in zip(site.node.results, branch.outputs, strict=False):
        value = copies.get(output, output)
        can_take_name = value.producer in site.nodes and all(o.value is not value for o in outputs)
        needs_node = result.is_output and not can_take_name  # a constant, a value from outside, or another output
        outputs.append(site.apply(Identity(), value) if needs_node else Draft(site, value))
    return outputs


def _taken_names(node: Node) -> set[str]:
    """The names of all values but those in the node's own graphs."""
    assert node.graph is not None
    inside = {g for branch in node.op.graphs for g in branch.graphs()}
    return {v.name for g in node.graph.root.graphs() if g not in inside for v in g.values()}


PASS = Pass("inline_branches", (known_branch,), __doc__ or "")
