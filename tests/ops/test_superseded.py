"""Upsample, which became Resize in opset 10, and Scatter, which became ScatterElements in opset 11."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphopt
from graphopt.errors import OpsetError
from graphopt.ir.operator import Opaque
from graphopt.onnx_format.opset import downgrade, upgrade
from graphopt.onnx_format.writer import to_bytes
from graphopt.ops.registry import find_room, find_room_of
from graphopt.ops.resize import Resize
from graphopt.ops.room import Step
from ops.harness import check_old, facts_of, model, normal, run_ort
from ops.reference import run_model

extents = st.integers(1, 5)
growth = st.sampled_from([1, 1.5, 2, 2.5, 3])
modes = st.sampled_from(["nearest", "linear"])
newer = pytest.mark.parametrize("opset", [10, 11, 13, 18, 19, 26])


def floats(*values):
    return np.array(values, np.float32)


def image(*shape):
    return normal(*shape) + np.float32(4)


@settings(deadline=None)
@given(st.tuples(extents, extents), growth, growth, modes, st.integers(7, 9), st.booleans())
def test_upsample(shape, h, w, mode, opset, held):
    if any(n == int(n * s) != n * s for n, s in zip(shape, (h, w), strict=True)):
        return  # runtimes copy what keeps its shape
    x, scales = image(1, 2, *shape), [1.0, 1.0, float(h), float(w)]
    attributes = {"mode": mode} if opset == 9 else {"mode": mode, "scales": scales}
    arrays = [x, floats(*scales)] if opset == 9 else [x]
    op = check_old("Upsample", arrays, attributes, opset, constants=[1] if held and opset == 9 else [])
    assert isinstance(op, Resize)
    assert op.coordinate_transformation_mode == "asymmetric"
    assert op.nearest_mode == ("floor" if mode == "nearest" else "round_prefer_floor")


def old_model(opset: int, mode: str, *, held: bool = True) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A model of one Upsample, and inputs for it."""
    x, scales = image(1, 2, 3, 4), floats(1, 1, 2, 1.5)
    if opset < 9:
        return model("Upsample", {"x": x}, {"mode": mode, "scales": scales.tolist()}, opset=opset), {"x": x}
    inputs = {"x": x, "scales": scales}
    made = model("Upsample", inputs, {"mode": mode}, opset=opset, constants=["scales"] if held else [])
    return made, {"x": x} if held else inputs


@newer
@pytest.mark.parametrize("old", [7, 8, 9])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_an_old_model_is_written_for_every_opset(tmp_path, mode, old, opset):
    before, feeds = old_model(old, mode)
    path = tmp_path / "old.onnx"
    onnx.save(before, path)
    graph = graphopt.optimize(graphopt.load(path)).graph
    after = onnx.load_from_string(to_bytes(graph, opset=opset))
    assert [n.op_type for n in after.graph.node] == ["Resize"]
    onnx.checker.check_model(after)
    np.testing.assert_array_equal(run_model(after, feeds)[0], run_model(before, feeds)[0])
    for again in (7, 8, 9):
        back = onnx.load_from_string(to_bytes(graph, opset=again))
        assert [n.op_type for n in back.graph.node] == ["Upsample"]
        np.testing.assert_array_equal(run_model(back, feeds)[0], run_model(before, feeds)[0])


def test_computed_scales(tmp_path):
    """Only Upsample, and Resize from opset 11 on, say which element is the nearest before the scales are known."""
    before, feeds = old_model(9, "nearest", held=False)
    path = tmp_path / "old.onnx"
    onnx.save(before, path)
    graph = graphopt.load(path)
    for opset in (9, 11, 26):
        after = onnx.load_from_string(to_bytes(graph, opset=opset))
        np.testing.assert_array_equal(run_model(after, feeds)[0], run_model(before, feeds)[0])
    with pytest.raises(OpsetError, match="nearest_mode needs opset 11"):
        to_bytes(graph, opset=10)
    with pytest.raises(OpsetError, match="Upsample by computed scales needs opset 9"):
        to_bytes(graph, opset=8)


@pytest.mark.parametrize("opset", [9, 10, 11, 16, 26])
def test_a_scatter_is_written_for_every_opset(tmp_path, opset):
    feeds = {"x": normal(3, 4), "i": np.array([[0, 2, 1, 0]]), "u": normal(1, 4, seed=1)}
    before = model("Scatter", feeds, {}, opset=9)
    path = tmp_path / "old.onnx"
    onnx.save(before, path)
    after = onnx.load_from_string(to_bytes(graphopt.optimize(graphopt.load(path)).graph, opset=opset))
    assert [n.op_type for n in after.graph.node] == ["Scatter" if opset < 11 else "ScatterElements"]
    np.testing.assert_array_equal(run_model(after, feeds)[0], run_model(before, feeds)[0])


def lowered(op, arrays, opset, constants=None):
    names = tuple("" if a is None else f"x{i}" for i, a in enumerate(arrays))
    return downgrade(op, Step(op.attributes, names, ("r",), facts_of(arrays, constants)), opset)


def test_what_upsample_cannot_say():
    x = image(1, 2, 4, 4)
    plain = Resize(coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    with pytest.raises(OpsetError, match=r"Resize by \[1.0, 1.0, 0.5, 2.0\], which shrinks an axis, needs opset 10"):
        lowered(plain, [x, None, floats(1, 1, 0.5, 2)], 9)
    with pytest.raises(OpsetError, match="needs opset 11"):
        lowered(Resize(), [x, None, floats(1, 1, 2, 2)], 9)
    with pytest.raises(OpsetError, match="to sizes"):
        lowered(plain, [x, None, None, np.array([1, 2, 8, 8])], 9)
    assert lowered(plain, [x, None, floats(1, 1, 2, 2)], 7).attributes.keys() == {"scales"}


def test_names_in_time():
    assert Resize.name_at(9) == "Upsample"
    assert Resize.name_at(10) == "Resize"
    assert find_room("Upsample") is None
    assert find_room_of("Upsample", "", 9) is Resize
    assert find_room_of("Upsample", "", 10) is None
    assert find_room_of("Upsample", "", None) is None
    assert find_room_of("Upsample", "mine", 9) is None
    assert find_room_of("Relu", "", 9) is find_room("Relu")


@pytest.mark.parametrize("opset", [7, 8, 9, 10])
def test_damaged_nodes_stay_opaque(opset):
    name = "Upsample" if opset < 10 else "Resize"
    op, _ = upgrade("", name, Step({}, ("x",), ("r",), facts_of([image(1, 1, 2, 2)])), opset)
    assert isinstance(op, Opaque)
    assert "without scales" in op.why


def test_upsample_is_no_operator_any_more():
    op, _ = upgrade("", "Upsample", Step({}, ("x", "s"), ("r",)), 11)
    assert isinstance(op, Opaque)
    with pytest.raises(Exception, match="deprecated"):
        run_ort("Upsample", {"x": image(1, 1, 2, 2), "s": floats(1, 1, 2, 2)}, {}, opset=10)
