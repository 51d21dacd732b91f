"""Models whose outputs are sequences and optionals: run, compared element by element, told where they differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commands import done
from commands import graphopt as graphopt_command
from onnx import parser

import graphopt
from graphopt.ops.sequence import boxed, packed
from graphopt.runtime.interpreter import Interpreter
from graphopt.runtime.onnxruntime import OnnxRuntimeSession
from graphopt.runtime.session import tensors

SEQUENCE = """<ir_version: 8, opset_import: ["" : 17]> g (float[N, 4] x) => (seq(float[A, B]) s, float[N, 4] y) {
    a = Relu(x)
    b = Identity(a)
    c = OPERATOR(b)
    s = SequenceConstruct(ELEMENTS)
    y = Identity(b)
}"""
OPTIONAL = """<ir_version: 8, opset_import: ["" : 17]> g (float[N, 4] x) => (optional(float[A, B]) s) {
    a = Relu(x)
    s = Optional(a)
}"""


def written(folder: Path, name: str, text: str = SEQUENCE, operator: str = "Sigmoid", elements: str = "a, c") -> Path:
    path = folder / name
    text = text.replace("OPERATOR", operator).replace("ELEMENTS", elements)
    path.write_bytes(parser.parse_model(text).SerializeToString())
    return path


@pytest.mark.parametrize("text", [SEQUENCE, OPTIONAL])
def test_they_compile_and_verify(text: str, tmp_path: Path) -> None:
    said = done("compile", written(tmp_path, "a.onnx", text), "-o", tmp_path / "b.onnx")
    assert "verified" in said


def test_what_differs_in_an_element_is_found(tmp_path: Path) -> None:
    a, b = written(tmp_path, "a.onnx"), written(tmp_path, "b.onnx", operator="Tanh")
    failed = graphopt.verify(a, b).failed
    assert failed is not None
    assert "s[1]" in str(failed)


def test_another_length_is_found(tmp_path: Path) -> None:
    a = written(tmp_path, "a.onnx")
    for elements in ("a", "a, c, c"):
        failed = graphopt.verify(a, written(tmp_path, "b.onnx", elements=elements)).failed
        assert failed is not None
        assert "s.length" in str(failed)


def test_sessions_give_the_same(tmp_path: Path) -> None:
    path = written(tmp_path, "a.onnx")
    feeds = {"x": np.array([[-1, 0, 1, 2]], np.float32)}
    theirs = tensors(OnnxRuntimeSession(path).run(feeds))
    mine = tensors(Interpreter(graphopt.load(path)).run(feeds))
    assert list(mine) == list(theirs) == ["s.length", "s[0]", "s[1]", "y"]
    for name, array in mine.items():
        np.testing.assert_allclose(array, theirs[name], rtol=1e-6)


def test_taken_apart() -> None:
    words = np.array(["a", "b"], object)
    empty, nested = boxed(None), boxed(packed([np.zeros(1)]))
    apart = tensors({"w": words, "e": empty, "n": nested, "s": packed([])})
    assert apart["w"] is words
    assert {k: v.tolist() for k, v in apart.items() if k != "w"} == {
        "e.length": False,
        "n.length": True,
        "n[0].length": 1,
        "n[0][0]": [0.0],
        "s.length": 0,
    }


def test_a_sequence_as_input_is_not_made_up(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> g (seq(float[N, 4]) x) => (float[A, B] y) {
        y = ConcatFromSequence <axis = 0> (x)
    }"""
    path, output = written(tmp_path, "a.onnx", text), tmp_path / "b.onnx"
    ended = graphopt_command("compile", path, "-o", output)
    assert ended.code == 1
    assert "the input `x` is seq<f32[*]>" in ended.err
    done("compile", path, "-o", output, "--no-verify")
    assert output.is_file()
