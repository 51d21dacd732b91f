"""Every mutant is caught twice: by the engine's own check alone, and by verification alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from mutants import MUTANTS, Mutant

import graphopt
from graphopt.ir.graph import copy_graph
from graphopt.passes.pipeline import RULES
from graphopt.rewrite.engine import Engine, Settings


@pytest.mark.parametrize("mutant", MUTANTS, ids=[m.id for m in MUTANTS])
@pytest.mark.parametrize("check", ["sample", "every"])
def test_engine_catches(mutant: Mutant, check: str, tmp_path: Path) -> None:
    graph = copy_graph(graphopt.parse(mutant.graph)).seal()
    before = graphopt.text(graph)
    target = "cpu" if mutant.pass_name.startswith("fuse") else "portable"
    engine = Engine(graph, Settings(target, check, reproducers=tmp_path))  # type: ignore[arg-type]
    engine.run(mutant.run_as())
    assert [q.rule for q in engine.quarantined] == [mutant.rule], "the engine let the mutant through"
    assert graphopt.text(graph) == before
    assert Path(engine.quarantined[0].reproducer, "why.txt").is_file()


@pytest.mark.parametrize("mutant", MUTANTS, ids=[m.id for m in MUTANTS])
def test_verification_catches(mutant: Mutant, tmp_path: Path) -> None:
    original = graphopt.parse(mutant.graph)
    graph = copy_graph(original).seal()
    engine = Engine(graph, Settings("cpu" if mutant.pass_name.startswith("fuse") else "portable", "off"))
    engine.run(mutant.run_as())
    assert [a.rule for a in engine.applied] == [mutant.rule]
    assert not graphopt.verify(original, graph).equal, "verification let the mutant through"


def test_every_rule_that_changes_values_has_mutants() -> None:
    # they replace no computed value
    exempt = {"unread_node", "unread_constant", "same_constant", "initializer_input", "carried_normalization"}
    assert {name for _, name in RULES} - exempt == {m.rule for m in MUTANTS}
