"""Small ONNX models compiled and run: the file before, the file after, and whether both compute the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import graphopt
from graphopt.ir.types import TensorType
from graphopt.onnx_format.writer import save
from graphopt.runtime.onnxruntime import OnnxRuntimeSession

LEVELS = ("O1", "O2")
EXTENT = 3  # stands for a dim that is not known
at_each_level = pytest.mark.parametrize("level", LEVELS)


@dataclass(frozen=True)
class Carried:
    """A compilation by way of files."""

    before: Path
    after: Path
    result: graphopt.Result

    @property
    def proto(self) -> onnx.ModelProto:
        """The result's message."""
        return onnx.load(self.after)

    @property
    def operators(self) -> list[str]:
        """Those of the result's main graph."""
        return [n.op_type for n in self.proto.graph.node]

    def instead_of(self, proto: onnx.ModelProto) -> Carried:
        """The same result, to be compared with another model, one that says more plainly what is right."""
        path = self.after.with_name("instead.onnx")
        onnx.save(proto, path)
        return replace(self, before=path)

    def same(self, **given: np.ndarray) -> dict[str, np.ndarray]:
        """The result's outputs, after they were compared with the original's on seeded inputs; `given` are others."""
        old, new = (OnnxRuntimeSession(p, optimize=False) for p in (self.before, self.after))
        assert list(old.outputs) == list(new.outputs)
        feeds = {**seeded(old), **given}
        mine = {n: a for n, a in feeds.items() if n in new.inputs or n in new.optional_inputs}
        expected, got = old.run(feeds), new.run(mine)
        for name, array in expected.items():
            _compare(got[name], array, name)
        return got


def carry(
    proto: onnx.ModelProto, folder: Path, level: str = "O2", *, keep_functions: bool = False, **options: object
) -> Carried:
    """Write, load, optimize with every rewrite checked, and write again; the text comes back as the same graph."""
    before, after = folder / "before.onnx", folder / "after.onnx"
    before.write_bytes(proto.SerializeToString())
    graph = graphopt.load(before, keep_functions=keep_functions)
    result = graphopt.optimize(graph, level, check="every", **options)
    assert not result.quarantined
    save(result.graph, after)
    for each in (graph, result.graph):
        text = graphopt.text(each)
        assert graphopt.text(graphopt.parse(text, constants=_constants(each))) == text
    return Carried(before, after, result)


def _constants(graph: graphopt.Graph) -> dict[str, object]:
    return {v.constant.digest(): v.constant for g in graph.graphs() for v in g.values() if v.constant is not None}


def seeded(session: OnnxRuntimeSession) -> dict[str, np.ndarray]:
    """Inputs for a session; a dim that is not known is 3."""
    rng = np.random.default_rng(0)
    made = {}
    for name, kind in session.inputs.items():
        if not isinstance(kind, TensorType):
            continue
        shape = [d if isinstance(d, int) else EXTENT for d in kind.shape or ()]
        numbers = rng.standard_normal(shape) if kind.dtype.is_float else rng.integers(0, 2, shape)
        made[name] = np.asarray(numbers).astype(kind.dtype.numpy)
    return made


def _compare(got: object, expected: object, name: str) -> None:
    if isinstance(expected, list):
        assert isinstance(got, list)
        assert len(got) == len(expected)
        for a, b in zip(got, expected, strict=True):
            _compare(a, b, name)
        return
    assert isinstance(expected, np.ndarray)
    assert isinstance(got, np.ndarray)
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape), name
    if expected.dtype.kind == "f":
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5, err_msg=name)
    else:
        np.testing.assert_array_equal(got, expected, err_msg=name)


def body(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: list[TensorProto] = [],  # noqa: B006  # it is only read
    name: str = "body",
) -> onnx.GraphProto:
    """A subgraph."""
    return helper.make_graph(nodes, name, inputs, outputs, weights)


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph's message and those within it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                yield from graphs(inner)


def inside(proto: onnx.ModelProto) -> Mapping[str, list[str]]:
    """The operators of every subgraph, by the subgraph's name."""
    return {g.name: [n.op_type for n in g.node] for g in graphs(proto.graph) if g is not proto.graph}
