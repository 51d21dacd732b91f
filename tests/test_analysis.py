"""Analyses: cost, liveness with captured values, and what `inspect` adds up."""

from __future__ import annotations

import graphopt
from graphopt.analysis.cost import cost, total
from graphopt.analysis.inspect import inspect
from graphopt.analysis.liveness import Lifetime, lifetimes, peak_bytes

CHAIN = """(%x: f32[1, 1000]) -> (%y) {
  %a = Relu(%x)
  %b = Sigmoid(%a)
  %c = Tanh(%b)
  %y = Add(%c, %a)
}"""
CAPTURED = """(%x: f32[1, 1000], %p: bool[]) -> (%y) {
  %a = Relu(%x)
  %b = Sigmoid(%x)
  %c = Tanh(%b)
  %y: f32[1, 1000] = If(%p) {else_branch=graph "no" () -> (%n) {
    %n = Identity(%a)
  }, then_branch=graph "yes" () -> (%t) {
    %t = Identity(%c)
  }}
}"""


def test_lifetimes_end_at_the_last_reader() -> None:
    graph = graphopt.parse(CHAIN)
    lives = {v.name: life for v, life in lifetimes(graph).items()}
    assert lives == {
        "x": Lifetime(0, 0),
        "a": Lifetime(0, 3),
        "b": Lifetime(1, 2),
        "c": Lifetime(2, 3),
        "y": Lifetime(3, 4),
    }
    assert peak_bytes(graph)[0] == 3 * 4000


def test_a_capture_keeps_a_value_alive() -> None:
    lives = {v.name: life for v, life in lifetimes(graphopt.parse(CAPTURED)).items()}
    assert lives["a"] == Lifetime(0, 3)
    assert lives["c"] == Lifetime(2, 3)


def test_cost_of_a_convolution() -> None:
    graph = graphopt.parse("(%x: f32[N, 2, 8, 8]) -> (%y) {\n %w: f32[4, 2, 3, 3] = random 1\n %y = Conv(%x, %w)\n}")
    (node,) = graph.nodes
    spent = cost(node, {"N": 1})
    assert spent.macs == 4 * 6 * 6 * 2 * 9
    assert spent.bytes == 4 * (2 * 64 + 4 * 2 * 9 + 4 * 36)
    assert total(graph) == spent


def test_inspection_of_resnet18() -> None:
    found = inspect(graphopt.load("zoo:resnet18"))
    assert found.parameters == 11_689_512
    assert found.buffers == 9_600
    assert found.macs == 1_814_073_344
    assert found.operators["Conv"] == 20
    assert {"parameters", "buffers", "macs", "activations", "activation_bytes", "layers"} <= found.to_json().keys()
