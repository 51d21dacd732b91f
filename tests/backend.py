"""The onnx package's own backend tests: node tests made in memory, small models that its wheel holds as files.

`run` gives what ONNX Runtime computes for a model (its optimizers off, so that only what graphopt did is seen), or
raises `NotRunError` where it does not run it. `compiled` and `moved` compile such a model and take it to other opsets,
and compare ONNX Runtime's results with those of the original.
"""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.defs
import onnxruntime
from onnx import numpy_helper

import graphopt
from graphopt.errors import OpsetError
from graphopt.ir.constant import Constant
from graphopt.ir.graph import Graph
from graphopt.ir.types import dtype_of, dtype_of_code
from graphopt.onnx_format.opset import OLDEST
from graphopt.onnx_format.writer import to_bytes
from graphopt.ops.room import NEWEST
from graphopt.ops.sequence import boxed, packed
from graphopt.passes.pipeline import optimize
from graphopt.runtime.interpreter import evaluate

Tensors = Any  # an array, a list of arrays (a sequence), a dict (a map), or None (an empty optional)
DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
FOLDERS = ("simple", "pytorch-operator", "pytorch-converted")
ULPS = 4  # that a kernel of one opset may differ from that of another, relative to an element and the tensor's scale


class NotRunError(Exception):
    """ONNX Runtime has no kernel for a test's operator or types, or refuses the test."""


@dataclass(frozen=True, eq=False)
class BackendCase:
    """One test: a model and sets of (inputs in order, expected outputs in order)."""

    name: str
    model: onnx.ModelProto
    data_sets: tuple[tuple[tuple[Tensors, ...], tuple[Tensors, ...]], ...]
    rtol: float = 1e-3
    atol: float = 1e-7

    @property
    def opset(self) -> int:
        """The version of ONNX's own operators."""
        return next((o.version for o in self.model.opset_import if o.domain in ("", "ai.onnx")), 1)


@cache
def node_cases() -> tuple[BackendCase, ...]:
    """All node tests of the installed onnx package, in its order."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = collect_testcases(None)
    return tuple(
        BackendCase(c.name, c.model, tuple((tuple(i), tuple(o)) for i, o in c.data_sets), c.rtol, c.atol) for c in found
    )


@cache
def model_cases() -> tuple[BackendCase, ...]:
    """The small models that the wheel holds as files: `simple`, `pytorch-operator`, `pytorch-converted`."""
    return tuple(_from_files(path) for folder in FOLDERS for path in sorted((DATA / folder).iterdir()))


def _from_files(folder: Path) -> BackendCase:
    model = onnx.load(folder / "model.onnx")
    sets = []
    for data in sorted(folder.glob("test_data_set_*")):
        ins = [_read(data / f"input_{i}.pb", v.type) for i, v in enumerate(_fed(model.graph, data))]
        outs = [_read(data / f"output_{i}.pb", v.type) for i, v in enumerate(model.graph.output)]
        sets.append((tuple(ins), tuple(outs)))
    return BackendCase(f"{folder.parent.name}/{folder.name}", model, tuple(sets))


def _fed(graph: onnx.GraphProto, data: Path) -> list[onnx.ValueInfoProto]:
    return list(graph.input)[: len(list(data.glob("input_*.pb")))]


def _read(path: Path, kind: onnx.TypeProto) -> Tensors:
    data = path.read_bytes()
    if kind.HasField("sequence_type"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    if kind.HasField("optional_type"):
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
    return numpy_helper.to_array(onnx.TensorProto.FromString(data))


def run(model: bytes, case: BackendCase) -> list[list[Tensors]]:
    """What ONNX Runtime makes of each data set.

    Raises:
        NotRunError: it does not load or run the model.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    names = [i.name for i in case.model.graph.input]
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        taken = {i.name for i in session.get_inputs()} | {i.name for i in session.get_overridable_initializers()}
        feeds = [
            {n: _given(v) for n, v in zip(names, inputs, strict=False) if n in taken} for inputs, _ in case.data_sets
        ]
        return [_run(session, feed) for feed in feeds]
    except NotRunError:
        raise
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        raise NotRunError(str(error)) from error


def _given(value: Tensors) -> Tensors:
    """An input as an array, or as ONNX Runtime's value where NumPy has no such element type."""
    if isinstance(value, onnx.TensorProto):
        value = numpy_helper.to_array(value)
    if isinstance(value, np.generic):
        value = np.asarray(value)
    if isinstance(value, np.ndarray) and dtype_of(value.dtype).numpy_name.startswith("ml:"):
        dtype = dtype_of(value.dtype)
        made = onnxruntime.OrtValue.ortvalue_from_shape_and_type(list(value.shape), dtype.code)
        data = b"".join(bytes(c) for c in Constant.of(value).chunks())
        ctypes.memmove(made.data_ptr(), data, len(data))
        return made
    return value


def _run(session: onnxruntime.InferenceSession, feed: dict[str, Tensors]) -> list[Tensors]:
    if not any(isinstance(v, onnxruntime.OrtValue) for v in feed.values()):
        try:
            return list(session.run(None, feed))
        except RuntimeError as error:
            if "numpy" not in str(error).lower():
                raise
    whole = {k: v if isinstance(v, onnxruntime.OrtValue) else onnxruntime.OrtValue.ortvalue_from_numpy(v)
             for k, v in feed.items()}  # fmt: skip
    return [_taken(v) for v in session.run_with_ort_values(None, whole)]


def _taken(value: onnxruntime.OrtValue) -> np.ndarray:
    """A result as an array; as its bytes where NumPy has no such element type."""
    dtype = dtype_of_code(value.element_type())
    if dtype.numpy_name.startswith("ml:"):
        return np.frombuffer(ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes()), np.uint8)
    return np.asarray(value.numpy())


def difference(first: Tensors, second: Tensors, ulps: float = ULPS) -> str:
    """What differs between two results, '' for nothing: type, shape, numbers, the places of NaN and infinities."""
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        if len(first) != len(second):
            return f"{len(first)} elements are {len(second)}"
        return next((d for d in (difference(a, b, ulps) for a, b in zip(first, second, strict=True)) if d), "")
    if not isinstance(first, np.ndarray) or not isinstance(second, np.ndarray):
        return "" if type(first) is type(second) and first == second else f"{first!r} is {second!r}"
    if first.dtype != second.dtype or first.shape != second.shape:
        return f"{first.dtype}{list(first.shape)} is {second.dtype}{list(second.shape)}"
    if first.dtype.kind not in "fc":
        return "" if np.array_equal(first, second) else "the elements differ"
    same = (first == second) | (np.isnan(first) & np.isnan(second))
    if same.all():
        return ""
    a, b = first[~same].astype(np.complex128), second[~same].astype(np.complex128)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return "NaN or infinities are elsewhere"
    finite = first[np.isfinite(first)]
    scale = np.sqrt(np.mean(np.abs(finite.astype(np.complex128)) ** 2))
    worst = float(np.max(np.abs(a - b) / (np.abs(a) + scale)) / np.finfo(first.dtype).eps)
    return "" if worst <= ulps else f"the elements differ by {worst:.3g} ulps"


# What graphopt makes of them


def interpreted(graph: Graph, case: BackendCase) -> list[list[Tensors]]:
    """What the interpreter makes of each data set, in the form that ONNX Runtime gives it."""
    expected = reference(case)
    assert expected is not None
    made = []
    for (inputs, _), results in zip(case.data_sets, expected, strict=True):
        feeds = {n.name: _as_object(v) for n, v in zip(case.model.graph.input, inputs, strict=False)}
        found = evaluate(graph, feeds, graph.outputs)
        made.append([_as_runtime(found[v.name], r) for v, r in zip(graph.outputs, results, strict=True)])
    return made


def _as_object(value: Tensors) -> np.ndarray:
    """An input as the interpreter has it: sequences and optionals are arrays of objects."""
    if isinstance(value, onnx.TensorProto):
        value = numpy_helper.to_array(value)
    return packed(value) if isinstance(value, list) else boxed(None) if value is None else np.asarray(value)


def _as_runtime(value: np.ndarray, like: Tensors) -> Tensors:
    """A result of the interpreter as ONNX Runtime gives it; as its bytes where NumPy lacks the element type."""
    is_optional = (
        value.dtype == object and value.ndim == 0 and not (isinstance(like, np.ndarray) and like.dtype == object)
    )
    value = value[()] if is_optional else value
    if isinstance(like, list):
        return list(value)
    if isinstance(value, np.ndarray) and dtype_of(value.dtype).numpy_name.startswith("ml:"):
        return np.frombuffer(b"".join(bytes(c) for c in Constant.of(value).chunks()), np.uint8)
    return value


@dataclass(frozen=True)
class Outcome:
    """What became of one case at a level or an opset: nothing wrong, a refusal, or a fault."""

    case: str
    way: str
    refusal: str = ""
    fault: str = ""


@cache
def reference(case: BackendCase) -> list[list[Tensors]] | None:
    """The original's results in ONNX Runtime; None where it does not run it."""
    try:
        return run(case.model.SerializeToString(), case)
    except NotRunError:
        return None


def loaded(case: BackendCase, folder: Path) -> Graph:
    """The case's graph, read from a file in `folder`."""
    path = folder / "model.onnx"
    path.write_bytes(case.model.SerializeToString())
    return graphopt.load(path)


def compiled(case: BackendCase, folder: Path, levels: Sequence[str] = ("O1", "O2")) -> Iterator[Outcome]:
    """The case compiled at some levels; nothing where ONNX Runtime does not run the original."""
    if reference(case) is None:
        return
    graph = loaded(case, folder)
    for level in levels:
        yield _outcome(case, level, lambda level=level: to_bytes(optimize(graph, level).graph))


def moved(case: BackendCase, folder: Path) -> Iterator[Outcome]:
    """The case taken to every opset around which a definition of its operators changed, and to the newest."""
    if reference(case) is None or case.opset < OLDEST:
        return
    graph = loaded(case, folder)
    for opset in opsets_of(case):
        yield _outcome(case, str(opset), lambda opset=opset: to_bytes(graph, opset=opset))


def opsets_of(case: BackendCase) -> list[int]:
    """The opsets at which a definition of the case's operators changes, those just below, and the newest."""
    names = {n.op_type for n in case.model.graph.node if n.domain in ("", "ai.onnx")}
    versions = {v for name in names for version in _versions().get(name, ()) for v in (version, version - 1)}
    return sorted(v for v in versions | {NEWEST} if OLDEST <= v <= NEWEST and v != case.opset)


@cache
def _versions() -> dict[str, set[int]]:
    """Of each operator of ONNX's own domain, the opsets that define it anew."""
    found: dict[str, set[int]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "":
            found.setdefault(schema.name, set()).add(schema.since_version)
    return found


def _outcome(case: BackendCase, way: str, make: Callable[[], bytes]) -> Outcome:
    try:
        data = make()
    except OpsetError as error:
        return Outcome(case.name, way, refusal=str(error))
    except Exception as error:  # any other is a fault
        return Outcome(case.name, way, fault=f"{type(error).__name__}: {error}")
    try:
        made = run(data, case)
    except NotRunError as error:
        return Outcome(case.name, way, fault=f"ONNX Runtime: {error}")
    return Outcome(case.name, way, fault=difference(reference(case), made))
