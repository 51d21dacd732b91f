"""The tracer: runs a function once on symbolic values and writes down the graph that it computes.

graph = graphopt.trace(lambda x: ops.relu(x + 1), x=graphopt.f32["N", 3, 224, 224])
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

import graphopt
from graphopt.errors import TypeRuleError, UsageError
from graphopt.ir.constant import Constant
from graphopt.ir.graph import Graph, ModelInfo, Value
from graphopt.ir.types import TensorType
from graphopt.nn.module import SCOPE, Module, Parameter
from graphopt.ops.bind import Like, Operand
from graphopt.ops.infer import infer
from graphopt.ops.room import Room

TRACED_OPSET = 21  # what a traced graph is written in unless `--opset` says otherwise
_PACKAGE = str(Path(graphopt.__file__).parent)

Outputs: TypeAlias = Operand | Sequence[Operand] | Mapping[str, Operand]


class Traced(Operand):
    """A symbolic value: applying an operator to it writes a node."""

    def __init__(self, trace: _Trace, value: Value) -> None:
        self._trace = trace
        self.value = value

    @property
    def type(self) -> TensorType:
        """Element type and shape, with symbolic dims."""
        kind = self.value.type
        if not isinstance(kind, TensorType):
            raise UsageError(f"the type of `{self.value.name}` is not known")
        return kind

    @property
    def shape(self) -> tuple[object, ...]:
        """The dims: integers, and symbols with arithmetic."""
        return self.type.shape or ()

    def bind(self, op: Room, operands: Sequence[Operand | None], results: int) -> tuple[Operand, ...]:
        """Write a node.

        Raises:
            TypeRuleError: the operator does not take these operands; names operator, operands, shapes and line.
        """
        return self._trace.node(op, operands, results)

    def lift(self, value: Like) -> Operand:
        """A constant of the graph; a parameter keeps its name and is one constant however often it is used."""
        return self._trace.constant(value, self.type)

    def __bool__(self) -> bool:
        raise UsageError(
            f"{_user_line()}: the truth of a traced value is not known while the graph is captured; "
            "compute with it, or decide on Python values"
        )

    def __repr__(self) -> str:
        return repr(self.value)


class _Trace:
    def __init__(self, name: str) -> None:
        self.graph = Graph(name, ModelInfo(opsets={"": TRACED_OPSET}))
        self.parameters: dict[int, tuple[Parameter, Value]] = {}
        self.counts: dict[str, int] = {}

    def node(self, op: Room, operands: Sequence[Operand | None], results: int) -> tuple[Operand, ...]:
        values = [None if o is None else _value(o, self) for o in operands]
        scope = SCOPE.get()
        label = f"{scope}.{op.name}" if scope else op.name
        serial = self.counts.get(label, 0)
        self.counts[label] = serial + 1
        name = label if serial == 0 else f"{label}_{serial}"
        made = [Value(self.graph.fresh_name(name)) for _ in range(results)]
        node = self.graph.append(op, values, made, name=name, origins=(name,))
        try:
            for result, known in zip(node.results, infer(node), strict=True):
                result.type, result.elements = known
        except TypeRuleError as error:
            shapes = ", ".join(f"{s.name}: {v.type}" for s, v in zip(op.slots, values, strict=False) if v is not None)
            self.graph.erase(node)
            raise TypeRuleError(f"{_user_line()}: {op.name}({shapes}): {error}") from None
        return tuple(Traced(self, r) for r in node.results)

    def constant(self, value: Like, like: TensorType) -> Traced:
        if isinstance(value, Parameter):
            known = self.parameters.get(id(value))
            if known is None:
                made = self.graph.add_constant(Value(self.graph.fresh_name(value.name or "p"), constant=value.constant))
                known = self.parameters[id(value)] = (value, made)
            return Traced(self, known[1])
        scalar = isinstance(value, bool | int | float)
        array = np.asarray(value, like.dtype.numpy) if scalar else np.asarray(value)
        scope = SCOPE.get()
        return Traced(self, self.graph.add_constant(Constant.of(array), f"{scope}.constant" if scope else "constant"))


def _value(operand: Operand, trace: _Trace) -> Value:
    if not isinstance(operand, Traced) or operand._trace is not trace:
        raise UsageError(f"{_user_line()}: a value of another trace was used")
    return operand.value


def _user_line() -> str:
    """File and line of the caller outside this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and (
        frame.f_code.co_filename.startswith(_PACKAGE) and "zoo" not in frame.f_code.co_filename
    ):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


def trace(function: Callable[..., Outputs], /, **inputs: TensorType) -> Graph:
    """The graph that `function` computes on inputs of these types.

    Args:
        function: takes the inputs by name, or a module that takes one; computes with `graphopt.ops`; gives one
            value, several in order, or a dict of named outputs.
        inputs: names and types, as `x=graphopt.f32["N", 3, 224, 224]`.

    Raises:
        TypeRuleError: an operator does not take its operands; the sentence names it, the shapes and your line.
        UsageError: no inputs, or something else than traced values came back.
    """
    if not inputs:
        raise UsageError('trace needs at least one input, as in x=graphopt.f32["N", 3]')
    name = type(function).__name__ if isinstance(function, Module) else getattr(function, "__name__", "graph")
    tracing = _Trace(name)
    graph = tracing.graph
    operands = {n: Traced(tracing, graph.add_input(Value(n, kind))) for n, kind in inputs.items()}
    given = function(*operands.values()) if isinstance(function, Module) else function(**operands)
    for i, (output, operand) in enumerate(_named(given).items()):
        value = _value(operand, tracing)
        if value.producer is None or value.is_output:
            value = _copied(tracing, value)
        if output not in graph._state.names:
            graph.rename(value, output)
        graph.set_output(i, value)
    return graph.seal()


def _copied(tracing: _Trace, value: Value) -> Value:
    from graphopt.ops.shape import Identity

    (copy,) = tracing.node(Identity(), [Traced(tracing, value)], 1)
    return _value(copy, tracing)


def _named(given: Outputs) -> dict[str, Operand]:
    if isinstance(given, Operand):
        return {"y": given}
    if isinstance(given, Mapping):
        return dict(given)
    if isinstance(given, Sequence) and given and all(isinstance(g, Operand) for g in given):
        return {f"y{i}": g for i, g in enumerate(given)}
    raise UsageError(f"a traced function gives traced values, and this one gave {type(given).__name__}")
