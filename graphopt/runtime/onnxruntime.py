"""Sessions of ONNX Runtime on the CPU, its optimizers all on or all off, its errors in one sentence."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from graphopt.errors import ModelError, UsageError
from graphopt.ir.dims import Dim, symbol
from graphopt.ir.types import DTYPES, DType, SequenceType, TensorType, Type, boolean, string
from graphopt.ops.sequence import boxed, packed
from graphopt.runtime.session import BaseSession

if TYPE_CHECKING:
    import onnxruntime

PROTOBUF_LIMIT = 2**31 - 1  # ONNX Runtime cannot take a longer model as bytes
_QUIET = 4  # fatal errors only: all others come as exceptions, and are told as such

_DTYPES: Mapping[str, DType] = {
    **{
        {"float": "float", "int": "int", "uint": "uint"}[d.kind] + str(d.bits): d
        for d in DTYPES.values()
        if d.kind in ("float", "int", "uint") and d.bits >= 8 and d.name[0] in "fiu" and d.name[1:].isdecimal()
    },
    "float": DTYPES["f32"],
    "double": DTYPES["f64"],
    "bfloat16": DTYPES["bf16"],
    "bool": boolean,
    "string": string,
}


# What ONNX Runtime's basic level does beyond computing constants and removing what does nothing.
_FUSIONS = (
    "ConvAddFusion",
    "ConvBNFusion",
    "ConvMulFusion",
    "DivMulFusion",
    "GeluFusionL1",
    "LayerNormFusionL1",
    "MatMulAddFusion",
    "MatMulBNFusion",
    "MatMulScaleFusion",
    "PadFusion",
    "ReluClipFusion",
    "ReshapeFusion",
)


class OnnxRuntimeSession(BaseSession):
    """An ONNX model in ONNX Runtime's CPU provider."""

    def __init__(
        self,
        model: str | Path | bytes,
        *,
        optimize: bool | Literal["fold"] = True,
        threads: int | None = None,
        folder: Path | None = None,
        name: str = "",
    ) -> None:
        """Load a model.

        Args:
            model: a file, which may have external data beside it, or the file's bytes.
            optimize: all of ONNX Runtime's own optimizers, or none; `fold` only computes constants and removes what
                does nothing.
            threads: how many threads one operator may use; ONNX Runtime's choice by default.
            folder: where the external data of a model given as bytes lies.
            name: what to call a model given as bytes in errors.

        Raises:
            ModelError: ONNX Runtime refuses the model.
            UsageError: the bytes are too many; `threads` is not positive.
        """
        import onnxruntime as ort

        if threads is not None and threads < 1:
            raise UsageError(f"{threads} threads cannot run a model: give 1 or more")
        if isinstance(model, bytes) and len(model) > PROTOBUF_LIMIT:
            raise UsageError("a model of more than 2 GB must be given to ONNX Runtime as a file")
        self.name = name or ("the model" if isinstance(model, bytes) else str(model))
        if not isinstance(model, bytes) and not Path(model).is_file():
            raise ModelError(f"{model}: there is no such file")
        options = ort.SessionOptions()
        options.log_severity_level = _QUIET
        levels = ort.GraphOptimizationLevel
        options.graph_optimization_level = {
            True: levels.ORT_ENABLE_ALL,
            False: levels.ORT_DISABLE_ALL,
            "fold": levels.ORT_ENABLE_BASIC,
        }[optimize]
        if threads is not None:
            options.intra_op_num_threads = threads
            options.inter_op_num_threads = 1
        if folder is not None:
            key = "session.model_external_initializers_file_folder_path"
            options.add_session_config_entry(key, str(folder))
        try:
            self._session: onnxruntime.InferenceSession = ort.InferenceSession(
                model if isinstance(model, bytes) else str(model),
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=list(_FUSIONS) if optimize == "fold" else None,
            )
        except Exception as error:  # its exceptions share no base but Exception
            raise ModelError(f"{self.name}: {explain(str(error))}") from error
        self._inputs = {i.name: _type(i.type, i.shape, i.name) for i in self._session.get_inputs()}
        self._optional = {i.name: _type(i.type, i.shape, i.name) for i in self._session.get_overridable_initializers()}
        self._outputs = {o.name: _type(o.type, o.shape, o.name) for o in self._session.get_outputs()}

    @property
    def inputs(self) -> Mapping[str, Type | None]:
        """Names and types of the inputs without a default, in order; unnamed dims are called `?x[0]`."""
        return self._inputs

    @property
    def optional_inputs(self) -> Mapping[str, Type | None]:
        """Initializers that may be overridden."""
        return self._optional

    @property
    def outputs(self) -> Mapping[str, Type | None]:
        """Names and types of the outputs, in order."""
        return self._outputs

    @property
    def providers(self) -> tuple[str, ...]:
        """The providers that the session really has."""
        return tuple(self._session.get_providers())

    def _run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        try:
            results = self._session.run(list(self._outputs), dict(feeds))
        except Exception as error:  # its exceptions share no base but Exception
            raise ModelError(f"{self.name}: {explain(str(error))}") from error
        return {name: self._given_back(name, value) for name, value in zip(self._outputs, results, strict=True)}

    def _given_back(self, name: str, value: object) -> np.ndarray:
        """An output; sequences and optionals as arrays of objects (see `graphopt.ops.sequence`).

        Raises:
            ModelError: it is a map.
        """
        if isinstance(value, np.ndarray):
            return value
        if value is None:
            return boxed(None)
        if isinstance(value, list) and all(isinstance(v, np.ndarray) for v in value):
            return packed(value)
        kind = self._outputs[name] or type(value).__name__
        raise ModelError(
            f"{self.name}: the output `{name}` is {kind}, and only tensors and sequences can be given back"
        )


def explain(message: str) -> str:
    """ONNX Runtime's message as one sentence: its words without codes and source paths, node, remedy."""
    text = " ".join(message.split())
    code = re.search(r"\[ONNXRuntimeError\] : \d+ : (\w+) : ", text)
    if code:
        text = text[code.end() :]
    node = _node(text)
    text = re.sub(r"^Load model from .*? failed: ?", "", text)
    text = re.sub(r"/\S+\.(?:h|cc|cpp|cu)(?::\d+)? (?:.*?\) )?(?=\S)", "", text)  # source file, line, signature
    text = re.sub(r"^Non-zero status code returned while running (\S+) node\. Name:'[^']*' Status Message: ",
                  r"\1 failed: ", text)  # fmt: skip
    text = re.sub(r"In Node, \(.*?\) -> \(.*?\) ?, (?:Error )?", "", text)
    text = re.sub(r"^(This is an invalid model\.|Invalid model\.|Fatal error:) ?", "", text).strip(" .")
    where = f" at the node `{node}`" if node else ""
    return f"ONNX Runtime refuses it{where}: {text}; {_remedy(code.group(1) if code else '', text)}"


def _node(text: str) -> str:
    patterns = (
        r"Name:'([^']+)'",
        r"node with name '([^']+)'",
        r"In Node, \(\"?([^\",)]+)",
        r"in node \(([^)]+)\)",
        r"Node \(([^)]+)\)",
        r"\(node ([^)]+)\)",
    )
    return next((m.group(1) for p in patterns if (m := re.search(p, text))), "")


_REMEDIES = (
    (r"is not a registered function/op|No Op registered|No opset import", "the operator is not one of ONNX "
     "Runtime's: install a version that has it, or register the library that defines it"),
    (r"Could not find an implementation", "this version has no CPU kernel for that type or opset: use another"
     " element type, opset, or version of onnxruntime"),
    (r"[Uu]nsupported model IR version|opset \d+ is under development|only \*guarantees\* support",
     "write the model for an older opset or IR version, or install a newer onnxruntime"),
    (r"[Pp]rotobuf parsing failed", "export or copy the file again"),
    (r"external data|External data|file_size|filesystem error|cannot get file size",
     "put the external data file beside the model"),
    (r"[Ii]nvalid rank|broadcast|reshape|shape|dimension", "check the shapes of the inputs"),
    (r"[Ff]ailed to allocate memory|bad_alloc|bad allocation", "give smaller shapes"),
)  # fmt: skip


def _remedy(code: str, text: str) -> str:
    for pattern, remedy in _REMEDIES:
        if re.search(pattern, text):
            return remedy
    if code in ("INVALID_GRAPH", "FAIL", "INVALID_ARGUMENT"):
        return "check the model with `onnx.checker.check_model`"
    return "try another version of onnxruntime"


def _type(text: str, shape: Sequence[int | str | None] | None, name: str) -> Type | None:
    """The type that `tensor(float)` and a shape of numbers, names and None stand for; None: unknown."""
    found = re.fullmatch(r"tensor\((\w+)\)", text)
    if found is None:
        inner = re.fullmatch(r"seq\((.*)\)", text)
        return SequenceType(_type(inner.group(1), None, name)) if inner else None
    dtype = _DTYPES.get(found.group(1))
    if dtype is None:
        return None
    if not shape:  # it says [] for a scalar and for an unknown rank
        return TensorType(dtype, None)
    return TensorType(dtype, tuple(_dim(d, f"?{name}[{i}]") for i, d in enumerate(shape)))


def _dim(dim: int | str | None, unnamed: str) -> Dim:
    if isinstance(dim, int) and dim >= 0:
        return dim
    return symbol(dim if isinstance(dim, str) and dim else unnamed)
