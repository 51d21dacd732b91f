"""Files: what is refused and how it is said, data beside a model, and outputs that appear whole or not at all."""

from __future__ import annotations

import gzip
import json
import mmap
import os
import pickle
import stat
import sys
import threading
import weakref
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.errors import GraphoptError, ModelError
from graphopt.onnx_format import atomic, files, wire
from graphopt.onnx_format.files import (
    AtomicOutput,
    ExternalData,
    check_writable,
    external,
    open_bytes,
    release,
)

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
posix = pytest.mark.skipif(os.name != "posix", reason="POSIX only")

MODEL = onnx.helper.make_model(
    onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, [1])],
        [onnx.helper.make_tensor_value_info("y", 1, [1])],
    )
).SerializeToString()
LARGE = MODEL + b"\x9a\x3f\x80\x80\x10" + bytes(1 << 18)  # an unknown field of 256 KB


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder, beside which something lies that is none of its business."""
    (tmp_path / "secret").write_bytes(b"s" * 100)
    inside = tmp_path / "model"
    (inside / "sub").mkdir(parents=True)
    (inside / "w.data").write_bytes(bytes(range(200)))
    (inside / "sub" / "large.data").write_bytes(bytes(range(256)) * 1024)
    return inside


def listed(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# ---- models


@pytest.mark.parametrize("data", [MODEL, LARGE], ids=["small", "large"])
def test_bytes_are_those_of_the_file(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    mapped = open_bytes(path)
    assert mapped.view == data
    assert mapped.view.readonly
    assert mapped.path == path
    assert open_bytes(str(path)).view == data


def test_a_file_is_closed_with_its_last_view(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(LARGE)
    mapped = open_bytes(path)
    assert isinstance(mapped.view.obj, mmap.mmap)
    alive = weakref.ref(mapped.view.obj)
    piece = mapped.view[100:200]
    array = np.frombuffer(mapped.view[200:300], np.uint8)
    del mapped
    assert piece == LARGE[100:200]
    del piece
    assert alive() is not None
    assert bytes(array) == LARGE[200:300]
    del array
    assert alive() is None


def as_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"abc")


NOT_MODELS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda p: None, "there is no such file: check the path"),
    "folder": (lambda p: p.mkdir(), "it is a folder: give the name of an ONNX file"),
    "empty": (lambda p: p.touch(), "it is empty: export or copy the model again"),
    "text": (lambda p: p.write_text("ir_version: 8\ngraph {\n}\n"), "it is a text file, not an ONNX model"),
    "long text": (lambda p: p.write_text("ä" * 100_000), "it is a text file, not an ONNX model"),
    "odd text": (lambda p: p.write_text("a" + "€" * 100_000), "it is a text file, not an ONNX model"),
    "JSON": (lambda p: p.write_text(json.dumps({"a": [1, 2]})), "it is a text file, not an ONNX model"),
    "page": (lambda p: p.write_text("\n<!DOCTYPE html><title>404</title>"), "it is a web page or XML"),
    "HTML": (
        lambda p: p.write_bytes(b"<HTML>\xff\x00"),
        "it is a web page or XML, not an ONNX model: download the file",
    ),
    "zip": (as_zip, "it is a zip archive"),
    "gzip": (lambda p: p.write_bytes(gzip.compress(MODEL)), "it is compressed with gzip: unpack it"),
    "pickle": (lambda p: p.write_bytes(pickle.dumps([1])), "it is a Python pickle"),
    "npy": (lambda p: np.save(p.open("wb"), np.zeros(3)), "it is a NumPy array"),
    "lfs": (
        lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"),
        "it is a Git LFS pointer, not the model: fetch the model with `git lfs pull`",
    ),
    "tflite": (lambda p: p.write_bytes(b"\x1c\0\0\0TFL3" + bytes(99)), "it is a TensorFlow Lite model"),
    "ort": (lambda p: p.write_bytes(b"\x1c\0\0\0ORTM" + bytes(99)), "it is in ONNX Runtime's own format"),
}


@pytest.mark.parametrize(("make", "said"), NOT_MODELS.values(), ids=NOT_MODELS)
def test_what_is_no_model_is_told_in_a_sentence(tmp_path: Path, make: Callable[[Path], object], said: str) -> None:
    path = tmp_path / "m.onnx"
    make(path)
    with pytest.raises(ModelError) as caught:
        open_bytes(path)
    assert str(caught.value).startswith(f"{path}: {said}")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["m.onnx/m", "n" * 300, "m\0.onnx"], ids=["in a file", "long", "NUL"])
def test_impossible_paths_are_told_in_a_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "m.onnx").write_bytes(MODEL)
    with pytest.raises(ModelError, match=r"m|n{300}"):
        open_bytes(tmp_path / name)
    with pytest.raises(GraphoptError):
        check_writable(tmp_path / name)
    assert listed(tmp_path) == {"m.onnx"}


@pytest.mark.parametrize("producer", ["TFL3", "ORTModule", "version https://git-lfs", "<html>", "text\n" * 300])
def test_models_are_not_taken_for_something_else(tmp_path: Path, producer: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx.ModelProto(ir_version=8, producer_name=producer).SerializeToString())
    open_bytes(path)


@posix
def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(ModelError, match="it is not a regular file"):
        open_bytes(path)
    with pytest.raises(GraphoptError, match="it is not a regular file"):
        check_writable(path)


def resident(path: Path) -> int:
    """Bytes in memory of the mappings of `path`."""
    total, counting = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first = line.split()[0]
        if "-" in first:
            counting = line.endswith(str(path))
        elif counting and first == "Rss:":
            total += int(line.split()[1]) * 1024
    return total


@linux
def test_released_memory_is_gone_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "w.data"
    path.write_bytes(np.random.default_rng(0).bytes(8 << 20))
    view = external(tmp_path, "w.data", 0, None)
    before = bytes(view)
    assert resident(path) >= 8 << 20
    release(view[5 << 20 : (5 << 20) + 12345])
    assert (4 << 20) <= resident(path) < (8 << 20)  # a page may be as large as 2 MB
    release(view[3:])
    assert resident(path) == 0
    assert view == before
    release(view[:1])
    release(view[-1:])
    release(view[5:5])
    assert bytes(view) == before


@linux
def test_a_large_model_is_stripped_in_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "STRETCH_BYTES", 4 << 20)
    path = tmp_path / "m.onnx"
    tensor = onnx.TensorProto(raw_data=np.random.default_rng(0).bytes(100_000))
    graph = onnx.GraphProto(initializer=[tensor] * 400)
    path.write_bytes(onnx.ModelProto(ir_version=8, graph=graph).SerializeToString())
    mapped = open_bytes(path)
    most = 0

    def passed(view: memoryview) -> None:
        nonlocal most
        most = max(most, resident(path))
        release(view)

    skeleton, spans = wire.strip(mapped.view, passed=passed)
    assert len(spans) == 400
    assert len(skeleton) < 50_000
    assert max(most, resident(path)) <= 16 << 20


def test_release_takes_any_memory(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(LARGE)
    mapped = open_bytes(path)
    release(memoryview(b"abc"))
    release(memoryview(bytearray(100))[3:7])
    mapped.release(mapped.view[100:])
    mapped.release(memoryview(b"abc"))
    mapped.release()
    assert mapped.view == LARGE


# ---- external data


def test_external_data_is_a_view_of_the_file(folder: Path) -> None:
    assert external(folder, "w.data", 10, 20) == bytes(range(10, 30))
    assert external(folder, "./w.data", 0, None) == bytes(range(200))
    assert external(folder, "sub/large.data", 255, 2) == b"\xff\x00"
    assert external(folder, "w.data", 200, 0) == b""
    assert external(folder, "w.data", 200, None) == b""
    assert external(folder, "sub/large.data", 1 << 18, 0).readonly


def test_a_file_is_opened_once(folder: Path) -> None:
    data = ExternalData(folder)
    views = [data.view("sub/large.data", i, 100) for i in range(2000)]
    assert len({id(view.obj) for view in views}) == 1


@pytest.mark.parametrize(
    "location",
    [
        "",
        ".",
        "/etc/passwd",
        "../secret",
        "sub/../../secret",
        "sub/..",
        "..\\secret",
        "C:\\x",
        "\\\\host\\x",
        "w\0",
        "C:x",
    ],
)
def test_external_data_stays_in_the_folder(folder: Path, location: str) -> None:
    with pytest.raises(ModelError, match=r"^the data of `conv1\.w` is said to lie in .*model's folder: export"):
        external(folder, location, 0, 10, tensor="conv1.w")


@posix
def test_links_that_leave_the_folder_are_refused(folder: Path) -> None:
    (folder / "out").symlink_to(folder.parent / "secret")
    (folder / "up").symlink_to("..")
    (folder / "round").symlink_to("round")
    (folder / "within").symlink_to("sub/large.data")
    for location in ("out", "up/secret", "up/model/../secret"):
        with pytest.raises(ModelError, match="folder"):
            external(folder, location, 0, 10)
    with pytest.raises(ModelError, match="cannot be read"):
        external(folder, "round", 0, 10)
    assert external(folder, "within", 0, 3) == b"\0\1\2"
    assert external(folder, "up/model/w.data", 0, 3) == b"\0\1\2"


@posix
def test_a_folder_may_itself_be_a_link(folder: Path) -> None:
    link = folder.parent / "link"
    link.symlink_to(folder)
    assert external(link, "w.data", 0, 3) == b"\0\1\2"


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 201), (200, 1), (-1, 10), (10, -1), (201, 0), (201, None), (0, 2**40), (2**70, 2**70), (-5, None)],
)
def test_lengths_are_held_against_the_file(folder: Path, offset: int, length: int | None) -> None:
    with pytest.raises(ModelError, match=r"^the data of `w` .* `w\.data`, which has 200 bytes: copy"):
        external(folder, "w.data", offset, length, tensor="w")


def test_missing_data_names_tensor_file_and_remedy(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"^the data of `w` lies in `a/b`, and .*b does not exist: put that file"):
        external(folder, "a/b", 0, 10, tensor="w")
    with pytest.raises(ModelError, match=r"^external data lies in `sub`, and .*sub cannot be read: it is a folder"):
        external(folder, "sub", 0, 10)


@given(st.text(max_size=12))
def test_any_location_is_a_view_or_a_sentence(location: str) -> None:
    with pytest.raises(ModelError) as caught:
        external(Path(__file__).parent / "golden", location, 0, 1 << 40, tensor="w")
    assert str(caught.value).startswith("the data of `w`")


# ---- outputs


def put(*paths_and_contents: Path | bytes) -> None:
    """Write the paths given, each with the bytes after it."""
    with AtomicOutput() as output:
        for path, data in zip(paths_and_contents[::2], paths_and_contents[1::2], strict=True):
            output.write(path, [data])


def test_files_appear_together_at_the_end(tmp_path: Path) -> None:
    data, model = tmp_path / "m.onnx.data", tmp_path / "m.onnx"
    with AtomicOutput() as output:
        assert output.write(data, [b"da", memoryview(b"ta")]) == 4
        assert output.write(str(model), iter([b"model"])) == 5
        assert not data.exists()
        assert not model.exists()
    assert data.read_bytes() == b"data"
    assert model.read_bytes() == b"model"
    assert listed(tmp_path) == {data.name, model.name}


@given(st.lists(st.sampled_from([0, 1, 1000, 1 << 17, 1 << 18, 5 << 20]), max_size=6), st.integers(0, 255))
def test_chunks_of_any_length_are_written_in_order(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], start: int
) -> None:
    path = tmp_path_factory.mktemp("chunks") / "out"
    chunks = [bytes(((start + i) % 256,)) * n for i, n in enumerate(lengths)]
    with AtomicOutput() as output:
        assert output.write(path, (memoryview(c) if i % 2 else c for i, c in enumerate(chunks))) == sum(lengths)
    assert path.read_bytes() == b"".join(chunks)
    path.unlink()


def test_chunks_of_other_types_are_written_as_bytes(tmp_path: Path) -> None:
    array = np.arange(90_000, dtype=np.float32).reshape(300, 300)
    with AtomicOutput() as output:
        size = output.write(tmp_path / "out", [memoryview(array), memoryview(array[:2]), memoryview(array[:0])])
    assert size == array.nbytes + array[:2].nbytes
    assert (tmp_path / "out").read_bytes() == array.tobytes() + array[:2].tobytes()


def test_writes_that_take_less_than_they_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(atomic.os, "write", lambda fd, data: write(fd, data[: len(data) // 2 + 1]))
    data = np.random.default_rng(0).bytes(3 << 20)
    with AtomicOutput() as output:
        output.write(tmp_path / "out", [data, b"end"])
    assert (tmp_path / "out").read_bytes() == data + b"end"


class Stop(BaseException):
    """Neither an Exception nor a KeyboardInterrupt."""


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, Stop, GeneratorExit])
@pytest.mark.parametrize("where", ["chunks", "between", "second"])
def test_nothing_changes_when_something_fails(tmp_path: Path, error: type[BaseException], where: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"before")

    def chunks(name: str) -> Iterator[bytes]:
        yield bytes(1 << 20)
        if where == name:
            raise error
        yield b"more"

    def write_all() -> None:
        with AtomicOutput() as output:
            output.write(path, chunks("chunks"))
            if where == "between":
                raise error
            output.write(tmp_path / "second", chunks("second"))

    with pytest.raises(error):
        write_all()
    assert path.read_bytes() == b"before"
    assert listed(tmp_path) == {"m.onnx"}


@pytest.mark.parametrize("call", ["write", "fsync", "open", "replace"])
def test_errors_of_the_disk_are_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"before")

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(atomic.os, call, fails)
        with pytest.raises(GraphoptError) as caught:
            put(path, b"after")
    assert str(caught.value) == f"{path}: it cannot be written (No space left on device): make room on the disk"
    assert path.read_bytes() == b"before"
    assert listed(tmp_path) == {"m.onnx"}


@pytest.mark.parametrize("second_names", [True, False])
@pytest.mark.parametrize("error", [PermissionError(1, "Operation not permitted"), KeyboardInterrupt()])
def test_when_the_second_rename_fails_the_first_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, second_names: bool
) -> None:
    old, new, last = tmp_path / "old", tmp_path / "new", tmp_path / "last"
    old.write_bytes(b"before")
    last.write_bytes(b"before too")
    replace = os.replace

    def replace_or_fail(source: Path, place: Path) -> None:
        if place == last and source.read_bytes() == b"3":
            raise error
        replace(source, place)

    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(atomic.os, "replace", replace_or_fail)
    if not second_names:
        monkeypatch.setattr(Path, "hardlink_to", no_links)
    expected = GraphoptError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        put(old, b"1", new, b"2", last, b"3")
    assert old.read_bytes() == b"before"
    assert last.read_bytes() == b"before too"
    assert listed(tmp_path) == {"old", "last"}


def test_several_files_replace_several(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"before")
    with AtomicOutput() as output:
        output.write(tmp_path / "a", [b"1"])
        output.write(tmp_path / "b", [b"2"])
    assert [(tmp_path / n).read_bytes() for n in ("a", "b")] == [b"1", b"2"]
    assert listed(tmp_path) == {"a", "b"}


@posix
def test_permissions_are_the_usual_ones_or_those_of_before(tmp_path: Path) -> None:
    usual, before = tmp_path / "usual", tmp_path / "before"
    before.touch()
    before.chmod(0o640)
    with AtomicOutput() as output:
        output.write(usual, [b"x"])
        output.write(before, [b"x"])
    (tmp_path / "plain").touch()
    assert stat.S_IMODE(usual.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert stat.S_IMODE(before.stat().st_mode) == 0o640


@posix
def test_a_mapped_input_can_be_its_own_output(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(LARGE)
    mapped = open_bytes(path)
    with AtomicOutput() as output:
        output.write(path, [b"head", mapped.view])
    mapped.release()
    assert mapped.view == LARGE
    assert path.read_bytes() == b"head" + LARGE


@posix
def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name in ("new", "old"):
        (tmp_path / name).symlink_to(Path("there") / name)
    (tmp_path / "there" / "old").write_bytes(b"before")
    for name in ("new", "old"):
        check_writable(tmp_path / name)
        with AtomicOutput() as output:
            output.write(tmp_path / name, [b"after"])
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / "there" / name).read_bytes() == b"after"


@pytest.mark.parametrize(
    "act", [check_writable, lambda path: AtomicOutput().write(path, [b"x"])], ids=["check", "write"]
)
def test_outputs_that_cannot_be(tmp_path: Path, act: Callable[[Path], object]) -> None:
    (tmp_path / "file").write_bytes(b"before")
    refused = {
        tmp_path: "it is a folder: give the name of a file in it",
        tmp_path / "no" / "m.onnx": f"there is no folder {tmp_path / 'no'}: create it first",
        tmp_path / "file" / "m.onnx": "",
        Path(os.devnull): "it is not a regular file",
    }
    for path, said in refused.items():
        with pytest.raises(GraphoptError) as caught:
            act(path)
        assert str(caught.value).startswith(f"{path}: {said}")
    assert listed(tmp_path) == {"file"}
    assert not Path(os.devnull).is_file()


@pytest.mark.parametrize("call", ["access", "open"])
def test_write_protection_is_found_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"before")

    def refuse(*_: object) -> bool:
        if call == "access":
            return False
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(atomic.os, call, refuse)
    with pytest.raises(GraphoptError, match=r"write-protected: permit|\(Permission denied\): give the name"):
        check_writable(path)
    assert listed(tmp_path) == {"m.onnx"}


def test_the_check_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"before")
    status = path.stat()
    check_writable(path)
    check_writable(str(tmp_path / "new"))
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (status.st_mtime_ns, status.st_ino)
    assert listed(tmp_path) == {"m.onnx"}


def test_writers_at_the_same_time_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    failed: list[BaseException] = []

    def write(letter: bytes) -> None:
        try:
            for _ in range(5):
                with AtomicOutput() as output:
                    output.write(path, (letter * 1000 for _ in range(100)))
        except BaseException as error:  # told by the main thread
            failed.append(error)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert path.read_bytes() in {letter * 100_000 for letter in (b"a", b"b", b"c")}
    assert listed(tmp_path) == {"m.onnx"}


def test_files_of_the_module_hold_the_names_that_others_use() -> None:
    assert set(files.__all__) <= set(dir(files))
