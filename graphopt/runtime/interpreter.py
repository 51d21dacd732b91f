"""The NumPy interpreter: runs a graph with its rooms' kernels. In float64 it is the oracle for results.

Slow and plain on purpose: it shares no code with the runtime that it judges. Values go as soon as nothing
reads them any more, and constants are read from the file where they are needed and not kept.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from graphopt.analysis.evaluate import Nudge, has_kernel, needed, run_nodes, widened
from graphopt.errors import UsageError
from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.types import Type
from graphopt.runtime.session import BaseSession


class Interpreter(BaseSession):
    """A session that evaluates a graph node by node."""

    def __init__(
        self, graph: Graph, float_type: type[np.floating] | None = None, *, nudge: Nudge | None = None
    ) -> None:
        """A session for `graph`.

        Args:
            graph: must not change while the session is used.
            float_type: what to compute floats in (see `graphopt.analysis.evaluate`); None: their own types.
            nudge: what to do to numbers before they are quantized.
        """
        if graph.outer is not None:
            raise UsageError(f"`{graph.name}` is a subgraph; the interpreter runs whole graphs")
        self.graph = graph
        self.float_type = float_type
        self.nudge = nudge

    @property
    def inputs(self) -> Mapping[str, Type | None]:
        """Names and types of the inputs without a default, in order."""
        return {v.name: v.type for v in self.graph.inputs if v.constant is None}

    @property
    def outputs(self) -> Mapping[str, Type | None]:
        """Names and declared types of the outputs, in order (floats are given in `float_type`)."""
        return {v.name: v.type for v in self.graph.outputs}

    @property
    def optional_inputs(self) -> Mapping[str, Type | None]:
        """Names and types of the inputs with a default."""
        return {v.name: v.type for v in self.graph.inputs if v.constant is not None}

    @property
    def _order(self) -> tuple[str, ...]:
        return tuple(v.name for v in self.graph.outputs)

    def _run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return evaluate(self.graph, feeds, self.graph.outputs, self.float_type, self.nudge)


def evaluate(
    graph: Graph,
    feeds: Mapping[str, np.ndarray],
    wanted: tuple[Value, ...],
    float_type: type[np.floating] | None = None,
    nudge: Nudge | None = None,
) -> dict[str, np.ndarray]:
    """Values of `graph` by name, computing only what they depend on.

    Raises:
        NoKernelError: an operator among these has no kernel.
        TypeRuleError: a kernel refuses its operands.
    """
    values: dict[Value, np.ndarray] = {}
    for value in graph.inputs:
        if value.name in feeds:
            values[value] = feeds[value.name]
        elif value.constant is not None:
            values[value] = value.constant.array()
    run_nodes(needed(graph, wanted), values, float_type, keep=frozenset(wanted), nudge=nudge)
    results = {}
    for value in wanted:
        array = values[value] if value in values or value.constant is None else value.constant.array()
        results[value.name] = widened(array, float_type)
    return results


def without_kernel(graph: Graph) -> Node | None:
    """The first node that the outputs depend on and that cannot be evaluated; None: all can."""
    return next((n for n in needed(graph, graph.outputs) if not has_kernel(n)), None)
