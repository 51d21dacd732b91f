"""`graphopt run` and `graphopt verify`: inputs from seeds and from files, what is said, what is saved."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from commands import done, graphopt, refused
from tiny import F, info, model, node, random, weight


def network(sign: float = 1.0):
    """Conv, and a mean beside it: two outputs."""
    return model(
        [node("Conv", "x w", "y", "conv"), node("ReduceMean", "x", "mean", axes=[2, 3], keepdims=0)],
        [info("x", F, ["N", 3, 8, 8])],
        [info("y", F, ["N", 4, 6, 6]), info("mean", F, ["N", 3])],
        [weight("w", sign * random(4, 3, 3, 3))],
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tiny.save(network(), tmp_path, "model")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """The same network with other weights: `mean` is equal, `y` is not."""
    return tiny.save(network(-1.0), tmp_path, "other")


@pytest.fixture(params=["x=FILE.npy", "x=FILE.npz", "FILE.npz"])
def given(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, np.ndarray]:
    """What `--input` takes, and the array in it."""
    array = random(2, 3, 8, 8, seed=5)
    path = tmp_path / request.param.rpartition("=")[2]
    np.save(path, array) if path.suffix == ".npy" else np.savez(path, x=array)
    return request.param.replace("FILE", str(path.with_suffix(""))), array


# ---- run


def test_run_is_seeded_and_says_so(source):
    said = done("run", source)
    assert said.startswith("random inputs from seed 0: x float32[1, 3, 8, 8]; give --input for your own\n")
    rows = [line.split() for line in said.splitlines()]
    assert ["y", "float32", "[1,", "4,", "6,", "6]"] in [row[:6] for row in rows]
    assert done("run", source) == said


def test_run_shapes(source):
    said = json.loads(done("run", source, "--shapes", "N=5", "--json"))
    assert said["inputs"]["x"]["shape"] == [5, 3, 8, 8]
    assert said["outputs"]["mean"]["shape"] == [5, 3]
    assert said["seeded"] is True


def test_run_input_and_output(source, given, tmp_path):
    option, array = given
    output = tmp_path / "öut put.npz"
    said = done("run", source, "--input", option, "--output", output)
    assert "random" not in said
    assert said.endswith(f"saved: {output}\n")
    with np.load(output) as loaded:
        assert loaded.files == ["y", "mean"]
        assert loaded["y"].shape == (2, 4, 6, 6)
        np.testing.assert_allclose(loaded["mean"], array.mean((2, 3)), rtol=1e-5, atol=1e-6)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_run_json(source, given):
    option, array = given
    said = json.loads(done("run", source, "--input", option, "--target", "cpu", "--json"))
    assert said["seeded"] is False
    assert list(said["outputs"]) == ["y", "mean"]
    mean = said["outputs"]["mean"]
    assert (mean["dtype"], mean["shape"]) == ("float32", [2, 3])
    assert mean["max"] == pytest.approx(array.mean((2, 3)).max(), rel=1e-5)


def test_run_json_has_no_nan(tmp_path):
    """JSON knows neither NaN nor infinities."""
    source = tiny.save(model([node("Log", "x", "y")], [info("x", F, [3])], [info("y", F, [3])]), tmp_path, "model")
    np.save(tmp_path / "x.npy", np.array([-1, 0, 1], np.float32))
    said = json.loads(done("run", source, "--input", f"x={tmp_path / 'x.npy'}", "--json"), parse_constant=pytest.fail)
    assert said["outputs"]["y"]["mean"] == "nan"


def test_run_shapes_beside_inputs(source, given):
    assert "--shapes" in refused("run", source, "--input", given[0], "--shapes", "N=2")


def test_run_keeps_what_stood_at_the_output(source, tmp_path):
    output = tmp_path / "out.npz"
    output.write_bytes(b"what stood here")
    assert refused("run", source, "--input", f"x={tmp_path / 'missing.npy'}", "--output", output)
    assert output.read_bytes() == b"what stood here"


def test_run_does_not_overwrite_the_model(source):
    before = source.read_bytes()
    assert "model itself" in refused("run", source, "--output", source)
    assert source.read_bytes() == before


# ---- verify


def test_verify_equal(source):
    said = done("verify", source, source)
    assert said.endswith("\nverified\n")
    assert "with N=1 " in said
    assert "with N=3 " in said


def test_verify_different(source, other):
    ended = graphopt("verify", source, other)
    assert ended.code == 1
    assert "not equal on normal inputs with N=1" in ended.out
    assert "verified" not in ended.out
    assert ended.err.startswith(f"graphopt: {other}: the output `y` differs on normal inputs with N=1: ")
    assert ended.err.count("\n") == 1


def test_verify_against_the_zoo(source):
    assert graphopt("verify", "zoo:lenet5", "zoo:lenet5").code == 0
    assert graphopt("verify", "zoo:lenet5", source).code == 1


def test_verify_shapes(source):
    said = done("verify", source, source, "--shapes", "N=2,4")
    assert "with N=2 " in said
    assert "with N=4 " in said


def test_verify_inputs(source, other, given):
    said = done("verify", source, source, "--input", given[0])
    assert "on given inputs" in said
    ended = graphopt("verify", source, other, "--input", given[0])
    assert ended.code == 1
    assert "differs on given inputs" in ended.err


def test_verify_json(source, other):
    said = json.loads(done("verify", source, source, "--json"))
    assert list(said) == ["equal", "ran", "sentence", "cases", "suspect", "notes"]
    assert (said["equal"], said["ran"]) == (True, True)
    ended = graphopt("verify", source, other, "--json")
    assert ended.code == 1
    said = json.loads(ended.out)
    assert said["equal"] is False
    assert said["suspect"]["value"] == "y"
    assert said["cases"][0]["outputs"]["mean"]["equal"] is True
    assert said["sentence"] in ended.err


def test_verify_of_what_cannot_run(source, tmp_path):
    """Nothing compared is not equal."""
    stuck = tiny.save(
        model([node("Reshape", "x s", "y")], [info("x", F, ["N", 7])], [info("y")],
              [weight("s", np.array([7 * 11, 13]))]), tmp_path, "stuck",
    )  # fmt: skip
    ended = graphopt("verify", stuck, stuck)
    assert ended.code == 1
    assert "--shapes" in ended.err
