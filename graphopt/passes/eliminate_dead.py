"""Remove what no output depends on.

before:
    (%x: f32[2]) -> (%y) {
      %unused: f32[2] = splat 3.0
      %a: f32[2] = Relu(%x)
      %b: f32[2] = Mul(%a, %unused)
      %y: f32[2] = Sigmoid(%x)
    }
after:
    (%x: f32[2]) -> (%y) {
      %y: f32[2] = Sigmoid(%x)
    }

A value read only inside a subgraph is read. Operators of foreign domains may have effects and stay. Inputs stay:
they are the model's interface.
"""

from __future__ import annotations

from graphopt.ir.graph import Node
from graphopt.ops.algebra import Refused
from graphopt.rewrite.rule import EXACT, Pass, rule
from graphopt.rewrite.site import Patch, Site

STANDARD = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})  # domains whose operators have no effects


@rule(EXACT)
def unread_node(site: Site) -> Patch | None:
    """A node whose results nobody reads goes."""
    node = site.node
    if any(r.is_read for r in node.results):
        return None
    inner = next((n for n in (node, *(n for g in node.op.graphs for n in g.walk())) if not is_effect_free(n)), None)
    if inner is not None:
        raise Refused(f"nobody reads it, but `{inner.op}` is of a foreign domain and may have effects")
    return Patch()


def is_effect_free(node: Node) -> bool:
    """Whether a node does nothing but compute its results, as far as its domain tells (see its graphs' nodes too)."""
    return node.op.domain in STANDARD


@rule(EXACT, on="constants")
def unread_constant(site: Site) -> Patch | None:
    """A constant that nobody reads goes."""
    value = site.value
    if value is None or not value.is_constant or value.is_read:
        return None
    site.require(value.name not in site.graph.info.pinned, "nobody reads it, but a quantization annotation names it")
    return Patch()


PASS = Pass("eliminate_dead", (unread_node, unread_constant), __doc__ or "", backwards=True)
