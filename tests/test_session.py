"""Sessions: ONNX Runtime's, what both kinds check, and inputs for them."""

import re

import numpy as np
import onnx
import pytest
import tiny
from tiny import I64, F, info, node, weight

from graphopt.errors import ModelError, UsageError
from graphopt.ir.dims import symbol
from graphopt.ir.graph import Graph, Value
from graphopt.ir.types import SequenceType, TensorType, boolean, f16, f32, i8, i64, string, u8
from graphopt.ops.activation import Relu
from graphopt.runtime import inputs as made
from graphopt.runtime.interpreter import Interpreter
from graphopt.runtime.onnxruntime import OnnxRuntimeSession, explain
from graphopt.runtime.session import Session

N = symbol("N")


def adder(shape=("N", 2)):
    return tiny.model(
        [node("Add", "x y", "z", "sum"), node("Relu", "z", "r", "relu")],
        [info("x", F, shape), info("y", F, shape)],
        [info("z"), info("r")],
    )


def session(proto=None, **options):
    return OnnxRuntimeSession((proto or adder()).SerializeToString(), **options)


X, Y = np.array([[1, -5]], np.float32), np.array([[2, 3]], np.float32)


def interpreted():
    graph = Graph()
    x = graph.add_input(Value("x", TensorType(f32, (N, 2))))
    y = graph.add_input(Value("y", TensorType(f32, (N, 2))))
    first = graph.append(Relu(), [x]).result
    second = graph.append(Relu(), [y]).result
    graph.set_output(0, first)
    graph.set_output(1, second)
    return Interpreter(graph)


@pytest.mark.parametrize("make", [session, interpreted])
def test_both_kinds_are_sessions(make):
    assert isinstance(make(), Session)


@pytest.mark.parametrize("optimize", [False, True])
def test_runs(optimize):
    s = session(optimize=optimize, threads=1)
    results = s.run({"x": X, "y": Y})
    assert list(results) == ["z", "r"]
    np.testing.assert_array_equal(results["z"], [[3, -2]])
    z, r = s(X, y=Y)
    np.testing.assert_array_equal(r, [[3, 0]])
    assert z.dtype == np.float32
    assert s.providers == ("CPUExecutionProvider",)


def test_one_output_comes_alone():
    single = tiny.model([node("Relu", "x", "y")], [info("x", F, [2])], [info("y")])
    result = session(single)(np.array([-1, 1], np.float32))
    assert isinstance(result, np.ndarray)


def test_types():
    proto = tiny.model([node("Relu", "x", "y")], [info("x", F, ["N", 3, None])], [info("y", F, ["N", 3, None])])
    kind = session(proto).inputs["x"]
    assert str(kind) in ('f32[N, 3, "?x[2]"]', "f32[N, 3, ?x[2]]")
    assert kind.shape[0] == N


@pytest.mark.parametrize("make", [session, interpreted])
@pytest.mark.parametrize(
    ("feeds", "words"),
    [
        ({"x": X}, ["`y`", "f32[N, 2]", "missing"]),
        ({"x": X, "y": Y, "q": Y}, ["`q`", "`x`, `y`"]),
        ({"x": X.astype(np.float64), "y": Y}, ["`x`", "f32[N, 2]", "f64[1, 2]"]),
        ({"x": X[0], "y": Y}, ["`x`", "f32[N, 2]", "f32[2]"]),
        ({"x": X[:, :1], "y": Y}, ["`x`", "f32[N, 2]", "f32[1, 1]"]),
        ({"x": X, "y": np.vstack([Y, Y])}, ["`y`", "f32[2, 2]", "N is 1 in `x`"]),
        ({"x": X.tolist(), "y": Y}, ["`x`", "NumPy array", "list"]),
    ],
)
def test_wrong_inputs_are_named_in_one_sentence(make, feeds, words):
    with pytest.raises(UsageError) as caught:
        make().run(feeds)
    text = str(caught.value)
    assert all(w in text for w in words), text
    assert "\n" not in text


def test_calls_with_too_much():
    with pytest.raises(UsageError, match="takes 2 inputs"):
        session()(X, Y, X)
    with pytest.raises(UsageError, match="`x` was given twice"):
        session()(X, x=X)


def test_initializers_that_are_inputs_may_be_left_out():
    proto = tiny.model(
        [node("Add", "x w", "y")],
        [info("x", F, [2]), info("w", F, [2])],
        [info("y")],
        [weight("w", np.ones(2, np.float32))],
    )
    s = session(proto)
    assert list(s.inputs) == ["x"]
    assert list(s.optional_inputs) == ["w"]
    x = np.zeros(2, np.float32)
    np.testing.assert_array_equal(s(x), [1, 1])
    np.testing.assert_array_equal(s(x, w=x + 5), [5, 5])


def test_external_data_from_a_path_and_from_bytes(tmp_path):
    proto = tiny.model(
        [node("Add", "x w", "y")], [info("x", F, [500])], [info("y")], [weight("w", np.ones(500, np.float32))]
    )
    path = tmp_path / "model.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    x = np.zeros(500, np.float32)
    assert OnnxRuntimeSession(path)(x).sum() == 500
    assert OnnxRuntimeSession(path.read_bytes(), folder=tmp_path)(x).sum() == 500
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r"model\.onnx.*external data"):
        OnnxRuntimeSession(path)


def one_sentence(text):
    assert "\n" not in text
    assert "onnxruntime_src" not in text
    assert "ONNXRuntimeError" not in text
    return True


def refused(proto, words, feeds=None):
    with pytest.raises(ModelError) as caught:
        OnnxRuntimeSession(proto.SerializeToString(), name="net.onnx").run(feeds or {})
    text = str(caught.value)
    assert one_sentence(text)
    assert all(re.search(w, text) for w in ["net.onnx", *words]), text


def test_refusals_name_file_node_and_remedy():
    x = [info("x", F, ["N", 3])]
    y = [info("y")]
    refused(tiny.model([node("Foo", "x", "y", "foo1")], x, y), ["`foo1`", "Foo", "install"])
    refused(tiny.model([node("Foo", "x", "y", "foo1", domain="my")], x, y), ["my:Foo", "register the library"])
    refused(tiny.model([node("Relu", "q", "y", "r1")], x, y), ["'q'", "onnx.checker"])
    mixed = tiny.model([node("Add", "x b", "y", "a1")], [*x, info("b", I64, ["N", 3])], y)
    refused(mixed, ["`a1`", "onnx.checker"])
    half = onnx.TensorProto.BFLOAT16
    refused(
        tiny.model([node("Relu", "x", "y", "r1")], [info("x", half, [1])], [info("y", half)]),
        ["`r1`", "no CPU kernel"],
    )
    reshape = tiny.model([node("Reshape", "x s", "y", "rs")], [*x, info("s", I64, [1])], y)
    refused(
        reshape,
        ["`rs`", "Reshape failed", "check the shapes"],
        {"x": np.ones((2, 3), np.float32), "s": np.array([4])},
    )


def test_files_that_are_none(tmp_path):
    with pytest.raises(ModelError, match=r"no\.onnx.*no such file"):
        OnnxRuntimeSession(tmp_path / "no.onnx")
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    with pytest.raises(ModelError, match=r"junk\.onnx.*export or copy"):
        OnnxRuntimeSession(tmp_path / "junk.onnx")
    with pytest.raises(UsageError, match="0 threads"):
        session(threads=0)


def test_an_unknown_message_is_still_one_sentence():
    assert one_sentence(explain("something\nnew happened."))


def test_errors_reach_the_user_once_only(capfd):
    """ONNX Runtime prints its errors to the terminal by default."""
    s = session(tiny.model([node("Reshape", "x s", "y")], [info("x", F, [2]), info("s", I64, [1])], [info("y")]))
    with pytest.raises(ModelError):
        s(np.ones(2, np.float32), np.array([3]))
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""


# ---- inputs


def test_seeded_inputs_are_reproducible_and_differ_by_name_and_seed():
    kinds = {"a": TensorType(f32, (N, 4)), "b": TensorType(f32, (N, 4))}
    one = made.seeded(kinds, {"N": 2})
    two = made.seeded(dict(reversed(kinds.items())), {"N": 2})
    np.testing.assert_array_equal(one["a"], two["a"])
    assert not np.array_equal(one["a"], one["b"])
    assert not np.array_equal(one["a"], made.seeded(kinds, {"N": 2}, seed=1)["a"])


def test_the_three_kinds_of_floats():
    kinds = {"x": TensorType(f32, (10_000,))}
    normal, uniform, scaled = (made.seeded(kinds, {}, k)["x"] for k in made.KINDS)
    assert abs(normal.std() - 1) < 0.1
    assert uniform.min() >= 0
    assert uniform.max() <= 1
    assert abs(scaled.std() - 64) < 6
    assert normal.dtype == np.float32


@pytest.mark.parametrize("dtype", [f16, i64, u8, i8, boolean, string])
def test_every_dtype_has_inputs(dtype):
    array = made.seeded({"x": TensorType(dtype, (100,))}, {})["x"]
    assert array.dtype == dtype.numpy
    assert array.shape == (100,)
    assert len(set(array.tolist())) > 1
    if dtype == i64:
        assert array.min() >= 0
        assert array.max() < made.INTEGERS


def test_an_input_that_cannot_be_made_up_is_asked_for():
    with pytest.raises(UsageError, match=r"`x`.*--input x="):
        made.seeded({"x": SequenceType(TensorType(f32, None))}, {})
    with pytest.raises(UsageError, match=r"`x`.*not known"):
        made.seeded({"x": None}, {})
    assert made.seeded({"x": TensorType(f32, None)}, {})["x"].shape == ()
    with pytest.raises(UsageError, match=r"`x`.*dim 0.*--shapes"):
        made.seeded({"x": TensorType(f32, (N,))}, {})


def test_nudged_inputs_are_neighbours():
    x = np.array([0.0, 1.0, 3.4028235e38, -3.4028235e38, np.inf, np.nan], np.float32)
    moved = made.nudged({"x": x, "i": np.array([1, 2])})
    assert np.count_nonzero(moved["x"][:2] != x[:2]) == 2
    assert np.abs(moved["x"][1] - 1) <= np.finfo(np.float32).eps
    np.testing.assert_array_equal(np.isfinite(moved["x"]), np.isfinite(x))
    np.testing.assert_array_equal(moved["i"], [1, 2])


IMAGE = {"x": TensorType(f32, (N, 3, symbol("H"), symbol("W")))}


def test_dims_that_need_numbers():
    free = made.free_dims({**IMAGE, "i": TensorType(i64, (symbol("?i[0]"), N))})
    assert free == made.FreeDims(("N", "i[0]"), ("H", "W"))
    assert made.seeded(IMAGE, {"N": 1, "H": 4, "W": 5})["x"].shape == (1, 3, 4, 5)
    unnamed = {"i": TensorType(i64, (symbol("?i[0]"),))}
    assert made.seeded(unnamed, {"i[0]": 3})["i"].shape == (3,)
    assert made.seeded({"x": TensorType(f32, (N * 2 + 1,))}, {"N": 3})["x"].shape == (7,)


def test_default_shapes_are_two_sets_with_the_batch_1_and_3():
    free = made.free_dims(IMAGE)
    assert made.number_of_sets(free, {}) == 2
    assert next(made.trials(0, free, {})) == {"N": 1, "H": 224, "W": 224}
    first = {"N": 1, "H": 224, "W": 224}
    assert next(made.trials(1, free, {}, [first])) == {"N": 3, "H": 256, "W": 256}


def test_after_a_refusal_other_shapes_come_each_once():
    free = made.free_dims(IMAGE)
    worked = [{"N": 1, "H": 640, "W": 640}]
    tried = list(made.trials(1, free, {}, worked))
    assert {"N": 3, "H": 640, "W": 640} in tried[:2]
    assert {"N": 1, "H": 256, "W": 256} in tried
    assert worked[0] not in tried
    assert len(tried) == len({tuple(t.items()) for t in tried})
    assert len(tried) <= made.TRIALS


def test_given_shapes_are_kept_and_taken_in_turn():
    free = made.free_dims(IMAGE)
    given = {"N": (2, 5), "H": (32,)}
    assert made.number_of_sets(free, given) == 2
    for index, batch in enumerate((2, 5)):
        for shapes in made.trials(index, free, given):
            assert shapes["N"] == batch
            assert shapes["H"] == 32
    full = {"N": (1,), "H": (8,), "W": (8,)}
    assert made.number_of_sets(free, full) == 1
    assert list(made.trials(0, free, full)) == [{"N": 1, "H": 8, "W": 8}]
    with pytest.raises(UsageError, match=r"`Q`.*`N`, `H`, `W`"):
        made.check_shapes({"Q": (1,)}, free)


def test_a_network_without_symbols_has_one_set():
    free = made.free_dims({"x": TensorType(f32, (1, 3))})
    assert made.number_of_sets(free, {}) == 1
    assert list(made.trials(0, free, {})) == [{}]


def test_shapes_on_the_command_line():
    assert made.parse_shapes("N=1,3;H=224") == {"N": (1, 3), "H": (224,)}
    assert made.parse_shapes(" x[2] = 8 ; ") == {"x[2]": (8,)}
    assert made.parse_shapes("a=b=4") == {"a=b": (4,)}
    for text in ("", "N", "N=", "N=1,", "N=-1", "=3", "N=1.5", "N=1;N=2", "N=1;;H"):
        with pytest.raises(UsageError, match="--shapes"):
            made.parse_shapes(text)


def test_input_files(tmp_path):
    a, b = np.arange(3, dtype=np.float32), np.arange(4)
    np.save(tmp_path / "a.npy", a)
    np.savez(tmp_path / "two.npz", a=a, b=b)
    np.savez(tmp_path / "one.npz", other=b)
    np.testing.assert_array_equal(made.load_inputs([f"x={tmp_path}/a.npy"])["x"], a)
    np.testing.assert_array_equal(made.load_inputs([f"b={tmp_path}/two.npz"])["b"], b)
    np.testing.assert_array_equal(made.load_inputs([f"x={tmp_path}/one.npz"])["x"], b)
    assert set(made.load_inputs([f"{tmp_path}/two.npz"])) == {"a", "b"}
    with pytest.raises(UsageError, match="given twice"):
        made.load_inputs([f"a={tmp_path}/a.npy", f"{tmp_path}/two.npz"])
    with pytest.raises(UsageError, match=r"no array 'x'.*'a', 'b'"):
        made.load_inputs([f"x={tmp_path}/two.npz"])
    with pytest.raises(UsageError, match="say which input"):
        made.load_inputs([f"{tmp_path}/a.npy"])
    with pytest.raises(UsageError, match="no such file"):
        made.load_inputs([f"x={tmp_path}/none.npy"])


def test_hostile_input_files(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(UsageError, match="Python objects"):
        made.load_inputs([f"x={tmp_path}/objects.npy"])
    for name, data in (("junk.npy", b"junk"), ("junk.npz", b"PK junk"), ("short.npy", b"\x93NUMPY\x01\x00")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UsageError, match="cannot be read") as caught:
            made.load_inputs([f"x={tmp_path}/{name}"])
        assert "\n" not in str(caught.value)
    (tmp_path / "a.txt").write_text("1")
    with pytest.raises(UsageError, match=r"\.npy"):
        made.load_inputs([f"x={tmp_path}/a.txt"])


def test_npz_bytes(tmp_path):
    arrays = {"file": np.arange(3), "a/b": np.ones((2, 0), np.float16)}
    data = made.npz_bytes(arrays)
    assert data == made.npz_bytes(arrays)
    (tmp_path / "x.npz").write_bytes(data)
    with np.load(tmp_path / "x.npz") as loaded:
        for name, array in arrays.items():
            np.testing.assert_array_equal(loaded[name], array)
    with pytest.raises(UsageError, match="`s` holds strings"):
        made.npz_bytes({"s": np.array(["a"], object)})
