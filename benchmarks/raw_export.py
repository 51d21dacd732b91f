"""Write large models to measure compilers on, without downloads: the same bytes on every machine.

    python benchmarks/raw_export.py resnet152 OUT.onnx     1,300 nodes, 240 MB
    python benchmarks/raw_export.py blocks 10000 OUT.onnx  a chain of conv-BN-Relu-Add blocks with 10,000 nodes

`resnet50`, `resnet101` and `resnet152` are written node for node as torch 2.13's dynamo exporter writes
torchvision's networks when it does not optimize: opset 20, BatchNormalization unfolded, the zero bias of every Conv
as `Shape → Expand` and `Constant → CastLike → Expand`, module paths in the nodes' metadata, a symbolic batch.
Weights are drawn from (seed, name): He-normal convolutions, BN statistics that are never 0 and 1, and BN scales
that keep the residual stream near unit size, so that outputs are finite and of a trained network's magnitude.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    StringStringEntryProto,
    TensorProto,
    ValueInfoProto,
    helper,
)

DEPTHS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3), "resnet152": (3, 8, 36, 3)}
CLASSES = 1000
EXPANSION = 4  # a bottleneck's output channels over its width
OPSET, IR_VERSION = 20, 10
BATCH = "batch"
EPSILON, MOMENTUM = 1e-5, 0.9
BRANCH = 0.5  # the standard deviation of what a residual branch adds to the stream
LANES = 4  # 16-bit lanes of one raw 64-bit number, summed to one normal deviate

Attribute: TypeAlias = tuple[str, object]
Scope: TypeAlias = tuple[str, str]  # a module's path and its class
Shape: TypeAlias = tuple[int | str, ...]

RESNET = "torchvision.models.resnet.ResNet"
BOTTLENECK = "torchvision.models.resnet.Bottleneck"
SEQUENTIAL = "torch.nn.modules.container.Sequential"
CONV2D = "torch.nn.modules.conv.Conv2d"
BATCH_NORM = "torch.nn.modules.batchnorm.BatchNorm2d"
RELU = "torch.nn.modules.activation.ReLU"
MAX_POOL = "torch.nn.modules.pooling.MaxPool2d"
AVERAGE_POOL = "torch.nn.modules.pooling.AdaptiveAvgPool2d"
LINEAR = "torch.nn.modules.linear.Linear"
NO_SCOPE = "_empty_nn_module_stack_from_metadata_hook"
ROOT: Scope = ("", RESNET)


# Weights


def normal(name: str, shape: Sequence[int], spread: float) -> NDArray[np.float32]:
    """Near-normal deviates with mean 0 and standard deviation `spread`, drawn from `name` alone.

    Only PCG64's raw stream, integer sums and single products are used, so no library version changes a byte.
    """
    raw = _raw(name, math.prod(shape))
    total = raw.view("<u2").reshape(-1, LANES).sum(axis=1, dtype=np.int64) - LANES * 65535 // 2
    scale = spread / math.sqrt(LANES * (2.0**32 - 1) / 12)
    return (total * scale).astype("<f4").reshape(shape)


def uniform(name: str, shape: Sequence[int], low: float, high: float) -> NDArray[np.float32]:
    """Deviates between `low` and `high`, drawn from `name` alone."""
    unit = (_raw(name, math.prod(shape)) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return (unit * (high - low) + low).astype("<f4").reshape(shape)


def _raw(name: str, count: int) -> NDArray[np.uint64]:
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest(), "big")
    raw = np.asarray(np.random.PCG64(seed).random_raw(count))
    return raw.astype("<u8")


def tensor(name: str, data: NDArray[np.float32] | NDArray[np.int64]) -> TensorProto:
    """`data` as a tensor with raw bytes."""
    kind = TensorProto.FLOAT if data.dtype == np.float32 else TensorProto.INT64
    made: TensorProto = helper.make_tensor(name, kind, data.shape, data.tobytes(), raw=True)
    if not name:
        made.ClearField("name")
    return made


# The exporter's dialect


def properties(entries: Mapping[str, str]) -> Iterable[StringStringEntryProto]:
    """Metadata entries in their order."""
    return (StringStringEntryProto(key=key, value=value) for key, value in entries.items())


@dataclass(frozen=True)
class Origin:
    """The operation of the traced program that nodes come from: it names the modules, the call and its readers."""

    name: str
    target: str
    args: str
    scopes: tuple[Scope, ...]
    users: int = 1

    def metadata(self) -> dict[str, str]:
        """The four entries that the exporter leaves on every node."""
        return {
            "namespace": "/".join(f"{path}: {kind}" for path, kind in (*self.scopes, (self.name, self.target))),
            "pkg.torch.onnx.class_hierarchy": repr([*(kind for _, kind in self.scopes), self.target]),
            "pkg.torch.onnx.fx_node": f"%{self.name} : [num_users={self.users}] = "
            f"call_function[target=torch.ops.{self.target}](args = ({self.args}), kwargs = {{}})",
            "pkg.torch.onnx.name_scopes": repr([*(path for path, _ in self.scopes), self.name]),
        }


@dataclass
class Export:
    """A raw export under construction; names are counted up as the exporter counts them."""

    model: str
    nodes: list[NodeProto] = field(default_factory=list)
    parameters: dict[str, TensorProto] = field(default_factory=dict)
    buffers: dict[str, TensorProto] = field(default_factory=dict)
    values: list[ValueInfoProto] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    zero: str = ""  # the scalar that all zero biases are expanded from
    serial: int = 0  # of nodes that the exporter names by number
    lag: int = 0  # a value's number less its node's
    sums: int = 9  # the number in the last sum's name

    def next_name(self, kind: str) -> str:
        """`relu`, `relu_1`, `relu_2`, ..."""
        count = self.counts.get(kind, 0)
        self.counts[kind] = count + 1
        return f"{kind}_{count}" if count else kind

    def weight(self, name: str, data: NDArray[np.float32]) -> str:
        """A learned tensor."""
        self.parameters[name] = tensor(name, data)
        return name

    def buffer(self, name: str, data: NDArray[np.float32]) -> str:
        """A running statistic."""
        self.buffers[name] = tensor(name, data)
        return name

    def value(self, name: str, shape: Shape | None, kind: int = TensorProto.FLOAT) -> str:
        """Note a value's type; None is an unknown rank."""
        self.values.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def node(
        self,
        op: str,
        name: str,
        inputs: Sequence[str],
        output: str,
        origin: Origin,
        attributes: Sequence[Attribute] = (),
    ) -> str:
        """Append a node with one output, attributes in the given order."""
        node = helper.make_node(op, inputs, [output], name=name)
        node.attribute.extend(_attribute(key, value) for key, value in attributes)
        node.metadata_props.extend(properties(origin.metadata()))
        self.nodes.append(node)
        return output

    def numbered(self, op: str, inputs: Sequence[str], origin: Origin, attributes: Sequence[Attribute] = ()) -> str:
        """Append a node that the exporter names by a running number."""
        name, self.serial = f"node_{op}_{self.serial}", self.serial + 1
        return self.node(op, name, inputs, f"val_{self.serial - 1 + self.lag}", origin, attributes)


def _attribute(key: str, value: object) -> AttributeProto:
    made: AttributeProto = helper.make_attribute(key, value)
    return made


# The network's layers


@dataclass(frozen=True)
class Window:
    """A convolution's window."""

    kernel: int
    stride: int = 1

    @property
    def pad(self) -> int:
        """Pixels on each side: half the kernel."""
        return self.kernel // 2

    def attributes(self, kind: str) -> list[Attribute]:
        """ONNX attributes in the exporter's order, of a Conv or a MaxPool."""
        pads, strides = ("pads", [self.pad] * 4), ("strides", [self.stride] * 2)
        automatic, dilations, kernel = (
            ("auto_pad", "NOTSET"),
            ("dilations", [1, 1]),
            ("kernel_shape", [self.kernel] * 2),
        )
        if kind == "Conv":
            return [("group", 1), pads, automatic, strides, dilations, kernel]
        return [("storage_order", 0), dilations, ("ceil_mode", 0), pads, automatic, strides, kernel]


@dataclass(frozen=True)
class Feature:
    """A value of the network: name, channels, height or width in pixels."""

    name: str
    channels: int
    size: int

    @property
    def shape(self) -> Shape:
        """With the symbolic batch."""
        return (BATCH, self.channels, self.size, self.size)


def mangled(name: str) -> str:
    """A parameter's name in the traced program."""
    return name.replace(".", "_")


def convolution(
    export: Export, x: Feature, channels: int, window: Window, module: str, scopes: tuple[Scope, ...]
) -> Feature:
    """Conv without a bias, to which the exporter gives one of zeros, computed from the weight's shape."""
    shape = (channels, x.channels, window.kernel, window.kernel)
    spread = math.sqrt(2 / math.prod(shape[1:]))
    weight = export.weight(f"{module}.weight", normal(f"{export.model}/{module}.weight", shape, spread))
    name = export.next_name("conv2d")
    tail = f", None, {[window.stride] * 2}" if window.stride > 1 or window.pad else ""
    tail += f", {[window.pad] * 2}" if window.pad else ""
    args = f"%{x.name}, %p_{mangled(weight)}{tail}"
    origin = Origin(name, "aten.conv2d.default", args, (*scopes, (module, CONV2D)))
    bias = zero_bias(export, weight, x.name, origin)
    out = Feature(name, channels, (x.size - 1) // window.stride + 1)
    export.value(name, out.shape)
    export.node("Conv", f"node_{name}", [x.name, weight, bias], name, origin, window.attributes("Conv"))
    return out


def zero_bias(export: Export, weight: str, like: str, origin: Origin) -> str:
    """`Expand(CastLike(0, like), Expand(Shape(weight)[:1], [1]))`: what stands in place of a missing bias."""
    first = not export.zero
    start = export.serial
    length = export.numbered("Shape", [weight], origin, [("end", 1), ("start", 0)])
    one = export.numbered("Constant", [], origin, [("value_ints", [1])])
    shape = export.numbered("Expand", [length, one], origin)
    if first:  # the scalar is shared by all that follow
        export.zero = export.numbered("Constant", [], origin, [("value", tensor("", np.zeros((), np.float32)))])
    zeros = export.numbered("CastLike", [export.zero, like], origin)
    bias = export.numbered("Expand", [zeros, shape], origin)
    export.serial = start + (14 if first else 11)  # the exporter counts what it drops later, too
    export.lag = 1
    return bias


def batch_norm(export: Export, x: Feature, module: str, scopes: tuple[Scope, ...], gain: float = 1.0) -> Feature:
    """BatchNormalization at inference, with statistics that are never 0 and 1."""
    key, shape = f"{export.model}/{module}", (x.channels,)
    scale = export.weight(f"{module}.weight", uniform(f"{key}.weight", shape, 0.5 * gain, 1.5 * gain))
    shift = export.weight(f"{module}.bias", normal(f"{key}.bias", shape, 0.1))
    mean = export.buffer(f"{module}.running_mean", normal(f"{key}.running_mean", shape, 0.1))
    variance = export.buffer(f"{module}.running_var", uniform(f"{key}.running_var", shape, 0.5, 1.5))
    name = export.next_name("_native_batch_norm_legit_no_training")
    number = 3 * (export.counts["_native_batch_norm_legit_no_training"] - 1)  # of its first result
    args = f"%{x.name}, %p_{mangled(scale)}, %p_{mangled(shift)}, %b_{mangled(mean)}, %b_{mangled(variance)}"
    target = "aten._native_batch_norm_legit_no_training.default"
    origin = Origin(name, target, f"{args}, 0.1, {EPSILON}", (*scopes, (module, BATCH_NORM)))
    out = Feature(f"getitem_{number}" if number else "getitem", x.channels, x.size)
    export.value(out.name, out.shape)
    inputs = [x.name, scale, shift, mean, variance]
    attributes = [("momentum", MOMENTUM), ("epsilon", EPSILON)]
    export.node("BatchNormalization", f"node_{name}__0", inputs, out.name, origin, attributes)
    return out


def relu(export: Export, x: Feature, module: str, scopes: tuple[Scope, ...], users: int = 1) -> Feature:
    """Relu."""
    name = export.next_name("relu")
    origin = Origin(name, "aten.relu.default", f"%{x.name},", (*scopes, (module, RELU)), users)
    out = Feature(export.value(name, x.shape), x.channels, x.size)
    export.node("Relu", f"node_{name}", [x.name], name, origin)
    return out


def add(export: Export, x: Feature, y: Feature, projected: bool, scopes: tuple[Scope, ...]) -> Feature:
    """The residual sum at the end of a block."""
    export.sums += 86 if projected else 76  # the exporter's numbers grow with the symbolic sizes that it meets
    name = f"add_{export.sums}"
    origin = Origin(name, "aten.add.Tensor", f"%{x.name}, %{y.name}", scopes)
    export.value(name, x.shape)
    export.node("Add", f"node_{name}", [x.name, y.name], name, origin)
    return Feature(name, x.channels, x.size)


def max_pool(export: Export, x: Feature, window: Window) -> Feature:
    """The stem's pool."""
    name, pads = export.next_name("max_pool2d"), [window.pad] * 2
    args = f"%{x.name}, {[window.kernel] * 2}, {[window.stride] * 2}, {pads}"
    origin = Origin(name, "aten.max_pool2d.default", args, (ROOT, ("maxpool", MAX_POOL)), users=2)
    out = Feature(name, x.channels, (x.size - 1) // window.stride + 1)
    export.value(name, out.shape)
    export.node("MaxPool", f"node_{name}", [x.name], name, origin, window.attributes("MaxPool"))
    return out


def bottleneck(
    export: Export, x: Feature, width: int, stride: int, path: str, stage: Scope, energy: float, users: int
) -> Feature:
    """One residual block: 1×1, 3×3, 1×1, and a projection where shapes differ.

    Args:
        export: where the nodes go.
        x: the block's input.
        width: channels of the inner convolutions.
        stride: of the 3×3 convolution and the projection.
        path: the module's path, `layer1.0`.
        stage: the scope around it.
        energy: the mean square of `x`; BNs that read it divide it away.
        users: how often the result is read.
    """
    scopes, gain = (ROOT, stage, (path, BOTTLENECK)), 1 / math.sqrt(2 * energy)
    y = batch_norm(
        export, convolution(export, x, width, Window(1), f"{path}.conv1", scopes), f"{path}.bn1", scopes, gain
    )
    y = relu(export, y, f"{path}.relu", scopes)
    y = batch_norm(
        export, convolution(export, y, width, Window(3, stride), f"{path}.conv2", scopes), f"{path}.bn2", scopes
    )
    y = relu(export, y, f"{path}.relu", scopes)
    wide = width * EXPANSION
    y = batch_norm(
        export, convolution(export, y, wide, Window(1), f"{path}.conv3", scopes), f"{path}.bn3", scopes, BRANCH
    )
    project = stride > 1 or x.channels != wide
    if project:
        inner = (*scopes, (f"{path}.downsample", SEQUENTIAL))
        x = convolution(export, x, wide, Window(1, stride), f"{path}.downsample.0", inner)
        x = batch_norm(export, x, f"{path}.downsample.1", inner, gain)
    return relu(export, add(export, y, x, project, scopes), f"{path}.relu", scopes, users)


def classifier(export: Export, x: Feature) -> str:
    """The mean over the image, flattening by a computed shape, and the last matrix product."""
    origin = Origin("mean", "aten.mean.dim", f"%{x.name}, [-1, -2], True", (ROOT, ("avgpool", AVERAGE_POOL)))
    flat = export.numbered("Constant", [], origin, [("value_ints", [-1])])
    axes = export.numbered("Constant", [], origin, [("value", tensor("", np.array([-1, -2])))])
    axes = export.numbered("Reshape", [axes, flat], origin, [("allowzero", 0)])
    export.value("mean", (BATCH, x.channels, 1, 1))
    export.node(
        "ReduceMean", "node_mean", [x.name, axes], "mean", origin, [("noop_with_empty_axes", 0), ("keepdims", 1)]
    )
    origin = Origin("view", "aten.view.default", f"%mean, [%sym_size_int_1, {x.channels}]", (ROOT,))
    one = export.numbered("Constant", [], origin, [("value_ints", [-1])])
    batch = export.numbered("Reshape", ["sym_size_int_1", one], origin, [("allowzero", 0)])
    channels = export.numbered("Constant", [], origin, [("value_ints", [x.channels])])
    for scalar in (batch, channels):
        export.value(scalar, None, TensorProto.INT64)
    shape = export.numbered("Concat", [batch, channels], origin, [("axis", 0)])
    export.value("view", (BATCH, x.channels))
    export.node("Reshape", "node_view", ["mean", shape], "view", origin, [("allowzero", 1)])
    weight = export.weight("fc.weight", normal(f"{export.model}/fc.weight", (CLASSES, x.channels), x.channels**-0.5))
    bias = export.weight("fc.bias", normal(f"{export.model}/fc.bias", (CLASSES,), 0.05))
    origin = Origin("linear", "aten.linear.default", "%view, %p_fc_weight, %p_fc_bias", (ROOT, ("fc", LINEAR)))
    attributes = [("beta", 1.0), ("transB", 1), ("alpha", 1.0), ("transA", 0)]
    return export.node("Gemm", "node_linear", ["view", weight, bias], "linear", origin, attributes)


# Whole models


def resnet(model: str) -> ModelProto:
    """A raw export of one of `DEPTHS`; input `x` of shape (batch, 3, 224, 224), output `linear` of (batch, 1000)."""
    export = Export(model)
    origin = Origin("sym_size_int_1", "aten.sym_size.int", "%x, 0", ((NO_SCOPE, NO_SCOPE),))
    batch = export.numbered("Shape", ["x"], origin, [("end", 1), ("start", 0)])
    export.node(
        "Squeeze", "node_sym_size_int_1", [batch], export.value("sym_size_int_1", (), TensorProto.INT64), origin
    )
    image = Feature("x", 3, 224)
    x = convolution(export, image, 64, Window(7, 2), "conv1", (ROOT,))
    x = relu(export, batch_norm(export, x, "bn1", (ROOT,)), "relu", (ROOT,))
    x, energy = max_pool(export, x, Window(3, 2)), 0.5
    depths = DEPTHS[model]
    for stage, depth in enumerate(depths):
        for block in range(depth):
            stride = 2 if stage and not block else 1
            last = stage == len(depths) - 1 and block == depth - 1
            path, scope = f"layer{stage + 1}.{block}", (f"layer{stage + 1}", SEQUENTIAL)
            x = bottleneck(export, x, 64 << stage, stride, path, scope, energy, users=1 if last else 2)
            energy = energy + BRANCH**2 if block else 0.5 + BRANCH**2  # a projection's result has unit variance
    output = helper.make_tensor_value_info(classifier(export, x), TensorProto.FLOAT, (BATCH, CLASSES))
    return assemble(export, helper.make_tensor_value_info("x", TensorProto.FLOAT, image.shape), output)


def assemble(export: Export, image: ValueInfoProto, output: ValueInfoProto) -> ModelProto:
    """The model with its weights, the types of its values, and the traced program's signature."""
    spec = "pkg.torch.export.graph_signature"
    image.metadata_props.extend(
        properties({f"{spec}.InputSpec.kind": "USER_INPUT", f"{spec}.InputSpec.persistent": "None"})
    )
    output.metadata_props.extend(properties({f"{spec}.OutputSpec.kind": "USER_OUTPUT"}))
    graph = GraphProto(name="main_graph", node=export.nodes, input=[image], output=[output])
    lines = ["", "# inputs"]
    for prefix, kind, persistent, weights in (
        ("p", "PARAMETER", "None", export.parameters),
        ("b", "BUFFER", "True", export.buffers),
    ):
        suffix = " persistent=True" if kind == "BUFFER" else ""
        for name, weight in weights.items():
            graph.initializer.append(weight)
            value = helper.make_tensor_value_info(name, weight.data_type, weight.dims)
            original = f"{prefix}_{mangled(name)}"
            specs = {f"{spec}.InputSpec.kind": kind, f"{spec}.InputSpec.persistent": persistent}
            value.metadata_props.extend(properties({**specs, "pkg.torch.onnx.original_node_name": original}))
            graph.value_info.append(value)
            lines.append(f"{original}: {kind} target={name!r}{suffix}")
            if name.endswith("running_var"):
                counter = name.replace("running_var", "num_batches_tracked")
                lines.append(f"b_{mangled(counter)}: {kind} target={counter!r}{suffix}")
    graph.value_info.extend(export.values)
    lines += ["x: USER_INPUT", "", "# outputs", "linear: USER_OUTPUT", ""]
    program = "pkg.torch.export.ExportedProgram"
    notes = {f"{program}.graph_signature": "\n".join(lines), f"{program}.range_constraints": "{s77: VR[0, int_oo]}"}
    graph.metadata_props.extend(properties(notes))
    return finish(graph, "pytorch", "2.13.0+cpu")


def blocks(count: int) -> ModelProto:
    """A chain of `count` nodes, conv-BN-Relu-Add four by four, each with weights of its own, of 4 channels.

    The BNs' scales are small, so that values stay near their start however long the chain is.
    """
    channels, scale = 4, 1e-4
    graph, x = GraphProto(name=f"blocks_{count}"), "x"
    image = (BATCH, channels, 8, 8)
    for index in range(count // 4):
        path = f"block{index}"
        drawn = {
            "conv.weight": normal(f"{path}.conv.weight", (channels, channels, 1, 1), channels**-0.5),
            "bn.weight": uniform(f"{path}.bn.weight", (channels,), 0.5 * scale, 1.5 * scale),
            "bn.bias": normal(f"{path}.bn.bias", (channels,), 0.1 * scale),
            "bn.running_mean": normal(f"{path}.bn.running_mean", (channels,), 0.1),
            "bn.running_var": uniform(f"{path}.bn.running_var", (channels,), 0.5, 1.5),
        }
        graph.initializer.extend(tensor(f"{path}.{name}", data) for name, data in drawn.items())
        conv, bn, relu, add = (f"{path}.{part}" for part in ("conv", "bn", "relu", "add"))
        statistics = [f"{path}.{name}" for name in drawn if name.startswith("bn.")]
        graph.node.extend(
            [
                helper.make_node("Conv", [x, f"{conv}.weight"], [conv], name=f"{conv}.node"),
                helper.make_node("BatchNormalization", [conv, *statistics], [bn], name=f"{bn}.node"),
                helper.make_node("Relu", [bn], [relu], name=f"{relu}.node"),
                helper.make_node("Add", [x, relu], [add], name=f"{add}.node"),
            ]
        )
        x = add
    for index in range(count % 4):
        graph.node.append(helper.make_node("Relu", [x], [f"tail{index}"], name=f"tail{index}.node"))
        x = f"tail{index}"
    graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, image))
    graph.output.append(helper.make_tensor_value_info(x, TensorProto.FLOAT, image))
    return finish(graph, "graphopt benchmarks", "")


def finish(graph: GraphProto, producer: str, version: str) -> ModelProto:
    """`graph` as a model."""
    opset = [helper.make_opsetid("", OPSET)]
    model = ModelProto(ir_version=IR_VERSION, producer_name=producer, opset_import=opset, graph=graph)
    if version:
        model.producer_version = version
    return model


def write(model: ModelProto, target: Path) -> None:
    """Write `model` with the same bytes every time, complete or not at all."""
    with tempfile.TemporaryDirectory(prefix=".writing-", dir=target.parent) as scratch:
        partial = Path(scratch) / target.name
        partial.write_bytes(model.SerializeToString(deterministic=True))
        partial.replace(target)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    commands = parser.add_subparsers(dest="model", required=True)
    for name in DEPTHS:
        commands.add_parser(name, help=f"{name} as a raw export").add_argument("output", type=Path)
    chain = commands.add_parser("blocks", help="a chain of conv-BN-Relu-Add blocks")
    chain.add_argument("nodes", type=int, help="nodes in all")
    chain.add_argument("output", type=Path)
    args = parser.parse_args()
    model = blocks(args.nodes) if args.model == "blocks" else resnet(args.model)
    write(model, args.output)
    print(f"{args.output}: {len(model.graph.node):,} nodes, {args.output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
