"""The Python API's verbs: load, compile, verify, replay, parse, text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import graphopt.ops  # noqa: F401  # fills the registry of rooms
from graphopt.ir.constant import Constant
from graphopt.ir.graph import Graph, copy_graph
from graphopt.ops.registry import make
from graphopt.passes.pipeline import RULES, optimize

if TYPE_CHECKING:
    import numpy as np

    from graphopt.ir.types import Type
    from graphopt.passes.result import Result
    from graphopt.rewrite.record import Record
    from graphopt.runtime.compiled import CompiledModel
    from graphopt.runtime.verification import Verification

ZOO = "zoo:"


def load(source: str | Path | Graph, *, keep_functions: bool = False) -> Graph:
    """The graph of an ONNX file, or of a built-in network (`"zoo:resnet18"`).

    Args:
        source: a path, `zoo:NAME`, or a graph, which is returned as it is.
        keep_functions: carry model-local functions as they are instead of inlining them.

    Raises:
        ModelError: the file is missing or broken; one sentence names file, node and remedy.
        UsageError: the zoo has no such network.
    """
    if isinstance(source, Graph):
        return source
    if str(source).startswith(ZOO):
        from graphopt.frontends.zoo import build

        return build(str(source)[len(ZOO) :])
    from graphopt.frontends.onnx_file import load as load_file

    return load_file(source, keep_functions=keep_functions)


def compile(  # noqa: A001  # what users of PyTorch and JAX call it
    source: str | Path | Graph, *, target: str = "cpu", level: str = "O2", threads: int | None = None
) -> CompiledModel:
    """Load, optimize for `target`, and make a session: `y = model(x)`, or `model.run({"x": x})`.

    Raises:
        GraphoptError: the model cannot be read, or the provider cannot run it.
    """
    from graphopt.runtime.compiled import CompiledModel

    result = optimize(load(source), level, target=target)
    return CompiledModel(result, threads=threads)


@contextmanager
def _as_file(model: str | Path | Graph) -> Iterator[tuple[Path, Graph]]:
    """A model as a file and as a graph; built-in networks and graphs are written to a folder for the while."""
    from tempfile import TemporaryDirectory

    from graphopt.onnx_format.writer import save

    graph = load(model)
    if not isinstance(model, Graph) and Path(model).is_file():
        yield Path(model), graph
        return
    with TemporaryDirectory(prefix="graphopt-") as folder:
        path = Path(folder) / "model.onnx"
        save(graph, path)
        yield path, graph


def verify(
    original: str | Path | Graph,
    result: str | Path | Graph,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    inputs: Mapping[str, np.ndarray] | None = None,
) -> Verification:
    """Compare two models by the original's own rounding; see `docs/architecture.md`.

    Args:
        original: a path, `zoo:NAME`, or a graph.
        result: the same; what is judged.
        shapes: numbers for symbolic dims by name, one for each set of shapes.
        inputs: arrays to compare on instead of seeded ones.

    Raises:
        GraphoptError: a model cannot be read, or `shapes` or `inputs` do not fit.
    """
    from graphopt.runtime.verify import verify as compare

    with _as_file(original) as (a, graph), _as_file(result) as (b, _):
        return compare(a, b, graph=graph, shapes=shapes, inputs=inputs)


def verify_result(
    model: str | Path,
    graph: Graph,
    written: Path,
    result: Result,
    *,
    opset: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> Verification:
    """Verify a result, written in `opset`, against what it was compiled from; a difference is laid to its rules.

    Raises:
        UsageError: `shapes` do not fit the model.
    """
    from graphopt.runtime.verify import verify as compare

    # ONNX Runtime's kernels of two opsets may round otherwise.
    exact = result.is_exact and opset in (None, graph.info.opsets.get(""))

    def touched(name: str) -> list[str]:
        rules = [
            a.rule
            for a in result.records
            if any(name in pair for pair in a.replaced) or any(name in m.gives for m in a.made)
        ]
        return list(dict.fromkeys(rules))

    source: str | Path | Graph = model if Path(model).is_file() else graph
    with _as_file(source) as (path, _):
        return compare(path, written, graph=graph, shapes=shapes, exact_only=exact, touched=touched)


def replay(graph: Graph, record: Record) -> Graph:
    """The compilation of a record made again on the same graph, without searching; gives the same bytes.

    Raises:
        RecordError: the record is of another graph, or does not lead to the result that it names.
    """
    from graphopt.errors import RecordError
    from graphopt.rewrite.record import graph_digest
    from graphopt.rewrite.replay import replay_on

    if record.input.sha256 and record.input.sha256 != graph_digest(graph):
        raise RecordError("the record is of another graph: its hash of the input differs; compile the model again")
    work = copy_graph(graph).seal()
    replay_on(work, record, RULES)
    if record.output.sha256 and record.output.sha256 != graph_digest(work):
        raise RecordError("the replay ends in another graph than the record: it was made by another version")
    return work


def parse(source: str, constants: Mapping[str, Constant] | None = None) -> Graph:
    """The graph that a text describes (`text` is the inverse); types that it leaves out are inferred.

    Raises:
        ParseError: with the line and what was expected.
        TypeRuleError: a node whose operands its operator does not take.
    """
    from graphopt.ir.parser import parse as parse_text

    graph = parse_text(source, make=make, constants=constants)
    with graph.transaction():
        _annotate(graph)
    return graph


def _annotate(graph: Graph) -> None:
    """Infer the types that are not known, those of a node's subgraphs before its own."""
    from graphopt.ops.infer import annotate

    for node in graph.nodes:
        for inner in node.op.graphs:
            _annotate(inner)
        odd: list[str] | None = None if any(r.type is None for r in node.results) else []
        annotate(node, graph, odd, _told)


def _told(rule: Type, told: Type | None) -> Type | None:
    """What is told is believed, which unnamed dims are the same too; the rule fills in what it leaves open."""
    from graphopt.ir.types import meet

    return meet(told, rule)


def text(graph: Graph) -> str:
    """The graph as text, one line a node; `parse` reads it back."""
    from graphopt.ir.text import print_graph

    return print_graph(graph)
