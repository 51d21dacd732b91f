"""The onnx package's backend tests: what ONNX Runtime runs before graphopt, it runs after, with the same results.

`python tests/coverage.py` writes what these find into docs/coverage.md.
"""

from __future__ import annotations

import re
from pathlib import Path

import backend
import coverage
import numpy as np
import onnx
import onnx.shape_inference
import pytest
from models import RealModel, real_models

import graphopt
from graphopt.errors import GraphoptError
from graphopt.ir.types import OptionalType, SequenceType, TensorType, Type, is_refinement, meet
from graphopt.onnx_format.opset import OLDEST
from graphopt.onnx_format.protos import read_type
from graphopt.ops.room import NEWEST, unknown_dim
from graphopt.runtime.interpreter import without_kernel

CASES = {"node": backend.node_cases, "model": backend.model_cases}
LEAST = {"node": 1364, "model": 100}  # how many ONNX Runtime runs with onnx 1.23 and onnxruntime 1.31


@pytest.mark.parametrize("kind", CASES)
def test_compiled_they_give_the_same_results(kind: str, tmp_path: Path) -> None:
    ran = 0
    wrong = []
    for case in CASES[kind]():
        outcomes = list(backend.compiled(case, tmp_path))
        ran += bool(outcomes)
        wrong += [o for o in outcomes if o.fault or o.refusal]
    assert wrong == []
    assert ran >= LEAST[kind] * 0.9  # an older onnx has fewer


@pytest.mark.slow
def test_at_other_opsets_they_give_the_same_results_or_a_listed_refusal(tmp_path: Path) -> None:
    """Every refusal stands in docs/coverage.md, and everything that stands there is refused."""
    found = coverage.sweep(tmp_path)
    assert found.faults == []
    listed = coverage.listed_refusals()
    assert sorted(found.refusals - listed) == []
    if coverage.is_documented_version():
        assert sorted(listed - found.refusals) == []


NOT_COMPUTED = ("Resize with antialias is not computed", "does not hold differs between machines")
RUNTIMES_OWN = {  # what the interpreter gives otherwise on purpose
    "f8e5m2 NaN": re.compile(r"test_castlike.*FLOAT8E5M2(_expanded)?$"),
    "lowest float for -inf": re.compile(r"test_attention_4d_with_past_and_present_qk_matmul_bias_[34]d_mask_causal$"),
}


def test_the_interpreter_computes_the_same(tmp_path: Path) -> None:
    """Every kernel, on what the onnx package's authors thought of."""
    ran, wrong = 0, []
    for case in (*backend.node_cases(), *backend.model_cases()):
        expected = backend.reference(case)
        graph = None if expected is None else backend.loaded(case, tmp_path)
        if expected is None or graph is None or without_kernel(graph) is not None:
            continue
        try:
            made = backend.interpreted(graph, case)
        except GraphoptError as error:
            if not str(error).endswith(NOT_COMPUTED):
                wrong.append((case.name, str(error)))
            continue
        ran += 1
        found = backend.difference(expected, made, ulps=64)
        if found and not any(pattern.match(case.name) for pattern in RUNTIMES_OWN.values()):
            wrong.append((case.name, found))
    assert wrong == []
    assert ran >= 1400 * 0.9


def test_no_type_contradicts_onnx(tmp_path: Path) -> None:
    """Beside onnx's strict inference, and at least as well known where every operator has a room."""
    compared = 0
    for case in (*backend.node_cases(), *backend.model_cases()):
        if OLDEST <= case.opset <= NEWEST:
            compared += compare_types(case.model, tmp_path / "model.onnx", at_least=case.name not in LESS_KNOWN)
    assert compared >= 5000


LESS_KNOWN = {
    "test_loop13_seq"
}  # onnx takes the element type of what is inserted into an empty sequence as all there is


REFUSED_BY_ONNX = {"shared/qdq_int8"}  # its strict inference fails on an element type of its own


@pytest.mark.parametrize("model", real_models())
def test_no_type_of_a_real_model_contradicts_onnx(model: RealModel, tmp_path: Path) -> None:
    compared = compare_types(onnx.load(model.path), tmp_path / "model.onnx", at_least=False)
    assert (compared > 0) != (model.id in REFUSED_BY_ONNX)


def compare_types(model: onnx.ModelProto, path: Path, *, at_least: bool) -> int:
    """Hold graphopt's types against onnx's, both without what the model itself says of its values; how many."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    del model.graph.value_info[:]
    for output in model.graph.output:
        if output.type.HasField("tensor_type"):
            output.type.tensor_type.ClearField("shape")
    told = strictly_inferred(model)
    if told is None:
        return 0
    path.write_bytes(model.SerializeToString())
    graph = graphopt.load(path)
    mine = {v.name: v for v in graph.values()}
    is_known = not any(n.op.is_opaque or n.op.graphs for n in graph.walk())
    count = 0
    for info in (*told.graph.value_info, *told.graph.output):
        theirs = unnamed(read_type(info.type)) if info.name in mine else None
        if theirs is None:
            continue
        count += 1
        value = mine[info.name]
        meet(value.type, theirs)  # raises where the two contradict each other
        assert not at_least or not is_known or is_refinement(value.type, theirs), f"{value!r} is less than {theirs}"
    return count


def strictly_inferred(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """Onnx's strict inference, without contents of small tensors where it fails on these; None where it fails."""
    for contents in (True, False):
        try:
            return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=contents)
        except (onnx.shape_inference.InferenceError, ValueError):
            continue
    return None


def unnamed(kind: Type | None) -> Type | None:
    """A type whose dims that onnx made up have no names."""
    if isinstance(kind, SequenceType | OptionalType):
        return type(kind)(unnamed(kind.element))
    if not isinstance(kind, TensorType) or kind.shape is None:
        return kind
    return kind.with_shape(tuple(unknown_dim() if str(d).startswith("unk__") else d for d in kind.shape))


def test_differences_are_seen() -> None:
    one = np.array([1, 2, 3], np.float32)
    assert backend.difference([one], [one]) == ""
    assert backend.difference([one], [one.astype(np.float64)]) == "float32[3] is float64[3]"
    assert backend.difference([one], [one + np.float32(1e-5)]).startswith("the elements differ by")
    assert backend.difference([one], [one * np.float32(1 + 1e-7)]) == ""
    assert backend.difference([np.array([np.nan])], [np.array([1.0])]) == "NaN or infinities are elsewhere"
    assert backend.difference([[one]], [[one, one]]) == "1 elements are 2"
    assert backend.difference([None], [one]) != ""
    assert backend.difference([np.array([1])], [np.array([2])]) == "the elements differ"
