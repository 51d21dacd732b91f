"""Rules and passes: a rule is one rewrite; a pass is a named list of rules that belong together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Literal, TypeAlias

from graphopt.ir.graph import Graph, Node, Value
from graphopt.rewrite.pattern import Applied, Match, find
from graphopt.rewrite.site import Patch, Replacement, Site

if TYPE_CHECKING:
    from graphopt.analysis.cost import Cost

Sites: TypeAlias = Literal["nodes", "inputs", "constants"]
Rewrite: TypeAlias = Callable[[Site], Replacement | Sequence[Replacement] | None]


class Class(Enum):
    """What a rule keeps. EXACT: the same bits. ROUNDING: equal in real arithmetic. BOUNDED: a stated bound."""

    EXACT = "exact"
    ROUNDING = "rounding"
    BOUNDED = "bounded"


EXACT, ROUNDING, BOUNDED = Class.EXACT, Class.ROUNDING, Class.BOUNDED


@dataclass(frozen=True)
class Rule:
    """One rewrite.

    Attributes:
        pattern: where it applies; None for any node.
        on: what its sites are: nodes, or values without a producer.
        rewrite: builds the replacement at a site, or raises `Refused`, or returns None: not a site at all.
        begin: makes a fresh `rewrite` for each run over a graph, for rules that remember what they saw.
        worth: what is missed where it refuses; the root's cost and one node by default.
        copies_graphs: whether the replacement holds copies of subgraphs, which read values as soon as they are made.
    """

    name: str
    cls: Class
    rewrite: Rewrite
    pattern: Applied | None = None
    on: Sites = "nodes"
    begin: Callable[[Graph], Rewrite] | None = None
    worth: Callable[[Site], Cost] | None = None
    doc: str = ""
    copies_graphs: bool = False

    def accepts(self, op_type: type) -> bool:
        """Whether nodes with operators of this class can be roots."""
        return self.on == "nodes" and (self.pattern is None or self.pattern.accepts(op_type))

    def site(self, root: Node, target: str) -> Site | None:
        """The site at `root`, whose operator the rule accepts, if the pattern matches there."""
        if root.graph is None:
            return None
        match = Match(order=(root,)) if self.pattern is None else find(self.pattern, root)
        if match is None:
            return None
        return Site(root.graph, match, root, target=target)

    def started(self, graph: Graph) -> Rule:
        """The rule with fresh memory for one run."""
        return self if self.begin is None else replace(self, rewrite=self.begin(graph), begin=None)


@dataclass(frozen=True)
class Pass:
    """Rules that run together to a fixed point.

    Attributes:
        level: the lowest optimization level that runs it (0, 1, 2).
        targets: where it runs; empty for everywhere.
        backwards: nodes are visited from the last to the first.
    """

    name: str
    rules: tuple[Rule, ...]
    doc: str
    level: int = 1
    targets: frozenset[str] = frozenset()
    backwards: bool = False


def rule(
    cls: Class,
    pattern: Applied | None = None,
    *,
    name: str = "",
    on: Sites = "nodes",
    worth: Callable[[Site], Cost] | None = None,
    copies_graphs: bool = False,
) -> Callable[[Rewrite], Rule]:
    """Make a rule of a function from a site to a replacement; its name is the function's."""

    def make(function: Rewrite) -> Rule:
        return Rule(
            name or function.__name__,
            cls,
            function,
            pattern,
            on,
            worth=worth,
            doc=(function.__doc__ or "").strip(),
            copies_graphs=copies_graphs,
        )

    return make


def identity(name: str, pattern: Applied, operand: str, cls: Class = EXACT) -> Rule:
    """A row of an identity table: what matches `pattern` equals the value of variable `operand`."""
    return Rule(name, cls, lambda site: site.bound(operand), pattern, doc=f"equals `{operand}`")


def values_of(graph: Graph, kinds: Sequence[Sites] = ("inputs", "constants")) -> Iterator[Value]:
    """Inputs and constants of a graph and its subgraphs: the sites of rules on values."""
    for inner in graph.graphs():
        if "inputs" in kinds:
            yield from inner.inputs
        if "constants" in kinds:
            yield from inner.constants


__all__ = ["BOUNDED", "EXACT", "ROUNDING", "Class", "Pass", "Patch", "Rule", "identity", "rule", "values_of"]
