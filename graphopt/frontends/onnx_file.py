"""Loads ONNX files: bytes mapped, weights left in the file, broken input told in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from graphopt.errors import GraphoptError, ModelError
from graphopt.ir.graph import Graph


def load(path: str | Path, *, keep_functions: bool = False) -> Graph:
    """The graph of an ONNX file; weights stay in the file until they are used.

    Raises:
        ModelError: it is missing, not an ONNX model, or broken; the sentence names file, node and remedy.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # protobuf brings no types

    if not str(path):
        raise ModelError("``: there is no such file: give the name of an ONNX file")
    path = Path(path)
    from graphopt.onnx_format.files import ExternalData, open_bytes, release
    from graphopt.onnx_format.wire import strip

    mapped = open_bytes(path)
    beside_model = ExternalData(path.parent)
    try:
        skeleton, spans = strip(mapped.view, passed=mapped.release)
        mapped.release()  # the weights are read when they are needed
        import onnx

        from graphopt.onnx_format.protos import TensorReader
        from graphopt.onnx_format.reader import ReadOptions, read_model

        try:
            model = onnx.ModelProto.FromString(skeleton)
        except DecodeError:
            raise ModelError("it is not an ONNX model, or it is cut short: export or copy it again") from None
        if not model.HasField("graph") and not model.opset_import:
            raise ModelError("it is not an ONNX model: export the model to ONNX first")

        def span(mark: bytes) -> memoryview | None:
            found = spans.get(mark)
            return None if found is None else mapped.view[found.offset : found.offset + found.length]

        def beside(name: str, location: str, offset: int, length: int | None) -> memoryview:
            return beside_model.view(location, offset, length, tensor=name)

        def used(data: memoryview) -> Callable[[], None]:
            return lambda: release(data)

        return read_model(model, TensorReader(span, beside, used), ReadOptions(keep_functions))
    except GraphoptError as error:
        raise ModelError(f"{path}: {error}") from error
    except RecursionError:
        raise ModelError(f"{path}: its subgraphs or functions are nested too deeply to be read") from None
