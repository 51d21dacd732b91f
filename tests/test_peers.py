"""Public bugs of other optimizers: those of `tests/golden/peers` in ONNX Runtime, and those that no text can show.

Each test names the project and the issue, and says in a few words what went wrong there.
"""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import onnx
import pytest
from commands import graphopt as command
from golden import PEERS, Case, cases
from golden import run as run_case
from numeric import can_run, feeds
from onnx import TensorProto, helper
from tiny import I64, F, info, model, node, random, weight

import graphopt
from graphopt.onnx_format.writer import save
from graphopt.passes.pipeline import PASSES, RULES
from graphopt.runtime.onnxruntime import OnnxRuntimeSession

CASES = [case for case in cases() if case.group == PEERS]
NOT_IN_ONNX_RUNTIME = {  # why a case cannot be compared there
    "onnxscript-2187": "it has no Mul of bfloat16",
    "onnxsim-159": "nobody knows the operator",
    "coremltools-2732": "its results are random",
}
COMPARED = [case for case in CASES if case.path.stem not in NOT_IN_ONNX_RUNTIME]


# --- the golden files, written and run ---------------------------------------------------------------------------


@pytest.mark.parametrize("case", COMPARED, ids=[c.path.stem for c in COMPARED])
def test_golden_file_in_onnx_runtime(case: Case, tmp_path: Path) -> None:
    """inisis/OnnxSlim 118: the result was a file that the runtime refuses. Here it is loaded and compared."""
    graph, result = run_case(case)
    before, after = tmp_path / "before.onnx", tmp_path / "after.onnx"
    save(graph, before)
    save(result.graph, after)
    for kind in ("normal", "uniform", "scaled"):
        same(before, after, feeds(graph, kind))


def test_golden_files_are_compared_somewhere() -> None:
    """What ONNX Runtime cannot compare, the interpreter does (`test_golden.py`), or nothing can."""
    left = {case.path.stem for case in CASES if case not in COMPARED and not can_run(graphopt.parse(case.source))}
    assert left <= {"onnxsim-159", "coremltools-2732"}


# --- what no text can show ----------------------------------------------------------------------------------------


def same(before: Path, after: Path, given: dict[str, np.ndarray], tolerance: float = 1e-4) -> dict[str, np.ndarray]:
    """The results of a file, which another one has too: names, order, types, shapes and values."""
    old, new = (OnnxRuntimeSession(p, optimize=False) for p in (before, after))
    assert list(old.outputs) == list(new.outputs)
    mine = {name: array for name, array in given.items() if name in new.inputs}
    expected, got = old.run(given), new.run(mine)
    for name, array in expected.items():
        assert (got[name].dtype, got[name].shape) == (array.dtype, array.shape)
        scale = np.sqrt(np.nanmean(np.square(array, dtype=np.float64))) if array.size else 0.0
        scale = scale if np.isfinite(scale) else 0.0
        np.testing.assert_allclose(got[name], array, rtol=tolerance, atol=tolerance * scale)
    return got


def compiled(proto: onnx.ModelProto, folder: Path, **options) -> tuple[Path, Path, graphopt.Result]:
    """The original and the result as files, and how it was made."""
    before, after = folder / "before.onnx", folder / "after.onnx"
    onnx.save(proto, before)
    result = graphopt.optimize(graphopt.load(before), check="every", **options)
    assert not result.quarantined
    save(result.graph, after)
    onnx.checker.check_model(str(after), full_check=True)
    return before, after, result


def operators(result: graphopt.Result) -> list[str]:
    return [n.op.name for n in result.graph.nodes]


def flattened(batch: str | int, width: str | int) -> onnx.ModelProto:
    """Conv, then a Reshape to [batch, -1, channels] by way of Shape, as exporters write it."""
    return model(
        [
            node("Conv", "x w", "c"),
            node("Shape", "c", "s"),
            node("Gather", "s zero", "n"),
            node("Unsqueeze", "n axis", "n1"),
            node("Concat", "n1 rest", "t", axis=0),
            node("Reshape", "c t", "r"),
            node("MatMul", "r k", "y"),
        ],
        [info("x", F, [batch, 3, 8, width])],
        [info("y", F, [batch, None, 5])],
        [
            weight("w", random(4, 3, 1, 1)),
            weight("zero", np.array(0)),
            weight("axis", np.array([0])),
            weight("rest", np.array([-1, 4])),
            weight("k", random(4, 5)),
        ],
    )


def test_a_dynamic_batch_stays_dynamic(tmp_path: Path) -> None:
    """onnxsim 101, 342: the batch was frozen; 117, 21: a model with one was refused. Run at three batches."""
    before, after, result = compiled(flattened("batch", 8), tmp_path)
    assert str(result.graph.inputs[0].type) == "f32[batch, 3, 8, 8]"
    assert str(result.graph.outputs[0].type) == "f32[batch, 64, 5]"
    for batch in (1, 2, 5):
        same(before, after, {"x": random(batch, 3, 8, 8)})


def test_a_dynamic_width_stays_dynamic(tmp_path: Path) -> None:
    """inisis/OnnxSlim 30: a text recogniser, whose lines have any width, ran before and failed after."""
    before, after, result = compiled(flattened(1, "width"), tmp_path)
    assert str(result.graph.inputs[0].type) == "f32[1, 3, 8, width]"
    for width in (1, 8, 33):
        same(before, after, {"x": random(1, 3, 8, width)})


def test_no_output_vanishes(tmp_path: Path) -> None:
    """onnxsim 227: of several outputs one was gone. Here one is an input, two are one value, and one is a constant."""
    proto = model(
        [
            node("Relu", "x", "a"),
            node("Identity", "a", "b"),
            node("Identity", "x", "c"),
            node("Identity", "k", "d"),
            node("Dropout", "a", "e"),
        ],
        [info("x", F, ["N", 3])],
        [info(n, F, None) for n in "bxaecd"],
        [weight("k", random(3))],
    )
    before, after, _ = compiled(proto, tmp_path)
    assert list(same(before, after, {"x": random(2, 3)})) == list("bxaecd")


def test_the_result_depends_on_its_inputs(tmp_path: Path) -> None:
    """onnxsim 260: everything was folded away but the input."""
    before, after, result = compiled(flattened("N", "W"), tmp_path)
    assert {"Conv", "Reshape", "MatMul"} <= set(operators(result))
    first, second = (same(before, after, {"x": random(2, 3, 8, 4, seed=s)})["y"] for s in (1, 2))
    assert not np.allclose(first, second)


def test_files_do_not_grow(tmp_path: Path) -> None:
    """onnxsim 291, 68, 178: ConstantOfShape and Tile were folded until memory or protobuf gave up."""
    proto = model(
        [
            node("ConstantOfShape", "s", "k", value=weight("", np.array([0.5], "f4"))),
            node("Tile", "u times", "t"),
            node("Add", "k t", "a"),
            node("Add", "x a", "y"),
        ],
        [info("x", F, ["N", 4096, 4096])],
        [info("y")],
        [
            weight("s", np.array([4096, 4096])),
            weight("u", random(1, 4096)),
            weight("times", np.array([4096, 1])),
        ],
    )
    before, after, result = compiled(proto, tmp_path)
    assert operators(result) == ["ConstantOfShape", "Tile", "Add", "Add"]
    assert after.stat().st_size < before.stat().st_size + 1000
    assert all("growth budget" in m.reason for m in result.missed if m.rule.endswith("_constant"))


NORMED = [
    node("Identity", "x", "i"),
    node("Conv", "i w", "c"),
    node("BatchNormalization", "c s b m v", "n"),
    node("Relu", "n", "y"),
]
NORM = [weight(n, np.random.default_rng(i).uniform(0.5, 2, 4).astype("f4")) for i, n in enumerate("sbmv")]


@pytest.mark.parametrize(
    ("skipped", "left"),
    [
        ("fold_batch_norm", ["Conv", "BatchNormalization", "Relu"]),
        ("fold_affine", ["Conv", "BatchNormalization", "Relu"]),
        ("normalize", ["Identity", "FusedConv"]),
        ("does_nothing", ["Identity", "FusedConv"]),
        ("fuse_conv_activation", ["Conv", "Relu"]),
        ("conv_activation", ["Conv", "Relu"]),
        ("", ["FusedConv"]),
    ],
)
def test_skipping_has_an_effect(skipped: str, left: list[str], tmp_path: Path) -> None:
    """onnxsim 223: --skip-constant-folding was read and not passed on."""
    proto = model(NORMED, [info("x", F, ["N", 2, 6, 6])], [info("y")], [weight("w", random(4, 2, 3, 3)), *NORM])
    onnx.save(proto, tmp_path / "in.onnx")
    skip = ["--skip", skipped] if skipped else []
    ended = command("compile", tmp_path / "in.onnx", "-o", tmp_path / "out.onnx", "--target", "cpu", *skip)
    assert ended.code == 0, ended.err
    assert [n.op_type for n in onnx.load(tmp_path / "out.onnx").graph.node] == left


def test_each_pass_and_rule_can_be_skipped() -> None:
    """onnxsim 223, for every pass and rule: skipped, none of its rewrites is made."""
    graph = graphopt.load("zoo:lenet5")
    for name in (*PASSES, *(rule for _, rule in RULES)):
        result = graphopt.optimize(graph, target="cpu", check="off", skip=[name])
        assert all(a.rule != name and (a.pass_name != name) for a in result.records), name


def test_external_data_lies_beside_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """microsoft/onnxruntime 8422: weights beside a model were looked for in the working folder, and folded from it."""
    folder, elsewhere = tmp_path / "model", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    w = random(4, 2, 3, 3)
    proto = model(NORMED, [info("x", F, ["N", 2, 6, 6])], [info("y")], [weight("w", w), *NORM])
    onnx.save(proto, folder / "in.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    (elsewhere / "weights").write_bytes(bytes((folder / "weights").stat().st_size))
    monkeypatch.chdir(elsewhere)
    result = graphopt.optimize(graphopt.load(Path("..", "model", "in.onnx")), check="every")
    save(result.graph, folder / "out.onnx")
    assert operators(result) == ["Conv", "Relu"]
    got = same(folder / "in.onnx", folder / "out.onnx", {"x": random(1, 2, 6, 6)})
    assert got["y"].any()


def test_constants_inside_a_function_are_folded(tmp_path: Path) -> None:
    """microsoft/onnxscript 2673: folding inside a function made an initializer, which a function cannot hold."""
    body = [
        helper.make_node("Constant", [], ["one"], value_int=1),
        helper.make_node("Cast", ["one"], ["f"], to=F),
        helper.make_node("Sub", ["f", "a"], ["r"]),
    ]
    function = helper.make_function("this", "function", ["a"], ["r"], body, [helper.make_opsetid("", 17)])
    call = helper.make_node("function", ["x"], ["y"], domain="this", name="call")
    proto = model([call], [info("x", F, [3])], [info("y", F, [3])], functions=[function])
    before, after, result = compiled(proto, tmp_path)
    assert operators(result) == ["Sub"]
    same(before, after, {"x": random(3)})


def test_a_network_of_mxnet(tmp_path: Path) -> None:
    """inisis/OnnxSlim 321: RetinaFace from MXNet failed: parameters that are inputs too, and shared by norms."""
    weights = [weight("w1", random(4, 2, 3, 3)), weight("w2", random(4, 4, 1, 1)), weight("gamma", np.ones(4, "f4"))]
    weights += [weight(n, np.random.default_rng(i).uniform(0.5, 2, 4).astype("f4")) for i, n in enumerate("bmv")]
    proto = model(
        [
            node("Conv", "x w1", "c1"),
            node("BatchNormalization", "c1 gamma b m v", "n1", epsilon=2e-5),
            node("Conv", "n1 w2", "c2"),
            node("BatchNormalization", "c2 gamma b m v", "n2", epsilon=2e-5),
            node("Concat", "n1 n2", "y", axis=1),
        ],
        [info("x", F, [1, 2, 8, 8]), *(info(w.name, F, list(w.dims)) for w in weights)],
        [info("y")],
        weights,
        opset=9,
        ir_version=3,
    )
    before, after, result = compiled(proto, tmp_path)
    assert operators(result) == ["Conv", "Conv", "Concat"]
    same(before, after, {"x": random(1, 2, 8, 8)})


@pytest.mark.parametrize("listed", [True, False])
def test_initializers_may_be_inputs_or_not(listed: bool, tmp_path: Path) -> None:
    """onnx/onnx 2198: an optimizer crashed on initializers that are not inputs."""
    k = weight("k", np.array([42], "f4"))
    inputs = [info("x", F, [1]), *([info("k", F, [1])] if listed else [])]
    proto = model([node("Add", "x k", "y")], inputs, [info("y", F, [1])], [k], ir_version=4)
    before, after, result = compiled(proto, tmp_path)
    assert [v.name for v in result.graph.inputs] == ["x"]
    assert same(before, after, {"x": np.ones(1, "f4")})["y"] == 43


def test_names_of_nodes_are_not_names_of_values(tmp_path: Path) -> None:
    """microsoft/onnxruntime 32405: a value was looked up by its node's name. Here the names are exchanged."""
    proto = model(
        [
            helper.make_node("Cast", ["k"], ["b"], name="a", to=F),
            helper.make_node("Exp", ["b"], ["a"], name="b"),
            helper.make_node("Conv", ["x", "w"], ["s"], name="y"),
            helper.make_node("Mul", ["s", "a"], ["y"], name="s"),
        ],
        [info("x", F, ["N", 2, 4, 4])],
        [info("y")],
        [weight("k", np.array([0.5], "f2")), weight("w", random(3, 2, 1, 1))],
    )
    before, after, result = compiled(proto, tmp_path)
    assert operators(result) == ["Conv"]
    same(before, after, {"x": random(1, 2, 4, 4)})


def test_folded_constants_outlive_their_sources(tmp_path: Path) -> None:
    """microsoft/onnxruntime 29788: a folded view of a constant that was freed gave NaN, another each time."""
    proto = model(
        [node("Reshape", "k s", "r"), node("Transpose", "r", "t", perm=[1, 0]), node("Add", "x t", "y")],
        [info("x", F, [500, 400])],
        [info("y")],
        [weight("k", random(200_000)), weight("s", np.array([400, 500]))],
    )
    before, after = tmp_path / "before.onnx", tmp_path / "after.onnx"
    onnx.save(proto, before)
    small = graphopt.optimize(graphopt.load(before)).graph
    gc.collect()
    ballast = [np.full(200_000, np.nan, "f4") for _ in range(8)]
    save(small, after)
    assert len(ballast) == 8
    assert np.isfinite(same(before, after, {"x": random(500, 400)}, 0.0)["y"]).all()


def test_an_operator_that_nobody_knows_is_carried(tmp_path: Path) -> None:
    """onnxsim 210, 220: a plugin in ONNX's own domain ended the run; 159: its result was taken for a constant."""
    plugin = helper.make_node("DCNv2_TRT", ["a", "k"], ["p"], name="plugin", groups=2)
    proto = model(
        [node("Identity", "x", "i"), node("Relu", "i", "a"), plugin, node("Add", "p z", "y")],
        [info("x", F, ["N", 3])],
        [info("y", F, ["N", 3])],
        [weight("k", random(3)), weight("z", np.array(1, "f4"))],
    )
    path = tmp_path / "in.onnx"
    onnx.save(proto, path)
    result = graphopt.optimize(graphopt.load(path))
    save(result.graph, tmp_path / "out.onnx")
    nodes = onnx.load(tmp_path / "out.onnx").graph.node
    assert [n.op_type for n in nodes] == ["Relu", "DCNv2_TRT", "Add"]
    assert (list(nodes[1].input), list(nodes[1].output), nodes[1].attribute[0].i) == (["a", "k"], ["p"], 2)


def test_a_plugin_on_constants_is_carried(tmp_path: Path) -> None:
    """onnxsim 159: an operator on constants alone, of whatever domain, was cleaned away."""
    for domain in ("", "my.plugins"):
        plugin = helper.make_node("Grid", ["k"], ["p"], name="plugin", domain=domain)
        proto = model(
            [plugin, node("Add", "p x", "y")], [info("x", F, [3])], [info("y", F, [3])], [weight("k", random(3))]
        )
        onnx.save(proto, tmp_path / "in.onnx")
        result = graphopt.optimize(graphopt.load(tmp_path / "in.onnx"))
        assert operators(result) == ["Grid", "Add"], domain


def test_rounding_is_no_bug(tmp_path: Path) -> None:
    """onnx/optimizer 255: a difference of 3e-7 was reported as one. The original's own rounding is as large."""
    proto = model(NORMED, [info("x", F, ["N", 2, 6, 6])], [info("y")], [weight("w", 100 * random(4, 2, 3, 3)), *NORM])
    before, after, result = compiled(proto, tmp_path)
    assert operators(result) == ["Conv", "Relu"]
    given = {"x": random(2, 2, 6, 6)}
    old, new = (OnnxRuntimeSession(p, optimize=False).run(given)["y"] for p in (before, after))
    assert not np.array_equal(old, new)
    assert graphopt.verify(before, after).equal


def test_a_wrong_fold_is_found(tmp_path: Path) -> None:
    """onnx/onnx 2677, onnxsim 79: weights of other values came out, and a check that is off says nothing."""
    proto = model(NORMED, [info("x", F, ["N", 2, 6, 6])], [info("y")], [weight("w", random(4, 2, 3, 3)), *NORM])
    before, after, _ = compiled(proto, tmp_path)
    wrong = onnx.load(after)
    folded = next(t for t in wrong.graph.initializer if len(t.dims) == 4)
    values = onnx.numpy_helper.to_array(folded) * np.array([1, 1, 1.001, 1], "f4")[:, None, None, None]
    folded.CopyFrom(onnx.numpy_helper.from_array(values, folded.name))
    onnx.save(wrong, tmp_path / "wrong.onnx")
    assert graphopt.verify(before, after).equal
    assert not graphopt.verify(before, tmp_path / "wrong.onnx").equal


def test_a_branch_keeps_its_number_of_outputs(tmp_path: Path) -> None:
    """microsoft/onnxruntime 8825: an output of one branch was folded away, and the branches differed in number."""
    k = helper.make_node("Constant", [], ["k"], value=weight("", np.array([1, 2], "f4")))
    yes = helper.make_graph(
        [k, node("Neg", "k", "a1"), node("Identity", "x", "b1")], "yes", [], [info("a1", F, [2]), info("b1", F, [2])]
    )
    no = helper.make_graph([node("Relu", "x", "a2"), node("Neg", "x", "b2")], "no", [], [info("a2"), info("b2")])
    branch = helper.make_node("If", ["p"], ["y", "z"], name="if", then_branch=yes, else_branch=no)
    proto = model(
        [branch], [info("x", F, [2]), info("p", TensorProto.BOOL, [])], [info("y", F, [2]), info("z", F, [2])]
    )
    before, after, _ = compiled(proto, tmp_path)
    for p in (True, False):
        same(before, after, {"x": random(2), "p": np.array(p)})


def test_a_loop_keeps_its_condition(tmp_path: Path) -> None:
    """microsoft/onnxruntime 8825: the condition that a loop's body passes on was removed with its Identity."""
    body = helper.make_graph(
        [node("Identity", "go", "on"), node("Identity", "w", "u"), node("Add", "s u", "t")],
        "body",
        [info("i", I64, []), info("go", TensorProto.BOOL, []), info("s", F, [2])],
        [info("on", TensorProto.BOOL, []), info("t", F, [2])],
    )
    loop = helper.make_node("Loop", ["n", "", "x"], ["y"], name="loop", body=body)
    proto = model([node("Identity", "k", "w"), loop], [info("x", F, [2])], [info("y", F, [2])], [
        weight("n", np.array(3)), weight("k", np.array([1, 2], "f4")),
    ])  # fmt: skip
    before, after, _ = compiled(proto, tmp_path)
    got = same(before, after, {"x": np.zeros(2, "f4")})
    np.testing.assert_array_equal(got["y"], [3, 6])
