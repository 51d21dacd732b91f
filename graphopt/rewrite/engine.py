"""The engine: walks a graph, tries rules, checks drafts, commits them, and keeps the record.

One worklist per pass: every node first, then the neighbours of whatever changed, until nothing does; a pass that runs
again looks at what changed since. A rule that refuses leaves a reason; one that raises or fails its check is
quarantined for the rest of the run, its site stays as it was, and a reproducer is written.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from graphopt.analysis.cost import Cost, attribute_bytes, binding, constant_bytes, cost
from graphopt.analysis.evaluate import reads
from graphopt.errors import GraphoptError
from graphopt.ir.graph import OMITTED, Graph, Node, Value, path_of
from graphopt.ir.operator import Operator
from graphopt.ir.types import TensorType, meet
from graphopt.ops.algebra import Refused
from graphopt.ops.infer import annotate
from graphopt.rewrite.check import check_numbers, check_types, needed_nodes, new_value, specimen
from graphopt.rewrite.pattern import Match
from graphopt.rewrite.record import Applied, Missed, NodeEntry, Quarantined, Timing, entry_of
from graphopt.rewrite.reproducer import write_reproducer
from graphopt.rewrite.rule import Pass, Rule, values_of
from graphopt.rewrite.site import Patch, Site, patch_of

Check: TypeAlias = Literal["sample", "every", "off"]

GROWTH = 1.05  # the output may have this many times the input's constant bytes ...
GROWTH_SLACK = 1_000_000  # ... and this many bytes more, so that tiny models can fold at all


@dataclass(frozen=True)
class Settings:
    """How the engine works.

    Attributes:
        target: what the result is for; `portable` keeps to standard operators.
        check: which drafts are evaluated: the first of each kind, every one, or none.
        max_growth: factor for the constants' bytes (`math.inf`: no limit).
        skip: names of passes and rules that are not run.
        reproducers: folder for reproducers; None for none.
    """

    target: str = "portable"
    check: Check = "sample"
    max_growth: float = GROWTH
    skip: frozenset[str] = frozenset()
    reproducers: Path | None = None


@dataclass
class _Tally:
    seconds: float = 0.0
    applied: int = 0
    refused: int = 0


@dataclass
class Engine:
    """Runs passes over one graph and collects what happened."""

    graph: Graph
    settings: Settings = field(default_factory=Settings)
    applied: list[Applied] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    _missed: dict[tuple[str, int | str], Missed] = field(default_factory=dict)
    _tallies: dict[tuple[str, str], _Tally] = field(default_factory=dict)
    _sampled: set[object] = field(default_factory=set)
    _banned: set[str] = field(default_factory=set)  # quarantined rules
    _changes: list[Node] = field(default_factory=list)  # nodes whose neighbourhood changed, in order
    _seen: dict[str, int] = field(default_factory=dict)  # how many of the changes a pass has looked at

    def __post_init__(self) -> None:
        self.bytes = constant_bytes(self.graph)
        self.limit = self.bytes * self.settings.max_growth + GROWTH_SLACK
        self.binding: Mapping[str, int] = binding(self.graph)

    # ---- running

    def run(self, pass_: Pass) -> int:
        """Run one pass to its fixed point; the number of rewrites made."""
        if pass_.name in self.settings.skip:
            return 0
        before = len(self.applied)
        rules = [r.started(self.graph) for r in pass_.rules if r.name not in self.settings.skip]
        for rule in rules:
            if rule.on != "nodes":
                for value in list(values_of(self.graph, (rule.on,))):
                    if value.graph is not None and value.graph.is_attached:
                        self._visit_value(pass_, rule, value)
        on_nodes = [r for r in rules if r.on == "nodes"]
        if on_nodes:
            self._work(pass_, on_nodes)
        return len(self.applied) - before

    def _work(self, pass_: Pass, rules: list[Rule]) -> None:
        by_operator: dict[type[Operator], list[Rule]] = {}
        seen = self._seen.get(pass_.name)
        first = list(self.graph.walk() if seen is None else dict.fromkeys(self._changes[seen:]))
        queue = deque(reversed(first) if pass_.backwards else first)
        waiting = set(queue)
        while queue:
            node = queue.popleft()
            waiting.discard(node)
            kind = type(node.op)
            if kind not in by_operator:
                by_operator[kind] = [r for r in rules if r.accepts(kind)]
            for rule in by_operator[kind]:
                if not node.is_attached:
                    break
                changed = self._visit(pass_, rule, node)
                if changed is None:
                    continue
                self._changes += changed
                for neighbour in changed:
                    if neighbour.is_attached and neighbour not in waiting:
                        queue.append(neighbour)
                        waiting.add(neighbour)
        self._seen[pass_.name] = len(self._changes)

    def _visit(self, pass_: Pass, rule: Rule, root: Node) -> list[Node] | None:
        site = rule.site(root, self.settings.target)
        if site is not None and rule.name in self._banned:
            first = next(q.label for q in self.quarantined if q.rule == rule.name)
            self._miss(pass_, rule, site, f"the rule failed at `{first}` and is not used any more")
            return None
        return None if site is None else self._attempt(pass_, rule, site)

    def _visit_value(self, pass_: Pass, rule: Rule, value: Value) -> None:
        if value.graph is not None and rule.name not in self._banned:
            site = Site(value.graph, Match(), None, value, self.settings.target)
            self._changes += self._attempt(pass_, rule, site) or ()

    def _attempt(self, pass_: Pass, rule: Rule, site: Site) -> list[Node] | None:
        """Try a rule at a site: the nodes to look at again, or None when nothing changed."""
        tally = self._tallies.setdefault((pass_.name, rule.name), _Tally())
        started = time.perf_counter()
        patch: Patch | None = None
        try:
            with changing(site.graph) if rule.copies_graphs else nullcontext():
                result = rule.rewrite(site)
                if result is None:
                    return None
                patch = patch_of(site, result)
                check_types(patch)
                checked = self._check(rule, site, patch)
                changed = self.commit(pass_.name, rule, site, patch, checked=checked)
        except Refused as refusal:
            tally.refused += 1
            self._miss(pass_, rule, site, str(refusal))
            return None
        except Exception as error:  # whatever a rule does wrong must not end the compilation
            self._quarantine(pass_, rule, site, patch, error)
            return None
        finally:
            tally.seconds += time.perf_counter() - started
        tally.applied += 1
        return changed

    def _check(self, rule: Rule, site: Site, patch: Patch) -> bool:
        mode = self.settings.check
        if mode == "off" or not patch.replace or not site.match.order:
            return False
        if mode == "sample":
            kind = (rule.name, tuple(n.op for n in site.match.order))
            if kind in self._sampled:
                return False
            self._sampled.add(kind)
            return check_numbers(rule, specimen(site, patch), seeds=1)
        return check_numbers(rule, specimen(site, patch), limit=None)

    def _miss(self, pass_: Pass, rule: Rule, site: Site, reason: str) -> None:
        worth = rule.worth(site) if rule.worth else self._root_cost(site)
        self._missed[rule.name, site.key] = Missed(pass_.name, rule.name, site.key, site.label, reason, worth)

    def _root_cost(self, site: Site) -> Cost:
        return cost(site.root, self.binding) if site.root is not None else Cost()

    def _quarantine(self, pass_: Pass, rule: Rule, site: Site, patch: Patch | None, error: Exception) -> None:
        kind = "" if isinstance(error, GraphoptError) else f"{type(error).__name__}: "
        folder = ""
        if self.settings.reproducers is not None:
            folder = write_reproducer(self.settings.reproducers, rule, site, patch, f"{kind}{error}")
        self._banned.add(rule.name)
        self.quarantined.append(Quarantined(pass_.name, rule.name, site.key, site.label, f"{kind}{error}", folder))

    # ---- committing

    def commit(self, pass_name: str, rule: Rule, site: Site, patch: Patch, *, checked: bool) -> list[Node]:
        """Put a draft into the graph and write it down; the nodes whose neighbourhood changed.

        Raises:
            Refused: an output would lose its name, or the growth budget would be exceeded.
        """
        graph, root = site.graph, site.key
        drafted = needed_nodes(site, patch)
        before = sum((cost(n, self.binding) for n in site.match.order), Cost())
        with changing(graph):
            wanted, added = self._add_constants(graph, site, patch, drafted)
            for node in drafted:
                self._dress(node, site)
                graph.insert(node, before=site.root)
            around = dict.fromkeys(u for old, _ in patch.replace for u in old.users)
            names = [old.name for old, _ in patch.replace]
            better = [new_value(new) for old, new in patch.replace if _is_better_known(new_value(new), old)]
            fresh = {r for n in drafted for r in n.results} | set(wanted)
            for old, new in patch.replace:
                self._take_place(graph, old, new_value(new), fresh)
            for value in patch.freeze:
                graph.make_constant(value)
            removed, freed, released = self._sweep(site)
            for value, name in wanted.items():
                if name in released:
                    graph.rename(value, name)
            replaced = [(name, new_value(new).name) for name, (_, new) in zip(names, patch.replace, strict=True)]
            growth = added + sum(constant_bytes(g) for n in drafted for g in n.op.graphs) - freed
            if growth > 0 and self.bytes + growth > self.limit:
                raise Refused(
                    f"it would add {growth:,} bytes of constants, and the growth budget (--max-growth) has "
                    f"{max(0, math.floor(self.limit - self.bytes)):,} left"
                )
            refreshed = self._propagate(better)
        self.bytes += growth
        after = sum((cost(n, self.binding) for n in (*site.match.order, *drafted) if n.graph is not None), Cost())
        made = [inner for n in drafted for inner in (n, *(i for g in n.op.graphs for i in g.walk()))]
        standing = (new_value(new).producer for _, new in patch.replace)
        step = Applied(
            number=len(self.applied),
            pass_name=pass_name,
            rule=rule.name,
            cls=rule.cls.value,
            root=root,
            matched=tuple(n.id for n in site.match.order),
            removed=tuple(n.id for n in removed),
            made=tuple(map(entry_of, made)),
            kept=tuple(dict.fromkeys(n.id for n in standing if n in site.match.order)),
            replaced=tuple(replaced),
            facts=dict(site.facts),
            saved=before - after,
            bytes_added=growth,
            checked=checked,
        )
        self.applied.append(step)
        self._missed.pop((rule.name, step.root), None)
        sources = [o.producer for n in (*removed, *drafted) for o in reads(n) if o.producer is not None]
        return [
            *made,
            *refreshed,
            *around,
            *sources,
            *(n for n in site.match.order if n.graph is not None),
        ]

    def _add_constants(
        self, graph: Graph, site: Site, patch: Patch, drafted: list[Node]
    ) -> tuple[dict[Value, str], int]:
        """Put the new constants that the draft reads into the graph.

        The constants with the names that they would like, and their bytes.
        """
        used = {v for n in drafted for v in reads(n)} | {new_value(n) for _, n in patch.replace}
        wanted: dict[Value, str] = {}
        added = 0
        for value in site.constants:
            if value in used and value.constant is not None:
                wanted[value] = value.name
                value.name = graph.fresh_name(value.name or "c")
                graph.add_constant(value)
                added += value.constant.nbytes
        return wanted, added

    def _dress(self, node: Node, site: Site) -> None:
        """Give a new node the name and papers of the matched node that it stands for, and all origins."""
        kin = [n for n in site.match.order if type(n.op) is type(node.op) and not _is_taken(n, site)]
        model = kin[0] if kin else site.root
        if model is not None and _is_taken(model, site):  # two nodes of one name are refused by ONNX Runtime
            model = None
        if model is not None and not node.name:
            node.name = model.name
            node.doc, node.metadata = model.doc, model.metadata
        origins = dict.fromkeys(o for n in site.match.order for o in (n.origins or (n.name,)) if o)
        node.origins = node.origins or tuple(origins)

    def _take_place(self, graph: Graph, old: Value, new: Value, fresh: set[Value]) -> None:
        """Let `new` be read wherever `old` was; a fresh value takes the old one's name, as does any new output."""
        if old is new:
            return
        if old.is_output and new not in fresh and (new.producer is None or new.is_output or new.graph is not old.graph):
            what = "a constant" if new.is_constant else "an input" if new.producer is None else "an output too"
            raise Refused(f"the output `{old.name}` must keep its name, and `{new.name}` is {what}")
        if old.is_output and new.is_constant:
            raise Refused(f"the output `{old.name}` must keep a producer, and it would be a constant")
        takes_name = (old.is_output or new in fresh) and old.name != OMITTED
        known = meet(old.type, new.type)  # the two are equal: what is known of either holds
        if known != new.type and (new in fresh or new.graph is old.graph):  # outside, only where a branch is taken
            graph.set_type(new, known, new.elements)
        graph.replace_uses(old, new)
        if takes_name:
            fresh.discard(new)
            graph.hand_over(old, new)

    def _sweep(self, site: Site) -> tuple[list[Node], int, set[str]]:
        """Erase matched nodes that nobody reads any more, and the constants that only they read.

        The nodes, the bytes of the constants, and the names of the constants.
        """
        removed: list[Node] = []
        freed = 0
        names: set[str] = set()
        for node in sorted(site.match.order, key=lambda n: n._position, reverse=True):
            if node.graph is None or any(r.is_read for r in node.results):
                continue
            operands = [o for o in dict.fromkeys(node.operands) if o is not None]
            graph = node.graph.root
            node.graph.erase(node)
            removed.append(node)
            if node.op.graphs:
                removed += [n for held in node.op.graphs for n in held.walk()]
                freed += sum(map(constant_bytes, node.op.graphs))
                constants = {c.name for held in node.op.graphs for c in held.constants}
                names |= constants - {v.name for g in graph.graphs() for v in g.values()}
            freed += attribute_bytes(node)
            for operand in operands:
                if (size := _drop_if_dead(operand)) is not None:
                    freed += size
                    names.add(operand.name)
        if site.value is not None and site.value.is_constant:
            freed += _drop_if_dead(site.value) or 0
        removed.sort(key=lambda n: n.id)
        return removed, freed, names

    def _propagate(self, changed: Iterable[Value]) -> list[Node]:
        """Infer types again downstream of values that became better known; the nodes whose results changed."""
        queue = deque(dict.fromkeys(u for v in changed for u in v.users))
        refreshed: list[Node] = []
        while queue:
            node = queue.popleft()
            if node.graph is None or not node.is_attached:
                continue
            before = [(r.type, r.elements is None) for r in node.results]
            annotate(node, node.graph, [])
            if [(r.type, r.elements is None) for r in node.results] != before:
                refreshed.append(node)
                queue.extend(u for r in node.results for u in r.users)
        return refreshed

    # ---- results

    @property
    def missed(self) -> tuple[Missed, ...]:
        """Refusals whose sites are still there."""
        nodes = {n.id for n in self.graph.walk()}
        names = {path_of(v) for v in values_of(self.graph)}
        return tuple(m for m in self._missed.values() if m.root in nodes or m.root in names)

    @property
    def timings(self) -> tuple[Timing, ...]:
        """Time and counts by rule."""
        return tuple(Timing(p, r, round(t.seconds, 6), t.applied, t.refused) for (p, r), t in self._tallies.items())


@contextmanager
def changing(graph: Graph) -> Iterator[None]:
    """A transaction on a graph, or the one that is open."""
    if graph.is_changing:
        yield
        return
    with graph.root.transaction():
        yield


def _is_better_known(new: Value, old: Value) -> bool:
    """Whether what follows a value may be known better once `new` stands for `old`."""
    kind = new.type
    counts = isinstance(kind, TensorType) and kind.dtype.is_integer and new.is_constant and not old.is_constant
    return counts or (new.type != old.type and old.type is not None)


def _is_taken(node: Node, site: Site) -> bool:
    return any(n.name == node.name for n in site.nodes if n.name)


def _drop_if_dead(value: Value) -> int | None:
    """Remove a constant that nobody reads; its bytes, or None where it stays."""
    if value.is_read or value.graph is None or not value.is_constant or value.constant is None:
        return None
    value.graph.remove_constant(value)
    return value.constant.nbytes


__all__ = ["Check", "Engine", "NodeEntry", "Settings"]
