"""Broken, hostile and wrong input ends in one sentence and exit code 2, and nothing on the disk has changed."""

import os
import pickle
import random
import resource
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny
from commands import graphopt, refused, subprocess_graphopt
from onnx import TensorProto, helper
from tiny import F, info, model, node, weight

REMEDIES = (
    "export",
    "copy",
    "check",
    "give",
    "put",
    "fetch",
    "unpack",
    "create",
    "choose",
    "permit",
    "leave",
    "make",
    "download",
)


def snapshot(folder: Path) -> dict[str, object]:
    """Everything below a folder: names, kinds, contents."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        found[name] = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else "folder"
    return found


def refuse(path: Path, *about: str) -> str:
    """`compile` refuses a model in one sentence that names it; nothing is written, what stood there stays."""
    output = path.parent / "result.onnx"
    output.write_bytes(b"what stood here")
    before = snapshot(path.parent)
    sentence = refused("compile", path, "-o", output)
    assert snapshot(path.parent) == before
    assert sentence.startswith(f"{path}: ")
    for part in about:
        assert part in sentence
    assert any(word in sentence for word in REMEDIES), sentence
    assert len(sentence) < len(str(path)) + 400
    return sentence


def write(folder: Path, proto: onnx.ModelProto | bytes, name: str = "model") -> Path:
    path = folder / f"{name}.onnx"
    path.write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
    return path


def one(*nodes, inputs=None, outputs=None, weights=(), **options) -> onnx.ModelProto:
    """A model of a few nodes from `x` to `y`."""
    return model(nodes, inputs or [info("x", F, [1, 3, 8, 8])], outputs or [info("y")], weights, **options)


# ---- files that are no models

OTHERS = {
    "empty": (b"", "empty"),
    "text": (b"This is a text.\nIt has lines.\n", "not an ONNX model"),
    "html": (b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>", "web page"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "git lfs pull"),
    "pickle": (pickle.dumps({"a": [1, 2, 3]}), "pickle"),
    "gzip": (b"\x1f\x8b\x08\x00" + bytes(40), "gzip"),
    "zeros": (bytes(4096), "not an ONNX model"),
    "long_zeros": (bytes(100_000), "not an ONNX model"),
    "ones": (b"\xff" * 4096, "not an ONNX model"),
    "json": (b'{"format": "onnx"}', "not an ONNX model"),
    "newline": (b"\n", "not an ONNX model"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_model(tmp_path, name):
    content, about = OTHERS[name]
    refuse(write(tmp_path, content), about)


def test_a_zip_archive(tmp_path):
    path = tmp_path / "model.onnx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    refuse(path, "zip archive")


def test_a_pickle_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    path = write(tmp_path, pickle.dumps(Bomb()))
    refuse(path, "pickle")
    assert refused("run", "zoo:lenet5", "--input", path)
    assert not (tmp_path / "ran").exists()


def test_a_folder(tmp_path):
    folder = tmp_path / "folder.onnx"
    folder.mkdir()
    refuse(folder, "folder")


def test_a_missing_file(tmp_path):
    refuse(tmp_path / "missing.onnx", "no such file")


def test_a_named_pipe_does_not_block(tmp_path):
    path = tmp_path / "pipe.onnx"
    os.mkfifo(path)
    assert "not a regular file" in refused("inspect", path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(tmp_path):
    path = write(tmp_path, tiny.network())
    path.chmod(0)
    assert "permissions" in refused("inspect", path)


def test_a_name_that_is_none():
    assert refused("inspect", "a\0b")
    assert "no such file" in refused("inspect", "")
    assert refused("inspect", "a" * 5000)


def test_an_unknown_network_of_the_zoo(tmp_path):
    sentence = refused("compile", "zoo:resnet1000", "-o", tmp_path / "out.onnx")
    assert "resnet1000" in sentence
    assert "resnet18" in sentence
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["compile", "inspect", "run", "text", "verify"])
def test_every_command_refuses(tmp_path, command):
    path = write(tmp_path, b"no model at all")
    extra = {"compile": ("-o", tmp_path / "out.onnx"), "verify": (path,)}.get(command, ())
    assert refused(command, path, *extra).startswith(f"{path}: ")
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


def test_in_a_process_of_its_own(tmp_path):
    path = write(tmp_path, tiny.network().SerializeToString()[:-100])
    ended = subprocess_graphopt("compile", path, "-o", tmp_path / "out.onnx")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"graphopt: {path}: ")
    assert ended.err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


# ---- damage


def test_a_model_cut_short_anywhere(tmp_path):
    content = tiny.network().SerializeToString()
    for stop in {*range(1, 40), *range(40, len(content), 23), len(content) - 1}:
        path = write(tmp_path, content[:stop])
        ended = graphopt("inspect", path)
        # a cut between two fields of the model leaves a model behind; what it lacks then stops it, or nothing does
        assert ended.code in {0, 2}, (stop, ended)
        assert ended.code == 2 or stop > len(content) - 20, stop
        if ended.code:
            assert ended.out == ""
            assert ended.err.startswith(f"graphopt: {path}: "), (stop, ended)
            assert ended.err.count("\n") == 1, (stop, ended)


def test_random_bytes(tmp_path):
    source = random.Random(5)
    for length in [1, 2, 3, 5, 8, 13, 100, 1000, 70_000]:
        for _ in range(20):
            refuse(write(tmp_path, source.randbytes(length)))


def test_flipped_bytes_never_crash(tmp_path):
    """A model with a few bytes changed is refused in a sentence, or read as the other model that it now is."""
    content = tiny.network().SerializeToString()
    source = random.Random(7)
    codes = set()
    for _ in range(300):
        broken = bytearray(content)
        for _ in range(source.choice([1, 1, 2, 8])):
            broken[source.randrange(len(broken))] = source.randrange(256)
        path = write(tmp_path, bytes(broken))
        ended = graphopt("inspect", path)
        assert ended.code in {0, 2}
        if ended.code:
            assert ended.err.startswith(f"graphopt: {path}: ")
            assert ended.err.count("\n") == 1
        codes.add(ended.code)
    assert codes == {0, 2}


# ---- impossible graphs

GRAPHS = {
    "cycle": (
        lambda: one(node("Add", "x b", "a", "first"), node("Relu", "a", "b", "second"), node("Relu", "b", "y", "last")),
        ("first", "cycle"),
    ),
    "own_result": (lambda: one(node("Add", "x y", "y", "itself")), ("itself", "cycle")),
    "dangling": (lambda: one(node("Add", "x nowhere", "y", "adder")), ("Add `adder`", "`nowhere`")),
    "dangling_unnamed": (
        lambda: one(helper.make_node("Add", ["x", "nowhere"], ["y"])),
        ("Add `y`", "`nowhere`"),
    ),
    "dangling_inside": (
        lambda: one(
            helper.make_node(
                "If", ["c"], ["y"], name="choice",
                then_branch=helper.make_graph([node("Relu", "lost", "t", "inner")], "then", [], [info("t")]),
                else_branch=helper.make_graph([node("Relu", "x", "e")], "else", [], [info("e")]),
            ),
            weights=[weight("c", np.array(True))],
        ),
        ("`lost`",),
    ),
    "twice": (lambda: one(node("Relu", "x", "y", "a"), node("Abs", "x", "y", "b")), ("`y`", "twice", "`a`", "`b`")),
    "over_input": (
        lambda: one(node("Relu", "x", "x", "shadow"), node("Relu", "x", "y", "b")), ("`x`", "Relu `shadow`")
    ),
    "input_twice": (
        lambda: one(node("Relu", "x", "y"), inputs=[info("x", F, [1]), info("x", F, [1])]), ("`x`", "twice")
    ),
    "over_initializer": (
        lambda: one(node("Relu", "x", "w"), node("Relu", "w", "y"), weights=[weight("w", np.ones(3, "f4"))]),
        ("`w`", "twice"),
    ),
    "initializer_twice": (
        lambda: one(
            node("Add", "x w", "y"), weights=[weight("w", np.ones(8, "f4")), weight("w", np.zeros(8, "f4"))]
        ),
        ("`w`", "twice"),
    ),
    "no_output": (lambda: one(node("Relu", "x", "z", "r")), ("output `y`", "no node")),
    "attribute_twice": (
        lambda: one(
            onnx.NodeProto(
                op_type="Elu", input=["x"], output=["y"], name="elu",
                attribute=[helper.make_attribute("alpha", 1.0), helper.make_attribute("alpha", 2.0)],
            )
        ),
        ("Elu `elu`", "attribute"),
    ),
    "no_graph": (
        lambda: onnx.ModelProto(ir_version=8, opset_import=[helper.make_opsetid("", 17)]), ("no graph",)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_an_impossible_graph(tmp_path, name):
    make, about = GRAPHS[name]
    refuse(write(tmp_path, make()), *about)


@pytest.mark.parametrize("version", [0, -1, 999, 2**40])
def test_an_opset_that_does_not_exist(tmp_path, version):
    refuse(write(tmp_path, one(node("Relu", "x", "y"), opset=version)), f"opset {version}")


def nest(depth: int) -> onnx.ModelProto:
    inner = helper.make_graph([node("Relu", "x", "y0")], "g", [], [info("y0")])
    for i in range(1, depth):
        choice = helper.make_node("If", ["c"], [f"y{i}"], then_branch=inner, else_branch=helper.make_graph(
            [node("Relu", "x", f"e{i}")], "e", [], [info(f"e{i}")]))  # fmt: skip
        inner = helper.make_graph([choice], "g", [], [info(f"y{i}")])
    inner.input.append(info("x", F, [1]))
    inner.initializer.append(weight("c", np.array(True)))
    return helper.make_model(inner, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_graphs_nested_too_deeply(tmp_path):
    refuse(write(tmp_path, nested_bytes(5000)))


def nested_bytes(depth: int) -> bytes:
    """The message of a graph in a node's attribute in a graph, and so on: deeper than protobuf itself would write."""

    def field(number: int, content: bytes) -> bytes:
        length, size = bytearray(), len(content)
        while size > 127:
            length.append(size & 127 | 128)
            size >>= 7
        return bytes([number << 3 | 2, *length, size]) + content

    graph = b""
    for _ in range(depth):
        graph = field(1, field(5, field(1, b"body") + field(6, graph)))
    return b"\x08\x08" + field(7, graph) + field(8, b"\x10\x11")


def test_groups_nested_too_deeply(tmp_path):
    refuse(write(tmp_path, b"\x08\x08" + b"\x13" * 50_000))


def test_functions_that_call_each_other(tmp_path):
    proto = one(helper.make_node("F", ["x"], ["y"], domain="mine"))
    for name, calls in (("F", "G"), ("G", "F")):
        proto.functions.append(
            helper.make_function(
                "mine",
                name,
                ["a"],
                ["b"],
                [helper.make_node(calls, ["a"], ["b"], domain="mine")],
                [helper.make_opsetid("mine", 1)],
            )
        )
    refuse(write(tmp_path, proto), "functions", "circle")


def test_functions_that_double_at_every_call(tmp_path):
    """Sixty small functions, each of which calls the next twice: 2^60 nodes if they were inlined."""
    proto = one(helper.make_node("F0", ["x"], ["y"], domain="mine"))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    for i in range(60):
        name, body = (
            f"F{i}",
            [
                helper.make_node(f"F{i + 1}", ["a"], ["m"], domain="mine"),
                helper.make_node(f"F{i + 1}", ["m"], ["b"], domain="mine"),
            ],
        )
        if i == 59:
            body = [helper.make_node("Relu", ["a"], ["b"])]
        proto.functions.append(helper.make_function("mine", name, ["a"], ["b"], body, opsets))
    refuse(write(tmp_path, proto), "functions")


# ---- weights


def tensor(dims, data_type=F, **fields) -> TensorProto:
    return TensorProto(name="w", dims=dims, data_type=data_type, **fields)


TENSORS = {
    "short_raw": (tensor([8], raw_data=bytes(12)), "32 bytes"),
    "long_raw": (tensor([8], raw_data=bytes(64)), "64"),
    "ragged_raw": (tensor([8], raw_data=bytes(31)), "31"),
    "short_floats": (tensor([8], float_data=[1.0, 2.0]), "2 of 8"),
    "no_data": (tensor([8]), "0 of 8"),
    "wrong_field": (tensor([8], int32_data=[1] * 8), "0 of 8"),
    "terabyte": (tensor([1 << 19, 1 << 19], raw_data=bytes(1000)), "1,099,511,627,776 bytes"),
    "terabyte_floats": (tensor([1 << 19, 1 << 19], float_data=[1.0]), "1 of"),
    "beyond_int64": (tensor([1 << 62, 1 << 62], raw_data=bytes(1000)), "bytes"),
    "wraps_to_8": (tensor([(1 << 62) + 1, 4, 2], raw_data=bytes(32)), "bytes"),
    "negative": (tensor([-1], raw_data=bytes(4)), "[-1]"),
    "two_negatives": (tensor([-2, -4], raw_data=bytes(32)), "[-2, -4]"),
    "no_type": (tensor([8], 0, raw_data=bytes(32)), "type"),
    "unknown_type": (tensor([8], 77, raw_data=bytes(32)), "77"),
    "segments": (tensor([8], float_data=[0] * 8, segment=TensorProto.Segment(begin=0, end=8)), "segments"),
    "short_int4": (tensor([5], TensorProto.INT4, raw_data=bytes(2)), "3 bytes"),
    "strings": (tensor([8], TensorProto.STRING, string_data=[b"a"]), "1 of 8"),
    "short_complex": (tensor([8], TensorProto.COMPLEX64, float_data=[1.0] * 8), "8 of 16"),
}  # fmt: skip


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("place", ["initializer", "attribute"])
def test_a_weight_that_is_not_what_it_says(tmp_path, name, place):
    proto, about = TENSORS[name]
    if place == "initializer":
        whole, about_node = one(node("Add", "x w", "y"), weights=[proto]), ()
    else:
        constant = helper.make_node("Constant", [], ["w"], name="constant", value=proto)
        whole, about_node = one(constant, node("Add", "x w", "y")), ("Constant `constant`",)
    refuse(write(tmp_path, whole), about, "`w`", *about_node)


def test_a_large_weight_that_is_short(tmp_path):
    """Large weights stay in the file and are told from their spans."""
    proto = one(node("Add", "x w", "y"), weights=[tensor([1000, 1000], raw_data=bytes(100_000))])
    refuse(write(tmp_path, proto), "`w`", "4,000,000 bytes", "100,000")


def test_a_terabyte_takes_no_memory(tmp_path):
    path = write(tmp_path, one(node("Add", "x w", "y"), weights=[tensor([1 << 40], raw_data=bytes(1000))]))
    hold = 4 << 30

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (hold, hold))

    ended = subprocess_graphopt("inspect", path, preexec_fn=limit)
    assert ended.code == 2
    assert "`w`" in ended.err


BLOWN_UP = {
    "ConstantOfShape": lambda: one(
        node("ConstantOfShape", "s", "y", "huge"),
        weights=[weight("s", np.array([1 << 20, 1 << 20]))],
    ),
    "Expand": lambda: one(
        node("Expand", "w s", "y", "huge"),
        weights=[weight("w", np.ones((1, 1), "f4")), weight("s", np.array([1 << 20, 1 << 20]))],
    ),
    "Tile": lambda: one(
        node("Tile", "w s", "y", "huge"),
        weights=[weight("w", np.ones((4, 4), "f4")), weight("s", np.array([1 << 20, 1 << 20]))],
    ),
    "Range": lambda: one(
        node("Range", "a b c", "y", "huge"),
        weights=[weight("a", np.int64(0)), weight("b", np.int64(1 << 40)), weight("c", np.int64(1))],
    ),
    "Pad": lambda: one(
        node("Pad", "w p", "y", "huge"),
        weights=[weight("w", np.ones((1, 1), "f4")), weight("p", np.array([0, 0, 1 << 20, 1 << 20]))],
    ),
    "OneHot": lambda: one(
        node("OneHot", "i d v", "y", "huge"),
        weights=[weight("i", np.arange(1000)), weight("d", np.int64(1 << 32)), weight("v", np.array([0, 1], "f4"))],
    ),
    "MatMul": lambda: one(
        node("Add", "a b", "y", "huge"),
        weights=[weight("a", np.ones((1 << 20, 1), "f4")), weight("b", np.ones((1, 1 << 20), "f4"))],
    ),
}


@pytest.mark.parametrize("name", BLOWN_UP)
def test_constants_that_would_blow_up_are_left_alone(tmp_path, name):
    """A terabyte that a node would make of small constants is never computed: the node stays."""
    path, output = write(tmp_path, BLOWN_UP[name]()), tmp_path / "out.onnx"

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))

    ended = subprocess_graphopt("compile", path, "-o", output, "--no-verify", preexec_fn=limit)
    assert (ended.code, ended.err) == (0, "")
    assert [n.name for n in onnx.load(output).graph.node] == ["huge"]


# ---- external data


def outside(tmp_path: Path, dims=(8,), **entries) -> Path:
    folder = tmp_path / "model"
    folder.mkdir(exist_ok=True)
    proto = tensor(dims, data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        proto.external_data.add(key=key, value=str(value))
    return write(folder, one(node("Add", "x w", "y"), weights=[proto]))


def test_external_data_that_is_missing(tmp_path):
    refuse(outside(tmp_path, location="w.bin"), "`w`", "w.bin", "does not exist")


@pytest.mark.parametrize("location", [
    "../secret.bin", "a/../../secret.bin", "/etc/hostname", "C:\\secret.bin", "..\\secret.bin", "", ".", "a\0b",
])  # fmt: skip
def test_external_data_outside_of_the_folder(tmp_path, location):
    (tmp_path / "secret.bin").write_bytes(bytes(32))
    refuse(outside(tmp_path, location=location), "`w`")


def test_external_data_behind_a_link(tmp_path):
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(32))
    path = outside(tmp_path, location="w.bin")
    (path.parent / "w.bin").symlink_to(secret)
    refuse(path, "`w`", "w.bin", "link")


def test_external_data_in_a_linked_folder(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "w.bin").write_bytes(bytes(32))
    path = outside(tmp_path, location="sub/w.bin")
    (path.parent / "sub").symlink_to(tmp_path / "elsewhere")
    refuse(path, "`w`", "link")


@pytest.mark.parametrize("entries", [
    {"offset": 0, "length": 33}, {"offset": 4}, {"offset": 1 << 62}, {"offset": -4}, {"offset": 40, "length": -8},
    {"length": 16}, {"length": -1}, {"offset": "four"}, {"length": "1e3"}, {"offset": 10**30, "length": 32},
])  # fmt: skip
def test_external_data_that_does_not_fit(tmp_path, entries):
    path = outside(tmp_path, location="w.bin", **entries)
    (path.parent / "w.bin").write_bytes(bytes(32))
    refuse(path, "`w`")


def test_external_data_that_claims_a_terabyte(tmp_path):
    path = outside(tmp_path, dims=(1 << 38,), location="w.bin")
    (path.parent / "w.bin").write_bytes(bytes(32))
    refuse(path, "`w`", "1,099,511,627,776 bytes")


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_external_data_that_is_no_file(tmp_path, kind):
    path = outside(tmp_path, location="w.bin")
    (os.mkfifo if kind == "pipe" else os.mkdir)(path.parent / "w.bin")
    assert "`w`" in refused("inspect", path)


# ---- nodes that no operator allows: refused by name, or carried as they are


def strange(op, inputs="x w", shape=(1, 3, 8, 8), w=(4, 3, 3, 3), **attributes) -> onnx.ModelProto:
    return one(
        node(op, inputs, "y", "strange", **attributes), inputs=[info("x", F, shape)],
        weights=[weight("w", np.ones(w, "f4"))] if "w" in inputs else [],
    )  # fmt: skip


STRANGE = {
    "conv_rank_1": lambda: strange("Conv", shape=(5,), w=(4, 3, 3, 3)),
    "conv_rank_0": lambda: strange("Conv", shape=(), w=()),
    "conv_ranks_differ": lambda: strange("Conv", shape=(1, 3, 8)),
    "conv_channels": lambda: strange("Conv", w=(4, 5, 3, 3)),
    "conv_groups": lambda: strange("Conv", group=7),
    "conv_no_group": lambda: strange("Conv", group=0),
    "conv_negative_group": lambda: strange("Conv", group=-1),
    "conv_stride_0": lambda: strange("Conv", strides=[0, 0]),
    "conv_dilation_0": lambda: strange("Conv", dilations=[0, 0]),
    "conv_short_pads": lambda: strange("Conv", pads=[1]),
    "conv_huge_pads": lambda: strange("Conv", pads=[1 << 62] * 4),
    "conv_larger_than_input": lambda: strange("Conv", w=(4, 3, 30, 30)),
    "conv_kernel_shape": lambda: strange("Conv", kernel_shape=[5, 5]),
    "conv_text_strides": lambda: strange("Conv", strides="two"),
    "conv_float_strides": lambda: strange("Conv", strides=[2.0, 2.0]),
    "conv_int_strides": lambda: strange("Conv", strides=2),
    "conv_auto_pad": lambda: strange("Conv", auto_pad="SOMEHOW"),
    "conv_int_auto_pad": lambda: strange("Conv", auto_pad=3),
    "conv_no_weight": lambda: strange("Conv", inputs="x"),
    "conv_many_inputs": lambda: strange("Conv", inputs="x w w w w w"),
    "conv_unknown_attribute": lambda: strange("Conv", flavour=3),
    "pool_rank_1": lambda: strange("MaxPool", inputs="x", shape=(5,), kernel_shape=[2, 2]),
    "pool_no_kernel": lambda: strange("MaxPool", inputs="x"),
    "pool_kernel_0": lambda: strange("MaxPool", inputs="x", kernel_shape=[0, 0]),
    "global_pool_rank_0": lambda: strange("GlobalAveragePool", inputs="x", shape=()),
    "transpose_perm": lambda: strange("Transpose", inputs="x", perm=[0, 1, 2, 9]),
    "transpose_twice": lambda: strange("Transpose", inputs="x", perm=[0, 0, 1, 1]),
    "transpose_short": lambda: strange("Transpose", inputs="x", perm=[1, 0]),
    "concat_axis": lambda: strange("Concat", inputs="x x", axis=17),
    "concat_no_axis": lambda: strange("Concat", inputs="x x"),
    "concat_shapes": lambda: strange("Concat", axis=0, w=(4, 4, 4, 4)),
    "softmax_axis": lambda: strange("Softmax", inputs="x", axis=-9),
    "flatten_axis": lambda: strange("Flatten", inputs="x", axis=8),
    "matmul_shapes": lambda: strange("MatMul", w=(5, 5)),
    "gemm_rank_4": lambda: strange("Gemm"),
    "gemm_shapes": lambda: strange("Gemm", shape=(2, 3), w=(5, 7)),
    "add_shapes": lambda: strange("Add", w=(5, 5)),
    "bn_short": lambda: strange("BatchNormalization", inputs="x w w w w", w=(2,)),
    "bn_two_inputs": lambda: strange("BatchNormalization", inputs="x w", w=(3,)),
    "bn_rank_1": lambda: strange("BatchNormalization", inputs="x w w w w", shape=(3,), w=(3,)),
    "cast_nowhere": lambda: strange("Cast", inputs="x", to=99),
    "cast_no_to": lambda: strange("Cast", inputs="x"),
    "reshape_float": lambda: strange("Reshape", inputs="x w", w=(2,)),
    "relu_no_input": lambda: strange("Relu", inputs=""),
    "relu_two_inputs": lambda: strange("Relu", inputs="x x"),
    "squeeze_attribute": lambda: strange("Squeeze", inputs="x", axes=[1]),
    "pad_rank": lambda: strange("Pad", inputs="x w", w=(3,)),
    "split_axis": lambda: strange("Split", inputs="x", axis=9),
    "gather_axis": lambda: strange("Gather", axis=9),
    "resize_nothing": lambda: strange("Resize", inputs="x"),
    "einsum_text": lambda: strange("Einsum", equation="((("),
    "unknown_operator": lambda: strange("Frobnicate", inputs="x", knob=3),
    "constant_nothing": lambda: one(helper.make_node("Constant", [], ["y"], name="strange")),
    "constant_text_value": lambda: one(helper.make_node("Constant", [], ["y"], name="strange", value="text")),
    "constant_int_floats": lambda: one(helper.make_node("Constant", [], ["y"], name="strange", value_floats=3)),
    "if_no_branches": lambda: one(node("If", "c", "y", "strange"), weights=[weight("c", np.array(True))]),
    "if_number_branch": lambda: one(
        node("If", "c", "y", "strange", then_branch=1, else_branch=2), weights=[weight("c", np.array(True))]
    ),
    "reshape_impossible": lambda: one(
        node("Reshape", "x s", "y", "strange"), weights=[weight("s", np.array([7, 7]))]
    ),
    "reshape_two_unknown": lambda: one(
        node("Reshape", "x s", "y", "strange"), weights=[weight("s", np.array([-1, -1]))]
    ),
    "reshape_huge": lambda: one(
        node("Reshape", "x s", "y", "strange"), weights=[weight("s", np.array([2**62, 2**62]))]
    ),
    "slice_zero_step": lambda: one(
        node("Slice", "x a b c d", "y", "strange"),
        weights=[weight(n, np.array([v])) for n, v in (("a", 0), ("b", 5), ("c", 1), ("d", 0))],
    ),
    "gather_beyond": lambda: one(
        node("Gather", "w i", "y", "strange"), weights=[weight("w", np.ones(3, "f4")), weight("i", np.array([9]))]
    ),
    "int_division_by_zero": lambda: one(
        node("Div", "a b", "y", "strange"), weights=[weight("a", np.array([1])), weight("b", np.array([0]))]
    ),
    "ellipsis_dims": lambda: one(
        node("Relu", "x", "y", "strange"), inputs=[info("x", F, ["...", "a b", "", "?", "-1", "1+1", "N N", "½"])]
    ),
    "negative_input_dim": lambda: one(node("Relu", "x", "y", "strange"), inputs=[info("x", F, [-1, -5])]),
    "output_of_other_type": lambda: one(
        node("Relu", "x", "y", "strange"), outputs=[info("y", TensorProto.INT64, [3])]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STRANGE)
def test_an_impossible_node_is_refused_or_carried(tmp_path, name):
    """What no operator allows is ONNX Runtime's to judge: graphopt names it, or carries it as it is."""
    path, output = write(tmp_path, STRANGE[name]()), tmp_path / "out.onnx"
    for command in ("inspect", "text"):
        ended = graphopt(command, path)
        assert ended.code in {0, 2}
        if ended.code:
            sentence = refused(command, path)
            assert str(path) in sentence
            assert "strange" in sentence
    ended = graphopt("compile", path, "-o", output, "--no-verify")
    if ended.code:
        assert "strange" in refused("compile", path, "-o", output, "--no-verify")
        assert not output.exists()
    else:
        assert onnx.load(output).graph.output[0].name == "y"
    output.unlink(missing_ok=True)
    ended = graphopt("compile", path, "-o", output)  # verified: ONNX Runtime may refuse the original
    assert ended.code in {0, 1, 2}
    assert output.exists() == (ended.code == 0)
    if ended.code:
        assert ended.err.startswith("graphopt: ")
        assert ended.err.count("\n") == 1, ended.err
        assert str(path) in ended.err


def test_a_node_that_fails_in_onnx_runtime_is_told(tmp_path):
    path = write(tmp_path, strange("Conv", shape=(5,)))
    refuse(path, "strange")


# ---- outputs


def compile_to(tmp_path: Path, output: object, *more: object) -> str:
    return refused("compile", write(tmp_path, tiny.network()), "-o", output, *more)


def test_an_output_in_a_missing_folder(tmp_path):
    assert "create it" in compile_to(tmp_path, tmp_path / "nowhere" / "out.onnx")
    assert not (tmp_path / "nowhere").exists()


def test_an_output_that_is_a_folder(tmp_path):
    assert "folder" in compile_to(tmp_path, tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_an_output_that_may_not_be_written(tmp_path):
    output = tmp_path / "out.onnx"
    output.write_bytes(b"kept")
    output.chmod(0o444)
    assert "write-protected" in compile_to(tmp_path, output)
    assert output.read_bytes() == b"kept"


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_an_output_in_a_folder_that_may_not_be_written(tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(0o555)
    assert "cannot be written" in compile_to(tmp_path, folder / "out.onnx")
    folder.chmod(0o755)
    assert not list(folder.iterdir())


def test_an_output_that_is_a_device(tmp_path):
    assert "not a regular file" in compile_to(tmp_path, "/dev/null")


@pytest.mark.parametrize("name", ["out.onnx", "./out.onnx", "link.onnx"])
def test_a_record_on_top_of_the_output(tmp_path, name):
    (tmp_path / "link.onnx").symlink_to(tmp_path / "out.onnx")
    assert "same file" in compile_to(tmp_path, tmp_path / "out.onnx", "--record", f"{tmp_path}/{name}")
    assert not (tmp_path / "out.onnx").exists()


def test_a_record_on_top_of_the_model(tmp_path):
    model = write(tmp_path, tiny.network())
    before = model.read_bytes()
    assert "model" in refused("compile", model, "-o", tmp_path / "out.onnx", "--record", model)
    assert model.read_bytes() == before


@pytest.mark.parametrize("record", ["nowhere/record.json", "folder"])
def test_a_record_that_cannot_be_written(tmp_path, record):
    (tmp_path / "folder").mkdir()
    sentence = refused("compile", write(tmp_path, tiny.network()), "-o", tmp_path / "out.onnx",
                       "--record", tmp_path / record)  # fmt: skip
    assert str(tmp_path / record) in sentence
    assert not (tmp_path / "out.onnx").exists()


def test_a_full_disk_leaves_nothing_behind(tmp_path):
    """A file system without room: what was begun is removed, and what stood there stays."""
    output = tmp_path / "out.onnx"
    output.write_bytes(b"kept")
    path = write(tmp_path, one(node("Add", "x w", "y"), inputs=[info("x", F, [300, 300])],
                               weights=[weight("w", tiny.random(300, 300))]))  # fmt: skip

    def limit():
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    ended = subprocess_graphopt("compile", path, "-o", output, "--no-verify", preexec_fn=limit)
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert str(output) in ended.err
    assert output.read_bytes() == b"kept"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx", "out.onnx"]


# ---- inputs of run and verify


def test_inputs_that_do_not_fit(tmp_path):
    path = write(tmp_path, tiny.network())
    other = tmp_path / "other.npy"
    np.save(other, np.zeros((1, 4, 8, 8), np.float32))
    doubles = tmp_path / "doubles.npy"
    np.save(doubles, np.zeros((1, 3, 8, 8), np.float64))
    objects = tmp_path / "objects.npy"
    np.save(objects, np.array([{}], object), allow_pickle=True)
    for given, about in (
        (f"x={other}", "x"),
        (f"x={doubles}", "x"),
        (f"z={doubles}", "z"),
        (f"x={objects}", "pickle"),
        (f"x={tmp_path / 'missing.npy'}", "missing.npy"),
        (f"x={path}", "model.onnx"),
        ("x", "x"),
        ("=", ""),
    ):
        for command in (("run", path), ("verify", path, path)):
            assert about in refused(*command, "--input", given), given


@pytest.mark.parametrize("shapes", ["Z=3", "N=0", "N=-1", "N=two", "N", "=3", "N=99999999999", "N=1;N=2", ""])
def test_shapes_that_do_not_fit(tmp_path, shapes):
    path = write(tmp_path, tiny.network())
    for command in (("run", path), ("verify", path, path), ("compile", path, "-o", tmp_path / "out.onnx")):
        assert refused(*command, "--shapes", shapes)
    assert not (tmp_path / "out.onnx").exists()
