"""Replay: make the rewrites of a record again, at the same sites and in the same order, without searching.

The rules are run only where the record says that they applied; what they found out by looking at the whole graph
(which node had computed the same before, say) is in the record's facts.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext

from graphopt.errors import RecordError
from graphopt.ir.graph import ByName, Graph, Node
from graphopt.ops.algebra import Refused
from graphopt.rewrite.engine import Engine, Settings, changing
from graphopt.rewrite.pattern import Match
from graphopt.rewrite.record import Applied, Record
from graphopt.rewrite.rule import Rule, values_of
from graphopt.rewrite.site import Site, patch_of


def replay_on(graph: Graph, record: Record, rules: Mapping[tuple[str, str], Rule]) -> Engine:
    """Make a record's rewrites on `graph` (which changes); `rules` maps (pass, rule) names to rules.

    Raises:
        RecordError: the record is of another graph, or of a version whose rules did something else.
    """
    engine = Engine(graph, Settings(target=str(record.options.get("target", "portable")), max_growth=float("inf")))
    nodes = {n.id: n for n in graph.walk()}
    find = ByName(lambda: values_of(graph))
    _check_same_input(nodes, record)
    started = {key: rule.started(graph) for key, rule in rules.items()}
    for step in record.applied:
        rule = started.get((step.pass_name, step.rule))
        if rule is None:
            raise RecordError(f"step {step.number} uses the rule {step.rule!r}, which this graphopt does not have")
        site = _site(find, nodes, rule, step, engine)
        try:
            with changing(graph) if rule.copies_graphs else nullcontext():
                result = rule.rewrite(site)
                if result is None:
                    raise Refused("nothing matches")
                changed = engine.commit(step.pass_name, rule, site, patch_of(site, result), checked=False)
        except Refused as refusal:
            raise RecordError(
                f"step {step.number} ({step.rule} at {step.root}) does not apply here: {refusal}"
            ) from None
        nodes.update((n.id, n) for n in changed)
        made = engine.applied[-1].made
        if [m.id for m in made] != [m.id for m in step.made]:
            raise RecordError(f"step {step.number} ({step.rule}) made other nodes than the record says")
    return engine


def _check_same_input(nodes: Mapping[int, Node], record: Record) -> None:
    if len(nodes) != len(record.nodes):
        raise RecordError(f"the record is of a graph with {len(record.nodes)} nodes, and this one has {len(nodes)}")
    for entry in record.nodes:
        node = nodes.get(entry.id)
        if node is None or str(node.op) != entry.op or node.gives != entry.gives:
            raise RecordError(f"the record is of another graph: it has {entry.op} {entry.name!r} as node {entry.id}")


def _site(find: ByName, nodes: Mapping[int, Node], rule: Rule, step: Applied, engine: Engine) -> Site:
    if isinstance(step.root, int):
        root = nodes.get(step.root)
        fits = root is not None and rule.accepts(type(root.op))
        site = rule.site(root, engine.settings.target) if fits and root is not None else None
        if site is None:
            raise RecordError(f"step {step.number} ({step.rule}) finds nothing at node {step.root}")
    else:
        value = find(step.root)
        if value is None or value.graph is None:
            raise RecordError(f"step {step.number} ({step.rule}) finds no value {step.root!r}")
        site = Site(value.graph, Match(), None, value, engine.settings.target)
    site.facts.update(step.facts)
    site.replaying = True
    return site
