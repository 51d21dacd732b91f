"""R: the original in float64 by the interpreter, where all its operators have kernels and it is not too large.

In a network that quantizes, rounding anywhere may move a number over a tie, and what follows by a whole step. How much
that is, is measured: the oracle's `nudged` runs move each number that is about to be quantized by as much as the
rounding of a few operations in a row would.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from graphopt.analysis.cost import macs, number
from graphopt.analysis.equal import NOISE_FLOOR_EPS, rms
from graphopt.analysis.evaluate import Nudge, is_quantizing, needed
from graphopt.errors import GraphoptError
from graphopt.ir.dims import Expr
from graphopt.ir.graph import Graph
from graphopt.ir.types import TensorType
from graphopt.runtime.interpreter import Interpreter, without_kernel
from graphopt.runtime.session import tensors

ORACLE_MACS = 30_000_000_000  # for all inputs of one verification together: about ten seconds on two cores
ORACLE_ELEMENTS = 1 << 28  # of one value: 2 GB in float64
NUDGES = 4  # runs: each is another draw of which numbers fall on the other side of a tie

GraphSource: TypeAlias = Graph | Callable[[], Graph] | None


class Oracle:
    """Evaluates the original in float64 as long as its budget of multiply-accumulates lasts."""

    def __init__(self, source: GraphSource, budget: int = ORACLE_MACS) -> None:
        """An oracle for a graph, which is loaded when it is first asked for."""
        self._source = source
        self._budget = self._left = budget
        self._graph: Graph | None = None
        self._why_not = "" if source is not None else "no graph of it was given"
        self._quantizes = False

    @property
    def quantizes(self) -> bool:
        """Whether the original quantizes numbers; False where it is not known."""
        self._load()
        return self._quantizes

    def evaluate(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray] | str:
        """The outputs in float64 by name, or a clause that says why there are none."""
        return self._evaluate(feeds, None)

    def nudged(self, feeds: Mapping[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
        """The outputs of a few runs with every number nudged before it is quantized; none where they are not had."""
        if not self.quantizes:
            return []
        runs = [self._evaluate(feeds, _nudge(np.random.default_rng(seed))) for seed in range(NUDGES)]
        return [run for run in runs if not isinstance(run, str)]

    def _evaluate(self, feeds: Mapping[str, np.ndarray], nudge: Nudge | None) -> dict[str, np.ndarray] | str:
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
            return tensors(Interpreter(graph, np.float64, nudge=nudge).run(feeds))
        except (GraphoptError, MemoryError) as error:
            self._graph, self._why_not = None, f"the interpreter failed: {error}"
            return self._why_not

    def _load(self) -> Graph | None:
        if self._graph is None and not self._why_not:
            try:
                self._graph = self._source() if callable(self._source) else self._source
            except GraphoptError as error:
                self._why_not = str(error)
            self._quantizes = self._graph is not None and any(map(is_quantizing, self._graph.walk()))
            missing = None if self._graph is None else without_kernel(self._graph)
            if missing is not None:
                self._graph = None
                self._why_not = f"{missing.op} {missing.label!r} has no kernel in the interpreter"
        return self._graph


def _nudge(rng: np.random.Generator) -> Nudge:
    """Moves numbers by up to what counts as the rounding of a few operations in a row."""
    reach = NOISE_FLOOR_EPS * float(np.finfo(np.float32).eps)

    def nudge(x: np.ndarray) -> np.ndarray:
        moved: np.ndarray = x + rng.uniform(-reach, reach, x.shape) * (np.abs(x) + rms(x))
        return np.where(np.isfinite(moved), moved, x)

    return nudge


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
