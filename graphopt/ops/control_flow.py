"""Control flow: If, Loop, Scan and SequenceMap, which run the graphs in their attributes.

Types flow both ways. A body's inputs have the types that the operands give them (`starts`), and the results those that
the bodies' outputs have. What a loop carries (`fed_back`) may change its shape from one iteration to the next: whoever
reads a model asks for the types that hold in every iteration, see `ops.bodies`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np

from graphopt.errors import GraphError, OpsetError, TypeRuleError
from graphopt.ir.types import SequenceType, TensorType, Type, boolean, i64, join
from graphopt.ops.adapters import same
from graphopt.ops.room import (
    ANY,
    BOOL,
    INTEGER,
    OPTIONAL,
    SEQUENCE,
    Adapter,
    Collection,
    Fact,
    Room,
    Step,
    operand,
    operator,
    unknown_dim,
)
from graphopt.ops.sequence import one_of, packed

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph

Known: TypeAlias = Fact | Collection | None
Call: TypeAlias = "Callable[[Graph, Sequence[np.ndarray]], list[np.ndarray]]"

T = TypeVar("T")
ALL = ANY | SEQUENCE | OPTIONAL
MAX_TRIPS = 100_000  # of a loop in the interpreter, which may be one that never ends


class ControlFlow(Room):
    """An operator that runs graphs."""

    def starts(self, *facts: Known) -> tuple[list[Type | None], ...]:
        """The types of the inputs of each graph when it runs for the first time, None where nothing is known."""
        return tuple([None] * len(g.inputs) for g in self.graphs)

    @property
    def fed_back(self) -> dict[int, int]:
        """Inputs of a body that have the value of an output of its last run, by index."""
        return {}

    def is_pure(self, *facts: Fact | None) -> bool:
        """Whether all that the graphs do depends on what they read alone."""
        from graphopt.ops.infer import facts as facts_of

        inner = (n for g in self.graphs for n in g.nodes)  # each asks those in its own graphs
        return all(isinstance(n.op, Room) and n.op.is_pure(*facts_of(n)) for n in inner)


def _one_of(a: Type | None, b: Type | None) -> Type | None:
    try:
        return join(a, b, unknown_dim)
    except GraphError as error:
        raise TypeRuleError(str(error)) from None


def _is_true(condition: np.ndarray) -> bool:
    return bool(condition.reshape(()))


@operator("If", since=1)
class If(ControlFlow):
    """The outputs of one graph or the other. ONNX If-25."""

    condition = operand(BOOL)
    then_branch: Graph
    else_branch: Graph

    def infer(self, condition: Fact | None) -> tuple[Type | None, ...]:
        size = condition.type.size if condition is not None else 1
        if isinstance(size, int) and size != 1:
            raise TypeRuleError(f"the condition of {size} elements is not one")
        then, other = self.then_branch.outputs, self.else_branch.outputs
        if len(then) != len(other):
            raise TypeRuleError(f"the branches have {len(then)} and {len(other)} outputs")
        return tuple(_one_of(a.type, b.type) for a, b in zip(then, other, strict=True))

    def run(self, call: Call, condition: np.ndarray) -> tuple[np.ndarray, ...]:
        """The outputs of the branch that the condition chooses."""
        return tuple(call(self.then_branch if _is_true(condition) else self.else_branch, ()))


def _loop_down(step: Step) -> Step:
    if len(step.operands) <= Loop.least:
        raise OpsetError("Loop that carries nothing needs opset 11")
    return step


@operator("Loop", since=1)
class Loop(ControlFlow):
    """Runs the body up to `trips` times while the condition holds; what it carries, and scans. ONNX Loop-25.

    The body takes the iteration's number, the condition and what is carried, and gives the condition, what is
    carried, and an element of each scan, whose elements are stacked along a new first axis.
    """

    trips = operand(INTEGER, optional=True)
    condition = operand(BOOL, optional=True)
    carried = operand(ALL, optional=True, variadic=True)
    body: Graph
    least = 2  # what ONNX asks for, although both are optional
    adapters = (Adapter(11, same, _loop_down),)

    def infer(
        self, trips: Fact | None = None, condition: Fact | None = None, *carried: Known
    ) -> tuple[Type | None, ...]:
        outputs = [v.type for v in self.body.outputs]
        if len(self.body.inputs) != 2 + len(carried) or len(outputs) < 1 + len(carried):
            raise TypeRuleError(
                f"the body has {len(self.body.inputs)} inputs and {len(outputs)} outputs, and {len(carried)} values "
                "are carried"
            )
        kept = [_one_of(_type(c), o) for c, o in zip(carried, outputs[1:], strict=False)]
        count = trips.integers[0] if trips is not None and trips.integers and condition is None else None
        certain = count is not None and self.body.outputs[0] is self.body.inputs[1]  # the body never ends it
        stacked = [
            _stacked(t, max(count, 0) if certain and count is not None else None) for t in outputs[1 + len(carried) :]
        ]
        return (*kept, *stacked)

    def starts(self, *facts: Known) -> tuple[list[Type | None], ...]:
        return ([TensorType(i64, ()), TensorType(boolean, ()), *map(_type, facts[2:])],)

    @property
    def fed_back(self) -> dict[int, int]:
        return {i: i - 1 for i in range(2, len(self.body.inputs))}

    def run(
        self, call: Call, trips: np.ndarray | None = None, condition: np.ndarray | None = None, *carried: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """What is carried in the end, and the scans."""
        limit = None if trips is None else int(trips.reshape(()))
        going = np.asarray(True if condition is None else _is_true(condition))
        scans: list[list[np.ndarray]] = [[] for _ in self.body.outputs[1 + len(carried) :]]
        trip = 0
        while (limit is None or trip < limit) and going:
            if trip == MAX_TRIPS:
                raise TypeRuleError(f"it runs more than {MAX_TRIPS:,} times")
            going, *made = call(self.body, (np.asarray(trip, np.int64), going, *carried))
            carried = tuple(made[: len(carried)])
            for scan, element in zip(scans, made[len(carried) :], strict=True):
                scan.append(element)
            trip += 1
        return (
            *carried,
            *(_stack(s, v.type) for s, v in zip(scans, self.body.outputs[1 + len(carried) :], strict=True)),
        )


def _type(known: Known) -> Type | None:
    return None if known is None else known.type


def _stacked(element: Type | None, count: int | None) -> Type | None:
    if not isinstance(element, TensorType):
        return None
    first = unknown_dim() if count is None else count
    return element.with_shape(None if element.shape is None else (first, *element.shape))


def _stack(elements: Sequence[np.ndarray], kind: Type | None) -> np.ndarray:
    if elements:
        return np.stack(elements)
    if not isinstance(kind, TensorType) or not kind.is_static:
        raise TypeRuleError("a loop that does not run scans nothing, of a shape that is not known")
    return np.zeros((0, *kind.static_shape), kind.dtype.numpy)


def _scan_had_a_batch(step: Step) -> Step:
    raise OpsetError("Scan with a batch axis and sequence lengths is of opset 8 only: it cannot be taken to another")


def _scan_down(step: Step) -> Step:
    raise OpsetError("Scan over any axis of tensors without a batch needs opset 9")


@operator("Scan", since=8)
class Scan(ControlFlow):
    """Runs the body for each element of the scanned operands along their axes. ONNX Scan-25.

    The body takes what is carried and an element of each scanned operand, and gives what is carried and an element of
    each scan. The last `num_scan_inputs` operands are scanned; a direction of 1 goes from the last to the first.
    """

    carried = operand(ANY, variadic=True)
    body: Graph
    num_scan_inputs: int
    scan_input_axes: tuple[int, ...] | None = None
    scan_input_directions: tuple[int, ...] | None = None
    scan_output_axes: tuple[int, ...] | None = None
    scan_output_directions: tuple[int, ...] | None = None
    adapters = (Adapter(9, _scan_had_a_batch, _scan_down),)

    def infer(self, *facts: Known) -> tuple[Type | None, ...]:
        kept, scanned = self._parts(facts)
        if len(self.body.inputs) != len(facts) or len(self.body.outputs) < len(kept):
            raise TypeRuleError(
                f"the body has {len(self.body.inputs)} inputs and {len(self.body.outputs)} outputs for "
                f"{len(facts)} operands, {len(kept)} of them carried"
            )
        outputs = [v.type for v in self.body.outputs]
        results = [_one_of(_type(c), o) for c, o in zip(kept, outputs, strict=False)]
        axes = _filled(self.scan_input_axes, len(scanned))
        lengths = [
            x.type.shape[_axis(a, len(x.type.shape))]
            for x, a in zip(scanned, axes, strict=True)
            if isinstance(x, Fact) and x.type.shape
        ]
        length = next((d for d in lengths if isinstance(d, int)), lengths[0] if lengths else unknown_dim())
        scans = outputs[len(kept) :]
        for kind, axis in zip(scans, _filled(self.scan_output_axes, len(scans)), strict=True):
            if not isinstance(kind, TensorType) or kind.shape is None:
                results.append(kind)
                continue
            at = _axis(axis, len(kind.shape) + 1)
            results.append(kind.with_shape((*kind.shape[:at], length, *kind.shape[at:])))
        return tuple(results)

    def starts(self, *facts: Known) -> tuple[list[Type | None], ...]:
        kept, scanned = self._parts(facts)
        axes = _filled(self.scan_input_axes, len(scanned))
        return ([*map(_type, kept), *(_element(_type(x), a) for x, a in zip(scanned, axes, strict=True))],)

    @property
    def fed_back(self) -> dict[int, int]:
        return {i: i for i in range(len(self.body.inputs) - self.num_scan_inputs)}

    def _parts(self, operands: Sequence[T]) -> tuple[Sequence[T], Sequence[T]]:
        count = len(operands) - self.num_scan_inputs
        if not 0 <= count <= len(operands) or self.num_scan_inputs < 1:
            raise TypeRuleError(f"{self.num_scan_inputs} of {len(operands)} operands are to be scanned")
        return operands[:count], operands[count:]

    def run(self, call: Call, *operands: np.ndarray) -> tuple[np.ndarray, ...]:
        """What is carried in the end, and the scans."""
        kept, scanned = self._parts(operands)
        axes = _filled(self.scan_input_axes, len(scanned))
        moved = [np.moveaxis(x, a, 0) for x, a in zip(scanned, axes, strict=True)]
        back = _filled(self.scan_input_directions, len(scanned))
        moved = [x[::-1] if b else x for x, b in zip(moved, back, strict=True)]
        scans: list[list[np.ndarray]] = [[] for _ in self.body.outputs[len(kept) :]]
        for i in range(len(moved[0])):
            made = call(self.body, (*kept, *(x[i] for x in moved)))
            kept = made[: len(kept)]
            for scan, element in zip(scans, made[len(kept) :], strict=True):
                scan.append(element)
        types = [v.type for v in self.body.outputs[len(kept) :]]
        turned = _filled(self.scan_output_directions, len(scans))
        stacked = [_stack(s[::-1] if b else s, t) for s, b, t in zip(scans, turned, types, strict=True)]
        places = _filled(self.scan_output_axes, len(scans))
        return (*kept, *(np.moveaxis(s, 0, a) for s, a in zip(stacked, places, strict=True)))


def _filled(given: tuple[int, ...] | None, count: int) -> tuple[int, ...]:
    """A list of axes or directions, 0 where none is given."""
    given = given or (0,) * count
    if len(given) != count:
        raise TypeRuleError(f"{len(given)} axes or directions are given for {count} scans")
    return given


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise TypeRuleError(f"the axis {axis} is none of a tensor of rank {rank}")
    return axis % rank


def _element(kind: Type | None, axis: int) -> Type | None:
    if not isinstance(kind, TensorType) or not kind.shape:
        return TensorType(kind.dtype, None) if isinstance(kind, TensorType) else None
    at = _axis(axis, len(kind.shape))
    return kind.with_shape((*kind.shape[:at], *kind.shape[at + 1 :]))


@operator("SequenceMap", since=17)
class SequenceMap(ControlFlow):
    """The body's outputs for each element of sequences, as sequences; tensors go to every run. ONNX SequenceMap-17."""

    sequence = operand(SEQUENCE)
    others = operand(ANY | SEQUENCE, optional=True, variadic=True)
    body: Graph

    def infer(self, *facts: Known) -> tuple[Type | None, ...]:
        if len(self.body.inputs) != len(facts):
            raise TypeRuleError(f"the body has {len(self.body.inputs)} inputs, and {len(facts)} operands are given")
        return tuple(SequenceType(v.type) for v in self.body.outputs)

    def starts(self, *facts: Known) -> tuple[list[Type | None], ...]:
        return ([one_of(k.type.element) if isinstance(k, Collection) else _type(k) for k in facts],)

    def run(self, call: Call, *operands: np.ndarray) -> tuple[np.ndarray, ...]:
        """The sequences of outputs."""
        count = len(operands[0])
        runs = [call(self.body, [o[i] if o.dtype == object else o for o in operands]) for i in range(count)]
        return tuple(packed(run[k] for run in runs) for k in range(len(self.body.outputs)))
