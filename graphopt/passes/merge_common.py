"""Compute equal things once, and keep equal constants once.

before:
    (%x: f32[2]) -> (%y) {
      %c: f32[2] = dense[1.0, 2.0]
      %d: f32[2] = dense[1.0, 2.0]
      %a: f32[2] = Add(%x, %c)
      %b: f32[2] = Add(%d, %x)
      %y: f32[2] = Mul(%a, %b)
    }
after:
    (%x: f32[2]) -> (%y) {
      %c: f32[2] = dense[1.0, 2.0]
      %a: f32[2] = Add(%x, %c)
      %y: f32[2] = Mul(%a, %a)
    }

Two nodes are equal when they have the same operator, the same attributes (in whatever order, compared as values)
and the same operands; operands of commutative operators may be exchanged. Random operators, operators without a room,
and those that quantize or dequantize are never merged. Constants are equal when type and bits are.
"""

from __future__ import annotations

from collections.abc import Hashable

from graphopt.ir.graph import OMITTED, ByName, Graph, Node, Value, path_of
from graphopt.ops.infer import facts
from graphopt.ops.room import Room, Trait
from graphopt.rewrite.pattern import some
from graphopt.rewrite.rule import EXACT, Pass, Rewrite, Rule
from graphopt.rewrite.site import Patch, Site


def _key(node: Node) -> Hashable | None:
    op = node.op
    if not isinstance(op, Room) or not node.operands or not op.is_pure(*facts(node)):
        return None
    operands = tuple(-1 if o is None else id(o) for o in node.operands)
    if Trait.COMMUTATIVE in op.traits and len(operands) == 2:
        operands = tuple(sorted(operands))
    return (node.graph, op, operands, *(r.name == OMITTED for r in node.results))


def _merge_nodes(_: Graph) -> Rewrite:
    seen: dict[Hashable, Node] = {}

    def same_node(site: Site) -> list[Value] | None:
        node = site.node
        key = _key(node)
        if key is None:
            return None
        if site.replaying:
            kept = next((n for o in node.operands if o for n in o.users if n.id == site.facts["kept"]), None)
        else:
            kept = seen.get(key)
            if kept is None or kept.graph is None or kept is node or _key(kept) != key or not kept.precedes(node):
                seen[key] = node
                return None
        if kept is None or _key(kept) != key:
            return None
        site.not_quantizing(node)
        site.note("kept", kept.id)
        site.match = site.match.with_node("kept", kept)
        return list(kept.results)

    return same_node


def _merge_constants(graph: Graph) -> Rewrite:
    seen: dict[Hashable, list[Value]] = {}
    find = ByName(lambda: (v for g in graph.graphs() for v in g.constants))

    def same_constant(site: Site) -> Patch | None:
        value = site.value
        if value is None or value.graph is None or value.constant is None or not value.is_constant:
            return None
        if site.replaying:
            kept = find(str(site.facts["kept"]))
            return None if kept is None else Patch(((value, kept),))
        fingerprint = value.constant.fingerprint()
        if fingerprint is None or not value.is_read:
            return None
        peers = seen.setdefault((value.graph, value.constant.type, fingerprint), [])
        for other in peers:
            if other.graph is value.graph and other.constant is not None and other.constant.same(value.constant):
                site.note("kept", path_of(other))
                return Patch(((value, other),))
        peers.append(value)
        return None

    return same_constant


def _unstarted(site: Site) -> None:
    raise RuntimeError("this rule remembers what it saw and is begun for each run")


same_node = Rule("same_node", EXACT, _unstarted, some(Room), begin=_merge_nodes, doc="Equal nodes become one.")
same_constant = Rule(
    "same_constant",
    EXACT,
    _unstarted,
    on="constants",
    begin=_merge_constants,
    doc="Equal constants become one.",
)

PASS = Pass("merge_common", (same_constant, same_node), __doc__ or "")
