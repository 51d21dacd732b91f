"""A compiled model: an optimized graph in a session, to be called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from graphopt.ir.graph import Graph
from graphopt.onnx_format.writer import save
from graphopt.runtime.inputs import check_shapes, free_dims, seeded, trials
from graphopt.runtime.onnxruntime import OnnxRuntimeSession

if TYPE_CHECKING:
    from graphopt.ir.types import Type
    from graphopt.passes.result import Result


class CompiledModel:
    """An optimized graph in an ONNX Runtime session.

    `y = model(x)` takes arrays in order (or by name) and gives one array, or a tuple in the outputs' order;
    `model.run({"x": x})` gives a dict. `model.result` is what the compilation did.
    """

    def __init__(self, result: Result, *, threads: int | None = None) -> None:
        self.result = result
        with TemporaryDirectory(prefix="graphopt-") as folder:
            path = Path(folder) / "model.onnx"
            save(result.graph, path)
            self._session = OnnxRuntimeSession(path, threads=threads)

    @property
    def graph(self) -> Graph:
        """The optimized graph."""
        return self.result.graph

    @property
    def inputs(self) -> Mapping[str, Type | None]:
        """Names and types of the inputs, in order."""
        return self._session.inputs

    @property
    def outputs(self) -> Mapping[str, Type | None]:
        """Names and types of the outputs, in order."""
        return self._session.outputs

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name.

        Raises:
            UsageError: an input is missing, unknown, or of another dtype or shape.
        """
        return self._session.run(feeds)

    def __call__(self, *arrays: np.ndarray, **named: np.ndarray) -> np.ndarray | tuple[np.ndarray, ...]:
        """One array, or a tuple of them in the outputs' order."""
        return self._session(*arrays, **named)

    def random_inputs(self, shapes: Mapping[str, Sequence[int]] | None = None, seed: int = 0) -> dict[str, np.ndarray]:
        """Seeded inputs: normal numbers, batch 1, other symbolic dims 224, unless `shapes` says otherwise.

        Raises:
            UsageError: `shapes` names a dim that no input has.
        """
        free = free_dims(self.inputs)
        check_shapes(shapes or {}, free)
        chosen = next(trials(0, free, dict(shapes or {})))
        return seeded(self.inputs, chosen, "normal", seed)
