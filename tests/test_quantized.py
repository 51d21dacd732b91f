"""Quantized models stay quantized, as ONNX Runtime's fusions show, and are verified: against rounding, and mistakes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from models import shared_folder
from onnx import numpy_helper
from quantized import by_tool, census, four_bits, quantized_part, shared_weight, with_norm, with_relu

import graphopt
from graphopt.analysis.equal import compare
from graphopt.onnx_format.writer import save
from graphopt.ops.quantize import DequantizeLinear, QuantizeLinear
from graphopt.runtime.interpreter import Interpreter
from graphopt.runtime.oracle import Oracle
from graphopt.runtime.verification import Verification
from graphopt.runtime.verify import verify

MODELS: Mapping[str, Callable[[], onnx.ModelProto]] = {
    "QDQ": lambda: by_tool("QDQ", "u8s8"),
    "QDQ, per channel": lambda: by_tool("QDQ", "u8s8", per_channel=True),
    "QDQ of uint8": lambda: by_tool("QDQ", "u8u8"),
    "QDQ of int8": lambda: by_tool("QDQ", "s8s8", per_channel=True),
    "QOperator": lambda: by_tool("QOperator", "u8s8", per_channel=True),
    "QOperator of int8": lambda: by_tool("QOperator", "s8s8"),
    "dynamic": lambda: by_tool("dynamic", "u8s8"),
    "shared weight": shared_weight,
    "with Relu": with_relu,
    "four bits": four_bits,
    "with norm": with_norm,
}
SHARED = ("qdq_int8.onnx", "qtdnn_i32_biases.onnx")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("quantized")


@pytest.fixture(scope="module")
def path_of(folder: Path) -> Callable[[str], Path]:
    """A model's file, made when it is first asked for."""

    def get(name: str) -> Path:
        if name in SHARED:
            path = shared_folder() / "models" / name
            return path if path.is_file() else pytest.skip(f"no {path}")
        path = folder / f"{name}.onnx"
        if not path.exists():
            onnx.save(MODELS[name](), path)
        return path

    return get


def optimized(source: Path, to: Path, level: str = "O2", target: str = "portable") -> Path:
    save(graphopt.optimize(graphopt.load(source), level, target=target).graph, to)
    return to


def checked(original: Path, result: Path) -> Verification:
    return verify(original, result, graph=lambda: graphopt.load(original))


# ---- What the runtime makes of it


WAYS = [("O1", "portable"), ("O1", "cpu"), ("O2", "portable"), ("O2", "cpu")]


@pytest.mark.parametrize(
    ("name", "level", "target"), [(m, *w) for m in MODELS for w in WAYS] + [(m, *w) for m in SHARED for w in WAYS[::3]]
)
def test_the_runtime_fuses_what_it_did(
    name: str, level: str, target: str, path_of: Callable[[str], Path], tmp_path: Path
) -> None:
    path = path_of(name)
    before = quantized_part(census(path))
    assert before
    assert quantized_part(census(optimized(path, tmp_path / "result.onnx", level, target))) == before


def test_the_census_sees_what_a_fusion_needs(
    path_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the trait weights are folded, readers share nodes, and a FusedConv is made: ONNX Runtime fuses less."""
    wanted = {name: quantized_part(census(path_of(name))) for name in ("shared weight", "with Relu", "four bits")}
    assert wanted["shared weight"]["com.microsoft::QLinearConv"] == 4
    assert wanted["with Relu"]["com.microsoft::QLinearConv"] == 1
    assert wanted["four bits"] == {"com.microsoft::MatMulNBits": 1}
    for op in (DequantizeLinear, QuantizeLinear):
        monkeypatch.setattr(op, "traits", frozenset())
    for name, census_before in wanted.items():
        spoilt = optimized(path_of(name), tmp_path / "spoilt.onnx", target="cpu")
        assert quantized_part(census(spoilt)) != census_before, name


def test_what_is_kept_is_told_with_its_reason(path_of: Callable[[str], Path]) -> None:
    result = graphopt.optimize(graphopt.load(path_of("QDQ")))
    kept = [m for m in result.missed if m.rule == "computed_constant"]
    assert len(kept) == 7  # weights and biases
    assert {m.reason for m in kept} == {
        "DequantizeLinear stays as it is: runtimes know what is quantized by such nodes"
    }
    assert all(m.worth.nodes == 1 for m in kept)


# ---- Verification


@pytest.mark.parametrize("name", [*MODELS, *SHARED])
def test_optimized_models_are_equal(name: str, path_of: Callable[[str], Path], tmp_path: Path) -> None:
    verification = checked(path_of(name), optimized(path_of(name), tmp_path / "result.onnx"))
    assert verification.equal, verification.sentence


@pytest.mark.parametrize("name", [*MODELS, *SHARED])
def test_there_is_a_float64_reference(name: str, path_of: Callable[[str], Path]) -> None:
    verification = checked(path_of(name), path_of(name))
    assert [c.reference for c in verification.cases].count("float64") >= len(verification.cases) - 1


def test_a_folded_norm_rounds_otherwise_and_is_equal(folder: Path, tmp_path: Path) -> None:
    """Numbers before a QuantizeLinear come out of other sums, and a few of them fall on the other side of a tie."""
    flipped = 0
    for mean in (0.1, 0.3, 1000.0):
        path = folder / f"norm {mean}.onnx"
        onnx.save(with_norm(mean), path)
        result = optimized(path, tmp_path / "result.onnx")
        assert "BatchNormalization" not in {n.op_type for n in onnx.load(result).graph.node}
        verification = checked(path, result)
        assert verification.equal, verification.sentence
        flipped += sum(o.verdict.error > 1e-3 for c in verification.cases for o in c.outputs)
    assert flipped, "no number fell on the other side, and the test shows nothing"


def mutated(path: Path, to: Path, change: Callable[[np.ndarray], np.ndarray], *names: str) -> Path:
    proto = onnx.load(path)
    changed = 0
    for tensor in proto.graph.initializer:
        if tensor.name in names:
            tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), tensor.name))
            changed += 1
    assert changed == len(names)
    onnx.save(proto, to)
    return to


def one_weight(array: np.ndarray) -> np.ndarray:
    changed = array.copy()
    changed.flat[0] += 60 if changed.flat[0] < 0 else -60
    return changed


def scaled(array: np.ndarray) -> np.ndarray:
    return array * array.dtype.type(1.03)


def next_integer(array: np.ndarray) -> np.ndarray:
    return (array.astype(int) + 1).astype(array.dtype)


MISTAKES = [
    (scaled, "w1_scale"), (scaled, "r2_scale"), (scaled, "w4_scale"), (scaled, "y_scale"),
    (one_weight, "w1_quantized"), (one_weight, "w2_quantized"), (one_weight, "w4_quantized"),
    (next_integer, "w2_zero_point"), (next_integer, "y_zero_point"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "name"), MISTAKES, ids=[f"{c.__name__} {n}" for c, n in MISTAKES])
def test_mistakes_are_refused(
    change: Callable[[np.ndarray], np.ndarray], name: str, path_of: Callable[[str], Path], tmp_path: Path
) -> None:
    path = path_of("QDQ")
    assert not checked(path, mutated(path, tmp_path / "wrong.onnx", change, name)).equal


def test_a_mistake_of_one_step_everywhere_is_refused() -> None:
    """The worst element alone would not tell: rounding moves a few elements as far."""
    rng = np.random.default_rng(0)
    step = 0.05
    truth = rng.integers(-40, 40, 1000) * step
    few, all_of_them = truth.copy(), truth + step
    few[::50] += step
    flips = [np.float32(few), np.float32(truth)]
    assert compare(truth, flips, [np.float32(all_of_them)]).equal
    verdict = compare(truth, flips, [np.float32(all_of_them)], quantized=True)
    assert not verdict.equal
    assert "mean error" in verdict.reason
    assert compare(truth, flips, [np.float32(truth - np.roll(few - truth, 7))], quantized=True).equal


# ---- The oracle


def test_the_reference_is_the_network_as_it_is_quantized(path_of: Callable[[str], Path]) -> None:
    """Floats in between are computed in float64, and quantized as float32 is."""
    graph = graphopt.load(path_of("shared weight"))
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)
    wide, narrow = Interpreter(graph, np.float64).run({"x": x})["y"], Interpreter(graph).run({"x": x})["y"]
    assert wide.dtype == np.float64
    assert np.mean(np.abs(wide - narrow) > 1e-5) < 0.02


def test_floats_of_8_bits_are_not_widened() -> None:
    """They are quantized numbers: a zero point's type says what is made."""
    graph = graphopt.parse("""(%x: f32[4]) -> (%y) {
      %s: f32[] = dense 0.5
      %f: f8e4m3fn[4] = Cast(%x) {to=17}
      %z: f8e4m3fn[] = splat 0.0
      %q = QuantizeLinear(%x, %s, %z)
      %a: f32[4] = Cast(%f) {to=1}
      %b = DequantizeLinear(%q, %s)
      %y = Add(%a, %b)
    }""")
    x = np.array([0.1, 1.06, 17.0, 1e4], np.float32)
    wide, narrow = Interpreter(graph, np.float64).run({"x": x})["y"], Interpreter(graph).run({"x": x})["y"]
    assert wide.dtype == np.float64
    np.testing.assert_array_equal(wide, narrow)
    assert wide.tolist() == [0.203125, 2, 32, 448 + 224]


def test_nudges_show_what_rounding_may_do(path_of: Callable[[str], Path]) -> None:
    x = np.random.default_rng(1).standard_normal((2, 3, 16, 16)).astype(np.float32)
    oracle = Oracle(graphopt.load(path_of("QDQ")))
    assert oracle.quantizes
    runs = [run["y"] for run in oracle.nudged({"x": x})]
    assert len(runs) == 4
    assert any((run != runs[0]).any() for run in runs[1:])
    again = Oracle(graphopt.load(path_of("QDQ"))).nudged({"x": x})
    np.testing.assert_array_equal(again[0]["y"], runs[0])


def test_other_networks_are_not_nudged() -> None:
    oracle = Oracle(graphopt.parse("(%x: f32[2]) -> (%y) { %y = Relu(%x) }"))
    assert not oracle.quantizes
    assert oracle.nudged({"x": np.zeros(2, np.float32)}) == []
    assert not Oracle(None).quantizes
