"""The wire module: skeletons and their inverse, on random models, real ones, and broken bytes."""

from __future__ import annotations

import random
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import pytest
from google.protobuf.message import DecodeError, Message
from hypothesis import example, given
from hypothesis import strategies as st
from models import RealModel, real_models
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto

from graphopt.errors import GraphoptError, ModelError
from graphopt.onnx_format import wire
from graphopt.onnx_format.wire import (
    DEPTH_LIMIT,
    NESTED,
    TOKEN_BYTES,
    Span,
    Spliced,
    fill,
    splice,
    strip,
    token,
)


@dataclass(frozen=True)
class Piece:
    """A payload of the bytes given, in chunks of `size`."""

    data: bytes | memoryview
    size: int = 1 << 20

    @property
    def nbytes(self) -> int:
        return len(self.data)

    def chunks(self) -> Iterator[bytes | memoryview]:
        for start in range(0, len(self.data), self.size):
            yield self.data[start : start + self.size]


def pieces(data: bytes, spans: Mapping[bytes, Span]) -> dict[bytes, Piece]:
    return {mark: Piece(data[s.offset : s.offset + s.length], 100) for mark, s in spans.items()}


def there_and_back(data: bytes, keep: int) -> bytes:
    skeleton, spans = strip(data, keep=keep)
    whole = Spliced(skeleton, pieces(data, spans))
    joined = b"".join(whole.chunks())
    assert len(joined) == whole.nbytes
    return joined


def encoded(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes((*out, value))


def field(number: int, content: bytes) -> bytes:
    return encoded(number << 3 | 2) + encoded(len(content)) + content


def parsed(data: bytes) -> bytes | None:
    """What protobuf makes of a model's bytes, in a form that tells NaNs apart; None where it refuses them."""
    try:
        return ModelProto.FromString(data).SerializeToString(deterministic=True)
    except DecodeError:
        return None


def tensors(message: Message) -> Iterator[TensorProto]:
    """Every tensor of a message, in the order of its fields."""
    if isinstance(message, TensorProto):
        yield message
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None:
            for item in (value,) if isinstance(value, Message) else value:
                yield from tensors(item)


# ---- random models

raw = st.integers(0, 400).map(lambda n: bytes(i * 7 % 256 for i in range(n)))
names = st.text(max_size=3)


@st.composite
def tensor_protos(draw: st.DrawFn) -> TensorProto:
    proto = TensorProto(name=draw(names), data_type=draw(st.integers(0, 26)), dims=draw(st.lists(st.integers(-1, 300))))
    if draw(st.booleans()):
        proto.raw_data = draw(raw)
    else:
        proto.float_data.extend(draw(st.lists(st.floats(width=32), max_size=80)))
    return proto


@st.composite
def sparse_protos(draw: st.DrawFn) -> SparseTensorProto:
    return SparseTensorProto(values=draw(tensor_protos()), indices=draw(tensor_protos()), dims=[3, 300])


@st.composite
def attribute_protos(draw: st.DrawFn, depth: int) -> AttributeProto:
    proto = AttributeProto(name=draw(names), f=draw(st.floats(width=32)), i=draw(st.integers(-9, 9)), ints=[-1, 1000])
    kinds = ["t", "tensors", "sparse_tensor", "sparse_tensors"] + ["g", "graphs"] * (depth > 0)
    match draw(st.sampled_from(kinds)):
        case "t":
            proto.t.CopyFrom(draw(tensor_protos()))
        case "tensors":
            proto.tensors.extend(draw(st.lists(tensor_protos(), max_size=3)))
        case "sparse_tensor":
            proto.sparse_tensor.CopyFrom(draw(sparse_protos()))
        case "sparse_tensors":
            proto.sparse_tensors.extend(draw(st.lists(sparse_protos(), max_size=2)))
        case "g":
            proto.g.CopyFrom(draw(graph_protos(depth - 1)))
        case _:
            proto.graphs.extend(draw(st.lists(graph_protos(depth - 1), max_size=2)))
    return proto


@st.composite
def node_protos(draw: st.DrawFn, depth: int) -> NodeProto:
    proto = NodeProto(
        op_type=draw(names), input=draw(st.lists(names, max_size=2)), doc_string="x" * draw(st.integers(0, 200))
    )
    proto.attribute.extend(draw(st.lists(attribute_protos(depth), max_size=2)))
    return proto


@st.composite
def graph_protos(draw: st.DrawFn, depth: int) -> GraphProto:
    proto = GraphProto(name=draw(names))
    proto.node.extend(draw(st.lists(node_protos(depth), max_size=2)))
    proto.initializer.extend(draw(st.lists(tensor_protos(), max_size=3)))
    proto.sparse_initializer.extend(draw(st.lists(sparse_protos(), max_size=1)))
    return proto


@st.composite
def model_protos(draw: st.DrawFn) -> ModelProto:
    model = ModelProto(ir_version=8, producer_name=draw(names), graph=draw(graph_protos(2)))
    for _ in range(draw(st.integers(0, 1))):
        function = model.functions.add(name=draw(names))
        function.node.extend(draw(st.lists(node_protos(1), max_size=2)))
        function.attribute_proto.extend(draw(st.lists(attribute_protos(0), max_size=1)))
        model.training_info.add().algorithm.CopyFrom(draw(graph_protos(0)))
    return model


@cache
def small_model() -> bytes:
    """A model with a large tensor at each kind of place, 1 to 2 KB long."""
    tensor = TensorProto(name="w", data_type=1, dims=[25], raw_data=bytes(range(100)))
    sparse = SparseTensorProto(values=tensor, indices=tensor, dims=[4])
    graph = GraphProto(name="g", initializer=[tensor], sparse_initializer=[sparse])
    graph.node.add(op_type="Conv").attribute.add(name="t", t=tensor, i=-1, f=0.5)
    model = ModelProto(ir_version=8, graph=graph, producer_name="p")
    model.graph.node.add(op_type="If").attribute.add(name="body", g=graph)
    model.functions.add(name="f").node.add(op_type="F").attribute.add(name="t", tensors=[tensor, tensor])
    return model.SerializeToString(deterministic=True)


# ---- what is nested


def test_nested_fields_are_those_of_onnx() -> None:
    """Exactly the fields from which `raw_data` can be reached, by the schema of the onnx package at hand."""
    reachable = {"TensorProto"}
    messages = {}
    todo = [ModelProto.DESCRIPTOR]
    while todo:
        message = todo.pop()
        if message.full_name not in messages:
            messages[message.full_name] = message
            todo += [f.message_type for f in message.fields if f.message_type]
    while True:
        more = {
            m.name
            for m in messages.values()
            if any(f.message_type and f.message_type.name in reachable for f in m.fields)
        }
        if more <= reachable:
            break
        reachable |= more
    expected = {
        m.name: {f.number: f.message_type.name for f in m.fields if f.message_type and f.message_type.name in reachable}
        for m in messages.values()
        if m.name in reachable
    }
    raw_data = TensorProto.DESCRIPTOR.fields_by_name["raw_data"]
    assert raw_data.type == raw_data.TYPE_BYTES
    expected["TensorProto"] = {raw_data.number: "raw_data"}
    assert expected == NESTED


def test_wire_loads_neither_onnx_nor_numpy() -> None:
    code = "import sys, graphopt.onnx_format.wire; print(*({'onnx', 'numpy', 'google'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


# ---- there and back


@given(model_protos(), st.integers(0, 300))
def test_random_models_come_back_byte_for_byte(model: ModelProto, keep: int) -> None:
    data = model.SerializeToString(deterministic=True)
    assert there_and_back(data, keep) == data


@given(model_protos(), st.integers(0, 300))
def test_skeleton_is_the_model_with_tokens(model: ModelProto, keep: int) -> None:
    data = model.SerializeToString(deterministic=True)
    skeleton, spans = strip(data, keep=keep)
    stripped = ModelProto.FromString(skeleton)
    found = 0
    for before, after in zip(tensors(model), tensors(stripped), strict=True):
        if len(before.raw_data) > keep:
            span = spans[after.raw_data]
            assert data[span.offset : span.offset + span.length] == before.raw_data
            after.raw_data = before.raw_data
            found += 1
    assert found == len(spans)
    assert stripped.SerializeToString(deterministic=True) == data


@given(model_protos())
def test_large_data_never_reaches_protobuf(model: ModelProto) -> None:
    skeleton, _ = strip(model.SerializeToString())
    assert all(len(t.raw_data) <= 256 for t in tensors(ModelProto.FromString(skeleton)))


@pytest.mark.parametrize("model", real_models("pypi", "onnx", "shared"))
def test_real_models_come_back(model: RealModel) -> None:
    data = model.path.read_bytes()
    back = there_and_back(data, 256)
    assert parsed(back) == parsed(data)
    assert len(back) == len(data)


def test_a_view_and_bytes_give_the_same() -> None:
    data = small_model()
    skeleton, spans = strip(memoryview(data), keep=50)
    assert list(spans.values()) == list(strip(data, keep=50)[1].values())
    assert len(spans) == 10
    assert type(skeleton) is bytes


def test_payloads_of_other_lengths_correct_all_lengths_around_them() -> None:
    data = small_model()
    skeleton, spans = strip(data, keep=50)
    for size in (0, 1, 127, 128, 5_000, 70_000):
        whole = b"".join(splice(skeleton, dict.fromkeys(spans, Piece(bytes(size)))))
        model = ModelProto.FromString(whole)
        assert [len(t.raw_data) for t in tensors(model)] == [size] * len(spans)


def test_a_message_of_another_type_can_be_spliced() -> None:
    node = ModelProto.FromString(small_model()).graph.node[0]
    mark = token()
    wanted = node.SerializeToString()
    node.attribute[0].t.raw_data = mark
    made = b"".join(splice(node.SerializeToString(), {mark: Piece(bytes(range(100)))}, root="NodeProto"))
    assert made == wanted


def test_a_part_of_a_skeleton_is_filled() -> None:
    data = small_model()
    skeleton, spans = strip(data, keep=50)

    def find(mark: bytes) -> memoryview:
        span = spans[mark]
        return memoryview(data)[span.offset : span.offset + span.length]

    stripped, whole = ModelProto.FromString(skeleton), ModelProto.FromString(data)
    function = stripped.functions[0].SerializeToString()
    assert fill(function, find, root="FunctionProto") == whole.functions[0].SerializeToString()
    sparse = stripped.graph.sparse_initializer[0].SerializeToString()
    assert fill(sparse, find, root="SparseTensorProto") == whole.graph.sparse_initializer[0].SerializeToString()
    assert fill(b"no token", find, root="FunctionProto") == b"no token"
    with pytest.raises(GraphoptError, match="bytes are missing"):
        fill(function, lambda mark: None, root="FunctionProto")


def test_a_graph_in_two_parts_is_merged() -> None:
    """Protobuf merges a second occurrence of a field that occurs once; the last of two raw_data counts."""
    data = small_model() * 2
    assert parsed(there_and_back(data, 50)) == parsed(data)
    twice = TensorProto(raw_data=bytes(60)).SerializeToString() + TensorProto(raw_data=b"x" * 70).SerializeToString()
    data = field(7, field(5, twice))
    assert there_and_back(data, 50) == data
    skeleton, spans = strip(data, keep=50)
    assert spans[ModelProto.FromString(skeleton).graph.initializer[0].raw_data].length == 70


@pytest.mark.parametrize(
    "unknown",
    [
        field(9999, bytes(300)),
        encoded(500 << 3) + b"\xff" * 9 + b"\x01",
        encoded(500 << 3 | 1) + bytes(8),
        encoded(500 << 3 | 5) + bytes(4),
        encoded(500 << 3 | 3)
        + field(9, bytes(300))
        + encoded(7 << 3 | 3)
        + encoded(7 << 3 | 4)
        + encoded(500 << 3 | 4),
        encoded(9 << 3) + b"\x05",
    ],
    ids=["length", "varint", "fixed64", "fixed32", "group", "raw_data of another wire type"],
)
def test_unknown_fields_stay(unknown: bytes) -> None:
    tensor = unknown + field(9, bytes(300)) + unknown
    data = unknown + field(7, unknown + field(5, tensor) + unknown) + unknown
    assert len(strip(data)[1]) == 1
    assert there_and_back(data, 256) == data
    assert parsed(data) is not None


def test_numbers_in_a_long_form_are_read_as_protobuf_reads_them() -> None:
    content = bytes(300)
    length = encoded(300)
    tensor = b"\xca\x00" + length[:-1] + bytes((length[-1] | 128, 128, 0)) + content
    data = b"\x08\x88\x80\x80\x00" + field(7, field(5, tensor))
    assert [t.raw_data for t in tensors(ModelProto.FromString(data))] == [content]
    skeleton, spans = strip(data)
    assert len(skeleton) < 100
    assert len(spans) == 1
    assert parsed(there_and_back(data, 256)) == parsed(data)


def test_stretches_that_are_passed_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "STRETCH_BYTES", 1000)
    sizes = (300, 300, 900, 3000, 10, 700, 700, 300)
    weights = [TensorProto(raw_data=random.Random(n).randbytes(n)) for n in sizes]
    data = ModelProto(graph=GraphProto(initializer=weights)).SerializeToString()
    passed: list[bytes] = []
    skeleton, spans = strip(data, passed=lambda view: passed.append(bytes(view)))
    again = next(i for i, stretch in enumerate(passed) if i and data.startswith(stretch))
    for walk in (passed[:again], passed[again:]):  # once to find the weights, once to copy what lies between them
        assert len(walk) >= 3
        assert all(len(stretch) >= 1000 for stretch in walk)
        assert data.startswith(b"".join(walk))
    assert b"".join(splice(skeleton, pieces(data, spans))) == data


def test_keep_is_the_longest_that_stays() -> None:
    for size, stripped in ((256, 0), (257, 1)):
        data = ModelProto(graph=GraphProto(initializer=[TensorProto(raw_data=bytes(size))])).SerializeToString()
        skeleton, spans = strip(data)
        assert len(spans) == stripped
        assert stripped or skeleton == data


# ---- tokens


def test_tokens_differ_from_each_other_and_between_processes() -> None:
    assert len({token() for _ in range(1000)}) == 1000
    assert {len(token()) for _ in range(10)} == {TOKEN_BYTES}
    code = "from graphopt.onnx_format.wire import token; print(token().hex())"
    made = [subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(2)]
    assert made[0] != made[1]


def test_a_token_without_a_payload_is_an_error() -> None:
    skeleton, _ = strip(small_model(), keep=50)
    with pytest.raises(GraphoptError, match="bytes are missing"):
        splice(skeleton, {})


@pytest.mark.parametrize(
    "make",
    [
        lambda mark: ModelProto(producer_name="p", graph=GraphProto(doc_string=mark.hex())),
        lambda mark: GraphProto(initializer=[TensorProto(raw_data=mark[:-1])]),
        lambda mark: GraphProto(initializer=[TensorProto(raw_data=mark + b"x")]),
        lambda mark: GraphProto(initializer=[TensorProto(string_data=[mark])]),
    ],
    ids=["hex", "shorter", "longer", "another field"],
)
def test_a_token_elsewhere_is_never_written(make: Callable[[bytes], Message]) -> None:
    mark = token()
    message = make(mark)
    root = type(message).__name__
    data = message.SerializeToString()
    if mark[:16] not in data:
        assert b"".join(splice(data, {mark: Piece(b"abc")}, root=root)) == data
        return
    with pytest.raises(GraphoptError, match=r"token|missing"):
        splice(data, {mark: Piece(b"abc")}, root=root)


def test_a_payload_may_stand_twice_and_may_be_unused() -> None:
    mark = token()
    tensor = TensorProto(raw_data=mark)
    data = GraphProto(initializer=[tensor, tensor]).SerializeToString()
    made = b"".join(splice(data, {mark: Piece(b"abc"), token(): Piece(b"z")}, root="GraphProto"))
    assert [t.raw_data for t in GraphProto.FromString(made).initializer] == [b"abc", b"abc"]


@pytest.mark.parametrize("given_bytes", [0, 99, 101, 300])
def test_a_payload_that_breaks_its_word_is_an_error(given_bytes: int) -> None:
    class Liar(Piece):
        @property
        def nbytes(self) -> int:
            return 100

    mark = token()
    data = TensorProto(raw_data=mark).SerializeToString()
    chunks = splice(data, {mark: Liar(bytes(given_bytes), 50)}, root="TensorProto")
    written = []
    with pytest.raises(GraphoptError, match="a weight of 100 bytes"):
        written.extend(chunks)
    assert sum(map(len, written)) <= len(field(9, bytes(100)))


# ---- streaming


def test_three_gigabytes_stream_in_little_memory() -> None:
    class Large:
        nbytes = 3 * 2**30 + 5

        def chunks(self) -> Iterator[bytes]:
            left = self.nbytes
            while left:
                block = bytes(min(left, 1 << 22))
                left -= len(block)
                yield block

    marks = [token(), token()]
    model = ModelProto(ir_version=8)
    model.graph.node.add(op_type="Constant").attribute.add(name="value", t=TensorProto(raw_data=marks[0]))
    model.graph.initializer.add(name="w", raw_data=marks[1])
    model.graph.name = "after"
    whole = Spliced(model.SerializeToString(deterministic=True), {marks[0]: Piece(b"abc"), marks[1]: Large()})
    tracemalloc.start()
    total = 0
    rest = []
    for chunk in whole.chunks():
        total += len(chunk)
        if len(chunk) < 1000:
            rest.append(bytes(chunk))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6
    assert total == whole.nbytes
    initializer = field_head(5, 2 + len("w") + len(field_head(9, Large.nbytes)) + Large.nbytes)
    assert initializer in b"".join(rest)
    node = field(1, field(4, b"Constant") + field(5, field(1, b"value") + field(5, field(9, b"abc"))))
    graph = len(node) + len(initializer) + total_of(initializer) + len(field(2, b"after"))
    assert b"".join(rest).startswith(b"\x08\x08" + field_head(7, graph) + node)


def field_head(number: int, length: int) -> bytes:
    return encoded(number << 3 | 2) + encoded(length)


def total_of(head: bytes) -> int:
    """The length that a field's head announces."""
    value = 0
    for i, byte in enumerate(head[1:]):
        value |= (byte & 127) << 7 * i
    return value


def test_one_payload_at_a_time() -> None:
    alive = []

    class Watched(Piece):
        def chunks(self) -> Iterator[bytes | memoryview]:
            alive.append(self)
            assert len(alive) == 1
            yield from super().chunks()
            alive.remove(self)

    data = small_model()
    skeleton, spans = strip(data, keep=50)
    payloads = {mark: Watched(data[s.offset : s.offset + s.length]) for mark, s in spans.items()}
    chunks = splice(skeleton, payloads)
    assert not alive
    assert b"".join(bytes(c) for c in chunks) == data


# ---- broken bytes

BROKEN = {
    "a length past the end": (b"\x3a\x7f" + bytes(5), r"at byte 0, a field of 127 bytes begins, and 5 are left"),
    "a length past its message": (
        field(7, b"\x2a\xff\x01" + bytes(254)) + bytes(9),
        r"at byte 3, a field of 255 bytes begins, and 254 are left",
    ),
    "a terabyte": (b"\x3a" + encoded(2**40) + bytes(5), r"1,099,511,627,776 bytes begins, and 5 are left"),
    "a negative length": (b"\x3a" + b"\xff" * 9 + b"\x01" + bytes(5), r"18,446,744,073,709,551,615 bytes"),
    "a number of eleven bytes": (b"\x08" + b"\xff" * 10 + b"\x01", r"at byte 1, a number is longer than 10 bytes"),
    "an end within a number": (b"\x08\x08\x3a\xff", r"at byte 3, the bytes end within a number"),
    "an end after a tag": (b"\x08\x08\x3a", r"at byte 3, the bytes end within a number"),
    "an end within a tag": (b"\x08\x08\xba", r"at byte 2, the bytes end within a number"),
    "an end within 8 bytes": (b"\x09" + bytes(7), r"at byte 0, a field of 9 bytes begins, and 8 are left"),
    "an end within 4 bytes": (b"\x0d" + bytes(3), r"at byte 0, a field of 5 bytes begins, and 4 are left"),
    "field 0": (b"\x08\x08\x02\x00", r"at byte 2, no field has the number 0"),
    "field 2**32": (encoded(1 << 35 | 2) + b"\x00", r"at byte 0, no field has the number 4,294,967,296"),
    "wire type 6": (b"\x0e\x00", r"at byte 0, a field of the wire type 6"),
    "wire type 7": (b"\x0f\x00", r"at byte 0, a field of the wire type 7"),
    "the end of no group": (b"\x0c", r"at byte 0, a field of the wire type 4"),
    "the end of another group": (b"\x0b\x14", r"at byte 1, a field of the wire type 4"),
    "a group without end": (b"\x0b\x08\x00", r"at byte 3, the bytes end within a number"),
    "groups in groups": (b"\x0b" * 5000, r"groups are nested more than 100 deep"),
}


@pytest.mark.parametrize(("data", "said"), BROKEN.values(), ids=BROKEN)
def test_broken_bytes_are_told_in_a_sentence(data: bytes, said: str) -> None:
    assert parsed(data) is None
    with pytest.raises(ModelError, match=said):
        strip(data, keep=10)


def test_a_broken_skeleton_is_told_in_a_sentence() -> None:
    mark = token()
    with pytest.raises(ModelError, match="at byte 30, a field of the wire type 6"):
        splice(field(7, field(5, field(9, mark) + b"\x0e")), {mark: Piece(b"abc")})


def nested(depth: int, inner: bytes) -> bytes:
    """A graph in an attribute of a node of a graph, and so on, `depth` messages deep."""
    for i in range(depth):
        number = (6, 5, 1)[i % 3] if i < depth - 1 else 7
        inner = field(number, inner)
    return inner


@pytest.mark.parametrize("levels", [1, 10, 33])
def test_nesting_that_protobuf_reads_is_read(levels: int) -> None:
    depth = 3 * levels - 2
    data = nested(depth, field(2, b"n" * 30))
    assert parsed(data) is not None
    assert depth <= DEPTH_LIMIT
    assert there_and_back(data, 0) == data


@pytest.mark.parametrize("levels", [40, 2000])
def test_deep_nesting_is_refused(levels: int) -> None:
    data = nested(3 * levels - 2, field(2, b"n" * 30))
    assert parsed(data) is None
    with pytest.raises(ModelError, match="messages are nested more than 100 deep"):
        strip(data, keep=10)


def test_every_truncation() -> None:
    """A cut is refused, or leaves a model that protobuf reads the same: one that ends between two fields."""
    data = small_model()
    whole = 0
    sentences = set()
    for end in range(len(data)):
        cut = data[:end]
        try:
            back = there_and_back(cut, 50)
        except ModelError as error:
            sentences.add(str(error))
            assert parsed(cut) is None
        else:
            assert parsed(back) == parsed(cut)
            whole += parsed(cut) is not None
    assert 0 < whole < 10
    assert sentences
    assert all(len(s) < 200 and s.isprintable() and s.endswith("export or copy it again") for s in sentences)


def test_every_flipped_byte() -> None:
    data = small_model()
    rng = random.Random(3)
    for place in range(len(data)):
        for value in {0, 1, 127, 128, 255, data[place] ^ 1 << rng.randrange(8), rng.randrange(256)}:
            check_damaged(data[:place] + bytes((value,)) + data[place + 1 :])


@given(st.binary(max_size=300), st.integers(0, 40))
@example(b"\x3a\x00", 0)
def test_random_bytes(data: bytes, keep: int) -> None:
    check_damaged(data, keep)
    check_damaged(field(7, field(5, data)), keep)
    check_damaged(field(7, field(1, field(5, data))), keep)


@given(st.data())
def test_random_damage(data: st.DataObject) -> None:
    model = bytearray(small_model())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(model)))
        stop = start + data.draw(st.integers(0, 8))
        model[start:stop] = data.draw(st.binary(max_size=8))
    check_damaged(bytes(model), data.draw(st.integers(0, 120)))


def check_damaged(data: bytes, keep: int = 50) -> None:
    """A ModelError, or a result that protobuf reads as it reads the damaged bytes."""
    expected = parsed(data)
    try:
        back = there_and_back(data, keep)
    except ModelError:
        assert expected is None
    else:
        assert expected is None or parsed(back) == expected
