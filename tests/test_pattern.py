"""Patterns: written as expressions, matched on graphs; and rows of identity tables run by the engine."""

from __future__ import annotations

import pytest

import graphopt
from graphopt import ops
from graphopt.errors import UsageError
from graphopt.ir.graph import copy_graph
from graphopt.ops.activation import Relu
from graphopt.ops.algebra import LinearWeights
from graphopt.ops.elementwise import Add
from graphopt.ops.room import Trait
from graphopt.rewrite.engine import Engine, Settings
from graphopt.rewrite.pattern import Applied, Match, constant, find, maybe, some, var
from graphopt.rewrite.rule import EXACT, Pass, identity

x, y = var("x"), var("y")


def pattern(expression: object) -> Applied:
    assert isinstance(expression, Applied)
    return expression


def match(expression: object, text: str, root: str = "y") -> Match | None:
    graph = graphopt.parse(text)
    producer = graph.find(root).producer
    assert producer is not None
    return find(pattern(expression), producer)


def names(found: Match | None) -> dict[str, str]:
    assert found is not None
    return {k: v.name if v is not None else "" for k, v in found.values.items()}


SUM = "(%a: f32[2], %b: f32[2]) -> (%y) {\n %r = Relu(%a)\n %y = Add(%r, %b)\n}"


def test_expressions_match_structure_and_bind_values() -> None:
    assert names(match(ops.add(ops.relu(x), y), SUM)) == {"x": "a", "y": "b"}
    assert match(ops.add(ops.sigmoid(x), y), SUM) is None


def test_commutative_operators_match_both_ways() -> None:
    assert names(match(ops.add(x, ops.relu(y)), SUM)) == {"x": "b", "y": "a"}
    swapped = SUM.replace("Add(%r, %b)", "Sub(%r, %b)")
    assert match(ops.sub(x, ops.relu(y)), swapped) is None


def test_a_variable_that_comes_twice_is_one_value() -> None:
    twice = "(%a: f32[2], %b: f32[2]) -> (%y) {\n %y = Mul(%a, %a)\n}"
    assert names(match(ops.mul(x, x), twice)) == {"x": "a"}
    assert match(ops.mul(x, x), twice.replace("Mul(%a, %a)", "Mul(%a, %b)")) is None


def test_numbers_and_constants() -> None:
    text = "(%a: f32[2]) -> (%y) {\n %c: f32[2] = splat 2.0\n %y = Mul(%a, %c)\n}"
    assert names(match(ops.mul(x, 2), text)) == {"x": "a"}
    assert match(ops.mul(x, 3), text) is None
    assert names(match(ops.mul(x, constant("k")), text)) == {"x": "a", "k": "c"}
    assert match(ops.mul(x, constant("k")), SUM.replace("Add", "Mul")) is None
    with pytest.raises(UsageError, match="plain numbers"):
        x.lift([1, 2])


def test_operands_left_out_and_interfaces() -> None:
    text = "(%a: f32[1, 2, 4, 4], %w: f32[3, 2, 1, 1]) -> (%y) {\n %c = Conv(%a, %w)\n %y = Relu(%c)\n}"
    found = match(some(Trait.ACTIVATION, some(LinearWeights, x, y, maybe("b"), name="linear")), text)
    assert names(found) == {"x": "a", "y": "w", "b": ""}
    assert found is not None
    assert found.nodes["linear"].result.name == "c"
    assert [n.result.name for n in found.order] == ["c", "y"]
    assert match(some(Trait.ACTIVATION, some(LinearWeights, x, y)), text) is not None
    assert match(some(Add), text) is None


def test_anywhere_takes_any_operand() -> None:
    assert names(match(some(Add, anywhere=some(Relu, x)), SUM)) == {"x": "a"}
    assert match(some(Add, anywhere=some(Add)), SUM) is None


def test_a_row_of_an_identity_table() -> None:
    right = Pass("table", (identity("double_negation", pattern(ops.neg(ops.neg(x))), "x"),), "right")
    wrong = Pass("table", (identity("relu_relu", pattern(ops.relu(some(Relu, x))), "x"),), "wrong on purpose")
    text = "(%a: f32[2]) -> (%y) {\n %r = Neg(%a)\n %s = Neg(%r)\n %y = Sigmoid(%s)\n}"
    graph = copy_graph(graphopt.parse(text)).seal()
    engine = Engine(graph, Settings(check="every"))
    assert engine.run(right) == 1
    assert [str(n.op) for n in graph.nodes] == ["Sigmoid"]
    graph = copy_graph(graphopt.parse(text.replace("Neg", "Relu"))).seal()
    engine = Engine(graph, Settings(check="every"))
    assert engine.run(wrong) == 0
    assert [q.rule for q in engine.quarantined] == ["relu_relu"]
    assert engine.applied == []
    assert EXACT.value == "exact"
