"""Verification: what is equal passes, and every kind of wrong result is caught and named."""

import json
from itertools import pairwise

import numpy as np
import onnx
import pytest
import tiny
from tiny import I64, F, info, node, random, weight

import graphopt.ops  # noqa: F401  # fills the registry
from graphopt.errors import ModelError, UsageError
from graphopt.ir.constant import Constant
from graphopt.ir.graph import Graph, Value
from graphopt.ir.types import TensorType, f32
from graphopt.ops.activation import LeakyRelu, Relu
from graphopt.runtime.bisect import first_difference
from graphopt.runtime.verify import verify

SMALL = {"H": (8, 11), "W": (9, 8)}


@pytest.fixture
def check(tmp_path):
    """Verify two models given as protos."""

    def run(original, result, **options):
        a, b = tiny.save(original, tmp_path, "original"), tiny.save(result, tmp_path, "result")
        verification = verify(a, b, **options)
        json.loads(json.dumps(verification.to_json(), allow_nan=False))
        assert all("\n" not in line for line in verification.lines())
        assert verification.lines()
        return verification

    return run


def differs(verification, *words):
    assert verification.ran
    assert not verification.equal
    assert all(w in verification.sentence for w in words), verification.sentence
    return True


def test_the_same_model_is_equal_on_every_shape_and_kind_of_input(check):
    verification = check(tiny.network(), tiny.network(), shapes=SMALL)
    assert verification.equal, verification.sentence
    seen = [(c.case.shapes["N"], c.case.shapes["H"], c.case.kind) for c in verification.cases]
    assert seen == [(n, h, k) for n, h in ((1, 8), (3, 11)) for k in ("normal", "uniform", "scaled")]
    assert all([o.name for o in c.outputs] == ["logits", "features"] for c in verification.cases)
    assert verification.suspect is None


def test_by_default_the_second_shapes_see_normal_inputs_only(check):
    proto = tiny.model([node("Relu", "x", "y")], [info("x", F, ["N", 4])], [info("y")])
    seen = [(c.case.shapes["N"], c.case.kind) for c in check(proto, proto).cases]
    assert seen == [(1, "normal"), (1, "uniform"), (1, "scaled"), (3, "normal")]


def test_rounding_is_equal(check):
    """A batch normalization folded in float32 by hand rounds differently and is right."""
    w, scale = random(4, 3, 3, 3), random(4, seed=1)
    zero, one = np.zeros(4, np.float32), np.ones(4, np.float32)
    x, y = [info("x", F, ["N", 3, 8, 8])], [info("y")]
    bn = node("BatchNormalization", "a s zero zero one", "y", epsilon=1e-5)
    original = tiny.model(
        [node("Conv", "x w", "a"), bn],
        x,
        y,
        [weight("w", w), weight("s", scale), weight("zero", zero), weight("one", one)],
    )
    folded = w * (scale / np.sqrt(one + np.float32(1e-5)))[:, None, None, None]
    result = tiny.model([node("Conv", "x w", "y")], x, y, [weight("w", folded)])
    verification = check(original, result)
    assert verification.equal, verification.sentence
    assert verification.cases[0].outputs[0].verdict.error != 0
    assert not check(original, result, exact_only=True).equal
    assert check(original, original, exact_only=True).equal  # ONNX Runtime's own folding does not count


def test_a_wrong_sign_in_one_weight(check):
    verification = check(tiny.network(), tiny.network(sign=-1), shapes=SMALL)
    assert differs(verification, "`logits`", "normal inputs with N=1", "`c`")
    assert verification.suspect is not None
    assert verification.suspect.value == "c"
    assert verification.suspect.after == ("b",)


def test_a_small_change_of_one_weight(check):
    assert differs(check(tiny.network(), tiny.network(extra=1e-4), shapes=SMALL), "`logits`", "`c`")


def test_the_rules_that_touched_the_value_are_named(check):
    touched = {"c": ["fold_batch_norm", "fold_batch_norm"]}
    verification = check(tiny.network(), tiny.network(sign=-1), shapes=SMALL, touched=lambda v: touched.get(v, ()))
    assert verification.suspect is not None
    assert verification.suspect.rules == ("fold_batch_norm",)
    assert "touched by fold_batch_norm" in verification.sentence


def test_swapped_outputs(check):
    two = [info("x", F, ["N", 2])]
    outs = [info("a"), info("b")]
    original = tiny.model([node("Relu", "x", "a"), node("Sigmoid", "x", "b")], two, outs)
    swapped = tiny.model([node("Relu", "x", "b"), node("Sigmoid", "x", "a")], two, outs)
    reordered = tiny.model([node("Relu", "x", "a"), node("Sigmoid", "x", "b")], two, outs[::-1])
    assert check(original, original).equal
    assert differs(check(original, swapped), "`a`")
    assert differs(check(original, reordered), "`a`, `b`", "`b`, `a`")


def test_a_missing_and_a_renamed_output(check):
    x = [info("x", F, ["N", 2])]
    original = tiny.model([node("Relu", "x", "a"), node("Sigmoid", "x", "b")], x, [info("a"), info("b")])
    fewer = tiny.model([node("Relu", "x", "a")], x, [info("a")])
    renamed = tiny.model([node("Relu", "x", "a"), node("Sigmoid", "x", "c")], x, [info("a"), info("c")])
    assert differs(check(original, fewer), "`a`, `b`")
    assert differs(check(original, renamed), "`c`")


def test_an_input_that_is_gone(check):
    outs = [info("y")]
    original = tiny.model([node("Relu", "x", "y")], [info("x", F, [2]), info("unused", F, [2])], outs)
    result = tiny.model([node("Relu", "x", "y")], [info("x", F, [2])], outs)
    assert differs(check(original, result), "`unused`")


def test_a_frozen_batch_in_the_inputs_type(check):
    assert differs(check(tiny.network(), tiny.network(batch=1), shapes=SMALL), "`x`", "frozen", "N")


def test_a_frozen_batch_inside(check):
    """The declared type says N, and a Reshape inside says 1."""
    x, y = [info("x", F, ["N", 4])], [info("y")]

    def reshape(*shape):
        return tiny.model([node("Reshape", "x s", "y")], x, y, [weight("s", np.array(shape))])

    verification = check(reshape(-1, 2, 2), reshape(1, 2, 2))
    assert differs(verification, "N=3", "which the original takes")
    verification = check(reshape(0, 2, 2), reshape(1, -1, 2))
    assert differs(verification, "N=3", "shape")


def test_a_dtype_that_changed(check):
    x, y = [info("x", F, ["N", 4])], info("y", onnx.TensorProto.DOUBLE)
    original = tiny.model([node("Relu", "x", "y")], x, [info("y")])
    wider = tiny.model([node("Relu", "x", "a"), node("Cast", "a", "y", to=onnx.TensorProto.DOUBLE)], x, [y])
    assert differs(check(original, wider), "dtype", "f64", "f32")
    graph = Graph()
    made = graph.append(Relu(), [graph.add_input(Value("x", f32["N", 4]))], [Value("y", f32["N", 4])])
    graph.set_output(0, made.result)
    assert differs(check(original, wider, graph=graph), "dtype", "f64", "f32")  # the reference is float64 too


def test_a_lost_nan(check):
    """0 / 0 is NaN; max(0 / 0, 0) is not."""
    x, y = [info("x", F, ["N", 4])], [info("y")]
    zero = [weight("zero", np.array([0, 1, 1, 1], np.float32))]
    original = tiny.model([node("Mul", "x zero", "a"), node("Div", "a zero", "y")], x, y, zero)
    result = tiny.model([node("Identity", "x", "a"), node("Mul", "a zero", "y")], x, y, zero)
    assert check(original, original).equal
    assert differs(check(original, result), "NaN", "[0, 0]")


def test_an_integer_off_by_one(check):
    x, y = [info("x", F, ["N", 5])], [info("y", I64), info("z", I64)]

    def counting(offset):
        nodes = [node("ArgMax", "x", "y", axis=1), node("Add", "y one", "z")]
        return tiny.model(nodes, x, y, [weight("one", np.array([offset]))])

    assert check(counting(1), counting(1)).equal
    assert differs(check(counting(1), counting(2)), "`z`", "differ")


def test_an_output_that_ignores_the_inputs_now(check):
    x, y = [info("x", F, ["N", 4])], [info("y")]
    original = tiny.model([node("Relu", "x", "y")], x, y)
    result = tiny.model([node("Sub", "x x", "a"), node("Add", "a c", "y")], x, y, [weight("c", np.ones(4, np.float32))])
    verification = check(original, result)
    assert differs(verification)
    assert "does not depend on the inputs" in verification.problem


def test_a_result_that_cannot_be_loaded(check):
    x, y = [info("x", F, ["N", 4])], [info("y")]
    original = tiny.model([node("Relu", "x", "y")], x, y)
    broken = tiny.model([node("Nonsense", "x", "y", "nonsense1")], x, y)
    assert differs(check(original, broken), "cannot be loaded", "`nonsense1`")


def test_an_original_that_cannot_be_run_is_not_equal(check):
    broken = tiny.model([node("Nonsense", "x", "y", "nonsense1")], [info("x", F, ["N", 4])], [info("y")])
    with pytest.raises(ModelError, match="`nonsense1`"):
        check(broken, broken)


def test_where_no_shape_works_shapes_are_asked_for(check):
    reshape = tiny.model(
        [node("Reshape", "x s", "y")], [info("x", F, ["N", "L"])], [info("y")], [weight("s", np.array([7, 11]))]
    )
    verification = check(reshape, reshape)
    assert not verification.ran
    assert "--shapes 'N=1;L=1'" in verification.sentence
    assert check(reshape, reshape, shapes={"N": (7,), "L": (11,)}).equal


def test_an_input_that_cannot_be_made_up_is_asked_for(check):
    x = info("x", F, [2])
    x.type.tensor_type.ClearField("shape")
    proto = tiny.model([node("Transpose", "x", "y", perm=[1, 0])], [x], [info("y")])
    verification = check(proto, proto)
    assert not verification.ran
    assert "with --input" in verification.sentence
    assert check(proto, proto, inputs={"x": random(2, 2)}).equal
    pairs = onnx.helper.make_tensor_sequence_value_info("s", F, None)
    proto = tiny.model([node("ConcatFromSequence", "s", "y", axis=0)], [pairs], [info("y")])
    verification = check(proto, proto)
    assert not verification.ran
    assert "--input s=" in verification.sentence


def test_scalar_inputs(check):
    proto = tiny.model([node("Add", "x s", "y")], [info("x", F, ["N", 4]), info("s", F, [])], [info("y")])
    assert check(proto, proto).equal


def test_the_next_candidate_where_the_original_refuses_one(check):
    reshape = tiny.model(
        [node("Reshape", "x s", "y")], [info("x", F, ["N", "L"])], [info("y")], [weight("s", np.array([-1, 64, 6]))]
    )
    verification = check(reshape, reshape)
    assert verification.equal
    assert [tuple(c.case.shapes.values()) for c in verification.cases] == [(1, 384)] * 3 + [(3, 256)]


def test_a_batch_that_the_original_itself_refuses_is_told(check):
    fixed = tiny.model(
        [node("Reshape", "x s", "y")], [info("x", F, ["N", 4])], [info("y")], [weight("s", np.array([4]))]
    )
    verification = check(fixed, fixed)
    assert verification.equal
    assert {c.case.shapes["N"] for c in verification.cases} == {1}
    assert any("N=1" in n for n in verification.notes)


def test_asked_for_shapes_that_are_refused_are_told(check):
    fixed = tiny.model(
        [node("Reshape", "x s", "y")], [info("x", F, ["N", 4])], [info("y")], [weight("s", np.array([4]))]
    )
    verification = check(fixed, fixed, shapes={"N": (1, 2)})
    assert any("N=2" in n for n in verification.notes)
    with pytest.raises(UsageError, match="`M`"):
        check(fixed, fixed, shapes={"M": (1,)})


def test_given_inputs(check):
    x = np.full((2, 3, 8, 8), 0.5, np.float32)
    verification = check(tiny.network(), tiny.network(), inputs={"x": x})
    assert [(c.case.kind, c.case.shapes["N"]) for c in verification.cases] == [("given", 2)]
    assert differs(check(tiny.network(), tiny.network(sign=-1), inputs={"x": x}), "given inputs")
    with pytest.raises(UsageError, match="`q`"):
        check(tiny.network(), tiny.network(), inputs={"q": x})
    with pytest.raises(UsageError, match=r"`x`.*f64"):
        check(tiny.network(), tiny.network(), inputs={"x": x.astype(np.float64)})


def test_integer_inputs_that_are_indices(check):
    table = weight("table", random(2, 3))
    gather = tiny.model([node("Gather", "table i", "y")], [info("i", I64, ["N"])], [info("y")], [table])
    assert check(gather, gather).equal


def test_a_difference_on_one_kind_of_input_only(check):
    """Clip at 100 shows on inputs times 64 alone."""
    x, y = [info("x", F, ["N", 64])], [info("y")]
    original = tiny.model([node("Relu", "x", "y")], x, y)
    result = tiny.model([node("Clip", "x low high", "y")], x, y,
                        [weight("low", np.float32(0)), weight("high", np.float32(100))])  # fmt: skip
    verification = check(original, result)
    assert differs(verification, "scaled")
    assert [c.equal for c in verification.cases[:3]] == [True, True, False]
    assert check(original, result, seeds=2).equal


def test_exact_rewrites_keep_their_bits(check):
    x, y = [info("x", F, ["N", 64])], [info("y")]
    half = [weight("h", np.float32(0.1)), weight("t", np.float32(10))]
    original = tiny.model([node("Mul", "x h", "y")], x, y, half)
    rounded = tiny.model([node("Div", "x t", "y")], x, y, half)
    assert check(original, rounded).equal
    assert differs(check(original, rounded, exact_only=True), "other bits")
    assert check(original, original, exact_only=True).equal


def steep(*factors):
    """sin(1000 x), the factor applied in parts: rounding is amplified alike in all of them."""
    names = ["x", *(f"p{i}" for i in range(len(factors)))]
    nodes = [node("Mul", f"{a} f{i}", b) for i, (a, b) in enumerate(pairwise(names))]
    weights = [weight(f"f{i}", np.float32(f)) for i, f in enumerate(factors)]
    return tiny.model([*nodes, node("Sin", names[-1], "y")], [info("x", F, ["N", 64])], [info("y")], weights)


def test_without_a_reference_inputs_moved_by_one_ulp_show_the_noise(check):
    assert check(steep(1000), steep(10, 100)).equal
    assert not check(steep(1000), steep(10, 100.1)).equal


def test_integers_at_a_threshold_that_one_ulp_decides(check):
    x, y = [info("x", F, [2])], [info("y", onnx.TensorProto.BOOL)]

    def above(*factors):
        weights = [weight("f", np.float32(factors[0])), weight("g", np.float32(factors[1]))]
        nodes = [node("Mul", "x f", "a"), node("Mul", "a g", "b"), node("Greater", "b three", "y")]
        return tiny.model(nodes, x, y, [*weights, weight("three", np.float32(3))])

    inputs = {"x": np.array([1, 7], np.float32)}
    verification = check(above(1.5, 2), above(1.5, 2.0000002), inputs=inputs)
    assert verification.equal
    assert verification.cases[0].outputs[0].verdict.excused == 1
    assert "1 elements differ" in verification.sentence
    assert not check(above(1.5, 2), above(1.5, 0.1), inputs=inputs).equal


def test_bounds_are_allowed(check):
    assert not check(tiny.network(), tiny.network(extra=1e-3), shapes=SMALL).equal
    assert check(tiny.network(), tiny.network(extra=1e-3), shapes=SMALL, bounds=0.1).equal


# ---- the float64 reference


def leaky(alpha=0.1, wrong=False):
    """LeakyRelu as ONNX, and as a graph for the reference."""
    proto = tiny.model([node("LeakyRelu", "x", "y", alpha=alpha)], [info("x", F, ["N", 4])], [info("y")])
    graph = Graph()
    x = graph.add_input(Value("x", f32["N", 4]))
    made = graph.append(Relu() if wrong else LeakyRelu(alpha=alpha), [x], [Value("y", f32["N", 4])])
    graph.set_output(0, made.result)
    return proto, graph


def test_the_reference_is_float64_where_every_operator_has_a_kernel(check):
    proto, graph = leaky()
    for source in (graph, lambda: graph):
        verification = check(proto, proto, graph=source)
        assert verification.equal
        assert {c.reference for c in verification.cases} == {"float64"}
        assert verification.notes == ()


def test_without_a_kernel_the_original_stands_in_and_that_is_said(check):
    proto, _ = leaky()
    verification = check(proto, proto)
    assert {c.reference for c in verification.cases} == {"runtime"}
    assert any("stands in" in n for n in verification.notes)


def test_the_budget_of_the_reference_is_said(check, monkeypatch):
    proto, graph = leaky()
    monkeypatch.setattr("graphopt.runtime.oracle.macs", lambda node: 1000)
    verification = check(proto, proto, graph=graph, oracle_macs=2500)
    assert [c.reference for c in verification.cases] == ["float64"] * 2 + ["runtime"] * 2
    assert any("budget" in n for n in verification.notes)


def test_a_wrong_reference_excuses_nothing(check):
    """A kernel with a bug must not pass for rounding of the original."""
    proto, wrong = leaky(wrong=True)
    off, _ = leaky(alpha=0.2)
    assert differs(check(proto, off, graph=wrong), "`y`")
    verification = check(proto, proto, graph=wrong)
    assert verification.equal
    assert any("disagrees" in n for n in verification.notes)


def test_a_reference_of_another_shape_is_not_used(check):
    proto, _ = leaky()
    graph = Graph()
    graph.add_input(Value("x", f32["N", 4]))
    graph.set_output(0, graph.add_constant(Value("y", TensorType(f32, (7,)), Constant.of(np.ones(7, np.float32)))))
    verification = check(proto, proto, graph=graph)
    assert verification.equal
    assert any("disagrees" in n for n in verification.notes)


# ---- where models part


def test_the_first_value_that_parts_is_found_among_many(tmp_path):
    def deep(broken):
        nodes = [node("Relu", "x", "v0")]
        for i in range(40):
            op = "Sigmoid" if i == broken else "Tanh"
            nodes.append(node(op, f"v{i}", f"v{i + 1}"))
        return tiny.model(nodes, [info("x", F, [8])], [info("v40")])

    a = tiny.save(deep(None), tmp_path, "a")
    b = tiny.save(deep(23), tmp_path, "b")
    suspect = first_difference(a, b, {"x": random(8)})
    assert suspect is not None
    assert suspect.value == "v24"
    assert suspect.after == ("v23",)
    assert first_difference(a, a, {"x": random(8)}) is None


def test_values_that_cannot_be_outputs_are_passed_over(tmp_path):
    def sequences(op):
        nodes = [
            node("SplitToSequence", "x", "s", axis=0, keepdims=0),
            node("ConcatFromSequence", "s", "t", axis=0),
            node(op, "t", "u"),
            node("Relu", "u", "y"),
        ]
        return tiny.model(nodes, [info("x", F, [2, 3])], [info("y")])

    a, b = tiny.save(sequences("Tanh"), tmp_path, "a"), tiny.save(sequences("Sigmoid"), tmp_path, "b")
    suspect = first_difference(a, b, {"x": random(2, 3)})
    assert suspect is not None
    assert suspect.value == "u"


def test_models_with_external_data_are_bisected(tmp_path):
    paths = []
    for name, sign in (("a", 1), ("b", -1)):
        folder = tmp_path / name
        folder.mkdir()
        onnx.save(tiny.network(sign), folder / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
        paths.append(folder / "m.onnx")
    verification = verify(*paths, shapes=SMALL)
    assert verification.suspect is not None
    assert verification.suspect.value == "c"


def test_large_outputs_wait_on_the_disk(check, monkeypatch):
    monkeypatch.setattr("graphopt.runtime.spool.SPILL_BYTES", 1)
    assert check(tiny.network(), tiny.network(), shapes=SMALL).equal
    assert differs(check(tiny.network(), tiny.network(sign=-1), shapes=SMALL), "`c`")
