"""The benchmarks' own parts: models made to be measured on, environments of peers, what is counted, the page."""

from __future__ import annotations

import hashlib
import importlib
import json
import socket
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from models import RealModel, real_models
from onnx import TensorProto, helper, parser

from graphopt.errors import GraphoptError
from graphopt.runtime.bench import Comparison, Row, Run, measure, paired_ratio

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.append(str(BENCHMARKS))  # they are scripts, not a package
compiling, peers, raw_export, report = map(importlib.import_module, ("compile", "peers", "raw_export", "report"))

DRAWN = "3b7d1f40f02702a64cb30e02da569b8855066eab467e8b6425154f4942243b56"


# Models to measure on


def test_drawn_weights_are_the_same_everywhere() -> None:
    drawn = raw_export.normal("w", (3, 5), 0.1).tobytes() + raw_export.uniform("v", (7,), 0.5, 1.5).tobytes()
    assert hashlib.sha256(drawn).hexdigest() == DRAWN


def test_drawn_weights_have_the_statistics_asked_for() -> None:
    normal, uniform = raw_export.normal("w", (100_000,), 0.1), raw_export.uniform("w", (100_000,), 0.5, 1.5)
    assert abs(normal.mean()) < 1e-3
    assert normal.std() == pytest.approx(0.1, rel=0.01)
    assert (uniform.min(), uniform.max()) == (pytest.approx(0.5, abs=1e-3), pytest.approx(1.5, abs=1e-3))


@pytest.mark.parametrize("count", [1, 4, 6, 400])
def test_blocks(count: int) -> None:
    model = raw_export.blocks(count)
    assert len(model.graph.node) == count
    assert model.SerializeToString(deterministic=True) == raw_export.blocks(count).SerializeToString(deterministic=True)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).standard_normal((2, 4, 8, 8)).astype(np.float32)
    (y,) = session.run(None, {"x": x})
    assert y.shape == x.shape
    assert np.isfinite(y).all()
    assert np.abs(y).max() < 10


@pytest.mark.parametrize("model", real_models("skeleton", only=["skeleton/resnet50.raw"]))
def test_the_dialect_is_the_exporters(model: RealModel) -> None:
    """But for the weights' values, the same bytes as the exporter's own file."""
    real, made = onnx.load(model.source), raw_export.resnet("resnet50")
    for graph in (real.graph, made.graph):
        for weight in graph.initializer:
            weight.ClearField("raw_data")
            weight.ClearField("doc_string")
    assert made.SerializeToString(deterministic=True) == real.SerializeToString(deterministic=True)


@pytest.mark.slow
def test_resnet152(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    raw_export.write(raw_export.resnet("resnet152"), target)
    assert 235e6 < target.stat().st_size < 245e6
    graph = onnx.load(target).graph
    assert len(graph.node) == 1300
    statistics = [onnx.numpy_helper.to_array(w) for w in graph.initializer if "running" in w.name]
    assert len(statistics) == 2 * 155
    assert not any(((s == 0) | (s == 1)).all() for s in statistics)
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)})
    assert np.isfinite(y).all()
    assert 0.1 < y.std() < 100
    assert list(tmp_path.iterdir()) == [target]


def test_a_model_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    target.write_text("what stood there")

    class Broken:
        def SerializeToString(self, deterministic: bool) -> bytes:
            raise MemoryError

    with pytest.raises(MemoryError):
        raw_export.write(Broken(), target)
    assert target.read_text() == "what stood there"
    assert list(tmp_path.iterdir()) == [target]


# What is counted

NESTED = """
<ir_version: 10, opset_import: ["" : 18, "local" : 1]>
main (float[N, 2, 4, 4] x, bool c) => (float[N, 2, 4, 4] y) {
    s = Constant <value = float[2] {1.0, 2.0}> ()
    a = local.normed (x, s)
    b = local.normed (a, s)
    y = If (c) <
        then_branch = then () => (float[N, 2, 4, 4] t) { t0 = BatchNormalization (b, s, s, s, s) t = Relu (t0) },
        else_branch = other () => (float[N, 2, 4, 4] e) { e = Identity (b) }
    >
}
<domain: "local", opset_import: ["" : 18]>
normed (v, s) => (w) { u = Constant <value_float = 0.0> () n = BatchNormalization (v, s, s, s, s) w = Max (n, u) }
"""


def test_nodes_are_counted_with_functions_inlined_and_subgraphs_but_no_constants(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(parser.parse_model(NESTED), path)
    facts = compiling.facts(path)
    # Twice BatchNormalization and Max; If with BatchNormalization, Relu and Identity inside.
    assert (facts.nodes, facts.batch_norms) == (8, 3)
    assert facts.loads
    assert facts.bytes == path.stat().st_size


def test_external_data_counts_and_a_broken_file_does_not_load(tmp_path: Path) -> None:
    weight = onnx.numpy_helper.from_array(np.ones((1000,), np.float32), "w")
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1000]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", value[:1], value[1:], [weight])
    path = tmp_path / "model.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    facts = compiling.facts(path, tmp_path)
    assert facts.loads
    assert facts.bytes == path.stat().st_size + 4000
    (tmp_path / "weights.bin").unlink()
    assert not compiling.facts(path, tmp_path).loads


# Peers


def test_an_environment_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def install(folder: Path, requirements: tuple[str, ...]) -> None:
        made.append(requirements)
        folder.mkdir()

    monkeypatch.setattr(peers, "cache", lambda: tmp_path)
    monkeypatch.setattr(peers, "install", install)
    first, second, other = (peers.environment(needed) for needed in (("a==1", "b==2"), ("a==1", "b==2"), ("a==2",)))
    assert first == second != other
    assert made == [("a==1", "b==2"), ("a==2",)]
    assert len(list((tmp_path / "environments").iterdir())) == 2


def test_a_peer_that_cannot_be_installed_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def install(folder: Path, requirements: tuple[str, ...]) -> None:
        folder.mkdir()
        raise GraphoptError("onnxsim could not be installed: no network")

    monkeypatch.setattr(peers, "cache", lambda: tmp_path)
    monkeypatch.setattr(peers, "install", install)
    contender = compiling.peer_on(peers.PEERS[0], tmp_path / "model.onnx")
    row = measure([contender], base=contender.name, rounds=1).row(contender.name)
    assert row.error.endswith("onnxsim could not be installed: no network")
    assert list((tmp_path / "environments").iterdir()) == []


def test_peers_are_pinned_and_their_scripts_parse() -> None:
    assert len({peer.name for peer in peers.PEERS}) == len(peers.PEERS)
    for peer in peers.PEERS:
        assert all("==" in requirement for requirement in peer.requirements)
        compile(peer.script, peer.name, "exec")


def test_models_by_name(tmp_path: Path) -> None:
    for name in ("b.raw.onnx", "a.raw.onnx", "c.opt.onnx"):
        (tmp_path / name).touch()
    assert list(compiling.expand([str(tmp_path), str(tmp_path / "c.opt.onnx")])) == ["a.raw", "b.raw", "c.opt"]
    with pytest.raises(GraphoptError, match=r"resnet7.*resnet50, resnet101, resnet152"):
        compiling.expand(["resnet7"])


# The page


def test_the_page_names_no_folder_and_no_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["compile.py", str(tmp_path), "--rounds", "7"])
    runs = tuple(Run(second, second + 1, 10**8) for second in (1.0, 2.0))
    slow = Row("onnxsim", "0.8", runs, paired_ratio([3.0, 6.0], [1.0, 2.0]))
    rows = (Row("graphopt", "1", runs), slow, Row("onnxslim", "2", error=f"cannot open {tmp_path}/x/y.onnx"))
    facts = compiling.Facts(10, 2, 1_500_000, True)
    comparison = Comparison("graphopt", "output", 2, rows)
    measured = compiling.Measured("net", comparison, facts, {"graphopt": facts, "onnxsim": facts})
    text = compiling.page([measured], comparison, peers.PEERS)
    assert "### net: 10 nodes, 2 BNs, 1.5 MB" in text
    assert "| graphopt 1 | 1.50 s | 2.50 s | – | 100 MB | 10 | 2 | 1.5 MB | yes |" in text
    assert f"python benchmarks/compile.py {tmp_path.name} --rounds 7" in text
    assert "failed: cannot open …/y.onnx" in text
    assert str(tmp_path) not in text
    assert socket.gethostname() not in report.machine().split()
    assert json.loads(json.dumps(measured.to_json()))["outputs"]["onnxsim"]["batch_norms"] == 2


def test_a_section_replaces_itself_alone(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "page.md"
    for name, text in (("one", "1"), ("two", "2"), ("one", "new\nlines"), ("two", "2")):
        report.write_section(name, text, page)
    text = page.read_text()
    assert text.startswith("# Benchmarks")
    assert text.split("<!--", 1)[1] == (
        " one: begin -->\nnew\nlines\n<!-- one: end -->\n\n<!-- two: begin -->\n2\n<!-- two: end -->\n"
    )


def test_a_busy_machine_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report.os, "cpu_count", lambda: 4)
    monkeypatch.setattr(report.os, "getloadavg", lambda: (1.9, 9.0, 9.0), raising=False)
    assert report.busy() == ""
    monkeypatch.setattr(report.os, "getloadavg", lambda: (2.1, 0.0, 0.0), raising=False)
    assert "2.1 of 4 cores" in report.busy()
