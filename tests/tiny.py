"""Tiny ONNX models made with onnx's own helpers, so that tests of the runtime rest on nothing of graphopt."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

F, I64 = TensorProto.FLOAT, TensorProto.INT64


def info(name, dtype=F, shape=None):
    return helper.make_tensor_value_info(name, dtype, shape)


def weight(name, array):
    return numpy_helper.from_array(np.asarray(array), name)


def model(nodes, inputs, outputs, weights=(), opset=17, **options):
    graph = helper.make_graph(list(nodes), "tiny", list(inputs), list(outputs), list(weights))
    domains = {n.domain for n in nodes if n.domain}
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=imports, **{"ir_version": 8, **options})


def node(op, inputs, outputs, name="", **attributes):
    return helper.make_node(op, inputs.split(), outputs.split(), name=name or f"{op.lower()}_{outputs}", **attributes)


def save(proto, folder: Path, name: str) -> Path:
    path = folder / f"{name}.onnx"
    onnx.save(proto, path)
    return path


def random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def network(sign=1.0, batch="N", extra=0.0, swap=False):
    """Conv, Relu, Conv, a global mean: two outputs, `logits` and `features`."""
    w1, w2 = random(4, 3, 3, 3), random(2, 4, 1, 1)
    w2[1, 2] *= sign
    w2[0, 0] += extra
    outputs = [info("logits"), info("features")]
    return model(
        [
            node("Conv", "x w1", "a", "conv1", pads=[1, 1, 1, 1]),
            node("Relu", "a", "b", "relu1"),
            node("Conv", "b w2", "c", "conv2"),
            node("ReduceMean", "c", "features" if swap else "logits", "mean", axes=[2, 3], keepdims=0),
            node("ReduceMax", "b", "logits" if swap else "features", "most", axes=[2, 3], keepdims=0),
        ],
        [info("x", F, [batch, 3, "H", "W"])],
        outputs,
        [weight("w1", w1), weight("w2", w2)],
    )
