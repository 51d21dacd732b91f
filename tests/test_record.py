"""The record: what it holds is enough to tell every node's story, both ways, and to compile again; from JSON alone."""

from __future__ import annotations

import dataclasses
import json

import jsonschema
import pytest
from hypothesis import given, settings
from networks import networks

import graphopt
from graphopt.errors import RecordError
from graphopt.ir.graph import Graph
from graphopt.passes.result import Result
from graphopt.rewrite.explain import Explanation, count
from graphopt.rewrite.record import Record, schema

TRIPLE = """(%x: f32[N, 4, 8, 8]) -> (%y) {
  %w: f32[4, 4, 3, 3] = random 1
  %s: f32[4] = random 2 uniform 0.5 2.0
  %b: f32[4] = random 3
  %m: f32[4] = random 4
  %v: f32[4] = random 5 uniform 0.5 1.5
  %c = Conv(%x, %w) {pads=[1, 1, 1, 1]} @"conv"
  %n = BatchNormalization(%c, %s, %b, %m, %v) @"norm"
  %r = Relu(%n) @"relu"
  %i = Identity(%r) @"nothing"
  %d = Sigmoid(%x) @"unread"
  %k = Shape(%w) @"shape"
  %z = Conv(%i, %w) @"other"
  %q = BatchNormalization(%z, %s, %b, %m, %v) @"kept"
  %a = Relu(%z) @"reader"
  %y = Concat(%q, %a) {axis=1} @"out"
}"""


def compiled(text: str = TRIPLE, target: str = "portable") -> tuple[Graph, Result, Record]:
    graph = graphopt.parse(text)
    result = graphopt.optimize(graph, target=target)
    return graph, result, graphopt.load_record(result.record.dumps())


def stories(told: str) -> dict[str, str]:
    lines = told.partition("To the result:")[0].splitlines()
    found: dict[str, list[str]] = {}
    for line in lines[2:]:
        if line.startswith("      "):
            found[list(found)[-1]].append(line.strip())
        elif line.strip():
            found[line.split("`")[1]] = []
    return {name: "\n".join(body) for name, body in found.items()}


def test_a_record_fits_its_schema() -> None:
    _, result, _ = compiled()
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.validate(json.loads(result.record.dumps()), schema())


def test_a_triple_is_one_story() -> None:
    for target, steps in (("portable", ["fold_affine"]), ("cpu", ["fold_affine", "conv_activation"])):
        _, _, record = compiled(target=target)
        told = stories(graphopt.explain(record))
        for name in ("conv", "norm"):
            assert all(step in told[name] for step in steps), told[name]
        becomes = "now part of com.microsoft::FusedConv" if target == "cpu" else "now part of Conv `conv`"
        assert becomes in told["norm"]


def test_every_way_to_end_is_told() -> None:
    _, _, record = compiled()
    told = stories(graphopt.explain(record))
    assert list(told) == ["conv", "norm", "relu", "nothing", "unread", "shape", "other", "kept", "reader", "out"]
    assert "`r` is read instead" in told["nothing"]
    assert "eliminate_dead" in told["unread"]
    assert "nothing of it is left" in told["unread"]
    assert told["relu"] == "kept as it is"
    assert "not done: fold_affine" in told["kept"]
    assert "`z` is also read by `reader`" in told["kept"]
    assert "worth 1 node" in told["kept"]


def test_results_are_told_by_their_sources() -> None:
    _, result, record = compiled(target="cpu")
    back = graphopt.explain(record).partition("To the result:")[2]
    for node in result.graph.nodes:
        assert f"`{node.label}`" in back
    assert "made of Conv `conv`, BatchNormalization `norm`, Relu `relu`" in back


@settings(max_examples=40)
@given(graph=networks())
def test_no_node_is_without_a_story(graph: Graph) -> None:
    """Every source node ends in nodes of the result, in another value, in a constant, or in nothing: and says so."""
    result = graphopt.optimize(graph, target="cpu", check="off")
    told = Explanation(graphopt.load_record(result.record.dumps()))
    left = {n.id for n in result.graph.walk()}
    stories = told.stories()
    assert [s.node.id for s in stories] == [n.id for n in told.record.nodes]
    for story in stories:
        assert {n.id for n in story.became} <= left
        assert story.steps or [n.id for n in story.became] == [story.node.id]
    origins = told.origins()
    assert {o.node.id for o in origins} == left
    for origin in origins:
        assert origin.steps or [n.id for n in origin.sources] == [origin.node.id]


def test_all_that_was_missed_is_told() -> None:
    _, result, record = compiled()
    told = graphopt.explain(record)
    assert result.missed
    for missed in result.missed:
        assert missed.reason in told


def test_a_record_of_another_graph_is_refused() -> None:
    _, _, record = compiled()
    other = graphopt.parse(TRIPLE.replace("random 1", "random 11"))
    with pytest.raises(RecordError, match="another graph"):
        graphopt.replay(other, record)
    unhashed = dataclasses.replace(record, input=dataclasses.replace(record.input, sha256=""))
    with pytest.raises(RecordError, match="another graph"):
        graphopt.replay(graphopt.parse(TRIPLE.replace("Sigmoid", "Tanh")), unhashed)


def test_a_record_that_leads_elsewhere_is_refused() -> None:
    graph, _, record = compiled()
    with pytest.raises(RecordError, match="another graph than the record"):
        graphopt.replay(graph, dataclasses.replace(record, applied=record.applied[:-1]))
    step = dataclasses.replace(record.applied[0], rule="unheard_of")
    with pytest.raises(RecordError, match="unheard_of"):
        graphopt.replay(graph, dataclasses.replace(record, applied=(step,)))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda d: d.pop("nodes"), "nodes"),
        (lambda d: d.update(format="something"), "graphopt.record"),
        (lambda d: d.update(format_version=99), "99"),
        (lambda d: d["applied"][0].update(rule=3), "rule"),
    ],
)
def test_a_broken_record_is_refused(spoil, said: str) -> None:
    data = json.loads(compiled()[2].dumps())
    spoil(data)
    with pytest.raises(RecordError, match=said):
        graphopt.load_record(json.dumps(data))


def test_what_is_no_json_is_refused() -> None:
    for text in ("", "{", "[]", "nonsense"):
        with pytest.raises(RecordError):
            graphopt.load_record(text)


def test_numbers_for_people() -> None:
    numbers = (0, -5, 999, 1000, 999_499, 999_600, 1_234_567, 10**9, 10**15)
    assert [count(n) for n in numbers] == ["0", "-5", "999", "1 k", "999 k", "1 M", "1.23 M", "1 G", "1e+03 T"]
