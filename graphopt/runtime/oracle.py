"""R: the original in float64 by the interpreter, where all its operators have kernels and it is not too large."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from graphopt.analysis.cost import macs, number
from graphopt.errors import GraphoptError
from graphopt.ir.dims import Expr
from graphopt.ir.graph import Graph
from graphopt.ir.types import TensorType
from graphopt.runtime.interpreter import Interpreter, needed, without_kernel

ORACLE_MACS = 30_000_000_000  # for all inputs of one verification together: about ten seconds on two cores
ORACLE_ELEMENTS = 1 << 28  # of one value: 2 GB in float64

GraphSource: TypeAlias = Graph | Callable[[], Graph] | None


class Oracle:
    """Evaluates the original in float64 as long as its budget of multiply-accumulates lasts."""

    def __init__(self, source: GraphSource, budget: int = ORACLE_MACS) -> None:
        """An oracle for a graph, which is loaded when it is first asked for."""
        self._source = source
        self._budget = self._left = budget
        self._graph: Graph | None = None
        self._why_not = "" if source is not None else "no graph of it was given"

    def evaluate(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray] | str:
        """The outputs in float64 by name, or a clause that says why there are none."""
        graph = self._load()
        if graph is None:
            return self._why_not
        work, largest = _size(graph, feeds)
        if work > self._left:
            return f"{work / 1e9:.2g} GMACs are over what is left of the budget of {self._budget / 1e9:.2g}"
        if largest > ORACLE_ELEMENTS:
            return f"a value has {largest:,} elements, and {ORACLE_ELEMENTS:,} are the limit"
        self._left -= work
        try:
            return Interpreter(graph, np.float64).run(feeds)
        except (GraphoptError, MemoryError) as error:
            self._graph, self._why_not = None, f"the interpreter failed: {error}"
            return self._why_not

    def _load(self) -> Graph | None:
        if self._graph is None and not self._why_not:
            try:
                self._graph = self._source() if callable(self._source) else self._source
            except GraphoptError as error:
                self._why_not = str(error)
            missing = None if self._graph is None else without_kernel(self._graph)
            if missing is not None:
                self._graph = None
                self._why_not = f"{missing.op} {missing.label!r} has no kernel in the interpreter"
        return self._graph


def _size(graph: Graph, feeds: Mapping[str, np.ndarray]) -> tuple[int, int]:
    """Multiply-accumulates for inputs of these shapes, and the elements of the largest value."""
    bound: dict[str, int] = {}
    for value in graph.inputs:
        if value.name in feeds and isinstance(value.type, TensorType) and value.type.shape is not None:
            for dim, size in zip(value.type.shape, feeds[value.name].shape, strict=False):
                if isinstance(dim, Expr) and dim.name is not None:
                    bound[dim.name] = size
    work = largest = 0
    for node in needed(graph, graph.outputs):
        work += number(macs(node), bound)
        for result in node.results:
            if isinstance(result.type, TensorType):
                largest = max(largest, number(result.type.size, bound))
    return work, largest
