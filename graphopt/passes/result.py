"""What `optimize` gives: the new graph, what was done, what was missed, and the record of it all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from graphopt.rewrite.record import (
    Applied,
    Missed,
    NodeEntry,
    Quarantined,
    Record,
    Summary,
    entry_of,
    graph_digest,
    summarize,
)

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph
    from graphopt.rewrite.engine import Engine
    from graphopt.rewrite.site import FactValue


@dataclass(frozen=True)
class Result:
    """The outcome of an optimization. `print(result)` shows it as a table."""

    source: Graph
    graph: Graph
    engine: Engine
    options: Mapping[str, FactValue]
    entries: tuple[NodeEntry, ...]
    rounds: int

    @cached_property
    def input(self) -> Summary:
        """What was optimized, in numbers."""
        return summarize(self.source)

    @cached_property
    def output(self) -> Summary:
        """What came out, in numbers."""
        return summarize(self.graph)

    @property
    def records(self) -> tuple[Applied, ...]:
        """Every rewrite that was made, in order."""
        return tuple(self.engine.applied)

    @cached_property
    def missed(self) -> tuple[Missed, ...]:
        """Every site that a rule refused and that is still there, with reason and worth."""
        return self.engine.missed

    @property
    def quarantined(self) -> tuple[Quarantined, ...]:
        """Rules that failed and were not used any more."""
        return tuple(self.engine.quarantined)

    @property
    def is_exact(self) -> bool:
        """Whether only EXACT rules were applied: the results must be the same bits."""
        return all(a.cls == "exact" for a in self.engine.applied)

    @cached_property
    def record(self) -> Record:
        """The whole record, with hashes; making it reads every weight."""
        return Record(
            options=self.options,
            input=replace(self.input, sha256=graph_digest(self.source)),
            output=replace(self.output, sha256=graph_digest(self.graph)),
            nodes=self.entries,
            remaining=tuple(map(entry_of, self.graph.walk())),
            applied=self.records,
            missed=self.missed,
            quarantined=self.quarantined,
            timings=self.engine.timings,
            rounds=self.rounds,
            notes=self.source.info.notes,
        )

    def __str__(self) -> str:
        from graphopt.rewrite.explain import table

        return table(self.input, self.output, self.records, self.missed, self.quarantined)
