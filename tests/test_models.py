"""Real models end to end: each compiles, verifies, replays, and every normalization that is left has its reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from models import LIGHT_ATOL, LIGHT_RTOL, RealModel, light_case, real_models

import graphopt
from graphopt.api import verify_result
from graphopt.ir.verifier import verify as verify_graph
from graphopt.onnx_format.writer import save
from graphopt.ops.infer import infer
from graphopt.ops.norm import BatchNormalization
from graphopt.rewrite.record import load_record
from graphopt.runtime.onnxruntime import OnnxRuntimeSession

FOREIGN = ("super_resolution_pre_post",)  # operators of a domain that no runtime here has: carried, never run


def is_foreign(model: RealModel) -> bool:
    return any(name in model.id for name in FOREIGN)


@pytest.mark.parametrize("model", real_models())
def test_compiles_and_verifies(model: RealModel, tmp_path: Path) -> None:
    graph = graphopt.load(model.path)
    before = graphopt.text(graph) if graph.info.ir_version and len(graph) < 400 else ""
    result = graphopt.optimize(graph)
    assert not result.quarantined
    assert result.output.nodes <= result.input.nodes
    verify_graph(result.graph, lambda n: [i.type for i in infer(n)])
    assert [v.name for v in result.graph.outputs] == [v.name for v in graph.outputs]
    left = [n for n in result.graph.walk() if isinstance(n.op, BatchNormalization)]
    reasons = {m.root: m for m in result.missed if m.rule == "fold_affine"}
    assert all(n.id in reasons and reasons[n.id].reason for n in left)
    assert not before or graphopt.text(graph) == before, "optimize changed its input"
    out = tmp_path / "out.onnx"
    save(result.graph, out)
    if is_foreign(model):
        return
    verification = verify_result(model.path, graph, out, result)
    assert verification.equal, verification.sentence


@pytest.mark.parametrize("model", real_models("onnx"))
def test_light_models_give_their_expected_outputs(model: RealModel, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    save(graphopt.optimize(graphopt.load(model.path), target="cpu").graph, out)
    feeds, expected = light_case(model)
    found = OnnxRuntimeSession(out).run(feeds)
    assert len(found) == len(expected)
    for array, wanted in zip(found.values(), expected, strict=True):
        np.testing.assert_allclose(array, wanted, rtol=LIGHT_RTOL, atol=LIGHT_ATOL)


@pytest.mark.parametrize("model", real_models("pypi"))
def test_replay_gives_the_same_bytes(model: RealModel, tmp_path: Path) -> None:
    graph = graphopt.load(model.path)
    result = graphopt.optimize(graph, check="off")
    record = load_record(result.record.dumps())
    save(result.graph, tmp_path / "a.onnx")
    save(graphopt.replay(graphopt.load(model.path), record), tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    told = graphopt.explain(record)
    assert all(m.reason in told for m in result.missed)


@pytest.mark.parametrize("model", real_models("pypi"))
def test_text_reads_back(model: RealModel) -> None:
    graph = graphopt.load(model.path)
    text = graphopt.text(graph)
    assert graphopt.text(graphopt.parse(text)) == text
