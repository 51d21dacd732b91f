"""The judges where `harness.run_ort` does not do: onnx's reference for a node, ONNX Runtime for a whole model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnxruntime
from onnx.reference import ReferenceEvaluator

from graphopt.ops.room import NEWEST, Room
from ops.harness import ULPS, close, compute, facts_of, fits, inferred, model, names_of


def check_reference(
    op: Room, arrays: Sequence[np.ndarray | None], *, opset: int = NEWEST, results: int = 1, ulps: float = ULPS
) -> None:
    """Hold a room's kernel and its types against onnx's reference evaluator."""
    inputs = dict(zip(names_of(op, len(arrays)), arrays, strict=True))
    proto = model(op.name, inputs, op.attributes, opset=opset, results=results)
    told = ReferenceEvaluator(proto).run(None, {k: a for k, a in inputs.items() if a is not None})
    types = inferred(op, *facts_of(arrays))
    assert types is not None
    for made, kind, want in zip(compute(op, arrays), types, told, strict=False):
        assert made.dtype == want.dtype
        assert fits(kind, want)
        close(made, np.asarray(want), ulps)


def run_model(proto: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    """What ONNX Runtime makes of a model as it is written, its optimizers off."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return tuple(session.run(None, dict(feeds)))
