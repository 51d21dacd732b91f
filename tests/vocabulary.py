"""Random graphs over all operators: `samples` gives a model as a file has it, and inputs that it takes.

A graph grows by steps, one or more for each operator (`STEPS`). Most draw a node of the cases in `ops/cases*.py` and
feed its operands with values of the graph, where any numbers will do: a value of that type and shape, or another one
that is brought to it (`Growth.fitted`). What must be certain numbers, such as indices, is a constant or an input.
Every value is known by an example, so that only nodes that work are drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

import numpy as np
import onnx
from hypothesis import strategies as st
from numeric import KINDS
from onnx import TensorProto, helper, numpy_helper
from ops.cases import Case, ints
from ops.harness import _attribute, facts_of, normal, read_attribute
from ops.test_opsets import CASES

import graphopt
from graphopt.ir.graph import Graph, copy_graph
from graphopt.ir.types import TensorType, dtype_of
from graphopt.onnx_format.opset import OLDEST, upgrade
from graphopt.ops.infer import check_operands
from graphopt.ops.registry import room
from graphopt.ops.room import NEWEST, Fact, Room, Step, Trait
from graphopt.ops.sequence import packed

LARGEST = 1e3  # of numbers that are computed with further
MOST = 400  # elements of a value that is computed with further
DEPTH = 2  # of graphs within graphs

# Operands that may hold any numbers, where it is not the first alone: all that hold floats, or these.
EVERY = frozenset(
    {
        "Attention", "Concat", "Conv", "ConvTranspose", "DeformConv", "Einsum", "GRU", "Gemm", "GroupNormalization",
        "InstanceNormalization", "LSTM", "LayerNormalization", "MatMul", "Max", "Mean", "Min", "RMSNormalization",
        "RNN", "RotaryEmbedding", "Sum", "Where",
    }
)  # fmt: skip
SOME: Mapping[str, tuple[int, ...]] = {
    "BatchNormalization": (0, 1, 2, 3),
    "BitShift": (0,),
    "CastLike": (0, 1),
    "Div": (0,),
    "Mod": (0,),
    "Pow": (0,),
    "STFT": (0, 2),
    "ScatterElements": (0, 2),
    "ScatterND": (0, 2),
    "TensorScatter": (0, 1),
    **dict.fromkeys(["BlackmanWindow", "ConstantOfShape", "HammingWindow", "HannWindow", "MelWeightMatrix"], ()),
    **dict.fromkeys(["Acosh", "NonMaxSuppression", "OneHot", "Range"], ()),
}
RAGGED = frozenset({"NonMaxSuppression", "NonZero", "Unique"})  # the numbers decide the results' shapes
CANCELS = frozenset({"DFT", "STFT"})  # sums that are 0 but for rounding: nothing that jumps there may follow
LAST: Mapping[str, int] = {"RoiAlign": 21}  # the newest opset for which a case is drawn, where it stays as it is


@dataclass(frozen=True)
class Known:
    """A value: its name and what it may hold. Of a loose one nothing is computed that must know its shape."""

    name: str
    example: np.ndarray
    loose: bool = False

    @property
    def is_sequence(self) -> bool:
        return self.example.dtype == object

    @cached_property
    def is_usable(self) -> bool:
        """Whether more can be computed with it."""
        a = self.example
        if self.is_sequence or self.loose or not 0 < a.size <= MOST or a.dtype.kind not in "fiub":
            return False
        return bool(np.isfinite(a).all() and np.abs(a.astype(np.float64)).max() < LARGEST)


@dataclass
class Shared:
    """What all graphs of a model have in common."""

    batch: int
    count: int = 0
    inputs: dict[str, np.ndarray] = field(default_factory=dict)
    shapes: dict[str, list[str | int]] = field(default_factory=dict)  # as they are declared
    free: set[str] = field(default_factory=set)  # inputs that may hold any numbers
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    is_random: bool = False

    def name(self, hint: str) -> str:
        self.count += 1
        return f"{hint}{self.count}"


@dataclass
class Growth:
    """A graph while it grows; a body sees the values of the graph around it."""

    data: st.DataObject
    opset: int
    shared: Shared
    values: list[Known] = field(default_factory=list)
    depth: int = 0
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    made: list[Known] = field(default_factory=list)

    def draw(self, *choices: object) -> object:
        return self.data.draw(st.sampled_from(choices))

    def chance(self, one_in: int) -> bool:
        return self.data.draw(st.integers(1, one_in)) == one_in

    # ---- Values

    def constant(self, array: np.ndarray) -> Known:
        """An initializer, or what a Constant node gives."""
        for name, weight in self.shared.weights.items():
            if weight.dtype == array.dtype and np.array_equal(weight, array) and self.chance(2):
                return Known(name, array)
        if self.chance(6):
            return self.node("Constant", (), {"value": numpy_helper.from_array(array)})[0]
        name = self.shared.name("w")
        self.shared.weights[name] = array
        return Known(name, array)

    def input(self, array: np.ndarray, *, free: bool) -> Known:
        """A new input; of the model, also where a body asks for it."""
        name = self.shared.name("x")
        shape: list[str | int] = list(array.shape)
        for axis, size in enumerate(array.shape):
            if axis == 0 and size == self.shared.batch and self.chance(2):
                shape[axis] = "N"
            elif self.chance(8):
                shape[axis] = f"{name}_{axis}"
        self.shared.inputs[name], self.shared.shapes[name] = array, shape
        if free:
            self.shared.free.add(name)
        made = Known(name, array)
        if not self.depth:
            self.values.append(made)
        return made

    def given(self, array: np.ndarray, *, held: bool = False) -> Known:
        """Certain numbers."""
        return self.constant(array) if held or self.chance(2) else self.input(array, free=False)

    def any(self, dtype: str = "f", rank: int = 0) -> Known:
        """A value of a kind of elements that has one axis or more, most often one that nobody reads yet."""
        fit = [v for v in self.values if v.is_usable and v.example.dtype.kind in dtype and v.example.ndim >= rank]
        if not fit or self.chance(8):
            shape = [self.shared.batch, *self.data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=2))]
            return self.input(normal(*shape, seed=self.shared.count), free=True)
        return fit[-1] if self.chance(2) else self.data.draw(st.sampled_from(fit))

    def fitted(self, array: np.ndarray) -> Known:
        """A value like an array: one that is there, one that is brought to its type and shape, or a new input."""
        same = [v for v in self.values if v.is_usable and _alike(v.example, array)]
        if same and not self.chance(5):
            return self.data.draw(st.sampled_from(same[-6:]))
        kinds = "iub" if array.dtype.kind in "iu" else "fiub"  # what an integer does not hold is cast to anything
        others = [v for v in self.values if v.is_usable and v.example.ndim and v.example.dtype.kind in kinds]
        if not others or not array.size or self.chance(3):
            return self.input(array, free=True) if self.chance(2) else self.constant(array)
        return self.brought(self.data.draw(st.sampled_from(others[-6:])), array)

    def brought(self, value: Known, like: np.ndarray) -> Known:
        """A value brought to another type and shape."""
        x = value.example
        if x.dtype != like.dtype:
            (value,) = self.node("Cast", [value], {"to": dtype_of(like.dtype).code})
        if x.shape == like.shape:
            return value
        if x.size == like.size:
            return self.node("Reshape", [value, ints(like.shape)])[0]
        if like.size > x.size and self.opset >= 8 and _expands(x.shape, like.shape):
            return self.node("Expand", [value, ints(like.shape)])[0]
        (flat,) = self.node("Reshape", [value, ints([-1])])
        return self.node("Gather", [flat, ints(np.arange(like.size).reshape(like.shape) % x.size)])[0]

    # ---- Nodes

    def node(
        self,
        name: str,
        operands: Sequence[Known | np.ndarray | None],
        attributes: Mapping[str, object] | None = None,
        results: int = 1,
        examples: Sequence[np.ndarray] | None = None,
    ) -> list[Known]:
        """A node and its results; arrays among its operands become constants."""
        known = [self.constant(o) if isinstance(o, np.ndarray) else o for o in operands]
        while len(known) > room(name).least and known[-1] is None:
            known.pop()
        outputs = [self.shared.name("v") for _ in range(results)]
        proto = helper.make_node(name, ["" if k is None else k.name for k in known], outputs)
        for key, value in (attributes or {}).items():
            if isinstance(value, onnx.TensorProto | onnx.GraphProto | onnx.TypeProto):
                proto.attribute.append(helper.make_attribute(key, value))
            elif value is not None:
                proto.attribute.append(_attribute(key, value))
        if self.chance(2):
            proto.name = self.shared.name(name)
        self.nodes.append(proto)
        loose = name in RAGGED | CANCELS or any(k is not None and k.loose for k in known)
        if examples is None:
            examples = _computed(proto, [None if k is None else k.example for k in known], self.opset, self.shared)
        found = [Known(n, np.asarray(a), loose) for n, a in zip(outputs, examples, strict=False)]
        self.values += found
        self.made += found
        return found

    def body(self, inputs: Sequence[Known], grow: Callable[[Growth], Sequence[Known]]) -> onnx.GraphProto:
        """A graph within this one, of the outputs that `grow` gives; what it captures is seen, not passed."""
        inner = replace(self, values=[*self.values, *inputs], depth=self.depth + 1, nodes=[], made=[])
        outputs = list(grow(inner))
        for i, value in enumerate(outputs):
            own = value in inner.made
            if not own or value in outputs[:i]:  # what a graph gives must be its own
                outputs[i] = inner.node("Identity", [value])[0]
        self.shared.count += 1
        return helper.make_graph(
            inner.nodes,
            f"body{self.shared.count}",
            [helper.make_tensor_value_info(v.name, _code(v.example), self.unnamed(v)) for v in inputs],
            [onnx.ValueInfoProto(name=v.name) for v in outputs],
        )

    def unnamed(self, value: Known) -> list[None] | None:
        """A shape as a body declares it: its rank, or nothing."""
        return [None] * value.example.ndim if self.chance(2) else None

    def step(self, name: str | None = None) -> None:
        """One more operator, any or a certain one."""
        if name is None:
            among = COLLECTIONS if self.depth < DEPTH and self.chance(5) else STEPS
            names = [n for n in among if _since(n) <= self.opset and (self.depth < DEPTH or n not in COLLECTIONS)]
            seed = self.data.draw(st.integers(0, 2**32 - 1))  # one of a list is most often one of the first
            name = names[int(np.random.default_rng(seed).integers(len(names)))]
        STEPS[name](self)


def _alike(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape


def _expands(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    return len(shape) <= len(to) and np.broadcast_shapes(shape, to) == to if _broadcast(shape, to) else False


def _broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return all(m == n or 1 in (m, n) for m, n in zip(a[::-1], b[::-1], strict=False))


def _code(array: np.ndarray) -> int:
    return dtype_of(array.dtype).code


def _computed(
    proto: onnx.NodeProto, arrays: Sequence[np.ndarray | None], opset: int, shared: Shared
) -> Sequence[np.ndarray]:
    """A node's results by its room's kernel; zeros where it has none."""
    bound = {a.name: read_attribute(a) for a in proto.attribute if a.type != onnx.AttributeProto.TYPE_PROTO}
    facts = tuple(None if a is None or a.dtype == object else f for a, f in zip(arrays, _facts(arrays), strict=True))
    op, step = upgrade("", proto.op_type, Step(bound, tuple(proto.input), tuple(proto.output), facts), opset)
    assert isinstance(op, Room), f"{proto.op_type} of opset {opset} stays opaque: {getattr(op, 'why', '')}"
    by_name = dict(zip(proto.input, arrays, strict=True))
    raised = [by_name.get(o) if isinstance(o, str) else o.array() for o in step.operands]
    if not op.is_pure(*_facts(raised)) or not hasattr(op, "kernel"):
        shared.is_random = True
        known = _facts(raised)
        check_operands(op, known)
        types = op.infer(*known)
        types = (types,) if isinstance(types, TensorType) else types
        return [np.zeros(t.static_shape, t.dtype.numpy) for t in types]
    with np.errstate(all="ignore"):
        made = op.kernel(*raised)
    return made if isinstance(made, tuple) else (made,)


def _facts(arrays: Sequence[np.ndarray | None]) -> tuple[Fact | None, ...]:
    return tuple(None if a is None or a.dtype == object else facts_of([a])[0] for a in arrays)


# ---- Steps


Grow: TypeAlias = Callable[[Growth], None]


def _from_case(name: str, case: Case, g: Growth) -> None:
    drawn = case(g.data, min(g.opset, LAST.get(name, g.opset)))
    operands = [
        None if a is None else g.fitted(a) if _is_free(name, i, a) else g.given(a, held=drawn.held and i > 0)
        for i, a in enumerate(map(_array, drawn.arrays))
    ]
    made = g.node(name, operands, drawn.attributes, drawn.results)
    if name in RAGGED and g.chance(2):
        (wide,) = g.node("Cast", [made[0]], {"to": TensorProto.FLOAT})
        g.node(str(g.draw("Relu", "Size", "Neg", "ReduceSum", "Shape")), [wide])


def _array(a: np.ndarray | None) -> np.ndarray | None:
    return None if a is None else np.asarray(a)


def _is_free(name: str, i: int, array: np.ndarray) -> bool:
    """Whether an operand may hold any numbers."""
    if name in SOME:
        return i in SOME[name]
    if array.dtype.kind in "fb":
        return i == 0 or name in EVERY or Trait.ELEMENTWISE in room(name).traits
    return (i == 0 and name not in ("MaxUnpool", "QLinearConv")) or Trait.ELEMENTWISE in room(name).traits


def _grown(steps: int, *likes: np.ndarray) -> Callable[[Growth], Sequence[Known]]:
    """What a body may do: some steps, and values like these arrays, of its own where it has any."""

    def grow(g: Growth) -> Sequence[Known]:
        for _ in range(g.data.draw(st.integers(0, steps))):
            g.step()
        usable = [v for v in g.made if v.is_usable and v.example.ndim]
        made = []
        for like in likes:
            value = g.any() if not usable else g.data.draw(st.sampled_from(usable))
            made.append(g.brought(value, like))
        return made

    return grow


def _if(g: Growth) -> None:
    likes = [g.any().example for _ in range(g.data.draw(st.integers(1, 2)))]
    branches = {key: g.body((), _grown(2, *likes)) for key in ("then_branch", "else_branch")}
    condition = g.given(np.array(g.data.draw(st.booleans()))) if g.chance(2) else g.brought(g.any(), np.array(True))
    g.node("If", [condition], branches, len(likes), likes)


def _loop(g: Growth) -> None:
    carried = [g.any() for _ in range(g.data.draw(st.integers(0 if g.opset >= 11 else 1, 2)))]
    scans = [g.any().example for _ in range(g.data.draw(st.integers(0 if carried else 1, 1)))]
    trips = g.data.draw(st.integers(0 if not scans else 1, 3))
    inside = [Known(g.shared.name("b"), v.example) for v in carried]
    turn, going = Known(g.shared.name("i"), np.array(0)), Known(g.shared.name("g"), np.array(True))

    def grow(inner: Growth) -> Sequence[Known]:
        ends = inner.chance(3) and inner.opset >= 9
        condition = inner.node("Less", [turn, np.array(1)])[0] if ends else inner.node("Identity", [going])[0]
        return [condition, *_grown(2, *(v.example for v in inside), *scans)(inner)]

    body = g.body([turn, going, *inside], grow)
    lead = [g.given(np.array(trips)), g.given(np.array(True)) if g.chance(3) else None]
    stacked = [np.stack([s] * trips) for s in scans]
    made = g.node("Loop", [*lead, *carried], {"body": body}, len(inside) + len(scans),
                  [*(v.example for v in inside), *stacked])  # fmt: skip
    for i in range(len(inside), len(made)):  # the condition decides how many there are
        g.values.remove(made[i])
        g.values.append(replace(made[i], loose=True))


def _scan(g: Growth) -> None:
    state, scanned = g.any(), g.any(rank=1)
    element = scanned.example[0]
    inside = [Known(g.shared.name("b"), a) for a in (state.example, element)]
    like = g.any().example
    body = g.body(inside, _grown(2, state.example, like))
    attributes = {"body": body, "num_scan_inputs": 1}
    attributes |= {"scan_input_directions": [1]} if g.chance(3) else {}
    count = len(scanned.example)
    attributes |= {"scan_output_axes": [like.ndim]} if g.chance(3) else {}
    stacked = np.stack([like] * count, like.ndim if "scan_output_axes" in attributes else 0)
    g.node("Scan", [state, scanned], attributes, 2, [state.example, stacked])


def _sequence_map(g: Growth) -> None:
    sequence = _sequence(g)
    element, other, like = sequence.example[0], g.any(), g.any().example
    inside = [Known(g.shared.name("b"), a) for a in (element, other.example)]
    body = g.body(inside, _grown(2, like))
    made = packed([like] * len(sequence.example))
    (mapped,) = g.node("SequenceMap", [sequence, other], {"body": body}, 1, [made])
    g.node("SequenceAt", [mapped, np.array(0)])


def _sequence(g: Growth) -> Known:
    """A sequence of one element or more, which is there or is made."""
    there = [v for v in g.values if v.is_sequence and v.example.ndim and len(v.example)]
    if there and not g.chance(3):
        return g.data.draw(st.sampled_from(there))
    return _construct(g)


def _construct(g: Growth, rank: int = 0) -> Known:
    first = g.any(rank=rank)
    others = [g.brought(g.any(), first.example) for _ in range(g.data.draw(st.integers(0, 2)))]
    return g.node("SequenceConstruct", [first, *others])[0]


def _place(g: Growth, length: int) -> Known:
    return g.given(np.array(g.data.draw(st.integers(-length, length - 1))))


def _at(g: Growth) -> None:
    sequence = _sequence(g)
    g.node("SequenceAt", [sequence, _place(g, len(sequence.example))])


def _empty(g: Growth) -> None:
    (none,) = g.node("SequenceEmpty", [], {"dtype": TensorProto.FLOAT} if g.chance(2) else {})
    (one,) = g.node("SequenceInsert", [none, g.any()])
    g.node("SequenceLength", [none if g.chance(2) else one])


def _insert(g: Growth) -> None:
    sequence = _sequence(g)
    element = g.brought(g.any(), sequence.example[0])
    where = [_place(g, len(sequence.example))] if g.chance(2) else []
    g.node("SequenceInsert", [sequence, element, *where])
    if g.chance(2):
        _at(g)


def _erase(g: Growth) -> None:
    sequence = _sequence(g)
    where = [_place(g, len(sequence.example))] if g.chance(2) else []
    (rest,) = g.node("SequenceErase", [sequence, *where])
    g.node("SequenceLength", [rest])


def _length(g: Growth) -> None:
    g.node("SequenceLength", [_sequence(g)])


def _joined(g: Growth) -> None:
    sequence = _sequence(g)
    if len({a.shape for a in sequence.example}) > 1 or any(not a.ndim for a in sequence.example):
        sequence = _construct(g, rank=1)
    new = int(g.chance(2))
    axis = g.data.draw(st.integers(0, sequence.example[0].ndim - 1 + new))
    g.node("ConcatFromSequence", [sequence], {"axis": axis, **({"new_axis": 1} if new else {})})


def _split(g: Growth) -> None:
    x = g.any(rank=1)
    axis = g.data.draw(st.integers(0, x.example.ndim - 1))
    size = x.example.shape[axis]
    split = g.draw(None, np.array(g.data.draw(st.integers(1, size))), ints([1, size - 1] if size > 1 else [1]))
    attributes = {"axis": axis} | ({"keepdims": 0} if split is None and g.chance(2) else {})
    (parts,) = g.node("SplitToSequence", [x, None if split is None else g.given(split)], attributes)
    g.node("SequenceAt", [parts, _place(g, len(parts.example))])


def _optional(g: Growth) -> None:
    x = _sequence(g) if g.chance(3) else g.any()
    made = np.empty((), object)
    made[()] = x.example
    (optional,) = g.node("Optional", [x], {}, 1, [made])
    g.node("OptionalHasElement", [optional])
    (inside,) = g.node("OptionalGetElement", [optional], {}, 1, [x.example])
    if inside.is_sequence:
        g.node("SequenceLength", [inside])


def _random(name: str, g: Growth) -> None:
    like = g.any(rank=1)
    seed = {"seed": float(g.data.draw(st.integers(1, 9)))}
    if name == "Bernoulli":
        (like,) = g.node("Sigmoid", [like])
    if name == "Multinomial":
        like = g.brought(like, normal(2, 3))
    shape = {"shape": list(like.example.shape)} if name in ("RandomNormal", "RandomUniform") else {}
    (made,) = g.node(name, [] if shape else [like], {**seed, **shape})
    if made.example.dtype == like.example.dtype == np.float32:
        g.node("Add", [made, like])


def _groups(g: Growth) -> None:
    """A quantized product, as converters write it."""
    x = g.any(rank=1)
    x = g.brought(x, x.example.astype(np.float32))
    scale, zero = np.array(0.05, np.float32), np.array(g.data.draw(st.integers(100, 140)), np.uint8)
    pair = [scale, zero]

    def dequantized(value: Known) -> Known:
        (whole,) = g.node("QuantizeLinear", [value, *pair])
        return g.node("DequantizeLinear", [whole, *pair])[0]

    columns = x.example.shape[-1]
    weight = np.random.default_rng(columns).integers(-127, 127, (columns, 3)).astype(np.int8)
    each = np.array([0.01, 0.02, 0.03], np.float32) if g.opset >= 13 else np.array(0.01, np.float32)
    along = {"axis": 1} if each.ndim else {}
    (held,) = g.node("DequantizeLinear", [weight, each, np.zeros(each.shape, np.int8)], along)
    (made,) = g.node("MatMul", [dequantized(x), held])
    if g.chance(2):
        (made,) = g.node("Relu", [made])
    dequantized(made)


def _pool_by_region(g: Growth) -> None:
    x = g.fitted(normal(2, 2, 5, 6))
    rois = np.array([[0, 0, 0, 3, 3], [1, 1, 0, 4, 4]], np.float32)
    g.node("MaxRoiPool", [x, g.given(rois)], {"pooled_shape": [2, 2]})


COLLECTIONS: Mapping[str, Grow] = {
    "ConcatFromSequence": _joined,
    "If": _if,
    "Loop": _loop,
    "Optional": _optional,
    "OptionalGetElement": _optional,
    "OptionalHasElement": _optional,
    "Scan": _scan,
    "SequenceAt": _at,
    "SequenceConstruct": lambda g: void(_construct(g)),
    "SequenceEmpty": _empty,
    "SequenceErase": _erase,
    "SequenceInsert": _insert,
    "SequenceLength": _length,
    "SequenceMap": _sequence_map,
    "SplitToSequence": _split,
}
RANDOM = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
STEPS: Mapping[str, Grow] = {
    **{name: partial(_from_case, name, case) for name, case in CASES.items()},
    **COLLECTIONS,
    **{name: partial(_random, name) for name in RANDOM},
    "Constant": lambda g: void(g.node("Constant", (), {"value": numpy_helper.from_array(normal(2, 3))})),
    "DequantizeLinear": lambda g: _groups(g) if g.opset >= 10 and g.chance(2) else _from_case(
        "DequantizeLinear", CASES["DequantizeLinear"], g),
    "GlobalLpPool": lambda g: void(g.node("GlobalLpPool", [g.fitted(normal(2, 3, 4))], {"p": 1 + g.chance(2)})),
    "MaxRoiPool": _pool_by_region,
    "Swish": lambda g: void(g.node("Swish", [g.any()], {"alpha": 0.5} if g.chance(2) else {})),
}  # fmt: skip


def _since(name: str) -> int:
    """The oldest opset that has an operator as it is drawn."""
    return 9 if name == "Scan" else room(name).since


def void(_: object) -> None:
    """Nothing: for steps that are one expression."""


# ---- Models


@dataclass(frozen=True)
class Sample:
    """A model, and inputs for it: one set for each of `numeric.KINDS`, alike where they must be certain numbers."""

    model: onnx.ModelProto
    feeds: Mapping[str, Mapping[str, np.ndarray]]
    is_random: bool
    names: frozenset[str]  # of its operators

    def __repr__(self) -> str:
        return onnx.printer.to_text(self.model)

    @cached_property
    def graph(self) -> Graph:
        """As it is read."""
        return loaded(self.model.SerializeToString())


def loaded(data: bytes) -> Graph:
    """The graph of a file."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(data)
        return copy_graph(graphopt.load(path))


def _fed(shared: Shared, kind: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(len(kind))
    found = dict(shared.inputs)
    for name in sorted(shared.free):
        array = found[name]
        if kind == "normal":
            continue
        if array.dtype.kind == "f":
            drawn = rng.random(array.shape) if kind == "uniform" else rng.standard_normal(array.shape) * 64
            found[name] = np.asarray(drawn, array.dtype)
        else:
            found[name] = rng.permutation(array.ravel()).reshape(array.shape)
    return found


@st.composite
def samples(draw: st.DrawFn, first: str | None = None, steps: int = 6, oldest: int = OLDEST) -> Sample:
    """A model of as many steps or fewer, the first of which is a certain operator."""
    data = draw(st.data())
    least = max(oldest, OLDEST if first is None else _since(first))
    opset = draw(st.sampled_from([o for o in (NEWEST, NEWEST, NEWEST, 21, 17, 13, 11, 9, 8) if o >= least]))
    shared = Shared(batch=draw(st.integers(1, 3)))
    g = Growth(data, opset, shared)
    for name in [first, *[None] * draw(st.integers(0, steps))] if first else [None] * draw(st.integers(1, steps)):
        g.step(name)
    read = {name for node in g.nodes for name in _reads(node)}
    able = [v for v in g.values if v in g.made and not v.is_sequence]
    outputs = [v for v in able if v.name not in read or g.chance(6)]
    if not outputs:
        outputs = [g.node("Identity", [g.any()])[0]]
    graph = helper.make_graph(
        g.nodes,
        "sample",
        [helper.make_tensor_value_info(n, _code(a), shared.shapes[n]) for n, a in shared.inputs.items()],
        [onnx.ValueInfoProto(name=v.name) for v in outputs],
        [numpy_helper.from_array(a, n) for n, a in shared.weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    names = frozenset(n for node in g.nodes for n in _names(node))
    return Sample(model, {kind: _fed(shared, kind) for kind in KINDS}, shared.is_random, names)


def _graphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]


def _reads(node: onnx.NodeProto) -> set[str]:
    inner = {name for graph in _graphs(node) for n in graph.node for name in _reads(n)}
    return {*node.input, *inner}


def _names(node: onnx.NodeProto) -> set[str]:
    return {node.op_type, *(name for graph in _graphs(node) for n in graph.node for name in _names(n))}
