"""What the tests of rooms share: one node in ONNX Runtime beside its kernel, its type rule and its adapters.

`check` holds a room against ONNX Runtime (its optimizers off), against onnx's own shape inference, and its symbolic
types against its concrete ones. `check_old` takes a node of an older opset up to the room and down again. Operands
are arrays in order, None for one that is left out; `constants` are the indices of those that the model holds as
initializers, the others are inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import onnx
import onnx.shape_inference
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from graphopt.errors import OpsetError, TypeRuleError
from graphopt.ir.attributes import Attribute, Kind
from graphopt.ir.constant import Constant
from graphopt.ir.dims import Dim, substitute, symbol, symbols
from graphopt.ir.types import TensorType, dtype_of
from graphopt.onnx_format.opset import downgrade, upgrade
from graphopt.ops.algebra import LinearWeights
from graphopt.ops.infer import check_operands
from graphopt.ops.room import NEWEST, Fact, Room, Step, Trait, UnknownRankError

ULPS = 64  # of float32, relative to an element and to the scale of its tensor: see `close`
LARGEST_DIM = 1 << 24  # contents below this are tried as symbols

Arrays = Sequence[np.ndarray | None]
Runner = Callable[..., tuple[np.ndarray, ...]]


# One node in ONNX Runtime


def run_ort(
    op_type: str,
    inputs: Mapping[str, np.ndarray | None],
    attributes: Mapping[str, object],
    *,
    opset: int = NEWEST,
    domain: str = "",
    constants: Collection[str] = (),
    results: int = 1,
) -> tuple[np.ndarray, ...]:
    """What ONNX Runtime computes for one node; it raises its own exceptions."""
    proto = model(op_type, inputs, attributes, opset=opset, domain=domain, constants=constants, results=results)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feeds = {name: np.asarray(a) for name, a in inputs.items() if a is not None and name not in constants}
    return tuple(session.run(None, feeds))


def run_reference(
    op_type: str,
    inputs: Mapping[str, np.ndarray | None],
    attributes: Mapping[str, object],
    *,
    opset: int = NEWEST,
    domain: str = "",
    constants: Collection[str] = (),
    results: int = 1,
) -> tuple[np.ndarray, ...]:
    """What onnx's reference implementation computes for one node, for what ONNX Runtime has no kernel for."""
    proto = model(op_type, inputs, attributes, opset=opset, domain=domain, constants=constants, results=results)
    feeds = {name: np.asarray(a) for name, a in inputs.items() if a is not None and name not in constants}
    with np.errstate(all="ignore"):
        return tuple(ReferenceEvaluator(proto).run(None, feeds))


def model(
    op_type: str,
    inputs: Mapping[str, np.ndarray | None],
    attributes: Mapping[str, object],
    *,
    opset: int = NEWEST,
    domain: str = "",
    constants: Collection[str] = (),
    results: int = 1,
    static: bool = False,
) -> onnx.ModelProto:
    """A model of one node. Inputs' dims are symbols, but with `static` and for lists of integers, such as shapes."""
    given = {name: array for name, array in inputs.items() if array is not None}
    names = [name if name in given else "" for name in inputs]
    while names and not names[-1]:
        names.pop()
    made = [f"result{i}" for i in range(results)]
    node = helper.make_node(op_type, names, made, domain=domain)
    node.attribute.extend(_attribute(key, value) for key, value in attributes.items() if value is not None)
    infos = [
        helper.make_tensor_value_info(name, _code(a), a.shape if static or _is_list(a) else _symbols(name, a.ndim))
        for name, a in given.items()
        if name not in constants
    ]
    graph = helper.make_graph(
        [node],
        "one node",
        infos,
        [onnx.ValueInfoProto(name=name) for name in made],
        [numpy_helper.from_array(given[name], name) for name in constants if name in given],
    )
    imports = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def _is_list(array: np.ndarray) -> bool:
    return array.ndim == 1 and array.dtype.kind in "iu"


def _symbols(name: str, rank: int) -> list[str]:
    return [f"{name}_{i}" for i in range(rank)]


def _code(array: np.ndarray) -> int:
    return dtype_of(array.dtype).code


def _attribute(key: str, value: object) -> onnx.AttributeProto:
    if isinstance(value, Attribute):
        kind, value = value.kind, value.value
        plain = numpy_helper.from_array(value.array(), key) if isinstance(value, Constant) else value
        return helper.make_attribute(key, plain, attr_type=kind.value)
    if isinstance(value, Constant):
        return helper.make_attribute(key, numpy_helper.from_array(value.array(), key))
    return helper.make_attribute(key, value)


# A room beside ONNX Runtime


def check(
    op: Room,
    arrays: Arrays,
    *,
    opset: int = NEWEST,
    constants: Collection[int] = (),
    results: int = 1,
    ulps: float = ULPS,
    scale: np.ndarray | Sequence[np.ndarray | None] | None = None,
    exact: bool = False,
    steps: int = 0,
    shape_inference: bool = True,
    run: Runner | None = None,
) -> tuple[np.ndarray, ...]:
    """Hold a room against ONNX Runtime in all that it says; give ONNX Runtime's results.

    Args:
        op: the operator with its attributes.
        arrays: its operands.
        opset: the opset to write the node for, one that defines the operator as the room does.
        constants: indices of the operands that are initializers.
        results: how many results to ask for.
        ulps: see `close`.
        scale: see `close`; one for all results, or one for each.
        steps: by how much integers may be off.
        exact: whether the kernel's results equal ONNX Runtime's in their own type (0 and -0 are equal).
        shape_inference: whether onnx's own inference is right for this node.
        run: what to compare with; `run_ort` by default.
    """
    inputs = dict(zip(names_of(op, len(arrays)), arrays, strict=True))
    held = {name for i, name in enumerate(inputs) if i in constants}
    settings = {"opset": opset, "domain": op.domain, "constants": held, "results": results}
    theirs = (run or run_ort)(op.name, inputs, op.attributes, **settings)
    _check_kernel(op, arrays, theirs, ulps=ulps, scale=scale, exact=exact, steps=steps)
    known = facts_of(arrays, constants)
    _check_types(op, known, theirs)
    _check_symbolic(op, arrays, constants, theirs)
    _check_elements(op, arrays, theirs)
    _check_forwards(op, arrays, constants)
    if shape_inference and not op.domain:
        _check_against_onnx(model(op.name, inputs, op.attributes, static=True, **settings), theirs)
    return theirs


def names_of(op: Room, count: int) -> list[str]:
    """Names of `count` operands: those of the room's slots, numbered where the last slot repeats."""
    names = [slot.name for slot in op.slots]
    if op.slots and op.slots[-1].variadic:
        names = names[:-1] + [f"{names[-1]}{i}" for i in range(count - len(names) + 1)]
    return names[:count]


def facts_of(arrays: Arrays, constants: Collection[int] | None = None) -> tuple[Fact | None, ...]:
    """What is known of operands: static types, and the data of `constants` (None: of all)."""
    return tuple(
        None if a is None else _fact(a, held=constants is None or i in constants) for i, a in enumerate(arrays)
    )


def _fact(array: np.ndarray, *, held: bool) -> Fact:
    return Fact(TensorType(dtype_of(array.dtype), array.shape), Constant.of(array) if held else None)


def inferred(op: Room, *facts: Fact | None) -> tuple[TensorType, ...] | None:
    """Result types by the room's rule, after the check of the operands' kinds; None where a rank is not known.

    Raises:
        TypeRuleError: the operator does not take these operands.
    """
    check_operands(op, facts)
    try:
        types = op.infer(*facts)
    except UnknownRankError:
        types = op.unranked(*facts)
    return types if isinstance(types, tuple) else None if types is None else (types,)


def refuses(op: Room, arrays: Arrays, pattern: str, constants: Collection[int] | None = None) -> None:
    """The room's type rule refuses these operands, with a sentence that `pattern` (a regular expression) finds."""
    with pytest.raises(TypeRuleError, match=pattern):
        inferred(op, *facts_of(arrays, constants))


def compute(op: Room, arrays: Arrays, float_type: type[np.floating] | None = None) -> tuple[np.ndarray, ...]:
    """The kernel's results, floats widened to `float_type` first."""
    wide = [a if a is None or float_type is None or a.dtype.kind != "f" else a.astype(float_type) for a in arrays]
    with np.errstate(all="ignore"):
        made = op.kernel(*wide)
    made = made if isinstance(made, tuple) else (made,)
    assert all(isinstance(m, np.ndarray | np.generic) for m in made), f"{op.name}'s kernel gives {made!r}"
    return tuple(map(np.asarray, made))


def magnitudes(op: Room, arrays: Arrays) -> np.ndarray:
    """What a sum of products makes of its operands' absolute values: the scale of its rounding errors."""
    return compute(op, [None if a is None else np.abs(a) for a in arrays], np.float64)[0]


def close(
    theirs: np.ndarray, reference: np.ndarray, ulps: float = ULPS, scale: np.ndarray | None = None, steps: int = 0
) -> None:
    """Same shape, same places of NaN and infinities; |theirs - reference| <= ulps * eps * (|reference| + scale).

    The scale is what was summed, in absolute values, where a sum may cancel; by default, the result's root mean square.
    """
    assert theirs.shape == reference.shape
    if steps and theirs.dtype.kind in "iu":
        assert np.abs(theirs.astype(np.int64) - reference.astype(np.int64)).max(initial=0) <= steps
        return
    if theirs.dtype.kind not in "fc":
        np.testing.assert_array_equal(theirs, reference)
        return
    eps = float(np.finfo(theirs.dtype).eps)
    with np.errstate(all="ignore"):
        narrow = reference.astype(theirs.dtype)  # what overflows in float32 is infinite there
    finite = np.isfinite(narrow)
    np.testing.assert_array_equal(theirs[~finite], narrow[~finite])
    good, mine = theirs[finite].astype(np.float64), reference[finite].astype(np.float64)
    if good.size:
        summed = np.sqrt(np.mean(mine**2)) if scale is None else scale[finite]
        allowed = ulps * eps * (np.abs(mine) + summed) + np.finfo(theirs.dtype).tiny
        worst = np.max(np.abs(good - mine) / allowed)
        assert worst <= 1, f"off by {worst * ulps:.0f} ulps, {ulps} are allowed"


def _check_kernel(
    op: Room,
    arrays: Arrays,
    theirs: Sequence[np.ndarray],
    *,
    ulps: float,
    scale: np.ndarray | Sequence[np.ndarray | None] | None,
    exact: bool,
    steps: int,
) -> None:
    scales = [scale] * len(theirs) if scale is None or isinstance(scale, np.ndarray) else scale
    wide = compute(op, arrays, np.float64)
    plain = compute(op, arrays)
    assert len(wide) >= len(theirs)
    widened = {a.dtype for a in arrays if a is not None and a.dtype.kind == "f"} | {np.dtype(np.float32)}
    for i, result in enumerate(theirs):
        assert wide[i].dtype == (np.float64 if result.dtype in widened else result.dtype), "computes too narrowly"
        assert plain[i].dtype == result.dtype
        close(result, wide[i], ulps, scales[i], steps)
        close(plain[i], wide[i], ulps, scales[i], steps)
        if exact:
            np.testing.assert_array_equal(plain[i], result)


def _check_types(op: Room, known: Sequence[Fact | None], theirs: Sequence[np.ndarray]) -> None:
    """The rule's types fit what came out; with all data known they are exactly that."""
    types = inferred(op, *known)
    for i, result in enumerate(theirs):
        assert types is None or fits(types[i], result), f"{op.name} gives {result.dtype}{list(result.shape)}, {types}"
        assert types is None or types[i].dtype == dtype_of(result.dtype)


def fits(rule: TensorType, result: np.ndarray, values: Mapping[str, Dim] = MappingProxyType({})) -> bool:
    """Whether an array is of a type, with numbers in place of symbols; unnamed dims fit all."""
    if rule.dtype != dtype_of(result.dtype):
        return False
    if rule.shape is None:
        return True
    if len(rule.shape) != result.ndim:
        return False
    bound = [_bound(dim, values) for dim in rule.shape]
    return all(d is None or d == have for d, have in zip(bound, result.shape, strict=True))


def _bound(dim: Dim, values: Mapping[str, Dim]) -> Dim | None:
    """A dim with numbers in place of symbols; None where it has symbols without a number."""
    if not set(symbols(dim)) <= set(values):
        return None
    try:
        return substitute(dim, values)
    except ZeroDivisionError:
        return None


def _check_symbolic(op: Room, arrays: Arrays, constants: Collection[int], theirs: Sequence[np.ndarray]) -> None:
    """With symbols in place of dims the rule must hold too: of all operands that are not constants, or of some."""
    for axes in (None, {0}, {-1}):
        values: dict[str, Dim] = {}
        known = []
        for i, array in enumerate(arrays):
            if array is None or i in constants:
                known.append(None if array is None else _fact(array, held=True))
                continue
            chosen = range(array.ndim) if axes is None else {a % array.ndim for a in axes if array.ndim}
            shape = tuple(symbol(f"d{i}_{a}") if a in chosen else d for a, d in enumerate(array.shape))
            values.update({f"d{i}_{a}": array.shape[a] for a in chosen})
            known.append(Fact(TensorType(dtype_of(array.dtype), shape)))
        types = inferred(op, *known)
        for j, result in enumerate(theirs):
            assert types is None or fits(types[j], result, values), (
                f"{types[j]} with {values} is not {result.dtype}{list(result.shape)}"
            )
    unknown = [None if a is None else Fact(TensorType(dtype_of(a.dtype), None)) for a in arrays]
    for kind, result in zip(inferred(op, *unknown) or (), theirs, strict=False):
        assert fits(kind, result)


def is_symbolic_exact(op: Room, facts: Sequence[Fact | None]) -> bool:
    """Whether the rule knows every result dim without unnamed symbols."""
    types = inferred(op, *facts)
    return types is not None and all(
        t.shape is not None and not any(name.startswith("?") for d in t.shape for name in symbols(d)) for t in types
    )


def _check_elements(op: Room, arrays: Arrays, theirs: Sequence[np.ndarray]) -> None:
    """Contents of small integer tensors as dims: as numbers, and as symbols that take those numbers."""
    if Trait.SHAPE_ARITHMETIC not in op.traits or len(theirs) != 1 or theirs[0].dtype.kind not in "iub":
        return
    if any(a is not None and a.dtype.kind not in "iub" for a in arrays):
        return
    facts = facts_of(arrays)
    assert inferred(op, *facts) is not None
    elements = op.elements(*facts)
    if elements is not None:
        np.testing.assert_array_equal(elements, theirs[0])
    if any(a is not None and (np.abs(a) >= LARGEST_DIM).any() for a in arrays):
        return  # no dims
    for i, array in enumerate(arrays):
        if array is None or array.dtype != np.int64 or not (array >= 0).all():
            continue
        names = np.array([f"e{n}" for n in range(array.size)], object).reshape(array.shape)
        values = dict(zip(names.ravel(), array.ravel().tolist(), strict=True))
        known = np.empty(array.shape, object)
        known.ravel()[:] = [symbol(name) for name in values]
        told = replace(facts[i], constant=None, known=known)
        try:
            mixed = [*facts[:i], told, *facts[i + 1 :]]
            assert inferred(op, *mixed) is not None
            elements = op.elements(*mixed)
        except UnknownRankError:
            continue
        if elements is not None:
            bound = [_bound(e, values) for e in elements.ravel()]
            want = theirs[0].ravel().tolist()
            assert elements.shape == theirs[0].shape
            assert all(b is None or b == w for b, w in zip(bound, want, strict=True)), f"{bound} is not {want}"


def _check_forwards(op: Room, arrays: Arrays, constants: Collection[int]) -> None:
    """Where the room says that the result is an operand, it is: same type, same bits."""
    index = op.forwards(*facts_of(arrays, constants))
    if index is None:
        return
    array = arrays[index]
    assert array is not None
    made = compute(op, arrays)[0]
    assert made.dtype == array.dtype
    assert made.shape == array.shape
    assert np.ascontiguousarray(made).tobytes() == np.ascontiguousarray(array).tobytes()


def _check_against_onnx(proto: onnx.ModelProto, theirs: Sequence[np.ndarray]) -> None:
    """Onnx's inference, which must not contradict what came out (else the test case itself is in doubt)."""
    told = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
    for info, result in zip(told.graph.output, theirs, strict=True):
        kind = info.type.tensor_type
        assert kind.elem_type in (0, _code(result))
        if kind.HasField("shape"):
            dims = [d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim]
            assert len(dims) == result.ndim
            assert all(d in (None, have) for d, have in zip(dims, result.shape, strict=True))


# What rewrites ask


def check_linear(op: Room, arrays: Arrays, seed: int = 0) -> None:
    """A room's `LinearWeights`: scaled weights and the bias of `with_bias` scale and shift the result by channel."""
    assert isinstance(op, LinearWeights)
    known = facts_of(arrays)
    axis, count = op.channels(known)
    rng = np.random.default_rng(seed)
    scale, shift = rng.standard_normal((2, count))
    wide = [None if a is None else a.astype(np.float64) for a in arrays]
    (plain,) = compute(op, wide)
    by_channel = (-1,) + (1,) * (plain.ndim - 1 - axis)
    wanted = plain * scale.reshape(by_channel) + shift.reshape(by_channel)
    weight = arrays[op.weight]
    assert weight is not None
    scaled = [*wide, None][: max(len(wide), (op.bias or 0) + 1)]
    scaled[op.weight] = weight.astype(np.float64) * op.weight_scale(scale, weight.shape)
    if op.bias is None:
        (made,) = compute(op, scaled)
        made = made + shift.reshape(by_channel)
    else:
        given = wide[op.bias] if len(wide) > op.bias else None
        scaled[op.bias] = op.with_bias(given, scale, shift)
        folded = op.folded()
        assert isinstance(folded, Room)
        assert inferred(folded, *facts_of(scaled)) is not None
        (made,) = compute(folded, scaled)
    np.testing.assert_allclose(made, wanted, rtol=1e-9, atol=1e-9)


# Adapters


def check_old(
    op_type: str,
    arrays: Arrays,
    attributes: Mapping[str, object],
    opset: int,
    *,
    constants: Collection[int] = (),
    results: int = 1,
    ulps: float = ULPS,
    scale: np.ndarray | None = None,
    down: str | None = None,
    run: Runner | None = None,
) -> Room:
    """A node written for an older opset gives the same numbers through its room, and when it is taken down again.

    `down` is a regular expression for the refusal where it cannot be taken down, `run` what to compare with (`run_ort`
    by default). The room is given back.
    """
    names = [f"x{i}" if a is not None else "" for i, a in enumerate(arrays)]
    inputs = {name or f"left{i}": a for i, (name, a) in enumerate(zip(names, arrays, strict=True))}
    held = {names[i] for i in constants}
    run = run or run_ort
    theirs = run(op_type, inputs, attributes, opset=opset, constants=held, results=results)
    written = model(op_type, inputs, attributes, opset=opset, constants=held).graph.node[0]
    bound = {a.name: read_attribute(a) for a in written.attribute}
    made = tuple(f"r{i}" for i in range(results))
    op, step = upgrade("", op_type, Step(bound, tuple(names), made, facts_of(arrays, constants)), opset)
    assert isinstance(op, Room), f"{op_type} of opset {opset} stays opaque"
    table = {name: a for name, a in zip(names, arrays, strict=True) if a is not None}
    raised = _looked_up(step.operands, table)
    mine = compute(op, raised, np.float64)
    for result, reference in zip(theirs, mine, strict=False):
        close(result, reference, ulps, scale)
    new = {i for i, o in enumerate(step.operands) if isinstance(o, Constant) or o in held}
    _check_types(op, facts_of(raised, new), theirs)
    again = replace(step, facts=facts_of(raised, new), attributes=op.attributes)
    if down is not None:
        with pytest.raises(OpsetError, match=down):
            downgrade(op, again, opset)
        return op
    lowered = downgrade(op, again, opset)
    old = _looked_up(lowered.operands, table)
    numbered = {f"y{i}": a for i, a in enumerate(old)}
    kept = {f"y{i}" for i, o in enumerate(lowered.operands) if isinstance(o, Constant) or o in held}
    final = run(op_type, numbered, lowered.attributes, opset=opset, constants=kept, results=results)
    for first, second in zip(theirs, final, strict=True):
        np.testing.assert_array_equal(first, second)
    return op


def stays_opaque(op_type: str, arrays: Arrays, attributes: Mapping[str, object], opset: int) -> bool:
    """Whether a node of an older opset cannot be taken up, its operands being of known types."""
    names = tuple(f"x{i}" if a is not None else "" for i, a in enumerate(arrays))
    bound = {key: read_attribute(_attribute(key, value)) for key, value in attributes.items()}
    op, _ = upgrade("", op_type, Step(bound, names, ("r",), facts_of(arrays, ())), opset)
    return op.is_opaque


def read_attribute(proto: onnx.AttributeProto) -> Attribute:
    """An attribute as the IR holds it."""
    value = helper.get_attribute_value(proto)
    kind = Kind(proto.type)
    if kind is Kind.TENSOR:
        return Attribute(kind, Constant.of(numpy_helper.to_array(value)))
    return Attribute(kind, tuple(map(_text, value)) if kind.name.endswith("S") else _text(value))


def _text(value: object) -> object:
    return value.decode() if isinstance(value, bytes) else value


def _looked_up(operands: Sequence[str | Constant], table: Mapping[str, np.ndarray]) -> list[np.ndarray | None]:
    return [o.array() if isinstance(o, Constant) else table.get(o) for o in operands]


# Arrays to test with


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Random float32 numbers of the standard normal distribution, the same for the same shape and seed."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)
