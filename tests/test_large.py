"""Large models: weights in external data and past protobuf's 2 GB, in little memory and in proportionate time.

The files are sparse where they can be: a weight is a few numbers and a hole. The tests marked `slow` need 6 GB on
the disk that holds pytest's temporary folder, for the results have no holes, and stay far below 8 GB of memory.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from carry import Carried, body
from onnx import TensorProto, helper, numpy_helper
from tiny import F, info, model, node, random, weight

import graphopt
from graphopt.onnx_format import writer
from graphopt.onnx_format.wire import Spliced, token
from graphopt.onnx_format.writer import save
from graphopt.runtime.onnxruntime import OnnxRuntimeSession

MB, GB = 1 << 20, 1 << 30
ZEROS = memoryview(bytes(MB))
MARK = 1024  # numbers at the start of each weight that are not zero: two pages
OVER = 250 * MB  # what a compilation may take beside Python, numpy and onnx, whatever the size of the model


# Runs a command and says what it took. A small process in between: what starts one hands it its own peak.
WATCH = """
import os, sys
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(pid, 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that is emptied at once: pytest keeps its own for three runs."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def mark(index: int) -> np.ndarray:
    """How the weight of a number begins; the same for all with a negative one."""
    return np.full(MARK, max(index, 0) + 1, "f4")


def beside(name: str, shape: tuple[int, ...], location: str, offset: int) -> TensorProto:
    """A weight that lies in another file."""
    proto = TensorProto(name=name, data_type=F, dims=shape, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, "offset": offset, "length": 4 * int(np.prod(shape))}.items():
        proto.external_data.add(key=key, value=str(value))
    return proto


def chain(folder: Path, sides: list[int], *, scaled: bool = False, equal: bool = False) -> Path:
    """MatMuls of square weights, in a file with holes beside the model; with `scaled`, a factor to fold after each."""
    folder.mkdir(exist_ok=True)
    nodes, weights, offset, last = [], [], 0, "x"
    with (folder / "w.bin").open("wb") as file:
        for i, side in enumerate(sides):
            file.seek(offset)
            file.write(mark(-1 if equal else i))
            weights.append(beside(f"w{i}", (side, side), "w.bin", offset))
            nodes.append(node("MatMul", f"{last} w{i}", f"m{i}"))
            offset, last = offset + 4 * side * side, f"m{i}"
            if scaled:
                weights.append(weight(f"s{i}", np.full(side, 2, "f4")))
                nodes.append(node("Mul", f"{last} s{i}", f"b{i}"))
                last = f"b{i}"
        file.truncate(offset)
    nodes += [node("Identity", last, "i"), node("Relu", "i", "y")]
    onnx.save(model(nodes, [info("x", F, ["N", sides[0]])], [info("y")], weights), folder / "in.onnx")
    return folder / "in.onnx"


@dataclass(frozen=True)
class Measured:
    """A compilation in a process of its own."""

    output: Path
    peak: int  # bytes in memory, mapped files included
    seconds: float

    @property
    def data(self) -> Path:
        """Where the weights are."""
        return self.output.with_name("out.onnx.data")


def measured(path: Path, *options: str) -> Measured:
    """Compile a model to `out.onnx` beside it."""
    output = path.with_name("out.onnx")
    words = ["compile", path, "-o", output, "--no-verify", *options]
    start = time.perf_counter()
    ended = subprocess.run(
        [sys.executable, "-c", WATCH, sys.executable, "-m", "graphopt", *map(str, words)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    assert ended.returncode == 0, ended.stderr
    peak = int(ended.stdout.split()[-1])
    return Measured(output, peak * (1 if sys.platform == "darwin" else 1024), seconds)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> int:
    """What the compilation of a tiny model takes."""
    return measured(chain(tmp_path_factory.mktemp("tiny"), [32, 32], scaled=True)).peak


def starts(result: Measured, count: int) -> list[float]:
    """The first number of each MatMul's weight, and that what follows the mark are zeros."""
    proto = onnx.load(result.output, load_external_data=False)
    weights = {t.name: {e.key: e.value for e in t.external_data} for t in proto.graph.initializer}
    found = []
    with result.data.open("rb") as file:
        for n in proto.graph.node:
            if n.op_type == "MatMul":
                place = weights[n.input[1]]
                assert place["location"] == result.data.name
                file.seek(int(place["offset"]))
                numbers = np.frombuffer(file.read(8 * MARK), "f4")
                assert np.all(numbers[:MARK] == numbers[0])
                assert not numbers[MARK:].any()
                found.append(float(numbers[0]))
    assert len(found) == count
    return found


posix = pytest.mark.skipif(not hasattr(os, "wait4"), reason="only POSIX tells what a process took")


# ---- in little memory


@posix
@pytest.mark.parametrize("scaled", [False, True], ids=["carried", "folded"])
def test_memory_does_not_grow_with_the_model(scaled: bool, base: int, folder: Path) -> None:
    """Twelve weights of 32 MB, hashed for the record: read through a window; where folded, a few at a time."""
    path = chain(folder / "m", [2900] * 12, scaled=scaled)
    result = measured(path, "--record", str(folder / "record.json"))
    weights = path.with_name("w.bin").stat().st_size
    assert weights > 380 * MB
    assert result.peak - base < (150 * MB if scaled else 60 * MB)
    assert [n.op.name for n in graphopt.load(result.output).nodes] == ["MatMul"] * 12 + ["Relu"]
    assert result.output.stat().st_size > weights


@posix
def test_equal_weights_are_found_in_little_memory(base: int, folder: Path) -> None:
    result = measured(chain(folder / "m", [5800] * 4, equal=True))
    assert result.output.stat().st_size < 140 * MB
    assert result.peak - base < 100 * MB


# ---- past 2 GB


@dataclass(frozen=True)
class Hole:
    """A weight of zeros behind its mark; `inline` skips what is written as `ZEROS`."""

    nbytes: int
    index: int

    def chunks(self) -> Iterator[memoryview]:
        left = self.nbytes - 4 * MARK
        yield mark(self.index).data.cast("B")
        yield from [ZEROS] * (left // len(ZEROS))
        yield ZEROS[: left % len(ZEROS)]


def inline(folder: Path, sides: list[int]) -> Path:
    """The network of `chain` in one file, with holes; past 2 GB no protobuf library writes or reads such a file."""
    path = chain(folder, sides)
    proto = onnx.load(path, load_external_data=False)
    payloads = {}
    for i, (tensor, side) in enumerate(zip(proto.graph.initializer, sides, strict=True)):
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
        tensor.raw_data = token()
        payloads[tensor.raw_data] = Hole(4 * side * side, i)
    with path.open("wb") as file:
        for chunk in Spliced(proto.SerializeToString(), payloads).chunks():
            if isinstance(chunk, memoryview) and chunk.obj is ZEROS.obj:
                file.seek(len(chunk), os.SEEK_CUR)
            else:
                file.write(chunk)
        file.truncate()
    path.with_name("w.bin").unlink()
    return path


@pytest.mark.slow
@posix
@pytest.mark.parametrize("scaled", [False, True], ids=["carried", "folded"])
def test_many_weights_past_2_gb(scaled: bool, base: int, folder: Path) -> None:
    """Forty weights of 64 MB; the result goes to external data by itself, in seconds a gigabyte at most."""
    path = chain(folder / "m", [4096] * 40, scaled=scaled)
    weights = path.with_name("w.bin").stat()
    assert weights.st_size > 2.6e9
    assert weights.st_blocks * 512 < 10 * MB  # it is really sparse
    result = measured(path)
    assert result.peak - base < OVER
    assert result.output.stat().st_size < MB
    assert starts(result, 40) == [(i + 1) * (2 if scaled else 1) for i in range(40)]
    assert result.seconds < 30 * weights.st_size / GB


@pytest.mark.slow
@posix
def test_one_file_past_2_gb(base: int, folder: Path) -> None:
    """Weights and all in one file, which only a reader that keeps weights out of protobuf can read."""
    path = inline(folder / "m", [4096] * 34)
    assert path.stat().st_size > 2**31
    assert path.stat().st_blocks * 512 < 10 * MB
    result = measured(path)
    assert result.peak - base < OVER
    assert starts(result, 34) == list(range(1, 35))


@pytest.mark.slow
@posix
def test_one_weight_past_2_gb(base: int, folder: Path) -> None:
    """2.2 GB in a single weight, beside a small one; ONNX Runtime loads the result and reads from the hole."""
    path, shape = folder / "in.onnx", (23_000, 24_000)
    with (folder / "w.bin").open("wb") as file:
        file.write(mark(6))
        file.truncate(4 * shape[0] * shape[1])
    nodes = [node("Gather", "w x", "g", axis=0), node("Identity", "g", "i"), node("Mul", "i two", "y")]
    inputs = [info("x", TensorProto.INT64, ["N"])]
    weights = [beside("w", shape, "w.bin", 0), weight("two", np.array(2, "f4"))]
    onnx.save(model(nodes, inputs, [info("y")], weights), path)
    result = measured(path)
    assert result.peak - base < OVER
    assert result.data.stat().st_size >= 4 * shape[0] * shape[1] > 2**31
    assert result.output.stat().st_size < MB
    session = OnnxRuntimeSession(result.output)
    y = session.run({"x": np.array([0, shape[0] - 1])})["y"]
    assert y.shape == (2, shape[1])
    np.testing.assert_array_equal(y[0, : MARK + 1], [14.0] * MARK + [0])
    assert not y[1].any()


@pytest.mark.slow
@posix
def test_time_is_in_proportion(folder: Path) -> None:
    """Four times as many weights, and as many nodes, take no more than four times the time, with room for noise."""
    small, large = (measured(chain(folder / str(n), [1024] * n, scaled=True)).seconds for n in (75, 300))
    assert large < 8 * small


# ---- where weights lie


def branching() -> onnx.ModelProto:
    """Weights of 4 kB in the graph, in a branch, and in a node's attribute."""
    k = helper.make_node("Constant", [], ["k"], value=weight("", random(1000, seed=3)), name="k")
    then = body([node("Add", "x inner", "t")], [], [info("t")], [weight("inner", random(1000, seed=1))], "then")
    other = body([k, node("Sub", "x k", "e")], [], [info("e")], name="else")
    choice = helper.make_node("If", ["p"], ["b"], name="if", then_branch=then, else_branch=other)
    return model([choice, node("Mul", "b w", "y")], [info("x", F, ["N", 1000]), info("p", TensorProto.BOOL, [])],
                 [info("y")], [weight("w", random(1000, seed=2)), weight("small", random(3))])  # fmt: skip


@pytest.mark.parametrize("level", ["O0", "O2"])
def test_all_large_weights_lie_beside(level: str, tmp_path: Path) -> None:
    """Those of subgraphs and attributes too, each where a page begins; ONNX Runtime finds them."""
    before, after = tmp_path / "before.onnx", tmp_path / "out.onnx"
    onnx.save(branching(), before)
    result = graphopt.optimize(graphopt.load(before), level, check="every")
    assert save(result.graph, after, external_data=True) == (after, tmp_path / "out.onnx.data")
    proto = onnx.load(after, load_external_data=False)
    tensors = list(onnx.external_data_helper._get_all_tensors(proto))
    places = [{e.key: e.value for e in t.external_data} for t in tensors if t.external_data]
    assert {p["location"] for p in places} == {"out.onnx.data"}
    assert [int(p["offset"]) % 4096 for p in places] == [0, 0, 0]
    assert [p["length"] for p in places] == ["4000"] * 3
    for p in (True, False):
        Carried(before, after, result).same(p=np.array(p))
    again = graphopt.load(after)
    save(again, tmp_path / "again.onnx", external_data=True)
    assert (tmp_path / "again.onnx.data").read_bytes() == (tmp_path / "out.onnx.data").read_bytes()


@pytest.mark.parametrize("room", [-1, 0])
def test_the_limit_counts_all_of_the_file(room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One byte too many, of nodes or of weights, and the weights go beside the file."""
    path = tmp_path / "out.onnx"
    onnx.save(branching(), path)
    graph = graphopt.load(path)
    save(graph, path)
    monkeypatch.setattr(writer, "PROTOBUF_LIMIT", path.stat().st_size + room)
    assert len(save(graph, path)) == (1 if room == 0 else 2)


def test_a_model_may_be_written_over_its_own_data(tmp_path: Path) -> None:
    """Weights are read from the file that is being replaced, until the end."""
    proto, path = branching(), tmp_path / "m.onnx"
    onnx.save(proto, tmp_path / "before.onnx")
    onnx.save(proto, path, save_as_external_data=True, location="m.onnx.data", size_threshold=100)
    for _ in range(2):
        result = graphopt.optimize(graphopt.load(path))
        assert len(save(result.graph, path, external_data=True)) == 2
    for p in (True, False):
        Carried(tmp_path / "before.onnx", path, result).same(p=np.array(p))
    save(result.graph, path)
    assert not any(t.external_data for t in onnx.load(path, load_external_data=False).graph.initializer)


def test_pieces_of_one_file_may_overlap_and_leave_holes(tmp_path: Path) -> None:
    """Weights that share bytes, in another order than in the file, one without a length, one of no elements."""
    data = np.arange(2000, dtype="f4")
    (tmp_path / "w.bin").write_bytes(data.tobytes())
    weights = [
        beside("late", (500,), "w.bin", 6000),
        beside("early", (600,), "w.bin", 4),
        beside("whole", (2000,), "w.bin", 0),
    ]
    del weights[2].external_data[2], weights[2].external_data[1]
    weights.append(beside("none", (0, 3), "w.bin", 8000))
    nodes = [node("Identity", n, f"{n}_out") for n in ("late", "early", "whole", "none")]
    onnx.save(model(nodes, [], [info(n.output[0]) for n in nodes], weights), tmp_path / "in.onnx")
    save(graphopt.load(tmp_path / "in.onnx"), tmp_path / "out.onnx", external_data=True)
    found = {t.name: numpy_helper.to_array(t) for t in onnx.load(tmp_path / "out.onnx").graph.initializer}
    wanted = {"late": data[1500:], "early": data[1:601], "whole": data, "none": np.zeros((0, 3), "f4")}
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)
