"""The tracer: runs a function once on symbolic values and writes down the graph that it computes.

graph = graphopt.trace(lambda x: ops.relu(x + 1), x=graphopt.f32["N", 3, 224, 224])
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from itertools import chain, repeat
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
from graphopt.ops.shape import Identity

TRACED_OPSET = 21  # what a traced graph is written in unless `--opset` says otherwise
_PACKAGE = Path(graphopt.__file__).parent
_ZOO = _PACKAGE / "frontends" / "zoo"  # its networks are users of the tracer like any other

Outputs: TypeAlias = Operand | Sequence[Operand] | Mapping[str, Operand]


class Traced(Operand):
    """A symbolic value: applying an operator to it writes a node."""

    __array_ufunc__ = None  # an array on the left leaves arithmetic to this class instead of doing it by element

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
        hints = [name] if results == 1 else [f"{name}.{i}" for i in range(results)]
        made = [Value(self.graph.fresh_name(hint)) for hint in hints]
        node = self.graph.append(op, values, made, name=name, origins=(name,))
        try:
            for result, known in zip(node.results, infer(node), strict=True):
                result.type, result.elements = known
        except (TypeRuleError, ValueError, IndexError, TypeError) as error:
            shapes = ", ".join(f"{n}: {v.type}" for n, v in zip(_names(op), values, strict=False) if v is not None)
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


def _names(op: Room) -> Iterator[str]:
    """The names of the operands, the last one again and again where it stands for any number."""
    names = [s.name for s in op.slots]
    return chain(names, repeat(names[-1])) if op.slots and op.slots[-1].variadic else iter(names)


def _value(operand: Operand, trace: _Trace) -> Value:
    if not isinstance(operand, Traced) or operand._trace is not trace:
        raise UsageError(f"{_user_line()}: a value of another trace was used")
    return operand.value


def _user_line() -> str:
    """File and line of the caller outside this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_ours(Path(frame.f_code.co_filename)):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


def _is_ours(file: Path) -> bool:
    return file.is_relative_to(_PACKAGE) and not file.is_relative_to(_ZOO)


def trace(function: Callable[..., Outputs], /, **inputs: TensorType) -> Graph:
    """The graph that `function` computes on inputs of these types.

    Args:
        function: takes the inputs by name, or a module that takes one; computes with `graphopt.ops`; gives one
            value, several in order, or a dict of named outputs.
        inputs: names and types, as `x=graphopt.f32["N", 3, 224, 224]`.

    Raises:
        TypeRuleError: an operator does not take its operands; the sentence names it, the shapes and your line.
        UsageError: the inputs are not types or not what the function takes; something else than traced values
            came back, or an output has the name of another input.
    """
    _check_inputs(function, inputs)
    name = type(function).__name__ if isinstance(function, Module) else getattr(function, "__name__", "graph")
    tracing = _Trace(name)
    graph = tracing.graph
    operands = {n: Traced(tracing, graph.add_input(Value(n, kind))) for n, kind in inputs.items()}
    given = function(*operands.values()) if isinstance(function, Module) else function(**operands)
    for i, (output, operand) in enumerate(_named(given, operands).items()):
        graph.set_output(i, _output(tracing, output, _value(operand, tracing)))
    return graph.seal()


def _check_inputs(function: Callable[..., Outputs], inputs: Mapping[str, TensorType]) -> None:
    if not inputs:
        raise UsageError('trace needs at least one input, as in x=graphopt.f32["N", 3]')
    for name, kind in inputs.items():
        if not isinstance(kind, TensorType):
            raise UsageError(f'the input {name!r} is given as {kind!r}: give a type, as in {name}=graphopt.f32["N", 3]')
    try:
        if isinstance(function, Module):
            inspect.signature(function).bind(*inputs)
        else:
            inspect.signature(function).bind(**inputs)
    except TypeError as error:
        raise UsageError(f"the function does not take the inputs {', '.join(inputs)}: {error}") from None
    except ValueError:  # it has no signature to look at
        return


def _output(tracing: _Trace, name: str, value: Value) -> Value:
    """The value to give as the output `name`: an output has one name, so an input or another output is copied."""
    graph = tracing.graph
    if value.producer is None and value.is_input and value.name == name and not value.is_output:
        return value
    if value.producer is None or value.is_output:
        (copy,) = tracing.node(Identity(), [Traced(tracing, value)], 1)
        value = _value(copy, tracing)
    if value.name == name:
        return value
    holder = next((v for v in graph.values() if v.name == name), None)
    if holder is not None and holder.is_input:
        raise UsageError(f"the output {name!r} has the name of an input: call it otherwise")
    if holder is not None:
        graph.rename(holder, graph.fresh_name(name))
    graph.rename(value, name)
    return value


def _named(given: Outputs, inputs: Mapping[str, Operand]) -> Mapping[str, Operand]:
    """Outputs by name: as named by the function, else `y`, or `y0`, `y1`, ..., with `_` added to an input's name."""
    if isinstance(given, Mapping) and given:
        for name, operand in given.items():
            if not isinstance(operand, Operand):
                raise UsageError(f"the output {name!r} is not a traced value: it is {type(operand).__name__}")
        return given
    if isinstance(given, Operand):
        return {_unlike("y", inputs): given}
    if isinstance(given, Sequence) and given and all(isinstance(g, Operand) for g in given):
        return {_unlike(f"y{i}", inputs): g for i, g in enumerate(given)}
    what = "an empty " if isinstance(given, Sequence | Mapping) and not given else ""
    raise UsageError(f"a traced function gives traced values, and this one gave {what}{type(given).__name__}")


def _unlike(name: str, taken: Container[str]) -> str:
    return _unlike(f"{name}_", taken) if name in taken else name
