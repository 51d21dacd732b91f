"""The onnx package's backend tests: what ONNX Runtime runs before graphopt, it runs after, with the same results.

`python tests/coverage.py` writes what these find into docs/coverage.md.
"""

from __future__ import annotations

from pathlib import Path

import backend
import coverage
import numpy as np
import pytest

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
