"""Quantized networks for tests: those that ONNX Runtime's quantization tool makes of a small one, and some by hand."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
from tiny import F, info, model, node, random, weight

BYTES = {"u8s8": ("QUInt8", "QInt8"), "s8s8": ("QInt8", "QInt8"), "u8u8": ("QUInt8", "QUInt8")}
QUANTIZED = ("QLinear", "Quantize", "Dequantize", "QGemm", "Integer", "NBits", "QAttention", "DynamicQuantize")


def floating() -> onnx.ModelProto:
    """Convolutions with Relu, a sum, pools, a Concat, a Sigmoid and a Gemm."""
    shapes = {
        "w1": (8, 3, 3, 3),
        "b1": (8,),
        "w2": (8, 8, 3, 3),
        "b2": (8,),
        "w3": (6, 8, 1, 1),
        "w4": (10, 12),
        "b4": (10,),
    }
    nodes = [
        node("Conv", "x w1 b1", "c1", pads=[1] * 4),
        node("Relu", "c1", "r1"),
        node("Conv", "r1 w2 b2", "c2", pads=[1] * 4),
        node("Add", "c2 r1", "sum"),
        node("Relu", "sum", "r2"),
        node("MaxPool", "r2", "most", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", "most w3", "c3"),
        node("AveragePool", "c3", "mean", kernel_shape=[2, 2], strides=[2, 2]),
        node("Sigmoid", "mean", "gate"),
        node("Concat", "mean gate", "both", axis=1),
        node("GlobalAveragePool", "both", "all"),
        node("Flatten", "all", "flat"),
        node("Gemm", "flat w4 b4", "y", transB=1),
    ]
    weights = [weight(name, random(*shape, seed=i) * np.float32(0.3)) for i, (name, shape) in enumerate(shapes.items())]
    return model(nodes, [info("x", F, ["N", 3, 16, 16])], [info("y", F, ["N", 10])], weights)


class _Images:
    """What the tool calibrates with."""

    def __init__(self) -> None:
        self.left = [{"x": random(2, 3, 16, 16, seed=i)} for i in range(3)]

    def get_next(self) -> Mapping[str, np.ndarray] | None:
        return self.left.pop() if self.left else None


def by_tool(form: str, types: str, *, per_channel: bool = False) -> onnx.ModelProto:
    """`floating` as the quantization tool of ONNX Runtime writes it: `QDQ`, `QOperator` or `dynamic`."""
    from onnxruntime import quantization as tool

    data, held = (getattr(tool.QuantType, name) for name in BYTES[types])
    logging.disable(logging.WARNING)
    try:
        with TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            source, made = Path(folder, "float.onnx"), Path(folder, "quantized.onnx")
            onnx.save(floating(), source)
            if form == "dynamic":
                tool.quantize_dynamic(source, made, weight_type=held)
            else:
                tool.quantize_static(
                    source, made, _Images(), quant_format=tool.QuantFormat[form], per_channel=per_channel,
                    activation_type=data, weight_type=held,
                )  # fmt: skip
            return onnx.load(made)
    finally:
        logging.disable(logging.NOTSET)


def shared_weight() -> onnx.ModelProto:
    """Two convolutions read one dequantized weight, two others one each of the same; so with the input."""
    scale, zero = weight("s", np.float32(0.05)), weight("z", np.uint8(128))
    per_channel = weight("ws", np.abs(random(3)) * np.float32(0.02) + np.float32(0.01))
    held = weight("k", np.random.default_rng(0).integers(-90, 90, (3, 3, 1, 1)).astype(np.int8))
    nodes = [
        node("QuantizeLinear", "x s z", "xq"),
        node("DequantizeLinear", "xq s z", "x1"),
        node("DequantizeLinear", "xq s z", "x2"),
        *(node("DequantizeLinear", "k ws", f"w{i}", axis=0) for i in range(3)),
        node("Conv", "x1 w0", "c0"),
        node("Conv", "x2 w0", "c1"),
        node("Conv", "x1 w1", "c2"),
        node("Conv", "x2 w2", "c3"),
    ]
    for i in range(4):
        nodes += [node("QuantizeLinear", f"c{i} s z", f"q{i}"), node("DequantizeLinear", f"q{i} s z", f"d{i}")]
    nodes += [node("Add", "d0 d1", "a"), node("Add", "d2 d3", "b"), node("Mul", "a b", "y")]
    return model(nodes, [info("x", F, ["N", 3, 8, 8])], [info("y")], [scale, zero, per_channel, held])


def with_relu() -> onnx.ModelProto:
    """A Relu that is still between the convolution and its QuantizeLinear, as PyTorch exports it."""
    held = np.random.default_rng(0).integers(-90, 90, (4, 3, 3, 3)).astype(np.int8)
    weights = [weight("s", np.float32(0.05)), weight("z", np.uint8(128)), weight("k", held)]
    weights.append(weight("zero", np.uint8(0)))
    nodes = [
        node("QuantizeLinear", "x s z", "xq"),
        node("DequantizeLinear", "xq s z", "xd"),
        node("DequantizeLinear", "k s", "w"),
        node("Conv", "xd w", "c"),
        node("Relu", "c", "r"),
        node("QuantizeLinear", "r s zero", "rq"),
        node("DequantizeLinear", "rq s zero", "y"),
    ]
    return model(nodes, [info("x", F, ["N", 3, 8, 8])], [info("y")], weights)


def four_bits() -> onnx.ModelProto:
    """A MatMul whose weight is int4 in blocks: ONNX Runtime's MatMulNBits."""
    held = np.random.default_rng(0).integers(-8, 8, (64, 32)).astype(np.int8).astype(ml_dtypes.int4)
    scales = np.abs(random(4, 32)) * np.float32(0.1) + np.float32(0.01)
    nodes = [
        node("DequantizeLinear", "k s", "w", axis=0, block_size=16),
        node("MatMul", "x w", "m"),
        node("Relu", "m", "y"),
    ]
    return model(nodes, [info("x", F, ["N", 64])], [info("y")], [weight("k", held), weight("s", scales)], opset=21)


def with_norm(mean: float = 0.1) -> onnx.ModelProto:
    """A convolution of floats and its batch normalization in a network that is quantized on both sides."""
    scale, zero = weight("s", np.float32(0.05)), weight("z", np.uint8(128))
    norm = [weight(n, np.abs(random(6, seed=i)) + np.float32(0.5)) for i, n in enumerate(["g", "b", "v"])]
    nodes = [
        node("QuantizeLinear", "x s z", "xq"),
        node("DequantizeLinear", "xq s z", "xd"),
        node("Conv", "xd w", "c", pads=[1] * 4),
        node("BatchNormalization", "c g b m v", "n"),
        node("QuantizeLinear", "n s z", "nq"),
        node("DequantizeLinear", "nq s z", "nd"),
        node("Conv", "nd w2", "e"),
        node("QuantizeLinear", "e s z", "eq"),
        node("DequantizeLinear", "eq s z", "y"),
    ]
    weights = [weight("w", random(6, 3, 3, 3) * np.float32(0.2)), weight("w2", random(5, 6, 1, 1) * np.float32(0.3))]
    m = weight("m", np.full(6, mean, np.float32))
    return model(nodes, [info("x", F, ["N", 3, 12, 12])], [info("y")], [scale, zero, *norm, m, *weights])


def census(path: Path) -> Counter[str]:
    """How many of each operator are in the graph that ONNX Runtime runs, all its optimizers on."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    with TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder, "optimized.onnx"))
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        graph = onnx.load(options.optimized_model_filepath).graph
    return Counter(f"{n.domain}::{n.op_type}" if n.domain else n.op_type for n in graph.node)


def quantized_part(census: Mapping[str, int]) -> dict[str, int]:
    """The operators on integers among them."""
    return {name: count for name, count in census.items() if any(word in name for word in QUANTIZED)}
