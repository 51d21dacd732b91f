"""The engine: rules that fail are set aside and told, refusals undo all, later sites come from earlier rewrites."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import graphopt
from graphopt import ops
from graphopt.errors import UsageError
from graphopt.ir.constant import Constant
from graphopt.ir.graph import Graph, copy_graph
from graphopt.ops.activation import Relu
from graphopt.ops.elementwise import Add
from graphopt.passes import fold_batch_norm, normalize
from graphopt.passes.pipeline import PASSES
from graphopt.rewrite.engine import Engine, Settings
from graphopt.rewrite.pattern import some, var
from graphopt.rewrite.rule import EXACT, ROUNDING, Pass, rule
from graphopt.rewrite.site import Draft, Site

NETWORK = """(%x: f32[N, 2, 6, 6]) -> (%y) {
  %w: f32[4, 2, 3, 3] = random 1
  %s: f32[4] = random 2 uniform 0.5 2.0
  %b: f32[4] = random 3
  %m: f32[4] = random 4
  %v: f32[4] = random 5 uniform 0.5 1.5
  %i = Identity(%x) @"first"
  %c = Conv(%i, %w) @"conv"
  %n = BatchNormalization(%c, %s, %b, %m, %v) @"norm"
  %r = Relu(%n) @"relu"
  %y = Identity(%r) @"last"
}"""


def network(text: str = NETWORK) -> Graph:
    return copy_graph(graphopt.parse(text)).seal()


@rule(EXACT, some(Relu, var("x")))
def stumbles(site: Site) -> Draft:
    """A rule with a bug."""
    return site[{"x": "nowhere"}["y"]]


@rule(EXACT, some(Relu, var("x")))
def lies(site: Site) -> Draft:
    """Says that relu(x) is x + 1."""
    return ops.add(site["x"], 1.0)  # type: ignore[return-value]  # an operand of the site is a draft


@rule(EXACT, some(Relu, var("x")))
def reshapes(site: Site) -> Draft:
    """Gives something of another type."""
    return site.constant(np.zeros(3, np.float32))


@pytest.mark.parametrize(("bad", "said"), [(stumbles, "KeyError"), (lies, "bits"), (reshapes, "f32[3]")])
def test_a_rule_that_fails_is_set_aside(bad, said: str, tmp_path: Path) -> None:
    graph = network()
    before = graphopt.text(graph)
    engine = Engine(graph, Settings(check="every", reproducers=tmp_path))
    assert engine.run(Pass("bad", (bad,), "bad")) == 0
    assert graphopt.text(graph) == before
    (found,) = engine.quarantined
    assert (found.rule, found.label) == (bad.name, "relu")
    assert said in found.error
    folder = Path(found.reproducer)
    assert folder.parent == tmp_path
    assert said in (folder / "why.txt").read_text()
    data = {k: Constant.of(v) for k, v in np.load(folder / "constants.npz").items()}
    again = graphopt.parse((folder / "before.txt").read_text(), data)
    assert [str(n.op) for n in again.nodes] == ["Relu"]
    assert engine.run(normalize.PASS) == 2, "compilation goes on"
    assert engine.run(fold_batch_norm.PASS) == 1
    assert [str(n.op) for n in graph.nodes] == ["Conv", "Relu"]


def test_a_rule_that_was_set_aside_stays_so() -> None:
    two = network(NETWORK.replace("%y = Identity(%r)", "%y = Relu(%r)"))
    engine = Engine(two, Settings(check="every"))
    engine.run(Pass("bad", (lies,), "bad"))
    engine.run(Pass("bad", (lies,), "bad"))
    assert len(engine.quarantined) == 1
    assert engine.quarantined[0].reproducer == ""


def test_without_checks_a_lie_is_believed() -> None:
    """So the checks above are what catches it."""
    graph = network()
    engine = Engine(graph, Settings(check="off"))
    assert engine.run(Pass("bad", (lies,), "bad")) == 1
    assert any(isinstance(n.op, Add) for n in graph.nodes)


def test_a_refusal_over_the_budget_undoes_all() -> None:
    text = """(%x: f32[N, 512, 6, 6]) -> (%y, %z) {
      %w: f32[512, 512, 1, 1] = random 1
      %s: f32[512] = random 2
      %c = Conv(%x, %w) @"conv"
      %r: i64[3] = dense[512, 1, 1]
      %k = Reshape(%s, %r)
      %y = Mul(%c, %k) @"scale"
      %z = Conv(%x, %w) {pads=[1, 1, 1, 1]} @"other"
    }"""
    graph = network(text)
    engine = Engine(graph, Settings(max_growth=1.0))
    engine.run(PASSES["fold_constants"])
    engine.limit = engine.bytes + 1000
    before, names = graphopt.text(graph), sorted(v.name for v in graph.values())
    assert engine.run(fold_batch_norm.PASS) == 0
    assert (graphopt.text(graph), sorted(v.name for v in graph.values())) == (before, names)
    (missed,) = engine.missed
    assert missed.label == "scale"
    assert "growth budget" in missed.reason
    assert "1,046,528 bytes" in missed.reason  # the copied weight, less the scale that nobody reads then
    assert missed.worth.nodes == 1
    engine.limit = float("inf")
    assert engine.run(fold_batch_norm.PASS) == 0, "a pass that runs again looks at what changed since"
    fresh = Engine(network(text))
    fresh.run(PASSES["fold_constants"])
    assert fresh.run(fold_batch_norm.PASS) == 1


def test_rules_and_passes_can_be_skipped() -> None:
    for skip in ({"fold_batch_norm"}, {"fold_affine"}):
        result = graphopt.optimize(network(), skip=skip)
        assert "BatchNormalization" in result.output.operators
    for wrong in ({"skip": ["nonsense"]}, {"also": ["nonsense"]}, {"passes": ["nonsense"]}, {"level": "O9"},
                  {"target": "moon"}):  # fmt: skip
        with pytest.raises(UsageError, match=r"nonsense|O9|moon"):
            graphopt.optimize(network(), **wrong)


def test_later_sites_come_from_earlier_rewrites() -> None:
    """A chain that only opens up link by link ends in one pass."""
    chain = "\n".join(f"  %i{i + 1} = Identity(%i{i})" for i in range(200))
    graph = network(f"(%i0: f32[3]) -> (%y) {{\n{chain}\n  %y = Relu(%i200)\n}}")
    engine = Engine(graph)
    assert engine.run(normalize.PASS) == 200
    assert engine.run(normalize.PASS) == 0
    assert [str(n.op) for n in graph.nodes] == ["Relu"]


def test_the_record_tells_classes_and_checks() -> None:
    result = graphopt.optimize(network(), check="every")
    assert {a.cls for a in result.records} == {EXACT.value, ROUNDING.value}
    assert all(a.checked for a in result.records if a.rule == "fold_affine")
    assert not result.is_exact
    assert graphopt.optimize(network(), skip=["fold_batch_norm"]).is_exact
