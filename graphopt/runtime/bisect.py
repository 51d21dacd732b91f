"""Where two models part: the first value whose name survives in both and that differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from graphopt.analysis.equal import compare
from graphopt.errors import GraphoptError
from graphopt.runtime.inputs import nudged
from graphopt.runtime.onnxruntime import OnnxRuntimeSession
from graphopt.runtime.session import tensors
from graphopt.runtime.verification import Suspect

if TYPE_CHECKING:
    import onnx

Touched: TypeAlias = Callable[[str], Sequence[str]]

VALUES_AT_ONCE = 16  # values of both models that are held together

_Triple: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray]


def first_difference(
    original: Path,
    result: Path,
    feeds: Mapping[str, np.ndarray],
    *,
    touched: Touched | None = None,
    threads: int | None = None,
) -> Suspect | None:
    """The first value, in the original's order, that both models name and that differs; None: there is none.

    Both run in ONNX Runtime without its optimizers. The noise is the original on inputs moved by one ulp.

    Args:
        original: an ONNX file.
        result: an ONNX file.
        feeds: inputs on which an output differs.
        touched: names the rules that made or changed a value.
        threads: for one operator.

    Raises:
        GraphoptError: a model cannot be read.
    """
    import onnx

    a = onnx.load(original, load_external_data=False)
    b = onnx.load(result, load_external_data=False)
    survives = {name for node in b.graph.node for name in node.output if name}
    shared = [name for node in a.graph.node for name in node.output if name in survives]
    runner = _Runner((a, original.parent), (b, result.parent), feeds, threads)
    equal = {i.name for i in a.graph.input}
    for start in range(0, len(shared), VALUES_AT_ONCE):
        for name, (base, moved, other) in runner.values(shared[start : start + VALUES_AT_ONCE]):
            verdict = compare(base, [base, moved], [other])
            if verdict.equal:
                equal.add(name)
                continue
            producer = next(n for n in a.graph.node if name in n.output)
            rules = tuple(dict.fromkeys(touched(name))) if touched is not None else ()
            return Suspect(name, verdict, rules, tuple(i for i in producer.input if i in equal))
    return None


class _Runner:
    """Runs both models for some of their inner values."""

    def __init__(
        self,
        original: tuple[onnx.ModelProto, Path],
        result: tuple[onnx.ModelProto, Path],
        feeds: Mapping[str, np.ndarray],
        threads: int | None,
    ) -> None:
        self._original, self._result = original, result
        self._feeds, self._nudged = feeds, nudged(feeds)
        self._threads = threads

    def values(self, names: Sequence[str]) -> Iterator[tuple[str, _Triple]]:
        """For each value: of the original, of the original on moved inputs, of the result.

        Values that are no tensors (sequences) are left out.
        """
        try:
            session = self._session(self._original, names)
            base, moved = session.run(self._feeds), session.run(self._nudged)
            del session
            other = self._session(self._result, names).run(self._feeds)
        except GraphoptError:
            if len(names) > 1:
                yield from self.values(names[: len(names) // 2])
                yield from self.values(names[len(names) // 2 :])
            return
        whole = [n for n in names if n in tensors(base) and n in tensors(other)]
        yield from ((name, (base[name], moved[name], other[name])) for name in whole)

    def _session(self, model: tuple[onnx.ModelProto, Path], names: Sequence[str]) -> OnnxRuntimeSession:
        proto, folder = model
        data = _with_outputs(proto, names)
        return OnnxRuntimeSession(data, optimize=False, threads=self._threads, folder=folder)


def _with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> bytes:
    """The bytes of `model` with other outputs; the model is left as it was."""
    import onnx

    kept = list(model.graph.output)
    known = {v.name: v for v in (*model.graph.value_info, *kept)}
    del model.graph.output[:]
    model.graph.output.extend(known.get(n) or onnx.ValueInfoProto(name=n) for n in names)
    data: bytes = model.SerializeToString()
    del model.graph.output[:]
    model.graph.output.extend(kept)
    return data
