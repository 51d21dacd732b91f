"""Checks of a draft before it is committed: types, and numbers on a specimen of the site.

A *specimen* is the site cut out: two small graphs over the same inputs, the matched nodes and their replacement.
They are evaluated on seeded random inputs, by the rule for "equal" (see `graphopt.analysis.equal`): EXACT rules
bit for bit, the others within a small multiple of the rounding error that the matched nodes make themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from graphopt.analysis.cost import macs, number
from graphopt.analysis.equal import compare, same_bits
from graphopt.analysis.evaluate import reads, run_nodes
from graphopt.errors import GraphoptError, TypeRuleError
from graphopt.ir.dims import Dim, is_anonymous
from graphopt.ir.graph import Graph, Node, Value, copy_nodes
from graphopt.ir.types import TensorType, is_refinement
from graphopt.ops.algebra import LinearWeights, Refused
from graphopt.ops.infer import infer
from graphopt.ops.room import NoKernelError
from graphopt.rewrite.rule import Class, Rule
from graphopt.rewrite.site import Draft, Patch, Site

SMALL_BATCH = 2  # a batch of one hides mistakes in the first axis
SMALL_EXTENT = 7  # spatial extent for checks: wider than common kernels, so that borders and insides both count
BUDGET_MACS = 20_000_000  # larger specimens are evaluated only by `--check every`


class CheckFailed(GraphoptError):  # noqa: N818  # "failed" says it
    """A draft that is not equal to what it would replace."""


@dataclass(frozen=True)
class Specimen:
    """A site cut out: the matched nodes and their replacement, over the same inputs and outputs, in order."""

    before: Graph
    after: Graph


def new_value(replacement: Draft | Value) -> Value:
    """The value that a replacement stands for."""
    return replacement.value if isinstance(replacement, Draft) else replacement


def needed_nodes(site: Site, patch: Patch) -> list[Node]:
    """The draft's nodes that a replaced value depends on, in the order in which they were made."""
    wanted: set[Node] = set()
    stack = [new_value(new) for _, new in patch.replace]
    drafted = set(site.nodes)
    while stack:
        producer = stack.pop().producer
        if producer in drafted and producer not in wanted and producer is not None:
            wanted.add(producer)
            stack.extend(reads(producer))
    return [n for n in site.nodes if n in wanted]


def check_types(patch: Patch) -> None:
    """Every replacement has the type of what it replaces, and no dim is known otherwise.

    Raises:
        CheckFailed: the types contradict each other.
        Refused: less would be known.
    """
    for old, replacement in patch.replace:
        new = new_value(replacement)
        if is_refinement(new.type, old.type) or _is_vaguer(new.type, old.type):
            continue
        if isinstance(new.type, TensorType) and isinstance(old.type, TensorType):
            differs = new.type.dtype != old.type.dtype or (
                new.type.rank is not None and old.type.rank is not None and new.type.rank != old.type.rank
            )
            clash = not differs and any(
                isinstance(a, int) and isinstance(b, int) and a != b
                for a, b in zip(new.type.shape or (), old.type.shape or (), strict=False)
            )
            if differs or clash:
                raise CheckFailed(f"`{old.name}` is {old.type}, and its replacement would be {new.type}")
        raise Refused(f"`{old.name}` is {old.type}, and its replacement is only known to be {new.type}")


def _is_vaguer(new: object, old: object) -> bool:
    """Whether the types differ only where nothing is known of the new dim: then what is known of the old one holds."""
    if not isinstance(new, TensorType) or not isinstance(old, TensorType) or new.dtype != old.dtype:
        return False
    if new.shape is None or old.shape is None or len(new.shape) != len(old.shape):
        return False
    return all(n == o or is_anonymous(n) or is_anonymous(o) for n, o in zip(new.shape, old.shape, strict=True))


def specimen(site: Site, patch: Patch) -> Specimen:
    """Cut out a site."""
    matched = sorted(site.match.order, key=lambda n: n._position)
    drafted = needed_nodes(site, patch)
    reused = _reused(matched, drafted, patch)
    inner = {r for n in matched for r in n.results}
    boundary: dict[Value, None] = {}
    for node in (*matched, *drafted):
        for value in reads(node):
            if not value.is_constant and value not in inner and value.producer not in drafted:
                boundary[value] = None
    for _, new in patch.replace:
        value = new_value(new)
        if value.producer not in drafted and value not in inner and not value.is_constant:
            boundary[value] = None
    return Specimen(
        _cut(matched, boundary, [old for old, _ in patch.replace]),
        _cut([*reused, *drafted], boundary, [new_value(new) for _, new in patch.replace]),
    )


def _reused(matched: list[Node], drafted: list[Node], patch: Patch) -> list[Node]:
    """Matched nodes that the replacement goes on using."""
    wanted: set[Node] = set()
    stack = [new_value(new) for _, new in patch.replace] + [o for n in drafted for o in n.operands if o is not None]
    while stack:
        producer = stack.pop().producer
        if producer in matched and producer is not None and producer not in wanted:
            wanted.add(producer)
            stack.extend(o for o in producer.operands if o is not None)
    return [n for n in matched if n in wanted]


def _cut(nodes: Iterable[Node], boundary: Iterable[Value], outputs: list[Value]) -> Graph:
    graph = Graph("site")
    mapping: dict[Value, Value] = {}
    nodes = list(nodes)
    for value in boundary:
        mapping[value] = graph.add_input(Value(graph.fresh_name(value.name), value.type))
    for read in (*(v for n in nodes for v in reads(n)), *outputs):
        if read.is_constant and read not in mapping:
            mapping[read] = graph.add_constant(Value(graph.fresh_name(read.name), read.type, read.constant))
    copy_nodes(nodes, graph, mapping)
    for i, value in enumerate(outputs):
        graph.set_output(i, mapping[value])
    return graph


def check_numbers(rule: Rule, cut: Specimen, *, seeds: int = 2, limit: int | None = BUDGET_MACS) -> bool:
    """Evaluate a specimen on seeded inputs; False where it cannot be evaluated, or would cost more than `limit` MACs.

    Raises:
        CheckFailed: the two sides differ by more than the rule's class allows.
    """
    if not _shrink(cut):
        return False
    if limit is not None and _macs(cut.before) > limit:
        return False
    for seed in range(seeds):
        feeds = [_sample(v, seed, i) for i, v in enumerate(cut.before.inputs)]
        if any(f is None for f in feeds):
            return False
        known = [f for f in feeds if f is not None]
        try:
            original = _outputs(cut.before, known, None)
        except (NoKernelError, TypeRuleError):  # what a node holds in graphs may take other shapes alone
            return False
        try:
            native = _outputs(cut.after, known, None), original
            if rule.cls is Class.EXACT:
                _compare_bits(cut, *native)
                continue
            wide = _outputs(cut.after, known, np.float64), _outputs(cut.before, known, np.float64)
        except NoKernelError:
            return False
        for i, value in enumerate(cut.before.outputs):
            verdict = compare(
                reference=wide[1][i],
                noise=[native[1][i]],
                results=[native[0][i], wide[0][i]],
                dtype=native[1][i].dtype,
            )
            if not verdict.equal:
                raise CheckFailed(f"`{value.name}` differs: {verdict}")
    return True


def _compare_bits(cut: Specimen, after: list[np.ndarray], before: list[np.ndarray]) -> None:
    for value, a, b in zip(cut.before.outputs, after, before, strict=True):
        if not same_bits(a, b):
            raise CheckFailed(f"`{value.name}` does not keep its bits")


def _outputs(graph: Graph, feeds: list[np.ndarray], float_type: type[np.floating] | None) -> list[np.ndarray]:
    values: dict[Value, np.ndarray] = dict(zip(graph.inputs, feeds, strict=True))
    for value in graph.constants:
        if value.constant is not None:
            values[value] = value.constant.array()
    with np.errstate(all="ignore"):
        run_nodes(graph.nodes, values, float_type)
    return [values[v] for v in graph.outputs]


def _sample(value: Value, seed: int, place: int) -> np.ndarray | None:
    """Seeded data for a specimen's input: normal, then uniform; small integers; None for other types."""
    if not isinstance(value.type, TensorType) or not value.type.is_static:
        return None
    shape, dtype = value.type.static_shape, value.type.dtype
    rng = np.random.default_rng([seed, place])
    if dtype.is_float:
        data = rng.standard_normal(shape) if seed % 2 == 0 else rng.random(shape)
        return data.astype(dtype.numpy)
    if dtype.is_integer:
        return rng.integers(0, 4, shape).astype(dtype.numpy)
    return rng.integers(0, 2, shape).astype(bool) if dtype.kind == "bool" else None


def _shrink(cut: Specimen) -> bool:
    """Give the specimen's inputs small static shapes that both sides accept; False where none is found."""
    originals = [v.type for v in cut.before.inputs]
    is_local = any(isinstance(n.op, LinearWeights) for n in cut.before.nodes)  # then fixed extents may shrink too
    for extent in (SMALL_EXTENT, 2 * SMALL_EXTENT, None) if is_local else (None, SMALL_EXTENT):
        types = [_small(t, extent, fixed=not is_local) for t in originals]
        for before, after, kind in zip(cut.before.inputs, cut.after.inputs, types, strict=True):
            before.type = after.type = kind
        if _retype(cut.before) and _retype(cut.after) and _agree(cut, shrunk=extent is not None):
            return True
    return False


def _small(kind: object, extent: int | None, *, fixed: bool) -> TensorType | None:
    if not isinstance(kind, TensorType) or kind.shape is None:
        return None
    bound: Mapping[str, int] = {}

    def dim(position: int, d: Dim) -> int:
        if isinstance(d, int):
            return min(d, extent) if position >= 2 and extent is not None and not fixed else d
        if position == 0:
            return SMALL_BATCH
        return number(d, bound) if extent is None else extent

    return kind.with_shape(tuple(dim(i, d) for i, d in enumerate(kind.shape)))


def _retype(graph: Graph) -> bool:
    for node in graph.nodes:
        if not all(_retype(inner) for inner in node.op.graphs):
            return False
        for result in node.results:
            result.type, result.elements = None, None
        try:
            inferred = infer(node)
        except (TypeRuleError, ValueError, IndexError, TypeError, ZeroDivisionError):
            return False
        for result, known in zip(node.results, inferred, strict=True):
            result.type, result.elements = known
    return True


def _agree(cut: Specimen, *, shrunk: bool) -> bool:
    """Whether both sides have the same static result types.

    Raises:
        CheckFailed: they cannot be equal (where shapes were shrunk, only element types say so).
    """
    for a, b in zip(cut.before.outputs, cut.after.outputs, strict=True):
        if not isinstance(a.type, TensorType) or not isinstance(b.type, TensorType):
            return False
        differ = a.type.is_static and b.type.is_static and a.type.shape != b.type.shape
        if a.type.dtype != b.type.dtype or (differ and not shrunk):
            raise CheckFailed(f"`{a.name}` is {a.type}, and its replacement gives {b.type}")
        if differ or not a.type.is_static or 0 in a.type.static_shape:
            return False
    return True


def _macs(graph: Graph) -> int:
    return sum(number(macs(n), {}) for n in graph.nodes)
