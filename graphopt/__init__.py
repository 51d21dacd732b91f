"""graphopt: a graph compiler and optimizer for convolutional networks.

    import graphopt

    graph = graphopt.load("model.onnx")               # or graphopt.trace(f, x=graphopt.f32["N", 3, 224, 224])
    result = graphopt.optimize(graph, level="O2")     # a new graph; print(result) shows what was done
    graphopt.save(result.graph, "model.opt.onnx")
    model = graphopt.compile("model.onnx", target="cpu")
    y = model(x)

Names load on first use, so that `import graphopt` costs little.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from graphopt._version import __version__

if TYPE_CHECKING:
    from graphopt import nn, ops
    from graphopt.api import compile, load, parse, replay, text, verify  # noqa: A004
    from graphopt.errors import GraphoptError
    from graphopt.frontends.tracer import trace
    from graphopt.ir.graph import Graph
    from graphopt.ir.text import difference
    from graphopt.ir.types import f16, f32, f64, i32, i64
    from graphopt.onnx_format.writer import save
    from graphopt.passes.pipeline import optimize
    from graphopt.passes.result import Result
    from graphopt.rewrite.explain import explain
    from graphopt.rewrite.record import Record, load_record

_WHERE = {
    "Graph": "graphopt.ir.graph",
    "GraphoptError": "graphopt.errors",
    "Record": "graphopt.rewrite.record",
    "Result": "graphopt.passes.result",
    "compile": "graphopt.api",
    "difference": "graphopt.ir.text",
    "explain": "graphopt.rewrite.explain",
    "f16": "graphopt.ir.types",
    "f32": "graphopt.ir.types",
    "f64": "graphopt.ir.types",
    "i32": "graphopt.ir.types",
    "i64": "graphopt.ir.types",
    "load": "graphopt.api",
    "load_record": "graphopt.rewrite.record",
    "optimize": "graphopt.passes.pipeline",
    "parse": "graphopt.api",
    "replay": "graphopt.api",
    "save": "graphopt.onnx_format.writer",
    "text": "graphopt.api",
    "trace": "graphopt.frontends.tracer",
    "verify": "graphopt.api",
}
_MODULES = ("nn", "ops")

__all__ = [
    "Graph",
    "GraphoptError",
    "Record",
    "Result",
    "__version__",
    "compile",
    "difference",
    "explain",
    "f16",
    "f32",
    "f64",
    "i32",
    "i64",
    "load",
    "load_record",
    "nn",
    "ops",
    "optimize",
    "parse",
    "replay",
    "save",
    "text",
    "trace",
    "verify",
]


def __getattr__(name: str) -> object:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    if name in _MODULES:
        return import_module(f"graphopt.{name}")
    raise AttributeError(f"module 'graphopt' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
