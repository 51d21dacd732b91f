"""Random graphs for tests of the IR: opaque operators, captures, odd names, every kind of attribute and dtype."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
from hypothesis import strategies as st

from graphopt.ir.attributes import Attribute, Kind
from graphopt.ir.constant import Constant
from graphopt.ir.dims import Dim, floor_div, symbol
from graphopt.ir.graph import OMITTED, Graph, ModelInfo, Node, Value
from graphopt.ir.operator import Opaque
from graphopt.ir.types import DTYPES, DType, ForeignType, OptionalType, SequenceType, TensorType, Type, string

TEXT = st.text(max_size=6) | st.sampled_from(["a/b:0", 'q"', "\n", "\u2028", "é", "# no", "_", "nan", "f32[", "%"])
NAMES = st.sampled_from(["x", "y", "w.1", "conv1", "12", "graph", "dense", "splat", "ints", "inf", "1e5", "f32"]) | TEXT
DIMS: st.SearchStrategy[Dim] = (
    st.integers(0, 9)
    | st.sampled_from(["N", "H", "a b", "?", "?3", "?x", "x]", 'q"', ","]).map(symbol)
    | st.builds(
        lambda a, k, d: floor_div(symbol(a) + k, d), st.sampled_from(["N", "H"]), st.integers(-5, 5), st.just(2)
    )
)
TENSORS = st.builds(
    TensorType,
    st.sampled_from(list(DTYPES.values())),
    st.none() | st.lists(DIMS, max_size=3).map(tuple),
)
TYPES: st.SearchStrategy[Type | None] = st.recursive(
    st.none() | TENSORS | st.binary(max_size=4).map(ForeignType),
    lambda inner: st.builds(SequenceType, inner) | st.builds(OptionalType, inner),
    max_leaves=3,
)
SHAPES = st.sampled_from([(), (0,), (1,), (3,), (2, 3), (0, 4), (17,), (4, 5), (16,)])


@st.composite
def constants(draw: st.DrawFn, dtype: DType | None = None) -> Constant:
    """A constant of any dtype and content: every bit pattern, equal elements, made on demand, or absent."""
    dtype = dtype or draw(st.sampled_from(list(DTYPES.values())))
    shape = draw(SHAPES)
    kind = TensorType(dtype, shape)
    form = draw(st.sampled_from(["array", "array", "splat", "recipe", "absent"]))
    if form == "absent":
        return Constant(kind, digest=f"{draw(st.integers(0, 2**256 - 1)):064x}")
    array = draw(arrays(dtype, shape))
    if form == "splat" and array.size:
        array = np.broadcast_to(array.ravel()[0:1].reshape((1,) * len(shape)), shape)
    if form == "recipe":
        return Constant(kind, recipe=lambda: array)
    return Constant(kind, array=array)


@st.composite
def arrays(draw: st.DrawFn, dtype: DType, shape: tuple[int, ...]) -> np.ndarray:
    """An array with any bits that the dtype allows."""
    size = int(np.prod(shape))
    if dtype == string:
        array = np.empty(size, object)
        array[:] = draw(st.lists(TEXT | st.binary(max_size=4), min_size=size, max_size=size))
        return array.reshape(shape)
    if dtype.bits < 8 or dtype.kind == "bool":
        width = dtype.bits if dtype.bits < 8 else 1
        low = -(1 << width - 1) if dtype.kind == "int" else 0
        codes = draw(st.lists(st.integers(low, low + (1 << width) - 1), min_size=size, max_size=size))
        plain = np.array(codes, np.int8)
        return (plain.view(dtype.numpy) if dtype.is_float else plain.astype(dtype.numpy)).reshape(shape)
    data = draw(st.binary(min_size=size * dtype.bits // 8, max_size=size * dtype.bits // 8))
    special = draw(st.sampled_from([None, None, "nan", "-nan", "-0.0", "inf"]))
    array = np.frombuffer(data, dtype.numpy).copy()
    if special and size and dtype.name in ("f32", "f64", "f16", "bf16"):
        array[0] = dtype.numpy.type(float(special))
    return array.reshape(shape)


FLOATS = st.floats(width=32) | st.sampled_from([0.0, -0.0, float("nan"), float("inf"), float(np.float32(0.1))])
INTS = st.integers(-(2**63), 2**63 - 1)
STRINGS = TEXT | st.binary(max_size=4)


@st.composite
def attributes(draw: st.DrawFn, graph: Graph, visible: list[Value], depth: int) -> Attribute:
    """An attribute of any kind."""
    kinds = [k for k in Kind if depth or k not in (Kind.GRAPH, Kind.GRAPHS)]
    kind = draw(st.sampled_from(kinds))
    one = {
        Kind.FLOAT: FLOATS,
        Kind.INT: INTS,
        Kind.STRING: STRINGS,
        Kind.TENSOR: constants(),
        Kind.SPARSE_TENSOR: st.binary(max_size=4),
        Kind.TYPE_PROTO: st.binary(max_size=4),
    }
    many = {
        Kind.FLOATS: Kind.FLOAT,
        Kind.INTS: Kind.INT,
        Kind.STRINGS: Kind.STRING,
        Kind.TENSORS: Kind.TENSOR,
        Kind.SPARSE_TENSORS: Kind.SPARSE_TENSOR,
        Kind.TYPE_PROTOS: Kind.TYPE_PROTO,
    }
    if kind is Kind.GRAPH:
        return Attribute(kind, draw(graphs(graph, visible, depth - 1)))
    if kind is Kind.GRAPHS:
        return Attribute(kind, tuple(draw(graphs(graph, visible, depth - 1)) for _ in range(draw(st.integers(0, 2)))))
    if kind in one:
        return Attribute(kind, draw(one[kind]))
    return Attribute(kind, tuple(draw(st.lists(one[many[kind]], max_size=3))))


@st.composite
def graphs(draw: st.DrawFn, outer: Graph | None = None, seen: list[Value] | None = None, depth: int = 2) -> Graph:
    """A graph that keeps the IR's rules, open for building."""
    opsets = MappingProxyType(draw(st.dictionaries(TEXT, st.integers(1, 30), max_size=2)))
    graph = Graph(draw(NAMES), ModelInfo(opsets=opsets) if outer is None else None, outer)
    visible = list(seen or [])
    taken = {v.name for v in visible} | {"", OMITTED}

    def fresh() -> str:
        name = draw(NAMES)
        while name in taken:
            name += "'"
        taken.add(name)
        return name

    for _ in range(draw(st.integers(0, 2))):
        value = Value(fresh(), draw(TYPES))
        if draw(st.booleans()):
            value.constant = draw(constants())
            if draw(st.booleans()):
                value.type = value.constant.type
        visible.append(graph.add_input(value))
    for _ in range(draw(st.integers(0, 2))):
        visible.append(graph.add_constant(Value(fresh(), constant=draw(constants()))))
    for _ in range(draw(st.integers(0, 3 if depth else 2))):
        operands = draw(st.lists(st.sampled_from([*visible, None]), max_size=3))
        keys = draw(st.lists(NAMES, unique=True, max_size=3))
        bound = {key: draw(attributes(graph, visible, depth)) for key in keys}
        op = Opaque(
            draw(NAMES),
            draw(st.sampled_from(["", "com.microsoft", "a b"]) | TEXT),
            MappingProxyType(bound),
            draw(st.none() | st.integers(1, 30)),
            draw(st.just("") | TEXT),
        )
        results = [
            Value(OMITTED if draw(st.integers(0, 4)) == 0 else fresh(), draw(TYPES))
            for _ in range(draw(st.sampled_from([0, 1, 1, 2])))
        ]
        graph.insert(Node(op, operands, results, name=draw(st.just("") | NAMES)))
        visible += [r for r in results if r.name != OMITTED]
    if visible:
        for i, output in enumerate(draw(st.lists(st.sampled_from(visible), max_size=2))):
            graph.set_output(i, output)
    return graph
